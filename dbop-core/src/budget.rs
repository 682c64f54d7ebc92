//! How many retries all operations together may make. Pure: the time is passed in.
//!
//! A policy bounds the retries of one operation. In an outage every operation fails, and each is
//! retried as often as its policy allows: five retries are six times the load, on a server that
//! is coming back. A budget bounds the retries of all operations by how many of them succeed. While few
//! fail it is never noticed. While most fail there is nothing left to pay with, and each operation fails
//! at once.
//!
//! There are two forms, both in use for years:
//!
//! - **A share of the successes.** Each success within a window (10 s) pays for a share of a retry (20 %), and
//!   there is a reserve of retries per second. This is Finagle's `RetryBudget` ("Retry Budgets", Kevin
//!   Oliver, 2016; 20 %, 10 retries per second, 10 s) and tower's `retry::budget::TpsBudget`.
//!   What retries add to the load is known: a share of it, and the reserve. It follows the load up and
//!   down, forgets an outage after one window, and lets a service with few operations retry by its reserve.
//!   So it is for services, and it is the default. A reserve per second counts in every process, so
//!   with many processes make it small.
//! - **A bucket of tokens**, as in the standard retry mode of the AWS SDKs ("Retry behavior", AWS SDKs and Tools
//!   Reference Guide): 500 tokens; a retry costs 5, or 10 after a timeout or where the server was not there; a
//!   success gives back 1, or what its last retry has cost. (The revision of 2026 has other costs.) It
//!   needs no time: an outage of any length gets 100 retries, or 50, and no more. That is the
//!   hardest limit, and the slowest to forgive: a bucket that is empty takes five successes without a
//!   retry for one retry. So it is for clients whose operations come in bursts, such as jobs and command-line
//!   tools, and for a server that must not be disturbed while it recovers.
//!
//! A circuit breaker is something else: it refuses *first* attempts, too, and has to find out
//! by itself when to stop. A budget never refuses a first attempt, so it needs no such trial.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::FaultClass;
use crate::outcome::Phase;

/// How many retries the operations of one or several runners may make together. For
/// `Runner::with_retry_budget`.
///
/// A success pays in: an outermost operation that was committed or, in a transaction of the caller's,
/// released. Each retry withdraws, also one of a nested operation. If there is not enough left, the
/// operation fails at once with the error of its last attempt
/// ([`StopReason::BudgetExhausted`](crate::StopReason::BudgetExhausted)). First attempts are never refused.
/// A retry that a deadline forbids costs nothing, and neither does asking what became of a COMMIT.
///
/// The clones of a runner share its budget. Share one between runners with an `Arc`. Without a budget, which is the
/// default, nothing is counted and no clock is read.
///
/// There are two forms. [`share_of_successes`](Self::share_of_successes) is for services: what retries
/// add to the load is a share of it, and a reserve. [`token_bucket`](Self::token_bucket) is for bursts of
/// work and for servers that must not be disturbed: an outage of any length gets so many retries and no more.
///
/// ```
/// use std::time::{Duration, Instant};
/// use dbop_core::RetryBudget;
///
/// let budget = RetryBudget::share_of_successes(10, Duration::from_secs(10), 2);
/// assert_eq!(budget.retries_left(Instant::now()), 20); // the reserve: 2 a second
/// ```
///
/// # Default
///
/// 20 % of the successes within 10 s, and 10 retries per second.
#[derive(Debug)]
pub struct RetryBudget {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Share(Share),
    Tokens(Tokens),
}

impl RetryBudget {
    /// Each success pays for `percent` hundredths of a retry, for as long as `window`. There are also
    /// `reserve_per_second` retries for each second of the window, for services that have just started
    /// or have little to do.
    ///
    /// The window moves in ten steps. Below 10 ms it counts as 10 ms. With `percent` 0 there is
    /// the reserve alone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::RetryBudget;
    ///
    /// static BUDGET: RetryBudget =
    ///     RetryBudget::share_of_successes(20, Duration::from_secs(10), 10);
    /// # _ = &BUDGET;
    /// ```
    #[must_use]
    pub const fn share_of_successes(
        percent: u32,
        window: Duration,
        reserve_per_second: u32,
    ) -> Self {
        Self {
            form: Form::Share(Share::new(percent, window, reserve_per_second)),
        }
    }

