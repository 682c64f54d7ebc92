//! Run [diesel-async](https://docs.rs/diesel-async) operations safely: retries with backoff,
//! savepoints, per-operation timeouts, in Tokio services.
//!
//! This is [`dbop-diesel`](https://docs.rs/dbop-diesel) with `.await`: the same machine, policy,
//! settings and errors, and the same promises, which that crate's documentation lists. See
//! [`Runner`] for an example and for what happens when a run is cancelled.
//!
//! # Features
//!
//! `postgres`, `mysql` and `sqlite` turn on a backend, also in diesel-async; `deadpool`, `bb8` and
//! `mobc` the pools of diesel-async; `anyhow` implements [`OperationError`] for `anyhow::Error`.
//! None is on by default.

pub use backend::SupportedBackend;
pub use body::Body;
pub use clock::{Clock, TokioClock};
pub use connection::Connection;
pub use dbop_diesel::{
    Advice, Backoff, Code, ConnectError, DefaultTimeouts, Dialect, Error, FailedAttempt, Fault,
    FaultClass, Jitter, Ledger, LogLevels, OperationError, Outcome, Phase, Report, RetryPolicy,
    Setting, SqlState, StopReason, diesel_error_in, fault_of,
};
pub use operation::{FallbackOperation, Operation, ResolvingOperation, Unverified, Verify};
pub use runner::Runner;
pub use source::Source;

mod backend;
mod body;
mod clock;
mod connection;
mod driver;
mod hold;
mod operation;
mod runner;
mod source;
