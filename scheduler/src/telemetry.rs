//! Figures for `/metrics` and log lines. The only module that names the crate `metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::event::{Cause, Event, Fact, Verdict};
use rebound_core::state::machines::Gone;
use rebound_core::types::ReplicaId;

use crate::config::LoggingConfig;
use crate::node::Standing;

/// Bounds of the buckets of times, in seconds.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// A figure that is looked up once, not each time: for what happens thousands of times a second.
macro_rules! kept {
    ($kind:ident, $made:expr) => {{
        static KEPT: LazyLock<metrics::$kind> = LazyLock::new(|| $made);
        &*KEPT
    }};
}

/// How often times that were said become counts. Until then each takes memory of its own, whether or not anybody reads
/// the figures.
const UPKEEP: Duration = Duration::from_secs(5);

static PROMETHEUS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Sets the recorder of this process up, once. Figures said before are lost.
pub fn install() {
    PROMETHEUS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .ok()?
            .build_recorder();
        let handle = recorder.handle();
        let kept = handle.clone();
        std::thread::Builder::new()
            .name("figures".to_owned())
            .spawn(move || upkeep(&kept))
            .ok()?;
        metrics::set_global_recorder(recorder).ok()?;
        describe();
        Some(handle)
    });
}

/// As long as the process lives: its figures are no server's alone.
fn upkeep(handle: &PrometheusHandle) {
    loop {
        std::thread::sleep(UPKEEP);
        handle.run_upkeep();
    }
}

/// All figures, as Prometheus reads them; `None` when another recorder was there first.
pub fn render() -> Option<String> {
    let handle = PROMETHEUS.get()?.as_ref()?;
    handle.run_upkeep();
    Some(handle.render())
}

/// Sets log lines up, once for the process.
pub fn logging(config: &LoggingConfig) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Somebody else's may be there already, as in tests.
    let _ = match config.json {
        true => builder.json().try_init(),
        false => builder.with_ansi(false).try_init(),
    };
}

fn describe() {
    describe_counter!("rebound_tasks_queued_total", "Photos queued");
    describe_counter!("rebound_jobs_opened_total", "Jobs opened");
    describe_counter!("rebound_jobs_ended_total", "Jobs ended, by how");
    describe_counter!("rebound_jobs_deleted_total", "Jobs deleted after their retention");
    describe_counter!("rebound_keys_forgotten_total", "Idempotency keys forgotten");
    describe_counter!("rebound_tasks_given_total", "Photos given to workers");
    describe_counter!(
        "rebound_tasks_requeued_total",
        "Attempts that gave no result, by cause"
    );
    describe_counter!("rebound_results_recorded_total", "Results recorded, by outcome");
    describe_counter!(
        "rebound_results_refused_total",
        "Reported results that did not count, by verdict"
    );
    describe_counter!("rebound_workers_joined_total", "Sessions of workers begun");
    describe_counter!("rebound_workers_ended_total", "Sessions of workers ended, by how");
    describe_counter!("rebound_launches_total", "Launches committed");
    describe_counter!(
        "rebound_machines_wanted_total",
        "Machines that launches asked for"
    );
    describe_counter!("rebound_machines_started_total", "Machines that launches gave");
    describe_counter!("rebound_machines_ended_total", "Machines ended, by how");
    describe_counter!(
        "rebound_spares_total",
        "Machines kept for a burst that were started or stopped"
    );
    describe_counter!(
        "rebound_machines_paid_microusd_total",
        "What machines that have ended cost, in millionths of USD"
    );
    describe_counter!(
        "rebound_pieces_dropped_total",
        "Pieces of plans that no longer fitted"
    );
    describe_counter!(
        "rebound_peer_messages_dropped_total",
        "Messages to a peer dropped because its queue was full"
    );
    describe_counter!(
        "rebound_cloud_calls_total",
        "Calls of the cloud, by what and by what came of them"
    );
    describe_histogram!("rebound_cloud_call_seconds", "How long a call of the cloud took");
    describe_counter!("rebound_calls_refused_total", "Calls refused, by kind");
    describe_counter!(
        "rebound_peer_twins_total",
        "Hellos of other servers that another process speaks for already"
    );
    describe_counter!(
        "rebound_digests_compared_total",
        "Digests of other servers' states compared with this one's, by result: a different one is a fault"
    );
    describe_gauge!("rebound_raft_term", "raft's term");
    describe_gauge!("rebound_raft_index", "Last, committed and applied entry");
    describe_gauge!("rebound_leader", "1 while this server leads and is ready");
    describe_gauge!("rebound_tasks", "Photos waiting and given");
    describe_gauge!(
        "rebound_tasks_waiting_max",
        "Most photos that may wait in the cluster"
    );
    describe_gauge!("rebound_open_bytes", "Bytes kept for jobs that have not ended");
    describe_gauge!("rebound_open_bytes_max", "Most of them");
    describe_gauge!(
        "rebound_shedding",
        "1 while this server refuses requests under overload"
    );
    describe_counter!("rebound_shed_total", "Requests refused under overload, by why");
    describe_gauge!("rebound_workers", "Live sessions of workers");
    describe_gauge!("rebound_streams", "Streams of agents open here");
    describe_gauge!("rebound_queue_depth", "What waits in a queue");
    describe_gauge!("rebound_queue_bytes", "Bytes that wait in a queue");
    describe_histogram!("rebound_queue_wait_seconds", "How long things waited in a queue");
    describe_histogram!("rebound_store_write_seconds", "Time of one order to the store");
    describe_histogram!("rebound_handle_seconds", "Time of one call of the replica");
    describe_gauge!(
        "rebound_handle_seconds_max",
        "Longest call of the replica since the server began"
    );
    describe_gauge!(
        "rebound_handle_cpu_seconds_max",
        "Most processor time of one call of the replica since the server began"
    );
    describe_gauge!("rebound_store_memory_bytes", "RocksDB's memory, by use");
    describe_histogram!("rebound_ask_seconds", "Time from a question to its answer");
}

