//! Values with units or rules of their own, shared by specifications and options.

use std::time::Duration;

use jiff::Timestamp;
use rebound_proto::v1::job_spec::Deadline;

use super::Mistake;
use crate::limits::{DEADLINE_MAX, NAME_BYTES_MAX, PHOTO_TIMEOUT_MAX};
use crate::output::parse_duration;

/// Most CPU a photo may ask for, in thousandths of a core.
const MILLI_CPU_MAX: u32 = 1_024_000;
/// Most memory a photo may ask for, in MiB.
const MEMORY_MIB_MAX: u64 = 16 * 1024 * 1024;

/// Thousandths of a core from `0.5` (cores) or `500m`.
pub fn cpu(text: &str) -> Result<u32, Mistake> {
    const FIX: &str = "wants cores such as 0.5, or thousandths of a core such as 500m";
    let text = text.trim();
    let milli = match text.strip_suffix('m') {
        Some(milli) => milli.parse::<u32>().ok().map(f64::from),
        None => text.parse::<f64>().ok().map(|cores| (cores * 1000.0).round()),
    };
    match milli {
        Some(milli) if milli.is_finite() && milli < 0.0 => Err(format!("is negative; {FIX}").into()),
        Some(milli) if milli > f64::from(MILLI_CPU_MAX) => {
            Err(format!("is more than {} cores; {FIX}", MILLI_CPU_MAX / 1000).into())
        }
        // In range, whole and not negative: the cast is exact.
        Some(milli) if milli.is_finite() => Ok(milli as u32),
        _ => Err(FIX.into()),
    }
}

/// MiB from `512MiB` or `2GiB`.
pub fn memory(text: &str) -> Result<u32, Mistake> {
    const FIX: &str = "wants a whole number with a unit, such as 512MiB or 2GiB";
    let text = text.trim();
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    let mib: u64 = match unit.trim_start() {
        "MiB" => 1,
        "GiB" => 1024,
        _ => return Err(FIX.into()),
    };
    let number: u64 = number.parse().map_err(|_| Mistake(FIX.into()))?;
    match number
        .checked_mul(mib)
        .filter(|mib| *mib <= MEMORY_MIB_MAX)
        .and_then(|mib| u32::try_from(mib).ok())
    {
        Some(mib) => Ok(mib),
        None => Err(format!("is more than {} GiB; {FIX}", MEMORY_MIB_MAX / 1024).into()),
    }
}

/// A deadline: a duration from acceptance, such as `3m`, or an instant of RFC 3339.
pub fn deadline(text: &str) -> Result<Deadline, Mistake> {
    const FIX: &str = "write a duration such as 3m, or an instant such as 2026-11-22T08:00:00Z";
    if let Ok(instant) = text.trim().parse::<Timestamp>() {
        let us = u64::try_from(instant.as_microsecond()).map_err(|_| format!("is before 1970; {FIX}"))?;
        return Ok(Deadline::DeadlineAtUs(us));
    }
    let duration = parse_duration(text).map_err(|why| match why.strip_prefix("is negative") {
        Some(_) => format!("a deadline cannot be negative; {FIX}"),
        None => format!("not a deadline; {FIX}"),
    })?;
    match whole_us(duration) {
        0 => Err(format!("a deadline of nothing cannot be met; {FIX}").into()),
        us if us > DEADLINE_MAX => {
            Err(format!("is more than {} days; {FIX}", DEADLINE_MAX / 86_400_000_000).into())
        }
        us => Ok(Deadline::DeadlineInUs(us)),
    }
}

/// The longest time of one photo in the recogniser, in µs.
pub fn photo_timeout(text: &str) -> Result<u64, Mistake> {
    match whole_us(parse_duration(text)?) {
        0 => Err("must be longer than nothing; leave it out for the default".into()),
        us if us > PHOTO_TIMEOUT_MAX => {
            Err(format!("is more than {} s", PHOTO_TIMEOUT_MAX / 1_000_000).into())
        }
        us => Ok(us),
    }
}

