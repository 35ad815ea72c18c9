//! What EC2 itself says of risk: the spot advisor's bands and placement scores. They are where counting begins.

use std::collections::BTreeMap;

use crate::limits::{INTERRUPTION_PRIOR_UNKNOWN, LAUNCH_PRIOR_UNKNOWN};

/// Bands of the spot advisor.
pub const BANDS: usize = 5;
/// Interruptions a million instance-hours, by band: -ln(1 - f) ÷ 730 h with the band's upper monthly frequency f, as
/// 5, 10, 15 and 20 %. The last band is open; 30 % is assumed.
const BAND_PPM_AN_HOUR: [u64; BANDS] = [70, 144, 223, 306, 489];
/// Launches of a million that fail, by placement score 1 to 10: nothing official, only falling from likely to rare.
const SCORE_FAIL_PPM: [u64; 10] = [
    800_000, 650_000, 500_000, 380_000, 280_000, 200_000, 140_000, 90_000, 50_000, 20_000,
];

/// Interruption bands by region and type, and placement scores by zone and type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    bands: BTreeMap<(String, String), u8>,
    scores: BTreeMap<(String, String), u8>,
}

impl Advice {
    /// Notes a band of the advisor.
    ///
    /// # Errors
    ///
    /// Where it is not one of 0 to 4.
    pub fn note_band(&mut self, region: &str, instance_type: &str, band: u64) -> Result<(), String> {
        let small = u8::try_from(band).ok().filter(|band| usize::from(*band) < BANDS);
        let band = small.ok_or_else(|| format!("{band} is no interruption band"))?;
        self.bands
            .insert((region.to_owned(), instance_type.to_owned()), band);
        Ok(())
    }

    /// Notes a placement score of `of` (10, or 3 where a collection has thirds). The last word counts.
    ///
    /// # Errors
    ///
    /// Where it is not one of 1 to `of`.
    pub fn note_score(&mut self, zone: &str, instance_type: &str, score: u64, of: u64) -> Result<(), String> {
        if score == 0 || score > of {
            return Err(format!("{score} is no placement score of 1 to {of}"));
        }
        let tenth = u8::try_from(score * 10 / of).unwrap_or(10).max(1);
        self.scores
            .insert((zone.to_owned(), instance_type.to_owned()), tenth);
        Ok(())
    }

    /// The band of a type in a region.
    pub fn band(&self, region: &str, instance_type: &str) -> Option<u8> {
        self.bands
            .get(&(region.to_owned(), instance_type.to_owned()))
            .copied()
    }

    /// The placement score of a type in a zone, of ten.
    pub fn score(&self, zone: &str, instance_type: &str) -> Option<u8> {
        self.scores
            .get(&(zone.to_owned(), instance_type.to_owned()))
            .copied()
    }

    /// Takes in `other`, which wins.
    pub fn merge(&mut self, other: Self) {
        self.bands.extend(other.bands);
        self.scores.extend(other.scores);
    }

    /// Bands and scores known.
    pub fn len(&self) -> (usize, usize) {
        (self.bands.len(), self.scores.len())
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.bands.is_empty() && self.scores.is_empty()
    }
}

/// Interruptions a million instance-hours that a band stands for.
pub fn interruptions_of(band: Option<u8>) -> u64 {
    let known = band.and_then(|band| BAND_PPM_AN_HOUR.get(usize::from(band)));
    known.copied().unwrap_or(INTERRUPTION_PRIOR_UNKNOWN)
}

/// Launches of a million that fail by a score of ten.
pub fn failures_of(score: Option<u8>) -> u64 {
    let known = score.and_then(|score| SCORE_FAIL_PPM.get(usize::from(score).checked_sub(1)?));
    known.copied().unwrap_or(LAUNCH_PRIOR_UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_and_scores_are_checked() {
        let mut advice = Advice::default();
        assert!(advice.note_band("us-east-1", "c5.large", 5).is_err());
        advice.note_band("us-east-1", "c5.large", 4).unwrap();
        assert_eq!(advice.band("us-east-1", "c5.large"), Some(4));
        assert!(advice.note_score("euw1-az1", "c5.large", 0, 3).is_err());
        assert!(advice.note_score("euw1-az1", "c5.large", 11, 10).is_err());
        for (score, of, tenth) in [(1, 3, 3), (3, 3, 10), (1, 10, 1), (10, 10, 10)] {
            advice.note_score("euw1-az1", "c5.large", score, of).unwrap();
            assert_eq!(advice.score("euw1-az1", "c5.large"), Some(tenth));
        }
        assert_eq!(advice.len(), (1, 1));
    }

    #[test]
    fn worse_bands_and_scores_are_riskier() {
        let bands: Vec<u64> = (0..5).map(|band| interruptions_of(Some(band))).collect();
        assert!(bands.is_sorted() && bands.iter().all(|ppm| *ppm > 0));
        assert_eq!(interruptions_of(None), interruptions_of(Some(2)));
        let scores: Vec<u64> = (1..=10).map(|score| failures_of(Some(score))).collect();
        assert!(scores.is_sorted_by(|worse, better| worse > better));
        assert_eq!(failures_of(Some(0)), failures_of(None));
    }
}
