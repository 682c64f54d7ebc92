//! What a runner of any adapter is configured with, and the builder methods that all share.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::dialect::{Batches, Dialect, Level, SavedPragmas};
use crate::error::Error;
use crate::event::Logging;
use crate::machine::Placement;
use crate::policy::RetryPolicy;
use crate::settings::{Defaults, Settings};

/// The configuration of a runner: policy, default settings and logging.
///
/// # Default
///
/// The defaults of [`RetryPolicy`], [`Defaults`] and [`Logging`].
#[derive(Clone, Debug, Default)]
pub struct RunnerConfig {
    policy: RetryPolicy,
    defaults: Defaults,
    logging: Logging,
    /// The SQL of top-level operations that ask for nothing, made once.
    plain: [OnceLock<Batches>; Dialect::COUNT],
}

impl RunnerConfig {
    /// Sets the retry policy.
    pub const fn set_policy(&mut self, policy: RetryPolicy) {
        self.policy = policy;
    }

    /// Sets the default settings.
    pub fn set_defaults(&mut self, change: impl FnOnce(&mut Defaults)) {
        change(&mut self.defaults);
        self.plain = Default::default();
    }

    /// The default settings.
    #[must_use]
    pub const fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// Sets up logging.
    pub fn set_logging(&mut self, change: impl FnOnce(&mut Logging)) {
        change(&mut self.logging);
    }

    /// The retry policy.
    #[must_use]
    pub const fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// Where records go.
    #[must_use]
    pub const fn logging(&self) -> &Logging {
        &self.logging
    }

    /// The SQL of an operation. `pragmas` are what the session has, where
    /// [`Dialect::pragmas_to_read`] asks for it.
    pub(crate) fn batches(
        &self,
        dialect: Dialect,
        placement: &Placement,
        settings: &Settings,
        pragmas: SavedPragmas,
    ) -> Result<Cow<'_, Batches>, Error> {
        let level = placement.level();
        let make = |defaults| Batches::new(dialect, level, settings, defaults, pragmas);
        if !placement.is_outermost() {
            return make(&Defaults::NONE).map(Cow::Owned);
        }
        if level != Level::Transaction
            || *settings != Settings::NONE
            || pragmas != SavedPragmas::default()
        {
            return make(&self.defaults).map(Cow::Owned);
        }
        let cached = &self.plain[dialect as usize];
        if let Some(batches) = cached.get() {
            return Ok(Cow::Borrowed(batches));
        }
        let batches = make(&self.defaults)?;
        Ok(Cow::Borrowed(cached.get_or_init(|| batches)))
    }
}

