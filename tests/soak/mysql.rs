//! Transfers on MySQL and MariaDB while connections, sessions and the server are lost.

use dbop_tests::mysql::{self as backend, Bed, Conn};

use losses::Great;
use tally::Mode;

mod experience;
mod losses;
mod rounds;
mod tally;

/// The ways to find out what became of a lost commit.
const MODES: &[Mode] = &[Mode::Nothing, Mode::Verify, Mode::Ledger];

const GREAT: &[Great] = &[Great::Restart, Great::ServerKilled];

/// The other sessions on this database.
const SESSIONS: &str = "SELECT CAST(id AS SIGNED) AS n FROM information_schema.processlist \
    WHERE db = database() AND id <> connection_id()";

/// How many of them wait for a lock.
const BLOCKED: &str = "SELECT count(*) AS n FROM information_schema.innodb_trx \
    WHERE trx_state = 'LOCK WAIT'";

fn end(session: i64) -> String {
    format!("KILL CONNECTION {session}")
}

/// What the transfers are written for: the sync adapter, on threads with r2d2.
#[path = "."]
mod sync {
    use dbop_diesel::Runner;
    use dbop_tests_macros::sync_helper as helper;
    use diesel::RunQueryDsl;
    use diesel::r2d2::ConnectionManager;

    type Conn = diesel::r2d2::PooledConnection<ConnectionManager<super::Conn>>;
    type Pool = diesel::r2d2::Pool<ConnectionManager<super::Conn>>;

    mod threads;
    mod transfer;
}

/// The async adapter, on tasks with deadpool.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod asynchronous {
    use dbop_diesel_async::Runner;
    use dbop_tests::asynchronous::mysql::Conn as Raw;
    use dbop_tests::asynchronous::scenarios::RunQueryDsl;
    use dbop_tests_macros::async_helper as helper;
    use diesel_async::pooled_connection::deadpool;

    type Conn = deadpool::Object<Raw>;
    type Pool = deadpool::Pool<Raw>;

    mod tasks;
    mod transfer;
}
