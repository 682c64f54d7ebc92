//! The sync adapter.

use std::time::Duration;

use dbop_diesel::{Runner, SupportedBackend};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use crate::texts::Texts;
use crate::{SyncConn as Conn, accounts, setup};

fn update(conn: &mut Conn) -> QueryResult<usize> {
    diesel::update(accounts::table.find(1))
        .set(accounts::balance.eq(7))
        .execute(conn)
}

fn read(conn: &mut Conn) -> QueryResult<i64> {
    let account = accounts::table.find(1);
    account.select(accounts::balance).get_result(conn)
}

/// What is repeated.
type Once<'a> = dyn FnMut(&mut Conn) -> QueryResult<()> + 'a;

/// Runs a case so many times.
pub(crate) fn run(case: &str, url: &str, times: u32) {
    let mut conn = Conn::establish(url).expect("a connection");
    let conn = &mut conn;
    conn.batch_execute(&setup()).expect("a table");
    let dialect = <<Conn as Connection>::Backend as SupportedBackend>::DIALECT;
    let [outer, inner] = [0, 1].map(|depth| Texts::of(dialect, depth));
    let runner = Runner::default();
    let second = Duration::from_secs(1);
    let mut repeat = |mut once: Box<Once<'_>>| {
        for _ in 0..times {
            once(conn).expect("done");
        }
    };
    // Each closure is compiled like a caller's code: only the loop is shared.
    macro_rules! repeated {
        (|$conn:ident| $once:expr) => {
            repeat(Box::new(move |$conn: &mut Conn| $once.map(drop)))
        };
    }
    match case {
        "bare1" => repeated!(|conn| conn.transaction(update)),
        "by_hand1" => repeated!(|conn| by_hand(conn, &outer, update)),
        "run1" => repeated!(|conn| runner.run(conn, update)),
        "named" => repeated!(|conn| runner.operation("named").run(conn, update)),
        "report" => repeated!(|conn| runner.run_report(conn, update).result),
        "lock_timeout" => {
            repeated!(|conn| runner.operation("x").lock_timeout(second).run(conn, update));
        }
        "deadline" => {
            repeated!(|conn| runner.operation("x").deadline(second).run(conn, update));
        }
        "bare_read" => repeated!(|conn| conn.transaction(read)),
        "run_read" => repeated!(|conn| runner.run(conn, read)),
        "read_only" => {
            repeated!(|conn| runner.operation("x").read_only().run(conn, read));
        }
        "plain_read" => repeated!(|conn| read(conn)),
        "without_transaction" => {
            let operation = || runner.operation("x").without_transaction();
            repeated!(|conn| operation().run(conn, read));
        }
        "bare3" => repeated!(|conn| conn.transaction(three_bare)),
        "by_hand3" => {
            repeated!(|conn| by_hand(conn, &outer, |conn: &mut Conn| {
                by_hand(conn, &inner.clone(), update)?;
                by_hand(conn, &inner.clone(), update)?;
                by_hand(conn, &inner.clone(), update)
            }));
        }
        "nested3" => {
            repeated!(|conn| runner.run(conn, |conn| three_with_dbop(&runner, conn)));
        }
        "steps3" => {
            repeated!(|conn| conn.transaction(|conn| three_with_dbop(&runner, conn)));
        }
        other => panic!("no case: {other}"),
    }
}

fn by_hand<T>(
    conn: &mut Conn,
    texts: &Texts,
    body: impl FnOnce(&mut Conn) -> QueryResult<T>,
) -> QueryResult<T> {
    conn.batch_execute(&texts.begin)?;
    let value = body(conn)?;
    conn.batch_execute(&texts.commit)?;
    Ok(value)
}

fn three_bare(conn: &mut Conn) -> QueryResult<usize> {
    conn.transaction(update)?;
    conn.transaction(update)?;
    conn.transaction(update)
}

fn three_with_dbop(runner: &Runner, conn: &mut Conn) -> QueryResult<usize> {
    runner.run(conn, update)?;
    runner.run(conn, update)?;
    runner.run(conn, update)
}
