//! A server whose build changes: what it may take up, what it must refuse, and that it says why.

use rebound_core::io::{Answer, Input, Output, Question, Request};
use rebound_core::replica::{Config, RecoverError, Recovered, Replica};
use rebound_core::reply::Refused;
use rebound_core::state::Plant;
use rebound_core::state::members::Founder;
use rebound_core::types::*;
use rebound_core::version::{BUILDS, Build, FIRST, Versions};
use rebound_sim::disk::Disk;

/// Calls after which a server that has anything to do has done it.
const CALLS: u64 = 200;

fn build(newest: u16) -> Build {
    let versions = Versions {
        oldest: FIRST,
        newest,
    };
    Build::new(&format!("0.{newest}.0"), versions)
}

/// The only server of a cluster.
struct Alone {
    disk: Disk,
    at: u64,
    replica: Option<Replica>,
    asked: u64,
}

impl Alone {
    fn new() -> Alone {
        Alone {
            disk: Disk::default(),
            at: SECOND,
            replica: None,
            asked: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: Mono(self.at),
            wall: Time(self.at),
        }
    }

    fn start(&mut self, newest: u16) -> Result<(), RecoverError> {
        let found = self.disk.recover(Plant::None).expect("a good disk");
        self.start_from(newest, found)
    }

    fn start_from(&mut self, newest: u16, found: Recovered) -> Result<(), RecoverError> {
        let id = ReplicaId(1);
        let mut config = Config::new(id, vec![Founder::named(id)], ClusterId("alone".into()));
        config.build = build(newest);
        self.replica = None;
        self.replica = Some(Replica::recover(config, found, self.now())?);
        Ok(())
    }

    fn call(&mut self, inputs: Vec<Input>) -> Output {
        self.at += 10 * MILLISECOND;
        let now = self.now();
        let replica = self.replica.as_mut().expect("it runs");
        replica.handle(now, &mut inputs.into_iter())
    }

    /// Lets it run; what it answered, and whether it stopped.
    fn run(&mut self, first: Vec<Input>) -> (Vec<Result<Answer, Refused>>, Option<String>) {
        let (mut inputs, mut answers) = (first, Vec::new());
        for _ in 0..CALLS {
            let out = self.call(std::mem::take(&mut inputs));
            if let Some(halt) = out.halt {
                return (answers, Some(halt.to_string()));
            }
            answers.extend(out.replies.into_iter().map(|(_, answer)| answer));
            if let Some(mut persist) = out.persist {
                let order = self.disk.write_first(&mut persist, None);
                self.disk.write_second(&mut persist);
                self.disk.synced(order);
                if persist.id != PersistId(0) {
                    inputs.push(Input::Persisted(persist.id));
                }
            }
        }
        (answers, None)
    }

    fn ask(&mut self, request: Request) -> Result<Answer, Refused> {
        self.asked += 1;
        let question = Question {
            ask: AskId(self.asked),
            by: Caller {
                environment: "default".into(),
                actor: "operator".into(),
            },
            trace: TraceId::default(),
            timeout: 0,
            request,
        };
        let (mut answers, halted) = self.run(vec![Input::Client(Box::new(question))]);
        assert_eq!(halted, None);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    fn version(&self) -> u16 {
        self.replica.as_ref().expect("it runs").state().version()
    }
}

fn why(answer: Result<Answer, Refused>) -> String {
    answer.expect_err("it must be refused").to_string()
}

#[test]
fn builds_are_swapped_both_ways_until_the_upgrade_is_finalized() {
    let mut server = Alone::new();
    server.start(FIRST).unwrap();
    server.run(Vec::new());
    assert_eq!(server.version(), FIRST);
    for newest in [BUILDS, FIRST, BUILDS] {
        server.start(newest).unwrap();
        server.run(Vec::new());
        assert_eq!(server.version(), FIRST, "a newer build changes nothing by itself");
        let state = server.replica.as_ref().unwrap().state();
        assert_eq!(state.build_of(ReplicaId(1)), None, "and writes nothing new");
    }
    server.ask(Request::Upgrade(None)).unwrap();
    assert_eq!(server.version(), BUILDS);
    server.run(Vec::new());
    let state = server.replica.as_ref().unwrap().state();
    assert_eq!(state.build_of(ReplicaId(1)), Some(&build(BUILDS)));
    state.check();
    server.ask(Request::Upgrade(None)).expect("asked again, it is so");
    let back = why(server.ask(Request::Upgrade(Some(FIRST))));
    assert!(back.contains("no way back"), "{back}");
    let refused = server.start(FIRST).unwrap_err().to_string();
    assert!(
        refused.contains("runs at version 2, and this build knows version 1 alone: it is too old"),
        "{refused}"
    );
    server.start(BUILDS).unwrap();
}

#[test]
fn no_version_is_taken_that_a_server_does_not_know() {
    let mut server = Alone::new();
    server.start(FIRST).unwrap();
    server.run(Vec::new());
    let refused = why(server.ask(Request::Upgrade(Some(BUILDS))));
    assert_eq!(
        refused,
        "server: server 1 runs 0.1.0, which knows version 1 and not 2: upgrade it first, or remove it"
    );
    let far = why(server.ask(Request::Upgrade(Some(u16::MAX))));
    assert!(far.contains("and not 65535"), "{far}");
    assert_eq!(server.version(), FIRST);
}

#[test]
fn an_older_build_stops_before_the_entry_that_it_does_not_know() {
    let mut server = Alone::new();
    server.start(BUILDS).unwrap();
    server.run(Vec::new());
    assert_eq!(
        server.version(),
        BUILDS,
        "a new cluster begins at what its servers know"
    );
    // Nothing of it was applied, and nothing is known to be committed: it finds out as it goes.
    let mut found = server.disk.recover(Plant::None).unwrap();
    found.hard_state = None;
    found.state = rebound_core::state::State::new(Plant::None);
    let mut older = Alone::new();
    older.start_from(FIRST, found).unwrap();
    let (_, halted) = older.run(Vec::new());
    assert!(halted.is_some_and(|why| why.contains("it is too old")));
    assert_eq!(older.version(), FIRST, "it has not applied it");
    assert!(older.call(Vec::new()).halt.is_some(), "and never goes on");
}
