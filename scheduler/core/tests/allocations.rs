//! What a photo costs in memory on its way through a server: one replica alone takes an append, gives its photos to a
//! worker and records their results. How often it asks for memory meanwhile is counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rebound_core::codec::agent::{self, Said};
use rebound_core::codec::client;
use rebound_core::command::*;
use rebound_core::effects::{Desired, DesiredRun};
use rebound_core::io::*;
use rebound_core::limits::{APPEND_PHOTOS_MAX, CREDIT_PER_SLOT, TICK};
use rebound_core::photos::{Joined, Photos};
use rebound_core::plan::{Policy, plan};
use rebound_core::replica::{Config, Election, Recovered, Replica};
use rebound_core::reply::Reply;
use rebound_core::rows::{Packing, Row};
use rebound_core::state::members::Founder;
use rebound_core::state::{Plant, State};
use rebound_core::table::decode;
use rebound_core::types::*;
use rebound_proto::v1;

/// The system's allocator, which counts what this thread asks it for.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: each call goes to the system's allocator as it came; to count needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often memory was asked for meanwhile.
fn calls<T>(of: impl FnOnce() -> T) -> (T, u64) {
    let before = CALLS.get();
    let done = of();
    (done, CALLS.get() - before)
}

/// As many as an append may have, and few.
const MANY: u64 = APPEND_PHOTOS_MAX as u64;
const FEW: u64 = 20;

/// Most calls of the allocator for each photo that `MANY` has more than `FEW`. What an entry, a message or a record costs
/// whatever it holds is the same for both and drops out. What is left are buffers that double while they are filled,
/// some seven times more for a hundred times the photos: a few dozen calls in all, where a single call for each photo
/// would be some 2 000.
const EACH_MAX: f64 = 0.05;

