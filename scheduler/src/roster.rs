//! Who the other servers are: what the state says, and before that what they say of themselves. The peers' lines,
//! their listener and the clients' listener read it; the replica's task keeps it up to date.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rebound_core::limits::MEMBERS_MAX;
use rebound_core::state::State;
use rebound_core::state::members::{Founder, Member, Role, Stranger, admits};
use rebound_core::types::ReplicaId;
use rebound_core::version::{Build, FIRST, Versions};
use rebound_proto::v1;
use tokio::sync::watch;

use crate::peers::PEER_PROTOCOL;
use crate::peers::digests::Digests;

/// Servers remembered by their own word alone.
const CONTACTS_MAX: usize = 2 * MEMBERS_MAX;

/// See the module.
pub struct Roster {
    cluster: String,
    own: Founder,
    build: Build,
    /// Drawn for this process, never 0.
    boot: u64,
    /// Where it really listens for other servers.
    listens: String,
    outgrown: AtomicBool,
    diverged: AtomicBool,
    digests: Digests,
    inner: Mutex<Inner>,
    changes: watch::Sender<u64>,
    dismissed: watch::Sender<Option<String>>,
}

struct Inner {
    members: BTreeMap<ReplicaId, Member>,
    last: ReplicaId,
    /// Servers that the state does not know yet, as they say of themselves.
    contacts: BTreeMap<ReplicaId, Founder>,
    /// First met with this data directory, while the state does not know it yet.
    met: BTreeMap<ReplicaId, u64>,
    /// The version at which the cluster runs.
    version: u16,
}

impl Roster {
    /// As this server starts: `own` is itself, `founders` are on its disk, `state` is what it recovered.
    pub fn new(cluster: String, own: Founder, founders: &[Founder], state: &State) -> Roster {
        let member = |founder: &Founder| Member {
            peer: founder.peer.clone(),
            client: founder.client.clone(),
            role: Role::Voter,
            incarnation: 0,
            replaces: None,
        };
        let members = founders.iter().map(|founder| (founder.id, member(founder)));
        let inner = Inner {
            members: members.collect(),
            last: founders
                .iter()
                .map(|founder| founder.id)
                .max()
                .unwrap_or_default(),
            contacts: BTreeMap::new(),
            met: BTreeMap::new(),
            version: FIRST,
        };
        let roster = Roster {
            cluster,
            own,
            build: Build::ours(),
            boot: rand::random_range(1..=u64::MAX),
            listens: String::new(),
            outgrown: AtomicBool::new(false),
            diverged: AtomicBool::new(false),
            digests: Digests::default(),
            inner: Mutex::new(inner),
            changes: watch::Sender::new(0),
            dismissed: watch::Sender::new(None),
        };
        roster.update(state);
        roster
    }

