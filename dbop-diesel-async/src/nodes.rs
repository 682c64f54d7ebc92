//! Several sources as one: the loop over the nodes.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dbop_core::machine::{Lent, Progress, Search, Side, Sides, TextQuery, Try};
use dbop_core::{Fresh, Nodes, Position, Split};
use dbop_diesel::adapter::nodes::{AllRest, behind, fault_of, position, unfit};
use dbop_diesel::{ConnectError, Fault, Request, SupportedBackend as _};
use diesel::QueryResult;
use diesel_async::AsyncConnectionCore;

use crate::backend::SupportedBackend;
use crate::connection::SupportedConnection;
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
    let answer = <BackendOf<S> as SupportedBackend>::read(conn, TextQuery::constant(proof)).await;
    let is_fit = answer.map_err(ConnectError::new)?.is_some();
    match unproven.1.take() {
        Some(held) if is_fit => Ok(held),
        _ => Err(unfit()),
    }
}

/// A connection that has not yet answered whether its node is fit, or far enough. Dropped before that, it is
/// discarded: its server may answer later, and what its pool lends it for next would read that.
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
        connect_to_side(self, request, None).await
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

    async fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        connect_to_side(self.split(), request, Some(self)).await
    }

    fn discard(&self, held: Self::Held, why: Option<Fault>) {
        self.split().discard(held, why);
    }

    fn place(&self, held: &Self::Held) -> Option<usize> {
        self.split().place(held)
    }
}

async fn connect_to_side<W, R>(
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
            Side::Write(request) => {
                let connect = split.write.connect(&request);
                in_time(request.within, connect).await.map(Side::Write)
            }
            Side::Read(request) => {
                let connect = async {
                    match fresh {
                        Some(fresh) => connect_to_fresh(fresh, &request).await,
                        None => split.read.connect(&request).await,
                    }
                };
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

/// A connection for reading whose server is far enough.
async fn connect_to_fresh<W: Sync, R: Source>(
    fresh: &Fresh<'_, W, R>,
    request: &Request<'_>,
) -> Result<R::Held, ConnectError> {
    let (source, dialect) = (&fresh.split().read, BackendOf::<R>::DIALECT);
    let held = source.connect(request).await?;
    let Some(query) = Position::query(dialect) else {
        return Ok(held);
    };
    let mut catching_up = fresh.catching_up(request);
    let mut unproven = Unproven(source, Some(held));
    loop {
        let Some(held) = &mut unproven.1 else {
            return Err(behind());
        };
        let answer =
            <BackendOf<R> as SupportedBackend>::read(&mut **held, TextQuery::constant(query)).await;
        let answer = answer.map_err(ConnectError::new)?;
        match catching_up.answered(dialect, answer.as_deref()) {
            Progress::Pause(pause) => tokio::time::sleep(pause).await,
            progress => {
                let held = unproven.1.take();
                let is_reached = progress == Progress::Reached;
                return held.filter(|_| is_reached).ok_or_else(behind);
            }
        }
    }
}

/// Reads how far the server of a connection is: one query, for [`Split::after`].
///
/// Read it *after* the operation that is to be seen has returned: what is read in its body, or in a transaction
/// around it, is a position before its commit. On a replica it is how far that has got.
///
/// ```
/// use dbop_diesel_async::{Runner, Split, read_position};
/// use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// use diesel_async::{AsyncConnection, RunQueryDsl};
///
/// # #[tokio::main] async fn main() -> Result<(), diesel::result::Error> {
/// # let (primary, replica) = (":memory:", ":memory:");
/// let connect = |url| move || SyncConnectionWrapper::<diesel::SqliteConnection>::establish(url);
/// let source = Split { write: connect(primary), read: connect(replica) }; // or pools, or `Nodes`
/// let runner = Runner::default();
/// // .. an operation that writes, and then:
/// let ask = runner.operation("position").read_only().without_transaction();
/// let position = ask.run_on(&source.write, read_position).await?;
///
/// let read = runner.operation("answer").read_only();
/// let answer: i32 = read.run_on(&source.after(&position), async |conn| {
///     let query = diesel::dsl::sql::<diesel::sql_types::Integer>("6 * 7");
///     diesel::select(query).get_result(conn).await
/// }).await?;
/// assert_eq!(answer, 42);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// Those of the query, and a [`QueryBuilderError`](diesel::result::Error::QueryBuilderError) if the server has no
/// position: MySQL with `gtid_mode=OFF`, and MariaDB without a binary log.
pub async fn read_position<C: SupportedConnection>(conn: &mut C) -> QueryResult<Position> {
    let dialect = <C as AsyncConnectionCore>::Backend::DIALECT;
    let answer = match Position::query(dialect) {
        Some(query) => {
            <<C as AsyncConnectionCore>::Backend as SupportedBackend>::read(
                conn,
                TextQuery::constant(query),
            )
            .await?
        }
        None => None,
    };
    position(dialect, answer.as_deref())
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
