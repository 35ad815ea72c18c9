//! What the state keeps whatever the log says, good commands and bad ones, and what the log's encoding keeps
//! whatever bytes come.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rebound_core::command::*;
use rebound_core::key::kept_job;
use rebound_core::photos::Photos;
use rebound_core::replica::{decode_entry, encode_entry};
use rebound_core::reply::Reply;
use rebound_core::state::members::Founder;
use rebound_core::state::{Applied, Plant, State};
use rebound_core::table::{Digest, decode, encode, record_hash};
use rebound_core::types::*;
use rebound_core::version::{FIRST, NEXT};

mod history;

use history::{History, Step, step};

/// The same state, from its records.
fn reload(state: &State) -> State {
    let mut pairs = Vec::new();
    state.dump(|key, value| pairs.push((key, value)));
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.as_slice(), value.as_slice()));
    State::load(pairs, Plant::None).expect("records of our own are readable")
}

/// Jobs fail no tasks but those they drop, and none unless they drop late ones.
fn dropped_only(before: &State, after: &State) -> bool {
    let mut jobs = before.environments.iter().flat_map(|(env, _)| {
        let jobs = before.jobs.before(env, JobId(u64::MAX));
        jobs.map(move |(id, job)| (env, id, job))
    });
    jobs.all(|(env, id, job)| {
        let Some(now) = after.jobs.get_in(env, id) else {
            return false;
        };
        let drops = before.specs.get(job.spec).is_some_and(|spec| spec.drop_late);
        let (failed, dropped) = (now.failed - job.failed, now.dropped - job.dropped);
        failed == dropped && (drops || dropped == 0)
    })
}

