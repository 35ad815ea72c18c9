//! raft's `Ready`: what to send, what to write first, what to apply.

use bytes::Bytes;
use raft::eraftpb::{Entry as RaftEntry, Message, MessageType};
use raft::{ReadState, StateRole, Storage as _};

use super::members::{ConfStep, content};
use super::{Origin, Replica, decode_entry, is_continuous};
use crate::effects;
use crate::event::Verdict;
use crate::io::{Output, Persist};
use crate::leader::Leader;
use crate::limits::{HEARTBEAT_TICKS, STALL_MAX, TICK};
use crate::plant::Plant;
use crate::reply::{Refused, Reply};
use crate::state::{Applied, META_KEY};
use crate::types::{Index, PersistId, ReplicaId, Term};

/// An order that is with the store.
pub(super) struct InFlight {
    id: PersistId,
    /// When it was given, in µs that this replica has run.
    since: u64,
    /// raft's number of the last `Ready` that is durable once this order is.
    number: u64,
    /// It installs a snapshot: until it is durable raft must not be told that it is applied.
    installs: bool,
    /// Messages of later `Ready`s that had nothing to write but must not overtake this one.
    sends: Vec<(ReplicaId, Bytes)>,
}

impl Replica {
    /// An order is durable.
    pub(super) fn persisted(&mut self, id: PersistId, out: &mut Output) {
        let done = self.in_flight.pop_front().expect("an order that was given");
        assert_eq!(done.id, id, "orders come back in order");
        self.wrote(done.number);
        if done.installs {
            self.raft.advance_apply();
        }
        out.send.extend(done.sends);
    }

