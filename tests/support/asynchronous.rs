//! What the tests of the async adapter share: its connections and pools on the same test beds,
//! runtimes, and futures that are dropped half-way.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel_async::{AsyncConnection, TransactionManager};
use tokio::runtime::Builder;
use tokio::time::Instant;

pub use http::{Answer, http};
pub use program::Program;

mod http;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
mod program;
mod queries;
pub mod scenarios;
pub mod sources;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// Runs a test spawned on a runtime of several threads.
///
/// # Panics
///
/// If the test does.
pub fn on_many_threads<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    // Without its type the compiler makes the runtime's part once, and not for each test.
    let test: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(test);
    match runtime.block_on(runtime.spawn(test)) {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Runs a test on a runtime of this thread only.
///
/// # Panics
///
/// If the test does.
pub fn on_current_thread(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let test: Pin<Box<dyn Future<Output = ()>>> = Box::pin(test);
    runtime.expect("a runtime").block_on(test);
}

/// When exactly a future is dropped that waits for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At once: what it waits for is under way.
    UnderWay,
    /// When it is woken, but before it sees why: what it waited for has happened.
    Answered,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::UnderWay, Self::Answered];
}

/// Polls a future until it has waited this many times, and drops it then.
/// `None` if that came before its end.
pub async fn dropped_after<F: Future>(future: F, waits: u32, moment: Moment) -> Option<F::Output> {
    let mut waited = 0;
    dropped_when(future, moment, || {
        waited += 1;
        waited == waits
    })
    .await
}

/// Polls a future until it waits and this is so, and drops it then. `None` if that came before its
/// end.
pub async fn dropped_when<F: Future>(
    future: F,
    moment: Moment,
    mut is_so: impl FnMut() -> bool,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut is_over = false;
    poll_fn(move |context| {
        if is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        is_over = is_so();
        if is_over && moment == Moment::UnderWay {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// What a panic in a future came with, or what there is without one.
///
/// # Errors
///
/// The payload of the panic.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = Box::pin(future);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await
}

/// Whether the connection refuses every further transaction, so that pools throw it away.
pub fn refuses<C: AsyncConnection>(conn: &mut C) -> bool {
    C::TransactionManager::transaction_manager_status_mut(conn)
        .transaction_state()
        .is_err()
        && is_broken(conn)
}

/// Whether pools would throw the connection away.
pub fn is_broken<C: AsyncConnection>(conn: &mut C) -> bool {
    C::TransactionManager::is_broken_transaction_manager(conn)
}

/// How many transactions and savepoints Diesel thinks are open. `None` if the connection refuses
/// to have any.
pub fn depth<C: AsyncConnection>(conn: &mut C) -> Option<u32> {
    let status = C::TransactionManager::transaction_manager_status_mut(conn);
    let depth = status.transaction_depth().ok()?;
    Some(depth.map_or(0, u32::from))
}

/// Asks until the answer is yes, in real time. For what a server says about its sessions, which
/// has no way to wait for it.
///
/// # Panics
///
/// If that takes more than half a minute.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An instrumentation that counts the statements begun and knows whether COMMIT was among them.
/// Its clones count together.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    statements: usize,
    committing: bool,
}

impl Trace {
    /// How many statements have been begun; a batch counts as one.
    #[must_use]
    pub fn statements(&self) -> usize {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .statements
    }

    /// Whether a COMMIT has been begun that was not that of a savepoint.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .committing
    }
}

impl Instrumentation for Trace {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            InstrumentationEvent::StartQuery { .. } => counts.statements += 1,
            InstrumentationEvent::CommitTransaction { depth, .. } => {
                counts.committing |= depth.get() == 1;
            }
            _ => {}
        }
    }
}
