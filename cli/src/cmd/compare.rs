//! `rebound sim compare`: policies side by side on the same market, with the same photos, seed by seed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use rebound_core::scaling::{Caps, Mode, Scaling};
use rebound_core::types::{SECOND, Time};
use rebound_sim::play::{Outcome, Played, Scenario, kind, load, play};
use serde::Serialize;

use super::Context;
use crate::dev::PHOTOS_PER_JOB;
use crate::dev::market::{Asked, BOOT, Era, Load, MarketArgs, Source};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, time};
use crate::policy;

/// Most seeds of one comparison.
const SEEDS_MAX: u64 = 10_000;
/// Most policies of one comparison.
const POLICIES_MAX: usize = 32;
/// Half of the width of a 95 % interval of a mean, in its standard errors.
const TWO_SIDED_95: f64 = 1.96;

/// Policies, a market and photos.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A recording of spot prices, or generated:auction or generated:modern: then each seed draws a market, the same for
    /// all policies
    #[arg(long, value_name = "FILE|generated:ERA")]
    pub market: PathBuf,
    /// Pools of it, as 'm4.10xlarge@us-east-1*'; may be repeated; all if not given
    #[arg(long, value_name = "PATTERN")]
    pub pools: Vec<String>,
    /// The on-demand price of a type, as m4.10xlarge=2.394; those of us-east-1 in 2016 are known
    #[arg(long, value_name = "TYPE=USD")]
    pub on_demand: Vec<String>,
    /// By which rules spot is taken back; by the recording's age if not given. A generated market says it itself
    #[arg(long, value_enum)]
    pub era: Option<Era>,
    /// Policies: files, or names of those shipped
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "default,threshold"
    )]
    pub policies: Vec<String>,
    /// How many seeds: each draws photos, boots and the time of a photo, and the market if that is generated
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first: u64,
    /// Hours of the market
    #[arg(long, value_name = "H", default_value_t = 6.0)]
    pub hours: f64,
    /// Where in the recording it begins; where spot crosses its on-demand price most often if not given. Generated
    /// markets begin there, or in the days that they are drawn like
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// How photos come
    #[arg(long, value_enum, default_value_t = Load::Waves)]
    pub load: Load,
    /// Each job shall be done so long after it was submitted
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub deadline: String,
    /// Seconds that one vCPU takes for a photo, half of the time less
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0)]
    pub photo_seconds: f64,
    /// Threads; all processors if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl CompareArgs {
    /// The same options, as one run takes them.
    fn own(&self) -> MarketArgs {
        MarketArgs {
            market: Some(self.market.clone()),
            pools: self.pools.clone(),
            on_demand: self.on_demand.clone(),
            era: self.era,
            speedup: 1,
            hours: self.hours,
            from: self.from.clone(),
            load: self.load,
            deadline: self.deadline.clone(),
            photo_seconds: self.photo_seconds,
            policy: String::new(),
            seed: self.first,
            kill_at_launches: 0,
            loose: false,
        }
    }
}

/// One policy under one seed.
#[derive(Clone, Debug, Serialize)]
struct Run {
    policy: String,
    seed: u64,
    cost_usd: f64,
    outcome: Outcome,
}

/// One policy under all seeds.
#[derive(Clone, Debug, Serialize)]
struct Line {
    policy: String,
    cost_usd: f64,
    late_photos: f64,
    late_percent: f64,
    p99_age_s: f64,
    machines: f64,
    launch_calls: f64,
    interruptions: f64,
    rebounds: f64,
    unended: u64,
}

/// Two policies under the same seeds: the second less the first.
#[derive(Clone, Debug, Serialize)]
struct Pair {
    first: String,
    second: String,
    /// Dollars that the second costs more, in the mean, and the ends of the 95 % interval of that.
    dearer_by_usd: [f64; 3],
    /// Photos that are late under the second and not under the first, in the mean, and the same.
    later_by_photos: [f64; 3],
    /// Seeds under which the first is dearer and later than the second.
    first_dominated: u64,
    /// Seeds under which the second is dearer and later than the first.
    second_dominated: u64,
}

#[derive(Debug, Serialize)]
struct Comparison {
    /// As `--market` names it; a generated one is drawn anew from each run's seed.
    market: String,
    from: String,
    until: String,
    pools: usize,
    seeds: u64,
    policies: Vec<Line>,
    pairs: Vec<Pair>,
    runs: Vec<Run>,
}

