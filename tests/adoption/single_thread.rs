//! A service whose tasks stay on one thread, as with actix: its state is in an `Rc`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use dbop_diesel_async::Report;
use dbop_tests::TestPool as _;
use dbop_tests::asynchronous::on_current_thread;
use diesel::QueryResult;
use diesel::result::DatabaseErrorKind::UniqueViolation;
use diesel::result::Error;
use diesel_async::pooled_connection::deadpool::Pool;
use tokio::task::{LocalSet, spawn_local};

use super::locked::Locked;
use super::money::{add, insert};
use super::{Bed, Conn, Runner};

struct State {
    runner: Runner,
    pool: Pool<Conn>,
    steps: Cell<u32>,
}

impl State {
    fn count(&self) {
        self.steps.set(self.steps.get() + 1);
    }
}

/// Each attempt has the state across its queries, and so does the step nested in it.
async fn pay(state: Rc<State>) -> Report<usize, Error> {
    let paying = state.runner.operation("pay");
    paying
        .run_on_local_report(&state.pool, async |conn: &mut Conn| {
            let state = Rc::clone(&state);
            state.count();
            add(conn, 1, -10).await?;
            state.count();
            let crediting = state.runner.operation("credit");
            crediting
                .run_local(conn, async |conn: &mut Conn| {
                    let credited = add(conn, 2, 10).await?;
                    state.count();
                    Ok(credited)
                })
                .await
        })
        .await
}

async fn open(state: Rc<State>, account: Rc<i32>) -> QueryResult<usize> {
    let opening = state.runner.operation("open");
    let open = async |conn: &mut Conn| {
        state.count();
        insert(conn, *account).await
    };
    opening.run_on_local(&state.pool, open).await
}

#[test]
fn a_busy_lock_is_retried_and_a_duplicate_is_not() {
    on_current_thread(LocalSet::new().run_until(async {
        let bed = Bed::new();
        let locked = Locked::new(&bed);
        let state = Rc::new(State {
            runner: locked.runner(),
            pool: Pool::of(bed.url(), 1, Duration::from_secs(10)),
            steps: Cell::new(0),
        });
        let paid = spawn_local(pay(Rc::clone(&state)));
        let paid = paid.await.expect("no panic");
        assert_eq!((paid.result, paid.failures.len()), (Ok(1), 1));
        // The first attempt met the lock in its first query.
        assert_eq!((locked.attempts(), state.steps.take()), (2, 4));
        assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);

        let opened = spawn_local(open(Rc::clone(&state), Rc::new(1)));
        let error = opened.await.expect("no panic").expect_err("there is one");
        assert!(matches!(error, Error::DatabaseError(UniqueViolation, _)));
        assert_eq!((locked.attempts(), state.steps.get()), (1, 1));
    }));
}

/// A task that is dropped leaves nothing, here as with futures that are `Send`.
#[test]
fn what_is_cancelled_between_two_queries_leaves_nothing() {
    on_current_thread(LocalSet::new().run_until(async {
        let bed = Bed::new();
        let pool = Pool::of(bed.url(), 1, Duration::from_secs(10));
        let runner = Runner::default();
        let half = Rc::new(tokio::sync::Notify::new());
        let paying = runner.operation("pay");
        let pay = async |conn: &mut Conn| {
            add(conn, 1, -10).await?;
            half.notify_one();
            std::future::pending::<()>().await;
            add(conn, 2, 10).await
        };
        tokio::select! {
            paid = paying.run_on_local(&pool, pay) => panic!("{paid:?}"),
            () = half.notified() => {}
        }
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        assert_eq!(
            pool.connections(),
            0,
            "a connection left half-way is closed"
        );
    }));
}
