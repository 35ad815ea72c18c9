//! What goes wrong with the cloud: spells of trouble with its calls, pools that run dry, machines that are taken back,
//! zones that are lost.

use rebound_core::limits::LAUNCH_VALID;

use super::*;

/// The cloud's notice.
const NOTICE: u64 = 120 * SECOND;
/// A zone that is lost loses its machines within so long.
const ZONE_WITHIN: u64 = 180 * SECOND;
/// Of spells of lost answers so many lose all of them, in a million.
const ALL_LOST: u64 = 300_000;
/// Of these so many begin with the next launch: it is done, and nobody hears of it for a while.
const AT_LAUNCH: u64 = 700_000;
/// And of those so many last longer than the launch may be called.
const OUTLASTS: u64 = 500_000;
/// Of notices so many come late, and so many twice, in a million.
const LATE: u64 = 300_000;
const TWICE: u64 = 250_000;

impl World {
    /// A kind's trouble comes.
    pub(crate) fn befalls_cloud(&mut self, kind: Kind) {
        self.count(kind.name());
        match kind {
            Kind::Dry => self.runs_dry(),
            Kind::Reclaim => self.reclaims(),
            Kind::ZoneLost => self.loses_zone(),
            Kind::Prices => self.spoils_prices(),
            Kind::LostAnswer if self.dice(kind).chance(ALL_LOST) => match self.dice(kind).chance(AT_LAUNCH) {
                true => self.will_be_cut(),
                false => self.is_cut(),
            },
            _ => self.spell(kind, self.faults.ppm(kind)),
        }
    }

    /// The cloud is well again; but what was cut longer than a launch may be called is cut for its time, or what comes of
    /// such a launch were seldom seen.
    pub(crate) fn heals_cloud(&mut self) {
        if let Some(buying) = &mut self.buying {
            buying.cloud.heal();
            buying.cut_at_launch = false;
            buying.cloud.befall(Kind::LostAnswer, buying.cut_until, 1_000_000);
            buying.feed = Feed::default();
        }
    }

    fn spell(&mut self, kind: Kind, ppm: u64) {
        let until = self.now + self.length(kind);
        if let Some(buying) = &mut self.buying {
            buying.cloud.befall(kind, until, ppm);
        }
    }

    /// No answer comes any more, for a while.
    fn is_cut(&mut self) {
        self.count("clouds cut");
        self.spell(Kind::LostAnswer, 1_000_000);
    }

    fn will_be_cut(&mut self) {
        if let Some(buying) = &mut self.buying {
            buying.cut_at_launch = true;
        }
    }

    /// A launch is called. True when the cloud does it and says nothing, to that and whatever comes after.
    pub(super) fn is_cut_at_launch(&mut self) -> bool {
        let waits = |buying: &mut Buying| std::mem::take(&mut buying.cut_at_launch);
        let cut = self.buying.as_mut().is_some_and(waits);
        if cut {
            self.is_cut();
            self.count("clouds cut at a launch");
            // Nothing of it is known before nobody asks for it any more.
            if self.dice(Kind::LostAnswer).chance(OUTLASTS) {
                let until = self.now + LAUNCH_VALID + self.length(Kind::LostAnswer);
                if let Some(buying) = &mut self.buying {
                    buying.cut_until = until;
                    buying.cloud.befall(Kind::LostAnswer, until, 1_000_000);
                }
            }
        }
        cut
    }

    /// Pools that have nothing for a while, and fleets that come as they do then. Where spot is short on-demand often is.
    fn runs_dry(&mut self) {
        let kind = Kind::Dry;
        let ppm = self.faults.ppm(kind);
        self.spell(kind, 0);
        let until = self.now + self.length(kind);
        for pool in pools().filter(|pool| pool.market == Market::Spot) {
            let dice = self.dice(kind);
            let (dry, both) = (dice.chance(ppm), dice.chance(500_000));
            if dry && both {
                self.count("pools that ran dry on demand too");
                self.dries(on_demand(&pool), until);
            }
            if dry {
                self.count("pools that ran dry");
                self.dries(pool, until);
            }
        }
    }

