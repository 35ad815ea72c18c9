//! The kinds of faults: their names, their ranges, and how they are told.

use rebound_core::types::{MILLISECOND, SECOND};

use super::seconds;
use crate::rng::Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Loss,
    Copies,
    Delay,
    Clog,
    Partition,
    OneWay,
    AgentsCut,
    Crash,
    Power,
    Torn,
    Rot,
    WriteError,
    Full,
    SlowDisk,
    Clock,
    Pause,
    Churn,
    Lag,
    AgentCrash,
    AgentLeave,
    Zombie,
    SlowAgent,
    Liar,
    StreamBreak,
    Poison,
    Herd,
    Overload,
    Limits,
    LostDisk,
    Members,
    Versions,
    Transfer,
    NeverJoin,
    Throttle,
    LostAnswer,
    StaleList,
    Dry,
    Reclaim,
    ZoneLost,
    Prices,
}

/// How strong a kind is in one seed; what a field means is in the kind's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strength {
    /// Mean time between two of them, in µs; 0: it is there all the time.
    pub every: u64,
    /// How long one lasts at most, in µs.
    pub long: u64,
    /// A share, in a million.
    pub ppm: u64,
}

/// From, to.
type Range = (u64, u64);
/// None of it.
const NO: Range = (0, 0);
/// Thousandths of a second, in ranges.
const MS: u64 = MILLISECOND;
/// Seconds, in ranges.
const S: u64 = SECOND;

impl Kind {
    /// All kinds with name, words, and ranges of `every`, `long` and `ppm`. In the words {every}, {long} and {ppm}
    /// stand for the strength. The name is what people and counters use.
    #[rustfmt::skip]
    pub const ALL: [(Kind, &'static str, &'static str, Range, Range, Range); 40] = [
        (Kind::Loss, "loss", "of messages {ppm} are lost", NO, NO, (1_000, 300_000)),
        (Kind::Copies, "copies", "of messages {ppm} come twice, up to {long} later", NO, (100 * MS, 60 * S), (1_000, 500_000)),
        (Kind::Delay, "delay", "messages take up to {long} and overtake one another", NO, (2 * MS, 2 * S), NO),
        (Kind::Clog, "clog", "a path is clogged each {every}, for up to {long}", (S, 10 * S), (100 * MS, 5 * S), NO),
        (Kind::Partition, "partition", "servers are cut from each other each {every}, for up to {long}", (5 * S, 60 * S), (100 * MS, 120 * S), NO),
        (Kind::OneWay, "one-way", "a server is deaf or unheard each {every}, for up to {long}", (5 * S, 60 * S), (100 * MS, 120 * S), NO),
        (Kind::AgentsCut, "agents-cut", "agents are cut from the leader alone each {every}, for up to {long}", (10 * S, 60 * S), (S, 300 * S), NO),
        (Kind::Crash, "crash", "a server ends at a named moment each {every}, for up to {long}", (3 * S, 20 * S), (100 * MS, 30 * S), NO),
        (Kind::Power, "power", "servers lose power each {every}, for up to {long}; all at once {ppm} of the times", (10 * S, 60 * S), (100 * MS, 20 * S), (200_000, 1_000_000)),
        (Kind::Torn, "torn", "of losses of power {ppm} tear the last record", NO, NO, (800_000, 1_000_000)),
        (Kind::Rot, "rot", "a record of a minority's disks rots each {every}; a good copy is there within {long}", (8 * S, 40 * S), (S, 30 * S), NO),
        (Kind::WriteError, "write-error", "a disk refuses a write or a sync each {every}, for up to {long}", (10 * S, 60 * S), (MS, 10 * S), NO),
        (Kind::Full, "full", "a disk is full each {every}, for up to {long}", (15 * S, 60 * S), (S, 120 * S), NO),
        (Kind::SlowDisk, "slow-disk", "a disk takes a second and more for a sync each {every}, for up to {long}", (10 * S, 60 * S), (S, 30 * S), NO),
        (Kind::Clock, "clock", "a wall clock jumps up to an hour each {every}; clocks drift by {ppm} at most", (10 * S, 60 * S), NO, (0, 50_000)),
        (Kind::Pause, "pause", "a server stands still each {every}, for up to {long}", (5 * S, 40 * S), (100 * MS, 60 * S), NO),
        (Kind::Churn, "churn", "leaders are cut off each 1 to 5 s in a spell each {every}, for up to {long}", (20 * S, 90 * S), (5 * S, 40 * S), NO),
        (Kind::Lag, "lag", "a follower misses all for up to {long} each {every}; of snapshots {ppm} are lost or cut", (10 * S, 50 * S), (2 * S, 40 * S), (100_000, 500_000)),
        (Kind::AgentCrash, "agent-crash", "an agent dies each {every}, for up to {long}", (5 * S, 40 * S), (100 * MS, 30 * S), NO),
        (Kind::AgentLeave, "agent-leave", "an agent says good-bye each {every} and is back up to {long} later", (10 * S, 60 * S), (100 * MS, 30 * S), NO),
        (Kind::Zombie, "zombie", "an agent stands still for longer than its lease, up to {long}, each {every}", (10 * S, 60 * S), (12 * S, 90 * S), NO),
        (Kind::SlowAgent, "slow-agent", "of agents {ppm} take ten times as long", NO, NO, (200_000, 1_000_000)),
        (Kind::Liar, "liar", "agents name more slots than they have and others' sessions; {ppm} of their heartbeats are untrue, and of their reports followed by a forged one", NO, NO, (10_000, 300_000)),
        (Kind::StreamBreak, "stream-break", "an agent's stream breaks each {every}", (2 * S, 20 * S), NO, NO),
        (Kind::Poison, "poison", "of photos {ppm} are bad, kill the recogniser or hang", NO, NO, (1_000, 100_000)),
        (Kind::Herd, "herd", "all streams break and many jobs come at once each {every}", (15 * S, 60 * S), NO, NO),
        (Kind::Overload, "overload", "the cluster takes few photos, {long} of work is too much, and far more comes at once each {every}", (15 * S, 60 * S), (MS, 2 * S), NO),
        (Kind::Limits, "limits", "limits are extreme", NO, NO, NO),
        (Kind::LostDisk, "lost-disk", "a server loses its disk for good each {every}, is started again under its id within {long}, and is replaced", (15 * S, 60 * S), (S, 30 * S), NO),
        (Kind::Members, "members", "a server is added, replaced or removed, often the leader, each {every}", (10 * S, 60 * S), NO, NO),
        (Kind::Versions, "versions", "builds of two versions; a server is stopped for up to {long} to get another each {every}, and at last the upgrade is finalized", (8 * S, 40 * S), (100 * MS, 10 * S), NO),
        (Kind::Transfer, "transfer", "leadership is handed over, or its server stops gracefully, each {every}; what ends meanwhile is down for up to {long}", (3 * S, 25 * S), (100 * MS, 20 * S), NO),
        (Kind::NeverJoin, "never-join", "of machines launched within up to {long} each {every}, {ppm} never join", (10 * S, 60 * S), (60 * S, 300 * S), (200_000, 1_000_000)),
        (Kind::Throttle, "throttle", "the cloud refuses {ppm} of calls for their rate each {every}, for up to {long}", (10 * S, 100 * S), (5 * S, 200 * S), (50_000, 900_000)),
        (Kind::LostAnswer, "lost-answer", "the cloud's answers or calls to it are lost each {every}, for up to {long}: {ppm} of them, or all", (20 * S, 120 * S), (5 * S, 300 * S), (20_000, 400_000)),
        (Kind::StaleList, "stale-list", "lists lack new machines and show ended ones as running each {every}, for up to {long}", (10 * S, 60 * S), (S, 300 * S), NO),
        (Kind::Dry, "dry", "pools and quota are small; {ppm} of spot pools run dry each {every}, for up to {long}, every other one on demand too; fleets come in part, with errors or empty", (5 * S, 40 * S), (20 * S, 300 * S), (200_000, 1_000_000)),
        (Kind::Reclaim, "reclaim", "a spot machine is taken back each {every}, {ppm} of them without notice, others told late or twice", (4 * S, 60 * S), NO, (50_000, 500_000)),
        (Kind::ZoneLost, "zone-lost", "a zone loses its machines within three minutes each {every}, {ppm} of them without notice, and has none for up to {long}", (30 * S, 200 * S), (10 * S, 300 * S), (50_000, 500_000)),
        (Kind::Prices, "prices", "prices are gone, frozen, nothing, a thousandfold, of the future or above on-demand's each {every}, for up to {long}", (20 * S, 120 * S), (5 * S, 300 * S), NO),
    ];

