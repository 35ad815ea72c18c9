//! One replica: raft, its log in memory, and the state. The only module that names raft's types.
//!
//! [`Replica::handle`] takes all inputs that wait and yields at most one raft `Ready` as one [`Output`]. While the
//! store syncs, inputs gather: that is the group commit. At most [`PERSISTS_IN_FLIGHT`] orders are with the store;
//! an idle cluster waits for nothing. It cannot fail on input; a broken invariant of ours ends the process.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{Entry as RaftEntry, HardState, Message, MessageType};
use raft::{Config as RaftConfig, RawNode, StateRole};

use crate::command::{Command, Entry};
use crate::io::*;
use crate::leader::Leader;
use crate::limits::*;
use crate::plan::Policy;
use crate::state::members::{Founder, Voters};
use crate::state::settings::Settings;
use crate::state::{Plant, State};
use crate::table::{decode, encode};
use crate::types::*;
use crate::version::{Build, FIRST, NEXT, OtherVersion};

mod asks;
mod budget;
pub(crate) mod cloud;
mod duties;
mod held;
mod log;
mod look;
mod measure;
mod members;
pub(crate) mod outlook;
mod parse;
mod pending;
mod pools;
mod ready;
pub(crate) mod shed;
pub mod snapshot;
mod stale;
mod transfer;
mod upgrade;
mod views;
mod waiting;

use asks::Asks;
use held::Held;
use log::LogCache;
pub use outlook::Outlook;
pub use parse::{
    Promise, changes_members, entry_version, is_append, message_words, parse_hard_state, parse_log_entry,
    parse_promise,
};
use pending::Pending;
use ready::InFlight;
pub use shed::Refusals;
use snapshot::Sending;
use stale::Freshness;
use transfer::Transfer;
use waiting::{Waiting, overload, spread};

/// How election timeouts are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// By raft, at random within the window.
    Random,
    /// From this seed, distinct for each server and term: the same run twice elects the same leaders.
    Seeded(u64),
}

/// What a replica needs to know of itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its id, not 0.
    pub id: ReplicaId,
    /// The servers the cluster begins with, the same list on each of them. Empty for one that was added later.
    /// Once the cluster has begun, its state says who is a member.
    pub founders: Vec<Founder>,
    /// Drawn when this replica's data directory was made, not 0.
    pub incarnation: u64,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Election timeouts.
    pub election: Election,
    /// Entries kept behind the applied one.
    pub log_keep: u64,
    /// The settings of a cluster that begins; one that has begun has its own in the log.
    pub settings: Settings,
    /// The policy.
    pub policy: Policy,
    /// Local bounds.
    pub limits: Limits,
    /// The wall clock, and with it the cluster's, goes so many times as fast as running time: 1, but where a recorded
    /// market is played faster. Leases, elections and what agents measure go by running time.
    pub clock_rate: u64,
    /// The build that runs it, and the versions it knows.
    pub build: Build,
    /// A planted bug, for tests of the tests.
    pub plant: Plant,
}

impl Config {
    /// Production's values; the incarnation is the id.
    pub fn new(id: ReplicaId, founders: Vec<Founder>, cluster: ClusterId) -> Config {
        Config {
            id,
            founders,
            incarnation: id.0,
            cluster,
            election: Election::Random,
            log_keep: LOG_KEEP_ENTRIES,
            settings: Settings::default(),
            policy: Policy::default(),
            limits: Limits::default(),
            clock_rate: 1,
            build: Build::ours(),
            plant: Plant::None,
        }
    }
}

/// What the disk held.
pub struct Recovered {
    /// raft's hard state, as it was written.
    pub hard_state: Option<Bytes>,
    /// The last entry that was cut from the log, and its term.
    pub compacted: (Index, Term),
    /// Entries after it, in order.
    pub entries: Vec<Bytes>,
    /// The state.
    pub state: State,
}