/// Runs it.
pub fn run(ctx: &mut Context, args: &CompareArgs) -> Result<Exit, Failure> {
    let own = args.own();
    let asked = own.check()?;
    if args.seeds == 0 || args.seeds > SEEDS_MAX {
        return Err(Failure::usage(format!("must be 1 to {SEEDS_MAX}")).at("--seeds"));
    }
    if args.policies.is_empty() || args.policies.len() > POLICIES_MAX {
        return Err(Failure::usage(format!("names 1 to {POLICIES_MAX} policies")).at("--policies"));
    }
    let source = Source::of(&args.market, args.era.map(Into::into))?;
    let (played, from) = source.open(&own, &asked)?;
    let policies = policies(&args.policies)?;
    let played = Arc::new(played);
    let all: Vec<(usize, u64)> = (args.first..args.first + args.seeds)
        .flat_map(|seed| (0..policies.len()).map(move |at| (at, seed)))
        .collect();
    let one = |(at, seed): (usize, u64)| {
        let drawn = source.of_seed(&own, &asked, from, seed)?;
        let market = drawn.map_or_else(|| played.clone(), Arc::new);
        let scenario = scenario(market, args, &asked, from, policies[at].1.clone(), seed);
        let outcome = play(&scenario).map_err(|error| Failure::usage(error.to_string()).at("--pools"))?;
        Ok(Run {
            policy: policies[at].0.clone(),
            seed,
            cost_usd: usd(outcome.micro_usd as f64),
            outcome,
        })
    };
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let runs = beside(&all, args.threads.unwrap_or_else(processors).max(1), one)?;
    let of = |name: &String| runs.iter().filter(|run| run.policy == *name).collect::<Vec<_>>();
    let lines = policies.iter().map(|(name, _)| line(name, &of(name)));
    let pairs = (0..policies.len()).flat_map(|a| (a + 1..policies.len()).map(move |b| (a, b)));
    let pairs = pairs.map(|(a, b)| pair(&of(&policies[a].0), &of(&policies[b].0)));
    let comparison = Comparison {
        market: args.market.display().to_string(),
        from: time(from.0),
        until: time(from.0 + asked.length),
        pools: played.spot.len(),
        seeds: args.seeds,
        policies: lines.collect(),
        pairs: pairs.collect(),
        runs: runs.clone(),
    };
    show(ctx, &comparison)?;
    Ok(Exit::Ok)
}

/// Runs all of them on so many threads; in order, whoever is done first.
fn beside(
    all: &[(usize, u64)],
    threads: usize,
    one: impl Fn((usize, u64)) -> Result<Run, Failure> + Sync,
) -> Result<Vec<Run>, Failure> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((at, what)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            all.get(at).map(|what| (at, *what))
        } {
            done.push((at, one(what)));
        }
        done
    };
    let mut done: Vec<(usize, Result<Run, Failure>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().flat_map(|thread| thread.join());
        joined.flatten().collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, run)| run).collect()
}

/// The policies, all under the widest of their caps: what is compared is how they choose.
fn policies(names: &[String]) -> Result<Vec<(String, Scaling)>, Failure> {
    let load = |name: &String| {
        let policy = policy::load(name).map_err(|failure| failure.at("--policies"))?;
        Ok((name.clone(), policy))
    };
    let mut all = names.iter().map(load).collect::<Result<Vec<_>, Failure>>()?;
    let widest = all.iter().map(|(_, policy)| policy.caps).reduce(|a, b| Caps {
        instances: a.instances.max(b.instances),
        vcpus: a.vcpus.max(b.vcpus),
        hour: a.hour.max(b.hour),
        day: a.day.max(b.day),
        committed: a.committed.max(b.committed),
    });
    for (_, policy) in &mut all {
        policy.mode = Mode::Act;
        policy.caps = widest.unwrap_or(policy.caps);
    }
    Ok(all)
}

fn scenario(
    market: Arc<Played>,
    args: &CompareArgs,
    asked: &Asked,
    from: Time,
    policy: Scaling,
    seed: u64,
) -> Scenario {
    let until = Time(from.0 + asked.length);
    Scenario {
        market,
        from,
        until,
        waves: load::waves(args.load.into(), seed, from, until),
        deadline: asked.deadline,
        photos_per_job: PHOTOS_PER_JOB as u64,
        photo: asked.photo,
        boot: BOOT,
        never_join: 0,
        policy,
        nature: kind(),
        seed,
    }
}

fn usd(micro: f64) -> f64 {
    (micro / 100.0).round() / 10_000.0
}

fn mean(runs: &[&Run], of: impl Fn(&Outcome) -> u64) -> f64 {
    let sum: f64 = runs.iter().map(|run| of(&run.outcome) as f64).sum();
    sum / runs.len().max(1) as f64
}

