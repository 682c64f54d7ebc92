//! Operations with an idempotency key, whose answers are kept.

use dbop_core::machine::Answers;

use crate::answer::Answering;
use crate::error::OperationError as _;
use crate::errors::Errors;
use crate::report::Report;

/// Hands on what the body has ended with, and leaves what is kept of it for the COMMIT.
///
/// # Errors
///
/// That of the body, or that it cannot be kept.
pub fn keep<T, E, A, X>(
    errors: X,
    answering: &A,
    answers: &Answers,
    result: Result<T, E>,
) -> Result<T, X::Inner>
where
    A: Answering<T, E>,
    X: Errors<E>,
{
    if A::KEEPS {
        match answering.of(&result) {
            Ok(answer) => answers.body_ended(answer),
            Err(error) => {
                answers.body_ended(None);
                return Err(X::Inner::from_dbop(error));
            }
        }
    }
    result.map_err(|error| errors.returned(error))
}

/// The report with the answer that is committed with the key, if that is not what the body has returned.
pub fn report<T, E, A, X>(
    errors: X,
    answering: &A,
    answers: &Answers,
    mut report: Report<T, X::Inner>,
) -> Report<T, E>
where
    A: Answering<T, E>,
    X: Errors<E>,
{
    let Some(found) = answers.take_found() else {
        return errors.report(report);
    };
    let value = match answering.read(&found.bytes) {
        Ok(value) => value,
        Err(error) => {
            let error = error.after(report.attempts, report.stop);
            report.result = Err(X::Inner::from_dbop(error));
            return errors.report(report);
        }
    };
    let replaced = std::mem::replace(&mut report.result, Ok(value));
    report.replayed = found.is_replayed;
    if found.is_replayed {
        // That the key was taken is no failure.
        report.failures.pop();
    } else if let Some(last) = report.failures.last_mut() {
        last.error = replaced.err();
    }
    errors.report(report)
}

/// What is kept of a request.
#[cfg(feature = "sha2")]
#[must_use]
pub fn sha256(request: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};

    Sha256::digest(request).into()
}
