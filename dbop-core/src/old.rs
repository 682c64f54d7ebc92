//! The machine before the rebuild, for a comparison. Removed afterwards.
#![allow(warnings, clippy::all)]
pub(crate) use crate::dialect::Unsupported;
pub(crate) use crate::dialect::{
    Batches, Dialect, Level, PragmasToRead, SavedPragmas, TransactionId, TransactionStatus,
};
pub(crate) use crate::error::Error;
pub(crate) use crate::fault::{Code, Fault, FaultClass};
pub(crate) use crate::policy::RetryPolicy;
pub(crate) use crate::retry::Advice;
pub(crate) use crate::settings::Setting;
pub(crate) use crate::{dialect, error, event, policy, retry, settings};
pub(crate) mod scope;
pub(crate) mod transaction;
