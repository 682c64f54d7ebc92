//! The errors of operations.

use std::borrow::Cow;
use std::error::Error as StdError;

use dbop_core::{Advice, Error};
use diesel::result::Error as DieselError;

use crate::layers::layers;

/// An error that an operation can return.
///
/// It is implemented for `diesel::result::Error`, `Box<dyn Error + Send + Sync>`, `Box<dyn Error>`
/// and, with the features `anyhow` and `eyre`, for `anyhow::Error` and `eyre::Report`. For your own error
/// type, [`operation_error!`](crate::operation_error) implements it in one line:
///
/// ```
/// use dbop_diesel::operation_error;
///
/// #[derive(Debug, thiserror::Error)]
/// enum TransferError {
///     #[error("not enough money")]
///     NotEnough,
///     #[error("database")]
///     Database(#[from] diesel::result::Error),
/// }
///
/// operation_error!(TransferError);
/// # use dbop_diesel::OperationError as _;
/// # let error = TransferError::from(diesel::result::Error::NotFound);
/// # assert!(error.diesel_error().is_some());
/// # assert!(TransferError::NotEnough.diesel_error().is_none());
/// ```
///
/// That is the same as one method by hand, of one line:
///
/// ```
/// use dbop_diesel::{OperationError, diesel_error_in};
///
/// # #[derive(Debug, thiserror::Error)]
/// # enum TransferError {
/// #     #[error("database")]
/// #     Database(#[from] diesel::result::Error),
/// # }
/// impl OperationError for TransferError {
///     fn diesel_error(&self) -> Option<&diesel::result::Error> {
///         diesel_error_in(self)
///     }
/// }
/// # assert!(TransferError::from(diesel::result::Error::NotFound).diesel_error().is_some());
/// ```
///
/// An error that keeps nothing of Diesel's but the text hands over the text. Without that, dbop retries
/// none of its errors:
///
/// ```
/// use dbop_diesel::operation_error;
///
/// #[derive(Debug, thiserror::Error)]
/// enum ApiError {
///     #[error("database: {0}")]
///     Database(String),
/// }
///
/// impl From<diesel::result::Error> for ApiError {
///     fn from(error: diesel::result::Error) -> Self {
///         Self::Database(error.to_string())
///     }
/// }
///
/// operation_error!(ApiError { message: Database });
/// # use dbop_diesel::OperationError as _;
/// # let error = ApiError::from(diesel::result::Error::NotFound);
/// # assert_eq!(error.database_message().as_deref(), Some("Record not found"));
/// ```
///
/// For a type of another crate, such as `error_stack::Report`, tell the operation how its errors are made
/// and looked into: [`errors`](crate::Operation::errors).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error that dbop can look into",
    label = "the trait `OperationError` is not implemented for `{Self}`",
    note = "for an error type of your own, implement `From<diesel::result::Error>` and add the line \
            `operation_error!({Self});`, or implement its one method: \
            `fn diesel_error(&self) -> Option<&diesel::result::Error> {{ diesel_error_in(self) }}`",
    note = "`anyhow::Error` and `eyre::Report` need the feature of their name; `Box<dyn Error>` needs \
            `+ Send + Sync` in async code",
    note = "for `error_stack::Report` and other types of other crates: \
            `operation(..).errors(make, find)`"
)]
pub trait OperationError: From<DieselError> {
    /// The Diesel error inside, if there is one. It decides whether the operation is retried.
    fn diesel_error(&self) -> Option<&DieselError>;

