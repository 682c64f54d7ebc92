//! Delay arithmetic, pure: a retry's number, two durations and a random number in, a delay out.
//!
//! The delay before retry *n* (counted from 0) is drawn uniformly from `0..=ceiling(n)`, where
//! `ceiling(n) = min(max_delay, initial_delay * multiplier^n)`: "full jitter". The cap is applied *before*
//! the draw. The other order, a jittered exponential cut off at the cap, sends all clients back at
//! exactly `max_delay` once the exponential has passed it, so that clients that failed together
//! come back together.
//!
//! Of the other jitters, "equal" keeps half of the ceiling and draws the rest, and "decorrelated" draws
//! from a range that grows with the delay before. Their names and formulas are those of "Exponential
//! Backoff And Jitter" (Marc Brooker, AWS Architecture Blog, 2015).

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
    /// Half of the ceiling, and uniform between nothing and the other half. No retry follows at once,
    /// and the delays are spread half as far as with [`Full`](Self::Full).
    Equal,
    /// Uniform between the initial delay and three times the delay before this one, at most the longest
    /// delay. Delays grow by chance and not with the number of the retry, so clients that failed
    /// together are soon out of step. No delay is shorter than the initial one.
    Decorrelated,
}

/// Capped exponential backoff: the two durations of a [`RetryPolicy`](crate::RetryPolicy), and how fast the
/// one grows to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    initial_delay: Duration,
    max_delay: Duration,
    jitter: Jitter,
    multiplier: u16,
}

impl Backoff {
    /// A backoff from its first ceiling, its last ceiling and how to draw below them. The ceiling doubles
    /// from one retry to the next.
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
            multiplier: 2,
        }
    }

    /// How many times as long the ceiling is from one retry to the next. Defaults to 2; 1, like 0, means
    /// that it does not grow. [`Jitter::Decorrelated`] does not use it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{Backoff, Jitter};
    ///
    /// let (first, last) = (Duration::from_millis(20), Duration::from_secs(1));
    /// let steep = Backoff::new(first, last, Jitter::Full).with_multiplier(8);
    /// assert_eq!(steep.ceiling(1), Duration::from_millis(160));
    /// assert_eq!(steep.ceiling(2), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub const fn with_multiplier(mut self, multiplier: u16) -> Self {
        self.multiplier = multiplier;
        self
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
        let exponential = match self.jitter {
            Jitter::Decorrelated => grown(initial, 3, retry.saturating_add(1)),
            Jitter::Full | Jitter::Equal | Jitter::None => {
                grown(initial, self.multiplier.max(1), retry)
            }
        };
        nanoseconds(exponential.min(self.max_delay.as_nanos()))
    }

    /// The backoff after what takes its time, such as a server that is starting: its first ceiling is the
    /// longest delay already, and at least half of a ceiling is waited. No retry waits if none did
    /// before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{Jitter, RetryPolicy};
    ///
    /// let slow = RetryPolicy::new().backoff().slow();
    /// assert_eq!(slow.ceiling(0), Duration::from_secs(1));
    /// assert_eq!(slow.jitter(), Jitter::Equal);
    /// ```
    #[must_use]
    pub const fn slow(self) -> Self {
        let initial_delay = match self.initial_delay.is_zero() {
            true => Duration::ZERO,
            false => self.max_delay,
        };
        let jitter = match self.jitter {
            Jitter::None => Jitter::None,
            Jitter::Full | Jitter::Equal | Jitter::Decorrelated => Jitter::Equal,
        };
        Self {
            initial_delay,
            jitter,
            ..self
        }
    }

    /// A delay for what takes its time, such as a server that is starting: between half the
    /// longest delay and all of it, given 64 random bits. Zero if no retry ever waits.
    #[must_use]
    pub fn slow_delay(&self, random: u64) -> Duration {
        self.slow().delay(0, random)
    }

    /// The delay before retry `retry`, counted from 0, given 64 random bits. With
    /// [`Jitter::Decorrelated`], as if every delay before had been as long as possible:
    /// [`delay_after`](Self::delay_after) takes what it really was.
    #[must_use]
    pub fn delay(&self, retry: u32, random: u64) -> Duration {
        let ceiling = self.ceiling(retry).as_nanos();
        nanoseconds(match self.jitter {
            Jitter::None => ceiling,
            Jitter::Full => draw(0, ceiling, random),
            Jitter::Equal => draw(ceiling / 2, ceiling, random),
            Jitter::Decorrelated => draw(self.initial_delay.as_nanos(), ceiling, random),
        })
    }

    /// The delay before retry `retry`, counted from 0, given the delay before the last retry (zero if
    /// there was none) and 64 random bits. Only [`Jitter::Decorrelated`] looks at the delay before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{Backoff, Jitter};
    ///
    /// let (base, cap) = (Duration::from_millis(100), Duration::from_secs(1));
    /// let backoff = Backoff::new(base, cap, Jitter::Decorrelated);
    /// let previous = Duration::from_millis(200);
    /// assert_eq!(backoff.delay_after(previous, 1, 0), base);
    /// assert_eq!(backoff.delay_after(previous, 1, u64::MAX), Duration::from_millis(600));
    /// ```
    #[must_use]
    pub fn delay_after(&self, previous: Duration, retry: u32, random: u64) -> Duration {
        match self.jitter {
            Jitter::Decorrelated => {
                let base = previous.max(self.initial_delay);
                let initial = self.initial_delay.as_nanos();
                let most = grown(base.as_nanos(), 3, 1).min(self.max_delay.as_nanos());
                nanoseconds(draw(initial, most, random))
            }
            Jitter::Full | Jitter::Equal | Jitter::None => self.delay(retry, random),
        }
    }

    /// The longest possible delay before the first retry.
    #[must_use]
    pub const fn initial_delay(&self) -> Duration {
        self.initial_delay
    }

    /// The longest possible delay.
    #[must_use]
    pub const fn max_delay(&self) -> Duration {
        self.max_delay
    }

    /// How many times as long the ceiling is from one retry to the next.
    #[must_use]
    pub const fn multiplier(&self) -> u16 {
        self.multiplier
    }

    /// How a delay is drawn below its ceiling.
    #[must_use]
    pub const fn jitter(&self) -> Jitter {
        self.jitter
    }
}

