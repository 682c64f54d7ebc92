//! Operations with an idempotency key.

use std::convert::identity;
use std::future::Future;
use std::marker::PhantomData;

use dbop_core::machine::{Answers, Key, Spec};
#[cfg(feature = "sha2")]
use dbop_diesel::adapter::keyed::sha256;
use dbop_diesel::adapter::keyed::{keep, report};
use dbop_diesel::{
    Answering, Errors, Fallback, MappedErrors, NoAnswer, NoFallback, OwnErrors, Report,
};
#[cfg(feature = "serde")]
use dbop_diesel::{JsonAnswer, JsonAnswerOr};
use futures_util::FutureExt as _;

use crate::body::{Body, Work};
use crate::connection::SupportedConnection;
use crate::driver::{drive, drive_local};
use crate::operation::Operation;
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
/// # use dbop_diesel_async::{Dialect, Ledger, OperationError, Runner};
/// # use diesel::prelude::*;
/// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// # use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
/// # type Conn = SyncConnectionWrapper<SqliteConnection>;
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let mut conn = Conn::establish(":memory:").await?;
/// # conn.batch_execute(&Ledger::new().create_table(Dialect::Sqlite)).await?;
/// # conn.batch_execute("CREATE TABLE payments (amount INTEGER)").await?;
/// static LEDGER: Ledger = Ledger::new();
///
/// async fn insert(conn: &mut Conn) -> QueryResult<usize> {
///     diesel::sql_query("INSERT INTO payments VALUES (10)").execute(conn).await
/// }
///
/// let runner = Runner::default();
/// let pay = runner.operation("pay").ledger(&LEDGER).idempotency_key("request-1");
/// pay.run(&mut conn, insert).await?;
/// let error = pay.run(&mut conn, insert).await.expect_err("done already");
/// assert!(error.dbop_error().is_some_and(|error| error.is_already_done()));
/// # Ok(()) }
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
    dbop_core::__key_settings!("dbop_diesel_async");
}

/// Keeping the answer.
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'a, F, X> KeyedOperation<'a, F, NoAnswer, X> {
    dbop_core::__key_answer_method!("dbop_diesel_async");
}

/// The answer.
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'a, F, X> KeyedOperation<'a, F, JsonAnswer, X> {
    dbop_core::__key_answer_settings!("dbop_diesel_async");
}

/// Errors of any type.
impl<'a, F, A> KeyedOperation<'a, F, A> {
    dbop_core::__key_errors_method!("dbop_diesel_async");
}

/// Running it.
impl<'a, F, A, X> KeyedOperation<'a, F, A, X> {
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
    pub fn run<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, C, T, E, B, F, A, X>
    where
        C: SupportedConnection,
        T: Send,
        E: Send,
        F: Fallback<T> + Send,
        A: Answering<T, E>,
        X: Errors<E, Inner: Send>,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        drive_keyed(self, Borrowed(conn), body, false).map(|report| report.result)
    }

    /// Runs the operation like [`run`](Self::run) and reports every attempt.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_report<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, C, T, E, B, F, A, X>
    where
        C: SupportedConnection,
        T: Send,
        E: Send,
        F: Fallback<T> + Send,
        A: Answering<T, E>,
        X: Errors<E, Inner: Send>,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        drive_keyed(self, Borrowed(conn), body, true)
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
    pub fn run_on<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, S, T, E, B, F, A, X>
    where
        S: Source,
        T: Send,
        E: Send,
        F: Fallback<T> + Send,
        A: Answering<T, E>,
        X: Errors<E, Inner: Send>,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        drive_keyed(self, FromSource::new(source), body, false).map(|report| report.result)
    }

    /// Runs the operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_on_report<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, S, T, E, B, F, A, X>
    where
        S: Source,
        T: Send,
        E: Send,
        F: Fallback<T> + Send,
        A: Answering<T, E>,
        X: Errors<E, Inner: Send>,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        drive_keyed(self, FromSource::new(source), body, true)
    }
}

