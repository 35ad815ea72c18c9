//! Times and durations, read and written.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// RFC 3339 in UTC, to the microsecond if there is one. A time beyond year 9999 is written as it came.
pub fn time(us: u64) -> String {
    match i64::try_from(us)
        .ok()
        .and_then(|us| Timestamp::from_microsecond(us).ok())
    {
        Some(time) => time.to_string(),
        None => format!("{us} µs after 1970"),
    }
}

/// As [`time`]; 0 stands for no time.
pub fn time_opt(us: u64) -> Option<String> {
    (us != 0).then(|| time(us))
}

/// A duration for people: `850ms`, `4.2s`, `3m 5s`, `2h 7m`.
pub fn duration(us: u64) -> String {
    let ms = us / 1_000;
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h {}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// Reads `90s`, `3m`, `1h 30m`, `250ms`, or ISO 8601's `PT3M`. A bare number has no unit and is refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const FIX: &str = "write a number with a unit, such as 90s, 3m or 1h30m";
    let text = text.trim();
    let signed: SignedDuration = text.parse().map_err(|_| format!("not a duration; {FIX}"))?;
    if signed.is_negative() {
        return Err(format!("is negative; {FIX}"));
    }
    Duration::try_from(signed).map_err(|_| format!("is out of range; {FIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_795_305_600_250_000), "2026-11-22T00:00:00.25Z");
        assert_eq!(time(u64::MAX), format!("{} µs after 1970", u64::MAX));
        assert_eq!(time_opt(0), None);
    }

    #[test]
    fn durations_are_read() {
        let table = [
            ("3m", 180_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("PT3M", 180_000),
            ("1.5s", 1_500),
            (" 2 minutes ", 120_000),
        ];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn bad_durations_are_refused() {
        let negative = "is negative; write a number with a unit, such as 90s, 3m or 1h30m";
        let wrong = "not a duration; write a number with a unit, such as 90s, 3m or 1h30m";
        for (text, message) in [
            ("-3m", negative),
            ("180", wrong),
            ("", wrong),
            ("soon", wrong),
            ("3 parsecs", wrong),
        ] {
            assert_eq!(parse_duration(text), Err(message.into()), "{text}");
        }
    }

    #[test]
    fn durations_are_written_for_people() {
        let table = [
            (0, "0ms"),
            (850_400, "850ms"),
            (4_260_000, "4.2s"),
            (185_000_000, "3m 5s"),
            (7_620_000_000, "2h 7m"),
        ];
        for (us, text) in table {
            assert_eq!(duration(us), text);
        }
    }
}
