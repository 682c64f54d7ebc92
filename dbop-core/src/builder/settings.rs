//! The settings of operations.

/// The settings of an `Operation` with a field `spec: Spec<'a>`.
#[doc(hidden)]
#[macro_export]
macro_rules! __operation_methods {
    ($adapter:literal) => {
        /// Refuses writes. Not set by default.
        ///
        /// PostgreSQL enforces it in a transaction and in a savepoint, MySQL and MariaDB in a
        /// transaction only (in one that is already open it is an error, see
        /// [`best_effort`](Self::best_effort)), SQLite by `query_only`. On SQLite it also means
        /// that the operation does not wait for the write lock, so mark reads with it.
        /// [Without a transaction](Self::without_transaction) it is your promise, which is not enforced.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let report = runner.operation("report").read_only();
        /// ```
        #[must_use]
        pub const fn read_only(mut self) -> Self {
            self.spec.settings.read_only = true;
            self
        }

        /// How long a statement may wait for a lock. Defaults to the runner's default.
        ///
        /// PostgreSQL: `lock_timeout`, in milliseconds. MySQL and MariaDB:
        /// `innodb_lock_wait_timeout`, in whole seconds, which does not cover metadata locks.
        /// SQLite: `busy_timeout`, in milliseconds. The value is rounded up. Zero and more than
        /// 2147483647 ms are errors when the operation is run.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let transfer = runner.operation("transfer").lock_timeout(Duration::from_secs(3));
        /// ```
        #[must_use]
        pub const fn lock_timeout(mut self, timeout: ::core::time::Duration) -> Self {
            self.spec.settings.lock_timeout = Some(timeout);
            self.spec.lock_timeouts = &[];
            self
        }

        /// The lock timeout of each attempt: the first attempt has the first one, and the last one
        /// is for all attempts that follow. None by default:
        /// [`lock_timeout`](Self::lock_timeout) is for all.
        ///
        /// For migrations and other work that must not make others queue behind it: short at first,
        /// longer while it does not succeed. Units and limits are those of `lock_timeout`. Of the
        /// two, the one that is called last counts; an empty list means the runner's default.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let timeouts = [50, 200, 1000].map(Duration::from_millis);
        /// let migration = runner.operation("add-column").lock_timeouts(&timeouts);
        /// ```
        #[must_use]
        pub const fn lock_timeouts(mut self, timeouts: &'a [::core::time::Duration]) -> Self {
            self.spec.settings.lock_timeout = timeouts.first().copied();
            self.spec.lock_timeouts = timeouts;
            self
        }

        /// How long the operation may take from the call of `run`, all attempts and the delays
        /// between them together. Defaults to the runner's default, which is none.
        ///
        /// No attempt begins after it, and no delay is begun that would end after it; the last
        /// error is returned instead. The statement timeout of each attempt is shortened to the
        /// time that is left (on MySQL and MariaDB the lock timeout as well; on SQLite the
        /// `busy_timeout` instead), so a body of many statements can exceed it. Operations nested
        /// in it inherit the time that is left.
        ///
        /// With `run_on`, waiting for a server takes no retries where there is a deadline: a server that is
        /// not there, starts, is full or takes no writes is tried again until then, and so is a connection
        /// that is lost before COMMIT. Without a deadline each of these takes one of the policy's retries.
        /// With a ledger or `transaction_status`, dbop asks for the outcome of a commit whose answer was
        /// lost until the deadline, even when no retries are left. Zero and more than 2147483647 ms are errors when the operation is run.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let checkout = runner.operation("checkout").deadline(Duration::from_secs(5));
        /// ```
        #[must_use]
        pub const fn deadline(mut self, deadline: ::core::time::Duration) -> Self {
            self.spec.deadline = Some(deadline);
            self
        }

        /// How long a statement may run. Defaults to the runner's default.
        ///
        /// PostgreSQL: `statement_timeout`, in milliseconds. MariaDB: `max_statement_time`, in
        /// milliseconds. MySQL: `max_execution_time`, in milliseconds; it bounds `SELECT` only. The
        /// value is rounded up. SQLite has none: there it is an error when the operation is run,
        /// see [`best_effort`](Self::best_effort). So are zero and more than 2147483647 ms.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let search = runner.operation("search").statement_timeout(Duration::from_secs(1));
        /// ```
        #[must_use]
        pub const fn statement_timeout(mut self, timeout: ::core::time::Duration) -> Self {
            self.spec.settings.statement_timeout = Some(timeout);
            self
        }

        /// How much of the work of concurrent transactions the operation may see. Defaults to the
        /// runner's default.
        ///
        /// PostgreSQL, MySQL and MariaDB support every level; SQLite has `Serializable` only. A
        /// transaction that is already open keeps its level: there the setting is rejected when the
        /// operation runs (see [`best_effort`](Self::best_effort)).
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::IsolationLevel;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// let book = runner.operation("book-seat").isolation(IsolationLevel::Serializable);
        /// ```
        #[must_use]
        pub const fn isolation(mut self, level: $crate::IsolationLevel) -> Self {
            self.spec.settings.isolation = Some(level);
            self
        }

        /// PostgreSQL: waits for a snapshot with which the operation can neither fail with a
        /// serialization failure nor cause one. Not set by default.
        ///
        /// It requires [`read_only`](Self::read_only) and the [isolation level](Self::isolation)
        /// `Serializable`, and is an error when the operation is run without them. The wait is
        /// bounded by the statement timeout, not by the lock timeout (measured).
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::IsolationLevel;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// let audit = runner
        ///     .operation("audit")
        ///     .read_only()
        ///     .isolation(IsolationLevel::Serializable)
        ///     .deferrable();
        /// ```
        #[must_use]
        pub const fn deferrable(mut self) -> Self {
            self.spec.settings.deferrable = true;
            self
        }

        /// SQLite: how the transaction begins. Defaults to the runner's default, which is
        /// immediate, or deferred for read-only operations.
        ///
        /// On other databases and in a transaction that is already open it is rejected when the
        /// operation runs (see [`best_effort`](Self::best_effort)).
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::BeginMode;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// let compact = runner.operation("compact").begin_mode(BeginMode::Exclusive);
        /// ```
        #[must_use]
        pub const fn begin_mode(mut self, mode: $crate::BeginMode) -> Self {
            self.spec.settings.begin_mode = Some(mode);
            self
        }

        /// PostgreSQL: what the COMMIT of the operation waits for. Not set by default: the session's value
        /// applies, which is `on` unless it was changed.
        ///
        /// It travels with BEGIN, costs no round trip, and ends with the transaction. In a savepoint it would
        /// be that of the whole transaction: there, and on other databases, it is rejected when the operation
        /// runs (see [`best_effort`](Self::best_effort)).
        ///
        /// **With [`SynchronousCommit::Off`](crate::SynchronousCommit::Off) `Ok` is no promise that the work
        /// outlives a crash of the server.** The last moments before it are lost then, each transaction as a
        /// whole, a ledger's token with the work. The other values below `On` can lose it when a standby takes
        /// over.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::SynchronousCommit;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// let seen = runner.operation("last-seen").synchronous_commit(SynchronousCommit::Off);
        /// ```
        #[must_use]
        pub const fn synchronous_commit(mut self, commit: $crate::SynchronousCommit) -> Self {
            self.spec.settings.synchronous_commit = Some(commit);
            self
        }

        /// Runs the operation without a transaction: no BEGIN, no COMMIT, and each statement is committed by
        /// itself. Not set by default.
        ///
        /// For statements that cannot run in a transaction, such as `VACUUM` and `CREATE INDEX CONCURRENTLY`,
        /// and for one plain read, which takes one round trip like this.
        ///
        /// - **A failed operation is not undone.** What its statements did before the error stays, and dbop
        ///   does not know how many there were. So the outcome is
        ///   [`Unknown`](crate::Outcome::Unknown), the error is the operation's own, unchanged, and a
        ///   fallback value does not replace it.
        /// - It is retried if it has not begun. Once its body has, it is retried only if it is
        ///   [`idempotent`](Self::idempotent) or [`read_only`](Self::read_only): then on the same errors as
        ///   every other operation.
        /// - `read_only` is your promise here, which dbop does not enforce: that would take a round trip.
        ///   With it a failed operation counts as undone.
        /// - If a transaction is already open, the operation is rejected when it runs, even with
        ///   [`best_effort`](Self::best_effort). With a runner that is
        ///   [`for_tests`](Runner::for_tests) it is a savepoint there, and that is logged.
        /// - If its body leaves a transaction open, that is rolled back, and `Ok` becomes an error
        ///   ([`is_unbalanced`](crate::Error::is_unbalanced)).
        /// - Settings of a transaction are rejected, or skipped with [`best_effort`](Self::best_effort):
        ///   `lock_timeout`, `lock_timeouts`, `statement_timeout`, `isolation`, `deferrable`, `begin_mode`,
        ///   `synchronous_commit`. `verify`, `transaction_status`, `ledger` and `begin_with_sql` are always rejected. The
        ///   runner's defaults do not apply, not even `with_default_read_only`, except for the deadline.
        /// - A [`deadline`](Self::deadline) limits the attempts and the waits between them. No statement
        ///   timeout is sent for it.
        /// - An operation inside of it is a transaction of its own. It has its retries and its deadline from
        ///   this one.
        /// - MySQL and MariaDB: in a session with `autocommit=0` nothing is committed, which dbop does not
        ///   notice.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let vacuum = runner.operation("vacuum").without_transaction().idempotent();
        /// ```
        #[doc(alias = "autocommit")]
        #[must_use]
        pub const fn without_transaction(mut self) -> Self {
            self.spec.settings.without_transaction = true;
            self
        }

        /// Skips and logs a setting that is not supported by the backend, or where the operation
        /// runs, instead of failing. Not set by default.
        ///
        /// ```
        /// # use std::time::Duration;
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let search = runner
        ///     .operation("search")
        ///     .statement_timeout(Duration::from_secs(1))
        ///     .best_effort();
        /// ```
        #[must_use]
        pub const fn best_effort(mut self) -> Self {
            self.spec.settings.best_effort = true;
            self
        }

        /// Retries the operation by this policy. Defaults to the runner's.
        ///
        /// The policy is borrowed, so keep it in a constant or next to the runner. All of it is in the
        /// place of the runner's, also its classes of codes. Operations nested in this one have the
        /// policies of their own runners.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{RetryPolicy, Runner};")]
        /// # let runner = Runner::default();
        ///
        /// const PATIENT: RetryPolicy = RetryPolicy::new().with_max_retries(20);
        /// let import = runner.operation("import").policy(&PATIENT);
        /// ```
        #[must_use]
        pub const fn policy(mut self, policy: &'a $crate::RetryPolicy) -> Self {
            self.spec.policy = Some(policy);
            self
        }

        /// How often the operation is retried *after* the first attempt. Defaults to the policy's
        /// `max_retries`. A nested operation has at most as many retries as the operation around it
        /// has left.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let once = runner.operation("import").max_retries(0);
        /// ```
        #[must_use]
        pub const fn max_retries(mut self, max_retries: u32) -> Self {
            self.spec.max_retries = Some(max_retries);
            self
        }

        /// Retries database errors of this class too, whatever the policy says. None by default.
        ///
        /// An attempt that is not certainly undone is still never retried, and neither is one that
        /// cannot succeed in its scope. Of this method and
        /// [`never_retry_on`](Self::never_retry_on), the last call for a class counts.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{FaultClass, Runner};")]
        /// # let runner = Runner::default();
        ///
        /// let report = runner.operation("report").also_retry_on(FaultClass::StatementTimeout);
        /// ```
        #[must_use]
        pub const fn also_retry_on(mut self, class: $crate::FaultClass) -> Self {
            self.spec.classes = self.spec.classes.also(class);
            self
        }

        /// Never retries database errors of this class, whatever the policy and the error say. None
        /// by default. An operation around this one decides for itself.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{FaultClass, Runner};")]
        /// # let runner = Runner::default();
        ///
        /// let touch = runner.operation("touch").never_retry_on(FaultClass::ReadOnlyServer);
        /// ```
        #[must_use]
        pub const fn never_retry_on(mut self, class: $crate::FaultClass) -> Self {
            self.spec.classes = self.spec.classes.never(class);
            self
        }

        /// Judges the operation's database errors with this function, before the runner's
        /// [`with_classifier`](Runner::with_classifier), which says what a class decides. None by
        /// default.
        ///
        /// It is for this operation alone: operations nested in it, and one around it, judge with
        /// their own.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::{FaultClass, Phase, Runner, Seen};")]
        /// # let runner = Runner::default();
        ///
        /// fn full_disk_passes(seen: &Seen<'_>) -> Option<FaultClass> {
        ///     let is_full = seen.class() == FaultClass::ResourceExhausted;
        ///     (is_full && seen.phase() == Phase::Body).then_some(FaultClass::ServerUnavailable)
        /// }
        ///
        /// let load = runner.operation("load").classify(&full_disk_passes);
        /// ```
        #[must_use]
        pub const fn classify(mut self, classifier: &'a $crate::Classifier<'a>) -> Self {
            self.spec.classifier = Some($crate::machine::BorrowedClassifier(classifier));
            self
        }

        /// Runs one at a time, in this process, with all other operations that name one of these keys, in the order
        /// in which they came. None by default.
        ///
        /// For operations that lock the same rows: they wait here, without a connection and without locks,
        /// instead of in the database, where they would block or deadlock each other. Name all rows that the
        /// operation locks; see [`Keys`](crate::Keys). Every attempt waits for its turn again, and a nested
        /// operation that locks other rows should have its keys named by the outermost one.
        ///
        /// - The wait ends with the operation's deadline. After the lock timeout (10 s without one) the
        ///   operation is let in although it is not its turn, one a second: what holds the key may be waiting
        ///   for this operation in a way that no database sees.
        /// - It applies to `run_on`, which waits before it takes a connection. With `run` it needs
        ///   [`queue_with_connection`](Self::queue_with_connection). Without that, and in an operation that
        ///   is nested in another one, it is skipped, and logged as WARN once for each name.
        /// - On PostgreSQL, an attempt after a deadlock or serialization failure waits at most 100 ms for a
        ///   lock, unless the operation has a lock timeout of its own. Such a wait takes no retry.
        /// - Do not wait for an operation with the same key inside of this one on another connection.
        ///
        /// It is no lock: other processes, and operations without these keys, are not kept out.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Keys;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// let (from, to) = (7, 3);
        /// let accounts = Keys::new("account", [from, to]);
        /// let transfer = runner.operation("transfer").exclusive_by(&accounts);
        /// ```
        #[must_use]
        pub const fn exclusive_by(mut self, keys: &'a $crate::Keys) -> Self {
            self.spec.exclusive_by = Some(keys);
            self
        }

        /// Waits for its turn with `run` too, although it holds the caller's connection meanwhile. Not set by
        /// default: [`exclusive_by`](Self::exclusive_by) and the runner's
        /// [`with_gates`](Runner::with_gates) apply to `run_on` only.
        ///
        /// Do not use it on connections of a pool that those before it may still need: all of them could be
        /// held by operations that wait.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Keys;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// let account = Keys::new("account", [7]);
        /// let close = runner.operation("close").exclusive_by(&account).queue_with_connection();
        /// ```
        #[must_use]
        pub const fn queue_with_connection(mut self) -> Self {
            self.spec.queues_with_connection = true;
            self
        }

        /// Never waits at the gate of its name. Not set by default; see the runner's
        /// [`with_gates`](Runner::with_gates).
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default().with_gates(true);
        /// let read = runner.operation("balance").read_only().ungated();
        /// ```
        #[must_use]
        pub const fn ungated(mut self) -> Self {
            self.spec.ungated = true;
            self
        }

        /// Promises that doing the work twice is the same as doing it once, such as setting a value
        /// or deleting a row. Not set by default.
        ///
        /// The operation is then retried even when its outcome is unknown, as long as a connection
        /// is available: with `run_on` even after the connection was lost while COMMIT was under
        /// way. An operation with a ledger is looked up there first.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let rename = runner.operation("rename-user").idempotent();
        /// ```
        #[must_use]
        pub const fn idempotent(mut self) -> Self {
            self.spec.idempotent = true;
            self
        }
    };
}
