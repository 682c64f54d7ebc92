//! What is kept of an operation with an idempotency key, for later calls with the key.

use dbop_core::Error;
use dbop_core::machine::BodyAnswer;

/// Whether the answers of an operation with an idempotency key are kept, and how: [`NoAnswer`], or, with
/// the feature `serde`, as JSON.
pub trait Answering<T, E>: Sealed + Send + Sync {
    /// Whether there is any.
    #[doc(hidden)]
    const KEEPS: bool;

    /// What is kept of the end of an operation.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    #[doc(hidden)]
    fn of(&self, result: &Result<T, E>) -> Result<Option<BodyAnswer>, Error>;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// If it is of another type.
    #[doc(hidden)]
    fn read(&self, answer: &[u8]) -> Result<T, Error>;
}

#[doc(hidden)]
#[allow(
    unnameable_types,
    reason = "it keeps other crates from implementing `Answering`"
)]
pub trait Sealed {}

/// The answer is not kept. What a [`KeyedOperation`](crate::KeyedOperation) begins with.
#[derive(Clone, Copy, Debug)]
pub struct NoAnswer;

impl Sealed for NoAnswer {}

impl<T, E> Answering<T, E> for NoAnswer {
    const KEEPS: bool = false;

    fn of(&self, _result: &Result<T, E>) -> Result<Option<BodyAnswer>, Error> {
        Ok(None)
    }

    fn read(&self, _answer: &[u8]) -> Result<T, Error> {
        Err(Error::answer_not_read())
    }
}

#[cfg(feature = "serde")]
mod json {
    use std::fmt;

    use dbop_core::Error;
    use dbop_core::machine::BodyAnswer;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{Answering, Sealed};

    /// The answer is kept as JSON: see [`KeyedOperation::answer`](crate::KeyedOperation::answer).
    ///
    /// # Default
    ///
    /// Of at most 65,536 bytes.
    #[derive(Clone, Copy, Debug)]
    pub struct JsonAnswer {
        #[doc(hidden)]
        pub limit: usize,
    }

    impl Default for JsonAnswer {
        fn default() -> Self {
            Self { limit: 65_536 }
        }
    }

    impl JsonAnswer {
        fn write<T: Serialize>(self, value: &T) -> Result<Vec<u8>, Error> {
            let json = serde_json::to_vec(value);
            let json = json.map_err(|error| Error::answer_not_written().with_source(error))?;
            match json.len() <= self.limit {
                true => Ok(json),
                false => Err(Error::answer_too_large(json.len(), self.limit)),
            }
        }
    }

    fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Error> {
        let value = serde_json::from_slice(answer);
        value.map_err(|error| Error::answer_not_read().with_source(error))
    }

    impl Sealed for JsonAnswer {}

    impl<T: Serialize + DeserializeOwned, E> Answering<T, E> for JsonAnswer {
        const KEEPS: bool = true;

        fn of(&self, result: &Result<T, E>) -> Result<Option<BodyAnswer>, Error> {
            let Ok(value) = result else {
                return Ok(None);
            };
            self.write(value).map(|json| Some(BodyAnswer::Value(json)))
        }

        fn read(&self, answer: &[u8]) -> Result<T, Error> {
            read(answer)
        }
    }

    /// The same, and errors are remembered as answers: see
    /// [`KeyedOperation::remember_refusals`](crate::KeyedOperation::remember_refusals).
    #[derive(Clone, Copy)]
    pub struct JsonAnswerOr<M> {
        #[doc(hidden)]
        pub answer: JsonAnswer,
        #[doc(hidden)]
        pub answer_of: M,
    }

    impl<M> fmt::Debug for JsonAnswerOr<M> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("JsonAnswerOr")
                .field("answer", &self.answer)
                .finish_non_exhaustive()
        }
    }

    impl<M> Sealed for JsonAnswerOr<M> {}

    impl<T, E, M> Answering<T, E> for JsonAnswerOr<M>
    where
        T: Serialize + DeserializeOwned,
        M: Fn(&E) -> Option<T> + Send + Sync,
    {
        const KEEPS: bool = true;

        fn of(&self, result: &Result<T, E>) -> Result<Option<BodyAnswer>, Error> {
            match result {
                Ok(_) => self.answer.of(result),
                Err(error) => {
                    let answer = (self.answer_of)(error);
                    let json = answer
                        .map(|answer| self.answer.write(&answer))
                        .transpose()?;
                    Ok(json.map(BodyAnswer::Refusal))
                }
            }
        }

        fn read(&self, answer: &[u8]) -> Result<T, Error> {
            read(answer)
        }
    }
}

#[cfg(feature = "serde")]
pub use json::{JsonAnswer, JsonAnswerOr};
