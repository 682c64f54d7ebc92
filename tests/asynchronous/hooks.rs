//! A run that is dropped calls no hook, even if its COMMIT was sent, and keeps none. Dropped while it
//! waits for a hook, it calls no further one, and its connection can be used.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dbop_diesel_async::{Runner, after_commit, after_commit_sync};
use dbop_tests::Said;
use dbop_tests::asynchronous::{Moment, dropped_after, dropped_when, refuses};
use diesel::QueryResult;

use super::money::add;
use super::{Bed, Conn, run};

/// The step's hook waits for the outermost operation.
async fn pay(conn: &mut Conn, said: &Said) -> QueryResult<()> {
    let runner = Runner::default();
    runner
        .run(conn, async |conn: &mut Conn| {
            add(conn, 1, -10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    let said = said.clone();
                    after_commit(conn, async move || said.say("paid"))?;
                    add(conn, 2, 10).await
                })
                .await?;
            Ok(())
        })
        .await
}

#[test]
fn dropped_at_any_await_point_none_is_called() {
    run(async {
        let bed = Bed::new();
        for moment in Moment::ALL {
            // Some answers come so soon that the run does not wait for them.
            let mut most = 0;
            for _ in 0..20 {
                most = at_every_await_point(&bed, moment).await.max(most);
            }
            assert!(most >= 4, "{moment:?} {most}");
        }
    });
}

/// Returns how often it was dropped.
async fn at_every_await_point(bed: &Bed, moment: Moment) -> u32 {
    let mut dropped = 0;
    loop {
        let mut conn = bed.connect().await;
        let said = Said::new();
        let done = dropped_after(pay(&mut conn, &said), dropped + 1, moment).await;
        assert_eq!(said.holders(), 0, "{moment:?} {dropped}");
        if let Some(result) = done {
            assert_eq!((result, said.all()), (Ok(()), vec!["paid".to_owned()]));
            return dropped;
        }
        assert_eq!(said.all(), [""; 0], "{moment:?} {dropped}");
        dropped += 1;
    }
}

#[test]
fn dropped_while_a_hook_is_awaited_it_calls_no_further_one() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let said = Said::new();
        let waits = Arc::new(AtomicBool::new(false));
        let runner = Runner::default();
        let work = runner.run(&mut conn, async |conn: &mut Conn| {
            let (first, second, waits) = (said.clone(), said.clone(), Arc::clone(&waits));
            after_commit(conn, async move || {
                first.say("first");
                waits.store(true, Ordering::Relaxed);
                pending().await
            })?;
            after_commit_sync(conn, move || second.say("second"))?;
            add(conn, 1, 1).await
        });
        let is_waiting = || waits.load(Ordering::Relaxed);
        let never = dropped_when(work, Moment::UnderWay, is_waiting).await;
        assert!(never.is_none());
        assert_eq!((said.all(), said.holders()), (vec!["first".to_owned()], 0));
        assert_eq!(bed.balances()[0], (1, 101), "committed");
        assert!(!refuses(&mut conn));
        let next = runner
            .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
            .await;
        assert_eq!(next, Ok(1));
    });
}

#[test]
fn hooks_are_awaited_one_after_the_other() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let said = Said::new();
        let result = Runner::default()
            .run(&mut conn, async |conn: &mut Conn| {
                for name in ["first", "second"] {
                    let said = said.clone();
                    after_commit(conn, async move || {
                        said.say(format!("{name} begins"));
                        tokio::task::yield_now().await;
                        said.say(format!("{name} ends"));
                    })?;
                }
                let said = said.clone();
                after_commit_sync(conn, move || said.say("third"))?;
                add(conn, 1, 1).await
            })
            .await;
        assert_eq!(result, Ok(1));
        let expected = [
            "first begins",
            "first ends",
            "second begins",
            "second ends",
            "third",
        ];
        assert_eq!(said.all(), expected);
    });
}
