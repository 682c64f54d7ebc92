//! What MySQL and MariaDB make of the timeouts: each of them really fires, within its unit.

use std::time::{Duration, Instant};

use dbop_diesel::Code;
use diesel::sql_query;

use super::money::add;
use super::server::is_mariadb;
use super::steps::session_id;
use super::{Bed, Conn, RunQueryDsl as _, Runner, helper, scenario};

const LONG: Duration = Duration::from_secs(25);

/// The statement timeout is for writes, too, and for their waits: on MariaDB. On MySQL it takes the
/// lock timeout.
#[scenario]
async fn a_write_that_waits_is_ended_by_what_the_server_has() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    opponent.execute("BEGIN");
    opponent.execute("UPDATE accounts SET balance = 50 WHERE id = 1");
    let mariadb = is_mariadb(&mut conn).await;
    let (millis, second) = (Duration::from_millis(150), Duration::from_secs(1));
    for (lock, statement, errno, takes) in [
        (second, LONG, 1205, second),
        (millis, LONG, 1205, second),
        (LONG, millis, 1969, millis),
    ] {
        if statement == millis && !mariadb {
            continue;
        }
        let started = Instant::now();
        let report = Runner::default()
            .operation("wait")
            .lock_timeout(lock)
            .statement_timeout(statement)
            .max_retries(0)
            .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        let took = started.elapsed();
        report.result.expect_err("it is held");
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(fault.code(), Some(Code::Errno(errno)));
        let margin = Duration::from_secs(8);
        assert!(
            took >= takes && took < takes + margin,
            "{took:?}, not {takes:?}"
        );
    }
    opponent.execute("ROLLBACK");
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn a_slow_read_is_ended_after_a_part_of_a_second() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let asked = Duration::from_millis(150);
    let started = Instant::now();
    let report = Runner::default()
        .operation("slow")
        .statement_timeout(asked)
        .run_report(&mut conn, async |conn: &mut Conn| {
            sql_query("SELECT count(*) FROM accounts WHERE SLEEP(20) = 0")
                .execute(conn)
                .await
        })
        .await;
    let took = started.elapsed();
    report.result.expect_err("too slow");
    assert_eq!(report.attempts, 1);
    assert!(took >= asked && took < Duration::from_secs(8), "{took:?}");
}

/// The isolation level of the transaction that is open and has read something, as SQL writes it.
#[helper]
pub(crate) async fn isolation_level(bed: &Bed, conn: &mut Conn) -> String {
    let session = session_id(conn).await;
    bed.isolation_level(session)
}
