//! Agents as the world runs them: the real machine, a recogniser that takes time and sometimes dies, and a spool.

use std::collections::BTreeMap;

use rebound_agent::machine::plant::Plant;
use rebound_agent::machine::{Config, Failure, Machine, Now, Spooled, TaskKey};
use rebound_core::types::{MILLISECOND, Resources, SECOND};
use rebound_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

use crate::rng::Rng;

/// A stream between an agent and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// Never the same twice.
    pub number: u64,
    /// The server.
    pub server: u64,
    /// The server's life it belongs to.
    pub life: u64,
    /// The server that relays it, with that one's life.
    pub via: Option<(u64, u64)>,
}

/// One agent.
pub struct Agent {
    /// Its number among all nodes.
    pub node: u64,
    /// None while it is down.
    pub machine: Option<Machine>,
    /// Rises with each start.
    pub life: u64,
    /// Results on its disk: they survive the process.
    pub spool: BTreeMap<TaskKey, Spooled>,
    /// Its stream, if it has one.
    pub stream: Option<Stream>,
    /// The server it tries next.
    pub next_server: u64,
    /// The leader that it was told of and could not reach.
    pub unreached: Option<u64>,
    /// The wake that is in the heap.
    pub wake_at: u64,
    /// Its process stands still until then.
    pub paused_until: u64,
    /// Its machine has ended: it never starts again.
    pub gone: bool,
    /// So many times as long as others for a photo.
    pub slower: u64,
    /// Under which it joins.
    pub name: String,
    rng: Rng,
    slots: u32,
    spool_max: u64,
    plant: Plant,
}

/// How long a photo takes that hangs, in µs, until its recogniser is ended.
const HANGS_FOR: u64 = 5 * SECOND;

impl Agent {
    /// An agent that is down.
    pub fn new(node: u64, slots: u32, spool_max: u64, slower: u64, rng: Rng) -> Agent {
        Agent {
            node,
            machine: None,
            life: 0,
            spool: BTreeMap::new(),
            stream: None,
            next_server: 1,
            unreached: None,
            wake_at: u64::MAX,
            paused_until: 0,
            gone: false,
            name: format!("agent-{node}"),
            slower,
            rng,
            slots,
            spool_max,
            plant: Plant::None,
        }
    }

    /// The same agent with a planted bug.
    pub fn planted(self, plant: Plant) -> Agent {
        Agent { plant, ..self }
    }

    /// The same agent on a machine of this name.
    pub fn named(self, name: &str) -> Agent {
        Agent {
            name: name.into(),
            ..self
        }
    }

    /// What its clocks say.
    pub fn now(at: u64) -> Now {
        Now {
            mono_us: at,
            wall_us: at,
        }
    }

    /// Starts its process with what the spool kept.
    pub fn start(&mut self) {
        assert!(self.machine.is_none());
        self.life += 1;
        let resources = Resources {
            milli_cpu: 1_000 * self.slots,
            memory_mib: 1_024 * self.slots,
            gpus: 0,
        };
        let config = Config {
            name: self.name.clone(),
            boot_nonce: self.rng.any(),
            slots: self.slots,
            resources: rebound_core::codec::resources_out(&resources),
            pool: None,
            recognisers: vec![v1::RecogniserRef {
                name: "noop".into(),
                digest: Default::default(),
            }],
            version: "sim".into(),
            spool_max_results: self.spool_max as usize,
            spool_max_bytes: 16 << 20,
            notice_margin_us: rebound_agent::machine::limits::NOTICE_MARGIN_US,
        };
        let spooled = self.spool.values().cloned().collect();
        self.machine = Some(Machine::new(config, spooled).planted(self.plant));
        self.stream = None;
        self.wake_at = u64::MAX;
    }

    /// How long one photo takes, in µs, and what comes of it. The same photo always gives the same answer, or is bad
    /// in the same way; some are bad only now and then. `times`: it takes so many times as long as the work alone.
    pub fn recognise(&mut self, uri: &str, poison_ppm: u64, times: u64) -> (u64, Result<Vec<u8>, Failure>) {
        let took = self.rng.within(5 * MILLISECOND, 120 * MILLISECOND) * times;
        let nature = xxh3_64(uri.as_bytes());
        if nature % 1_000_000 >= poison_ppm {
            return (took, Ok(answer(uri)));
        }
        let failed = |cause, why| Err(Failure::new(cause, why));
        match nature / 1_000_000 % 4 {
            0 => (took, failed(v1::Cause::Input, "not an image")),
            1 => (took, failed(v1::Cause::Crashed, "the recogniser died")),
            2 => (HANGS_FOR, failed(v1::Cause::Timeout, "no answer in time")),
            _ if self.rng.chance(500_000) => (took, failed(v1::Cause::Recogniser, "bad luck")),
            _ => (took, Ok(answer(uri))),
        }
    }

    /// How long a fetch takes, in µs.
    pub fn fetch(&mut self) -> u64 {
        self.rng.within(MILLISECOND, 20 * MILLISECOND)
    }
}

/// What the recogniser of this world says of a photo.
pub fn answer(uri: &str) -> Vec<u8> {
    format!("{:016x}", xxh3_64(uri.as_bytes())).into_bytes()
}
