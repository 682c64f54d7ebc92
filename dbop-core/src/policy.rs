//! How often, how soon and for which faults an operation is retried.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};
use crate::fault::{Code, FaultClass};

/// When and how often a failed operation is retried.
///
/// A policy is a small `Copy` value, usable in a `const`. What may be retried at all depends on the
/// class of the fault and on whether the operation runs in a transaction or in a savepoint. A
/// policy limits the retries. It can [opt in](Self::with_retry_on) to classes that are not retried
/// otherwise, [exclude](Self::without_retry_on) classes that are, and say which class a
/// [code](Self::with_class_of) belongs to.
///
/// ```
/// use std::time::Duration;
/// use dbop_core::{FaultClass, RetryPolicy};
///
/// const REPORTS: RetryPolicy = RetryPolicy::new()
///     .with_max_retries(2)
///     .with_max_delay(Duration::from_secs(10))
///     .with_retry_on(FaultClass::StatementTimeout);
/// assert_eq!(REPORTS.max_retries(), 2);
/// ```
///
/// # Default
///
/// - `max_retries`: 5, so at most 6 attempts
/// - `initial_delay`: 100 ms
/// - `max_delay`: 1 s, so a delay after what takes time to pass is between 500 ms and 1 s
/// - `jitter`: [`Jitter::Full`]
/// - no seed: the delays differ from run to run
/// - no class opted in or excluded, and no code of another class
/// - `max_silent_losses`: 2, so an operation is retried after the first loss only
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    max_retries: u32,
    initial_delay: Duration,
    max_delay: Duration,
    jitter: Jitter,
    seed: Option<u64>,
    classes: ClassRules,
    /// A table in the policy itself, so that a policy with codes is still a constant.
    codes: [Option<(Code, FaultClass)>; MAX_CODES],
    max_silent_losses: u32,
}

/// For more there is the classifier.
const MAX_CODES: usize = 8;

