//! One child process with a loaded recogniser.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tracing::warn;

use super::{LOAD_TIMEOUT, MIN_CHILD_MEMORY_MIB, RunnerConfig};
use crate::recognise::frame::{self, FrameError, FromChild, HEADER_BYTES, Outcome, Request};
use crate::recognise::manifest::Manifest;

pub(super) struct Child {
    process: tokio::process::Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next_id: u64,
    /// How long it took to load, in milliseconds.
    pub load_ms: u64,
}

/// Why a child gives no more answers.
pub(super) enum Ended {
    /// Its pipe is closed.
    Gone,
    /// It does not keep to the protocol.
    Nonsense(String),
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Ended {
        match error {
            FrameError::Io(_) => Ended::Gone,
            other => Ended::Nonsense(other.to_string()),
        }
    }
}

impl Child {
    /// Starts a child, and waits until its model is loaded.
    pub async fn start(config: &RunnerConfig, manifest: &Manifest) -> Result<Child, String> {
        let mut child = Child::spawn(config, manifest)?;
        match timeout(LOAD_TIMEOUT, child.hear()).await {
            Ok(Ok(FromChild::Ready { load_ms, .. })) => {
                child.load_ms = load_ms;
                Ok(child)
            }
            Ok(Ok(FromChild::Fatal { message })) => Err(message),
            Ok(Ok(FromChild::Reply(_))) => Err("it answered before it was asked".to_string()),
            Ok(Err(Ended::Gone)) => Err(format!("its process {} while it loaded", child.wait().await)),
            Ok(Err(Ended::Nonsense(why))) => Err(why),
            Err(_) => {
                child.kill().await;
                Err(format!("it was not ready within {LOAD_TIMEOUT:?}"))
            }
        }
    }

    fn spawn(config: &RunnerConfig, manifest: &Manifest) -> Result<Child, String> {
        let mut command = Command::new(&config.program);
        command.arg("recognise").arg("--recogniser").arg(manifest.dir());
        command.arg("--threads").arg(config.threads.to_string());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(mib) = config.child_memory_mib {
            let bytes = mib.max(MIN_CHILD_MEMORY_MIB).saturating_mul(1 << 20);
            // SAFETY: the closure makes one system call that is safe between fork and exec.
            unsafe {
                command.pre_exec(move || limit_memory(bytes));
            }
        }
        let cannot =
            |error: std::io::Error| format!("{} cannot be started: {error}", config.program.display());
        let mut process = command.spawn().map_err(cannot)?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("its pipes are missing".to_string());
        };
        Ok(Child {
            process,
            stdin,
            stdout: BufReader::new(stdout),
            next_id: 1,
            load_ms: 0,
        })
    }

    /// Hands it a photo and waits for the answer. After an error, or when this is given up, the child must be ended.
    pub async fn ask(&mut self, request: Request) -> Result<Outcome, Ended> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = frame::encode(&Request { id, ..request })?;
        self.stdin.write_all(&frame).await.map_err(FrameError::Io)?;
        self.stdin.flush().await.map_err(FrameError::Io)?;
        match self.hear().await? {
            FromChild::Reply(reply) if reply.id == id => Ok(reply.outcome),
            FromChild::Reply(reply) => Err(Ended::Nonsense(format!(
                "it answered {} when asked {id}",
                reply.id
            ))),
            FromChild::Fatal { message } => Err(Ended::Nonsense(message)),
            FromChild::Ready { .. } => Err(Ended::Nonsense("it said ready twice".to_string())),
        }
    }

    async fn hear(&mut self) -> Result<FromChild, Ended> {
        let mut header = [0; HEADER_BYTES];
        self.stdout
            .read_exact(&mut header)
            .await
            .map_err(FrameError::Io)?;
        let mut body = vec![0; frame::body_len(header)?];
        self.stdout.read_exact(&mut body).await.map_err(FrameError::Io)?;
        Ok(frame::decode(&body)?)
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Ends it and waits until it is gone.
    pub async fn kill(mut self) {
        if let Err(error) = self.process.kill().await {
            warn!(%error, "a recogniser's process cannot be ended");
        }
    }

    /// Waits for its end, which it may not come to by itself: its pipe may be closed and it alive. Says how it ended.
    pub async fn wait(mut self) -> String {
        if let Ok(Ok(status)) = timeout(super::LOAD_RETRY_WAIT, self.process.wait()).await {
            return describe(status);
        }
        self.kill().await;
        "closed its pipe and was ended".to_string()
    }
}

fn limit_memory(bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: the structure lives through the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

fn describe(status: ExitStatus) -> String {
    let name = |signal| match signal {
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGFPE => " (SIGFPE)",
        _ => "",
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}{}", name(signal)),
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".to_string(),
    }
}
