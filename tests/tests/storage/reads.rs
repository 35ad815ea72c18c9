//! Photos, results and lost attempts: RocksDB's readers answer what the simulated disk's records say.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rebound_core::effects::DesiredRun;
use rebound_core::io::{Fetch, TaskView};
use rebound_core::kept::{AttemptRecord, ResultRecord, result_of};
use rebound_core::key::{Kept, kept_prefix, kept_task, photos_key, result_key};
use rebound_core::photos::Photos;
use rebound_core::state::State;
use rebound_core::table::decode;
use rebound_core::types::{EnvId, Given, JobId, SpecId, TraceId};
use rebound_scheduler::store::Disk;
use rebound_scheduler::store::photos::{Fetched, Reader};
use rebound_sim::disk::Image;

/// Results of a page.
const PAGE: u32 = 3;

/// Reads everything there is of these jobs from both.
pub fn compare(disk: &Arc<Disk>, image: &Image, state: &State, jobs: &[JobId]) {
    let reader = Reader::new(disk.clone(), 2);
    for job in jobs {
        let Some((env, record)) = state.jobs.get(*job) else {
            continue;
        };
        let expected: Vec<_> = (0..record.tasks)
            .filter_map(|task| Some((task, uri(image, env, *job, task), result(image, env, *job, task)?)))
            .collect();
        assert_eq!(
            results(&reader, env, *job, record.tasks),
            expected,
            "results of {job}"
        );
        for task in 0..record.tasks {
            compare_task(&reader, image, env, *job, task);
            compare_runs(&reader, image, env, *job, [0..=task, task..=record.tasks - 1]);
        }
    }
}

/// What a worker of these runs is told, whichever appends their photos are of.
fn compare_runs(reader: &Reader, image: &Image, env: EnvId, job: JobId, runs: [RangeInclusive<u64>; 2]) {
    for tasks in runs {
        let run = DesiredRun {
            env,
            job,
            first: *tasks.start(),
            last: *tasks.end(),
            given: Given(1),
            spec: SpecId(1),
            trace: TraceId::default(),
            alone: false,
        };
        let told = reader.uris(&run).expect("they are on disk");
        let expected: Vec<String> = tasks.map(|task| uri(image, env, job, task)).collect();
        let lengths: Vec<usize> = expected.iter().map(String::len).collect();
        assert_eq!(told.uris, expected.concat(), "photos of {run:?}");
        assert!(told.lengths.iter().map(|length| *length as usize).eq(lengths));
    }
}

fn uri(image: &Image, env: EnvId, job: JobId, task: u64) -> String {
    let (key, value) = image
        .at_or_before(&photos_key(env, job, task))
        .expect("a photo list");
    let first = kept_task(key).expect("a photo list's key");
    let photos: Photos = decode(value).expect("a photo list");
    let mut uris = photos.iter().skip((task - first) as usize);
    uris.next().expect("its photo").to_owned()
}

fn result(image: &Image, env: EnvId, job: JobId, task: u64) -> Option<ResultRecord> {
    let (key, value) = image.at_or_before(&result_key(env, job, task))?;
    result_of(key, value, env, job, task).expect("a record of results")
}

/// All results, page by page.
fn results(reader: &Reader, env: EnvId, job: JobId, tasks: u64) -> Vec<(u64, String, ResultRecord)> {
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(first) = next {
        let fetch = Fetch::Results {
            env,
            job,
            first,
            limit: PAGE,
            tasks,
        };
        match reader.fetch(fetch).expect("readable") {
            Fetched::Results { results, next: more } => {
                all.extend(results);
                next = more;
            }
            other => panic!("{other:?} instead of results of {job}"),
        }
    }
    all
}

fn compare_task(reader: &Reader, image: &Image, env: EnvId, job: JobId, task: u64) {
    let view = TaskView {
        env,
        job,
        task,
        state: "waiting",
        held: None,
        attempts: 0,
        losses: 0,
        deaths: 0,
        not_before: None,
    };
    let fetched = reader.fetch(Fetch::Task(view)).expect("readable");
    let Fetched::Task {
        uri: found,
        record,
        attempts,
        ..
    } = fetched
    else {
        panic!("{fetched:?} instead of task {job}/{task}")
    };
    let mut prefix = kept_prefix(Kept::Attempts, env, job);
    prefix.extend_from_slice(&task.to_be_bytes());
    let lost = image
        .kept
        .range(prefix.clone()..)
        .take_while(|(key, _)| key.starts_with(&prefix));
    let lost: Vec<AttemptRecord> = lost
        .map(|(_, value)| decode(value).expect("an attempt"))
        .collect();
    assert_eq!(found, uri(image, env, job, task));
    assert_eq!(record, result(image, env, job, task), "task {job}/{task}");
    assert_eq!(attempts, lost, "attempts of {job}/{task}");
}
