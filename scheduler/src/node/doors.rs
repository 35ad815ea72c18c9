//! The queues in front of the replica's task, and how listeners use them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rebound_core::cloud::CloudOutcome;
use rebound_core::io::{Answer, Request, Status, WorkerReport};
use rebound_core::limits::{ASK_TIMEOUT, ASK_TIMEOUT_MAX};
use rebound_core::market::Market;
use rebound_core::plan::Plan;
use rebound_core::reply::Refused;
use rebound_core::types::{CallId, Caller, MILLISECOND, PersistId, ReplicaId, TraceId, WorkerId};
use rebound_core::version::Build;
use rebound_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};

use super::link::Link;
use crate::peers::service::Received;
use crate::store::photos::Fetched;
use crate::telemetry;

/// Messages of peers that wait; a full queue holds their streams up.
pub const PEER_INPUTS_MAX: usize = 64;
/// Questions that wait; beyond, callers are told to come back.
pub const ASKS_WAITING_MAX: usize = 512;
/// Bytes of questions that wait; beyond, callers are told to come back.
pub const ASK_BYTES_WAITING_MAX: u64 = 32 * 1024 * 1024;
/// Agents that come and wait; beyond, they are told to come back. They do not stand in line with clients: they are help.
pub const GREETS_WAITING_MAX: usize = 256;
/// Those who found no room come back after so long, in µs.
pub const RETRY_AFTER: Range<u64> = 100 * MILLISECOND..300 * MILLISECOND;
/// Reports of workers that wait; a full queue holds their streams up.
pub const REPORTS_MAX: usize = 64;
/// A question that is not answered so long after its time limit never will be.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// What a question was answered.
#[derive(Debug)]
pub enum Answered {
    /// From the state alone.
    Core(Answer),
    /// From the disk.
    Fetched(Fetched),
    /// All workers.
    Workers(Vec<v1::Worker>),
    /// One of the others, from a server that need not lead, and how old it is.
    Stale(Box<Answered>, Seen),
    /// A record on disk could not be read.
    Unreadable(String),
}

/// How old an answer may be that any server gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last entry it counts in.
    pub index: u64,
    /// µs since a leader said that it was all; none: not known.
    pub age: Option<u64>,
}

/// The end of a question.
pub type Answering = oneshot::Sender<Result<Answered, Refused>>;

/// Who waits for an answer.
pub enum Waiter {
    /// A call.
    Call(Answering),
    /// An agent, whose stream begins with the answer.
    Agent(Arc<Link>, oneshot::Sender<Result<(), Refused>>),
}

/// A question on its way to the replica.
pub struct Ask {
    pub(super) by: Caller,
    pub(super) trace: TraceId,
    pub(super) timeout: u64,
    pub(super) request: Request,
    pub(super) waiter: Waiter,
    pub(super) since: Instant,
    pub(super) _weight: Weight,
}

/// Bytes of what waits in a queue, until it is dropped.
pub(super) struct Weight {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Weight {
    /// None when there is no room.
    fn take(all: &Arc<AtomicU64>, bytes: u64, most: u64) -> Option<Weight> {
        let weight = Weight {
            all: all.clone(),
            bytes,
        };
        (all.fetch_add(bytes, Ordering::Relaxed) + bytes <= most).then_some(weight)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where a server stands, as of its last call.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The replica.
    pub status: Status,
    /// Tasks in queues.
    pub tasks_waiting: u64,
    /// Most of them.
    pub tasks_waiting_max: u64,
    /// Tasks with workers.
    pub tasks_given: u64,
    /// Bytes kept for jobs that have not ended.
    pub open_bytes: u64,
    /// Most of them.
    pub open_bytes_max: u64,
    /// Live sessions.
    pub workers: u64,
    /// Jobs that take photos.
    pub jobs_open: u64,
    /// Reported results that did not count.
    pub stale_refused: u64,
}

/// How listeners reach the replica.
#[derive(Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    greets: mpsc::Sender<Ask>,
    asks_bytes: Arc<AtomicU64>,
    reports: mpsc::Sender<(WorkerId, Arc<Link>, WorkerReport)>,
    standing: watch::Receiver<Standing>,
    control: mpsc::UnboundedSender<Control>,
}

impl Handle {
    /// Asks, and waits for the answer. `timeout` in µs, 0 for the default.
    pub async fn ask(
        &self,
        by: Caller,
        trace: TraceId,
        timeout: u64,
        request: Request,
    ) -> Result<Answered, Refused> {
        let (answering, answer) = oneshot::channel();
        let waiter = Waiter::Call(answering);
        self.put(self.asked(by, trace, timeout, request, waiter)?, answer)
            .await?
    }

