//! J4: a worker that speaks in time keeps its session, whoever leads.

use std::collections::BTreeMap;

use rebound_core::types::{SECOND, WorkerId};

/// A silence may be this old when the entry that ends the session is applied: it was proposed, and had to be
/// committed through whatever happened meanwhile.
const OLD: u64 = 300 * SECOND;

/// A leader that hears no majority steps down within so much time, in µs.
const TWO_LEADERS: u64 = 3 * SECOND;

/// When each worker last spoke, and when it was last silent for a lease.
pub struct Leases {
    silence: u64,
    spoke: BTreeMap<WorkerId, (u64, Option<u64>)>,
    /// When the only server stood still, from when to when.
    still: Vec<(u64, u64)>,
}

impl Leases {
    /// No session ends without so much silence. By the world's time a lease may be a little shorter, since the
    /// leader's clock may be a twentieth fast; and a worker may still speak to a leader that has a successor, who
    /// counts lease and grace from when it was ready.
    pub fn new(lease: u64, grace: u64) -> Leases {
        let silence = lease.min((lease + grace).saturating_sub(TWO_LEADERS));
        Leases {
            silence: silence * 94 / 100,
            spoke: BTreeMap::new(),
            still: Vec::new(),
        }
    }

    /// The only server stands still: nobody can speak to it, which is no worker's silence.
    pub fn stands_still(&mut self, from: u64, until: u64) {
        self.still.push((from, until));
    }

    /// It does so no longer, since it has ended.
    pub fn goes_on(&mut self, at: u64) {
        self.still
            .iter_mut()
            .for_each(|(_, until)| *until = at.min(*until));
    }

    /// How long a worker was silent that could have spoken.
    fn silent_for(&self, from: u64, to: u64) -> u64 {
        let (mut silent, mut counted) = (to - from, from);
        for (begin, end) in &self.still {
            let (begin, end) = (counted.max(*begin), to.min(*end));
            silent -= end.saturating_sub(begin);
            counted = counted.max(end);
        }
        silent
    }

    /// Its session begins. Whoever asked for it may be gone, and then nobody speaks until it is asked for again.
    pub fn joined(&mut self, worker: WorkerId, at: u64) {
        self.spoke.entry(worker).or_insert((at, None));
    }

    /// It speaks.
    pub fn heard(&mut self, worker: WorkerId, at: u64) {
        let (spoke, silent) = self.spoke.get(&worker).copied().unwrap_or((at, None));
        let was_silent = self.silent_for(spoke, at) >= self.silence;
        let silent = if was_silent { Some(at) } else { silent };
        self.spoke.insert(worker, (at, silent));
    }

    /// For a worker that was lost by silence and was not silent: how long ago it spoke, in µs.
    pub fn was_never_silent(&self, worker: WorkerId, at: u64) -> Option<u64> {
        let (spoke, silent) = self.spoke.get(&worker)?;
        let lately = silent.is_some_and(|silent| at - silent <= OLD);
        (self.silent_for(*spoke, at) < self.silence && !lately).then_some(at - spoke)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lease_of_silence_ends_a_session() {
        let worker = WorkerId(1);
        let mut leases = Leases::new(10 * SECOND, 60 * SECOND);
        (0..30).for_each(|second| leases.heard(worker, second * SECOND));
        assert_eq!(leases.was_never_silent(worker, 31 * SECOND), Some(2 * SECOND));
        assert_eq!(
            leases.was_never_silent(worker, 40 * SECOND),
            None,
            "it fell silent"
        );
        leases.heard(worker, 45 * SECOND);
        assert_eq!(
            leases.was_never_silent(worker, 46 * SECOND),
            None,
            "it was, and came back"
        );
    }

    #[test]
    fn a_session_that_nobody_took_is_silent_from_its_beginning() {
        let worker = WorkerId(1);
        let mut leases = Leases::new(10 * SECOND, 60 * SECOND);
        leases.joined(worker, 0);
        leases.heard(worker, 11 * SECOND);
        leases.joined(worker, 11 * SECOND);
        assert_eq!(leases.was_never_silent(worker, 12 * SECOND), None);
        leases.joined(WorkerId(2), 11 * SECOND);
        assert_eq!(leases.was_never_silent(WorkerId(2), 12 * SECOND), Some(SECOND));
    }

    #[test]
    fn a_server_that_stands_still_makes_nobody_silent() {
        let worker = WorkerId(1);
        let mut leases = Leases::new(10 * SECOND, 60 * SECOND);
        leases.heard(worker, 0);
        leases.stands_still(SECOND, 50 * SECOND);
        leases.stands_still(20 * SECOND, 60 * SECOND);
        assert_eq!(leases.was_never_silent(worker, 62 * SECOND), Some(62 * SECOND));
        leases.goes_on(30 * SECOND);
        assert_eq!(leases.was_never_silent(worker, 62 * SECOND), None, "it ran again");
    }
}