    /// Tells raft what is durable. A leader that removed itself, with its own disk slower than those of the others, has
    /// no place among the members for what it wrote, and raft takes for granted that a leader has one: such a leader
    /// stops here, and does not lead on until the others know.
    fn wrote(&mut self, number: u64) {
        let raft = &mut self.raft.raft;
        if raft.state == StateRole::Leader && raft.prs().get(raft.id).is_none() {
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        self.raft.on_persist_ready(number);
    }

    /// Takes one `Ready`, if there is one and the store has room for its order.
    pub(super) fn ready(&mut self, out: &mut Output) {
        let mut persist = Persist::default();
        if self.may_take_ready() {
            self.take_ready(&mut persist, out);
        }
        if self.halted.is_some() {
            return;
        }
        self.compact(&mut persist);
        persist.state.extend(self.state.settle());
        if !persist.sync && self.config.plant.is(Plant::AppliedApart) {
            persist.state.retain(|(key, _)| key[..] != META_KEY);
        }
        self.give_order(persist, out);
        self.answer_reads(out);
        self.desire(out);
    }

    /// True when raft has something to say and the store has room for its order.
    pub(super) fn may_take_ready(&self) -> bool {
        self.has_room() && self.raft.has_ready()
    }

    /// True when another order may be given: not too many are under way, and no snapshot is being installed.
    pub(super) fn has_room(&self) -> bool {
        let most = if self.is_overdue() {
            self.config.limits.persists_in_flight_max
        } else {
            self.config.limits.persists_in_flight
        };
        self.in_flight.len() < most && !self.is_installing()
    }

    /// True when raft has not been let speak for as long as a heartbeat: its messages come with its entries, and
    /// nobody is to be taken for dead because of a slow sync. A disk that stands still for longer does silence its
    /// server, since a leader that cannot write cannot answer either.
    fn is_overdue(&self) -> bool {
        let silent = self.elapsed.saturating_sub(self.spoke_at) >= HEARTBEAT_TICKS as u64 * TICK;
        let oldest = self.in_flight.front().map_or(self.elapsed, |order| order.since);
        silent && self.elapsed.saturating_sub(oldest) < STALL_MAX
    }

    /// True while a snapshot is with the store and not yet durable.
    pub(super) fn is_installing(&self) -> bool {
        self.in_flight.iter().any(|order| order.installs)
    }

    fn take_ready(&mut self, persist: &mut Persist, out: &mut Output) {
        self.spoke_at = self.elapsed;
        let mut ready = self.raft.ready();
        if let Some(soft) = ready.ss() {
            let leads = soft.raft_state == StateRole::Leader;
            self.role_changed(leads, out);
        }
        let messages = ready.take_messages();
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot(), persist, out);
        }
        let committed = ready.take_committed_entries();
        let steps = self.apply_entries(&committed, persist, out);
        if self.halted.is_some() {
            return;
        }
        // After applying: a snapshot describes the state as this output leaves it on disk.
        let (snapshots, messages) = messages.into_iter().partition(is_snapshot);
        self.send_snapshots(snapshots, persist, out);
        self.send(messages, &mut out.send);
        self.raft.mut_store().append(ready.entries());
        let bytes = |entry: &RaftEntry| (entry.index, write(entry));
        persist.entries = ready.entries().iter().map(bytes).collect();
        if let Some(hard) = ready.hs() {
            self.raft.mut_store().hard_state = hard.clone();
        }
        if let Some(hard) = ready.hs().filter(|_| !self.config.plant.is(Plant::VoteUnsaved)) {
            persist.hard_state = Some(write(hard));
        }
        let hurries = self.config.plant.is(Plant::AckBeforeFsync);
        persist.sync = ready.must_sync() && !hurries || persist.install.is_some();
        for read in ready.take_read_states() {
            self.read_confirmed(&read);
        }
        let (snapshots, after) = ready.take_persisted_messages().into_iter().partition(is_snapshot);
        self.send_snapshots(snapshots, persist, out);
        match hurries {
            true => self.send(after, &mut out.send),
            false => self.send(after, &mut persist.sends_after),
        }
        let number = ready.number();
        self.raft.advance_append_async(ready);
        self.adopt(steps);
        if persist.install.is_none() || self.config.plant.is(Plant::InstallUnawaited) {
            self.raft.advance_apply();
        }
        self.note_number(number, persist, out);
    }

    /// A `Ready` with nothing to make durable is durable with the order before it, or at once.
    fn note_number(&mut self, number: u64, persist: &mut Persist, out: &mut Output) {
        let nothing = persist.entries.is_empty() && persist.hard_state.is_none() && persist.install.is_none();
        if !nothing {
            self.in_flight.push_back(InFlight {
                id: self.next_persist,
                since: self.elapsed,
                number,
                installs: persist.install.is_some(),
                sends: Vec::new(),
            });
            if self.config.plant.is(Plant::OwnSyncSkipped) {
                self.raft.on_persist_ready(number);
            }
            return;
        }
        let sends = std::mem::take(&mut persist.sends_after);
        match self.in_flight.back_mut() {
            Some(_) if self.config.plant.is(Plant::AckOvertakes) => out.send.extend(sends),
            Some(before) => {
                before.number = number;
                before.sends.extend(sends);
            }
            None => {
                self.wrote(number);
                out.send.extend(sends);
            }
        }
    }

    /// Hands the order out. One without anything to make durable is not answered, so it takes no place in flight.
    fn give_order(&mut self, mut persist: Persist, out: &mut Output) {
        persist.id = self.next_persist;
        if self.in_flight.back().is_some_and(|last| last.id == persist.id) {
            self.next_persist.0 += 1;
            out.persist = Some(persist);
        } else if !persist.is_empty() {
            persist.id = PersistId(0);
            out.persist = Some(persist);
        }
    }

    fn role_changed(&mut self, leads: bool, out: &mut Output) {
        let term = self.raft.raft.term;
        if leads && self.leader.as_ref().is_some_and(|leader| leader.term == term) {
            return;
        }
        if self.leader.take().is_some() {
            out.hang_up_all = true;
            self.step_down(out);
        }
        if leads {
            self.leader = Some(Leader::new(
                term,
                self.state.now(),
                self.now,
                self.config.clock_rate,
                self.config.plant,
            ));
        }
    }

    /// raft may have stepped down while the store stands still and no `Ready` is taken: the leader's duties end at
    /// once, or workers would go on speaking to a leader that is none while their leases run out at the next.
    pub(super) fn notice_lost_lead(&mut self, out: &mut Output) {
        let raft = &self.raft.raft;
        let leads = |leader: &Leader| raft.state == StateRole::Leader && raft.term == leader.term;
        if self.leader.as_ref().is_some_and(|leader| !leads(leader)) {
            self.role_changed(false, out);
        }
    }

    /// All that was asked of this leader is unknown, or not begun.
    fn step_down(&mut self, out: &mut Output) {
        for origin in self.pending.end() {
            self.answer_origin(origin, Err(Refused::Unknown), out);
        }
        // The driver ends them, and says nothing of it.
        self.snapshots_out.clear();
        let leader = self.leader_id();
        while let Some((_, proposal)) = self.waiting.pop(0, 0) {
            self.answer_origin(proposal.origin, Err(Refused::NotLeader { leader }), out);
        }
        for ask in self.asks.stop_reads() {
            self.answer(ask, Err(Refused::NotLeader { leader }), out);
        }
    }

    fn send_snapshots(&mut self, messages: Vec<Message>, persist: &mut Persist, out: &mut Output) {
        for message in messages {
            let order = self.snapshot_order(message, persist);
            out.snapshots.push(order);
        }
    }

    fn send(&mut self, messages: Vec<Message>, to: &mut Vec<(ReplicaId, Bytes)>) {
        for mut message in messages {
            if !is_continuous(&message) && !self.mend(&mut message) {
                continue;
            }
            match message.get_msg_type() {
                MessageType::MsgAppend => split(message, self.config.limits.raft_message_bytes, to),
                MessageType::MsgHeartbeat => {
                    self.stamp_heartbeat(&mut message);
                    to.push((ReplicaId(message.to), write(&message)));
                }
                MessageType::MsgHeartbeatResponse => {
                    self.stamp_answer(&mut message);
                    to.push((ReplicaId(message.to), write(&message)));
                }
                _ => to.push((ReplicaId(message.to), write(&message))),
            }
        }
    }

    /// Gives an append the index its entries follow; see [`is_continuous`]. False when that entry is no longer here:
    /// then the message is dropped, as if lost, and raft goes back by itself.
    fn mend(&self, message: &mut Message) -> bool {
        let Some(before) = message
            .get_entries()
            .first()
            .and_then(|first| first.index.checked_sub(1))
        else {
            return false;
        };
        let Ok(term) = self.raft.store().term(before) else {
            return false;
        };
        message.index = before;
        message.log_term = term;
        true
    }

    /// Applies entries; what raft must be told of those that changed who is a member.
    fn apply_entries(
        &mut self,
        entries: &[RaftEntry],
        persist: &mut Persist,
        out: &mut Output,
    ) -> Vec<ConfStep> {
        let mut steps = Vec::new();
        for entry in entries {
            let skips = self.config.plant.is(Plant::UnknownSkipped);
            let mut decoded = match decode_entry(content(entry)) {
                _ if skips && self.is_unknown(content(entry)) => None,
                Ok(decoded) => decoded,
                Err(_) if self.halts_at(content(entry)) => return steps,
                // Skipping an entry would make this replica another state machine: it must stop.
                Err(why) => panic!("log entry {} cannot be applied: {why}", entry.index),
            };
            if self.config.plant.is(Plant::LocalClock) {
                decoded.iter_mut().for_each(|entry| entry.at = self.now.wall);
            }
            if decoded.as_ref().is_some_and(|entry| self.halts_before(entry)) {
                return steps;
            }
            let applied = self.state.apply(entry.index, entry.term, decoded.as_ref());
            steps.extend(self.conf_step(entry));
            self.applied(entry.index, entry.term, applied, persist, out);
            if entry.index % self.config.limits.digest_every == 0 {
                persist.state.extend(self.state.settle());
                persist.digests.push((entry.index, self.state.digest()));
            }
        }
        if let Some(last) = entries.last() {
            self.raft.mut_store().applied = (last.index, last.term);
        }
        steps
    }

    fn applied(
        &mut self,
        index: Index,
        term: Term,
        applied: Applied,
        persist: &mut Persist,
        out: &mut Output,
    ) {
        let Applied {
            reply,
            events,
            kept,
            kept_gone,
            matured,
        } = applied;
        persist.kept.extend(kept);
        persist.kept_gone.extend(kept_gone);
        self.barrier(term);
        if let Some(leader) = &mut self.leader {
            let spec_of = |job| self.state.jobs.get(job).map(|(_, job)| job.spec);
            for event in &events {
                leader.brakes.note(event, self.elapsed, spec_of);
                leader.note_arrival(event, &self.state);
            }
            leader.plan_wanted |= matured || !events.is_empty();
            leader.fleet_wanted |= !events.is_empty();
            leader.clock.follow(self.state.now());
            leader.expiring &= !matches!(reply, Ok(Reply::Expired { .. }));
            leader.counting_late &= !matches!(reply, Ok(Reply::Overdue { .. }));
        }
        if let Ok(Reply::Ended { worker, verdicts }) = &reply
            && self.leader.is_some()
        {
            let mut verdicts = verdicts.clone();
            if self.config.plant.is(Plant::StaleUnanswered) {
                verdicts.retain(|judged| judged.verdict == Verdict::Recorded);
            }
            out.verdicts.push((*worker, verdicts));
        }
        self.note_speed(&events);
        self.watchers_of(&events, out);
        out.events.extend(events);
        if let Some((proposed, origin)) = self.pending.remove(index, self.elapsed) {
            match proposed == term {
                true => self.entry_applied(origin, reply, out),
                // Another leader's entry took its place.
                false => self.answer_origin(origin, Err(Refused::Unknown), out),
            }
        }
    }

    /// The first applied entry of its own term makes a leader ready.
    fn barrier(&mut self, term: Term) {
        let elapsed = self.elapsed;
        let now = self.now;
        let state_now = self.state.now();
        if let Some(leader) = self
            .leader
            .as_mut()
            .filter(|leader| !leader.ready && leader.term == term)
        {
            leader.ready = true;
            leader.ready_at = if self.config.plant.is(Plant::FailoverExpires) {
                0
            } else {
                elapsed
            };
            leader.clock = crate::leader::Clock::new(state_now, now, self.config.clock_rate);
            self.state.unripen();
        }
    }

    fn entry_applied(
        &mut self,
        origin: Origin,
        reply: Result<Reply, crate::reply::Rejected>,
        out: &mut Output,
    ) {
        if let Some(leader) = &mut self.leader {
            if origin == Origin::Plan {
                leader.planning = false;
                leader.plan_wanted = true;
            }
            if origin == Origin::Scale {
                leader.scaling = false;
                leader.fleet_wanted = true;
            }
        }
        self.answer_origin(origin, reply.map_err(Refused::Rejected), out);
    }

    /// Cuts the log, never past what a snapshot under way needs after it.
    fn compact(&mut self, persist: &mut Persist) {
        let applied = self.state.applied();
        let keep = self.config.log_keep;
        let log = self.raft.store();
        let full = log.bytes() > self.config.limits.log_cache_bytes;
        if applied + 1 < log.first() + keep && !full {
            return;
        }
        let kept_behind = if full { 0 } else { keep / 2 };
        let needed = self.log_needed_after();
        let target = match self.config.plant.is(Plant::LogCutUnapplied) {
            true => log.last(),
            false => applied.saturating_sub(kept_behind).min(needed),
        };
        persist.compacted = self.raft.mut_store().compact(target);
    }

    /// Desired sets of workers whose runs changed and who have spoken to this leader.
    fn desire(&mut self, out: &mut Output) {
        let touched = self.state.runs.take_touched();
        let Some(leader) = self.leader.as_ref().filter(|leader| leader.ready) else {
            return;
        };
        let mut wanted = std::mem::take(&mut self.asks.welcomed);
        wanted.extend(touched);
        for worker in wanted
            .into_iter()
            .filter(|worker| leader.heard.contains_key(worker))
        {
            match self.state.workers.live(worker).is_some() {
                true => out
                    .desired
                    .push((worker, effects::desired(&self.state, worker, leader.term))),
                false => out.hang_up.push(worker),
            }
        }
    }

    pub(super) fn read_confirmed(&mut self, read: &ReadState) {
        let Some(context) = read
            .request_ctx
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes))
        else {
            return;
        };
        self.asks.confirmed(context, read.index);
        if let Some(leader) = &mut self.leader {
            leader.calls.answered(context);
        }
    }
}

