//! A disk as RocksDB uses one: a log of batches, some of them synced. A loss of power keeps everything up to the last
//! sync and any prefix of what follows, perhaps with a torn record behind it. A process that ends takes with it only
//! what it has not written.

use std::collections::VecDeque;

use rebound_core::io::Persist;
use rebound_core::replica::{Recovered, parse_log_entry};
use rebound_core::state::Plant;

use crate::rng::Rng;

pub mod batch;
pub mod image;
pub mod rot;

use batch::Batch;
pub use image::Image;
pub use rot::{Damage, Place};

/// What happens to what was written and not yet synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process ended: the system has it all.
    Nothing,
    /// A prefix of batches survives.
    Batches,
    /// A prefix of bytes survives: the record it ends in is torn.
    Bytes,
}

/// What was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Batches with anything in them.
    pub batches: usize,
    /// A record began and did not end.
    pub torn: bool,
}

/// One server's disk.
#[derive(Default)]
pub struct Disk {
    durable: Image,
    /// Written, not yet durable.
    tail: VecDeque<(u64, Batch)>,
    current: Image,
    orders: u64,
    plant: Plant,
}

impl Disk {
    /// With the mistake of a planted bug that is the disk's driver's.
    pub fn planted(self, plant: Plant) -> Disk {
        Disk { plant, ..self }
    }

    /// What a reader sees now, durable or not.
    pub fn image(&self) -> &Image {
        &self.current
    }

    /// What any loss of power leaves.
    pub fn durable(&self) -> &Image {
        &self.durable
    }

    /// Writes the first batch of an order, which is to be synced; returns the order's number. `received` is the
    /// snapshot an install means.
    pub fn write_first(&mut self, order: &mut Persist, received: Option<Image>) -> u64 {
        self.orders += 1;
        if self.plant.is(Plant::HardStateApart) {
            let apart = Batch {
                hard_state: order.hard_state.take(),
                ..Batch::default()
            };
            self.push(2 * self.orders, apart);
        }
        self.push(2 * self.orders, Batch::first(order, received));
        self.orders
    }

    /// Writes the rest of the order.
    pub fn write_second(&mut self, order: &mut Persist) {
        self.push(2 * self.orders + 1, Batch::second(order));
    }

    fn push(&mut self, number: u64, batch: Batch) {
        self.current.write(&batch);
        self.tail.push_back((number, batch));
    }

    /// The order's first batch is durable, and all that was written before it.
    pub fn synced(&mut self, order: u64) {
        while self.tail.front().is_some_and(|(number, _)| *number <= 2 * order) {
            let (_, batch) = self.tail.pop_front().expect("just seen");
            self.durable.write(&batch);
        }
    }

    /// The process or the machine ends.
    pub fn crash(&mut self, loss: Loss, rng: &mut Rng) -> Lost {
        let all = self.tail.len();
        let (survive, torn) = match loss {
            Loss::Nothing => (all, false),
            Loss::Batches => (rng.within(0, all as u64) as usize, false),
            Loss::Bytes => self.tear(rng),
        };
        let lost = self
            .tail
            .iter()
            .skip(survive)
            .filter(|(_, batch)| !batch.is_empty())
            .count();
        for (_, batch) in self.tail.drain(..).take(survive) {
            self.durable.write(&batch);
        }
        if lost > 0 || all > survive {
            self.current = self.durable.clone();
        }
        Lost { batches: lost, torn }
    }

    /// The log of writes after the last sync as bytes, cut anywhere: records whose checksum holds survive.
    fn tear(&self, rng: &mut Rng) -> (usize, bool) {
        let mut log = Vec::new();
        for (_, batch) in &self.tail {
            batch.frame(&mut log);
        }
        log.truncate(rng.within(0, log.len() as u64) as usize);
        let garbage = rng.within(0, 3) == 0 && !log.is_empty();
        if garbage {
            // A sector of the last record was written in another order, or half.
            let at = log.len() - 1 - rng.within(0, (log.len() as u64 - 1).min(511)) as usize;
            log[at] ^= 0x5a;
        }
        let (whole, rest) = batch::whole_frames(&log);
        (whole, rest > 0)
    }

    /// Damages one record that is durable; false when there is none.
    pub fn rot(&mut self, rng: &mut Rng) -> Option<Place> {
        let place = self.durable.any_place(rng)?;
        let same = self.current.record(&place) == self.durable.record(&place);
        let bit = rng.any();
        self.durable.damage(&place, bit);
        if same {
            self.current.damage(&place, bit);
        }
        Some(place)
    }

    /// The good copy of what was damaged is put back.
    pub fn restore(&mut self) {
        self.durable.restore();
        self.current.restore();
    }

    /// What a server finds when it starts; a record whose checksum does not hold keeps it from starting.
    pub fn recover(&self, plant: Plant) -> Result<Recovered, Damage> {
        let image = &self.current;
        image.verify(|place| !matches!(place, Place::Kept(_)))?;
        let mut entries = Vec::new();
        for (at, (index, bytes)) in image.log.iter().enumerate() {
            assert_eq!(
                *index,
                image.compacted.0 + 1 + at as u64,
                "the log on disk has no gap"
            );
            assert_eq!(parse_log_entry(bytes).expect("readable").0, *index);
            entries.push(bytes.clone());
        }
        let state = image.load_state(plant).expect("records of our own are readable");
        Ok(Recovered {
            hard_state: image.hard_state.clone(),
            compacted: image.compacted,
            entries,
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn order(index: u64) -> Persist {
        Persist {
            entries: vec![(index, Bytes::from(vec![index as u8; 40]))],
            state: vec![(vec![index as u8], Some(vec![1]))],
            ..Persist::default()
        }
    }

    fn written(orders: u64) -> Disk {
        let mut disk = Disk::default();
        for index in 1..=orders {
            let mut order = order(index);
            disk.write_first(&mut order, None);
            disk.write_second(&mut order);
        }
        disk
    }

    #[test]
    fn a_loss_of_power_leaves_a_prefix_and_never_less_than_was_synced() {
        for seed in 0..200 {
            let mut disk = written(4);
            disk.synced(2);
            let lost = disk.crash(Loss::Bytes, &mut Rng::new(seed));
            let (log, state) = (disk.image().log.len() as u64, disk.image().state.len() as u64);
            assert!(log >= 2, "what was synced is there");
            assert!(
                state == log || state + 1 == log,
                "entries come before their state"
            );
            assert!(lost.batches > 0 || (log, state) == (4, 4));
        }
    }

    #[test]
    fn a_process_that_ends_loses_nothing_it_has_written() {
        let mut disk = written(3);
        assert_eq!(disk.crash(Loss::Nothing, &mut Rng::new(1)), Lost::default());
        assert_eq!(disk.image().log.len(), 3);
    }

    #[test]
    fn rot_is_found_by_its_checksum_and_undone_by_a_good_copy() {
        let mut disk = written(3);
        disk.synced(3);
        let place = disk.rot(&mut Rng::new(7)).expect("there are records");
        assert!(disk.image().verify(|_| true).is_err(), "{place:?}");
        disk.restore();
        assert!(disk.image().verify(|_| true).is_ok());
    }
}