/// `nanos * multiplier^times`, or something far above every cap: a `Duration` has 94 bits.
fn grown(nanos: u128, multiplier: u16, times: u32) -> u128 {
    nanos.saturating_mul(u128::from(multiplier).saturating_pow(times))
}

/// Uniform between `low` and `high`, both included. If `low` is above `high`, `high`.
fn draw(low: u128, high: u128, random: u64) -> u128 {
    let low = low.min(high);
    // 584 years of nanoseconds fit into 64 bits.
    let range = (high - low).min(u128::from(u64::MAX));
    low + ((u128::from(random) * (range + 1)) >> 64)
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
    fn grows_as_fast_as_its_multiplier_says() {
        let ceilings = |multiplier| {
            let backoff = DEFAULT.with_multiplier(multiplier);
            [0, 1, 2, 50].map(|n| backoff.ceiling(n).as_millis())
        };
        assert_eq!(ceilings(3), [100, 300, 900, 1000]);
        assert_eq!(ceilings(u16::MAX), [100, 1000, 1000, 1000]);
        for flat in [0, 1] {
            assert_eq!(ceilings(flat), [100; 4]);
        }
        assert_eq!(DEFAULT.with_multiplier(3).slow().multiplier(), 3);
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

    #[test]
    fn half_of_an_equal_jitter_is_fixed_and_the_other_half_drawn() {
        let equal = Backoff::new(
            Duration::from_millis(100),
            Duration::from_secs(1),
            Jitter::Equal,
        );
        assert_eq!(equal.delay(0, 0), Duration::from_millis(50));
        assert_eq!(equal.delay(0, u64::MAX), Duration::from_millis(100));
        assert_eq!(equal.delay(9, 0), Duration::from_millis(500));
        assert_eq!(equal.delay(9, u64::MAX), Duration::from_secs(1));
    }

    #[test]
    fn decorrelated_delays_grow_with_the_one_before() {
        let backoff = Backoff::new(
            Duration::from_millis(100),
            Duration::from_secs(1),
            Jitter::Decorrelated,
        );
        let longest = |previous| backoff.delay_after(Duration::from_millis(previous), 0, u64::MAX);
        assert_eq!(longest(0), Duration::from_millis(300));
        assert_eq!(longest(100), Duration::from_millis(300));
        assert_eq!(longest(200), Duration::from_millis(600));
        assert_eq!(longest(900), Duration::from_secs(1));
        assert_eq!(
            backoff.delay_after(Duration::MAX, 7, 0),
            Duration::from_millis(100)
        );
        let ceilings: Vec<u128> = (0..4).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [300, 900, 1000, 1000]);
    }

    #[test]
    fn what_takes_its_time_is_waited_for_at_least_half_of_the_longest_delay() {
        for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
            let slow = Backoff::new(Duration::from_millis(1), Duration::from_secs(1), jitter);
            assert_eq!(slow.slow_delay(0), Duration::from_millis(500));
            assert_eq!(slow.slow_delay(u64::MAX), Duration::from_secs(1));
        }
        let fixed = Backoff::new(
            Duration::from_millis(1),
            Duration::from_secs(1),
            Jitter::None,
        );
        assert_eq!(fixed.slow_delay(0), Duration::from_secs(1));
        let none = Backoff::new(Duration::ZERO, Duration::from_secs(1), Jitter::Full);
        assert_eq!(none.slow_delay(u64::MAX), Duration::ZERO);
    }

    /// The documentation of the policy says so.
    #[test]
    fn five_retries_last_a_second_and_a_quarter_on_average() {
        let longest: Duration = (0..5).map(|retry| DEFAULT.ceiling(retry)).sum();
        assert_eq!(longest / 2, Duration::from_millis(1250));
        let mut rng = fastrand::Rng::with_seed(7);
        let mut operation = || -> f64 {
            let delays = (0..5).map(|retry| DEFAULT.delay(retry, rng.u64(..)));
            delays.sum::<Duration>().as_secs_f64()
        };
        let mean = (0..10_000).map(|_| operation()).sum::<f64>() / 10_000.0;
        assert!((1.23..1.27).contains(&mean), "{mean}");
    }

    fn any_jitter() -> impl Strategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::Full),
            Just(Jitter::Equal),
            Just(Jitter::Decorrelated),
            Just(Jitter::None),
        ]
    }

    fn any_retry() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..80, Just(1_000_000), any::<u32>()]
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any::<Duration>()]
    }

    proptest! {
        #[test]
        fn never_above_the_ceiling_nor_the_cap(
            initial in any_duration(), max in any_duration(), jitter in any_jitter(),
            retry in any_retry(), random in any::<u64>(), previous in any_duration(),
        ) {
            let backoff = Backoff::new(initial, max, jitter);
            prop_assert!(backoff.delay(retry, random) <= backoff.ceiling(retry));
            prop_assert!(backoff.ceiling(retry) <= max);
            prop_assert!(backoff.delay_after(previous, retry, random) <= max);
            prop_assert!(backoff.slow_delay(random) <= max);
        }

        #[test]
        fn never_below_what_the_jitter_keeps(
            initial in any_duration(), max in any_duration(),
            retry in any_retry(), random in any::<u64>(), previous in any_duration(),
        ) {
            let of = |jitter| Backoff::new(initial, max, jitter);
            let equal = of(Jitter::Equal);
            prop_assert!(equal.delay(retry, random) >= equal.ceiling(retry) / 2);
            let decorrelated = of(Jitter::Decorrelated).delay_after(previous, retry, random);
            prop_assert!(decorrelated >= initial.min(max));
        }

        #[test]
        fn ceilings_never_shrink(
            initial in any_duration(), max in any_duration(), jitter in any_jitter(),
            retry in any_retry(),
        ) {
            let backoff = Backoff::new(initial, max, jitter);
            prop_assert!(backoff.ceiling(retry) <= backoff.ceiling(retry.saturating_add(1)));
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
