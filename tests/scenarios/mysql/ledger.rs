//! The ledger finds out what nobody else can: that the operation had committed implicitly, with or
//! without the rest of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dbop_diesel::{Jitter, Ledger, Outcome, Report, RetryPolicy, StopReason};
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use dbop_tests::{InstantClock, Meanwhile, blocking, eventually, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;

use super::commit::ledger::with_table;
use super::commit::question::{question_about, rows_written, session_id};
use super::money::add;
use super::steps::number;
use super::{Conn, Connection as _, Runner, SimpleConnection as _, helper, scenario};

/// What TRUNCATE, between the two halves of the work, commits with the token.
const HALF: [(i32, i64); 3] = [(1, 110), (2, 100), (3, 100)];
const WHOLE: [(i32, i64); 3] = [(1, 110), (2, 110), (3, 100)];

/// Two halves, with something between them, while a cut comes down. What is there in the end?
#[helper]
async fn work(
    between: Option<&str>,
    when: When,
    cut: Cut,
    language: &str,
) -> (Report<usize, Error>, Vec<(i32, i64)>) {
    let bed = with_table().await;
    let mut conn = bed.connect();
    conn.batch_execute("CREATE TABLE other (n INT)")
        .await
        .expect("a table");
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(when, cut);
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("in halves")
        .ledger(&ledger)
        .run_on_report(
            &async || {
                let mut conn = Conn::establish(proxy.url()).await?;
                let speak = format!("SET lc_messages = '{language}'");
                conn.batch_execute(&speak).await.expect("a language");
                diesel::ConnectionResult::Ok(conn)
            },
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await?;
                if let Some(sql) = between {
                    conn.batch_execute(sql).await?;
                }
                add(conn, 2, 10).await
            },
        )
        .await;
    assert_eq!(bodies.into_inner(), 1, "not done again");
    (report, bed.balances())
}

fn assert_unknown((report, balances): &(Report<usize, Error>, Vec<(i32, i64)>)) {
    let error = report.result.as_ref().expect_err("half of it is there");
    assert!(is_unknown(error), "{error}");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!(*balances, HALF);
}

const TRUNCATE: Option<&str> = Some("TRUNCATE other");

/// The connection is lost long before COMMIT.
#[scenario]
async fn what_was_committed_implicitly_and_then_lost_is_not_called_undone() {
    let second = When::statement("UPDATE").nth(2);
    assert_unknown(&work(TRUNCATE, second, Cut::BeforeSent, "en_US").await);
}

/// The answer to COMMIT is lost, which the server has refused: the token is there, and the second
/// half is not.
#[scenario]
async fn what_was_committed_implicitly_is_not_the_whole() {
    for cut in [Cut::AnswerLost, Cut::BeforeSent] {
        assert_unknown(&work(TRUNCATE, When::commit(), cut, "en_US").await);
    }
}

/// That the token is there is recognised in every language.
#[scenario]
async fn whatever_language_the_server_speaks() {
    for language in ["de_DE", "fr_FR", "ja_JP", "ru_RU", "el_GR"] {
        let second = When::statement("UPDATE").nth(2);
        assert_unknown(&work(TRUNCATE, second, Cut::BeforeSent, language).await);
        let (report, balances) = work(None, When::commit(), Cut::AnswerLost, language).await;
        assert_eq!(report.outcome, Outcome::Committed, "{language}");
        assert_eq!(balances, WHOLE);
    }
}

