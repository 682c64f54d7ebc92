//! The matrix of COMMIT: what became of it, times how the operation finds that out, times whether
//! its work may be done twice. In every cell: how often the work is there in the end, how often it
//! was tried, how often the caller was asked, and what is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{
    Dialect, Jitter, Ledger, OperationError as _, Outcome, Report, RetryPolicy, StopReason,
};
use dbop_tests::proxy::{Cut, Planned, Proxy, Until, When};
use dbop_tests::{Capture, Meanwhile, Number, Opponent};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};
use log::Level;

use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, backend, helper,
    scenario,
};

/// What becomes of the first COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The server answers with an error.
    Refused,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It is carried out two seconds after the client has seen the loss.
    Late,
    /// It never gets to the server.
    NeverSent,
}

/// How the operation finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Nothing,
    /// The caller says yes, whatever there is.
    SaysYes,
    SaysNo,
    /// The caller's first look fails, the second one tells what is there.
    FailsOnce,
    TransactionStatus,
    Ledger,
}

impl Resolution {
    const ALL: [Self; 6] = [
        Self::Nothing,
        Self::SaysYes,
        Self::SaysNo,
        Self::FailsOnce,
        Self::TransactionStatus,
        Self::Ledger,
    ];
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    fate: Fate,
    resolution: Resolution,
    idempotent: bool,
}

/// What can be seen from outside.
#[derive(Debug, PartialEq)]
struct Effect {
    result: Result<usize, String>,
    outcome: Outcome,
    stop: StopReason,
    /// As reported, and as counted by the operation itself.
    attempts: [u32; 2],
    looks: u32,
    /// How often the work is there in the end.
    done: i64,
    /// Of the records, without repetitions.
    levels: Vec<Level>,
}

impl Cell {
    /// What is promised.
    fn expected(self) -> Effect {
        use Resolution as R;

        let arrives = matches!(self.fate, Fate::AnswerLost | Fate::Late);
        let is_lost = arrives || self.fate == Fate::NeverSent;
        // With a ledger it is done exactly once all the same.
        let asks = is_lost && (!self.idempotent || self.resolution == R::Ledger);
        let (looks, found) = match self.resolution {
            _ if !asks => (0, None),
            R::Nothing => (0, None),
            R::SaysYes => (1, Some(true)),
            R::SaysNo => (1, Some(false)),
            // What is late is not there yet: the race of `verify`.
            R::FailsOnce => (2, Some(self.fate == Fate::AnswerLost)),
            R::TransactionStatus | R::Ledger => (0, Some(arrives)),
        };
        let again = match self.fate {
            Fate::Answered => false,
            Fate::Refused => true,
            _ => !asks || found == Some(false),
        };
        let is_unknown = asks && found.is_none();
        let first = self.fate == Fate::Answered || arrives;
        let attempts = 1 + u32::from(again);
        Effect {
            result: if is_unknown {
                Err(UNKNOWN.into())
            } else {
                Ok(1)
            },
            outcome: if is_unknown {
                Outcome::Unknown
            } else {
                Outcome::Committed
            },
            stop: if is_unknown {
                StopReason::OutcomeUnknown
            } else {
                StopReason::Succeeded
            },
            attempts: [attempts; 2],
            looks,
            done: i64::from(first) + i64::from(again),
            levels: match (self.fate, is_unknown) {
                (Fate::Answered, _) => vec![Level::Debug],
                (_, true) => vec![Level::Error],
                _ => vec![Level::Warn, Level::Info],
            },
        }
    }

    /// Has it happen to the first COMMIT from now on.
    fn befall(self, proxy: &Proxy) -> Option<Planned> {
        let cut = match self.fate {
            Fate::Answered | Fate::Refused => return None,
            Fate::AnswerLost => Cut::AnswerLost,
            Fate::Late => Cut::Late(Until::Passed(Duration::from_secs(2))),
            Fate::NeverSent => Cut::BeforeSent,
        };
        if self.resolution == Resolution::FailsOnce {
            _ = proxy.cut(When::statement("AND 'look' = 'look'"), Cut::BeforeSent);
        }
        Some(proxy.cut(When::commit(), cut))
    }

    /// A runner whose delays are long enough for what comes late.
    fn runner(self, log: Arc<Capture>, opponent: &Arc<Opponent>) -> Runner {
        let delay = match (self.fate, self.resolution) {
            (Fate::Late, Resolution::TransactionStatus) => Duration::from_millis(500),
            _ => Duration::from_millis(20),
        };
        let policy = RetryPolicy::new()
            .with_initial_delay(delay)
            .with_jitter(Jitter::None);
        // Long enough for what comes late. The test of another row can hold it up for longer: FLUSH
        // TABLES waits for the question, the late transaction for FLUSH TABLES, and the question for
        // the late transaction.
        let runner = Runner::new(policy)
            .with_logger(log)
            .with_default_lock_timeout(Duration::from_secs(4));
        if self.fate != Fate::Refused {
            return runner;
        }
        let opponent = Arc::clone(opponent);
        runner.with_clock(Meanwhile::new(move |_| {
            opponent.execute(COMMITS_SUCCEED);
        }))
    }
}

const UNKNOWN: &str = "it is unknown whether the transaction was committed";

/// Makes every COMMIT fail on this server, for connections that do not wait. On PostgreSQL: the COMMIT of
/// a serializable transaction that has read and written what this one reads and writes.
fn make_commits_fail(opponent: &Opponent) {
    match backend::DIALECT {
        Dialect::Mysql => opponent.lock_all_tables(),
        _ => opponent.execute(
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM done; INSERT INTO done VALUES (-1); \
             COMMIT",
        ),
    }
}

