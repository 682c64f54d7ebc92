//! Errors of error_stack: reports with a context of the service's own.

use dbop_diesel::OperationError as _;
use diesel::result::DatabaseErrorKind::UniqueViolation;
use diesel::result::Error;
use error_stack::{Report, ResultExt as _};

use super::locked::Locked;
use super::money::{add, insert};
use super::{Bed, Conn, helper, scenario};

#[derive(Debug, thiserror::Error)]
#[error("the payment failed")]
struct PaymentFailed;

#[helper]
async fn pay(conn: &mut Conn) -> Result<usize, Report<PaymentFailed>> {
    add(conn, 1, -10).await.change_context(PaymentFailed)?;
    let paid = add(conn, 2, 10).await.change_context(PaymentFailed);
    paid.attach("to account 2")
}

#[helper]
async fn open(conn: &mut Conn) -> Result<usize, Report<PaymentFailed>> {
    insert(conn, 1).await.change_context(PaymentFailed)
}

fn failed(error: Error) -> Report<PaymentFailed> {
    Report::new(error).change_context(PaymentFailed)
}

fn cause(report: &Report<PaymentFailed>) -> Option<&Error> {
    report.downcast_ref()
}

#[scenario]
async fn a_busy_lock_is_retried_and_a_duplicate_is_not() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let runner = locked.runner();
    let mut conn = bed.connect();
    let paying = runner.operation("pay").errors(failed, cause);
    let paid = paying.run(&mut conn, pay).await;
    assert_eq!(paid.expect("paid"), 1);
    assert_eq!(locked.attempts(), 2);
    assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);

    let opening = runner.operation("open").errors(failed, cause);
    let report = opening.run(&mut conn, open).await;
    let report = report.expect_err("there is one");
    assert!(matches!(
        cause(&report),
        Some(Error::DatabaseError(UniqueViolation, _))
    ));
    assert_eq!(locked.attempts(), 1);
}

#[scenario]
async fn an_error_of_dbops_comes_as_a_report_and_is_found_in_it() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let runner = locked.runner();
    let mut conn = bed.connect();
    let timeout = std::time::Duration::from_secs(1);
    let paying = runner.operation("pay").statement_timeout(timeout);
    let paid = paying.errors(failed, cause).run(&mut conn, pay).await;
    let report = paid.expect_err("SQLite has no statement timeout");
    assert_eq!(report.current_context().to_string(), "the payment failed");
    let error = cause(&report).expect("it was made from one");
    let error = error.dbop_error().expect("dbop's");
    assert!(error.is_unsupported_setting());
}
