//! Processes on one core: in a cgroup of their own where the kernel has one for that, else by their affinity.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::local::{Place, bind_thread};

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// One core for a group of processes. The group goes with the value.
pub struct Core {
    number: usize,
    group: Option<PathBuf>,
    how: &'static str,
}

impl Core {
    /// A core of this machine for a group of this name.
    pub fn take(number: usize, name: &str) -> Core {
        let name = format!("rebound-{}-{name}", std::process::id());
        let v2 = second(number, &name).map(|group| (Some(group), "cgroup v2, cpuset"));
        let v1 = |_| first(number, &name).map(|group| (Some(group), "cgroup v1, cpuset"));
        let (group, how) = v2.or_else(v1).unwrap_or((None, "sched_setaffinity"));
        Core { number, group, how }
    }

    /// How its processes are kept on it.
    pub fn how(&self) -> &'static str {
        self.how
    }

    /// Where a process is put that starts on it.
    pub fn place(&self) -> Place {
        Place {
            group: self.group.as_ref().map(|group| group.join("cgroup.procs")),
            core: Some(self.number),
            ..Place::default()
        }
    }

    /// Puts this process on it, with all its threads.
    pub fn enter(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::failed(format!("core {}: {error}", self.number));
        if let Some(group) = &self.group {
            fs::write(group.join("cgroup.procs"), std::process::id().to_string()).map_err(failed)?;
        }
        for thread in fs::read_dir("/proc/self/task").map_err(failed)?.flatten() {
            let id = thread.file_name().to_string_lossy().parse().unwrap_or(0);
            // A thread that has just ended needs no core.
            let _ = bind_thread(id, self.number);
        }
        Ok(())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let Some(group) = &self.group else { return };
        // Who is still in it goes back to where the group is.
        let above = group.parent().unwrap_or(Path::new(ROOT)).join("cgroup.procs");
        for id in fs::read_to_string(group.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            let _ = fs::write(&above, id);
        }
        let _ = fs::remove_dir(group);
    }
}

/// A group of the second kind of cgroups.
fn second(number: usize, name: &str) -> io::Result<PathBuf> {
    let root = Path::new(ROOT);
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    if !controllers.split_whitespace().any(|one| one == "cpuset") {
        return Err(io::ErrorKind::Unsupported.into());
    }
    fs::write(root.join("cgroup.subtree_control"), "+cpuset")?;
    with_core(root.join(name), number)
}

/// A group of the first kind.
fn first(number: usize, name: &str) -> io::Result<PathBuf> {
    let root = Path::new(ROOT).join("cpuset");
    let memory = fs::read_to_string(root.join("cpuset.mems"))?;
    let group = root.join(name);
    fs::create_dir(&group)?;
    fs::write(group.join("cpuset.mems"), memory.trim())
        .and_then(|()| with_core(group.clone(), number))
        .inspect_err(|_| drop(fs::remove_dir(&group)))
}

fn with_core(group: PathBuf, number: usize) -> io::Result<PathBuf> {
    fs::create_dir_all(&group)?;
    fs::write(group.join("cpuset.cpus"), number.to_string()).inspect_err(|_| drop(fs::remove_dir(&group)))?;
    Ok(group)
}