/// What ends that.
const COMMITS_SUCCEED: &str = match backend::DIALECT {
    Dialect::Mysql => "UNLOCK TABLES",
    _ => "SELECT",
};

/// Makes a connection one whose COMMIT can fail.
const COMMIT_CAN_FAIL: &str = match backend::DIALECT {
    Dialect::Mysql => "SET SESSION lock_wait_timeout = IF(@@version LIKE '%MariaDB%', 0, 1)",
    _ => "SET default_transaction_isolation = 'serializable'",
};

/// A cell that has been played. What is late may still be under way.
struct Played {
    cell: Cell,
    proxy: Proxy,
    cut: Option<Planned>,
    report: Report<usize, Error>,
    /// The bodies and the looks.
    counts: [u32; 2],
    log: Arc<Capture>,
}

#[helper]
async fn play(cell: Cell, number: i32, bed: &Bed, opponent: &Arc<Opponent>) -> Played {
    let proxy = Proxy::start(bed.url());
    let cut = cell.befall(&proxy);
    let log = Capture::new();
    let (bodies, looks) = (AtomicU32::new(0), AtomicU32::new(0));
    let ledger = Ledger::new();
    let source = async || {
        let mut conn = Conn::establish(proxy.url()).await?;
        if cell.fate == Fate::Refused {
            let set = conn.batch_execute(COMMIT_CAN_FAIL).await;
            set.expect("a variable");
        }
        diesel::ConnectionResult::Ok(conn)
    };
    let body = async |conn: &mut Conn| {
        let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
        done(conn, number, "").await?;
        let inserted = sql_query(format!("INSERT INTO done VALUES ({number})"))
            .execute(conn)
            .await?;
        if is_first && cell.fate == Fate::Refused {
            make_commits_fail(opponent);
        }
        QueryResult::Ok(inserted)
    };
    let look = async |conn: &mut Conn| {
        looks.fetch_add(1, Ordering::Relaxed);
        match cell.resolution {
            Resolution::SaysYes => Ok(true),
            Resolution::SaysNo => Ok(false),
            _ => Ok(done(conn, number, "AND 'look' = 'look'").await? > 0),
        }
    };
    let runner = cell.runner(log.clone(), opponent);
    let operation = runner.operation("commit");
    let operation = if cell.idempotent {
        operation.idempotent()
    } else {
        operation
    };
    let report = match cell.resolution {
        Resolution::Nothing => operation.run_on_report(&source, body).await,
        Resolution::TransactionStatus => {
            let operation = operation.transaction_status();
            operation.run_on_report(&source, body).await
        }
        Resolution::Ledger => operation.ledger(&ledger).run_on_report(&source, body).await,
        _ => operation.verify(look).run_on_report(&source, body).await,
    };
    let counts = [bodies.into_inner(), looks.into_inner()];
    Played {
        cell,
        proxy,
        cut,
        report,
        counts,
        log,
    }
}

#[helper]
async fn done(conn: &mut Conn, number: i32, more: &str) -> QueryResult<i64> {
    let sql = format!("SELECT count(*) AS n FROM done WHERE cell = {number} {more}");
    let row: Number = sql_query(sql).get_result(conn).await?;
    Ok(row.n)
}

impl Played {
    /// What is seen through a connection of its own when everything has arrived.
    fn effect(self, done: i64) -> Effect {
        let mut levels = self.log.levels();
        levels.dedup();
        let is_unknown = |error: &Error| {
            let own = error.dbop_error();
            own.is_some_and(dbop_diesel::Error::is_outcome_unknown)
        };
        Effect {
            result: match self.report.result {
                Err(error) if is_unknown(&error) => Err(UNKNOWN.into()),
                result => result.map_err(|error| format!("{error:?}")),
            },
            outcome: self.report.outcome,
            stop: self.report.stop,
            attempts: [self.report.attempts, self.counts[0]],
            looks: self.counts[1],
            done,
            levels,
        }
    }
}

/// All cells of a row. What comes late comes while the next cells are played.
#[helper]
async fn row(fate: Fate) {
    let bed = Bed::new();
    let opponent = Arc::new(bed.opponent());
    let mut conn = bed.connect();
    conn.batch_execute("CREATE TABLE done (cell INTEGER)")
        .await
        .expect("a new table");
    conn.batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let mut played = Vec::new();
    for resolution in Resolution::ALL {
        if resolution == Resolution::TransactionStatus && backend::DIALECT != Dialect::Postgres {
            continue;
        }
        for idempotent in [false, true] {
            let cell = Cell {
                fate,
                resolution,
                idempotent,
            };
            let number = i32::try_from(played.len()).expect("a few");
            played.push(play(cell, number, &bed, &opponent).await);
        }
    }
    for (number, played) in played.into_iter().enumerate() {
        if let Some(cut) = &played.cut {
            dbop_tests::blocking(|| cut.wait_until_finished());
            assert!(played.proxy.cuts_made() >= 1);
        }
        let number = i32::try_from(number).expect("a few");
        let done = done(&mut conn, number, "").await.expect("a number");
        let cell = played.cell;
        assert_eq!(played.effect(done), cell.expected(), "{cell:?}");
    }
}

#[scenario]
async fn if_it_is_answered() {
    row(Fate::Answered).await;
}

#[scenario]
async fn if_the_server_refuses_it() {
    row(Fate::Refused).await;
}

#[scenario]
async fn if_its_answer_is_lost() {
    row(Fate::AnswerLost).await;
}

#[scenario]
async fn if_it_comes_late() {
    row(Fate::Late).await;
}

#[scenario]
async fn if_it_is_never_sent() {
    row(Fate::NeverSent).await;
}