impl RetryPolicy {
    /// The default policy: see [the list](Self#default).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_retries: 5,
            initial_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(1),
            jitter: Jitter::Full,
            seed: None,
            classes: ClassRules::NONE,
            codes: [None; MAX_CODES],
            max_silent_losses: 2,
        }
    }

    /// A policy that never retries. Transactions, savepoints and settings work all the same.
    ///
    /// ```
    /// use dbop_core::RetryPolicy;
    ///
    /// assert_eq!(RetryPolicy::no_retries().max_retries(), 0);
    /// ```
    #[must_use]
    pub const fn no_retries() -> Self {
        Self::new().with_max_retries(0)
    }

    /// How often an operation is retried *after* the first attempt: 5 means at most 6
    /// attempts. Defaults to 5. Retries of operations nested in this one count too. An operation's
    /// own `max_retries` takes its place.
    ///
    /// ```
    /// use dbop_core::RetryPolicy;
    ///
    /// const POLICY: RetryPolicy = RetryPolicy::new().with_max_retries(3); // at most 4 attempts
    /// ```
    #[must_use]
    pub const fn with_max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// The longest possible delay before the first retry; it doubles with every further one, up to
    /// [`max_delay`](Self::with_max_delay). Defaults to 100 ms. Zero means that no retry ever waits.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::RetryPolicy;
    ///
    /// const TESTS: RetryPolicy = RetryPolicy::new().with_initial_delay(Duration::ZERO);
    /// assert!(TESTS.delays().take(5).all(|delay| delay.is_zero()));
    /// ```
    #[must_use]
    pub const fn with_initial_delay(mut self, initial_delay: Duration) -> Self {
        self.initial_delay = initial_delay;
        self
    }

    /// The longest possible delay before any retry. Defaults to 1 s.
    ///
    /// After what takes time to pass, the delay is between half of it and all of it, by default between
    /// 500 ms and 1 s: after every failure to connect, and after the classes
    /// [`NotConnected`](FaultClass::NotConnected), [`ServerUnavailable`](FaultClass::ServerUnavailable)
    /// and [`ReadOnlyServer`](FaultClass::ReadOnlyServer).
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::RetryPolicy;
    ///
    /// let policy = RetryPolicy::new().with_max_delay(Duration::from_secs(10));
    /// assert!(policy.delays().take(100).all(|delay| delay <= Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub const fn with_max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// How often the server may close the connection without a word while the operation's body runs.
    /// Defaults to 2: at the second loss of this kind dbop gives the operation up, even if `max_retries`
    /// allows more. 1, like 0, means at the first.
    ///
    /// A statement that crashes its server would otherwise do so six times. A connection that the
    /// server says it has terminated (57P01, `KILL`) does not count.
    ///
    /// ```
    /// use dbop_core::RetryPolicy;
    ///
    /// const CAREFUL: RetryPolicy = RetryPolicy::new().with_max_silent_losses(1);
    /// assert_eq!(CAREFUL.max_silent_losses(), 1);
    /// ```
    #[must_use]
    pub const fn with_max_silent_losses(mut self, max_silent_losses: u32) -> Self {
        self.max_silent_losses = max_silent_losses;
        self
    }

    /// How the delay is drawn below its ceiling. Defaults to [`Jitter::Full`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{Jitter, RetryPolicy};
    ///
    /// let policy = RetryPolicy::new().with_jitter(Jitter::None);
    /// let delays: Vec<_> = policy.delays().take(5).collect();
    /// assert_eq!(delays, [100, 200, 400, 800, 1000].map(Duration::from_millis));
    /// ```
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Makes the delays reproducible: every operation draws the same sequence. Not set by default.
    /// For tests only: clients with the same seed retry at the same moment.
    ///
    /// ```
    /// use dbop_core::RetryPolicy;
    ///
    /// let policy = RetryPolicy::new().with_seed(7);
    /// assert!(policy.delays().take(5).eq(policy.delays().take(5)));
    /// ```
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Retries faults of this class too, where an operation would otherwise give up at once. None by
    /// default. An operation's own `never_retry_on` outranks it.
    ///
    /// It is meant for [`StatementTimeout`](FaultClass::StatementTimeout),
    /// [`Canceled`](FaultClass::Canceled), [`ResourceExhausted`](FaultClass::ResourceExhausted)
    /// and, for upserts written by hand, [`Constraint`](FaultClass::Constraint). An attempt that is
    /// not certainly undone is still never retried, and neither is one that cannot succeed in its
    /// scope. Of this method and [`without_retry_on`](Self::without_retry_on), the last call for a
    /// class counts.
    ///
    /// ```
    /// use dbop_core::{FaultClass, RetryPolicy};
    ///
    /// const POLICY: RetryPolicy = RetryPolicy::new().with_retry_on(FaultClass::StatementTimeout);
    /// assert!(POLICY.retries_on(FaultClass::StatementTimeout));
    /// ```
    #[must_use]
    pub const fn with_retry_on(mut self, class: FaultClass) -> Self {
        self.classes = self.classes.also(class);
        self
    }

    /// Never retries faults of this class, not even when the operation's error asks for it. None by
    /// default. An operation that is nested in another one does not retry such a fault either;
    /// whether the other one does is decided by the other one's policy. An operation's own
    /// `also_retry_on` outranks it.
    ///
    /// For example, a planned read-only maintenance window lasts longer than any retry:
    ///
    /// ```
    /// use dbop_core::{FaultClass, RetryPolicy};
    ///
    /// const POLICY: RetryPolicy =
    ///     RetryPolicy::new().without_retry_on(FaultClass::ReadOnlyServer);
    /// assert!(POLICY.never_retries_on(FaultClass::ReadOnlyServer));
    /// ```
    #[must_use]
    pub const fn without_retry_on(mut self, class: FaultClass) -> Self {
        self.classes = self.classes.never(class);
        self
    }

    /// Says which class an error code belongs to, instead of the one that dbop knows. None by
    /// default, at most 8. If a code is given twice, the last class counts.
    ///
    /// The class decides whether and when to retry, and is what records show. Whether an attempt is
    /// undone and its connection usable is still decided by what dbop knows about the code. Diesel
    /// 2.3 hides the codes, so only a code that dbop has recognized by the error's text is known:
    /// for other errors use a classifier, which sees the text.
    ///
    /// ```
    /// use dbop_core::{Code, FaultClass, RetryPolicy, SqlState};
    ///
    /// const TOO_LONG: Code = Code::SqlState(SqlState::QUERY_CANCELED);
    /// const POLICY: RetryPolicy =
    ///     RetryPolicy::new().with_class_of(TOO_LONG, FaultClass::LockTimeout);
    /// assert_eq!(POLICY.class_of(TOO_LONG), Some(FaultClass::LockTimeout));
    /// ```
    ///
    /// # Panics
    ///
    /// If there are 8 codes already; in a constant that is an error of the compiler.
    #[must_use]
    pub const fn with_class_of(mut self, code: Code, class: FaultClass) -> Self {
        let mut free = 0;
        while free < MAX_CODES && self.codes[free].is_some() {
            free += 1;
        }
        assert!(free < MAX_CODES, "a policy has at most 8 codes");
        self.codes[free] = Some((code, class));
        self
    }

    /// How often an operation is retried after the first attempt: see
    /// [`with_max_retries`](Self::with_max_retries).
    #[must_use]
    pub const fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// How often the server may close the connection without a word while the body runs: see
    /// [`with_max_silent_losses`](Self::with_max_silent_losses).
    #[must_use]
    pub const fn max_silent_losses(&self) -> u32 {
        self.max_silent_losses
    }

    /// The delay arithmetic of this policy: its initial delay, its longest delay and its jitter.
    #[must_use]
    pub const fn backoff(&self) -> Backoff {
        Backoff::new(self.initial_delay, self.max_delay, self.jitter)
    }

    /// Whether this class was opted in with [`with_retry_on`](Self::with_retry_on).
    #[must_use]
    pub const fn retries_on(&self, class: FaultClass) -> bool {
        matches!(self.rule(class), Some(ClassRule::Also))
    }

    /// Whether this class was excluded with [`without_retry_on`](Self::without_retry_on).
    #[must_use]
    pub const fn never_retries_on(&self, class: FaultClass) -> bool {
        matches!(self.rule(class), Some(ClassRule::Never))
    }

    /// The class that was given to this code with [`with_class_of`](Self::with_class_of). `None` if the
    /// code keeps its class.
    #[must_use]
    pub fn class_of(&self, code: Code) -> Option<FaultClass> {
        let mut last_first = self.codes.iter().rev().flatten();
        last_first.find_map(|&(known, class)| (known == code).then_some(class))
    }

    pub(crate) const fn rule(&self, class: FaultClass) -> Option<ClassRule> {
        self.classes.rule(class)
    }

    /// The delays of one operation, in order, without end.
    ///
    /// ```
    /// use dbop_core::RetryPolicy;
    ///
    /// let policy = RetryPolicy::new().with_seed(42);
    /// let once: Vec<_> = policy.delays().take(10).collect();
    /// let again: Vec<_> = policy.delays().take(10).collect();
    /// assert_eq!(once, again);
    /// ```
    #[must_use]
    pub fn delays(&self) -> Delays {
        Delays {
            backoff: self.backoff(),
            rng: self
                .seed
                .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            retry: 0,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether to retry on some classes, whatever else is said about them.
///
/// # Default
///
/// [`NONE`](Self::NONE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRules {
    also: u32,
    never: u32,
}

/// Whether to retry on a class, whatever else is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassRule {
    /// Retry on it too.
    Also,
    /// Never retry on it.
    Never,
}

