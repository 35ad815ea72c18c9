//! The wire ↔ the domain: the only place where one becomes the other. What comes in is checked for its form here;
//! its content is checked in [`crate::validate`].

pub mod agent;
pub mod client;
pub mod fleet;
pub mod ledger;
pub mod policy;
pub mod pools;
pub mod settings;

use rebound_proto::v1;

use crate::event::Cause;
use crate::types::{Market, Pool, Resources};
use crate::version::{Build, FIRST, Versions};

/// Resources as the wire has them; absent ones ask for nothing.
pub fn resources_in(wire: Option<&v1::Resources>) -> Resources {
    let wire = wire.copied().unwrap_or_default();
    Resources {
        milli_cpu: wire.milli_cpu,
        memory_mib: wire.memory_mib,
        gpus: wire.gpus,
    }
}

/// The other way.
pub fn resources_out(own: &Resources) -> v1::Resources {
    v1::Resources {
        milli_cpu: own.milli_cpu,
        memory_mib: own.memory_mib,
        gpus: own.gpus,
    }
}

/// A pool; an unknown market is none.
pub fn pool_in(wire: Option<&v1::Pool>) -> Pool {
    let wire = wire.cloned().unwrap_or_default();
    let market = match wire.market() {
        v1::Market::Unspecified => Market::None,
        v1::Market::Spot => Market::Spot,
        v1::Market::OnDemand => Market::OnDemand,
    };
    Pool {
        region: wire.region,
        zone_id: wire.zone_id,
        instance_type: wire.instance_type,
        market,
    }
}

/// The other way.
pub fn pool_out(own: &Pool) -> v1::Pool {
    let market = match own.market {
        Market::None => v1::Market::Unspecified,
        Market::Spot => v1::Market::Spot,
        Market::OnDemand => v1::Market::OnDemand,
    };
    v1::Pool {
        region: own.region.clone(),
        zone_id: own.zone_id.clone(),
        instance_type: own.instance_type.clone(),
        market: market.into(),
    }
}

/// A cause; `None` is success. A cause this build does not know is taken for the recogniser's.
pub fn cause_in(wire: i32) -> Option<Cause> {
    match v1::Cause::try_from(wire) {
        Ok(v1::Cause::Unspecified) => None,
        Ok(v1::Cause::Input) => Some(Cause::Input),
        Ok(v1::Cause::Fetch) => Some(Cause::Fetch),
        Ok(v1::Cause::Crashed) => Some(Cause::Crashed),
        Ok(v1::Cause::Timeout) => Some(Cause::Timeout),
        Ok(v1::Cause::Recogniser) | Err(_) => Some(Cause::Recogniser),
        Ok(v1::Cause::ResultTooLarge) => Some(Cause::ResultTooLarge),
        Ok(v1::Cause::Released) => Some(Cause::Released),
        Ok(v1::Cause::WorkerLost) => Some(Cause::WorkerLost),
        Ok(v1::Cause::Quarantined) => Some(Cause::Quarantined),
        Ok(v1::Cause::TakenBack) => Some(Cause::TakenBack),
        Ok(v1::Cause::Dropped) => Some(Cause::Dropped),
    }
}

/// The other way.
pub fn cause_out(own: Option<Cause>) -> v1::Cause {
    match own {
        None => v1::Cause::Unspecified,
        Some(Cause::Input) => v1::Cause::Input,
        Some(Cause::Fetch) => v1::Cause::Fetch,
        Some(Cause::Crashed) => v1::Cause::Crashed,
        Some(Cause::Timeout) => v1::Cause::Timeout,
        Some(Cause::Recogniser) => v1::Cause::Recogniser,
        Some(Cause::ResultTooLarge) => v1::Cause::ResultTooLarge,
        Some(Cause::Released) => v1::Cause::Released,
        Some(Cause::WorkerLost) => v1::Cause::WorkerLost,
        Some(Cause::Quarantined) => v1::Cause::Quarantined,
        Some(Cause::TakenBack) => v1::Cause::TakenBack,
        Some(Cause::Dropped) => v1::Cause::Dropped,
    }
}

/// A build as a server says it: what is not said is of before there were versions.
pub fn build(name: &str, oldest: u32, newest: u32) -> Build {
    let version = |said: u32| u16::try_from(said).unwrap_or(u16::MAX).max(FIRST);
    let versions = Versions {
        oldest: version(oldest),
        newest: version(newest),
    };
    Build::new(name, versions)
}
