//! dbop on a group of three MySQL servers (Group Replication): of which one takes writes, or all do, among them
//! operations with a key; members are lost, and the quorum is.

use dbop_tests::mysql::{self as backend, Bed, Conn};

mod cluster;
#[path = "../soak/clustered.rs"]
mod clustered;
#[path = "../soak/experience.rs"]
mod experience;
#[path = "../soak/office.rs"]
mod office;
#[path = "../soak/tally.rs"]
mod tally;
mod transfers;

/// The transfers of the sync adapter.
#[path = "../soak"]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod clustered_sync {
    use dbop_diesel::{Nodes, Runner};
    use dbop_tests_macros::sync_helper as helper;
    use diesel::RunQueryDsl;
    use diesel::r2d2::ConnectionManager;

    type Conn = super::Conn;
    type Pool = Nodes<diesel::r2d2::Pool<ConnectionManager<Conn>>>;

    pub(super) mod transfer;
}

/// Those of the async adapter.
#[path = "../soak"]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod clustered_async {
    use dbop_diesel_async::{Nodes, Runner};
    use dbop_tests::asynchronous::mysql::Conn;
    use dbop_tests::asynchronous::scenarios::RunQueryDsl;
    use dbop_tests_macros::async_helper as helper;
    use diesel_async::pooled_connection::deadpool;

    type Pool = Nodes<deadpool::Pool<Conn>>;

    pub(super) mod transfer;
}

/// The sync adapter, on r2d2.
#[path = "../galera"]
mod sync {
    use dbop_diesel::Runner;
    use dbop_tests::mysql::{Bed, Conn};
    use dbop_tests::together;
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::{Connection, SimpleConnection};
    use diesel::r2d2;

    type Pool = r2d2::Pool<r2d2::ConnectionManager<Conn>>;

    mod keyed;
    #[path = "../group/majority.rs"]
    mod majority;
    mod several;
}

/// The async adapter, on deadpool.
#[path = "../galera"]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod asynchronous {
    use dbop_diesel_async::Runner;
    use dbop_tests::asynchronous::mysql::Conn;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, together};
    use dbop_tests::mysql::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::pooled_connection::deadpool;
    use diesel_async::{AsyncConnection as Connection, SimpleAsyncConnection as SimpleConnection};

    type Pool = deadpool::Pool<Conn>;

    mod keyed;
    #[path = "../group/majority.rs"]
    mod majority;
    mod several;
}