/// One order was written.
pub(crate) fn store_wrote(time: Duration, synced: bool, entries: usize) {
    let histogram = match synced {
        true => kept!(
            Histogram,
            histogram!("rebound_store_write_seconds", "synced" => "true")
        ),
        false => kept!(
            Histogram,
            histogram!("rebound_store_write_seconds", "synced" => "false")
        ),
    };
    histogram.record(time.as_secs_f64());
    kept!(Counter, counter!("rebound_entries_written_total")).increment(entries as u64);
}

/// A question waited so long for the replica.
pub(crate) fn ask_waited(time: Duration) {
    kept!(
        Histogram,
        histogram!("rebound_queue_wait_seconds", "queue" => "asks")
    )
    .record(time.as_secs_f64());
}

/// An order waited so long for the store.
pub(crate) fn order_waited(time: Duration) {
    kept!(
        Histogram,
        histogram!("rebound_queue_wait_seconds", "queue" => "store")
    )
    .record(time.as_secs_f64());
}

/// Memory of the store, by use.
pub(crate) fn store_memory(uses: &[(&'static str, u64)]) {
    for (of, bytes) in uses {
        gauge!("rebound_store_memory_bytes", "of" => *of).set(*bytes as f64);
    }
}

/// Jobs that wait for the store.
pub(crate) fn store_queue(depth: usize) {
    kept!(Gauge, gauge!("rebound_queue_depth", "queue" => "store")).set(depth as f64);
}

/// The replica was called with so many inputs, took so long, and so much of its processor.
pub(crate) fn handled(time: Duration, cpu: Duration, inputs: usize) {
    static LONGEST_US: AtomicU64 = AtomicU64::new(0);
    static MOST_US: AtomicU64 = AtomicU64::new(0);
    kept!(Histogram, histogram!("rebound_handle_seconds")).record(time.as_secs_f64());
    let grew = |most: &AtomicU64, time: Duration| {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        most.fetch_max(us, Ordering::Relaxed) < us
    };
    if grew(&LONGEST_US, time) {
        gauge!("rebound_handle_seconds_max").set(time.as_secs_f64());
    }
    if grew(&MOST_US, cpu) {
        gauge!("rebound_handle_cpu_seconds_max").set(cpu.as_secs_f64());
    }
    kept!(Counter, counter!("rebound_inputs_total")).increment(inputs as u64);
}

/// A question was answered.
pub(crate) fn answered(time: Duration) {
    kept!(Histogram, histogram!("rebound_ask_seconds")).record(time.as_secs_f64());
}

/// A call of the cloud came to something.
pub(crate) fn cloud_call(call: &CloudCall, outcome: &CloudOutcome, took: Duration) {
    let what = match call {
        CloudCall::Launch { .. } => "launch",
        CloudCall::Terminate { .. } => "terminate",
        CloudCall::Stop { .. } => "stop",
        CloudCall::Start { .. } => "start",
        CloudCall::List { .. } => "list",
    };
    let outcome = match outcome {
        CloudOutcome::Launched { .. }
        | CloudOutcome::Terminating
        | CloudOutcome::Accepted
        | CloudOutcome::Listed(_) => "done",
        CloudOutcome::Lacked => "lacked",
        CloudOutcome::Retry { .. } => "retry",
        CloudOutcome::Refused { .. } => "refused",
        CloudOutcome::Unknown => "unknown",
    };
    counter!("rebound_cloud_calls_total", "call" => what, "outcome" => outcome).increment(1);
    histogram!("rebound_cloud_call_seconds", "call" => what).record(took.as_secs_f64());
}

/// A call was refused.
pub(crate) fn refused(kind: &'static str) {
    counter!("rebound_calls_refused_total", "kind" => kind).increment(1);
}

/// A process was refused that says it is this server, since another one does.
pub(crate) fn twin(server: ReplicaId) {
    counter!("rebound_peer_twins_total", "server" => server.to_string()).increment(1);
}

/// The state of another server was compared with this one's.
pub(crate) fn digest_compared(with: ReplicaId, same: bool) {
    let result = if same { "same" } else { "different" };
    counter!("rebound_digests_compared_total", "server" => with.to_string(), "result" => result).increment(1);
}

/// A message to a peer was dropped.
pub(crate) fn peer_dropped(to: ReplicaId) {
    counter!("rebound_peer_messages_dropped_total", "peer" => to.to_string()).increment(1);
}

/// Depths of the queues in front of the replica.
pub(crate) struct Queues {
    pub peers: usize,
    pub asks: usize,
    pub reports: usize,
    pub open_asks: usize,
    pub streams: usize,
    pub peer_bytes: u64,
    pub ask_bytes: u64,
}

/// Where this server stands.
pub(crate) fn standing(standing: &Standing, queues: &Queues) {
    let status = &standing.status;
    gauge!("rebound_raft_term").set(status.term as f64);
    for (of, index) in [
        ("last", status.last),
        ("committed", status.committed),
        ("applied", status.applied),
    ] {
        gauge!("rebound_raft_index", "of" => of).set(index as f64);
    }
    gauge!("rebound_leader").set(if status.ready { 1.0 } else { 0.0 });
    gauge!("rebound_tasks", "state" => "waiting").set(standing.tasks_waiting as f64);
    gauge!("rebound_tasks", "state" => "given").set(standing.tasks_given as f64);
    gauge!("rebound_tasks_waiting_max").set(standing.tasks_waiting_max as f64);
    gauge!("rebound_open_bytes").set(standing.open_bytes as f64);
    gauge!("rebound_open_bytes_max").set(standing.open_bytes_max as f64);
    gauge!("rebound_shedding").set(if status.sheds.is_empty() { 0.0 } else { 1.0 });
    let refusals = status.refusals;
    for (why, count) in [
        ("deadline", refusals.deadline),
        ("full", refusals.full),
        ("proposals", refusals.proposals),
    ] {
        counter!("rebound_shed_total", "why" => why).absolute(count);
    }
    gauge!("rebound_workers").set(standing.workers as f64);
    gauge!("rebound_streams").set(queues.streams as f64);
    let depths = [
        ("peers", queues.peers),
        ("asks", queues.asks),
        ("reports", queues.reports),
        ("open_asks", queues.open_asks),
    ];
    for (queue, depth) in depths {
        gauge!("rebound_queue_depth", "queue" => queue).set(depth as f64);
    }
    gauge!("rebound_queue_bytes", "queue" => "peers").set(queues.peer_bytes as f64);
    gauge!("rebound_queue_bytes", "queue" => "asks").set(queues.ask_bytes as f64);
}

/// What became true. Every replica applies every entry: sums over servers count each fact once for each.
pub(crate) fn events(events: &[Event], leads: bool) {
    for event in events {
        count(&event.fact);
        if leads {
            log(event);
        }
    }
}

fn count(fact: &Fact) {
    match fact {
        Fact::JobOpened { .. } => kept!(Counter, counter!("rebound_jobs_opened_total")).increment(1),
        Fact::TasksQueued { count, .. } => {
            kept!(Counter, counter!("rebound_tasks_queued_total")).increment(*count)
        }
        Fact::JobDone { .. } => {
            kept!(Counter, counter!("rebound_jobs_ended_total", "how" => "done")).increment(1)
        }
        Fact::JobCancelled { .. } => counter!("rebound_jobs_ended_total", "how" => "cancelled").increment(1),
        Fact::RunGiven { count, .. } => {
            kept!(Counter, counter!("rebound_tasks_given_total")).increment(*count)
        }
        Fact::TasksLate { late, .. } => counter!("rebound_tasks_late_total").increment(*late),
        Fact::Dropped { count, .. } => counter!("rebound_tasks_dropped_total").increment(*count),
        Fact::RunRegiven { count, .. } => counter!("rebound_tasks_regiven_total").increment(*count),
        Fact::PieceDropped { .. } => kept!(Counter, counter!("rebound_pieces_dropped_total")).increment(1),
        Fact::Recorded {
            cause: None, count, ..
        } => kept!(
            Counter,
            counter!("rebound_results_recorded_total", "outcome" => "succeeded")
        )
        .increment(*count),
        Fact::Recorded {
            cause: Some(_),
            count,
            ..
        } => counter!("rebound_results_recorded_total", "outcome" => "failed").increment(*count),
        Fact::Refused { verdict, count, .. } => {
            counter!("rebound_results_refused_total", "verdict" => verdict_name(*verdict)).increment(*count);
        }
        Fact::Requeued { cause, .. } => {
            counter!("rebound_tasks_requeued_total", "cause" => cause_name(*cause)).increment(1);
        }
        Fact::WorkerJoined { .. } => counter!("rebound_workers_joined_total").increment(1),
        Fact::WorkerLost { .. } => counter!("rebound_workers_ended_total", "how" => "lost").increment(1),
        Fact::WorkerLeft { .. } => counter!("rebound_workers_ended_total", "how" => "left").increment(1),
        Fact::JobDeleted { .. } => counter!("rebound_jobs_deleted_total").increment(1),
        Fact::KeysForgotten { count } => counter!("rebound_keys_forgotten_total").increment(*count),
        Fact::Launched { count, .. } => {
            counter!("rebound_launches_total").increment(1);
            counter!("rebound_machines_wanted_total").increment(u64::from(*count));
        }
        Fact::MachineKnown { .. } => counter!("rebound_machines_started_total").increment(1),
        Fact::MachineGone { how, paid, .. } => {
            let how = match how {
                Gone::Ended => "ended",
                Gone::Reclaimed => "reclaimed",
                Gone::ByItself => "by_itself",
            };
            counter!("rebound_machines_ended_total", "how" => how).increment(1);
            counter!("rebound_machines_paid_microusd_total").increment(*paid);
        }
        Fact::Short { short } => gauge!("rebound_short").set(if short.is_some() { 1.0 } else { 0.0 }),
        Fact::SpareStarting { .. } => counter!("rebound_spares_total", "what" => "started").increment(1),
        Fact::SpareStopping { .. } => counter!("rebound_spares_total", "what" => "stopped").increment(1),
        Fact::Began { .. }
        | Fact::MachineStopped { .. }
        | Fact::LaunchDropped { .. }
        | Fact::LaunchSettled { .. }
        | Fact::MachineRunning { .. }
        | Fact::MachineNoticed { .. }
        | Fact::MachineEnding { .. }
        | Fact::PoolDear { .. }
        | Fact::PoolClosed { .. }
        | Fact::PoolBanned { .. }
        | Fact::PolicyChanged { .. }
        | Fact::Frozen { .. }
        | Fact::MachineLetGo { .. }
        | Fact::Shadowed { .. }
        | Fact::Braked { .. }
        | Fact::Thawed
        | Fact::JobClosed { .. }
        | Fact::WorkerDraining { .. }
        | Fact::ClockAccepted { .. }
        | Fact::SettingChanged { .. }
        | Fact::EnvironmentAllotted { .. }
        | Fact::MemberAdded { .. }
        | Fact::MemberMet { .. }
        | Fact::MemberPromoted { .. }
        | Fact::MemberLeaving { .. }
        | Fact::MemberRemoved { .. }
        | Fact::MembersSettled { .. }
        | Fact::Upgraded { .. }
        | Fact::MemberBuild { .. }
        | Fact::Restored { .. } => {}
    }
}

/// The leader's log lines: one for each step of a job, none for each photo unless asked for.
fn log(event: &Event) {
    let (index, trace) = (event.index, event.trace);
    let job = event.job.map_or(0, |job| job.0);
    match &event.fact {
        Fact::JobOpened { name } => tracing::info!(index, job, %trace, %name, "job opened"),
        Fact::JobDone { succeeded, failed } => {
            tracing::info!(index, job, %trace, succeeded, failed, "job done")
        }
        Fact::JobCancelled { unended } => tracing::info!(index, job, %trace, unended, "job cancelled"),
        Fact::JobClosed { by_itself: true } => {
            tracing::warn!(index, job, %trace, "job was open too long: closed")
        }
        Fact::WorkerJoined { worker, name } => tracing::info!(index, %worker, %name, "worker joined"),
        Fact::WorkerLost { worker, tasks, why } => tracing::warn!(index, %worker, tasks, %why, "worker lost"),
        Fact::WorkerLeft { worker } => tracing::info!(index, %worker, "worker left"),
        Fact::WorkerDraining { worker } => tracing::info!(index, %worker, "worker draining"),
        Fact::Began { cluster } => tracing::info!(index, %cluster, "cluster began"),
        Fact::ClockAccepted { by } => tracing::warn!(index, by_us = by, "clock set forward"),
        Fact::SettingChanged { name, value } => tracing::warn!(index, name, value, "setting changed"),
        Fact::MemberAdded { .. }
        | Fact::MemberMet { .. }
        | Fact::MemberPromoted { .. }
        | Fact::MemberLeaving { .. }
        | Fact::MemberRemoved { .. }
        | Fact::MembersSettled { .. }
        | Fact::MemberBuild { .. }
        | Fact::Upgraded { .. } => tracing::info!(index, change = ?event.fact, "members change"),
        Fact::Launched { .. }
        | Fact::LaunchSettled { .. }
        | Fact::MachineKnown { .. }
        | Fact::SpareStarting { .. }
        | Fact::SpareStopping { .. }
        | Fact::MachineStopped { .. }
        | Fact::MachineNoticed { .. }
        | Fact::MachineLetGo { .. }
        | Fact::MachineEnding { .. }
        | Fact::MachineGone { .. }
        | Fact::PoolDear { .. }
        | Fact::PoolBanned { .. }
        | Fact::Shadowed { .. }
        | Fact::PolicyChanged { .. } => tracing::info!(index, change = ?event.fact, "machines change"),
        Fact::LaunchDropped { .. }
        | Fact::PoolClosed { .. }
        | Fact::Frozen { .. }
        | Fact::Braked { .. }
        | Fact::Thawed => tracing::warn!(index, change = ?event.fact, "buying changes"),
        Fact::Short { short: Some(short) } => tracing::error!(
            index,
            why = ?short.why,
            missing = short.missing,
            due_us = short.due.0,
            not_before_us = short.not_before.map(|at| at.0),
            "photos will be late: no machine may be bought for them"
        ),
        Fact::Short { short: None } => tracing::info!(index, "photos are in time again"),
        fact => tracing::debug!(index, job, %trace, ?fact, "fact"),
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Recorded => "recorded",
        Verdict::AlreadyRecorded => "already_recorded",
        Verdict::Stale => "stale",
    }
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Input => "input",
        Cause::Fetch => "fetch",
        Cause::Crashed => "crashed",
        Cause::Timeout => "timeout",
        Cause::Recogniser => "recogniser",
        Cause::ResultTooLarge => "result_too_large",
        Cause::Released => "released",
        Cause::WorkerLost => "worker_lost",
        Cause::Quarantined => "quarantined",
        Cause::TakenBack => "taken_back",
        Cause::Dropped => "dropped",
    }
}
