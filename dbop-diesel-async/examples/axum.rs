//! A web service: accounts, and transfers between them.
//!
//! ```text
//! cargo run -p dbop-diesel-async --features sqlite,deadpool --example axum
//! curl localhost:3000/accounts
//! curl localhost:3000/transfer --json '{"from": 1, "to": 2, "amount": 10}'
//! ```
//!
//! By default the database is a temporary file, removed at the end. `DATABASE_URL` names another file
//! or, with the feature `postgres`, a server: `DATABASE_URL=postgres://user@localhost/bank`. The
//! service creates the table `accounts` if it does not exist. `LISTEN` is the address to listen on.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints what it does"
)]
#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{FromRequestParts, Json, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, serve};
use dbop_diesel_async::{
    Dialect, FaultClass, Keys, OperationError, RetryPolicy, Runner, SupportedConnection,
    diesel_error_in, fault_of,
};
use deadpool::managed::{Manager, Object, Pool};
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};

diesel::table! {
    accounts {
        id -> Integer,
        balance -> BigInt,
    }
}

// ------------------------------------------------------------------------------- the operations

/// What the service does with its database. A service with one database would have plain functions
/// here; this one shows that an operation can be written for any connection.
trait Bank: SupportedConnection {
    const DIALECT: Dialect;

    /// The balance of an account, which no other session can change until the transaction ends.
    fn lock(&mut self, id: i32) -> impl Future<Output = QueryResult<i64>> + Send;

    fn add(&mut self, id: i32, amount: i64) -> impl Future<Output = QueryResult<usize>> + Send;

    fn accounts(&mut self) -> impl Future<Output = QueryResult<Vec<Account>>> + Send;
}

#[derive(Queryable, Serialize)]
struct Account {
    id: i32,
    balance: i64,
}

macro_rules! bank {
    ($connection:ty, $dialect:ident $(, $for_update:ident)?) => {
        impl Bank for $connection {
            const DIALECT: Dialect = Dialect::$dialect;

            async fn lock(&mut self, id: i32) -> QueryResult<i64> {
                let account = accounts::table.find(id).select(accounts::balance);
                account$(.$for_update())?.get_result(self).await
            }

            async fn add(&mut self, id: i32, amount: i64) -> QueryResult<usize> {
                diesel::update(accounts::table.find(id))
                    .set(accounts::balance.eq(accounts::balance + amount))
                    .execute(self)
                    .await
            }

            async fn accounts(&mut self) -> QueryResult<Vec<Account>> {
                accounts::table.order(accounts::id).load(self).await
            }
        }
    };
}

// SQLite has one lock for everything, which dbop takes when an operation begins.
bank!(SyncConnectionWrapper<SqliteConnection>, Sqlite);
#[cfg(feature = "postgres")]
bank!(diesel_async::AsyncPgConnection, Postgres, for_update);

#[derive(Clone, Copy, Deserialize)]
struct Order {
    from: i32,
    to: i32,
    amount: i64,
}

/// The operation itself. It can run several times, each time in a new transaction, so it does
/// nothing but talk to the database.
///
/// It locks the accounts in the order of the request. Two opposite transfers would deadlock on PostgreSQL, so
/// they are kept apart by the accounts they name: see `exclusive_by` below. Transfers of another process
/// can still be in the way; then one of the two is retried.
async fn transfer<B: Bank>(bank: &mut B, order: Order) -> Result<(), TransferError> {
    let balance = bank.lock(order.from).await.optional()?;
    let balance = balance.ok_or(TransferError::NoSuchAccount(order.from))?;
    let other = bank.lock(order.to).await.optional()?;
    other.ok_or(TransferError::NoSuchAccount(order.to))?;
    if order.amount <= 0 || order.amount > balance {
        return Err(TransferError::InvalidAmount);
    }
    bank.add(order.from, -order.amount).await?;
    bank.add(order.to, order.amount).await?;
    Ok(())
}

/// What an operation can fail with: its own errors, which are never retried, and database errors,
/// which are retried where that can help.
#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error("no account {0}")]
    NoSuchAccount(i32),
    #[error("invalid amount")]
    InvalidAmount,
    #[error("database")]
    Database(#[from] DieselError),
}

impl OperationError for TransferError {
    fn diesel_error(&self) -> Option<&DieselError> {
        diesel_error_in(self)
    }
}

// ---------------------------------------------------------------------------------- the handlers

struct App<M: Manager> {
    runner: Runner,
    pool: Pool<M>,
}