    /// The database's message, where the Diesel error itself is lost: as a `String`, behind
    /// `#[error(transparent)]`, or in an error without `source()`. It is asked only if there is no
    /// [`diesel_error`](Self::diesel_error). A message that dbop knows decides like the Diesel error,
    /// with or without what client libraries and migrations put around it. Any other text is an error
    /// of the operation's. Defaults to `None`.
    ///
    /// `Box<dyn Error>`, `anyhow::Error` and `eyre::Report` hand over the text of their innermost error.
    fn database_message(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Turns one of dbop's errors into this type. dbop calls it when an operation ends with an error that
    /// is neither the operation's nor the database's: for example its outcome is unknown, there is no
    /// connection, its deadline has passed before it began, or a setting is not supported.
    ///
    /// By default it becomes a `diesel::result::Error::QueryBuilderError`, Diesel's variant for errors of
    /// other crates. An enum can have a separate variant instead; then implement
    /// [`dbop_error`](Self::dbop_error) too:
    ///
    /// ```
    /// use dbop_diesel::{Error, OperationError, diesel_error_in};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// enum PayError {
    ///     #[error("database")]
    ///     Database(#[from] diesel::result::Error),
    ///     #[error("dbop")]
    ///     Dbop(#[source] Error),
    /// }
    ///
    /// impl OperationError for PayError {
    ///     fn diesel_error(&self) -> Option<&diesel::result::Error> {
    ///         diesel_error_in(self)
    ///     }
    ///
    ///     fn from_dbop(error: Error) -> Self {
    ///         Self::Dbop(error)
    ///     }
    ///
    ///     fn dbop_error(&self) -> Option<&Error> {
    ///         match self {
    ///             Self::Dbop(error) => Some(error),
    ///             // From an operation inside of this one, by `?`.
    ///             Self::Database(error) => error.dbop_error(),
    ///         }
    ///     }
    /// }
    /// ```
    fn from_dbop(error: Error) -> Self {
        DieselError::QueryBuilderError(Box::new(error)).into()
    }

    /// dbop's error inside, if there is one. By default it is looked for where
    /// [`from_dbop`](Self::from_dbop) puts it by default.
    fn dbop_error(&self) -> Option<&Error> {
        dbop_error_in(self.diesel_error()?)
    }

    /// What this error says about a retry. Defaults to [`Advice::Judge`]: the database's error in it
    /// decides, and without one there is no retry.
    ///
    /// [`Advice::Retry`] asks for a retry, even if the database did not fail. [`Advice::Never`] asks for
    /// none. [`Advice::As`] names the class of database error to treat this one as, before any classifier.
    /// None of them makes dbop retry what is not certainly undone. dbop asks every error that the operation
    /// returns, and every error that the closure given to `verify` returns.
    ///
    /// ```
    /// use dbop_diesel::{Advice, OperationError, diesel_error_in};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// enum StockError {
    ///     #[error("another session has changed the stock meanwhile")]
    ///     Changed,
    ///     #[error("database")]
    ///     Database(#[from] diesel::result::Error),
    /// }
    ///
    /// impl OperationError for StockError {
    ///     fn diesel_error(&self) -> Option<&diesel::result::Error> {
    ///         diesel_error_in(self)
    ///     }
    ///
    ///     fn advice(&self) -> Advice {
    ///         match self {
    ///             Self::Changed => Advice::Retry,
    ///             Self::Database(_) => Advice::Judge,
    ///         }
    ///     }
    /// }
    /// ```
    fn advice(&self) -> Advice {
        Advice::Judge
    }
}

/// Implements [`OperationError`] for an error type of your own that implements
/// `From<diesel::result::Error>`. dbop looks for Diesel's error in it and in its sources.
///
/// The type has no generic parameters. Tuple variants with one field can be named for three purposes, each
/// optional, in this order:
///
/// - `database`: holds a `diesel::result::Error` that `source()` does not show, because of
///   `#[error(transparent)]`.
/// - `message`: holds the text of a Diesel error that is lost, as a `String`.
/// - `dbop`: holds dbop's own [`Error`], which is made into it.
///
/// ```
/// use dbop_diesel::{Error, OperationError, operation_error};
///
/// #[derive(Debug, thiserror::Error)]
/// enum PayError {
///     #[error("not enough money")]
///     NotEnough,
///     #[error(transparent)]
///     Database(#[from] diesel::result::Error),
///     #[error("dbop")]
///     Dbop(#[source] Error),
/// }
///
/// operation_error!(PayError { database: Database, dbop: Dbop });
/// # assert!(PayError::from(diesel::result::Error::NotFound).diesel_error().is_some());
/// # assert!(PayError::NotEnough.diesel_error().is_none());
/// # assert!(PayError::NotEnough.dbop_error().is_none());
/// ```
#[macro_export]
macro_rules! operation_error {
    ($error:ty) => {
        $crate::operation_error!($error {});
    };
    ($error:ty {
        $(database: $database:ident $(,)?)?
        $(message: $message:ident $(,)?)?
        $(dbop: $dbop:ident $(,)?)?
    }) => {
        #[allow(irrefutable_let_patterns, reason = "an enum can have one variant")]
        impl $crate::OperationError for $error {
            fn diesel_error(&self) -> ::core::option::Option<&$crate::__diesel::result::Error> {
                $(if let Self::$database(error) = self {
                    return ::core::option::Option::Some(error);
                })?
                $crate::diesel_error_in(self)
            }

            $(fn database_message(
                &self,
            ) -> ::core::option::Option<::std::borrow::Cow<'_, ::core::primitive::str>> {
                if let Self::$message(text) = self {
                    return ::core::option::Option::Some(::std::borrow::Cow::Borrowed(text));
                }
                ::core::option::Option::None
            })?

            $(fn from_dbop(error: $crate::Error) -> Self {
                Self::$dbop(error)
            }

            fn dbop_error(&self) -> ::core::option::Option<&$crate::Error> {
                if let Self::$dbop(error) = self {
                    return ::core::option::Option::Some(error);
                }
                $crate::dbop_error_in($crate::OperationError::diesel_error(self)?)
            })?
        }
    };
}

