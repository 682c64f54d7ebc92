//! The pools of diesel-async, behind one trait.

use std::future::{self, Future};

use dbop_diesel_async::SupportedConnection;
use dbop_tests::asynchronous::is_broken;
use diesel::result::Error;
use diesel_async::pooled_connection::{RecyclingMethod, bb8, deadpool, mobc};

use super::{Bed, Conn, Db};

/// A pool of connections to a test bed.
pub(super) trait Pool: Clone + Send + Sync + Sized + 'static {
    /// What it hands out.
    type Checkout: SupportedConnection<Backend = Db> + Send + 'static;

    /// A pool of at most this many.
    fn of(bed: &Bed, size: u32) -> impl Future<Output = Self> + Send;

    /// A connection out of it.
    fn checkout(&self) -> impl Future<Output = Self::Checkout> + Send;
}

impl Pool for deadpool::Pool<Conn> {
    type Checkout = deadpool::Object<Conn>;

    async fn of(bed: &Bed, size: u32) -> Self {
        let size = size.try_into().expect("a small pool");
        let pool = Self::builder(bed.manager(RecyclingMethod::Verified))
            .max_size(size)
            .build();
        pool.expect("a pool")
    }

    async fn checkout(&self) -> Self::Checkout {
        self.get().await.expect("a connection")
    }
}

impl Pool for bb8::Pool<Conn> {
    type Checkout = bb8::PooledConnection<'static, Conn>;

    async fn of(bed: &Bed, size: u32) -> Self {
        let pool = Self::builder()
            .max_size(size)
            .build(bed.manager(RecyclingMethod::Verified))
            .await;
        pool.expect("a pool")
    }

    async fn checkout(&self) -> Self::Checkout {
        self.get_owned().await.expect("a connection")
    }
}

/// diesel-async 0.9.2 tells mobc the opposite of what it wants to know when a connection is
/// returned, so broken ones stay. What counts is the check at the next checkout.
impl Pool for mobc::Pool<Conn> {
    type Checkout = mobc::PooledConnection<Conn>;

    async fn of(bed: &Bed, size: u32) -> Self {
        let check = RecyclingMethod::CustomFunction(Box::new(|conn| {
            let result = if is_broken(conn) {
                Err(Error::BrokenTransactionManager)
            } else {
                Ok(())
            };
            Box::pin(future::ready(result))
        }));
        Self::builder()
            .max_open(size.into())
            .build(bed.manager(check))
    }

    async fn checkout(&self) -> Self::Checkout {
        self.get().await.expect("a connection")
    }
}