async fn post_transfer<M: Manager<Type: Bank, Error = PoolError> + 'static>(
    State(app): State<Arc<App<M>>>,
    deadline: Deadline,
    Json(order): Json<Order>,
) -> Result<StatusCode, Refusal> {
    // Transfers with an account in common wait for their turn, before they take a connection.
    let accounts = Keys::new("account", [order.from, order.to]);
    let mut operation = app
        .runner
        .operation("transfer")
        .exclusive_by(&accounts)
        // PostgreSQL needs a second to find a deadlock.
        .lock_timeout(deadline.time_left().min(Duration::from_secs(2)));
    if M::Type::DIALECT != Dialect::Sqlite {
        operation = operation.statement_timeout(deadline.time_left());
    }
    let may_commit = AtomicBool::new(false);
    let work = operation.run_on(&app.pool, async |bank: &mut M::Type| {
        may_commit.store(false, Ordering::Relaxed);
        transfer(bank, order).await?;
        may_commit.store(true, Ordering::Relaxed);
        Ok(())
    });
    // Each statement has its own timeout. This one is for all of them, for the retries, and for the wait
    // for a turn and a connection. It is a little longer, because a server's error says more than no answer.
    match timeout_at(deadline.0 + Duration::from_millis(100), work).await {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(TransferError::NoSuchAccount(_))) => Err(Refusal::NOT_FOUND),
        Ok(Err(TransferError::InvalidAmount)) => Err(Refusal::INVALID_AMOUNT),
        Ok(Err(TransferError::Database(error))) => Err(Refusal::because_of::<M::Type>(&error)),
        // Dropped before its COMMIT was sent, it has done nothing. Later, the outcome is unknown.
        Err(_) if may_commit.into_inner() => Err(Refusal::UNKNOWN),
        Err(_) => Err(Refusal::TOO_LATE),
    }
}

async fn get_accounts<M: Manager<Type: Bank> + 'static>(
    State(app): State<Arc<App<M>>>,
    deadline: Deadline,
) -> Result<Json<Vec<Account>>, Refusal> {
    let mut conn = app.connection(deadline).await?;
    // Marked as read-only, so that on SQLite it does not wait for writers.
    let operation = app.runner.operation("accounts").read_only();
    let work = operation.run(&mut *conn, async |bank: &mut M::Type| bank.accounts().await);
    match timeout_at(deadline.0, work).await {
        Ok(Ok(accounts)) => Ok(Json(accounts)),
        Ok(Err(error)) => Err(Refusal::because_of::<M::Type>(&error)),
        Err(_) => Err(Refusal::TOO_LATE),
    }
}

/// When the client wants its answer: within `x-timeout-ms` milliseconds, 5 seconds by default.
#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    /// Never zero, which means "no timeout" to a server.
    fn time_left(self) -> Duration {
        let left = self.0.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    }
}

impl<S: Sync> FromRequestParts<S> for Deadline {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        const NAME: HeaderName = HeaderName::from_static("x-timeout-ms");
        let timeout = match parts.headers.get(NAME) {
            None => Some(5000),
            Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()),
        };
        match timeout {
            Some(timeout @ 1..=60_000) => Ok(Self(Instant::now() + Duration::from_millis(timeout))),
            _ => Err(Refusal::BAD_TIMEOUT),
        }
    }
}

/// An answer other than the one that the client wanted.
struct Refusal {
    status: StatusCode,
    error: &'static str,
    /// After this many seconds the same request can succeed.
    retry_after: Option<u32>,
}

