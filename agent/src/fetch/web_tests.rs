use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers each request by its path, as raw HTTP/1.1; the connection ends behind each answer.
async fn serve(answer: fn(&str) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
            let path = asked.split(' ').nth(1).unwrap_or_default();
            let _ = stream.write_all(answer(path).as_bytes()).await;
        }
    });
    format!("http://{address}")
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn web(dir: &Path, allowed: &str, max_photo: u64, max_loaded: u64) -> Web {
    let allowed = vec![parse_allowed(allowed).expect("a place")];
    Web::open(dir.join("photos"), allowed, max_photo, max_loaded).expect("a folder")
}

async fn load(web: &Web, uri: &str) -> Result<Loaded, Failure> {
    let room = web.room(web.ask_for_room()).await?;
    web.load(uri, room).await
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("photos")).expect("the folder").count()
}

#[tokio::test]
async fn a_photo_is_in_a_file_while_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let place = serve(|path| ok(&format!("photo {path}"))).await;
    let web = web(dir.path(), &format!("{place}/visits/"), 100, 100);
    let photo = load(&web, &format!("{place}/visits/1.jpg?sign=x")).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(photo.path()).unwrap(),
        "photo /visits/1.jpg?sign=x"
    );
    drop(photo);
    assert_eq!(files(dir.path()), 0);
}

#[tokio::test]
async fn answers_have_their_causes() {
    let dir = tempfile::tempdir().unwrap();
    let place = serve(|path| match path {
        "/gone" => status("404 Not Found"),
        "/denied?sign=secret" => status("403 Forbidden"),
        "/busy" => status("503 Service Unavailable"),
        "/slowly" => status("429 Too Many Requests"),
        "/moved" => status("302 Found\r\nLocation: http://169.254.169.254/"),
        "/empty" => ok(""),
        "/large" => ok(&"x".repeat(101)),
        "/pieces" => {
            let piece = format!("50\r\n{}\r\n", "x".repeat(0x50));
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{piece}{piece}0\r\n\r\n")
        }
        "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort".to_string(),
        _ => "no HTTP at all".to_string(),
    })
    .await;
    let web = web(dir.path(), &format!("{place}/"), 100, 1000);
    let table = [
        ("/gone", Cause::Fetch, "answered 404 Not Found"),
        (
            "/denied?sign=secret",
            Cause::Input,
            "/denied answered 403 Forbidden",
        ),
        ("/busy", Cause::Fetch, "answered 503"),
        ("/slowly", Cause::Fetch, "answered 429"),
        ("/moved", Cause::Input, "redirects are not followed"),
        ("/empty", Cause::Input, "is empty"),
        (
            "/large",
            Cause::Input,
            "has 101 bytes or more; at most 100 are taken",
        ),
        ("/pieces", Cause::Input, "at most 100 are taken"),
        ("/cut", Cause::Fetch, "cannot be loaded"),
        ("/nonsense", Cause::Fetch, "cannot be loaded"),
    ];
    for (path, cause, message) in table {
        let failure = load(&web, &format!("{place}{path}")).await.unwrap_err();
        assert_eq!(failure.cause, cause, "{path}: {}", failure.message);
        assert!(failure.message.contains(message), "{path}: {}", failure.message);
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
    assert_eq!(files(dir.path()), 0);
}

#[tokio::test]
async fn nothing_is_loaded_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let web = web(dir.path(), "https://photos.example/visits/", 100, 100);
    let table = [
        ("http://photos.example/visits/1.jpg", Cause::Fetch),
        ("https://photos.example:8443/visits/1.jpg", Cause::Fetch),
        ("https://photos.example.evil.example/visits/1.jpg", Cause::Fetch),
        ("https://photos.example/other/1.jpg", Cause::Fetch),
        ("https://photos.example/visits/../other/1.jpg", Cause::Fetch),
        ("https://photos.example/visits/%2e%2e/other/1.jpg", Cause::Fetch),
        ("http://169.254.169.254/latest/meta-data/", Cause::Fetch),
        (
            "https://photos.example@169.254.169.254/visits/1.jpg",
            Cause::Input,
        ),
        ("https://:80:80/", Cause::Input),
    ];
    for (uri, cause) in table {
        assert_eq!(web.permitted(uri).unwrap_err().cause, cause, "{uri}");
    }
    for uri in [
        "https://photos.example/visits/1.jpg?a=b",
        "HTTPS://PHOTOS.example:443/visits/a/b.jpg",
    ] {
        assert!(web.permitted(uri).is_ok(), "{uri}");
    }
}

#[tokio::test]
async fn the_disk_takes_no_more_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let place = serve(|_| ok(&"x".repeat(1500))).await;
    let web = web(dir.path(), &format!("{place}/"), 2048, 2048);
    let uri = format!("{place}/1.jpg");
    let first = load(&web, &uri).await.unwrap();
    let second = load(&web, &uri);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(early.is_err(), "there is room for one of them only");
    drop(first);
    let waited = Instant::now();
    second.await.expect("there is room again");
    assert!(waited.elapsed() < READ_TIMEOUT);
}

#[tokio::test]
async fn room_is_had_in_the_order_of_asking() {
    let dir = tempfile::tempdir().unwrap();
    let place = serve(|_| ok(&"x".repeat(1500))).await;
    let web = web(dir.path(), &format!("{place}/"), 2048, 2048);
    let uri = format!("{place}/1.jpg");
    let (first, second, third) = (web.ask_for_room(), web.ask_for_room(), web.ask_for_room());
    // Whoever looks at them first: they come in order.
    let (third, second) = (web.room(third), web.room(second));
    tokio::pin!(third, second);
    let held = web.load(&uri, web.room(first).await.unwrap()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), &mut third).await;
    assert!(early.is_err());
    drop(held);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut third).await;
    assert!(early.is_err(), "the second's room is not the third's");
    drop(second.await.unwrap());
    assert!(third.await.is_ok());
}

#[test]
fn what_an_agent_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("photos")).unwrap();
    std::fs::write(dir.path().join("photos/photo-1"), "old").unwrap();
    web(dir.path(), "http://a.example/", 1, 1);
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn places_are_beginnings_of_urls() {
    let table = [
        ("photos.example/", "is no URL"),
        ("ftp://photos.example/", "is not of http or https"),
        ("https://user@photos.example/", "has a user name in it"),
        ("https://photos.example/?a", "has a query or a fragment"),
        ("https://photos.example/visits", "does not end with /"),
    ];
    for (text, why) in table {
        let message = parse_allowed(text).unwrap_err();
        assert!(message.contains(why), "{text}: {message}");
    }
    assert!(
        parse_allowed("https://photos.example").is_ok(),
        "a host alone ends with / by itself"
    );
}

#[test]
fn web_uris_are_told_from_others() {
    assert!(is_web("https://a/") && is_web("HTTP://a/"));
    assert!(!is_web("file:///http://a") && !is_web("http:/a") && !is_web("é"));
    assert_eq!(shown("https://a/b?sign=x#y"), "https://a/b");
    assert_eq!(shown(&"é".repeat(200)).len(), SHOWN_BYTES);
}
