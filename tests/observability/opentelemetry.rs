//! A service whose spans go to OpenTelemetry: a transfer that meets a lock, and what is to be seen of it.
//!
//! ```sh
//! cargo run -p dbop-observability --features sqlite --bin opentelemetry
//! ```
//!
//! Its exporter prints the spans. A real service takes the one of `opentelemetry-otlp`, in batches.

#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::time::Duration;

use dbop_diesel_async::{Jitter, RetryPolicy, Runner};
use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Instrument as _, info_span};
use tracing_subscriber::layer::SubscriberExt as _;

type Conn = SyncConnectionWrapper<SqliteConnection>;

diesel::table! {
    accounts (id) {
        id -> Integer,
        balance -> BigInt,
    }
}

fn install() -> Result<SdkTracerProvider, Box<dyn Error>> {
    let resource = Resource::builder().with_service_name("bank").build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bank"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    Ok(provider)
}

async fn transfer(conn: &mut Conn) -> QueryResult<usize> {
    let withdraw = accounts::balance.eq(accounts::balance - 10);
    diesel::update(accounts::table.find(1))
        .set(withdraw)
        .execute(conn)
        .instrument(info_span!("withdraw"))
        .await?;
    let deposit = accounts::balance.eq(accounts::balance + 10);
    diesel::update(accounts::table.find(2))
        .set(deposit)
        .execute(conn)
        .instrument(info_span!("deposit"))
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let provider = install()?;
    let runner = Runner::new(RetryPolicy::new().with_jitter(Jitter::None));

    let folder = tempfile::tempdir()?;
    let url = folder.path().join("bank.db");
    let url = url.to_str().ok_or("a path in UTF-8")?.to_owned();
    let manager = AsyncDieselConnectionManager::<Conn>::new(&url);
    let pool = Pool::builder(manager).max_size(2).build()?;
    let create = async |conn: &mut Conn| {
        conn.batch_execute(
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
             INSERT INTO accounts VALUES (1, 100), (2, 0)",
        )
        .await
    };
    runner.operation("create").run_on(&pool, create).await?;

    // Another program holds the write lock for a moment.
    let mut other = Conn::establish(&url).await?;
    other.batch_execute("BEGIN IMMEDIATE").await?;
    let other = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        other.batch_execute("COMMIT").await
    });
    // The span of a request, in which the operation's is.
    let request = info_span!("POST /transfers", "otel.kind" = "server");
    let transfer = runner.operation("transfer").run_on(&pool, transfer);
    transfer.instrument(request).await?;
    other.await??;

    provider.shutdown()?;
    Ok(())
}
