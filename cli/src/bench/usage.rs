//! What processes used, as the kernel counts it.

use std::time::Duration;

/// What one process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// In its own code.
    pub user: Duration,
    /// In the kernel for it.
    pub system: Duration,
    /// Most memory it ever held at once, in bytes.
    pub peak_rss: u64,
    /// Memory it holds now, in bytes.
    pub rss: u64,
    /// Bytes it caused to be written to disks.
    pub written: u64,
}

impl Usage {
    /// Of a running process; none when it is gone.
    pub fn of(process: u32) -> Option<Usage> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
        let (user, system) = times(&read("stat")?)?;
        let status = read("status")?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        let written = read("io").and_then(|io| {
            let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
            line.trim().parse().ok()
        });
        Some(Usage {
            user,
            system,
            peak_rss: kib("VmHWM:")? * 1024,
            rss: kib("VmRSS:")? * 1024,
            written: written.unwrap_or(0),
        })
    }

    /// Of this process.
    pub fn own() -> Option<Usage> {
        Usage::of(std::process::id())
    }

    /// What was used since an earlier reading; memory as it is now.
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            written: self.written.saturating_sub(before.written),
            ..*self
        }
    }
}

/// User and system time from `/proc/PID/stat`, whose second field may hold spaces. Children that ended do not count.
fn times(stat: &str) -> Option<(Duration, Duration)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut time = || Some(ticks(fields.next()?.parse().ok()?));
    Some((time()?, time()?))
}

/// The clock ticks of `/proc` are hundredths of a second on every Linux there is.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 7 8 20 0";
        let expected = (Duration::from_millis(2_500), Duration::from_millis(500));
        assert_eq!(times(stat), Some(expected));
        assert_eq!(times("12 a"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::own().expect("this process is there");
        assert!(usage.rss > 0 && usage.peak_rss >= usage.rss, "{usage:?}");
    }
}
