//! Recognisers of kind `command`: any program that takes a photo's path and prints JSON.
//!
//! The program runs once a photo in a process group of its own, with no stdin, in the recogniser's folder. It
//! must print one JSON value of at most [`MAX_RESULT_BYTES`] and end with status 0 in time; else its group is
//! killed and the photo has a failure. It gets the photo as it was sent, checked only for its size.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::frame::{Failure, FailureCause, MAX_RESULT_BYTES};
use super::launch::{Launch, Program};
use super::manifest::CommandSettings;

/// How much of a failed program's last words are told, in bytes.
pub const STDERR_TAIL_BYTES: usize = 1024;

/// Runs the program on one photo.
pub fn run(
    settings: &CommandSettings,
    dir: &Path,
    photo: &Path,
    timeout: Duration,
) -> Result<Value, Failure> {
    let Some((program, arguments)) = settings.program.split_first() else {
        return Err(Failure::recogniser("the manifest names no program"));
    };
    let launch = Launch {
        program,
        arguments: arguments
            .iter()
            .map(AsRef::as_ref)
            .chain([photo.as_os_str()])
            .collect(),
        dir,
        stdout: !settings.silent,
        memory: settings.max_memory_mib.map(|mib| mib.saturating_mul(1024 * 1024)),
    };
    let running = launch
        .start()
        .map_err(|error| Failure::recogniser(format!("{} cannot be started: {error}", program.display())))?;
    let name = program.display();
    let until = Instant::now() + timeout;
    match gather(running, until) {
        Err(Stop::Late) => {
            let message = format!("{name} did not end within {} ms", timeout.as_millis());
            Err(Failure::new(FailureCause::Timeout, message))
        }
        Err(Stop::TooMuch) => {
            let message = format!("{name} printed more than {MAX_RESULT_BYTES} bytes");
            Err(Failure::new(FailureCause::ResultTooLarge, message))
        }
        Err(Stop::Io(error)) => Err(Failure::recogniser(format!("{name} cannot be followed: {error}"))),
        Ok((status, _, stderr)) if !status.success() => {
            Err(Failure::recogniser(failed(&name, status, &stderr)))
        }
        Ok(_) if settings.silent => Ok(Value::Null),
        Ok((_, stdout, _)) => serde_json::from_slice(&stdout).map_err(|error| {
            Failure::recogniser(format!("what {name} printed is not one JSON value: {error}"))
        }),
    }
}

fn failed(name: &dyn std::fmt::Display, status: ExitStatus, stderr: &[u8]) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".into(),
    };
    let words = String::from_utf8_lossy(stderr);
    // Terminal sequences must not travel into logs and terminals.
    let words: String = words
        .trim()
        .chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect();
    if words.is_empty() {
        format!("{name} {how}")
    } else {
        format!("{name} {how}: {words}")
    }
}

enum Stop {
    Late,
    TooMuch,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads both outputs until the program ends, all before `until`. It and its group are gone afterwards.
fn gather(mut program: Program, until: Instant) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), Stop> {
    let mut stdout = Pipe::new(program.stdout.take());
    let mut stderr = Pipe::new(program.stderr.take());
    let mut ended = false;
    loop {
        // Asked before the outputs are read: what the program has printed is there when its end is seen.
        let [.., end] = wait_readable(
            [
                stdout.descriptor(),
                stderr.descriptor(),
                program.pidfd.as_raw_fd(),
            ],
            until,
        )?;
        if end && !ended {
            ended = true;
            program.kill_group();
        }
        let more = stdout.take_some()? | stderr.take_some()?;
        if stdout.bytes.len() > MAX_RESULT_BYTES {
            return Err(Stop::TooMuch);
        }
        let spare = stderr.bytes.len().saturating_sub(STDERR_TAIL_BYTES);
        stderr.bytes.drain(..spare);
        if ended && !more {
            return Ok((program.wait()?, stdout.bytes, stderr.bytes));
        }
    }
}

/// What comes out of the program, read without waiting.
struct Pipe {
    from: Option<File>,
    bytes: Vec<u8>,
}

impl Pipe {
    fn new(from: Option<File>) -> Self {
        Self {
            from,
            bytes: Vec::new(),
        }
    }

