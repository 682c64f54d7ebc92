//! Walks the rows of a table. Each error is provoked in every attempt, on each path by which an
//! operation can meet it, and compared with its row.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, Jitter, Outcome, Report, RetryPolicy};
use dbop_tests::{Capture, InstantClock, Number, Opponent};
use diesel::result::Error;
use diesel::{ConnectionResult, QueryResult, sql_query};

use super::money::add;
use super::rows::{Do, Nested, RETRIES, Refusal, Row, Seen, Top};
use super::{
    Bed, Conn, Connection as _, MODE, RunQueryDsl as _, Runner, SimpleConnection as _, depth,
    helper,
};

/// So short that a connection is kept during the delay.
const DELAY: Duration = Duration::from_millis(1);

/// Where the rows of a table are walked.
pub(crate) struct Walk<'a> {
    bed: &'a Bed,
    opponent: Opponent,
    bodies: AtomicU32,
    steps: AtomicU32,
    wrong: Vec<String>,
    walked: u32,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bed: &'a Bed) -> Self {
        Self {
            bed,
            opponent: bed.opponent(),
            bodies: AtomicU32::new(0),
            steps: AtomicU32::new(0),
            wrong: Vec::new(),
            walked: 0,
        }
    }

    fn compare(
        &mut self,
        row: &Row,
        report: &Report<(), Error>,
        log: &Capture,
        mut expected: Seen,
    ) {
        let fault = report.failures.first().and_then(|failure| failure.fault);
        let code = fault.and_then(|fault| fault.code());
        let code = code.map(|code| code.to_string()).unwrap_or_default();
        let is_missing = code.is_empty() && row.shown_by == Some(MODE);
        if !expected.code.is_empty() && !is_missing && row.codes.contains(&code.as_str()) {
            expected.code.clone_from(&code);
        }
        let class = fault.map(|fault| fault.class());
        // The operation around a step comes too late to ask MySQL, but not too late for MariaDB.
        if row.asks && expected.steps > 0 && class == Some(FaultClass::Unknown) {
            (expected.code, expected.class) = (String::new(), class);
        }
        // A client that sends before it reads can lose what the server said last. Such a failure has no code,
        // and is retried as often as any lost connection.
        let has_no_code = |fault: dbop_diesel::Fault| fault.code().is_none();
        let mut faults = report.failures.iter().filter_map(|failure| failure.fault);
        if row.top == Top::ElsewhereOnce && expected.attempts > 1 && faults.any(has_no_code) {
            let attempts = report.attempts.clamp(expected.attempts, 1 + RETRIES);
            (expected.attempts, expected.bodies) = (attempts, attempts);
            expected.steps = expected.steps.min(1) * attempts;
        }
        let records = log.records();
        let phase = records.iter().find_map(|record| record.keys.get("phase"));
        let seen = Seen {
            code,
            class,
            phase: phase.cloned().unwrap_or_default(),
            attempts: report.attempts,
            bodies: self.bodies.swap(0, Ordering::Relaxed),
            steps: self.steps.swap(0, Ordering::Relaxed),
            outcome: report.outcome,
            stop: report.stop,
        };
        self.check(row, "seen", &seen, &expected);
        if seen != expected {
            self.wrong.push(format!("{report:#?}"));
        }
    }

    fn check<T: Debug + PartialEq>(&mut self, row: &Row, what: &str, found: &T, expected: &T) {
        if found != expected {
            let line = format!("{}, {what}: {found:?}, expected {expected:?}", row.name);
            self.wrong.push(line);
        }
    }

    /// The row is done. What a body wrote is not there.
    fn leave(&mut self, row: &Row, written: i64) {
        // SQLite has nothing to roll back where others say so in a warning.
        self.opponent.start("ROLLBACK");
        _ = self.opponent.finish();
        let balances = self.bed.balances();
        self.check(row, "account 1", &balances[0], &(1, written));
        self.check(row, "account 3", &balances[2], &(3, 100));
        self.walked += 1;
    }

    fn end(self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        assert!(self.walked > 0, "no row applies");
    }
}

