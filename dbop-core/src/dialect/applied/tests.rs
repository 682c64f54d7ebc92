use super::*;
use crate::event::Name;
use crate::settings::LONGEST;
use crate::spec::{Resolution, Spec};

fn resolve(dialect: Dialect, level: Level, settings: Settings) -> Result<Applied, Error> {
    Applied::resolve(dialect, level, &settings, &Defaults::default())
}

const NESTED: Level = Level::Savepoint(std::num::NonZeroU32::MIN);

#[test]
fn the_timeout_of_an_operation_is_exact_a_default_is_not() {
    let asked = Settings {
        lock_timeout: Some(Duration::from_secs(3)),
        ..Settings::default()
    };
    let own = resolve(Dialect::Postgres, Level::Transaction, asked).expect("valid");
    assert_eq!(
        own.lock_timeout,
        Some(Timeout::Exact(Duration::from_secs(3)))
    );
    let default =
        resolve(Dialect::Postgres, Level::Transaction, Settings::default()).expect("valid");
    assert_eq!(
        default.lock_timeout,
        Some(Timeout::AtMost(Duration::from_secs(10)))
    );
    assert_eq!(default.statement_timeout, None);
}

#[test]
fn nonsensical_timeouts_are_rejected() {
    for bad in [
        Duration::ZERO,
        LONGEST + Duration::from_nanos(1),
        Duration::MAX,
    ] {
        for settings in [
            Settings {
                lock_timeout: Some(bad),
                ..Settings::default()
            },
            Settings {
                statement_timeout: Some(bad),
                ..Settings::default()
            },
        ] {
            let error = resolve(Dialect::Mysql, Level::Transaction, settings).expect_err("refused");
            assert!(error.is_invalid_setting(), "{error}");
        }
    }
}