    /// −1, which poll passes over, once it is closed.
    fn descriptor(&self) -> i32 {
        self.from.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Whether there was something.
    fn take_some(&mut self) -> io::Result<bool> {
        let Some(from) = &mut self.from else {
            return Ok(false);
        };
        let mut chunk = [0; 8192];
        match from.read(&mut chunk) {
            Ok(0) => self.from = None,
            Ok(len) => {
                self.bytes.extend_from_slice(&chunk[..len]);
                return Ok(true);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(false)
    }
}

/// Waits until one of the descriptors is readable or closed, and says which are.
fn wait_readable(descriptors: [i32; 3], until: Instant) -> Result<[bool; 3], Stop> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Stop::Late);
    }
    let mut polled = descriptors.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // Rounded up, so that the last part of a millisecond is not spun through.
    let millis = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    // SAFETY: the array lives through the call and its length is given.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted {
            Ok([false; 3])
        } else {
            Err(error.into())
        };
    }
    Ok(polled.map(|polled| polled.revents != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script with the photo's path as `$0`.
    fn sh(script: &str, timeout: Duration, max_memory_mib: Option<u64>) -> Result<Value, Failure> {
        let program = ["/bin/sh", "-c", script].map(Into::into).to_vec();
        let settings = CommandSettings {
            program,
            max_memory_mib,
            silent: false,
        };
        run(&settings, Path::new("/"), Path::new("/photos/1 2.jpg"), timeout)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn the_path_is_the_last_argument_and_the_output_is_the_result() {
        let value = sh(r#"printf '{"photo": "%s", "in": "%s"}' "$0" "$PWD""#, LONG, None).unwrap();
        assert_eq!(value, serde_json::json!({"photo": "/photos/1 2.jpg", "in": "/"}));
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let failure = sh("echo '{}'; echo 'no such model' >&2; exit 3", LONG, None).unwrap_err();
        assert_eq!(failure.cause, FailureCause::Recogniser);
        assert_eq!(failure.message, "/bin/sh ended with status 3: no such model");
        let failure = sh("kill -9 $$", LONG, None).unwrap_err();
        assert_eq!(failure.message, "/bin/sh was killed by signal 9");
    }

    #[test]
    fn only_the_last_words_are_told_without_control_characters() {
        let script = r#"i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done >&2; printf '\033[31mred' >&2; exit 1"#;
        let failure = sh(script, LONG, None).unwrap_err();
        assert!(
            failure.message.len() < STDERR_TAIL_BYTES + 100,
            "{}",
            failure.message.len()
        );
        assert!(failure.message.ends_with("line2999\n [31mred"), "{failure}");
    }

    #[test]
    fn output_that_is_not_one_json_value_is_refused() {
        for script in ["echo hello", "echo '{} {}'", "true", r#"printf '"\377"'"#] {
            let failure = sh(script, LONG, None).unwrap_err();
            assert_eq!(failure.cause, FailureCause::Recogniser, "{script}");
            assert!(
                failure.message.contains("not one JSON value"),
                "{script}: {failure}"
            );
        }
    }

    #[test]
    fn a_silent_program_answers_by_ending_well() {
        let silent = |script: &str| {
            let settings = CommandSettings {
                program: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
                max_memory_mib: None,
                silent: true,
            };
            run(&settings, Path::new("/"), Path::new("/x.jpg"), LONG)
        };
        assert_eq!(silent("true").unwrap(), Value::Null);
        assert_eq!(silent("echo hello").unwrap(), Value::Null);
        assert_eq!(silent("exit 1").unwrap_err().cause, FailureCause::Recogniser);
    }

    #[test]
    fn output_is_bounded_at_the_limit_and_one_over() {
        let script = |bytes: usize| {
            format!(
                "printf '\"'; head -c {} /dev/zero | tr '\\0' x; printf '\"'",
                bytes - 2
            )
        };
        assert!(sh(&script(MAX_RESULT_BYTES), LONG, None).is_ok());
        let failure = sh(&script(MAX_RESULT_BYTES + 1), LONG, None).unwrap_err();
        assert_eq!(failure.cause, FailureCause::ResultTooLarge);
        // One that never stops printing is stopped.
        assert_eq!(
            sh("yes", LONG, None).unwrap_err().cause,
            FailureCause::ResultTooLarge
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let begun = Instant::now();
        let failure = sh(&script, Duration::from_millis(300), None).unwrap_err();
        assert_eq!(failure.cause, FailureCause::Timeout);
        assert!(begun.elapsed() < LONG);
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + LONG;
        while running(pid) {
            assert!(Instant::now() < deadline, "process {pid} is still there");
            std::thread::yield_now();
        }
    }

    /// Whether the process is there and not just waiting to be reaped.
    fn running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next())
            .is_some_and(|state| state != "Z")
    }

    #[test]
    fn closing_the_outputs_does_not_escape_the_time_limit() {
        let failure = sh("exec >&- 2>&-; sleep 600", Duration::from_millis(200), None).unwrap_err();
        assert_eq!(failure.cause, FailureCause::Timeout);
    }

    #[test]
    fn memory_is_bounded() {
        let script = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}";
        let failure = sh(script, LONG, Some(64)).unwrap_err();
        assert_eq!(failure.cause, FailureCause::Recogniser, "{failure}");
        assert!(sh("echo 1", LONG, Some(64)).is_ok());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let settings = CommandSettings {
            program: vec!["/no/such/program".into()],
            max_memory_mib: None,
            silent: false,
        };
        let failure = run(&settings, Path::new("/"), Path::new("/x.jpg"), LONG).unwrap_err();
        assert!(
            failure.message.contains("/no/such/program cannot be started"),
            "{failure}"
        );
    }
}
