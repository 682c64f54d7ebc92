//! What exists in the async adapter only, on MySQL and MariaDB.

use dbop_tests::asynchronous::{on_current_thread, on_many_threads};

/// On a runtime of several threads.
#[path = "."]
mod asynchronous {
    use dbop_tests::asynchronous::mysql::{Bed, Conn, Db};
    use dbop_tests::mysql::Conn as SyncConn;

    use super::on_many_threads as run;

    mod cancellation;
    mod cancellation_load;
    mod cancellation_pools;
    mod classes;
    mod closures;
    mod keying;
    mod money;
    mod mysql_classes;
    mod panics;
    mod pools;
    mod server_panics;
}

/// The same on a single thread.
#[path = "."]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on both kinds of runtime"
)]
mod current_thread {
    use dbop_tests::asynchronous::mysql::{Bed, Conn, Db, LOCK, LOCK_NOWAIT};

    use super::on_current_thread as run;

    mod cancellation;
    mod closures;
    mod keying;
    mod money;
    mod panics;
    mod paused_time;
    mod pools;
    mod server_panics;
}
