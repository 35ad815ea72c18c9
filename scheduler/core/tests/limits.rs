//! Every limit of the intake, through three servers: at the limit a request is taken, one over it is refused and the
//! answer names the field.

use rebound_core::command::*;
use rebound_core::io::{Answer, Read, Request, WorkerReport};
use rebound_core::limits::*;
use rebound_core::photos::Photos;
use rebound_core::reply::{Refused, Rejected, Reply};
use rebound_core::table::{decode, encode};
use rebound_core::types::*;

#[allow(dead_code)] // Each test crate uses a part of the stage.
mod stage;

use stage::workers::{Seat, report};
use stage::{EPOCH, Stage};

fn stage() -> Stage {
    let mut stage = Stage::new(3, |_| {});
    assert!(stage.elect());
    stage.advance(TICK);
    stage
}

/// Asks the leader and waits for the answer.
fn ask(stage: &mut Stage, request: Request) -> Result<Answer, Refused> {
    ask_as(stage, "default", request)
}

fn ask_as(stage: &mut Stage, environment: &str, request: Request) -> Result<Answer, Refused> {
    let leader = stage.leader().expect("somebody leads");
    let ask = stage.ask(leader, "", environment, 0, request);
    stage.settle();
    stage.take_lines();
    stage.answers.remove(&ask).expect("an answer")
}

fn job(adjust: impl FnOnce(&mut Open)) -> Request {
    let mut open = Open {
        key: Vec::new(),
        name: "a job".into(),
        labels: Vec::new(),
        priority: 0,
        deadline: Deadline::None,
        spec: Spec {
            recogniser: "noop".into(),
            resources: Resources::default(),
            photo_timeout: 0,
            max_attempts: 0,
            drop_late: false,
            region: String::new(),
        },
        photos: photos(1, 30),
        close: true,
    };
    adjust(&mut open);
    Request::Open(Box::new(open))
}

fn photos(count: usize, uri_bytes: usize) -> Photos {
    let uri = |n: usize| format!("{:x<uri_bytes$}", format!("s3://shelf/{n}/"));
    (0..count).map(uri).collect()
}

fn one(uri: &str) -> Photos {
    [uri].into_iter().collect()
}

/// Not UTF-8: its last byte is missing.
fn unsound() -> Photos {
    let sound = encode(&one("file:///ä"));
    let mut bytes = sound[..sound.len() - 1].to_vec();
    // Behind the format and the number of photos: how many bytes there are, and where the first URI ends.
    bytes[2] -= 1;
    bytes[3] -= 1;
    decode(&bytes).expect("only what is in it is wrong")
}

fn taken(answer: Result<Answer, Refused>) -> Reply {
    match answer {
        Ok(Answer::Applied { reply, .. }) => reply,
        other => panic!("not taken: {other:?}"),
    }
}

/// The field that a refusal names. Its text must name it, too.
fn field(answer: Result<Answer, Refused>) -> &'static str {
    match answer {
        Err(Refused::Rejected(rejected)) => {
            let field = rejected.field();
            assert!(rejected.to_string().starts_with(field), "{rejected}");
            field
        }
        other => panic!("not refused: {other:?}"),
    }
}

type Adjust = Box<dyn Fn(&mut Open)>;

fn adjust(with: impl Fn(&mut Open) + 'static) -> Adjust {
    Box::new(with)
}

fn labels(count: usize, bytes: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| (format!("{n:0>bytes$}"), String::new()))
        .collect()
}

