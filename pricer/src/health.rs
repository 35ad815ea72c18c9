//! Whether a feed of prices can be believed, and what stands in for it when not.
//!
//! A feed that is gone, frozen or absurd, or a pool whose newest price was refused, is covered by the last good price
//! for [`LAST_GOOD_FOR`], and then by the on-demand price: the most that the machine can be worth. Each answer says
//! which of these it is and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rebound_core::types::{MicroUsd, Pool, SECOND, Time};
use serde::Serialize;

use crate::book::{NotBuyable, PriceBook, Refused};
use crate::limits::{
    ABSURD_BATCH_PERMILLE, CHANGES_A_DAY_EXPECTED, FROZEN_AFTER_LEAST, FROZEN_CHANGES, GONE_AFTER,
    LAST_GOOD_FOR,
};
use crate::money::permille;
use crate::series::Noted;

const DAY: u64 = 24 * 3_600 * SECOND;

/// One price as a source told it: not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The pool.
    pub pool: Pool,
    /// When the price began.
    pub at: Time,
    /// USD an hour, in millionths; a source may say anything.
    pub micros: i64,
    /// The line it stood in, from 1; 0 where there are no lines.
    pub line: u64,
}

/// How a feed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Health {
    /// Believed.
    Live,
    /// Nothing was ever heard.
    Never,
    /// Silent since then.
    Gone {
        /// When it last spoke.
        since: Time,
    },
    /// It speaks, and says the same while changes must have come.
    Frozen {
        /// When a price last changed.
        since: Time,
    },
    /// Too much of what it says cannot be true.
    Absurd {
        /// Since when.
        since: Time,
        /// Refused prices of the last batch, in permille.
        refused_permille: u64,
    },
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Never => "never heard",
            Self::Gone { .. } => "gone",
            Self::Frozen { .. } => "frozen",
            Self::Absurd { .. } => "absurd",
        })
    }
}

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "basis")]
pub enum Basis {
    /// From a feed that is believed.
    Live,
    /// The last good price; its feed, or this one price of it, is not believed.
    LastGood {
        /// How the feed is.
        health: Health,
        /// Why this pool's newest price was refused, if it was.
        refused: Option<Refused>,
    },
    /// The on-demand price, since the last good one is too old.
    OnDemand {
        /// How the feed is.
        health: Health,
        /// Why this pool's newest price was refused, if it was.
        refused: Option<Refused>,
    },
}

/// A price to reckon with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// USD an hour, in millionths.
    pub price: MicroUsd,
    /// The same machine on demand.
    pub on_demand: MicroUsd,
    /// Where the price comes from.
    #[serde(flatten)]
    pub basis: Basis,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Prices that are new.
    pub changed: u64,
    /// Prices that were in force already.
    pub same: u64,
    /// Prices older than what is known.
    pub late: u64,
    /// Prices that cannot be true, by their place in the batch.
    pub refused: Vec<(usize, Refused)>,
    /// Whether the batch was believed at all. If not, nothing of it was noted.
    pub believed: bool,
}

/// One source of prices, and how it behaves.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    heard: Option<Time>,
    changed: Time,
    absurd: Option<(Time, u64)>,
    pools: BTreeSet<Pool>,
    doubtful: BTreeMap<Pool, (Time, Refused)>,
}

impl Feed {
    /// A source that has not spoken yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what the source said at `now`.
    pub fn take(&mut self, book: &mut PriceBook, batch: &[Told], now: Time) -> Intake {
        let first = self.heard.is_none();
        self.heard = Some(now);
        let refused: Vec<(usize, Refused)> = batch
            .iter()
            .enumerate()
            .filter_map(|(index, told)| {
                let why = book.check(&told.pool, told.at, told.micros, now).err()?;
                Some((index, why))
            })
            .collect();
        let share = permille(refused.len() as u64, batch.len() as u64);
        // A single price is judged by itself: it says nothing about the rest of the feed.
        let believed = batch.len() < 2 || share <= ABSURD_BATCH_PERMILLE;
        let mut intake = Intake {
            refused,
            believed,
            ..Intake::default()
        };
        if !believed {
            let since = self.absurd.map_or(now, |(since, _)| since);
            self.absurd = Some((since, share));
            return intake;
        }
        self.absurd = None;
        for told in batch {
            self.take_one(book, told, now, &mut intake);
        }
        if first || intake.changed > 0 {
            self.changed = now;
        }
        intake
    }