/// A disk that cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Bytes that are not what they should be.
    #[error("the {0} on disk is unreadable")]
    Unreadable(&'static str),
    /// The log does not reach the state.
    #[error("the state is at entry {applied}, but the log covers only {first} to {last}")]
    LogBehindState {
        applied: Index,
        first: Index,
        last: Index,
    },
    /// The directory is another cluster's.
    #[error(
        "the data directory belongs to cluster {found}, not {expected}; name its own directory for each cluster"
    )]
    OtherCluster { found: ClusterId, expected: ClusterId },
    /// The cluster runs at a version that this build does not know.
    #[error(transparent)]
    OtherVersion(#[from] OtherVersion),
    /// raft refused the configuration.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
}

/// One command on its way into the log.
struct Proposal {
    origin: Origin,
    by: Caller,
    trace: TraceId,
    command: Command,
    bytes: usize,
}

impl Proposal {
    fn changes_members(&self) -> bool {
        use Command::*;
        matches!(
            self.command,
            MemberAdd { .. } | MemberPromote { .. } | MemberRemove { .. } | MembersSettle
        )
    }
}

/// Who waits for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A question.
    Ask(AskId),
    /// A joining worker's question.
    Hello(AskId),
    /// A worker's report.
    Report,
    /// The policy.
    Plan,
    /// The policy, of machines.
    Scale,
    /// The leader itself.
    Duty,
}

impl Origin {
    fn ask(self) -> Option<AskId> {
        match self {
            Origin::Ask(ask) | Origin::Hello(ask) => Some(ask),
            Origin::Report | Origin::Plan | Origin::Scale | Origin::Duty => None,
        }
    }
}

/// See the module.
pub struct Replica {
    config: Config,
    raft: RawNode<LogCache>,
    state: State,
    now: Now,
    /// µs this replica has run: a gap between two calls counts for at most one tick.
    elapsed: u64,
    next_tick: Mono,
    leader: Option<Leader>,
    asks: Asks,
    waiting: Waiting,
    pending: Pending,
    /// Questions that came before the leader was ready.
    held: Held,
    in_flight: VecDeque<InFlight>,
    /// When raft was last let speak, in µs that this replica has run.
    spoke_at: u64,
    next_persist: PersistId,
    incoming: Option<Box<State>>,
    snapshots_out: BTreeMap<ReplicaId, Sending>,
    /// The data directories of other servers, as first met.
    met: BTreeMap<ReplicaId, u64>,
    /// Servers that came with another data directory than their own, and when.
    strangers: BTreeMap<ReplicaId, (u64, u64)>,
    /// What other servers said that they run.
    builds: BTreeMap<ReplicaId, Build>,
    /// A version was met that this build does not know.
    halted: Option<OtherVersion>,
    transfer: Option<Transfer>,
    freshness: Freshness,
    refusals: Refusals,
}

