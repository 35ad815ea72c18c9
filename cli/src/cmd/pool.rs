//! `rebound pool`: EC2's capacity pools, what the cluster remembers of them, and what people want of them.

use clap::Subcommand;
use rebound_proto::v1::{Market, Pool, PoolRank, PoolStanding, PoolsReply};
use serde::Serialize;

use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean, duration, parse_duration, time_opt};

/// EC2's capacity pools: a type in a zone, spot or on-demand.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// All that are known, with machines, experience and what stands against them
    List {
        #[command(flatten)]
        stale: Stale,
    },
    /// One pool, or those that a pattern names: everything
    Explain {
        /// As m4.10xlarge@use1-az4/spot, or a pattern: 'm4.*/spot'
        pool: String,
        #[command(flatten)]
        stale: Stale,
    },
    /// Launch nothing there for a while; machines that are there stay
    Ban {
        /// As m4.10xlarge@use1-az4/spot, or a pattern: 'm4.*/spot'
        pool: String,
        /// For so long
        #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
        for_: String,
        /// For whoever looks for machines
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// End a ban, and forget that it had no machine
    Unban {
        /// As m4.10xlarge@use1-az4/spot, or a pattern
        pool: String,
    },
}

#[derive(Serialize)]
pub(super) struct Shown {
    pub pool: String,
    pub machines: u32,
    pub usd_per_hour: Option<f64>,
    pub on_demand_usd_per_hour: Option<f64>,
    pub started: u64,
    pub taken_back: u64,
    pub lacked: u64,
    pub machine_hours: f64,
    pub interruptions_per_1000_hours: f64,
    pub ready_us: Option<u64>,
    pub ready_parts: Option<Parts>,
    pub refusals: u32,
    pub closed_until: Option<String>,
    pub banned_until: Option<String>,
    pub banned_why: String,
    pub too_dear_since: Option<String>,
    pub ranks: Vec<Ranked>,
}

/// What nine of ten machines took, each part for itself.
#[derive(Serialize)]
pub(super) struct Parts {
    pub call_us: u64,
    pub pending_us: u64,
    pub boot_us: u64,
    pub load_us: u64,
    pub first_us: u64,
    pub restart_us: Option<u64>,
}

impl Parts {
    fn words(&self) -> String {
        let known = |us: u64| if us > 0 { duration(us) } else { "-".to_owned() };
        format!(
            "call {}, pending {}, boot {}, model {}; first result {}; started again {}",
            known(self.call_us),
            known(self.pending_us),
            known(self.boot_us),
            known(self.load_us),
            known(self.first_us),
            known(self.restart_us.unwrap_or(0)),
        )
    }
}

#[derive(Clone, Serialize)]
pub(super) struct Ranked {
    pub recogniser: String,
    pub pool: String,
    pub machine_usd: f64,
    pub transfer_usd: f64,
    pub risk_usd: f64,
    pub total_usd: f64,
    pub photos_per_hour: u64,
    pub not_bought: String,
}

/// Runs it.
pub async fn run(ctx: &mut Context, command: PoolCommand) -> Result<Exit, Failure> {
    match command {
        PoolCommand::List { stale } => {
            let client = ctx.reader(stale);
            let reply = client.pools().await?;
            list(ctx, &reply)?;
            ctx.note_age(&client);
        }
        PoolCommand::Explain { pool, stale } => {
            let client = ctx.reader(stale);
            let reply = client.pools().await?;
            let pools = named(&reply, &pool)?;
            explain(ctx, &reply, &pools)?;
            ctx.note_age(&client);
        }
        PoolCommand::Ban { pool, for_, why } => {
            let wrong = |why: String| Failure::usage(why).at("--for");
            let long = parse_duration(&for_).map_err(wrong)?;
            let us = u64::try_from(long.as_micros()).unwrap_or(u64::MAX);
            if us == 0 {
                return Err(
                    Failure::usage("must be longer than nothing; `pool unban` ends a ban").at("--for"),
                );
            }
            ban(ctx, &pool, us, &why).await?;
        }
        PoolCommand::Unban { pool } => ban(ctx, &pool, 0, "").await?,
    }
    Ok(Exit::Ok)
}

async fn ban(ctx: &mut Context, pattern: &str, us: u64, why: &str) -> Result<(), Failure> {
    let client = ctx.client();
    let reply = client.pools().await?;
    for standing in named(&reply, pattern)? {
        let pool = standing.pool.clone().unwrap_or_default();
        client.ban(pool.clone(), us, why).await?;
        let done = if us > 0 {
            "Nothing is launched in"
        } else {
            "Launches may go to"
        };
        ctx.out.note(&format!("{done} {}.", text(&pool)));
    }
    Ok(())
}

/// The pools that a name or a pattern means.
fn named<'a>(reply: &'a PoolsReply, pattern: &str) -> Result<Vec<&'a PoolStanding>, Failure> {
    let of = |one: &&PoolStanding| {
        one.pool
            .as_ref()
            .is_some_and(|pool| rebound_pricer::pool::fits(pattern, &text(pool)))
    };
    let found: Vec<_> = reply.pools.iter().filter(of).collect();
    match found.is_empty() {
        true => Err(Failure::not_found(format!(
            "no pool that is known fits {pattern:?}; `rebound pool list` shows all"
        ))),
        false => Ok(found),
    }
}

/// `m4.10xlarge@use1-az4/spot`; what others wrote is shown safely.
pub fn text(pool: &Pool) -> String {
    let market = match pool.market() {
        Market::Spot => "spot",
        Market::OnDemand => "on-demand",
        Market::Unspecified => "none",
    };
    clean(&format!("{}@{}/{market}", pool.instance_type, pool.zone_id)).to_string()
}

