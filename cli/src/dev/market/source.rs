//! Where a market comes from: a recording, or the pricer's generators and a seed.

use std::path::{Path, PathBuf};

use rebound_core::types::Time;
use rebound_sim::play::generated::{begins, generated};

use super::{Asked, MarketArgs, window};
use crate::cloud::{Era, Played};
use crate::exit::Failure;

/// What generated markets' names begin with.
const GENERATED: &str = "generated:";

/// What `--market` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of spot prices.
    Recorded(PathBuf),
    /// Drawn from a seed, by the rules of an era.
    Generated(Era),
}

impl Source {
    /// Reads the option; `era` is what `--era` says.
    ///
    /// # Errors
    ///
    /// When it names no era that can be generated, or another one than `--era`.
    pub fn of(market: &Path, era: Option<Era>) -> Result<Source, Failure> {
        let name = market.to_str().and_then(|text| text.strip_prefix(GENERATED));
        let named = match name {
            None => return Ok(Source::Recorded(market.to_owned())),
            Some("auction") => Era::Auction,
            Some("modern") => Era::Modern,
            Some(_) => {
                let name = market.display();
                return Err(Failure::usage(format!(
                    "--market {name} is no market: write {GENERATED}auction or {GENERATED}modern, or ./{name} for a file \
                     of that name"
                ))
                .at("--market"));
            }
        };
        match era {
            Some(era) if era != named => Err(Failure::usage(format!(
                "--era contradicts --market {}, which says the era itself: leave --era out",
                market.display()
            ))
            .at("--era")),
            _ => Ok(Source::Generated(named)),
        }
    }

    /// The market, and where in it the run begins.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, or with the pools, prices or times that were asked for.
    pub fn open(&self, own: &MarketArgs, asked: &Asked) -> Result<(Played, Time), Failure> {
        match self {
            Source::Recorded(path) => {
                let played = Played::load(path, &own.pools, &asked.on_demand, own.era.map(Into::into))
                    .map_err(|error| Failure::usage(error.to_string()).at("--market"))?;
                let from = window(&played, asked)?;
                Ok((played, from))
            }
            Source::Generated(era) => {
                let from = asked.from.unwrap_or(begins(*era));
                let played = draw(*era, own, asked, from, own.seed)?;
                Ok((played, from))
            }
        }
    }

    /// The market of a seed that begins at `from`; none where every seed has the one that was opened.
    ///
    /// # Errors
    ///
    /// What is wrong with the pools or prices that were asked for.
    pub fn of_seed(
        &self,
        own: &MarketArgs,
        asked: &Asked,
        from: Time,
        seed: u64,
    ) -> Result<Option<Played>, Failure> {
        match self {
            Source::Recorded(_) => Ok(None),
            Source::Generated(era) => draw(*era, own, asked, from, seed).map(Some),
        }
    }
}

fn draw(era: Era, own: &MarketArgs, asked: &Asked, from: Time, seed: u64) -> Result<Played, Failure> {
    let until = Time(from.0.saturating_add(asked.length));
    generated(era, seed, (from, until), &own.pools, &asked.on_demand)
        .map_err(|error| Failure::usage(error.to_string()).at("--market"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(market: &str, era: Option<Era>) -> Result<Source, Failure> {
        Source::of(Path::new(market), era)
    }

    #[test]
    fn markets_are_files_or_generated() {
        let (auction, modern) = (Source::Generated(Era::Auction), Source::Generated(Era::Modern));
        assert_eq!(of("generated:auction", None).ok(), Some(auction.clone()));
        assert_eq!(of("generated:modern", None).ok(), Some(modern));
        assert_eq!(of("generated:auction", Some(Era::Auction)).ok(), Some(auction));
        for file in ["spot.csv.gz", "./generated:foo", "generated"] {
            let recorded = Source::Recorded(file.into());
            assert_eq!(of(file, Some(Era::Modern)).ok(), Some(recorded), "{file}");
        }
    }

    #[test]
    fn wrong_words_and_contradictions_are_refused_with_their_option() {
        for wrong in ["generated:foo", "generated:", "generated:Modern"] {
            let failure = of(wrong, None).expect_err("no such market");
            assert_eq!(failure.field.as_deref(), Some("--market"));
            assert!(
                failure.message.contains("generated:modern"),
                "{}",
                failure.message
            );
            assert!(
                failure.message.contains(&format!("./{wrong}")),
                "{}",
                failure.message
            );
        }
        for (market, era) in [
            ("generated:auction", Era::Modern),
            ("generated:modern", Era::Auction),
        ] {
            let failure = of(market, Some(era)).expect_err("two eras");
            assert_eq!(failure.field.as_deref(), Some("--era"));
            assert!(failure.message.contains(market), "{}", failure.message);
            assert!(failure.message.contains("leave --era out"), "{}", failure.message);
        }
    }
}