impl Replica {
    /// A replica from what its disk held, at `now`.
    pub fn recover(config: Config, disk: Recovered, now: Now) -> Result<Replica, RecoverError> {
        let Recovered {
            hard_state,
            compacted,
            entries,
            state,
        } = disk;
        let found = &state.meta().cluster;
        if *found != ClusterId::default() && *found != config.cluster {
            let (found, expected) = (found.clone(), config.cluster.clone());
            return Err(RecoverError::OtherCluster { found, expected });
        }
        let knows = config.build.versions;
        if *found != ClusterId::default() {
            knows.allow(state.version())?;
        }
        let mut hard = HardState::default();
        if let Some(bytes) = hard_state {
            hard.merge_from_bytes(&bytes)
                .map_err(|_| RecoverError::Unreadable("hard state"))?;
        }
        let applied = state.applied();
        // The state's batch follows the entries' in one log of writes, but the commit index may be older.
        hard.commit = hard.commit.max(applied);
        let parse = |bytes: Bytes| RaftEntry::parse_from_carllerche_bytes(&bytes);
        let entries: Vec<RaftEntry> = entries
            .into_iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(|_| RecoverError::Unreadable("log"))?;
        let to_apply = |entry: &&RaftEntry| entry.index > applied && entry.index <= hard.commit;
        for entry in entries.iter().filter(to_apply) {
            upgrade::allows(knows, members::content(entry))?;
        }
        let voters = match state.members.is_empty() {
            true => Voters {
                incoming: config.founders.iter().map(|founder| founder.id).collect(),
                ..Voters::default()
            },
            false => state.members.voters(),
        };
        let mut log = LogCache::new(compacted, entries, hard, members::conf_state(&voters));
        if applied < compacted.0 || applied > log.last() {
            return Err(RecoverError::LogBehindState {
                applied,
                first: log.first(),
                last: log.last(),
            });
        }
        log.applied = (applied, state.meta().applied_term);
        let raft = RawNode::new(
            &raft_config(&config, applied),
            log,
            &slog::Logger::root(slog::Discard, slog::o!()),
        )?;
        let mut replica = Replica {
            config,
            raft,
            state,
            now,
            elapsed: 0,
            next_tick: Mono(now.mono.0 + TICK),
            leader: None,
            asks: Asks::default(),
            waiting: Waiting::default(),
            pending: Pending::default(),
            held: Held::default(),
            in_flight: VecDeque::new(),
            spoke_at: 0,
            next_persist: PersistId(1),
            incoming: None,
            snapshots_out: BTreeMap::new(),
            met: BTreeMap::new(),
            strangers: BTreeMap::new(),
            builds: BTreeMap::new(),
            halted: None,
            transfer: None,
            freshness: Freshness::default(),
            refusals: Refusals::default(),
        };
        replica.seed_election();
        Ok(replica)
    }

    /// The state, to look at.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes all inputs that wait; see the module.
    pub fn handle(&mut self, now: Now, inputs: &mut dyn Iterator<Item = Input>) -> Output {
        let mut out = Output::default();
        self.pass_time(now);
        if self.halted.is_some() {
            out.halt = self.halted;
            return out;
        }
        for input in inputs {
            self.input(input, &mut out);
        }
        if self.now.mono >= self.next_tick {
            self.next_tick = Mono(self.now.mono.0 + TICK);
            self.tick_raft();
            self.seed_election();
            self.tick_duties();
        }
        self.notice_lost_lead(&mut out);
        self.take_held(&mut out);
        self.ask_reads(&mut out);
        self.confirm_calls();
        self.propose_waiting(&mut out);
        self.ready(&mut out);
        if self.halted.is_some() {
            return Output {
                halt: self.halted,
                ..Output::default()
            };
        }
        self.freshen();
        self.watch_transfer(&mut out);
        self.expire_asks(&mut out);
        self.order_calls(&mut out);
        self.want_plan(&mut out);
        out
    }

    /// When to call again at the latest; now, while raft has more to say.
    pub fn wake_at(&self) -> Mono {
        match self.may_take_ready() {
            _ if self.halted.is_some() => Mono(self.now.mono.0 + TICK),
            true => self.now.mono,
            false => self.next_tick,
        }
    }

    /// Running time as the cluster's clock counts it.
    fn elapsed_by_clock(&self) -> u64 {
        self.elapsed.saturating_mul(self.config.clock_rate)
    }

    fn pass_time(&mut self, now: Now) {
        let passed = now.mono.0.saturating_sub(self.now.mono.0);
        let whole = self.config.plant.is(Plant::PauseIsSilence);
        self.elapsed += if whole { passed } else { passed.min(TICK) };
        let mono = self.now.mono.max(now.mono);
        self.now = Now { mono, wall: now.wall };
    }

    /// Until a snapshot that raft took is durable, raft knows of it and of none of the entries it stands for: it would
    /// look for them to campaign, and stop the process. Such a replica waits with its elections.
    fn tick_raft(&mut self) {
        if !self.is_installing() || self.config.plant.is(Plant::InstallingCampaigns) {
            self.raft.tick();
        }
    }

