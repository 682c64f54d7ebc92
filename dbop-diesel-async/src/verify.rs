//! How the work of an operation is looked for.

use std::future::Future;

use crate::body::Body;

/// Looks for an operation's work: an async closure like an operation, which returns whether the
/// work is there. Implemented for everything that fits.
pub trait Verify<C, E>: Clone + Send {
    /// Looks.
    ///
    /// # Errors
    ///
    /// If the look could not find out.
    fn verify(&mut self, conn: &mut C) -> impl Future<Output = Result<bool, E>> + Send;
}

impl<F, C, E> Verify<C, E> for F
where
    F: for<'r> Body<&'r mut C, Result<bool, E>>,
{
    fn verify(&mut self, conn: &mut C) -> impl Future<Output = Result<bool, E>> + Send {
        self.clone()(conn)
    }
}

/// The outcome of a commit whose answer was lost stays unknown. What an
/// [`Operation`](crate::Operation) begins with.
#[derive(Clone, Copy, Debug)]
pub struct NoResolution(pub(crate) ());

impl<C, E> Verify<C, E> for NoResolution {
    fn verify(&mut self, _conn: &mut C) -> impl Future<Output = Result<bool, E>> + Send {
        not_asked::<E>()
    }
}

/// The server is asked for the outcome of a commit whose answer was lost: see
/// [`Operation::transaction_status`](crate::Operation::transaction_status).
#[derive(Clone, Copy, Debug)]
pub struct ServerResolution(pub(crate) ());

impl<C, E> Verify<C, E> for ServerResolution {
    fn verify(&mut self, _conn: &mut C) -> impl Future<Output = Result<bool, E>> + Send {
        not_asked::<E>()
    }
}

/// The ledger is asked for it: see [`Operation::ledger`](crate::Operation::ledger).
#[derive(Clone, Copy, Debug)]
pub struct LedgerResolution(pub(crate) ());

impl<C, E> Verify<C, E> for LedgerResolution {
    fn verify(&mut self, _conn: &mut C) -> impl Future<Output = Result<bool, E>> + Send {
        not_asked::<E>()
    }
}

/// The machine asks the caller only if the `Spec` says so, which `Operation::verify` alone does.
fn not_asked<E>() -> std::future::Pending<Result<bool, E>> {
    unreachable!("an operation without `verify` has nothing to look with")
}
