//! What stands behind a command: spans of time, sizes, servers, tasks.

use std::str::FromStr;

use rebound_core::types::{MILLISECOND, SECOND};

/// `10s`, `250ms`, `80us`, `15m` or `24h`.
#[derive(Clone, Copy, Default)]
pub struct Span(pub u64);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Span, String> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .ok_or("a span has a unit: s, ms, us, m or h")?;
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "us" => 1,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            other => return Err(format!("unknown unit {other}")),
        };
        Ok(Span(number.parse::<u64>().map_err(|e| e.to_string())? * unit))
    }
}

/// A number, or a span of time as its µs.
#[derive(Clone, Copy)]
pub struct Amount(pub u64);

impl FromStr for Amount {
    type Err = String;
    fn from_str(text: &str) -> Result<Amount, String> {
        match text.parse() {
            Ok(number) => Ok(Amount(number)),
            Err(_) => text.parse().map(|Span(us)| Amount(us)),
        }
    }
}

/// Bytes: `100` or `16K`.
#[derive(Clone, Copy, Default)]
pub struct Size(pub usize);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        let (number, unit) = match text.strip_suffix('K') {
            Some(number) => (number, 1024),
            None => (text, 1),
        };
        Ok(Size(number.parse::<usize>().map_err(|e| e.to_string())? * unit))
    }
}

/// Text: itself, or `x@100` for so many of it.
#[derive(Clone, Default)]
pub struct Filler(pub String);

impl FromStr for Filler {
    type Err = String;
    fn from_str(text: &str) -> Result<Filler, String> {
        match text.split_once('@') {
            Some((one, times)) => {
                let times: usize = times.parse().map_err(|_| "a number follows @".to_owned())?;
                Ok(Filler(one.repeat(times)))
            }
            None => Ok(Filler(text.to_owned())),
        }
    }
}

/// A server.
#[derive(Clone, Copy)]
pub enum Who {
    /// Whoever leads.
    Leader,
    /// Its number.
    Server(u64),
}

impl FromStr for Who {
    type Err = String;
    fn from_str(text: &str) -> Result<Who, String> {
        match text {
            "leader" => Ok(Who::Leader),
            number => number
                .parse()
                .map(Who::Server)
                .map_err(|_| format!("{text} is neither a number nor `leader`")),
        }
    }
}

/// `a/3` or `a/3-7`.
#[derive(Clone)]
pub struct Tasks {
    /// The job's name.
    pub job: String,
    /// First task.
    pub first: u64,
    /// Last task.
    pub last: u64,
}

impl FromStr for Tasks {
    type Err = String;
    fn from_str(text: &str) -> Result<Tasks, String> {
        let (job, tasks) = text.split_once('/').ok_or("tasks are named a/3 or a/3-7")?;
        let (first, last) = tasks.split_once('-').unwrap_or((tasks, tasks));
        let number = |text: &str| text.parse::<u64>().map_err(|e| e.to_string());
        Ok(Tasks {
            job: job.to_owned(),
            first: number(first)?,
            last: number(last)?,
        })
    }
}