/// The first Diesel error in an error: the error itself, or one in its chain of sources. What the
/// sources skip is looked into as well: `std::io::Error::other`, and an `Arc` or `Box` that holds a
/// Diesel error.
///
/// Not found is what only the type around it can show: see
/// [`database_message`](OperationError::database_message).
///
/// ```
/// use dbop_diesel::diesel_error_in;
/// use diesel::result::Error;
///
/// let wrapped = std::io::Error::other(Error::NotFound);
/// assert_eq!(diesel_error_in(&wrapped), Some(&Error::NotFound));
/// ```
#[must_use]
pub fn diesel_error_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a DieselError> {
    layers(error).find_map(|layer| layer.downcast_ref())
}

/// dbop's error in Diesel's error for errors of other crates.
#[doc(hidden)]
#[must_use]
pub fn dbop_error_in(error: &DieselError) -> Option<&Error> {
    match error {
        DieselError::QueryBuilderError(error) => error.downcast_ref(),
        _ => None,
    }
}

/// The text of the innermost error. A transparent wrapper has the text of what it holds, and so do the
/// errors of diesel_migrations, behind the name of the migration.
fn innermost_text(error: &(dyn StdError + 'static)) -> Option<Cow<'static, str>> {
    let innermost = layers(error).last()?;
    Some(innermost.to_string().into())
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

    fn database_message(&self) -> Option<Cow<'_, str>> {
        innermost_text(&**self)
    }
}

impl OperationError for Box<dyn StdError> {
    fn diesel_error(&self) -> Option<&DieselError> {
        diesel_error_in(&**self)
    }

    fn database_message(&self) -> Option<Cow<'_, str>> {
        innermost_text(&**self)
    }
}

#[cfg(feature = "anyhow")]
impl OperationError for anyhow::Error {
    fn diesel_error(&self) -> Option<&DieselError> {
        diesel_error_in(&**self)
    }

    fn database_message(&self) -> Option<Cow<'_, str>> {
        innermost_text(&**self)
    }
}

#[cfg(feature = "eyre")]
impl OperationError for eyre::Report {
    fn diesel_error(&self) -> Option<&DieselError> {
        diesel_error_in(&**self)
    }

    fn database_message(&self) -> Option<Cow<'_, str>> {
        innermost_text(&**self)
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
        finds_own::<Box<dyn StdError>>();
        #[cfg(feature = "anyhow")]
        finds_own::<anyhow::Error>();
        #[cfg(feature = "eyre")]
        finds_own::<eyre::Report>();
    }

    #[derive(Debug, thiserror::Error)]
    enum Pay {
        #[error("database")]
        Database(#[from] DieselError),
        #[error("dbop")]
        Dbop(#[source] Error),
    }

    crate::operation_error!(Pay { dbop: Dbop });

    /// That of an operation inside of another one comes as Diesel's error.
    #[test]
    fn dbop_s_own_errors_are_found_beside_their_variant_too() {
        assert!(matches!(Pay::from_dbop(own()), Pay::Dbop(_)));
        finds_own::<Pay>();
        let passed_on = Pay::from(DieselError::from_dbop(own()));
        assert!(
            passed_on
                .dbop_error()
                .is_some_and(Error::is_invalid_setting)
        );
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

    #[derive(Debug, thiserror::Error)]
    enum Transparent {
        #[error(transparent)]
        Database(#[from] DieselError),
    }

    fn locked() -> DieselError {
        let text = Box::new(String::from("database is locked"));
        DieselError::DatabaseError(diesel::result::DatabaseErrorKind::Unknown, text)
    }

    #[test]
    fn a_transparent_wrapper_shows_the_message() {
        let boxed: Box<dyn StdError + Send + Sync> = Transparent::from(locked()).into();
        assert_eq!(boxed.diesel_error(), None);
        assert_eq!(
            boxed.database_message().as_deref(),
            Some("database is locked")
        );
        let again: Box<dyn StdError> = Box::new(std::io::Error::other(Transparent::from(locked())));
        assert_eq!(
            again.database_message().as_deref(),
            Some("database is locked")
        );
        #[cfg(feature = "anyhow")]
        {
            let error = anyhow::Error::new(Transparent::from(locked())).context("in a test");
            assert_eq!(
                error.database_message().as_deref(),
                Some("database is locked")
            );
        }
    }

    /// An `anyhow::Error` in a box is of a type that only anyhow knows.
    #[cfg(feature = "anyhow")]
    #[test]
    fn an_anyhow_error_in_a_box_shows_the_message() {
        let boxed: Box<dyn StdError + Send + Sync> = anyhow::Error::new(locked()).into();
        assert_eq!(boxed.diesel_error(), None);
        assert_eq!(
            boxed.database_message().as_deref(),
            Some("database is locked")
        );
    }
}