fn line(name: &str, runs: &[&Run]) -> Line {
    let photos = mean(runs, |one| one.photos).max(1.0);
    let late = mean(runs, |one| one.late_photos);
    Line {
        policy: name.to_owned(),
        cost_usd: usd(mean(runs, |one| one.micro_usd)),
        late_photos: late,
        late_percent: late * 100.0 / photos,
        p99_age_s: mean(runs, |one| one.age.p99_us) / SECOND as f64,
        machines: mean(runs, |one| one.machines),
        launch_calls: mean(runs, |one| one.launch_calls),
        interruptions: mean(runs, |one| one.interruptions),
        rebounds: mean(runs, |one| one.rebounds),
        unended: runs.iter().map(|run| run.outcome.unended).sum(),
    }
}

fn pair(first: &[&Run], second: &[&Run]) -> Pair {
    let by = |of: fn(&Outcome) -> u64| {
        let both = first.iter().zip(second);
        let differences: Vec<f64> = both
            .map(|(a, b)| of(&b.outcome) as f64 - of(&a.outcome) as f64)
            .collect();
        interval(&differences)
    };
    let worse = |a: &Run, b: &Run| {
        let (a, b) = (&a.outcome, &b.outcome);
        a.micro_usd > b.micro_usd && a.late_photos > b.late_photos
    };
    let both = || first.iter().zip(second);
    let name = |runs: &[&Run]| runs.first().map_or(String::new(), |run| run.policy.clone());
    Pair {
        first: name(first),
        second: name(second),
        dearer_by_usd: by(|one| one.micro_usd).map(usd),
        later_by_photos: by(|one| one.late_photos),
        first_dominated: both().filter(|(a, b)| worse(a, b)).count() as u64,
        second_dominated: both().filter(|(a, b)| worse(b, a)).count() as u64,
    }
}

/// The mean, and the ends of its 95 % interval.
fn interval(all: &[f64]) -> [f64; 3] {
    let count = all.len().max(1) as f64;
    let mean = all.iter().sum::<f64>() / count;
    let squares: f64 = all.iter().map(|one| (one - mean).powi(2)).sum();
    let error = (squares / (count - 1.0).max(1.0) / count).sqrt() * TWO_SIDED_95;
    [mean, mean - error, mean + error]
}

fn show(ctx: &mut Context, comparison: &Comparison) -> Result<(), Failure> {
    ctx.out
        .one(comparison, |out, all| {
            out.line(&format!(
                "{}: {} to {}, {} pools, {} seeds; all under the widest caps of any",
                all.market, all.from, all.until, all.pools, all.seeds
            ))?;
            let mut table = Table::new(&[
                ("policy", Align::Left),
                ("USD", Align::Right),
                ("late photos", Align::Right),
                ("late %", Align::Right),
                ("p99 age s", Align::Right),
                ("machines", Align::Right),
                ("calls", Align::Right),
                ("interrupted", Align::Right),
                ("rebounds", Align::Right),
            ]);
            for line in &all.policies {
                table.row([
                    line.policy.clone(),
                    format!("{:.4}", line.cost_usd),
                    format!("{:.1}", line.late_photos),
                    format!("{:.3}", line.late_percent),
                    format!("{:.1}", line.p99_age_s),
                    format!("{:.1}", line.machines),
                    format!("{:.1}", line.launch_calls),
                    format!("{:.1}", line.interruptions),
                    format!("{:.1}", line.rebounds),
                ]);
            }
            out.table(&mut table)?;
            for pair in &all.pairs {
                let [usd, low, high] = pair.dearer_by_usd;
                let [late, from, to] = pair.later_by_photos;
                out.line(&format!(
                    "{} less {}: {usd:+.4} USD ({low:+.4} to {high:+.4}), {late:+.1} late photos ({from:+.1} to {to:+.1})",
                    pair.second, pair.first
                ))?;
                out.line(&format!(
                    "  dearer and later: {} under {} seeds, {} under {}",
                    pair.first, pair.first_dominated, pair.second, pair.second_dominated
                ))?;
            }
            Ok(())
        })
        .map_err(|error| Failure::failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_their_mean_and_shrink_with_what_is_known() {
        let [mean, low, high] = interval(&[1.0, 2.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-9 && low < mean && mean < high);
        let many: Vec<f64> = [1.0, 2.0, 3.0].repeat(100);
        let [_, narrow_low, narrow_high] = interval(&many);
        assert!(narrow_high - narrow_low < high - low);
        assert_eq!(interval(&[5.0]), [5.0, 5.0, 5.0]);
    }
}
