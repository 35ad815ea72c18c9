//! Does what the replica wants done, in the order that its output demands.

use rebound_core::cloud::CloudCall;
use rebound_core::codec::client;
use rebound_core::effects::{Desired, DesiredRun};
use rebound_core::io::{Heard, SnapshotOrder};
use rebound_core::observe::Observation;
use rebound_core::photos::Joined;
use rebound_core::reply::Rejected;
use rebound_core::state::workers::Worker;

use super::*;
use crate::api;
use crate::peers::digests::judge;
use crate::store::aside::Aside;
use crate::store::photos::{Fetched, Reader};
use crate::store::thread::{JOBS_FOR_WRITES, Read};

/// Chunks of a snapshot read ahead of what the follower takes.
const CHUNKS_AHEAD: usize = 4;

/// Demand times workers up to which a plan is made where the replica runs: some tens of microseconds.
const PLAN_AT_ONCE: usize = 256;

/// The snapshot just shown to the replica, and who waits to know what became of it.
pub(super) type Shown = (Aside, oneshot::Sender<bool>);

impl Node {
    pub(super) async fn dispatch(&mut self, out: Output, shown: Option<Shown>) {
        let Output {
            send,
            persist,
            replies,
            desired,
            verdicts,
            hang_up,
            hang_up_all,
            plan,
            snapshots,
            events,
            retired,
            halt,
            calls,
        } = out;
        if let Some(halt) = halt {
            return self.roster.outgrow(halt.to_string());
        }
        if retired.is_some() {
            drop(tokio::task::spawn_blocking(move || drop(retired)));
        }
        self.peers.send(send);
        self.persist(persist, shown).await;
        let leads = self.standing.borrow().status.role == "leader";
        for (ask, answer) in replies {
            self.reply(ask, answer);
        }
        for (worker, desired) in desired {
            self.desire(worker, desired);
        }
        for (worker, judged) in verdicts {
            if let Some(link) = self.links.get(&worker) {
                link.answers(&judged);
            }
        }
        for worker in hang_up {
            if let Some(link) = self.links.remove(&worker) {
                link.close(None);
            }
        }
        if hang_up_all {
            for link in std::mem::take(&mut self.links).into_values() {
                link.close(None);
            }
            // Their receivers would drop them in the end, and take no other leader's meanwhile.
            self.sending.drain(..).for_each(|one| one.abort());
        }
        if let Some(seen) = plan {
            self.plan(seen);
        }
        for order in snapshots {
            self.send_snapshot(order).await;
        }
        self.call_cloud(calls);
        telemetry::events(&events, leads);
    }

    async fn persist(&mut self, persist: Option<rebound_core::io::Persist>, shown: Option<Shown>) {
        let installs = persist.as_ref().is_some_and(|order| order.install.is_some());
        let mut aside = None;
        if let Some((received, installed)) = shown {
            // Nobody may be waiting any more.
            let _ = installed.send(installs);
            aside = installs.then_some(received);
        }
        let Some(order) = persist else { return };
        if !order.digests.is_empty() {
            judge(&self.roster, &self.roster.digests().note(&order.digests));
        }
        if order.id != PersistId(0) {
            self.persists_in_flight += 1;
        }
        self.store(Job::Persist(Box::new(order), aside)).await;
    }

    async fn store(&self, job: Job) {
        // The writer ends only when it is told to, or with the disk: then this server must not go on.
        assert!(
            self.jobs.send((Instant::now(), job)).await.is_ok(),
            "the store has ended"
        );
    }

    /// Asks the store to read, if it has room: the replica waits for no reader.
    fn read(&self, lane: Lane, read: Read) {
        if self.jobs.capacity() <= JOBS_FOR_WRITES {
            return read(None);
        }
        if let Err(error) = self.jobs.try_send((Instant::now(), Job::Read(lane, read)))
            && let (_, Job::Read(_, read)) = error.into_inner()
        {
            read(None);
        }
    }

    fn reply(&mut self, ask: AskId, answer: Result<Answer, Refused>) {
        let Some(waiter) = self.waiters.remove(&ask) else {
            return;
        };
        match waiter {
            Waiter::Call(answering) => self.answer_call(answering, answer),
            Waiter::Agent(link, answering) => {
                // An agent that has gone meanwhile is no matter: its lease runs.
                let _ = answering.send(answer.map(|answer| self.welcome(link, answer)));
            }
        }
    }

