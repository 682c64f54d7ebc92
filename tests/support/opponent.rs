use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use diesel::QueryResult;
use diesel::connection::Connection;

use crate::blocking;

/// A second session, on a thread of its own: it holds locks and waits for locks while the test
/// goes on. It gives up its connection when it is dropped.
#[derive(Debug)]
pub struct Opponent {
    id: i64,
    orders: Option<Sender<String>>,
    results: Mutex<Receiver<QueryResult<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Opponent {
    /// An opponent on this connection, whose id on the server is `id`.
    #[must_use]
    pub fn new<C: Connection + 'static>(mut conn: C, id: i64) -> Self {
        let (orders, inbox) = channel::<String>();
        let (outbox, results) = channel();
        let thread = std::thread::spawn(move || {
            while let Ok(sql) = inbox.recv() {
                if outbox.send(conn.batch_execute(&sql)).is_err() {
                    break;
                }
            }
        });
        Self {
            id,
            orders: Some(orders),
            results: Mutex::new(results),
            thread: Some(thread),
        }
    }

    /// The id of its session on the server.
    #[must_use]
    pub const fn id(&self) -> i64 {
        self.id
    }

    /// Has statements executed, and waits for it.
    ///
    /// # Panics
    ///
    /// If they fail.
    pub fn execute(&self, sql: &str) {
        self.start(sql);
        self.finish()
            .unwrap_or_else(|error| panic!("opponent: {sql}: {error}"));
    }

    /// Has statements executed that will have to wait for a lock.
    ///
    /// # Panics
    ///
    /// If the opponent is gone.
    pub fn start(&self, sql: &str) {
        let orders = self.orders.as_ref().expect("not dropped");
        orders.send(sql.into()).expect("the opponent lives");
    }

    /// Locks all tables of MySQL or MariaDB, until `UNLOCK TABLES`.
    ///
    /// It waits behind the statements that are being executed, and new ones wait behind it. One of each
    /// that wait for each other otherwise, as in the tests of deadlocks, would not end before a timeout,
    /// because no server sees such a cycle. So it makes way now and then.
    ///
    /// # Panics
    ///
    /// If there is no moment for it within a minute.
    pub fn lock_all_tables(&self) {
        self.execute("SET SESSION lock_wait_timeout = 1");
        let is_locked = (0..60).any(|_| {
            self.start("FLUSH TABLES WITH READ LOCK");
            self.finish().is_ok()
        });
        assert!(is_locked, "the tables are always in use");
    }

    /// Waits for what was started.
    ///
    /// # Errors
    ///
    /// The error of the statements.
    ///
    /// # Panics
    ///
    /// If the opponent is gone.
    pub fn finish(&self) -> QueryResult<()> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        blocking(|| results.recv()).expect("the opponent lives")
    }
}

impl Drop for Opponent {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, was seen by whoever waited for a result.
            _ = thread.join();
        }
    }
}
