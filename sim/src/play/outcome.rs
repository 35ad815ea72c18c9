//! What a played scenario came to.

use rebound_core::event::Fact;
use rebound_core::types::Time;
use serde::Serialize;

/// Ages of photos when their results were recorded, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Aged {
    /// Half of them were younger.
    pub p50_us: u64,
    /// 95 of 100.
    pub p95_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// All.
    pub max_us: u64,
}

impl Aged {
    /// From ages with how many photos had each.
    pub fn of(mut ages: Vec<(u64, u64)>) -> Aged {
        ages.sort_unstable();
        let all: u64 = ages.iter().map(|(_, count)| count).sum();
        let at = |part: u64| {
            let mut left = (all * part).div_ceil(1_000);
            let behind = ages.iter().find(|(_, count)| {
                let reached = left <= *count;
                left = left.saturating_sub(*count);
                reached
            });
            behind.map_or(0, |(age, _)| *age)
        };
        Aged {
            p50_us: at(500),
            p95_us: at(950),
            p99_us: at(990),
            max_us: ages.last().map_or(0, |(age, _)| *age),
        }
    }
}

/// See the module. Money in millionths of USD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Photos that were submitted.
    pub photos: u64,
    /// Jobs.
    pub jobs: u64,
    /// Submits that were refused, and came again.
    pub submits_refused: u64,
    /// Photos recorded after their deadline, or never.
    pub late_photos: u64,
    /// Jobs with a late photo.
    pub late_jobs: u64,
    /// Photos that never ended.
    pub unended: u64,
    /// What machines cost.
    pub micro_usd: u64,
    /// The same machines for the same time on demand.
    pub on_demand_micro_usd: u64,
    /// What the cluster's own ledger says.
    pub ledger_micro_usd: u64,
    /// Machines that ran.
    pub machines: u64,
    /// Most machines at once.
    pub machines_most: u64,
    /// Launches that were committed.
    pub launches: u64,
    /// Launch calls that came.
    pub launch_calls: u64,
    /// Machines that EC2 took back, or said it would.
    pub interruptions: u64,
    /// The longest that a machine with work held some of it after its notice, in µs: until all was done or handed back.
    pub notice_us: u64,
    /// Machines that were gone with work in their hands, two minutes after their notice.
    pub notices_unmet: u64,
    /// Machines that were stopped, and started again.
    pub stops: u64,
    /// See `stops`.
    pub starts: u64,
    /// Changes of a pool from spot to on-demand, and back.
    pub rebounds: u64,
    /// Brakes that went on.
    pub brakes: u64,
    /// Ages of photos.
    pub age: Aged,
    /// From the first submit to the first launch call, in µs; none: no call.
    pub first_call_us: Option<u64>,
    /// Photos of each wave that were late.
    #[serde(skip)]
    pub late_by_wave: Vec<u64>,
    /// What happened to machines, in order.
    #[serde(skip)]
    pub story: Vec<(Time, Fact)>,
    /// Each machine's bill.
    #[serde(skip)]
    pub bill: super::bill::Cost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_photos() {
        let aged = Aged::of(vec![(30, 1), (10, 98), (20, 1)]);
        assert_eq!(
            (aged.p50_us, aged.p95_us, aged.p99_us, aged.max_us),
            (10, 10, 20, 30)
        );
        assert_eq!(Aged::of(Vec::new()), Aged::default());
    }
}
