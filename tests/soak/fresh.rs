//! Reads that have to see what their caller has committed, with a replica that lags behind.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Outcome, Position, Split};
use dbop_tests::Number;
use diesel::{QueryResult, sql_query};

use super::{Conn, Connection as _, RunQueryDsl as _, Runner, helper, read_position};

#[helper]
async fn pay(conn: &mut Conn) -> QueryResult<usize> {
    let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
    sql_query(pay).execute(conn).await
}

#[helper]
async fn balance(conn: &mut Conn) -> QueryResult<i64> {
    let read = "SELECT balance AS n FROM accounts WHERE id = 1";
    let row: Number = sql_query(read).get_result(conn).await?;
    Ok(row.n)
}

/// `hold` stops what the replica applies, and lets it continue.
#[helper]
pub(crate) async fn a_read_sees_what_its_caller_has_committed(
    (primary, replica): (&str, &str),
    hold: impl Fn(bool) + Send + Sync,
) {
    let [writes, reads] = [const { AtomicU32::new(0) }; 2];
    let source = Split {
        write: async || {
            writes.fetch_add(1, Ordering::Relaxed);
            Conn::establish(primary).await
        },
        read: async || {
            reads.fetch_add(1, Ordering::Relaxed);
            Conn::establish(replica).await
        },
    };
    let lent = || [&writes, &reads].map(|count| count.swap(0, Ordering::Relaxed));
    let runner = Runner::default();
    let position = runner
        .operation("position")
        .read_only()
        .without_transaction();
    let read = runner.operation("read").read_only();
    for round in 1..=2 {
        hold(true);
        let before = read.run_on(&source.write, balance).await;
        let before = before.expect("a balance");
        let paid = runner.run_on(&source.write, pay).await;
        assert_eq!(paid, Ok(1));
        let committed = position.run_on(&source.write, read_position).await;
        let text = committed.expect("a position").to_string();
        let committed: Position = text.parse().expect("its own text");
        lent();

        // A reader that says nothing sees the past.
        assert_eq!(read.run_on(&source, balance).await, Ok(before), "{round}");
        assert_eq!(lent(), [0, 1]);
        // One that has to see it does, in the first attempt.
        let fresh = source.after(&committed);
        let report = read.run_on_report(&fresh, balance).await;
        assert_eq!((report.result, report.attempts), (Ok(before + 10), 1));
        assert_eq!(report.outcome, Outcome::Committed);
        assert_eq!(lent(), [1, 1], "the replica is asked, and left");
        // What writes is not concerned.
        let seen = runner.run_on(&fresh, balance).await;
        assert_eq!((seen, lent()), (Ok(before + 10), [1, 0]));

        hold(false);
        // The replica is waited for.
        let patient = fresh.with_patience(Duration::from_secs(30));
        let seen = read.run_on(&patient, balance).await;
        assert_eq!((seen, lent()), (Ok(before + 10), [0, 1]));
        // Then it is far enough at once, by its own word too.
        let hasty = fresh.with_patience(Duration::ZERO);
        let seen = read.run_on(&hasty, balance).await;
        assert_eq!((seen, lent()), (Ok(before + 10), [0, 1]));
        let applied = position.run_on(&source.read, read_position).await;
        assert!(applied.expect("a position").covers(&committed));
        lent();
    }
}
