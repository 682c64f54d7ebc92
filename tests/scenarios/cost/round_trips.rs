//! What an operation sends, next to what Diesel's own transaction sends around the same
//! statements: never more. The numbers are those of `docs/round-trips.md`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Advice, IsolationLevel, OperationError, RetryPolicy, diesel_error_in};
use dbop_tests::InstantClock;
use diesel::result::Error;
use diesel::sql_query;

use super::money::balance;
use super::statements::one_by_one;
use super::{
    Conn, Connection as _, MODE, Operation, RunQueryDsl as _, Runner, backend, depth, helper,
};

/// Where the operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is a transaction of its own.
    Top,
    /// It is a savepoint in a transaction of the caller.
    Nested,
}

/// How it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It succeeds at once.
    Success,
    /// The first attempt asks for another one.
    Again,
    /// The first attempt does not get a lock: a fault of the server's.
    Locked,
}

impl Course {
    const ALL: [Self; 3] = [Self::Success, Self::Again, Self::Locked];
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    Default,
    LockTimeout,
    Timeouts,
    ReadOnly,
    Isolation,
    Deadline,
    Ladder,
    All,
    AllByDefault,
}

impl Asked {
    const ALL: [(Self, &str); 10] = [
        (Self::Nothing, "no settings"),
        (Self::Default, "the runner's default lock timeout"),
        (Self::LockTimeout, "lock timeout"),
        (Self::Timeouts, "lock timeout and statement timeout"),
        (Self::ReadOnly, "read-only"),
        (Self::Isolation, "isolation level"),
        (Self::Deadline, "deadline"),
        (Self::Ladder, "lock timeout per attempt"),
        (Self::All, "all supported settings"),
        (Self::AllByDefault, "all supported settings as defaults"),
    ];

    const fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::All | Self::AllByDefault)
    }

    /// SQLite's pragmas have to be read before they are changed: each is a call, not a round trip.
    const fn pragmas(self) -> u32 {
        match self {
            _ if backend::STATEMENT_TIMEOUT => 0,
            Self::All | Self::AllByDefault => 2,
            Self::LockTimeout | Self::Ladder | Self::ReadOnly | Self::Deadline => 1,
            _ => 0,
        }
    }

    pub(crate) fn runner(self) -> Runner {
        let policy = RetryPolicy::new().with_max_retries(1);
        let runner = Runner::new(policy).with_clock(InstantClock::new());
        match self {
            Self::Nothing => runner.with_default_lock_timeout(None),
            Self::AllByDefault => runner
                .with_default_lock_timeout(SECONDS)
                .with_default_statement_timeout(SECONDS)
                .with_default_read_only(true)
                .with_default_isolation(IsolationLevel::Serializable)
                .with_default_deadline(MINUTE),
            _ => runner,
        }
    }

    fn of(self, runner: &Runner) -> Operation<'_> {
        let operation = runner.operation("counted");
        match self {
            Self::Nothing | Self::Default | Self::AllByDefault => operation,
            Self::LockTimeout => operation.lock_timeout(SECONDS),
            Self::Timeouts => operation.lock_timeout(SECONDS).statement_timeout(SECONDS),
            Self::ReadOnly => operation.read_only(),
            Self::Isolation => operation.isolation(IsolationLevel::Serializable),
            Self::Deadline => operation.deadline(MINUTE),
            Self::Ladder => operation.lock_timeouts(&[SECONDS, MINUTE]),
            Self::All => operation
                .lock_timeouts(&[SECONDS, MINUTE])
                .statement_timeout(SECONDS)
                .read_only()
                .isolation(IsolationLevel::Serializable)
                .deadline(MINUTE)
                .best_effort(),
        }
    }
}

const SECONDS: Duration = Duration::from_secs(8);
const MINUTE: Duration = Duration::from_secs(60);

/// What goes wrong in the operation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("once more")]
    Again,
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for Wrong {
    fn diesel_error(&self) -> Option<&Error> {
        diesel_error_in(self)
    }

    fn advice(&self) -> Advice {
        match self {
            Self::Again => Advice::Retry,
            Self::Database(_) => Advice::Judge,
        }
    }
}

/// One statement in each attempt.
#[helper]
pub(crate) async fn body(
    conn: &mut Conn,
    course: Course,
    bodies: &AtomicU32,
) -> Result<i64, Wrong> {
    let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
    match course {
        Course::Locked if is_first => {
            sql_query("SELECT id FROM accounts WHERE id = 2 FOR UPDATE NOWAIT")
                .execute(conn)
                .await?;
        }
        Course::Again if is_first => {
            balance(conn, 1).await?;
            return Err(Wrong::Again);
        }
        _ => {}
    }
    Ok(balance(conn, 1).await?)
}

#[helper]
async fn until_done(conn: &mut Conn, course: Course, bodies: &AtomicU32) -> Result<i64, Wrong> {
    loop {
        let result = conn
            .transaction(async |conn: &mut Conn| body(conn, course, bodies).await)
            .await;
        if result.is_ok() || bodies.load(Ordering::Relaxed) == 2 {
            return result;
        }
    }
}

