use std::thread;

use diesel::r2d2::ConnectionManager;

use super::Pool;
use super::transfer::work;
use crate::office::{PATIENCE, Worker};
use crate::rounds::{Crew, rounds};

#[test]
fn what_the_sync_adapter_says_about_transfers_is_true() {
    rounds::<Threads>("sync");
}

struct Threads(Pool);

impl Crew for Threads {
    fn new(url: &str, room: u32) -> Self {
        // Nobody looks whether a connection has been lost before it is used.
        let pool = Pool::builder()
            .max_size(room)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(PATIENCE)
            .build(ConnectionManager::new(url));
        Self(pool.expect("a pool"))
    }

    fn hire(&self, worker: Worker) {
        let pool = self.0.clone();
        thread::spawn(move || work(worker, pool));
    }
}