#[test]
fn an_unsupported_setting_is_an_error_unless_best_effort() {
    let read_only = Settings {
        read_only: true,
        ..Settings::default()
    };
    let statement = Settings {
        statement_timeout: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    for (dialect, level, settings, setting) in [
        (Dialect::Mysql, NESTED, read_only, Setting::ReadOnly),
        (
            Dialect::Sqlite,
            Level::Transaction,
            statement,
            Setting::StatementTimeout,
        ),
        (
            Dialect::Sqlite,
            NESTED,
            statement,
            Setting::StatementTimeout,
        ),
    ] {
        let error = resolve(dialect, level, settings).expect_err("refused");
        assert!(error.is_unsupported_setting(), "{error}");
        let lenient = Settings {
            best_effort: true,
            ..settings
        };
        let mut applied = resolve(dialect, level, lenient).expect("best effort");
        assert_eq!(applied.skipped.take(), Some(setting));
        assert_eq!(applied.skipped.take(), None);
        assert!(!applied.read_only && applied.statement_timeout.is_none());
    }
}

#[test]
fn in_an_open_transaction_tests_skip_what_it_alone_refuses() {
    let defaults = Defaults {
        skip_what_open_transactions_refuse: true,
        ..Defaults::default()
    };
    let asked = Settings {
        read_only: true,
        isolation: Some(IsolationLevel::Serializable),
        begin_mode: Some(BeginMode::Immediate),
        ..Settings::default()
    };
    let mut applied =
        Applied::resolve(Dialect::Sqlite, NESTED, &asked, &defaults).expect("skipped");
    assert_eq!(applied.skipped.take(), Some(Setting::Isolation));
    assert_eq!(applied.skipped.take(), Some(Setting::BeginMode));
    assert!(applied.skipped.is_empty() && applied.read_only);
    let read_only = Settings {
        read_only: true,
        ..Settings::default()
    };
    let mut applied =
        Applied::resolve(Dialect::Mysql, NESTED, &read_only, &defaults).expect("skipped");
    assert!(!applied.skipped.is_empty() && !applied.read_only);
    assert_eq!(applied.skipped.take(), Some(Setting::ReadOnly));
    // What the database does not have at all stays an error.
    let asked = Settings {
        statement_timeout: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    Applied::resolve(Dialect::Sqlite, NESTED, &asked, &defaults).expect_err("refused");
}

#[test]
fn sqlite_ignores_defaults_it_does_not_support() {
    let defaults = Defaults {
        statement_timeout: Some(Duration::from_secs(1)),
        ..Defaults::default()
    };
    let applied = Applied::resolve(
        Dialect::Sqlite,
        Level::Transaction,
        &Settings::default(),
        &defaults,
    )
    .expect("ignored, not refused");
    assert_eq!(applied, Applied::default());
}

/// Each text says why, not only where.
#[test]
fn an_unsupported_setting_is_refused_with_its_true_reason() {
    const TOP: Level = Level::Transaction;
    const ALREADY_OPEN: &str = "cannot be changed inside a transaction that is already open";

    let none = Settings::default();
    let isolation = |level| Settings {
        isolation: Some(level),
        ..none
    };
    let weaker = isolation(IsolationLevel::ReadCommitted);
    let serializable = isolation(IsolationLevel::Serializable);
    let deferrable = Settings {
        deferrable: true,
        read_only: true,
        ..serializable
    };
    let begin_mode = Settings {
        begin_mode: Some(BeginMode::Immediate),
        ..none
    };
    let statement_timeout = Settings {
        statement_timeout: Some(Duration::from_secs(1)),
        ..none
    };
    let read_only = Settings {
        read_only: true,
        ..none
    };
    let always_serializable =
        "isolation READ COMMITTED is not supported on sqlite, which is always serializable";
    let isolation_open = format!("isolation {ALREADY_OPEN}");
    let no_statement_timeout =
        "statement_timeout is not supported on sqlite, which has no statement timeout";
    for (dialect, level, settings, reason) in [
        (Dialect::Sqlite, TOP, weaker, always_serializable),
        (Dialect::Sqlite, NESTED, weaker, always_serializable),
        (Dialect::Sqlite, NESTED, serializable, &isolation_open),
        (Dialect::Postgres, NESTED, weaker, &isolation_open),
        (Dialect::Mysql, NESTED, serializable, &isolation_open),
        (
            Dialect::Sqlite,
            TOP,
            statement_timeout,
            no_statement_timeout,
        ),
        (
            Dialect::Sqlite,
            NESTED,
            statement_timeout,
            no_statement_timeout,
        ),
        (
            Dialect::Postgres,
            TOP,
            begin_mode,
            "begin_mode is not supported on postgresql, only on sqlite",
        ),
        (
            Dialect::Mysql,
            NESTED,
            begin_mode,
            "begin_mode is not supported on mysql, only on sqlite",
        ),
        (
            Dialect::Sqlite,
            NESTED,
            begin_mode,
            &format!("begin_mode {ALREADY_OPEN}"),
        ),
        (
            Dialect::Mysql,
            TOP,
            deferrable,
            "deferrable is not supported on mysql, only on postgresql",
        ),
        (
            Dialect::Sqlite,
            TOP,
            deferrable,
            "deferrable is not supported on sqlite, only on postgresql",
        ),
        // It needs an isolation level, which is refused first.
        (Dialect::Postgres, NESTED, deferrable, &isolation_open),
        (
            Dialect::Mysql,
            NESTED,
            read_only,
            "read_only is not supported on mysql inside a transaction that is already open, only \
             for a whole transaction",
        ),
    ] {
        let error = resolve(dialect, level, settings).expect_err("refused");
        assert!(error.is_unsupported_setting(), "{error}");
        assert_eq!(error.to_string(), reason, "{dialect} {level:?}");
    }
    let status = Spec {
        resolution: Resolution::TransactionStatus,
        ..Spec::new(Name::Given("status"))
    };
    assert!(status.check(Dialect::Postgres, Profile::default()).is_ok());
    for dialect in [Dialect::Mysql, Dialect::Sqlite] {
        let error = status
            .check(dialect, Profile::default())
            .expect_err("PostgreSQL only");
        assert!(error.is_unsupported_setting(), "{error}");
        assert_eq!(
            error.to_string(),
            format!("transaction_status is not supported on {dialect}, only on postgresql")
        );
    }
}

#[test]
fn deferrable_in_an_open_transaction_is_refused_because_that_is_open() {
    let why = Unsupported::in_open_transaction(Setting::Deferrable);
    assert_eq!(
        why.to_string(),
        "deferrable cannot be changed inside a transaction that is already open"
    );
}

/// Every setting is remembered, each once, in one order.
#[test]
fn skipped_settings_are_taken_in_the_order_of_their_declaration() {
    let mut skipped = Skipped::NONE;
    for setting in Setting::ALL.into_iter().rev().chain(Setting::ALL) {
        skipped.add(setting);
    }
    let taken: Vec<_> = std::iter::from_fn(|| skipped.take()).collect();
    assert_eq!(taken, Setting::ALL);
    assert_eq!(skipped, Skipped::NONE);
    let is_in_order = |pair: &[Setting]| (pair[0] as u32) < pair[1] as u32;
    assert!(Setting::ALL.windows(2).all(is_in_order));
    assert_eq!(Setting::ALL.len(), Setting::Engine as usize + 1);
}

#[test]
fn everything_that_is_skipped_is_remembered() {
    let everything = Settings {
        read_only: true,
        isolation: Some(IsolationLevel::Serializable),
        deferrable: true,
        begin_mode: Some(BeginMode::Deferred),
        statement_timeout: Some(Duration::from_secs(1)),
        best_effort: true,
        ..Settings::default()
    };
    let isolation_to_deferrable = [Setting::Isolation, Setting::BeginMode, Setting::Deferrable];
    for (dialect, rest) in [
        (Dialect::Postgres, None),
        (Dialect::Mysql, Some(Setting::ReadOnly)),
        (Dialect::Sqlite, Some(Setting::StatementTimeout)),
    ] {
        let mut skipped = resolve(dialect, NESTED, everything)
            .expect("lenient")
            .skipped;
        let taken: Vec<_> = std::iter::from_fn(|| skipped.take()).collect();
        let expected: Vec<_> = isolation_to_deferrable.into_iter().chain(rest).collect();
        assert_eq!(taken, expected, "{dialect}");
    }
}

/// There is no transaction that they could end with.
#[test]
fn without_a_transaction_what_belongs_to_one_is_refused_and_defaults_are_not() {
    let plain = Settings {
        without_transaction: true,
        ..Settings::default()
    };
    let second = Some(Duration::from_secs(1));
    let cases = [
        Settings {
            isolation: Some(IsolationLevel::Serializable),
            ..plain
        },
        Settings {
            begin_mode: Some(BeginMode::Immediate),
            ..plain
        },
        Settings {
            synchronous_commit: Some(SynchronousCommit::Off),
            ..plain
        },
        Settings {
            statement_timeout: second,
            ..plain
        },
        Settings {
            lock_timeout: second,
            ..plain
        },
    ];
    let settings = [
        Setting::Isolation,
        Setting::BeginMode,
        Setting::SynchronousCommit,
        Setting::StatementTimeout,
        Setting::LockTimeout,
    ];
    let nothing = Applied {
        autocommit: true,
        ..Applied::default()
    };
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        for (asked, setting) in cases.into_iter().zip(settings) {
            let error = resolve(dialect, Level::Transaction, asked).expect_err("refused");
            let text = format!(
                "{setting} is not supported without a transaction, which the operation asked for"
            );
            assert!(error.is_unsupported_setting());
            assert_eq!(error.to_string(), text);
            let lenient = Settings {
                best_effort: true,
                ..asked
            };
            let mut applied = resolve(dialect, Level::Transaction, lenient).expect("skipped");
            assert_eq!(applied.skipped.take(), Some(setting));
            assert_eq!(applied, nothing);
        }
        // Read-only is a promise.
        let reads = Settings {
            read_only: true,
            ..plain
        };
        let defaults = Defaults {
            read_only: true,
            isolation: Some(IsolationLevel::Serializable),
            begin_mode: Some(BeginMode::Exclusive),
            statement_timeout: second,
            ..Defaults::default()
        };
        let applied = Applied::resolve(dialect, Level::Transaction, &reads, &defaults);
        assert_eq!(applied.expect("skipped"), nothing);
    }
}

#[test]
fn what_a_commit_waits_for_is_no_setting_of_a_savepoint() {
    let asked = Settings {
        synchronous_commit: Some(SynchronousCommit::Off),
        ..Settings::default()
    };
    for (dialect, level, text) in [
        (
            Dialect::Postgres,
            NESTED,
            "synchronous_commit cannot be changed inside a transaction that is already open",
        ),
        (
            Dialect::Mysql,
            Level::Transaction,
            "synchronous_commit is not supported on mysql, only on postgresql",
        ),
    ] {
        let error = resolve(dialect, level, asked).expect_err("refused");
        assert!(error.is_unsupported_setting());
        assert_eq!(error.to_string(), text);
        let lenient = Settings {
            best_effort: true,
            ..asked
        };
        let mut applied = resolve(dialect, level, lenient).expect("skipped");
        assert_eq!(applied.skipped.take(), Some(Setting::SynchronousCommit));
        assert_eq!(applied.synchronous_commit, None);
    }
}
