//! The proxy that other tests rely on: each cut does exactly what it says, to the client and to the
//! server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dbop_tests::proxy::{Cut, Planned, Proxy, Until, When};
use dbop_tests::{Number, eventually};
use diesel::sql_query;

use super::backend::BACKEND;
use super::money::{balance, set};
use super::{Bed, Conn, Connection as _, RunQueryDsl, helper, scenario, together};
use directly::{is_there, wait_until_gone};

/// What a session of its own, which is never asynchronous, has to say about another one.
mod directly {
    use dbop_tests::{Number, eventually};
    use diesel::{Connection as _, RunQueryDsl as _, sql_query};

    use super::super::Bed;
    use super::super::backend::{BACKEND, Conn};

    /// Whether the server still has this session.
    pub(super) fn is_there(bed: &Bed, session: i64) -> bool {
        let sessions = match BACKEND {
            "mysql" => "information_schema.processlist WHERE id",
            _ => "pg_stat_activity WHERE pid",
        };
        let mut conn = Conn::establish(bed.url()).expect("the server answers");
        let row: Number = sql_query(format!("SELECT count(*) AS n FROM {sessions} = {session}"))
            .get_result(&mut conn)
            .expect("an answer");
        row.n == 1
    }

    pub(super) fn wait_until_gone(bed: &Bed, session: i64) {
        eventually("the session ends", || !is_there(bed, session));
    }
}

/// A connection through the proxy.
#[helper]
pub(super) async fn through(proxy: &Proxy) -> Conn {
    Conn::establish(proxy.url()).await.expect("a connection")
}

/// Its id on the server.
#[helper]
async fn session_id(conn: &mut Conn) -> i64 {
    let sql = match BACKEND {
        "mysql" => "SELECT CAST(connection_id() AS SIGNED) AS n",
        _ => "SELECT pg_backend_pid()::bigint AS n",
    };
    let row: Number = sql_query(sql).get_result(conn).await.expect("an id");
    row.n
}

/// Plans a cut for the next UPDATE.
fn at_update(proxy: &Proxy, cut: Cut) -> Planned {
    proxy.cut(When::statement("UPDATE"), cut)
}

#[scenario]
async fn before_it_is_sent_a_statement_does_not_reach_the_server() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let session = session_id(&mut conn).await;
    let cut = at_update(&proxy, Cut::BeforeSent);
    set(&mut conn, 1, 7).await.expect_err("no answer");
    assert_eq!(proxy.cuts_made(), 1);
    cut.wait_until_finished();
    wait_until_gone(&bed, session);
    assert_eq!(bed.balances()[0], (1, 100));
    let mut next = through(&proxy).await;
    assert_eq!(set(&mut next, 1, 8).await, Ok(1), "only once");
    assert_eq!((proxy.cuts_made(), proxy.connections()), (1, 2));
}

#[scenario]
async fn when_the_answer_is_lost_the_statement_has_been_executed() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let session = session_id(&mut conn).await;
    let cut = at_update(&proxy, Cut::AnswerLost);
    set(&mut conn, 1, 7).await.expect_err("no answer");
    assert_eq!(bed.balances()[0], (1, 7), "at once");
    assert_eq!(proxy.cuts_made(), 1);
    cut.wait_until_finished();
    wait_until_gone(&bed, session);
}

#[scenario]
async fn a_late_statement_is_executed_when_it_is_released() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let session = session_id(&mut conn).await;
    let cut = at_update(&proxy, Cut::Late(Until::Released));
    set(&mut conn, 1, 7).await.expect_err("no answer");
    drop(conn);
    assert_eq!((proxy.cuts_made(), cut.finished()), (1, 0));
    assert!(is_there(&bed, session));
    assert_eq!(bed.balances()[0], (1, 100));
    cut.release();
    cut.wait_until_finished();
    assert_eq!(bed.balances()[0], (1, 7));
    wait_until_gone(&bed, session);
}