    fn input(&mut self, input: Input, out: &mut Output) {
        match input {
            Input::Tick => {}
            Input::Peer(bytes) => self.peer(&bytes),
            Input::Persisted(id) => self.persisted(id, out),
            Input::Client(question) => self.question(question, out),
            Input::Worker { worker, report } => self.worker(worker, report, out),
            Input::Planned(plan) => self.planned(plan),
            Input::Unreachable(id) => self.raft.report_unreachable(id.0),
            Input::SnapshotSent { to, ok } => self.snapshot_sent(to, ok),
            Input::SnapshotReceived { message, state } => self.snapshot_received(&message, state),
            Input::Met {
                id,
                incarnation,
                build,
            } => self.met(id, incarnation, build),
            Input::Resign => self.resign(),
            Input::Market(market) => self.market(market),
            Input::Billed(hours) => self.billed(hours),
            Input::CloudDone { call, outcome } => self.cloud_done(call, outcome),
        }
        self.seed_election();
    }

    /// A message that does not parse, is for somebody else, or is none that a peer may send is dropped.
    fn peer(&mut self, bytes: &Bytes) {
        let Ok(message) = Message::parse_from_carllerche_bytes(bytes) else {
            return;
        };
        // A server that is not known here yet may be the leader: the entry that added it may be on its way.
        let from = ReplicaId(message.from);
        if message.to != self.config.id.0 || from == self.config.id || self.state.was_removed(from) {
            return;
        }
        let known = self.raft.raft.prs().get(from.0).is_some();
        if let Some(leader) = self.leader.as_mut().filter(|_| known) {
            leader.peers.insert(from, self.elapsed);
        }
        use MessageType::*;
        // Proposals are never forwarded: a follower answers where the leader is. Snapshots come another way.
        let of_peers = !matches!(
            message.get_msg_type(),
            MsgPropose | MsgReadIndex | MsgReadIndexResp | MsgTransferLeader | MsgSnapshot | MsgHup | MsgBeat
        );
        let campaigns = message.get_msg_type() == MsgTimeoutNow;
        let fits = is_continuous(&message) && self.may_commit(&message);
        if of_peers && fits && !(campaigns && self.is_installing()) {
            // raft drops what does not fit its term and refuses its own local kinds: neither harms.
            let said = stale::Said::of(&message);
            let _ = self.raft.step(message);
            self.hear_clock(&said);
        }
    }

    /// A heartbeat says no more committed than its receiver was known to have. One that says more than there is here is
    /// meant for what this server was before it lost its disk; raft would end the process over it, without a word of why,
    /// where what the other servers refuse it for says what to do.
    fn may_commit(&self, message: &Message) -> bool {
        message.get_msg_type() != MessageType::MsgHeartbeat
            || message.commit <= self.raft.raft.raft_log.last_index()
    }

    /// Gives raft its election timeout from the seed, if so configured.
    fn seed_election(&mut self) {
        let Election::Seeded(seed) = self.config.election else {
            return;
        };
        let own = self.config.id;
        let known: Vec<ReplicaId> = match self.state.members.is_empty() {
            true => self.config.founders.iter().map(|founder| founder.id).collect(),
            false => self.state.members.iter().map(|(id, _)| id).collect(),
        };
        let members = known.len().max(1) as u64;
        let window = (ELECTION_TICKS_MAX - ELECTION_TICKS_MIN) as u64;
        let place = known.iter().position(|id| *id == own).unwrap_or(0) as u64;
        let drawn = xxhash_rust::xxh3::xxh3_64(&(seed ^ self.raft.raft.term << 8).to_be_bytes());
        // Members get distinct parts of the window, rotated anew in each term.
        let part = (place + drawn) % members;
        let ticks = ELECTION_TICKS_MIN as u64 + (part * window / members + drawn % (window / members).max(1));
        self.raft.raft.set_randomized_election_timeout(ticks as usize);
    }

