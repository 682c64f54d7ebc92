//! What the tests share: test beds on real servers, opponents that hold locks, a logger that
//! remembers, a clock that does not wait.

use std::time::{Duration, Instant};

pub use again::Again;
pub use blocking::blocking;
pub use capture::{Capture, Captured};
pub use clock::InstantClock;
pub use meanwhile::Meanwhile;
pub use notes::Notes;
pub use opponent::Opponent;
pub use outcome::{
    assert_lost, assert_rolled_back, assert_unknown, is_lost, is_rolled_back, is_unknown,
};
pub use pooled::{Pooled, TestBed};
pub use recorder::Recorder;
pub use reluctant::Reluctant;
pub use said::Said;
pub use silent::Silent;
pub use sources::{TestPool, closure};
pub use together::together;
pub use watch::{Deep, caught, deep, depth, global_records, is_test_transaction};

mod again;
pub mod asynchronous;
mod blocking;
mod capture;
mod clock;
pub mod environment;
mod meanwhile;
pub mod members;
mod notes;
mod opponent;
mod outcome;
mod pooled;
mod recorder;
mod reluctant;
mod said;
pub mod session;
mod silent;
pub mod socket;
mod sources;
mod together;
mod watch;

#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod proxy;
pub mod server;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// The examples in the README and in the guides are compiled and run.
#[cfg(all(doctest, feature = "sqlite"))]
mod examples {
    macro_rules! page {
        ($name:ident, $file:literal) => {
            #[doc = include_str!($file)]
            #[derive(Debug)]
            pub struct $name;
        };
    }

    page!(Readme, "../../README.md");
    page!(Adopting, "../../docs/adopting.md");
    page!(Architecture, "../../docs/architecture.md");
    page!(Contention, "../../docs/contention.md");
    page!(Cost, "../../docs/cost.md");
    page!(Errors, "../../docs/errors.md");
    page!(FromARetryLoop, "../../docs/from-a-retry-loop.md");
    page!(Hooks, "../../docs/hooks.md");
    page!(Idempotency, "../../docs/idempotency.md");
    page!(Limits, "../../docs/limits.md");
    page!(Mysql, "../../docs/mysql.md");
    page!(Observability, "../../docs/observability.md");
    page!(Nodes, "../../docs/nodes.md");
    page!(Poolers, "../../docs/poolers.md");
    page!(Engines, "../../docs/engines.md");
    page!(Pools, "../../docs/pools.md");
    page!(Postgres, "../../docs/postgres.md");
    page!(Recipes, "../../docs/recipes.md");
    page!(Retries, "../../docs/retries.md");
    page!(RoundTrips, "../../docs/round-trips.md");
    page!(Settings, "../../docs/settings.md");
    page!(Sqlite, "../../docs/sqlite.md");
    page!(Storms, "../../docs/storms.md");
    page!(SyncInAsync, "../../docs/sync-in-async.md");
    page!(Testing, "../../docs/testing.md");
    page!(UnknownOutcome, "../../docs/unknown-outcome.md");
}

diesel::table! {
    /// The table of every test bed: three accounts with a balance of 100 each.
    accounts (id) {
        /// The key.
        id -> Integer,
        /// The balance.
        balance -> BigInt,
    }
}

/// Creates and fills `accounts`.
pub const ACCOUNTS: &str = "
    CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
    INSERT INTO accounts (id, balance) VALUES (1, 100), (2, 100), (3, 100)";

/// One number, for `sql_query`. Its column is called `n`.
#[derive(Clone, Copy, Debug, diesel::QueryableByName)]
pub struct Number {
    /// The number.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub n: i64,
}

/// One text, for `sql_query`. Its column is called `s`.
#[derive(Clone, Debug, diesel::QueryableByName)]
pub struct Word {
    /// The text.
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub s: String,
}

/// Asks until the answer is yes. For what a server says about its sessions, which has no way to
/// wait for it.
///
/// # Panics
///
/// If that takes more than half a minute.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    blocking(|| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

/// The URL of the server under test.
///
/// # Panics
///
/// If there is none: a test that needs a server never passes without one.
#[must_use]
pub fn server_url() -> String {
    std::env::var("DBOP_TEST_URL")
        .expect("DBOP_TEST_URL names no server: start the tests with tests/run.sh")
}

/// The name of the server under test, as `tests/run.sh` gives it: `MariaDB 10.11.19
/// innodb_snapshot_isolation=ON`.
#[must_use]
pub fn server_label() -> String {
    std::env::var("DBOP_TEST_SERVER").unwrap_or_default()
}

/// A name for a schema or database that no other test has.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn unique_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("t{}_{number}", std::process::id())
}
