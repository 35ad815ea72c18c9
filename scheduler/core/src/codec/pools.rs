//! Capacity pools, for people.

use rebound_proto::v1;

use super::fleet::not_chosen_words;
use super::pool_out;
use crate::io::{PoolView, PoolsView};
use crate::market::Speed;
use crate::plan::capacity::NotChosen;
use crate::state::pools::PoolRecord;
use crate::types::MicroUsd;

/// All pools.
pub fn pools(view: &PoolsView) -> v1::PoolsReply {
    v1::PoolsReply {
        pools: view.pools.iter().map(standing).collect(),
        now_us: view.now.0,
        heard_us: view.heard.0,
        ways: view.ways.iter().map(way).collect(),
    }
}

fn way(((from, to), a_gb): (&(String, String), &MicroUsd)) -> v1::PhotosWay {
    v1::PhotosWay {
        from: from.clone(),
        to: to.clone(),
        micro_usd_per_gb: a_gb.0,
    }
}

fn standing(own: &PoolView) -> v1::PoolStanding {
    let (record, quote) = (&own.record, own.quote.as_ref());
    let banned = record.banned.as_ref();
    v1::PoolStanding {
        pool: Some(pool_out(&own.pool)),
        price_micro_usd: quote.map_or(0, |quote| quote.price.0),
        on_demand_micro_usd: quote.map_or(0, |quote| quote.on_demand.0),
        interruptions_ppm: quote.map_or(0, |quote| quote.interruptions),
        ranks: own.speeds.iter().map(rank).collect(),
        refusals: record.refusals,
        closed_until_us: record.closed_until.map_or(0, |at| at.0),
        banned_until_us: banned.map_or(0, |(at, _)| at.0),
        banned_why: banned.map(|(_, why)| why.clone()).unwrap_or_default(),
        dear_us: record.dear.map_or(0, |at| at.0),
        started: record.started,
        reclaimed: record.reclaimed,
        ready_us: record.ready_p90().unwrap_or(0),
        machines: own.machines,
        lacked: record.lacked,
        ran_us: record.ran,
        ready_parts: Some(ready_parts(record)),
    }
}

fn ready_parts(record: &PoolRecord) -> v1::ReadyParts {
    let parts = record.ready_parts();
    v1::ReadyParts {
        call_us: parts.call,
        pending_us: parts.pending,
        boot_us: parts.boot,
        load_us: parts.load,
        first_us: parts.first,
        restart_us: record.restart_p90().unwrap_or(0),
    }
}

fn rank((recogniser, speed, why): &(String, Speed, Option<NotChosen>)) -> v1::PoolRank {
    v1::PoolRank {
        recogniser: recogniser.clone(),
        machine_micro_usd: speed.machine.0,
        way_micro_usd: speed.way.0,
        risk_micro_usd: speed.risk.0,
        us_per_photo: speed.us_per_photo,
        not_chosen: why
            .map(|why| not_chosen_words(why).to_owned())
            .unwrap_or_default(),
    }
}