pub(super) fn usd(micro: u64) -> f64 {
    micro as f64 / 1e6
}

pub(super) fn known(micro: u64) -> Option<f64> {
    (micro > 0).then(|| usd(micro))
}

pub(super) fn ranked(pool: &Pool, rank: &PoolRank) -> Ranked {
    let total = rank
        .machine_micro_usd
        .saturating_add(rank.way_micro_usd)
        .saturating_add(rank.risk_micro_usd);
    Ranked {
        recogniser: clean(&rank.recogniser).to_string(),
        pool: text(pool),
        machine_usd: usd(rank.machine_micro_usd),
        transfer_usd: usd(rank.way_micro_usd),
        risk_usd: usd(rank.risk_micro_usd),
        total_usd: usd(total),
        photos_per_hour: 3_600_000_000 / rank.us_per_photo.max(1),
        not_bought: clean(&rank.not_chosen).to_string(),
    }
}

pub(super) fn shown(reply: &PoolsReply, one: &PoolStanding) -> Shown {
    let pool = one.pool.clone().unwrap_or_default();
    let ahead = |at: u64| time_opt(if at > reply.now_us { at } else { 0 });
    Shown {
        pool: text(&pool),
        machines: one.machines,
        usd_per_hour: known(one.price_micro_usd),
        on_demand_usd_per_hour: known(one.on_demand_micro_usd),
        started: one.started,
        taken_back: one.reclaimed,
        lacked: one.lacked,
        machine_hours: one.ran_us as f64 / 3.6e9,
        interruptions_per_1000_hours: one.interruptions_ppm as f64 / 1_000.0,
        ready_us: (one.ready_us > 0).then_some(one.ready_us),
        ready_parts: one.ready_parts.filter(|_| one.ready_us > 0).map(|own| Parts {
            call_us: own.call_us,
            pending_us: own.pending_us,
            boot_us: own.boot_us,
            load_us: own.load_us,
            first_us: own.first_us,
            restart_us: (own.restart_us > 0).then_some(own.restart_us),
        }),
        refusals: one.refusals,
        closed_until: ahead(one.closed_until_us),
        banned_until: ahead(one.banned_until_us),
        banned_why: clean(&one.banned_why).to_string(),
        too_dear_since: time_opt(one.dear_us),
        ranks: one.ranks.iter().map(|rank| ranked(&pool, rank)).collect(),
    }
}

/// What stands against a pool, in one line.
fn against(one: &Shown) -> String {
    let mut all = Vec::new();
    if let Some(until) = &one.banned_until {
        all.push(format!("banned until {until}: {}", one.banned_why));
    }
    if let Some(until) = &one.closed_until {
        all.push(format!(
            "had nothing {} times, asked again at {until}",
            one.refusals
        ));
    }
    if let Some(since) = &one.too_dear_since {
        all.push(format!("too dear since {since}"));
    }
    all.join("; ")
}

fn list(ctx: &mut Context, reply: &PoolsReply) -> Result<(), Failure> {
    let all: Vec<Shown> = reply.pools.iter().map(|one| shown(reply, one)).collect();
    ctx.out.many(&all, |out, all| {
        let columns = [
            ("POOL", Align::Left),
            ("MACHINES", Align::Right),
            ("$/H", Align::Right),
            ("STARTED", Align::Right),
            ("TAKEN BACK", Align::Right),
            ("READY IN", Align::Right),
            ("AGAINST IT", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for one in all {
            table.row([
                one.pool.clone(),
                one.machines.to_string(),
                one.usd_per_hour.map_or("-".to_owned(), |usd| format!("{usd:.4}")),
                one.started.to_string(),
                one.taken_back.to_string(),
                one.ready_us.map_or("-".to_owned(), duration),
                against(one),
            ]);
        }
        out.table(&mut table)
    })?;
    if reply.pools.is_empty() {
        ctx.out
            .note("No pool is known yet: servers without a cloud know none.");
    }
    Ok(())
}

fn explain(ctx: &mut Context, reply: &PoolsReply, pools: &[&PoolStanding]) -> Result<(), Failure> {
    let all: Vec<Shown> = pools.iter().map(|one| shown(reply, one)).collect();
    ctx.out.many(&all, |out, all| {
        for one in all {
            let mut table = Table::facts();
            let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
            row("pool", one.pool.clone());
            let price =
                |usd: Option<f64>| usd.map_or("not known".to_owned(), |usd| format!("${usd:.4} an hour"));
            row("price", price(one.usd_per_hour));
            row("on demand", price(one.on_demand_usd_per_hour));
            row("machines", format!("{} now, {} ever", one.machines, one.started));
            row(
                "taken back",
                format!(
                    "{}; {:.2} in 1000 machine-hours are reckoned with",
                    one.taken_back, one.interruptions_per_1000_hours
                ),
            );
            row(
                "ready in",
                one.ready_us.map_or("not measured".to_owned(), duration),
            );
            if let Some(parts) = &one.ready_parts {
                row("of that", parts.words());
            }
            let against = against(one);
            row(
                "against it",
                if against.is_empty() {
                    "nothing".to_owned()
                } else {
                    against
                },
            );
            for rank in &one.ranks {
                let why = match rank.not_bought.is_empty() {
                    true => "may be bought".to_owned(),
                    false => format!("not bought: {}", rank.not_bought),
                };
                row(
                    &format!("a thousand {}", rank.recogniser),
                    format!(
                        "${:.4}: machine {:.4}, transfer {:.4}, risk {:.4}; {why}",
                        rank.total_usd, rank.machine_usd, rank.transfer_usd, rank.risk_usd
                    ),
                );
            }
            out.table(&mut table)?;
            out.line("")?;
        }
        Ok(())
    })?;
    Ok(())
}
