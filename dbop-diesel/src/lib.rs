//! Run [Diesel](https://diesel.rs) operations safely: retries with backoff, savepoints,
//! per-operation timeouts.
//!
//! ```
//! # use diesel::prelude::*;
//! # use diesel::connection::SimpleConnection;
//! use dbop_diesel::Runner;
//!
//! # diesel::table! { users { id -> Integer, name -> Text } }
//! # let mut conn = SqliteConnection::establish(":memory:")?;
//! # conn.batch_execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
//! #                     INSERT INTO users VALUES (1, 'Ada')")?;
//! let runner = Runner::default();
//! let name = String::from("Grace");
//!
//! let updated = runner.run(&mut conn, |conn| {
//!     diesel::update(users::table.find(1)).set(users::name.eq(&name)).execute(conn)
//! })?;
//! assert_eq!(updated, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a run promises
//!
//! - Without an open transaction the operation runs in a transaction, committed when it returns
//!   `Ok`. Inside one it runs in a savepoint. The runner never commits or rolls back what it did not
//!   open.
//! - A fault is retried where another attempt can succeed: the documentation of [`verdict`] has the
//!   table. What cannot succeed in a savepoint is escalated: the outermost operation is retried
//!   as a whole. Attempts of nested operations do not multiply.
//! - A failed attempt is rolled back before any wait. Its first error is the one that is reported,
//!   whatever goes wrong afterwards.
//! - `Ok` means committed (or, in a savepoint, part of the enclosing transaction). A transaction
//!   that the server has rolled back or dropped unnoticed is an error.
//! - A commit of unknown outcome is a separate error, and never retried blindly.
//! - Settings belong to the operation and cost no round trip.
//! - After a panic what is not committed is rolled back, then the panic continues. That holds for panics of
//!   the operation, of a classifier, of hooks, of the closure given to `verify` and of the error type's methods.
//!
//! **A wait for a lock ends after 10 s by default**, except on SQLite: also one for a unique key or for
//! `pg_advisory_xact_lock`. As it is retried, an operation can take a [minute](guide::postgres) to fail;
//! [`with_default_lock_timeout`](Runner::with_default_lock_timeout) and
//! [`lock_timeout`](Operation::lock_timeout) change that.
//!
//! # Guides
//!
//! - [From a retry loop](guide::from_a_retry_loop) to dbop, or from explicit BEGIN and COMMIT.
//! - [Helpers around dbop](guide::adopting): `in_transaction` and the like, with dbop inside.
//! - [Recipes](guide::recipes), and how long a policy lasts.
//! - [Retries](guide::retries): a policy for each class, delays, a budget for all operations.
//! - [Hooks](guide::hooks): after the commit, before a retry, and others.
//! - [Errors](guide::errors): your types, dbop's own errors, what is retried.
//! - [Testing](guide::testing) a service that uses dbop.
//! - [Pools](guide::pools): r2d2, deadpool, bb8, mobc. [Poolers](guide::poolers): PgBouncer, RDS Proxy and others.
//! - [Engines](guide::engines): CockroachDB, Vitess and others that speak a protocol.
//! - [Several nodes](guide::nodes): failover, clusters, reads on replicas.
//! - [PostgreSQL](guide::postgres), [MySQL and MariaDB](guide::mysql), [SQLite](guide::sqlite).
//! - [Settings](guide::settings): units, defaults, deadlines, poolers.
//! - [Unknown outcomes](guide::unknown_outcome): what to do about a COMMIT whose answer was lost.
//! - [Once, across crashes](guide::idempotency): idempotency keys, and how long they are kept.
//! - [Observability](guide::observability): the log, spans, metrics, and what to alert on.
//! - [Limits](guide::limits): what dbop notices, and what it does not.
//! - [Sync connections in async code](guide::sync_in_async).
//! - [Round trips](guide::round_trips), measured.
//! - [Architecture](guide::architecture): where each decision is made.
//!
//! # Lost connections
//!
//! If its connection is lost, [`run`](Runner::run) fails: it has no other.
//! [`run_on`](Runner::run_on) takes its connections from a [`Source`], a pool or a closure, and
//! retries on another one, unless the connection was lost while COMMIT was in progress. By default it
//! retries only once if the server closes the connection without a word while the operation runs
//! ([`with_max_silent_losses`](RetryPolicy::with_max_silent_losses)).
//!
//! A pool lends a wrapper of the connection. `run_on(&pool, work)` takes it off, so `work` can be a
//! function of `&mut PgConnection`. On a pooled connection in hand, that is `run(&mut *conn, work)`.
//!
//! If a connection is lost during COMMIT, dbop can find out what became of the COMMIT. The operation has
//! to say how: see [`ledger`](Operation::ledger), [`transaction_status`](Operation::transaction_status),
//! [`verify`](Operation::verify) and [`idempotent`](Operation::idempotent). [The guide](guide::unknown_outcome) helps to choose, and
//! lists the connection options that make a client notice a dead server.
//!
//! # What must not be in an operation
//!
//! An operation can run several times. What the database cannot undo (an HTTP call, a mail, a
//! message to a queue) would happen several times too. Return what you need for it, and do it after
//! the run, or in a hook that the operation registers with [`after_commit`].
//!
//! # Features
//!
//! `postgres`, `mysql` and `sqlite` turn on a backend. `postgres` and `mysql` do so without the C
//! client library, which comes with diesel's own feature of the same name. `anyhow` and
//! `eyre` implement [`OperationError`] for `anyhow::Error` and `eyre::Report`. `r2d2` makes Diesel's r2d2 pool a [`Source`]; its pooled
//! connections need no feature. `tracing` makes a span of each operation and attempt, and `metrics` has
//! an [`Observer`] that counts and times them: see [the guide](guide::observability). `testing` is for your
//! tests: faults on demand, in the module `testing`. With an
//! [idempotency key](Operation::idempotency_key), `serde` keeps answers, and `sha2` compares requests. No feature is on by default.
//!
//! # Limits
//!
//! [The guide](guide::limits) lists all of them. The most important ones:
//!
//! Diesel 2.3 does not expose error codes, so a fault without its own `DatabaseErrorKind` is
//! recognized by its text, in the languages of the servers. Where MySQL's or MariaDB's text is not
//! known, dbop asks the server for the number. An error that is still unknown is not retried.
//!
//! On MySQL and MariaDB DDL, `TRUNCATE` and `LOCK TABLES` commit the transaction implicitly. dbop
//! reports such an operation as one of unknown outcome, unless one of these follows, which hide the
//! DDL: a deadlock, a lock timeout on a server with `innodb_rollback_on_timeout`, or the loss of the
//! connection. Keep these statements out of operations. `statement_timeout` requires MySQL 8.0 or
//! MariaDB 10.1: older versions ignore it.
//!
//! In the *caller's* transaction on MySQL or MariaDB, dbop cannot take back what the operation writes
//! after a deadlock that it has swallowed. The operation then returns an error of unknown outcome.
//! So let operations return their errors.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
pub use diesel as __diesel;