    fn asked(
        &self,
        by: Caller,
        trace: TraceId,
        timeout: u64,
        request: Request,
        waiter: Waiter,
    ) -> Result<Ask, Refused> {
        let most = match waiter {
            Waiter::Call(_) => ASK_BYTES_WAITING_MAX,
            // Their number bounds them: what they say is short.
            Waiter::Agent(..) => u64::MAX,
        };
        let weight = Weight::take(&self.asks_bytes, request.bytes() as u64, most);
        Ok(Ask {
            by,
            trace,
            timeout,
            request,
            waiter,
            since: Instant::now(),
            _weight: weight.ok_or_else(|| overloaded("requests of too many bytes wait"))?,
        })
    }

    /// Greets an agent; once answered, its session goes over the link.
    pub async fn greet(
        &self,
        by: Caller,
        timeout: u64,
        request: Request,
        link: Arc<Link>,
    ) -> Result<(), Refused> {
        let (answering, answer) = oneshot::channel();
        let waiter = Waiter::Agent(link, answering);
        let trace = TraceId::default();
        self.put(self.asked(by, trace, timeout, request, waiter)?, answer)
            .await?
    }

    async fn put<A>(&self, ask: Ask, answer: oneshot::Receiver<A>) -> Result<A, Refused> {
        let asked = if ask.timeout == 0 {
            ASK_TIMEOUT
        } else {
            ask.timeout
        };
        let begun = Instant::now();
        let door = match ask.waiter {
            Waiter::Call(_) => &self.asks,
            Waiter::Agent(..) => &self.greets,
        };
        door.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => overloaded("too many requests wait"),
            // Never handed over: another server may do it.
            mpsc::error::TrySendError::Closed(_) => Refused::NotLeader { leader: None },
        })?;
        let limit = Duration::from_micros(asked.min(ASK_TIMEOUT_MAX)) + ANSWER_GRACE;
        let answer = tokio::time::timeout(limit, answer)
            .await
            // The node has it, and may do it yet.
            .map_err(|_| Refused::Unknown)?;
        telemetry::answered(begun.elapsed());
        answer.map_err(|_| Refused::Unknown)
    }

    /// A worker speaks on its link. Waits for room. False when this server stops.
    pub async fn report(&self, worker: WorkerId, link: &Arc<Link>, report: WorkerReport) -> bool {
        self.reports.send((worker, link.clone(), report)).await.is_ok()
    }

    /// A backup of this server as it is now; `None` before its cluster has begun, or when it stops.
    pub async fn backup(&self) -> Option<Backup> {
        let (answering, answer) = oneshot::channel();
        self.control.send(Control::Backup(answering)).ok()?;
        answer.await.ok()
    }

    /// Where this server stands.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// To wait for a change of where this server stands.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

/// Too much of what a driver bounds. Those who are told so together do not come back together.
pub(crate) fn overloaded(what: &'static str) -> Refused {
    Refused::Overloaded {
        what,
        retry_after: rand::random_range(RETRY_AFTER),
    }
}

/// What the server's own parts tell the replica's task. There is at most one of each kind for each thing under way.
pub enum Control {
    /// An order to the store is durable.
    Persisted(PersistId),
    /// The policy has answered.
    Planned(Plan),
    /// A snapshot was taken by a follower, or not.
    SnapshotSent { to: ReplicaId, ok: bool },
    /// Another server said who it is.
    Met {
        id: ReplicaId,
        incarnation: u64,
        build: Build,
    },
    /// A call of the cloud has come to something.
    CloudDone { call: CallId, outcome: CloudOutcome },
    /// The market was looked at.
    Market(Arc<Market>),
    /// The cloud's bill was heard.
    Billed(Vec<(u64, u64)>),
    /// Somebody wants a backup of this server: its head, and the chunks to come. Nothing when there is nothing yet.
    Backup(oneshot::Sender<Backup>),
    /// The server stops.
    Stop,
}

