//! The real agent and real recogniser processes against a small cluster on loopback.

mod fake;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use fake::Cluster;
use rebound_agent::machine::Attempt;
use rebound_proto::v1;
use rebound_proto::v1::Cause;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

/// What the recogniser `shell` does with a photo goes by the photo's name.
const SCRIPT: &str = r#"
case "$1" in
  *crash*) kill -9 $PPID; exec sleep 60 ;;
  *freeze*) kill -STOP $PPID; exec sleep 60 ;;
  *hang*) sleep 60 ;;
  *fail*) echo "no shelf here" >&2; exit 3 ;;
  *large*) printf '"'; head -c 20000 /dev/zero | tr '\0' x; printf '"' ;;
  *greedy*) x=$(head -c 900000000 /dev/zero | tr '\0' x); echo ${#x} ;;
  *wait*) while [ ! -e "$1.go" ]; do sleep 0.02; done; echo '{"waited":true}' ;;
  *) printf '{"seen":"%s"}' "$(basename "$1")" ;;
esac
"#;

/// Folders of a test: photos, recognisers, the agent's data.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(place.path("photos")).unwrap();
        place.recogniser("shell", "");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn recogniser(&self, name: &str, more: &str) {
        let dir = self.path("recognisers").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let script = dir.join("run.sh");
        std::fs::write(&script, SCRIPT).unwrap();
        let program = format!("program = [\"/bin/sh\", \"{}\"]", script.display());
        let manifest =
            format!("format = 1\nname = \"{name}\"\nkind = \"command\"\n{more}\n[command]\n{program}\n");
        std::fs::write(dir.join("manifest.toml"), manifest).unwrap();
    }

    fn photo(&self, name: &str) -> String {
        let path = self.path("photos").join(name);
        std::fs::write(&path, "a photo").unwrap();
        format!("file://{}", path.display())
    }

    fn photos(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.photo(name)).collect()
    }

    fn command(&self, cluster: &Cluster, slots: u32) -> Command {
        self.command_of(cluster, slots, &self.path("recognisers"))
    }

    fn command_of(&self, cluster: &Cluster, slots: u32, recognisers: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rebound-agent"));
        command
            .arg("--server")
            .arg(cluster.servers())
            .args(["--name", "m1", "--slots", &slots.to_string()]);
        command
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--recognisers")
            .arg(recognisers);
        command
            .args(["--milli-cpu", "64000", "--log", "rebound_agent=debug"])
            .stdin(Stdio::null());
        command
    }

    fn agent(&self, cluster: &Cluster, slots: u32) -> Agent {
        Agent(self.command(cluster, slots).spawn().unwrap())
    }
}

/// A running agent; killed when dropped.
struct Agent(Child);

