//! `rebound operator settings`: the limits that change outcomes.

use clap::Subcommand;
use rebound_proto::v1::setting::Unit;
use rebound_proto::v1::{Setting, SettingChange};
use serde::Serialize;

use super::super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, parse_duration};

/// The limits that change outcomes.
#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// Show all: value, default, range, meaning
    Show,
    /// Change some, all or none
    Set {
        /// NAME=VALUE: a whole number, or a duration such as 90s, 15m, 24h or 7d
        #[arg(required = true, value_name = "NAME=VALUE")]
        changes: Vec<String>,
    },
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: SettingsCommand) -> Result<Exit, Failure> {
    let client = ctx.client();
    let settings = match command {
        SettingsCommand::Show => client.settings().await?,
        SettingsCommand::Set { changes } => {
            let there = client.settings().await?;
            let changes: Result<Vec<_>, _> = changes.iter().map(|text| change(text, &there)).collect();
            client.change_settings(changes?).await?
        }
    };
    let views: Vec<SettingView> = settings.iter().map(SettingView::from).collect();
    ctx.out
        .many(&views, |out, _| out.table(&mut settings_table(&settings)))?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct SettingView {
    name: String,
    value: u64,
    unit: &'static str,
    default: u64,
    min: u64,
    max: u64,
    what: String,
}

impl From<&Setting> for SettingView {
    fn from(setting: &Setting) -> Self {
        Self {
            name: setting.name.clone(),
            value: setting.value,
            unit: match setting.unit() {
                Unit::Duration => "us",
                _ => "count",
            },
            default: setting.default_value,
            min: setting.min,
            max: setting.max,
            what: setting.what.clone(),
        }
    }
}

fn settings_table(settings: &[Setting]) -> Table {
    let columns = [
        ("NAME", Align::Left),
        ("VALUE", Align::Right),
        ("DEFAULT", Align::Right),
        ("RANGE", Align::Left),
        ("WHAT", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for one in settings {
        let say = |value| say(one.unit(), value);
        table.row([
            &one.name,
            &say(one.value),
            &say(one.default_value),
            &format!("{} to {}", say(one.min), say(one.max)),
            &one.what,
        ]);
    }
    table
}

/// A value as it may be given back: `7d`, `90s`, `1500us`, `3`.
fn say(unit: Unit, value: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    if unit != Unit::Duration {
        return value.to_string();
    }
    let whole = |(us, _): &&(u64, &str)| value >= *us && value.is_multiple_of(*us);
    match UNITS.iter().find(whole) {
        Some((us, unit)) => format!("{}{unit}", value / us),
        None if value == 0 => "0s".into(),
        None => format!("{value}us"),
    }
}

/// `NAME=VALUE`, read by what the setting of that name counts.
fn change(text: &str, there: &[Setting]) -> Result<SettingChange, Failure> {
    let bad = |field: &str, why: String| Failure::usage(format!("{field}: {why}")).at(field);
    let Some((name, value)) = text.split_once('=') else {
        return Err(bad(text, "wants NAME=VALUE, as lease=15s".into()));
    };
    let Some(setting) = there.iter().find(|one| one.name == name) else {
        let names: Vec<&str> = there.iter().map(|one| one.name.as_str()).collect();
        let why = format!("there is no such setting; there are: {}", names.join(", "));
        return Err(bad(name, why));
    };
    let read = match setting.unit() {
        Unit::Duration => duration(value),
        _ => value.parse().map_err(|_| {
            format!(
                "{value:?} is no whole number; write one, as {}",
                setting.default_value
            )
        }),
    };
    let value = read.map_err(|why| bad(name, why))?;
    if !(setting.min..=setting.max).contains(&value) {
        let say = |value| say(setting.unit(), value);
        let why = format!(
            "{} is not within {} to {}",
            say(value),
            say(setting.min),
            say(setting.max)
        );
        return Err(bad(name, why));
    }
    let name = name.to_owned();
    Ok(SettingChange { name, value })
}

/// A duration in µs. Days are always 24 hours.
fn duration(text: &str) -> Result<u64, String> {
    const DAY: u64 = 86_400_000_000;
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()) {
        return days
            .checked_mul(DAY)
            .ok_or_else(|| format!("{text:?} is out of range"));
    }
    let read = parse_duration(text).map_err(|why| format!("{text:?} {why}"))?;
    u64::try_from(read.as_micros()).map_err(|_| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there() -> Vec<Setting> {
        let lease = Setting {
            name: "lease".into(),
            unit: Unit::Duration as i32,
            min: 2_000_000,
            max: 1_800_000_000,
            ..Default::default()
        };
        let attempts = Setting {
            name: "max_attempts".into(),
            unit: Unit::Count as i32,
            default_value: 3,
            min: 1,
            max: 10,
            ..Default::default()
        };
        vec![lease, attempts]
    }

    #[test]
    fn changes_are_read_by_their_unit() {
        let value = |text: &str| change(text, &there()).map(|change| change.value);
        assert_eq!(value("lease=15s").unwrap(), 15_000_000);
        assert_eq!(value("max_attempts=5").unwrap(), 5);
        for (text, why) in [
            ("lease", "lease: wants NAME=VALUE"),
            (
                "lese=1s",
                "lese: there is no such setting; there are: lease, max_attempts",
            ),
            ("lease=1s", "lease: 1s is not within 2s to 30m"),
            ("lease=15", "lease: \"15\" not a duration"),
            (
                "max_attempts=x",
                "max_attempts: \"x\" is no whole number; write one, as 3",
            ),
            ("max_attempts=11", "max_attempts: 11 is not within 1 to 10"),
        ] {
            let failure = value(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(why), "{}", failure.message);
        }
    }

    #[test]
    fn what_is_said_can_be_given_back() {
        for us in [0, 1_500, 2_000, 90_000_000, 3_600_000_000, 7 * 86_400_000_000] {
            let said = say(Unit::Duration, us);
            assert_eq!(duration(&said), Ok(us), "{said}");
        }
        assert!(duration("99999999999999d").is_err());
    }
}
