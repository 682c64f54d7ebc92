//! A web service on actix-web, with bb8 and PostgreSQL. It counts visits.
//!
//! ```text
//! export DATABASE_URL=postgres://user@localhost/visits
//! cargo run -p dbop-diesel-async --features postgres,bb8 --example actix
//! curl -X POST localhost:3000/visits/home
//! ```
//!
//! `LISTEN` is the address to listen on.

#![allow(clippy::print_stdout, reason = "a program that says where it listens")]
#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use dbop_diesel_async::{OperationError, Runner};
use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

diesel::table! {
    visits (page) {
        page -> Text,
        number -> BigInt,
    }
}

struct Service {
    runner: Runner,
    pool: Pool<AsyncPgConnection>,
}

/// The operation. It can run several times, so it does nothing but talk to the database.
async fn count(conn: &mut AsyncPgConnection, page: &str) -> QueryResult<i64> {
    diesel::insert_into(visits::table)
        .values((visits::page.eq(page), visits::number.eq(1)))
        .on_conflict(visits::page)
        .do_update()
        .set(visits::number.eq(visits::number + 1))
        .returning(visits::number)
        .get_result(conn)
        .await
}

async fn visit(service: web::Data<Service>, page: web::Path<String>) -> HttpResponse {
    let operation = service
        .runner
        .operation("visit")
        .deadline(Duration::from_secs(5));
    let work = operation.run_on(&service.pool, async |conn| count(conn, &page).await);
    match work.await {
        Ok(number) => HttpResponse::Ok().body(number.to_string()),
        // COMMIT was sent and its answer lost: perhaps counted.
        Err(error)
            if error
                .dbop_error()
                .is_some_and(|own| own.is_outcome_unknown()) =>
        {
            HttpResponse::GatewayTimeout().finish()
        }
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

/// bb8 keeps trying to connect for as long as it waits for a connection, so it must not wait long.
fn pool(url: &str) -> Pool<AsyncPgConnection> {
    Pool::builder()
        .max_size(4)
        .connection_timeout(Duration::from_secs(2))
        .build_unchecked(AsyncDieselConnectionManager::new(url))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL")?;
    let runner = Runner::default();
    let table = "CREATE TABLE IF NOT EXISTS visits (page TEXT PRIMARY KEY, number BIGINT NOT NULL)";
    runner
        .run_on(&pool(&url), async |conn| conn.batch_execute(table).await)
        .await?;

    // Each worker has a runtime of one thread, and a pool of its own: the runtime that opens a connection
    // also drives it.
    let app = move || {
        let service = Service {
            runner: runner.clone(),
            pool: pool(&url),
        };
        App::new()
            .app_data(web::Data::new(service))
            .route("/visits/{page}", web::post().to(visit))
    };
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".into());
    let server = HttpServer::new(app).workers(2).bind(listen)?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await?;
    Ok(())
}
