//! Policies of buying machines as files: TOML with units that people write.

use std::path::Path;

use rebound_core::env_rule::EnvRule;
use rebound_core::reply::Rejected;
use rebound_core::scaling::{Commitment, Escape, Foresight, Mode, Scaling, Spares, Threshold};
use rebound_core::schedule::Schedule;
use serde::Deserialize;

use crate::exit::Failure;
use crate::output::parse_duration;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Largest percentage.
const PERCENT_MAX: f64 = 100_000.0;
/// Most dollars.
const USD_MAX: f64 = 1e9;
/// Policies that ship with the program.
const SHIPPED: [(&str, &str); 2] = [
    ("default", include_str!("../../policies/default.toml")),
    ("threshold", include_str!("../../policies/threshold.toml")),
];

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    Off,
    Observe,
    Act,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mode: Option<ModeName>,
    template: Option<u32>,
    spot: Option<bool>,
    on_demand: Option<bool>,
    within: Option<String>,
    late_within: Option<String>,
    ready: Option<String>,
    spare_percent: Option<f64>,
    share_percent: Option<f64>,
    grown_percent: Option<f64>,
    again: Option<String>,
    probe_first: Option<String>,
    probe_max: Option<String>,
    keep_percent: Option<f64>,
    stale_after: Option<String>,
    threshold: Option<ThresholdTable>,
    #[serde(default)]
    caps: CapsTable,
    #[serde(default)]
    brakes: BrakesTable,
    #[serde(default)]
    breaker: BreakerTable,
    #[serde(default)]
    schedule: Vec<ScheduleTable>,
    foresight: Option<ForesightName>,
    week_zone: Option<String>,
    photo_kb: Option<u32>,
    away_saving_percent: Option<f64>,
    escape: Option<Vec<EscapeName>>,
    #[serde(default)]
    commitment: Vec<CommitmentTable>,
    #[serde(default)]
    environment: Vec<EnvironmentTable>,
    spares: Option<SparesTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SparesTable {
    recogniser: String,
    photos: u32,
    within: String,
    start: String,
    volume_usd: f64,
}