/// Running futures that are not `Send`: see [`Operation::run_local`].
impl<'a, F, A, X> KeyedOperation<'a, F, A, X> {
    /// Runs the operation like [`run`](Self::run), on this thread.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_local<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, 'c, C, T, E, B, F, A, X>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    {
        drive_keyed_local(self, Borrowed(conn), body, false).map(|report| report.result)
    }

    /// Runs the operation like [`run_report`](Self::run_report), on this thread.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_local_report<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + use<'a, 'c, C, T, E, B, F, A, X>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    {
        drive_keyed_local(self, Borrowed(conn), body, true)
    }

    /// Runs the operation like [`run_on`](Self::run_on), on this thread.
    ///
    /// # Errors
    ///
    /// As [`run_on`](Self::run_on).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_on_local<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, 'c, S, T, E, B, F, A, X>
    where
        S: Source,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        drive_keyed_local(self, FromSource::new(source), body, false).map(|report| report.result)
    }

    /// Runs the operation like [`run_on_report`](Self::run_on_report), on this thread.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_on_local_report<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + use<'a, 'c, S, T, E, B, F, A, X>
    where
        S: Source,
        F: Fallback<T>,
        A: Answering<T, E>,
        X: Errors<E>,
        B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        drive_keyed_local(self, FromSource::new(source), body, true)
    }
}

/// The operation that is driven: it borrows the key, which is told where the answers are.
fn with_key<'k, F>(
    operation: Operation<'k, F, LedgerResolution>,
    key: &'k Key<'k>,
) -> Operation<'k, F, LedgerResolution> {
    Operation {
        spec: Spec {
            key: Some(key),
            ..operation.spec
        },
        ..operation
    }
}

async fn drive_keyed<S, T, E, F, A, X, B>(
    keyed: KeyedOperation<'_, F, A, X>,
    slot: S,
    body: B,
    wants_report: bool,
) -> Report<T, E>
where
    S: Slot,
    T: Send,
    E: Send,
    F: Fallback<T>,
    A: Answering<T, E>,
    X: Errors<E, Inner: Send>,
    B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
{
    let (errors, answering, answers) = (keyed.errors, &keyed.answers, &Answers::default());
    let key = &Key {
        answers: A::KEEPS.then_some(answers),
        ..keyed.key
    };
    let operation = with_key(keyed.operation, key);
    let body = Keeping {
        inner: body,
        returns: PhantomData,
        errors,
        answering,
        answers,
    };
    let ended = drive(operation, slot, body, wants_report, identity).await;
    report(errors, answering, answers, ended)
}

async fn drive_keyed_local<S, T, E, F, A, X, B>(
    keyed: KeyedOperation<'_, F, A, X>,
    slot: S,
    body: B,
    wants_report: bool,
) -> Report<T, E>
where
    S: Slot,
    F: Fallback<T>,
    A: Answering<T, E>,
    X: Errors<E>,
    B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
{
    let (errors, answering, answers) = (keyed.errors, &keyed.answers, &Answers::default());
    let key = &Key {
        answers: A::KEEPS.then_some(answers),
        ..keyed.key
    };
    let operation = with_key(keyed.operation, key);
    let body = async move |conn: &mut S::Conn| keep(errors, answering, answers, body(conn).await);
    let ended = drive_local(operation, slot, body, wants_report, identity).await;
    report(errors, answering, answers, ended)
}

/// A body that leaves what is kept of its end.
struct Keeping<'s, B, A, X, E> {
    inner: B,
    returns: PhantomData<fn() -> E>,
    errors: X,
    answering: &'s A,
    answers: &'s Answers,
}

// Derived, it would ask for `A: Clone` and `E: Clone`.
impl<B: Clone, A, X: Copy, E> Clone for Keeping<'_, B, A, X, E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ..*self
        }
    }
}

impl<B, A, X, C, T, E> Work<C, T, X::Inner> for Keeping<'_, B, A, X, E>
where
    B: for<'r> Body<&'r mut C, Result<T, E>>,
    A: Answering<T, E>,
    X: Errors<E>,
{
    fn start(self, conn: &mut C) -> impl Future<Output = Result<T, X::Inner>> + Send {
        let Self {
            inner,
            errors,
            answering,
            answers,
            ..
        } = self;
        inner(conn).map(move |result| keep(errors, answering, answers, result))
    }
}
