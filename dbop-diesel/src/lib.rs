//! Run Diesel operations safely: retries with backoff, savepoints, per-operation timeouts.
pub use backend::SupportedBackend;
pub use clock::{Clock, SystemClock};
pub use connection::Connection;
pub use dbop_core::{
    Advice, Backoff, Code, DefaultTimeouts, Dialect, Error, Fault, FaultClass, Jitter, LogLevels,
    Outcome, Phase, RetryPolicy, Setting, SqlState, StopReason,
};
pub use error::{OperationError, diesel_error_in};
pub use fault::fault_of;
pub use operation::{FallbackOperation, Operation};
pub use report::{FailedAttempt, Report};
pub use runner::Runner;

#[doc(hidden)]
pub mod adapter;
mod backend;
mod clock;
mod connection;
mod driver;
mod error;
mod fault;
mod operation;
mod report;
mod runner;
