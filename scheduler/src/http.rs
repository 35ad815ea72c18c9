//! `/metrics` and `/healthz`.

use std::convert::Infallible;
use std::sync::Weak;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::node::{Handle, Standing};
use crate::store::Disk;
use crate::telemetry;

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for a request's head.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, handle: Handle, disk: Weak<Disk>, mut stop: watch::Receiver<bool>) {
    let room = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say: others may end meanwhile.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (handle, disk, mut stop) = (handle.clone(), disk.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request, &handle, &disk);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                _ = builder.serve_connection(TokioIo::new(stream), service) => {}
            }
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, handle: &Handle, disk: &Weak<Disk>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/metrics" => metrics(disk),
        "/healthz" => health(&handle.standing()),
        _ => text(
            StatusCode::NOT_FOUND,
            "text/plain",
            "try /metrics or /healthz\n".to_owned(),
        ),
    }
}

fn metrics(disk: &Weak<Disk>) -> Response<Full<Bytes>> {
    if let Some(disk) = disk.upgrade() {
        telemetry::store_memory(&disk.memory());
    }
    match telemetry::render() {
        Some(figures) => text(StatusCode::OK, "text/plain; version=0.0.4", figures),
        None => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "no recorder\n".to_owned(),
        ),
    }
}

/// Well means: somebody leads, as far as this server knows.
fn health(standing: &Standing) -> Response<Full<Bytes>> {
    let status = &standing.status;
    let code = if status.leader.is_some() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({
        "role": status.role,
        "ready": status.ready,
        "leader": status.leader.map(|id| id.0),
        "term": status.term,
        "committed": status.committed,
        "applied": status.applied,
    });
    text(code, "application/json", format!("{body}\n"))
}

fn text(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