    /// A bucket with so many tokens; 500 is usual. A retry takes 5, and 10 after a failure to connect, a lost
    /// connection, a statement timeout, and where the server is unavailable or accepts no writes. A success
    /// at the first attempt puts back 1, a later one what its last retry has taken. The bucket
    /// begins full and never has more.
    ///
    /// ```
    /// use std::time::Instant;
    /// use dbop_core::RetryBudget;
    ///
    /// assert_eq!(RetryBudget::token_bucket(500).retries_left(Instant::now()), 100);
    /// ```
    #[must_use]
    pub const fn token_bucket(capacity: u32) -> Self {
        Self {
            form: Form::Tokens(Tokens {
                capacity,
                left: AtomicU32::new(capacity),
            }),
        }
    }

    /// How many retries could be made now, if each had the lower cost: for your metrics. `now` is the time of the
    /// runner's clock. In a bucket of tokens it does not matter.
    #[must_use]
    pub fn retries_left(&self, now: Instant) -> u32 {
        match &self.form {
            Form::Share(share) => share.retries_left(now),
            Form::Tokens(tokens) => tokens.left.load(Relaxed) / Tokens::COST,
        }
    }

    /// Pays for a retry: what it costs, or nothing if there is not enough.
    pub(crate) fn withdraw(&self, is_costly: bool, now: Instant) -> Option<Cost> {
        match &self.form {
            Form::Share(share) => share.withdraw(now),
            Form::Tokens(tokens) => tokens.withdraw(is_costly),
        }
    }

    /// The retry was not made.
    pub(crate) fn give_back(&self, cost: Cost, now: Instant) {
        match &self.form {
            Form::Share(share) => share.lock(now).add(i64::from(cost.0)),
            Form::Tokens(tokens) => tokens.put(cost.0),
        }
    }

    /// An operation succeeded. `last`: what its last retry has cost, if there was one.
    pub(crate) fn deposit(&self, last: Option<Cost>, now: Instant) {
        match &self.form {
            Form::Share(share) => share.lock(now).add(share.deposit),
            Form::Tokens(tokens) => tokens.put(last.map_or(Tokens::DEPOSIT, |cost| cost.0)),
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::share_of_successes(20, Duration::from_secs(10), 10)
    }
}

/// What a retry has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost(u32);

/// Whether a retry after this failure is likely to hurt a server that is in trouble already.
pub(crate) const fn is_costly(class: Option<FaultClass>, phase: Phase) -> bool {
    let Some(class) = class else {
        return false;
    };
    matches!(phase, Phase::Connect)
        || class.is_slow()
        || matches!(
            class,
            FaultClass::ConnectionLost | FaultClass::StatementTimeout
        )
}

/// Amounts are in hundredths of a retry.
#[derive(Debug)]
struct Share {
    deposit: i64,
    reserve: i64,
    slot: Duration,
    window: Mutex<Window>,
}

/// What was paid in less what was withdrawn, by time. Both are forgotten after the window, so that
/// the reserve is there again.
#[derive(Debug)]
struct Window {
    slots: [i64; SLOTS],
    current: usize,
    /// When the current slot began.
    since: Option<Instant>,
}

const SLOTS: usize = 10;

impl Share {
    const COST: u32 = 100;

    const fn new(percent: u32, window: Duration, reserve_per_second: u32) -> Self {
        let at_least = Duration::from_millis(10);
        let window = if window.as_nanos() < at_least.as_nanos() {
            at_least
        } else {
            window
        };
        let hundredths = window
            .as_millis()
            .saturating_mul(reserve_per_second as u128)
            / 10;
        Self {
            deposit: percent as i64,
            reserve: if hundredths > i32::MAX as u128 {
                i32::MAX as i64
            } else {
                hundredths as i64
            },
            slot: Duration::from_nanos(if window.as_nanos() > u64::MAX as u128 {
                u64::MAX
            } else {
                window.as_nanos() as u64 / SLOTS as u64
            }),
            window: Mutex::new(Window {
                slots: [0; SLOTS],
                current: 0,
                since: None,
            }),
        }
    }

