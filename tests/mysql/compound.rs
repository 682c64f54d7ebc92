//! On MariaDB, what begins and what commits an operation can be one prepared statement each: fewer round
//! trips than Diesel's own transaction, and every promise is kept. On MySQL everything is as without it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Code, FaultClass, IsolationLevel, Ledger, Outcome, Runner};
use dbop_tests::mysql::{BALLAST, Bed, Conn, DIALECT};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, Number, assert_unknown, is_unknown};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_query;

const SECONDS: Duration = Duration::from_secs(8);

fn runner() -> Runner {
    Runner::default()
        .with_compound_statements(true)
        .with_clock(InstantClock::new())
}

fn number(conn: &mut Conn, expression: &str) -> i64 {
    let sql = format!("SELECT CAST({expression} AS SIGNED) AS n");
    let row: Number = sql_query(sql).get_result(conn).expect("a number");
    row.n
}

fn add(conn: &mut Conn, id: i32, amount: i32) -> QueryResult<usize> {
    sql_query(format!(
        "UPDATE accounts SET balance = balance + {amount} WHERE id = {id}"
    ))
    .execute(conn)
}

/// Whether it is MariaDB.
fn is_mariadb(bed: &Bed) -> bool {
    number(&mut bed.connect(), "@@version LIKE '%MariaDB%'") == 1
}

/// MySQL refuses such a statement before anything of it runs. Other operations of this process may have found
/// that out before.
#[test]
fn on_mysql_the_statements_are_sent_one_by_one() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = Conn::establish(proxy.url()).expect("a connection");
    let mut paid = 100;
    for attempt in 1..=3 {
        proxy.reset();
        let report = runner().run_report(&mut conn, |conn| add(conn, 1, 10));
        assert_eq!((report.result, report.attempts), (Ok(1), 1));
        assert_eq!(report.outcome, Outcome::Committed);
        paid += 10;
        assert_eq!(bed.balances()[0], (1, paid));
        let refused = runner().run(&mut conn, |conn| {
            add(conn, 1, 10)?;
            add(conn, 1, 10).and(Err::<(), _>(Error::NotFound))
        });
        assert_eq!(refused, Err(Error::NotFound));
        let taken = proxy
            .conversation()
            .iter()
            .filter(|sent| sent.contains("NOT ATOMIC"))
            .count();
        assert!(
            is_mariadb(&bed) || taken <= usize::from(attempt == 1),
            "{taken}"
        );
    }
    assert_eq!(bed.balances()[0], (1, paid));
    assert_eq!(number(&mut conn, "@@autocommit"), 1);
}

diesel::table! { accounts { id -> Integer, balance -> BigInt } }

/// One query, which the connection has prepared already.
fn read(conn: &mut Conn) -> QueryResult<i64> {
    accounts::table
        .find(1)
        .select(accounts::balance)
        .first(conn)
}

#[test]
fn an_operation_takes_three_round_trips() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let proxy = Proxy::start(bed.url());
    let mut conn = Conn::establish(proxy.url()).expect("a connection");
    let taken = || {
        let taken = proxy.round_trips();
        proxy.reset();
        taken
    };
    read(&mut conn).expect("prepared");
    taken();
    assert_eq!(conn.transaction(read), Ok(100));
    assert_eq!(taken(), 7, "without dbop");
    let (by_default, none) = (runner(), runner().with_default_lock_timeout(None));
    let operation = || by_default.operation("read");
    for (name, operation, expected) in [
        ("default", operation(), 3),
        ("none", none.operation("read"), 3),
        ("lock timeout", operation().lock_timeout(SECONDS), 3),
        ("read-only", operation().read_only(), 3),
        (
            "isolation",
            operation().isolation(IsolationLevel::Serializable),
            3,
        ),
        ("statement", operation().statement_timeout(SECONDS), 7),
        ("deadline", operation().deadline(SECONDS), 7),
        ("own SQL", operation().begin_with_sql("DO 0"), 7),
    ] {
        for is_prepared in [false, true] {
            assert_eq!(operation.run(&mut conn, read), Ok(100));
            let taken = taken();
            assert!(!is_prepared || taken == expected, "{name}: {taken}");
        }
    }
    let step: QueryResult<i64> = conn.transaction(|conn| {
        runner().run(conn, read)?;
        taken();
        runner().run(conn, read)
    });
    assert_eq!((step, taken()), (Ok(100), 3 + 3), "and the COMMIT");
}

/// A real one. InnoDB rolls back the transaction that has changed fewer rows.
fn lose_deadlock(conn: &mut Conn, bed: &Bed) -> QueryResult<usize> {
    let winner = bed.opponent();
    winner.execute("BEGIN");
    winner.execute(BALLAST);
    winner.execute("UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
    winner.start("UPDATE accounts SET balance = balance + 1000 WHERE id = 1");
    bed.wait_until_blocked(winner.id());
    let lost = add(conn, 2, 1);
    winner.finish().expect("the opponent wins");
    winner.execute("ROLLBACK");
    lost
}

#[test]
fn nothing_is_kept_after_a_deadlock_that_the_body_hides() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let mut conn = bed.connect();
    for balance in [101, 102] {
        let report = runner().run_report(&mut conn, |conn| {
            add(conn, 1, 10)?;
            lose_deadlock(conn, &bed).expect_err("the victim");
            add(conn, 3, 10)
        });
        assert_unknown(&report);
        assert_eq!(bed.balances()[2], (3, 100));
        // In autocommit again, with the values of the session.
        add(&mut conn, 1, 1).expect("written");
        assert_eq!(bed.balances()[0], (1, balance));
        assert_eq!(number(&mut conn, "@@innodb_lock_wait_timeout"), 50);
    }
}