/// Worlds or histories drawn for each property, unless `PROPTEST_CASES` says how many: proptest reads that.
fn cases() -> u32 {
    /// Its own default.
    const UNSAID: u32 = 256;
    match ProptestConfig::default().cases {
        UNSAID => 2_000,
        said => said,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Two replicas apply the same history. One of them is restarted from its records at any time, and its indexes
    /// are brought up to date at other moments, as a leader's are. They answer the same, write the same and have the
    /// same digest throughout, and every cross-reference holds.
    #[test]
    fn replicas_agree(history in prop::collection::vec((step(), 0u8..12), 1..120)) {
        let (mut steady, mut moved) = (State::new(Plant::None), State::new(Plant::None));
        prop_assert_eq!(steady.settle(), moved.settle());
        let mut writer = History::new();
        for (step, chance) in &history {
            let Some(entry) = writer.entry(step, &steady) else { continue };
            match chance {
                0 => {
                    let again = reload(&moved);
                    prop_assert_eq!(again.digest(), moved.digest());
                    again.check();
                    moved = again;
                }
                1 => { moved.mature(Time(writer.now + 10 * SECOND)); }
                _ => {}
            }
            let index = steady.applied() + 1;
            let one = steady.apply(index, 1, entry.as_ref());
            let other = moved.apply(index, 1, entry.as_ref());
            prop_assert_eq!(&one.reply, &other.reply, "{:?}", entry);
            prop_assert_eq!(&one.events, &other.events);
            prop_assert_eq!(&one.kept, &other.kept);
            prop_assert_eq!(&one.kept_gone, &other.kept_gone);
            prop_assert_eq!(steady.settle(), moved.settle());
            prop_assert_eq!(steady.digest(), moved.digest());
            steady.check();
            moved.check();
            writer.learn(&one);
        }
    }

    /// Whatever a backup holds, as another cluster's all of its tasks are there, none is with a worker, no task ended by
    /// it, and its servers are the new ones alone.
    #[test]
    fn a_restored_state_lost_nothing_and_gave_everything_back(history in prop::collection::vec(step(), 1..80)) {
        let mut state = State::new(Plant::None);
        let (mut writer, mut kept) = (History::new(), Digest::default());
        let mut steps = vec![history::Step::Begin];
        steps.extend(history);
        for step in &steps {
            let Some(entry) = writer.entry(step, &state) else { continue };
            writer.learn(&state.apply(state.applied() + 1, 1, entry.as_ref()));
        }
        state.settle();
        prop_assume!(state.meta().cluster != ClusterId::default());
        let (before, counts, sum) = (reload(&state), state.job_counts(), state.kept_digest());
        let founders = vec![Founder::named(ReplicaId(1)), Founder::named(ReplicaId(2))];
        let command = Command::Restore { cluster: ClusterId("other-1".into()), founders };
        let (at, by, trace) = (state.now(), Caller::default(), TraceId::default());
        let entry = Entry { version: ENTRY_VERSION, at, by, trace, command };
        let applied = state.apply(state.applied() + 1, 1, Some(&entry));
        prop_assert_eq!(&applied.reply, &Ok(Reply::Done));
        applied.kept.iter().for_each(|(key, value)| kept.add(record_hash(key, value)));
        state.settle();
        state.check();
        let mut grown = sum;
        grown.add(kept.0);
        prop_assert_eq!(state.kept_digest(), grown);
        // Late photos of jobs that want none are not done again: they end, and a job may end with them.
        prop_assert!(dropped_only(&before, &state));
        let none_dropped = before.environments.iter().zip(state.environments.iter())
            .all(|((_, one), (_, other))| one.counts.failed == other.counts.failed);
        prop_assert!(!none_dropped || state.job_counts() == counts);
        prop_assert_eq!(state.workers.live_count(), 0);
        let members: Vec<u64> = state.members.iter().map(|(id, _)| id.0).collect();
        prop_assert_eq!(members, [1, 2]);
        for ((_, one), (_, other)) in before.environments.iter().zip(state.environments.iter()) {
            let dropped = other.counts.failed - one.counts.failed;
            prop_assert_eq!(one.counts.waiting + one.counts.given, other.counts.waiting + dropped);
            prop_assert_eq!(other.counts.given, 0);
        }
        let again = state.apply(state.applied() + 1, 1, Some(&entry));
        prop_assert!(again.reply.is_err(), "a cluster is restored once");
    }

    /// The changes handed out at each step, written one after the other, are the state: what a restart finds.
    #[test]
    fn changes_are_the_state(history in prop::collection::vec(step(), 1..80)) {
        let mut state = State::new(Plant::None);
        let mut disk = std::collections::BTreeMap::new();
        let mut writer = History::new();
        for step in &history {
            let Some(entry) = writer.entry(step, &state) else { continue };
            let applied = state.apply(state.applied() + 1, 1, entry.as_ref());
            writer.learn(&applied);
            for (key, value) in state.settle() {
                match value {
                    Some(value) => { disk.insert(key, value); }
                    None => { disk.remove(&key); }
                }
            }
        }
        state.settle();
        let mut dumped = std::collections::BTreeMap::new();
        state.dump(|key, value| { dumped.insert(key, value); });
        if state.applied() > 0 {
            prop_assert_eq!(&disk, &dumped);
        }
        prop_assert_eq!(reload(&state).digest(), state.digest());
    }

    /// The kept records that a disk holds after each step are those of the jobs there are, and their hashes are summed
    /// in the jobs' records: nothing of a deleted job is left, and nothing of another is lost with it.
    #[test]
    fn kept_records_are_those_of_the_jobs(history in prop::collection::vec(step(), 1..120)) {
        let mut state = State::new(Plant::None);
        let mut kept = std::collections::BTreeMap::new();
        let mut writer = History::new();
        for step in &history {
            let Some(entry) = writer.entry(step, &state) else { continue };
            let applied = state.apply(state.applied() + 1, 1, entry.as_ref());
            writer.learn(&applied);
            kept.extend(applied.kept);
            for (from, to) in applied.kept_gone {
                kept.retain(|key, _| *key < from || *key >= to);
            }
        }
        let mut sums = std::collections::BTreeMap::<JobId, Digest>::new();
        for (key, value) in &kept {
            let job = kept_job(key).expect("a kept key begins with its job");
            sums.entry(job).or_default().add(record_hash(key, value));
        }
        for job in &writer.jobs {
            let there = state.jobs.get(*job).map_or(0, |(_, job)| job.kept);
            prop_assert_eq!(sums.remove(job).unwrap_or_default().0, there, "job {}", job);
        }
        prop_assert!(sums.is_empty());
    }

    /// An entry comes out of the log as it went in. Cut short, or with something behind it, it is refused.
    #[test]
    fn entries_come_back(history in prop::collection::vec(step(), 1..30), cut in any::<prop::sample::Index>()) {
        let mut state = State::new(Plant::None);
        let mut writer = History::new();
        for step in &history {
            let Some(Some(entry)) = writer.entry(step, &state) else { continue };
            let bytes = encode_entry(&entry);
            prop_assert_eq!(decode_entry(&bytes), Ok(Some(entry.clone())));
            let short = &bytes[..cut.index(bytes.len())];
            prop_assert!(short.is_empty() || decode_entry(short).is_err());
            let long = [bytes.as_slice(), b"x"].concat();
            prop_assert!(decode_entry(&long).is_err());
            let applied = state.apply(state.applied() + 1, 1, Some(&entry));
            writer.learn(&applied);
        }
    }

    /// Bytes that nobody wrote are read or refused; they never end the process, and never ask for memory that is not
    /// there. The first byte is often the right one, so that the second is reached.
    #[test]
    fn garbage_is_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..200), known in any::<bool>()) {
        if let (true, Some(first)) = (known, bytes.first_mut()) {
            *first = rebound_core::table::RECORD_FORMAT;
        }
        let read = decode_entry(&bytes);
        prop_assert!(bytes.is_empty() == (read == Ok(None)));
    }

    /// The same for an entry in which some bytes were changed.
    #[test]
    fn damage_is_survived(step in step(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut writer = History::new();
        if let Some(Some(entry)) = writer.entry(&step, &State::new(Plant::None)) {
            let mut bytes = encode_entry(&entry);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(Some(read)) = decode_entry(&bytes) {
                prop_assert!((FIRST..=NEXT).contains(&read.version), "version {}", read.version);
            }
        }
    }

    /// Photos in whose bytes some were changed are applied if they are sound, and refused if not, by all replicas alike:
    /// what is kept for ever can be read.
    #[test]
    fn unsound_photos_are_refused(
        uris in prop::collection::vec("[a-zä]{0,8}", 1..5),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        append in any::<bool>(),
    ) {
        let mut bytes = encode(&uris.iter().collect::<Photos>());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let Ok(photos) = decode::<Photos>(&bytes) else { return Ok(()) };
        let mut state = State::new(Plant::None);
        let mut writer = History::new();
        let open = Step::Open {
            env: 0, key: 0, photos: 0, close: false, priority: 0, deadline: 0, attempts: 0, shelf: false,
        };
        let last = match append {
            false => open.clone(),
            true => Step::Append { env: 0, job: 0, back: 1, photos: 0, other: false },
        };
        for step in [Step::Begin, open] {
            let applied = state.apply(state.applied() + 1, 1, writer.entry(&step, &state).flatten().as_ref());
            prop_assert!(applied.reply.is_ok(), "{:?}", applied.reply);
            writer.learn(&applied);
        }
        let mut entry = writer.entry(&last, &state).flatten().expect("an entry");
        match &mut entry.command {
            Command::Open(open) => open.photos = photos.clone(),
            Command::Append { photos: there, .. } => *there = photos.clone(),
            other => panic!("{other:?}"),
        }
        let Applied { reply, kept, .. } = state.apply(state.applied() + 1, 1, Some(&entry));
        state.settle();
        state.check();
        let sound = photos.is_sound();
        prop_assert_eq!(reply.is_ok(), sound, "{:?}", reply);
        let read = kept.iter().map(|(_, value)| decode(value)).collect::<Result<Vec<Photos>, _>>();
        let expected = (sound && !photos.is_empty()).then_some(photos);
        prop_assert_eq!(read, Ok(expected.into_iter().collect()));
    }
}

