//! Servers: inputs in, outputs out.

use bytes::Bytes;
use rebound_core::codec::agent as codec;
use rebound_core::io::{Answer, Input, Output};
use rebound_core::plan::plan;
use rebound_core::reply::Refused;
use rebound_core::state::members::Voters;
use rebound_core::types::*;
use rebound_proto::v1::server_message::Body;

use super::{Asker, Happening, World};
use crate::check::records;
use crate::faults::Kind;
use crate::hosts::Unfit;
use crate::net::Ways;
use crate::points::Point;

/// The state is checked whole once something happened so often that the check costs about as much: once for so many
/// of its records.
const RECORDS_PER_CHECK: u64 = 8;

impl World {
    /// Starts a server that is down, if its disk lets it; a supervisor tries again and again.
    pub(super) fn start_server(&mut self, id: u64) {
        let at = self.now;
        let server = self.server(id);
        if server.replica.is_some() || !server.is_present() {
            return;
        }
        let blocked = server.broken_until.max(server.shelved_until);
        if blocked > at {
            return self.at(blocked.min(at + SECOND), Happening::Start { server: id });
        }
        let unfit = server.disk.image().is_unfit();
        self.swaps_build(id);
        match self.server(id).start(at) {
            Ok(()) => {
                if unfit {
                    self.checks
                        .violated(format!("C3: server {id} started from a damaged disk"));
                }
                let life = self.server(id).life;
                self.at(at, Happening::Wake { server: id, life });
            }
            Err(Unfit::Outgrown) => self.outgrown(id, "older builds refused at their start"),
            Err(Unfit::Damage(damage)) => {
                self.count("rot found by a start");
                if self.trace.is_on() {
                    self.trace
                        .line(at, &format!("s{id}"), "damage", &damage.to_string());
                }
                self.shelve(id);
            }
        }
    }

    pub(super) fn wake(&mut self, server: u64, life: u64) {
        if self.server(server).wake_at <= self.now {
            self.server(server).wake_at = u64::MAX;
        }
        self.input(server, life, Input::Tick);
    }

    /// Hands one input to a server, if it still is the same life.
    pub(super) fn input(&mut self, server: u64, life: u64, input: Input) {
        if self.server(server).life == life {
            self.inputs(server, vec![input]);
        }
    }

    /// Hands inputs in, at once or with what else comes within a moment: one call then takes them all.
    pub(super) fn inputs(&mut self, id: u64, inputs: Vec<Input>) {
        if self.server(id).replica.is_none() {
            return;
        }
        let first = self.server(id).inbox.is_empty();
        self.server(id).inbox.extend(inputs);
        let life = self.server(id).life;
        let gather_max = self.faults.load.gather_max;
        if gather_max == 0 {
            self.gathered(id, life);
        } else if first {
            let wait = self.sync_rng.within(0, gather_max);
            self.after(wait, Happening::Gathered { server: id, life });
        }
    }

    pub(super) fn gathered(&mut self, id: u64, life: u64) {
        if self.server(id).life != life || self.strikes(id, Point::BeforeCall) {
            return;
        }
        let at = self.now;
        let inputs = std::mem::take(&mut self.server(id).inbox);
        if let Some(out) = self.server(id).handle(at, inputs) {
            self.output(id, out);
        }
    }

    pub(super) fn peer(&mut self, from: u64, to: u64, bytes: Bytes) {
        if self.net.open(from, to) && self.greets(from, to) {
            self.check_heard(from, &bytes);
            self.mix(&[bytes.len() as u64, xxhash_rust::xxh3::xxh3_64(&bytes)]);
            self.inputs(to, vec![Input::Peer(bytes)]);
        }
    }

    /// Does what an output says, in its order. The process may end at each step.
    fn output(&mut self, id: u64, mut out: Output) {
        if out.halt.is_some() {
            return self.outgrown(id, "older builds stopped by an entry");
        }
        self.check_after(id, &out);
        let life = self.server(id).life;
        if self.strikes(id, Point::BeforeSend) {
            return;
        }
        let sends = std::mem::take(&mut out.send);
        if self.sends_half(id, &sends, Point::MidSend) {
            return;
        }
        self.send(id, sends);
        if let Some(persist) = out.persist.take()
            && !self.persist(id, life, persist)
        {
            return;
        }
        if !self.tell(id, out, life) || self.strikes(id, Point::AfterCall) {
            return;
        }
        self.notice_removal(id);
        self.wake_in_time(id, life);
    }

