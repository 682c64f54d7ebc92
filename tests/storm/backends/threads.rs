//! Clients that are threads, with r2d2.

use std::thread;
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, PooledConnection};
use diesel::result::Error;

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
    let room = u32::try_from(clients)?;
    let pool = Pool::builder()
        .max_size(room)
        .min_idle(Some(room))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_on_check_out(false)
        .connection_customizer(Box::new(Session(session.into())))
        .build(ConnectionManager::new(url))?;
    Ok(Box::new(Threads(pool)))
}

struct Threads(Pool);

impl Crew for Threads {
    fn set_to_work(&self, way: Way, end: Instant, clients: Vec<Client>) -> Outcome<()> {
        let runner = runner(way).with_clock(UntilTheEnd(end).shared());
        for client in clients {
            let (runner, pool) = (runner.clone(), self.0.clone());
            thread::Builder::new().spawn(move || work(client, runner, pool))?;
        }
        Ok(())
    }
}

/// What a session is told first.
#[derive(Debug)]
struct Session(String);

impl CustomizeConnection<Conn, diesel::r2d2::Error> for Session {
    fn on_acquire(&self, conn: &mut Conn) -> Result<(), diesel::r2d2::Error> {
        conn.batch_execute(&self.0)
            .map_err(diesel::r2d2::Error::QueryError)
    }
}

pub(super) fn checkout(pool: &Pool) -> QueryResult<PooledConnection<ConnectionManager<Conn>>> {
    pool.get()
        .map_err(|error| Error::QueryBuilderError(Box::new(error)))
}

pub(super) fn pause(pause: Duration) {
    thread::sleep(pause);
}
