//! What a policy says about the retries of one class.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};
use crate::fault::FaultClass;

/// How often and how soon to retry after faults of one class. For
/// [`RetryPolicy::with_class_policy`](crate::RetryPolicy::with_class_policy).
///
/// What it leaves open is as it is without. That a class has a policy does not mean that it is
/// retried: [`with_retry_on`](crate::RetryPolicy::with_retry_on) opts it in.
///
/// ```
/// use std::time::Duration;
/// use dbop_core::{ClassPolicy, FaultClass, Jitter, RetryPolicy};
///
/// const CONFLICTS: ClassPolicy = ClassPolicy::new()
///     .with_max_retries(20)
///     .with_initial_delay(Duration::from_millis(5))
///     .with_max_delay(Duration::from_millis(200));
/// const POLICY: RetryPolicy = RetryPolicy::new()
///     .with_class_policy(FaultClass::SerializationFailure, CONFLICTS);
///
/// let backoff = POLICY.backoff_after(FaultClass::SerializationFailure);
/// assert_eq!(backoff.ceiling(0), Duration::from_millis(5));
/// assert_eq!(backoff.jitter(), Jitter::Full); // the policy's
/// ```
///
/// # Default
///
/// [`new`](Self::new): everything is as it is without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassPolicy {
    max_retries: Option<u32>,
    initial_delay: Option<Duration>,
    max_delay: Option<Duration>,
    jitter: Option<Jitter>,
    multiplier: Option<u16>,
}