    fn row(self) -> &'static (Kind, &'static str, &'static str, Range, Range, Range) {
        &Kind::ALL[self as usize]
    }

    /// Its name, for people, counters and the command line.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// True for what a cloud does: a seed without one has none of it.
    pub fn is_of_cloud(self) -> bool {
        self >= Kind::NeverJoin
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// What it does at this strength.
    pub fn words(self, strength: &Strength) -> String {
        let share = format!("{}.{:01} %", strength.ppm / 10_000, strength.ppm / 1_000 % 10);
        self.row()
            .2
            .replace("{every}", &seconds(strength.every))
            .replace("{long}", &seconds(strength.long))
            .replace("{ppm}", &share)
    }

    /// Draws its strength; `strong`: often and much.
    pub(super) fn strength(self, rng: &mut Rng, strong: bool) -> Strength {
        let (_, _, _, every, long, ppm) = *self.row();
        let third = |range: Range| (range.1 - range.0) / 3;
        let (every, ppm) = match strong {
            true => ((every.0, every.0 + third(every)), (ppm.1 - third(ppm), ppm.1)),
            false => (every, ppm),
        };
        let scaled = |rng: &mut Rng, (from, to): Range| match from {
            0 => rng.within(from, to),
            _ => rng.scaled(from, to),
        };
        Strength {
            every: scaled(rng, every),
            long: scaled(rng, long),
            ppm: scaled(rng, ppm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_its_own_row_and_has_a_name_of_its_own() {
        for (at, row) in Kind::ALL.iter().enumerate() {
            assert_eq!(row.0 as usize, at);
            assert_eq!(Kind::named(row.0.name()), Some(row.0));
        }
    }

    #[test]
    fn strengths_are_within_their_ranges_and_told() {
        let mut rng = Rng::new(1);
        for (kind, _, _, every, long, ppm) in Kind::ALL {
            for strong in [false, true] {
                let strength = kind.strength(&mut rng, strong);
                assert!((every.0..=every.1).contains(&strength.every), "{kind:?}");
                assert!((long.0..=long.1).contains(&strength.long), "{kind:?}");
                assert!((ppm.0..=ppm.1).contains(&strength.ppm), "{kind:?}");
                assert!(!kind.words(&strength).contains('{'));
            }
        }
    }
}
