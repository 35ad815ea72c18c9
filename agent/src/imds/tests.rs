//! Tests against a metadata service on loopback.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What the service says, by path; and the token that it takes.
#[derive(Default)]
struct Said {
    paths: BTreeMap<String, String>,
    token: u32,
    asked: u32,
}

async fn service(said: Arc<Mutex<Said>>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let said = said.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while let Ok(read) = stream.read_buf(&mut bytes).await {
                    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                        if read == 0 {
                            return;
                        }
                        continue;
                    };
                    let request = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                    bytes.drain(..end + 4);
                    let (status, body) = answer(&mut said.lock().expect("unpoisoned"), &request);
                    let text = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Url::parse(&format!("http://{address}/")).expect("an address")
}

fn answer(said: &mut Said, request: &str) -> (&'static str, String) {
    said.asked += 1;
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if method == "put" && path == "/latest/api/token" && request.contains("token-ttl-seconds: 3600") {
        return ("200 OK", format!("token-{}", said.token));
    }
    if !request.contains(&format!("metadata-token: token-{}", said.token)) {
        return ("401 Unauthorized", String::new());
    }
    match said.paths.get(path) {
        Some(body) => ("200 OK", body.clone()),
        None => ("404 Not Found", String::new()),
    }
}

fn says(said: &Mutex<Said>, path: &str, body: &str) {
    said.lock()
        .expect("unpoisoned")
        .paths
        .insert(format!("/{path}"), body.to_owned());
}

#[tokio::test]
async fn a_notice_is_told_once_and_a_newer_one_again() {
    let said = Arc::new(Mutex::new(Said::default()));
    let mut imds = Imds::new(service(said.clone()).await).expect("a client");
    assert_eq!(imds.notice().await.expect("an answer"), None);
    says(&said, REBALANCE, r#"{"noticeTime": "2026-11-23T05:55:00Z"}"#);
    let (tell, mut told) = mpsc::channel(4);
    let watching = tokio::spawn(watch(imds, Duration::from_millis(5), tell));
    assert_eq!(told.recv().await, Some(Notice::Rebalance));
    says(
        &said,
        ACTION,
        r#"{"action": "terminate", "time": "2026-11-23T05:57:29Z"}"#,
    );
    let at_us = 1_795_413_449_000_000;
    assert_eq!(told.recv().await, Some(Notice::Ends { at_us }));
    assert!(told.try_recv().is_err());
    drop(told);
    watching.await.expect("it ends when nobody listens");
}

#[tokio::test]
async fn a_token_that_is_refused_is_asked_for_anew() {
    let said = Arc::new(Mutex::new(Said::default()));
    let mut imds = Imds::new(service(said.clone()).await).expect("a client");
    says(&said, "latest/meta-data/instance-id", "i-0123");
    let id = imds.get("latest/meta-data/instance-id").await.expect("an answer");
    assert_eq!(id.as_deref(), Some("i-0123"));
    let asked = said.lock().expect("unpoisoned").asked;
    imds.get("latest/meta-data/instance-id").await.expect("an answer");
    assert_eq!(
        said.lock().expect("unpoisoned").asked,
        asked + 1,
        "with the same token"
    );
    said.lock().expect("unpoisoned").token = 7;
    let id = imds.get("latest/meta-data/instance-id").await.expect("an answer");
    assert_eq!(id.as_deref(), Some("i-0123"));
}

#[tokio::test]
async fn what_is_no_answer_is_told_with_its_path() {
    let said = Arc::new(Mutex::new(Said::default()));
    let mut imds = Imds::new(service(said.clone()).await).expect("a client");
    for (body, word) in [
        ("", "EOF"),
        (r#"{"action": "dance", "time": "2026-11-23T05:57:29Z"}"#, "dance"),
        (r#"{"action": "stop", "time": "soon"}"#, "soon"),
        (&"x".repeat(ANSWER_BYTES_MAX + 1), "4096 bytes"),
    ] {
        says(&said, ACTION, body);
        let error = imds.notice().await.expect_err("odd").to_string();
        assert!(error.starts_with(ACTION) && error.contains(word), "{error}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}/", nobody.local_addr().expect("bound"));
    drop(nobody);
    let mut imds = Imds::new(Url::parse(&base).expect("an address")).expect("a client");
    assert!(matches!(imds.notice().await, Err(ImdsError::Unreachable { .. })));
}

#[test]
fn times_are_of_one_form() {
    let of = |text: &str| parse_time(text).map(|us| us / 1_000_000);
    assert_eq!(of("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(of("2000-02-29T12:00:01Z"), Some(951_825_601));
    assert_eq!(of("2026-11-23T05:57:29Z"), Some(1_795_413_449));
    for bad in [
        "2026-11-23 05:57:29Z",
        "2026-13-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-1-1T0:0:0Z",
        "",
        "1969-12-31T23:59:59Z",
        "2026-01-01T24:00:00Z",
        "+026-01-01T00:00:00Z",
    ] {
        assert_eq!(of(bad), None, "{bad}");
    }
}
