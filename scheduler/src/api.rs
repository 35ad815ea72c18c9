//! gRPC for clients, operators and agents: the wire on one side, the replica's questions on the other.

use std::sync::Arc;

use prost::Message as _;
use rebound_core::codec::client;
use rebound_core::io::{Answer, Read, Request as Asked};
use rebound_core::limits::{ASK_TIMEOUT, NAME_BYTES_MAX};
use rebound_core::replica::Outlook;
use rebound_core::reply::{Refused, Rejected, Reply};
use rebound_core::types::{Caller, TraceId};
use rebound_proto::v1;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Response, Status};

use crate::config::Config;
use crate::entrance::Entrance;
use crate::node::{Answered, Handle, doors};
use crate::relay::Relays;
use crate::roster::Roster;
use crate::telemetry;

pub mod agents;
mod backup;
mod fleet;
pub mod jobs;
pub mod operator;
pub mod wire;

/// Longest request of a client, in bytes: an entry's content and its frame.
pub const CLIENT_REQUEST_BYTES_MAX: usize = rebound_core::limits::ENTRY_BYTES_MAX + 64 * 1024;
/// Longest message of an agent, in bytes.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest answer or message to anybody, in bytes.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Who asks, as the caller says. Until there are credentials this is for people to read, and opens nothing.
pub const ACTOR_KEY: &str = "rebound-actor";
/// The environment a caller works in, as the caller says, until there are credentials.
pub const ENVIRONMENT_KEY: &str = "rebound-environment";
/// A caller that says so, with any value, is content with what the server it asks has applied.
pub const STALE_KEY: &str = "rebound-stale";
/// The last entry that such an answer counts in.
pub const INDEX_KEY: &str = "rebound-index";
/// µs since a leader said that it was all; missing when the server does not know.
pub const AGE_KEY: &str = "rebound-age-us";
/// The environment of callers that name none.
const ENVIRONMENT: &str = "default";
/// The environment that probes count in.
const PROBE_ENVIRONMENT: &str = "_probe";

/// What the services share.
#[derive(Clone)]
pub struct Api {
    handle: Handle,
    config: Arc<Config>,
    roster: Arc<Roster>,
    backups: Arc<Semaphore>,
    relays: Relays,
}

impl Api {
    /// For this server.
    pub fn new(handle: Handle, config: Arc<Config>, roster: Arc<Roster>) -> Api {
        let relays = Relays::new(roster.clone(), handle.watch());
        Api {
            handle,
            config,
            roster,
            relays,
            backups: Arc::new(Semaphore::new(backup::BACKUPS_MAX)),
        }
    }

    async fn ask(
        &self,
        from: &From,
        trace: TraceId,
        timeout: u64,
        request: Asked,
    ) -> Result<Answered, Status> {
        let answered = self
            .handle
            .ask(from.caller.clone(), trace, from.limit(timeout), request)
            .await;
        answered.map_err(|refused| self.status(&refused))
    }

    /// Asks for a read: of the leader, or of this server as it is when the caller is content with that. How old it is
    /// goes into the answer's metadata.
    async fn look<A>(
        &self,
        from: &From,
        timeout: u64,
        read: Read,
        reply: impl FnOnce(Answered) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        let asked = match from.stale {
            true => Asked::Stale(read),
            false => Asked::Read(read),
        };
        match self.ask(from, draw_trace(), timeout, asked).await? {
            Answered::Stale(answered, seen) => {
                let mut response = Response::new(reply(*answered)?);
                let metadata = response.metadata_mut();
                metadata.insert(INDEX_KEY, seen.index.into());
                if let Some(age) = seen.age {
                    metadata.insert(AGE_KEY, age.into());
                }
                Ok(response)
            }
            answered => reply(answered).map(Response::new),
        }
    }

    /// Asks for a command to be applied.
    async fn apply(
        &self,
        from: &From,
        trace: TraceId,
        timeout: u64,
        request: Asked,
    ) -> Result<(Reply, bool, Option<Outlook>), Status> {
        match self.ask(from, trace, timeout, request).await? {
            Answered::Core(Answer::Applied {
                reply,
                placeable,
                outlook,
            }) => Ok((reply, placeable, outlook)),
            other => Err(unexpected(&other)),
        }
    }

    /// What a look says that follows a command which was carried out: a refusal of the look is none of the command.
    fn after<A>(&self, seen: Result<Response<A>, Status>) -> Result<Response<A>, Status> {
        use Code::{DeadlineExceeded, FailedPrecondition, ResourceExhausted};
        seen.map_err(|status| match status.code() {
            DeadlineExceeded | FailedPrecondition | ResourceExhausted => self.status(&Refused::Unknown),
            _ => status,
        })
    }

