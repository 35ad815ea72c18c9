//! A server's own figures, from its `/metrics`.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exit::Failure;

/// Longest wait for an answer.
const WITHIN: Duration = Duration::from_secs(10);

/// All figures of a server at one time.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    text: String,
}

impl Scrape {
    /// Asks the server at this address.
    pub async fn of(address: &str) -> Result<Scrape, Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::failed(format!("{address}/metrics: {why}"));
        let asked = async {
            let mut stream = TcpStream::connect(address).await?;
            let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        match tokio::time::timeout(WITHIN, asked).await {
            Ok(Ok(text)) => Ok(Scrape { text }),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"no answer in time")),
        }
    }

    /// The value of the line that begins so, labels included: `name{label="value"}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.text.lines().find_map(|line| {
            let rest = line.strip_prefix(series)?.strip_prefix(' ')?;
            rest.trim().parse().ok()
        })
    }

    /// As a whole number; 0 when it is not there yet.
    pub fn count(&self, series: &str) -> u64 {
        self.value(series).unwrap_or(0.0) as u64
    }

    /// Writes of the store that were synced.
    pub fn syncs(&self) -> u64 {
        self.count("rebound_store_write_seconds_count{synced=\"true\"}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let text = "# TYPE a counter\na_total 3\na{b=\"c\"} 7\na{b=\"cd\"} 9\n".to_owned();
        let scrape = Scrape { text };
        assert_eq!(scrape.value("a{b=\"c\"}"), Some(7.0));
        assert_eq!(scrape.value("a_total"), Some(3.0));
        assert_eq!(scrape.value("a"), None);
        assert_eq!(scrape.count("b"), 0);
    }
}