    fn withdraw(&self, now: Instant) -> Option<Cost> {
        let mut window = self.lock(now);
        let cost = i64::from(Self::COST);
        (window.sum().saturating_add(self.reserve) >= cost).then(|| {
            window.add(-cost);
            Cost(Self::COST)
        })
    }

    fn retries_left(&self, now: Instant) -> u32 {
        let left = self.lock(now).sum().saturating_add(self.reserve);
        u32::try_from(left.max(0) / i64::from(Self::COST)).unwrap_or(u32::MAX)
    }

    /// The window as it is now. No user code runs while it is locked.
    fn lock(&self, now: Instant) -> MutexGuard<'_, Window> {
        // Nothing in here can leave it half changed.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.move_to(now, self.slot);
        window
    }
}

impl Window {
    fn sum(&self) -> i64 {
        self.slots
            .iter()
            .fold(0, |sum, slot| sum.saturating_add(*slot))
    }

    fn add(&mut self, amount: i64) {
        let slot = &mut self.slots[self.current];
        *slot = slot.saturating_add(amount);
    }

    /// Clears the slots that the time since has made new.
    fn move_to(&mut self, now: Instant, slot: Duration) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_nanos() / slot.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        for _ in 0..passed.min(SLOTS as u32) {
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = 0;
        }
        if passed > 0 {
            let began = slot
                .checked_mul(passed)
                .and_then(|all| since.checked_add(all));
            self.since = Some(began.unwrap_or(now));
        }
    }
}

#[derive(Debug)]
struct Tokens {
    capacity: u32,
    left: AtomicU32,
}

impl Tokens {
    const COST: u32 = 5;
    const HIGHER_COST: u32 = 10;
    const DEPOSIT: u32 = 1;

    fn withdraw(&self, is_costly: bool) -> Option<Cost> {
        let cost = if is_costly {
            Self::HIGHER_COST
        } else {
            Self::COST
        };
        let less = |left: u32| left.checked_sub(cost);
        let paid = self.left.fetch_update(Relaxed, Relaxed, less);
        paid.ok().map(|_| Cost(cost))
    }

