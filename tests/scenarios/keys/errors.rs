//! Errors of types that `OperationError` cannot be implemented for.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Dialect, Ledger, OperationError as _};
use diesel::result::{DatabaseErrorKind, Error};

use super::money::add;
use super::{Conn, Runner, backend, scenario, with_table};

#[derive(Debug)]
enum Failed {
    Database(Error),
    NotEnough,
}

fn cause(failed: &Failed) -> Option<&Error> {
    match failed {
        Failed::Database(error) => Some(error),
        Failed::NotEnough => None,
    }
}

/// As the server says it.
fn conflict() -> Error {
    let (kind, message) = match backend::DIALECT {
        Dialect::Postgres => (
            DatabaseErrorKind::SerializationFailure,
            "could not serialize access due to concurrent update",
        ),
        Dialect::Mysql => (
            DatabaseErrorKind::Unknown,
            "Deadlock found when trying to get lock; try restarting transaction",
        ),
        _ => (DatabaseErrorKind::Unknown, "database is locked"),
    };
    Error::DatabaseError(kind, Box::new(message.to_owned()))
}

#[scenario]
async fn errors_of_any_type_are_retried_replayed_and_remembered() {
    let bed = with_table().await;
    let (ledger, runner, runs) = (Ledger::new(), Runner::default(), AtomicU32::new(0));
    let key = |key: &'static str| {
        let pay = runner.operation("pay").ledger(&ledger);
        pay.idempotency_key(key).errors(Failed::Database, cause)
    };
    let mut conn = bed.connect();
    let body = async |conn: &mut Conn| {
        add(conn, 1, 10).await.map_err(Failed::Database)?;
        match runs.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Failed::Database(conflict())),
            run => Ok(run),
        }
    };
    let pay = key("k").answer();
    let first = pay.run_report(&mut conn, body).await;
    assert_eq!(first.result.expect("done"), 1);
    assert_eq!((first.attempts, first.replayed), (2, false));
    let second = pay.run_report(&mut conn, body).await;
    assert_eq!(second.result.expect("done"), 1);
    assert_eq!((second.attempts, second.replayed), (1, true));
    // dbop's own errors are made into the type as well.
    let third = key("k").run(&mut conn, body).await.expect_err("no answer");
    let own = cause(&third).and_then(Error::dbop_error);
    assert!(own.expect("dbop's").is_already_done(), "{third:?}");
    let refusing = key("r")
        .answer()
        .remember_refusals(|failed: &Failed| match failed {
            Failed::NotEnough => Some(402),
            Failed::Database(_) => None,
        });
    for _ in 0..2 {
        let refused = refusing.run(&mut conn, async |conn: &mut Conn| {
            runs.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await.map_err(Failed::Database)?;
            Err(Failed::NotEnough)
        });
        assert_eq!(refused.await.expect("remembered"), 402);
    }
    assert_eq!(runs.into_inner(), 3);
    assert_eq!(bed.balances()[0], (1, 110));
}
