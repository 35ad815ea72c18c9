//! What is known of the market beforehand, from files: on-demand prices, bands of interruption, measured machines, and
//! which machines may be used.

use std::path::{Path, PathBuf};

use rebound_pricer::eligible::Limits;
use rebound_pricer::error::FileError;
use rebound_pricer::feed::{Parsed, parse};
use rebound_pricer::limits::FILE_BYTES_MAX;
use rebound_pricer::pool::ZoneNames;
use rebound_pricer::teller::Beforehand;
use rebound_pricer::throughput::Throughputs;

use crate::config::MarketConfig;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is not as it should be.
    #[error(transparent)]
    File(FileError),
    /// It is something else than what is wanted there.
    #[error("{path}: {why}")]
    Other {
        /// Which.
        path: PathBuf,
        /// What it should be.
        why: String,
    },
}

/// Reads what a configuration names.
///
/// # Errors
///
/// The first file that cannot be used.
pub fn load(config: &MarketConfig) -> Result<Beforehand, FilesError> {
    let mut all = Beforehand {
        pools: config.pools.clone(),
        ..Beforehand::default()
    };
    for path in &config.files {
        let other = |why: &str| FilesError::Other {
            path: path.clone(),
            why: why.to_owned(),
        };
        let (_, parsed) =
            parse(&name(path), bytes(path)?, &ZoneNames::new(), None).map_err(FilesError::File)?;
        match parsed {
            Parsed::OnDemand(listed) => all.on_demand.merge(listed).map_err(|why| other(&why))?,
            Parsed::Advisor(advice) => all.advice.merge(advice),
            Parsed::Prices(_) | Parsed::Capacity(_) => {
                return Err(other(
                    "is a recording of spot prices or of capacity; name lists of on-demand prices and advisor's bands",
                ));
            }
        }
    }
    if let Some(path) = &config.throughput {
        all.throughputs = Throughputs::parse(&name(path), &text(path)?).map_err(FilesError::File)?;
    }
    if let Some(path) = &config.limits {
        all.limits = Limits::parse(&name(path), &text(path)?).map_err(FilesError::File)?;
    }
    Ok(all)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn bytes(path: &Path) -> Result<Vec<u8>, FilesError> {
    let read = |error| FilesError::Read {
        path: path.to_owned(),
        error,
    };
    if std::fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
        return Err(FilesError::Other {
            path: path.to_owned(),
            why: format!("is larger than {} MiB", FILE_BYTES_MAX >> 20),
        });
    }
    std::fs::read(path).map_err(read)
}

fn text(path: &Path) -> Result<String, FilesError> {
    String::from_utf8(bytes(path)?).map_err(|_| FilesError::Other {
        path: path.to_owned(),
        why: "is not UTF-8".to_owned(),
    })
}