    /// What may go once the order is with the store. False when the server ended meanwhile.
    fn tell(&mut self, id: u64, out: Output, life: u64) -> bool {
        if !out.replies.is_empty() && self.strikes(id, Point::BeforeReplies) {
            return false;
        }
        let half = out.replies.len() / 2;
        for (at, (ask, answer)) in out.replies.into_iter().enumerate() {
            if at == half && at > 0 && self.strikes(id, Point::MidReplies) {
                return false;
            }
            self.replied(id, ask, answer);
        }
        for (worker, desired) in out.desired {
            if !self.desired(id, worker, &desired) {
                return false;
            }
        }
        for (worker, judged) in out.verdicts {
            self.say(id, worker, Body::Answers(codec::answers(&judged)));
        }
        for worker in out.hang_up {
            self.hang_up(id, worker);
        }
        if out.hang_up_all {
            let all = self.streams.keys().filter(|(server, _)| *server == id);
            let workers: Vec<WorkerId> = all.map(|(_, worker)| *worker).collect();
            workers.into_iter().for_each(|worker| self.hang_up(id, worker));
        }
        if let Some(seen) = out.plan {
            self.note_shares(&seen);
            let plan = plan(&self.server(id).config.policy, &seen);
            let most = if self.calm {
                3 * MILLISECOND
            } else {
                self.faults.load.plan_max
            };
            let took = self.people_rng.within(100, most.max(100));
            self.after(
                took,
                Happening::Planned {
                    server: id,
                    life,
                    plan,
                },
            );
        }
        if !self.calls_cloud(id, life, out.calls) {
            return false;
        }
        out.snapshots
            .into_iter()
            .all(|order| self.send_snapshot(id, life, order))
    }

    fn wake_in_time(&mut self, id: u64, life: u64) {
        let now = self.now;
        let server = self.server(id);
        let Some(replica) = &server.replica else { return };
        let at = server.clocks.when(replica.wake_at()).max(now);
        if at < server.wake_at {
            server.wake_at = at;
            self.at(at, Happening::Wake { server: id, life });
        }
    }

    fn check_after(&mut self, id: u64, out: &Output) {
        let replica = self.servers[id as usize - 1]
            .replica
            .as_ref()
            .expect("it has just answered");
        let status = replica.status();
        let disk = &self.servers[id as usize - 1].disk;
        for (index, digest) in out.persist.iter().flat_map(|persist| &persist.digests) {
            self.checks.same_state(ReplicaId(id), *index, *digest);
        }
        self.checks.see(ReplicaId(id), self.now, &status, &out.events);
        self.checks.log(disk, &status);
        let leads = status.role == "leader";
        self.checks.fresh.stands(id, self.now, status.committed, leads);
        if !out.events.is_empty() {
            self.unchecked += 1;
            if self.unchecked * RECORDS_PER_CHECK >= disk.image().records() {
                self.unchecked = 0;
                records::check(replica.state());
                self.checks.note_books(replica.state());
            }
        }
        for (_, environment) in replica.state().environments.iter() {
            self.checks.books(environment);
        }
        let (environments, jobs) = (&replica.state().environments, &replica.state().jobs);
        self.checks.cluster(environments.waiting(), jobs.live_bytes());
        self.check_quorum(id, status.committed);
        self.check_version(id);
        let digest = status.digest.0;
        self.mix(&[
            id,
            status.term,
            status.applied,
            digest as u64,
            (digest >> 64) as u64,
        ]);
        if status.role == "leader" {
            self.note_leader(status.term, out);
        }
        self.note_output(id, out);
    }

    /// C3: what is committed is durable on a majority.
    fn check_quorum(&mut self, id: u64, committed: Index) {
        let before = self.host(id).voters.1.clone();
        self.note_voters(id);
        if committed <= self.checks.committed {
            return;
        }
        self.checks.committed = committed;
        let on_majority = |ids: &[ReplicaId]| {
            let mut durable: Vec<Index> = ids.iter().map(|id| self.durable(id.0)).collect();
            durable.sort_unstable();
            (durable.len().checked_sub(1)).map_or(Index::MAX, |last| durable[last / 2])
        };
        let agreed = |voters: &Voters| on_majority(&voters.incoming).min(on_majority(&voters.outgoing));
        // Those who counted before this call, or since: what was committed may have changed who counts.
        let on_disks = agreed(&before).max(agreed(&self.host(id).voters.1));
        if on_disks < committed {
            self.checks.violated(format!(
                "C3: server {id} took entry {committed} as committed; a majority has up to {on_disks} on disk"
            ));
        }
    }

    fn note_voters(&mut self, id: u64) {
        let server = &mut self.servers[id as usize - 1];
        let Some(state) = server.replica.as_ref().map(|replica| replica.state()) else {
            return;
        };
        let changed = state.meta().members_changed;
        if changed != server.voters.0 {
            server.voters = (changed, state.members.voters());
            self.checks.quorums.note(changed, &server.voters.1);
        }
    }