impl SparesTable {
    fn own(&self) -> Result<Spares, Wrong> {
        Ok(Spares {
            recogniser: self.recogniser.clone(),
            photos: self.photos,
            within: time("spares.within", Some(&self.within), 0)?,
            start: time("spares.start", Some(&self.start), 0)?,
            volume: usd("spares.volume_usd", Some(self.volume_usd), 0)?,
        })
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EscapeName {
    Market,
    Zone,
    Type,
    Size,
    Region,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitmentTable {
    region: String,
    #[serde(default)]
    zone_id: String,
    #[serde(rename = "type")]
    instance_type: String,
    machines: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentTable {
    name: String,
    #[serde(default)]
    regions: Vec<String>,
    day_usd: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ForesightName {
    Off,
    Watch,
    Act,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleTable {
    name: String,
    cron: String,
    time_zone: String,
    lasts: String,
    #[serde(default)]
    recogniser: String,
    #[serde(default)]
    at_least: u32,
    at_most: Option<u32>,
}

impl ScheduleTable {
    fn own(&self) -> Result<Schedule, Wrong> {
        Ok(Schedule {
            name: self.name.clone(),
            cron: self.cron.clone(),
            time_zone: self.time_zone.clone(),
            lasts: time("schedule.lasts", Some(&self.lasts), 0)?,
            recogniser: self.recogniser.clone(),
            at_least: self.at_least,
            at_most: self.at_most,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThresholdTable {
    high_percent: f64,
    high_for: String,
    low_percent: f64,
    low_for: String,
    hold: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CapsTable {
    instances: Option<u32>,
    vcpus: Option<u32>,
    hour_usd: Option<f64>,
    day_usd: Option<f64>,
    committed: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BrakesTable {
    canary: Option<u32>,
    never_joined: Option<u32>,
    join_within: Option<String>,
    launches: Option<u32>,
    photo_cost: Option<u32>,
    bill_apart_percent: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BreakerTable {
    taken: Option<u32>,
    share_percent: Option<f64>,
    within: Option<String>,
    rest: Option<String>,
}

/// A field that cannot be used, and why.
type Wrong = (&'static str, String);

/// The policy of a file, or of a name that ships with the program.
///
/// # Errors
///
/// What is wrong: file, line, field, and the fix.
pub fn load(name: &str) -> Result<Scaling, Failure> {
    if let Some((_, text)) = SHIPPED.iter().find(|(known, _)| *known == name) {
        return parse(text, name);
    }
    let path = Path::new(name);
    let shipped = SHIPPED.map(|(name, _)| name).join(", ");
    let wrong =
        |why: String| Failure::usage(format!("{name}: {why}; name a file, or one of {shipped}")).at("policy");
    let size = std::fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!(
            "has {size} bytes, at most {FILE_BYTES_MAX} are read"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse(&text, name)
}

/// The policy that a text is; `name` is for messages.
///
/// # Errors
///
/// As [`load`].
pub fn parse(text: &str, name: &str) -> Result<Scaling, Failure> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Failure::usage(format!("{name}:{line}: {}", error.message().replace('\n', " ")))
    })?;
    let scaling = file.scaling().and_then(|scaling| match scaling.check() {
        Ok(()) => Ok(scaling),
        Err(Rejected::Invalid { field, why }) => Err((named(field), why)),
        Err(other) => Err(("mode", other.to_string())),
    });
    scaling.map_err(|(field, why)| {
        let line = line_of(text, field);
        Failure::usage(format!("{name}:{line}: {why}")).at(field)
    })
}

/// A field of the policy as files have it.
fn named(field: &'static str) -> &'static str {
    match field {
        "threshold.high" => "threshold.high_percent",
        "threshold.low" => "threshold.low_percent",
        "caps.hour" => "caps.hour_usd",
        "caps.day" => "caps.day_usd",
        "share" => "share_percent",
        "away_saving" => "away_saving_percent",
        "breaker.share" => "breaker.share_percent",
        other => other,
    }
}

/// The line of a field, from 1; 1 where it is not there.
fn line_of(text: &str, field: &str) -> usize {
    let (table, key) = field.split_once('.').unwrap_or(("", field));
    let mut inside = "";
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim_matches(['[', ']', ' ']);
        }
        let is_key = line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
        if inside == table && is_key {
            return at + 1;
        }
    }
    1
}

fn time(field: &'static str, text: Option<&String>, else_: u64) -> Result<u64, Wrong> {
    let Some(text) = text else { return Ok(else_) };
    let parsed = parse_duration(text).map_err(|why| (field, why))?;
    u64::try_from(parsed.as_micros()).map_err(|_| (field, "is too long".to_owned()))
}

/// Percent into thousandths.
fn percent(field: &'static str, value: Option<f64>, else_: u32) -> Result<u32, Wrong> {
    let Some(value) = value else { return Ok(else_) };
    match (0.0..=PERCENT_MAX).contains(&value) {
        true => Ok((value * 10.0).round() as u32),
        false => Err((field, format!("is {value}: write percent, 0 to {PERCENT_MAX}"))),
    }
}

/// Dollars into millionths.
fn usd(field: &'static str, value: Option<f64>, else_: u64) -> Result<u64, Wrong> {
    let Some(value) = value else { return Ok(else_) };
    match (0.0..=USD_MAX).contains(&value) {
        true => Ok((value * 1e6).round() as u64),
        false => Err((field, format!("is {value}: write dollars, 0 or more"))),
    }
}

impl File {
    fn scaling(&self) -> Result<Scaling, Wrong> {
        let mut own = Scaling::default();
        own.mode = match self.mode {
            None => own.mode,
            Some(ModeName::Off) => Mode::Off,
            Some(ModeName::Observe) => Mode::Observe,
            Some(ModeName::Act) => Mode::Act,
        };
        own.template = self.template.unwrap_or(own.template);
        own.spot = self.spot.unwrap_or(own.spot);
        own.on_demand = self.on_demand.unwrap_or(own.on_demand);
        own.within = time("within", self.within.as_ref(), own.within)?;
        own.late_within = time("late_within", self.late_within.as_ref(), own.late_within)?;
        own.ready = time("ready", self.ready.as_ref(), own.ready)?;
        own.spare = percent("spare_percent", self.spare_percent, own.spare)?;
        own.share = percent("share_percent", self.share_percent, own.share)?;
        own.grown = percent("grown_percent", self.grown_percent, own.grown)?;
        own.again = time("again", self.again.as_ref(), own.again)?;
        own.probe_first = time("probe_first", self.probe_first.as_ref(), own.probe_first)?;
        own.probe_max = time("probe_max", self.probe_max.as_ref(), own.probe_max)?;
        own.keep = percent("keep_percent", self.keep_percent, own.keep)?;
        own.stale_after = time("stale_after", self.stale_after.as_ref(), own.stale_after)?;
        own.threshold = self.threshold.as_ref().map(ThresholdTable::own).transpose()?;
        let caps = &self.caps;
        own.caps.instances = caps.instances.unwrap_or(own.caps.instances);
        own.caps.vcpus = caps.vcpus.unwrap_or(own.caps.vcpus);
        own.caps.hour = usd("caps.hour_usd", caps.hour_usd, own.caps.hour)?;
        own.caps.day = usd("caps.day_usd", caps.day_usd, own.caps.day)?;
        own.caps.committed = time("caps.committed", caps.committed.as_ref(), own.caps.committed)?;
        let brakes = &self.brakes;
        own.brakes.canary = brakes.canary.unwrap_or(own.brakes.canary);
        own.brakes.never_joined = brakes.never_joined.unwrap_or(own.brakes.never_joined);
        own.brakes.join_within = time(
            "brakes.join_within",
            brakes.join_within.as_ref(),
            own.brakes.join_within,
        )?;
        own.brakes.launches = brakes.launches.unwrap_or(own.brakes.launches);
        own.brakes.photo_cost = brakes.photo_cost.unwrap_or(own.brakes.photo_cost);
        own.brakes.bill_apart = percent(
            "brakes.bill_apart_percent",
            brakes.bill_apart_percent,
            own.brakes.bill_apart,
        )?;
        let breaker = &self.breaker;
        own.breaker.taken = breaker.taken.unwrap_or(own.breaker.taken);
        own.breaker.share = percent("breaker.share_percent", breaker.share_percent, own.breaker.share)?;
        own.breaker.within = time("breaker.within", breaker.within.as_ref(), own.breaker.within)?;
        own.breaker.rest = time("breaker.rest", breaker.rest.as_ref(), own.breaker.rest)?;
        let schedules = self.schedule.iter().map(ScheduleTable::own);
        own.schedules = schedules.collect::<Result<_, Wrong>>()?;
        own.foresight = match self.foresight {
            None => own.foresight,
            Some(ForesightName::Off) => Foresight::Off,
            Some(ForesightName::Watch) => Foresight::Watch,
            Some(ForesightName::Act) => Foresight::Act,
        };
        own.week_zone = self.week_zone.clone().unwrap_or(own.week_zone);
        self.choice(&mut own)?;
        Ok(own)
    }
}

impl File {
    /// Where machines are bought, and for whom.
    fn choice(&self, own: &mut Scaling) -> Result<(), Wrong> {
        own.photo_kb = self.photo_kb.unwrap_or(own.photo_kb);
        own.away_saving = percent("away_saving_percent", self.away_saving_percent, own.away_saving)?;
        let escape = |name: &EscapeName| match name {
            EscapeName::Market => Escape::Market,
            EscapeName::Zone => Escape::Zone,
            EscapeName::Type => Escape::Type,
            EscapeName::Size => Escape::Size,
            EscapeName::Region => Escape::Region,
        };
        if let Some(names) = &self.escape {
            own.escape = names.iter().map(escape).collect();
        }
        let commitment = |one: &CommitmentTable| Commitment {
            region: one.region.clone(),
            zone_id: one.zone_id.clone(),
            instance_type: one.instance_type.clone(),
            machines: one.machines,
        };
        own.commitments = self.commitment.iter().map(commitment).collect();
        let rule = |one: &EnvironmentTable| {
            Ok(EnvRule {
                name: one.name.clone(),
                regions: one.regions.clone(),
                day: usd("environment.day_usd", one.day_usd, 0)?,
            })
        };
        own.environments = self.environment.iter().map(rule).collect::<Result<_, Wrong>>()?;
        own.environments.sort_by(|a, b| a.name.cmp(&b.name));
        own.spares = self.spares.as_ref().map(SparesTable::own).transpose()?;
        Ok(())
    }
}

impl ThresholdTable {
    fn own(&self) -> Result<Threshold, Wrong> {
        Ok(Threshold {
            high: percent("threshold.high_percent", Some(self.high_percent), 0)?,
            high_for: time("threshold.high_for", Some(&self.high_for), 0)?,
            low: percent("threshold.low_percent", Some(self.low_percent), 0)?,
            low_for: time("threshold.low_for", Some(&self.low_for), 0)?,
            hold: time("threshold.hold", Some(&self.hold), 0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_says_what_is_built_in() {
        let default = load("default").expect("it ships");
        let built_in = Scaling {
            mode: Mode::Act,
            ..Scaling::default()
        };
        assert_eq!(default, built_in);
        let threshold = load("threshold")
            .expect("it ships")
            .threshold
            .expect("it has one");
        assert_eq!((threshold.high, threshold.low), (800, 700));
        assert_eq!(parse("", "empty").expect("all is left out"), Scaling::default());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_line_and_field() {
        let threshold = |high: &str, low: &str| {
            format!(
                "mode = \"act\"\n[threshold]\nhigh_percent = {high}\nhigh_for = \"1m\"\nlow_percent = {low}\nlow_for = \"5m\"\nhold = \"15m\"\n"
            )
        };
        let schedule = |cron: &str, zone: &str| {
            format!(
                "[[schedule]]\nname = \"x\"\ncron = \"{cron}\"\ntime_zone = \"{zone}\"\nlasts = \"1h\"\nat_most = 3\n"
            )
        };
        let table = [
            (
                "mode = \"act\"\nspeed = 3\n".to_owned(),
                "p:2: unknown field `speed`",
            ),
            ("mode = \"fast\"\n".to_owned(), "p:1: unknown variant `fast`"),
            (threshold("101", "70"), "p:3: "),
            (threshold("80", "81"), "p:5: "),
            ("[caps]\nhour_usd = 20\nday_usd = 10\n".to_owned(), "p:2: "),
            (
                "\n[caps]\nhour_usd = -1\n".to_owned(),
                "p:3: is -1: write dollars",
            ),
            ("within = \"0s\"\n".to_owned(), "p:1: "),
            (
                schedule("0 8 30 2 *", "UTC"),
                "p:3: of \"x\" is \"0 8 30 2 *\": it never fires",
            ),
            (schedule("a 8 * * *", "UTC"), "p:3: of \"x\" is \"a 8 * * *\""),
            (schedule("0 8 * * *", "Berlin"), "p:4: of \"x\" is \"Berlin\""),
            ("foresight = \"much\"\n".to_owned(), "p:1: unknown variant `much`"),
            ("week_zone = \"Mars\"\n".to_owned(), "p:1: is \"Mars\""),
            (
                "[[environment]]\nname = \"a\"\nregions = [\"EU\"]\n".to_owned(),
                "p:3: of \"a\": \"EU\" is no region",
            ),
            (
                "[[environment]]\nname = \"a\"\n[[environment]]\nname = \"a\"\n".to_owned(),
                "p:2: \"a\" is given twice",
            ),
            (
                "[[environment]]\nname = \"b\"\n[[environment]]\nname = \"a\"\nday_usd = -1\n".to_owned(),
                "p:5: is -1: write dollars",
            ),
            (
                "[[environment]]\nname = \"a\"\nday_usd = -5\n".to_owned(),
                "p:3: is -5: write dollars",
            ),
            (
                "[[commitment]]\nregion = \"eu-central-1\"\ntype = \"c5.large\"\nmachines = 0\n".to_owned(),
                "p:4: is 0",
            ),
            (
                "[spares]\nrecogniser = \"shelf\"\nphotos = 0\nwithin = \"1m\"\nstart = \"30s\"\nvolume_usd = 0.001\n".to_owned(),
                "p:3: is 0: leave [spares] out",
            ),
            (
                "[spares]\nrecogniser = \"shelf\"\nphotos = 9\nwithin = \"2d\"\nstart = \"30s\"\nvolume_usd = 0.001\n".to_owned(),
                "p:4: ",
            ),
            (
                "[spares]\nrecogniser = \"shelf\"\nphotos = 9\nwithin = \"1m\"\n".to_owned(),
                "p:1: missing field `start`",
            ),
            (
                "escape = [\"zone\", \"zone\"]\n".to_owned(),
                "p:1: names something twice",
            ),
            ("escape = [\"moon\"]\n".to_owned(), "p:1: unknown variant `moon`"),
            (
                "away_saving_percent = 100\n".to_owned(),
                "p:1: is 1000 thousandths",
            ),
            ("within = 15\n".to_owned(), "p:1: "),
            ("within = \"15\"\n".to_owned(), "p:1: not a duration"),
            ("probe_first = \"20m\"\n".to_owned(), "p:1: "),
            ("share_percent = nan\n".to_owned(), "p:1: is NaN"),
            (
                "mode = \"act\"\nspot = false\non_demand = false\n".to_owned(),
                "p:2: ",
            ),
        ];
        for (text, begins) in table {
            let failure = parse(&text, "p").expect_err(&text);
            assert!(failure.message.starts_with(begins), "{text}: {}", failure.message);
        }
    }
}