/// Histories that never get anywhere prove nothing: together a few hundred of them reach every fact, every verdict
/// and every rejection that a log can bring.
#[test]
fn histories_reach_everything() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let histories = prop::collection::vec(step(), 120);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let history = histories.new_tree(&mut runner).expect("a history").current();
        let mut state = State::new(Plant::None);
        let mut writer = History::new();
        for step in &history {
            let Some(entry) = writer.entry(step, &state) else {
                continue;
            };
            let applied = state.apply(state.applied() + 1, 1, entry.as_ref());
            writer.learn(&applied);
            seen.extend(applied.events.iter().map(|event| kind(&event.fact)));
            match &applied.reply {
                Ok(Reply::Ended { verdicts, .. }) => {
                    seen.extend(verdicts.iter().map(|judged| kind(&judged.verdict)))
                }
                Ok(_) => {}
                Err(rejected) => {
                    seen.insert(kind(rejected));
                }
            }
        }
    }
    let facts = "Began JobOpened TasksQueued JobClosed JobDone JobCancelled RunGiven PieceDropped Recorded Refused \
                 Requeued WorkerJoined WorkerLost WorkerLeft WorkerDraining ClockAccepted SettingChanged EnvironmentAllotted KeysForgotten JobDeleted \
                 RunRegiven TasksLate Dropped";
    let verdicts = "Recorded AlreadyRecorded Stale";
    let rejections = "NotFound Conflict Gap NotOpen WrongTotal TooMany Invalid AlreadyBegun Quota Full";
    for wanted in [facts, verdicts, rejections]
        .iter()
        .flat_map(|list| list.split_whitespace())
    {
        assert!(seen.contains(wanted), "no history brought {wanted}: {seen:?}");
    }
}

/// The name of an enum's variant.
fn kind(of: &impl std::fmt::Debug) -> String {
    let text = format!("{of:?}");
    text.split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default()
        .to_owned()
}
