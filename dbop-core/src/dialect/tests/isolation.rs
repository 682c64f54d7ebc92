//! Isolation levels, and how a transaction of SQLite begins.

use super::*;
use crate::settings::{BeginMode, IsolationLevel};

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
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SAVEPOINT dbop_alive"
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
fn a_default_isolation_level_never_weakens_that_of_the_session() {
    let with_default = |dialect| {
        let defaults = Defaults {
            isolation: Some(IsolationLevel::ReadCommitted),
            ..Defaults::NONE
        };
        let (settings, before) = (Settings::default(), SavedPragmas::default());
        Batches::new(dialect, TOP, &settings, &defaults, before).expect("valid")
    };
    let postgres = with_default(Dialect::Postgres);
    assert_eq!(
        postgres.begin(),
        "BEGIN NOT DEFERRABLE; SELECT set_config('dbop.default_transaction_isolation', \
         current_setting('default_transaction_isolation'), false), \
         set_config('default_transaction_isolation', \
         CASE WHEN current_setting('default_transaction_isolation') IN \
         ('repeatable read', 'serializable', '') \
         THEN current_setting('default_transaction_isolation') ELSE 'read committed' END, false); \
         COMMIT; BEGIN"
    );
    assert!(postgres.commit().starts_with(
        "SAVEPOINT dbop; SELECT set_config('default_transaction_isolation', coalesce("
    ));
    let mysql = with_default(Dialect::Mysql);
    assert_eq!(
        mysql.begin(),
        "SET @dbop_autocommit=@@autocommit, autocommit=0\
         /*M!100100 , @dbop_isolation=@@SESSION.tx_isolation, SESSION tx_isolation=\
         IF(FIND_IN_SET(@@SESSION.tx_isolation, 'REPEATABLE-READ,SERIALIZABLE'), \
         @@SESSION.tx_isolation, 'READ-COMMITTED') */\
         /*!80000 , @dbop_isolation=@@SESSION.transaction_isolation, \
         SESSION transaction_isolation=IF(FIND_IN_SET(@@SESSION.transaction_isolation, \
         'REPEATABLE-READ,SERIALIZABLE'), @@SESSION.transaction_isolation, 'READ-COMMITTED') */; \
         START TRANSACTION; SAVEPOINT dbop_alive"
    );
    assert_eq!(
        mysql.undo(Undo::BlindRollback),
        "ROLLBACK AND NO CHAIN NO RELEASE; \
         SET /*M!100100 SESSION tx_isolation=@dbop_isolation */\
         /*!80000 SESSION transaction_isolation=@dbop_isolation */; \
         SET autocommit=@dbop_autocommit"
    );
    assert_eq!(
        mysql.commit(),
        "RELEASE SAVEPOINT dbop_alive; SET autocommit=1\
         /*M!110100 , SESSION transaction_isolation=@dbop_isolation, \
         SESSION transaction_read_only=@@SESSION.transaction_read_only, @dbop_skipped=' */\
         /*M!100100 , SESSION tx_isolation=@dbop_isolation, \
         SESSION tx_read_only=@@SESSION.tx_read_only */\
         /*M!110100 ' */\
         /*!80000 , SESSION transaction_isolation=@dbop_isolation, \
         SESSION transaction_read_only=@@SESSION.transaction_read_only */, \
         autocommit=@dbop_autocommit"
    );
}

#[test]
fn only_sqlite_has_begin_modes() {
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

#[test]
fn a_default_isolation_level_is_for_transactions_of_databases_that_have_levels() {
    let repeatable = Defaults {
        isolation: Some(IsolationLevel::RepeatableRead),
        ..Defaults::NONE
    };
    let texts = |dialect, level, defaults: &Defaults| {
        let none = Settings::default();
        let batches = Batches::new(dialect, level, &none, defaults, SavedPragmas::default());
        let batches = batches.expect("valid");
        [
            batches.begin(),
            batches.commit(),
            batches.undo(Undo::Rollback),
            batches.restoration(),
        ]
        .map(str::to_owned)
    };
    for (dialect, level, is_the_same) in [
        (Dialect::Postgres, TOP, false),
        (Dialect::Postgres, NESTED, true),
        (Dialect::Mysql, TOP, false),
        (Dialect::Mysql, NESTED, true),
        (Dialect::Sqlite, TOP, true),
        (Dialect::Sqlite, NESTED, true),
    ] {
        let with = texts(dialect, level, &repeatable);
        let without = texts(dialect, level, &Defaults::NONE);
        assert_eq!(with == without, is_the_same, "{dialect} {level:?}");
    }
}
