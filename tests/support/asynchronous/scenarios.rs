//! What the scenarios, written once for both adapters, get from the async one. The names are those
//! that the sync one has.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use deadpool::managed::{Manager, Object, Pool};
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

pub use super::depth;
pub use super::queries::RunQueryDsl;

use super::is_broken;
use crate::{TestBed, blocking};

/// A test bed whose connections are those of the async adapter. They are made without `.await`.
pub struct Unpooled<B, C> {
    bed: B,
    url: String,
    connection: PhantomData<fn() -> C>,
}

impl<B: TestBed, C: AsyncConnection> Unpooled<B, C> {
    /// A fresh one.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it talks to a database")]
    pub fn new() -> Self {
        Self::on(B::fresh())
    }

    /// That of a test bed of the sync adapter.
    #[must_use]
    pub fn on(bed: B) -> Self {
        Self {
            url: bed.address().into(),
            bed,
            connection: PhantomData,
        }
    }

    /// A connection to it.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn connect(&self) -> C {
        wait_for(C::establish(&self.url)).expect("the server answers")
    }
}

impl<B, C> Deref for Unpooled<B, C> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.bed
    }
}

impl<B: fmt::Debug, C> fmt::Debug for Unpooled<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unpooled").field(&self.bed).finish()
    }
}

/// A test bed whose connections come out of a pool, deadpool's. They are taken out without
/// `.await`.
pub struct Pooled<B, M: Manager> {
    bed: B,
    pool: Pool<M>,
}

impl<B: TestBed, C> Pooled<B, AsyncDieselConnectionManager<C>>
where
    C: AsyncConnection + 'static,
    AsyncDieselConnectionManager<C>: Manager,
{
    /// A fresh one, with room for a few.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it talks to a database")]
    pub fn new() -> Self {
        Self::of(4)
    }

    /// A pool of at most this many connections to a fresh test bed. It does not ask them anything
    /// when they are taken out.
    ///
    /// # Panics
    ///
    /// If there can be no such pool.
    #[must_use]
    pub fn of(size: usize) -> Self {
        let bed = B::fresh();
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(bed.address(), config);
        let pool = Pool::builder(manager).max_size(size).build();
        Self {
            bed,
            pool: pool.expect("a pool"),
        }
    }
}

impl<B, M: Manager<Error: fmt::Debug>> Pooled<B, M> {
    /// A connection out of the pool.
    ///
    /// # Panics
    ///
    /// If there is none within ten seconds.
    pub fn connect(&self) -> Object<M> {
        let checkout = async { timeout(Duration::from_secs(10), self.pool.get()).await };
        wait_for(checkout)
            .expect("not too many at once")
            .expect("a connection")
    }
}

impl<B, M: Manager> Deref for Pooled<B, M> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.bed
    }
}

impl<B: fmt::Debug, M: Manager> fmt::Debug for Pooled<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&self.bed).finish()
    }
}

pub(super) fn wait_for<F: Future>(future: F) -> F::Output {
    blocking(|| Handle::current().block_on(future))
}

/// What comes out of a function that calls itself.
pub type Deep<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Calls it.
pub fn deep<'a, T, F, R>(f: F) -> Deep<'a, T>
where
    F: FnOnce() -> R,
    R: Future<Output = T> + Send + 'a,
{
    Box::pin(f())
}

/// What a panic came with, or what there is without one.
///
/// # Errors
///
/// The payload of the panic.
pub async fn caught<F, R>(f: F) -> Result<R::Output, Box<dyn Any + Send>>
where
    F: FnOnce() -> R,
    R: Future,
{
    super::caught(f()).await
}

/// Whether `begin_test_transaction` is in force: a transaction is open, and pools do not mind.
pub fn is_test_transaction<C: AsyncConnection>(conn: &mut C) -> bool {
    depth(conn) > Some(0) && !is_broken(conn)
}

/// Does two things at the same time and waits for both. Each has a thread of its own, because
/// scenarios have them meet in calls that block.
///
/// # Panics
///
/// If one of them does.
pub async fn together<A, B>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B,
) -> (A::Output, B::Output)
where
    A: Future<Output: Send> + Send,
    B: Future + Send,
{
    let handle = Handle::current();
    blocking(|| {
        thread::scope(|scope| {
            let one = scope.spawn(|| finish(&handle, Box::pin(one())));
            let other = finish(&handle, Box::pin(other()));
            (one.join().expect("no panic"), other)
        })
    })
}

/// Without the future's type, of which the compiler would make it anew.
fn finish<T>(handle: &Handle, future: Pin<Box<dyn Future<Output = T> + '_>>) -> T {
    handle.block_on(future)
}