#[scenario]
async fn a_late_statement_is_executed_after_the_time_given() {
    const DELAY: Duration = Duration::from_millis(300);
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let cut = at_update(&proxy, Cut::Late(Until::Passed(DELAY)));
    let started = Instant::now();
    set(&mut conn, 1, 7).await.expect_err("no answer");
    cut.wait_until_finished();
    assert!(started.elapsed() >= DELAY);
    assert_eq!(bed.balances()[0], (1, 7));
}

#[scenario]
async fn in_the_middle_of_a_statement_the_server_has_it_and_the_client_is_gone() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let session = session_id(&mut conn).await;
    let holder = bed.opponent();
    holder.execute("BEGIN; UPDATE accounts SET balance = 50 WHERE id = 1");
    let cut = at_update(&proxy, Cut::MidStatement(Until::Released));
    together(
        async || {
            set(&mut conn, 1, 7).await.expect_err("no answer");
        },
        async || {
            bed.wait_until_blocked(session);
            assert_eq!((cut.reached(), proxy.cuts_made()), (1, 0));
            cut.release();
        },
    )
    .await;
    assert_eq!(proxy.cuts_made(), 1);
    assert!(is_there(&bed, session), "it does not notice");
    holder.execute("COMMIT");
    wait_until_gone(&bed, session);
    assert_eq!(bed.balances()[0], (1, 7));
}

#[scenario]
async fn an_answer_before_the_cut_in_the_middle_does_not_pass_for_one() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let cut = at_update(&proxy, Cut::MidStatement(Until::Released));
    set(&mut conn, 1, 7).await.expect_err("no answer");
    cut.wait_until_finished();
    assert_eq!(proxy.cuts_made(), 0);
    let dropped = std::panic::catch_unwind(move || drop(proxy));
    dropped.expect_err("the test fails");
}

#[scenario]
async fn half_closed_the_client_hears_nothing_and_the_server_executes_it() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let session = session_id(&mut conn).await;
    let cut = at_update(&proxy, Cut::HalfClose);
    set(&mut conn, 1, 7).await.expect_err("no answer");
    assert_eq!((cut.reached(), proxy.cuts_made()), (1, 1));
    eventually("it is executed", || bed.balances()[0] == (1, 7));
    drop(conn);
    cut.wait_until_finished();
    wait_until_gone(&bed, session);
}

#[scenario]
async fn stalled_before_it_is_sent_it_goes_on_unharmed() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let session = session_id(&mut conn).await;
    let cut = at_update(&proxy, Cut::Stall);
    let (updated, ()) = together(
        async || set(&mut conn, 1, 7).await,
        async || {
            cut.wait_until_reached();
            assert!(is_there(&bed, session));
            assert_eq!(bed.balances()[0], (1, 100));
            assert_eq!(cut.finished(), 0);
            proxy.resume();
        },
    )
    .await;
    assert_eq!(updated, Ok(1));
    assert_eq!((cut.finished(), proxy.cuts_made()), (1, 1));
    assert_eq!(bed.balances()[0], (1, 7));
    assert_eq!(set(&mut conn, 1, 8).await, Ok(1));
}

#[scenario]
async fn stalled_before_the_answer_it_is_executed_and_the_client_waits() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let cut = at_update(&proxy, Cut::StallAnswer);
    let is_answered = AtomicBool::new(false);
    let (updated, ()) = together(
        async || {
            let updated = set(&mut conn, 1, 7).await;
            is_answered.store(true, Ordering::Relaxed);
            updated
        },
        async || {
            eventually("it is executed", || bed.balances()[0] == (1, 7));
            assert!(!is_answered.load(Ordering::Relaxed));
            assert_eq!((cut.reached(), cut.finished()), (1, 0));
            proxy.resume();
        },
    )
    .await;
    assert_eq!(updated, Ok(1));
    assert_eq!(balance(&mut conn, 1).await, Ok(7));
}

#[scenario]
async fn a_stalled_connection_ends_with_the_proxy() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let session = session_id(&mut conn).await;
    let cut = at_update(&proxy, Cut::StallAnswer);
    together(
        async || {
            set(&mut conn, 1, 7).await.expect_err("no answer");
        },
        async || {
            cut.wait_until_reached();
            drop(proxy);
            wait_until_gone(&bed, session);
        },
    )
    .await;
}
