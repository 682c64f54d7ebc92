use std::time::Duration;

use dbop_diesel::{Source, SupportedConnection};
use diesel::ConnectionResult;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection, R2D2Connection};

/// A pool, made and looked at in the same way whatever it is. It asks nothing of the connections
/// that it hands out.
pub trait TestPool: Sized {
    /// What it hands out.
    type Conn;

    /// A pool of at most this many connections, for one of which nobody waits longer than this.
    fn of(url: &str, size: u32, patience: Duration) -> Self;

    /// How many there are, lent or not.
    fn connections(&self) -> u64;

    /// How many of them are lent.
    fn lent(&self) -> u64;

    /// A connection out of the pool.
    fn checkout(&self) -> Self::Conn;
}

impl<C: R2D2Connection + Send + 'static> TestPool for Pool<ConnectionManager<C>> {
    type Conn = PooledConnection<ConnectionManager<C>>;

    fn of(url: &str, size: u32, patience: Duration) -> Self {
        Self::builder()
            .max_size(size)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(patience)
            .build_unchecked(ConnectionManager::new(url))
    }

    fn connections(&self) -> u64 {
        self.state().connections.into()
    }

    fn lent(&self) -> u64 {
        let state = self.state();
        u64::from(state.connections - state.idle_connections)
    }

    fn checkout(&self) -> Self::Conn {
        self.get().expect("a connection")
    }
}

/// The closure that connects to this URL.
pub fn closure<C: SupportedConnection>(url: &str) -> impl Source<Conn = C> + use<C> {
    let url = url.to_owned();
    move || -> ConnectionResult<C> { C::establish(&url) }
}
