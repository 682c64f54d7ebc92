//! The fallback of operations, and how they find out what became of a lost COMMIT.

/// The fallback of an `Operation<'a, NoFallback, R>`.
#[doc(hidden)]
#[macro_export]
macro_rules! __fallback_method {
    ($adapter:literal) => {
        /// A value to return instead of an error, whether the error is the database's or the
        /// operation's own.
        ///
        /// It never hides that earlier work may be damaged: an error stays an error where the
        /// failed attempt is not certainly undone, where the enclosing transaction is lost, and
        /// where the connection is broken. A panic stays a panic.
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let visits = runner.operation("count-visits").read_only().fallback(0);
        /// ```
        #[doc(alias = "default")]
        #[doc(alias = "raises")]
        #[must_use]
        pub fn fallback<T>(self, value: T) -> Operation<'a, FallbackValue<T>, R> {
            Operation {
                runner: self.runner,
                spec: self.spec,
                fallback: FallbackValue(value),
                resolution: self.resolution,
            }
        }
    };
}

/// The errors of an `Operation<'a, F, R>` that are of a type without `OperationError`.
#[doc(hidden)]
#[macro_export]
macro_rules! __errors_method {
    ($adapter:literal) => {
        /// Lets the operation return errors of a type that `OperationError` cannot be implemented for,
        /// because it belongs to another crate: `make` turns Diesel's errors into it, and `find` finds
        /// Diesel's error in it, which decides whether the operation is retried.
        ///
        /// Both are functions that capture nothing. Errors of such a type cannot ask for a retry themselves,
        /// as [`advice`](crate::OperationError::advice) can, and one without a Diesel error in it is final.
        ///
        /// dbop's own errors go through `make` as well, and
        /// [`dbop_error`](crate::OperationError::dbop_error) finds them in what `find` returns. Call this
        /// last, before `run` or `run_on`.
        ///
        /// ```
        /// use diesel::result::Error;
        /// use error_stack::{Report, ResultExt as _};
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// #[derive(Debug, thiserror::Error)]
        /// #[error("the payment failed")]
        /// struct PaymentFailed;
        ///
        /// let pay = runner.operation("pay").errors(
        ///     |error| Report::new(error).change_context(PaymentFailed),
        ///     |report: &Report<PaymentFailed>| report.downcast_ref::<Error>(),
        /// );
        /// ```
        #[must_use]
        pub fn errors<E>(
            self,
            make: fn(::diesel::result::Error) -> E,
            find: fn(&E) -> Option<&::diesel::result::Error>,
        ) -> MappedOperation<'a, E, F, R> {
            MappedOperation {
                operation: self,
                make,
                find,
            }
        }
    };
}

/// How an `Operation<'a, F, NoResolution>` finds out what became of a commit whose answer was lost.
/// `verify` takes the bounds of what looks for the work, in terms of `C` and `E`, and the lines of its
/// example.
#[doc(hidden)]
#[macro_export]
macro_rules! __resolution_methods {
    ($adapter:literal, verify: [$($look:tt)+], $($example:literal)+) => {
        /// Finds out what became of a commit whose answer was lost by looking for the work: `look`
        /// is run on a fresh connection, outside of a transaction, and returns whether the work is
        /// there.
        ///
        /// If it is, the operation's value is returned as if nothing had happened; if not, the
        /// operation is retried. If the look fails with a retryable database error it is repeated
        /// while retries remain; after any other error the outcome stays unknown. If it panics, the
        /// panic continues, and the outcome stays unknown.
        ///
        /// **It has a race**: a COMMIT that is delayed on its way can still arrive after the look
        /// found nothing, and the work is then done twice. So a "no" is good enough for another
        /// attempt, but if that fails, the outcome is unknown. [`ledger`](Self::ledger) has no race.
        ///
        /// ```
        $(#[doc = $example])+
        /// ```
        #[must_use]
        pub fn verify<C, E, V>(self, look: V) -> Operation<'a, F, V>
        where
            V: $($look)+,
        {
            self.resolved($crate::machine::Resolution::Verify, look)
        }

        /// Finds out what became of a commit whose answer was lost by asking PostgreSQL for the
        /// status of the transaction, whose id is read before every COMMIT: one more round trip
        /// (the first time on a connection: two). PostgreSQL only; elsewhere it is an error when
        /// the operation is run.
        ///
        /// While the server says "in progress" it is asked again: until the deadline, or without
        /// one as long as there are retries left. The operation runs in a savepoint that dbop
        /// opens. A transaction without an id has written nothing, and is retried without asking.
        /// (`NOTIFY` and foreign tables need no id: for an operation that does nothing else, use
        /// the ledger.) A crash of the server can give the id to another transaction, so after one
        /// "committed" is no answer, and the outcome stays unknown. After a failover to a standby
        /// that had not received everything, an id can mean another transaction, too: see
        /// [`ledger`](Self::ledger).
        ///
        /// ```
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// let pay = runner.operation("pay").transaction_status();
        /// ```
        #[must_use]
        pub fn transaction_status(self) -> Operation<'a, F, ServerResolution> {
            self.resolved($crate::machine::Resolution::TransactionStatus, ServerResolution(()))
        }

        /// Finds out what became of a commit whose answer was lost by a token that is committed
        /// with the work, in the table that [`Ledger::create_table`](crate::Ledger::create_table)
        /// creates. It costs two statements and no round trip.
        ///
        /// A "no" is committed, too, as a token that is never committed with any work. So it is final, even
        /// where the question reaches another server that takes writes, and the next attempt takes a new
        /// token.
        ///
        /// With it an operation is done at most once, and exactly once when `run_on` returns `Ok`.
        /// The outcome stays unknown only if the server could not be asked before the deadline, or
        /// without one before the retries ran out, or if the operation has ended its own
        /// transaction, by COMMIT or DDL. SQLite needs no ledger and gets no token.
        ///
        /// With an [idempotency key](Operation::idempotency_key), it is done once for all calls with that key.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// static LEDGER: Ledger = Ledger::new();
        ///
        /// let pay = runner.operation("pay").ledger(&LEDGER);
        /// ```
        #[must_use]
        pub fn ledger(self, ledger: &'a $crate::Ledger) -> Operation<'a, F, LedgerResolution> {
            self.resolved($crate::machine::Resolution::Ledger(ledger), LedgerResolution(()))
        }

        fn resolved<R>(
            self,
            resolution: $crate::machine::Resolution<'a>,
            look: R,
        ) -> Operation<'a, F, R> {
            Operation {
                runner: self.runner,
                spec: $crate::machine::Spec { resolution, ..self.spec },
                fallback: self.fallback,
                resolution: look,
            }
        }
    };
}