    /// What a server's disk has, or had when it was lost.
    fn durable(&self, id: u64) -> Index {
        let server = self.host(id);
        server.lost.unwrap_or_else(|| server.disk.durable().last_index())
    }

    pub(super) fn send(&mut self, from: u64, messages: Vec<(ReplicaId, Bytes)>) {
        for (to, bytes) in messages {
            self.check_promise(from, &bytes);
            let Ways { first, copy } = self.net.ways();
            if first.is_none() {
                self.count(Kind::Loss.name());
            }
            if copy.is_some() {
                self.count(Kind::Copies.name());
            }
            for way in first.into_iter().chain(copy) {
                if way >= 5 * MILLISECOND && !self.calm {
                    self.count(Kind::Delay.name());
                }
                let at = self.net.through(from, to.0, self.now + way);
                let (to, bytes) = (to.0, bytes.clone());
                self.at(at, Happening::Peer { from, to, bytes });
            }
        }
    }

    /// C3: no vote and no acknowledgement leaves before what it rests on is durable.
    fn check_promise(&mut self, from: u64, bytes: &Bytes) {
        let server = &self.servers[from as usize - 1];
        // What one says that lost its disk counts when it is heard, and must not be.
        if server.lost.is_none() {
            self.checks.promise(ReplicaId(from), server.disk.durable(), bytes);
        }
    }

    /// Sends half of what is to go and ends, if this is the moment for it.
    pub(super) fn sends_half(&mut self, id: u64, messages: &[(ReplicaId, Bytes)], point: Point) -> bool {
        if messages.len() < 2 || !self.is_armed(id, point) {
            return false;
        }
        self.send(id, messages[..messages.len() / 2].to_vec());
        self.strikes(id, point)
    }

    /// O5: nobody is refused for what waits when nothing does: no photo that has not ended, nothing on its way into the
    /// log or in it. A call looks at what is asked first and applies last, so that what waited may have ended by its end.
    fn check_refusal(&mut self, server: u64, ask: AskId, answer: &Result<Answer, Refused>) {
        let Err(Refused::Overloaded { what, .. }) = answer else {
            return;
        };
        if !what.contains("deadline") {
            return;
        }
        self.count("submits refused for their deadline");
        let of_server = (server, AskId(0))..=(server, AskId(u64::MAX));
        let mut others = self.asks.range(of_server).filter(|((_, other), _)| *other != ask);
        let asked = others.any(|(_, asker)| matches!(asker, Asker::Client { .. }));
        let host = self.server(server);
        if host.replica.is_some() && !asked && host.waited + host.waits() == 0 {
            let violation =
                format!("O5: server {server} refused a submit for its deadline, and nothing waits");
            self.checks.violated(violation);
        }
    }

    /// C5: an answer to a read counts in all that anybody took as committed when it was asked.
    fn check_read(&mut self, server: u64, ask: AskId, answer: &Result<Answer, Refused>) {
        let Some(committed) = self.reads.remove(&(server, ask)).filter(|_| answer.is_ok()) else {
            return;
        };
        self.count("reads compared with what was committed");
        let replica = self.server(server).replica.as_ref();
        let applied = replica.map_or(0, |replica| replica.state().applied());
        if applied < committed {
            let violation = format!(
                "C5: server {server} answered a read from index {applied}; {committed} was committed when it was asked"
            );
            self.checks.violated(violation);
        }
    }

    fn replied(&mut self, server: u64, ask: AskId, answer: Result<Answer, Refused>) {
        self.note_reply(&answer);
        self.check_refusal(server, ask, &answer);
        self.check_outlook(server, &answer);
        self.check_read(server, ask, &answer);
        let answer = Box::new(answer);
        match self.asks.remove(&(server, ask)) {
            Some(Asker::Client { client, tries }) => {
                if let Some(way) = self.net.ways().first {
                    let happening = Happening::Answered {
                        client,
                        tries,
                        answer,
                    };
                    self.after(way, happening);
                }
            }
            Some(Asker::Call { client, call }) => {
                if let Some(way) = self.net.ways().first {
                    let happening = Happening::CallAnswered { client, call, answer };
                    self.after(way, happening);
                }
            }
            Some(Asker::Agent { agent, stream }) => self.hello_answered(agent, stream, *answer),
            Some(Asker::Looker { client, look }) => self.looker_told(server, client, look, &answer),
            Some(Asker::Stranger { client }) => self.stranger_answered(client, &answer),
            Some(Asker::Transfer) => self.transfer_answered(server, &answer),
            Some(Asker::Operator) => self.operator_hears(&answer),
            None => {}
        }
    }
}
