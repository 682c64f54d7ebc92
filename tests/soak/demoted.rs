//! A server that must not write any more, as after a failover: what was not committed is certainly
//! undone, and another connection finds the one that may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Code, FaultClass, Outcome, StopReason};
use dbop_tests::Meanwhile;
use dbop_tests::proxy::{Cut, Proxy, When};
use diesel::connection::SimpleConnection as _;
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, Connection as _, RunQueryDsl, Runner, helper};
use crate::Bed;

/// Lets it write again in the end, whatever has happened.
struct WritesAgain<'a>(&'a Bed);

impl Drop for WritesAgain<'_> {
    fn drop(&mut self) {
        set_read_only(self.0, false);
    }
}

fn set_read_only(bed: &Bed, is_read_only: bool) {
    let set = format!("SET GLOBAL read_only = {}", i32::from(is_read_only));
    bed.connect().batch_execute(&set).expect("a setting");
}

#[helper]
async fn pay(conn: &mut Conn) -> diesel::QueryResult<usize> {
    let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
    sql_query(pay).execute(conn).await
}

/// `url`: of somebody who has no right to write there nevertheless.
#[helper]
pub(crate) async fn another_connection_is_tried(bed: Arc<Bed>, url: String) {
    let _writes_again = WritesAgain(&bed);
    for before_the_statement in [true, false] {
        let promoted = bed.clone();
        let clock = Meanwhile::new(move |_| set_read_only(&promoted, false));
        let (bodies, connections) = (AtomicU32::new(0), AtomicU32::new(0));
        let before = bed.balances()[0].1;
        let report = Runner::default()
            .with_clock(clock.clone())
            .run_on_report(
                &async || {
                    connections.fetch_add(1, Ordering::Relaxed);
                    Conn::establish(&url).await
                },
                async |conn: &mut Conn| {
                    let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
                    if is_first && before_the_statement {
                        set_read_only(&bed, true);
                    }
                    let paid = pay(conn).await;
                    if is_first && !before_the_statement {
                        set_read_only(&bed, true);
                    }
                    paid
                },
            )
            .await;
        assert_eq!(report.result, Ok(1), "{before_the_statement}");
        assert_eq!(report.outcome, Outcome::Committed);
        assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
        let fault = report.failures[0].fault.expect("of the database");
        assert_eq!(fault.class(), FaultClass::ReadOnlyServer);
        assert_eq!(fault.code(), Some(Code::Errno(1290)));
        assert_eq!(connections.into_inner(), 2);
        // It takes a while until a failover is over.
        let slept = clock.slept();
        assert!(
            slept.len() == 1 && slept[0] >= Duration::from_millis(500),
            "{slept:?}"
        );
        assert_eq!(bed.balances()[0].1, before + 10);
    }
}

/// Nobody has another connection for it. That the ROLLBACK after it is lost changes nothing.
#[helper]
pub(crate) async fn what_it_refuses_to_commit_is_undone(bed: Arc<Bed>, url: String) {
    for cut in [None, Some(Cut::BeforeSent), Some(Cut::AnswerLost)] {
        it_refuses_to_commit(&bed, &url, cut).await;
    }
}

#[helper]
async fn it_refuses_to_commit(bed: &Bed, url: &str, cut: Option<Cut>) {
    let proxy = Proxy::start(url);
    let rollback = cut.map(|cut| proxy.cut(When::statement("ROLLBACK"), cut));
    let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
    let before = bed.balances();
    let writes_again = WritesAgain(bed);
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            let paid = pay(conn).await;
            set_read_only(bed, true);
            paid
        })
        .await;
    drop(writes_again);
    assert!(rollback.is_none_or(|rollback| rollback.reached() == 1));
    let error: Error = report.result.expect_err("not committed");
    assert!(error.to_string().contains("read"), "{error}");
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.attempts, 1);
    drop(conn);
    assert_eq!(bed.balances(), before);
}