impl ClassPolicy {
    /// Leaves everything as it is without.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_retries: None,
            initial_delay: None,
            max_delay: None,
            jitter: None,
            multiplier: None,
        }
    }

    /// How often a run is retried after faults of this class. Not set by default: as often as the
    /// policy's `max_retries` allows. More than 65535 counts as 65535.
    ///
    /// A number below the policy's `max_retries` limits this class alone. A number above it lifts the
    /// limit for this class: after such a fault the run is retried until it has been retried so often,
    /// whatever the retries were for. So a run is retried at most as often as the largest of its limits
    /// says; limits do not add up. An operation's own `max_retries` is not lifted.
    ///
    /// ```
    /// use dbop_core::{ClassPolicy, FaultClass, RetryPolicy};
    ///
    /// // Deadlocks only.
    /// const POLICY: RetryPolicy = RetryPolicy::no_retries()
    ///     .with_class_policy(FaultClass::Deadlock, ClassPolicy::new().with_max_retries(3));
    /// assert_eq!(POLICY.max_retries_after(FaultClass::Deadlock), 3);
    /// assert_eq!(POLICY.max_retries_after(FaultClass::LockTimeout), 0);
    /// ```
    #[must_use]
    pub const fn with_max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    /// The longest possible delay before the first retry of this class; it grows with every further
    /// one of this class. Not set by default: the policy's `initial_delay` or, for what takes time to
    /// pass, its `max_delay`. Zero means that no retry of this class waits.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::ClassPolicy;
    ///
    /// const SOON: ClassPolicy = ClassPolicy::new().with_initial_delay(Duration::from_millis(5));
    /// # assert_ne!(SOON, ClassPolicy::new());
    /// ```
    #[must_use]
    pub const fn with_initial_delay(mut self, initial_delay: Duration) -> Self {
        self.initial_delay = Some(initial_delay);
        self
    }

    /// The longest possible delay before any retry of this class. Not set by default: the policy's
    /// `max_delay`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{ClassPolicy, FaultClass, RetryPolicy};
    ///
    /// // A server that starts is asked every 5 to 10 s.
    /// const PATIENT: ClassPolicy = ClassPolicy::new().with_max_delay(Duration::from_secs(10));
    /// const POLICY: RetryPolicy =
    ///     RetryPolicy::new().with_class_policy(FaultClass::ServerUnavailable, PATIENT);
    /// let backoff = POLICY.backoff_after(FaultClass::ServerUnavailable);
    /// assert_eq!(backoff.delay(0, 0), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn with_max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = Some(max_delay);
        self
    }

    /// How the delays of this class are drawn. Not set by default: the policy's jitter or, for what
    /// takes time to pass, [`Jitter::Equal`] in the place of [`Jitter::Full`] and
    /// [`Jitter::Decorrelated`].
    ///
    /// ```
    /// use dbop_core::{ClassPolicy, Jitter};
    ///
    /// const STEADY: ClassPolicy = ClassPolicy::new().with_jitter(Jitter::Equal);
    /// # assert_ne!(STEADY, ClassPolicy::new());
    /// ```
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = Some(jitter);
        self
    }

    /// How many times as long the longest possible delay is from one retry of this class to the next. Not
    /// set by default: the policy's multiplier. 1, like 0, means that it does not grow.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dbop_core::{ClassPolicy, FaultClass, RetryPolicy};
    ///
    /// const POLICY: RetryPolicy = RetryPolicy::new()
    ///     .with_class_policy(FaultClass::LockTimeout, ClassPolicy::new().with_multiplier(3));
    /// let backoff = POLICY.backoff_after(FaultClass::LockTimeout);
    /// assert_eq!(backoff.ceiling(1), Duration::from_millis(300));
    /// ```
    #[must_use]
    pub const fn with_multiplier(mut self, multiplier: u16) -> Self {
        self.multiplier = Some(multiplier);
        self
    }

    /// How often a run is retried after faults of this class, if that was set.
    #[must_use]
    pub const fn max_retries(&self) -> Option<u32> {
        self.max_retries
    }

    /// What a policy says about this class if its user says nothing.
    ///
    /// Measured with up to 128 clients on four rows (`docs/storms.md`): after 5 retries many operations
    /// still fail that succeed after some more. One that met a single conflict may come back soon; those
    /// who meet another are in a crowd, which only long pauses thin out.
    pub(super) const fn of_conflicts(class: FaultClass) -> Option<Self> {
        const CONFLICT: ClassPolicy = ClassPolicy::new()
            .with_max_retries(20)
            .with_initial_delay(Duration::from_millis(20))
            .with_multiplier(8);
        match class {
            FaultClass::Deadlock | FaultClass::SerializationFailure | FaultClass::Busy => {
                Some(CONFLICT)
            }
            _ => None,
        }
    }

    /// This policy, and where it leaves something open the other one. How soon is one question: a policy
    /// that answers a part of it has answered it.
    pub(super) fn or(self, other: Self) -> Self {
        let other = other.unless(false, self.says_how_soon());
        Self {
            max_retries: self.max_retries.or(other.max_retries),
            initial_delay: self.initial_delay.or(other.initial_delay),
            max_delay: self.max_delay.or(other.max_delay),
            jitter: self.jitter.or(other.jitter),
            multiplier: self.multiplier.or(other.multiplier),
        }
    }

    const fn says_how_soon(&self) -> bool {
        self.initial_delay.is_some() || self.multiplier.is_some()
    }

    /// What is left of it where a policy says for all classes how often to retry, or how soon.
    pub(super) fn unless(self, often: bool, soon: bool) -> Self {
        Self {
            max_retries: self.max_retries.filter(|_| !often),
            initial_delay: self.initial_delay.filter(|_| !soon),
            multiplier: self.multiplier.filter(|_| !soon),
            ..self
        }
    }

    /// The backoff of this class, given that of all classes.
    pub(super) fn backoff(&self, of_all: Backoff, is_slow: bool) -> Backoff {
        let max_delay = self.max_delay.unwrap_or(of_all.max_delay());
        let multiplier = self.multiplier.unwrap_or(of_all.multiplier());
        let inherited = Backoff::new(of_all.initial_delay(), max_delay, of_all.jitter());
        let inherited = match is_slow {
            true => inherited.slow(),
            false => inherited,
        };
        Backoff::new(
            self.initial_delay.unwrap_or(inherited.initial_delay()),
            max_delay,
            self.jitter.unwrap_or(inherited.jitter()),
        )
        .with_multiplier(multiplier)
    }
}
