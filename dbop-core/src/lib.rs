//! The heart of dbop: retry policy, backoff, the fault taxonomy, each database's SQL, and the
//! machine that decides every step of an operation.
//!
//! This crate is pure: it does no I/O, reads no clock, never sleeps, knows no async runtime and no
//! SQL driver. Applications use one of the adapters, `dbop-diesel` or `dbop-diesel-async`, which
//! re-export the types that an application meets.
//!
//! # A tour
//!
//! - [`RetryPolicy`]: how often and how soon. [`Backoff`] is its arithmetic, [`ClassPolicy`] what differs
//!   from class to class, [`RetryContext`] what a function for the delays sees.
//! - [`RetryBudget`]: how many retries all operations together may make.
//! - [`Fault`]: a database error as a code, and the [`FaultClass`] it belongs to.
//! - [`Reported`]: what a client library shows of a database error, and [`Extras`]: what it shows besides
//!   the message. `Extras::default()` says that there was nothing besides it. An error without
//!   extras leaves that open.
//! - [`verdict`]: what may be done about a fault in a [`Scope`].
//! - [`Advice`], [`Classifier`] and [`Seen`]: what the user's code says about an error.
//! - [`Retry`], [`RetryDecision`] and [`GivenUp`]: what hooks see and say.
//! - [`Error`]: what dbop itself has to say.
//! - [`Keys`]: the rows that operations lock, so that those of one row wait for each other before they begin.
//! - [`Ledger`]: tokens that tell what became of a COMMIT.
//! - [`Outcome`] and [`StopReason`]: what became of an operation, and why it was not retried.
//! - [`LogLevels`]: the level of each kind of log record.
//! - [`Engine`]: which server it is, of those that speak a protocol.
//! - [`Request`]: what a source of connections is told.
//! - [`Nodes`] and [`Split`]: several sources as one, and which of them is asked next.
//! - [`Observer`]: is told of each operation's start, attempts, events and end.
//! - [`machine`]: the protocol between this crate and the adapters.
//!
//! ```
//! use dbop_core::{Dialect, ErrorKind, Fault, FaultClass, Reported};
//!
//! let reported = Reported::new(ErrorKind::Unknown, "deadlock detected");
//! let fault = Fault::recognize(Dialect::Postgres, reported);
//! assert_eq!(fault.class(), FaultClass::Deadlock);
//! assert!(fault.class().is_transient());
//! ```
//!
//! # What this crate does not do
//!
//! It does not talk to a database, does not wait, and does not decide which errors of *your* code
//! are worth another attempt: that is what [`Advice`] and [`Classifier`] are for. The one piece of
//! state it keeps is the table of connections that have an operation running on them, which is how an
//! operation learns that it is nested in another one.
//!
//! # Stability
//!
//! What stands at the root follows semantic versioning. The module [`machine`] does not: it is
//! public for the adapters only, which depend on exactly this version.

pub use backoff::{Backoff, Jitter};
pub use budget::RetryBudget;
pub use classifier::{Classifier, Seen};
pub use dialect::{Dialect, Engine};
pub use error::Error;
pub use event::{Event, EventKind, LogLevels, Name, Subject};
pub use fault::{Code, ErrorKind, Extras, Fault, FaultClass, Reported, SqlState};
pub use gate::{GateStatus, Keys};
pub use hooks::{AttemptHook, CommitHook, GiveUpHook, GivenUp, Retry, RetryDecision, RetryHook};
pub use ledger::Ledger;
pub use nodes::{
    Fit, Fresh, NodeStatus, Nodes, NodesHealth, Order, ParsePositionError, Position, Split,
};
pub use observer::{Observer, Summary};
pub use outcome::{Outcome, Phase, StopReason};
pub use policy::{ClassPolicy, Delays, RetryContext, RetryPolicy};
pub use request::{Purpose, Request};
pub use retry::{Advice, Scope, Verdict, verdict};
pub use settings::{BeginMode, IsolationLevel, Setting, SynchronousCommit};

pub mod machine;

mod backoff;
mod budget;
mod builder;
mod classifier;
mod config;
mod dialect;
mod error;
mod event;
mod fault;
mod gate;
mod hooks;
mod key;
mod ledger;
mod nesting;
mod nodes;
mod observer;
mod outcome;
mod policy;
mod request;
mod retry;
mod settings;
mod spec;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
