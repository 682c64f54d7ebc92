//! Several sources as one: the loop over the nodes.

use dbop_core::machine::{Lent, Progress, Search, Side, Sides, TextQuery, Try};
use dbop_core::{Fault, Fresh, Nodes, Position, Request, Split};
use diesel::QueryResult;

use crate::adapter::nodes::{AllRest, behind, position, unfit};
use crate::backend::SupportedBackend;
use crate::connection::SupportedConnection;
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
    match BackendOf::<S>::read(&mut *held, TextQuery::constant(proof)) {
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
        connect_to_side(self, request, None)
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

impl<W, R> Source for Fresh<'_, W, R>
where
    W: Source,
    R: Source<Conn = W::Conn>,
{
    type Conn = W::Conn;
    type Held = Side<W::Held, R::Held>;

    const IS_POOL: bool = Split::<W, R>::IS_POOL;

    fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        connect_to_side(self.split(), request, Some(self))
    }

    fn discard(&self, held: Self::Held, why: Option<Fault>) {
        self.split().discard(held, why);
    }

    fn place(&self, held: &Self::Held) -> Option<usize> {
        self.split().place(held)
    }
}

fn connect_to_side<W, R>(
    split: &Split<W, R>,
    request: &Request<'_>,
    fresh: Option<&Fresh<'_, W, R>>,
) -> Result<Side<W::Held, R::Held>, ConnectError>
where
    W: Source,
    R: Source<Conn = W::Conn>,
{
    let mut sides = Sides::new(request);
    let mut failure = None;
    while let Some(side) = sides.next() {
        let connected = match side {
            Side::Write(request) => split.write.connect(&request).map(Side::Write),
            Side::Read(request) => match fresh {
                Some(fresh) => connect_to_fresh(fresh, &request).map(Side::Read),
                None => split.read.connect(&request).map(Side::Read),
            },
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

/// A connection for reading whose server is far enough.
fn connect_to_fresh<W, R: Source>(
    fresh: &Fresh<'_, W, R>,
    request: &Request<'_>,
) -> Result<R::Held, ConnectError> {
    let (source, dialect) = (&fresh.split().read, BackendOf::<R>::DIALECT);
    let mut held = source.connect(request)?;
    let Some(query) = Position::query(dialect) else {
        return Ok(held);
    };
    let mut catching_up = fresh.catching_up(request);
    loop {
        let answer = match BackendOf::<R>::read(&mut *held, TextQuery::constant(query)) {
            Ok(answer) => answer,
            Err(error) => {
                source.discard(held, None);
                return Err(ConnectError::new(error));
            }
        };
        match catching_up.answered(dialect, answer.as_deref()) {
            Progress::Reached => return Ok(held),
            Progress::Pause(pause) => std::thread::sleep(pause),
            Progress::Behind => return Err(behind()),
        }
    }
}

/// Reads how far the server of a connection is: one query, for [`Split::after`].
///
/// Read it *after* the operation that is to be seen has returned: what is read in its body, or in a transaction
/// around it, is a position before its commit. On a replica it is how far that has got.
///
/// ```
/// use dbop_diesel::{Runner, Split, read_position};
/// use diesel::prelude::*;
///
/// # let (primary, replica) = (":memory:", ":memory:");
/// let source = Split {
///     write: || SqliteConnection::establish(primary), // or pools, or `Nodes`
///     read: || SqliteConnection::establish(replica),
/// };
/// let runner = Runner::default();
/// // .. an operation that writes, and then:
/// let ask = runner.operation("position").read_only().without_transaction();
/// let position = ask.run_on(&source.write, read_position)?;
///
/// let answer: i32 = runner.operation("answer").read_only().run_on(&source.after(&position), |conn| {
///     diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("6 * 7")).get_result(conn)
/// })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), diesel::result::Error>(())
/// ```
///
/// # Errors
///
/// Those of the query, and a [`QueryBuilderError`](diesel::result::Error::QueryBuilderError) if the server has no
/// position: MySQL with `gtid_mode=OFF`, and MariaDB without a binary log.
pub fn read_position<C: SupportedConnection>(conn: &mut C) -> QueryResult<Position> {
    let dialect = <C::Backend as SupportedBackend>::DIALECT;
    let answer = match Position::query(dialect) {
        Some(query) => <C::Backend as SupportedBackend>::read(conn, TextQuery::constant(query))?,
        None => None,
    };
    position(dialect, answer.as_deref())
}
