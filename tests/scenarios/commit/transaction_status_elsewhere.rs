//! Only PostgreSQL can say what became of a transaction.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{OperationError as _, Outcome};
use diesel::QueryResult;

use super::{Bed, Conn, Connection as _, Runner, scenario};

#[scenario]
async fn to_ask_for_it_is_refused_before_the_operation_begins() {
    let bed = Bed::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("pay")
        .transaction_status()
        .run_on_report(
            &async || Conn::establish(bed.url()).await,
            async |_: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                QueryResult::Ok(())
            },
        )
        .await;
    let error = report.result.expect_err("refused");
    let own = error.dbop_error().expect("dbop's own");
    assert!(own.is_unsupported_setting(), "{own}");
    assert_eq!((report.attempts, bodies.into_inner()), (0, 0));
    assert_eq!(report.outcome, Outcome::Undone);
}
