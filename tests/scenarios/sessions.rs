//! The session as the server shows it, for the scenarios about what is left of an operation.

use std::time::Duration;

use dbop_diesel::{
    Advice, BeginMode, IsolationLevel, OperationError, SynchronousCommit, diesel_error_in,
};
use dbop_tests::Word;
use dbop_tests::session::{Checkpoint, Server, Session};
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, Operation, RunQueryDsl as _, Runner, SimpleConnection as _, backend};
use super::{depth, helper};

pub(super) const LEVELS: [IsolationLevel; 4] = [
    IsolationLevel::ReadUncommitted,
    IsolationLevel::ReadCommitted,
    IsolationLevel::RepeatableRead,
    IsolationLevel::Serializable,
];

/// What the session is now: its settings, and what is open.
#[helper]
pub(super) async fn session(conn: &mut Conn) -> Session {
    let server = Server::of(backend::BACKEND);
    let settings: Word = sql_query(server.all_settings())
        .get_result(conn)
        .await
        .expect("an answer");
    let mut session = Session::of(settings.s);
    if server == Server::Sqlite {
        let checkpoint: Checkpoint = sql_query("PRAGMA wal_autocheckpoint")
            .get_result(conn)
            .await
            .expect("an answer");
        session.add("wal_autocheckpoint", &checkpoint.pages.to_string());
    }
    let is_open = conn.batch_execute(server.probe()).await.is_ok() != server.opens();
    session.add("a transaction is open", &is_open.to_string());
    session.add("Diesel's depth", &format!("{:?}", depth(conn)));
    assert!(session.len() > 30, "{session:?}");
    session
}

/// Panics if the session is not what it was.
#[helper]
pub(super) async fn assert_unchanged(conn: &mut Conn, before: &Session, after: &str) {
    let changes = before.changes(&session(conn).await);
    assert!(changes.is_empty(), "{after}: {changes:#?}");
}

/// What sessions have by themselves, stricter and looser than what runners and operations say.
pub(super) fn sessions() -> Vec<&'static str> {
    match Server::of(backend::BACKEND) {
        Server::Postgres => vec![
            "SET app.tenant = 'somebody'",
            "SET lock_timeout = '1500ms'; SET statement_timeout = '20s'; \
             SET default_transaction_isolation = 'serializable'; \
             SET default_transaction_deferrable = on",
            "SET lock_timeout = '2h'; SET statement_timeout = '90min'; \
             SET default_transaction_isolation = 'read uncommitted'",
            "SET default_transaction_isolation = 'repeatable read'; \
             SET default_transaction_read_only = on; SET IntervalStyle = 'iso_8601'",
        ],
        // The comments are read by one of the two servers each.
        Server::Mysql => vec![
            "SET sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'",
            "SET innodb_lock_wait_timeout = 2, autocommit = 0; \
             SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE; \
             /*M!100100 SET max_statement_time = 20.123457 */ \
             /*!80000 SET max_execution_time = 20123 */",
            "SET innodb_lock_wait_timeout = 5000, lock_wait_timeout = 7; \
             SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; \
             /*M!100100 SET max_statement_time = 5400 */ \
             /*!80000 SET max_execution_time = 5400000 */",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION TRANSACTION READ ONLY",
        ],
        Server::Sqlite => vec![
            "SELECT 1",
            "PRAGMA busy_timeout = 17; PRAGMA foreign_keys = ON",
            "PRAGMA busy_timeout = 5000000; PRAGMA read_uncommitted = ON",
            "PRAGMA query_only = ON; PRAGMA recursive_triggers = ON",
        ],
    }
}

/// Operations with no setting, with everything, and with each setting there is.
pub(super) fn operations(runner: &Runner) -> Vec<Operation<'_>> {
    const SECOND: Duration = Duration::from_secs(1);
    const LADDER: &[Duration] = &[SECOND, Duration::from_millis(2500)];
    let plain = runner.operation("plain");
    let everything = runner
        .operation("everything")
        .best_effort()
        .read_only()
        .isolation(IsolationLevel::Serializable)
        .begin_mode(BeginMode::Deferred)
        .deadline(40 * SECOND)
        .statement_timeout(30 * SECOND)
        .lock_timeouts(LADDER);
    let mut operations = vec![
        plain,
        everything,
        runner.operation("lock_timeout").lock_timeout(3 * SECOND),
        runner.operation("lock_timeouts").lock_timeouts(LADDER),
        runner
            .operation("statement_timeout")
            .statement_timeout(30 * SECOND),
        runner.operation("read_only").read_only(),
        runner
            .operation("deferrable")
            .read_only()
            .isolation(IsolationLevel::Serializable)
            .deferrable(),
        runner.operation("deadline").deadline(40 * SECOND),
        runner
            .operation("synchronous_commit")
            .synchronous_commit(SynchronousCommit::Off),
    ];
    operations.extend(LEVELS.map(|level| runner.operation("isolation").isolation(level)));
    operations.extend(
        [
            BeginMode::Deferred,
            BeginMode::Immediate,
            BeginMode::Exclusive,
        ]
        .map(|mode| runner.operation("begin_mode").begin_mode(mode)),
    );
    operations
}

/// Runners with every default there is, and with none.
pub(super) fn runners(runner: &Runner) -> Vec<Runner> {
    const SECOND: Duration = Duration::from_secs(1);
    vec![
        runner.clone(),
        runner.clone().with_default_lock_timeout(None),
        runner
            .clone()
            .with_default_lock_timeout(4 * SECOND)
            .with_default_statement_timeout(50 * SECOND)
            .with_default_isolation(IsolationLevel::RepeatableRead)
            .with_default_begin_mode(BeginMode::Deferred)
            .with_default_deadline(60 * SECOND),
        runner
            .clone()
            .with_default_read_only(true)
            .with_default_isolation(IsolationLevel::Serializable),
    ]
}

/// What goes wrong in operations.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no, thanks")]
    Own,
    #[error("again, please")]
    Again,
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for Trouble {
    fn diesel_error(&self) -> Option<&Error> {
        diesel_error_in(self)
    }

    fn advice(&self) -> Advice {
        match self {
            Self::Again => Advice::Retry,
            Self::Own | Self::Database(_) => Advice::Judge,
        }
    }
}
