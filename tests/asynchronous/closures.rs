//! What can be an operation: closures that borrow, closures that own, functions, nested runs, on a
//! connection of a known or of any type; in spawned tasks and web handlers, whose futures have to
//! be `Send` and, spawned, own everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use dbop_diesel_async::{RetryPolicy, Runner, SupportedConnection};
use dbop_tests::Again;
use dbop_tests::asynchronous::http;
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::AsyncConnection as _;
use diesel_async::pooled_connection::{bb8, deadpool};

use super::money::{add, balance, share_out};
use super::pools::Pool;
use super::{Bed, Conn, run};

fn thrice() -> Runner {
    let policy = RetryPolicy::new().with_max_retries(2);
    Runner::new(policy.with_initial_delay(Duration::ZERO))
}

#[test]
fn a_closure_that_borrows() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let amounts = vec![1, 2, 3];
        let name = String::from("three");
        let attempts = AtomicU32::new(0);
        let length = thrice()
            .run(&mut conn, async |conn| {
                for (id, amount) in (1..).zip(&amounts) {
                    add(conn, id, *amount).await?;
                }
                if attempts.fetch_add(1, Ordering::Relaxed) < 2 {
                    return Err(Again);
                }
                Ok(name.len())
            })
            .await;
        assert_eq!(length, Ok(5));
        assert_eq!((amounts.len(), name.as_str()), (3, "three"), "still here");
        assert_eq!(bed.balances(), [(1, 101), (2, 102), (3, 103)]);
    });
}

#[test]
fn a_closure_that_owns_starts_every_attempt_with_the_same() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let mut amounts = vec![1, 2, 3];
        let attempts = Arc::new(AtomicU32::new(0));
        let counter = attempts.clone();
        let length = thrice()
            .run(&mut conn, async move |conn| {
                let before = amounts.len();
                amounts.push(4);
                for (id, amount) in (1..).zip(&amounts) {
                    add(conn, id, *amount).await?;
                }
                if counter.fetch_add(1, Ordering::Relaxed) < 2 {
                    return Err(Again);
                }
                Ok(before)
            })
            .await;
        assert_eq!(length, Ok(3));
        assert_eq!(attempts.fetch_add(0, Ordering::Relaxed), 3);
        assert_eq!(bed.balances(), [(1, 101), (2, 102), (3, 103)]);
    });
}

#[test]
fn a_plain_async_function() {
    async fn plain(conn: &mut Conn) -> QueryResult<i64> {
        add(conn, 1, 1).await?;
        balance(conn, 1).await
    }

    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        assert_eq!(Runner::default().run(&mut conn, plain).await, Ok(101));
        let report = Runner::default().run_report(&mut conn, plain).await;
        assert_eq!(report.result, Ok(102));
        let runner = Runner::default();
        let named = runner.operation("plain").run(&mut conn, plain).await;
        assert_eq!(named, Ok(103));
        let lenient = runner.operation("plain").fallback(0);
        assert_eq!(lenient.run(&mut conn, plain).await, Ok(104));
    });
}

#[test]
fn nested_runs_that_borrow_from_all_around_them() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let runner = Runner::default();
        let one = 1;
        let seen = runner
            .run(&mut conn, async |conn: &mut Conn| {
                let two = one + 1;
                let in_between: QueryResult<i64> = conn
                    .transaction(async |conn: &mut Conn| {
                        runner
                            .run(conn, async |conn: &mut Conn| {
                                add(conn, one, i64::from(two)).await?;
                                balance(conn, one).await
                            })
                            .await
                    })
                    .await;
                in_between
            })
            .await;
        assert_eq!(seen, Ok(102));
        assert_eq!(bed.balances()[0], (1, 102));
    });
}

/// Of an application that does not care which database it has.
async fn on_any_connection<C: SupportedConnection>(
    runner: &Runner,
    conn: &mut C,
    statements: &[&str],
) -> QueryResult<usize> {
    runner
        .run(conn, async |conn: &mut C| {
            for statement in statements {
                runner
                    .run(conn, async |conn: &mut C| {
                        conn.batch_execute(statement).await
                    })
                    .await?;
            }
            Ok(statements.len())
        })
        .await
}

#[test]
fn code_for_any_connection() {
    run(async {
        let bed = Bed::new();
        let runner = Runner::default();
        let statement = "UPDATE accounts SET balance = balance + 1";
        let twice = [statement; 2];
        let mut conn = bed.connect().await;
        assert_eq!(on_any_connection(&runner, &mut conn, &twice).await, Ok(2));
        let mut conn = deadpool::Pool::of(&bed, 1).await.checkout().await;
        assert_eq!(on_any_connection(&runner, &mut conn, &twice).await, Ok(2));
        let mut conn = bb8::Pool::of(&bed, 1).await.checkout().await;
        assert_eq!(on_any_connection(&runner, &mut conn, &twice).await, Ok(2));
        drop(conn);
        assert_eq!(bed.balances(), [(1, 106), (2, 106), (3, 106)]);
    });
}

#[test]
fn spawned_tasks_of_any_kind() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let runner = Arc::new(Runner::default());
        let amount = String::from("5");
        let task = {
            let runner = runner.clone();
            tokio::spawn(async move {
                let result: Result<i64, Box<dyn std::error::Error + Send + Sync>> = runner
                    .run(&mut conn, async |conn| {
                        add(conn, 1, amount.parse()?).await?;
                        Ok(balance(conn, 1).await?)
                    })
                    .await;
                (result.expect("committed"), conn)
            })
        };
        let (seen, mut conn) = task.await.expect("no panic");
        assert_eq!(seen, 105);
        let task = tokio::spawn(async move { runner.run(&mut conn, share_out::<Conn>).await });
        assert_eq!(task.await.expect("no panic"), Ok(()));
        assert_eq!(bed.balances(), [(1, 95), (2, 104), (3, 106)]);
    });
}

#[derive(Clone)]
struct App {
    runner: Runner,
    pool: deadpool::Pool<Conn>,
}

async fn deposit(
    State(app): State<App>,
    Path((id, amount)): Path<(i32, i64)>,
) -> Result<String, StatusCode> {
    let mut conn = app
        .pool
        .get()
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let name = format!("deposit {amount}");
    let now = app
        .runner
        .operation(&name)
        .run(&mut conn, async |conn| {
            if add(conn, id, amount).await? == 0 {
                return Err(Error::NotFound);
            }
            balance(conn, id).await
        })
        .await;
    match now {
        Ok(now) => Ok(now.to_string()),
        Err(Error::NotFound) => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

#[test]
fn handlers_of_axum() {
    run(async {
        let bed = Bed::new();
        let app = App {
            runner: Runner::default(),
            pool: deadpool::Pool::of(&bed, 2).await,
        };
        let routes = Router::new().route("/{id}/{amount}", post(deposit));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes.with_state(app)).await });
        let answer = http(address, "POST /2/7", &[], "")
            .await
            .expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "107"));
        let answer = http(address, "POST /9/7", &[], "")
            .await
            .expect("an answer");
        assert_eq!(answer.status, 404);
        assert_eq!(bed.balances()[1], (2, 107));
    });
}
