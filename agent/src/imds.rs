//! The machine's own metadata service: what EC2 says of the machine, and whether it is about to take it back.
//!
//! IMDSv2 alone: a token is asked for with a PUT and sent with each question
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>). EC2 says "terminate" with a time some
//! two minutes ahead, and recommends to look every 5 seconds
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>); notices are best effort.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url, redirect};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

/// Where EC2 has it.
pub const ENDPOINT: &str = "http://169.254.169.254/";
/// How often it is asked whether the machine will be taken back.
pub const WATCH_EVERY: Duration = Duration::from_secs(1);
/// A question has no answer after so long.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// A token is asked for so long; EC2 takes up to six hours.
pub const TOKEN_FOR: Duration = Duration::from_secs(3_600);
/// Longest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4_096;

const TOKEN_TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aws-ec2-metadata-token";
const ACTION: &str = "latest/meta-data/spot/instance-action";
const REBALANCE: &str = "latest/meta-data/events/recommendations/rebalance";

/// Why it did not answer.
#[derive(Debug, Error)]
pub enum ImdsError {
    /// No way to it, or no answer in time.
    #[error("{path}: {error}")]
    Unreachable {
        /// What was asked.
        path: String,
        /// What went wrong.
        error: String,
    },
    /// An answer that is none.
    #[error("{path}: {why}")]
    Odd {
        /// What was asked.
        path: String,
        /// What is wrong with the answer.
        why: String,
    },
}

/// What EC2 says is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The machine ends at this time, in µs since 1970.
    Ends {
        /// See above.
        at_us: u64,
    },
    /// It is likelier to be taken back than others.
    Rebalance,
}

/// The metadata service.
pub struct Imds {
    client: Client,
    base: Url,
    token: Option<(String, Instant)>,
}

#[derive(Deserialize)]
struct Action {
    action: String,
    time: String,
}

impl Imds {
    /// The one at `base`, which ends with `/`.
    ///
    /// # Errors
    ///
    /// When no client can be made.
    pub fn new(base: Url) -> Result<Imds, ImdsError> {
        // The client wants to know how it would speak TLS, though it never does. A second word is refused; the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .build();
        let client = client.map_err(|error| ImdsError::Unreachable {
            path: base.to_string(),
            error: error.to_string(),
        })?;
        Ok(Imds {
            client,
            base,
            token: None,
        })
    }

    /// What it says about a path; none where it says that there is nothing.
    ///
    /// # Errors
    ///
    /// When it does not answer, or answers something else.
    pub async fn get(&mut self, path: &str) -> Result<Option<String>, ImdsError> {
        // A token may have been forgotten by a service that was started anew.
        for fresh in [false, true] {
            let token = self.token(fresh).await?;
            let (status, body) = self.ask(Method::GET, path, (TOKEN, &token)).await?;
            match status {
                StatusCode::OK => return Ok(Some(body)),
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::UNAUTHORIZED if !fresh => {}
                other => return Err(odd(path, format!("status {other}"))),
            }
        }
        Err(odd(path, "it takes no token".to_owned()))
    }

    /// Whether the machine will be taken back.
    ///
    /// # Errors
    ///
    /// As [`Imds::get`].
    pub async fn notice(&mut self) -> Result<Option<Notice>, ImdsError> {
        if let Some(body) = self.get(ACTION).await? {
            return parse_action(&body).map(Some).map_err(|why| odd(ACTION, why));
        }
        let rebalance = self.get(REBALANCE).await?;
        Ok(rebalance.map(|_| Notice::Rebalance))
    }

    async fn token(&mut self, fresh: bool) -> Result<String, ImdsError> {
        if let Some((token, until)) = &self.token
            && !fresh
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let path = "latest/api/token";
        let ttl = TOKEN_FOR.as_secs().to_string();
        let (status, token) = self.ask(Method::PUT, path, (TOKEN_TTL, &ttl)).await?;
        if status != StatusCode::OK || token.is_empty() {
            return Err(odd(path, format!("status {status}")));
        }
        // Asked for anew before it ends.
        self.token = Some((token.clone(), Instant::now() + TOKEN_FOR / 2));
        Ok(token)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: (&str, &str),
    ) -> Result<(StatusCode, String), ImdsError> {
        let unreachable = |error: reqwest::Error| ImdsError::Unreachable {
            path: path.to_owned(),
            error: error.without_url().to_string(),
        };
        let url = self
            .base
            .join(path)
            .map_err(|error| odd(path, error.to_string()))?;
        let request = self.client.request(method, url).header(header.0, header.1);
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(odd(path, format!("more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        let body = String::from_utf8(body).map_err(|_| odd(path, "no text".to_owned()))?;
        Ok((status, body))
    }
}

fn odd(path: &str, why: String) -> ImdsError {
    ImdsError::Odd {
        path: path.to_owned(),
        why,
    }
}

/// Both what ends a machine and what stops it take it away from its photos.
fn parse_action(body: &str) -> Result<Notice, String> {
    let action: Action = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let at_us = parse_time(&action.time).ok_or_else(|| format!("{:?} is no time", action.time))?;
    match action.action.as_str() {
        "terminate" | "stop" | "hibernate" => Ok(Notice::Ends { at_us }),
        other => Err(format!("{other:?} is no action")),
    }
}

/// `2026-11-23T05:55:29Z` in µs since 1970: the one form in which EC2 writes it. Clouds that play a market fast add three
/// digits of a second.
fn parse_time(text: &str) -> Option<u64> {
    let (text, ms) = match text.split_once('.') {
        None => (text.to_owned(), 0),
        Some((seconds, rest)) => {
            let digits = rest.strip_suffix('Z').filter(|digits| digits.len() == 3)?;
            (format!("{seconds}Z"), digits.parse::<u16>().ok()?)
        }
    };
    let shape = text.len() == 20
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            19 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !shape || year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from civil: years begin in March, so that a leap day is the last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + u64::from(ms) * 1_000)
}

/// Asks again and again, and tells each notice once. Ends when nobody listens.
pub async fn watch(mut imds: Imds, every: Duration, tell: mpsc::Sender<Notice>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut fails) = (None, false);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tell.closed() => return,
        }
        match imds.notice().await {
            Ok(notice) => {
                fails = false;
                if let Some(new) = notice.filter(|new| told != Some(*new)) {
                    info!(notice = ?new, "the machine will be taken back");
                    told = Some(new);
                    if tell.send(new).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                if !fails {
                    warn!(%error, "the machine's metadata service does not answer");
                }
                fails = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
