//! How the work of an operation is looked for.

/// Looks for an operation's work: a closure like an operation, which returns whether the work is
/// there. Implemented for everything that fits.
pub trait Verify<C, E> {
    /// Looks.
    ///
    /// # Errors
    ///
    /// If the look could not find out.
    fn verify(&self, conn: &mut C) -> Result<bool, E>;
}

impl<F, C, E> Verify<C, E> for F
where
    F: FnOnce(&mut C) -> Result<bool, E> + Clone,
{
    fn verify(&self, conn: &mut C) -> Result<bool, E> {
        self.clone()(conn)
    }
}

/// The outcome of a commit whose answer was lost stays unknown. What an
/// [`Operation`](crate::Operation) begins with.
#[derive(Clone, Copy, Debug)]
pub struct NoResolution(pub(crate) ());

impl<C, E> Verify<C, E> for NoResolution {
    fn verify(&self, _conn: &mut C) -> Result<bool, E> {
        not_asked()
    }
}

/// The server is asked for the outcome of a commit whose answer was lost: see
/// [`Operation::transaction_status`](crate::Operation::transaction_status).
#[derive(Clone, Copy, Debug)]
pub struct ServerResolution(pub(crate) ());

impl<C, E> Verify<C, E> for ServerResolution {
    fn verify(&self, _conn: &mut C) -> Result<bool, E> {
        not_asked()
    }
}

/// The ledger is asked for it: see [`Operation::ledger`](crate::Operation::ledger).
#[derive(Clone, Copy, Debug)]
pub struct LedgerResolution(pub(crate) ());

impl<C, E> Verify<C, E> for LedgerResolution {
    fn verify(&self, _conn: &mut C) -> Result<bool, E> {
        not_asked()
    }
}

/// The machine asks the caller only if the `Spec` says so, which `Operation::verify` alone does.
fn not_asked() -> ! {
    unreachable!("an operation without `verify` has nothing to look with")
}
