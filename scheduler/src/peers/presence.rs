//! Which process speaks for each of the other servers. A data directory that was copied runs under one id and one
//! incarnation twice; only the number that each process draws at its start tells the two apart.
//!
//! Who came first stays while it speaks. One that was started again must never be locked out by what is left of the
//! process that it was: a stream that has ended counts for nothing, and a holder that says nothing while the newcomer
//! asks several times gives way. Nothing is told by a clock alone, so neither a pause of this server nor words that
//! waited in its buffers decide. A newcomer between whose tries the holder spoke again and again is proven to be a second
//! process, and refused for good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rebound_core::types::ReplicaId;

/// Tries of a newcomer closer together count as one.
pub const TRY_APART: Duration = Duration::from_millis(500);
/// A newcomer that did not try for so long begins anew.
const DOUBT_ENDS: Duration = Duration::from_secs(5);
/// After so many tries within which the holder said nothing it gives way. A line says something twice a second.
const SILENT_TRIES: u32 = 4;
/// After so many tries with a word of the holder between each two, both are alive.
const PROOFS: u32 = 8;

/// See the module.
#[derive(Default)]
pub struct Presence {
    seats: Mutex<BTreeMap<ReplicaId, Seat>>,
}

/// A process that says it is a server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Drawn at its start; 0: its build draws none, and it is let in unseen.
    pub boot: u64,
    /// Where it is, for people.
    pub at: String,
}

/// A process that was refused, since another one runs under its id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "boot: another process runs as server {id}: this one is at {}, the other one at {}. Their data directory was copied; \
     two that vote under one id can lose what was acknowledged. Stop one of them for good and delete its directory; one \
     more server gets an id of its own with `rebound operator add` and starts with --join", newcomer.at, holder.at
)]
pub struct Twin {
    /// The id of both.
    pub id: ReplicaId,
    /// Who is refused.
    pub newcomer: Process,
    /// Who stays.
    pub holder: Process,
    /// Both were heard in turn, so often that neither can be what is left of an ended process.
    pub proven: bool,
    /// Nobody was told of it yet.
    pub first: bool,
}

struct Seat {
    holder: Process,
    streams: usize,
    doubt: Option<Doubt>,
}

/// Somebody else asks for the seat.
struct Doubt {
    boot: u64,
    tried: Instant,
    silent: u32,
    proofs: u32,
    /// The holder spoke since the last try.
    heard: bool,
}

impl Doubt {
    fn begin(boot: u64, now: Instant) -> Doubt {
        Doubt {
            boot,
            tried: now,
            silent: 1,
            proofs: 0,
            heard: false,
        }
    }

    fn again(&mut self, now: Instant) {
        if now.saturating_duration_since(self.tried) < TRY_APART {
            return;
        }
        self.tried = now;
        if std::mem::take(&mut self.heard) {
            (self.silent, self.proofs) = (1, self.proofs.saturating_add(1));
        } else {
            self.silent += 1;
        }
    }

    fn goes_on(&self, boot: u64, now: Instant) -> bool {
        self.boot == boot && now.saturating_duration_since(self.tried) < DOUBT_ENDS
    }
}

