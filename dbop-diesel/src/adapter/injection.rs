//! Faults for an application's own tests: an attempt fails where the test says.
//!
//! The drivers do not know about it. Where a fault is due, the step that they get has other SQL: SQL that
//! leaves the database as the real error would, and then fails. The answer to it becomes the error that is
//! injected.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use dbop_core::machine::{Batch, BatchPurpose, BodyEnd, Done, Step};
use dbop_core::{Advice, Dialect, FaultClass};
use diesel::QueryResult;
use diesel::result::Error as DieselError;

use super::results::UserResults;
use super::run::Run;
use crate::fault::database_message;
use crate::source::ConnectError;
use crate::testing::{Failure, Faults, InjectedError, Point, injected_error, twice_error};

/// The faults that a runner was given, if any.
#[derive(Clone, Debug)]
pub struct Handle(Option<Faults>);

impl Handle {
    /// None.
    pub const NONE: Self = Self(None);

    /// These.
    #[must_use]
    pub fn new(faults: &Faults) -> Self {
        Self(Some(faults.clone()))
    }
}

/// What is injected into one run. In a box, so that the futures of runs are not larger for it.
#[derive(Debug, Default)]
pub(super) struct Injection<'a>(Option<Box<Watched<'a>>>);

#[derive(Debug)]
struct Watched<'a> {
    faults: &'a Faults,
    /// Its place in the list of runs.
    run: usize,
    name: String,
    can_reconnect: bool,
    /// How many attempts of this run have begun.
    attempts: u32,
    /// The number of the present one, over all runs of the name.
    number: u32,
    body_began: Option<Instant>,
    due: Option<Due>,
}

/// A fault that is injected now.
#[derive(Debug)]
struct Due {
    purpose: BatchPurpose,
    sql: String,
    error: DieselError,
    /// What the answer to the SQL says if it is the failure that was asked for.
    marks: [&'static str; 2],
    /// It takes the place of the body's error, with this depth.
    body: Option<InBody>,
}

#[derive(Debug)]
struct InBody {
    depth: Option<u32>,
    /// What is told of it. `None`: whatever is judged.
    end: Option<BodyEnd>,
}

impl<'a> Injection<'a> {
    fn watched(&mut self) -> Option<&mut Watched<'a>> {
        self.0.as_deref_mut()
    }

    /// Whether there can be faults in this run.
    pub(super) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn is_due(&self) -> bool {
        self.0.as_ref().is_some_and(|watched| watched.due.is_some())
    }

    fn take(&mut self) -> Option<Due> {
        self.watched()?.due.take()
    }
}

impl Watched<'_> {
    fn count(&mut self, attempts: u32) {
        if attempts != self.attempts {
            self.attempts = attempts;
            self.number = self.faults.begin_attempt(self.run, &self.name, attempts);
        }
    }

    fn find(&self, point: Point) -> Option<Failure> {
        self.faults.find(&self.name, self.number, point)
    }
}

impl<'a> Run<'a> {
    /// Lets these faults happen to the run.
    pub fn watch(&mut self, handle: &'a Handle, can_reconnect: bool) {
        let Some(faults) = &handle.0 else {
            return;
        };
        let name = self.subject.name().to_string();
        self.injection.0 = Some(Box::new(Watched {
            faults,
            run: faults.begin(&name),
            name,
            can_reconnect,
            attempts: 0,
            number: 0,
            body_began: None,
            due: None,
        }));
    }

