//! The same error of the server is the same class and code, whichever adapter met it, and whether
//! the statement was prepared or part of a batch.

use std::sync::Arc;

use dbop_diesel_async::{Dialect, fault_of};
use dbop_tests::{Number, Opponent};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::result::Error;
use diesel::{QueryResult, RunQueryDsl as _, sql_query};
use diesel_async::SimpleAsyncConnection as _;
use tokio::runtime::{Builder, Runtime};

use super::{Bed, Conn, SyncConn};

/// An error, and how to bring it about.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Its class.
    pub(super) class: &'static str,
    /// Its code; several where servers differ. Empty if none is known.
    pub(super) codes: &'static [&'static str],
    /// Ends with the statement that fails.
    pub(super) provoke: fn(&mut Stage) -> QueryResult<()>,
}

/// A session of either adapter, and who is in its way.
pub(super) struct Stage {
    pub(super) bed: Arc<Bed>,
    pub(super) opponent: Opponent,
    session: Session,
    prepared: bool,
}

#[allow(clippy::large_enum_variant, reason = "there is one in each test")]
enum Session {
    Sync(SyncConn),
    Async(Runtime, Conn),
}

impl Stage {
    pub(super) fn new(is_async: bool, prepared: bool) -> Self {
        let bed = Arc::new(Bed::new());
        let opponent = bed.opponent();
        let session = if is_async {
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            let conn = runtime.block_on(bed.connect());
            Session::Async(runtime, conn)
        } else {
            Session::Sync(SyncConn::establish(bed.url()).expect("the server answers"))
        };
        Self {
            bed,
            opponent,
            session,
            prepared,
        }
    }

    /// Executes what does not fail.
    pub(super) fn before(&mut self, sql: &str) -> &mut Self {
        self.fails_in_batch(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        self
    }

    /// Has the opponent do something first.
    pub(super) fn meanwhile(&mut self, sql: &str) -> &mut Self {
        Opponent::execute(&self.opponent, sql);
        self
    }

    /// Executes what fails.
    pub(super) fn fails(&mut self, sql: &str) -> QueryResult<()> {
        if !self.prepared {
            return self.fails_in_batch(sql);
        }
        match &mut self.session {
            Session::Sync(conn) => sql_query(sql).execute(conn).map(drop),
            Session::Async(runtime, conn) => {
                let query = diesel_async::RunQueryDsl::execute(sql_query(sql), conn);
                runtime.block_on(query).map(drop)
            }
        }
    }

    /// Executes what fails and cannot be prepared.
    pub(super) fn fails_in_batch(&mut self, sql: &str) -> QueryResult<()> {
        match &mut self.session {
            Session::Sync(conn) => conn.batch_execute(sql),
            Session::Async(runtime, conn) => runtime.block_on(conn.batch_execute(sql)),
        }
    }

    /// Waits until the server has done with this session.
    pub(super) fn wait_until_gone(&self, session: i64) {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(self.bed.session_ends(session));
    }

    /// A number, as `n`.
    pub(super) fn number(&mut self, sql: &str) -> i64 {
        let row: QueryResult<Number> = match &mut self.session {
            Session::Sync(conn) => sql_query(sql).get_result(conn),
            Session::Async(runtime, conn) => {
                let query = diesel_async::RunQueryDsl::get_result(sql_query(sql), conn);
                runtime.block_on(query)
            }
        };
        row.expect("an answer").n
    }
}

/// What an adapter makes of an error of the server: its class, its code and itself.
type Found = (&'static str, String, String, Error);

fn found(case: &Case, dialect: Dialect, way: (&'static str, bool, bool)) -> Found {
    let (name, is_async, prepared) = way;
    let mut stage = Stage::new(is_async, prepared);
    let error = (case.provoke)(&mut stage).expect_err(case.name);
    let fault = fault_of(dialect, &error).expect("a fault");
    let code = fault.code().map(|code| code.to_string());
    let class = fault.class().to_string();
    (name, class, code.unwrap_or_default(), error)
}

/// Brings every error about in all four ways.
pub(super) fn are_the_same_from_both_adapters(dialect: Dialect, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let ways: Vec<_> = std::thread::scope(|threads| {
            let ways = [
                ("sync, prepared", false, true),
                ("sync, in a batch", false, false),
                ("async, prepared", true, true),
                ("async, in a batch", true, false),
            ];
            let ways = ways.map(|way| threads.spawn(move || found(case, dialect, way)));
            ways.map(|way| way.join().expect("no panic")).into()
        });
        // Who notices first that a connection is lost is a matter of chance, and only the server
        // knows a code.
        let is_lost = case.class == "connection_lost";
        let is_right = |(_, class, code, _): &Found| {
            let is_known = case.codes.contains(&code.as_str());
            class == case.class
                && (is_known && *code == ways[0].2 || is_lost && (is_known || code.is_empty()))
        };
        if !ways.iter().all(is_right) {
            wrong.push((case.name, ways));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
