//! Several sources as one: the loop over the nodes.

use dbop_core::machine::{Lent, Search, Side, Sides, Try};
use dbop_core::{Fault, Nodes, Request, Split};

use crate::adapter::nodes::{AllRest, unfit};
use crate::backend::SupportedBackend;
use crate::source::{ConnectError, Source};

impl<S: Source> Source for Nodes<S> {
    type Conn = S::Conn;
    type Held = Lent<S::Held>;

    const IS_POOL: bool = S::IS_POOL;

    fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        let mut search = Search::new(self, request);
        let mut failure = None;
        while let Some(node) = search.next_node() {
            match connect(&node) {
                Ok(held) => return Ok(search.found(held)),
                Err(error) => {
                    let (fault, advice) = error.fault(BackendOf::<S>::DIALECT);
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

type BackendOf<S> = <<S as Source>::Conn as diesel::Connection>::Backend;

/// A connection of a node that is fit.
fn connect<S: Source>(node: &Try<'_, S>) -> Result<S::Held, ConnectError> {
    let mut held = node.source.connect(&node.request)?;
    let Some(proof) = node.proof(BackendOf::<S>::DIALECT) else {
        return Ok(held);
    };
    match BackendOf::<S>::read_text(&mut *held, proof) {
        Ok(Some(_)) => Ok(held),
        Ok(None) => Err(unfit()),
        Err(error) => {
            node.source.discard(held, None);
            Err(ConnectError::new(error))
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

    fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        let mut sides = Sides::new(request);
        let mut failure = None;
        while let Some(side) = sides.next() {
            let connected = match side {
                Side::Write(request) => self.write.connect(&request).map(Side::Write),
                Side::Read(request) => self.read.connect(&request).map(Side::Read),
            };
            match connected {
                Ok(held) => return Ok(held),
                Err(error) => {
                    let (fault, advice) = error.fault(BackendOf::<W>::DIALECT);
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