impl Refusal {
    const BAD_TIMEOUT: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "x-timeout-ms: from 1 to 60000",
        None,
    );
    const NOT_FOUND: Self = Self::new(StatusCode::NOT_FOUND, "no such account", None);
    const INVALID_AMOUNT: Self =
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid amount", None);
    const CONTENTION: Self = Self::new(StatusCode::CONFLICT, "too many at once", Some(1));
    const TOO_LATE: Self = Self::new(StatusCode::SERVICE_UNAVAILABLE, "timed out", Some(1));
    const UNAVAILABLE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "database unavailable",
        Some(5),
    );
    /// The transfer may have been made: the client has to check before it sends it again.
    const UNKNOWN: Self = Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome unknown", None);
    const BROKEN: Self = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error", None);

    const fn new(status: StatusCode, error: &'static str, retry_after: Option<u32>) -> Self {
        Self {
            status,
            error,
            retry_after,
        }
    }

    /// The answer to an error that no retry has cured. The log says more.
    fn because_of<B: Bank>(error: &DieselError) -> Self {
        use FaultClass as C;

        if error
            .dbop_error()
            .is_some_and(|own| own.is_outcome_unknown())
        {
            return Self::UNKNOWN;
        }
        match fault_of(B::DIALECT, error).map(|fault| fault.class()) {
            Some(C::Deadlock | C::SerializationFailure | C::LockTimeout | C::Busy) => {
                Self::CONTENTION
            }
            Some(C::StatementTimeout) => Self::TOO_LATE,
            Some(
                C::ConnectionLost
                | C::NotConnected
                | C::ServerUnavailable
                | C::ReadOnlyServer
                | C::ResourceExhausted
                | C::Canceled,
            ) => Self::UNAVAILABLE,
            _ => Self::BROKEN,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: &'static str,
        }
        let body = Json(Body { error: self.error });
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

// ------------------------------------------------------------------------------- the connections

impl<M: Manager<Type: Bank>> App<M> {
    /// A connection from the pool, if one is available in time.
    async fn connection(&self, deadline: Deadline) -> Result<Loan<M>, Refusal> {
        match timeout_at(deadline.0, self.pool.get()).await {
            Ok(Ok(conn)) => Ok(Loan(Some(conn))),
            Ok(Err(_)) => Err(Refusal::UNAVAILABLE),
            Err(_) => Err(Refusal::TOO_LATE),
        }
    }
}

/// A connection on loan from the pool, for an operation with `run`. `run_on` needs none: it does the same.
///
/// When a request times out, or its client goes away, its operation is dropped half-way. dbop then
/// makes the connection refuse further transactions. But deadpool throws it away only when it is
/// about to lend it out again, and until then the server keeps the locks. `Loan` closes the
/// connection at once.
struct Loan<M: Manager<Type: Bank>>(Option<Object<M>>);

impl<M: Manager<Type: Bank>> Deref for Loan<M> {
    type Target = M::Type;

    fn deref(&self) -> &M::Type {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl<M: Manager<Type: Bank>> DerefMut for Loan<M> {
    fn deref_mut(&mut self) -> &mut M::Type {
        self.0.as_mut().expect("only drop takes it")
    }
}

impl<M: Manager<Type: Bank>> Drop for Loan<M> {
    fn drop(&mut self) {
        type Transactions<M> = <<M as Manager>::Type as AsyncConnection>::TransactionManager;

        if Transactions::<M>::is_broken_transaction_manager(&mut *self) {
            drop(self.0.take().map(Object::take));
        }
    }
}

// ----------------------------------------------------------------------------------- the program

// diesel-async's wrapper, which SQLite needs, can be cancelled on a multi-thread runtime only.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var("DATABASE_URL") {
        Ok(url) if url.starts_with("postgres") => run_on_postgres(url).await,
        Ok(path) => run_on_sqlite(path).await,
        Err(_) => {
            let directory = tempfile::tempdir()?;
            run_on_sqlite(directory.path().join("bank.db").display().to_string()).await
        }
    }
}

async fn run_on_sqlite(path: String) -> Result<(), Box<dyn Error>> {
    let manager =
        AsyncDieselConnectionManager::<SyncConnectionWrapper<SqliteConnection>>::new(path);
    let pool: Pool<_> = Pool::builder(manager).max_size(8).build()?;
    // Readers do not block the writer, and the writer does not block readers.
    let wal = "PRAGMA journal_mode = WAL";
    diesel::sql_query(wal)
        .execute(&mut *pool.get().await?)
        .await?;
    run(pool).await
}

#[cfg(feature = "postgres")]
async fn run_on_postgres(url: String) -> Result<(), Box<dyn Error>> {
    let manager = AsyncDieselConnectionManager::<diesel_async::AsyncPgConnection>::new(url);
    run(Pool::builder(manager).max_size(8).build()?).await
}

#[cfg(not(feature = "postgres"))]
async fn run_on_postgres(_: String) -> Result<(), Box<dyn Error>> {
    Err("for PostgreSQL, turn on the feature `postgres`".into())
}

async fn run<M>(pool: Pool<M>) -> Result<(), Box<dyn Error>>
where
    M: Manager<Type: Bank, Error = PoolError> + 'static,
{
    let policy = RetryPolicy::new().with_max_delay(Duration::from_millis(200));
    let runner = Runner::new(policy).with_logger(Arc::new(Stderr));
    let mut conn = pool.get().await?;
    let table = "CREATE TABLE IF NOT EXISTS accounts (
                     id INTEGER PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0));
                 INSERT INTO accounts VALUES (1, 1000), (2, 1000), (3, 1000)
                     ON CONFLICT DO NOTHING";
    let operation = runner.operation("set-up");
    let work = operation.run(&mut *conn, async |bank: &mut M::Type| {
        bank.batch_execute(table).await
    });
    work.await?;
    drop(conn);

    let app = Arc::new(App { runner, pool });
    let routes = Router::new()
        .route("/transfer", post(post_transfer::<M>))
        .route("/accounts", get(get_accounts::<M>))
        .with_state(app.clone());
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // When it is asked to stop, it accepts no new requests and answers those that it has.
    serve(listener, routes)
        .with_graceful_shutdown(asked_to_stop())
        .await?;
    app.pool.close();
    println!("stopped");
    Ok(())
}

/// Waits for Ctrl-C or, on Unix, SIGTERM.
async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    {
        _ = tokio::signal::ctrl_c().await;
    }
}

/// Prints dbop's records on stderr: retries and what became of them, but not every success.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("[{}] {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}