/// A name of 1 to [`NAME_BYTES_MAX`] bytes without control characters.
pub fn job_name(text: &str) -> Result<String, Mistake> {
    if text.is_empty() {
        return Err("is empty; give it at least one character".into());
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("has {} bytes; at most {NAME_BYTES_MAX} are allowed", text.len()).into());
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character; use visible characters only".into());
    }
    Ok(text.to_string())
}

fn whole_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake<T>(message: &str) -> Result<T, Mistake> {
        Err(Mistake(message.into()))
    }

    #[test]
    fn cores() {
        let fix = "wants cores such as 0.5, or thousandths of a core such as 500m";
        for (text, milli) in [
            ("0.5", 500),
            ("2", 2000),
            ("500m", 500),
            ("0", 0),
            ("1024", 1_024_000),
        ] {
            assert_eq!(cpu(text), Ok(milli), "{text}");
        }
        for text in ["", "half", "1.5m", "NaN", "inf cores"] {
            assert_eq!(cpu(text), mistake(fix), "{text}");
        }
        assert_eq!(cpu("-1"), mistake(&format!("is negative; {fix}")));
        assert_eq!(cpu("1025"), mistake(&format!("is more than 1024 cores; {fix}")));
        assert_eq!(cpu("inf"), mistake(&format!("is more than 1024 cores; {fix}")));
    }

    #[test]
    fn memory_sizes() {
        let fix = "wants a whole number with a unit, such as 512MiB or 2GiB";
        for (text, mib) in [
            ("512MiB", 512),
            ("2GiB", 2048),
            ("2 GiB", 2048),
            ("16384GiB", 16_777_216),
        ] {
            assert_eq!(memory(text), Ok(mib), "{text}");
        }
        for text in [
            "",
            "512",
            "512MB",
            "0.5GiB",
            "-1MiB",
            "MiB",
            "99999999999999999999GiB",
        ] {
            assert_eq!(memory(text), mistake(fix), "{text}");
        }
        assert_eq!(
            memory("16385GiB"),
            mistake(&format!("is more than 16384 GiB; {fix}"))
        );
    }

    #[test]
    fn deadlines() {
        let fix = "write a duration such as 3m, or an instant such as 2026-11-22T08:00:00Z";
        assert_eq!(deadline("3m"), Ok(Deadline::DeadlineInUs(180_000_000)));
        assert_eq!(
            deadline("2026-11-22T00:00:00Z"),
            Ok(Deadline::DeadlineAtUs(1_795_305_600_000_000))
        );
        assert_eq!(
            deadline("2026-11-22T02:00:00+02:00"),
            Ok(Deadline::DeadlineAtUs(1_795_305_600_000_000))
        );
        let table = [
            ("-3m", "a deadline cannot be negative"),
            ("0s", "a deadline of nothing cannot be met"),
            ("180", "not a deadline"),
            ("tomorrow", "not a deadline"),
            ("9000h", "is more than 366 days"),
            ("1969-01-01T00:00:00Z", "is before 1970"),
        ];
        for (text, message) in table {
            assert_eq!(deadline(text), mistake(&format!("{message}; {fix}")), "{text}");
        }
    }

    #[test]
    fn photo_time_limits() {
        assert_eq!(photo_timeout("30s"), Ok(30_000_000));
        assert_eq!(photo_timeout("1h"), Ok(3_600_000_000));
        assert_eq!(
            photo_timeout("0s"),
            mistake("must be longer than nothing; leave it out for the default")
        );
        assert_eq!(photo_timeout("61m"), mistake("is more than 3600 s"));
    }

    #[test]
    fn names() {
        assert_eq!(job_name(&"x".repeat(64)), Ok("x".repeat(64)));
        assert_eq!(
            job_name(&"x".repeat(65)),
            mistake("has 65 bytes; at most 64 are allowed")
        );
        assert_eq!(job_name(""), mistake("is empty; give it at least one character"));
        assert_eq!(
            job_name("a\u{1b}[2J"),
            mistake("has a control character; use visible characters only")
        );
    }
}
