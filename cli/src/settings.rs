//! What options, environment and settings files say together: options before the environment, the environment
//! before the files, and of the files the one nearest to the user.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use crate::args::Global;
use crate::exit::Failure;
use crate::limits::{CALL_TIMEOUT, CALL_TIMEOUT_MAX, SETTINGS_BYTES_MAX};
use crate::output::{Format, parse_duration};

/// Where a server listens if nobody says otherwise.
pub const SERVER_DEFAULT: &str = "127.0.0.1:7401";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// This option.
    Flag(&'static str),
    /// This variable of the environment.
    Env(&'static str),
    /// This settings file.
    File(PathBuf),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Env(name) => write!(f, "${name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value in force.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

/// All settings in force.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of the servers; one is enough, more survive its loss.
    pub servers: Setting<Vec<String>>,
    /// How answers are written.
    pub output: Setting<Format>,
    /// Longest time of a call over all its tries.
    pub timeout: Setting<Duration>,
    /// Whether colours may be shown on a terminal.
    pub color: Setting<bool>,
    /// Less on stderr.
    pub quiet: Setting<bool>,
    /// More on stderr: 1 says what is tried, 2 also what libraries do.
    pub verbose: Setting<u8>,
}

/// A settings file. All may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    servers: Option<Vec<String>>,
    output: Option<String>,
    timeout: Option<String>,
    color: Option<bool>,
    quiet: Option<bool>,
    verbose: Option<u8>,
}

/// Settles every setting. `env` looks up a variable of the environment.
pub fn settle(flags: &Global, env: &dyn Fn(&str) -> Option<String>) -> Result<Settings, Failure> {
    let files = read_files(env)?;
    let layers = Layers { env, files: &files };
    let text = |text: &str| Ok(text.to_string());
    let servers = layers.settle(
        ("--server", flags.server.clone()),
        ("REBOUND_SERVERS", &text),
        |file| file.servers.as_ref().map(|servers| servers.join(",")),
        SERVER_DEFAULT.to_string(),
    )?;
    let output = layers.settle(
        ("--output", flags.output.map(|format| format.name().to_string())),
        ("REBOUND_OUTPUT", &text),
        |file| file.output.clone(),
        Format::Table.name().to_string(),
    )?;
    let timeout = layers.settle(
        ("--timeout", flags.timeout.clone()),
        ("REBOUND_TIMEOUT", &text),
        |file| file.timeout.clone(),
        format!("{}s", CALL_TIMEOUT.as_secs()),
    )?;
    let off = |text: &str| Ok(text.is_empty());
    let verbosity = |text: &str| text.parse().map_err(|_| "wants a number from 0 to 2".to_string());
    Ok(Settings {
        servers: checked(servers, "servers", |text| addresses(&text))?,
        output: checked(output, "output", |text| format(&text))?,
        timeout: checked(timeout, "timeout", |text| call_timeout(&text))?,
        color: layers.settle(
            ("--no-color", flags.no_color.then_some(false)),
            ("NO_COLOR", &off),
            |file| file.color,
            true,
        )?,
        quiet: layers.settle(
            ("--quiet", flags.quiet.then_some(true)),
            ("REBOUND_TERSE", &truth),
            |file| file.quiet,
            false,
        )?,
        verbose: layers.settle(
            ("--verbose", (flags.verbose > 0).then_some(flags.verbose)),
            ("REBOUND_VERBOSE", &verbosity),
            |file| file.verbose,
            0,
        )?,
    })
}

/// The layers below the options.
struct Layers<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    files: &'a [(PathBuf, SettingsFile)],
}

type ReadEnv<'a, T> = (&'static str, &'a dyn Fn(&str) -> Result<T, String>);