/// What it takes without dbop: a loop around Diesel's transaction.
#[helper]
pub(crate) async fn bare(conn: &mut Conn, place: Place, course: Course) {
    let bodies = AtomicU32::new(0);
    let result = match place {
        Place::Top => until_done(conn, course, &bodies).await,
        Place::Nested => {
            conn.transaction(async |conn: &mut Conn| until_done(conn, course, &bodies).await)
                .await
        }
    };
    assert_eq!(result.expect("committed"), 100);
    assert_eq!(bodies.into_inner() == 1, course == Course::Success);
}

/// Whether it was possible.
#[helper]
async fn with_dbop(conn: &mut Conn, place: Place, course: Course, asked: Asked) -> bool {
    let runner = asked.runner();
    let operation = asked.of(&runner);
    let bodies = AtomicU32::new(0);
    let result: Result<i64, Wrong> = match place {
        Place::Top => {
            operation
                .run(conn, async |conn: &mut Conn| {
                    body(conn, course, &bodies).await
                })
                .await
        }
        Place::Nested => {
            conn.transaction(async |conn: &mut Conn| {
                operation
                    .run(conn, async |conn: &mut Conn| {
                        body(conn, course, &bodies).await
                    })
                    .await
            })
            .await
        }
    };
    assert_eq!(depth(conn), Some(0));
    match result {
        Ok(balance) => {
            assert_eq!(balance, 100);
            assert_eq!(bodies.into_inner() == 1, course == Course::Success);
            true
        }
        Err(wrong) => {
            let own = wrong.dbop_error().expect("a setting that is not there");
            assert!(own.is_unsupported_setting(), "{own}");
            assert_eq!(bodies.into_inner(), 0);
            false
        }
    }
}

/// The rows of all settings. `taken` returns how much was sent since its last call. To refuse the
/// lock, another session holds account 2.
#[helper]
pub(crate) async fn rows(
    conn: &mut Conn,
    taken: &(dyn Fn() -> u32 + Sync),
    courses: &[Course],
) -> String {
    let mut rows = String::new();
    bare(conn, Place::Top, Course::Success).await;
    // The first one in a process finds out more about its SQLite.
    with_dbop(conn, Place::Top, Course::Success, Asked::ReadOnly).await;
    for (place, name) in [(Place::Top, "transaction"), (Place::Nested, "savepoint")] {
        for (asked, what) in Asked::ALL {
            _ = write!(rows, "| {name} | {what} ");
            for course in Course::ALL {
                let is_refused = course == Course::Locked && asked.is_read_only();
                if is_refused || !courses.contains(&course) {
                    rows.push_str("| | ");
                    continue;
                }
                taken();
                bare(conn, place, course).await;
                let bare = taken();
                let dbop = with_dbop(conn, place, course, asked).await.then(taken);
                match dbop {
                    Some(dbop) => _ = write!(rows, "| {bare} | {dbop} "),
                    None => _ = write!(rows, "| {bare} | no "),
                }
                // Two attempts begin, one commits, and then a pragma is restored.
                let allowed = bare + asked.pragmas() + 4 * one_by_one();
                assert!(
                    dbop.is_none_or(|dbop| dbop <= allowed),
                    "{place:?} {course:?} {asked:?}: {dbop:?}, not {bare}"
                );
            }
            rows.push_str("|\n");
        }
    }
    rows
}

pub(crate) const HEAD: &str = "
| | | bare | dbop | again: bare | dbop | locked: bare | dbop |
|---|---|---|---|---|---|---|---|
";

/// The table of this backend and adapter is the one in the docs. With `DBOP_WRITE_DOCS` set, it is
/// put there. Only the first columns of it, where not all could be measured.
pub(crate) fn assert_documented(rows: &str, is_complete: bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/round-trips.md");
    let docs = std::fs::read_to_string(&path).expect("the page is there");
    let start = format!("<!-- {}, {MODE} -->\n", backend::BACKEND);
    let end = "<!-- end -->\n";
    let (before, rest) = docs.split_once(&start).expect("a place for the table");
    let (documented, after) = rest.split_once(end).expect("an end of the table");
    let table = format!("{HEAD}{rows}\n");
    #[expect(
        clippy::print_stdout,
        reason = "the table is for the person who runs the test"
    )]
    {
        println!("{}, {MODE}{table}", backend::BACKEND);
    }
    if !is_complete {
        let measured = |table: &str| -> Vec<String> {
            let columns = |row: &str| row.split('|').take(7).collect();
            table.lines().map(columns).collect()
        };
        assert_eq!(measured(documented), measured(&table));
    } else if std::env::var_os("DBOP_WRITE_DOCS").is_some() {
        let docs = format!("{before}{start}{table}{end}{after}");
        std::fs::write(&path, docs).expect("the page can be written");
    } else {
        assert_eq!(documented, table, "docs/round-trips.md, after `{start}`");
    }
}
