//! Servers that come, go and lose their disks, and what servers say of themselves before they are listened to.

use bytes::Bytes;
use rebound_core::io::Input;
use rebound_core::replica::Replica;
use rebound_core::types::ReplicaId;

use super::disk::Disk;
use super::{Server, Stage};

/// A wiped server's data directory has a number so much greater.
const WIPED: u64 = 100;

impl Stage {
    /// A server that is not one of the first starts with an empty disk, as `--join` makes one.
    pub fn join(&mut self, id: u64) {
        let mut config = self
            .servers
            .values()
            .next()
            .expect("a stage has servers")
            .config
            .clone();
        config.id = ReplicaId(id);
        config.founders = Vec::new();
        config.incarnation = id;
        let server = Server {
            config,
            replica: None,
            disk: Disk::default(),
            inbox: Vec::new(),
            leads: false,
            checked: 0,
        };
        assert!(self.servers.insert(id, server).is_none(), "server {id} is there");
        self.start(id);
    }

    /// A server loses its disk, and somebody starts it again under its id.
    pub fn wipe(&mut self, id: u64) {
        if self.replica(id).is_some() {
            self.crash(id);
        }
        let server = self.servers.get_mut(&id).expect("a server of this stage");
        server.disk = Disk::default();
        server.checked = 0;
        server.config.incarnation += WIPED;
        self.start(id);
    }

    /// Servers that are up and of whom the leader, if there is one, knows that they are members with their own disk.
    pub fn members_up(&self) -> impl Iterator<Item = &Replica> {
        let judge = self.leader().and_then(|leader| self.replica(leader));
        let counts = move |id: ReplicaId, incarnation: u64| {
            judge.is_none_or(|judge| {
                let state = judge.state();
                state.members.get(id).is_some() && state.admits(id, incarnation).is_ok()
            })
        };
        self.servers.values().filter_map(move |server| {
            let replica = server.replica.as_ref()?;
            counts(server.config.id, server.config.incarnation).then_some(replica)
        })
    }

    /// A message reaches a server as from a peer that it has greeted.
    pub fn hand(&mut self, to: u64, message: Bytes) {
        self.inbox(to).push(Input::Peer(message));
    }

    /// A server is about to stop.
    pub fn resign(&mut self, id: u64) {
        self.inbox(id).push(Input::Resign);
    }

    /// As servers greet each other: each says who it is and what it knows of the other, and either may refuse.
    pub(super) fn greets(&mut self, from: u64, to: u64) -> bool {
        let (Some(sender), Some(receiver)) = (self.replica(from), self.replica(to)) else {
            // What a server said before it went down still arrives.
            return self.replica(to).is_some();
        };
        let incarnation = |id: u64| self.servers[&id].config.incarnation;
        let (ours, theirs) = (incarnation(from), incarnation(to));
        let refused = receiver.state().admits(ReplicaId(from), ours).err();
        let told = sender.state().admits(ReplicaId(to), theirs).err();
        let id = ReplicaId(from);
        let is_new = self.greeted.insert((to, from, ours));
        if is_new {
            let build = self.servers[&from].config.build.clone();
            self.inbox(to).push(Input::Met {
                id,
                incarnation: ours,
                build,
            });
        }
        let why = match (refused, told) {
            (None, None) => return true,
            (Some(why), _) => format!("server {to} refuses server {from}: {why}"),
            (None, Some(why)) => format!("server {to} hears from server {from}: {why}"),
        };
        if self.refused.insert(why.clone()) {
            self.say(why);
        }
        false
    }
}