    fn status(&self, refused: &Refused) -> Status {
        let leader = match refused {
            Refused::NotLeader { leader: Some(id) } => self.roster.client_address(*id),
            _ => String::new(),
        };
        status(refused, leader)
    }

    fn rejected(&self, rejected: Rejected) -> Status {
        self.status(&Refused::Rejected(rejected))
    }
}

/// A refusal as gRPC says it: the code for everybody, the details for our own clients.
fn status(refused: &Refused, leader: String) -> Status {
    let (code, kind) = match refused {
        Refused::NotLeader { .. } => (Code::FailedPrecondition, "not_leader"),
        Refused::Overloaded { .. } => (Code::ResourceExhausted, "overloaded"),
        Refused::Unknown => (Code::Unavailable, "unknown"),
        Refused::Timeout => (Code::DeadlineExceeded, "timeout"),
        Refused::Rejected(Rejected::NotFound { .. }) => (Code::NotFound, "not_found"),
        Refused::Rejected(Rejected::Conflict { .. }) => (Code::Aborted, "conflict"),
        Refused::Rejected(Rejected::Quota { .. }) => (Code::ResourceExhausted, "quota"),
        Refused::Rejected(Rejected::Full { .. }) => (Code::ResourceExhausted, "full"),
        Refused::Rejected(_) => (Code::InvalidArgument, "rejected"),
    };
    telemetry::refused(kind);
    let details = client::refusal(refused, leader).encode_to_vec();
    Status::with_details(code, refused.to_string(), details.into())
}

/// Too much of what this server bounds: the caller comes back a little later, or goes to another one.
pub(crate) fn overloaded(what: &'static str) -> Status {
    status(&doors::overloaded(what), String::new())
}

/// What cannot be done now and perhaps in a moment, with a time to come back.
pub(crate) fn unavailable(why: &str) -> Status {
    telemetry::refused("unavailable");
    let refusal = v1::Refusal {
        message: why.to_owned(),
        retry_after_us: rand::random_range(doors::RETRY_AFTER),
        ..Default::default()
    };
    Status::with_details(Code::Unavailable, why, refusal.encode_to_vec().into())
}

/// The typed detail of a refused call; empty when there is none.
pub fn refusal_of(status: &Status) -> v1::Refusal {
    v1::Refusal::decode(status.details()).unwrap_or_default()
}

/// Who asks, and how long the transport lets the call take.
pub(crate) struct From {
    caller: Caller,
    transport_limit: Option<u64>,
    /// It need not be asked of the leader.
    stale: bool,
}

impl From {
    fn read(metadata: &MetadataMap) -> From {
        let actor = metadata
            .get(ACTOR_KEY)
            .and_then(|value| value.to_str().ok())
            .filter(|name| is_name(name));
        // What is no name is refused with the call itself.
        let environment = metadata.get(ENVIRONMENT_KEY).map(|value| value.to_str());
        let caller = Caller {
            environment: environment
                .unwrap_or(Ok(ENVIRONMENT))
                .unwrap_or_default()
                .to_owned(),
            actor: actor.unwrap_or("unknown").to_owned(),
        };
        let limit = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(grpc_timeout);
        From {
            caller,
            transport_limit: limit,
            stale: metadata.contains_key(STALE_KEY),
        }
    }

    /// Who an agent said it is to the server that relays its stream.
    pub(crate) fn relayed(head: v1::RelayHead) -> From {
        From {
            caller: Caller {
                environment: head.environment,
                actor: match is_name(&head.actor) {
                    true => head.actor,
                    false => "unknown".to_owned(),
                },
            },
            transport_limit: None,
            stale: false,
        }
    }

    fn into_probe(mut self) -> From {
        self.caller.environment = PROBE_ENVIRONMENT.to_owned();
        self
    }

