//! Starts a program as cheaply as `posix_spawn` does, which cannot ask the kernel to end it with its parent.
//!
//! A process that is forked copies the page tables of the one that forks, only to throw them away when it becomes the
//! program: a third of what it takes to start a small one. Here it shares the memory of the one that starts it, which
//! stands still until it has become the program or failed to (`clone(2)`, `CLONE_VM` and `CLONE_VFORK`).

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;

/// Stack of the new process until it is the program. What runs on it calls nothing that needs more than a page or two,
/// but for the search in `PATH`.
const STACK_BYTES: usize = 64 * 1024;

/// A program in a process group of its own, that ends with the thread that started it.
pub(super) struct Program {
    pid: libc::pid_t,
    /// Readable once the program has ended.
    pub pidfd: OwnedFd,
    /// What it prints; nothing if nobody wants it.
    pub stdout: Option<File>,
    /// What it prints to stderr.
    pub stderr: Option<File>,
    /// How it ended, once it was waited for.
    ended: Option<ExitStatus>,
}

/// What to start.
pub(super) struct Launch<'a> {
    /// A path, or a name to be looked for in `PATH`.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: Vec<&'a OsStr>,
    /// Its working directory.
    pub dir: &'a Path,
    /// Whether what it prints is wanted.
    pub stdout: bool,
    /// Most bytes it may map (`RLIMIT_AS`).
    pub memory: Option<u64>,
}

/// What the new process needs, all of it made before: it must not allocate.
struct Plan {
    argv: *const *const libc::c_char,
    dir: *const libc::c_char,
    files: [RawFd; 3],
    memory: Option<libc::rlimit>,
    signals: libc::sigset_t,
    /// Why it did not become the program.
    errno: libc::c_int,
}

impl Launch<'_> {
    /// Starts it. Errors are those of the system: no such program, no more processes, no more open files.
    pub fn start(&self) -> io::Result<Program> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let mut words = vec![text(self.program.as_os_str())?];
        for argument in &self.arguments {
            words.push(text(argument)?);
        }
        let mut argv: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
        argv.push(ptr::null());
        let dir = text(self.dir.as_os_str())?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (stderr, stderr_end) = pipe()?;
        let (stdout, stdout_end) = match self.stdout {
            true => pipe().map(|(ours, its)| (Some(ours), Some(its)))?,
            false => (None, None),
        };
        let out = stdout_end
            .as_ref()
            .map_or_else(|| null.as_raw_fd(), AsRawFd::as_raw_fd);
        let mut plan = Plan {
            argv: argv.as_ptr(),
            dir: dir.as_ptr(),
            files: [null.as_raw_fd(), out, stderr_end.as_raw_fd()],
            memory: self.memory.map(|bytes| libc::rlimit {
                rlim_cur: bytes,
                rlim_max: bytes,
            }),
            // SAFETY: a set of signals is plain data, and filled in below.
            signals: unsafe { std::mem::zeroed() },
            errno: 0,
        };
        let (pid, pidfd) = clone(&mut plan)?;
        let program = Program {
            pid,
            pidfd,
            stdout,
            stderr: Some(stderr),
            ended: None,
        };
        match plan.errno {
            0 => Ok(program),
            // Dropping it waits for what is left of the process.
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// A pipe that no program inherits by itself: where we read, and where it writes. Reading does not wait.
fn pipe() -> io::Result<(File, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the array has room for both ends, which nobody else has.
    let (ours, its) = unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    // SAFETY: the descriptor is open.
    if unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((File::from(ours), its))
}

/// Makes the new process, and comes back when it is the program or has failed to be: `plan.errno` says which.
fn clone(plan: &mut Plan) -> io::Result<(libc::pid_t, OwnedFd)> {
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: the stack is 16-byte aligned memory that outlives the new process' use of it, because this one stands
    // still meanwhile; it grows down from its end. So do `plan` and what it points to. Signals are blocked, so that no
    // handler of this process runs in the new one, on memory of both.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity()).cast::<libc::c_void>();
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut plan.signals);
        let data = ptr::from_mut(plan).cast::<libc::c_void>();
        let pid = libc::clone(become_program, top, flags, data, ptr::from_mut(&mut pidfd));
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &plan.signals, ptr::null_mut());
        match (pid, pidfd) {
            (-1, _) => Err(error),
            // Linux before 5.2 leaves it alone.
            (_, -1) => Err(io::ErrorKind::Unsupported.into()),
            _ => Ok((pid, OwnedFd::from_raw_fd(pidfd))),
        }
    }
}

/// Runs in the new process, in the memory of the old one: system calls only.
extern "C" fn become_program(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the plan that was handed to `clone`, and its owner stands still.
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        if prepare(plan) {
            libc::execvp(*plan.argv, plan.argv);
        }
        plan.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// False with `errno` when the system refuses something.
unsafe fn prepare(plan: &Plan) -> bool {
    // SAFETY: all pointers are of the plan, and what they point to lives.
    unsafe {
        for (at, file) in (0..).zip(plan.files) {
            if libc::dup2(file, at) < 0 {
                return false;
            }
        }
        // As the standard library does: programs expect to end when nobody reads what they print.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
            && libc::setpgid(0, 0) == 0
            && libc::chdir(plan.dir) == 0
            && plan
                .memory
                .as_ref()
                .is_none_or(|limit| libc::setrlimit(libc::RLIMIT_AS, limit) == 0)
            && libc::sigprocmask(libc::SIG_SETMASK, &plan.signals, ptr::null_mut()) == 0
    }
}

impl Program {
    /// Ends all that the program has started, and itself. Does nothing once it was waited for: its group's number may
    /// be another's by then.
    pub fn kill_group(&self) {
        if self.ended.is_none() {
            // SAFETY: sends a signal, touches no memory.
            unsafe { libc::kill(-self.pid, libc::SIGKILL) };
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        while self.ended.is_none() {
            let mut status = 0;
            // SAFETY: the status is ours; the process is our own child and was not waited for.
            if unsafe { libc::waitpid(self.pid, &mut status, 0) } == self.pid {
                self.ended = Some(ExitStatus::from_raw(status));
            } else {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        self.ended.ok_or_else(|| io::Error::other("it has not ended"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_group();
        let _ = self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &str) -> io::Result<Program> {
        let launch = Launch {
            program: Path::new("sh"),
            arguments: vec![OsStr::new("-c"), OsStr::new(script)],
            dir: Path::new(dir),
            stdout: false,
            memory: None,
        };
        launch.start()
    }

    #[test]
    fn it_ends_with_the_thread_that_started_it() {
        let started = std::thread::spawn(|| shell("exec sleep 600", "/").expect("it starts"));
        let mut program = started.join().expect("the thread ends well");
        let status = program.wait().expect("it can be waited for");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }

    /// This process ignores SIGPIPE and blocks all signals while it starts another: neither is inherited.
    #[test]
    fn signals_are_as_programs_expect_them() {
        for (name, signal) in [("PIPE", libc::SIGPIPE), ("TERM", libc::SIGTERM)] {
            let mut program = shell(&format!("kill -{name} $$; exit 0"), "/").expect("it starts");
            let status = program.wait().expect("it can be waited for");
            assert_eq!(status.signal(), Some(signal), "{name}");
        }
    }

    #[test]
    fn what_goes_wrong_before_it_runs_is_told() {
        let error = shell("true", "/no/such/folder").err().expect("it does not start");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
