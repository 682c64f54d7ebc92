//! A future that is leaked is never dropped, so nothing gets the chance to say that its connection
//! is in the middle of something. Pools throw the connection away all the same; and while the
//! transaction is being opened or closed, when nobody can say whether one is open, it refuses every
//! further one.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use dbop_diesel_async::Runner;
use dbop_tests::asynchronous::{Moment, Trace, dropped_when, eventually, is_broken, refuses};
use diesel::QueryResult;
use diesel_async::AsyncConnection as _;

use super::money::share_out;
use super::{Bed, Conn, run};

/// When a run is leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Begin,
    Body,
    Commit,
}

#[test]
fn a_connection_whose_begin_is_under_way_refuses() {
    run(leaked(When::Begin));
}

#[test]
fn a_connection_in_the_middle_of_the_operation_is_thrown_away() {
    run(leaked(When::Body));
}

#[test]
fn a_connection_whose_commit_is_under_way_refuses() {
    run(leaked(When::Commit));
}

async fn leaked(when: When) {
    let bed = Bed::new();
    // Where the answer comes so soon that nobody waits for it, it is tried again.
    let mut attempts = 0;
    while !is_leaked(&bed, when).await {
        attempts += 1;
        assert!(attempts < 100, "nobody ever waits");
    }
}

/// Leaks a run, if it is waited for then.
async fn is_leaked(bed: &Bed, when: When) -> bool {
    // Its place is leaked with the operation. A connection that another test has there later would count as
    // one that is lent to a body: the address is what tells connections apart.
    let place = Box::leak(Box::new(Some(bed.connect().await)));
    let conn = place.as_mut().expect("put there");
    let session = Bed::session_id(conn).await;
    let seen = Trace::default();
    conn.set_instrumentation(seen.clone());
    let before = bed.balances();
    let is_in_body = AtomicBool::new(false);
    let runner = Runner::default();
    let mut work = Box::pin(runner.run(conn, async |conn: &mut Conn| {
        share_out(conn).await?;
        if when == When::Body {
            is_in_body.store(true, Ordering::Relaxed);
            pending::<()>().await;
        }
        QueryResult::Ok(())
    }));
    let is_it = || match when {
        When::Begin => true,
        When::Body => is_in_body.load(Ordering::Relaxed),
        When::Commit => seen.is_committing(),
    };
    let done = dropped_when(work.as_mut(), Moment::UnderWay, is_it).await;
    std::mem::forget(work);
    // diesel-async's wrapper of sync connections does nothing but panic until the statement is done.
    let at_rest = || dbop_tests::caught(|| is_broken(conn)).is_ok();
    eventually("the statement is done", at_rest).await;
    let too_late = when == When::Begin && seen.statements() > 1;
    if done.is_some() || too_late {
        // It would keep what it has locked.
        *place = None;
        return false;
    }
    assert!(is_broken(conn));
    assert_eq!(refuses(conn), when != When::Body);
    *place = None;
    bed.session_ends(session).await;
    let now = bed.balances();
    assert!(now == before || when == When::Commit && now[0].1 == before[0].1 - 10);
    true
}
