//! `rebound market`: what capacity pools cost, for a thousand photos too, and how often they fail.

use clap::Subcommand;
use rebound_proto::v1::PoolsReply;
use serde::Serialize;

use super::pool::{Ranked, Shown, ranked, shown};
use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean, time};
use crate::spec::region;

/// MB of a photo, where nobody says otherwise.
const PHOTO_MB: f64 = 3.0;
/// Most MB of a photo.
const PHOTO_MB_MAX: f64 = 1_000.0;

/// What capacity pools cost.
#[derive(Debug, Subcommand)]
pub enum MarketCommand {
    /// Prices, spot beside on-demand, and how old they are
    Prices {
        #[command(flatten)]
        stale: Stale,
    },
    /// Dollars for a thousand photos, with each part of them, the cheapest first
    Rank {
        /// Of this recogniser alone
        #[arg(long, value_name = "NAME")]
        recogniser: Option<String>,
        /// Where the photos are: their way counts, and how dear a pool may be to be no dearer than the best one there
        #[arg(long, value_name = "REGION")]
        photos_in: Option<String>,
        /// MB of a photo [default: 3]
        #[arg(long, value_name = "MB", requires = "photos_in")]
        mb: Option<f64>,
        #[command(flatten)]
        stale: Stale,
    },
    /// What pools gave, lacked and took back, and what is reckoned with
    Risk {
        #[command(flatten)]
        stale: Stale,
    },
}

/// Runs it.
pub async fn run(ctx: &mut Context, command: MarketCommand) -> Result<Exit, Failure> {
    let (MarketCommand::Prices { stale } | MarketCommand::Rank { stale, .. } | MarketCommand::Risk { stale }) =
        &command;
    let photos = match &command {
        MarketCommand::Rank { photos_in, mb, .. } => photos(photos_in.as_deref(), *mb)?,
        _ => None,
    };
    let client = ctx.reader(*stale);
    let reply = client.pools().await?;
    match &command {
        MarketCommand::Prices { .. } => prices(ctx, &reply)?,
        MarketCommand::Rank { recogniser, .. } => rank(ctx, &reply, recogniser.as_deref(), photos.as_ref())?,
        MarketCommand::Risk { .. } => risk(ctx, &reply)?,
    }
    let heard = match reply.heard_us {
        0 => "Prices were never heard, or by another server.".to_owned(),
        at => format!("Prices as of {}.", time(at)),
    };
    ctx.out.note(&heard);
    ctx.note_age(&client);
    Ok(Exit::Ok)
}

/// Photos that are somewhere.
struct Photos {
    region: String,
    mb: f64,
}

impl Photos {
    /// What a thousand of them cost on their way; none: not known.
    fn way(&self, reply: &PoolsReply, to: &str) -> Option<f64> {
        if self.region == to {
            return Some(0.0);
        }
        let way = reply
            .ways
            .iter()
            .find(|way| way.from == self.region && way.to == to)?;
        Some(way.micro_usd_per_gb as f64 / 1e6 * self.mb)
    }
}

fn photos(region_of: Option<&str>, mb: Option<f64>) -> Result<Option<Photos>, Failure> {
    let mb = mb.unwrap_or(PHOTO_MB);
    if !(mb > 0.0 && mb <= PHOTO_MB_MAX) {
        let why = format!("is {mb}: write MB, more than 0 and at most {PHOTO_MB_MAX}");
        return Err(Failure::usage(why).at("--mb"));
    }
    let Some(name) = region_of else { return Ok(None) };
    let region = region(name).map_err(|mistake| Failure::usage(mistake.0).at("--photos-in"))?;
    Ok(Some(Photos { region, mb }))
}

