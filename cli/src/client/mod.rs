//! The cluster as a client sees it: typed calls that find the leader and survive its loss.

mod actor;
mod backup;
mod call;
mod error;
mod fleet;
mod route;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rebound_core::codec::client::{CLIENT_PROTOCOL, PROTOCOL_KEY};
use rebound_proto::v1::{
    AcceptClockReply, AcceptClockRequest, AddMemberReply, AddMemberRequest, AppendReply, AppendRequest,
    CancelRequest, ChangeSettingsRequest, CloseRequest, DrainWorkerReply, DrainWorkerRequest, Environment,
    EnvironmentsRequest, FinalizeReply, FinalizeRequest, GetRequest, Job, JobReply, ListReply, ListRequest,
    MembersReply, MembersRequest, OpenReply, OpenRequest, PingReply, PingRequest, RemoveMemberReply,
    RemoveMemberRequest, ResultsReply, ResultsRequest, SetEnvironmentRequest, Setting, SettingChange,
    SettingsRequest, StatusReply, StatusRequest, TaskReply, TaskRequest, TransferLeaderReply,
    TransferLeaderRequest, WatchRequest, Worker, WorkersRequest, jobs_client::JobsClient,
    operator_client::OperatorClient,
};
use rebound_scheduler::api::{AGE_KEY, INDEX_KEY, STALE_KEY};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Channel;

use call::{Limits, Repeat, as_us};
pub use error::ClientError;
use error::{Refused, refused};
use route::Route;

use crate::limits::{ANSWER_BYTES_MAX, ATTEMPT_TIMEOUT, STATUS_TIMEOUT};

/// The metadata key that carries the caller's name.
const ACTOR_KEY: &str = "rebound-actor";
/// The metadata key that carries the environment.
const ENVIRONMENT_KEY: &str = "rebound-environment";
/// How much later than the server's own limit its answer may arrive.
const ANSWER_GRACE: Duration = Duration::from_millis(250);
/// The same for a question that a server holds until something changes.
const WATCH_GRACE: Duration = Duration::from_secs(2);

/// A cluster's client. Clones share connections and what is known of the leader; calls may run side by side.
#[derive(Clone, Debug)]
pub struct Client {
    route: Arc<Route>,
    actor: MetadataValue<Ascii>,
    /// None: the cluster's default.
    environment: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    /// Set: any server may answer reads, and this is how old its last answer was.
    stale: Option<Arc<Mutex<Seen>>>,
}

/// How old an answer may be that any server gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The last entry that it counts in.
    pub index: u64,
    /// Since a leader said that it was all; none: the server has heard none since it started.
    pub age: Option<Duration>,
}

impl Client {
    /// A client of the cluster with these `host:port` addresses. Connects when first asked something. Each call
    /// takes at most `timeout` over all its tries.
    pub fn connect(servers: Vec<String>, timeout: Duration) -> Self {
        Self {
            route: Arc::new(Route::new(servers)),
            actor: actor::actor(),
            environment: None,
            timeout,
            stale: None,
        }
    }

    /// The same client in another environment; a name that is not plain ASCII is left out.
    pub fn in_environment(&self, name: &str) -> Self {
        Self {
            environment: MetadataValue::try_from(name).ok(),
            ..self.clone()
        }
    }

    /// The same client, content with what the server that it reaches has applied.
    pub fn stale(&self) -> Self {
        Self {
            stale: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// How old the last answer to a [`Self::stale`] client was.
    pub fn seen(&self) -> Option<Seen> {
        let seen = self.stale.as_ref()?;
        Some(*seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_age(&self, metadata: &MetadataMap) {
        let number = |key: &str| metadata.get(key)?.to_str().ok()?.parse().ok();
        if let Some(seen) = &self.stale
            && let Some(index) = number(INDEX_KEY)
        {
            let age = number(AGE_KEY).map(Duration::from_micros);
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen { index, age };
        }
    }

    /// The addresses given.
    pub fn servers(&self) -> &[String] {
        self.route.servers()
    }

    /// Opens a job. Only with an idempotency key is it asked again when the outcome is not known.
    pub async fn open(&self, request: OpenRequest) -> Result<OpenReply, ClientError> {
        let repeat = if request.idempotency_key.is_empty() {
            Repeat::No
        } else {
            Repeat::Yes
        };
        self.call(
            repeat,
            self.limits(),
            |timeout_us| OpenRequest {
                timeout_us,
                ..request.clone()
            },
            |c, r| async { jobs(c).open(r).await },
        )
        .await
    }

    /// Adds photos to an open job; `request.offset` makes it safe to ask twice.
    pub async fn append(&self, request: AppendRequest) -> Result<AppendReply, ClientError> {
        self.call(
            Repeat::Yes,
            self.limits(),
            |timeout_us| AppendRequest {
                timeout_us,
                ..request.clone()
            },
            |c, r| async { jobs(c).append(r).await },
        )
        .await
    }

    /// Says that the job has `total` photos and gets no more.
    pub async fn close(&self, job: u64, total: u64) -> Result<Job, ClientError> {
        let make = |timeout_us| CloseRequest {
            timeout_us,
            job,
            total,
        };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            jobs(c).close(r).await
        })
        .await
        .and_then(the_job)
    }

    /// Ends a job; what is not recorded yet never will be.
    pub async fn cancel(&self, job: u64) -> Result<Job, ClientError> {
        let make = |timeout_us| CancelRequest { timeout_us, job };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            jobs(c).cancel(r).await
        })
        .await
        .and_then(the_job)
    }