impl ClassRules {
    /// No rules.
    pub const NONE: Self = Self { also: 0, never: 0 };

    /// Retry on this class too.
    #[must_use]
    pub const fn also(self, class: FaultClass) -> Self {
        let bit = 1 << class as u32;
        Self {
            also: self.also | bit,
            never: self.never & !bit,
        }
    }

    /// Never retry on this class.
    #[must_use]
    pub const fn never(self, class: FaultClass) -> Self {
        let bit = 1 << class as u32;
        Self {
            also: self.also & !bit,
            never: self.never | bit,
        }
    }

    /// The rule for this class.
    #[must_use]
    pub const fn rule(&self, class: FaultClass) -> Option<ClassRule> {
        let bit = 1 << class as u32;
        if self.never & bit != 0 {
            Some(ClassRule::Never)
        } else if self.also & bit != 0 {
            Some(ClassRule::Also)
        } else {
            None
        }
    }
}

impl Default for ClassRules {
    fn default() -> Self {
        Self::NONE
    }
}

/// The endless sequence of delays of one operation, from [`RetryPolicy::delays`].
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    rng: fastrand::Rng,
    retry: u32,
}

impl Delays {
    /// The next delay after a fault that takes time to pass: between half of `max_delay` and all of
    /// it, or zero if no retry ever waits. It counts as a retry like the others, so the next delay of
    /// the sequence is longer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::RetryPolicy;
    ///
    /// let slow = RetryPolicy::new().delays().next_slow();
    /// assert!(slow >= Duration::from_millis(500) && slow <= Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn next_slow(&mut self) -> Duration {
        self.retry = self.retry.saturating_add(1);
        self.backoff.slow_delay(self.rng.u64(..))
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.backoff.delay(self.retry, self.rng.u64(..));
        self.retry = self.retry.saturating_add(1);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_seed_two_operations_differ() {
        let policy = RetryPolicy::new();
        let one: Vec<_> = policy.delays().take(20).collect();
        let other: Vec<_> = policy.delays().take(20).collect();
        assert_ne!(one, other);
    }

