//! The work of a key is done once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use dbop_diesel::{Ledger, Outcome, StopReason};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, insert};
use super::{Conn, Connection as _, Runner, caught, own, scenario, together, with_table};

#[scenario]
async fn the_second_call_finds_it_done() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
    let source = async || Conn::establish(bed.url()).await;
    let begun = SystemTime::now();
    let first = pay
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(first.result, Ok(1));
    assert_eq!((first.outcome, first.replayed), (Outcome::Committed, false));
    assert_eq!(first.stop, StopReason::Succeeded);

    let second = pay
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert!(own(&second.result).is_already_done(), "{:?}", second.result);
    let done_at = own(&second.result).done_at().expect("a time");
    let far = Duration::from_secs(60);
    assert!(
        done_at > begun - far && done_at < begun + far,
        "{done_at:?}"
    );
    assert_eq!(
        (second.outcome, second.replayed),
        (Outcome::Committed, false)
    );
    assert_eq!((second.stop, second.attempts), (StopReason::AlreadyDone, 1));
    let third = pay
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            add(conn, 1, 10).await
        })
        .await;
    assert!(own(&third).is_already_done(), "{third:?}");
    assert!(
        std::error::Error::source(own(&third)).is_none(),
        "{third:?}"
    );
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn keys_differ_by_each_byte_and_by_their_scope() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let longest = [0xff; 255];
    let keys: [&[u8]; 18] = [
        b"a",
        b"A",
        b"a ",
        b" a",
        b"a\0",
        b"\0",
        b"'",
        b"''",
        b"\"; DROP TABLE accounts; --",
        b"\\",
        b"\\\\",
        b"\\x61",
        "\u{1f980}".as_bytes(),
        "\u{e4}".as_bytes(),
        "a\u{308}".as_bytes(),
        b"\xff\xfe",
        &longest,
        &longest[..254],
    ];
    let mut conn = bed.connect();
    let mut paid = 0;
    for key in keys {
        let pay = runner.operation("pay").ledger(&ledger).idempotency_key(key);
        let result = pay.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await);
        assert_eq!(result.await, Ok(1), "{key:?}");
        paid += 1;
        let again = pay.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await);
        let again = again.await;
        assert!(own(&again).is_already_done(), "{key:?}: {again:?}");
    }
    let scopes: [&[u8]; 5] = [b"Pay", b"pay ", b"'\\\0", b"\xff", &[7; 64]];
    for scope in scopes {
        let pay = runner.operation("pay").ledger(&ledger).idempotency_key("a");
        let pay = pay.key_scope(scope);
        let result = pay.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await);
        assert_eq!(result.await, Ok(1), "{scope:?}");
        paid += 1;
        let again = pay.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await);
        assert!(own(&again.await).is_already_done(), "{scope:?}");
    }
    // The scope is the name of the operation, unless another one is given.
    for (name, scope, is_done) in [("refund", None, false), ("other", Some("pay"), true)] {
        let pay = runner.operation(name).ledger(&ledger).idempotency_key("a");
        let pay = scope.map_or(pay, |scope| pay.key_scope(scope));
        let result = pay.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await);
        let result = result.await;
        assert_eq!(result.is_err(), is_done, "{result:?}");
        paid += i64::from(!is_done);
    }
    assert_eq!(bed.balances()[0], (1, 100 + paid));
}

#[scenario]
async fn what_is_no_key_is_refused_and_never_cut() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let mut conn = bed.connect();
    let long = [b'x'; 256];
    let long_name = "x".repeat(65);
    for (name, key) in [
        ("pay", &b""[..]),
        ("pay", &long),
        (&*long_name, b"k"),
        ("dbop", b"k"),
    ] {
        let pay = runner.operation(name).ledger(&ledger).idempotency_key(key);
        let result = pay.run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
        let report = result.await;
        assert!(
            own(&report.result).is_invalid_setting(),
            "{:?}",
            report.result
        );
        assert_eq!(report.attempts, 0);
    }
    let reads = runner.operation("pay").read_only().ledger(&ledger);
    let result = reads
        .idempotency_key("k")
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert!(own(&result).is_invalid_setting(), "{result:?}");
    let bare = runner
        .operation("pay")
        .without_transaction()
        .ledger(&ledger);
    let result = bare
        .idempotency_key("k")
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert!(own(&result).is_unsupported_setting(), "{result:?}");
    assert_eq!(bed.balances()[0], (1, 100));
}

