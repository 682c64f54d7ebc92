//! Run [diesel-async](https://docs.rs/diesel-async) operations safely: retries with backoff,
//! savepoints, per-operation timeouts, in Tokio services.
//!
//! ```
//! # use diesel::prelude::*;
//! # use diesel_async::SimpleAsyncConnection;
//! use dbop_diesel_async::Runner;
//! use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
//! use diesel_async::{AsyncConnection, RunQueryDsl};
//!
//! # diesel::table! { users { id -> Integer, name -> Text } }
//! type Conn = SyncConnectionWrapper<SqliteConnection>; // or AsyncPgConnection, AsyncMysqlConnection
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let file = tempfile::NamedTempFile::new()?;
//! # let url = file.path().to_str().expect("UTF-8");
//! # Conn::establish(url).await?.batch_execute("
//! #     CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
//! #     INSERT INTO users VALUES (1, 'Ada')").await?;
//! let runner = Runner::default(); // make one, share it
//! let name = String::from("Grace");
//!
//! // On a connection that you have: a transaction, in one of yours a savepoint.
//! let mut conn = Conn::establish(url).await?;
//! let updated = runner.run(&mut conn, async |conn| {
//!     diesel::update(users::table.find(1)).set(users::name.eq(&name)).execute(conn).await
//! }).await?;
//! assert_eq!(updated, 1);
//!
//! // On a connection for each attempt that needs one, with a name for the log.
//! let connect = || Conn::establish(url); // or a pool of deadpool, bb8 or mobc
//! let names: Vec<String> = runner.operation("list-names").run_on(&connect, async |conn| {
//!     users::table.select(users::name).load(conn).await
//! }).await?;
//! assert_eq!(names, ["Grace"]);
//! # Ok(()) }
//! ```
//!
//! This is [`dbop-diesel`](dbop_diesel) with `.await`: the same machine, policy, settings and
//! errors, and the same promises, which that crate's documentation lists.
//!
//! **A wait for a lock ends after 10 s by default**, except on SQLite: also one for a unique key or for
//! `pg_advisory_xact_lock`. As it is retried, an operation can take a
//! [minute](dbop_diesel::guide::postgres) to fail;
//! [`with_default_lock_timeout`](Runner::with_default_lock_timeout) and
//! [`lock_timeout`](Operation::lock_timeout) change that.
//!
//! # Guides
//!
//! Those of dbop-diesel are for both:
//!
//! - [from a retry loop](dbop_diesel::guide::from_a_retry_loop) to dbop,
//!   [helpers around dbop](dbop_diesel::guide::adopting),
//!   [recipes](dbop_diesel::guide::recipes), [retries](dbop_diesel::guide::retries),
//!   [hooks](dbop_diesel::guide::hooks), [errors](dbop_diesel::guide::errors),
//!   [testing](dbop_diesel::guide::testing);
//! - [pools](dbop_diesel::guide::pools), [poolers](dbop_diesel::guide::poolers),
//!   [engines](dbop_diesel::guide::engines), [several nodes](dbop_diesel::guide::nodes), [PostgreSQL](dbop_diesel::guide::postgres),
//!   [MySQL and MariaDB](dbop_diesel::guide::mysql), [SQLite](dbop_diesel::guide::sqlite);
//! - [settings](dbop_diesel::guide::settings), [unknown outcomes](dbop_diesel::guide::unknown_outcome),
//!   [limits](dbop_diesel::guide::limits).
//!
//! # Timeouts and cancellation
//!
//! A run can be dropped at any of its await points: by `tokio::time::timeout`, by
//! `tokio::select!`, with a task that is aborted, with the request of a client that has gone away.
//! Nothing of it is kept, unless its COMMIT was in progress: then it is all or nothing. Its
//! connection may be in the middle of a transaction, so the connection refuses every further one
//! with `BrokenTransactionManager`, and has to be closed.
//!
//! ```
//! # use diesel::prelude::*;
//! # use diesel_async::SimpleAsyncConnection;
//! # use diesel_async::pooled_connection::AsyncDieselConnectionManager;
//! # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
//! use std::time::Duration;
//!
//! use dbop_diesel_async::Runner;
//! use diesel_async::pooled_connection::deadpool::{Object, Pool};
//! use tokio::time::timeout;
//!
//! # type Conn = SyncConnectionWrapper<SqliteConnection>;
//! # async fn work(conn: &mut Conn) -> QueryResult<()> {
//! #     conn.batch_execute("CREATE TABLE t (id INTEGER)").await?;
//! #     std::future::pending().await
//! # }
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pool: Pool<Conn> = Pool::builder(AsyncDieselConnectionManager::new(":memory:")).build()?;
//! # let runner = Runner::default();
//! let mut conn = pool.get().await?;
//! let run = runner
//!     .operation("work")
//!     .lock_timeout(Duration::from_secs(1))
//!     .run(&mut *conn, work);
//! match timeout(Duration::from_millis(100), run).await {
//!     Ok(result) => result?,
//!     // Closes the connection, which deadpool would keep until its next checkout.
//!     Err(_too_late) => drop(Object::take(conn)),
//! }
//! # assert_eq!(pool.status().size, 0);
//! # Ok(()) }
//! ```
//!
//! While a server waits for a lock or is busy with a statement, it does not notice that the
//! connection was closed. So give operations a `lock_timeout` and a `statement_timeout` too: these
//! end the statement on the server, the connection stays in use, and the error says why.
//!
//! diesel-async's `SyncConnectionWrapper`, which SQLite needs, can be cancelled on a multi-thread
//! runtime only. There, cancelling blocks until the statement is done; on a current-thread runtime
//! it panics. `#[tokio::test]` makes a current-thread runtime, unless you set
//! `flavor = "multi_thread"`.
//!
//! # Pools
//!
//! A pool lends a wrapper of the connection. `run_on(&pool, work)` takes it off, so `work` can be a
//! function of `&mut AsyncPgConnection`. On a pooled connection in hand, that is
//! `run(&mut *conn, work)`.
//!
//! [`run_on`](Runner::run_on) takes the connections from the pool itself. It closes a broken
//! connection at once, even if it is cancelled.
//!
//! Behind PgBouncer in transaction mode, set `with_pooler_safe(true)`:
//! [why, and what else](dbop_diesel::guide::poolers).
//!
//! With `run`, what a pool does with a connection on which a run was cancelled:
//!
//! - **bb8** closes it when it is returned.
//! - **deadpool** closes it only when it is about to lend it out again. Until then it stays open,
//!   with its transaction and its locks. Take it out of the pool, as above. Where the whole future can
//!   be dropped, do that in a `Drop`, as `Loan` does in the example `axum`.
//! - **mobc** should close it when it is returned, but diesel-async 0.9.2 says the opposite of what
//!   mobc asks for: it closes every *healthy* connection and keeps the broken one, which
//!   `RecyclingMethod::Fast` and `Verified` lend out again, in the middle of its transaction. A
//!   `RecyclingMethod::CustomFunction` that refuses broken connections helps only against the
//!   latter. Your own manager helps against both:
//!
//! ```
//! # use diesel::prelude::*;
//! # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
//! use std::error::Error;
//!
//! # use dbop_diesel_async::Runner;
//! use diesel_async::{AsyncConnection, RunQueryDsl, TransactionManager};
//!
//! # type Conn = SyncConnectionWrapper<SqliteConnection>;
//! struct Manager(String); // type Conn = AsyncPgConnection, for example
//!
//! #[mobc::async_trait]
//! impl mobc::Manager for Manager {
//!     type Connection = Conn;
//!     type Error = Box<dyn Error + Send + Sync>;
//!
//!     async fn connect(&self) -> Result<Conn, Self::Error> {
//!         Ok(Conn::establish(&self.0).await?)
//!     }
//!
//!     async fn check(&self, mut conn: Conn) -> Result<Conn, Self::Error> {
//!         diesel::sql_query("SELECT 1").execute(&mut conn).await?;
//!         Ok(conn)
//!     }
//!
//!     fn validate(&self, conn: &mut Conn) -> bool {
//!         type Transactions = <Conn as AsyncConnection>::TransactionManager;
//!
//!         !std::thread::panicking() && !Transactions::is_broken_transaction_manager(conn)
//!     }
//! }
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn Error>> {
//! # let pool = mobc::Pool::builder().max_open(1).build(Manager(":memory:".into()));
//! # async fn get(pool: &mobc::Pool<Manager>) -> mobc::Connection<Manager> {
//! #     pool.get().await.unwrap_or_else(|_| panic!("no connection"))
//! # }
//! # drop(get(&pool).await);
//! # let mut conn = get(&pool).await;
//! # assert!(!conn.is_brand_new());
//! # let runner = Runner::default();
//! # let run = runner.run(&mut *conn, async |_| std::future::pending::<QueryResult<()>>().await);
//! # assert!(tokio::time::timeout(std::time::Duration::from_millis(100), run).await.is_err());
//! # drop(conn);
//! # assert!(get(&pool).await.is_brand_new());
//! # Ok(()) }
//! ```
//!
//! # Several statements at once
//!
//! An operation on `AsyncPgConnection` can send a statement before the previous one was answered.
//! When one fails, PostgreSQL refuses those after it (25P02). Look at the answers in the order of
//! the statements. Otherwise the operation returns such a refusal instead of its cause, and a fault
//! that could be retried is not. tokio's `try_join!` looks in that order with `biased` (1.46):
//!
//! ```
//! # use diesel::prelude::*;
//! # use diesel_async::{AsyncPgConnection, RunQueryDsl};
//! # diesel::table! { accounts { id -> Integer, balance -> BigInt } }
//! async fn add(mut conn: &AsyncPgConnection, id: i32, amount: i64) -> QueryResult<usize> {
//!     diesel::update(accounts::table.find(id))
//!         .set(accounts::balance.eq(accounts::balance + amount))
//!         .execute(&mut conn)
//!         .await
//! }
//!
//! async fn transfer(conn: &mut AsyncPgConnection) -> QueryResult<()> {
//!     let conn = &*conn;
//!     tokio::try_join!(biased; add(conn, 1, -10), add(conn, 2, 10))?;
//!     Ok(())
//! }
//! ```
//!
//! # Features
//!
//! `postgres`, `mysql` and `sqlite` turn on a backend, in diesel-async as well. `deadpool`, `bb8` and
//! `mobc` turn on the pools of diesel-async. `anyhow` and `eyre` implement
//! [`OperationError`] for `anyhow::Error` and `eyre::Report`. `tracing` makes a span of each operation and
//! attempt, and `metrics` has an [`Observer`] that counts and times them: see
//! [the guide](dbop_diesel::guide::observability). `testing` is for your tests: faults on demand, in the module
//! `testing`. No feature is on by default.
//!
//! # Limits
//!
//! Those of `dbop-diesel`, which [its guide](dbop_diesel::guide::limits) lists. The most important
//! ones:
//!
//! - Faults are recognized by their texts, in the languages of the servers. Where MySQL's or MariaDB's
//!   text is not known, dbop asks the server for the number. An error that is still unknown is not
//!   retried.
//! - On MySQL and MariaDB DDL commits everything before it. That is not noticed if a deadlock
//!   follows, a lock timeout with `innodb_rollback_on_timeout`, or the loss of the connection.
//! - In the *caller's* transaction on MySQL and MariaDB, what an operation writes after a deadlock
//!   that it has swallowed is kept.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub use backend::SupportedBackend;
pub use body::Body;
pub use clock::{Clock, TokioClock};
pub use connection::SupportedConnection;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use dbop_diesel::Metrics;
pub use dbop_diesel::{
    Advice, Answering, AttemptHook, Backoff, BeginMode, ClassPolicy, Classifier, Code, CommitHook,
    ConnectError, Delays, Dialect, Engine, Error, ErrorKind, Errors, Event, EventKind, Extras,
    FailedAttempt, Fallback, FallbackValue, Fault, FaultClass, Fit, Fresh, GateStatus, GiveUpHook,
    GivenUp, IsolationLevel, Jitter, Keys, Ledger, LogLevels, MappedErrors, Name, NoAnswer,
    NoFallback, NodeStatus, Nodes, NodesHealth, Observer, OperationError, Order, Outcome,
    OwnErrors, Owned, ParsePositionError, Phase, Position, Purpose, Report, Reported, Request,
    Retry, RetryBudget, RetryContext, RetryDecision, RetryHook, RetryPolicy, Scope, Seen, Setting,
    Split, SqlState, StopReason, Subject, Summary, SynchronousCommit, Verdict, diesel_error_in,
    fault_of, operation_error, verdict,
};
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use dbop_diesel::{JsonAnswer, JsonAnswerOr};
pub use hooks::{after_commit, after_commit_sync};
pub use keyed::KeyedOperation;
pub use mapped::MappedOperation;
pub use nodes::read_position;
pub use operation::Operation;
pub use runner::Runner;
pub use source::{Source, broken};
pub use verify::{LedgerResolution, NoResolution, ServerResolution, Verify};

mod backend;
mod body;
mod caught;
mod clock;
mod connection;
mod driver;
mod hooks;
mod keyed;
mod mapped;
mod nodes;
mod operation;
mod patience;
mod runner;
mod slot;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
