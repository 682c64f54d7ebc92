//! A pool does not hand out a connection again on which a run was dropped half-way.

use dbop_diesel_async::{Runner, SupportedConnection};
use dbop_tests::asynchronous::{Moment, Trace, depth, dropped_after};
use diesel::QueryResult;
use diesel_async::AsyncConnection as _;
use diesel_async::pooled_connection::{bb8, deadpool, mobc};

use super::money::{balance, share_out};
use super::pools::Pool;
use super::{Bed, Conn, Db, run};

#[test]
fn deadpool_hands_out_another_session() {
    run(the_next_checkout_is_another_session::<deadpool::Pool<Conn>>());
}

#[test]
fn bb8_hands_out_another_session() {
    run(the_next_checkout_is_another_session::<bb8::Pool<Conn>>());
}

#[test]
fn mobc_hands_out_another_session() {
    run(the_next_checkout_is_another_session::<mobc::Pool<Conn>>());
}

/// With room for one connection, so that a second one is a new one.
async fn the_next_checkout_is_another_session<P: Pool>() {
    let bed = Bed::new();
    let pool = P::of(&bed, 1).await;
    for moment in Moment::ALL {
        // Where an answer comes so soon that nobody waits for it, it is done early.
        let mut waits = 0;
        let mut dropped = 0;
        while dropped < 10 {
            waits += 1;
            let mut conn = pool.checkout().await;
            let session = Bed::session_id(&mut conn).await;
            let seen = Trace::default();
            conn.set_instrumentation(seen.clone());
            let before = bed.balances();
            let runner = Runner::default();
            let work = runner.run(&mut conn, share_out::<P::Checkout>);
            let done = dropped_after(work, waits, moment).await;
            drop(conn);
            if done.is_some() {
                waits = 0;
                continue;
            }
            dropped += 1;
            let mut next = pool.checkout().await;
            assert_ne!(
                Bed::session_id(&mut next).await,
                session,
                "{waits} {moment:?}"
            );
            assert_eq!(depth(&mut next), Some(0));
            assert_eq!(is_usable(&mut next).await, Ok(()), "{waits} {moment:?}");
            bed.session_ends(session).await;
            let now = bed.balances();
            assert!(now == before || seen.is_committing() && now[0].1 == before[0].1 - 10);
        }
    }
}

async fn is_usable<C: SupportedConnection<Backend = Db>>(conn: &mut C) -> QueryResult<()> {
    let runner = Runner::default();
    runner
        .run(conn, async |conn: &mut C| balance(conn, 1).await)
        .await?;
    Ok(())
}
