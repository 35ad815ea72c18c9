//! Kills at a bad moment: photos in recognisers, results in spools, entries proposed.

use std::path::Path;
use std::time::Duration;

use rebound_proto::v1::StatusReply;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::DevArgs;
use crate::exit::Failure;
use crate::local::House;

/// A spool that grew by more than this has a new result; a removal is shorter.
const RESULT_BYTES: u64 = 128;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// How long a bad moment is waited for.
const MOMENT_WITHIN: Duration = Duration::from_secs(60);
/// How long a worker's words are held back at most: less than the silence after which it would be missed.
const HOLD_WITHIN: Duration = Duration::from_secs(5);
/// A killed server stays away so long.
const AWAY: Duration = Duration::from_secs(2);
/// Two leases with their graces, in case the leader changes once: until then a killed worker must have been missed.
const MISSED_WITHIN: Duration = Duration::from_secs(180);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    Leader,
    Worker,
    Follower,
}

/// A kill that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Killed {
    /// Who.
    pub who: Who,
    /// Its name.
    pub name: String,
    /// Results recorded by then, as the client knew.
    pub results_recorded: u64,
    /// The moment, as the leader said just before.
    pub photos_in_recognisers: u64,
    /// Likewise.
    pub results_in_spools: u64,
    /// Likewise.
    pub entries_proposed: u64,
    /// When.
    #[serde(skip)]
    pub at: Instant,
}

/// Kills whom the arguments name, one after another, each when its share of results is recorded and the one before is
/// back.
pub async fn run(
    house: &mut House,
    args: &DevArgs,
    mut recorded: watch::Receiver<u64>,
    stop_probe: &watch::Sender<bool>,
    said: &dyn Fn(&Killed),
) -> Result<Vec<Killed>, Failure> {
    let mut planned: Vec<(u8, Who)> = [
        (args.kill_leader, Who::Leader),
        (args.kill_worker, Who::Worker),
        (args.kill_follower, Who::Follower),
    ]
    .into_iter()
    .filter_map(|(percent, who)| Some((percent?, who)))
    .collect();
    planned.sort_by_key(|(percent, _)| *percent);
    let mut kills = Vec::new();
    for (percent, who) in planned {
        let wanted = (args.burst * u64::from(percent)).div_ceil(100);
        let reached = recorded
            .wait_for(|recorded| *recorded >= wanted)
            .await
            .map(|recorded| *recorded);
        reached.map_err(|_| Failure::failed("the burst ended before the kill"))?;
        let killed = match who {
            Who::Leader => kill_server(house, who, 0, &recorded).await?,
            Who::Worker => kill_worker(house, &recorded).await?,
            Who::Follower => kill_server(house, who, 1, &recorded).await?,
        };
        said(&killed);
        let name = killed.name.clone();
        kills.push(killed);
        match who {
            Who::Leader => bring_back(house, &name).await?,
            Who::Worker => bring_back_worker(house, &name).await?,
            Who::Follower => bring_back_behind(house, &name).await?,
        }
    }
    stop_probe.send_replace(true);
    Ok(kills)
}

fn is_bad_moment(status: &StatusReply) -> bool {
    status.photos_running > 0 && status.results_spooled > 0 && status.proposed > 0
}

fn killed(who: Who, name: String, recorded: u64, status: &StatusReply) -> Killed {
    Killed {
        who,
        name,
        results_recorded: recorded,
        photos_in_recognisers: status.photos_running,
        results_in_spools: status.results_spooled,
        entries_proposed: status.proposed,
        at: Instant::now(),
    }
}

/// Kills the server that stands so many places after the leader, at a bad moment; 0 is the leader itself.
async fn kill_server(
    house: &mut House,
    who: Who,
    places_after: usize,
    recorded: &watch::Receiver<u64>,
) -> Result<Killed, Failure> {
    let (leader, status) = bad_moment(house).await?;
    let at = (leader + places_after) % house.addresses().len();
    let killed = killed(who, format!("server {}", at + 1), *recorded.borrow(), &status);
    house.kill_server(at);
    Ok(killed)
}

