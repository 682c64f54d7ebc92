//! What an async operation is.

use std::future::Future;

/// An operation: an async closure or an async function that takes the connection and returns a
/// `Send` future, and that can be cloned for each attempt. Implemented for everything that fits.
///
/// It can borrow (`async |conn| ..`), own (`async move |conn| ..`) or be a plain `async fn`. A
/// captured `&mut` cannot be cloned and so does not compile: an attempt must not see what an
/// earlier attempt has changed.
#[diagnostic::on_unimplemented(
    message = "this cannot be run as an operation",
    label = "not an operation on this connection",
    note = "an operation is an `async |conn| ..` closure or an `async fn` that returns a \
            `Result`, is `Clone` and has a `Send` future",
    note = "a closure that captures `&mut` is not `Clone`: every attempt has to start from the \
            same state, so return the result from the operation instead"
)]
pub trait Body<C, R>: AsyncFnOnce(C) -> R + FnOnce(C) -> Self::Future + Clone + Send {
    /// The future that a call returns.
    type Future: Future<Output = R> + Send;
}

impl<F, C, R, Fut> Body<C, R> for F
where
    F: AsyncFnOnce(C) -> R + FnOnce(C) -> Fut + Clone + Send,
    Fut: Future<Output = R> + Send,
{
    type Future = Fut;
}
