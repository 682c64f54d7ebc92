use super::*;
use crate::{BeginMode, IsolationLevel, Ledger};

const TOP: Level = Level::Transaction;
const NESTED: Level = Level::Savepoint(NonZeroU32::MIN);

fn batches(dialect: Dialect, level: Level, settings: Settings) -> Batches {
    let before = SavedPragmas {
        busy_timeout: 250,
        query_only: false,
    };
    Batches::new(dialect, level, &settings, &Defaults::NONE, before).expect("valid")
}

fn defaults(dialect: Dialect, level: Level) -> Batches {
    let defaults = Defaults {
        statement_timeout: Some(Duration::from_millis(2500)),
        ..Defaults::default()
    };
    let before = SavedPragmas::default();
    Batches::new(dialect, level, &Settings::default(), &defaults, before).expect("valid")
}

fn all() -> Settings {
    Settings {
        read_only: true,
        ..timeouts()
    }
}

fn timeouts() -> Settings {
    Settings {
        lock_timeout: Some(Duration::from_millis(2500)),
        statement_timeout: Some(Duration::from_nanos(1)),
        ..Settings::default()
    }
}

/// (begin, commit, rollback)
fn texts(batches: &Batches) -> (&str, &str, String) {
    (
        batches.begin(),
        batches.commit(),
        batches.undo(Undo::Rollback).to_owned(),
    )
}

#[test]
fn postgres() {
    let plain = batches(Dialect::Postgres, TOP, Settings::default());
    assert_eq!(
        texts(&plain),
        ("BEGIN", "SAVEPOINT dbop; COMMIT", "ROLLBACK".into())
    );
    let set = batches(Dialect::Postgres, TOP, all());
    assert_eq!(
        set.begin(),
        "BEGIN READ ONLY; SET LOCAL lock_timeout = 2500; SET LOCAL statement_timeout = 1"
    );
    assert_eq!(
        set.commit(),
        "SAVEPOINT dbop; SET CONSTRAINTS ALL IMMEDIATE; COMMIT"
    );
    let nested = batches(Dialect::Postgres, NESTED, all());
    assert_eq!(
        texts(&nested),
        (
            "SAVEPOINT dbop_savepoint_1; SET TRANSACTION READ ONLY; \
             SELECT set_config('dbop.lock_timeout_1', current_setting('lock_timeout'), true), \
             set_config('lock_timeout', '2500', true), \
             set_config('dbop.statement_timeout_1', current_setting('statement_timeout'), true), \
             set_config('statement_timeout', '1', true)",
            "SELECT set_config('lock_timeout', \
             coalesce(nullif(current_setting('dbop.lock_timeout_1', true), ''), \
             current_setting('lock_timeout')), true), \
             set_config('dbop.lock_timeout_1', '', true), \
             set_config('statement_timeout', \
             coalesce(nullif(current_setting('dbop.statement_timeout_1', true), ''), \
             current_setting('statement_timeout')), true), \
             set_config('dbop.statement_timeout_1', '', true); \
             RELEASE SAVEPOINT dbop_savepoint_1",
            "ROLLBACK TO SAVEPOINT dbop_savepoint_1; RELEASE SAVEPOINT dbop_savepoint_1".into()
        )
    );
}

