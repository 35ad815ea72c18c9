//! `rebound submit`.

mod sources;

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream::{StreamExt, TryStreamExt};
use rebound_proto::v1::job_spec::Deadline;
use rebound_proto::v1::{JobSpec, Label};
use serde::Serialize;

use super::Context;
use super::job::jobs_table;
use crate::exit::{Exit, Failure};
use crate::limits::{JOBS_AT_ONCE, KEY_BYTES_MAX, PRIORITY_MAX, TASKS_PER_JOB_MAX};
use crate::output::{clean, counted, parse_duration, time, time_opt};
use crate::spec::{self, JobFile, Mistake};
use crate::submit::{self, Order, Submitted, random_key, random_trace_id};
use crate::view::{JobView, hex_opt, job_state};
use crate::wait;

/// Priority of a job that names none.
const PRIORITY_DEFAULT: u32 = 50;

/// What to submit, and how.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// A job specification (.yaml, .yml, .json), or photos: files, directories, globs, lists (a path a line), or -
    ///
    /// From stdin: a list of photos if --recogniser is given, else a specification.
    #[arg(required = true, value_name = "SPEC|DIR|GLOB|LIST|-")]
    sources: Vec<String>,
    /// Which recogniser looks at the photos; `name@hex` pins its digest
    #[arg(long, value_name = "NAME")]
    recogniser: Option<String>,
    /// The region of the photos' bucket, as eu-central-1: machines are bought there unless another saves more
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// The job's name
    #[arg(long)]
    name: Option<String>,
    /// When the whole job should be done: 3m, or 2026-11-22T08:00:00Z
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    deadline: Option<String>,
    /// Photos whose deadline has passed are not done: they fail as dropped
    #[arg(long)]
    drop_late: bool,
    /// 0 to 100, higher first [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=PRIORITY_MAX as i64))]
    priority: Option<u32>,
    /// Makes submitting repeatable: the same key with the same photos is the same job
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Make a job of every N photos [default: all in one job]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=TASKS_PER_JOB_MAX))]
    batch: Option<u64>,
    /// Wait until all photos are done; exit 9 if some failed
    #[arg(long)]
    wait: bool,
    /// Do not wait, which is the default
    #[arg(long, conflicts_with = "wait")]
    detach: bool,
    /// Stop waiting after so long; exit 124
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "wait")]
    wait_timeout: Option<Duration>,
    /// Check everything, say what would be submitted, and submit nothing
    #[arg(long)]
    dry_run: bool,
}

/// Submits.
pub async fn run(ctx: &mut Context, args: SubmitArgs) -> Result<Exit, Failure> {
    let file = sources::read(&args)?;
    let (spec, photos, key) = settle(&args, file)?;
    warn_if_late(ctx, &spec);
    let orders = orders(&spec, photos, key.as_deref(), args.batch)?;
    if args.dry_run {
        return dry_run(ctx, &spec, &orders);
    }
    let client = ctx.client();
    let sent = futures_util::stream::iter(orders.iter().map(|order| submit::submit(&client, order)));
    let submitted: Result<Vec<Submitted>, _> = sent.buffered(JOBS_AT_ONCE).try_collect().await;
    let submitted = submitted.map_err(|error| {
        let failure = Failure::from(error);
        let again = match (&key, orders.first()) {
            // Asking again under a key of one's own is for the caller to know.
            (None, Some(order)) if failure.exit != Exit::Usage => {
                let key = String::from_utf8_lossy(&order.key);
                let base = key.split('/').next().unwrap_or(&key).to_string();
                format!("; the same command with --idempotency-key {base} goes on where this stopped")
            }
            _ => String::new(),
        };
        Failure {
            message: format!("{}{again}", failure.message),
            ..failure
        }
    })?;
    if args.wait {
        return wait_for(ctx, &args, &submitted).await;
    }
    tell(ctx, &orders, &submitted)
}

