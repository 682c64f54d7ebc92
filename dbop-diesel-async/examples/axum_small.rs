//! A small web service, which counts visits. The example `axum` shows what a larger one needs: a deadline
//! that the client names, an answer for each kind of error, a graceful stop.
//!
//! ```text
//! cargo run -p dbop-diesel-async --features sqlite,deadpool --example axum_small
//! curl -X POST localhost:3000/visits/home
//! ```
//!
//! `DATABASE_URL` is its file, `visits.db` by default, and `LISTEN` the address to listen on.

#![allow(clippy::print_stdout, reason = "a program that says where it listens")]
#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use dbop_diesel_async::Runner;
use diesel::ConnectionError::CouldntSetupConfiguration;
use diesel::prelude::*;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

diesel::table! {
    visits (page) {
        page -> Text,
        number -> BigInt,
    }
}

type Conn = SyncConnectionWrapper<SqliteConnection>; // or AsyncPgConnection, AsyncMysqlConnection

/// Writers wait for each other, and readers do not wait. A server needs neither.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL";

#[derive(Clone)]
struct App {
    runner: Runner,
    pool: Pool<Conn>,
}

/// The operation. It can run several times, so it does nothing but talk to the database.
async fn count(conn: &mut Conn, page: &str) -> QueryResult<i64> {
    diesel::insert_or_ignore_into(visits::table)
        .values((visits::page.eq(page), visits::number.eq(0)))
        .execute(conn)
        .await?;
    let visit = visits::table.find(page);
    let one_more = visits::number.eq(visits::number + 1);
    diesel::update(visit).set(one_more).execute(conn).await?;
    visit.select(visits::number).first(conn).await
}

async fn visit(State(app): State<App>, Path(page): Path<String>) -> Result<String, StatusCode> {
    let operation = app
        .runner
        .operation("visit")
        .deadline(Duration::from_secs(5));
    let work = operation.run_on(&app.pool, async |conn| count(conn, &page).await);
    // dbop has logged the error, and has retried what could be retried.
    work.await
        .map(|number| number.to_string())
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

/// Sets the pragmas on each connection that it opens.
fn manager(file: String) -> AsyncDieselConnectionManager<Conn> {
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(|file| {
        let file = file.to_owned();
        Box::pin(async move {
            let mut conn = Conn::establish(&file).await?;
            let set = conn.batch_execute(PRAGMAS).await;
            set.map_err(CouldntSetupConfiguration).map(|()| conn)
        })
    });
    AsyncDieselConnectionManager::new_with_config(file, config)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::var("DATABASE_URL").unwrap_or_else(|_| "visits.db".into());
    let pool = Pool::builder(manager(file)).build()?;
    let table = "CREATE TABLE IF NOT EXISTS visits (page TEXT PRIMARY KEY, number BIGINT NOT NULL)";
    let runner = Runner::default();
    runner
        .run_on(&pool, async |conn| conn.batch_execute(table).await)
        .await?;

    let routes = Router::new().route("/visits/{page}", post(visit));
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, routes.with_state(App { runner, pool })).await?;
    Ok(())
}
