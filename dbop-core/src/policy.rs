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
/// - `max_retries`: 5, so at most 6 attempts; 20 after the conflicts
///   [`Deadlock`](FaultClass::Deadlock), [`SerializationFailure`](FaultClass::SerializationFailure) and
///   [`Busy`](FaultClass::Busy)
/// - `initial_delay`: 100 ms; 20 ms after conflicts
/// - `multiplier`: 2, so the longest possible delay doubles; 8 after conflicts
/// - `max_delay`: 1 s, so a delay after what takes time to pass is between 500 ms and 1 s
/// - `jitter`: [`Jitter::Full`]
/// - no seed: the delays differ from run to run
/// - no policy for any other class, and no function for the delays
/// - no class opted in or excluded, and no code of another class
/// - `max_silent_losses`: 2, so an operation is retried after the first loss only
///
/// Five retries wait for 1.25 s on average and 2.5 s at most; after what takes time to pass, 3.75 s
/// and 5 s. Twenty after conflicts wait for 9.1 s on average and 18.2 s at most. An operation with a deadline
/// waits for a server until then, and takes no retries for it. On SQLite, a COMMIT that was busy is sent again
/// while the file stays locked: after 100 ms at the latest, unless there is a function for the delays.
///
/// `max_retries`, and `initial_delay` with `multiplier`, hold for all classes as soon as they are set, also
/// for the conflicts.
///
/// Two policies are equal if everything in them is. Functions are equal if they have the same address,
/// which is not guaranteed for one function, nor excluded for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `None`: nothing was said, so the conflicts have their own.
    max_retries: Option<u32>,
    /// Like [`max_retries`](Self::max_retries).
    initial_delay: Option<Duration>,
    /// Like [`max_retries`](Self::max_retries).
    multiplier: Option<u16>,
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

/// After every class but the conflicts.
const MAX_RETRIES: u32 = 5;

/// Like [`MAX_RETRIES`].
const INITIAL_DELAY: Duration = Duration::from_millis(100);

/// For more there is the classifier.
const MAX_CODES: usize = 8;

/// Nine classes are retried by default, and few of them need a policy of their own.
const MAX_CLASSES: usize = 8;

impl RetryPolicy {
    /// The default policy: see [the list](Self#default).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_retries: None,
            initial_delay: None,
            multiplier: None,
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
    /// attempts. Defaults to 5, and to 20 after [conflicts](Self#default); once it is set, it holds for
    /// both. Retries of operations nested in this one count too. An operation's
    /// own `max_retries` takes its place. A class can have [more](ClassPolicy::with_max_retries).
    ///
    /// ```
    /// use dbop_core::RetryPolicy;
    ///
    /// const POLICY: RetryPolicy = RetryPolicy::new().with_max_retries(3); // at most 4 attempts
    /// ```
    #[must_use]
    pub const fn with_max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    /// The longest possible delay before the first retry; it [grows](Self::with_multiplier) with every
    /// further one, up to [`max_delay`](Self::with_max_delay). Defaults to 100 ms, and to 20 ms after
    /// [conflicts](Self#default); once it is set, it holds for all. Zero means that no retry ever waits.
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
        self.initial_delay = Some(initial_delay);
        self
    }

    /// How many times as long the longest possible delay is from one retry to the next. Defaults to 2, and to
    /// 8 after [conflicts](Self#default); once it or the initial delay is set, it is the same for all. 1, like
    /// 0, means that it does not grow.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{Jitter, RetryPolicy};
    ///
    /// let policy = RetryPolicy::new().with_multiplier(3).with_jitter(Jitter::None);
    /// let delays: Vec<_> = policy.delays().take(4).collect();
    /// assert_eq!(delays, [100, 300, 900, 1000].map(Duration::from_millis));
    /// ```
    #[must_use]
    pub const fn with_multiplier(mut self, multiplier: u16) -> Self {
        self.multiplier = Some(multiplier);
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

    /// How often and how soon to retry after faults of this class. By default the classes are alike,
    /// but for the [conflicts](Self#default) and for the longer delay after what takes time to pass (see
    /// [`with_max_delay`](Self::with_max_delay)). What the policy of a class leaves open stays as it is
    /// without; how soon is one question, whether it sets the initial delay or the multiplier. At most 8 classes. If a class is given twice, the last policy counts.
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
    /// and after the outcome of a lost COMMIT was found out. Where it returns zero, waiting for a server
    /// takes a retry, too. What it panics with continues after the
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
        match self.max_retries {
            Some(max_retries) => max_retries,
            None => MAX_RETRIES,
        }
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
        let initial_delay = match self.initial_delay {
            Some(initial_delay) => initial_delay,
            None => INITIAL_DELAY,
        };
        let multiplier = match self.multiplier {
            Some(multiplier) => multiplier,
            None => 2,
        };
        Backoff::new(initial_delay, self.max_delay, self.jitter).with_multiplier(multiplier)
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
        self.limit_of(class).unwrap_or(self.max_retries())
    }

    /// How often a run is retried after this class, if that differs from all classes.
    pub(crate) fn limit_of(&self, class: FaultClass) -> Option<u32> {
        let limit = self.about(class)?.max_retries()?;
        Some(limit.min(MAX_CLASS_RETRIES))
    }

    /// The same, without the default of the conflicts.
    pub(crate) fn own_limit_of(&self, class: FaultClass) -> Option<u32> {
        let limit = self.class_policy(class)?.max_retries()?;
        Some(limit.min(MAX_CLASS_RETRIES))
    }

    /// What holds for this class alone: what was said about it, or else the default of the conflicts.
    pub(crate) fn about(&self, class: FaultClass) -> Option<ClassPolicy> {
        let is_delay_set = self.initial_delay.is_some() || self.multiplier.is_some();
        let usual = ClassPolicy::of_conflicts(class)
            .map(|usual| usual.unless(self.max_retries.is_some(), is_delay_set))
            .filter(|usual| *usual != ClassPolicy::new());
        match (self.class_policy(class), usual) {
            (Some(own), Some(usual)) => Some(own.or(usual)),
            (own, usual) => own.copied().or(usual),
        }
    }

    /// What was said about this class with [`with_class_policy`](Self::with_class_policy).
    #[must_use]
    pub fn class_policy(&self, class: FaultClass) -> Option<&ClassPolicy> {
        let mut policies = self.class_policies.iter().flatten();
        policies.find_map(|(known, policy)| (*known == class).then_some(policy))
    }

    /// `is_slow`: what is in the way takes its time.
    pub(crate) fn backoff_of(&self, class: Option<FaultClass>, is_slow: bool) -> Backoff {
        let own = class.and_then(|class| self.about(class));
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
const MAX_CLASS_RETRIES: u32 = u16::MAX as u32;

#[cfg(test)]
mod tests;
