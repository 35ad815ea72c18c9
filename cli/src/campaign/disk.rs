//! A disk in a file: ext4 on a loop device. What was synced on it is in the file; what was not may be or not.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::root::run;
use crate::exit::Failure;

/// The tools it needs.
pub const TOOLS: [&str; 5] = ["losetup", "mkfs.ext4", "mount", "umount", "cp"];
/// Copies that are begun anew, when the system wrote to the disk meanwhile.
const COPIES_MAX: u32 = 50;

/// A mounted disk. Unmounted when dropped.
pub struct LoopDisk {
    file: PathBuf,
    at: PathBuf,
    device: String,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of ours are text")
}

impl LoopDisk {
    /// Makes a disk of so many MiB in a new file, and mounts it.
    pub fn make(file: &Path, mib: u64, at: &Path) -> Result<LoopDisk, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", file.display()));
        File::create(file)
            .and_then(|made| made.set_len(mib << 20))
            .map_err(failed)?;
        std::fs::create_dir_all(at).map_err(failed)?;
        // All of it now: nothing is to be written in the background later.
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        run(&["mkfs.ext4", "-q", "-F", "-m", "0", "-E", now, text(file)])?;
        LoopDisk::mount(file, at)
    }

    /// Mounts the disk in a file, as a machine does that starts: its journal is played.
    pub fn mount(file: &Path, at: &Path) -> Result<LoopDisk, Failure> {
        let device = run(&["losetup", "--find", "--show", text(file)])?;
        let mounted = run(&["mount", "-t", "ext4", &device, text(at)]);
        // It goes with the last who uses it.
        run(&["losetup", "--detach", &device])?;
        mounted?;
        Ok(LoopDisk {
            file: file.to_owned(),
            at: at.to_owned(),
            device,
        })
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// The disk as it is now, without what the system has not written to it yet. Its users must stand still. Answers
    /// how many copies it took until the system wrote nothing meanwhile: only such a copy is one moment's.
    pub fn copy(&self, to: &Path) -> Result<u32, Failure> {
        for tries in 1..=COPIES_MAX {
            let before = self.written()?;
            run(&["cp", "--sparse=always", text(&self.file), text(to)])?;
            if before.1 == 0 && self.written()? == before {
                return Ok(tries);
            }
        }
        Err(Failure::failed(format!("{} never stood still", self.device)))
    }

    /// Writes done and requests under way.
    fn written(&self) -> Result<(u64, u64), Failure> {
        let name = self.device.trim_start_matches("/dev/");
        let path = format!("/sys/block/{name}/stat");
        let stat =
            std::fs::read_to_string(&path).map_err(|error| Failure::failed(format!("{path}: {error}")))?;
        let fields: Vec<u64> = stat
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        match (fields.get(4), fields.get(8)) {
            (Some(writes), Some(under_way)) => Ok((*writes, *under_way)),
            _ => Err(Failure::failed(format!("{path} says nothing"))),
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Where that fails, the end of the mount namespace does it.
        let _ = run(&["umount", text(&self.at)]);
    }
}
