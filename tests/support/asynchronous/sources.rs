//! Pools and closures as sources of connections, as [`crate::TestPool`] has them.

use std::time::Duration;

use dbop_diesel_async::{Source, SupportedConnection};
use deadpool::Runtime;
use deadpool::managed::Manager;
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, RecyclingMethod,
};

use super::scenarios::wait_for;
use crate::TestPool;

/// The closure that connects to this URL.
pub fn closure<C: SupportedConnection + AsyncConnection>(
    url: &str,
) -> impl Source<Conn = C> + use<C> {
    let url = url.to_owned();
    move || {
        let url = url.clone();
        async move { C::establish(&url).await }
    }
}

type Connections<C> = AsyncDieselConnectionManager<C>;

fn manager<C: AsyncConnection + 'static>(url: &str) -> Connections<C> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    Connections::new_with_config(url, config)
}

impl<C> TestPool for deadpool::managed::Pool<Connections<C>>
where
    C: AsyncConnection + 'static,
    Connections<C>: Manager<Type = C, Error = PoolError>,
{
    type Conn = deadpool::managed::Object<Connections<C>>;

    fn of(url: &str, size: u32, patience: Duration) -> Self {
        let size = size.try_into().expect("a small pool");
        let pool = Self::builder(manager(url))
            .max_size(size)
            .wait_timeout(Some(patience))
            .runtime(Runtime::Tokio1)
            .build();
        pool.expect("a pool")
    }

    fn connections(&self) -> u64 {
        self.status().size as u64
    }

    fn lent(&self) -> u64 {
        let status = self.status();
        status.size.saturating_sub(status.available) as u64
    }

    fn checkout(&self) -> Self::Conn {
        wait_for(self.get()).expect("a connection")
    }
}

impl<C> TestPool for bb8::Pool<Connections<C>>
where
    C: AsyncConnection + 'static,
    Connections<C>: bb8::ManageConnection<Connection = C, Error = PoolError>,
{
    type Conn = bb8::PooledConnection<'static, Connections<C>>;

    fn of(url: &str, size: u32, patience: Duration) -> Self {
        let pool = Self::builder()
            .max_size(size)
            .test_on_check_out(false)
            .connection_timeout(patience);
        pool.build_unchecked(manager(url))
    }

    fn connections(&self) -> u64 {
        self.state().connections.into()
    }

    fn lent(&self) -> u64 {
        let state = self.state();
        u64::from(state.connections - state.idle_connections)
    }

    fn checkout(&self) -> Self::Conn {
        wait_for(self.get_owned()).expect("a connection")
    }
}

impl<C> TestPool for mobc::Pool<Connections<C>>
where
    C: AsyncConnection + 'static,
    Connections<C>: mobc::Manager<Connection = C, Error = PoolError>,
{
    type Conn = mobc::Connection<Connections<C>>;

    fn of(url: &str, size: u32, patience: Duration) -> Self {
        Self::builder()
            .max_open(size.into())
            .get_timeout(Some(patience))
            .build(manager(url))
    }

    fn connections(&self) -> u64 {
        wait_for(self.state()).connections
    }

    fn lent(&self) -> u64 {
        wait_for(self.state()).in_use
    }

    fn checkout(&self) -> Self::Conn {
        wait_for(self.get()).expect("a connection")
    }
}
