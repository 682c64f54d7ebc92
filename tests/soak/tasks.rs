use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use tokio::runtime::{Builder, Runtime};

use super::Pool;
use super::transfer::work;
use crate::office::Worker;
use crate::rounds::{Crew, rounds};

#[test]
fn what_the_async_adapter_says_about_transfers_is_true() {
    rounds::<Tasks>("async");
}

struct Tasks {
    runtime: Runtime,
    pool: Pool,
}

impl Crew for Tasks {
    fn new(url: &str, room: u32) -> Self {
        // Nobody looks whether a connection has been lost before it is used.
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        let room = room.try_into().expect("a small pool");
        let pool = Pool::builder(manager).max_size(room).build();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        Self {
            runtime: runtime.expect("a runtime"),
            pool: pool.expect("a pool"),
        }
    }

    fn hire(&self, worker: Worker) {
        self.runtime.spawn(work(worker, self.pool.clone()));
    }
}
