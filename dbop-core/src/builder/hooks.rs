//! The hooks of operations.

/// The hooks of an `Operation` with a field `spec: Spec<'a>`.
#[doc(hidden)]
#[macro_export]
macro_rules! __hook_methods {
    ($adapter:literal) => {
        /// Sends this SQL at the beginning of each attempt, in its transaction or savepoint: behind BEGIN
        /// and the settings, in the same batch, so it costs no round trip. None by default.
        ///
        /// It is for what belongs to the transaction: `SET LOCAL`, the user's id for triggers or row
        /// security, a lock that comes first. An error of it is an error of the attempt, in the phase
        /// [`Begin`](crate::Phase::Begin), and is retried as its class says. Rows that it returns are not
        /// read. A `SET LOCAL` of PostgreSQL's outlives a savepoint that is released.
        ///
        /// **It is sent as it is.** Never put values from outside into it. It must not begin or end a
        /// transaction, and on MySQL and MariaDB must not contain DDL: then the outcome of the operation is
        /// unknown. With a ledger, a constraint that it violates in the second attempt or later is an unknown
        /// outcome, too, because it looks like a token.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let rename = runner
        ///     .operation("rename")
        ///     .begin_with_sql("SET LOCAL ROLE editor");
        /// ```
        #[must_use]
        pub const fn begin_with_sql(mut self, sql: &'a str) -> Self {
            self.spec.begin_with_sql = Some(sql);
            self
        }

        /// Calls this function before each attempt, with the number of the attempt, from 1. None by default.
        ///
        /// It is called before a connection is taken from a source. If it panics, there is no such attempt,
        /// and the panic continues when everything is cleaned up.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let announce = |attempt| println!("attempt {attempt}");
        /// let import = runner.operation("import").before_attempt(&announce);
        /// ```
        #[must_use]
        pub const fn before_attempt(mut self, hook: &'a $crate::AttemptHook<'a>) -> Self {
            self.spec.hooks.before_attempt = Some(hook);
            self
        }

        /// Calls this function before each retry, when the failed attempt is rolled back and before the delay.
        /// It sees the error and the delay, and may change the delay or stop the operation. None by default.
        ///
        /// It is not called where there is no retry: after an error that is final, and when no retries are
        /// left. A veto returns the attempt's own error, unchanged, with
        /// [`StopReason::Vetoed`](crate::StopReason::Vetoed). An operation around this one decides for
        /// itself. The deadline holds for a changed delay, too, and a [budget](crate::RetryBudget) is asked
        /// afterwards. If the function panics, there is no retry, and the panic continues when everything is
        /// cleaned up.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{FaultClass, Retry, RetryDecision, Runner};")]
        /// # let runner = Runner::default();
        ///
        /// let no_deadlocks = |retry: &Retry| match retry.fault().map(|fault| fault.class()) {
        ///     Some(FaultClass::Deadlock) => RetryDecision::Veto,
        ///     _ => RetryDecision::AsPlanned,
        /// };
        /// let import = runner.operation("import").before_retry(&no_deadlocks);
        /// ```
        #[must_use]
        pub const fn before_retry(mut self, hook: &'a $crate::RetryHook<'a>) -> Self {
            self.spec.hooks.before_retry = Some(hook);
            self
        }

        /// Calls this function once, after the COMMIT of the operation, when the connection is back in its
        /// source. None by default.
        ///
        /// It is not called after an error, after an unknown outcome (unless the COMMIT was found), and if
        /// the run is dropped. It comes before the hooks that the body has registered with
        /// [`after_commit`](fn@crate::after_commit). If it panics, those are called all the same, then the
        /// panic continues: the work is committed.
        ///
        /// **Only the outermost operation commits**, so this is an error
        /// ([`is_hook_refused`](crate::Error::is_hook_refused)) on an operation that is nested in another one
        /// or runs in the caller's transaction. A hook that is registered in the body may be nested. A
        /// runner [`for_tests`](Runner::for_tests) takes the end of the operation for the COMMIT.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// # struct Cache;
        /// # impl Cache { fn clear(&self) {} }
        /// # let cache = Cache;
        /// let clear = || cache.clear();
        /// let rename = runner.operation("rename").after_commit(&clear);
        /// ```
        #[must_use]
        pub const fn after_commit(mut self, hook: &'a $crate::CommitHook<'a>) -> Self {
            self.spec.hooks.after_commit = Some(hook);
            self
        }

        /// Calls this function once if the run ends with an error, a panic or an unknown outcome, or falls back
        /// on a value: when the last attempt is rolled back and the connection is back in its source. None by
        /// default.
        ///
        /// [`GivenUp::stop`](crate::GivenUp::stop) tells a fault that has used up its retries from an answer
        /// of the operation's own. A nested operation gives up as often as it returns an error, even if the
        /// operation around it runs it again. It is not called if the run is dropped. If it panics, the panic
        /// continues.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{GivenUp, Runner, StopReason};")]
        /// # let runner = Runner::default();
        ///
        /// let alert = |given_up: &GivenUp| {
        ///     if given_up.stop() == StopReason::RetriesExhausted {
        ///         eprintln!("the import gave up after {} attempts", given_up.attempts());
        ///     }
        /// };
        /// let import = runner.operation("import").after_giving_up(&alert);
        /// ```
        #[must_use]
        pub const fn after_giving_up(mut self, hook: &'a $crate::GiveUpHook<'a>) -> Self {
            self.spec.hooks.after_giving_up = Some(hook);
            self
        }
    };
}