/// Looks at the leader until it is busy in every way.
async fn bad_moment(house: &mut House) -> Result<(usize, StatusReply), Failure> {
    let until = Instant::now() + MOMENT_WITHIN;
    let client = house.client();
    let addresses = house.addresses();
    let (mut at, _) = house.leader(MOMENT_WITHIN).await?;
    loop {
        match client.status_of(&addresses[at]).await {
            Ok(status) if status.ready && is_bad_moment(&status) => return Ok((at, status)),
            Ok(status) if status.ready => tokio::time::sleep(LOOK).await,
            _ => (at, _) = house.leader(MOMENT_WITHIN).await?,
        }
        if Instant::now() > until {
            return Err(Failure::timeout(
                "no moment came with photos in recognisers, results in spools and entries proposed; try a larger burst",
            ));
        }
    }
}

/// The victim's words are held at the gate until it has a result that no server has heard of.
async fn kill_worker(house: &mut House, recorded: &watch::Receiver<u64>) -> Result<Killed, Failure> {
    let until = Instant::now() + MOMENT_WITHIN;
    while Instant::now() < until {
        let busy = house
            .client()
            .workers()
            .await?
            .into_iter()
            .find(|worker| worker.state == "active" && worker.running > 0);
        let Some(at) = busy.as_ref().and_then(|worker| house.agent_named(&worker.name)) else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let Some((process, spool)) = house.agent(at) else {
            continue;
        };
        house.gates.hold(process);
        let before = length(&spool);
        let held = Instant::now() + HOLD_WITHIN;
        while Instant::now() < held {
            if length(&spool) > before + RESULT_BYTES
                && let Some((_, status)) = house
                    .statuses()
                    .await
                    .into_iter()
                    .find(|(_, status)| status.ready)
                && is_bad_moment(&status)
            {
                let name = busy.expect("found").name;
                let killed = killed(Who::Worker, name, *recorded.borrow(), &status);
                house.kill_agent(at);
                house.gates.lose();
                return Ok(killed);
            }
            tokio::time::sleep(LOOK).await;
        }
        house.gates.release();
    }
    Err(Failure::timeout(
        "no moment came with an unheard result in a busy worker's spool; try a larger burst",
    ))
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

fn place(name: &str) -> usize {
    name.rsplit(' ')
        .next()
        .and_then(|id| id.parse::<usize>().ok())
        .map_or(0, |id| id - 1)
}

async fn bring_back(house: &mut House, name: &str) -> Result<(), Failure> {
    tokio::time::sleep(AWAY).await;
    house.start_server(place(name), false)?;
    house.caught_up(place(name), MOMENT_WITHIN).await
}

/// Comes back only when the leader's log begins after everything it has.
async fn bring_back_behind(house: &mut House, name: &str) -> Result<(), Failure> {
    let had = house
        .statuses()
        .await
        .iter()
        .map(|(_, status)| status.applied)
        .max()
        .unwrap_or(0);
    let until = Instant::now() + MOMENT_WITHIN;
    loop {
        let (_, leader) = house.leader(MOMENT_WITHIN).await?;
        if leader.first_index > had + 1 {
            break;
        }
        if Instant::now() > until {
            return Err(Failure::timeout(
                "the log was not cut while the server was down; use a larger burst",
            ));
        }
        tokio::time::sleep(LOOK * 5).await;
    }
    house.start_server(place(name), false)?;
    house.caught_up(place(name), MOMENT_WITHIN).await
}

/// Comes back with its spool when it was missed, so that its late results find their tasks given anew.
async fn bring_back_worker(house: &mut House, name: &str) -> Result<(), Failure> {
    let client = house.client();
    let until = Instant::now() + MISSED_WITHIN;
    loop {
        let workers = client.workers().await?;
        let live = workers
            .iter()
            .any(|worker| worker.name == name && matches!(worker.state.as_str(), "active" | "draining"));
        if !live {
            break;
        }
        if Instant::now() > until {
            return Err(Failure::timeout(format!("{name} was not missed")));
        }
        tokio::time::sleep(LOOK * 20).await;
    }
    let at = house
        .agent_named(name)
        .ok_or_else(|| Failure::failed("an unknown worker"))?;
    house.start_agent(at)
}