    fn dries(&mut self, pool: Pool, until: u64) {
        if let Some(buying) = &mut self.buying {
            let before = buying.cloud.dry.entry(pool).or_default();
            *before = until.max(*before);
        }
    }

    fn live_machines(&self, is: impl Fn(&Pool) -> bool) -> Vec<InstanceId> {
        let live = self.buying.iter().flat_map(|buying| buying.cloud.live());
        live.filter(|(_, one)| is(&one.pool))
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn reclaims(&mut self) {
        let machines = self.live_machines(|pool| pool.market == Market::Spot);
        if let Some(machine) = self.dice(Kind::Reclaim).pick(&machines).cloned() {
            self.will_be_taken(Kind::Reclaim, machine, self.now + NOTICE);
        }
    }

    /// Told two minutes before or as soon as that is known, or late, twice, never.
    fn will_be_taken(&mut self, kind: Kind, machine: InstanceId, at: u64) {
        let (now, ppm) = (self.now, self.faults.ppm(kind));
        let dice = self.dice(kind);
        let mut told = at.saturating_sub(NOTICE).max(now);
        if dice.chance(LATE) {
            told = dice.within(told, at);
        }
        let again = dice.chance(TWICE).then(|| dice.within(told, at));
        // Of one that is never told nothing is known before: it may as well go now.
        if dice.chance(ppm) {
            self.after(SECOND, Happening::Buying(Step::Taken(machine)));
            return;
        }
        for told in [Some(told), again].into_iter().flatten() {
            self.at(told, Happening::Buying(Step::Noticed(machine.clone(), at - told)));
        }
        self.at(at, Happening::Buying(Step::Taken(machine)));
    }

    /// All machines of a zone go, those on demand every other time; and there are none.
    fn loses_zone(&mut self) {
        let kind = Kind::ZoneLost;
        let until = self.now + self.length(kind);
        let dice = self.dice(kind);
        let zone = *dice.pick(&ZONES).expect("there are some");
        let whole = dice.chance(500_000);
        self.count("zones lost");
        for pool in pools().filter(|pool| pool.zone_id == zone) {
            self.dries(pool, until);
        }
        for machine in self.live_machines(|pool| pool.zone_id == zone && pool.market == Market::Spot) {
            let at = self.now + self.dice(kind).within(0, ZONE_WITHIN);
            self.will_be_taken(kind, machine, at);
        }
        let others = self.live_machines(|pool| pool.zone_id == zone && pool.market != Market::Spot);
        for machine in others.into_iter().filter(|_| whole) {
            let at = self.now + self.dice(kind).within(0, ZONE_WITHIN);
            self.at(at, Happening::Buying(Step::Taken(machine)));
        }
    }

    /// A machine hears that it is taken back so many µs from now.
    pub(super) fn hears_notice(&mut self, machine: &InstanceId, within: u64) {
        let Some(buying) = &mut self.buying else { return };
        let live = buying
            .cloud
            .instances
            .get(machine)
            .is_some_and(|one| one.is_live());
        let again = !buying.noticed.insert(machine.clone());
        let agent = buying.agents.get(machine).copied();
        self.count(match (live, again) {
            (false, _) => "notices to ended machines",
            (true, true) => "notices twice",
            (true, false) => "notices",
        });
        if live && within < NOTICE {
            self.count("notices late");
        }
        if let Some(agent) = agent {
            self.agent_hears_notice(agent, within);
        }
    }

    pub(super) fn taken(&mut self, machine: &InstanceId) {
        let now = self.now;
        let Some(buying) = &mut self.buying else { return };
        let Some(one) = buying.cloud.instances.get(machine).filter(|one| one.is_live()) else {
            return;
        };
        let (spot, told) = (one.pool.market == Market::Spot, buying.noticed.contains(machine));
        match spot {
            true => buying.cloud.reclaim(now, machine),
            false => buying.cloud.breaks(now, machine),
        }
        self.count(match spot {
            true => "machines taken back",
            false => "machines on demand lost",
        });
        if spot && !told {
            self.count("machines taken back without notice");
        }
        self.machine_ends(machine);
    }
}
