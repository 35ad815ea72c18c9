//! Photos of `https://`: a server of the test's own hands them out, an agent loads them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rebound_tests::{Cluster, recogniser};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Serves `/visits/N` as the text `shelf N`, and nothing else, until the process ends. Gives its address, and the file
/// of the certificate that it shows.
fn serve(dir: &Path) -> (SocketAddr, PathBuf) {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let file = dir.join("photos.pem");
    fs::write(&file, made.cert.pem()).expect("a file can be written");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key of ours");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
        });
    let config = Arc::new(config.expect("a configuration of ours"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = config.clone();
            // Whoever does not trust the certificate hangs up: nothing to tell.
            thread::spawn(move || answer(stream, config));
        }
    });
    (address, file)
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> Option<()> {
    let connection = ServerConnection::new(config).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut asked = String::new();
    stream.by_ref().take(4096).read_line(&mut asked).ok()?;
    let path = asked.split(' ').nth(1)?;
    let (status, body) = match path.strip_prefix("/visits/") {
        Some(photo) => ("200 OK", format!("shelf {photo}")),
        None => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let stream = stream.get_mut();
    stream.write_all((head + &body).as_bytes()).ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

#[test]
fn photos_come_from_the_places_the_agent_was_told_of() {
    let mut cluster = Cluster::start();
    let (address, certificate) = serve(cluster.dir());
    let place = format!("https://localhost:{}/visits/", address.port());
    let folder = cluster.dir().join("recognisers");
    recogniser::script(&folder, "reads", "printf '\"%s\"' \"$(cat \"$0\")\"", "", "");
    let mut command = cluster.agent_command("a", 2, Some(&folder));
    command
        .args(["--allow-url", &place])
        .env("SSL_CERT_FILE", &certificate);
    cluster.start_agent_by("a", command);

    let list: String = (1..=40)
        .map(|photo| format!("{place}{photo}?sign=secret\n"))
        .collect();
    let file = cluster.dir().join("photos.txt");
    fs::write(&file, list).expect("a file can be written");
    let file = file.to_str().expect("a path of ours is UTF-8");
    let job = cluster.submit(0, &[file, "--recogniser", "reads", "--wait"]);
    for (at, result) in cluster.results(job).iter().enumerate() {
        assert_eq!(
            result["output"],
            format!("\"shelf {}?sign=secret\"", at + 1),
            "{result}"
        );
    }
    let left = fs::read_dir(cluster.dir().join("spool-a/photos")).expect("the agent's folder");
    assert_eq!(left.count(), 0, "what was loaded is gone with its result");

    let port = address.port();
    let elsewhere = [
        (
            format!("https://localhost:{port}/other/1"),
            "is not below a URL of this worker's --allow-url",
        ),
        (
            format!("http://localhost:{port}/visits/1"),
            "is not below a URL of this worker's --allow-url",
        ),
    ];
    for (uri, says) in elsewhere {
        let job = cluster.submit(9, &[&uri, "--recogniser", "reads", "--wait"]);
        let result = &cluster.results(job)[0];
        let message = result["message"].as_str().unwrap_or_default();
        assert!(
            result["cause"] == "fetch" && message.contains(says),
            "{uri}: {result}"
        );
    }
    let log = cluster.agent_log("a");
    assert!(!log.contains("secret"), "{log}");

    // One that does not know the certificate loads nothing.
    cluster.agent("a").signal(libc::SIGTERM);
    assert_eq!(cluster.agent_ended("a"), Some(0));
    let mut command = cluster.agent_command("b", 1, Some(&folder));
    command.args(["--allow-url", &place]);
    cluster.start_agent_by("b", command);
    let job = cluster.submit(9, &[&format!("{place}1"), "--recogniser", "reads", "--wait"]);
    let result = &cluster.results(job)[0];
    let message = result["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("cannot be loaded") && message.contains("ertificate"),
        "{result}"
    );
    cluster.finish();
}
