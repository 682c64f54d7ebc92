//! Many callers at the same time: of one key, and of keys beside each other.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use dbop_diesel::{Dialect, IsolationLevel, Ledger, Runner};
use diesel::RunQueryDsl as _;
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::backend::{Bed, Conn, DIALECT};

fn with_table() -> Bed {
    let bed = Bed::new();
    let create = &Ledger::new().create_table(DIALECT);
    bed.connect().batch_execute(create).expect("a new table");
    bed
}

fn add(conn: &mut Conn) -> QueryResult<usize> {
    sql_query("UPDATE accounts SET balance = balance + 1 WHERE id = 1").execute(conn)
}

/// Each one that refuses lets the next one go on, and none of them takes a retry for that. On InnoDB the
/// others get a deadlock.
#[test]
fn all_callers_of_a_key_whose_body_refuses_have_its_refusal() {
    const CALLERS: usize = 24;
    let bed = with_table();
    let (runner, ledger, barrier) = (Runner::default(), Ledger::new(), Barrier::new(CALLERS));
    let pay = runner.operation("pay").max_retries(0).ledger(&ledger);
    let pay = pay.idempotency_key("k");
    thread::scope(|scope| {
        let caller = || {
            let mut conn = bed.connect();
            barrier.wait();
            for _ in 0..3 {
                let report = pay.run_report(&mut conn, |conn| {
                    add(conn)?;
                    QueryResult::<()>::Err(Error::RollbackTransaction)
                });
                assert_eq!(report.result, Err(Error::RollbackTransaction));
                assert_eq!(report.attempts, 1, "{:?}", report.failures);
            }
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        for caller in callers {
            caller.join().expect("no panic");
        }
    });
    assert_eq!(pay.run(&mut bed.connect(), add), Ok(1));
    assert_eq!(bed.balances()[0], (1, 101));
}

/// A key that is taken, and one that is done, lock nothing beside them.
#[test]
fn keys_beside_each_other_do_not_wait_for_each_other() {
    let bed = with_table();
    let (runner, ledger) = (Runner::default(), Ledger::new());
    let pay = |key| {
        let pay = runner.operation("pay").max_retries(0);
        let pay = pay.lock_timeout(Duration::from_secs(1)).ledger(&ledger);
        pay.idempotency_key(key)
    };
    for key in ["k3", "k7"] {
        assert_eq!(pay(key).run(&mut bed.connect(), add), Ok(1));
    }
    let holder = bed.opponent();
    let taken = match DIALECT {
        Dialect::Mysql => "BEGIN; INSERT INTO dbop_ledger (scope, id) VALUES (X'706179', X'6b35')",
        _ => {
            "BEGIN; INSERT INTO dbop_ledger (scope, id) \
             VALUES (decode('706179', 'hex'), decode('6b35', 'hex'))"
        }
    };
    holder.execute(taken);
    // In a transaction that has written, what finds it done keeps its locks.
    let around = bed.connect().transaction(|conn| {
        sql_query("UPDATE accounts SET balance = balance + 1 WHERE id = 3").execute(conn)?;
        let again = pay("k3").run(conn, add);
        again.expect_err("it is done");
        for key in ["k2", "k4", "k6", "k8", "k", "k55"] {
            assert_eq!(pay(key).run(&mut bed.connect(), add), Ok(1), "{key}");
        }
        QueryResult::Ok(())
    });
    assert_eq!(around, Ok(()));
    holder.execute("ROLLBACK");
}

/// They write to one table and, if that is small, read it from end to end as soon as they look for a row.
#[test]
fn serializable_operations_with_different_keys_do_not_meet() {
    const CALLERS: usize = 8;
    let bed = with_table();
    let (runner, ledger, barrier) = (Runner::default(), Ledger::new(), Barrier::new(CALLERS));
    let analyze = match DIALECT {
        Dialect::Mysql => "ANALYZE TABLE dbop_ledger",
        _ => "ANALYZE dbop_ledger",
    };
    for round in 0..10 {
        bed.opponent().execute(analyze);
        thread::scope(|scope| {
            let (bed, runner, ledger, barrier) = (&bed, &runner, &ledger, &barrier);
            let caller = |caller: usize| {
                move || {
                    let mut conn = bed.connect();
                    let key = format!("{round} {caller}");
                    let pay = runner
                        .operation("pay")
                        .isolation(IsolationLevel::Serializable);
                    let pay = pay.max_retries(0).ledger(ledger).idempotency_key(&key);
                    barrier.wait();
                    let ended = pay.run(&mut conn, |_| {
                        // All of them have begun, and none has ended.
                        barrier.wait();
                        QueryResult::Ok(())
                    });
                    assert_eq!(ended, Ok(()));
                }
            };
            let callers: Vec<_> = (0..CALLERS).map(|it| scope.spawn(caller(it))).collect();
            for caller in callers {
                caller.join().expect("no panic");
            }
        });
    }
}
