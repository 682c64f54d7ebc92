//! dbop on a Galera cluster of one node and an arbitrator: the node loses the quorum with it.

mod cluster;

/// The sync adapter, on r2d2.
#[path = "."]
mod sync {
    use dbop_diesel::Runner;
    use dbop_tests::mysql::{Bed, Conn};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::SimpleConnection;
    use diesel::r2d2;

    type Pool = r2d2::Pool<r2d2::ConnectionManager<Conn>>;

    mod quorum;
}

/// The async adapter, on deadpool.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod asynchronous {
    use dbop_diesel_async::Runner;
    use dbop_tests::asynchronous::mysql::Conn;
    use dbop_tests::asynchronous::scenarios::RunQueryDsl;
    use dbop_tests::mysql::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::SimpleAsyncConnection as SimpleConnection;
    use diesel_async::pooled_connection::deadpool;

    type Pool = deadpool::Pool<Conn>;

    mod quorum;
}
