//! How often, how soon and for which faults an operation is retried.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};
use crate::fault::{Code, FaultClass};
use custom::BackoffFn;

pub use class::ClassPolicy;
pub use custom::RetryContext;

mod class;
mod custom;

/// When and how often a failed operation is retried.
///
/// A policy is a small `Copy` value, usable in a `const`. What may be retried at all depends on the
/// class of the fault and on whether the operation runs in a transaction or in a savepoint. A
/// policy limits the retries, of all classes together and of [each one](Self::with_class_policy). It
/// can [opt in](Self::with_retry_on) to classes that are not retried
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
/// - no class with a policy of its own, and no function for the delays
/// - no class opted in or excluded, and no code of another class
/// - `max_silent_losses`: 2, so an operation is retried after the first loss only
///
/// Five retries wait for 1.25 s on average and 2.5 s at most; after what takes time to pass, 3.75 s
/// and 5 s.
///
/// Two policies are equal if everything in them is. Functions are equal if they have the same address,
/// which is not guaranteed for one function, nor excluded for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    max_retries: u32,
    initial_delay: Duration,
    max_delay: Duration,
    jitter: Jitter,
    seed: Option<u64>,
    backoff_fn: Option<BackoffFn>,
    classes: ClassRules,
    /// Like [`codes`](Self::codes).
    class_policies: [Option<(FaultClass, ClassPolicy)>; MAX_CLASSES],
    /// A table in the policy itself, so that a policy with codes is still a constant.
    codes: [Option<(Code, FaultClass)>; MAX_CODES],
    max_silent_losses: u32,
}

/// For more there is the classifier.
const MAX_CODES: usize = 8;

/// Nine classes are retried by default, and few of them need a policy of their own.
const MAX_CLASSES: usize = 8;

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
            backoff_fn: None,
            classes: ClassRules::NONE,
            class_policies: [None; MAX_CLASSES],
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
    /// own `max_retries` takes its place. A class can have [more](ClassPolicy::with_max_retries).
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

    /// How often and how soon to retry after faults of this class. None by default: all classes are
    /// alike, but for the longer delay after what takes time to pass (see
    /// [`with_max_delay`](Self::with_max_delay)). At most 8 classes. If a class is given twice, the last
    /// policy counts.
    ///
    /// A class with a policy of its own counts its own retries for the growth of its delays; the others
    /// count all of them. Operations nested in one another each apply the limits of their own policies.
    /// A nested operation takes its retries from the `max_retries` of the outermost one, which the
    /// limit of a class does not lift for it.
    ///
    /// ```
    /// use dbop_core::{ClassPolicy, FaultClass, Jitter, RetryPolicy};
    ///
    /// const POLICY: RetryPolicy = RetryPolicy::new()
    ///     .with_class_policy(FaultClass::LockTimeout, ClassPolicy::new().with_max_retries(1))
    ///     .with_class_policy(FaultClass::Deadlock, ClassPolicy::new().with_jitter(Jitter::Equal));
    /// assert_eq!(POLICY.max_retries_after(FaultClass::LockTimeout), 1);
    /// assert_eq!(POLICY.backoff_after(FaultClass::Deadlock).jitter(), Jitter::Equal);
    /// ```
    ///
    /// # Panics
    ///
    /// If there are 8 other classes already; in a constant that is an error of the compiler.
    #[must_use]
    pub const fn with_class_policy(mut self, class: FaultClass, policy: ClassPolicy) -> Self {
        let mut at = 0;
        while at < MAX_CLASSES {
            match self.class_policies[at] {
                Some((known, _)) if known as u32 != class as u32 => at += 1,
                _ => break,
            }
        }
        assert!(at < MAX_CLASSES, "a policy has at most 8 classes");
        self.class_policies[at] = Some((class, policy));
        self
    }

    /// Computes the delay before a retry with this function. None by default.
    ///
    /// The delay that it returns is used as it is. A deadline still forbids a delay that would end after
    /// it. The function is not asked where there is no delay: before the one more attempt in a savepoint,
    /// and after the outcome of a lost COMMIT was found out. What it panics with continues after the
    /// attempt was undone; the operation is not retried then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{FaultClass, RetryContext, RetryPolicy};
    ///
    /// fn by_hand(retry: &RetryContext) -> Duration {
    ///     match (retry.class(), retry.class_retries()) {
    ///         (Some(FaultClass::Deadlock), 0) => Duration::ZERO,
    ///         _ => retry.delay(),
    ///     }
    /// }
    ///
    /// const POLICY: RetryPolicy = RetryPolicy::new().with_backoff_fn(by_hand);
    /// # assert_eq!(POLICY, POLICY);
    /// ```
    #[must_use]
    pub const fn with_backoff_fn(mut self, backoff: fn(&RetryContext) -> Duration) -> Self {
        self.backoff_fn = Some(BackoffFn(backoff));
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

    /// The delay arithmetic after faults of this class, without the function given to
    /// [`with_backoff_fn`](Self::with_backoff_fn).
    #[must_use]
    pub fn backoff_after(&self, class: FaultClass) -> Backoff {
        self.backoff_of(Some(class), class.is_slow())
    }

    /// How often a run is retried if all its faults are of this class and it is retried on them at all.
    #[must_use]
    pub fn max_retries_after(&self, class: FaultClass) -> u32 {
        let own = self.class_policy(class).and_then(ClassPolicy::max_retries);
        own.map_or(self.max_retries, |own| own.min(MAX_CLASS_RETRIES))
    }

    /// What was said about this class with [`with_class_policy`](Self::with_class_policy).
    #[must_use]
    pub fn class_policy(&self, class: FaultClass) -> Option<&ClassPolicy> {
        let mut policies = self.class_policies.iter().flatten();
        policies.find_map(|(known, policy)| (*known == class).then_some(policy))
    }

    /// `is_slow`: what is in the way takes its time.
    pub(crate) fn backoff_of(&self, class: Option<FaultClass>, is_slow: bool) -> Backoff {
        let own = class.and_then(|class| self.class_policy(class));
        match (own, is_slow) {
            (Some(own), _) => own.backoff(self.backoff(), is_slow),
            (None, true) => self.backoff().slow(),
            (None, false) => self.backoff(),
        }
    }

    pub(crate) const fn backoff_fn(&self) -> Option<BackoffFn> {
        self.backoff_fn
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
            draws: self.draws(),
        }
    }

    pub(crate) fn draws(&self) -> Draws {
        Draws {
            rng: self
                .seed
                .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            count: 0,
            previous: None,
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
    draws: Draws,
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
        self.draws.draw(self.backoff.slow(), None)
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.draws.draw(self.backoff, None))
    }
}