impl Agent {
    fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to a process that was not waited for yet.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not end");
            std::thread::yield_now();
        }
    }

    /// Its recognisers' processes.
    fn children(&self) -> Vec<u32> {
        let tasks = format!("/proc/{0}/task/{0}/children", self.0.id());
        let list = std::fs::read_to_string(tasks).unwrap_or_default();
        list.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spec(id: u64, recogniser: &str, photo_timeout_ms: u64) -> v1::Spec {
    let photo_timeout_us = photo_timeout_ms * 1000;
    v1::Spec {
        id,
        recogniser: recogniser.to_string(),
        resources: Some(v1::Resources::default()),
        photo_timeout_us,
    }
}

fn text(result: &Attempt) -> String {
    String::from_utf8_lossy(&result.output).into_owned()
}

fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_photo_gets_its_result_or_the_cause_why_not() {
    let place = Place::new();
    let cluster = Cluster::start(1).await;
    let mut uris = place.photos(&[
        "a b.jpg",
        "fail.jpg",
        "crash.jpg",
        "large.jpg",
        "hang.jpg",
        "freeze.jpg",
        "z.jpg",
    ]);
    uris[0] = uris[0].replace(' ', "%20");
    uris.push(format!("file://{}", place.path("photos/gone.jpg").display()));
    uris.push("s3://bucket/a.jpg".to_string());
    uris.push(format!("file://{}", place.path("photos").display()));
    cluster.state().give(7, spec(1, "shell", 1000), uris);
    cluster
        .state()
        .give(8, spec(2, "noop", 0), vec!["any:thing".to_string(); 300]);
    cluster
        .state()
        .give(9, spec(3, "poetry", 0), vec!["file:///a".to_string()]);
    let agent = place.agent(&cluster, 2);
    cluster
        .until("all recorded", |state| state.recorded.len() == 311)
        .await;

    check_causes(&cluster.state());
    cluster.state().last_beat = None;
    cluster
        .until("an empty spool", |state| {
            state.last_beat.as_ref().is_some_and(|beat| beat.spooled == 0)
        })
        .await;
    let children = agent.children();
    assert!(
        children.len() <= 2,
        "more recognisers' processes than slots: {children:?}"
    );
}

/// What the photos of the first test ended with.
fn check_causes(state: &fake::State) {
    let results = state.of_job(7);
    let expected: [(Cause, &str); 10] = [
        (Cause::Unspecified, r#"{"seen":"a b.jpg"}"#),
        (Cause::Recogniser, "no shelf here"),
        (Cause::Crashed, "killed by signal 9 (SIGKILL)"),
        (Cause::ResultTooLarge, ""),
        (Cause::Timeout, "1000 ms"),
        (Cause::Timeout, "1000 ms"),
        (Cause::Unspecified, r#"{"seen":"z.jpg"}"#),
        (Cause::Fetch, "gone.jpg"),
        (Cause::Input, "file://"),
        (Cause::Input, "regular file"),
    ];
    assert_eq!(results.len(), expected.len());
    for (result, (cause, words)) in results.iter().zip(expected) {
        assert_eq!(result.cause, cause, "task {}: {}", result.task, text(result));
        assert!(
            text(result).contains(words),
            "task {}: {}",
            result.task,
            text(result)
        );
        assert!(result.started_us > 0 && result.ended_us >= result.started_us);
    }
    for result in state.of_job(8) {
        assert_eq!((result.cause, result.output.len()), (Cause::Unspecified, 64));
    }
    assert_eq!(state.of_job(9)[0].cause, Cause::Recogniser);
    let hello = &state.hellos[0];
    assert_eq!((hello.name.as_str(), hello.slots, hello.protocol), ("m1", 2, 1));
    let names: Vec<&str> = hello.recognisers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["noop", "shell"]);
    assert_eq!(hello.recognisers[1].digest.len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_reports_its_spool_again_and_leaves_no_process_behind() {
    let place = Place::new();
    let cluster = Cluster::start(1).await;
    cluster.state().answers = false;
    let uris = place.photos(&["1.jpg", "2.jpg", "wait.jpg"]);
    cluster.state().give(1, spec(1, "shell", 60_000), uris);
    let mut agent = place.agent(&cluster, 1);
    cluster
        .until("two results, the third runs", |state| {
            state.recorded.len() == 2 && state.last_beat.as_ref().is_some_and(|beat| beat.running == 1)
        })
        .await;
    let children = agent.children();
    assert_eq!(children.len(), 1);
    agent.signal(libc::SIGKILL);
    agent.wait();
    cluster
        .until("no process left", |_| children.iter().all(|pid| is_gone(*pid)))
        .await;

    // The cluster has given its work to nobody else yet; the new session starts from nothing.
    {
        let mut state = cluster.state();
        state.answers = true;
        state.runs.clear();
        state.generation += 1;
        state.last_beat = None;
    }
    let _agent = place.agent(&cluster, 1);
    cluster
        .until("both again, then an empty spool", |state| {
            state.reports.values().all(|times| *times >= 2)
                && state.last_beat.as_ref().is_some_and(|beat| beat.spooled == 0)
        })
        .await;
    let state = cluster.state();
    assert_eq!(state.recorded.len(), 2);
    assert_eq!(state.sessions.len(), 2);
    let hello = state.hellos.last().unwrap();
    assert_eq!((hello.cluster.as_str(), hello.worker), ("", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_leader_is_found_within_a_second_and_work_goes_on() {
    let place = Place::new();
    let cluster = Cluster::start(3).await;
    cluster.state().answers = false;
    let uris = place.photos(&["1.jpg", "wait.jpg", "3.jpg"]);
    cluster.state().give(1, spec(1, "shell", 60_000), uris);
    let _agent = place.agent(&cluster, 1);
    cluster
        .until("one result, the second runs", |state| {
            state.recorded.len() == 1 && state.last_beat.as_ref().is_some_and(|beat| beat.running == 1)
        })
        .await;
    let begun = Instant::now();
    cluster.fail_over(2);
    cluster.state().answers = true;
    cluster
        .until("the new leader is found", |state| state.welcomed_at.is_some())
        .await;
    let took = begun.elapsed();
    println!("the new leader was found after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    std::fs::write(place.path("photos/wait.jpg.go"), "").unwrap();
    cluster
        .until("all recorded", |state| state.recorded.len() == 3)
        .await;
    let state = cluster.state();
    assert_eq!(state.sessions.len(), 1, "the session goes on");
    assert_eq!(state.hellos.last().unwrap().worker, 1);
    assert!(
        state
            .reports
            .iter()
            .any(|((_, task, _), times)| *task == 0 && *times >= 2),
        "reported to both leaders"
    );
    assert!(
        state
            .reports
            .iter()
            .all(|((_, task, _), times)| *task == 0 || *times == 1),
        "nothing was done twice"
    );
    assert_eq!(
        text(state.of_job(1)[1]),
        r#"{"waited":true}"#,
        "what ran was not disturbed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_runs_and_hands_back_the_rest() {
    let place = Place::new();
    let cluster = Cluster::start(1).await;
    let uris = place.photos(&["wait.jpg", "2.jpg", "3.jpg", "4.jpg"]);
    cluster.state().give(1, spec(1, "shell", 60_000), uris);
    let mut agent = place.agent(&cluster, 1);
    cluster
        .until("one runs", |state| {
            state.last_beat.as_ref().is_some_and(|beat| beat.running == 1)
        })
        .await;
    agent.signal(libc::SIGTERM);
    cluster
        .until("the rest handed back", |state| state.recorded.len() == 3)
        .await;
    assert!(
        agent.0.try_wait().unwrap().is_none(),
        "it still works on the first"
    );
    std::fs::write(place.path("photos/wait.jpg.go"), "").unwrap();
    let status = agent.wait();
    assert_eq!(status.code(), Some(0));
    let state = cluster.state();
    let causes: Vec<Cause> = state.of_job(1).iter().map(|result| result.cause).collect();
    assert_eq!(
        causes,
        [
            Cause::Unspecified,
            Cause::Released,
            Cause::Released,
            Cause::Released
        ]
    );
    assert_eq!(state.leavings, [false, true]);
}

/// Runs to its end.
fn output(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.stderr(Stdio::piped()).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_said_at_the_start() {
    let place = Place::new();
    let cluster = Cluster::start(1).await;
    place.recogniser("broken", "[limits]\nmax_pixels = 0");

    let mut command = place.command(&cluster, 1);
    command.args(["--server", "10.1.2.3:7101"]);
    let (code, words) = output(command);
    assert!(
        code == Some(2) && words.contains("10.1.2.3:7101") && words.contains("loopback"),
        "{code:?} {words}"
    );

    let mut command = place.command(&cluster, 1);
    command.args(["--slots", "zero"]);
    assert_eq!(output(command).0, Some(2));

    let mut command = place.command(&cluster, 1);
    command.args(["--recogniser", "shell", "--recogniser", "poetry"]);
    let (code, words) = output(command);
    assert!(code == Some(1) && words.contains("poetry"), "{code:?} {words}");

    let mut command = place.command(&cluster, 1);
    command.args(["--recogniser", "broken"]);
    let (code, words) = output(command);
    assert!(
        code == Some(1) && words.contains("max_pixels"),
        "{code:?} {words}"
    );

    // Not asked for by name: it is left out, with a word about it, and the agent works.
    let _agent = place.agent(&cluster, 1);
    cluster.until("it joined", |state| state.hellos.len() == 1).await;
    let offered = cluster.state().hellos[0].recognisers.len();
    assert_eq!(offered, 2);

    let (code, words) = output(place.command(&cluster, 1));
    assert!(
        code == Some(1) && words.contains("in use by another agent"),
        "{code:?} {words}"
    );
    assert!(Path::new(&place.path("data")).join("spool").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recogniser_gets_no_more_memory_than_it_may_have() {
    let place = Place::new();
    let cluster = Cluster::start(1).await;
    let uris = place.photos(&["greedy.jpg", "z.jpg"]);
    cluster.state().give(1, spec(1, "shell", 30_000), uris);
    let mut command = place.command(&cluster, 1);
    command.args(["--child-memory-mib", "512"]);
    let _agent = Agent(command.spawn().unwrap());
    cluster
        .until("both recorded", |state| state.recorded.len() == 2)
        .await;
    let state = cluster.state();
    let causes: Vec<Cause> = state.of_job(1).iter().map(|result| result.cause).collect();
    assert_eq!(
        causes,
        [Cause::Recogniser, Cause::Unspecified],
        "{}",
        text(state.of_job(1)[0])
    );
}

/// The photos beside the project, if they are there.
fn real_photos() -> Option<Vec<String>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("REBOUND_SHARED_DATA").map_or_else(|| beside.into(), PathBuf::from);
    let folder = std::fs::read_dir(data.join("photos/grocery-store")).ok()?;
    let mut uris: Vec<String> = folder
        .filter_map(|entry| entry.ok()?.path().canonicalize().ok())
        .filter(|path| path.extension().is_some_and(|end| end == "jpg"))
        .map(|path| format!("file://{}", path.display()))
        .collect();
    uris.sort();
    Some(uris)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_photos_are_recognised_by_a_real_model() {
    let Some(uris) = real_photos() else {
        println!("skipped: no photos in ../shared/data/photos/grocery-store");
        return;
    };
    if let Err(error) = rebound_agent::recognise::runtime::find() {
        println!("skipped: {error}");
        return;
    }
    let place = Place::new();
    let cluster = Cluster::start(1).await;
    let photos = uris.len();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("recognisers");
    let mut command = place.command_of(&cluster, 2, &shipped);
    command.args(["--recogniser", "grocery81", "--memory-mib", "1024"]);
    let begun = Instant::now();
    let _agent = Agent(command.spawn().unwrap());
    cluster.until("it joined", |state| state.hellos.len() == 1).await;
    println!("start to ready and joined: {:?}", begun.elapsed());
    let begun = Instant::now();
    cluster.state().give(1, spec(1, "grocery81", 0), uris);
    cluster
        .until("all recorded", |state| state.recorded.len() == photos)
        .await;
    let took = begun.elapsed();
    println!(
        "{photos} photos in {took:?}: {:.1} photos/s",
        photos as f64 / took.as_secs_f64()
    );
    for result in cluster.state().of_job(1) {
        assert_eq!(result.cause, Cause::Unspecified, "{}", text(result));
        assert!(text(result).contains("\"label\""), "{}", text(result));
    }
}
