//! The errors of operations.

use std::error::Error as StdError;

use dbop_core::{Advice, Error};
use diesel::result::Error as DieselError;

/// An error that an operation can return.
///
/// It is implemented for `diesel::result::Error`, `Box<dyn Error + Send + Sync>` and, with the
/// feature `anyhow`, `anyhow::Error`. For your own error type, implement one method of one line:
///
/// ```
/// use dbop_diesel::{OperationError, diesel_error_in};
///
/// #[derive(Debug, thiserror::Error)]
/// enum TransferError {
///     #[error("not enough money")]
///     NotEnough,
///     #[error("database")]
///     Database(#[from] diesel::result::Error),
/// }
///
/// impl OperationError for TransferError {
///     fn diesel_error(&self) -> Option<&diesel::result::Error> {
///         diesel_error_in(self)
///     }
/// }
/// # let error = TransferError::from(diesel::result::Error::NotFound);
/// # assert!(error.diesel_error().is_some());
/// # assert!(TransferError::NotEnough.diesel_error().is_none());
/// ```
///
/// [`diesel_error_in`] follows `source()`, and `#[error(transparent)]` makes `source()` skip the
/// Diesel error itself. There, match on the variant instead:
///
/// ```
/// # use dbop_diesel::OperationError;
/// # #[derive(Debug, thiserror::Error)]
/// # enum TransferError {
/// #[error(transparent)]
/// Database(#[from] diesel::result::Error),
/// # }
/// # impl OperationError for TransferError {
/// // ..
/// fn diesel_error(&self) -> Option<&diesel::result::Error> {
///     match self {
///         Self::Database(error) => Some(error),
///     }
/// }
/// # }
/// # assert!(TransferError::from(diesel::result::Error::NotFound).diesel_error().is_some());
/// ```
pub trait OperationError: From<DieselError> {
    /// The Diesel error inside, if there is one. It decides whether the operation is retried.
    fn diesel_error(&self) -> Option<&DieselError>;

    /// Turns one of dbop's errors into this type. By default it becomes a
    /// `diesel::result::Error::QueryBuilderError`, Diesel's variant for errors of other crates. An
    /// enum can have a separate variant instead; then implement [`dbop_error`](Self::dbop_error)
    /// too.
    fn from_dbop(error: Error) -> Self {
        DieselError::QueryBuilderError(Box::new(error)).into()
    }

    /// dbop's error inside, if there is one.
    fn dbop_error(&self) -> Option<&Error> {
        match self.diesel_error()? {
            DieselError::QueryBuilderError(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Whether to retry even though the database did not fail, never to retry, or as which class of
    /// database error to treat this one. By default the database's error decides.
    fn advice(&self) -> Advice {
        Advice::Judge
    }
}

/// The first Diesel error in a chain of sources, starting with the error itself.
#[must_use]
pub fn diesel_error_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a DieselError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl OperationError for DieselError {
    fn diesel_error(&self) -> Option<&DieselError> {
        Some(self)
    }
}

impl OperationError for Box<dyn StdError + Send + Sync> {
    fn diesel_error(&self) -> Option<&DieselError> {
        diesel_error_in(&**self)
    }
}

#[cfg(feature = "anyhow")]
impl OperationError for anyhow::Error {
    fn diesel_error(&self) -> Option<&DieselError> {
        self.chain().find_map(|error| error.downcast_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use dbop_core::Dialect;
    use dbop_core::machine::{Machine, Name, RunnerConfig, Spec};

    use super::*;

    fn own() -> Error {
        let spec = Spec {
            lock_timeouts: &[Duration::ZERO],
            ..Spec::new(Name::Given("own"))
        };
        let config = RunnerConfig::default();
        Machine::new(Dialect::Sqlite, &config, &spec, false, Instant::now)
            .expect_err("a timeout of zero")
    }

    fn finds_own<E: OperationError>() {
        assert!(
            E::from_dbop(own())
                .dbop_error()
                .is_some_and(Error::is_invalid_setting)
        );
        assert!(E::from(DieselError::NotFound).dbop_error().is_none());
        assert_eq!(
            E::from(DieselError::NotFound).diesel_error(),
            Some(&DieselError::NotFound)
        );
    }

    #[test]
    fn dbop_s_own_errors_are_found_again() {
        finds_own::<DieselError>();
        finds_own::<Box<dyn StdError + Send + Sync>>();
        #[cfg(feature = "anyhow")]
        finds_own::<anyhow::Error>();
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Wrapped(#[source] DieselError);

    #[test]
    fn a_wrapped_diesel_error_is_found() {
        let wrapped: Box<dyn StdError + Send + Sync> = Box::new(Wrapped(DieselError::NotFound));
        assert_eq!(wrapped.diesel_error(), Some(&DieselError::NotFound));
        #[cfg(feature = "anyhow")]
        {
            let wrapped = anyhow::Error::new(Wrapped(DieselError::NotFound)).context("in a test");
            assert_eq!(wrapped.diesel_error(), Some(&DieselError::NotFound));
        }
    }
}