/// Options win over the specification. Returns the job, its photos and the caller's key.
fn settle(args: &SubmitArgs, file: JobFile) -> Result<(JobSpec, Vec<String>, Option<String>), Failure> {
    let bad = |option: &str| {
        let option = option.to_string();
        move |Mistake(why)| Failure::usage(format!("{option}: {why}")).at(option)
    };
    let recogniser = match &args.recogniser {
        Some(name) => Some(spec::recogniser(name).map_err(bad("--recogniser"))?),
        None => file.recogniser,
    };
    let name = match &args.name {
        Some(name) => Some(spec::job_name(name).map_err(bad("--name"))?),
        None => file.name,
    };
    let deadline: Option<Deadline> = match &args.deadline {
        Some(text) => Some(spec::deadline(text).map_err(bad("--deadline"))?),
        None => file.deadline,
    };
    let key = match &args.idempotency_key {
        Some(key) => Some(spec::key_text(key).map_err(bad("--idempotency-key"))?),
        None => file.idempotency_key,
    };
    let Some(recogniser) = recogniser else {
        let how = "name a recogniser: --recogniser NAME, or `recogniser:` in a specification; \
                   `rebound worker list` shows those that workers have";
        return Err(Failure::usage(how).at("recogniser"));
    };
    let labels: Vec<Label> = file.labels;
    let spec = JobSpec {
        name: name.unwrap_or_else(|| "photos".into()),
        recogniser,
        resources: file.resources,
        priority: args.priority.or(file.priority).unwrap_or(PRIORITY_DEFAULT),
        deadline,
        photo_timeout_us: file.photo_timeout_us.unwrap_or(0),
        max_attempts: file.max_attempts.unwrap_or(0),
        labels,
        drop_late: args.drop_late || file.drop_late,
        region: args.region.clone().or(file.region).unwrap_or_default(),
    };
    Ok((spec, file.photos, key))
}

fn warn_if_late(ctx: &mut Context, spec: &JobSpec) {
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_micros());
    if let Some(Deadline::DeadlineAtUs(at)) = spec.deadline
        && u128::from(at) < now
    {
        ctx.out
            .note(&format!("Warning: the deadline {} is past.", time(at)));
    }
}

/// One order for each job. A batch's jobs have the common key with their number.
fn orders(
    spec: &JobSpec,
    photos: Vec<String>,
    key: Option<&str>,
    batch: Option<u64>,
) -> Result<Vec<Order>, Failure> {
    let base = key.map_or_else(random_key, String::from);
    let trace_id = random_trace_id();
    let order = |photos: Vec<String>, key: String| Order {
        spec: spec.clone(),
        photos,
        key: Bytes::from(key),
        trace_id: trace_id.clone(),
    };
    let Some(batch) = batch else {
        return Ok(vec![order(photos, base)]);
    };
    let size = usize::try_from(batch).unwrap_or(usize::MAX);
    let orders: Vec<Order> = photos
        .chunks(size)
        .enumerate()
        .map(|(i, chunk)| order(chunk.to_vec(), format!("{base}/{i}")))
        .collect();
    match orders.iter().map(|order| order.key.len()).max() {
        Some(longest) if longest > KEY_BYTES_MAX => {
            let why =
                format!("with each job's number has {longest} bytes; at most {KEY_BYTES_MAX} are allowed");
            Err(Failure::usage(format!("the idempotency key {why}")).at("idempotency_key"))
        }
        _ => Ok(orders),
    }
}

#[derive(Serialize)]
struct SubmittedView {
    job: u64,
    name: String,
    photos: u64,
    state: &'static str,
    placeable: bool,
    /// Photos that go before it.
    ahead: Option<u64>,
    /// An estimate.
    expected_done_at: Option<String>,
    /// By that estimate it cannot make its deadline.
    too_late: bool,
    repeated: bool,
    idempotency_key: String,
    trace_id: Option<String>,
}

fn tell(ctx: &mut Context, orders: &[Order], submitted: &[Submitted]) -> Result<Exit, Failure> {
    let view = |(order, submitted): (&Order, &Submitted)| SubmittedView {
        job: submitted.job,
        name: order.spec.name.clone(),
        photos: submitted.photos,
        state: job_state(submitted.state),
        placeable: submitted.placeable,
        ahead: submitted.outlook.map(|outlook| outlook.ahead),
        expected_done_at: submitted
            .outlook
            .and_then(|outlook| time_opt(outlook.expected_done_us)),
        too_late: submitted.outlook.is_some_and(|outlook| outlook.too_late),
        repeated: submitted.repeated,
        idempotency_key: String::from_utf8_lossy(&order.key).into_owned(),
        trace_id: hex_opt(&submitted.trace_id),
    };
    let views: Vec<SubmittedView> = orders.iter().zip(submitted).map(view).collect();
    let quiet = ctx.out.quiet;
    ctx.out.many(&views, |out, views| {
        views.iter().try_for_each(|view| {
            let verb = if view.repeated {
                "had been submitted before"
            } else {
                "submitted"
            };
            let name = clean(&view.name);
            match quiet {
                true => out.line(&view.job.to_string()),
                false => out.line(&format!(
                    "Job {} \"{name}\" {verb}: {}, {}.",
                    view.job,
                    counted(view.photos, "photo"),
                    view.state
                )),
            }
        })
    })?;
    // A batch may be of thousands of jobs: those that are too late first of all.
    let mut told: Vec<&SubmittedView> = views.iter().collect();
    told.sort_by_key(|view| !view.too_late);
    for view in told.into_iter().take(OUTLOOKS_TOLD) {
        tell_outlook(ctx, view);
    }
    if let Some(job) = submitted.first().map(|submitted| submitted.job) {
        ctx.out.note(&format!(
            "Next: rebound job watch {job}   rebound job results {job}   rebound job report {job}"
        ));
    }
    if lacks_worker(submitted) {
        ctx.out.note(NO_WORKER);
        return Ok(Exit::NotPlaceable);
    }
    Ok(Exit::Ok)
}

