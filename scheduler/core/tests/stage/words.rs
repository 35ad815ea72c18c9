//! What happens on the stage, in words: one short line each.

use rebound_core::effects::Desired;
use rebound_core::event::{Event, Fact};
use rebound_core::io::{Answer, Fetch, JobView, MemberView};
use rebound_core::replica::Outlook;
use rebound_core::reply::{Judged, Refused, Rejected, Reply};
use rebound_core::state::environments::{Allotment, Environment};
use rebound_core::state::settings::{Setting, Settings};
use rebound_core::types::SECOND;

use super::names::{Names, tasks};

/// An event.
pub fn event(names: &Names, event: &Event) -> String {
    let job = event.job.map(|job| names.job(job)).unwrap_or_default();
    match &event.fact {
        Fact::Began { .. } => "the cluster began".into(),
        Fact::Restored { .. } => "the cluster began from a backup".into(),
        Fact::JobOpened { .. } => format!("{job} opened"),
        Fact::TasksQueued { first, count } => format!("{} queued", tasks(&job, *first, *count)),
        Fact::TasksLate { first, count, late } => {
            let these = tasks(&job, *first, *count);
            format!("the deadline of {these} passed: {late} late")
        }
        Fact::Dropped { first, count } => format!("{} dropped", tasks(&job, *first, *count)),
        Fact::JobClosed { by_itself: false } => format!("{job} closed"),
        Fact::JobClosed { by_itself: true } => format!("{job} closed by itself"),
        Fact::JobDone { succeeded, failed } => format!("{job} done: {succeeded} succeeded, {failed} failed"),
        Fact::JobCancelled { unended } => format!("{job} cancelled with {unended} tasks not ended"),
        Fact::RunGiven {
            worker,
            first,
            count,
            given,
        } => format!(
            "{} given to {} as {}",
            tasks(&job, *first, *count),
            names.worker(*worker),
            names.fence(*given)
        ),
        Fact::RunRegiven {
            from,
            to,
            first,
            count,
            was,
            given,
        } => format!(
            "{} taken back from {} as {}, given to {} as {}",
            tasks(&job, *first, *count),
            names.worker(*from),
            names.fence(*was),
            names.worker(*to),
            names.fence(*given)
        ),
        Fact::PieceDropped {
            worker,
            first,
            count,
            why,
        } => format!(
            "{} not given to {}: {why}",
            tasks(&job, *first, *count),
            names.worker(*worker)
        ),
        Fact::Recorded {
            worker,
            first,
            count,
            given,
            cause,
        } => {
            let outcome = match cause {
                None => "succeeded".into(),
                Some(cause) => format!("failed for good ({cause:?})"),
            };
            let (worker, given) = (names.worker(*worker), names.fence(*given));
            format!("{} {outcome} on {worker} as {given}", tasks(&job, *first, *count))
        }
        Fact::Refused {
            worker,
            first,
            count,
            given,
            verdict,
        } => {
            let (worker, given) = (names.worker(*worker), names.fence(*given));
            let these = tasks(&job, *first, *count);
            format!("{these} from {worker} as {given} does not count: {verdict:?}")
        }
        Fact::Requeued {
            worker,
            task,
            given,
            cause,
            not_before,
        } => {
            let (worker, given) = (names.worker(*worker), names.fence(*given));
            let wait = span(not_before.0.saturating_sub(event.at.0));
            format!("{job}/{task} back from {worker} as {given} ({cause:?}), waits {wait}")
        }
        Fact::WorkerJoined { worker, .. } => format!("{} joined", names.worker(*worker)),
        Fact::WorkerLost {
            worker,
            tasks: held,
            why,
        } => format!("{} lost with {held} tasks: {why}", names.worker(*worker)),
        Fact::WorkerLeft { worker } => format!("{} left", names.worker(*worker)),
        Fact::WorkerDraining { worker } => format!("{} drains", names.worker(*worker)),
        Fact::KeysForgotten { count } => format!("keys forgotten: {count}"),
        Fact::JobDeleted { tasks } => format!("{job} deleted with {tasks} tasks"),
        Fact::EnvironmentAllotted { name } => format!("environment {name} has another allotment"),
        Fact::SettingChanged { name, value } => match Setting::named(name) {
            Some(setting) => format!("{name} is now {}", setting.about().unit.say(*value)),
            None => format!("{name} is now {value}"),
        },
        Fact::ClockAccepted { by } => format!("the cluster's clock went forward by {}", span(*by)),
        Fact::MemberAdded { server, replaces } => {
            let place = replaces.map_or(String::new(), |old| format!(" in place of server {old}"));
            format!("server {server} is added as learner{place}")
        }
        Fact::MemberMet { server, .. } => format!("server {server} is met with its disk"),
        Fact::MemberPromoted { server, replaces } => {
            let and = replaces.map_or(String::new(), |old| format!(", server {old} goes"));
            format!("server {server} becomes a voter{and}: joint from here")
        }
        Fact::Upgraded { from, to } => {
            format!("the cluster runs at version {to}, and not at {from} any more")
        }
        Fact::MemberBuild { server, build } => format!("server {server} runs {build}"),
        Fact::MemberLeaving { server } => format!("server {server} goes: joint from here"),
        Fact::MemberRemoved { server } => format!("server {server} is no member any more"),
        Fact::MembersSettled { voters } => {
            let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
            format!("voters are {}", voters.join(" "))
        }
        // Scripts do not buy.
        other => format!("{other:?}"),
    }
}

