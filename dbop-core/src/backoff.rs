//! Delay arithmetic, pure: a retry's number, two durations and a random number in, a delay out.
//!
//! The delay before retry *n* (counted from 0) is drawn uniformly from `0..=ceiling(n)`, where
//! `ceiling(n) = min(max_delay, initial_delay * 2^n)`: "full jitter". The cap is applied *before*
//! the draw. The other order, a jittered exponential cut off at the cap, sends all clients back at
//! exactly `max_delay` once the exponential has passed it, so that clients that failed together
//! come back together.

use std::time::Duration;

/// How a delay is drawn from the range that the backoff allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Uniform between nothing and the ceiling. Spreads clients that failed together the most.
    #[default]
    Full,
    /// Always the ceiling. Clients that failed together retry together; for tests and for a single
    /// client.
    None,
}

/// Capped exponential backoff: the two durations of a [`RetryPolicy`](crate::RetryPolicy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    initial_delay: Duration,
    max_delay: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// A backoff from its first ceiling, its last ceiling and how to draw below them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{Backoff, Jitter};
    ///
    /// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), Jitter::Full);
    /// assert_eq!(backoff.ceiling(0), Duration::from_millis(100));
    /// assert_eq!(backoff.ceiling(2), Duration::from_millis(400));
    /// assert_eq!(backoff.ceiling(1_000_000), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub const fn new(initial_delay: Duration, max_delay: Duration, jitter: Jitter) -> Self {
        Self {
            initial_delay,
            max_delay,
            jitter,
        }
    }

    /// The longest possible delay before retry `retry`, counted from 0.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::RetryPolicy;
    ///
    /// let backoff = RetryPolicy::new().backoff();
    /// assert_eq!(backoff.ceiling(0), Duration::from_millis(100));
    /// assert_eq!(backoff.ceiling(9), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn ceiling(&self, retry: u32) -> Duration {
        let initial = self.initial_delay.as_nanos();
        // Shifting out of the 128 bits would wrap; one bit less than that is already far above
        // every cap a `Duration` can hold (94 bits).
        let exponential = initial << retry.min(initial.leading_zeros().saturating_sub(1));
        if exponential >= self.max_delay.as_nanos() {
            return self.max_delay;
        }
        nanoseconds(exponential)
    }

    /// A delay for what takes its time, such as a server that is starting: between half the
    /// longest delay and all of it, given 64 random bits. Zero if no retry ever waits.
    #[must_use]
    pub fn slow_delay(&self, random: u64) -> Duration {
        if self.initial_delay.is_zero() {
            return Duration::ZERO;
        }
        let half = self.max_delay / 2;
        half + Self::new(half, half, self.jitter).delay(0, random)
    }

    /// The delay before retry `retry`, counted from 0, given 64 random bits.
    #[must_use]
    pub fn delay(&self, retry: u32, random: u64) -> Duration {
        let ceiling = self.ceiling(retry);
        match self.jitter {
            Jitter::None => ceiling,
            Jitter::Full => {
                // 584 years of nanoseconds fit into 64 bits.
                let ceiling = ceiling.as_nanos().min(u128::from(u64::MAX));
                nanoseconds((u128::from(random) * (ceiling + 1)) >> 64)
            }
        }
    }
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

fn nanoseconds(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / NANOS_PER_SEC).unwrap_or(u64::MAX);
    let rest = u32::try_from(nanos % NANOS_PER_SEC).unwrap_or(0);
    Duration::new(seconds, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Backoff = Backoff::new(
        Duration::from_millis(100),
        Duration::from_secs(1),
        Jitter::Full,
    );

    #[test]
    fn doubles_up_to_the_cap() {
        let ceilings: Vec<u128> = (0..6).map(|n| DEFAULT.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn the_whole_range_can_be_drawn() {
        assert_eq!(DEFAULT.delay(0, 0), Duration::ZERO);
        assert_eq!(DEFAULT.delay(0, u64::MAX), Duration::from_millis(100));
        assert_eq!(DEFAULT.delay(9, u64::MAX), Duration::from_secs(1));
    }

    #[test]
    fn no_delay_at_all_is_possible() {
        let backoff = Backoff::new(Duration::ZERO, Duration::from_secs(1), Jitter::Full);
        assert_eq!(backoff.delay(1_000_000, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn at_the_cap_the_delay_is_spread_not_constant() {
        let mut rng = fastrand::Rng::with_seed(7);
        let drawn: Vec<Duration> = (0..1000)
            .map(|n| DEFAULT.delay(10 + n, rng.u64(..)))
            .collect();
        for quarter in 0..4 {
            let low = Duration::from_millis(250 * quarter);
            let here = drawn
                .iter()
                .filter(|d| **d >= low && **d < low + Duration::from_millis(250))
                .count();
            assert!(
                (200..300).contains(&here),
                "quarter {quarter}: {here} of 1000"
            );
        }
    }

    proptest! {
        #[test]
        fn never_above_the_ceiling_nor_the_cap(
            initial in any::<Duration>(), max in any::<Duration>(),
            retry in prop_oneof![0u32..80, Just(1_000_000), any::<u32>()], random in any::<u64>(),
        ) {
            let backoff = Backoff::new(initial, max, Jitter::Full);
            prop_assert!(backoff.delay(retry, random) <= backoff.ceiling(retry));
            prop_assert!(backoff.ceiling(retry) <= max);
        }

        #[test]
        fn the_ceiling_is_the_capped_exponential(
            initial in 1u64..10_000_000_000, max in 1u64..10_000_000_000_000, retry in 0u32..60,
        ) {
            let backoff =
                Backoff::new(Duration::from_nanos(initial), Duration::from_nanos(max), Jitter::None);
            let expected = (u128::from(initial) << retry).min(u128::from(max));
            prop_assert_eq!(backoff.delay(retry, 0).as_nanos(), expected);
        }
    }
}
