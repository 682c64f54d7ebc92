//! Every connection that an operation gets has all of its settings, and those of its attempt.

use std::time::Duration;

use dbop_diesel::{Dialect, FaultClass, IsolationLevel};
use dbop_tests::session::Session;
use dbop_tests::{InstantClock, TestPool as _};
use diesel::QueryResult;

use super::money::{add, balance};
use super::sessions::session;
use super::steps::{Sessions, session_id};
use super::{Bed, Conn, Pool, Runner, SimpleConnection as _, backend, scenario};

const LADDER: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(5)];

/// What the server shows in an attempt, from 1, with that one's lock timeout.
fn assert_in_force(seen: &Session, attempt: usize) {
    let lock = LADDER[attempt - 1].as_secs().to_string();
    let expected = match backend::DIALECT {
        Dialect::Postgres => vec![
            ("lock_timeout", format!("{lock}s")),
            ("statement_timeout", "7s".into()),
            ("transaction_isolation", "serializable".into()),
            ("transaction_read_only", "on".into()),
        ],
        _ => match seen.get("max_statement_time") {
            Some(_) => vec![
                ("innodb_lock_wait_timeout", lock),
                ("max_statement_time", "7.000000".into()),
            ],
            None => vec![
                ("innodb_lock_wait_timeout", lock),
                ("max_execution_time", "7000".into()),
            ],
        },
    };
    for (name, value) in expected {
        assert_eq!(seen.get(name), Some(&*value), "{name} in attempt {attempt}");
    }
}

#[scenario]
async fn a_fresh_connection_has_all_of_them() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, Duration::from_secs(5));
    let sessions = Sessions::default();
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("read")
        .read_only()
        .isolation(IsolationLevel::Serializable)
        .statement_timeout(Duration::from_secs(7))
        .lock_timeouts(&LADDER)
        .run_on_report(&pool, async |conn: &mut Conn| {
            let id = session_id(conn).await;
            let attempt = sessions.add(id);
            assert_in_force(&session(conn).await, attempt);
            conn.batch_execute("SAVEPOINT before_the_write").await?;
            let written: QueryResult<usize> = add(conn, 1, 10).await;
            written.expect_err("it is read-only");
            conn.batch_execute("ROLLBACK TO SAVEPOINT before_the_write")
                .await?;
            if attempt == 1 {
                bed.kill(id);
                bed.wait_until_gone(id);
            }
            balance(conn, 1).await
        })
        .await;
    assert_eq!(report.result, Ok(100));
    assert_eq!(report.attempts, 2);
    let fault = report.failures[0].fault.expect("of the database");
    assert_eq!(fault.class(), FaultClass::ConnectionLost);
    assert_ne!(sessions.all()[0], sessions.all()[1]);
}
