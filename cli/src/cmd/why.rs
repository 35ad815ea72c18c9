//! `rebound job explain` and `rebound worker explain`: why a job is where it is, and why a machine is there.

use rebound_proto::v1::{Decision, Machine, ScaleStatusReply};
use serde::Serialize;

use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{clean, duration, time};
use crate::view::JobView;

#[derive(Serialize)]
struct Explained {
    /// One sentence each, the most important first.
    because: Vec<String>,
}

/// Why a job is where it is.
pub async fn job(ctx: &mut Context, job: u64, stale: Stale) -> Result<Exit, Failure> {
    let client = ctx.reader(stale);
    let view = JobView::from(client.get(job).await?);
    let scale = client.scale_status().await?;
    say(ctx, of_job(&view, &scale))?;
    ctx.note_age(&client);
    Ok(Exit::Ok)
}

/// Why a worker is there, and what becomes of it.
pub async fn worker(ctx: &mut Context, worker: u64, name: &str, state: &str) -> Result<Exit, Failure> {
    let client = ctx.client();
    let scale = client.scale_status().await?;
    let decisions = client.decisions(0).await?.decisions;
    let machine = scale.machines.iter().find(|one| one.worker == worker);
    let mut because = vec![format!("Worker {worker}, {}, is {}.", clean(name), clean(state))];
    match machine {
        None => because.push("No machine that the cluster bought and that still runs is its own.".to_owned()),
        Some(machine) => because.extend(of_machine(machine, &decisions, scale.now_us)),
    }
    say(ctx, because)?;
    Ok(Exit::Ok)
}

fn say(ctx: &mut Context, because: Vec<String>) -> Result<(), Failure> {
    let explained = Explained { because };
    ctx.out.one(&explained, |out, explained| {
        explained.because.iter().try_for_each(|line| out.line(line))
    })?;
    Ok(())
}

fn of_job(view: &JobView, scale: &ScaleStatusReply) -> Vec<String> {
    let mut all = vec![format!(
        "Job {} is {}: {} of {} photos have ended, {} are with workers, {} wait.",
        view.job,
        view.state,
        view.ended(),
        view.tasks,
        view.given,
        view.waiting
    )];
    if let Some(why) = &view.waiting_for {
        all.push(format!("Nothing of it runs: {}.", clean(why)));
    }
    if let Some(ahead) = view.ahead.filter(|ahead| *ahead > 0) {
        all.push(format!("{ahead} photos of its environment go before it."));
    }
    if let Some(at) = &view.expected_done_at {
        let late = match (&view.deadline_at, view.too_late) {
            (Some(deadline), true) => format!(", after its deadline {deadline}"),
            (Some(deadline), false) => format!("; its deadline is {deadline}"),
            (None, _) => String::new(),
        };
        all.push(format!("As fast as workers are now it is done at {at}{late}."));
    }
    if view.late > 0 {
        all.push(format!(
            "{} photos had not ended when their deadline passed.",
            view.late
        ));
    }
    if view.usd > 0.0 {
        all.push(format!("Its photos took machine time of ${:.4}.", view.usd));
    }
    if view.waiting + view.given > 0 {
        all.extend(of_fleet(scale));
    }
    all
}

fn of_fleet(scale: &ScaleStatusReply) -> Vec<String> {
    let mut all = Vec::new();
    let count = |state: &str| scale.machines.iter().filter(|one| one.state == state).count();
    let comes = count("booting") + count("pending");
    let open = scale.launches.iter().filter(|one| one.outcome == "open").count();
    all.push(format!(
        "{} bought machines serve, {comes} get ready, {open} launches are open.",
        count("serving")
    ));
    if scale.frozen_us > 0 {
        let (by, why) = (clean(&scale.frozen_by), clean(&scale.frozen_why));
        all.push(format!("Nothing is bought: {by} froze launches: {why}."));
    }
    if !scale.brake.is_empty() {
        all.push(format!(
            "Nothing is bought: a brake is on: {}.",
            clean(&scale.brake)
        ));
    }
    if scale.short_us > 0 {
        let at = match scale.short_not_before_us {
            0 => "nobody can say when".to_owned(),
            at => time(at),
        };
        all.push(format!(
            "Photos will be late and nothing may be bought for them: {}; a machine more is ready at the earliest: {at}.",
            clean(&scale.short)
        ));
    }
    all
}

fn of_machine(machine: &Machine, decisions: &[Decision], now_us: u64) -> Vec<String> {
    let id = clean(&machine.id);
    let pool = machine.pool.as_ref().map_or("-".to_owned(), super::pool::text);
    let mut all = vec![format!(
        "Its machine is {id} of {pool}, wanted {} ago, at ${:.4} an hour; it has cost ${:.4}.",
        duration(now_us.saturating_sub(machine.wanted_us)),
        machine.price_micro_usd as f64 / 1e6,
        machine.paid_micro_usd as f64 / 1e6
    )];
    let launch = decisions
        .iter()
        .find(|one| one.what == "launch" && one.launch == machine.launch);
    all.push(match launch {
        Some(launch) => format!(
            "Launch {}, {}: {}.",
            launch.launch,
            time(launch.at_us),
            clean(&launch.words)
        ),
        None => format!(
            "It came of launch {}, of which nothing is kept any more.",
            machine.launch
        ),
    });
    // The newest first.
    let of_it = decisions.iter().filter(|one| one.machine == machine.id);
    all.extend(of_it.map(|one| format!("{}: {}.", time(one.at_us), clean(&one.words))));
    if !machine.ending.is_empty() {
        all.push(format!("It shall end: {}.", clean(&machine.ending)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_a_purchase_is_said_to_whoever_waits() {
        let job = rebound_proto::v1::Job {
            id: 7,
            tasks: 10,
            waiting: 10,
            waiting_for: "no worker has its recogniser".into(),
            ..rebound_proto::v1::Job::default()
        };
        let scale = ScaleStatusReply {
            brake: "3 machines in a row of template 2 never joined".into(),
            ..ScaleStatusReply::default()
        };
        let said = of_job(&JobView::from(job.clone()), &scale).join("\n");
        assert!(said.contains("Nothing of it runs: no worker"), "{said}");
        assert!(said.contains("a brake is on: 3 machines"), "{said}");
        let done = rebound_proto::v1::Job {
            waiting: 0,
            succeeded: 10,
            ..job
        };
        let said = of_job(&JobView::from(done), &scale).join("\n");
        assert!(!said.contains("brake"), "nothing of it waits: {said}");
    }

    #[test]
    fn a_machine_says_why_it_was_bought_and_what_becomes_of_it() {
        let decision = |what: &str, launch, machine: &str, words: &str| Decision {
            what: what.into(),
            launch,
            machine: machine.into(),
            words: words.into(),
            ..Decision::default()
        };
        let decisions = [
            decision(
                "let-go",
                0,
                "i-1",
                "i-1: idle for longer than keeping it is worth",
            ),
            decision(
                "launch",
                64,
                "",
                "4 × c5.large@euw1-az1/spot: 300 of 500 photos would be late",
            ),
        ];
        let machine = Machine {
            id: "i-1".into(),
            launch: 64,
            ..Machine::default()
        };
        let said = of_machine(&machine, &decisions, 5).join("\n");
        assert!(
            said.contains("300 of 500 photos") && said.contains("idle for longer"),
            "{said}"
        );
        let said = of_machine(&machine, &[], 5).join("\n");
        assert!(said.contains("nothing is kept"), "{said}");
    }
}