fn is_snapshot(message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgSnapshot
}

fn write(message: &impl protobuf::Message) -> Bytes {
    Bytes::from(message.write_to_bytes().expect("a vector takes any message"))
}

/// `batch_append` adds entries to an append that waits, without a bound: it leaves in pieces of so many bytes, or of
/// one entry.
fn split(mut message: Message, most: u64, to: &mut Vec<(ReplicaId, Bytes)>) {
    let receiver = ReplicaId(message.to);
    let mut rest: Vec<RaftEntry> = message.take_entries().into();
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        while count < rest.len() && (count == 0 || bytes + rest[count].data.len() as u64 <= most) {
            bytes += rest[count].data.len() as u64;
            count += 1;
        }
        let tail = rest.split_off(count);
        let last = rest
            .last()
            .map(|entry| (entry.index, entry.term))
            .unwrap_or_default();
        let mut piece = message.clone();
        piece.set_entries(rest.into());
        to.push((receiver, write(&piece)));
        if tail.is_empty() {
            return;
        }
        (message.index, message.log_term) = last;
        rest = tail;
    }
    to.push((receiver, write(&message)));
}

#[cfg(test)]
mod tests {
    use protobuf::Message as _;

    use super::*;
    use crate::limits::RAFT_MESSAGE_BYTES;

