//! Child processes that never outlive the test that started them.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::wait::{Deadline, look_until};

/// How long a process that is dropped gets to stop its own children after SIGTERM.
const DROP_GRACE_S: u64 = 5;

/// The file, beside the tests, that [`alone`] locks.
const ALONE: &str = "rebound-tests.lock";

/// A running child process. Dropping it, also in a panic, ends it: SIGTERM, [`DROP_GRACE_S`], SIGKILL. Only this
/// process is signalled, by its id.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; `name` is for messages. Its standard streams are what `command` says; those left unset
    /// are the test's own.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        match command.spawn() {
            Ok(child) => Process {
                name: name.to_owned(),
                child,
                status: None,
            },
            Err(error) => panic!("{name} cannot be started ({command:?}): {error}"),
        }
    }

    /// Its process id. The system does not give the id away before this value has seen the end of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child of ours can be waited for");
        }
        self.status
    }

    /// Sends `signal` (`libc::SIGTERM`, …). Does nothing once it has ended.
    pub fn signal(&mut self, signal: i32) {
        if self.ended().is_some() {
            return;
        }
        let id = i32::try_from(self.child.id()).expect("process ids fit in an i32");
        // SAFETY: kill takes no pointers; the id is a child not yet waited for, so it cannot be another process.
        let outcome = unsafe { libc::kill(id, signal) };
        assert_eq!(
            outcome,
            0,
            "signal {signal} to {}: {}",
            self.name,
            io::Error::last_os_error()
        );
    }

    /// Ends it with SIGKILL, as a lost machine would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.status = Some(self.child.wait().expect("a child of ours can be waited for"));
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it still runs at `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Deadline) -> ExitStatus {
        match look_until(|| self.ended(), deadline) {
            Some(status) => status,
            None => panic!(
                "{} (process {}) has not ended by its deadline",
                self.name,
                self.child.id()
            ),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
        if look_until(|| self.ended(), Deadline::seconds(DROP_GRACE_S)).is_none() {
            self.kill();
        }
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs `command` to its end with an empty standard input, and gives what it wrote.
///
/// # Panics
///
/// When it cannot be started or has not ended by `deadline`.
#[track_caller]
pub fn run(command: &mut Command, deadline: Deadline) -> Finished {
    // Files, not pipes: a full pipe that nobody reads would hold the command up.
    let mut stdout = tempfile::tempfile().expect("a temporary file can be made");
    let mut stderr = tempfile::tempfile().expect("a temporary file can be made");
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().expect("a file can be cloned"));
    command.stderr(stderr.try_clone().expect("a file can be cloned"));
    let mut process = Process::spawn(&name, command);
    let Some(status) = look_until(|| process.ended(), deadline) else {
        let heard = contents(&mut stderr);
        panic!("{name} has not ended by its deadline ({command:?}); its standard error:\n{heard}");
    };
    Finished {
        code: status.code(),
        signal: status.signal(),
        stdout: contents(&mut stdout),
        stderr: contents(&mut stderr),
    }
}

fn contents(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .expect("a file of ours can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Holds a lock that only one test on this machine and target directory has at a time, in whatever process: for
/// tests that start whole clusters, two of which would starve each other on a small machine.
pub fn alone() -> File {
    let path = std::env::current_exe()
        .expect("a running test has a path")
        .with_file_name(ALONE);
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .expect("the target directory can be written");
    file.lock().expect("a file of ours can be locked");
    file
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn run_gives_code_and_both_streams() {
        let done = run(
            Command::new("sh").args(["-c", "echo out; echo err >&2; exit 9"]),
            Deadline::seconds(60),
        );
        assert_eq!((done.code, done.signal), (Some(9), None));
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn run_tells_a_signal_from_a_code() {
        let done = run(
            Command::new("sh").args(["-c", "kill -9 $$"]),
            Deadline::seconds(60),
        );
        assert_eq!((done.code, done.signal), (None, Some(libc::SIGKILL)));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = Process::spawn(
            "cat",
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()),
        );
        let entry = format!("/proc/{}", process.id());
        assert!(Path::new(&entry).exists(), "cat waits for its input");
        drop(process);
        assert!(!Path::new(&entry).exists(), "ended and waited for");
    }

    #[test]
    #[should_panic(expected = "has not ended by its deadline")]
    fn waiting_for_a_process_ends_at_the_deadline() {
        let mut process = Process::spawn(
            "cat",
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()),
        );
        process.wait(Deadline::within(std::time::Duration::from_millis(20)));
    }

    #[test]
    fn only_one_is_alone() {
        let path = std::env::current_exe()
            .expect("a running test has a path")
            .with_file_name(ALONE);
        let held = alone();
        let other = File::open(&path).expect("the lock's file is there");
        assert!(other.try_lock().is_err(), "held by the first");
        drop(held);
        look_until(|| other.try_lock().ok(), Deadline::seconds(60)).expect("free again");
    }
}