fn prices(ctx: &mut Context, reply: &PoolsReply) -> Result<(), Failure> {
    let all: Vec<Shown> = reply
        .pools
        .iter()
        .filter(|one| one.price_micro_usd > 0)
        .map(|one| shown(reply, one))
        .collect();
    ctx.out.many(&all, |out, all| {
        let columns = [
            ("POOL", Align::Left),
            ("$/H", Align::Right),
            ("ON DEMAND $/H", Align::Right),
            ("OF IT %", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for one in all {
            let (price, full) = (one.usd_per_hour, one.on_demand_usd_per_hour);
            let share = price.zip(full).map(|(price, full)| price * 100.0 / full);
            table.row([
                one.pool.clone(),
                price.map_or("-".to_owned(), |usd| format!("{usd:.4}")),
                full.map_or("-".to_owned(), |usd| format!("{usd:.4}")),
                share.map_or("-".to_owned(), |share| format!("{share:.0}")),
            ]);
        }
        out.table(&mut table)
    })?;
    Ok(())
}

/// A pool as it is ranked for photos that are somewhere.
#[derive(Serialize)]
struct RankView {
    #[serde(flatten)]
    rank: Ranked,
    /// The price by the hour at which it would cost as much as the best other pool in the photos' region.
    break_even_usd_per_hour: Option<f64>,
}

/// All that may be ranked, the cheapest first; what photos may not be brought to is left out.
fn ranks(reply: &PoolsReply, recogniser: Option<&str>, photos: Option<&Photos>) -> Vec<RankView> {
    let mut all: Vec<(Ranked, bool, f64)> = Vec::new();
    for one in &reply.pools {
        let pool = one.pool.clone().unwrap_or_default();
        for rank in &one.ranks {
            let mut rank = ranked(&pool, rank);
            if recogniser.is_some_and(|name| name != rank.recogniser) {
                continue;
            }
            if let Some(photos) = photos {
                let Some(way) = photos.way(reply, &pool.region) else {
                    continue;
                };
                rank.transfer_usd += way;
                rank.total_usd += way;
            }
            let home = photos.is_some_and(|photos| photos.region == pool.region);
            all.push((rank, home, one.price_micro_usd as f64 / 1e6));
        }
    }
    let even = |at: usize| {
        let (own, _, price) = &all[at];
        let others = all.iter().enumerate().filter(|(other, (one, home, _))| {
            *other != at && *home && one.recogniser == own.recogniser && one.not_bought.is_empty()
        });
        let best = others
            .map(|(_, (one, ..))| one.total_usd)
            .min_by(f64::total_cmp)?;
        // Risk grows with the machine's price.
        let moves = own.machine_usd + own.risk_usd;
        (moves > 0.0 && *price > 0.0).then(|| ((best - own.transfer_usd) / moves * price).max(0.0))
    };
    let even: Vec<Option<f64>> = (0..all.len()).map(even).collect();
    let mut views: Vec<RankView> = all
        .into_iter()
        .zip(even)
        .map(|((rank, ..), break_even_usd_per_hour)| RankView {
            rank,
            break_even_usd_per_hour,
        })
        .collect();
    views.sort_by(|a, b| {
        let by_name = a.rank.recogniser.cmp(&b.rank.recogniser);
        by_name
            .then(a.rank.total_usd.total_cmp(&b.rank.total_usd))
            .then(a.rank.pool.cmp(&b.rank.pool))
    });
    views
}

fn rank(
    ctx: &mut Context,
    reply: &PoolsReply,
    recogniser: Option<&str>,
    photos: Option<&Photos>,
) -> Result<(), Failure> {
    let all = ranks(reply, recogniser, photos);
    ctx.out.many(&all, |out, all| {
        let columns = [
            ("RECOGNISER", Align::Left),
            ("POOL", Align::Left),
            ("$ A THOUSAND", Align::Right),
            ("MACHINE", Align::Right),
            ("TRANSFER", Align::Right),
            ("RISK", Align::Right),
            ("PHOTOS/H", Align::Right),
            ("BREAK-EVEN $/H", Align::Right),
            ("NOT BOUGHT", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for RankView {
            rank: one,
            break_even_usd_per_hour: even,
        } in all
        {
            table.row([
                one.recogniser.clone(),
                one.pool.clone(),
                format!("{:.4}", one.total_usd),
                format!("{:.4}", one.machine_usd),
                format!("{:.4}", one.transfer_usd),
                format!("{:.4}", one.risk_usd),
                one.photos_per_hour.to_string(),
                even.map_or("-".to_owned(), |usd| format!("{usd:.4}")),
                one.not_bought.clone(),
            ]);
        }
        out.table(&mut table)
    })?;
    if all.is_empty() {
        ctx.out.note(
            "Nothing is ranked: no recogniser had work yet, or nobody knows what the photos' way costs.",
        );
    }
    Ok(())
}

fn risk(ctx: &mut Context, reply: &PoolsReply) -> Result<(), Failure> {
    let all: Vec<Shown> = reply.pools.iter().map(|one| shown(reply, one)).collect();
    ctx.out.many(&all, |out, all| {
        let columns = [
            ("POOL", Align::Left),
            ("MACHINE-HOURS", Align::Right),
            ("TAKEN BACK", Align::Right),
            ("RECKONED IN 1000 H", Align::Right),
            ("STARTED", Align::Right),
            ("LACKED", Align::Right),
            ("RISK OF COST %", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for one in all {
            // The same share of the cost for every recogniser.
            let share = one.ranks.iter().find(|rank| rank.machine_usd > 0.0);
            let share = share.map(|rank| 100.0 * rank.risk_usd / rank.machine_usd);
            table.row([
                clean(&one.pool).to_string(),
                format!("{:.1}", one.machine_hours),
                one.taken_back.to_string(),
                format!("{:.2}", one.interruptions_per_1000_hours),
                one.started.to_string(),
                one.lacked.to_string(),
                share.map_or("-".to_owned(), |share| format!("{share:.1}")),
            ]);
        }
        out.table(&mut table)
    })?;
    if all.is_empty() {
        ctx.out
            .note("No pool is known yet: servers without a cloud know none.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rebound_proto::v1::{Market, PhotosWay, Pool, PoolRank, PoolStanding};

    use super::*;

    /// A pool at so many millionths of a dollar an hour, of which a thousand photos cost as many in machine time.
    fn pool(region: &str, price: u64) -> PoolStanding {
        PoolStanding {
            pool: Some(Pool {
                region: region.into(),
                zone_id: format!("{region}-az1"),
                instance_type: "c5.large".into(),
                market: Market::Spot.into(),
            }),
            price_micro_usd: price,
            ranks: vec![PoolRank {
                recogniser: "shelf".into(),
                machine_micro_usd: price,
                us_per_photo: 1,
                ..PoolRank::default()
            }],
            ..PoolStanding::default()
        }
    }

    #[test]
    fn photos_ways_are_in_the_rank_and_what_breaks_even_is_said() {
        let reply = PoolsReply {
            pools: vec![
                pool("home", 100_000),
                pool("near", 70_000),
                pool("unknown", 10_000),
            ],
            ways: vec![PhotosWay {
                from: "home".into(),
                to: "near".into(),
                micro_usd_per_gb: 20_000,
            }],
            ..PoolsReply::default()
        };
        let shown = |photos: Option<&Photos>| -> Vec<(String, u64, Option<u64>)> {
            let micro = |usd: f64| (usd * 1e6).round() as u64;
            let all = ranks(&reply, Some("shelf"), photos).into_iter();
            all.map(|one| {
                let even = one.break_even_usd_per_hour.map(micro);
                (one.rank.pool, micro(one.rank.total_usd), even)
            })
            .collect()
        };
        let photos = photos(Some("home"), None).expect("a region");
        let name = |region: &str| format!("c5.large@{region}-az1/spot");
        assert_eq!(
            shown(photos.as_ref()),
            [
                (name("home"), 100_000, None),
                (name("near"), 130_000, Some(40_000))
            ],
            "3 GB for a thousand photos; nobody knows the way to the third"
        );
        assert_eq!(shown(None).len(), 3, "wherever the photos are");
    }

    #[test]
    fn what_is_no_region_or_no_size_is_refused() {
        let field = |region: &str, mb: f64| {
            photos(Some(region), Some(mb))
                .err()
                .and_then(|failure| failure.field)
        };
        assert_eq!(field("eu-central-1", 3.0), None);
        assert_eq!(field("EU", 3.0).as_deref(), Some("--photos-in"));
        for mb in [0.0, -1.0, f64::NAN, 1e9] {
            assert_eq!(field("eu-central-1", mb).as_deref(), Some("--mb"), "{mb}");
        }
    }
}