#[doc(hidden)]
pub mod adapter;

pub use answer::{Answering, NoAnswer};
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use answer::{JsonAnswer, JsonAnswerOr};
pub use backend::SupportedBackend;
pub use clock::{Clock, SystemClock};
pub use connection::SupportedConnection;
pub use dbop_core::{
    Advice, AttemptHook, Backoff, BeginMode, ClassPolicy, Classifier, Code, CommitHook, Delays,
    Dialect, Engine, Error, ErrorKind, Event, EventKind, Extras, Fault, FaultClass, Fit, Fresh,
    GateStatus, GiveUpHook, GivenUp, IsolationLevel, Jitter, Keys, Ledger, LogLevels, Name,
    NodeStatus, Nodes, NodesHealth, Observer, Order, Outcome, ParsePositionError, Phase, Position,
    Purpose, Reported, Request, Retry, RetryBudget, RetryContext, RetryDecision, RetryHook,
    RetryPolicy, Scope, Seen, Setting, Split, SqlState, StopReason, Subject, Summary,
    SynchronousCommit, Verdict, verdict,
};
#[doc(hidden)]
pub use error::dbop_error_in;
pub use error::{OperationError, diesel_error_in};
pub use errors::{Errors, MappedErrors, OwnErrors};
pub use fallback::{Fallback, FallbackValue, NoFallback};
pub use fault::fault_of;
pub use hooks::after_commit;
pub use keyed::KeyedOperation;
pub use mapped::MappedOperation;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use metering::Metrics;
pub use nodes::read_position;
pub use operation::Operation;
pub use report::{FailedAttempt, Report};
pub use runner::Runner;
pub use source::{ConnectError, Owned, Source, broken};
pub use verify::{LedgerResolution, NoResolution, ServerResolution, Verify};

mod answer;
mod backend;
mod clock;
mod connection;
mod driver;
mod error;
mod errors;
mod fallback;
mod fault;
pub mod guide;
mod hooks;
mod keyed;
mod layers;
mod mapped;
#[cfg(feature = "metrics")]
mod metering;
mod nodes;
mod operation;
#[cfg(feature = "sqlite")]
mod prepared;
mod report;
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