/// A backup's head, and its chunks as they are read.
pub type Backup = (Bytes, mpsc::Receiver<v1::SnapshotChunk>);

/// The queues in front of the replica.
pub struct Inbox {
    pub(crate) control: mpsc::UnboundedReceiver<Control>,
    pub(super) peers: mpsc::Receiver<Bytes>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) greets: mpsc::Receiver<Ask>,
    pub(super) asks_bytes: Arc<AtomicU64>,
    pub(super) reports: mpsc::Receiver<(WorkerId, Arc<Link>, WorkerReport)>,
    pub(super) snapshots: mpsc::Receiver<Received>,
}

/// The other ends of [`Inbox`].
pub struct Doors {
    /// The server's own parts.
    pub control: mpsc::UnboundedSender<Control>,
    /// raft's messages.
    pub peers: mpsc::Sender<Bytes>,
    /// Whole snapshots.
    pub snapshots: mpsc::Sender<Received>,
    /// Listeners.
    pub handle: Handle,
    pub(super) standing: watch::Sender<Standing>,
}

/// Makes the queues.
pub fn doors() -> (Doors, Inbox) {
    let (control, control_in) = mpsc::unbounded_channel();
    let (peers, peers_in) = mpsc::channel(PEER_INPUTS_MAX);
    let (asks, asks_in) = mpsc::channel(ASKS_WAITING_MAX);
    let (greets, greets_in) = mpsc::channel(GREETS_WAITING_MAX);
    let (reports, reports_in) = mpsc::channel(REPORTS_MAX);
    let (snapshots, snapshots_in) = mpsc::channel(1);
    let (standing, standing_in) = watch::channel(Standing::default());
    let asks_bytes = Arc::<AtomicU64>::default();
    let handle = Handle {
        asks,
        greets,
        asks_bytes: asks_bytes.clone(),
        reports,
        standing: standing_in,
        control: control.clone(),
    };
    let inbox = Inbox {
        control: control_in,
        peers: peers_in,
        asks: asks_in,
        greets: greets_in,
        asks_bytes,
        reports: reports_in,
        snapshots: snapshots_in,
    };
    (
        Doors {
            control,
            peers,
            snapshots,
            handle,
            standing,
        },
        inbox,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question of about so many bytes.
    fn question(bytes: usize) -> Request {
        let uri = "x".repeat(bytes);
        Request::Append {
            job: Default::default(),
            offset: 0,
            photos: [uri].into_iter().collect(),
        }
    }

    #[tokio::test]
    async fn questions_that_wait_are_bounded_in_bytes_and_not_in_number_alone() {
        const EACH: usize = 1024 * 1024;
        let (doors, mut inbox) = doors();
        let handle = &doors.handle;
        let ask = |bytes| handle.ask(Caller::default(), TraceId::default(), 0, question(bytes));
        let most = ASK_BYTES_WAITING_MAX as usize / EACH;
        let mut waiting: Vec<_> = (0..2 * most).map(|_| Box::pin(ask(EACH))).collect();
        let refused: Vec<Refused> = waiting
            .iter_mut()
            .filter_map(futures_util::FutureExt::now_or_never)
            .filter_map(Result::err)
            .collect();
        assert_eq!(inbox.asks.len(), most - 1, "each has a head as well");
        assert_eq!(refused.len(), 2 * most - inbox.asks.len());
        for refusal in refused {
            let Refused::Overloaded { what, retry_after } = refusal else {
                panic!("{refusal:?}");
            };
            assert_eq!(what, "requests of too many bytes wait");
            assert!(RETRY_AFTER.contains(&retry_after));
        }
        while inbox.asks.try_recv().is_ok() {}
        assert_eq!(
            inbox.asks_bytes.load(Ordering::Relaxed),
            0,
            "what was taken weighs nothing"
        );
        let mut again = Box::pin(ask(EACH));
        assert!(
            futures_util::FutureExt::now_or_never(&mut again).is_none(),
            "it waits for its answer"
        );
        assert_eq!(inbox.asks.len(), 1);
    }
}
