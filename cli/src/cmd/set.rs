//! `rebound scale set`: a few fields of the policy in force, without a file.

use clap::{Args, ValueEnum};
use rebound_core::scaling::{Mode, Scaling};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};

/// `rebound scale set`
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct SetArgs {
    /// Whether machines are bought
    #[arg(long, value_enum)]
    mode: Option<ModeName>,
    /// Most machines at once
    #[arg(long, value_name = "COUNT")]
    instances: Option<u32>,
    /// Most vCPUs at once
    #[arg(long, value_name = "COUNT")]
    vcpus: Option<u32>,
    /// Most dollars in an hour of the clock
    #[arg(long, value_name = "USD")]
    hour_usd: Option<f64>,
    /// Most dollars in a day (UTC)
    #[arg(long, value_name = "USD")]
    day_usd: Option<f64>,
    /// Version of the machine image
    #[arg(long, value_name = "VERSION")]
    template: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeName {
    /// Nothing is looked at
    Off,
    /// Everything is looked at, decided and explained, and nothing is done
    Observe,
    /// Machines are bought
    Act,
}

#[derive(Serialize)]
struct Done {
    before: u64,
    since: u64,
}

impl SetArgs {
    fn change(&self, own: &mut Scaling) -> Result<(), Failure> {
        let usd = |field: &'static str, value: Option<f64>, before: u64| match value {
            None => Ok(before),
            Some(value) if (0.0..=1e9).contains(&value) => Ok((value * 1e6).round() as u64),
            Some(value) => Err(Failure::usage(format!("is {value}: write dollars, 0 or more")).at(field)),
        };
        own.mode = match self.mode {
            None => own.mode,
            Some(ModeName::Off) => Mode::Off,
            Some(ModeName::Observe) => Mode::Observe,
            Some(ModeName::Act) => Mode::Act,
        };
        own.template = self.template.unwrap_or(own.template);
        own.caps.instances = self.instances.unwrap_or(own.caps.instances);
        own.caps.vcpus = self.vcpus.unwrap_or(own.caps.vcpus);
        own.caps.hour = usd("--hour-usd", self.hour_usd, own.caps.hour)?;
        own.caps.day = usd("--day-usd", self.day_usd, own.caps.day)?;
        Ok(())
    }
}

/// Changes them, if nobody else changes the policy meanwhile.
pub async fn run(ctx: &mut Context, args: &SetArgs) -> Result<Exit, Failure> {
    let client = ctx.client();
    let now = client.policy().await?;
    let failed = |rejected: rebound_core::reply::Rejected| Failure::failed(rejected.to_string());
    let mut own = rebound_core::codec::policy::policy_in(now.policy.as_ref()).map_err(failed)?;
    args.change(&mut own)?;
    own.check()
        .map_err(|rejected| Failure::usage(rejected.to_string()))?;
    let wire = rebound_core::codec::policy::policy_out(&own);
    let reply = client.apply_policy(wire, Some(now.since)).await?;
    let done = Done {
        before: now.since,
        since: reply.since,
    };
    ctx.out.one(&done, |out, done| {
        out.line(&format!(
            "The policy is that of index {} with these changes, as of index {}.",
            done.before, done.since
        ))
    })?;
    ctx.out
        .note(&format!("Back: rebound policy rollback {}", done.before));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        let args = SetArgs {
            mode: Some(ModeName::Observe),
            instances: None,
            vcpus: Some(12),
            hour_usd: Some(1.5),
            day_usd: None,
            template: None,
        };
        let mut own = Scaling::default();
        args.change(&mut own).unwrap();
        let mut expected = Scaling {
            mode: Mode::Observe,
            ..Scaling::default()
        };
        (expected.caps.vcpus, expected.caps.hour) = (12, 1_500_000);
        assert_eq!(own, expected);
        let args = SetArgs {
            day_usd: Some(-1.0),
            ..args
        };
        assert_eq!(args.change(&mut own).unwrap_err().exit, Exit::Usage);
    }
}