    /// Where this replica stands.
    pub fn status(&self) -> Status {
        let raft = &self.raft.raft;
        let leader = self.leader.as_ref();
        let sum =
            |of: fn(&Heard) -> u32| leader.map_or(0, |l| l.heard.values().map(|h| u64::from(of(h))).sum());
        Status {
            role: match raft.state {
                StateRole::Leader => "leader",
                StateRole::Follower if self.state.was_removed(self.config.id) => "removed",
                StateRole::Follower if !raft.promotable() => "learner",
                StateRole::Follower => "follower",
                StateRole::Candidate | StateRole::PreCandidate => "candidate",
            },
            ready: leader.is_some_and(|leader| leader.ready),
            leader: self.leader_id(),
            term: raft.term,
            committed: raft.raft_log.committed,
            applied: self.state.applied(),
            last: raft.raft_log.last_index(),
            first: raft.raft_log.store.first(),
            digest: self.state.digest(),
            now: self.state.now(),
            clock_off: leader.map_or(0, |leader| leader.clock.off(self.now)),
            running: sum(|heard| heard.running),
            spooled: sum(|heard| heard.spooled),
            refusals: self.refusals,
            sheds: self.sheds(),
        }
    }

    fn leader_id(&self) -> Option<ReplicaId> {
        Some(ReplicaId(self.raft.raft.leader_id)).filter(|id| id.0 != 0)
    }

    fn is_ready(&self) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader.ready)
    }
}

/// raft 0.7.0 with `batch_append` adds entries to a message that has none yet without a look at its index, so that
/// an append may say "after 313" and carry 306: a follower that took it would acknowledge what it does not have.
fn is_continuous(message: &Message) -> bool {
    message
        .get_entries()
        .first()
        .is_none_or(|first| first.index == message.index.checked_add(1).unwrap_or(0))
}

fn raft_config(config: &Config, applied: Index) -> RaftConfig {
    RaftConfig {
        id: config.id.0,
        election_tick: ELECTION_TICKS_MIN,
        heartbeat_tick: HEARTBEAT_TICKS,
        min_election_tick: ELECTION_TICKS_MIN,
        max_election_tick: ELECTION_TICKS_MAX,
        applied,
        max_size_per_msg: config.limits.raft_message_bytes,
        max_inflight_msgs: config.limits.raft_inflight_messages,
        max_uncommitted_size: config.limits.raft_uncommitted_bytes,
        max_committed_size_per_ready: config.limits.raft_committed_bytes_per_ready,
        check_quorum: true,
        pre_vote: true,
        batch_append: true,
        ..RaftConfig::default()
    }
}

/// About how many bytes a command takes in the log.
fn command_bytes(command: &Command) -> usize {
    /// Of what is not counted one by one.
    const HEAD: usize = 128;
    HEAD + match command {
        Command::Open(open) => open.photos.packed().len() + open.key.len(),
        Command::Append { photos, .. } => photos.packed().len(),
        Command::Ended { reports, .. } => reports.iter().map(|report| report.rows.bytes() + 32).sum(),
        Command::Adopt(plan) => (plan.assign.len() + plan.regive.len()) * 32,
        Command::Settings(changes) => changes.len() * 12,
        Command::Expire { keys, jobs } => (keys.len() + jobs.len()) * 10,
        Command::Overdue { appends } => appends.len() * 20,
        _ => 0,
    }
}

/// An entry as bytes in raft's log.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    encode(entry)
}

/// The other way; raft's own empty entries have none.
pub fn decode_entry(data: &[u8]) -> Result<Option<Entry>, &'static str> {
    if data.is_empty() {
        return Ok(None);
    }
    match entry_version(data) {
        Some(version) if !(FIRST..=NEXT).contains(&version) => {
            Err("an entry of a version this build does not know")
        }
        _ => decode(data).map(Some),
    }
}
