//! A ratio and how far it can be trusted.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// A ratio, and the interval that holds the true one in 95 of 100 such measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) ratio: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// Of the ratios of single pairs, at least two. Half and twice are equally far from one, so it is their
    /// logarithms that have a mean and a spread; the interval is Student's.
    pub(crate) fn of(ratios: &[f64]) -> Self {
        let count = float(ratios.len());
        let logs = || ratios.iter().map(|ratio| ratio.ln());
        let mean = logs().sum::<f64>() / count;
        let squares = logs().map(|log| (log - mean).powi(2)).sum::<f64>();
        let freedom = count - 1.0;
        let error = (squares / freedom / count).sqrt();
        let reach = error * quantile(freedom);
        Self {
            ratio: mean.exp(),
            low: (mean - reach).exp(),
            high: (mean + reach).exp(),
        }
    }

    /// Whether it contains this ratio or lies above it.
    pub(crate) fn reaches(self, ratio: f64) -> bool {
        self.high >= ratio
    }

    /// Whether there is a ratio that is in both.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// `0.97 (0.95 to 0.99)`.
impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.ratio, self.low, self.high)
    }
}

/// How many standard errors the interval reaches to each side.
fn quantile(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |student| student.inverse_cdf(0.975))
}

#[expect(clippy::cast_precision_loss, reason = "there are few of them")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(one: f64, other: f64) -> bool {
        (one - other).abs() < 0.001
    }

    /// The values are those of any printed table.
    #[test]
    fn few_pairs_have_a_wider_interval() {
        for (freedom, expected) in [(1.0, 12.706), (4.0, 2.776), (19.0, 2.093), (1e6, 1.960)] {
            let quantile = quantile(freedom);
            assert!(is_near(quantile, expected), "{freedom}: {quantile}");
        }
    }

    #[test]
    fn the_ratio_is_in_the_middle_of_its_logarithms() {
        let interval = Interval::of(&[0.5, 2.0]);
        assert!(is_near(interval.ratio, 1.0), "{interval:?}");
        assert!(is_near(interval.low * interval.high, 1.0), "{interval:?}");
        // The logarithms are ln 2 away from zero on both sides, and that is the error of their mean.
        let reach = 12.706 * 2.0_f64.ln();
        assert!((interval.high.ln() - reach).abs() < 0.01, "{interval:?}");
        let same = Interval::of(&[0.9; 20]);
        assert!(is_near(same.low, 0.9) && is_near(same.high, 0.9), "{same}");
        assert_eq!(same.to_string(), "0.90 (0.90 to 0.90)");
    }

    #[test]
    fn an_interval_reaches_what_it_contains_or_exceeds() {
        let interval = Interval {
            ratio: 0.97,
            low: 0.96,
            high: 0.98,
        };
        assert!(interval.reaches(0.95) && interval.reaches(0.97));
        assert!(!interval.reaches(0.99));
        let other = Interval {
            ratio: 1.0,
            low: 0.98,
            high: 1.02,
        };
        assert!(interval.meets(other) && other.meets(interval));
        let apart = Interval { low: 0.99, ..other };
        assert!(!interval.meets(apart) && !apart.meets(interval));
    }

    /// Nineteen of twenty intervals of noise around a ratio hold it.
    #[test]
    fn intervals_hold_the_true_ratio() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut noise = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let mut held = 0;
        for _ in 0..2000 {
            let ratios: Vec<f64> = (0..8).map(|_| 0.9 * (0.1 * noise()).exp()).collect();
            let interval = Interval::of(&ratios);
            held += i32::from(interval.low <= 0.9 && 0.9 <= interval.high);
        }
        assert!((1860..=1940).contains(&held), "{held} of 2000");
    }
}
