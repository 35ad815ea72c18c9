//! Distributions in a few figures.

use serde::Serialize;

/// A distribution, in the unit of its values, rounded.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Quantiles {
    /// Of these values, to so many digits behind the point; all 0 of none.
    pub fn of(mut values: Vec<f64>, digits: i32) -> Quantiles {
        values.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let place = ((values.len() as f64 * q).ceil() as usize).clamp(1, values.len().max(1)) - 1;
            round(values.get(place).copied().unwrap_or(0.0), digits)
        };
        Quantiles {
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// Rounds to so many digits behind the point.
pub fn round(value: f64, digits: i32) -> f64 {
    let by = 10f64.powi(digits);
    (value * by).round() / by
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        let of = |values: &[f64]| Quantiles::of(values.to_vec(), 1);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let all = of(&hundred);
        assert_eq!((all.p50, all.p95, all.p99, all.max), (50.0, 95.0, 99.0, 100.0));
        assert_eq!((of(&[7.04]).p50, of(&[7.04]).max), (7.0, 7.0));
        assert_eq!(of(&[]).p99, 0.0);
    }
}