/// An answer.
pub fn answer(names: &Names, answer: &Result<Answer, Refused>) -> String {
    match answer {
        Ok(answer) => answered(names, answer),
        Err(refused) => refusal(names, refused),
    }
}

fn answered(names: &Names, answer: &Answer) -> String {
    match answer {
        Answer::Pools(view) => format!("pools {}", view.pools.len()),
        Answer::Forecast(view) => format!("quarters {}", view.quarters.len()),
        Answer::Fleet(_) => "the fleet".to_owned(),
        Answer::Costs(view) => format!("costs of {} hours", view.hours.len()),
        Answer::Decisions(view) => format!("decisions {}", view.decisions.len()),
        Answer::Policies(view) => format!("policies {}", view.policies.len()),
        Answer::Stale { answer, index, .. } => format!("as of entry {index}: {}", answered(names, answer)),
        Answer::Applied {
            reply,
            placeable,
            outlook,
        } => {
            let here = if *placeable {
                ""
            } else {
                "; no worker here can run it"
            };
            format!("{}{here}{}", applied(names, reply), outlook_of(outlook))
        }
        Answer::Job(view) => job(view),
        Answer::Jobs { jobs, next } => {
            let list: Vec<String> = jobs.iter().map(|view| names.job(view.id)).collect();
            let more = next.map_or(String::new(), |next| {
                format!(", older ones before {}", names.job(next))
            });
            format!("[{}]{more}", list.join(" "))
        }
        Answer::Fetch(Fetch::Task(task)) => {
            let held = task.held.map_or(String::new(), |(given, worker)| {
                format!(" to {} as {}", names.worker(worker), names.fence(given))
            });
            let suspect = match task.deaths {
                0 => String::new(),
                deaths => format!(", {deaths} recognisers dead"),
            };
            format!(
                "{}{held}; {} failed, {} lost{suspect}",
                task.state, task.attempts, task.losses
            )
        }
        Answer::Fetch(Fetch::Results {
            first, limit, tasks, ..
        }) => {
            format!("from {first}, at most {limit} of {tasks}")
        }
        Answer::Workers(list) => {
            let one = |(id, worker, heard): &(_, rebound_core::state::workers::Worker, Option<_>)| {
                let heard = if heard.is_some() { "" } else { ", not yet heard" };
                format!(
                    "{} {:?}{heard}, {} succeeded, {} failed",
                    names.worker(*id),
                    worker.standing,
                    worker.succeeded,
                    worker.failed
                )
            };
            let list: Vec<String> = list.iter().map(one).collect();
            list.join("; ")
        }
        Answer::Environments(all) => {
            let one = |(one, may, keys): &(Environment, Allotment, u64)| {
                let counts = one.counts;
                format!(
                    "{}: weight {}, {} waiting, {} given, {} jobs, {keys} keys, at most {} {} {}",
                    one.name,
                    may.weight,
                    counts.waiting,
                    counts.given,
                    one.jobs,
                    may.waiting,
                    may.given,
                    may.jobs
                )
            };
            all.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Answer::Settings(settings) => {
            let changed = Setting::ALL
                .iter()
                .filter(|one| settings.get(**one) != one.about().default);
            let changed: Vec<String> = changed
                .map(|one| {
                    format!(
                        "{}={}",
                        one.about().name,
                        one.about().unit.say(settings.get(*one))
                    )
                })
                .collect();
            format!("[{}]", changed.join(" "))
        }
        Answer::Welcome {
            worker, orphan_for, ..
        } if *orphan_for != Settings::default().orphan_for() => {
            format!(
                "welcome, {}, orphan after {}",
                names.worker(*worker),
                span(*orphan_for)
            )
        }
        Answer::Members { members, .. } => {
            let one = |of: &MemberView| {
                let alive = if of.alive { "" } else { ", silent" };
                let lost = if of.stranger.is_some() {
                    ", another disk came"
                } else {
                    ""
                };
                format!("{} {:?}{alive}{lost}", of.id, of.member.role)
            };
            members.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Answer::Leads(id) => format!("server {id} leads"),
        Answer::Welcome { worker, .. } => format!("welcome, {}", names.worker(*worker)),
    }
}

/// What is said of a job's end, if that is known.
fn outlook_of(outlook: &Option<Outlook>) -> String {
    let Some(Outlook {
        ahead,
        expected_done: Some(at),
        too_late,
    }) = outlook
    else {
        return String::new();
    };
    let late = if *too_late { ", too late" } else { "" };
    let at = span(at.0.saturating_sub(super::EPOCH));
    format!("; {ahead} photos ahead, done at {at}{late}")
}

fn applied(names: &Names, reply: &Reply) -> String {
    match reply {
        Reply::Opened {
            job,
            phase,
            next_offset,
            repeated,
            ..
        } => {
            let again = if *repeated { ", as before" } else { "" };
            format!(
                "{} is {phase:?} with {next_offset} photos{again}",
                names.job(*job)
            )
        }
        Reply::Appended { next_offset } => format!("{next_offset} photos are here"),
        Reply::Counted { count, .. } => format!("counted {count}"),
        Reply::Done | Reply::Job { .. } => "ok".into(),
        Reply::Joined { worker } => format!("{} joined", names.worker(*worker)),
        Reply::Ended { .. }
        | Reply::Adopted { .. }
        | Reply::Clock { .. }
        | Reply::Expired { .. }
        | Reply::Overdue { .. } => format!("{reply:?}"),
    }
}

fn job(view: &JobView) -> String {
    let job = &view.job;
    let counts = [
        (job.waiting(), "waiting"),
        (job.given, "given"),
        (job.succeeded, "succeeded"),
        (job.failed, "failed"),
        (job.cancelled(), "cancelled"),
        (job.late, "late"),
        (job.dropped, "dropped"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let why = match view.waiting_for {
        "" => String::new(),
        why => format!("; {why}"),
    };
    format!(
        "{:?}, {} photos: {}{why}{}",
        job.phase,
        job.tasks,
        counts.join(", "),
        outlook_of(&view.outlook)
    )
}

/// A refusal, with the field it names.
pub fn refusal(names: &Names, refused: &Refused) -> String {
    match refused {
        Refused::NotLeader { leader: Some(leader) } => format!("NotLeader: ask server {leader}"),
        Refused::NotLeader { leader: None } => "NotLeader: no leader is known".into(),
        Refused::Rejected(Rejected::NotFound { what, .. }) => format!("NotFound: no such {what}"),
        Refused::Rejected(Rejected::NotOpen { job, phase }) => {
            format!(
                "NotOpen: {} is {phase:?} and takes no more photos",
                names.job(*job)
            )
        }
        Refused::Rejected(rejected) => format!("{}: {rejected}", kind(rejected)),
        other => format!("{}: {other}", kind(other)),
    }
}

fn kind(of: &impl std::fmt::Debug) -> String {
    let debug = format!("{of:?}");
    let end = debug.find(|c: char| !c.is_alphanumeric()).unwrap_or(debug.len());
    debug[..end].to_owned()
}

/// What a worker shall do.
pub fn desired(names: &Names, desired: &Desired) -> String {
    let mut parts: Vec<String> = desired
        .runs
        .iter()
        .map(|run| {
            let tasks = tasks(&names.job(run.job), run.first, run.last - run.first + 1);
            let alone = if run.alone { " alone" } else { "" };
            format!("{tasks} as {}{alone}", names.fence(run.given))
        })
        .collect();
    if parts.is_empty() {
        parts.push("nothing".into());
    }
    let drain = if desired.drain { " (it drains)" } else { "" };
    format!("{}{drain}", parts.join(", "))
}

/// What a worker hears of its results.
pub fn judged(names: &Names, judged: &[Judged]) -> String {
    let one = |judged: &Judged| {
        let (job, given) = (names.job(judged.job), names.fence(judged.given));
        let these = tasks(&job, judged.first, judged.count);
        format!("{these} as {given} {:?}", judged.verdict)
    };
    judged.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A span of time: whole seconds, or milliseconds.
pub fn span(us: u64) -> String {
    match us {
        0 => "0s".into(),
        us if us % SECOND == 0 => format!("{}s", us / SECOND),
        us => format!("{}.{:03}s", us / SECOND, us % SECOND / 1_000),
    }
}
