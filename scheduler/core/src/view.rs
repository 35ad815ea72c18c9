//! What people are shown of machines and money.

use std::collections::BTreeMap;

use crate::market::{Quote, Speed};
use crate::plan::capacity::{Mix, NotChosen};
use crate::scaling::Foresight;
use crate::state::buying::Committed;
use crate::state::control::{Control, Trial};
use crate::state::decisions::Decision;
use crate::state::launches::Launch;
use crate::state::machines::Machine;
use crate::state::policies::PolicyRecord;
use crate::state::pools::PoolRecord;
use crate::state::profile::QuarterRecord;
use crate::state::spend::Hour;
use crate::trial::TrialBook;
use crate::types::{Index, InstanceId, LaunchId, MicroUsd, Pool, Time};

/// What is known of past weeks.
#[derive(Clone, Debug)]
pub struct ForecastView {
    /// Quarter hours of the week, with their recognisers.
    pub quarters: Vec<(u16, String, QuarterRecord)>,
    /// What is made of it.
    pub foresight: Foresight,
    /// The time zone in which weeks go by.
    pub week_zone: String,
}

/// What the cluster has bought, and what it may buy.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// What people decided, and what stopped it.
    pub control: Control,
    /// What caps count.
    pub committed: Committed,
    /// Millionths of USD spent in this hour and this day.
    pub spent: (u64, u64),
    /// Machines that have not ended.
    pub machines: Vec<(InstanceId, Machine)>,
    /// Launches, the newest first, at most [`LAUNCHES_SHOWN`](crate::limits::LAUNCHES_SHOWN).
    pub launches: Vec<(LaunchId, Launch)>,
    /// The cluster's clock.
    pub now: Time,
    /// What the policy keeps for a burst; none: nothing, or nobody here knows the market.
    pub spares: Option<Mix>,
}

/// A capacity pool as its leader sees it.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Which.
    pub pool: Pool,
    /// What is remembered of it.
    pub record: PoolRecord,
    /// What it costs, if the market has it.
    pub quote: Option<Quote>,
    /// What a thousand photos of each recogniser cost there, and why nothing is bought there, if so.
    pub speeds: Vec<(String, Speed, Option<NotChosen>)>,
    /// Machines there now.
    pub machines: u32,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct PoolsView {
    /// In order.
    pub pools: Vec<PoolView>,
    /// The cluster's clock.
    pub now: Time,
    /// When prices were last believed.
    pub heard: Time,
    /// What the way of photos costs; see [`Market::ways`](crate::market::Market::ways).
    pub ways: BTreeMap<(String, String), MicroUsd>,
}

/// What machines cost, and what was done for it. Money in millionths of USD.
#[derive(Clone, Debug)]
pub struct CostView {
    /// Hours since 1970, the oldest first: what is in the books.
    pub hours: Vec<(u64, Hour)>,
    /// Pools in which machines ran.
    pub pools: Vec<(Pool, PoolRecord)>,
    /// Environments, and what the machine time of their photos cost, all told.
    pub environments: Vec<(String, u64)>,
    /// What runs now and is not in the books yet.
    pub unpaid: u64,
    /// The cluster's clock.
    pub now: Time,
}

/// What was decided about machines.
#[derive(Clone, Debug)]
pub struct DecisionsView {
    /// The newest first, at most [`DECISIONS_SHOWN`](crate::limits::DECISIONS_SHOWN).
    pub decisions: Vec<(Index, Decision)>,
    /// The cluster's clock.
    pub now: Time,
}

/// Policies that were in force, and the one that is tried.
#[derive(Clone, Debug)]
pub struct PoliciesView {
    /// The newest first: its head is in force.
    pub policies: Vec<(Index, PolicyRecord)>,
    /// What is tried.
    pub trial: Option<Trial>,
    /// What it would have done, as this leader counted.
    pub book: TrialBook,
}