/// An error, a panic, a caller that rolls back: key and work go together.
#[scenario]
async fn what_is_undone_leaves_its_key_to_the_next_call() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
    let mut conn = bed.connect();
    let refused = pay
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            QueryResult::<usize>::Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(refused, Err(Error::RollbackTransaction));
    let failed = pay
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            insert(conn, 1).await
        })
        .await;
    assert!(
        matches!(failed, Err(Error::DatabaseError(..))),
        "{failed:?}"
    );
    let panicked = caught(async || {
        let never: QueryResult<()> = pay
            .run(&mut bed.connect(), async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                panic!("in the operation")
            })
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    let rolled_back: QueryResult<()> = conn
        .transaction(async |conn| {
            let paid = pay.run(conn, async |conn: &mut Conn| add(conn, 1, 10).await);
            assert_eq!(paid.await, Ok(1));
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(rolled_back, Err(Error::RollbackTransaction));
    assert_eq!(bed.balances()[0], (1, 100));
    let paid = pay.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
    assert_eq!(paid.await, Ok(1));
    assert_eq!(bed.balances()[0], (1, 110));
}

/// In a transaction of the caller's and in another operation.
#[scenario]
async fn in_one_transaction_it_is_done_once_and_not_within_itself() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
    let mut conn = bed.connect();
    let done: QueryResult<()> = conn
        .transaction(async |conn| {
            let paid = pay.run(conn, async |conn: &mut Conn| add(conn, 1, 10).await);
            assert_eq!(paid.await, Ok(1));
            let again = pay.run(conn, async |conn: &mut Conn| add(conn, 1, 10).await);
            assert!(own(&again.await).is_already_done());
            // The transaction is alive.
            add(conn, 2, 10).await?;
            Ok(())
        })
        .await;
    assert_eq!(done, Ok(()));
    let runs = AtomicU32::new(0);
    let other = runner
        .operation("pay")
        .ledger(&ledger)
        .idempotency_key("other");
    let nested = other
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let within = other
                .run(conn, async |conn: &mut Conn| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                })
                .await;
            assert!(own(&within).is_nested_key(), "{within:?}");
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!((nested, runs.into_inner()), (Ok(1), 0));
    assert_eq!(bed.balances()[..2], [(1, 120), (2, 120)]);
}

/// A call that gives a request finds no other one's work, and none whose request is not known.
#[scenario]
async fn a_key_stands_for_one_request() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let mut conn = bed.connect();
    let key = |key: &'static str| runner.operation("pay").ledger(&ledger).idempotency_key(key);
    let (one, other) = (key("k").request("10 to Ada"), key("k").request("11 to Ada"));
    let paid = one.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
    assert_eq!(paid.await, Ok(1));
    let again = one.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
    assert!(own(&again.await).is_already_done());
    let report = other.run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 11).await);
    let report = report.await;
    assert!(
        own(&report.result).is_other_request(),
        "{:?}",
        report.result
    );
    assert_eq!((report.outcome, report.attempts), (Outcome::Undone, 1));
    let whatever = key("k").run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
    assert!(own(&whatever.await).is_already_done());
    let unknown = key("u").run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
    assert_eq!(unknown.await, Ok(1));
    let known = key("u").request("10 to Ada");
    let known = known.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
    assert!(own(&known.await).is_other_request());
    assert_eq!(bed.balances()[0], (1, 120));
}

/// In every fourth round, the first one that comes is undone.
#[scenario]
async fn of_two_at_once_one_does_it_and_both_have_its_answer() {
    let bed = with_table().await;
    let (ledger, runner) = (Ledger::new(), Runner::default());
    let (mut one, mut other) = (bed.connect(), bed.connect());
    let mut expected = 100;
    for round in 0..500 {
        let (key, runs) = (round.to_string(), AtomicU32::new(0));
        // SQLite waits for every writer, for as long as it is told to.
        let pay = runner
            .operation("pay")
            .lock_timeout(Duration::from_secs(20));
        let pay = pay.ledger(&ledger).idempotency_key(&key).answer();
        let body = async |conn: &mut Conn| {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await?;
            match run == 0 && round % 4 == 0 {
                true => Err(Error::RollbackTransaction),
                false => QueryResult::Ok(run),
            }
        };
        let both = together(
            async || pay.run_report(&mut one, body).await,
            async || pay.run_report(&mut other, body).await,
        )
        .await;
        let ends: [dbop_diesel::Report<u32, Error>; 2] = both.into();
        let done: Vec<_> = ends
            .iter()
            .filter_map(|end| end.result.as_ref().ok())
            .collect();
        let answer = u32::from(round % 4 == 0);
        assert_eq!(runs.into_inner(), answer + 1, "{ends:?}");
        assert_eq!(done, vec![&answer; 2 - answer as usize], "{ends:?}");
        assert!(ends.iter().all(|end| end.attempts == 1), "{ends:?}");
        expected += 1;
    }
    assert_eq!(bed.balances()[0], (1, expected));
}

#[scenario]
async fn a_replay_and_a_refusal_call_no_hook_after_the_commit() {
    let bed = with_table().await;
    let (ledger, runner, calls) = (Ledger::new(), Runner::default(), AtomicU32::new(0));
    let hook = || {
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let pay = |key: &'static str| {
        let pay = runner.operation("pay").after_commit(&hook);
        pay.ledger(&ledger).idempotency_key(key).answer()
    };
    let mut conn = bed.connect();
    for _ in 0..2 {
        let paid = pay("k").run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
        assert_eq!(paid.await, Ok(1));
        let refused = pay("r").remember_refusals(|_: &Error| Some(7));
        let refused = refused.run(&mut conn, async |_: &mut Conn| Err(Error::NotFound));
        assert_eq!(refused.await, Ok(7));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}
