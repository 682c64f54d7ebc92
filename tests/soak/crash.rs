//! A crash can take the knowledge of a transaction's id along with the transaction, and the server
//! gives the same id to another one: that this one was committed says nothing about the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dbop_diesel::Outcome;
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::server::Server;
use dbop_tests::{Meanwhile, Number};
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, Connection as _, RunQueryDsl, Runner, helper};
use crate::{Bed, committed_id, server_crash, session_crash};

#[helper]
pub(crate) async fn the_id_of_another_transaction_proves_nothing(server: Arc<Server>) {
    for crash in [server_crash, session_crash] {
        // Sometimes the server has written down the id before it crashes.
        let mut tries = 1;
        while !is_given_again(server.clone(), crash).await {
            tries += 1;
            assert!(tries < 10, "no id was given again");
        }
    }
}

#[helper]
async fn is_given_again(server: Arc<Server>, crash: fn(&Server, &Bed)) -> bool {
    let bed = Arc::new(Bed::new());
    let proxy = Proxy::start(bed.url());
    let cut = proxy.cut(When::commit(), Cut::BeforeSent);
    let lost_id = Arc::new(AtomicI64::new(0));
    let other_id = Arc::new(AtomicI64::new(0));
    let clock = Meanwhile::new({
        let (bed, lost, other) = (bed.clone(), lost_id.clone(), other_id.clone());
        move |_| {
            crash(&server, &bed);
            while other.load(Ordering::Relaxed) < lost.load(Ordering::Relaxed) {
                other.store(committed_id(&mut bed.connect()), Ordering::Relaxed);
            }
        }
    });
    let report = Runner::default()
        .with_clock(clock)
        .operation("pay")
        .transaction_status()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                let pay = "UPDATE accounts SET balance = 0 WHERE id = 1";
                sql_query(pay).execute(conn).await?;
                let id = "SELECT pg_current_xact_id()::text::bigint AS n";
                let id: Number = sql_query(id).get_result(conn).await?;
                lost_id.store(id.n, Ordering::Relaxed);
                Ok::<_, Error>(())
            },
        )
        .await;
    assert_eq!(cut.reached(), 1);
    if lost_id.load(Ordering::Relaxed) != other_id.load(Ordering::Relaxed) {
        return false;
    }
    assert_eq!(bed.balances()[0], (1, 100));
    assert_eq!(report.outcome, Outcome::Unknown, "{report:?}");
    true
}
