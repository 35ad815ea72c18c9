//! Planted bugs of the agent, so that the simulator's checks can be checked. Only builds with the feature `planted`
//! have them. Elsewhere [`Plant::is`] is a constant `false`, and nothing of it is left in the program.

/// Which bug is planted, if any. Always none in a build without the feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// None.
    #[default]
    None,
    /// See [`Plant::ALL`].
    ForgetsSent,
}

impl Plant {
    /// Each bug with its name and what the mistake is. None in a build without the feature.
    pub const ALL: &'static [(Plant, &'static str, &'static str)] = &[
        #[cfg(feature = "planted")]
        (
            Plant::ForgetsSent,
            "agent-forgets-sent",
            "A result leaves the spool when it is sent, not when it is answered: what the stream loses is lost.",
        ),
    ];

    /// True when `bug` is the one that is planted.
    pub(super) const fn is(self, bug: Plant) -> bool {
        cfg!(feature = "planted") && self as u8 == bug as u8
    }
}
