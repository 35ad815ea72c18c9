//! What a run of many seeds must have met: each kind of fault, each moment at which a process may end, each rare
//! branch worth meeting. A run in which one of them never happened has tested too little.

use crate::faults::Kind;
use crate::points::Point;
use crate::world::Counters;

/// Rare branches, each of which must be met.
pub const BRANCHES: &[&str] = &[
    "leader changes",
    "leaders that stepped down",
    "step-downs with asks open",
    "NotLeader answers",
    "Unknown answers",
    "Timeout answers",
    "Overloaded answers",
    "Rejected answers",
    "jobs read",
    "repeated submits answered",
    "questions asked twice at once",
    "questions to a server that stands still",
    "quotas met",
    "submits refused for their deadline",
    "submits refused by a full cluster",
    "isolated servers",
    "majority rings",
    "splits",
    "power lost by all",
    "ends with unsynced loss",
    "rot found by a start",
    "rot found by a read",
    "rot found by a snapshot",
    "write errors met",
    "sync errors met",
    "full disks met",
    "slow syncs",
    "servers' clocks drift",
    "snapshots sent",
    "snapshots received",
    "snapshots installed",
    "snapshots lost",
    "snapshots cut midway",
    "two snapshots in a row",
    "logs cut",
    "logs cut while a snapshot is out",
    "plans after entries without events",
    "tasks ended after a failover",
    "jobs given right behind their submit",
    "tasks regiven",
    "tasks ended where they were regiven",
    "tasks late",
    "tasks dropped",
    "suspects begun",
    "tasks failed at once",
    "tasks failed by attempts",
    "tasks failed by losses",
    "tasks requeued by failures",
    "tasks requeued by losses",
    "duplicated results refused",
    "stale results refused",
    "workers lost by silence",
    "workers lost by joining again",
    "workers drained",
    "workers left",
    "twins turned away",
    "heartbeats with a full spool",
    "jobs closed by themselves",
    "jobs deleted",
    "keys forgotten",
    "streams relayed",
    "worked through a relay",
    "relays left for the leader",
    "cancels with runs out",
    "servers added",
    "servers replaced",
    "servers removed",
    "leaders removed",
    "lost disks refused",
    "lost disks replaced",
    "changes refused: a server is silent",
    "allotments changed",
    "environments that shared the workers",
    "environments that held as many as they may",
    "outlooks beside other environments",
    "strangers turned away",
    "books of several environments recounted",
    "leaderships handed over",
    "transfers given up",
    "transfers refused",
    "transfers of unknown outcome",
    "servers stopped that had handed over",
    "servers stopped that found no heir",
    "ends of a leader that hands over",
    "ends of a leader that has handed over",
    "ends of a server that is to take over",
    "ends of a server that has taken over",
    "builds swapped for newer ones",
    "builds swapped for older ones",
    "builds recorded",
    "upgrades refused: an older build is there",
    "upgrades finalized",
    "older builds refused at their start",
    "older builds refused by others",
    "pieces dropped: the job has ended",
    "pieces dropped: the tasks do not wait",
];

/// Everything that must happen.
pub fn must_happen() -> impl Iterator<Item = &'static str> {
    let kinds = Kind::ALL.into_iter().map(|(kind, ..)| kind.name());
    let points = Point::ALL.into_iter().map(|(_, words)| words);
    kinds.chain(points).chain(BRANCHES.iter().copied())
}

/// What must happen and did not.
pub fn missing(counters: &Counters) -> Vec<&'static str> {
    must_happen()
        .filter(|what| counters.get(what).is_none_or(|count| *count == 0))
        .collect()
}