fn runner(log: &std::sync::Arc<Capture>) -> Runner {
    let policy = RetryPolicy::new()
        .with_max_retries(RETRIES)
        .with_initial_delay(DELAY)
        .with_max_delay(DELAY)
        .with_jitter(Jitter::None);
    // The sessions have timeouts of their own.
    Runner::new(policy)
        .with_default_lock_timeout(None)
        .with_clock(InstantClock::new())
        .with_logger(log.clone())
}

/// Does all of it, the opponent's part also after a failure of ours.
#[helper]
async fn play(conn: &mut Conn, walk: &Walk<'_>, steps: &[Do]) -> QueryResult<()> {
    let mut ours = Ok(());
    for step in steps {
        match *step {
            Do::Ours(sql) if ours.is_ok() => ours = sql_query(sql).execute(conn).await.map(drop),
            Do::Text(sql) if ours.is_ok() => ours = conn.batch_execute(sql).await,
            Do::Swallow(sql) if ours.is_ok() => {
                let swallowed = conn.batch_execute(sql).await;
                swallowed.expect_err(sql);
            }
            Do::Ours(_) | Do::Text(_) | Do::Swallow(_) => {}
            Do::Theirs(sql) => walk.opponent.execute(sql),
            Do::Meanwhile(act) => act(walk.bed, &walk.opponent),
        }
    }
    ours
}

#[helper]
async fn body(conn: &mut Conn, walk: &Walk<'_>, row: &Row, runs: &AtomicU32) -> QueryResult<()> {
    runs.fetch_add(1, Ordering::Relaxed);
    if row.writes {
        add(conn, 3, 10).await?;
    }
    play(conn, walk, row.body).await
}

/// A connection for this row.
#[helper]
async fn connect(walk: &Walk<'_>, row: &Row) -> Conn {
    let mut conn = walk.bed.connect();
    let ready = play(&mut conn, walk, row.before).await;
    ready.unwrap_or_else(|error| panic!("{}: {error}", row.name));
    conn
}

#[helper]
async fn applies(walk: &Walk<'_>, row: &Row) -> bool {
    if row.only.is_some_and(|mode| mode != MODE) {
        return false;
    }
    let Some(query) = row.applies else {
        return true;
    };
    let answer: QueryResult<Number> = sql_query(query).get_result(&mut walk.bed.connect()).await;
    answer.expect(query).n == 1
}

/// `run`, at top level.
#[helper]
pub(crate) async fn on_a_connection(bed: &Bed, rows: &[Row]) {
    let mut walk = Walk::new(bed);
    for row in rows {
        if !applies(&walk, row).await {
            continue;
        }
        let (log, mut conn) = (Capture::new(), connect(&walk, row).await);
        let runner = runner(&log);
        let at = &walk;
        let report = (row.settings)(runner.operation(row.name))
            .run_report(&mut conn, async |conn: &mut Conn| {
                body(conn, at, row, &at.bodies).await
            })
            .await;
        walk.compare(row, &report, &log, row.at_top(false));
        let is_lost = row.class == FaultClass::ConnectionLost;
        let left = (!is_lost).then_some(0);
        walk.check(row, "depth", &depth(&mut conn), &left);
        walk.leave(row, 100);
    }
    walk.end();
}

/// `run_on`, at top level.
#[helper]
pub(crate) async fn from_a_source(bed: &Bed, rows: &[Row]) {
    let mut walk = Walk::new(bed);
    for row in rows {
        if !applies(&walk, row).await {
            continue;
        }
        let (log, connections) = (Capture::new(), AtomicU32::new(0));
        let runner = runner(&log);
        let at = &walk;
        let report = (row.settings)(runner.operation(row.name))
            .run_on_report(
                &async || -> ConnectionResult<Conn> {
                    connections.fetch_add(1, Ordering::Relaxed);
                    Ok(connect(at, row).await)
                },
                async |conn: &mut Conn| body(conn, at, row, &at.bodies).await,
            )
            .await;
        walk.compare(row, &report, &log, row.at_top(true));
        let replaced = match row.top {
            Top::Elsewhere | Top::ElsewhereOnce => report.attempts,
            _ => 1,
        };
        walk.check(row, "connections", &connections.into_inner(), &replaced);
        walk.leave(row, 100);
    }
    walk.end();
}

