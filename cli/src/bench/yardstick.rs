//! What this machine can do by itself: the measures that a cluster's figures are held against, taken in the same run.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::figures::cores;
use crate::exit::Failure;
use crate::local::{Quantiles, round};

/// Synced writes tried.
const SYNCS: usize = 500;
/// Bytes of each: about an entry with a small job.
const SYNC_BYTES: usize = 1_024;
/// Round trips tried.
const ROUND_TRIPS: usize = 2_000;
/// Bytes each way.
const ROUND_TRIP_BYTES: usize = 128;

/// A file's end written and synced, again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Syncs {
    /// How many a second, one after another.
    pub per_s: f64,
    /// Time of one, in milliseconds.
    pub ms: Quantiles,
}

/// A run's figures, and what the disk can do alone.
#[derive(Debug, Serialize)]
pub struct WithSyncs<T> {
    /// The run's.
    #[serde(flatten)]
    pub figures: T,
    /// Before the servers start and after they have stopped.
    pub raw_syncs: [Syncs; 2],
}

/// The same in two words.
pub fn brief([before, after]: &[Syncs; 2]) -> String {
    format!("{:.0} a second before, {:.0} after", before.per_s, after.per_s)
}

/// Measures `fdatasync` on the file system of a folder, on a thread that may wait.
pub async fn measured_syncs(dir: &Path) -> Result<Syncs, Failure> {
    let dir = dir.to_owned();
    aside(move || syncs(&dir)).await
}

/// Measures on a thread that may wait.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::failed(format!("the yardstick ended early: {error}")))?
}

fn syncs(dir: &Path) -> Result<Syncs, Failure> {
    let path = dir.join("yardstick");
    let measured = sync_times(&path);
    let _ = std::fs::remove_file(&path);
    let times = measured.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    let all: f64 = times.iter().sum();
    Ok(Syncs {
        per_s: round(times.len() as f64 * 1e3 / all.max(1e-9), 0),
        ms: Quantiles::of(times, 3),
    })
}

fn sync_times(path: &Path) -> io::Result<Vec<f64>> {
    let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
    let piece = [7; SYNC_BYTES];
    let one = |_| {
        let begun = Instant::now();
        file.write_all(&piece)?;
        file.sync_data()?;
        Ok(ms(begun.elapsed()))
    };
    (0..SYNCS).map(one).collect()
}

/// Measures a message to another thread and back over loopback, in milliseconds.
pub fn round_trips() -> Result<Quantiles, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("127.0.0.1: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut piece = [0; ROUND_TRIP_BYTES];
        while stream.read_exact(&mut piece).is_ok() {
            stream.write_all(&piece)?;
        }
        Ok(())
    });
    let measure = || -> io::Result<Vec<f64>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut piece = [7; ROUND_TRIP_BYTES];
        let one = |_| {
            let begun = Instant::now();
            stream.write_all(&piece)?;
            stream.read_exact(&mut piece)?;
            Ok(ms(begun.elapsed()))
        };
        (0..ROUND_TRIPS).map(one).collect()
    };
    let times = measure().map_err(failed)?;
    let _ = echo.join();
    Ok(Quantiles::of(times, 4))
}

/// Where `true` is.
pub fn true_program() -> Result<PathBuf, Failure> {
    ["/bin/true", "/usr/bin/true"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| Failure::failed("this machine has neither /bin/true nor /usr/bin/true"))
}

/// How often a second this machine starts a program and sees it end, on all its processors, in about so much time.
pub fn spawns_per_s(program: &Path, time: Duration) -> Result<f64, Failure> {
    let begun = Instant::now();
    let counts = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..cores())
            .map(|_| scope.spawn(|| spawn_until(program, begun + time)))
            .collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().expect("a lane does not panic"))
            .collect::<io::Result<Vec<u64>>>()
    });
    let counts = counts.map_err(|error| Failure::failed(format!("{}: {error}", program.display())))?;
    let all: u64 = counts.iter().sum();
    Ok(round(all as f64 / begun.elapsed().as_secs_f64(), 0))
}

fn spawn_until(program: &Path, until: Instant) -> io::Result<u64> {
    let mut count = 0;
    while Instant::now() < until {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !command.status()?.success() {
            return Err(io::Error::other("it did not end with status 0"));
        }
        count += 1;
    }
    Ok(count)
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_measured() {
        let dir = tempfile::tempdir().expect("a folder can be made");
        let measured = syncs(dir.path()).expect("a file can be synced");
        assert!(measured.per_s > 0.0 && measured.ms.max > 0.0, "{measured:?}");
        assert_eq!(std::fs::read_dir(dir.path()).map(Iterator::count).ok(), Some(0));
        assert!(round_trips().expect("loopback is there").p50 > 0.0);
        let program = true_program().expect("this machine has it");
        assert!(spawns_per_s(&program, Duration::from_millis(50)).expect("it can be run") > 0.0);
    }
}
