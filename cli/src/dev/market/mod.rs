//! `rebound dev --market`: a cluster that buys its own workers on a local cloud which plays a recorded or generated market,
//! perhaps faster than it went; what it decided and why, what that cost, and how far the run itself is off.

mod args;
mod figures;
mod kills;
mod source;
mod story;
mod submit;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rebound_core::types::{Pool, SECOND, Time};
use rebound_scheduler::config::{CloudConfig, Driver, LogConfig, MarketConfig};
use tokio::net::TcpListener;
use tokio::time::Instant;

pub use args::{Asked, Era, Load, MarketArgs};
pub use source::Source;
use submit::Sent;

use super::audit::{self, Audit};
use super::burst::Acknowledged;
use super::{DevArgs, QUIET_WITHIN};
use rebound_pricer::catalogue::Catalogue;
use rebound_sim::play::{load, slots};

use crate::cloud::{LocalCloud, Machines, MarketClock, Played, RunningCloud, Trap, crossings};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, Quantiles, agent_program, asked, round};
use crate::output::time;

/// The cluster comes up before the market's first hour, within so long of real time.
const START: Duration = Duration::from_secs(4);
/// From `running` to the agent's start, in µs of the market.
pub const BOOT: (u64, u64) = (25 * SECOND, 45 * SECOND);
/// Submits and looks by which the speed-up's own error is foreseen.
const TRIALS: usize = 20;
/// The error may be so much of the deadline, in percent.
const ERROR_MAX: f64 = 5.0;
/// After the last photo the cluster may take so long until all is done, in µs of the market; and so long really.
const DONE_WITHIN: u64 = 3 * 3_600 * SECOND;
const DONE_WITHIN_REALLY: Duration = Duration::from_secs(300);
/// And until no machine is left.
const EMPTY_WITHIN: u64 = 45 * 60 * SECOND;
/// A price that stays on its side of on-demand for so long is worth following, in µs.
const LASTING: u64 = 30 * 60 * SECOND;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Results in one page.
const PAGE: u32 = 256;

/// Runs it.
pub async fn run(ctx: &mut Context, args: &DevArgs, path: &Path) -> Result<Exit, Failure> {
    let own = &args.market;
    let asked = own.check()?;
    let source = Source::of(path, own.era.map(Into::into))?;
    let (played, from) = source.open(own, &asked)?;
    let until = Time(from.0 + asked.length);
    let kept = DataDir::open(args.data_dir.as_ref(), "rebound-market-")?;
    ctx.out.note(&format!(
        "Playing {} pools from {} to {}, {} times as fast; data in {}",
        played.spot.len(),
        time(from.0),
        time(until.0),
        own.speedup,
        kept.path().display()
    ));
    let outcome = play(ctx, args, &asked, played, (from, until), kept.path()).await;
    if !matches!(outcome, Ok(Exit::Ok)) {
        ctx.out
            .note(&format!("The processes' logs are in {}", kept.keep().display()));
    }
    outcome
}

/// Where it begins: as asked for, else where prices cross most often.
pub fn window(played: &Played, asked: &Asked) -> Result<Time, Failure> {
    let (first, last) = played.span;
    let latest = last.0.saturating_sub(asked.length);
    if let Some(from) = asked.from {
        return match (first..=Time(latest.max(first.0))).contains(&from) {
            true => Ok(from),
            false => Err(Failure::usage(format!(
                "--from {} is not within {} to {}, so that --hours fits",
                time(from.0),
                time(first.0),
                time(latest)
            ))
            .at("--from")),
        };
    }
    // Those after which the price stays on its side for long enough that a policy may follow.
    let every = crossings(played, first, last);
    let lasts = |(place, (at, pool, _)): &(usize, &(Time, Pool, bool))| {
        let next = every[place + 1..].iter().find(|next| next.1 == *pool);
        next.is_none_or(|next| next.0.0 - at.0 >= LASTING)
    };
    let all: Vec<_> = every
        .iter()
        .enumerate()
        .filter(lasts)
        .map(|(_, one)| one)
        .collect();
    // Each crossing begins one, a quarter of an hour before.
    let begins = all.iter().map(|(at, ..)| {
        at.0.saturating_sub(900 * SECOND)
            .clamp(first.0, latest.max(first.0))
    });
    let within = |from: u64| {
        all.iter()
            .filter(|(at, ..)| from < at.0 && at.0 <= from + asked.length)
            .count()
    };
    let best = begins.max_by_key(|from| (within(*from), std::cmp::Reverse(*from)));
    Ok(Time(best.unwrap_or(first.0)))
}

