//! The moments of a server's work between which its process may end, one by one.

/// A moment, named by what has just been done or comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    BeforeCall,
    BeforeSend,
    MidSend,
    BeforeWrite,
    AppliedUnwritten,
    MidWrite,
    BeforeSync,
    CutUnsynced,
    AfterSync,
    MidPromises,
    BeforeTold,
    BeforeReplies,
    MidReplies,
    AfterCall,
    SnapshotOrdered,
    SnapshotHalfSent,
    SnapshotReceived,
    SnapshotTaken,
    SnapshotWritten,
    SnapshotSynced,
    LaunchUncalled,
    LaunchUnsettled,
}

impl Point {
    /// All of them, with what their counter says.
    pub const ALL: [(Point, &'static str); 22] = [
        (Point::BeforeCall, "end before a call"),
        (Point::BeforeSend, "end before the sends"),
        (Point::MidSend, "end with half of the sends gone"),
        (Point::BeforeWrite, "end before the synced batch is written"),
        (
            Point::AppliedUnwritten,
            "end with entries applied and nothing written",
        ),
        (Point::MidWrite, "end between the two batches"),
        (Point::BeforeSync, "end with both batches written, unsynced"),
        (Point::CutUnsynced, "end with the log cut, unsynced"),
        (
            Point::AfterSync,
            "end after the sync, before what waits for it goes",
        ),
        (
            Point::MidPromises,
            "end with half of what waits for the sync gone",
        ),
        (Point::BeforeTold, "end before the replica hears of the sync"),
        (Point::BeforeReplies, "end before the replies"),
        (Point::MidReplies, "end with half of the replies gone"),
        (Point::AfterCall, "end after a call"),
        (Point::SnapshotOrdered, "end before an ordered snapshot is read"),
        (Point::SnapshotHalfSent, "end with half of a snapshot sent"),
        (Point::SnapshotReceived, "end with a snapshot received"),
        (Point::SnapshotTaken, "end with a snapshot taken, unwritten"),
        (Point::SnapshotWritten, "end with a snapshot written, unsynced"),
        (Point::SnapshotSynced, "end with a snapshot synced"),
        (Point::LaunchUncalled, "end with a launch committed, uncalled"),
        (Point::LaunchUnsettled, "end with a launch called, unsettled"),
    ];

    /// What its counter says.
    pub fn words(self) -> &'static str {
        Point::ALL[self as usize].1
    }

    /// True for those of snapshots and launches, which are rare: any server may meet them.
    pub fn is_rare(self) -> bool {
        self >= Point::SnapshotOrdered
    }
}
