//! A cloud on this machine, over HTTP on loopback: for `rebound dev`. It is a process of its own, since it must outlive
//! each of the servers that call it, as EC2 does.
//!
//! `POST /call` takes a [`CloudCall`] and answers a [`CloudOutcome`], both as JSON; `GET /prices?since=µs` answers spot
//! prices in a form that the pricer reads.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::types::Time;
use rebound_pricer::feed::{Parsed, parse};
use rebound_pricer::health::Told;
use rebound_pricer::limits::FILE_BYTES_MAX;
use rebound_pricer::pool::ZoneNames;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Cloud;

/// A call has no answer after so long.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer to a call, in bytes.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    address: SocketAddr,
}

/// Why there is no answer.
enum Failed {
    /// It was never asked.
    Unsent(String),
    /// It may have been.
    Unknown(String),
}

impl Local {
    /// The one at an address of loopback.
    pub fn new(address: SocketAddr) -> Local {
        Local { address }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes, most: usize) -> Result<Bytes, Failed> {
        let unsent = |error: &dyn std::fmt::Display| Failed::Unsent(format!("{}: {error}", self.address));
        let unknown = |error: &dyn std::fmt::Display| Failed::Unknown(format!("{}: {error}", self.address));
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|error| unsent(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unsent(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .body(Full::new(body))
            .map_err(|error| unsent(&error))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| unknown(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| unknown(&error))?.to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            status => Err(Failed::Unknown(format!("{}: status {status}", self.address))),
        }
    }
}

#[tonic::async_trait]
impl Cloud for Local {
    async fn call(&self, call: &CloudCall) -> CloudOutcome {
        let body = match serde_json::to_vec(call) {
            Ok(body) => body.into(),
            Err(error) => {
                return CloudOutcome::Refused {
                    why: format!("the call cannot be written: {error}"),
                };
            }
        };
        let asked = self.ask(Method::POST, "/call", body, ANSWER_BYTES_MAX);
        match timeout(CALL_TIMEOUT, asked).await {
            Ok(Ok(answer)) => serde_json::from_slice(&answer).unwrap_or_else(|error| {
                tracing::warn!(%error, "the cloud's answer is none");
                CloudOutcome::Unknown
            }),
            Ok(Err(Failed::Unsent(why))) => {
                tracing::warn!(why, "the cloud was not reached");
                CloudOutcome::Retry { after: 0 }
            }
            Ok(Err(Failed::Unknown(why))) => {
                tracing::warn!(why, "nobody knows what came of a call of the cloud");
                CloudOutcome::Unknown
            }
            Err(_) => CloudOutcome::Unknown,
        }
    }

    async fn bill(&self) -> Result<Vec<(u64, u64)>, String> {
        let asked = self.ask(Method::GET, "/bill", Bytes::new(), ANSWER_BYTES_MAX);
        match timeout(CALL_TIMEOUT, asked).await {
            Ok(Ok(answer)) => serde_json::from_slice(&answer).map_err(|error| error.to_string()),
            Ok(Err(Failed::Unsent(why) | Failed::Unknown(why))) => Err(why),
            Err(_) => Err(format!("{}: no answer in time", self.address)),
        }
    }

    async fn prices(&self, since: Time) -> Result<Vec<Told>, String> {
        let path = format!("/prices?since={}", since.0);
        let most = usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX);
        let asked = self.ask(Method::GET, &path, Bytes::new(), most);
        let answer = match timeout(CALL_TIMEOUT, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Failed::Unsent(why) | Failed::Unknown(why))) => return Err(why),
            Err(_) => return Err(format!("{}: no answer in time", self.address)),
        };
        if answer.is_empty() {
            return Ok(Vec::new());
        }
        match parse("prices", answer.to_vec(), &ZoneNames::new(), None) {
            Ok((_, Parsed::Prices(prices))) => Ok(prices.told),
            Ok(_) => Err("what the cloud answers has no prices".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