    fn put(&self, amount: u32) {
        let more = |left: u32| Some(left.saturating_add(amount).min(self.capacity));
        // It is never `None`, so this cannot fail.
        _ = self.left.fetch_update(Relaxed, Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn withdraw(budget: &RetryBudget, now: Instant) -> bool {
        budget.withdraw(false, now).is_some()
    }

    #[test]
    fn a_share_of_the_successes_may_be_retried() {
        let budget = RetryBudget::share_of_successes(20, 10 * SECOND, 0);
        let now = Instant::now();
        assert!(!withdraw(&budget, now));
        for _ in 0..4 {
            budget.deposit(None, now);
        }
        assert!(!withdraw(&budget, now), "four fifths of a retry");
        budget.deposit(None, now);
        assert_eq!(budget.retries_left(now), 1);
        assert!(withdraw(&budget, now));
        assert!(!withdraw(&budget, now));
        assert_eq!(budget.retries_left(now), 0);
    }

    #[test]
    fn the_reserve_is_there_at_the_beginning_and_again_after_the_window() {
        let budget = RetryBudget::share_of_successes(20, 10 * SECOND, 2);
        let start = Instant::now();
        for _ in 0..20 {
            assert!(withdraw(&budget, start));
        }
        assert!(!withdraw(&budget, start));
        assert!(!withdraw(&budget, start + 9 * SECOND));
        assert_eq!(budget.retries_left(start + 10 * SECOND), 20);
    }

    #[test]
    fn successes_are_forgotten_after_the_window_step_by_step() {
        let budget = RetryBudget::share_of_successes(100, 10 * SECOND, 0);
        let start = Instant::now();
        for second in 0..10 {
            budget.deposit(None, start + second * SECOND);
        }
        assert_eq!(budget.retries_left(start + 9 * SECOND), 10);
        assert_eq!(budget.retries_left(start + 10 * SECOND), 9);
        assert_eq!(budget.retries_left(start + 18 * SECOND), 1);
        assert_eq!(budget.retries_left(start + 1000 * SECOND), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_does_no_harm() {
        let budget = RetryBudget::share_of_successes(100, 10 * SECOND, 0);
        let later = Instant::now() + 100 * SECOND;
        budget.deposit(None, later);
        assert_eq!(budget.retries_left(later - 50 * SECOND), 1);
    }

    #[test]
    fn a_retry_that_was_not_made_costs_nothing() {
        let now = Instant::now();
        for budget in [
            RetryBudget::share_of_successes(0, SECOND, 1),
            RetryBudget::token_bucket(5),
        ] {
            let cost = budget.withdraw(false, now).expect("enough");
            assert_eq!(budget.retries_left(now), 0);
            budget.give_back(cost, now);
            assert_eq!(budget.retries_left(now), 1);
        }
    }

    #[test]
    fn a_retry_takes_five_tokens_and_ten_where_the_server_is_in_trouble() {
        let budget = RetryBudget::token_bucket(20);
        let now = Instant::now();
        assert_eq!(budget.withdraw(true, now), Some(Cost(10)));
        assert_eq!(budget.withdraw(false, now), Some(Cost(5)));
        assert_eq!(budget.withdraw(true, now), None, "five are left");
        assert_eq!(budget.withdraw(false, now), Some(Cost(5)));
        assert_eq!(budget.withdraw(false, now), None);
    }

    #[test]
    fn a_success_puts_one_token_back_or_what_its_last_retry_took() {
        let budget = RetryBudget::token_bucket(10);
        let now = Instant::now();
        let cost = budget.withdraw(true, now);
        assert_eq!(budget.retries_left(now), 0);
        for _ in 0..5 {
            budget.deposit(None, now);
        }
        assert_eq!(budget.retries_left(now), 1);
        budget.deposit(cost, now);
        assert_eq!(budget.retries_left(now), 2, "and never more than it holds");
    }

    #[test]
    fn the_costly_retries_are_those_of_servers_in_trouble() {
        use FaultClass as C;

        let costly = |class| is_costly(Some(class), Phase::Body);
        for class in [
            C::ConnectionLost,
            C::NotConnected,
            C::ServerUnavailable,
            C::ReadOnlyServer,
            C::StatementTimeout,
        ] {
            assert!(costly(class), "{class}");
        }
        for class in [
            C::Deadlock,
            C::SerializationFailure,
            C::LockTimeout,
            C::Busy,
        ] {
            assert!(!costly(class), "{class}");
        }
        assert!(is_costly(Some(C::Unknown), Phase::Connect));
        assert!(!is_costly(None, Phase::Body));
    }

    #[test]
    fn a_window_and_a_reserve_of_any_size_will_do() {
        let now = Instant::now();
        for window in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let budget = RetryBudget::share_of_successes(u32::MAX, window, u32::MAX);
            budget.deposit(None, now);
            assert!(withdraw(&budget, now));
            _ = budget.retries_left(now + 1_000_000 * SECOND);
        }
    }

    #[test]
    fn a_bucket_that_all_threads_use_gives_out_what_it_holds() {
        let budget = RetryBudget::token_bucket(500);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if withdraw(&budget, Instant::now()) {
                            taken.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 100);
    }

    proptest! {
        /// In any window there are no more retries than the share of its successes and the reserve.
        #[test]
        fn retries_are_bounded_by_the_share_and_the_reserve(
            percent in 0u32..300, reserve in 0u32..20,
            steps in proptest::collection::vec((0u64..3_000, any::<bool>()), 1..200),
        ) {
            let budget = RetryBudget::share_of_successes(percent, 10 * SECOND, reserve);
            let (mut now, mut successes, mut retries) = (Instant::now(), Vec::new(), Vec::new());
            for (passed, is_success) in steps {
                now += Duration::from_millis(passed);
                if is_success {
                    budget.deposit(None, now);
                    successes.push(now);
                } else if withdraw(&budget, now) {
                    retries.push(now);
                    // The oldest of the ten slots may be gone.
                    let within = |times: &[Instant], length| {
                        times.iter().filter(|time| now - **time < length).count() as u64
                    };
                    let made = within(&retries, 9 * SECOND);
                    let paid = within(&successes, 10 * SECOND) * u64::from(percent);
                    prop_assert!(made * 100 <= paid + u64::from(reserve) * 1_000);
                }
            }
        }
    }
}
