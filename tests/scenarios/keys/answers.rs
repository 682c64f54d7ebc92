//! The answer of the first call is that of all calls.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Ledger, Outcome, StopReason};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, insert};
use super::{Conn, Connection as _, Runner, own, scenario, with_table};

#[scenario]
async fn a_later_call_returns_the_first_ones_answer() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
    let (pay, plain) = (pay.answer(), pay);
    let source = async || Conn::establish(bed.url()).await;
    let hostile = "'\\\0\u{1f980}\"; --";
    for is_replayed in [false, true, true] {
        let report = pay
            .run_on_report(&source, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                QueryResult::Ok((balance(conn, 1).await?, hostile.to_owned()))
            })
            .await;
        assert_eq!(report.result, Ok((110, hostile.to_owned())));
        assert_eq!(report.replayed, is_replayed);
        assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 1));
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        let stop = if is_replayed {
            StopReason::AlreadyDone
        } else {
            StopReason::Succeeded
        };
        assert_eq!(report.stop, stop);
    }
    // Of another type, or not wanted.
    let other: QueryResult<u8> = pay
        .run(&mut bed.connect(), async |_: &mut Conn| Ok(7))
        .await;
    assert!(own(&other).is_answer_unusable(), "{other:?}");
    let mut conn = bed.connect();
    let unwanted = plain.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
    assert!(own(&unwanted.await).is_already_done());
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn an_answer_that_cannot_be_kept_is_an_error_and_undone() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let mut conn = bed.connect();
    let key = |key: &'static str| {
        let pay = runner.operation("pay").ledger(&ledger);
        pay.idempotency_key(key).answer()
    };
    for (pay, length) in [(key("a"), 65_535), (key("b").answer_limit(10), 9)] {
        let too_large = pay
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                QueryResult::Ok("x".repeat(length))
            })
            .await;
        assert!(own(&too_large.result).is_answer_unusable());
        assert_eq!(
            (too_large.outcome, too_large.attempts),
            (Outcome::Undone, 1)
        );
        // As large as it may be, with its quotes.
        let fits = pay
            .run(&mut conn, async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                QueryResult::Ok("x".repeat(length - 1))
            })
            .await;
        assert_eq!(fits.map(|it| it.len()), Ok(length - 1));
        let again: QueryResult<String> = pay
            .run(&mut conn, async |_: &mut Conn| Ok(String::new()))
            .await;
        assert_eq!(again.map(|it| it.len()), Ok(length - 1));
    }
    assert_eq!(bed.balances()[..2], [(1, 100), (2, 120)]);
}

#[scenario]
async fn a_refusal_is_remembered_and_its_work_undone() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let key = |key: &'static str| {
        let pay = runner.operation("pay").ledger(&ledger);
        pay.idempotency_key(key)
            .answer()
            .remember_refusals(|error: &Error| match error {
                Error::NotFound => Some(404_i64),
                Error::DatabaseError(..) => Some(409),
                _ => None,
            })
    };
    let mut conn = bed.connect();
    let runs = AtomicU32::new(0);
    for (name, answer, in_transaction) in [
        ("a", 404, false),
        ("b", 409, false),
        ("c", 404, true),
        ("d", 409, true),
    ] {
        let pay = key(name);
        let refuse = async |conn: &mut Conn| {
            runs.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            if answer == 409 {
                insert(conn, 1).await?;
            }
            Err(Error::NotFound)
        };
        for is_replayed in [false, true] {
            let report = if in_transaction {
                conn.transaction(async |conn| QueryResult::Ok(pay.run_report(conn, refuse).await))
                    .await
                    .expect("committed")
            } else {
                pay.run_report(&mut conn, refuse).await
            };
            assert_eq!(
                (report.result, report.replayed),
                (Ok(answer), is_replayed),
                "{name}"
            );
            assert_eq!(report.outcome, Outcome::Committed);
        }
    }
    assert_eq!(runs.load(Ordering::Relaxed), 4);
    // One that is not remembered leaves the key free.
    let pay = key("e");
    let undone = pay
        .run(&mut conn, async |_: &mut Conn| {
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(undone, Err(Error::RollbackTransaction));
    let done = pay.run(&mut conn, async |conn: &mut Conn| {
        add(conn, 2, 10).await?;
        Ok(200)
    });
    assert_eq!(done.await, Ok(200));
    assert_eq!(bed.balances()[..2], [(1, 100), (2, 110)]);
}