async fn play(
    ctx: &mut Context,
    args: &DevArgs,
    asked: &Asked,
    played: Played,
    (from, until): (Time, Time),
    dir: &Path,
) -> Result<Exit, Failure> {
    let own = &args.market;
    let begins = Time(from.0.saturating_sub(START.as_micros() as u64 * own.speedup));
    let clock = MarketClock::start(begins, own.speedup);
    let no_port = |error: std::io::Error| Failure::failed(format!("no free port on 127.0.0.1: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
    let address = listener.local_addr().map_err(no_port)?;
    let known = crossings(&played, from, until);
    let layout = Layout {
        cluster: "market".into(),
        servers: args.servers,
        log: LogConfig {
            archive: true,
            ..LogConfig::default()
        },
        cloud: CloudConfig {
            driver: Driver::Local,
            address: address.to_string(),
            prices_every_ms: (60_000 / own.speedup).max(50),
        },
        market: files(&played, asked.photo, own, dir)?,
        clock: Some(clock.config()),
        ..Layout::default()
    };
    let mut house = House::start(&layout, dir).await?;
    let machines = Machines {
        program: agent_program()?,
        servers: house.addresses().join(","),
        dir: dir.to_owned(),
        photo_us: asked.photo,
        boot: BOOT,
        volume: super::policy::volume(&own.policy)?,
    };
    let era = played.era;
    let (trap, mut held) = Trap::new(own.kill_at_launches);
    let trap = (own.kill_at_launches > 0).then_some(trap);
    let mut killed = BTreeMap::new();
    let running = RunningCloud::start(listener, played, machines, clock, own.seed, trap)?;
    let outcome = async {
        house.leader(QUIET_WITHIN).await?;
        foresee(ctx, &house, own, asked).await?;
        super::policy::apply(&house.client(), &own.policy).await?;
        let waves = load::waves(own.load.into(), own.seed, from, until);
        let photos: u64 = waves.iter().map(|wave| wave.photos).sum();
        ctx.out
            .note(&format!("{photos} photos in {} waves are to come", waves.len()));
        let begins: Vec<Time> = waves.iter().map(|wave| wave.at).collect();
        let client = house.client();
        let sent = async {
            let sent = submit::submit_all(client, clock, waves, asked.deadline).await?;
            clock.reach(until).await;
            Ok::<_, Failure>(sent)
        };
        let sent = tokio::select! {
            sent = sent => sent?,
            failed = kills::kill(&mut house, &mut held, &mut killed) => return Err(failed.err().unwrap_or_else(never)),
        };
        // Whoever is held goes on, and nobody is held any more; a server that was killed last comes back.
        held.close();
        while held.try_recv().is_ok() {}
        house.all_up()?;
        ended(&mut house, clock, until).await?;
        let acked = results(&house, &sent).await?;
        super::policy::keep_nothing(&house.client(), &own.policy).await?;
        empty(&mut house, &running.cloud).await?;
        Ok::<_, Failure>((sent, acked, begins))
    }
    .await;
    let orphans_of = running.cloud.live();
    let cloud = running.stop().await;
    let seen = match outcome {
        Ok((sent, acked, begins)) => {
            let jobs = late(&house, &sent).await;
            level(&mut house).await.map(|()| (sent, acked, begins, jobs))
        }
        Err(failure) => Err(failure),
    };
    house.stop().await;
    let (sent, acked, begins, late) = seen?;
    let dirs = house.data_dirs();
    let (audit, story) = tokio::task::spawn_blocking(move || {
        let audit = audit::audit(&dirs, &acked, "")?;
        Ok::<_, Failure>((audit, story::read(&dirs[0])?))
    })
    .await
    .map_err(|error| Failure::failed(format!("the audit ended early: {error}")))??;
    let (late_photos, late_jobs) = late?;
    let asked_at: Vec<Time> = sent.iter().map(|one| one.asked_at).collect();
    let calls = figures::calls(&begins, &asked_at, &cloud.timeline(), own.speedup);
    let cost = cloud.cost(clock.now());
    let orphans = orphans_of
        .iter()
        .filter(|id| !story.machines.contains_key(id))
        .count() as u64;
    let figures = figures::Figures {
        from: time(from.0),
        until: time(until.0),
        market: own
            .market
            .as_ref()
            .map_or_else(String::new, |market| market.display().to_string()),
        era,
        policy: own.policy.clone(),
        seed: own.seed,
        speedup: own.speedup,
        photos: sent.iter().map(|one| one.photos.len() as u64).sum(),
        jobs: sent.len() as u64,
        late_photos,
        late_jobs,
        cost_usd: figures::usd(cost.micro_usd),
        on_demand_cost_usd: figures::usd(cost.on_demand_micro_usd),
        ledger_usd: figures::usd(story.machines.values().map(|one| one.paid).sum()),
        machines: cost.lines.len() as u64,
        launches: story.launches,
        launch_calls: cloud.launch_calls(),
        leaders_killed: killed,
        launched_twice: cloud.launched_twice(),
        machines_most: cloud.most().0,
        vcpus_most: cloud.most().1,
        unknown_longest_s: unknown_longest(&cloud, &story),
        interruptions: cloud.interruptions(),
        handed_back: handed_back(&story.notices),
        not_handed_back: story.notices.iter().filter(|one| one.lost).count() as u64,
        first_call: calls.0,
        calls_of_a_wave_most: calls.1,
        orphans,
        recorded_twice: audit.recorded_twice,
        acknowledged_lost: audit.acknowledged_lost,
        digests_equal: audit.digests_equal,
        crossings: figures::crossings(&known, &story.flips),
        error: own_error(own.speedup, asked.deadline, &sent, &story.settled_in, &cloud),
        findings: findings(&audit),
        decisions: story.decisions,
        timeline: cloud.timeline(),
        bill: cost,
    };
    figures::show(ctx, &figures)?;
    Ok(if figures.is_good() { Exit::Ok } else { Exit::Failed })
}

/// The longest life of a machine that the cluster never knew, in seconds of the market.
fn unknown_longest(cloud: &LocalCloud, story: &story::Story) -> f64 {
    let lives = cloud.lives().into_iter();
    let unknown = lives.filter(|(id, _)| !story.machines.contains_key(id));
    let longest = unknown.map(|(_, us)| us).max().unwrap_or(0);
    round(longest as f64 / SECOND as f64, 1)
}

fn never() -> Failure {
    Failure::failed("the kills ended early")
}

fn findings(audit: &Audit) -> Vec<String> {
    audit.findings.clone()
}

/// What servers know of the market beforehand: on-demand prices, and how fast each type is with these photos.
fn files(played: &Played, photo: u64, own: &MarketArgs, dir: &Path) -> Result<MarketConfig, Failure> {
    let (on_demand, throughput) = (dir.join("on-demand.csv"), dir.join("throughput.csv"));
    let mut prices = "instance_type,region,usd_per_hour\n".to_owned();
    let mut speeds = "instance_type,recogniser,photos_per_hour\n".to_owned();
    let catalogue = Catalogue::built_in().map_err(|error| Failure::failed(error.to_string()))?;
    for (pool, price) in &played.on_demand {
        let kind = &pool.instance_type;
        let line = format!(
            "{kind},{},{}.{:06}\n",
            pool.region,
            price.0 / 1_000_000,
            price.0 % 1_000_000
        );
        let (_, slots) = slots(&catalogue, kind).ok_or_else(|| {
            Failure::usage(format!(
                "{kind} is no type that is known, or has no room for a photo"
            ))
            .at("--pools")
        })?;
        let speed = format!(
            "{kind},noop,{}\n",
            u64::from(slots) * 3_600 * SECOND / photo.max(1)
        );
        if !prices.contains(&line) {
            prices.push_str(&line);
        }
        if !speeds.contains(&speed) {
            speeds.push_str(&speed);
        }
    }
    for (path, text) in [(&on_demand, &prices), (&throughput, &speeds)] {
        std::fs::write(path, text)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    }
    Ok(MarketConfig {
        files: vec![on_demand],
        throughput: Some(throughput),
        limits: None,
        pools: own.pools.clone(),
    })
}

/// Refuses a speed-up whose own error would be too large, by what an idle cluster takes for a commit.
async fn foresee(
    ctx: &mut Context,
    house: &House,
    own: &MarketArgs,
    asked_for: &Asked,
) -> Result<(), Failure> {
    let client = house.client();
    let mut took = Vec::new();
    for _ in 0..TRIALS {
        let begun = Instant::now();
        client.ping().await.map_err(asked("ping"))?;
        took.push(begun.elapsed().as_secs_f64());
    }
    let commit = Quantiles::of(took, 6).p99;
    let begun = Instant::now();
    let program = agent_program()?;
    let version = tokio::process::Command::new(program)
        .arg("--version")
        .output()
        .await;
    version.map_err(|error| Failure::failed(format!("the agent's program: {error}")))?;
    // A launch is a submit's commit, a plan's, and the machines' that are known; an agent starts, and joins.
    let real = 3.0 * commit + begun.elapsed().as_secs_f64() + commit;
    let market = real * own.speedup as f64;
    let deadline = asked_for.deadline as f64 / SECOND as f64;
    let percent = market * 100.0 / deadline;
    ctx.out.note(&format!(
        "A speed-up of {} puts this run off by some {market:.1} s of the market, {percent:.1} % of the deadline",
        own.speedup
    ));
    match percent > ERROR_MAX && !own.loose {
        true => Err(Failure::usage(format!(
            "{} puts the run off by {percent:.1} % of the deadline; at most {ERROR_MAX} % is taken: less, or --loose",
            own.speedup
        ))
        .at("--speedup")),
        false => Ok(()),
    }
}

/// Waits until all jobs have ended, and the market's time is over.
async fn ended(house: &mut House, clock: MarketClock, until: Time) -> Result<(), Failure> {
    clock.reach(until).await;
    let (latest, really) = (Time(until.0 + DONE_WITHIN), Instant::now() + DONE_WITHIN_REALLY);
    loop {
        let open = leader(house)
            .await?
            .map(|leader| leader.jobs_open + leader.tasks_waiting + leader.tasks_given);
        if open == Some(0) {
            return Ok(());
        }
        house.check_alive()?;
        if clock.now() > latest || Instant::now() > really {
            return Err(Failure::timeout(format!(
                "{} photos and jobs had not ended long after the last photo",
                open.unwrap_or_default()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the cluster has let all machines go.
async fn empty(house: &mut House, cloud: &LocalCloud) -> Result<(), Failure> {
    let clock = cloud.clock();
    let (latest, really) = (
        Time(clock.now().0 + EMPTY_WITHIN),
        Instant::now() + DONE_WITHIN_REALLY,
    );
    while !cloud.live().is_empty() {
        house.check_alive()?;
        if clock.now() > latest && Instant::now() > really {
            let live = cloud.live().len();
            return Err(Failure::timeout(format!(
                "{live} machines were left long after the last photo"
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until all servers have applied the same, and nothing is on its way.
async fn level(house: &mut House) -> Result<(), Failure> {
    let until = Instant::now() + QUIET_WITHIN;
    loop {
        let statuses = house.statuses().await;
        let leader = statuses
            .iter()
            .find(|(_, status)| status.ready)
            .map(|(_, status)| status);
        let same = |applied| statuses.iter().all(|(_, status)| status.applied == applied);
        if leader.is_some_and(|leader| leader.proposed == 0 && same(leader.applied))
            && statuses.len() == house.data_dirs().len()
        {
            return Ok(());
        }
        house.check_alive()?;
        if Instant::now() > until {
            return Err(Failure::timeout("the servers did not come to the same entry"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn leader(house: &House) -> Result<Option<rebound_proto::v1::StatusReply>, Failure> {
    let statuses = house.statuses().await;
    Ok(statuses
        .into_iter()
        .map(|(_, status)| status)
        .find(|status| status.ready))
}

/// All results, as clients read them.
async fn results(house: &House, sent: &[Sent]) -> Result<Vec<Acknowledged>, Failure> {
    let client = house.client();
    let mut all = Vec::new();
    for job in sent {
        let (mut results, mut first) = (Vec::new(), 0);
        loop {
            let page = client
                .results(job.id, first, PAGE)
                .await
                .map_err(asked("results"))?;
            results.extend(page.results);
            if page.next == 0 {
                break;
            }
            first = page.next;
        }
        all.push(Acknowledged {
            job: job.id,
            photos: job.photos.clone(),
            results,
        });
    }
    Ok(all)
}

/// Photos and jobs that were late.
async fn late(house: &House, sent: &[Sent]) -> Result<(u64, u64), Failure> {
    let client = house.client();
    let (mut photos, mut jobs) = (0, 0);
    for job in sent {
        let job = client.get(job.id).await.map_err(asked("a job"))?;
        photos += job.late;
        jobs += u64::from(job.late > 0);
    }
    Ok((photos, jobs))
}

/// From each notice until its agent had left.
fn handed_back(notices: &[story::Notice]) -> Quantiles {
    let took = |one: &story::Notice| Some((one.left?.0.saturating_sub(one.at.0)) as f64 / SECOND as f64);
    Quantiles::of(notices.iter().filter_map(took).collect(), 1)
}

fn own_error(
    rate: u64,
    deadline: u64,
    sent: &[Sent],
    settled_in: &[u64],
    cloud: &LocalCloud,
) -> figures::OwnError {
    let seconds = |us: u64| us as f64 / SECOND as f64;
    let submit = sent
        .iter()
        .map(|one| one.took.as_secs_f64() * rate as f64)
        .collect();
    let submit = Quantiles::of(submit, 2);
    let launch = Quantiles::of(settled_in.iter().map(|us| seconds(*us)).collect(), 2);
    let boot = Quantiles::of(cloud.boot_errors().into_iter().map(seconds).collect(), 2);
    let total_s = round(submit.p99 + launch.p99 + boot.p99, 2);
    figures::OwnError {
        submit,
        launch,
        boot,
        total_s,
        of_deadline_percent: round(total_s * 100.0 / seconds(deadline), 2),
    }
}
