//! A server that is down while what became of a commit is to be asked: the retries of the default
//! policy do not last for as long, a deadline does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Ledger, OperationError as _, Outcome};
use dbop_tests::Meanwhile;
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::server::Server;
use diesel::connection::SimpleConnection as _;
use diesel::sql_query;

use super::{Conn, Connection as _, RunQueryDsl, Runner, helper};
use crate::{Bed, backend};

#[helper]
pub(crate) async fn it_is_asked_until_the_deadline(server: Arc<Server>) {
    for has_deadline in [true, false] {
        let bed = Bed::new();
        bed.connect()
            .batch_execute(&Ledger::new().create_table(backend::DIALECT))
            .expect("a new table");
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), Cut::AnswerLost);
        let restarted = server.clone();
        let clock = Meanwhile::new(move |sleep| match sleep {
            1 => restarted.stop(),
            30 => restarted.start(),
            _ => {}
        });
        let (bodies, ledger) = (AtomicU32::new(0), Ledger::new());
        let runner = Runner::default().with_clock(clock.clone());
        let operation = runner.operation("pay");
        let operation = if has_deadline {
            operation.deadline(Duration::from_secs(60))
        } else {
            operation
        };
        let report = operation
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
                    sql_query(pay).execute(conn).await
                },
            )
            .await;
        if has_deadline {
            assert_eq!(report.result, Ok(1));
            assert_eq!(report.outcome, Outcome::Committed);
            assert_eq!(clock.slept().len(), 30);
        } else {
            let error = report.result.expect_err("nobody could be asked");
            assert!(
                error
                    .dbop_error()
                    .is_some_and(|own| own.is_outcome_unknown())
            );
            assert_eq!(clock.slept().len(), 6, "the first question takes no retry");
            server.start();
        }
        assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
        assert_eq!(bed.balances()[0], (1, 110));
    }
}
