//! A web service: accounts, and transfers between them, each of which is made once.
//!
//! ```text
//! cargo run -p dbop-diesel-async --features sqlite,deadpool,serde,sha2 --example axum
//! curl localhost:3000/accounts
//! curl localhost:3000/transfer -H 'Idempotency-Key: "8e03978e"' --json '{"from": 1, "to": 2, "amount": 10}'
//! ```
//!
//! The last line can be repeated: the answer is the same, and the transfer is made once. The header is that of
//! draft-ietf-httpapi-idempotency-key-header. An answer is kept for a day.
//!
//! By default the database is a temporary file, removed at the end. `DATABASE_URL` names another file
//! or, with the feature `postgres`, a server: `DATABASE_URL=postgres://user@localhost/bank`. The
//! service creates the tables `accounts` and `dbop_ledger` if they do not exist. `LISTEN` is the address to listen on.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints what it does"
)]
#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Json, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, serve};
use dbop_diesel_async::{
    Dialect, FaultClass, Keys, Ledger, OperationError, RetryPolicy, Runner, SupportedConnection,
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

/// Which transfers have been made.
static LEDGER: Ledger = Ledger::new();

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
async fn transfer<B: Bank>(bank: &mut B, order: Order) -> Result<Stored, TransferError> {
    let balance = bank.lock(order.from).await.optional()?;
    let balance = balance.ok_or(TransferError::NoSuchAccount(order.from))?;
    let other = bank.lock(order.to).await.optional()?;
    other.ok_or(TransferError::NoSuchAccount(order.to))?;
    if order.amount <= 0 || order.amount > balance {
        return Err(TransferError::InvalidAmount);
    }
    bank.add(order.from, -order.amount).await?;
    bank.add(order.to, order.amount).await?;
    Ok(Stored::receipt(order, balance - order.amount))
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

/// An answer that is kept with the transfer, for clients that ask again.
#[derive(Deserialize, Serialize)]
struct Stored {
    status: u16,
    body: String,
}

impl Stored {
    fn receipt(order: Order, balance: i64) -> Self {
        let Order { from, to, amount } = order;
        Self {
            status: StatusCode::OK.as_u16(),
            body: format!(r#"{{"from":{from},"to":{to},"amount":{amount},"balance":{balance}}}"#),
        }
    }

    /// What was refused stays refused, also once it would be possible. A database error is no answer.
    fn refusal(error: &TransferError) -> Option<Self> {
        let refusal = match error {
            TransferError::NoSuchAccount(_) => Refusal::NOT_FOUND,
            TransferError::InvalidAmount => Refusal::INVALID_AMOUNT,
            TransferError::Database(_) => return None,
        };
        Some(Self {
            status: refusal.status.as_u16(),
            body: refusal.body(),
        })
    }
}

impl IntoResponse for Stored {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            self.body,
        )
            .into_response()
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
    key: IdempotencyKey,
    Json(order): Json<Order>,
) -> Result<Stored, Refusal> {
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
    // The key is good for this order alone.
    let request = format!("{} {} {}", order.from, order.to, order.amount);
    let work = operation
        .ledger(&LEDGER)
        .idempotency_key(&key.0)
        .request(request)
        .answer()
        .remember_refusals(Stored::refusal)
        .run_on(&app.pool, async |bank: &mut M::Type| {
            transfer(bank, order).await
        });
    // Each statement has its own timeout. This one is for all of them, for the retries, and for the wait
    // for a turn and a connection. It is a little longer, because a server's error says more than no answer.
    match timeout_at(deadline.0 + Duration::from_millis(100), work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(TransferError::Database(error))) => Err(Refusal::because_of::<M::Type>(&error)),
        // The other ones are remembered.
        Ok(Err(_)) => Err(Refusal::BROKEN),
        // Dropped while it was committed, it may be done. With the key the client can ask again, and finds out.
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

/// What the client calls this request, in every repetition: a string of structured fields (RFC 8941), as in
/// `Idempotency-Key: "8e03978e"`. Many clients leave out the quotation marks.
struct IdempotencyKey(String);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        const NAME: HeaderName = HeaderName::from_static("idempotency-key");
        let mut values = parts.headers.get_all(NAME).into_iter();
        let value = values.next().ok_or(Refusal::NO_KEY)?;
        let text = value.to_str().map_err(|_| Refusal::BAD_KEY)?;
        match unquoted(text.trim()) {
            Some(key) if (1..=255).contains(&key.len()) && values.next().is_none() => Ok(Self(key)),
            _ => Err(Refusal::BAD_KEY),
        }
    }
}

/// The string in a header.
fn unquoted(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else {
        return Some(text.to_owned());
    };
    let (mut key, mut characters) = (String::new(), rest.chars());
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => key.push(characters.next().filter(|it| ['"', '\\'].contains(it))?),
            other => key.push(other),
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
    const NO_KEY: Self = Self::new(StatusCode::BAD_REQUEST, "Idempotency-Key is missing", None);
    const BAD_KEY: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "Idempotency-Key: one string, up to 255 characters",
        None,
    );
    /// Another request is making this transfer, and takes too long.
    const UNDER_WAY: Self = Self::new(StatusCode::CONFLICT, "under way", Some(1));
    const OTHER_REQUEST: Self = Self::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "Idempotency-Key is that of another request",
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
    /// The transfer may have been made: with the same key, the client finds out.
    const UNKNOWN: Self = Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome unknown", Some(1));
    const BROKEN: Self = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error", None);

    const fn new(status: StatusCode, error: &'static str, retry_after: Option<u32>) -> Self {
        Self {
            status,
            error,
            retry_after,
        }
    }

    fn body(&self) -> String {
        format!(r#"{{"error":"{}"}}"#, self.error)
    }

    /// The answer to an error that no retry has cured. The log says more.
    fn because_of<B: Bank>(error: &DieselError) -> Self {
        use FaultClass as C;

        match error.dbop_error() {
            Some(own) if own.is_outcome_unknown() => return Self::UNKNOWN,
            Some(own) if own.is_under_way() => return Self::UNDER_WAY,
            Some(own) if own.is_other_request() => return Self::OTHER_REQUEST,
            _ => {}
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
        let stored = Stored {
            status: self.status.as_u16(),
            body: self.body(),
        };
        let mut response = stored.into_response();
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
    let tables = "CREATE TABLE IF NOT EXISTS accounts (
                     id INTEGER PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0));
                 INSERT INTO accounts VALUES (1, 1000), (2, 1000), (3, 1000)
                     ON CONFLICT DO NOTHING";
    let ledger = LEDGER.create_table(M::Type::DIALECT);
    let operation = runner.operation("set-up");
    let work = operation.run(&mut *conn, async |bank: &mut M::Type| {
        bank.batch_execute(tables).await?;
        bank.batch_execute(&ledger).await
    });
    work.await?;
    drop(conn);

    let app = Arc::new(App { runner, pool });
    tokio::spawn(forget(app.clone()));
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

/// Deletes the answers that are too old to be asked for, at the start and once an hour.
async fn forget<M: Manager<Type: Bank> + 'static>(app: Arc<App<M>>) {
    let mut hours = tokio::time::interval(Duration::from_secs(3600));
    loop {
        hours.tick().await;
        while forget_some(&app).await {}
    }
}

/// Whether there may be more.
async fn forget_some<M: Manager<Type: Bank>>(app: &App<M>) -> bool {
    const DAY: Duration = Duration::from_secs(86_400);
    const AT_ONCE: u32 = 1000;
    let Ok(mut conn) = app.pool.get().await else {
        return false;
    };
    // What fails is in the log. In an hour it is tried again.
    let operation = app.runner.forget(&mut *conn, &LEDGER, DAY, AT_ONCE);
    operation
        .await
        .is_ok_and(|forgotten| forgotten == AT_ONCE as usize)
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
