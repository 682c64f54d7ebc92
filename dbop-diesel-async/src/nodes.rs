//! Several sources as one: the loop over the nodes.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dbop_core::machine::{Lent, Search, Side, Sides, Try};
use dbop_core::{Nodes, Split};
use dbop_diesel::adapter::nodes::{AllRest, fault_of, unfit};
use dbop_diesel::{ConnectError, Fault, Request, SupportedBackend as _};
use diesel_async::AsyncConnectionCore;

use crate::backend::SupportedBackend;
use crate::source::Source;

impl<S: Source> Source for Nodes<S> {
    type Conn = S::Conn;
    type Held = Lent<S::Held>;

    const IS_POOL: bool = S::IS_POOL;

    async fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        let mut search = Search::new(self, request);
        let mut failure = None;
        while let Some(node) = search.next_node() {
            let connected = in_time(node.request.within, connect(&node)).await;
            match connected {
                Ok(held) => return Ok(search.found(held)),
                Err(error) => {
                    let (fault, advice) = fault_of(&error, BackendOf::<S>::DIALECT);
                    if search.failed(fault, advice) {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| ConnectError::unfit(AllRest)))
    }

    fn discard(&self, lent: Self::Held, why: Option<Fault>) {
        let source = &self.sources()[lent.node()];
        source.discard(lent.discarded(why), why);
    }

    fn place(&self, lent: &Self::Held) -> Option<usize> {
        let inner = self.sources()[lent.node()].place(lent.held());
        Some(self.place_in_all(lent, inner))
    }
}

type BackendOf<S> = <<S as Source>::Conn as AsyncConnectionCore>::Backend;

/// A connection of a node that is fit.
async fn connect<S: Source>(node: &Try<'_, S>) -> Result<S::Held, ConnectError> {
    let held = node.source.connect(&node.request).await?;
    let Some(proof) = node.proof(BackendOf::<S>::DIALECT) else {
        return Ok(held);
    };
    let mut unproven = Unproven(node.source, None);
    let conn = &mut **unproven.1.insert(held);
    let answer = <BackendOf<S> as SupportedBackend>::read_text(conn, proof).await;
    let is_fit = answer.map_err(ConnectError::new)?.is_some();
    match unproven.1.take() {
        Some(held) if is_fit => Ok(held),
        _ => Err(unfit()),
    }
}

/// A connection that has not yet answered whether its node is fit. Dropped before that, it is discarded: its
/// server may answer later, and what its pool lends it for next would read that.
struct Unproven<'n, S: Source>(&'n S, Option<S::Held>);

impl<S: Source> Drop for Unproven<'_, S> {
    fn drop(&mut self) {
        if let Some(held) = self.1.take() {
            // It can panic, as in the guard of a run.
            let discard = || self.0.discard(held, None);
            _ = catch_unwind(AssertUnwindSafe(discard));
        }
    }
}

impl<W, R> Source for Split<W, R>
where
    W: Source,
    R: Source<Conn = W::Conn>,
{
    type Conn = W::Conn;
    type Held = Side<W::Held, R::Held>;

    // What a pool has lent must not be held through a pause.
    const IS_POOL: bool = W::IS_POOL || R::IS_POOL;

    async fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        let mut sides = Sides::new(request);
        let mut failure = None;
        while let Some(side) = sides.next() {
            let connected = match side {
                Side::Write(request) => {
                    let connect = self.write.connect(&request);
                    in_time(request.within, connect).await.map(Side::Write)
                }
                Side::Read(request) => {
                    let connect = self.read.connect(&request);
                    in_time(request.within, connect).await.map(Side::Read)
                }
            };
            match connected {
                Ok(held) => return Ok(held),
                Err(error) => {
                    let (fault, advice) = fault_of(&error, BackendOf::<W>::DIALECT);
                    if sides.failed(fault, advice) {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| ConnectError::unfit(AllRest)))
    }

    fn discard(&self, held: Self::Held, why: Option<Fault>) {
        match held {
            Side::Write(held) => self.write.discard(held, why),
            Side::Read(held) => self.read.discard(held, why),
        }
    }

    fn place(&self, held: &Self::Held) -> Option<usize> {
        let side = match held {
            Side::Write(held) => Side::Write(self.write.place(held)),
            Side::Read(held) => Side::Read(self.read.place(held)),
        };
        Some(side.place())
    }
}

/// A node that gives no connection in its share of the time has failed.
async fn in_time<H>(
    within: Option<Duration>,
    connect: impl Future<Output = Result<H, ConnectError>> + Send,
) -> Result<H, ConnectError> {
    match within {
        Some(within) => tokio::time::timeout(within, connect)
            .await
            .unwrap_or_else(|late| Err(ConnectError::server_timeout(late))),
        None => connect.await,
    }
}