/// A server of its own, whose disk is as fast as it can be.
struct Lone {
    replica: Replica,
    now: u64,
    asks: u64,
    /// What `handle` asked the allocator for.
    calls: u64,
    replies: Vec<Answer>,
    runs: Vec<DesiredRun>,
    /// Kept records that it wrote.
    kept: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Lone {
    fn new() -> Lone {
        let mut config = Config::new(
            ReplicaId(1),
            vec![Founder::named(ReplicaId(1))],
            ClusterId("lone".into()),
        );
        config.election = Election::Seeded(1);
        let disk = Recovered {
            hard_state: None,
            compacted: (0, 0),
            entries: Vec::new(),
            state: State::new(Plant::None),
        };
        let replica = Replica::recover(config, disk, clocks(0)).expect("an empty disk is good");
        let mut lone = Lone {
            replica,
            now: 0,
            asks: 0,
            calls: 0,
            replies: Vec::new(),
            runs: Vec::new(),
            kept: Vec::new(),
        };
        for _ in 0..1_000 {
            if lone.replica.status().ready {
                return lone;
            }
            lone.now += TICK;
            lone.settle(vec![Input::Tick]);
        }
        panic!("a server that is alone leads soon");
    }

    /// Takes inputs, and what comes of them, until there is nothing more to do.
    fn settle(&mut self, mut inputs: Vec<Input>) {
        loop {
            let now = clocks(self.now);
            let mut taken = std::mem::take(&mut inputs).into_iter();
            let (out, calls) = calls(|| self.replica.handle(now, &mut taken));
            self.calls += calls;
            if let Some(order) = out.persist {
                self.kept.extend(order.kept);
                inputs.extend((order.id.0 != 0).then_some(Input::Persisted(order.id)));
            }
            let planned = out.plan.map(|seen| plan(&Policy::default(), &seen));
            inputs.extend(planned.map(Input::Planned));
            let answers = out.replies.into_iter();
            self.replies
                .extend(answers.map(|(_, answer)| answer.expect("nothing is refused")));
            if let Some((_, desired)) = out.desired.into_iter().next_back() {
                self.runs = desired.runs;
            }
            if inputs.is_empty() && self.replica.wake_at().0 > self.now {
                return;
            }
        }
    }

    fn ask(&mut self, request: Request) -> Answer {
        self.asks += 1;
        let question = Question {
            ask: AskId(self.asks),
            by: Caller {
                environment: "default".into(),
                actor: "tester".into(),
            },
            trace: TraceId::default(),
            timeout: 0,
            request,
        };
        self.settle(vec![Input::Client(Box::new(question))]);
        self.replies.pop().expect("an answer")
    }
}

fn clocks(mono: u64) -> Now {
    let wall = Time(1_767_225_600 * SECOND + mono);
    let mono = Mono(mono);
    Now { mono, wall }
}

fn open() -> Request {
    Request::Open(Box::new(Open {
        key: Vec::new(),
        name: "a visit".into(),
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
        photos: Default::default(),
        close: false,
    }))
}

/// As many slots as it takes to be given so many photos at once.
fn join(photos: u64) -> Request {
    Request::Hello {
        join: Box::new(Join {
            name: "w".into(),
            nonce: 1,
            slots: photos as u32 / CREDIT_PER_SLOT,
            resources: Resources::default(),
            pool: Pool::default(),
            recognisers: vec![Recogniser {
                name: "noop".into(),
                digest: Vec::new(),
            }],
            version: String::new(),
        }),
        session: None,
    }
}

/// What the worker of these runs is told.
fn told(lone: &Lone) -> v1::Desired {
    let desired = Desired {
        term: 1,
        generation: 1,
        runs: lone.runs.clone(),
        specs: Default::default(),
        drain: false,
    };
    let (_, list) = &lone.kept[0];
    let uris = |run: &DesiredRun| {
        let photos: Photos = decode(list).expect("photos are the first record that is kept");
        let mut uris = Joined::default();
        uris.add(photos.slice(run.first, run.last - run.first + 1));
        uris
    };
    agent::desired(&ClusterId("lone".into()), &desired, uris, &mut Said::default())
}

/// Results of all photos, half of them in each of two messages.
fn reports(runs: &[DesiredRun], photos: u64) -> [Vec<Report>; 2] {
    let of_half = |from: u64, to: u64| {
        let mut reports = Vec::new();
        for run in runs {
            let (first, end) = (run.first.max(from), (run.last + 1).min(to));
            let mut packing = Packing::default();
            for task in first..end {
                packing.push(Row {
                    started: Time(task),
                    ended: Time(task + 5),
                    output: b"{\"products\":[]}",
                });
            }
            reports.extend((first < end).then(|| Report {
                job: run.job,
                first,
                given: run.given,
                cause: None,
                rows: packing.done(),
            }));
        }
        reports
    };
    [of_half(0, photos / 2), of_half(photos / 2, photos)]
}

/// Calls of the allocator for so many photos of one append.
#[derive(Debug)]
struct Costs {
    /// When they came from the wire.
    packed: u64,
    /// In `handle`, until their append was applied and all of them were given to a worker.
    given: u64,
    /// When the worker was told.
    told: u64,
    /// In `handle`, until their results were recorded.
    recorded: u64,
}

fn costs(photos: u64) -> Costs {
    let mut lone = Lone::new();
    let Answer::Welcome { worker, .. } = lone.ask(join(photos)) else {
        panic!("not welcome")
    };
    let Answer::Applied {
        reply: Reply::Opened { job, .. },
        ..
    } = lone.ask(open())
    else {
        panic!("not opened")
    };
    let uri = |photo| format!("file:///shelf/{photo:0>60}.jpg");
    let wire: Vec<_> = (0..photos).map(|photo| v1::Photo { uri: uri(photo) }).collect();
    let (list, packed) = calls(|| client::photos(&wire));

    let before = lone.calls;
    let photos_of = |lone: &Lone| lone.runs.iter().map(|run| run.last - run.first + 1).sum::<u64>();
    lone.ask(Request::Append {
        job,
        offset: 0,
        photos: list,
    });
    let given = lone.calls - before;
    assert_eq!(photos_of(&lone), photos, "{:?}", lone.runs);

    let (desired, told) = calls(|| told(&lone));
    let uris: Vec<String> = desired
        .runs
        .into_iter()
        .filter_map(|run| Some(run.photos?.uris))
        .collect();
    assert_eq!(uris.concat(), (0..photos).map(uri).collect::<String>());

    let before = lone.calls;
    for reports in reports(&lone.runs.clone(), photos) {
        let report = WorkerReport::Results {
            reports,
            running: 0,
            spooled: 0,
        };
        lone.settle(vec![Input::Worker { worker, report }]);
    }
    let recorded = lone.calls - before;
    let (_, record) = lone.replica.state().jobs.get(job).expect("just opened");
    assert_eq!(record.succeeded, photos);
    Costs {
        packed,
        given,
        told,
        recorded,
    }
}

#[test]
fn no_photo_costs_an_allocation_of_its_own() {
    let (many, few) = (costs(MANY), costs(FEW));
    println!("{MANY} photos: {many:?}; {FEW}: {few:?}");
    assert_eq!((many.packed, few.packed), (1, 1), "the list is one piece");
    let stages = [
        ("given", many.given, few.given),
        ("told", many.told, few.told),
        ("recorded", many.recorded, few.recorded),
    ];
    for (stage, many, few) in stages {
        let each = many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
        assert!(each <= EACH_MAX, "until they are {stage}: {each} for each photo");
    }
}
