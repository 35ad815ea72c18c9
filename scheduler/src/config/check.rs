//! What a configuration must keep to, beyond its form.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};

pub use rebound_core::limits::MEMBERS_MAX;
use rebound_core::limits::{NAME_BYTES_MAX, TASKS_PER_JOB_MAX};
use rebound_core::state::Plant;

use super::{Config, ListenConfig};

/// Fewest entries the log may keep: less would send a snapshot for every hiccup.
pub const LOG_KEEP_MIN: u64 = 16;
/// Largest cache or write buffer, in MiB.
const STORE_MIB_MAX: u64 = 1024 * 1024;
/// Most bytes that a snapshot may be let have: more than any disk has.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 50;

impl Config {
    /// The first fault: its field, and what to do.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let fault = |field: &str, message: &str| Err((field.to_owned(), message.to_owned()));
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        // The id is the name, a hyphen and 8 digits.
        if self.cluster.is_empty()
            || self.cluster.len() > NAME_BYTES_MAX - 9
            || !self.cluster.chars().all(fits)
        {
            let most = NAME_BYTES_MAX - 9;
            let message = format!("must be 1 to {most} of a-z, 0-9 and '-', as \"shelves-eu\"");
            return fault("cluster", &message);
        }
        if self.data_dir.as_os_str().is_empty() {
            return fault(
                "data_dir",
                "must not be empty; name a directory of this server's own",
            );
        }
        if Plant::named(&self.plant).is_none() {
            let message = "this build knows no planted bug of that name; remove the line, or build with --features planted";
            return fault("plant", message);
        }
        self.check_members()?;
        self.check_listen()?;
        self.cloud.check()?;
        self.market.check()?;
        self.clock.as_ref().map_or(Ok(()), |clock| clock.check())?;
        self.check_bounds()
    }

    fn check_members(&self) -> Result<(), (String, String)> {
        let members = &self.members;
        if self.server == 0 {
            let message = "must not be 0; give each server its own number from 1".to_owned();
            return Err(("server".to_owned(), message));
        }
        if members.is_empty() {
            return Ok(());
        }
        if members.len() > MEMBERS_MAX {
            let message = format!(
                "names {} servers; must be 1 to {MEMBERS_MAX}, 3 or 5 to survive a loss",
                members.len()
            );
            return Err(("members".to_owned(), message));
        }
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (at, member) in members.iter().enumerate() {
            if member.id == 0 || !ids.insert(member.id) {
                let message = format!(
                    "{} is 0 or there twice; give each server its own number from 1",
                    member.id
                );
                return Err((format!("members[{at}].id"), message));
            }
            for (field, address) in [("peer", &member.peer), ("client", &member.client)] {
                let field = format!("members[{at}].{field}");
                loopback(address).map_err(|message| (field.clone(), message))?;
                if !addresses.insert(address) {
                    return Err((
                        field,
                        format!("{address} is there twice; each address is one listener's"),
                    ));
                }
            }
        }
        if !ids.contains(&self.server) {
            let message = format!(
                "{} is not in the member list; add it there, or correct it",
                self.server
            );
            return Err(("server".to_owned(), message));
        }
        Ok(())
    }

    fn check_listen(&self) -> Result<(), (String, String)> {
        let ListenConfig { client, peer, http } = &self.listen;
        let mut addresses = BTreeSet::new();
        for (field, address) in [
            ("listen.client", client),
            ("listen.peer", peer),
            ("listen.http", http),
        ] {
            loopback(address).map_err(|message| (field.to_owned(), message))?;
            if !addresses.insert(address) {
                return Err((
                    field.to_owned(),
                    format!("{address} is there twice; name another port"),
                ));
            }
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), (String, String)> {
        let within = |field: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err((field.to_owned(), format!("{value} must be {least} to {most}"))),
        };
        within("log.keep", self.log.keep, LOG_KEEP_MIN, u64::from(u32::MAX))?;
        within("store.cache_mib", self.store.cache_mib, 1, STORE_MIB_MAX)?;
        within(
            "store.write_buffer_mib",
            self.store.write_buffer_mib,
            1,
            STORE_MIB_MAX,
        )?;
        within(
            "limits.peer_queue_bytes",
            self.limits.peer_queue_bytes,
            16 << 20,
            16 << 30,
        )?;
        within(
            "limits.snapshot_bytes",
            self.limits.snapshot_bytes,
            1 << 20,
            SNAPSHOT_BYTES_MAX,
        )?;
        within(
            "limits.agent_queue_messages",
            self.limits.agent_queue_messages.into(),
            16,
            1 << 20,
        )?;
        within("limits.photo_lists", self.limits.photo_lists.into(), 1, 1 << 20)?;
        within("limits.run_photos", self.limits.run_photos, 1, TASKS_PER_JOB_MAX)
    }
}

/// An address of this machine alone, with a port. Anything else would be open to everybody.
pub fn loopback(address: &str) -> Result<(), String> {
    let mut found = match address.to_socket_addrs() {
        Ok(found) => found.peekable(),
        Err(error) => {
            return Err(format!(
                "{address:?} is no host:port ({error}); write one as \"127.0.0.1:7401\""
            ));
        }
    };
    if found.peek().is_none() {
        return Err(format!(
            "{address:?} has no address; write one as \"127.0.0.1:7401\""
        ));
    }
    let bad = |address: SocketAddr| !address.ip().is_loopback();
    if found.clone().any(|address| address.port() == 0) {
        return Err(format!(
            "{address:?} has port 0; others must know the port, so name one"
        ));
    }
    match found.any(bad) {
        true => Err(format!(
            "{address} is not this machine's loopback; servers have no credentials yet, so only 127.0.0.1, ::1 and localhost are allowed"
        )),
        false => Ok(()),
    }
}
