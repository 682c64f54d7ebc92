//! Operations with an idempotency key.

use dbop_core::machine::{Answers, Key, Spec};

#[cfg(feature = "sha2")]
use crate::adapter::keyed::sha256;
use crate::adapter::keyed::{keep, report};
use crate::answer::{Answering, NoAnswer};
#[cfg(feature = "serde")]
use crate::answer::{JsonAnswer, JsonAnswerOr};
use crate::connection::SupportedConnection;
use crate::driver::drive;
use crate::errors::{Errors, MappedErrors, OwnErrors};
use crate::fallback::{Fallback, NoFallback};
use crate::operation::Operation;
use crate::report::Report;
use crate::slot::{Borrowed, FromSource, Slot};
use crate::source::Source;
use crate::verify::LedgerResolution;

/// An operation with an idempotency key, from [`Operation::idempotency_key`]: it is done once for all calls
/// with the key.
///
/// `A` says whether its answer is kept for the later ones, [`NoAnswer`] or, with the feature `serde`,
/// `JsonAnswer`; `X` of which type its errors are, [`OwnErrors`] or [`MappedErrors`].
///
/// ```
/// # use dbop_diesel::{Dialect, Ledger, OperationError, Runner};
/// # use diesel::connection::SimpleConnection;
/// # use diesel::prelude::*;
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// # conn.batch_execute(&Ledger::new().create_table(Dialect::Sqlite))?;
/// # conn.batch_execute("CREATE TABLE payments (amount INTEGER)")?;
/// static LEDGER: Ledger = Ledger::new();
///
/// let runner = Runner::default();
/// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key("request-1");
/// let insert = |conn: &mut SqliteConnection| {
///     diesel::sql_query("INSERT INTO payments VALUES (10)").execute(conn)
/// };
/// pay.run(&mut conn, insert)?;
/// let error = pay.run(&mut conn, insert).expect_err("done already");
/// assert!(error.dbop_error().is_some_and(|error| error.is_already_done()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "an operation does nothing until it is given a connection with `run`"]
pub struct KeyedOperation<'a, F = NoFallback, A = NoAnswer, X = OwnErrors> {
    pub(crate) operation: Operation<'a, F, LedgerResolution>,
    pub(crate) key: Key<'a>,
    pub(crate) answers: A,
    pub(crate) errors: X,
}

/// The key.
impl<'a, F, A, X> KeyedOperation<'a, F, A, X> {
    dbop_core::__key_settings!("dbop_diesel");
}

/// Keeping the answer.
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'a, F, X> KeyedOperation<'a, F, NoAnswer, X> {
    dbop_core::__key_answer_method!("dbop_diesel");
}

/// The answer.
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'a, F, X> KeyedOperation<'a, F, JsonAnswer, X> {
    dbop_core::__key_answer_settings!("dbop_diesel");
}

/// Errors of any type.
impl<'a, F, A> KeyedOperation<'a, F, A> {
    dbop_core::__key_errors_method!("dbop_diesel");
}

/// Running it.
impl<F, A, X> KeyedOperation<'_, F, A, X> {
    /// Runs the operation on a connection of the caller, unless it is done; see [`Operation::run`].
    ///
    /// # Errors
    ///
    /// As [`Operation::run`], and if the operation is done already and no answer was kept
    /// ([`is_already_done`](dbop_core::Error::is_already_done)), if another call with the key is under way
    /// ([`is_under_way`](dbop_core::Error::is_under_way)), if the key stands for another request
    /// ([`is_other_request`](dbop_core::Error::is_other_request)) or is used in the operation that has it
    /// ([`is_nested_key`](dbop_core::Error::is_nested_key)), and if the answer cannot be kept or read
    /// ([`is_answer_unusable`](dbop_core::Error::is_answer_unusable)).
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, a method of `E` or of the answer panics. What is not
    /// committed is rolled back first, then the panic continues.
    pub fn run<C, T, E, B>(self, conn: &mut C, body: B) -> Result<T, E>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        self.drive(Borrowed(conn), body, false).result
    }

    /// Runs the operation like [`run`](Self::run) and reports every attempt.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_report<C, T, E, B>(self, conn: &mut C, body: B) -> Report<T, E>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        self.drive(Borrowed(conn), body, true)
    }

    /// Runs the operation on a connection from a source, unless it is done; see [`Operation::run_on`].
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and if no connection is available.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_on<S, T, E, B>(self, source: &S, body: B) -> Result<T, E>
    where
        S: Source,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        self.drive(FromSource::new(source), body, false).result
    }

    /// Runs the operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_on_report<S, T, E, B>(self, source: &S, body: B) -> Report<T, E>
    where
        S: Source,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        self.drive(FromSource::new(source), body, true)
    }

    fn drive<S, T, E, B>(self, slot: S, body: B, wants_report: bool) -> Report<T, E>
    where
        S: Slot,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        let (errors, answering, answers) = (self.errors, &self.answers, &Answers::default());
        let key = Key {
            answers: A::KEEPS.then_some(answers),
            ..self.key
        };
        let spec = Spec {
            key: Some(&key),
            ..self.operation.spec
        };
        let operation = Operation {
            runner: self.operation.runner,
            spec,
            fallback: self.operation.fallback,
            resolution: self.operation.resolution,
        };
        let body = move |conn: &mut S::Conn| keep(errors, answering, answers, body(conn));
        let ended = drive(operation, slot, body, wants_report);
        report(errors, answering, answers, ended)
    }
}