    fn answer_call(&mut self, answering: Answering, answer: Result<Answer, Refused>) {
        let (answer, seen) = match answer {
            Ok(Answer::Stale { answer, index, age }) => (Ok(*answer), Some(Seen { index, age })),
            answer => (answer, None),
        };
        let with_age = move |answered: Answered| match seen {
            None => answered,
            Some(seen) => Answered::Stale(Box::new(answered), seen),
        };
        let answered = match answer {
            Ok(Answer::Fetch(fetch)) => {
                let read = Box::new(move |reader: Option<&Reader>| {
                    // Nobody waits any more: nothing need be read.
                    if answering.is_closed() {
                        return;
                    }
                    let Some(reader) = reader else {
                        let busy = doors::overloaded("too many results and tasks are being read");
                        let _ = answering.send(Err(busy));
                        return;
                    };
                    let answered = match reader.fetch(fetch) {
                        Ok(Fetched::Gone(job)) => Err(Refused::Rejected(Rejected::NotFound {
                            what: "job",
                            id: job.0,
                        })),
                        Ok(fetched) => Ok(with_age(Answered::Fetched(fetched))),
                        Err(error) => Ok(Answered::Unreadable(error.to_string())),
                    };
                    let _ = answering.send(answered);
                });
                return self.read(Lane::Answers, read);
            }
            Ok(Answer::Workers(workers)) => Ok(with_age(Answered::Workers(self.workers(&workers)))),
            Ok(answer) => Ok(with_age(Answered::Core(answer))),
            Err(refused) => Err(refused),
        };
        let _ = answering.send(answered);
    }

    fn workers(&self, workers: &[(WorkerId, Worker, Option<Heard>)]) -> Vec<v1::Worker> {
        let view = |(id, worker, heard): &(WorkerId, Worker, Option<Heard>)| {
            let runs = self.replica.state().runs.of_worker(*id);
            let held = runs.iter().map(|(key, run)| key.last - run.first + 1).sum();
            client::worker(*id, worker, heard.as_ref(), held)
        };
        workers.iter().map(view).collect()
    }

    /// The session goes over this link from now on; an older one ends.
    fn welcome(&mut self, link: Arc<Link>, answer: Answer) {
        let Answer::Welcome {
            worker,
            cluster,
            term,
            now,
            orphan_for,
        } = answer
        else {
            link.close(Some(tonic::Status::internal(
                "an agent was answered with something else than a welcome",
            )));
            return;
        };
        link.welcome(&cluster, worker, term, now, orphan_for);
        if let Some(older) = self.links.insert(worker, link) {
            older.close(None);
        }
    }

    fn desire(&self, worker: WorkerId, desired: Desired) {
        let Some(link) = self.links.get(&worker).cloned() else {
            return;
        };
        let read = Box::new(move |reader: Option<&Reader>| {
            let Some(reader) = reader else {
                // It connects again, and is told then.
                return link.close(Some(api::overloaded("the server's disk is too slow")));
            };
            let mut unreadable = None;
            let uris = |run: &DesiredRun| {
                reader.uris(run).unwrap_or_else(|error| {
                    unreadable = Some(error.to_string());
                    Joined::default()
                })
            };
            let wire = link.desired(&desired, uris);
            match unreadable {
                None => link.send(v1::server_message::Body::Desired(wire)),
                Some(why) => {
                    tracing::error!(%worker, %why, "a desired set cannot be told");
                    link.close(Some(tonic::Status::data_loss(why)));
                }
            }
        });
        self.read(Lane::Desired, read);
    }

    /// At once when there is little to look at, which costs less than to wake another thread; else beside the replica,
    /// since it may take a while.
    fn plan(&self, seen: Observation) {
        let (policy, control) = (self.policy, self.control.clone());
        let small = seen.demand.len().saturating_mul(seen.workers.len()) <= PLAN_AT_ONCE;
        let answer = move || {
            let _ = control.send(Control::Planned(plan(&policy, &seen)));
        };
        match small {
            true => answer(),
            false => drop(tokio::task::spawn_blocking(answer)),
        }
    }

    /// What is on disk after all that was ordered is the state as it is now. A server that is so new that it has nothing
    /// yet lets those who ask wait.
    pub(super) async fn back_up(&mut self) {
        if self.replica.state().members.is_empty() {
            return self.backups.retain(|answering| !answering.is_closed());
        }
        for answering in std::mem::take(&mut self.backups) {
            let (chunks, waiting) = mpsc::channel(CHUNKS_AHEAD);
            self.store(Job::Snapshot(chunks)).await;
            let _ = answering.send((self.replica.backup_head(), waiting));
        }
    }

    /// Calls of the cloud run beside the replica. Their number is that of open launches, ending machines and regions.
    fn call_cloud(&self, calls: Vec<(CallId, CloudCall)>) {
        for (call, what) in calls {
            let (cloud, control) = (self.cloud.clone(), self.control.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                let outcome = cloud.call(&what).await;
                telemetry::cloud_call(&what, &outcome, begun.elapsed());
                let _ = control.send(Control::CloudDone { call, outcome });
            });
        }
    }

    async fn send_snapshot(&mut self, order: SnapshotOrder) {
        let (chunks, waiting) = mpsc::channel(CHUNKS_AHEAD);
        self.store(Job::Snapshot(chunks)).await;
        let (to, control) = (order.to, self.control.clone());
        tracing::info!(%to, index = order.index, "sending a snapshot");
        let sent = self.peers.send_snapshot(&order, waiting);
        let sending = tokio::spawn(async move {
            let ok = sent.await;
            let _ = control.send(Control::SnapshotSent { to, ok });
        });
        self.sending.retain(|one| !one.is_finished());
        self.sending.push(sending.abort_handle());
    }
}