impl Presence {
    /// A process opens a stream as this server.
    pub fn come(self: &Arc<Self>, id: ReplicaId, process: Process, now: Instant) -> Result<Stay, Box<Twin>> {
        let stay = Stay {
            presence: self.clone(),
            id,
            boot: process.boot,
        };
        if process.boot == 0 {
            return Ok(stay);
        }
        let mut seats = self.seats();
        let seat = seats.entry(id).or_insert_with(|| Seat {
            holder: process.clone(),
            streams: 0,
            doubt: None,
        });
        if seat.holder.boot == process.boot {
            seat.streams += 1;
            return Ok(stay);
        }
        if seat.streams > 0 {
            seat.refuses(id, &process, now)?;
            tracing::warn!(%id, from = %seat.holder.at, to = %process.at, "a silent process of a server gives way");
        }
        *seat = Seat {
            holder: process,
            streams: 1,
            doubt: None,
        };
        Ok(stay)
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Seat>> {
        // Nothing under this lock can leave it half changed.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// `Ok` when the holder gives way.
    fn refuses(&mut self, id: ReplicaId, newcomer: &Process, now: Instant) -> Result<(), Box<Twin>> {
        let mut first = false;
        match &mut self.doubt {
            Some(doubt) if doubt.goes_on(newcomer.boot, now) => doubt.again(now),
            doubt => {
                first = true;
                *doubt = Some(Doubt::begin(newcomer.boot, now));
            }
        }
        let (silent, proofs) = self.doubt.as_ref().map_or((0, 0), |d| (d.silent, d.proofs));
        if silent >= SILENT_TRIES {
            return Ok(());
        }
        Err(Box::new(Twin {
            id,
            newcomer: newcomer.clone(),
            holder: self.holder.clone(),
            proven: proofs >= PROOFS,
            first,
        }))
    }
}

/// A stream of a process, as long as it lasts.
pub struct Stay {
    presence: Arc<Presence>,
    id: ReplicaId,
    boot: u64,
}

impl Stay {
    /// The process said something. False when it had to give way: its stream ends.
    pub fn heard(&self) -> bool {
        if self.boot == 0 {
            return true;
        }
        let mut seats = self.presence.seats();
        let Some(seat) = seats
            .get_mut(&self.id)
            .filter(|seat| seat.holder.boot == self.boot)
        else {
            return false;
        };
        if let Some(doubt) = &mut seat.doubt {
            doubt.heard = true;
        }
        true
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut seats = self.presence.seats();
        if let Some(seat) = seats.get_mut(&self.id)
            && seat.holder.boot == self.boot
        {
            seat.streams -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ReplicaId = ReplicaId(2);

    fn process(boot: u64) -> Process {
        Process {
            boot,
            at: format!("place {boot}"),
        }
    }

    struct Scene {
        presence: Arc<Presence>,
        now: Instant,
    }

    impl Scene {
        fn new() -> Scene {
            Scene {
                presence: Arc::default(),
                now: Instant::now(),
            }
        }

        fn come(&mut self, boot: u64) -> Result<Stay, Box<Twin>> {
            self.now += TRY_APART;
            self.presence.come(ID, process(boot), self.now)
        }
    }

    #[test]
    fn one_that_was_started_again_comes_in_at_once_when_its_old_streams_have_ended() {
        let mut scene = Scene::new();
        let old = (scene.come(1).unwrap(), scene.come(1).unwrap());
        drop(old.0);
        assert!(scene.come(2).is_err(), "one stream is left");
        drop(old.1);
        let new = scene.come(2).unwrap();
        assert!(new.heard());
    }

    #[test]
    fn what_is_left_of_a_process_gives_way_after_a_few_tries() {
        let mut scene = Scene::new();
        let old = scene.come(1).unwrap();
        for _ in 1..SILENT_TRIES {
            assert!(!scene.come(2).err().unwrap().proven);
        }
        let new = scene.come(2).unwrap();
        assert!(!old.heard(), "it lost its place");
        drop(old);
        assert!(new.heard());
        assert!(
            scene.come(3).is_err(),
            "the end of the old one was not the new one's"
        );
    }

    #[test]
    fn tries_all_at_once_after_a_pause_of_this_server_make_nobody_give_way() {
        let mut scene = Scene::new();
        let old = scene.come(1).unwrap();
        for _ in 0..10 * SILENT_TRIES {
            assert!(scene.presence.come(ID, process(2), scene.now).is_err());
        }
        assert!(old.heard());
    }

    #[test]
    fn two_that_both_speak_are_told_for_good_and_the_first_stays() {
        let mut scene = Scene::new();
        let old = scene.come(1).unwrap();
        let mut refusals = Vec::new();
        for _ in 0..=PROOFS {
            refusals.push(*scene.come(2).err().unwrap());
            assert!(old.heard());
        }
        let proven: Vec<bool> = refusals.iter().map(|twin| twin.proven).collect();
        assert_eq!(proven.iter().filter(|proven| **proven).count(), 1, "{proven:?}");
        assert_eq!(proven.last(), Some(&true));
        assert_eq!(refusals.iter().filter(|twin| twin.first).count(), 1);
        let said = refusals[0].to_string();
        for word in ["server 2", "place 1", "place 2", "operator add"] {
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn words_that_waited_in_buffers_prove_nothing() {
        let mut scene = Scene::new();
        let old = scene.come(1).unwrap();
        assert!(scene.come(2).is_err());
        // This server stood still meanwhile, and reads now what the old one said before it ended.
        (0..100).for_each(|_| assert!(old.heard()));
        assert!(!scene.come(2).err().unwrap().proven);
        scene.now += DOUBT_ENDS;
        assert!(scene.come(2).err().unwrap().first, "it begins anew");
        drop(old);
        assert!(scene.come(2).is_ok());
    }

    #[test]
    fn builds_that_draw_no_number_come_and_go_as_before() {
        let mut scene = Scene::new();
        let old = scene.come(1).unwrap();
        let before = scene.come(0).unwrap();
        assert!(before.heard() && old.heard());
        drop(before);
        assert!(scene.come(2).is_err());
    }
}
