//! The process of one recogniser.
//!
//! It ends when its stdin does, and with its parent. Linux counts as the parent the *thread* that started it:
//! start it from a thread that lives as long as the agent.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use image::RgbImage;

use super::Recogniser;
use super::classifier::Classifier;
use super::command;
use super::frame::{
    self, Failure, FailureCause, FrameError, FromChild, MAX_RESULT_BYTES, Outcome, Reply, Request,
};
use super::manifest::{CommandSettings, Manifest, Settings};
use super::photo::{self, PhotoLimits};
use super::session;
use super::shelf_text::ShelfText;

/// Most threads that may work on one photo.
pub const MAX_THREADS: usize = 256;

/// What the process is told at its start.
#[derive(Clone, Debug)]
pub struct ChildArgs {
    /// The recogniser's folder.
    pub recogniser: PathBuf,
    /// Threads that work on one photo, 1 to [`MAX_THREADS`].
    pub threads: usize,
}

/// The whole life of a recogniser's process. Its stdout carries frames only.
pub fn child_main(args: &ChildArgs) -> ExitCode {
    if let Err(message) = end_with_parent() {
        eprintln!("rebound-agent recognise: {message}");
        return ExitCode::FAILURE;
    }
    give_way();
    let mut output = match keep_stdout_for_frames() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("rebound-agent recognise: stdout cannot be set aside: {error}");
            return ExitCode::FAILURE;
        }
    };
    let begun = Instant::now();
    let said = match Worker::load(args) {
        Ok((name, mut worker)) => {
            let load_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let ready = FromChild::Ready { name, load_ms };
            frame::write(&mut output, &ready).and_then(|()| serve(&mut worker, &mut output))
        }
        Err(message) => {
            eprintln!("rebound-agent recognise: {message}");
            let failure = Failure::recogniser(message);
            // The exit status says the same to a parent that does not listen any more.
            let _ = frame::write(
                &mut output,
                &FromChild::Fatal {
                    message: failure.message,
                },
            );
            return ExitCode::FAILURE;
        }
    };
    match said {
        Ok(()) => ExitCode::SUCCESS,
        // The agent is gone: nobody to tell.
        Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rebound-agent recognise: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(worker: &mut Worker, output: &mut File) -> Result<(), FrameError> {
    let mut input = BufReader::new(io::stdin().lock());
    while let Some(request) = frame::read::<Request>(&mut input)? {
        let outcome = match worker.answer(&request) {
            Ok(value) => Outcome::Ok(value),
            Err(failure) => Outcome::Error(failure),
        };
        frame::write(
            output,
            &FromChild::Reply(Reply {
                id: request.id,
                outcome,
            }),
        )?;
    }
    Ok(())
}

/// Something that answers requests.
enum Worker {
    OnPixels(Box<dyn Recogniser>),
    Program {
        settings: CommandSettings,
        dir: PathBuf,
        timeout: Duration,
    },
}

impl Worker {
    fn load(args: &ChildArgs) -> Result<(String, Self), String> {
        if !(1..=MAX_THREADS).contains(&args.threads) {
            return Err(format!("--threads {}: give 1 to {MAX_THREADS}", args.threads));
        }
        let manifest = Manifest::load(&args.recogniser).map_err(|error| error.to_string())?;
        let worker = match &manifest.settings {
            Settings::Noop => return Err("a recogniser of kind noop needs no process".into()),
            Settings::Command(settings) => {
                manifest.verify_files().map_err(|error| error.to_string())?;
                let timeout = Duration::from_millis(manifest.limits.photo_timeout_ms);
                Self::Program {
                    settings: settings.clone(),
                    dir: args.recogniser.clone(),
                    timeout,
                }
            }
            Settings::Classifier(settings) => {
                let environment = session::environment()?;
                let loaded = Classifier::load(&manifest, settings, &environment, args.threads)?;
                Self::OnPixels(tried(loaded)?)
            }
            Settings::ShelfText(detector, reader) => {
                let environment = session::environment()?;
                let loaded = ShelfText::load(&manifest, detector, reader, &environment, args.threads)?;
                Self::OnPixels(tried(loaded)?)
            }
        };
        Ok((manifest.name, worker))
    }

    fn answer(&mut self, request: &Request) -> Result<serde_json::Value, Failure> {
        let limits = PhotoLimits {
            max_bytes: request.max_photo_bytes,
            max_pixels: request.max_pixels,
        };
        let value = match self {
            Self::OnPixels(recogniser) => recogniser.recognise(&photo::open(&request.path, limits)?)?,
            Self::Program {
                settings,
                dir,
                timeout,
            } => {
                photo::check_file(&request.path, limits.max_bytes)?;
                let asked = Duration::from_millis(request.timeout_ms);
                let timeout = if asked.is_zero() { *timeout } else { asked };
                command::run(settings, dir, &request.path, timeout)?
            }
        };
        let len = serde_json::to_vec(&value).map_or(usize::MAX, |bytes| bytes.len());
        if len > MAX_RESULT_BYTES {
            let message = format!("the result has {len} bytes; at most {MAX_RESULT_BYTES} are allowed");
            return Err(Failure::new(FailureCause::ResultTooLarge, message));
        }
        Ok(value)
    }
}

/// The recogniser after a first photo, a black one: a model that cannot work says so before there is work, and the
/// first real photo does not wait for what a first run sets up.
fn tried(mut recogniser: impl Recogniser + 'static) -> Result<Box<dyn Recogniser>, String> {
    /// Both sides of the black photo, in pixels.
    const SIDE: u32 = 256;
    let tried = recogniser.recognise(&RgbImage::new(SIDE, SIDE));
    tried.map_err(|failure| failure.message)?;
    Ok(Box::new(recogniser))
}

/// Steps down in the processor's queue: a recogniser takes all it can get, and what speaks for the machine (the agent,
/// and a server beside it) must not wait for it.
fn give_way() {
    /// Of 19, which would be the last of all. At 10 it is pushed aside even while another processor idles: 8 % fewer
    /// photos a second of one slot on two processors.
    const NICENESS: libc::c_int = 2;
    // SAFETY: changes nothing but this process's priority; going down is always allowed.
    unsafe { libc::nice(NICENESS) };
}

/// Asks the kernel to end this process with the one that started it.
fn end_with_parent() -> Result<(), String> {
    // SAFETY: these calls touch no memory of ours.
    unsafe {
        let parent = libc::getppid();
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(format!(
                "cannot be tied to its parent: {}",
                io::Error::last_os_error()
            ));
        }
        // The parent may have ended before the kernel was asked.
        if libc::getppid() != parent {
            return Err("its parent is gone".into());
        }
    }
    Ok(())
}

/// Takes stdout for frames, and lets all that libraries may print go to stderr.
fn keep_stdout_for_frames() -> io::Result<File> {
    let stdout = io::stdout().as_raw_fd();
    // SAFETY: the descriptors are open; the new one is owned by the file from here on.
    unsafe {
        let frames = libc::fcntl(stdout, libc::F_DUPFD_CLOEXEC, 3);
        if frames < 0 {
            return Err(io::Error::last_os_error());
        }
        let frames = File::from_raw_fd(frames);
        if libc::dup2(io::stderr().as_raw_fd(), stdout) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(frames)
    }
}