/// Several that wait for a row which is then rolled back are a deadlock to InnoDB: all but one are told so.
/// Whichever that is, it is no answer.
#[scenario]
async fn a_deadlock_of_two_askers_is_no_answer() {
    let bed = Arc::new(with_table().await);
    let proxy = Arc::new(Proxy::start(bed.url()));
    let cut = proxy.cut(When::commit(), Cut::Late(Until::Released));
    let sessions = Arc::new(Mutex::new(Vec::<i64>::new()));
    let meanwhile = Arc::new(Mutex::new(None));
    let clock = {
        let (bed, proxy) = (Arc::clone(&bed), Arc::clone(&proxy));
        let (sessions, meanwhile) = (Arc::clone(&sessions), Arc::clone(&meanwhile));
        Meanwhile::new(move |sleep| {
            if sleep > 1 {
                return;
            }
            let other = bed.opponent();
            let question = question_about(&rows_written(&proxy)[0]);
            let (bed, sessions) = (Arc::clone(&bed), Arc::clone(&sessions));
            let askers = thread::spawn(move || {
                let session =
                    |number: usize| sessions.lock().expect("no panic").get(number).copied();
                eventually("it is asked", || session(1).is_some());
                bed.wait_until_blocked(session(1).expect("the asker"));
                other.start(&format!("START TRANSACTION; {question}"));
                bed.wait_until_blocked(other.id());
                bed.kill(session(0).expect("the attempt"));
                let is_deadlock = other.finish().is_err();
                other.execute("COMMIT");
                is_deadlock
            });
            *meanwhile.lock().expect("no panic") = Some(askers);
        })
    };
    let (ledger, bodies) = (Ledger::new(), AtomicU32::new(0));
    let source = async || {
        let mut conn = Conn::establish(proxy.url()).await?;
        let id = session_id(&mut conn).await.expect("an id");
        sessions.lock().expect("no panic").push(id);
        diesel::ConnectionResult::Ok(conn)
    };
    let body = async |conn: &mut Conn| {
        bodies.fetch_add(1, Ordering::Relaxed);
        add(conn, 1, 10).await
    };
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("pay")
        .lock_timeout(Duration::from_secs(20))
        .ledger(&ledger)
        .run_on_report(&source, body)
        .await;
    let askers = meanwhile.lock().expect("no panic").take();
    let other_deadlocked = blocking(|| askers.expect("begun").join()).expect("no panic");
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let slept = clock.slept().len();
    assert_eq!(
        slept,
        if other_deadlocked { 1 } else { 2 },
        "one of the two"
    );
    cut.release();
    blocking(|| cut.wait_until_finished());
    assert_eq!(bed.balances()[0], (1, 110));
}

/// It fails behind the SET that keeps the session's values, so that the rollback has something to put back.
/// The connection is used again.
#[scenario]
async fn a_deletion_of_tokens_that_fails_leaves_the_session_as_it_was() {
    let bed = with_table().await;
    let (ledger, connections) = (Ledger::new(), AtomicU32::new(0));
    let source = async || {
        connections.fetch_add(1, Ordering::Relaxed);
        let mut conn = Conn::establish(bed.url()).await?;
        let set = conn.batch_execute("SET innodb_lock_wait_timeout=3").await;
        set.expect("a variable");
        diesel::ConnectionResult::Ok(conn)
    };
    for _ in 0..64 {
        let paid = Runner::default()
            .operation("pay")
            .ledger(&ledger)
            .run_on(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        assert_eq!(paid, Ok(1));
    }
    let other = bed.opponent();
    other.execute("BEGIN; UPDATE dbop_ledger SET state = 0 LIMIT 1");
    let clock = Meanwhile::new(move |_| other.execute("ROLLBACK"));
    // A connection is not given back for so short a delay.
    let policy = RetryPolicy::new()
        .with_initial_delay(Duration::from_millis(1))
        .with_jitter(Jitter::None);
    let report = Runner::new(policy)
        .with_clock(clock)
        .operation("look")
        .lock_timeout(Duration::from_secs(1))
        .ledger(&ledger)
        .run_on_report(&source, async |conn: &mut Conn| {
            let inside = number(conn, "@@innodb_lock_wait_timeout").await;
            QueryResult::Ok([inside, number(conn, "@dbop_lock").await])
        })
        .await;
    assert_eq!(report.result, Ok([1, 3]), "in it, and to be put back");
    assert_eq!(report.attempts, 2);
    assert_eq!(connections.load(Ordering::Relaxed), 64 + 1);
    let left = number(&mut bed.connect(), "(SELECT count(*) FROM dbop_ledger)").await;
    assert_eq!(left, 1, "its own");
}