/// Each limit of an open request: its field, how to meet it, how to break it.
fn of_open() -> Vec<(&'static str, Adjust, Adjust)> {
    let now = Time(EPOCH + TICK * 30);
    vec![
        (
            "photos",
            adjust(|open| open.photos = photos(APPEND_PHOTOS_MAX, 30)),
            adjust(|open| open.photos = photos(APPEND_PHOTOS_MAX + 1, 30)),
        ),
        (
            "photos",
            adjust(|open| open.photos = photos(APPEND_BYTES_MAX / 256, 256)),
            adjust(|open| {
                let rest = photos(APPEND_BYTES_MAX / 256 - 1, 256);
                open.photos = photos(1, 257).iter().chain(rest.iter()).collect();
            }),
        ),
        (
            "photos",
            adjust(|open| open.photos = one("file:///ä")),
            adjust(|open| open.photos = unsound()),
        ),
        (
            "photos.uri",
            adjust(|open| open.photos = photos(1, URI_BYTES_MAX)),
            adjust(|open| open.photos = photos(1, URI_BYTES_MAX + 1)),
        ),
        (
            "photos.uri",
            adjust(|open| open.photos = one("x")),
            adjust(|open| open.photos = one("")),
        ),
        (
            "photos.uri",
            adjust(|open| open.photos = one("file:///Käse 1.jpg")),
            adjust(|open| open.photos = one("file:///a\nb")),
        ),
        (
            "photos",
            adjust(|_| {}),
            adjust(|open| open.photos = Photos::default()),
        ),
        (
            "idempotency_key",
            adjust(|open| open.key = vec![7; KEY_BYTES_MAX]),
            adjust(|open| open.key = vec![7; KEY_BYTES_MAX + 1]),
        ),
        (
            "spec.name",
            adjust(|open| open.name = "n".repeat(NAME_BYTES_MAX)),
            adjust(|open| open.name = "n".repeat(NAME_BYTES_MAX + 1)),
        ),
        (
            "spec.recogniser",
            adjust(|open| open.spec.recogniser = "r".repeat(2 * NAME_BYTES_MAX + 1)),
            adjust(|open| open.spec.recogniser = "r".repeat(2 * NAME_BYTES_MAX + 2)),
        ),
        (
            "spec.labels",
            adjust(|open| open.labels = labels(LABELS_MAX, NAME_BYTES_MAX)),
            adjust(|open| open.labels = labels(LABELS_MAX + 1, NAME_BYTES_MAX)),
        ),
        (
            "spec.labels",
            adjust(|open| open.labels = vec![("k".into(), "v".repeat(NAME_BYTES_MAX))]),
            adjust(|open| open.labels = vec![("k".into(), "v".repeat(NAME_BYTES_MAX + 1))]),
        ),
        (
            "spec.labels",
            adjust(|open| open.labels = vec![("a".into(), "1".into()), ("b".into(), "1".into())]),
            adjust(|open| open.labels = vec![("a".into(), "1".into()), ("a".into(), "2".into())]),
        ),
        (
            "spec.priority",
            adjust(|open| open.priority = PRIORITY_MAX as u8),
            adjust(|open| open.priority = PRIORITY_MAX as u8 + 1),
        ),
        (
            "spec.max_attempts",
            adjust(|open| open.spec.max_attempts = ATTEMPTS_MAX),
            adjust(|open| open.spec.max_attempts = ATTEMPTS_MAX + 1),
        ),
        (
            "spec.photo_timeout",
            adjust(|open| open.spec.photo_timeout = PHOTO_TIMEOUT_MAX),
            adjust(|open| open.spec.photo_timeout = PHOTO_TIMEOUT_MAX + 1),
        ),
        (
            "spec.deadline",
            adjust(|open| open.deadline = Deadline::In(DEADLINE_MAX)),
            adjust(|open| open.deadline = Deadline::In(DEADLINE_MAX + 1)),
        ),
        (
            "spec.deadline",
            adjust(|open| open.deadline = Deadline::In(1)),
            adjust(|open| open.deadline = Deadline::In(0)),
        ),
        (
            "spec.deadline",
            adjust(move |open| open.deadline = Deadline::At(Time(now.0 + SECOND))),
            adjust(|open| open.deadline = Deadline::At(Time(EPOCH))),
        ),
    ]
}

