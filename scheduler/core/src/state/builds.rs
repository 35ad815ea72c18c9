//! Which build each server runs, as the leader last heard it: so an operator knows it of a server that is silent too.
//! Written from [`version::BUILDS`] on.
//!
//! [`version::BUILDS`]: crate::version::BUILDS

use super::{Context, State};
use crate::event::Fact;
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::types::{EnvId, ReplicaId};
use crate::version::{Build, FIRST};

impl State {
    /// The version at which the cluster runs; before it has begun, the first.
    pub fn version(&self) -> u16 {
        self.meta().version.max(FIRST)
    }

    /// The build that a server was last heard to run, if that is recorded.
    pub fn build_of(&self, server: ReplicaId) -> Option<&Build> {
        self.builds.get(&server)
    }

    pub(super) fn member_build(
        &mut self,
        context: &mut Context,
        server: ReplicaId,
        build: &Build,
    ) -> Result<Reply, Rejected> {
        if self.members.get(server).is_none() {
            return Err(Rejected::NotFound {
                what: "server",
                id: server.0,
            });
        }
        if self.builds.get(&server) != Some(build) {
            self.builds.insert(server, build.clone());
            let build = build.clone();
            context.tell(EnvId::default(), None, Fact::MemberBuild { server, build });
        }
        Ok(Reply::Done)
    }

    /// The cluster runs at a higher version from the next entry on. The leader has asked whether all servers know it;
    /// one that does not stops before it applies this.
    pub(super) fn upgrade(&mut self, context: &mut Context, to: u16) -> Result<Reply, Rejected> {
        let from = self.version();
        if to > from {
            self.meta_mut().version = to;
            context.tell(EnvId::default(), None, Fact::Upgraded { from, to });
        }
        Ok(Reply::Done)
    }

    /// What is recorded of servers that are no members any more goes with them.
    pub(super) fn forget_builds(&mut self) {
        let members = &self.members;
        let gone = self.builds.iter().map(|(id, _)| *id);
        let keeps = self.plant.is(Plant::BuildKept);
        let gone = gone.filter(|id| members.get(*id).is_none() && !keeps);
        let gone: Vec<ReplicaId> = gone.collect();
        gone.iter().for_each(|id| drop(self.builds.remove(id)));
    }

    pub(super) fn check_builds(&self) {
        self.builds.check();
        for (server, _) in self.builds.iter() {
            assert!(
                self.members.get(*server).is_some(),
                "the build of server {server}"
            );
        }
    }
}
