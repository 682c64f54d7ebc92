//! A COMMIT that waits for a standby is committed on its own server already. An administrator who ends its
//! session leaves it so, and a failover would take it back. So the "yes" about it has to wait for the standby.

use std::sync::Arc;
use std::thread;

use dbop_diesel::{Ledger, Outcome};
use dbop_tests::{Number, blocking, eventually};
use diesel::connection::SimpleConnection as _;
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, Connection as _, RunQueryDsl as _, Runner, helper};
use crate::Bed;

/// While it lives, every COMMIT waits for a standby that is not there.
struct NoStandby(crate::Conn);

impl NoStandby {
    fn new(bed: &Bed) -> Self {
        let mut own = Self(bed.connect());
        own.set("SET synchronous_standby_names = 'nobody'");
        own.wait_until_in_force(bed);
        own
    }

    /// It is as soon as the checkpointer has read it, which no query shows: until a COMMIT waits.
    fn wait_until_in_force(&mut self, bed: &Bed) {
        let mut conn = bed.connect();
        let commits = thread::spawn(move || {
            let nothing = "UPDATE accounts SET balance = balance WHERE id = 3";
            while conn.batch_execute(nothing).is_ok() {}
        });
        let waiting = self.waits_for_it(0);
        self.end(waiting);
        blocking(|| commits.join()).expect("its session was ended");
    }

    fn end(&mut self, session: i64) {
        let end = format!("SELECT pg_terminate_backend({session}::int)");
        self.0.batch_execute(&end).expect("a superuser");
    }

    fn set(&mut self, what: &str) {
        for sql in [&format!("ALTER SYSTEM {what}"), "SELECT pg_reload_conf()"] {
            self.0.batch_execute(sql).expect("a superuser");
        }
    }

    /// The session that waits at its COMMIT, and is not this one.
    fn waits_for_it(&mut self, other_than: i64) -> i64 {
        let waiting = format!(
            "SELECT coalesce(max(pid), 0)::bigint AS n FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event = 'SyncRep' AND pid <> {other_than}"
        );
        let mut found = 0;
        eventually("a COMMIT waits for the standby", || {
            let row = diesel::RunQueryDsl::get_result(sql_query(&waiting), &mut self.0);
            let row: Number = row.expect("a number");
            found = row.n;
            found != 0
        });
        found
    }
}

impl Drop for NoStandby {
    fn drop(&mut self) {
        self.set("RESET synchronous_standby_names");
    }
}

#[helper]
pub(crate) async fn a_yes_waits_for_the_standby(bed: Arc<Bed>) {
    let mut standby = NoStandby::new(&bed);
    let administrator = thread::spawn(move || {
        let lost = standby.waits_for_it(0);
        standby.end(lost);
        // The question: before that it has not been answered.
        standby.waits_for_it(lost)
    });
    let ledger = Ledger::new();
    let report = Runner::default()
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| -> Result<usize, Error> {
                let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
                sql_query(pay).execute(conn).await
            },
        )
        .await;
    blocking(|| administrator.join()).expect("the question has waited");
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Committed));
    assert_eq!(report.failures.len(), 1, "its answer was lost");
    assert_eq!(bed.balances()[0], (1, 110));
}
