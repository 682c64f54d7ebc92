//! dbop for diesel-async.
pub use backend::SupportedBackend;
pub use body::Body;
pub use connection::Connection;
pub use dbop_diesel::{
    Advice, Backoff, Code, DefaultTimeouts, Dialect, Error, FailedAttempt, Fault, FaultClass,
    Jitter, LogLevels, OperationError, Outcome, Phase, Report, RetryPolicy, Setting, SqlState,
    StopReason, diesel_error_in, fault_of,
};
pub use operation::{FallbackOperation, Operation};
pub use runner::Runner;

mod backend;
mod body;
mod connection;
mod driver;
mod operation;
mod runner;
