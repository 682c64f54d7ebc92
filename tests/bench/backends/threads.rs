//! Clients that are threads, with r2d2.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dbop_tests::TestPool as _;
use diesel::QueryResult;
use diesel::r2d2::{ConnectionManager, PooledConnection};
use diesel::result::Error;

use super::work::{self, Tools, work};
use super::{Conn, Pool, SimpleConnection as _, Start};
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
    let pool = Pool::of(url, connections, Duration::from_secs(30));
    let held = (0..connections).map(|_| checkout(&pool));
    let mut held = held.collect::<QueryResult<Vec<_>>>()?;
    for conn in &mut held {
        if !setup.session.is_empty() {
            conn.batch_execute(&setup.session)?;
        }
    }
    let ground = joined(&setup.ground, &work::ledger_table());
    if let (Some(conn), false) = (held.first_mut(), ground.is_empty()) {
        conn.batch_execute(&ground)?;
    }
    drop(held);
    Ok(Box::new(Threads {
        pool,
        tools: Tools::new(),
        connections,
    }))
}

struct Threads {
    pool: Pool,
    tools: Tools,
    connections: u32,
}

impl Crew for Threads {
    fn work(&self, what: What, bound: Bound) -> Outcome<Block> {
        let clients = usize::try_from(self.connections)?;
        let start = Arc::new(Start::new(clients));
        let mut threads = Vec::new();
        for row in (FIRST_ROW..).take(clients) {
            let (pool, tools) = (self.pool.clone(), self.tools.clone());
            let start = Arc::clone(&start);
            let client = move || work(pool, tools, what, row, bound, start);
            threads.push(thread::Builder::new().spawn(client)?);
        }
        let mut shifts = Vec::new();
        for thread in threads {
            shifts.push(thread.join().map_err(|_| "a client has panicked")??);
        }
        Ok(Block::of(&shifts))
    }
}

pub(super) fn checkout(pool: &Pool) -> QueryResult<PooledConnection<ConnectionManager<Conn>>> {
    pool.get()
        .map_err(|error| Error::QueryBuilderError(Box::new(error)))
}
