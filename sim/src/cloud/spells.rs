//! Spells of trouble: what the cloud does wrong for a while, and how often meanwhile.

use std::collections::BTreeMap;

use crate::faults::Kind;
use crate::rng::Rng;

/// A kind's trouble. Without one the kind draws nothing.
struct Spell {
    until: u64,
    /// So many of what may meet it do, in a million.
    ppm: u64,
    rng: Rng,
}

/// How a fleet comes while pools are dry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// What is there, and why the rest is not.
    Plain,
    /// Not of the first pool, nor of those that are dry: of the others, and which had none.
    Elsewhere,
    /// Half of it, or one more, and not a word.
    Half,
    /// Nothing, and not a word.
    Empty,
}

/// See the module.
pub struct Spells {
    of: BTreeMap<Kind, Spell>,
    root: Rng,
}

impl Spells {
    /// None yet; each kind that comes draws from its own branch.
    pub fn new(root: &Rng) -> Spells {
        Spells {
            of: BTreeMap::new(),
            root: root.clone(),
        }
    }

    /// It is there until then.
    pub fn befall(&mut self, kind: Kind, until: u64, ppm: u64) {
        let root = &self.root;
        let spell = self.of.entry(kind).or_insert_with(|| Spell {
            until,
            ppm,
            rng: root.branch(kind.name()),
        });
        (spell.until, spell.ppm) = (until, ppm);
    }

    /// All are over.
    pub fn end(&mut self) {
        self.of.values_mut().for_each(|spell| spell.until = 0);
    }

    fn now(&mut self, kind: Kind, now: u64) -> Option<&mut Spell> {
        self.of.get_mut(&kind).filter(|spell| now < spell.until)
    }

    /// True while it is there.
    pub fn has(&self, kind: Kind, now: u64) -> bool {
        self.of.get(&kind).is_some_and(|spell| now < spell.until)
    }

    /// Whether something meets it.
    pub fn strikes(&mut self, kind: Kind, now: u64) -> bool {
        self.now(kind, now)
            .is_some_and(|spell| spell.rng.chance(spell.ppm))
    }

    /// A moment between now and the end of the spell; now without one.
    pub fn delays(&mut self, kind: Kind, now: u64) -> u64 {
        self.now(kind, now)
            .map_or(now, |spell| spell.rng.within(now, spell.until))
    }

    /// How the next fleet comes.
    pub fn manner(&mut self, now: u64) -> Manner {
        let drawn = self.now(Kind::Dry, now).map(|spell| spell.rng.within(0, 5));
        match drawn {
            Some(0 | 1) => Manner::Empty,
            Some(2 | 3) => Manner::Half,
            Some(_) => Manner::Elsewhere,
            None => Manner::Plain,
        }
    }
}