impl Layers<'_> {
    fn settle<T>(
        &self,
        (flag, given): (&'static str, Option<T>),
        (name, read): ReadEnv<'_, T>,
        in_file: impl Fn(&SettingsFile) -> Option<T>,
        default: T,
    ) -> Result<Setting<T>, Failure> {
        if let Some(value) = given {
            return Ok(Setting {
                value,
                origin: Origin::Flag(flag),
            });
        }
        // As NO_COLOR has it, an empty variable says nothing.
        if let Some(text) = (self.env)(name).filter(|text| !text.is_empty()) {
            let value = read(&text)
                .map_err(|why| Failure::usage(format!("${name}: {why}, not {text:?}")).at(name))?;
            return Ok(Setting {
                value,
                origin: Origin::Env(name),
            });
        }
        for (path, file) in self.files {
            if let Some(value) = in_file(file) {
                return Ok(Setting {
                    value,
                    origin: Origin::File(path.clone()),
                });
            }
        }
        Ok(Setting {
            value: default,
            origin: Origin::Default,
        })
    }
}

fn checked<T>(
    setting: Setting<String>,
    field: &str,
    read: impl Fn(String) -> Result<T, String>,
) -> Result<Setting<T>, Failure> {
    let Setting { value, origin } = setting;
    match read(value) {
        Ok(value) => Ok(Setting { value, origin }),
        Err(why) => Err(Failure::usage(format!("{field} (from {origin}): {why}")).at(field)),
    }
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err("wants 1 or 0".into()),
    }
}

fn format(text: &str) -> Result<Format, String> {
    Format::from_str(text, false).map_err(|_| format!("wants table, json or jsonl, not {text:?}"))
}

fn call_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout.is_zero() || timeout > CALL_TIMEOUT_MAX {
        return Err(format!(
            "wants more than nothing and at most {}s, not {text}",
            CALL_TIMEOUT_MAX.as_secs()
        ));
    }
    Ok(timeout)
}

fn addresses(text: &str) -> Result<Vec<String>, String> {
    let list: Vec<String> = text
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(String::from)
        .collect();
    if list.is_empty() {
        return Err(format!(
            "names no server; write host:port, such as {SERVER_DEFAULT}"
        ));
    }
    match list.iter().find(|address| !is_address(address)) {
        Some(bad) => Err(format!(
            "{bad:?} is not host:port; write it like {SERVER_DEFAULT}"
        )),
        None => Ok(list),
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let host_ok = !bare.is_empty()
        && bare
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    // More than one colon is an IPv6 address, which needs its brackets.
    host_ok
        && (bare.len() != host.len() || !host.contains(':'))
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// The files that are there, nearest first. `$REBOUND_CONFIG` names the only one, which must be there.
fn read_files(env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(PathBuf, SettingsFile)>, Failure> {
    let set = |name: &str| env(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(path) = set("REBOUND_CONFIG") {
        let file = read_file(&path)?;
        let file =
            file.ok_or_else(|| Failure::usage(format!("$REBOUND_CONFIG: {} is not there", path.display())))?;
        return Ok(vec![(path, file)]);
    }
    let home = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let paths = [
        Some(PathBuf::from("./.rebound.toml")),
        home.map(|home| home.join("rebound/config.toml")),
        Some(PathBuf::from("/etc/rebound/config.toml")),
    ];
    let mut files = Vec::new();
    for path in paths.into_iter().flatten() {
        if let Some(file) = read_file(&path)? {
            files.push((path, file));
        }
    }
    Ok(files)
}

fn read_file(path: &Path) -> Result<Option<SettingsFile>, Failure> {
    let bad = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(format!("cannot be read: {error}"))),
    };
    let mut text = String::new();
    let read = file.take(SETTINGS_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| bad(format!("cannot be read: {error}")))?;
    if text.len() as u64 > SETTINGS_BYTES_MAX {
        return Err(bad(format!("is longer than {} KiB", SETTINGS_BYTES_MAX >> 10)));
    }
    toml::from_str(&text).map(Some).map_err(|error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |head| head.matches('\n').count() + 1);
        Failure::usage(format!("{}:{line}: {}", path.display(), error.message()))
    })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
