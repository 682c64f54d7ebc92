//! The same error of the server is the same class and code, whichever adapter met it, and whether
//! the statement was prepared or part of a batch.

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
    pub(super) bed: Bed,
    pub(super) opponent: Opponent,
    session: Session,
    prepared: bool,
}

enum Session {
    Sync(SyncConn),
    Async(Runtime, Conn),
}

impl Stage {
    fn new(is_async: bool, prepared: bool) -> Self {
        let bed = Bed::new();
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
        let done = match &mut self.session {
            Session::Sync(conn) => conn.batch_execute(sql),
            Session::Async(runtime, conn) => runtime.block_on(conn.batch_execute(sql)),
        };
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        self
    }

    /// Has the opponent do something first.
    pub(super) fn meanwhile(&mut self, sql: &str) -> &mut Self {
        Opponent::execute(&self.opponent, sql);
        self
    }

    /// Executes what fails.
    pub(super) fn fails(&mut self, sql: &str) -> QueryResult<()> {
        match &mut self.session {
            Session::Sync(conn) if self.prepared => sql_query(sql).execute(conn).map(drop),
            Session::Sync(conn) => conn.batch_execute(sql),
            Session::Async(runtime, conn) if self.prepared => {
                let query = sql_query(sql);
                let query = diesel_async::RunQueryDsl::execute(query, conn);
                runtime.block_on(query).map(drop)
            }
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

/// The class and the code.
fn described(dialect: Dialect, error: &Error) -> (String, String) {
    match fault_of(dialect, error) {
        None => ("no fault".into(), String::new()),
        Some(fault) => {
            let code = fault.code().map(|code| code.to_string());
            (fault.class().to_string(), code.unwrap_or_default())
        }
    }
}

/// Brings every error about in all four ways.
pub(super) fn are_the_same_from_both_adapters(dialect: Dialect, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let mut ways = Vec::new();
        for (way, is_async, prepared) in [
            ("sync, prepared", false, true),
            ("sync, in a batch", false, false),
            ("async, prepared", true, true),
            ("async, in a batch", true, false),
        ] {
            let mut stage = Stage::new(is_async, prepared);
            let error = (case.provoke)(&mut stage).expect_err(case.name);
            let (class, code) = described(dialect, &error);
            ways.push((way, class, code, error));
        }
        // Which of the two sides notices that the connection is lost is a matter of chance, and
        // only the server knows a code.
        let is_lost = case.class == "connection_lost";
        let (_, _, first, _) = &ways[0];
        let as_expected = |code: &String| {
            let expected = case.codes.contains(&code.as_str());
            expected && code == first || is_lost && (expected || code.is_empty())
        };
        if !ways
            .iter()
            .all(|(_, class, code, _)| class == case.class && as_expected(code))
        {
            wrong.push((case.name, ways));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
