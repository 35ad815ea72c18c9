//! Which faults a seed brings, and how strong: drawn once, printed first.

use std::fmt;

use rebound_core::types::{MILLISECOND, SECOND};

use crate::net::Weather;
use crate::rng::Rng;

/// All that a seed decides beforehand. Rates are mean times between two of a kind, in µs; 0: never.
#[derive(Clone, Debug)]
pub struct Faults {
    /// How long things may break, in µs.
    pub storm: u64,
    /// The network meanwhile.
    pub weather: Weather,
    /// A server loses power.
    pub crash_every: u64,
    /// All servers lose power at once.
    pub blackout_every: u64,
    /// How long a server stays down, at most.
    pub down_max: u64,
    /// Some links are cut.
    pub partition_every: u64,
    /// For so long at most.
    pub partition_max: u64,
    /// An agent's process dies.
    pub agent_crash_every: u64,
    /// A stream between agent and server breaks.
    pub stream_break_every: u64,
    /// A server stands still (a paused process), at most as long as `down_max`.
    pub pause_every: u64,
    /// A sync takes at most so long.
    pub sync_max: u64,
    /// Inputs of a server gather for so long at most before they are handed in together; 0: each alone.
    pub gather_max: u64,
    /// Somebody asks so often whether the cluster takes writes; 0: never.
    pub probe_every: u64,
    /// Photos whose recogniser dies, in a million.
    pub poison_ppm: u64,
    /// Entries kept behind the applied one.
    pub log_keep: u64,
    /// Wall clocks are wrong by so much at most.
    pub skew_max: u64,
    /// Agents.
    pub agents: u64,
    /// Slots of each.
    pub slots: u32,
    /// Jobs submitted.
    pub jobs: u64,
}

impl Faults {
    /// Draws everything from the seed's branch: each kind is there in about two seeds of three.
    pub fn draw(rng: &mut Rng) -> Faults {
        let some = |rng: &mut Rng, from: u64, to: u64| {
            if rng.chance(650_000) {
                rng.within(from, to)
            } else {
                0
            }
        };
        let weather = Weather {
            loss_ppm: some(rng, 1_000, 150_000),
            copy_ppm: some(rng, 1_000, 150_000),
            delay_min: MILLISECOND / 5,
            delay_max: MILLISECOND + some(rng, MILLISECOND, 80 * MILLISECOND),
        };
        Faults {
            storm: rng.within(20, 50) * SECOND,
            weather,
            crash_every: some(rng, 4 * SECOND, 15 * SECOND),
            blackout_every: some(rng, 20 * SECOND, 40 * SECOND),
            down_max: rng.within(SECOND, 8 * SECOND),
            partition_every: some(rng, 4 * SECOND, 20 * SECOND),
            partition_max: rng.within(SECOND, 20 * SECOND),
            agent_crash_every: some(rng, 5 * SECOND, 20 * SECOND),
            stream_break_every: some(rng, 2 * SECOND, 10 * SECOND),
            pause_every: some(rng, 8 * SECOND, 20 * SECOND),
            sync_max: MILLISECOND + some(rng, MILLISECOND, 300 * MILLISECOND),
            gather_max: some(rng, MILLISECOND / 10, 20 * MILLISECOND),
            probe_every: some(rng, 10 * MILLISECOND, 100 * MILLISECOND),
            poison_ppm: some(rng, 1_000, 50_000),
            log_keep: *rng.pick(&[20, 100, 1_000, 100_000]).expect("not empty"),
            skew_max: some(rng, SECOND, 3_600 * SECOND),
            agents: rng.within(1, 5),
            slots: rng.within(1, 4) as u32,
            jobs: rng.within(20, 80),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us / MILLISECOND;
        write!(
            f,
            "storm {} s; net loss {} copies {} ppm, delay to {} ms; each (s, 0 never): crash {} blackout {} \
             partition {} agent-crash {} stream-break {} pause {}; down to {} ms, partition to {} ms, sync to {} ms; \
             gather to {} µs, probe each {} ms; poison {} ppm; log keep {}; skew to {} s; {} agents × {} slots; {} jobs",
            self.storm / SECOND,
            self.weather.loss_ppm,
            self.weather.copy_ppm,
            ms(self.weather.delay_max),
            self.crash_every / SECOND,
            self.blackout_every / SECOND,
            self.partition_every / SECOND,
            self.agent_crash_every / SECOND,
            self.stream_break_every / SECOND,
            self.pause_every / SECOND,
            ms(self.down_max),
            ms(self.partition_max),
            ms(self.sync_max),
            self.gather_max,
            ms(self.probe_every),
            self.poison_ppm,
            self.log_keep,
            self.skew_max / SECOND,
            self.agents,
            self.slots,
            self.jobs,
        )
    }
}
