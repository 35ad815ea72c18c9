//! The network between hosts: delays, loss, copies, cuts. Who may hear whom is asked at delivery, so that a cut
//! also loses what is on its way.

use std::collections::BTreeSet;

use rebound_core::types::MILLISECOND;

use crate::rng::Rng;

/// Who can be reached: servers and agents alike have a number.
pub type Node = u64;

/// Agents' numbers begin here; servers are below.
pub const FIRST_AGENT: Node = 100;
/// Clients stand here; their links are never cut, but their messages are lost.
pub const CLIENTS: Node = 99;

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Of a message between servers, in a million.
    pub loss_ppm: u64,
    /// Of a second copy, in a million.
    pub copy_ppm: u64,
    /// Shortest way, in µs.
    pub delay_min: u64,
    /// Longest way, in µs: differences make disorder.
    pub delay_max: u64,
}

impl Weather {
    /// A calm local network.
    pub const CALM: Weather = Weather {
        loss_ppm: 0,
        copy_ppm: 0,
        delay_min: MILLISECOND / 5,
        delay_max: MILLISECOND,
    };
}

/// The network.
pub struct Net {
    /// How bad it is now.
    pub weather: Weather,
    rng: Rng,
    /// Directed: the first cannot be heard by the second.
    cut: BTreeSet<(Node, Node)>,
}

impl Net {
    /// All is well.
    pub fn new(weather: Weather, rng: Rng) -> Net {
        Net {
            weather,
            rng,
            cut: BTreeSet::new(),
        }
    }

    /// Ways of the copies of one message, in µs; none when it is lost.
    pub fn ways(&mut self) -> Vec<u64> {
        let Weather {
            loss_ppm,
            copy_ppm,
            delay_min,
            delay_max,
        } = self.weather;
        let mut ways = Vec::new();
        if !self.rng.chance(loss_ppm) {
            ways.push(self.rng.within(delay_min, delay_max));
        }
        if self.rng.chance(copy_ppm) {
            ways.push(self.rng.within(delay_min, delay_max * 10));
        }
        ways
    }

    /// The way of something that cannot be lost or copied while the link stands.
    pub fn way(&mut self) -> u64 {
        self.rng.within(self.weather.delay_min, self.weather.delay_max)
    }

    /// True when `from` can be heard by `to`.
    pub fn open(&self, from: Node, to: Node) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Node, to: Node) {
        self.cut.insert((from, to));
    }

    /// Nothing is cut any more.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// True when something is cut.
    pub fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }
}