#[test]
fn of_an_open_request() {
    let mut stage = stage();
    for (name, at_limit, over) in of_open() {
        taken(ask(&mut stage, job(at_limit)));
        let before = stage.replica(1).map(|replica| replica.state().jobs.len());
        assert_eq!(field(ask(&mut stage, job(over))), name);
        assert_eq!(stage.replica(1).map(|replica| replica.state().jobs.len()), before);
    }
    let name = "e".repeat(NAME_BYTES_MAX);
    taken(ask_as(&mut stage, &name, job(|_| {})));
    assert_eq!(
        field(ask_as(&mut stage, &(name + "e"), job(|_| {}))),
        "environment"
    );
    assert_eq!(field(ask_as(&mut stage, "", job(|_| {}))), "environment");
}

/// A job of 100 000 photos comes in fifty appends. One photo more is refused, and the job is as it was.
#[test]
fn of_a_job() {
    let mut stage = stage();
    let opened = taken(ask(
        &mut stage,
        job(|open| {
            open.photos = Photos::default();
            open.close = false;
        }),
    ));
    let Reply::Opened { job: id, .. } = opened else {
        panic!("{opened:?}")
    };
    let append = |offset, count| Request::Append {
        job: id,
        offset,
        photos: photos(count, 30),
    };
    let mut offset = 0;
    while offset < TASKS_PER_JOB_MAX {
        let next_offset = offset + APPEND_PHOTOS_MAX as u64;
        assert_eq!(
            taken(ask(&mut stage, append(offset, APPEND_PHOTOS_MAX))),
            Reply::Appended { next_offset }
        );
        offset = next_offset;
    }
    assert_eq!(offset, TASKS_PER_JOB_MAX);
    assert_eq!(field(ask(&mut stage, append(offset, 1))), "photos");
    assert_eq!(
        field(ask(&mut stage, append(offset, APPEND_PHOTOS_MAX + 1))),
        "photos"
    );
    assert_eq!(field(ask(&mut stage, append(offset + 1, 1))), "offset");
    let close = |total| Request::Close { job: id, total };
    assert_eq!(field(ask(&mut stage, close(offset + 1))), "total");
    assert_eq!(taken(ask(&mut stage, close(offset))), Reply::Job { job: id });
}

/// A job may have so many appends, however small they are.
#[test]
fn of_appends() {
    let mut stage = stage();
    let id = opened(&mut stage, job(|open| open.close = false));
    let append = |offset: u32| Request::Append {
        job: id,
        offset: u64::from(offset),
        photos: photos(1, 30),
    };
    // The open request brought the first.
    for offset in 1..APPENDS_PER_JOB_MAX {
        taken(ask(&mut stage, append(offset)));
    }
    assert_eq!(field(ask(&mut stage, append(APPENDS_PER_JOB_MAX))), "photos");
}

fn join(adjust: impl FnOnce(&mut Join)) -> Request {
    let mut join = Join {
        name: "w".into(),
        nonce: 1,
        slots: 1,
        resources: Resources::default(),
        pool: Pool::default(),
        recognisers: vec![recogniser(4, 0)],
        version: String::new(),
    };
    adjust(&mut join);
    Request::Hello {
        join: Box::new(join),
        session: None,
    }
}

fn recogniser(name: usize, digest: usize) -> Recogniser {
    Recogniser {
        name: "r".repeat(name),
        digest: vec![1; digest],
    }
}