#[test]
fn mysql() {
    let plain = batches(Dialect::Mysql, TOP, Settings::default());
    assert_eq!(
        texts(&plain),
        (
            "SET @dbop_autocommit=@@autocommit, autocommit=0; START TRANSACTION; \
             SAVEPOINT dbop_alive",
            "RELEASE SAVEPOINT dbop_alive; COMMIT AND NO CHAIN NO RELEASE; \
             SET autocommit=@dbop_autocommit",
            "ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK AND NO CHAIN NO RELEASE; \
             SET autocommit=@dbop_autocommit"
                .into()
        )
    );
    let set = batches(Dialect::Mysql, TOP, all());
    assert_eq!(
        texts(&set),
        (
            "SET @dbop_autocommit=@@autocommit, autocommit=0, \
             @dbop_lock=@@SESSION.innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout=3\
             /*M!100100 , @dbop_statement=@@SESSION.max_statement_time, \
             SESSION max_statement_time=0.001 */\
             /*!80000 , @dbop_statement=@@SESSION.max_execution_time, \
             SESSION max_execution_time=1 */; \
             START TRANSACTION READ ONLY; SAVEPOINT dbop_alive",
            "RELEASE SAVEPOINT dbop_alive; SET SESSION innodb_lock_wait_timeout=@dbop_lock\
             /*M!100100 , SESSION max_statement_time=@dbop_statement */\
             /*!80000 , SESSION max_execution_time=@dbop_statement */; \
             COMMIT AND NO CHAIN NO RELEASE; SET autocommit=@dbop_autocommit",
            "SET SESSION innodb_lock_wait_timeout=@dbop_lock\
             /*M!100100 , SESSION max_statement_time=@dbop_statement */\
             /*!80000 , SESSION max_execution_time=@dbop_statement */; \
             ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK AND NO CHAIN NO RELEASE; \
             SET autocommit=@dbop_autocommit"
                .into()
        )
    );
    let blind = set.undo(Undo::BlindRollback);
    assert!(blind.starts_with("ROLLBACK AND NO CHAIN NO RELEASE; SET SESSION"));
    assert!(blind.ends_with("; SET autocommit=@dbop_autocommit"));
    let nested = batches(Dialect::Mysql, NESTED, timeouts());
    assert!(nested.begin().starts_with("SET @dbop_lock_1="));
    assert!(nested.begin().ends_with("; SAVEPOINT dbop_savepoint_1"));
    assert!(
        nested
            .commit()
            .ends_with("; RELEASE SAVEPOINT dbop_savepoint_1")
    );
    assert!(
        nested
            .undo(Undo::Rollback)
            .starts_with("SET SESSION innodb_lock_wait_timeout=@dbop_lock_1")
    );
}

#[test]
fn sqlite() {
    let plain = batches(Dialect::Sqlite, TOP, Settings::default());
    assert_eq!(
        texts(&plain),
        (
            "BEGIN IMMEDIATE; SAVEPOINT dbop_alive",
            "RELEASE SAVEPOINT dbop_alive; COMMIT",
            "ROLLBACK".into()
        )
    );
    assert!(plain.begins_immediate());
    let set = Settings {
        statement_timeout: None,
        ..all()
    };
    let top = batches(Dialect::Sqlite, TOP, set);
    assert_eq!(
        texts(&top),
        (
            "PRAGMA busy_timeout=2500; PRAGMA query_only=1; BEGIN; SAVEPOINT dbop_alive",
            "RELEASE SAVEPOINT dbop_alive; PRAGMA query_only=0; COMMIT; PRAGMA busy_timeout=250",
            "PRAGMA query_only=0; PRAGMA busy_timeout=250; ROLLBACK".into()
        )
    );
    assert_eq!(
        top.commit_again(),
        "PRAGMA query_only=0; COMMIT; PRAGMA busy_timeout=250"
    );
    assert!(!top.begins_immediate());
    let nested = batches(Dialect::Sqlite, NESTED, set);
    assert_eq!(
        texts(&nested),
        (
            "PRAGMA busy_timeout=2500; PRAGMA query_only=1; SAVEPOINT dbop_savepoint_1",
            "PRAGMA query_only=0; PRAGMA busy_timeout=250; RELEASE SAVEPOINT dbop_savepoint_1",
            "PRAGMA query_only=0; PRAGMA busy_timeout=250; \
             ROLLBACK TO SAVEPOINT dbop_savepoint_1; RELEASE SAVEPOINT dbop_savepoint_1"
                .into()
        )
    );
}

#[test]
fn sqlite_leaves_a_session_that_is_read_only_already_as_it_is() {
    let settings = Settings {
        read_only: true,
        ..Settings::default()
    };
    let before = SavedPragmas {
        busy_timeout: 0,
        query_only: true,
    };
    let batches =
        Batches::new(Dialect::Sqlite, TOP, &settings, &Defaults::NONE, before).expect("valid");
    assert_eq!(
        texts(&batches),
        (
            "BEGIN; SAVEPOINT dbop_alive",
            "RELEASE SAVEPOINT dbop_alive; COMMIT",
            "ROLLBACK".into()
        )
    );
}

