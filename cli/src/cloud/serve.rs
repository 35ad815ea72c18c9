//! The local cloud over HTTP on loopback: calls and prices for servers, and each machine's metadata service, which speaks
//! IMDSv2 below `/machines/ID/`.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rebound_core::cloud::CloudCall;
use rebound_core::types::{InstanceId, Time};
use tokio::net::TcpListener;

use super::{LocalCloud, Moment};

/// Longest call, in bytes.
const CALL_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// After a connection that could not be taken.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// The path of what a machine is told of its end.
const ACTION: &str = "latest/meta-data/spot/instance-action";
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// Serves until it is stopped.
pub(super) async fn serve(cloud: LocalCloud, listener: TcpListener) {
    let mut stop = cloud.stop.clone();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say: others may end meanwhile.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let (cloud, mut stop) = (cloud.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let cloud = cloud.clone();
                async move { Ok::<_, Infallible>(answer(&cloud, request).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                _ = builder.serve_connection(TokioIo::new(stream), service) => {}
            }
        });
    }
}

async fn answer(cloud: &LocalCloud, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let machine = path
        .strip_prefix("/machines/")
        .and_then(|rest| rest.split_once('/'));
    match (request.method(), path.as_str(), machine) {
        (&Method::POST, "/call", _) => call(cloud, request).await,
        (&Method::GET, "/bill", _) => bill(cloud),
        (&Method::GET, "/prices", _) => prices(cloud, request.uri().query().unwrap_or_default()),
        (method, _, Some((id, rest))) => {
            let has_token = request.headers().contains_key(TOKEN);
            metadata(cloud, method, &InstanceId(id.to_owned()), rest, has_token)
        }
        _ => text(StatusCode::NOT_FOUND, "no such path"),
    }
}

async fn call(cloud: &LocalCloud, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = match Limited::new(request.into_body(), CALL_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let call: CloudCall = match serde_json::from_slice(&body) {
        Ok(call) => call,
        Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let trap = cloud
        .trap
        .as_ref()
        .and_then(|trap| Some((trap, trap.moment(&call)?)));
    if let Some((trap, Moment::Uncalled)) = trap {
        trap.hold(Moment::Uncalled).await;
        return text(StatusCode::SERVICE_UNAVAILABLE, "nothing was done");
    }
    let outcome = cloud.call(&call);
    if let Some((trap, moment)) = trap {
        trap.hold(moment).await;
        return text(StatusCode::SERVICE_UNAVAILABLE, "the answer is lost");
    }
    match serde_json::to_vec(&outcome) {
        Ok(outcome) => Response::new(Full::new(outcome.into())),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn prices(cloud: &LocalCloud, query: &str) -> Response<Full<Bytes>> {
    let since = query.strip_prefix("since=").and_then(|since| since.parse().ok());
    match since {
        Some(since) => {
            let now = cloud.clock.now();
            let first = now.0.saturating_sub(rebound_pricer::teller::LATELY);
            let csv = cloud.played.csv(Time(first.max(since)), now);
            Response::new(Full::new(csv.into()))
        }
        None => text(StatusCode::BAD_REQUEST, "since: write µs since 1970"),
    }
}

fn bill(cloud: &LocalCloud) -> Response<Full<Bytes>> {
    let hours = cloud.bill(rebound_core::limits::BILL_HOURS);
    match serde_json::to_vec(&hours) {
        Ok(hours) => Response::new(Full::new(hours.into())),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn metadata(
    cloud: &LocalCloud,
    method: &Method,
    id: &InstanceId,
    path: &str,
    has_token: bool,
) -> Response<Full<Bytes>> {
    let notice = match cloud.lock().hosts.get(id) {
        Some(host) => host.notice,
        None => return text(StatusCode::NOT_FOUND, "no such machine"),
    };
    match (method, path) {
        (&Method::PUT, "latest/api/token") => text(StatusCode::OK, &format!("token-of-{id}")),
        (&Method::GET, _) if !has_token => text(StatusCode::UNAUTHORIZED, "no token"),
        (&Method::GET, ACTION) => match notice {
            Some(real) => text(
                StatusCode::OK,
                &format!(r#"{{"action": "terminate", "time": "{}"}}"#, timestamp(real)),
            ),
            None => text(StatusCode::NOT_FOUND, "nothing is to come"),
        },
        _ => text(StatusCode::NOT_FOUND, "no such path"),
    }
}

/// µs since 1970 as EC2 writes times, with three digits of a second more.
fn timestamp(us: u64) -> String {
    let at = jiff::Timestamp::from_microsecond(i64::try_from(us).unwrap_or(i64::MAX))
        .unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn text(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(words.to_owned())));
    *response.status_mut() = status;
    response
}