#[test]
fn a_deadlock_that_the_body_returns_is_tried_again() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = runner().run_report(&mut conn, |conn| {
        add(conn, 1, 10)?;
        match bodies.fetch_add(1, Ordering::Relaxed) {
            0 => lose_deadlock(conn, &bed),
            _ => add(conn, 3, 10),
        }
    });
    assert_eq!((report.result, report.attempts), (Ok(1), 2));
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
}

#[test]
fn after_an_implicit_commit_the_outcome_is_unknown() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let mut conn = bed.connect();
    let report = runner().run_report(&mut conn, |conn| {
        add(conn, 1, 10)?;
        conn.batch_execute("CREATE TABLE more (n INT)")?;
        add(conn, 3, 10)
    });
    let error: Error = report.result.expect_err("committed in between");
    assert!(is_unknown(&error), "{error}");
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

#[test]
fn what_the_server_refuses_to_commit_is_undone() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let mut conn = bed.connect();
    conn.batch_execute("SET lock_wait_timeout = 0")
        .expect("a variable");
    let opponent = bed.opponent();
    let runner = runner();
    let report = runner
        .operation("pay")
        .max_retries(0)
        .run_report(&mut conn, |conn| {
            let paid = add(conn, 1, 10);
            opponent.lock_all_tables();
            paid
        });
    opponent.execute("UNLOCK TABLES");
    report.result.expect_err("refused");
    assert_eq!(report.outcome, Outcome::Undone);
    let fault = report.failures[0].fault.expect("of the database");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!(fault.code(), Some(Code::Errno(1205)));
    assert_eq!(bed.balances()[0], (1, 100));
    add(&mut conn, 1, 1).expect("written");
    assert_eq!(bed.balances()[0], (1, 101), "in autocommit again");
}

#[test]
fn a_commit_whose_answer_is_lost_is_unknown_and_the_ledger_tells() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    bed.connect()
        .batch_execute(&Ledger::new().create_table(DIALECT))
        .expect("a new table");
    let proxy = Proxy::start(bed.url());
    let source = || Conn::establish(proxy.url());
    let mut paid = 100;
    for (cut, is_done) in [(Cut::BeforeSent, false), (Cut::AnswerLost, true)] {
        _ = proxy.cut(When::commit(), cut);
        let report = runner().run_on_report(&source, |conn| add(conn, 1, 10));
        let error: Error = report.result.expect_err("the answer is lost");
        assert!(is_unknown(&error), "{error}");
        paid += if is_done { 10 } else { 0 };
        assert_eq!(bed.balances()[0], (1, paid));
        let ledger = Ledger::new();
        _ = proxy.cut(When::commit(), cut);
        let runner = runner();
        let operation = runner.operation("pay").ledger(&ledger);
        let result: QueryResult<usize> = operation.run_on(&source, |conn| add(conn, 1, 10));
        assert_eq!(result, Ok(1));
        paid += 10;
        assert_eq!(bed.balances()[0], (1, paid));
    }
    assert_eq!(proxy.cuts_made(), 4);
}

#[test]
fn in_a_session_without_autocommit_it_commits_and_leaves_it_so() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let mut conn = bed.connect();
    conn.batch_execute("SET autocommit=0, innodb_lock_wait_timeout=7")
        .expect("set");
    for balance in [110, 120] {
        assert_eq!(runner().run(&mut conn, |conn| add(conn, 1, 10)), Ok(1));
        assert_eq!(bed.balances()[0], (1, balance));
        assert_eq!(number(&mut conn, "@@autocommit"), 0);
        assert_eq!(number(&mut conn, "@@innodb_lock_wait_timeout"), 7);
    }
}

/// What the connection has prepared reads the session's values each time.
#[test]
fn a_prepared_batch_keeps_what_the_session_has_by_then() {
    const LOCK: &str = "@@innodb_lock_wait_timeout";
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let mut conn = bed.connect();
    for (before, inside) in [(7, 7), (5, 5), (60, 10)] {
        conn.batch_execute(&format!("SET innodb_lock_wait_timeout={before}"))
            .expect("set");
        let seen: QueryResult<i64> = runner().run(&mut conn, |conn| Ok(number(conn, LOCK)));
        assert_eq!(seen, Ok(inside));
        assert_eq!(number(&mut conn, LOCK), before);
    }
}

#[test]
fn what_comes_after_a_read_only_operation_can_write() {
    let bed = Bed::new();
    if !is_mariadb(&bed) {
        return;
    }
    let mut conn = bed.connect();
    let runner = runner();
    let look = runner.operation("look").read_only();
    for balance in [100, 120] {
        assert_eq!(look.run(&mut conn, read), Ok(balance));
        let refused: QueryResult<usize> = look.run(&mut conn, |conn| add(conn, 1, 10));
        refused.expect_err("it writes");
        assert_eq!(runner.run(&mut conn, |conn| add(conn, 1, 10)), Ok(1));
        assert_eq!(look.run(&mut conn, read), Ok(balance + 10));
        assert_eq!(conn.transaction(|conn| add(conn, 1, 10)), Ok(1));
    }
    assert_eq!(bed.balances()[0], (1, 140));
}
