//! Clients that are tasks, with deadpool.

use std::sync::Arc;

use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::pooled_connection::{ManagerConfig, RecyclingMethod};
use tokio::runtime::{Builder, Runtime};

use super::work::{self, Tools, work};
use super::{AsyncDieselConnectionManager, Conn, Pool, SimpleConnection as _, Start};
use crate::bench::backends::{Crew, FIRST_ROW, Setup, joined};
use crate::bench::cases::What;
use crate::bench::compare::Block;
use crate::bench::options::Bound;
use crate::storm::Outcome;

pub(in super::super::super) fn crew(
    url: &str,
    setup: Setup,
    connections: u32,
) -> Outcome<Box<dyn Crew>> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    let room = usize::try_from(connections)?;
    let pool = Pool::builder(manager).max_size(room).build()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(set_up(&pool, setup, connections))?;
    Ok(Box::new(Tasks {
        runtime,
        pool,
        tools: Tools::new(),
        connections,
    }))
}

async fn set_up(pool: &Pool, setup: Setup, connections: u32) -> QueryResult<()> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut conn = checkout(pool).await?;
        if !setup.session.is_empty() {
            conn.batch_execute(&setup.session).await?;
        }
        held.push(conn);
    }
    let ground = joined(&setup.ground, &work::ledger_table());
    if let (Some(conn), false) = (held.first_mut(), ground.is_empty()) {
        conn.batch_execute(&ground).await?;
    }
    Ok(())
}

struct Tasks {
    runtime: Runtime,
    pool: Pool,
    tools: Tools,
    connections: u32,
}

impl Crew for Tasks {
    fn work(&self, what: What, bound: Bound) -> Outcome<Block> {
        let clients = usize::try_from(self.connections)?;
        let start = Arc::new(Start::new(clients));
        let mut tasks = Vec::new();
        for row in (FIRST_ROW..).take(clients) {
            let (pool, tools) = (self.pool.clone(), self.tools.clone());
            let client = work(pool, tools, what, row, bound, Arc::clone(&start));
            tasks.push(self.runtime.spawn(client));
        }
        self.runtime.block_on(async {
            let mut shifts = Vec::new();
            for task in tasks {
                shifts.push(task.await??);
            }
            Ok(Block::of(&shifts))
        })
    }
}

pub(super) async fn checkout(pool: &Pool) -> QueryResult<Object<Conn>> {
    pool.get()
        .await
        .map_err(|error| Error::QueryBuilderError(Box::new(error)))
}