    /// The next thing to do, if there are faults to look out for.
    pub(super) fn watched_step(
        &mut self,
        now: &dyn Fn() -> Instant,
        patience: &mut Option<Duration>,
    ) -> Step<'_> {
        if !self.injection.is_due() {
            let (point, sql) = match self.observed_step(now, Some(patience)) {
                // Asked for again, they would be other ones.
                Step::Report(event) => return Step::Report(event),
                Step::Pause(pause) => return Step::Pause(pause),
                Step::Done(done) => return Step::Done(done),
                Step::Batch(Batch { purpose, sql, .. }) => match purpose {
                    BatchPurpose::Begin => (Some(Point::Begin), sql.to_owned()),
                    BatchPurpose::Commit => (Some(Point::Commit), sql.to_owned()),
                    _ => (None, String::new()),
                },
                Step::Body => (Some(Point::BeforeBody), String::new()),
                _ => (None, String::new()),
            };
            let attempts = self.machine.attempts();
            if let Some(watched) = self.injection.watched() {
                watched.count(attempts);
                if point == Some(Point::BeforeBody) {
                    watched.body_began = Some(now());
                }
            }
            if let Some(point) = point {
                self.inject(point, &sql);
            }
        }
        match self.injection.0.as_deref() {
            Some(Watched { due: Some(due), .. }) => Step::Batch(Batch {
                purpose: due.purpose,
                sql: &due.sql,
                is_compound: false,
            }),
            _ => self.machine.step(now),
        }
    }

    /// Makes the fault due that is to happen here, if there is one. `sql` is what would be sent.
    fn inject(&mut self, point: Point, sql: &str) {
        let (dialect, is_savepoint) = (self.dialect(), self.base > 0);
        let has_transaction = !self.machine.is_without_transaction();
        let inside = Some(self.base + u32::from(has_transaction));
        let Some(watched) = self.injection.watched() else {
            return;
        };
        let found = match point {
            Point::Commit => [Point::Commit, Point::CommitAnswer]
                .into_iter()
                .find_map(|point| Some((point, watched.find(point)?))),
            _ => watched.find(point).map(|failure| (point, failure)),
        };
        let Some((point, failure)) = found else {
            return;
        };
        let body = (point == Point::BeforeBody).then_some(InBody {
            depth: inside,
            end: None,
        });
        watched.due = Some(match injected_error(dialect, failure) {
            // Any other error says what has become of the COMMIT.
            Ok(error) if point == Point::CommitAnswer && !is_loss(&error) => {
                let text = format!("an answer is lost with the connection, not by {failure}");
                not_there(dialect, point, text, body)
            }
            // There is nothing that the error could end.
            Ok(error) if !has_transaction => fails(dialect, point, "", error, body),
            Ok(error) => due(dialect, point, is_savepoint, sql, error, body),
            Err(text) => not_there(dialect, point, text, body),
        });
    }

    /// The body has returned `Ok`: whether it is to fail all the same.
    pub(super) fn inject_after_body(&mut self, depth: Option<u32>) -> bool {
        if depth != Some(self.base + 1) {
            return false;
        }
        let twice = self.twice();
        let (dialect, is_savepoint) = (self.dialect(), self.base > 0);
        let Some(watched) = self.injection.watched() else {
            return false;
        };
        let point = Point::AfterBody;
        let (error, end) = match (watched.find(point), twice) {
            (Some(failure), _) => (injected_error(dialect, failure), None),
            (None, Some((error, end))) => (Ok(error), Some(end)),
            (None, None) => return false,
        };
        // The machine is not told of a database error, so there must not be a trace of one.
        let ends_nothing = matches!(end, Some(BodyEnd::Failed { fault: None, .. }));
        let body = Some(InBody { depth, end });
        watched.due = Some(match error {
            Ok(error) if ends_nothing => fails(dialect, point, "", error, body),
            Ok(error) => due(dialect, point, is_savepoint, "", error, body),
            Err(text) => not_there(dialect, point, text, body),
        });
        true
    }

    /// The error after which the operation runs once more, if it is to run twice and would be tried again.
    fn twice(&mut self) -> Option<(InjectedError, BodyEnd)> {
        let watched = self.injection.watched()?;
        if watched.attempts != 1 || !watched.faults.runs_twice() || self.machine.is_nested() {
            return None;
        }
        let now = watched.body_began?;
        let error = twice_error(self.dialect())?;
        let (fault, advice) = if self.machine.would_retry(Some(error.fault), now) {
            (Some(error.fault), Advice::Judge)
        } else if self.machine.would_retry(None, now) {
            (None, Advice::Retry)
        } else {
            return None;
        };
        Some((error, BodyEnd::Failed { fault, advice }))
    }

    /// Whether getting a connection is to fail.
    #[must_use]
    pub fn refused_connection(&mut self) -> Option<ConnectError> {
        let dialect = self.dialect();
        let watched = self.injection.watched()?;
        let failure = watched
            .can_reconnect
            .then(|| watched.find(Point::Connect))??;
        Some(match injected_error(dialect, failure) {
            Ok(error) => ConnectError::new(error.error()),
            Err(text) => ConnectError::permanent(text),
        })
    }

    /// The batch of the last step was answered. Returns the answer, unless it was the body's.
    pub(super) fn after_injection(
        &mut self,
        result: QueryResult<()>,
        results: &mut dyn UserResults,
    ) -> Option<QueryResult<()>> {
        let Some(due) = self.injection.take() else {
            return Some(result);
        };
        // What the database itself has to say comes first.
        let (error, end) = match result {
            Err(error) if !due.is_answer(&error) => (error, None),
            _ => (due.error, due.body.as_ref().and_then(|body| body.end)),
        };
        match due.body {
            Some(body) => {
                results.fail_body(self, error, end, body.depth);
                None
            }
            None => Some(Err(error)),
        }
    }

    pub(super) fn watched_done(&mut self, done: &Done) {
        if let Some(watched) = self.injection.watched() {
            watched.count(done.attempts);
            watched.faults.end(watched.run, done.outcome);
        }
    }
}

impl Due {
    fn is_answer(&self, error: &DieselError) -> bool {
        let message = database_message(error);
        self.marks.iter().any(|mark| message.contains(mark))
    }
}