    #[test]
    fn different_seeds_differ() {
        let one: Vec<_> = RetryPolicy::new().with_seed(1).delays().take(20).collect();
        let other: Vec<_> = RetryPolicy::new().with_seed(2).delays().take(20).collect();
        assert_ne!(one, other);
    }

    #[test]
    fn each_delay_is_longer_than_the_one_before() {
        let policy = RetryPolicy::new().with_jitter(Jitter::None);
        let delays: Vec<_> = policy.delays().take(3).collect();
        assert_eq!(delays, [100, 200, 400].map(Duration::from_millis));
    }

    #[test]
    fn a_class_is_opted_in_alone() {
        let policy = RetryPolicy::new().with_retry_on(FaultClass::StatementTimeout);
        assert!(policy.retries_on(FaultClass::StatementTimeout));
        assert!(!policy.retries_on(FaultClass::Canceled));
        assert!(!policy.never_retries_on(FaultClass::StatementTimeout));
        assert!(!policy.never_retries_on(FaultClass::Canceled));
    }

    #[test]
    fn of_opting_in_and_excluding_the_last_call_counts() {
        const CLASS: FaultClass = FaultClass::Canceled;
        let excluded = RetryPolicy::new()
            .with_retry_on(CLASS)
            .without_retry_on(CLASS);
        assert!(excluded.never_retries_on(CLASS) && !excluded.retries_on(CLASS));
        assert!(!excluded.never_retries_on(FaultClass::Deadlock));
        let opted_in = excluded.with_retry_on(CLASS);
        assert!(opted_in.retries_on(CLASS) && !opted_in.never_retries_on(CLASS));
    }

    #[test]
    fn saying_it_twice_changes_nothing_and_neither_does_a_rule_for_another_class() {
        use FaultClass::{Busy, Canceled, Deadlock, LockTimeout};

        let rules = ClassRules::NONE
            .also(Canceled)
            .also(Canceled)
            .never(Busy)
            .never(Busy)
            .never(Deadlock);
        assert_eq!(rules.rule(Canceled), Some(ClassRule::Also));
        assert_eq!(rules.rule(Busy), Some(ClassRule::Never));
        assert_eq!(rules.rule(Deadlock), Some(ClassRule::Never));
        assert_eq!(rules.rule(LockTimeout), None);
        let rules = rules.also(Busy).never(LockTimeout);
        assert_eq!(rules.rule(Busy), Some(ClassRule::Also));
        assert_eq!(rules.rule(Canceled), Some(ClassRule::Also));
        assert_eq!(rules.rule(Deadlock), Some(ClassRule::Never));
        let rules = rules.never(Canceled);
        assert_eq!(rules.rule(Canceled), Some(ClassRule::Never));
        assert_eq!(rules.rule(Busy), Some(ClassRule::Also));
    }

    #[test]
    fn a_code_has_the_class_that_it_was_given_last() {
        const POLICY: RetryPolicy = RetryPolicy::new()
            .with_class_of(Code::Errno(1), FaultClass::Deadlock)
            .with_class_of(Code::Errno(2), FaultClass::Busy)
            .with_class_of(Code::Errno(1), FaultClass::Permanent);
        assert_eq!(POLICY.class_of(Code::Errno(1)), Some(FaultClass::Permanent));
        assert_eq!(POLICY.class_of(Code::Errno(2)), Some(FaultClass::Busy));
        assert_eq!(POLICY.class_of(Code::Sqlite(1)), None);
    }

    fn with_codes(count: u16) -> RetryPolicy {
        (0..count).fold(RetryPolicy::new(), |policy, errno| {
            policy.with_class_of(Code::Errno(errno), FaultClass::Busy)
        })
    }

    #[test]
    fn a_policy_has_room_for_eight_codes() {
        let full = with_codes(8);
        assert_eq!(full.class_of(Code::Errno(7)), Some(FaultClass::Busy));
    }

    #[test]
    #[should_panic(expected = "at most 8 codes")]
    fn a_ninth_code_is_refused() {
        _ = with_codes(9);
    }
}