/// The builder methods of a `Runner` with a field `config: Config`, the same for every adapter.
#[doc(hidden)]
#[macro_export]
macro_rules! __runner_methods {
    () => {
        /// A runner with this policy, and the defaults otherwise.
        #[must_use]
        pub fn new(policy: $crate::RetryPolicy) -> Self {
            let mut runner = Self::default();
            runner.config.set_policy(policy);
            runner
        }

        /// How long a statement of an operation that asks for no `lock_timeout` of its own may
        /// wait for a lock. Defaults to 10 s; `None`: the session's own value stays.
        ///
        /// It never makes a session's stricter value looser. It applies to outermost operations:
        /// nested ones inherit what is in force. On SQLite it is not applied: there the wait is
        /// the connection's `busy_timeout`.
        #[must_use]
        pub fn with_default_lock_timeout(
            mut self,
            timeout: impl Into<Option<::core::time::Duration>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.lock_timeout = timeout.into());
            self
        }

        /// How long a statement of an operation that asks for no `statement_timeout` of its own
        /// may run. Defaults to `None`: the session's own value stays.
        ///
        /// It never makes a session's stricter value looser, and applies to outermost operations.
        /// SQLite has no statement timeout.
        #[must_use]
        pub fn with_default_statement_timeout(
            mut self,
            timeout: impl Into<Option<::core::time::Duration>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.statement_timeout = timeout.into());
            self
        }

        /// Whether operations refuse writes. Defaults to `false`. It applies to outermost
        /// operations, nested ones inherit it; on MySQL and MariaDB not in a transaction of the
        /// caller.
        #[must_use]
        pub fn with_default_read_only(mut self, read_only: bool) -> Self {
            self.config
                .set_defaults(|defaults| defaults.read_only = read_only);
            self
        }

        /// The isolation level of operations that ask for no `isolation` of their own. Defaults to
        /// `None`: that of the session.
        ///
        /// It never makes the session's own level weaker. It applies to outermost operations that
        /// are not in a transaction of the caller. SQLite knows one level only.
        #[must_use]
        pub fn with_default_isolation(
            mut self,
            isolation: impl Into<Option<$crate::IsolationLevel>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.isolation = isolation.into());
            self
        }

        /// How the transactions of operations that ask for no `begin_mode` of their own begin on
        /// SQLite. Defaults to `None`: immediate, or deferred for what is read-only.
        #[must_use]
        pub fn with_default_begin_mode(
            mut self,
            mode: impl Into<Option<$crate::BeginMode>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.begin_mode = mode.into());
            self
        }

        /// How long an operation that has no `deadline` of its own may take, all attempts and the
        /// delays between them together. Defaults to `None`: there is only the number of retries.
        ///
        /// It applies to outermost operations: nested ones inherit what is left.
        #[must_use]
        pub fn with_default_deadline(
            mut self,
            deadline: impl Into<Option<::core::time::Duration>>,
        ) -> Self {
            self.config
                .set_defaults(|defaults| defaults.deadline = deadline.into());
            self
        }

        /// Sends records to this logger. Defaults to the global logger of the `log` crate.
        #[must_use]
        pub fn with_logger(mut self, logger: ::std::sync::Arc<dyn ::log::Log>) -> Self {
            self.config
                .set_logging(|logging| logging.logger = Some(logger));
            self
        }

        /// The level of each kind of record. Defaults to [`LogLevels::DEFAULT`]($crate::LogLevels).
        #[must_use]
        pub fn with_log_levels(mut self, levels: $crate::LogLevels) -> Self {
            self.config.set_logging(|logging| logging.levels = levels);
            self
        }

        /// Whether records contain the server's own message, under the key `error`. Defaults to
        /// `false`: such a message can quote values of your rows.
        #[must_use]
        pub fn with_server_messages(mut self, server_messages: bool) -> Self {
            self.config
                .set_logging(|logging| logging.server_messages = server_messages);
            self
        }

        /// An operation with a name, for the log, and with settings of its own.
        pub fn operation<'a>(&'a self, name: &'a str) -> Operation<'a> {
            Operation {
                runner: self,
                name,
                settings: $crate::Settings::default(),
                max_retries: None,
                idempotent: false,
                deadline: None,
                lock_timeouts: &[],
            }
        }
    };
}