/// The SQL that does to the database what the error stands for, and fails.
fn due(
    dialect: Dialect,
    point: Point,
    is_savepoint: bool,
    sql: &str,
    error: InjectedError,
    mut body: Option<InBody>,
) -> Due {
    if let Some(body) = body.as_mut().filter(|_| is_of_no_more_use(&error)) {
        // Nothing more is to be sent: what seems to be lost would answer.
        body.depth = None;
    }
    let ends_transaction = ends_transaction(dialect, point, is_savepoint, &error);
    let first = match point {
        // What a failing BEGIN leaves is cleaned up by what follows, but not on SQLite.
        Point::Begin if dialect == Dialect::Sqlite => String::new(),
        Point::Begin if ends_transaction => format!("{}; {}", trimmed(sql), rollback(dialect)),
        Point::Begin => trimmed(sql).to_owned(),
        Point::CommitAnswer if !is_savepoint => trimmed(sql).to_owned(),
        _ if ends_transaction => rollback(dialect).to_owned(),
        _ => String::new(),
    };
    fails(dialect, point, &first, error, body)
}

fn is_of_no_more_use(error: &InjectedError) -> bool {
    !error.fault.leaves_connection_usable()
}

fn is_loss(error: &InjectedError) -> bool {
    error.fault.class() == FaultClass::ConnectionLost
}

/// Whether the whole transaction is gone after this error.
fn ends_transaction(
    dialect: Dialect,
    point: Point,
    is_savepoint: bool,
    error: &InjectedError,
) -> bool {
    let fault = &error.fault;
    if is_of_no_more_use(error) {
        return true;
    }
    match dialect {
        // It keeps the transaction open, aborted, until a COMMIT that is refused.
        Dialect::Postgres => point == Point::Commit && !is_savepoint,
        Dialect::Mysql => {
            use FaultClass::{Deadlock, OutcomeUnknown, SerializationFailure};

            let class = fault.class();
            matches!(class, Deadlock | OutcomeUnknown | SerializationFailure)
        }
        _ => point != Point::Begin && fault.may_end_transaction(),
    }
}

/// The SQL, then a statement that fails.
fn fails(
    dialect: Dialect,
    point: Point,
    first: &str,
    error: InjectedError,
    body: Option<InBody>,
) -> Due {
    let mut sql = String::from(first);
    if !sql.is_empty() {
        sql.push_str("; ");
    }
    push_failure(&mut sql, dialect, &error);
    // On SQLite there is no SQL of the operation's among it that could fail.
    let text = match dialect {
        Dialect::Sqlite => "",
        _ => error.message,
    };
    Due {
        purpose: purpose(point),
        sql,
        error: error.error(),
        marks: [MARK, text],
        body,
    }
}

/// A fault that this database does not have. Nothing but a statement that fails is sent.
fn not_there(dialect: Dialect, point: Point, text: String, body: Option<InBody>) -> Due {
    let mut sql = String::new();
    push_statement(&mut sql, dialect, None, MARK);
    Due {
        purpose: purpose(point),
        sql,
        error: DieselError::QueryBuilderError(text.into()),
        marks: [MARK, MARK],
        body,
    }
}

/// What is in the text of the statement that fails.
const MARK: &str = "dbop_injected_fault";

fn push_failure(sql: &mut String, dialect: Dialect, error: &InjectedError) {
    match error.errno {
        Some(errno) => push_statement(sql, dialect, Some(errno), error.message),
        None => push_statement(sql, dialect, None, MARK),
    }
}

/// On MySQL and MariaDB the server is asked later which error it was.
fn push_statement(sql: &mut String, dialect: Dialect, errno: Option<u16>, message: &str) {
    _ = match dialect {
        Dialect::Postgres => write!(sql, "SELECT CAST('{MARK}' AS integer)"),
        Dialect::Mysql => write!(
            sql,
            "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO={}, MESSAGE_TEXT='{}'",
            errno.unwrap_or(1644),
            message.replace('\'', "''")
        ),
        _ => write!(sql, "SELECT {MARK}"),
    };
}

const fn rollback(dialect: Dialect) -> &'static str {
    match dialect {
        // A statement that failed has changed nothing, and that is asked later.
        Dialect::Sqlite => {
            "ROLLBACK; CREATE TEMP TABLE dbop_injected_fault (id INTEGER); \
             DELETE FROM temp.dbop_injected_fault; DROP TABLE temp.dbop_injected_fault"
        }
        Dialect::Mysql => "ROLLBACK AND NO CHAIN NO RELEASE",
        _ => "ROLLBACK",
    }
}

/// In the body, nothing is opened or closed.
const fn purpose(point: Point) -> BatchPurpose {
    match point {
        Point::Begin => BatchPurpose::Begin,
        Point::Commit | Point::CommitAnswer => BatchPurpose::Commit,
        Point::Connect | Point::BeforeBody | Point::AfterBody => BatchPurpose::Contain,
    }
}

fn trimmed(sql: &str) -> &str {
    sql.trim_end_matches([';', ' '])
}
