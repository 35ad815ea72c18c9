//! Runs a recogniser's process and talks to it.

use std::fs;
use std::io::{BufReader, Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rebound_agent::recognise::frame::{self, FromChild, Outcome, Request};
use rebound_agent::recognise::runtime;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A recogniser that ships.
pub fn recogniser(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("recognisers")
        .join(name)
}

/// Real photos and the like, where they are.
pub fn shared_data() -> Option<PathBuf> {
    let named = std::env::var_os("REBOUND_SHARED_DATA").map(PathBuf::from);
    let data = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    data.is_dir().then_some(data)
}

pub fn runtime_is_here() -> bool {
    runtime::find().is_ok()
}

/// A small picture in a file format.
pub fn encoded_photo(format: image::ImageFormat) -> Vec<u8> {
    let photo = image::RgbImage::from_fn(320, 240, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    photo.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A recogniser of kind `command` in `dir` that runs a shell script with the photo's path as `$0`.
pub fn command_recogniser(dir: &Path, script: &str) -> PathBuf {
    let folder = dir.join("scripted");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("script.sh"), script).unwrap();
    let manifest = "format = 1\nname = \"scripted\"\nkind = \"command\"\n\
                    [command]\nprogram = [\"/bin/sh\", \"-c\", '. ./script.sh']\n";
    fs::write(folder.join("manifest.toml"), manifest).unwrap();
    folder
}

/// What came next from the process.
pub enum Said {
    Message(FromChild),
    End,
}

/// A recogniser's process; killed when this is dropped.
pub struct Child {
    process: std::process::Child,
    to: Option<ChildStdin>,
    from: mpsc::Receiver<Said>,
    next_id: u64,
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Child {
    fn start(folder: &Path, threads: usize, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rebound-agent"))
            .arg("recognise")
            .arg("--recogniser")
            .arg(folder)
            .args(["--threads", &threads.to_string()])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let (say, from) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok(Some(message)) = frame::read::<FromChild>(&mut output) {
                if say.send(Said::Message(message)).is_err() {
                    return;
                }
            }
            let _ = say.send(Said::End);
        });
        let to = process.stdin.take();
        Self {
            process,
            to,
            from,
            next_id: 1,
        }
    }

    /// Starts the process and waits until it is ready.
    pub fn ready(folder: &Path, threads: usize) -> Self {
        let mut child = Self::start(folder, threads, &[]);
        match child.next() {
            Said::Message(FromChild::Ready { name, .. }) => {
                assert_eq!(
                    Some(name.as_str()),
                    folder.file_name().and_then(|name| name.to_str())
                );
            }
            Said::Message(other) => panic!("it said {other:?} first"),
            Said::End => panic!("it ended before it was ready"),
        }
        child
    }

    /// Starts a process that cannot work: what it says and its exit status.
    pub fn fatal(folder: &Path, variables: &[(&str, &str)]) -> (String, Option<i32>) {
        let mut child = Self::start(folder, 1, variables);
        match child.next() {
            Said::Message(FromChild::Fatal { message }) => (message, child.close()),
            Said::Message(other) => panic!("it said {other:?}"),
            Said::End => panic!("it ended without a word"),
        }
    }

    pub fn next(&mut self) -> Said {
        self.from
            .recv_timeout(PATIENCE)
            .expect("the recogniser says nothing")
    }

    pub fn ask(&mut self, path: &Path) -> Outcome {
        self.ask_all(path, 20 * 1024 * 1024, 0)
    }

    pub fn ask_with_limit(&mut self, path: &Path, max_photo_bytes: u64) -> Outcome {
        self.ask_all(path, max_photo_bytes, 0)
    }

    pub fn ask_within(&mut self, path: &Path, timeout_ms: u64) -> Outcome {
        self.ask_all(path, 20 * 1024 * 1024, timeout_ms)
    }

    fn ask_all(&mut self, path: &Path, max_photo_bytes: u64, timeout_ms: u64) -> Outcome {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request {
            id,
            path: path.into(),
            max_photo_bytes,
            max_pixels: 50_000_000,
            timeout_ms,
        };
        frame::write(self.to.as_mut().expect("it is open"), &request).unwrap();
        match self.next() {
            Said::Message(FromChild::Reply(reply)) => {
                assert_eq!(reply.id, id);
                reply.outcome
            }
            Said::Message(other) => panic!("it said {other:?}"),
            Said::End => panic!("it ended while it held {}", path.display()),
        }
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.to.as_mut().expect("it is open").write_all(bytes).unwrap();
    }

    /// Closes its stdin and gives its exit status.
    pub fn close(mut self) -> Option<i32> {
        self.to = None;
        while !matches!(self.next(), Said::End) {}
        self.process.wait().unwrap().code()
    }
}