#[test]
fn a_default_never_makes_a_stricter_value_looser() {
    let postgres = defaults(Dialect::Postgres, TOP);
    assert_eq!(
        texts(&postgres),
        (
            "BEGIN NOT DEFERRABLE; SELECT \
             set_config('dbop.lock_timeout', current_setting('lock_timeout'), false), \
             set_config('lock_timeout', CASE WHEN current_setting('lock_timeout')::interval \
             BETWEEN '1 ms' AND '10000 ms' THEN current_setting('lock_timeout') \
             ELSE '10000' END, false), \
             set_config('dbop.statement_timeout', current_setting('statement_timeout'), false), \
             set_config('statement_timeout', CASE WHEN \
             current_setting('statement_timeout')::interval BETWEEN '1 ms' AND '2500 ms' \
             THEN current_setting('statement_timeout') ELSE '2500' END, false); COMMIT; BEGIN",
            "SAVEPOINT dbop; SET CONSTRAINTS ALL IMMEDIATE; SELECT \
             set_config('lock_timeout', \
             coalesce(nullif(current_setting('dbop.lock_timeout', true), ''), \
             current_setting('lock_timeout')), false), \
             set_config('dbop.lock_timeout', '', false), \
             set_config('statement_timeout', \
             coalesce(nullif(current_setting('dbop.statement_timeout', true), ''), \
             current_setting('statement_timeout')), false), \
             set_config('dbop.statement_timeout', '', false); COMMIT",
            "ROLLBACK; SELECT \
             set_config('lock_timeout', \
             coalesce(nullif(current_setting('dbop.lock_timeout', true), ''), \
             current_setting('lock_timeout')), false), \
             set_config('dbop.lock_timeout', '', false), \
             set_config('statement_timeout', \
             coalesce(nullif(current_setting('dbop.statement_timeout', true), ''), \
             current_setting('statement_timeout')), false), \
             set_config('dbop.statement_timeout', '', false)"
                .into()
        )
    );
    let mysql = defaults(Dialect::Mysql, TOP);
    for part in [
        "SESSION innodb_lock_wait_timeout=\
         CAST(LEAST(@@SESSION.innodb_lock_wait_timeout, 10) AS UNSIGNED)",
        "SESSION max_execution_time=CAST(IF(@@SESSION.max_execution_time BETWEEN 1 AND 2500, \
         @@SESSION.max_execution_time, 2500) AS UNSIGNED)",
        "SESSION max_statement_time=CAST(IF(@@SESSION.max_statement_time BETWEEN 0.000001 AND \
         2.500, @@SESSION.max_statement_time, 2.500) AS DECIMAL(20,6))",
    ] {
        assert!(mysql.begin().contains(part), "{part} in {}", mysql.begin());
    }
}

#[test]
fn sub_units_are_rounded_up_never_to_no_limit() {
    assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
    assert_eq!(milliseconds(Duration::from_micros(1001)), 2);
    assert_eq!(seconds(Duration::from_millis(1)), 1);
    assert_eq!(seconds(Duration::from_millis(2001)), 3);
}