    /// The call's time limit in µs: the body's, never longer than the transport's.
    fn limit(&self, asked: u64) -> u64 {
        let asked = if asked == 0 { ASK_TIMEOUT } else { asked };
        self.transport_limit
            .map_or(asked, |limit| asked.min(limit).max(1))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// gRPC's own header: up to 8 digits and a unit, here as µs.
fn grpc_timeout(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(number * 3_600_000_000),
        "M" => Some(number * 60_000_000),
        "S" => Some(number * 1_000_000),
        "m" => Some(number * 1_000),
        "u" => Some(number),
        "n" => Some(number / 1_000),
        _ => None,
    }
}

fn draw_trace() -> TraceId {
    TraceId(rand::random())
}

/// A broken promise between this module and the core.
fn unexpected(answered: &Answered) -> Status {
    match answered {
        Answered::Unreadable(why) => {
            tracing::error!(%why, "a record on disk cannot be read");
            Status::data_loss(why.clone())
        }
        other => {
            tracing::error!(?other, "an answer of another kind than the question's");
            Status::internal("the answer is of another kind than the question")
        }
    }
}

/// A client that says that it speaks another protocol is told which one is spoken here.
fn check_protocol(request: Request<()>) -> Result<Request<()>, Status> {
    let said = request.metadata().get(client::PROTOCOL_KEY);
    match said.map(|said| client::protocol(said.to_str().unwrap_or("?"))) {
        None | Some(Ok(())) => Ok(request),
        Some(Err(rejected)) => {
            tracing::warn!(why = %rejected, "a client's call was refused");
            let details = client::refusal(&Refused::Rejected(rejected.clone()), String::new());
            let details = details.encode_to_vec().into();
            Err(Status::with_details(
                Code::FailedPrecondition,
                rejected.to_string(),
                details,
            ))
        }
    }
}

/// The services as tonic takes them, with their limits.
pub fn services(api: Api, entrance: &Entrance) -> tonic::service::Routes {
    let jobs = v1::jobs_server::JobsServer::new(api.clone())
        .max_decoding_message_size(CLIENT_REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let operator = v1::operator_server::OperatorServer::new(api.clone())
        .max_decoding_message_size(CLIENT_REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let fleet = v1::fleet_server::FleetServer::new(api.clone())
        .max_decoding_message_size(CLIENT_REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let fleet = InterceptedService::new(entrance.guard(fleet), check_protocol);
    let jobs = InterceptedService::new(entrance.guard(jobs), check_protocol);
    let operator = InterceptedService::new(entrance.guard(operator), check_protocol);
    tonic::service::Routes::new(jobs)
        .add_service(operator)
        .add_service(fleet)
        .add_service(wire::Agents::new(api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_turned_away_are_told_different_times_to_come_back() {
        let hints =
            |turn: fn() -> Status| -> Vec<v1::Refusal> { (0..50).map(|_| refusal_of(&turn())).collect() };
        for (turn, kind) in [
            (
                (|| overloaded("too much")) as fn() -> Status,
                v1::refusal::Kind::Overloaded,
            ),
            (|| unavailable("not now"), v1::refusal::Kind::Unspecified),
        ] {
            let hints = hints(turn);
            assert!(hints.iter().all(|hint| hint.kind() == kind));
            let times: std::collections::BTreeSet<u64> =
                hints.iter().map(|hint| hint.retry_after_us).collect();
            assert!(
                times.iter().all(|time| doors::RETRY_AFTER.contains(time)),
                "{times:?}"
            );
            assert!(times.len() > 1, "{times:?}");
        }
        assert_eq!(overloaded("x").code(), Code::ResourceExhausted);
        assert_eq!(unavailable("x").code(), Code::Unavailable);
    }

    #[test]
    fn the_shorter_limit_counts() {
        let from = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            From::read(&metadata)
        };
        assert_eq!(from("200m").limit(0), 200_000);
        assert_eq!(from("200m").limit(100), 100);
        assert_eq!(from("1H").limit(0), ASK_TIMEOUT);
        assert_eq!(from("0n").limit(50), 1, "0 would mean the default");
        for bad in ["", "m", "999999999S", "1x", "-1S", "é"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn environments_are_as_the_caller_says() {
        let from = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(ENVIRONMENT_KEY, text.parse().unwrap());
            From::read(&metadata).caller.environment
        };
        assert_eq!(from("shelves"), "shelves");
        assert_eq!(from(""), "", "refused later");
        assert_eq!(From::read(&MetadataMap::new()).caller.environment, ENVIRONMENT);
    }

    #[test]
    fn a_client_from_the_future_is_told_which_protocol_is_spoken() {
        let call = |said: Option<&'static str>| {
            let mut request = Request::new(());
            if let Some(said) = said {
                let said = tonic::metadata::MetadataValue::from_static(said);
                request.metadata_mut().insert(client::PROTOCOL_KEY, said);
            }
            check_protocol(request).map(|_| ())
        };
        assert!(call(None).is_ok(), "any other gRPC client");
        assert!(call(Some("1")).is_ok());
        for future in ["2", "1.1", "", "-1"] {
            let status = call(Some(future)).unwrap_err();
            let refusal = refusal_of(&status);
            assert_eq!(
                (refusal.kind(), refusal.field.as_str()),
                (v1::refusal::Kind::Rejected, "protocol")
            );
            assert!(status.message().contains("this server 1;"), "{status}");
        }
    }

    #[test]
    fn actors_are_bounded() {
        let from = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(ACTOR_KEY, text.parse().unwrap());
            From::read(&metadata).caller.actor
        };
        assert_eq!(from("ada"), "ada");
        assert_eq!(from(&"x".repeat(NAME_BYTES_MAX + 1)), "unknown");
        assert_eq!(From::read(&MetadataMap::new()).caller.actor, "unknown");
    }
}