/// The builder methods of an `Operation` with the fields `settings: Settings`,
/// `max_retries: Option<u32>`, `idempotent: bool`, `deadline: Option<Duration>` and
/// `lock_timeouts: &[Duration]`, the same for every adapter.
#[doc(hidden)]
#[macro_export]
macro_rules! __operation_methods {
    () => {
        /// Refuses writes. Not set by default.
        ///
        /// PostgreSQL enforces it at top level and in a savepoint, MySQL and MariaDB at top level
        /// only (in a transaction that is already open it is an error, see
        /// [`best_effort`](Self::best_effort)), SQLite by `query_only`. On SQLite it also means
        /// that the operation does not wait for the write lock: mark reads with it.
        #[must_use]
        pub const fn read_only(mut self) -> Self {
            self.settings.read_only = true;
            self
        }

        /// How long a statement may wait for a lock. Defaults to the runner's default.
        ///
        /// PostgreSQL: `lock_timeout`, in milliseconds. MySQL and MariaDB:
        /// `innodb_lock_wait_timeout`, in whole seconds, which is not for metadata locks. SQLite:
        /// `busy_timeout`, in milliseconds. Rounded up. Zero, and more than 2147483647 ms, is an
        /// error when the operation is run.
        #[must_use]
        pub const fn lock_timeout(mut self, timeout: ::core::time::Duration) -> Self {
            self.settings.lock_timeout = Some(timeout);
            self.lock_timeouts = &[];
            self
        }

        /// The lock timeout of each attempt: the first one has the first, and the last one is for
        /// all that follow. None by default: [`lock_timeout`](Self::lock_timeout) is for all.
        ///
        /// For migrations and other work that must not make others wait behind it: short at first,
        /// longer while it does not succeed. Units and limits are those of `lock_timeout`. Of the
        /// two, the one that is called last counts; an empty list means the runner's default.
        #[must_use]
        pub const fn lock_timeouts(mut self, timeouts: &'a [::core::time::Duration]) -> Self {
            self.settings.lock_timeout = timeouts.first().copied();
            self.lock_timeouts = timeouts;
            self
        }

        /// How long the operation may take from the call of `run`, all attempts and the delays
        /// between them together. Defaults to the runner's default, which is none.
        ///
        /// No attempt begins and no delay ends after it: the last error is returned instead. The
        /// statement timeout of each attempt is shortened to what is left (on MySQL and MariaDB
        /// the lock timeout as well; on SQLite the `busy_timeout` instead), so a body of many
        /// statements can exceed it. Operations nested in it inherit what is left. With a ledger or
        /// `transaction_status`, what became of a commit whose answer was lost is asked until then,
        /// also when no retries are left. Zero, and more than 2147483647 ms, is an error when the
        /// operation is run.
        #[must_use]
        pub const fn deadline(mut self, deadline: ::core::time::Duration) -> Self {
            self.deadline = Some(deadline);
            self
        }

        /// How long a statement may run. Defaults to the runner's default.
        ///
        /// PostgreSQL: `statement_timeout`, in milliseconds. MariaDB: `max_statement_time`, in
        /// milliseconds. MySQL: `max_execution_time`, in milliseconds; it bounds `SELECT` only.
        /// Rounded up. SQLite has none: an error when the operation is run, see
        /// [`best_effort`](Self::best_effort). So is zero, and more than 2147483647 ms.
        #[must_use]
        pub const fn statement_timeout(mut self, timeout: ::core::time::Duration) -> Self {
            self.settings.statement_timeout = Some(timeout);
            self
        }

        /// How much of what others do at the same time the operation may see. Defaults to the
        /// runner's default.
        ///
        /// PostgreSQL, MySQL and MariaDB have every level; SQLite has `Serializable` only. A
        /// transaction that is already open has its level: there it is an error when the operation
        /// is run, see [`best_effort`](Self::best_effort).
        #[must_use]
        pub const fn isolation(mut self, level: $crate::IsolationLevel) -> Self {
            self.settings.isolation = Some(level);
            self
        }

        /// PostgreSQL: waits for a snapshot with which the operation can neither fail with a
        /// serialization failure nor cause one. Not set by default.
        ///
        /// It takes [`read_only`](Self::read_only) and the [isolation level](Self::isolation)
        /// `Serializable`, and is an error when the operation is run without them. The wait is
        /// bounded by the statement timeout, not by the lock timeout (measured).
        #[must_use]
        pub const fn deferrable(mut self) -> Self {
            self.settings.deferrable = true;
            self
        }

        /// SQLite: how the transaction begins. Defaults to the runner's default, which is
        /// immediate, or deferred for what is read-only.
        ///
        /// On other databases and in a transaction that is already open it is an error when the
        /// operation is run, see [`best_effort`](Self::best_effort).
        #[must_use]
        pub const fn begin_mode(mut self, mode: $crate::BeginMode) -> Self {
            self.settings.begin_mode = Some(mode);
            self
        }

        /// Logs a setting that this backend or scope cannot have, instead of failing. Not set by
        /// default.
        #[must_use]
        pub const fn best_effort(mut self) -> Self {
            self.settings.best_effort = true;
            self
        }

        /// How often the operation is tried again *after* the first attempt. Defaults to the
        /// policy's `max_retries`. An operation nested in another one has at most as many as that
        /// one has left.
        #[must_use]
        pub const fn max_retries(mut self, max_retries: u32) -> Self {
            self.max_retries = Some(max_retries);
            self
        }

        /// Promises that its work done twice is the same as done once, such as setting a value or
        /// deleting a row. Not set by default.
        ///
        /// It is then tried again even where nobody knows whether it was committed, if that takes
        /// no connection but those it has: with `run_on` also after the connection was lost while
        /// COMMIT was under way. An operation with a ledger is looked up there first.
        #[must_use]
        pub const fn idempotent(mut self) -> Self {
            self.idempotent = true;
            self
        }

        /// The policy of this operation.
        const fn policy(&self) -> $crate::RetryPolicy {
            let policy = *self.runner.config.policy();
            match self.max_retries {
                Some(max_retries) => policy.with_max_retries(max_retries),
                None => policy,
            }
        }
    };
}