#[test]
fn isolation_levels_are_a_part_of_the_opening_batch() {
    let ask = |dialect, settings| {
        let before = SavedPragmas::default();
        Batches::new(
            dialect,
            Level::Transaction,
            &settings,
            &Defaults::NONE,
            before,
        )
    };
    let serializable = Settings {
        isolation: Some(IsolationLevel::Serializable),
        ..Settings::default()
    };
    let begin = |dialect| {
        ask(dialect, serializable)
            .expect("supported")
            .begin()
            .to_owned()
    };
    assert_eq!(
        begin(Dialect::Postgres),
        "BEGIN ISOLATION LEVEL SERIALIZABLE"
    );
    assert_eq!(
        begin(Dialect::Mysql),
        "SET @dbop_autocommit=@@autocommit, autocommit=0; \
         SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; START TRANSACTION; SAVEPOINT dbop_alive"
    );
    assert_eq!(
        begin(Dialect::Sqlite),
        "BEGIN IMMEDIATE; SAVEPOINT dbop_alive"
    );
    let deferrable = Settings {
        read_only: true,
        deferrable: true,
        ..serializable
    };
    assert_eq!(
        ask(Dialect::Postgres, deferrable)
            .expect("supported")
            .begin(),
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE"
    );
    let alone = Settings {
        read_only: false,
        ..deferrable
    };
    let error = ask(Dialect::Postgres, alone).expect_err("it means nothing alone");
    assert!(error.is_invalid_setting(), "{error}");
    for dialect in [Dialect::Mysql, Dialect::Sqlite] {
        let error = ask(dialect, deferrable).expect_err("PostgreSQL only");
        assert!(error.is_unsupported_setting(), "{error}");
    }
    let weaker = Settings {
        isolation: Some(IsolationLevel::ReadCommitted),
        ..Settings::default()
    };
    let error = ask(Dialect::Sqlite, weaker).expect_err("SQLite has one level");
    assert!(error.is_unsupported_setting(), "{error}");
}

#[test]
fn begin_modes_are_sqlite_s() {
    for (mode, sql, immediate) in [
        (BeginMode::Deferred, "BEGIN", false),
        (BeginMode::Immediate, "BEGIN IMMEDIATE", true),
        (BeginMode::Exclusive, "BEGIN EXCLUSIVE", true),
    ] {
        let settings = Settings {
            begin_mode: Some(mode),
            ..Settings::default()
        };
        let ask = |dialect, level| {
            let before = SavedPragmas::default();
            Batches::new(dialect, level, &settings, &Defaults::NONE, before)
        };
        let batches = ask(Dialect::Sqlite, Level::Transaction).expect("supported");
        assert_eq!(batches.begin(), format!("{sql}; SAVEPOINT dbop_alive"));
        assert_eq!(batches.begins_immediate(), immediate);
        for (dialect, level) in [
            (Dialect::Sqlite, Level::at_depth(1)),
            (Dialect::Postgres, Level::Transaction),
            (Dialect::Mysql, Level::Transaction),
        ] {
            let error = ask(dialect, level).expect_err("not there");
            assert!(error.is_unsupported_setting(), "{error}");
        }
    }
}

/// The token is the first thing in the transaction and the last one, but for what must come before
/// COMMIT; the check in front of it comes first.
#[test]
fn a_note_is_opened_first_and_closed_behind_the_check() {
    let marked = batches(Dialect::Postgres, TOP, timeouts()).with_mark();
    assert!(
        marked
            .begin()
            .ends_with("; SET LOCAL dbop.transaction = 'ours'; SAVEPOINT dbop_alive")
    );
    assert_eq!(
        marked.commit(),
        "RELEASE SAVEPOINT dbop_alive; SET CONSTRAINTS ALL IMMEDIATE; COMMIT"
    );
    assert_eq!(
        marked.undo(Undo::CheckedRollback),
        "ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK"
    );

    let ledger = Ledger::new();
    let entry = ledger.open();
    let noted = |dialect| defaults(dialect, TOP).with_token(&entry);
    let parts = |sql: &str| {
        let parts: Vec<_> = sql.split("; ").map(|part| part.to_owned()).collect();
        parts
    };
    let starts = |sql: &str, expected: &[&str]| {
        let parts = parts(sql);
        assert_eq!(parts.len(), expected.len(), "{parts:#?}");
        for (part, expected) in parts.iter().zip(expected) {
            assert!(part.starts_with(expected), "{part}: {expected}");
        }
    };
    let postgres = noted(Dialect::Postgres);
    starts(
        postgres.begin(),
        &[
            "BEGIN NOT DEFERRABLE",
            "SELECT set_config(",
            "COMMIT",
            "BEGIN",
            "INSERT INTO dbop_ledger (token) VALUES ('dbop",
            "SAVEPOINT dbop_alive",
        ],
    );
    starts(
        postgres.commit(),
        &[
            "RELEASE SAVEPOINT dbop_alive",
            "INSERT INTO dbop_ledger (token) VALUES ('dbop",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "SELECT set_config(",
            "COMMIT",
        ],
    );
    let mysql = noted(Dialect::Mysql);
    starts(
        mysql.begin(),
        &[
            "SET @dbop_autocommit=@@autocommit",
            "START TRANSACTION",
            "SAVEPOINT dbop_alive",
            "INSERT INTO dbop_ledger (token) VALUES ('dbop",
        ],
    );
    starts(
        mysql.commit(),
        &[
            "RELEASE SAVEPOINT dbop_alive",
            "UPDATE dbop_ledger SET completed = TRUE",
            "SET SESSION",
            "COMMIT AND NO CHAIN NO RELEASE",
            "SET autocommit=@dbop_autocommit",
        ],
    );
    // A savepoint and what writes nothing have none.
    for (level, settings) in [(NESTED, timeouts()), (TOP, all())] {
        for dialect in [Dialect::Postgres, Dialect::Mysql] {
            let settings = Settings {
                best_effort: true,
                ..settings
            };
            let plain = batches(dialect, level, settings);
            let (begin, commit) = (plain.begin().to_owned(), plain.commit().to_owned());
            let noted = plain.with_token(&entry);
            assert_eq!((noted.begin(), noted.commit()), (&*begin, &*commit));
        }
    }
}

