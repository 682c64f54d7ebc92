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
//! - Without an open transaction the operation is a transaction, committed when it returns `Ok`.
//!   Inside one it is a savepoint; the runner never commits or rolls back what it did not open.
//! - A fault is retried where another attempt can succeed: see [`verdict`](dbop_core::verdict) for
//!   the table. What cannot succeed in a savepoint goes up to the outermost operation, which
//!   starts again as a whole. Attempts of nested operations do not multiply.
//! - A failed attempt is rolled back before any wait. Its first error is the one that is reported,
//!   whatever goes wrong afterwards.
//! - `Ok` means committed (or, in a savepoint, part of the enclosing transaction). A transaction
//!   that the server has rolled back or dropped behind the operation's back is an error.
//! - A commit whose outcome is unknown is an error of its own, and never retried blindly.
//! - Settings belong to the operation and cost no round trip.
//! - A panic is rolled back and goes on.
//!
//! # Lost connections
//!
//! A connection that is lost takes the operation along: [`run`](Runner::run) has no other.
//! [`run_on`](Runner::run_on) takes its connections from a [`Source`], a pool or a closure, and goes
//! on with another one, unless the connection was lost while COMMIT was under way. What became of
//! the work then can be found out, if the operation says how: see [`ledger`](Operation::ledger),
//! [`transaction_status`](Operation::transaction_status), [`verify`](Operation::verify) and
//! [`idempotent`](Operation::idempotent). Which of them to choose, and which options of a connection
//! make it notice a dead server, is in `docs/unknown-outcome.md` of the repository.
//!
//! # What must not be in an operation
//!
//! An operation can run several times. What the database cannot undo (an HTTP call, a mail, a
//! message to a queue) would happen several times too. Return what is needed for it, and do it
//! after the run.
//!
//! # Features
//!
//! `postgres`, `mysql` and `sqlite` turn on a backend; the first two without the C client library,
//! which comes with the feature of the same name of diesel itself. `anyhow` implements
//! [`OperationError`] for `anyhow::Error`. `r2d2` makes Diesel's r2d2 pool a [`Source`]; its pooled
//! connections need no feature. None is on by default.
//!
//! # Limits
//!
//! Diesel 2.3 does not show error codes, so a fault that has no `DatabaseErrorKind` of its own is
//! recognised by its text: PostgreSQL's and libpq's in every language that they come in, those of
//! MySQL and MariaDB in English and, the most important ones, in German. In another language such an
//! error counts as unknown and is not retried. Where an application raises exactly such a text, for
//! example "deadlock detected", it is taken for the fault.
//!
//! On MySQL and MariaDB DDL, `TRUNCATE` and `LOCK TABLES` commit the transaction implicitly. An
//! operation that does so is reported as one of unknown outcome, except when a deadlock follows, or
//! a lock timeout on a server with `innodb_rollback_on_timeout`, which look the same, or the loss of
//! the connection. Keep them out of operations. `statement_timeout` takes MySQL 8.0 or MariaDB 10.1:
//! older ones ignore it.
//!
//! In a transaction of the *caller* on MySQL or MariaDB, what the operation writes after a deadlock
//! that it has swallowed cannot be taken back, although the operation is then an error of unknown
//! outcome; let errors out of operations.

#[doc(hidden)]
pub mod adapter;

pub use backend::SupportedBackend;
pub use clock::{Clock, SystemClock};
pub use connection::Connection;
pub use dbop_core::{
    Advice, Backoff, BeginMode, Code, Defaults, Dialect, Error, Fault, FaultClass, IsolationLevel,
    Jitter, Ledger, LogLevels, Outcome, Phase, RetryPolicy, Setting, SqlState, StopReason,
};
pub use error::{OperationError, diesel_error_in};
pub use fault::fault_of;
pub use operation::{FallbackOperation, Operation, ResolvingOperation, Unverified, Verify};
pub use report::{FailedAttempt, Report};
pub use runner::Runner;
pub use source::{ConnectError, Source};

mod backend;
mod clock;
mod connection;
mod driver;
mod error;
mod fault;
mod hold;
mod operation;
mod report;
mod runner;
mod source;
