//! Clients that are tasks, with deadpool.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection as _, SimpleAsyncConnection as _};
use tokio::runtime::{Builder, Runtime};

use super::runners::runner;
use super::work::work;
use super::{Conn, Pool};
use crate::storm::Outcome;
use crate::storm::backends::Crew;
use crate::storm::client::{Client, UntilTheEnd};
use crate::storm::policies::Way;

pub(in super::super::super) fn crew(
    url: &str,
    session: &str,
    clients: usize,
) -> Outcome<Box<dyn Crew>> {
    let session = session.to_owned();
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |url| {
        let (url, session) = (url.to_owned(), session.clone());
        Box::pin(async move {
            let mut conn = Conn::establish(&url).await?;
            let told = conn.batch_execute(&session).await;
            told.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        })
    });
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    let pool = Pool::builder(manager).max_size(clients).build()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fill(&pool, clients))?;
    Ok(Box::new(Tasks { runtime, pool }))
}

/// All connections are there before the clients begin.
pub(super) async fn fill(pool: &Pool, clients: usize) -> QueryResult<()> {
    let mut conns = Vec::new();
    for _ in 0..clients {
        conns.push(checkout(pool).await?);
    }
    Ok(())
}

struct Tasks {
    runtime: Runtime,
    pool: Pool,
}

impl Crew for Tasks {
    fn set_to_work(&self, way: Way, end: Instant, clients: Vec<Client>) -> Outcome<()> {
        let runner = runner(way).with_clock(UntilTheEnd(end).shared());
        for client in clients {
            self.runtime
                .spawn(work(client, runner.clone(), self.pool.clone()));
        }
        Ok(())
    }
}

pub(super) async fn checkout(pool: &Pool) -> QueryResult<Object<Conn>> {
    pool.get()
        .await
        .map_err(|error| Error::QueryBuilderError(Box::new(error)))
}

pub(super) async fn pause(pause: Duration) {
    tokio::time::sleep(pause).await;
}