#[test]
fn under_query_only_sqlite_gives_no_write_lock() {
    let settings = Settings {
        read_only: true,
        begin_mode: Some(BeginMode::Immediate),
        ..Settings::default()
    };
    assert_eq!(
        batches(Dialect::Sqlite, TOP, settings).begin(),
        "BEGIN IMMEDIATE; SAVEPOINT dbop_alive; PRAGMA query_only=1"
    );
}

#[test]
fn defaults_count_where_they_can() {
    let begin = |dialect, level, defaults: Defaults| {
        let settings = Settings::default();
        let batches = Batches::new(
            dialect,
            level,
            &settings,
            &defaults,
            SavedPragmas::default(),
        );
        batches.expect("valid").begin().to_owned()
    };
    let read_only = Defaults {
        read_only: true,
        ..Defaults::NONE
    };
    assert_eq!(begin(Dialect::Postgres, TOP, read_only), "BEGIN READ ONLY");
    let savepoint = "SAVEPOINT dbop_savepoint_1";
    assert_eq!(
        begin(Dialect::Postgres, NESTED, read_only),
        format!("{savepoint}; SET TRANSACTION READ ONLY")
    );
    assert_eq!(begin(Dialect::Mysql, NESTED, read_only), savepoint);
    let exclusive = Defaults {
        begin_mode: Some(BeginMode::Exclusive),
        ..Defaults::NONE
    };
    assert_eq!(
        begin(Dialect::Sqlite, TOP, exclusive),
        "BEGIN EXCLUSIVE; SAVEPOINT dbop_alive"
    );
    assert_eq!(begin(Dialect::Sqlite, NESTED, exclusive), savepoint);
}

#[test]
fn a_default_isolation_level_is_set_for_the_session_and_put_back() {
    let defaults = Defaults {
        isolation: Some(IsolationLevel::RepeatableRead),
        ..Defaults::NONE
    };
    let batches = |dialect| {
        let (settings, before) = (Settings::default(), SavedPragmas::default());
        Batches::new(dialect, TOP, &settings, &defaults, before).expect("valid")
    };
    let postgres = batches(Dialect::Postgres);
    let setting = "set_config('default_transaction_isolation', ";
    let stricter = "IN ('serializable', '') THEN";
    assert!(postgres.begin().contains(setting) && postgres.begin().contains(stricter));
    assert!(postgres.commit().contains(setting), "{}", postgres.commit());
    let mysql = batches(Dialect::Mysql);
    let stricter = "FIND_IN_SET(@@SESSION.transaction_isolation, 'SERIALIZABLE')";
    assert!(mysql.begin().contains(stricter), "{}", mysql.begin());
    let restored = "/*!80000 SESSION transaction_isolation */=@dbop_isolation; COMMIT";
    assert!(mysql.commit().contains(restored), "{}", mysql.commit());
}
