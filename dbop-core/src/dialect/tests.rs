use super::*;
use crate::settings::SynchronousCommit;

mod engines;
mod isolation;
mod opening;
mod proof;
mod sessions;

const TOP: Level = Level::Transaction;
const NESTED: Level = Level::Savepoint(NonZeroU32::MIN);

fn batches(dialect: Dialect, level: Level, settings: Settings) -> Batches {
    let before = SavedPragmas {
        busy_timeout: 250,
        ..SavedPragmas::default()
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
        "BEGIN READ ONLY; SET LOCAL lock_timeout = 2500; SET LOCAL statement_timeout = 1; \
         SAVEPOINT dbop_alive"
    );
    assert_eq!(
        set.commit(),
        "RELEASE SAVEPOINT dbop_alive; SET CONSTRAINTS ALL IMMEDIATE; COMMIT"
    );
    assert_eq!(
        set.undo(Undo::CheckedRollback),
        "ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK"
    );
    let bounded = Settings {
        read_only: false,
        ..all()
    };
    assert_eq!(
        batches(Dialect::Postgres, TOP, bounded).commit(),
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

/// What has the next transaction begin as the session has it.
macro_rules! as_the_session {
    () => {
        "/*M!110100 , SESSION transaction_isolation=@@SESSION.transaction_isolation, \
         SESSION transaction_read_only=@@SESSION.transaction_read_only, @dbop_skipped=' */\
         /*M!100100 , SESSION tx_isolation=@@SESSION.tx_isolation, \
         SESSION tx_read_only=@@SESSION.tx_read_only */\
         /*M!110100 ' */\
         /*!80000 , SESSION transaction_isolation=@@SESSION.transaction_isolation, \
         SESSION transaction_read_only=@@SESSION.transaction_read_only */"
    };
}

#[test]
fn mysql() {
    let plain = batches(Dialect::Mysql, TOP, Settings::default());
    assert_eq!(
        texts(&plain),
        (
            "SET @dbop_autocommit=@@autocommit, autocommit=0; START TRANSACTION; \
             SAVEPOINT dbop_alive",
            concat!(
                "RELEASE SAVEPOINT dbop_alive; SET autocommit=1",
                as_the_session!(),
                ", autocommit=@dbop_autocommit"
            ),
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
            concat!(
                "RELEASE SAVEPOINT dbop_alive; ",
                "SET /*M!100100 SESSION max_statement_time=@dbop_statement */",
                "/*!80000 SESSION max_execution_time=@dbop_statement */; ",
                "SET SESSION innodb_lock_wait_timeout=@dbop_lock, autocommit=1",
                as_the_session!(),
                ", autocommit=@dbop_autocommit"
            ),
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
            "PRAGMA busy_timeout=2500; PRAGMA query_only=1; BEGIN",
            "PRAGMA query_only=0; COMMIT; PRAGMA busy_timeout=250",
            "PRAGMA query_only=0; PRAGMA busy_timeout=250; ROLLBACK".into()
        )
    );
    assert!(!top.begins_immediate());
    let patient = Settings {
        lock_timeout: Some(Duration::from_secs(3)),
        ..Settings::default()
    };
    assert_eq!(
        batches(Dialect::Sqlite, TOP, patient).commit_again(),
        "COMMIT; PRAGMA busy_timeout=250"
    );
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
        query_only: true,
        ..SavedPragmas::default()
    };
    let batches =
        Batches::new(Dialect::Sqlite, TOP, &settings, &Defaults::NONE, before).expect("valid");
    assert_eq!(texts(&batches), ("BEGIN", "COMMIT", "ROLLBACK".into()));
}

#[test]
fn where_explaining_sets_it_sqlite_explains_that_it_only_reads() {
    let settings = Settings {
        read_only: true,
        ..Settings::default()
    };
    let before = SavedPragmas {
        is_set_by_explain: true,
        ..SavedPragmas::default()
    };
    let batches =
        Batches::new(Dialect::Sqlite, TOP, &settings, &Defaults::NONE, before).expect("valid");
    assert_eq!(
        texts(&batches),
        (
            "EXPLAIN QUERY PLAN PRAGMA query_only=1; BEGIN",
            "EXPLAIN QUERY PLAN PRAGMA query_only=0; COMMIT",
            "EXPLAIN QUERY PLAN PRAGMA query_only=0; ROLLBACK".into()
        )
    );
}

#[test]
fn sqlite_does_not_set_the_lock_timeout_that_there_is() {
    let settings = Settings {
        lock_timeout: Some(Duration::from_millis(250)),
        ..Settings::default()
    };
    let same = batches(Dialect::Sqlite, TOP, settings);
    assert_eq!(
        texts(&same),
        texts(&batches(Dialect::Sqlite, TOP, Settings::NONE))
    );
    assert!(same.commit_is_last());
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

/// Each statement costs the server time, in each operation.
#[test]
fn mysql_a_lock_timeout_takes_no_statement_of_its_own() {
    let asked = Settings {
        lock_timeout: Some(Duration::from_secs(3)),
        ..Settings::default()
    };
    let (nothing, by_default) = (Settings::default(), Defaults::default());
    let statements = |settings: &Settings, defaults: &Defaults| {
        let before = SavedPragmas::default();
        let batches = Batches::new(Dialect::Mysql, TOP, settings, defaults, before).expect("valid");
        let count = |sql: &str| sql.split("; ").count();
        (count(batches.begin()), count(batches.commit()))
    };
    assert_eq!(statements(&nothing, &Defaults::NONE), (3, 2));
    assert_eq!(statements(&nothing, &by_default), (3, 2));
    assert_eq!(statements(&asked, &by_default), (3, 2));
}

#[test]
fn mysql_a_statement_timeout_alone() {
    let settings = Settings {
        lock_timeout: None,
        ..timeouts()
    };
    let top = batches(Dialect::Mysql, TOP, settings);
    assert_eq!(
        top.begin(),
        "SET @dbop_autocommit=@@autocommit, autocommit=0, \
         /*M!100100 @dbop_statement=@@SESSION.max_statement_time, \
         SESSION max_statement_time=0.001 */\
         /*!80000 @dbop_statement=@@SESSION.max_execution_time, \
         SESSION max_execution_time=1 */; START TRANSACTION; SAVEPOINT dbop_alive"
    );
    let restoration = "SET /*M!100100 SESSION max_statement_time=@dbop_statement_1 */\
                       /*!80000 SESSION max_execution_time=@dbop_statement_1 */; ";
    let nested = batches(Dialect::Mysql, NESTED, settings);
    assert_eq!(
        nested.begin(),
        "SET /*M!100100 @dbop_statement_1=@@SESSION.max_statement_time, \
         SESSION max_statement_time=0.001 */\
         /*!80000 @dbop_statement_1=@@SESSION.max_execution_time, \
         SESSION max_execution_time=1 */; SAVEPOINT dbop_savepoint_1"
    );
    assert_eq!(nested.restoration(), restoration);
    assert_eq!(
        nested.commit(),
        format!("{restoration}RELEASE SAVEPOINT dbop_savepoint_1")
    );
}

#[test]
fn sub_units_are_rounded_up_never_to_no_limit() {
    assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
    assert_eq!(milliseconds(Duration::from_micros(1001)), 2);
    assert_eq!(seconds(Duration::from_millis(1)), 1);
    assert_eq!(seconds(Duration::from_millis(2001)), 3);
}

#[test]
fn an_attempt_is_one_level_deeper_than_what_is_around_it() {
    for depth in [0, 1, 17] {
        let level = Level::at_depth(depth);
        assert_eq!((level.outside(), level.inside()), (depth, depth + 1));
    }
}

#[test]
fn under_query_only_sqlite_gives_no_write_lock() {
    let settings = Settings {
        read_only: true,
        begin_mode: Some(crate::BeginMode::Immediate),
        ..Settings::default()
    };
    assert_eq!(
        batches(Dialect::Sqlite, TOP, settings).begin(),
        "BEGIN IMMEDIATE; PRAGMA query_only=1"
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
    assert_eq!(
        begin(Dialect::Postgres, TOP, read_only),
        "BEGIN READ ONLY; SAVEPOINT dbop_alive"
    );
    let savepoint = "SAVEPOINT dbop_savepoint_1";
    assert_eq!(
        begin(Dialect::Postgres, NESTED, read_only),
        format!("{savepoint}; SET TRANSACTION READ ONLY")
    );
    assert_eq!(begin(Dialect::Mysql, NESTED, read_only), savepoint);
    let exclusive = Defaults {
        begin_mode: Some(crate::BeginMode::Exclusive),
        ..Defaults::NONE
    };
    assert_eq!(
        begin(Dialect::Sqlite, TOP, exclusive),
        "BEGIN EXCLUSIVE; SAVEPOINT dbop_alive"
    );
    assert_eq!(begin(Dialect::Sqlite, NESTED, exclusive), savepoint);
}

#[test]
fn only_what_sql_cannot_keep_is_read_and_only_where_it_changes() {
    use super::PragmasToRead;

    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        let is_sqlite = dialect == Dialect::Sqlite;
        for bits in 0..16_u32 {
            let is_set = |bit: u32| bits & (1 << bit) != 0;
            let settings = Settings {
                lock_timeout: is_set(0).then_some(Duration::from_secs(1)),
                read_only: is_set(1),
                ..Settings::NONE
            };
            let defaults = Defaults {
                read_only: is_set(2),
                ..Defaults::NONE
            };
            let expected = PragmasToRead {
                busy_timeout: is_sqlite && (is_set(0) || is_set(3)),
                query_only: is_sqlite && (is_set(1) || is_set(2)),
            };
            let read = dialect.pragmas_to_read(&settings, &defaults, is_set(3));
            assert_eq!(read, expected, "{dialect:?} {bits:b}");
        }
    }
}

#[test]
fn what_is_asked_after_a_fault_is_asked_where_it_can_be_answered() {
    assert_eq!(Dialect::Postgres.undone_check(Profile::default()), "");
    assert!(
        Dialect::Mysql
            .undone_check(Profile::default())
            .contains("innodb_rollback_on_timeout")
    );
    assert!(!Dialect::Sqlite.undone_check(Profile::default()).is_empty());
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        assert_eq!(dialect.keep_diagnostics(Profile::default()), None);
        assert_eq!(dialect.kept_diagnostics(), "");
    }
    // What the one keeps, the other reads.
    let kept = Dialect::Mysql
        .keep_diagnostics(Profile::default())
        .expect("MySQL keeps it");
    for name in ["@dbop_errno", "@dbop_message"] {
        assert!(kept.contains(name));
        assert!(Dialect::Mysql.kept_diagnostics().contains(name));
    }
}

#[test]
fn sqlite_restores_each_pragma_that_it_has_changed_and_no_other() {
    let read_only = Settings {
        read_only: true,
        ..Settings::default()
    };
    let patient = Settings {
        lock_timeout: Some(Duration::from_secs(3)),
        ..Settings::default()
    };
    let commit = |settings| {
        let batches = batches(Dialect::Sqlite, TOP, settings);
        let is_last = batches.commit_is_last();
        (batches.commit().to_owned(), is_last)
    };
    let plain = "RELEASE SAVEPOINT dbop_alive; COMMIT".to_owned();
    assert_eq!(commit(Settings::default()), (plain, true));
    let restored = "PRAGMA query_only=0; COMMIT".to_owned();
    assert_eq!(commit(read_only), (restored, true));
    let restored = "RELEASE SAVEPOINT dbop_alive; COMMIT; PRAGMA busy_timeout=250".to_owned();
    assert_eq!(commit(patient), (restored, false));
}

#[test]
fn what_comes_before_a_commit_can_fail_for_other_reasons_with_a_statement_timeout_and_a_token() {
    for (level, settings, only_checks) in [
        (TOP, Settings::default(), true),
        (TOP, timeouts(), false),
        (NESTED, timeouts(), true),
    ] {
        let batches = batches(Dialect::Postgres, level, settings);
        assert_eq!(batches.only_checks_before_commit(), only_checks);
    }
    let ledger = crate::ledger::Ledger::new();
    let plain = batches(Dialect::Postgres, TOP, Settings::default());
    let proven = plain.with_token(&ledger.open()).expect("a token");
    assert!(!proven.only_checks_before_commit());
    assert!(batches(Dialect::Postgres, TOP, timeouts()).commit_is_last());
    assert!(!batches(Dialect::Mysql, TOP, timeouts()).commit_is_last());
}

#[test]
fn sqlite_shortens_only_a_wait_that_would_be_too_long() {
    let batches = batches(Dialect::Sqlite, TOP, Settings::default());
    let within = |left| batches.for_attempt(None, Some(Duration::from_millis(left)));
    assert!(within(250).is_none());
    let shorter = within(249).expect("a shorter wait");
    assert!(shorter.begin().starts_with("PRAGMA busy_timeout=249; "));
}

#[test]
fn each_change_of_a_mysql_session_is_taken_back_also_alone() {
    let second = Some(Duration::from_secs(1));
    let lock = Settings {
        lock_timeout: second,
        ..Settings::NONE
    };
    let statement = Settings {
        statement_timeout: second,
        ..Settings::NONE
    };
    for (settings, variable) in [(lock, "@dbop_lock"), (statement, "@dbop_statement")] {
        let batches = batches(Dialect::Mysql, TOP, settings);
        assert!(
            batches.commit().contains(&format!("={variable}")),
            "{variable}"
        );
        assert!(
            batches
                .undo(Undo::Rollback)
                .contains(&format!("={variable}")),
            "{variable}"
        );
    }
}

#[test]
fn what_a_commit_waits_for_is_set_for_its_transaction() {
    for (commit, value) in [
        (SynchronousCommit::Off, "off"),
        (SynchronousCommit::Local, "local"),
        (SynchronousCommit::RemoteWrite, "remote_write"),
        (SynchronousCommit::On, "on"),
        (SynchronousCommit::RemoteApply, "remote_apply"),
    ] {
        let settings = Settings {
            synchronous_commit: Some(commit),
            ..Settings::default()
        };
        let set = batches(Dialect::Postgres, TOP, settings);
        let begin = format!("BEGIN; SET LOCAL synchronous_commit = '{value}'");
        assert_eq!(
            texts(&set),
            (&*begin, "SAVEPOINT dbop; COMMIT", "ROLLBACK".into())
        );
    }
}

/// Its pragmas are read only where they are going to be set.
#[test]
fn without_a_transaction_nothing_is_read() {
    let settings = Settings {
        without_transaction: true,
        ..all()
    };
    let read = |defaults: &Defaults| Dialect::Sqlite.pragmas_to_read(&settings, defaults, true);
    assert_eq!(read(&Defaults::default()), PragmasToRead::default());
    let in_tests = Defaults {
        skip_what_open_transactions_refuse: true,
        ..Defaults::default()
    };
    assert!(read(&in_tests).busy_timeout && read(&in_tests).query_only);
}
