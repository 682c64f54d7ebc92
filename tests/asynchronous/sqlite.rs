//! What exists in the async adapter only, on SQLite.

use dbop_tests::asynchronous::on_many_threads;

/// On a runtime of several threads: diesel-async's wrapper of sync connections can be cancelled on
/// no other.
#[path = "."]
mod asynchronous {
    use dbop_tests::asynchronous::sqlite::{Bed, Conn, Db, LOCK, LOCK_NOWAIT};
    use dbop_tests::sqlite::Conn as SyncConn;

    use super::on_many_threads as run;

    /// What a service logs when opposite transfers meet: SQLite has them wait for one another.
    const CONTENTION: &[&str] = &[];

    mod axum_service;
    mod cancellation;
    mod cancellation_load;
    mod cancellation_pools;
    #[expect(dead_code, reason = "some of it is for sessions on a server")]
    mod classes;
    mod closures;
    mod keying;
    mod money;
    mod panics;
    mod paused_time;
    mod pools;
    mod sqlite_classes;
    mod sqlite_current_thread;
    mod sqlite_paused_time;
}
