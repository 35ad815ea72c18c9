//! The storm: each kind of fault comes again and again until it is over, then everything is mended.

use rebound_core::types::*;

use super::{Happening, World};
use crate::disk::Loss;
use crate::faults::Kind;
use crate::net::Weather;
use crate::points::Point;
use crate::rng::Rng;

/// How long a process waits for its moment to end, in µs.
const ARMED_FOR: u64 = 20 * SECOND;
/// The same for the moments of snapshots, which are rare.
const ARMED_FOR_RARE: u64 = 120 * SECOND;

/// A process that ends as soon as it comes to a moment.
pub(crate) struct Armed {
    point: Point,
    /// None: whoever comes there first.
    server: Option<u64>,
    until: u64,
    loss: Loss,
    down: u64,
}

impl World {
    pub(super) fn begin_storm(&mut self) {
        for (kind, ..) in Kind::ALL {
            self.next_fault(kind);
        }
        let clocks = self.faults.of(Kind::Clock).filter(|clock| clock.ppm > 0);
        if clocks.is_some() {
            self.count("servers' clocks drift");
        }
        if self.faults.extremes.is_some() {
            self.count(Kind::Limits.name());
        }
    }

    fn next_fault(&mut self, kind: Kind) {
        let every = self.faults.of(kind).map_or(0, |strength| strength.every);
        if every > 0 {
            let wait = self.dice(kind).within(every / 4, every * 7 / 4);
            self.after(wait, Happening::Fault(kind));
        }
    }

    pub(super) fn dice(&mut self, kind: Kind) -> &mut Rng {
        self.dice.get_mut(&kind).expect("each kind has its own")
    }

    /// How long one of a kind lasts.
    pub(super) fn length(&mut self, kind: Kind) -> u64 {
        let long = self.faults.of(kind).map_or(0, |strength| strength.long);
        let from = (long / 10).max(1);
        self.dice(kind).within(from, long.max(from))
    }

    pub(super) fn fault(&mut self, kind: Kind) {
        if self.calm {
            return;
        }
        match kind {
            Kind::Clog => self.clog(),
            Kind::Partition => self.partition(),
            Kind::OneWay => self.one_way(),
            Kind::AgentsCut => self.cut_agents(),
            Kind::Crash => self.arm(),
            Kind::Power => self.power(),
            Kind::Rot => self.rot(),
            Kind::WriteError => self.break_disk(),
            Kind::Full => self.fill_disk(),
            Kind::SlowDisk => self.slow_disk(),
            Kind::Clock => self.jump_clock(),
            Kind::Pause => self.pause(),
            Kind::Churn => {
                let until = self.now + self.length(kind);
                self.churn(until);
            }
            Kind::Lag => self.leave_behind(),
            Kind::AgentCrash => self.crash_agent(),
            Kind::AgentLeave => self.agent_leaves(),
            Kind::Zombie => self.pause_agent(),
            Kind::StreamBreak => self.break_a_stream(),
            Kind::Herd => self.herd(),
            Kind::Overload => self.overload(),
            Kind::LostDisk => self.lose_disk(),
            Kind::Members => self.change_members(),
            Kind::Versions => self.roll(),
            Kind::Transfer => self.hand_over(),
            Kind::NeverJoin | Kind::Throttle | Kind::LostAnswer | Kind::StaleList => self.befalls_cloud(kind),
            Kind::Dry | Kind::Reclaim | Kind::ZoneLost | Kind::Prices => self.befalls_cloud(kind),
            // These are there all the time.
            Kind::Loss | Kind::Copies | Kind::Delay | Kind::Torn => {}
            Kind::SlowAgent | Kind::Liar | Kind::Poison | Kind::Limits => {}
        }
        self.next_fault(kind);
    }

    /// A server; every other time the one that leads.
    pub(super) fn leader_or_any(&mut self, kind: Kind) -> u64 {
        let any = self.any_server(kind);
        match self.dice(kind).chance(500_000) {
            true => self.leader().unwrap_or(any),
            false => any,
        }
    }

    pub(super) fn any_server(&mut self, kind: Kind) -> u64 {
        let present = self.present();
        self.dice(kind).pick(&present).copied().unwrap_or(1)
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let leads = |server: &&crate::hosts::Server| server.leads();
        self.servers.iter().find(leads).map(|server| server.id().0)
    }

    /// Arms the next moment: each comes in turn.
    fn arm(&mut self) {
        let kind = Kind::Crash;
        let (point, _) = Point::ALL[self.next_point % Point::ALL.len()];
        self.next_point += 1;
        let server = self.leader_or_any(kind);
        let down = self.length(kind);
        let loss = match self.dice(kind).chance(500_000) {
            true => Loss::Nothing,
            false => Loss::Batches,
        };
        let wait = match point.is_rare() {
            true => ARMED_FOR_RARE,
            false => ARMED_FOR,
        };
        self.armed.retain(|armed| armed.until >= self.now);
        self.armed.push(Armed {
            point,
            server: (!point.is_rare()).then_some(server),
            until: self.now + wait,
            loss,
            down,
        });
    }

    fn armed_at(&self, id: u64, point: Point) -> Option<usize> {
        let here = |armed: &Armed| {
            armed.point == point && armed.until >= self.now && armed.server.is_none_or(|server| server == id)
        };
        self.armed.iter().position(here)
    }

    pub(super) fn is_armed(&self, id: u64, point: Point) -> bool {
        self.armed_at(id, point).is_some()
    }

    /// Ends the server if this is its moment.
    pub(super) fn strikes(&mut self, id: u64, point: Point) -> bool {
        let Some(at) = self.armed_at(id, point) else {
            return false;
        };
        let Armed { loss, down, .. } = self.armed.remove(at);
        self.count(point.words());
        self.count(Kind::Crash.name());
        self.end_with(id, loss, Kind::Crash, down);
        true
    }

    /// The storm is over: what is broken is mended, and everything must converge.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.net.heal();
        self.net.weather = Weather::CALM;
        self.armed.clear();
        self.heals_cloud();
        let now = self.now;
        for server in &mut self.servers {
            server.disk.restore();
            for until in [
                &mut server.broken_until,
                &mut server.unsyncable_until,
                &mut server.full_until,
                &mut server.slow_until,
                &mut server.shelved_until,
            ] {
                *until = (*until).min(now);
            }
        }
        for server in self.present() {
            self.start_server(server);
        }
        (0..self.agents.len()).for_each(|agent| self.start_agent(agent));
        self.after(SECOND, Happening::Look);
    }
}
