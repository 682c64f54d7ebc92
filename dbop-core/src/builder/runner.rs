//! The methods of runners.

/// The builder methods of a `Runner` with a field `config: RunnerConfig`, and an
/// `Operation::new(&Runner, Name)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __runner_methods {
    ($adapter:literal) => {
        /// A runner with this policy, and the defaults otherwise.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{RetryPolicy, Runner};")]
        ///
        /// let runner = Runner::new(RetryPolicy::new().with_max_retries(3));
        /// ```
        #[must_use]
        pub fn new(policy: $crate::RetryPolicy) -> Self {
            let mut runner = Self::default();
            runner.config.set_policy(policy);
            runner
        }

        /// How long a statement of an operation without its own `lock_timeout` may wait for a
        /// lock. Defaults to 10 s; `None` leaves the session's value alone.
        ///
        /// It never loosens a stricter session value. It applies to outermost operations: nested
        /// ones inherit what is in force. It does not apply to SQLite, where the wait is the
        /// connection's `busy_timeout`.
        ///
        /// On PostgreSQL, the first operation of the runner and its clones asks its session whether that is
        /// stricter, and about one in 1000 asks again. The others rely on the answer, so that the default costs
        /// no query. Where the sessions of one runner differ in this, say so:
        /// [`with_differing_sessions`](Self::with_differing_sessions).
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_default_lock_timeout(Duration::from_secs(2));
        /// ```
        #[must_use]
        pub fn with_default_lock_timeout(
            mut self,
            timeout: impl Into<Option<::core::time::Duration>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.lock_timeout = timeout.into());
            self
        }

        /// How long a statement of an operation without its own `statement_timeout` may run.
        /// Defaults to `None`, which leaves the session's value alone.
        ///
        /// It never loosens a stricter session value, and applies to outermost operations. On PostgreSQL the
        /// runner asks for that value as it does for the
        /// [lock timeout](Self::with_default_lock_timeout), and where its sessions differ in it, say
        /// [so](Self::with_differing_sessions). SQLite has no statement timeout.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_default_statement_timeout(Duration::from_secs(30));
        /// ```
        #[must_use]
        pub fn with_default_statement_timeout(
            mut self,
            timeout: impl Into<Option<::core::time::Duration>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.statement_timeout = timeout.into());
            self
        }

        /// Whether operations refuse writes. Defaults to `false`.
        ///
        /// It applies to outermost operations, and nested ones inherit it. On MySQL and MariaDB it
        /// does not apply in a transaction of the caller.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let reports = Runner::default().with_default_read_only(true);
        /// ```
        #[must_use]
        pub fn with_default_read_only(mut self, read_only: bool) -> Self {
            self.config
                .set_defaults(|defaults| defaults.read_only = read_only);
            self
        }

        /// The isolation level of operations without their own `isolation`. Defaults to `None`,
        /// which leaves the session's level alone.
        ///
        /// It never weakens the session's level. It applies to outermost operations that are not in
        /// a transaction of the caller. On PostgreSQL the runner asks for that level as it does for the
        /// [lock timeout](Self::with_default_lock_timeout), and where its sessions differ in it, say
        /// [so](Self::with_differing_sessions). SQLite has one level only.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{IsolationLevel, Runner};")]
        ///
        /// let runner = Runner::default().with_default_isolation(IsolationLevel::Serializable);
        /// ```
        #[must_use]
        pub fn with_default_isolation(
            mut self,
            isolation: impl Into<Option<$crate::IsolationLevel>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.isolation = isolation.into());
            self
        }

        /// Whether the sessions that operations get differ in their own timeouts, default isolation level or
        /// `default_transaction_deferrable`. Defaults to `false`. It applies to PostgreSQL.
        ///
        /// They usually have the same by role, database, URL or pool. So in its first operation, and in about
        /// one in 1000 after it (one in 17 where the session was stricter), a runner asks the session whether
        /// it is stricter than the defaults of the runner, and relies on that answer until the next one. If
        /// some sessions are stricter and others are not, until the runner has met both kinds a default can
        /// loosen the value of a stricter session among others, or not apply to laxer ones, which then wait
        /// for locks without a limit. With `true`, every operation looks at its session first. That takes no
        /// round trip, but two queries.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_differing_sessions(true); // one pool for several roles
        /// ```
        #[must_use]
        pub fn with_differing_sessions(mut self, differ: bool) -> Self {
            self.config
                .set_defaults(|defaults| defaults.sessions_differ = differ);
            self
        }

        /// Whether nothing is set on a session that others may use, as behind a pooler that lends a server
        /// connection for each transaction: PgBouncer, Neon, Supabase, RDS Proxy, ProxySQL, Azure. Defaults to
        /// `false`. The guide about poolers has the details.
        ///
        /// PostgreSQL: every setting is `SET LOCAL`, and nothing that the runner has learned of one session is
        /// relied on in another. Each operation that depends on a default asks its session whether that is
        /// stricter, which takes a query. An operation that so meets a session that is stricter takes a round
        /// trip more; from then on each looks in its own transaction.
        ///
        /// MySQL and MariaDB: there are no user variables, and `autocommit` is 1 after each operation. What
        /// can only be a variable of the session is rejected: `lock_timeout`, `lock_timeouts` and
        /// `statement_timeout`. Such defaults are skipped, and a deadline sends no timeouts.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_pooler_safe(true);
        /// ```
        #[must_use]
        pub fn with_pooler_safe(mut self, pooler_safe: bool) -> Self {
            self.config
                .set_defaults(|defaults| defaults.pooler_safe = pooler_safe);
            self
        }

        /// Which server it is, of those that speak a protocol. Defaults to the one after which the protocol is
        /// named. Most of the others were not measured: the guide about engines says what is known.
        ///
        /// dbop leaves out what the engine does not understand. What an operation asks for that the engine does
        /// not have is rejected when it runs (see [`best_effort`](Operation::best_effort)); such a default is
        /// skipped. On a connection of another protocol every operation is rejected.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{Engine, Runner};")]
        ///
        /// let runner = Runner::default().with_engine(Engine::CockroachDb);
        /// ```
        #[must_use]
        pub fn with_engine(mut self, engine: $crate::Engine) -> Self {
            self.config
                .set_defaults(|defaults| defaults.engine = Some(engine));
            self
        }

        /// How the transactions of operations without their own `begin_mode` begin on SQLite.
        /// Defaults to `None`: immediate, or deferred for what is read-only.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{BeginMode, Runner};")]
        ///
        /// let runner = Runner::default().with_default_begin_mode(BeginMode::Deferred);
        /// ```
        #[must_use]
        pub fn with_default_begin_mode(
            mut self,
            mode: impl Into<Option<$crate::BeginMode>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.begin_mode = mode.into());
            self
        }

        /// How long an operation without its own `deadline` may take, all attempts and the delays
        /// between them together. Defaults to `None`: only the number of retries is limited.
        ///
        /// It applies to outermost operations: nested ones inherit the time that is left.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_default_deadline(Duration::from_secs(60));
        /// ```
        #[must_use]
        pub fn with_default_deadline(
            mut self,
            deadline: impl Into<Option<::core::time::Duration>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.deadline = deadline.into());
            self
        }

        /// For how long after its deadline an async operation still waits for what does not come: an answer of a
        /// server that has stopped without a word, or the end of the body. Defaults to 1 s. `None`: for as long as
        /// it takes.
        ///
        /// Then the connection is thrown away, and the body is dropped where it waits. The work is undone, as after
        /// any connection that is lost. If COMMIT has been sent, the outcome is unknown, unless the operation has a
        /// way to find out. For that it has this time once more, however late its COMMIT was lost, in the sync
        /// adapter as well.
        ///
        /// Nothing else of this applies to the sync adapter, whose calls cannot be interrupted, to SQLite, which has no
        /// server, and to operations without a deadline.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default()
        ///     .with_default_deadline(Duration::from_secs(10))
        ///     .with_grace_period(Duration::from_secs(3));
        /// ```
        #[must_use]
        pub fn with_grace_period(
            mut self,
            period: impl Into<Option<::core::time::Duration>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.grace_period = period.into());
            self
        }

        /// Gives each name of an operation a gate, which is open until one of them meets a deadlock or a
        /// serialization failure. Off by default.
        ///
        /// From then on they wait for their turn, before they take a connection, in the order in which they
        /// came: one at a time at first, and one more each time that 20 times the duration of the failed
        /// attempt has passed (at most 10 s). A further conflict halves their number. Where no one has had to
        /// wait for 5 s the gate is open again. An open gate costs one atomic load.
        ///
        /// - It applies to `run_on`, and to `run` with
        ///   [`queue_with_connection`](Operation::queue_with_connection). Operations that are nested in another
        ///   one pass straight through. [`exclusive_by`](Operation::exclusive_by) takes its place.
        /// - The wait ends with the operation's deadline. After a second, the operation is let in although it is
        ///   not its turn, one at a time for as long as the conflict has lasted.
        /// - On PostgreSQL, an attempt waits at most 100 ms for a lock, unless the operation has a lock timeout
        ///   of its own. A longer wait counts as a conflict and takes no retry, until all of them together are
        ///   as long as the default lock timeout. So with the defaults there can be 121 attempts: the first, 100
        ///   more after waits of 100 ms, and up to 20 retries after conflicts. Each of the 100 is a WARN record,
        ///   as every retry is.
        /// - Give operations that rarely collide a name of their own: all operations of a name wait for each
        ///   other, those that touch other rows too. Clones of a runner share its gates.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_gates(true);
        /// assert_eq!(runner.gate_status("transfer").and_then(|gate| gate.limit), None);
        /// ```
        #[must_use]
        pub fn with_gates(mut self, gated: bool) -> Self {
            self.config.set_gates(gated);
            self
        }

        /// How the gate of the operations with this name stands. `None` without
        /// [`with_gates`](Self::with_gates).
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_gates(true);
        /// assert_eq!(runner.gate_status("transfer").map(|gate| gate.waiting), Some(0));
        /// ```
        #[must_use]
        pub fn gate_status(&self, name: &str) -> Option<$crate::GateStatus> {
            self.config.gate_status($crate::machine::Name::Given(name))
        }

        /// Judges the database errors of all operations with this function, which may name another
        /// class than dbop has recognized. None by default.
        ///
        /// The class decides whether and when to retry, and is what records and reports show. It
        /// does not decide what has happened: an attempt that is not certainly undone is still not
        /// retried, and a lost connection is not used again. See [`Seen`](crate::Seen). An
        /// operation's own [`classify`](Operation::classify) is asked first.
        ///
        /// The function must not use the connection. If it panics, the attempt is not retried: it is
        /// rolled back as after any other error, then the panic continues.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{FaultClass, Runner};")]
        ///
        /// let runner = Runner::default().with_classifier(|seen| {
        ///     let is_conflict = seen.message().starts_with("write conflict:");
        ///     is_conflict.then_some(FaultClass::SerializationFailure)
        /// });
        /// ```
        #[must_use]
        pub fn with_classifier(
            mut self,
            classifier: impl Fn(&$crate::Seen<'_>) -> Option<$crate::FaultClass> + Send + Sync + 'static,
        ) -> Self {
            self.config.set_classifier(::std::sync::Arc::new(classifier));
            self
        }

        /// Bounds the retries of all operations of this runner and of its clones together. None by
        /// default: nothing is counted.
        ///
        /// When nothing is left, an operation that would be retried fails at once, with the error of its
        /// last attempt. Records, reports ([`StopReason::BudgetExhausted`](crate::StopReason::BudgetExhausted)) and
        /// dbop's own errors ([`is_budget_exhausted`](crate::Error::is_budget_exhausted)) say so. See
        /// [`RetryBudget`](crate::RetryBudget) for its two forms. An `Arc` of one shares it between
        /// runners.
        ///
        /// ```
        /// use std::sync::Arc;
        ///
        #[doc = concat!("use ", $adapter, "::{RetryBudget, Runner};")]
        ///
        /// let runner = Runner::default().with_retry_budget(RetryBudget::default());
        ///
        /// let shared = Arc::new(RetryBudget::token_bucket(500));
        /// let web = Runner::default().with_retry_budget(Arc::clone(&shared));
        /// let jobs = Runner::default().with_retry_budget(shared);
        /// ```
        #[must_use]
        pub fn with_retry_budget(
            mut self,
            budget: impl Into<::std::sync::Arc<$crate::RetryBudget>>,
        ) -> Self {
            self.config.set_retry_budget(budget.into());
            self
        }

        /// The budget that this runner's operations share, for your metrics. `None` if there is none.
        ///
        /// ```
        /// use std::time::Instant;
        ///
        #[doc = concat!("use ", $adapter, "::{RetryBudget, Runner};")]
        ///
        /// let runner = Runner::default().with_retry_budget(RetryBudget::token_bucket(500));
        /// let left = runner.retry_budget().map(|budget| budget.retries_left(Instant::now()));
        /// # assert_eq!(left, Some(100));
        /// ```
        #[must_use]
        pub fn retry_budget(&self) -> Option<&$crate::RetryBudget> {
            self.config.retry_budget()
        }

        /// Sends records to this logger. Defaults to the global logger of the `log` crate.
        ///
        /// ```
        /// use std::sync::Arc;
        ///
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # struct AuditLog;
        /// # impl log::Log for AuditLog {
        /// #     fn enabled(&self, _: &log::Metadata<'_>) -> bool { true }
        /// #     fn log(&self, _: &log::Record<'_>) {}
        /// #     fn flush(&self) {}
        /// # }
        /// let runner = Runner::default().with_logger(Arc::new(AuditLog));
        /// ```
        #[must_use]
        pub fn with_logger(mut self, logger: ::std::sync::Arc<dyn ::log::Log>) -> Self {
            self.config
                .set_logging(|logging| logging.logger = Some(logger));
            self
        }

        /// The level of each kind of record. Defaults to [`LogLevels::DEFAULT`](crate::LogLevels::DEFAULT).
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{LogLevels, Runner};")]
        ///
        /// let runner = Runner::default().with_log_levels(LogLevels::DONE_IS_INFO);
        /// ```
        #[must_use]
        pub fn with_log_levels(mut self, levels: $crate::LogLevels) -> Self {
            self.config.set_logging(|logging| logging.levels = levels);
            self
        }

        /// Whether records contain the server's own message, under the key `error`. Defaults to
        /// `false`: such a message can quote values of your rows.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().with_server_messages(true);
        /// ```
        #[must_use]
        pub fn with_server_messages(mut self, server_messages: bool) -> Self {
            self.config
                .set_logging(|logging| logging.server_messages = server_messages);
            self
        }

        /// Tells this observer of every operation: its start, its attempts, its events and its end. None
        /// by default. Called again, it adds another one: all of them are told, in the order in which
        /// they were added.
        ///
        /// To keep a part in what it sees, give it an `Arc` of it.
        ///
        /// ```
        /// use std::sync::Arc;
        /// use std::sync::atomic::{AtomicU32, Ordering};
        ///
        #[doc = concat!("use ", $adapter, "::{Observer, Runner, Subject, Summary};")]
        ///
        /// #[derive(Default)]
        /// struct Attempts(AtomicU32);
        ///
        /// impl Observer for Attempts {
        ///     fn on_end(&self, _: &Subject<'_>, summary: &Summary) {
        ///         self.0.fetch_add(summary.attempts(), Ordering::Relaxed);
        ///     }
        /// }
        ///
        /// let attempts = Arc::new(Attempts::default());
        /// let runner = Runner::default().with_observer(attempts.clone());
        /// ```
        #[must_use]
        pub fn with_observer(mut self, observer: impl $crate::Observer) -> Self {
            self.config.add_observer(observer);
            self
        }

        /// An operation with a name, for the log, and with its own settings. The methods of
        /// [`Operation`] say what can be set.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let operation = runner.operation("list-users").read_only();
        /// ```
        pub const fn operation<'a>(&'a self, name: &'a str) -> Operation<'a> {
            Operation::new(self, $crate::machine::Name::Given(name))
        }

        /// The operation that deletes old entries of a ledger.
        const fn to_forget(&self, dialect: $crate::Dialect) -> Operation<'_> {
            let operation = self.operation("forget");
            match dialect {
                // Its only level is another one.
                $crate::Dialect::Sqlite => operation,
                // It has no levels to choose from.
                _ if matches!(self.config.defaults().engine, Some($crate::Engine::Vitess)) => operation,
                // In a stricter one, an entry that is written meanwhile would be an error.
                _ => operation.isolation($crate::IsolationLevel::ReadCommitted),
            }
        }

        /// An operation without a name, which the log calls by this file and line, as it calls the ones
        /// of [`run`](Self::run) and the like. Use it in your own `#[track_caller]` helpers.
        ///
        /// ```
        /// use std::panic::Location;
        ///
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let operation = runner.at(Location::caller()).read_only();
        /// ```
        pub const fn at(
            &self,
            location: &'static ::core::panic::Location<'static>,
        ) -> Operation<'_> {
            Operation::new(self, $crate::machine::Name::Call(location))
        }

        /// The same runner for tests that keep a transaction open around everything, such as Diesel's
        /// `begin_test_transaction`. Not set by default.
        ///
        /// In a transaction that is already open, an isolation level, `deferrable`, a begin mode and (on
        /// MySQL and MariaDB) `read_only` are errors. With this they are skipped there, as with
        /// [`best_effort`](Operation::best_effort), so that the code under test runs. Each operation's
        /// first skipped settings are logged as WARN. Everything else stays as it is: an operation that is
        /// nested in another one may not ask for them, and what the database does not support at all is an
        /// error.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// let runner = Runner::default().for_tests();
        /// ```
        #[must_use]
        pub fn for_tests(mut self) -> Self {
            self.config
                .set_defaults(|defaults| defaults.skip_what_open_transactions_refuse = true);
            self
        }
    };
}
