//! Child processes that end with this one, are killed by id, and whose output goes to a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(40);

/// Where a process runs, beyond this machine's own surroundings.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The loopback address it listens on; `127.0.0.1` if none is named.
    pub address: Option<Ipv4Addr>,
    /// Its network namespace, as a file.
    pub network: Option<PathBuf>,
    /// Its data directory, where that is not beside the others'.
    pub data: Option<PathBuf>,
    /// The list of processes of the cgroup that it runs in, as a file.
    pub group: Option<PathBuf>,
    /// The core that it runs on.
    pub core: Option<usize>,
    /// Variables added to its environment.
    pub env: Vec<(String, String)>,
}

/// Keeps a thread on a core; 0 is the caller. Safe between fork and exec.
pub fn bind_thread(thread: i32, core: usize) -> io::Result<()> {
    // SAFETY: the set is plain memory, and the call only reads it.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &set)
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A running child.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; its output is added to `log`.
    pub fn start(program: &Path, args: &[String], log: &Path, place: &Place) -> io::Result<Process> {
        let network = place.network.as_ref().map(File::open).transpose()?;
        let group = place.group.as_ref();
        let group = group
            .map(|path| OpenOptions::new().write(true).open(path))
            .transpose()?;
        let core = place.core;
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(place.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        // SAFETY: these calls are async-signal-safe and touch nothing of ours.
        unsafe {
            command.pre_exec(move || {
                if let Some(network) = &network
                    && libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) != 0
                {
                    return Err(io::Error::last_os_error());
                }
                // 0 is whoever writes it.
                if let Some(group) = &group
                    && libc::write(group.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1
                {
                    return Err(io::Error::last_os_error());
                }
                if let Some(core) = core {
                    bind_thread(0, core)?;
                }
                // A group of its own: an interrupt from the terminal is for us alone, who then end it in order.
                libc::setpgid(0, 0);
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Ok(Process {
            child: command.spawn()?,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// True when it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log, for an error message.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// True when all its threads were stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let mut tasks = tasks.into_iter().flatten().flatten();
        tasks.all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it has ended, and kills it when that takes too long. True when it ended well by itself.
    pub fn wait(mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < END_WITHIN {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(_) => return false,
            }
        }
        self.kill();
        false
    }
}
