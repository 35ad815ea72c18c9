//! Planted bugs: mistakes of the kind that are made, each at its real place, so that the checks can be checked. Only
//! builds with the feature `planted` have them; one is selected by name. Elsewhere [`Plant::is`] is a constant
//! `false`, and nothing of it is left in the program.

macro_rules! plants {
    ($($(#[doc = $what:literal])+ $variant:ident $name:literal,)*) => {
        /// Which bug is planted, if any. Always none in a build without the feature.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum Plant {
            /// None.
            #[default]
            None,
            $($(#[doc = $what])+ $variant,)*
        }

        impl Plant {
            /// Each bug with its name and what the mistake is. None in a build without the feature.
            pub const ALL: &'static [(Plant, &'static str, &'static str)] = &[
                $(#[cfg(feature = "planted")] (Plant::$variant, $name, concat!($($what,)+)),)*
            ];
        }
    };
}

plants! {
    // The raft driver and the order of writes.

    /// Acknowledgements and votes leave before what they rest on is synced, whenever that comes: a crash takes back what was
    /// promised.
    AckBeforeFsync "ack-before-fsync",
    /// A vote is not written before it is sent: after a crash its server votes again in the same term.
    VoteUnsaved "vote-unsaved",
    /// Term, vote and commit index are written before the entries that they speak of, in a batch of their own: a crash
    /// between the two leaves a commit index behind the log's end.
    HardStateApart "hard-state-apart",
    /// A leader counts its own entries as written when it proposes them: what is committed is on no majority of disks.
    OwnSyncSkipped "own-sync-skipped",
    /// An acknowledgement with nothing of its own to write overtakes the order before it, which is not durable yet.
    AckOvertakes "ack-overtakes",
    /// The applied index is written with synced batches only, apart from the state: after a crash entries are applied twice.
    AppliedApart "applied-apart",
    /// The log is cut up to the last entry, not to the applied one: what is to be applied is gone.
    LogCutUnapplied "log-cut-unapplied",
    /// The log begins after an installed snapshot with the leader's term, not its last entry's: what follows never fits.
    SnapshotTerm "snapshot-term",
    /// raft is told that a snapshot is applied before it is durable: a crash loses what was counted.
    InstallUnawaited "install-unawaited",
    /// A server that installs a snapshot campaigns: it looks for entries that the snapshot replaced.
    InstallingCampaigns "installing-campaigns",
    /// Entries are applied at the replica's own clock in place of their stamp: replicas drift apart.
    LocalClock "local-clock",
    /// A plan is adopted by what is in this process's memory alone, as a hash map's order is: replicas that applied in
    /// other batches, or were started since, give otherwise.
    LocalInApply "local-in-apply",
    /// An entry of a version that the build does not know is skipped: this replica goes on as another state machine.
    UnknownSkipped "unknown-skipped",
    /// A leader whose build knows the next version writes entries of it before the upgrade is finalized.
    GateIgnored "gate-ignored",
    /// A leader answers reads without asking a majority: one that has a successor answers from the past.
    StaleRead "stale-read",

    // Who is a member.

    /// A server that lost its disk goes on under its old id: it votes again in terms in which it has voted.
    OtherDiskAdmitted "other-disk-admitted",
    /// One server takes another's place without a joint configuration: two majorities need not share a server.
    JointLeftOut "joint-left-out",
    /// A change of members may begin while another is under way.
    ChangesOverlap "changes-overlap",
    /// The greatest id that a server ever had does not rise with a new one: ids of removed servers come back.
    LastMemberKept "last-member-kept",
    /// What is recorded of a removed server's build stays.
    BuildKept "build-kept",

    // A leader's duties.

    /// A new leader counts silence from when it began to run, not from its barrier: it ends all leases at once.
    FailoverExpires "failover-expires",
    /// Time in which the leader did not run counts as the workers' silence.
    PauseIsSilence "pause-is-silence",
    /// Jobs that are open for too long are not closed.
    OpenNeverCloses "open-never-closes",
    /// Nobody watches for the end of a wait between attempts: with nothing else to do the photo waits for ever.
    BackoffUnwatched "backoff-unwatched",
    /// Only results that counted are answered: the others stay in their agent's spool.
    StaleUnanswered "stale-unanswered",
    /// A worker that is back on a new stream is not told what it shall do: what was lost with the old one stays lost.
    WelcomeWithoutWork "welcome-without-work",

    // The state machine: who holds what.

    /// Results count whatever their fence says: a late one is recorded over the newer one.
    NoFenceCheck "no-fence-check",
    /// A result counts when its worker holds the task, whichever attempt it is of.
    FenceByWorker "fence-by-worker",
    /// A task that is given again has the fence of the attempt before: late results pass for new ones.
    FenceReused "fence-reused",
    /// Tasks that are taken back keep their fence on the other worker: the first one's results still count.
    RegiveKeepsFence "regive-keeps-fence",
    /// The record of retries keeps the fence of the attempt before: repeated results of the last are called stale.
    RetryKeepsFence "retry-keeps-fence",
    /// Attempts have no limit: a photo that cannot be done is tried for ever.
    AttemptsUnbounded "attempts-unbounded",
    /// A lost machine counts as a failure of the photo: spot interruptions eat its attempts.
    LossesAsAttempts "losses-as-attempts",
    /// Dead recognisers are not counted: a photo that kills them is never quarantined.
    DeathsUncounted "deaths-uncounted",
    /// A suspect photo whose worker was lost is given again at once: the worker may still be at it.
    SuspectUnwaited "suspect-unwaited",
    /// A suspect photo is taken back from a slow worker like any other, which may have begun it.
    SuspectRegiven "suspect-regiven",
    /// A cluster that begins from a backup leaves to workers what they held: fences of the other cluster count in it.
    RestoreKeepsRuns "restore-keeps-runs",
    /// A task whose wait is over is not put into the queue.
    QueueForgotten "queue-forgotten",
    /// A worker that drains still gets work.
    DrainedGetsWork "drained-gets-work",
    /// What a lost worker holds is not freed.
    LostKeepsRuns "lost-keeps-runs",
    /// What workers hold of a cancelled job is not taken from them.
    CancelLeavesRuns "cancel-leaves-runs",

    // Machines and money.

    /// What launches may still give counts for nothing: caps are kept by what is there alone.
    ComingUncounted "coming-uncounted",
    /// Each try of a launch has a token of its own: one whose answer was lost is made twice.
    TokenPerTry "token-per-try",
    /// A machine that a list does not show has ended, however young it is.
    UnlistedGone "unlisted-gone",
    /// A launch whose call failed is called again at once, and again.
    RetryAtOnce "retry-at-once",
    /// That a stopped machine shall start is not written with the state: who leads then lets it stand still.
    SpareUnnoted "spare-unnoted",
    /// A machine that has got work since the plan was made is stopped with it.
    BusyStopped "busy-stopped",
    /// A leader numbers its calls from the beginning: an answer to an earlier one's is taken for another call's.
    CallNumbersAgain "call-numbers-again",
    /// Machines with our tag that the state does not know are left alone: they run for ever.
    OrphanLeft "orphan-left",
    /// What a launch gave is not known until a list shows it, and it is settled before: it counts for nothing meanwhile.
    SettledEmpty "settled-empty",
    /// A machine that comes is counted twice.
    LaunchCountedTwice "launch-counted-twice",
    /// A machine's price follows the market above the most that it can come to cost: what was reserved is not enough.
    PriceUnbounded "price-unbounded",
    /// It is not noted when a pool became too dear: nothing holds the next change back.
    FlipUnnoted "flip-unnoted",
    /// What is spent is not written with the state.
    SpendUnnoted "spend-unnoted",
    /// The policy that a person brought is not written with the state: a restart has the one before.
    PolicyUnnoted "policy-unnoted",
    /// That a person froze launches is not written with the state: a restart, and who leads then, knows nothing of it.
    FreezeUnnoted "freeze-unnoted",
    /// What a quarter hour took is not written with the state.
    QuarterUnnoted "quarter-unnoted",
    /// How fast machines turned out to be is not written with the state.
    MeasureUnnoted "measure-unnoted",
    /// A machine with work is ended at once, not drained first.
    BusyEnded "busy-ended",

    // The state machine: books and records.

    /// How many jobs an environment may have is not checked when an entry is applied.
    QuotaUnchecked "quota-unchecked",
    /// A cancelled job's photos that were with workers are in no count of its environment.
    CancelMiscounts "cancel-miscounts",
    /// A result is recorded without being counted in its job.
    EndUncounted "end-uncounted",
    /// That a task has failed for good is not marked in its page: it looks unended.
    EndUnmarked "end-unmarked",
    /// A repeated append adds its photos again.
    AppendTwice "append-twice",
    /// A job's end is noted as its opening: it is deleted before its time.
    EndedAtOpening "ended-at-opening",
    /// A deleted job still counts for its spec, which is never forgotten.
    SpecNeverReleased "spec-never-released",
    /// A deleted job leaves its append notes and retries behind.
    RowsLeftBehind "rows-left-behind",
    /// What is left of a deleted job when an entry has deleted as much as it may is not noted: it stays for ever.
    RemainsForgotten "remains-forgotten",
    /// A deleted job is noted as if something were left of it, though nothing is.
    RemainsAlways "remains-always",
    /// Idempotency keys are not found after a restart or a snapshot: a repeated submit makes a second job.
    KeysUnindexed "keys-unindexed",
    /// raft's own entries move the applied index without noting it for the disk.
    MetaUnnoted "meta-unnoted",
    /// The first members are not noted for the disk: after a restart the cluster has none.
    MembersUnnoted "members-unnoted",
    /// That a task was given again is not noted for the disk: after a restart it waits.
    RetryUnnoted "retry-unnoted",
}

impl Plant {
    /// The plant of a name; `None` when this build has none of that name.
    pub fn named(name: &str) -> Option<Plant> {
        let found = || Plant::ALL.iter().find(|(_, of, _)| *of == name);
        match name {
            "" => Some(Plant::None),
            _ => found().map(|(plant, ..)| *plant),
        }
    }

    /// True when `bug` is the one that is planted. Drivers ask for mistakes that only they can make.
    pub const fn is(self, bug: Plant) -> bool {
        cfg!(feature = "planted") && self as u8 == bug as u8
    }
}

#[cfg(all(test, feature = "planted"))]
mod tests {
    use super::*;

    #[test]
    fn each_bug_has_a_name_of_its_own() {
        for (plant, name, what) in Plant::ALL {
            assert_eq!(Plant::named(name), Some(*plant));
            assert!(plant.is(*plant) && !Plant::None.is(*plant) && what.ends_with('.'));
        }
    }
}

#[cfg(all(test, not(feature = "planted")))]
mod tests {
    use super::*;

    #[test]
    fn a_good_build_knows_no_bug() {
        assert!(Plant::ALL.is_empty());
        assert_eq!(Plant::named("no-fence-check"), None);
        assert!(!Plant::NoFenceCheck.is(Plant::NoFenceCheck));
    }
}
