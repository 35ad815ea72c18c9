//! Bamboo's traces: machines that came to an autoscaling group and left it, as `milliseconds,add|remove,node`.

use std::collections::BTreeMap;

use super::Capacity;
use crate::error::FileError;
use crate::money::shown;

/// Whether text begins like one.
pub fn is_one(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut parts = line.split(',');
    let number = parts
        .next()
        .is_some_and(|part| part.trim().parse::<u64>().is_ok());
    number && matches!(parts.next().map(str::trim), Some("add" | "remove"))
}

/// Reads a trace. Lives are those of the nodes as they are named.
///
/// # Errors
///
/// The first fault.
pub fn capacity(file: &str, text: &[u8]) -> Result<Capacity, FileError> {
    let mut changes: Vec<(u64, i64)> = Vec::new();
    let mut up: BTreeMap<String, u64> = BTreeMap::new();
    let mut lives = Vec::new();
    let text = String::from_utf8_lossy(text);
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let bad = |field: &str, problem: String, fix: &str| {
            FileError::at(file, index as u64 + 1, field, problem, fix)
        };
        let mut parts = line.split(',').map(str::trim);
        let (at, what, node) = (parts.next(), parts.next(), parts.next());
        let at: u64 = at
            .unwrap_or_default()
            .parse::<u64>()
            .ok()
            .and_then(|at| at.checked_mul(1_000))
            .ok_or_else(|| {
                bad(
                    "ms",
                    format!("`{}` is no number", shown(line)),
                    "write milliseconds, as 480000",
                )
            })?;
        if changes.last().is_some_and(|(last, _)| *last > at) {
            return Err(bad("ms", "goes back in time".into(), "sort the lines by time"));
        }
        let node = node
            .filter(|node| !node.is_empty())
            .ok_or_else(|| bad("node", "is missing".into(), "write ms,add|remove,node"))?;
        match what {
            Some("add") => {
                if up.insert(node.to_owned(), at).is_some() {
                    let problem = format!("{} is there already", shown(node));
                    return Err(bad("node", problem, "a node is added once before it is removed"));
                }
                changes.push((at, 1));
            }
            Some("remove") => {
                let since = up.remove(node).ok_or_else(|| {
                    let problem = format!("{} is not there", shown(node));
                    bad("node", problem, "a node is removed after it was added")
                })?;
                lives.push(at - since);
                changes.push((at, -1));
            }
            other => {
                let problem = format!("`{}` is no change", shown(other.unwrap_or_default()));
                return Err(bad("change", problem, "write add or remove"));
            }
        }
    }
    let end = changes.last().map_or(0, |(at, _)| *at);
    let mut all = Capacity::from_changes(&changes, end);
    all.lives = lives;
    all.rows = changes.len() as u64;
    Ok(all)
}