/// In a step, that is in a savepoint, of an operation.
#[helper]
pub(crate) async fn in_a_step(bed: &Bed, rows: &[Row]) {
    let mut walk = Walk::new(bed);
    for row in rows {
        if row.phases[1].is_empty() || !applies(&walk, row).await {
            continue;
        }
        let log = Capture::new();
        let runner = runner(&log);
        let at = &walk;
        let report = (row.settings)(runner.operation(row.name))
            .run_on_report(
                &async || -> ConnectionResult<Conn> { Ok(connect(at, row).await) },
                async |conn: &mut Conn| {
                    at.bodies.fetch_add(1, Ordering::Relaxed);
                    if row.writes {
                        add(conn, 1, 10).await?;
                    }
                    let step: QueryResult<()> = runner
                        .operation("step")
                        .run(conn, async |conn: &mut Conn| {
                            body(conn, at, row, &at.steps).await
                        })
                        .await;
                    step
                },
            )
            .await;
        walk.compare(row, &report, &log, row.in_a_step());
        walk.leave(row, 100);
    }
    walk.end();
}

/// In a transaction of the caller's, who ignores the error and writes on.
#[helper]
pub(crate) async fn in_the_callers_transaction(bed: &Bed, rows: &[Row]) {
    let mut walk = Walk::new(bed);
    for row in rows {
        // There, BEGIN and COMMIT are the caller's.
        let is_step = matches!(row.phases[1], "body" | "release");
        if !is_step || !applies(&walk, row).await {
            continue;
        }
        let (log, mut conn) = (Capture::new(), connect(&walk, row).await);
        let runner = runner(&log);
        let before = bed.balances()[0].1;
        let at = &walk;
        let mut step = None;
        let whole: QueryResult<()> = conn
            .transaction(async |conn: &mut Conn| {
                if row.writes {
                    add(conn, 1, 10).await?;
                }
                let report = runner
                    .operation(row.name)
                    .run_report(conn, async |conn: &mut Conn| {
                        body(conn, at, row, &at.bodies).await
                    })
                    .await;
                step = Some(report);
                if row.writes {
                    _ = add(conn, 1, 10).await;
                }
                Ok(())
            })
            .await;
        let report = step.unwrap_or_else(|| panic!("{}: {whole:?}", row.name));
        walk.compare(row, &report, &log, row.in_the_callers_transaction());
        let is_kept = matches!(row.nested, Nested::Final | Nested::InPlace | Nested::Up);
        walk.check(row, "the caller", &whole.is_ok(), &is_kept);
        let written = if is_kept && row.writes { 20 } else { 0 };
        walk.leave(row, before + written);
    }
    walk.end();
}

/// `run_on`, where connecting is a part of each attempt.
#[helper]
pub(crate) async fn connecting(bed: &Bed, name: &str, refusals: &[Refusal]) {
    for row in refusals {
        // One by one, because PostgreSQL creates no database in a batch.
        for sql in row.before.split("; ").filter(|sql| !sql.is_empty()) {
            Opponent::execute(&bed.opponent(), &sql.replace("{}", name));
        }
        let url = (row.url)(bed, name);
        let (log, bodies) = (Capture::new(), AtomicU32::new(0));
        let report: Report<(), Error> = runner(&log)
            .run_on_report(
                &async || Conn::establish(&url).await,
                async |_: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                },
            )
            .await;
        let fault = report.failures[0].fault;
        let fault = fault.unwrap_or_else(|| panic!("{}: {report:?}", row.name));
        assert_eq!(fault.class(), row.class, "{}: {report:?}", row.name);
        let code = fault.code().map(|code| code.to_string());
        let code = code.unwrap_or_default();
        assert!(row.codes.contains(&code.as_str()), "{}: {code}", row.name);
        // Only async clients hide a code that others show.
        let is_shown = MODE == "async" || row.codes == [""] || !code.is_empty();
        assert!(is_shown, "{}: no code", row.name);
        assert_eq!(report.attempts, row.attempts, "{}: {report:?}", row.name);
        assert_eq!(report.outcome, Outcome::Undone, "{}", row.name);
        assert_eq!(bodies.into_inner(), 0, "{}", row.name);
        // Some clients connect, and hear of it in the first statement.
        let phase = log.records()[0].keys["phase"].clone();
        assert!(["connect", "begin"].contains(&&*phase), "{}", row.name);
    }
}
