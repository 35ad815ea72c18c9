//! One job's way, from the leader's log lines and what the client saw.

use serde::Serialize;

/// Something that happened to the job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// From the submit, in milliseconds.
    pub at_ms: f64,
    /// What.
    pub what: String,
}

/// All of them.
pub struct Trace {
    moments: Vec<Moment>,
}

impl Trace {
    /// What a leader that logs every fact says of a job that was asked for at this time, in µs since 1970. Facts of
    /// one kind become the first and the last of them.
    pub fn of_log(log: &str, job: u64, asked_us: u64) -> Trace {
        let mut trace = Trace { moments: Vec::new() };
        let named = format!("job={job} ");
        let mut seen: Vec<(&str, f64, f64)> = Vec::new();
        for line in log.lines().filter(|line| line.contains(&named)) {
            let Some((at, kind)) = read(line) else { continue };
            let at_ms = (at - asked_us as i64) as f64 / 1e3;
            match seen.iter_mut().find(|(known, ..)| *known == kind) {
                Some((.., last)) => *last = at_ms,
                None => seen.push((kind, at_ms, at_ms)),
            }
        }
        for (kind, first, last) in seen {
            let what = format!("leader: applied {kind}");
            match first == last {
                true => trace.add(first, &what),
                false => {
                    trace.add(first, &format!("{what}, the first"));
                    trace.add(last, &format!("{what}, the last"));
                }
            }
        }
        trace
    }

    /// One more moment.
    pub fn add(&mut self, at_ms: f64, what: &str) {
        self.moments.push(Moment {
            at_ms,
            what: what.to_owned(),
        });
    }

    /// As they came.
    pub fn in_order(mut self) -> Vec<Moment> {
        self.moments
            .sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
        self.moments
    }
}

/// When a line was written, in µs since 1970, and what it says became true.
fn read(line: &str) -> Option<(i64, &str)> {
    let (stamp, rest) = line.split_once(' ')?;
    let at: jiff::Timestamp = stamp.parse().ok()?;
    let kind = match rest.split_once("fact=") {
        Some((_, fact)) => fact.split([' ', '{']).next()?,
        None if rest.contains(": job opened ") => "JobOpened",
        None if rest.contains(": job done ") => "JobDone",
        None => return None,
    };
    Some((at.as_microsecond(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_become_moments() {
        let log = "\
2026-01-02T00:00:00.001500Z  INFO rebound_scheduler::telemetry: job opened index=7 job=7 trace=ab name=
2026-01-02T00:00:00.002000Z DEBUG rebound_scheduler::telemetry: fact index=8 job=7 trace=ab fact=RunGiven { x: 1 }
2026-01-02T00:00:00.002500Z DEBUG rebound_scheduler::telemetry: fact index=9 job=7 trace=ab fact=Recorded { x: 1 }
2026-01-02T00:00:00.002600Z DEBUG rebound_scheduler::telemetry: fact index=9 job=77 trace=ab fact=Recorded { x: 1 }
2026-01-02T00:00:00.003000Z DEBUG rebound_scheduler::telemetry: fact index=9 job=7 trace=ab fact=Recorded { x: 2 }
no time job=7 ";
        let mut trace = Trace::of_log(log, 7, 1_767_312_000_001_000);
        trace.add(0.7, "client: knows");
        let told: Vec<(f64, String)> = trace
            .in_order()
            .into_iter()
            .map(|moment| (moment.at_ms, moment.what))
            .collect();
        let expected = [
            (0.5, "leader: applied JobOpened"),
            (0.7, "client: knows"),
            (1.0, "leader: applied RunGiven"),
            (1.5, "leader: applied Recorded, the first"),
            (2.0, "leader: applied Recorded, the last"),
        ];
        assert_eq!(told, expected.map(|(at, what)| (at, what.to_owned())));
    }
}