#[test]
fn of_a_joining_worker() {
    let mut stage = stage();
    let mut both = |name, at_limit: fn(&mut Join), over: fn(&mut Join)| {
        let answer = ask(&mut stage, join(at_limit));
        assert!(matches!(answer, Ok(Answer::Welcome { .. })), "{answer:?}");
        assert_eq!(field(ask(&mut stage, join(over))), name);
    };
    both(
        "name",
        |join| join.name = "w".repeat(NAME_BYTES_MAX),
        |join| join.name = "w".repeat(NAME_BYTES_MAX + 1),
    );
    both("name", |_| {}, |join| join.name.clear());
    both(
        "slots",
        |join| join.slots = SLOTS_MAX,
        |join| join.slots = SLOTS_MAX + 1,
    );
    both("slots", |join| join.slots = 1, |join| join.slots = 0);
    both(
        "recognisers",
        |join| join.recognisers = vec![recogniser(4, 32); RECOGNISERS_PER_WORKER_MAX],
        |join| join.recognisers = vec![recogniser(4, 32); RECOGNISERS_PER_WORKER_MAX + 1],
    );
    both(
        "recognisers.name",
        |join| join.recognisers = vec![recogniser(NAME_BYTES_MAX, 0)],
        |join| join.recognisers = vec![recogniser(NAME_BYTES_MAX + 1, 0)],
    );
    both(
        "recognisers.digest",
        |join| join.recognisers = vec![recogniser(4, 32)],
        |join| join.recognisers = vec![recogniser(4, 31)],
    );
    both(
        "pool.zone_id",
        |join| join.pool.zone_id = "z".repeat(NAME_BYTES_MAX),
        |join| join.pool.zone_id = "z".repeat(NAME_BYTES_MAX + 1),
    );
}

/// A worker named `w` joins, with so many slots for `noop`.
fn seat(stage: &mut Stage, leader: u64, slots: u32) {
    let Request::Hello { join, .. } = join(|join| {
        join.slots = slots;
        join.recognisers[0].name = "noop".into();
    }) else {
        unreachable!("a hello")
    };
    stage.workers.insert("w".into(), Seat::new(*join));
    stage.hello("w", leader);
    stage.settle();
}

/// The job that a request opens.
fn opened(stage: &mut Stage, request: Request) -> JobId {
    match taken(ask(stage, request)) {
        Reply::Opened { job, .. } => job,
        other => panic!("{other:?}"),
    }
}

/// A result at the limit is kept as it came; one byte over, and what is recorded is that it was too large, in a
/// message that is within its own limit.
#[test]
fn of_a_result() {
    let mut stage = stage();
    let leader = stage.leader().expect("somebody leads");
    seat(&mut stage, leader, 2);
    let id = opened(&mut stage, job(|open| open.photos = photos(2, 30)));
    let given = stage.workers["w"].fence(id, 0).expect("it was given");
    let environments = &stage.replica(leader).expect("it leads").state().environments;
    assert_eq!((environments.waiting(), environments.given()), (0, 2));
    let results = vec![
        report(id, 0, given, None, RESULT_BYTES_MAX),
        report(id, 1, given, None, RESULT_BYTES_MAX + 1),
    ];
    let said = WorkerReport::Results {
        reports: results,
        running: 0,
        spooled: 2,
    };
    assert!(stage.speak("w", said));
    stage.settle();
    let replica = stage.replica(leader).expect("it leads");
    let (_, record) = replica.state().jobs.get(id).expect("just opened");
    assert_eq!((record.succeeded, record.failed), (1, 1));
    let rejected = Rejected::ResultTooLarge {
        task: 1,
        bytes: RESULT_BYTES_MAX + 1,
        limit: RESULT_BYTES_MAX,
    };
    assert!(rejected.to_string().len() <= MESSAGE_BYTES_MAX);
}

/// Results that one entry cannot hold go into the next.
#[test]
fn of_the_results_of_an_entry() {
    let mut stage = Stage::new(1, |config| config.limits.entry_results = 2);
    assert!(stage.elect());
    seat(&mut stage, 1, 5);
    let id = opened(&mut stage, job(|open| open.photos = photos(5, 30)));
    let given = stage.workers["w"].fence(id, 0).expect("it was given");
    let before = stage.replica(1).expect("it leads").state().applied();
    let reports = (0..5).map(|task| report(id, task, given, None, 10)).collect();
    let said = WorkerReport::Results {
        reports,
        running: 0,
        spooled: 5,
    };
    assert!(stage.speak("w", said));
    stage.settle();
    let state = stage.replica(1).expect("it leads").state();
    assert_eq!((state.applied() - before, state.environments.given()), (3, 0));
}

