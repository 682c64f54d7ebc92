//! A run with settings that is dropped half-way takes its connection along: what a pool hands out
//! next is as fresh as the first one.

use std::time::Duration;

use dbop_diesel_async::{IsolationLevel, Runner};
use dbop_tests::Word;
use dbop_tests::asynchronous::{Moment, depth, dropped_after};
use dbop_tests::session::{Server, Session};
use diesel::QueryResult;
use diesel::sql_query;
use diesel_async::pooled_connection::deadpool;
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};

use super::money::share_out;
use super::pools::Pool as _;
use super::{BACKEND, Bed, Conn, run};

#[test]
fn the_next_session_is_a_fresh_one() {
    run(the_next_checkout_is_as_the_first_one());
}

async fn the_next_checkout_is_as_the_first_one() {
    let bed = Bed::new();
    let pool = deadpool::Pool::<Conn>::of(&bed, 1).await;
    let fresh = session(&mut pool.checkout().await).await;
    let runner = Runner::default()
        .with_default_statement_timeout(Duration::from_secs(50))
        .with_default_isolation(IsolationLevel::Serializable);
    let second = Duration::from_secs(1);
    let mut dropped = 0;
    for operation in [
        runner.operation("defaults"),
        runner
            .operation("everything")
            .best_effort()
            .isolation(IsolationLevel::RepeatableRead)
            .lock_timeout(3 * second)
            .statement_timeout(4 * second)
            .deadline(60 * second),
    ] {
        for moment in Moment::ALL {
            for waits in 1..=8 {
                let mut conn = pool.checkout().await;
                let id = Bed::session_id(&mut conn).await;
                let work = operation.run(&mut conn, share_out::<deadpool::Object<Conn>>);
                let done: Option<QueryResult<()>> = dropped_after(work, waits, moment).await;
                drop(conn);
                let mut next = pool.checkout().await;
                let is_same = Bed::session_id(&mut next).await == id;
                assert_eq!(is_same, done.is_some(), "{waits} {moment:?}");
                let mut changes = fresh.changes(&session(&mut next).await);
                changes.retain(|change| !OF_THE_SESSION.iter().any(|own| change.starts_with(own)));
                assert!(changes.is_empty(), "{waits} {moment:?}: {changes:#?}");
                if done.is_none() {
                    bed.session_ends(id).await;
                    dropped += 1;
                }
            }
        }
    }
    assert!(dropped > 4, "{dropped}");
}

/// What every session of MySQL and MariaDB has of its own.
const OF_THE_SESSION: [&str; 2] = ["pseudo_thread_id", "rand_seed"];

async fn session(conn: &mut deadpool::Object<Conn>) -> Session {
    let server = Server::of(BACKEND);
    let settings: Word = sql_query(server.all_settings())
        .get_result(conn)
        .await
        .expect("an answer");
    let mut session = Session::of(settings.s);
    let is_open = conn.batch_execute(server.probe()).await.is_ok() != server.opens();
    session.add("a transaction is open", &is_open.to_string());
    session.add("Diesel's depth", &format!("{:?}", depth(conn)));
    session
}
