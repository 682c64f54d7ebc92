//! A report of error_stack needs `errors`.

use dbop_diesel::Runner;
use diesel::SqliteConnection;
use error_stack::Report;

#[derive(Debug, thiserror::Error)]
#[error("the payment failed")]
struct PaymentFailed;

fn pay(_conn: &mut SqliteConnection) -> Result<(), Report<PaymentFailed>> {
    Err(Report::new(PaymentFailed))
}

fn run(runner: &Runner, conn: &mut SqliteConnection) -> Result<(), Report<PaymentFailed>> {
    runner.run(conn, pay)
}

fn main() {}
