//! The heart of dbop: retry policy, backoff, the fault taxonomy, each database's SQL, and the
//! machine that decides every step of an operation.
//!
//! This crate is pure: it does no I/O, reads no clock, never sleeps, knows no async runtime and no
//! SQL driver. Applications use one of the adapters, `dbop-diesel` or `dbop-diesel-async`; this
//! crate is for them, for further adapters, and for its types, which the adapters re-export.
//!
//! # A tour
//!
//! - [`RetryPolicy`]: how often and how soon. [`Backoff`] is its arithmetic.
//! - [`Fault`]: a database error as a code, and the [`FaultClass`] it belongs to.
//! - [`verdict`]: what may be done about a fault in a [`Scope`].
//! - [`Batches`]: the SQL that opens and closes a transaction or savepoint with its [`Settings`].
//! - [`Machine`]: hands out [`Step`]s and is told how they went.
//! - [`Logging`]: log records with fixed keys.
//! - [`Error`]: what dbop itself has to say.
//!
//! ```
//! use dbop_core::{Dialect, ErrorKind, Fault, FaultClass};
//!
//! let fault = Fault::recognize(Dialect::Postgres, ErrorKind::Unknown, "deadlock detected");
//! assert_eq!(fault.class(), FaultClass::Deadlock);
//! assert!(fault.class().is_transient());
//! ```
//!
//! # What this crate does not do
//!
//! It does not talk to a database, does not wait, and does not decide which errors of *your* code
//! are worth another attempt: that is what [`Advice`] is for. The one piece of state it keeps is
//! the table of connections that have an operation running on them, so that an operation nested in
//! another one is known to be.

pub use backoff::{Backoff, Jitter};
pub use config::Config;
pub use dialect::{Batches, Dialect, Level, SessionBefore, SessionNeeds};
pub use error::Error;
pub use event::{Event, EventKind, LogLevels, Logging, Name, Subject, TARGET};
pub use fault::{Code, ErrorKind, Fault, FaultClass, SqlState};
pub use ledger::{Entry, Ledger};
pub use policy::{Delays, RetryPolicy};
pub use retry::{Advice, Scope, Verdict, verdict};
#[doc(hidden)]
pub use settings::check_deadline;
pub use settings::{BeginMode, Defaults, IsolationLevel, Setting, Settings};
pub use transaction::{
    Answer, Batch, BodyEnd, CurrentTransaction, Done, Handling, Machine, Outcome, Pause, Phase,
    Purpose, Resolution, Start, Step, StopReason, Terms, TransactionId, Verified,
};

mod backoff;
mod config;
mod dialect;
mod error;
mod event;
mod fault;
mod ledger;
mod nesting;
mod policy;
mod retry;
mod settings;
mod transaction;