    /// A job as it is now.
    pub async fn get(&self, job: u64) -> Result<Job, ClientError> {
        let make = |timeout_us| GetRequest { timeout_us, job };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            jobs(c).get(r).await
        })
        .await
        .and_then(the_job)
    }

    /// The job once it has changed after log index `seen`, or as it is after `poll`.
    pub async fn watch(&self, job: u64, seen: u64, poll: Duration) -> Result<Job, ClientError> {
        let make = |limit_us: u64| WatchRequest {
            timeout_us: limit_us.min(as_us(poll)),
            job,
            seen,
        };
        let limits = Limits {
            call: self.timeout + poll,
            attempt: poll,
            grace: WATCH_GRACE,
        };
        self.call(Repeat::Yes, limits, make, |c, r| async { jobs(c).watch(r).await })
            .await
            .and_then(the_job)
    }

    /// A page of jobs, newest first: those with an id below `before` (0: from the newest).
    pub async fn list(&self, before: u64, limit: u32) -> Result<ListReply, ClientError> {
        let make = |timeout_us| ListRequest {
            timeout_us,
            before,
            limit,
        };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            jobs(c).list(r).await
        })
        .await
    }

    /// A page of recorded results, from task `first` on.
    pub async fn results(&self, job: u64, first: u64, limit: u32) -> Result<ResultsReply, ClientError> {
        let make = |timeout_us| ResultsRequest {
            timeout_us,
            job,
            first,
            limit,
        };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            jobs(c).results(r).await
        })
        .await
    }

    /// One task of a job.
    pub async fn task(&self, job: u64, task: u64) -> Result<TaskReply, ClientError> {
        let make = |timeout_us| TaskRequest {
            timeout_us,
            job,
            task,
        };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            jobs(c).task(r).await
        })
        .await
    }

    /// Workers that are there, and those that went lately.
    pub async fn workers(&self) -> Result<Vec<Worker>, ClientError> {
        let make = |timeout_us| WorkersRequest { timeout_us };
        let reply = self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).workers(r).await
        });
        Ok(reply.await?.workers)
    }

    /// Lets a worker finish what it runs and take nothing new. By id, or by name with id 0.
    pub async fn drain(&self, worker: u64, name: &str) -> Result<DrainWorkerReply, ClientError> {
        let make = |timeout_us| DrainWorkerRequest {
            timeout_us,
            worker,
            name: name.to_string(),
        };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).drain_worker(r).await
        })
        .await
    }

    /// Commits a counter: proof that the cluster takes writes. Not asked again when the outcome is not known.
    pub async fn ping(&self) -> Result<PingReply, ClientError> {
        let make = |timeout_us| PingRequest { timeout_us };
        self.call(Repeat::No, self.limits(), make, |c, r| async {
            operator(c).ping(r).await
        })
        .await
    }

    /// Lets the cluster's clock follow the leader's wall clock at once. Not asked again when the outcome is not known.
    pub async fn accept_clock(&self) -> Result<AcceptClockReply, ClientError> {
        let make = |timeout_us| AcceptClockRequest { timeout_us };
        self.call(Repeat::No, self.limits(), make, |c, r| async {
            operator(c).accept_clock(r).await
        })
        .await
    }

    /// The limits that change outcomes.
    pub async fn settings(&self) -> Result<Vec<Setting>, ClientError> {
        let make = |timeout_us| SettingsRequest { timeout_us };
        let reply = self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).settings(r).await
        });
        Ok(reply.await?.settings)
    }

    /// Changes some of them, all or none; answers with all.
    pub async fn change_settings(&self, changes: Vec<SettingChange>) -> Result<Vec<Setting>, ClientError> {
        let make = |timeout_us| ChangeSettingsRequest {
            timeout_us,
            changes: changes.clone(),
        };
        let reply = self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).change_settings(r).await
        });
        Ok(reply.await?.settings)
    }

    /// All environments: what they have and may have.
    pub async fn environments(&self) -> Result<Vec<Environment>, ClientError> {
        let make = |timeout_us| EnvironmentsRequest { timeout_us };
        let reply = self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).environments(r).await
        });
        Ok(reply.await?.environments)
    }

    /// Changes what an environment may have; answers with all.
    pub async fn set_environment(
        &self,
        change: SetEnvironmentRequest,
    ) -> Result<Vec<Environment>, ClientError> {
        let make = |timeout_us| SetEnvironmentRequest {
            timeout_us,
            ..change.clone()
        };
        let reply = self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).set_environment(r).await
        });
        Ok(reply.await?.environments)
    }

    /// The servers of the cluster, as the leader sees them.
    pub async fn members(&self) -> Result<MembersReply, ClientError> {
        let make = |timeout_us| MembersRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).members(r).await
        })
        .await
    }

    /// Begins to add a server. Asked again, it is the same change.
    pub async fn add_member(&self, request: AddMemberRequest) -> Result<AddMemberReply, ClientError> {
        self.call(
            Repeat::Yes,
            self.limits(),
            |timeout_us| AddMemberRequest {
                timeout_us,
                ..request.clone()
            },
            |c, r| async { operator(c).add_member(r).await },
        )
        .await
    }

    /// Begins to remove a server; one that was removed before is none any more.
    pub async fn remove_member(&self, server: u64) -> Result<RemoveMemberReply, ClientError> {
        let make = |timeout_us| RemoveMemberRequest { timeout_us, server };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).remove_member(r).await
        })
        .await
    }

    /// Lets another server lead: `to`, or the best for 0. Not asked again when the outcome is not known: leadership
    /// would go on to a third one.
    pub async fn transfer_leader(&self, to: u64) -> Result<TransferLeaderReply, ClientError> {
        let repeat = if to == 0 { Repeat::No } else { Repeat::Yes };
        let make = |timeout_us| TransferLeaderRequest { timeout_us, to };
        self.call(repeat, self.limits(), make, |c, r| async {
            operator(c).transfer_leader(r).await
        })
        .await
    }

    /// The cluster runs at a higher version from now on; 0: the newest that its servers know. Asked again, it is the same
    /// change.
    pub async fn finalize(&self, version: u32) -> Result<FinalizeReply, ClientError> {
        let make = |timeout_us| FinalizeRequest { timeout_us, version };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            operator(c).finalize(r).await
        })
        .await
    }

    /// What the server at `address` says of itself. One try, at most [`STATUS_TIMEOUT`].
    pub async fn status_of(&self, address: &str) -> Result<StatusReply, ClientError> {
        let limit = self.timeout.min(STATUS_TIMEOUT);
        self.at(address, limit, StatusRequest {}, |c, r| async {
            operator(c).status(r).await
        })
        .await
    }

    /// As [`Self::ping`], of the server at `address` alone: one try, at most `limit`, no leader followed.
    pub async fn ping_at(&self, address: &str, limit: Duration) -> Result<PingReply, ClientError> {
        let request = PingRequest {
            timeout_us: as_us(limit),
        };
        self.at(address, limit, request, |c, r| async {
            operator(c).ping(r).await
        })
        .await
    }

    async fn at<Q, A, Sent>(
        &self,
        address: &str,
        limit: Duration,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> Sent,
    ) -> Result<A, ClientError>
    where
        Sent: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
    {
        let asked = async {
            let unreachable = |why| ClientError::Unreachable {
                message: format!("{address} ({why})"),
            };
            let channel = self.route.channel(address, limit).await.map_err(unreachable)?;
            send(channel, self.request(request))
                .await
                .map_err(|status| one_try(address, &status))
        };
        let answer = tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout {
                message: format!("{address} said nothing for {limit:.1?}"),
            })
        });
        if matches!(
            answer,
            Err(ClientError::Unknown { .. } | ClientError::Timeout { .. })
        ) {
            self.route.drop_channel(address);
        }
        answer.map(tonic::Response::into_inner)
    }

    fn limits(&self) -> Limits {
        Limits {
            call: self.timeout,
            attempt: ATTEMPT_TIMEOUT,
            grace: ANSWER_GRACE,
        }
    }

    fn request<Q>(&self, body: Q) -> Request<Q> {
        let mut request = Request::new(body);
        let metadata = request.metadata_mut();
        metadata.insert(ACTOR_KEY, self.actor.clone());
        metadata.insert(PROTOCOL_KEY, MetadataValue::from(CLIENT_PROTOCOL));
        if self.stale.is_some() {
            metadata.insert(STALE_KEY, MetadataValue::from_static("1"));
        }
        if let Some(environment) = &self.environment {
            metadata.insert(ENVIRONMENT_KEY, environment.clone());
        }
        request
    }
}

fn one_try(address: &str, status: &tonic::Status) -> ClientError {
    match refused(status) {
        Refused::Final(error) => error,
        Refused::NotLeader { message, .. } => ClientError::NoLeader {
            message: format!("{address}: {message}"),
        },
        Refused::Overloaded { retry_after, message } => ClientError::Overloaded { message, retry_after },
        Refused::Unknown { message } => ClientError::Unknown {
            message: format!("{address}: {message}"),
        },
        Refused::Timeout { message } => ClientError::Timeout {
            message: format!("{address}: {message}"),
        },
    }
}

fn jobs(channel: Channel) -> JobsClient<Channel> {
    JobsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn operator(channel: Channel) -> OperatorClient<Channel> {
    OperatorClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn the_job(reply: JobReply) -> Result<Job, ClientError> {
    reply.job.ok_or_else(|| ClientError::Internal {
        message: "an answer without its job".into(),
    })
}
