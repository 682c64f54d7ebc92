use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use diesel::r2d2::{ConnectionManager, Pool, PooledConnection, R2D2Connection};

/// A test bed, whatever its backend.
pub trait TestBed {
    /// A fresh one.
    fn fresh() -> Self;

    /// Its URL.
    fn address(&self) -> &str;
}

/// A test bed whose connections come out of an r2d2 pool.
pub struct Pooled<B, C: R2D2Connection + 'static> {
    bed: B,
    pool: Pool<ConnectionManager<C>>,
}

impl<B: TestBed, C: R2D2Connection + Send + 'static> Pooled<B, C> {
    /// A fresh one, with room for a few.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it talks to a database")]
    pub fn new() -> Self {
        Self::of(4)
    }

    /// A pool of at most this many connections to a fresh test bed. It does not test them when they
    /// are taken out, so what it throws away, it throws away on return.
    ///
    /// # Panics
    ///
    /// If there can be no such pool.
    #[must_use]
    pub fn of(size: u32) -> Self {
        let bed = B::fresh();
        let pool = Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(Duration::from_secs(10))
            .build(ConnectionManager::new(bed.address()))
            .expect("a pool");
        Self { bed, pool }
    }

    /// A connection out of the pool.
    ///
    /// # Panics
    ///
    /// If there is none within ten seconds.
    #[must_use]
    pub fn connect(&self) -> PooledConnection<ConnectionManager<C>> {
        self.pool.get().expect("a connection")
    }
}

impl<B, C: R2D2Connection + 'static> Deref for Pooled<B, C> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.bed
    }
}

impl<B: fmt::Debug, C: R2D2Connection + 'static> fmt::Debug for Pooled<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&self.bed).finish()
    }
}
