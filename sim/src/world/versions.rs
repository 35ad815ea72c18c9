//! Builds of two versions in one cluster: servers change theirs whenever they start, both ways, until an operator
//! finalizes the upgrade; after that an older one is refused.

use rebound_core::io::Request;
use rebound_core::types::*;
use rebound_core::version::{BUILDS, Build, FIRST, Versions};

use super::World;
use crate::faults::Kind;
use crate::hosts::Server;
use crate::rng::Rng;

/// A supervisor starts a server with a newer build after so long.
const REPLACED_AFTER: u64 = SECOND;
/// Of starts so many are with another build, in a million.
const SWAPS_PPM: u64 = 400_000;
/// How often an older build comes back while the upgrade is finalized, in a million, and how soon.
const LATE_PPM: u64 = 500_000;
const LATE_DOWN: u64 = 300 * MILLISECOND;
/// How often the operator tries too early, in a million.
const TRIES_PPM: u64 = 250_000;

/// The build of a release.
pub(super) fn build(newest: u16) -> Build {
    let versions = Versions {
        oldest: FIRST,
        newest,
    };
    Build::new(&format!("0.{newest}.0"), versions)
}

/// Most clusters begin before the upgrade; some in the middle of it.
pub(super) fn first_build(rng: &mut Rng, all_old: bool) -> Build {
    build(if all_old || rng.chance(500_000) {
        FIRST
    } else {
        BUILDS
    })
}

impl World {
    fn newest_of(&self, id: u64) -> u16 {
        self.host(id).config.build.versions.newest
    }

    /// From here on builds change one way only, so that the upgrade comes to its end.
    fn is_upgrading(&self) -> bool {
        self.now > self.faults.load.storm / 3
    }

    fn is_finalized(&self) -> bool {
        self.newest_state().is_some_and(|state| state.version() >= BUILDS)
    }

    /// A build for a server that is new.
    pub(super) fn draws_build(&mut self, server: &mut Server) {
        if self.faults.of(Kind::Versions).is_some() {
            let ahead = self.dice(Kind::Versions).chance(500_000);
            server.config.build = build(if ahead { BUILDS } else { FIRST });
        }
    }

    /// Any before the upgrade; after it, an older one is somebody's mistake.
    fn draws_version(&mut self) -> u16 {
        let ahead = match (self.is_finalized(), self.is_upgrading()) {
            (true, _) => 700_000,
            (false, true) => 850_000,
            (false, false) => 500_000,
        };
        match self.dice(Kind::Versions).chance(ahead) {
            true => BUILDS,
            false => FIRST,
        }
    }

    /// Before a server starts: perhaps another build is there now.
    pub(super) fn swaps_build(&mut self, id: u64) {
        let kind = Kind::Versions;
        if self.faults.of(kind).is_some() && !self.calm && self.dice(kind).chance(SWAPS_PPM) {
            let to = self.draws_version();
            self.swap(id, to);
        }
    }

    fn swap(&mut self, id: u64, to: u16) {
        let before = self.newest_of(id);
        if before == to {
            return;
        }
        self.server(id).config.build = build(to);
        self.count(Kind::Versions.name());
        self.count(match to > before {
            true => "builds swapped for newer ones",
            false => "builds swapped for older ones",
        });
    }

    /// Once all have the newer build, the upgrade is finalized.
    pub(super) fn finalize(&mut self) {
        let present = self.present();
        let all = present.iter().all(|id| self.newest_of(*id) == BUILDS);
        let wanted = self.faults.of(Kind::Versions).is_some() && self.is_upgrading();
        if wanted && all && !self.is_finalized() {
            self.operator_asks(Request::Upgrade(None));
            self.swaps_late();
        }
    }

    /// Somebody puts the older build back at the very moment: the leader has heard the newer one, and the older one learns
    /// of the new version by its entry.
    fn swaps_late(&mut self) {
        let kind = Kind::Versions;
        let (id, late) = (self.any_server(kind), self.dice(kind).chance(LATE_PPM));
        let down = self.dice(kind).scaled(MILLISECOND, LATE_DOWN);
        let leads = self.leader() == Some(id);
        if late && !leads && self.host(id).replica.is_some() {
            self.end(id, kind, down);
            self.swap(id, FIRST);
        }
    }

    /// A server is stopped to get another build. Sometimes the operator tries to finalize before all have it.
    pub(super) fn roll(&mut self) {
        let kind = Kind::Versions;
        let present = self.present();
        let old = present.iter().find(|id| self.newest_of(**id) < BUILDS).copied();
        let finalizes = self.is_upgrading() && !self.is_finalized();
        if self.dice(kind).chance(TRIES_PPM) {
            return self.operator_asks(Request::Upgrade(None));
        }
        let (any, down) = (self.leader_or_any(kind), self.length(kind));
        let (id, to) = match old.filter(|_| finalizes) {
            Some(old) => (old, BUILDS),
            None => (any, self.draws_version()),
        };
        self.end(id, kind, down);
        self.swap(id, to);
    }

    /// A build that the cluster has outgrown: it stops, and is started as a newer one.
    pub(super) fn outgrown(&mut self, id: u64, how: &'static str) {
        self.count(how);
        if self.faults.of(Kind::Versions).is_none() || self.newest_of(id) == BUILDS {
            let build = self.host(id).config.build.clone();
            self.checks
                .violated(format!("O1: server {id} was refused with {build}"));
            return;
        }
        self.server(id).config.build = build(BUILDS);
        if self.host(id).replica.is_some() {
            self.end(id, Kind::Versions, REPLACED_AFTER);
        } else {
            self.after(REPLACED_AFTER, super::Happening::Start { server: id });
        }
    }

    /// O1: nobody goes on at a version that its build does not know. And builds are mixed for as long as they may be.
    pub(super) fn check_version(&mut self, id: u64) {
        let server = self.host(id);
        let (knows, runs) = (
            server.config.build.versions.newest,
            server
                .replica
                .as_ref()
                .map_or(0, |replica| replica.state().version()),
        );
        if runs > knows {
            self.checks.violated(format!(
                "O1: server {id} runs at version {runs}, and knows up to {knows}"
            ));
        }
    }
}
