//! Idempotency keys: once for all callers.

use dbop_diesel::{Error, Ledger, OperationError as _};
use diesel::QueryResult;
use diesel::result::Error as DieselError;

use super::*;

mod answers;
mod errors;
mod once;

/// A bed with the table of the ledger.
#[helper]
async fn with_table() -> Bed {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    bed
}

/// What dbop itself has to say.
fn own<T: std::fmt::Debug>(result: &QueryResult<T>) -> &Error {
    let error: &DieselError = result.as_ref().expect_err("an error");
    error.dbop_error().expect("an error of dbop's")
}
