//! The network between hosts: delays, loss, copies, clogs, cuts. Who may hear whom is asked at delivery, so that a cut
//! also loses what is on its way.

use std::collections::BTreeMap;

use rebound_core::types::MILLISECOND;

use crate::rng::Rng;

/// Who can be reached: servers and agents alike have a number.
pub type Node = u64;

/// Agents' numbers begin here; servers are below.
pub const FIRST_AGENT: Node = 100;
/// Clients stand here.
pub const CLIENTS: Node = 99;

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Of a message between servers, in a million.
    pub loss_ppm: u64,
    /// Of a second copy, in a million.
    pub copy_ppm: u64,
    /// A copy comes so much later at most, in µs.
    pub copy_late: u64,
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
        copy_late: 0,
        delay_min: MILLISECOND / 5,
        delay_max: MILLISECOND,
    };
}

/// The ways of the copies of one message, in µs.
pub struct Ways {
    /// None: it is lost.
    pub first: Option<u64>,
    /// A second copy.
    pub copy: Option<u64>,
}

/// The network.
pub struct Net {
    /// How bad it is now.
    pub weather: Weather,
    rng: Rng,
    /// Directed: the first cannot be heard by the second, for so many reasons.
    cut: BTreeMap<(Node, Node), u32>,
    /// What each reason cut.
    reasons: BTreeMap<u64, Vec<(Node, Node)>>,
    next_reason: u64,
    /// Directed: nothing arrives before.
    clogged: BTreeMap<(Node, Node), u64>,
}

impl Net {
    /// All is well.
    pub fn new(weather: Weather, rng: Rng) -> Net {
        Net {
            weather,
            rng,
            cut: BTreeMap::new(),
            reasons: BTreeMap::new(),
            next_reason: 1,
            clogged: BTreeMap::new(),
        }
    }

    /// Ways of the copies of one message.
    pub fn ways(&mut self) -> Ways {
        let Weather {
            loss_ppm,
            copy_ppm,
            copy_late,
            ..
        } = self.weather;
        let first = (!self.rng.chance(loss_ppm)).then(|| self.way());
        let copy = (copy_ppm > 0 && self.rng.chance(copy_ppm)).then(|| self.way() + self.late(copy_late));
        Ways { first, copy }
    }

    fn late(&mut self, most: u64) -> u64 {
        match most {
            0 => 0,
            _ => self.rng.scaled(1, most),
        }
    }

    /// The way of something that cannot be lost or copied while the link stands.
    pub fn way(&mut self) -> u64 {
        self.rng.within(self.weather.delay_min, self.weather.delay_max)
    }

    /// When what would arrive at `at` does arrive.
    pub fn through(&self, from: Node, to: Node, at: u64) -> u64 {
        self.clogged.get(&(from, to)).map_or(at, |until| at.max(*until))
    }

    /// Nothing arrives on this path before `until`.
    pub fn clog(&mut self, from: Node, to: Node, until: u64) {
        self.clogged.insert((from, to), until);
    }

    /// True when `from` can be heard by `to`.
    pub fn open(&self, from: Node, to: Node) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// True when both hear each other.
    pub fn linked(&self, one: Node, other: Node) -> bool {
        self.open(one, other) && self.open(other, one)
    }

    /// Cuts directed links; what is returned mends them.
    pub fn cut(&mut self, links: Vec<(Node, Node)>) -> u64 {
        for link in &links {
            *self.cut.entry(*link).or_default() += 1;
        }
        self.reasons.insert(self.next_reason, links);
        self.next_reason += 1;
        self.next_reason - 1
    }

    /// What one reason cut is whole again, unless another still cuts it.
    pub fn mend(&mut self, reason: u64) {
        for link in self.reasons.remove(&reason).unwrap_or_default() {
            if let Some(count) = self.cut.get_mut(&link) {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(&link);
                }
            }
        }
    }

    /// Nothing is cut or clogged any more.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.reasons.clear();
        self.clogged.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_whole_when_the_last_reason_is_gone() {
        let mut net = Net::new(Weather::CALM, Rng::new(1));
        let one = net.cut(vec![(1, 2), (2, 1)]);
        let two = net.cut(vec![(1, 2)]);
        assert!(!net.open(1, 2) && !net.open(2, 1));
        net.mend(one);
        assert!(!net.open(1, 2) && net.open(2, 1));
        net.mend(two);
        assert!(net.linked(1, 2));
    }
}