/// A log that takes more memory than it may is cut before it has as many entries as are kept.
#[test]
fn of_the_log_in_memory() {
    let mut stage = Stage::new(1, |config| config.limits.log_cache_bytes = 20_000);
    assert!(stage.elect());
    let first = |stage: &Stage| stage.replica(1).expect("it leads").status().first;
    taken(ask(&mut stage, job(|open| open.photos = photos(100, 100))));
    assert_eq!(first(&stage), 1);
    taken(ask(&mut stage, job(|open| open.photos = photos(150, 100))));
    stage.advance(TICK);
    taken(ask(&mut stage, job(|open| open.close = false)));
    let replica = stage.replica(1).expect("it leads");
    assert!(first(&stage) > 1, "{:?}", replica.status());
    assert_eq!(
        (replica.status().sheds, replica.state().jobs.open_count()),
        ("", 1)
    );
    for n in 0..2 {
        taken(ask(
            &mut stage,
            job(|open| (open.close, open.key) = (false, vec![n])),
        ));
    }
    assert_eq!(stage.replica(1).expect("it leads").state().jobs.open_count(), 3);
}

/// As many questions are open at once as there may be, and one more is told to come back.
#[test]
fn of_open_questions() {
    let mut stage = Stage::new(1, |config| config.limits.asks = 2);
    assert!(stage.elect());
    let id = opened(&mut stage, job(|open| open.close = false));
    let seen = stage.replica(1).expect("it leads").state().applied();
    let asks = [0; 3].map(|timeout| {
        let watch = Request::Read(Read::Job { job: id, seen });
        stage.ask(1, "", "default", timeout, watch)
    });
    stage.settle();
    let refused = asks.map(|ask| matches!(stage.answers.get(&ask), Some(Err(Refused::Overloaded { .. }))));
    assert_eq!(refused, [false, false, true]);
}

/// While its entry is on its way, a job of a spec that is known is given by the very next one, if so many may be.
#[test]
fn of_jobs_that_are_given_before_they_are_there() {
    let entries = |coming: usize| {
        let mut stage = Stage::new(3, |config| config.limits.coming = coming);
        assert!(stage.elect());
        stage.advance(TICK);
        let leader = stage.leader().expect("somebody leads");
        seat(&mut stage, leader, 4);
        taken(ask(&mut stage, job(|_| ())));
        stage.held = true;
        stage.ask(leader, "", "default", 0, job(|open| open.key = vec![1]));
        stage.settle();
        let status = stage.replica(leader).expect("it leads").status();
        status.last - status.applied
    };
    assert_eq!(entries(1), 2, "the job, and who gets its photos");
    assert_eq!(entries(0), 1, "the job");
}

/// More bytes of results than an entry holds are all recorded, in several.
#[test]
fn of_the_bytes_of_an_entry() {
    const COUNT: usize = ENTRY_BYTES_MAX / RESULT_BYTES_MAX + 10;
    let mut stage = Stage::new(1, |_| {});
    assert!(stage.elect());
    seat(&mut stage, 1, COUNT as u32);
    let id = opened(&mut stage, job(|open| open.photos = photos(COUNT, 30)));
    let result = |task: u64| {
        let given = stage.workers["w"].fence(id, task).expect("it was given");
        report(id, task, given, None, RESULT_BYTES_MAX)
    };
    let said = WorkerReport::Results {
        reports: (0..COUNT as u64).map(result).collect(),
        running: 0,
        spooled: COUNT as u32,
    };
    assert!(stage.speak("w", said));
    stage.settle();
    let state = stage.replica(1).expect("it leads").state();
    let (_, record) = state.jobs.get(id).expect("just opened");
    assert_eq!((record.succeeded, record.failed), (COUNT as u64, 0));
}