/// Where the delays of one operation are drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    rng: fastrand::Rng,
    /// How many were drawn.
    count: u32,
    /// The last delay.
    pub(crate) previous: Option<Duration>,
}

impl Draws {
    /// A delay up to this one, which does not count as one of the policy's.
    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        Backoff::new(longest, longest, Jitter::Full).delay(0, self.rng.u64(..))
    }

    /// The next delay. `of_class`: how many retries of its class there were before, if that counts its
    /// own.
    pub(crate) fn draw(&mut self, backoff: Backoff, of_class: Option<u32>) -> Duration {
        let retry = of_class.unwrap_or(self.count);
        let previous = self.previous.unwrap_or_default();
        let delay = backoff.delay_after(previous, retry, self.rng.u64(..));
        self.count = self.count.saturating_add(1);
        self.previous = Some(delay);
        delay
    }
}

/// What is counted of the retries of a class.
pub(crate) const MAX_CLASS_RETRIES: u32 = u16::MAX as u32;

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

    #[test]
    fn a_class_is_as_all_classes_where_its_policy_is_silent() {
        let policy = RetryPolicy::new()
            .with_initial_delay(Duration::from_millis(7))
            .with_class_policy(FaultClass::Deadlock, ClassPolicy::new())
            .with_class_policy(FaultClass::NotConnected, ClassPolicy::new());
        let same = policy.backoff_after(FaultClass::Deadlock);
        assert_eq!(same, policy.backoff());
        let slow = policy.backoff_after(FaultClass::NotConnected);
        assert_eq!(slow, policy.backoff().slow());
        assert_eq!(policy.backoff_after(FaultClass::ReadOnlyServer), slow);
        assert_eq!(policy.max_retries_after(FaultClass::Deadlock), 5);
    }

    #[test]
    fn a_class_has_what_its_policy_says() {
        const OWN: ClassPolicy = ClassPolicy::new()
            .with_max_retries(9)
            .with_initial_delay(Duration::from_millis(3))
            .with_max_delay(Duration::from_millis(9))
            .with_jitter(Jitter::Decorrelated);
        for class in [FaultClass::Busy, FaultClass::NotConnected] {
            let policy = RetryPolicy::new().with_class_policy(class, OWN);
            let backoff = policy.backoff_after(class);
            let (initial, longest) = (Duration::from_millis(3), Duration::from_millis(9));
            assert_eq!(
                backoff,
                Backoff::new(initial, longest, Jitter::Decorrelated)
            );
            assert_eq!(policy.max_retries_after(class), 9);
            assert_eq!(policy.backoff_after(FaultClass::Deadlock), policy.backoff());
            assert_eq!(policy.max_retries_after(FaultClass::Deadlock), 5);
        }
    }

    /// A longer `max_delay` alone is what a class that takes its time needs.
    #[test]
    fn a_slow_class_with_a_longest_delay_of_its_own_waits_for_half_of_it_at_least() {
        let patient = ClassPolicy::new().with_max_delay(Duration::from_secs(10));
        let policy = RetryPolicy::new().with_class_policy(FaultClass::ServerUnavailable, patient);
        let backoff = policy.backoff_after(FaultClass::ServerUnavailable);
        assert_eq!(backoff.delay(0, 0), Duration::from_secs(5));
        assert_eq!(backoff.delay(0, u64::MAX), Duration::from_secs(10));
    }

    #[test]
    fn of_two_policies_for_a_class_the_last_one_counts() {
        let of = |max_retries| ClassPolicy::new().with_max_retries(max_retries);
        let policy = RetryPolicy::new()
            .with_class_policy(FaultClass::Busy, of(1))
            .with_class_policy(FaultClass::Deadlock, of(2))
            .with_class_policy(FaultClass::Busy, of(3));
        assert_eq!(policy.max_retries_after(FaultClass::Busy), 3);
        assert_eq!(policy.max_retries_after(FaultClass::Deadlock), 2);
        assert_eq!(policy.class_policy(FaultClass::LockTimeout), None);
    }

    fn with_classes(count: usize) -> RetryPolicy {
        let classes = &crate::classifier::tests::CLASSES[..count];
        classes.iter().fold(RetryPolicy::new(), |policy, class| {
            policy.with_class_policy(*class, ClassPolicy::new().with_max_retries(1))
        })
    }

    #[test]
    fn a_policy_has_room_for_eight_classes() {
        let full = with_classes(8);
        let last = crate::classifier::tests::CLASSES[7];
        assert_eq!(full.max_retries_after(last), 1);
    }

    #[test]
    #[should_panic(expected = "at most 8 classes")]
    fn a_ninth_class_is_refused() {
        _ = with_classes(9);
    }

    #[test]
    fn functions_are_equal_by_their_address_and_are_not_shown() {
        fn zero(_: &RetryContext) -> Duration {
            Duration::ZERO
        }
        let policy = RetryPolicy::new().with_backoff_fn(zero);
        assert_eq!(policy, policy.with_backoff_fn(zero));
        assert_ne!(policy, RetryPolicy::new());
        assert!(format!("{policy:?}").contains("backoff_fn: Some(own)"));
    }

    #[test]
    fn decorrelated_delays_depend_on_those_before() {
        let policy = RetryPolicy::new()
            .with_jitter(Jitter::Decorrelated)
            .with_max_delay(Duration::from_secs(60));
        for seed in 0..100 {
            let mut previous = Duration::from_millis(100);
            for delay in policy.with_seed(seed).delays().take(10) {
                assert!(delay >= Duration::from_millis(100) && delay <= 3 * previous);
                previous = delay;
            }
        }
    }

    /// It is copied by each of its setters.
    #[test]
    fn a_policy_is_small() {
        assert!(
            size_of::<RetryPolicy>() <= 640,
            "{}",
            size_of::<RetryPolicy>()
        );
    }
}