    /// The same, which says where it really listens.
    pub fn listening(mut self, address: &str) -> Roster {
        address.clone_into(&mut self.listens);
        self
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock can leave it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster's id.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// This server.
    pub fn own(&self) -> ReplicaId {
        self.own.id
    }

    /// The state's members have changed.
    pub fn update(&self, state: &State) {
        if state.members.is_empty() {
            return;
        }
        let mut inner = self.inner();
        inner.members = state
            .members
            .iter()
            .map(|(id, member)| (id, member.clone()))
            .collect();
        inner.last = state.meta().last_member;
        inner.version = state.version();
        let last = inner.last;
        inner.contacts.retain(|id, _| *id > last);
        drop(inner);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// To hear of changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether a server with this data directory may speak as `id`; see [`State::admits`].
    pub fn admits(&self, id: ReplicaId, incarnation: u64) -> Result<(), Stranger> {
        let inner = self.inner();
        admits(inner.members.get(&id), inner.last, id, incarnation)
    }

    /// A server that is let in said this of itself. False when it was met with another data directory before, which
    /// the state does not know yet.
    pub fn meet(&self, said: Founder) -> bool {
        let mut inner = self.inner();
        if inner.met.len() >= CONTACTS_MAX && !inner.met.contains_key(&said.id) {
            return true;
        }
        if *inner.met.entry(said.id).or_insert(said.incarnation) != said.incarnation {
            let known = inner.members.get(&said.id).map_or(0, |member| member.incarnation);
            if known != said.incarnation {
                return false;
            }
            inner.met.insert(said.id, known);
        }
        let is_new = !inner.members.contains_key(&said.id) && inner.contacts.len() < CONTACTS_MAX;
        if is_new && inner.contacts.insert(said.id, said.clone()) != Some(said) {
            drop(inner);
            self.changes.send_modify(|changes| *changes += 1);
        }
        true
    }

    /// All other servers that can be reached.
    pub fn others(&self) -> Vec<ReplicaId> {
        let inner = self.inner();
        let all = inner.members.keys().chain(inner.contacts.keys()).copied();
        all.filter(|id| *id != self.own.id).collect()
    }

    /// Where other servers reach a server.
    pub fn peer_address(&self, id: ReplicaId) -> Option<String> {
        let inner = self.inner();
        let known = inner.members.get(&id).map(|member| member.peer.clone());
        known.or_else(|| inner.contacts.get(&id).map(|contact| contact.peer.clone()))
    }

    /// Where clients reach a server; empty for one that is not known.
    pub fn client_address(&self, id: ReplicaId) -> String {
        let inner = self.inner();
        let known = inner.members.get(&id).map(|member| member.client.clone());
        let contact = || inner.contacts.get(&id).map(|contact| contact.client.clone());
        known.or_else(contact).unwrap_or_default()
    }

    /// All members.
    pub fn members(&self) -> BTreeMap<ReplicaId, Member> {
        self.inner().members.clone()
    }

    /// This server's first word to another.
    pub fn hello(&self, to: ReplicaId) -> v1::PeerHello {
        let inner = self.inner();
        let known = inner.members.get(&to).map(|member| member.incarnation);
        let Versions { oldest, newest } = self.build.versions;
        v1::PeerHello {
            cluster: self.cluster.clone(),
            from: self.own.id.0,
            to: to.0,
            incarnation: self.own.incarnation,
            protocol_min: PEER_PROTOCOL,
            protocol_max: PEER_PROTOCOL,
            peer_address: self.own.peer.clone(),
            client_address: self.own.client.clone(),
            to_incarnation: known.unwrap_or_default(),
            build: self.build.name.clone(),
            version_min: oldest.into(),
            version_max: newest.into(),
            version: inner.version.into(),
            boot: self.boot,
            listens: self.listens.clone(),
        }
    }

    /// This server's own data directory.
    pub fn incarnation(&self) -> u64 {
        self.own.incarnation
    }

    /// The same of another build.
    pub fn of_build(mut self, build: Build) -> Roster {
        self.build = build;
        self
    }

    /// What the build that runs is called.
    pub fn build_name(&self) -> &str {
        &self.build.name
    }

    /// The version at which the cluster runs, as this server has applied it, and what its build knows.
    pub fn versions(&self) -> (u16, Versions) {
        (self.inner().version, self.build.versions)
    }

    /// The cluster has outgrown this server's build: it stops, and may be started with a newer one.
    pub fn outgrow(&self, why: String) {
        self.outgrown.store(true, Ordering::SeqCst);
        self.dismiss(why);
    }

    /// See [`Roster::outgrow`].
    pub fn is_outgrown(&self) -> bool {
        self.outgrown.load(Ordering::SeqCst)
    }

    /// The state of this server is not what the others agree on: it stops at once, for good.
    pub fn diverge(&self, why: String) {
        self.diverged.store(true, Ordering::SeqCst);
        self.dismiss(why);
    }

    /// See [`Roster::diverge`].
    pub fn is_diverged(&self) -> bool {
        self.diverged.load(Ordering::SeqCst)
    }

    /// Digests of states, this server's and the others'.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// This server is no member: it was told so, or applied it.
    pub fn dismiss(&self, why: String) {
        self.dismissed.send_if_modified(|dismissed| {
            let first = dismissed.is_none();
            dismissed.get_or_insert(why);
            first
        });
    }

    /// To hear that this server is no member.
    pub fn dismissal(&self) -> watch::Receiver<Option<String>> {
        self.dismissed.subscribe()
    }
}
