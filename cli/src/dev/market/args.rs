//! What `rebound dev --market` is told, and whether it can be.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rebound_core::types::{MicroUsd, SECOND, Time};
use rebound_pricer::feed::parse_time;
use rebound_pricer::money::parse_usd;
use rebound_pricer::on_demand::{Listed, OnDemand};
use rebound_pricer::pool::regions;
use rebound_scheduler::config::CLOCK_RATE_MAX;
use rebound_sim::play::load;
use rebound_sim::play::played;

use crate::exit::Failure;
use crate::output::parse_duration;

/// Longest run, in hours of the market.
const HOURS_MAX: f64 = 24.0 * 31.0;
/// Most kills at either moment.
const KILLS_MAX: u64 = 10_000;
/// Longest photo, in seconds of one vCPU.
const PHOTO_SECONDS_MAX: f64 = 600.0;

/// By which rules spot is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Era {
    /// Whoever pays less than the price, until 2017
    Auction,
    /// Since then: never by the price, only where capacity is lost
    Modern,
}

impl From<Era> for played::Era {
    fn from(era: Era) -> played::Era {
        match era {
            Era::Auction => played::Era::Auction,
            Era::Modern => played::Era::Modern,
        }
    }
}

/// How photos come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// 200 to 20 000 at once, then none for a while
    Waves,
    /// 120 a minute
    Steady,
    /// 5 000 at once, and 5 000 over a minute, in turns, each half an hour after the other
    Bursts,
}

impl From<Load> for load::Load {
    fn from(load: Load) -> load::Load {
        match load {
            Load::Waves => load::Load::Waves,
            Load::Steady => load::Load::Steady,
            Load::Bursts => load::Load::Bursts,
        }
    }
}

/// A recorded or generated market that is played.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "With --market: machines that the cluster buys")]
pub struct MarketArgs {
    /// A recording of spot prices, or generated:auction or generated:modern, drawn from --seed: the cluster buys its
    /// workers on a local cloud that plays it
    #[arg(long, value_name = "FILE|generated:ERA")]
    pub market: Option<PathBuf>,
    /// Pools of it, as 'm4.10xlarge@us-east-1*'; may be repeated; all if not given
    #[arg(long, value_name = "PATTERN", requires = "market")]
    pub pools: Vec<String>,
    /// The on-demand price of a type, as m4.10xlarge=2.394; those of us-east-1 in 2016 are known
    #[arg(long, value_name = "TYPE=USD", requires = "market")]
    pub on_demand: Vec<String>,
    /// By which rules spot is taken back; by the recording's age if not given. A generated market says it itself
    #[arg(long, value_enum, requires = "market")]
    pub era: Option<Era>,
    /// The market's time goes so many times as fast as the real one
    #[arg(long, value_name = "N", default_value_t = 1, requires = "market")]
    pub speedup: u64,
    /// Hours of the market that are played
    #[arg(long, value_name = "H", default_value_t = 1.0, requires = "market")]
    pub hours: f64,
    /// Where in the recording it begins; where spot crosses its on-demand price most often if not given. A generated
    /// market begins there, or in the days that it is drawn like
    #[arg(long, value_name = "TIME", requires = "market")]
    pub from: Option<String>,
    /// How photos come
    #[arg(long, value_enum, default_value_t = Load::Waves, requires = "market")]
    pub load: Load,
    /// Each job shall be done so long after it was submitted
    #[arg(long, value_name = "DURATION", default_value = "15m", requires = "market")]
    pub deadline: String,
    /// Seconds that one vCPU takes for a photo, half of the time less
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0, requires = "market")]
    pub photo_seconds: f64,
    /// A policy: a file, or the name of one of those shipped
    #[arg(long, value_name = "NAME", default_value = "default", requires = "market")]
    pub policy: String,
    /// Draws the load and the machines' boots, and a generated market
    #[arg(long, value_name = "N", default_value_t = 1, requires = "market")]
    pub seed: u64,
    /// Kill the leader (SIGKILL) so many times after a launch was committed and before it is called, and as often after it
    /// was called and before it is settled; it starts again at once
    #[arg(long, value_name = "N", default_value_t = 0, requires = "market")]
    pub kill_at_launches: u64,
    /// Run although the speed-up's own error is more than a twentieth of the deadline
    #[arg(long, requires = "market")]
    pub loose: bool,
}

/// The same, read.
pub struct Asked {
    /// µs.
    pub deadline: u64,
    /// µs of one vCPU.
    pub photo: u64,
    /// µs of the market.
    pub length: u64,
    /// Where it begins, if that was said.
    pub from: Option<Time>,
    /// On-demand prices.
    pub on_demand: OnDemand,
}

impl MarketArgs {
    /// Reads and checks.
    pub fn check(&self) -> Result<Asked, Failure> {
        let wrong = |flag: &str, why: String| Err(Failure::usage(format!("{flag} {why}")).at(flag));
        if !(1..=CLOCK_RATE_MAX).contains(&self.speedup) {
            return wrong("--speedup", format!("must be 1 to {CLOCK_RATE_MAX}"));
        }
        if !(self.hours > 0.0 && self.hours <= HOURS_MAX) {
            return wrong("--hours", format!("must be more than 0 and at most {HOURS_MAX}"));
        }
        if !(self.photo_seconds > 0.0 && self.photo_seconds <= PHOTO_SECONDS_MAX) {
            return wrong(
                "--photo-seconds",
                format!("must be more than 0 and at most {PHOTO_SECONDS_MAX}"),
            );
        }
        if self.kill_at_launches > KILLS_MAX {
            return wrong("--kill-at-launches", format!("must be at most {KILLS_MAX}"));
        }
        let deadline = parse_duration(&self.deadline)
            .map_err(|why| Failure::usage(format!("--deadline {why}")).at("--deadline"))?;
        if deadline < Duration::from_secs(1) {
            return wrong("--deadline", "must be at least 1s".to_owned());
        }
        let from = self.from.as_ref().map(|text| {
            parse_time(text)
                .or_else(|_| parse_time(&format!("{text}T00:00:00Z")))
                .map_err(|why| {
                    Failure::usage(format!("--from: {why}: write 2016-03-01T12:00:00Z")).at("--from")
                })
        });
        Ok(Asked {
            deadline: u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX),
            photo: (self.photo_seconds * SECOND as f64) as u64,
            length: (self.hours * 3_600.0 * SECOND as f64) as u64,
            from: from.transpose()?,
            on_demand: self.prices()?,
        })
    }

    fn prices(&self) -> Result<OnDemand, Failure> {
        let mut all = OnDemand::of_2016().map_err(|error| Failure::failed(error.to_string()))?;
        let mut own = OnDemand::new(None);
        for text in &self.on_demand {
            let bad = |why: &str| {
                Failure::usage(format!("{why}: write TYPE=USD, as m4.large=0.1")).at("--on-demand")
            };
            let (kind, price) = text.split_once('=').ok_or_else(|| bad("has no ="))?;
            let price: MicroUsd = parse_usd(price).map_err(|why| bad(&why))?;
            for (_, region) in regions() {
                own.list(region, kind, Listed::Price(price))
                    .map_err(|why| bad(&why))?;
            }
        }
        all.merge(own).map_err(Failure::usage)?;
        Ok(all)
    }
}