/// Told when a job cannot start for want of a worker.
const NO_WORKER: &str =
    "Accepted, but no worker that could run it is there now; `rebound worker list` shows who is.";

/// A job that came before may be done by now, whoever is there.
fn lacks_worker(submitted: &[Submitted]) -> bool {
    let over = |one: &Submitted| matches!(job_state(one.state), "done" | "cancelled");
    submitted.iter().any(|one| !one.placeable && !over(one))
}

/// Jobs of one submit whose outlook is told; all of them are in the machine-readable output.
const OUTLOOKS_TOLD: usize = 5;

fn tell_outlook(ctx: &mut Context, view: &SubmittedView) {
    let (Some(ahead), Some(at)) = (view.ahead, &view.expected_done_at) else {
        return;
    };
    let ahead = counted(ahead, "photo");
    ctx.out.note(&format!(
        "Job {}: {ahead} ahead of it, expected to be done at {at}.",
        view.job
    ));
    if view.too_late {
        ctx.out.note(&format!(
            "Job {} cannot make its deadline by this estimate. It is accepted all the same.",
            view.job
        ));
    }
}

async fn wait_for(ctx: &mut Context, args: &SubmitArgs, submitted: &[Submitted]) -> Result<Exit, Failure> {
    let jobs: Vec<u64> = submitted.iter().map(|submitted| submitted.job).collect();
    let listed = jobs
        .iter()
        .take(5)
        .map(u64::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    let more = if jobs.len() > 5 {
        format!(" and {} more", jobs.len() - 5)
    } else {
        String::new()
    };
    ctx.out.note(&format!(
        "Submitted job {listed}{more}; when this ends early, go on with: rebound job wait {listed}"
    ));
    if lacks_worker(submitted) {
        ctx.out.note(NO_WORKER);
    }
    let ended = wait::until_ended(&ctx.client(), &jobs, args.wait_timeout, &ctx.out).await?;
    let exit = wait::exit_of(&ended);
    let views: Vec<JobView> = ended.into_iter().map(Into::into).collect();
    ctx.out
        .many(&views, |out, views| out.table(&mut jobs_table(views)))?;
    if let Some(job) = jobs.first() {
        ctx.out.note(&format!(
            "Next: rebound job results {job}   rebound job report {job}"
        ));
    }
    Ok(exit)
}

#[derive(Serialize)]
struct DryRunView<'a> {
    dry_run: bool,
    name: &'a str,
    recogniser: &'a str,
    priority: u32,
    deadline_in_ms: Option<u64>,
    deadline_at: Option<String>,
    jobs: usize,
    photos: usize,
    first_photo: Option<&'a str>,
    last_photo: Option<&'a str>,
}

fn dry_run(ctx: &mut Context, spec: &JobSpec, orders: &[Order]) -> Result<Exit, Failure> {
    let view = DryRunView {
        dry_run: true,
        name: &spec.name,
        recogniser: &spec.recogniser,
        priority: spec.priority,
        deadline_in_ms: spec.deadline.and_then(|d| {
            if let Deadline::DeadlineInUs(us) = d {
                Some(us / 1_000)
            } else {
                None
            }
        }),
        deadline_at: spec.deadline.and_then(|d| {
            if let Deadline::DeadlineAtUs(us) = d {
                Some(time(us))
            } else {
                None
            }
        }),
        jobs: orders.len(),
        photos: orders.iter().map(|order| order.photos.len()).sum(),
        first_photo: orders
            .first()
            .and_then(|order| order.photos.first())
            .map(String::as_str),
        last_photo: orders
            .last()
            .and_then(|order| order.photos.last())
            .map(String::as_str),
    };
    ctx.out.one(&view, |out, view| {
        let what = format!(
            "{} in {} for {}",
            counted(view.photos as u64, "photo"),
            counted(view.jobs as u64, "job"),
            clean(view.recogniser)
        );
        out.line(&format!("Would submit {what}, named \"{}\".", clean(view.name)))
    })?;
    Ok(Exit::Ok)
}