    fn append(sizes: &[usize]) -> Message {
        let mut message = Message::default();
        (message.to, message.index, message.log_term, message.commit) = (2, 10, 3, 9);
        let entries = (11..).zip(sizes).map(|(index, size)| {
            let mut entry = RaftEntry::default();
            (entry.index, entry.term, entry.data) = (index, 4, vec![7; *size].into());
            entry
        });
        message.set_entries(entries.collect::<Vec<_>>().into());
        message
    }

    fn pieces(sizes: &[usize]) -> Vec<Message> {
        let mut to = Vec::new();
        split(append(sizes), RAFT_MESSAGE_BYTES, &mut to);
        to.iter()
            .map(|(_, bytes)| Message::parse_from_carllerche_bytes(bytes).unwrap())
            .collect()
    }

    #[test]
    fn appends_leave_in_pieces_that_follow_one_another() {
        let big = RAFT_MESSAGE_BYTES as usize;
        let pieces = pieces(&[big / 2, big / 2, 1, big, big]);
        let shape: Vec<_> = pieces
            .iter()
            .map(|m| (m.index, m.log_term, m.commit, m.get_entries().len()))
            .collect();
        assert_eq!(
            shape,
            [(10, 3, 9, 2), (12, 4, 9, 1), (13, 4, 9, 1), (14, 4, 9, 1)]
        );
        assert!(pieces.iter().all(is_continuous));
    }

    #[test]
    fn an_append_without_entries_leaves_as_it_is() {
        let pieces = pieces(&[]);
        assert_eq!(pieces.len(), 1);
        assert_eq!((pieces[0].index, pieces[0].commit), (10, 9));
    }
}