    fn take_one(&mut self, book: &mut PriceBook, told: &Told, now: Time, intake: &mut Intake) {
        match book.note(&told.pool, told.at, told.micros, now) {
            Ok(noted) => {
                match noted {
                    Noted::Changed => intake.changed += 1,
                    Noted::Same => intake.same += 1,
                    Noted::Late => intake.late += 1,
                }
                if noted != Noted::Late {
                    self.doubtful.remove(&told.pool);
                }
                if !self.pools.contains(&told.pool) {
                    self.pools.insert(told.pool.clone());
                }
            }
            Err(why) => {
                let since = self.doubtful.get(&told.pool).map_or(now, |(since, _)| *since);
                // A pool that the book has no price of needs no doubt: it is not offered anyway.
                if self.pools.contains(&told.pool) {
                    self.doubtful.insert(told.pool.clone(), (since, why));
                }
            }
        }
    }

    /// How the feed is at `now`.
    pub fn health(&self, now: Time) -> Health {
        let Some(heard) = self.heard else {
            return Health::Never;
        };
        if now.0.saturating_sub(heard.0) > GONE_AFTER {
            return Health::Gone { since: heard };
        }
        if let Some((since, refused_permille)) = self.absurd {
            return Health::Absurd {
                since,
                refused_permille,
            };
        }
        if now.0.saturating_sub(self.changed.0) > self.frozen_after() {
            return Health::Frozen { since: self.changed };
        }
        Health::Live
    }

    /// How long so many pools may stand still: the time in which [`FROZEN_CHANGES`] were to be expected.
    pub fn frozen_after(&self) -> u64 {
        let changes_a_day = CHANGES_A_DAY_EXPECTED * (self.pools.len() as u64).max(1);
        (FROZEN_CHANGES * DAY / changes_a_day).max(FROZEN_AFTER_LEAST)
    }

    /// Since when the feed's last word is not to be relied on.
    fn trouble(&self, health: Health) -> Option<Time> {
        match health {
            Health::Live => None,
            Health::Never => Some(Time(0)),
            Health::Gone { since } => Some(Time(since.0 + GONE_AFTER)),
            Health::Frozen { since } => Some(Time(since.0 + self.frozen_after())),
            Health::Absurd { since, .. } => Some(since),
        }
    }

    /// The price of a spot pool to reckon with at `now`.
    ///
    /// # Errors
    ///
    /// Why the pool may not be bought at all.
    pub fn quote(&self, book: &PriceBook, pool: &Pool, now: Time) -> Result<Quote, NotBuyable> {
        let offer = book.offer(pool, now)?;
        let health = self.health(now);
        let doubt = self.doubtful.get(pool).copied();
        let refused = doubt.map(|(_, why)| why);
        let since = match (self.trouble(health), doubt) {
            (Some(feed), Some((own, _))) => Some(feed.min(own)),
            (feed, own) => feed.or(own.map(|(since, _)| since)),
        };
        let (price, basis) = match since {
            None => (offer.price, Basis::Live),
            Some(since) if now.0.saturating_sub(since.0) <= LAST_GOOD_FOR => {
                (offer.price, Basis::LastGood { health, refused })
            }
            Some(_) => (offer.on_demand, Basis::OnDemand { health, refused }),
        };
        Ok(Quote {
            price,
            on_demand: offer.on_demand,
            basis,
        })
    }
}

#[cfg(test)]
mod tests;
