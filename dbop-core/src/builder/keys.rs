//! The idempotency key of operations.

/// The key of an `Operation<'a, F, LedgerResolution>`.
#[doc(hidden)]
#[macro_export]
macro_rules! __key_method {
    ($adapter:literal) => {
        /// Has the operation done once for this key, for all callers, from any process and after any
        /// crash, for as long as the key's row is kept in the ledger's table.
        ///
        /// The key is taken in the batch that opens the transaction, and completed in the one that commits
        /// it: the work and the key are committed together or not at all. It costs two statements and no
        /// round trip. A call with a key whose work is done does not run the operation; it returns the
        /// [`answer`](KeyedOperation::answer) of the first call, or an error that says so
        /// ([`is_already_done`](crate::Error::is_already_done)). A call with a key that another call has
        /// taken waits for it, until the deadline or, without one, for as long as the lock timeout, and takes
        /// no attempt for that. Then it is an error
        /// ([`is_under_way`](crate::Error::is_under_way)). On SQLite every writer waits for every other one,
        /// so a call that waits for too long has the error of a busy database there.
        ///
        /// In a transaction of the caller's the key is a part of that. Where that transaction does not see
        /// what another call has committed, the whole transaction has to start again.
        ///
        /// The key has 1 to 255 bytes, and is never cut: another length is an error when the operation is
        /// run. It is looked for in a scope, which is the operation's name unless
        /// [`key_scope`](KeyedOperation::key_scope) names another one. With the key, `run` can be used as
        /// well as `run_on`; only `run_on` finds out what became of a commit whose answer was lost.
        ///
        /// Settings come before it.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        ///
        /// static LEDGER: Ledger = Ledger::new();
        ///
        /// let request_id = "8e03978e-40d5-43e8-bc93-6894a57f9324"; // from the client
        /// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key(request_id);
        /// ```
        #[must_use]
        pub fn idempotency_key<K>(self, key: &'a K) -> KeyedOperation<'a, F>
        where
            K: AsRef<[u8]> + ?Sized,
        {
            KeyedOperation {
                operation: self,
                key: $crate::machine::Key::new(key.as_ref()),
                answers: NoAnswer,
                errors: OwnErrors,
            }
        }
    };
}

/// What is asked for about the key of a `KeyedOperation<'a, F, A, X>`.
#[doc(hidden)]
#[macro_export]
macro_rules! __key_settings {
    ($adapter:literal) => {
        /// In which scope the key is looked for: equal keys of different scopes do not meet. Defaults to
        /// the operation's name; an operation without a name needs one. It has 1 to 64 bytes and is not
        /// `dbop`: another one is an error when the operation is run.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// # static LEDGER: Ledger = Ledger::new();
        ///
        /// let (tenant, key) = ("tenant-7", "request-1");
        /// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key(key).key_scope(tenant);
        /// ```
        #[must_use]
        pub fn key_scope<K>(mut self, scope: &'a K) -> Self
        where
            K: AsRef<[u8]> + ?Sized,
        {
            self.key.scope = Some(scope.as_ref());
            self
        }

        /// The request that the key stands for. A call with the same key and another request, or with a key
        /// that was used without one, is an error
        /// ([`is_other_request`](crate::Error::is_other_request)). None by default: then nothing is
        /// compared. What is kept is its SHA-256.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// # static LEDGER: Ledger = Ledger::new();
        ///
        /// let (key, body) = ("request-1", br#"{"amount": 10}"#);
        /// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key(key).request(body);
        /// ```
        #[cfg(feature = "sha2")]
        #[cfg_attr(docsrs, doc(cfg(feature = "sha2")))]
        #[must_use]
        pub fn request(self, request: impl AsRef<[u8]>) -> Self {
            self.request_digest(sha256(request.as_ref()))
        }

        /// As `request`, which needs the feature `sha2`, with a digest that you have made. Use one algorithm
        /// for ever, and one without known collisions: SHA-256 for example.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// # static LEDGER: Ledger = Ledger::new();
        ///
        /// let (key, digest) = ("request-1", [7; 32]);
        /// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key(key).request_digest(digest);
        /// ```
        #[must_use]
        pub const fn request_digest(mut self, digest: [u8; 32]) -> Self {
            self.key.request = Some(digest);
            self
        }
    };
}

/// What is asked for about the answers of a `KeyedOperation<'a, F, NoAnswer, X>`.
#[doc(hidden)]
#[macro_export]
macro_rules! __key_answer_method {
    ($adapter:literal) => {
        /// Keeps what the operation returns with its key, as JSON, for later calls with the key: they return
        /// it, and do not run the operation. Off by default. The operation's value has to be `Serialize` and
        /// `DeserializeOwned`.
        ///
        /// A value that cannot be serialized, or is larger than the
        /// [limit](KeyedOperation::answer_limit), is an error
        /// ([`is_answer_unusable`](crate::Error::is_answer_unusable)), and the operation is undone.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// # static LEDGER: Ledger = Ledger::new();
        ///
        /// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key("request-1").answer();
        /// ```
        #[must_use]
        pub fn answer(self) -> KeyedOperation<'a, F, JsonAnswer, X> {
            KeyedOperation {
                operation: self.operation,
                key: self.key,
                answers: JsonAnswer::default(),
                errors: self.errors,
            }
        }
    };
}

/// More about the answers of a `KeyedOperation<'a, F, JsonAnswer, X>`.
#[doc(hidden)]
#[macro_export]
macro_rules! __key_answer_settings {
    ($adapter:literal) => {
        /// How many bytes an answer may have, as JSON. Defaults to 65,536. It is sent as twice as many
        /// digits with the COMMIT; MariaDB takes batches of 16 MiB by default.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// # static LEDGER: Ledger = Ledger::new();
        ///
        /// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key("request-1");
        /// let pay = pay.answer().answer_limit(1000);
        /// ```
        #[must_use]
        pub const fn answer_limit(mut self, bytes: usize) -> Self {
            self.answers.limit = bytes;
            self
        }

        /// Remembers errors as answers: `answer_of` makes the answer of an error, or `None` if a later call
        /// with the key is to try again. The operation is undone then, and its key is committed with the
        /// answer, which this call returns as well.
        ///
        /// Only an error that ends the operation is remembered: not one that is retried, and none of a lost
        /// connection or transaction.
        ///
        /// ```
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// use diesel::result::Error;
        /// # let runner = Runner::default();
        /// # static LEDGER: Ledger = Ledger::new();
        ///
        /// let find = runner.operation("find").ledger(&LEDGER).idempotency_key("request-1").answer();
        /// let find = find.remember_refusals(|error: &Error| match error {
        ///     Error::NotFound => Some(404),
        ///     _ => None,
        /// });
        /// ```
        #[must_use]
        pub fn remember_refusals<T, E, M>(
            self,
            answer_of: M,
        ) -> KeyedOperation<'a, F, JsonAnswerOr<M>, X>
        where
            M: Fn(&E) -> Option<T> + Send + Sync,
        {
            KeyedOperation {
                operation: self.operation,
                key: self.key,
                answers: JsonAnswerOr {
                    answer: self.answers,
                    answer_of,
                },
                errors: self.errors,
            }
        }
    };
}

/// The errors of a `KeyedOperation<'a, F, A>` that are of a type without `OperationError`.
#[doc(hidden)]
#[macro_export]
macro_rules! __key_errors_method {
    ($adapter:literal) => {
        /// Lets the operation return errors of a type that `OperationError` cannot be implemented for, as
        /// [`Operation::errors`] does: `make` turns Diesel's errors into it, and `find` finds Diesel's error
        /// in it. What [`remember_refusals`](KeyedOperation::remember_refusals) looks at is of this type, too.
        ///
        /// ```
        /// use diesel::result::Error;
        /// use error_stack::{Report, ResultExt as _};
        #[doc = concat!("use ", $adapter, "::Ledger;")]
        #[doc = concat!("# use ", $adapter, "::Runner;")]
        /// # let runner = Runner::default();
        /// # static LEDGER: Ledger = Ledger::new();
        ///
        /// #[derive(Debug, thiserror::Error)]
        /// #[error("the payment failed")]
        /// struct PaymentFailed;
        ///
        /// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key("request-1").errors(
        ///     |error| Report::new(error).change_context(PaymentFailed),
        ///     |report: &Report<PaymentFailed>| report.downcast_ref::<Error>(),
        /// );
        /// ```
        #[must_use]
        pub fn errors<E>(
            self,
            make: fn(::diesel::result::Error) -> E,
            find: fn(&E) -> Option<&::diesel::result::Error>,
        ) -> KeyedOperation<'a, F, A, MappedErrors<E>> {
            KeyedOperation {
                operation: self.operation,
                key: self.key,
                answers: self.answers,
                errors: MappedErrors { make, find },
            }
        }
    };
}
