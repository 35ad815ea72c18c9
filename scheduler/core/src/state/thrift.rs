//! Money watched: brakes that stop launches when photos become much dearer than they were, or when the cloud's bill is
//! another one than the cluster's own.

use super::control::Brake;
use super::outcomes::Ended;
use super::spend::{Hour, hour_of};
use super::{Context, State};
use crate::bill::cost;
use crate::event::Fact;
use crate::limits::{BILL_HOURS, BILL_LEAST, BILL_OPEN_HOURS, BILLED_PER_ENTRY_MAX, WEEK_PHOTOS_LEAST};
use crate::reply::{Rejected, Reply};
use crate::scaling::WHOLE;
use crate::types::{EnvId, InstanceId};

/// The newest hours, that photos' cost is taken from: this one and the one before.
const RECENT_HOURS: u64 = 2;
/// What is spent in these is nobody's concern below one part in so many of an hour's cap.
const LEAST_PART: u64 = 4;

impl State {
    /// Attempts ended on a machine that was bought: what their time cost is their job's.
    pub(super) fn count_cost(&mut self, context: &Context, ended: &Ended) {
        let Some((_, machine)) = self.machines.of_worker(ended.worker) else {
            return;
        };
        let photos = ended.rows.len();
        let name = self.recogniser_of(ended);
        let speed = self.measures.get(&name, &machine.pool.instance_type);
        let took = speed.map_or(0, |speed| speed.us_per_photo.saturating_mul(photos));
        let money = cost(machine.price, took);
        if ended.cause.is_none() {
            self.spend.note_photos(context.at, photos);
            self.note_first_result(context, ended);
        }
        if money > 0 {
            if let Some(job) = self.jobs.get_mut(ended.env, ended.job) {
                job.cost = job.cost.saturating_add(money);
            }
            self.environments.count_cost(ended.env, money, context.at);
        }
    }

    /// Why a photo's cost stops launches now: millionths of USD for a thousand photos, lately and in the week before.
    fn dear_photos(&self, context: &Context) -> Option<Brake> {
        let control = self.control.get();
        let times = u64::from(control.scaling.brakes.photo_cost);
        let now = hour_of(context.at);
        let recent_from = (now + 1).saturating_sub(RECENT_HOURS);
        if times == 0 || control.thawed.is_some_and(|at| hour_of(at) >= recent_from) {
            return None;
        }
        let before = recent_from.checked_sub(1)?;
        let (recent, week) = (self.spend.sum(recent_from..=now), self.spend.sum(0..=before));
        let is_little = recent.money < control.scaling.caps.hour / LEAST_PART;
        if is_little || week.photos < WEEK_PHOTOS_LEAST || week.money == 0 {
            return None;
        }
        let (lately, before) = (recent.a_thousand(), week.a_thousand());
        (lately > before.saturating_mul(times)).then_some(Brake::PhotoCost { lately, before })
    }

    /// Stops launches when photos are too dear; asked before machines are bought.
    pub(super) fn brake_dear_photos(&mut self, context: &mut Context) {
        if self.control.get().brake.is_none()
            && let Some(brake) = self.dear_photos(context)
        {
            self.brake(context, brake);
        }
    }

    /// Launches stop until a person says otherwise.
    pub(super) fn brake(&mut self, context: &mut Context, brake: Brake) {
        self.control.get_mut().brake = Some((brake, context.at));
        context.tell(EnvId::default(), None, Fact::Braked { brake });
    }

    /// The cloud says what hours cost. Those that are over are held against the cluster's own books.
    pub(super) fn billed(&mut self, context: &mut Context, hours: &[(u64, u64)]) -> Result<Reply, Rejected> {
        let now = hour_of(context.at);
        // What runs is in the books up to its last price only.
        let live: Vec<InstanceId> = self.machines.live().map(|(id, _)| id.clone()).collect();
        for id in live {
            self.pay(&id, context.at);
        }
        for (hour, money) in hours.iter().take(BILLED_PER_ENTRY_MAX) {
            if *hour < now {
                self.spend.note_billed(*hour, *money);
            }
        }
        let control = self.control.get();
        let apart = u64::from(control.scaling.brakes.bill_apart);
        let from = now.saturating_sub(BILL_HOURS);
        let from = from.max(control.thawed.map_or(0, |at| hour_of(at) + 1));
        let known = |hour: &&Hour| hour.billed.is_some();
        let mut sums = (0u64, 0u64);
        let last = now.saturating_sub(1 + BILL_OPEN_HOURS);
        for hour in self.spend.range(from..=last).map(|(_, hour)| hour).filter(known) {
            sums.0 = sums.0.saturating_add(hour.money);
            sums.1 = sums.1.saturating_add(hour.billed.unwrap_or(0));
        }
        let (ledger, billed) = sums;
        let least = ledger.max(billed).saturating_mul(apart) / u64::from(WHOLE);
        let differ = ledger.abs_diff(billed);
        if apart > 0 && differ > least.max(BILL_LEAST) && control.brake.is_none() {
            self.brake(context, Brake::Bill { ledger, billed });
        }
        Ok(Reply::Done)
    }
}
