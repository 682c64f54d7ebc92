//! What each engine is sent, and what a pooler-safe runner sends.

use super::*;
use crate::dialect::sessions::{Needed, SessionSetting, Sessions};
use crate::event::Name;
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::settings::IsolationLevel;
use crate::spec::{Resolution, Spec};

fn of(engine: Option<Engine>, pooler_safe: bool, defaults: Defaults) -> Defaults {
    Defaults {
        engine,
        pooler_safe,
        ..defaults
    }
}

/// The batches of a runner with its defaults, in a session that is not stricter.
fn sent(level: Level, settings: &Settings, defaults: &Defaults, dialect: Dialect) -> Batches {
    let needed = Needed::by(settings, defaults, false, false);
    let known = match (dialect, level) {
        (Dialect::Postgres, Level::Transaction) => Sessions::default().known(defaults, needed),
        _ => Known::NOTHING,
    };
    let before = SavedPragmas::default();
    let batches = Batches::new(dialect, level, settings, defaults, before).expect("valid");
    let batches = batches.in_session(known);
    match batches.remembers_answers() {
        true => batches.in_laxer_session(),
        false => batches,
    }
}

fn for_engine(engine: Engine, settings: &Settings) -> Batches {
    let defaults = of(Some(engine), false, Defaults::default());
    sent(TOP, settings, &defaults, engine.dialect())
}

fn pooled(level: Level, settings: &Settings, dialect: Dialect) -> Batches {
    sent(
        level,
        settings,
        &of(None, true, Defaults::default()),
        dialect,
    )
}

fn bounded() -> Settings {
    Settings {
        statement_timeout: Some(Duration::from_secs(2)),
        ..Settings::NONE
    }
}

/// While the runner does not know the session yet.
#[test]
fn an_engine_is_asked_for_nothing_that_it_does_not_have() {
    let first = |engine: Engine| {
        let defaults = of(Some(engine), false, Defaults::default());
        let needed = Needed::by(&Settings::NONE, &defaults, false, false);
        let known = Sessions::default().known(&defaults, needed);
        let before = SavedPragmas::default();
        let batches = Batches::new(engine.dialect(), TOP, &Settings::NONE, &defaults, before);
        batches.expect("valid").in_session(known).begin().to_owned()
    };
    let of_postgres = first(Engine::Postgres);
    assert!(of_postgres.contains("default_transaction_deferrable"));
    assert!(of_postgres.contains("current_setting('lock_timeout')"));
    let cockroach = first(Engine::CockroachDb);
    assert!(
        !cockroach.contains("default_transaction_deferrable"),
        "{cockroach}"
    );
    assert!(cockroach.contains("current_setting('lock_timeout')"));
    let dsql = first(Engine::AuroraDsql);
    assert_eq!(dsql, "BEGIN; SET LOCAL dbop.transaction = 'ours'");
}

const CHECK: &str = "SELECT CASE WHEN current_setting('dbop.transaction', true) = 'ours' \
     THEN NULL ELSE current_setting('dbop_alive.is_gone') END";

/// What is sent, with and without a statement timeout, and after a body that failed.
#[test]
fn engines_of_postgres() {
    let lock = "SET LOCAL lock_timeout = 10000";
    let statement = "SET LOCAL statement_timeout = 2000";
    let mark = "SET LOCAL dbop.transaction = 'ours'";
    let savepoint = "SAVEPOINT dbop";
    for (engine, timeouts, marked, constraints) in [
        (
            Engine::Postgres,
            format!("; {lock}"),
            "",
            "SET CONSTRAINTS ALL IMMEDIATE; ",
        ),
        (
            Engine::Yugabyte,
            format!("; {lock}"),
            "",
            "SET CONSTRAINTS ALL IMMEDIATE; ",
        ),
        (Engine::CockroachDb, format!("; {lock}"), mark, ""),
        (Engine::AuroraDsql, String::new(), mark, ""),
    ] {
        let separated = |sql: &str| {
            if sql.is_empty() {
                String::new()
            } else {
                format!("; {sql}")
            }
        };
        let guard = if timeouts.is_empty() {
            ""
        } else {
            " NOT DEFERRABLE"
        };
        let check = if marked.is_empty() { savepoint } else { CHECK };
        let undo = if marked.is_empty() {
            "ROLLBACK AND CHAIN"
        } else {
            CHECK
        };
        let plain = for_engine(engine, &Settings::NONE);
        assert_eq!(
            plain.begin(),
            format!("BEGIN{guard}{timeouts}{}", separated(marked))
        );
        assert_eq!(plain.commit(), format!("{check}; COMMIT"));
        assert_eq!(plain.undo(Undo::Rollback), "ROLLBACK");
        assert_eq!(
            plain.undo(Undo::CheckedRollback),
            format!("{undo}; ROLLBACK")
        );
        let bounded = for_engine(engine, &bounded());
        let begin = format!("BEGIN{guard}{timeouts}; {statement}{}", separated(marked));
        assert_eq!(bounded.begin(), begin);
        assert_eq!(bounded.commit(), format!("{check}; {constraints}COMMIT"));
        assert_eq!(bounded.only_checks_before_commit(), constraints.is_empty());
    }
}

#[test]
fn engines_of_mysql() {
    for engine in [Engine::MySql, Engine::MariaDb, Engine::Galera, Engine::TiDb] {
        let named = for_engine(engine, &Settings::NONE);
        let none = sent(TOP, &Settings::NONE, &Defaults::default(), Dialect::Mysql);
        assert_eq!(texts(&named), texts(&none), "{engine}");
    }
    let vitess = for_engine(Engine::Vitess, &Settings::NONE);
    assert_eq!(
        texts(&vitess),
        (
            "SET autocommit=0; START TRANSACTION; SAVEPOINT dbop_alive",
            "RELEASE SAVEPOINT dbop_alive; COMMIT; SET autocommit=1",
            "ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK; SET autocommit=1".into()
        )
    );
    assert_eq!(
        vitess.undo(Undo::BlindRollback),
        "ROLLBACK; SET autocommit=1"
    );
    assert_eq!(vitess.restoration(), "");
    // Its tokens are deleted in a transaction that a bare COMMIT ends.
    let ledger = Ledger::new();
    for _ in 0..64 {
        let entry = ledger.open();
        assert!(vitess.with_token(&entry).is_some());
        entry.close(Outcome::Committed);
    }
    let token = vitess.with_token(&ledger.open()).expect("a token");
    let begin = token.begin();
    assert!(begin.contains("served.id; COMMIT; START"), "{begin}");
}

/// What is not proven to be read-only can have written something, and is told from it by nothing.
#[test]
fn read_only_is_a_proof_only_where_the_engine_enforces_it() {
    let read_only = Settings {
        read_only: true,
        ..Settings::NONE
    };
    for (engine, is_proof, begins) in [
        (Engine::Postgres, true, "BEGIN READ ONLY"),
        (Engine::Yugabyte, true, "BEGIN READ ONLY"),
        (Engine::CockroachDb, false, "BEGIN READ ONLY"),
        (Engine::AuroraDsql, false, "BEGIN READ ONLY"),
        (Engine::MariaDb, true, "START TRANSACTION READ ONLY"),
        (Engine::Vitess, false, "START TRANSACTION READ ONLY"),
    ] {
        let batches = for_engine(engine, &read_only);
        assert_eq!(batches.is_read_only(), is_proof, "{engine}");
        assert!(batches.begin().contains(begins), "{}", batches.begin());
        let has_savepoint = batches.begin().contains("SAVEPOINT dbop_alive");
        assert_eq!(
            has_savepoint,
            is_proof || engine == Engine::Vitess,
            "{engine}"
        );
        assert!(batches.with_token(&Ledger::new().open()).is_none());
    }
    // By default it is left out there.
    let defaults = Defaults {
        read_only: true,
        ..of(Some(Engine::TiDb), false, Defaults::default())
    };
    let batches = sent(TOP, &Settings::NONE, &defaults, Dialect::Mysql);
    assert!(!batches.is_read_only());
    assert!(
        !batches.begin().contains("READ ONLY"),
        "{}",
        batches.begin()
    );
}

#[test]
fn a_timeout_of_cockroachdb_is_read_by_its_unit_if_there_is_one() {
    let defaults = Defaults {
        sessions_differ: true,
        ..of(Some(Engine::CockroachDb), false, Defaults::default())
    };
    let begin = sent(TOP, &Settings::NONE, &defaults, Dialect::Postgres);
    assert!(
        begin.begin().contains(
            "CASE WHEN (current_setting('lock_timeout') || \
             CASE WHEN right(current_setting('lock_timeout'), 1) \
             IN ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9') THEN 'ms' ELSE '' END)::interval \
             BETWEEN '1 ms' AND '10000 ms' \
             THEN current_setting('lock_timeout') ELSE '10000' END"
        ),
        "{}",
        begin.begin()
    );
}

const IN_ITS_TRANSACTION: &str = "SELECT set_config('lock_timeout', CASE WHEN \
    current_setting('lock_timeout')::interval BETWEEN '1 ms' AND '10000 ms' \
    THEN current_setting('lock_timeout') ELSE '10000' END, true)";

#[test]
fn a_pooler_safe_runner_asks_on_postgres_each_time() {
    let asking = pooled(TOP, &Settings::NONE, Dialect::Postgres);
    let question = "BEGIN NOT DEFERRABLE; SELECT CASE WHEN \
        current_setting('lock_timeout')::interval BETWEEN '1 ms' AND '10000 ms' \
        THEN current_setting('dbop.lock_timeout_is_stricter') END, \
        CASE WHEN current_setting('default_transaction_deferrable') = 'on' \
        THEN current_setting('dbop.default_transaction_deferrable_is_stricter') END; COMMIT; ";
    let begin = "BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000";
    assert_eq!(
        texts(&asking),
        (
            &*format!("{question}{begin}"),
            "SAVEPOINT dbop; COMMIT",
            "ROLLBACK".into()
        )
    );
    let stricter = asking.in_stricter_session(SessionSetting::LockTimeout);
    let (_, question) = question.split_once(", CASE").expect("two");
    let question = format!("BEGIN NOT DEFERRABLE; SELECT CASE{question}");
    let begin = format!("{question}BEGIN NOT DEFERRABLE; {IN_ITS_TRANSACTION}");
    assert_eq!(stricter.begin(), begin);
    assert_eq!(stricter.commit(), "SAVEPOINT dbop; COMMIT");
    let stricter = stricter.in_stricter_session(SessionSetting::Deferrable);
    let begin = format!("BEGIN NOT DEFERRABLE; COMMIT; BEGIN; {IN_ITS_TRANSACTION}");
    assert_eq!(stricter.begin(), begin);
    assert_eq!(stricter.undo(Undo::Rollback), "ROLLBACK");
}

/// Each attempt asks whether the session is stricter than what the attempt itself wants.
#[test]
fn a_pooler_safe_attempt_with_a_deadline_asks_for_the_time_that_is_left() {
    let defaults = of(None, true, Defaults::default());
    let needed = Needed::by(&Settings::NONE, &defaults, false, true);
    let known = Sessions::default().known(&defaults, needed);
    let before = SavedPragmas::default();
    let batches = Batches::new(Dialect::Postgres, TOP, &Settings::NONE, &defaults, before);
    let batches = batches.expect("valid").in_session(known);
    let left = Some(Duration::from_millis(1234));
    let attempt = batches.for_attempt(None, left).expect("a deadline");
    let condition = "current_setting('statement_timeout')::interval BETWEEN '1 ms' AND '1234 ms' \
        THEN current_setting('dbop.statement_timeout_is_stricter')";
    assert!(attempt.begin().contains(condition), "{}", attempt.begin());
    let stricter = attempt.in_stricter_session(SessionSetting::StatementTimeout);
    let next = stricter.for_attempt(None, Some(Duration::from_millis(77)));
    let next = next.expect("less time");
    assert!(
        next.begin().ends_with(
            "SET LOCAL lock_timeout = 10000; SELECT set_config('statement_timeout', \
             CASE WHEN current_setting('statement_timeout')::interval BETWEEN '1 ms' AND '77 ms' \
             THEN current_setting('statement_timeout') ELSE '77' END, true)"
        ),
        "{}",
        next.begin()
    );
    for batches in [&attempt, &stricter, &next] {
        assert!(!batches.begin().contains(", false)"), "{}", batches.begin());
        assert!(
            !batches.commit().contains("set_config"),
            "{}",
            batches.commit()
        );
    }
}

/// The question about a lost COMMIT cannot ask as well: there a look is part of its transaction.
#[test]
fn the_question_of_a_pooler_safe_runner_sets_nothing_for_the_session() {
    let ledger = Ledger::new();
    let asking = pooled(TOP, &Settings::NONE, Dialect::Postgres);
    let token = asking.with_token(&ledger.open()).expect("a token");
    let question = token.question().expect("a question").batches;
    let begin = "BEGIN NOT DEFERRABLE; COMMIT; BEGIN ISOLATION LEVEL READ COMMITTED; ";
    assert!(
        question
            .begin()
            .starts_with(&format!("{begin}{IN_ITS_TRANSACTION}; INSERT")),
        "{}",
        question.begin()
    );
    assert_eq!(question.commit(), "SAVEPOINT dbop; COMMIT");
    let defaults = of(None, true, Defaults::default());
    let before = SavedPragmas::default();
    let nested = defaults.of_nested();
    let nested = Batches::new(Dialect::Postgres, TOP, &Settings::NONE, &nested, before);
    let late = nested
        .expect("valid")
        .for_attempt(None, Some(Duration::from_secs(1)));
    let begin = late.expect("a deadline").begin().to_owned();
    assert!(begin.ends_with("ELSE '1000' END, true)"), "{begin}");
}

/// A question is asked on another connection, about the token alone.
#[test]
fn an_attempt_of_which_a_pooler_forgets_the_statements_has_its_settings() {
    let forget = "BEGIN NOT DEFERRABLE; DEALLOCATE ALL; COMMIT; ";
    let batches = pooled(TOP, &Settings::NONE, Dialect::Postgres);
    let (begin, commit) = (batches.begin(), batches.commit());
    let forgetting = batches.forgetting();
    assert_eq!(forgetting.begin(), format!("{forget}{begin}"));
    assert_eq!(forgetting.commit(), commit);
    let left = Some(Duration::from_secs(1));
    let late = forgetting.for_attempt(None, left).expect("a deadline");
    assert!(late.begin().starts_with(forget), "{}", late.begin());
    let ledger = Ledger::new();
    let token = forgetting.with_token(&ledger.open()).expect("a token");
    let question = token.question().expect("a question").batches;
    let asks = question.begin();
    assert!(!asks.contains("DEALLOCATE"), "{asks}");
}

#[test]
fn a_pooler_safe_runner_sets_no_variable_on_mysql() {
    let plain = pooled(TOP, &Settings::NONE, Dialect::Mysql);
    assert_eq!(
        texts(&plain),
        (
            "SET autocommit=0; START TRANSACTION; SAVEPOINT dbop_alive",
            "RELEASE SAVEPOINT dbop_alive; COMMIT AND NO CHAIN NO RELEASE; SET autocommit=1",
            "ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK AND NO CHAIN NO RELEASE; SET autocommit=1"
                .into()
        )
    );
    assert!(
        plain
            .for_attempt(None, Some(Duration::from_secs(1)))
            .is_none()
    );
    let nested = sent(
        NESTED,
        &Settings::NONE,
        &of(None, true, Defaults::default()).of_nested(),
        Dialect::Mysql,
    );
    assert_eq!(
        texts(&nested),
        (
            "SAVEPOINT dbop_savepoint_1",
            "RELEASE SAVEPOINT dbop_savepoint_1",
            "ROLLBACK TO SAVEPOINT dbop_savepoint_1; RELEASE SAVEPOINT dbop_savepoint_1".into()
        )
    );
    let bounded = Settings {
        lock_timeout: Some(Duration::from_secs(1)),
        ..Settings::NONE
    };
    let defaults = of(None, true, Defaults::default()).of_nested();
    let before = SavedPragmas::default();
    Batches::new(Dialect::Mysql, NESTED, &bounded, &defaults, before)
        .expect_err("it would be a variable of the session");
    let profile = of(None, true, Defaults::NONE).profile();
    let check = "SELECT IF(@@innodb_rollback_on_timeout, 1, (SELECT 1 UNION SELECT 2))";
    assert_eq!(Dialect::Mysql.undone_check(profile), check);
    assert_eq!(Dialect::Mysql.keep_diagnostics(profile), None);
}

#[test]
fn a_default_level_of_a_pooler_safe_runner_is_that_of_one_transaction() {
    let defaults = Defaults {
        isolation: Some(IsolationLevel::RepeatableRead),
        ..of(None, true, Defaults::NONE)
    };
    let batches = sent(TOP, &Settings::NONE, &defaults, Dialect::Mysql);
    assert_eq!(
        batches.begin(),
        "SET autocommit=0; \
         SET /*M!100100 @@tx_isolation=IF(FIND_IN_SET(@@SESSION.tx_isolation, 'SERIALIZABLE'), \
         @@SESSION.tx_isolation, 'REPEATABLE-READ') */\
         /*!80000 @@transaction_isolation=IF(FIND_IN_SET(@@SESSION.transaction_isolation, \
         'SERIALIZABLE'), @@SESSION.transaction_isolation, 'REPEATABLE-READ') */; \
         START TRANSACTION; SAVEPOINT dbop_alive"
    );
}

/// Why an operation with these settings cannot run.
fn refusal(engine: Option<Engine>, pooler_safe: bool, level: Level, settings: Settings) -> String {
    let defaults = of(engine, pooler_safe, Defaults::default());
    let dialect = engine.map_or(Dialect::Mysql, Engine::dialect);
    let before = SavedPragmas::default();
    let refused = Batches::new(dialect, level, &settings, &defaults, before);
    refused.expect_err("refused").to_string()
}

#[test]
fn what_an_engine_does_not_have_is_refused() {
    let locks = Settings {
        lock_timeout: Some(Duration::from_secs(1)),
        ..Settings::NONE
    };
    let read_only = Settings {
        read_only: true,
        ..Settings::NONE
    };
    let serializable = Settings {
        isolation: Some(IsolationLevel::Serializable),
        ..Settings::NONE
    };
    let shared = "is not supported by a pooler-safe runner on mysql, where it is a variable of the \
        session, which others may use";
    for (engine, pooler_safe, settings, expected) in [
        (None, true, locks, format!("lock_timeout {shared}")),
        (None, true, bounded(), format!("statement_timeout {shared}")),
        (
            Some(Engine::Vitess),
            false,
            locks,
            "lock_timeout is not supported on vitess".into(),
        ),
        (
            Some(Engine::Vitess),
            false,
            serializable,
            "isolation is not supported on vitess".into(),
        ),
        (
            Some(Engine::TiDb),
            false,
            read_only,
            "read_only is not supported on tidb".into(),
        ),
        (
            Some(Engine::AuroraDsql),
            false,
            locks,
            "lock_timeout is not supported on aurora dsql".into(),
        ),
    ] {
        assert_eq!(refusal(engine, pooler_safe, TOP, settings), expected);
        // With best effort it is skipped.
        let lenient = Settings {
            best_effort: true,
            ..settings
        };
        let defaults = of(engine, pooler_safe, Defaults::default());
        let dialect = engine.map_or(Dialect::Mysql, Engine::dialect);
        let batches = sent(TOP, &lenient, &defaults, dialect);
        assert!(!batches.skipped().is_empty(), "{expected}");
        let plain = sent(TOP, &Settings::NONE, &defaults, dialect);
        assert_eq!(texts(&batches), texts(&plain), "{expected}");
    }
    assert_eq!(
        refusal(
            Some(Engine::AuroraDsql),
            false,
            NESTED,
            Settings {
                best_effort: true,
                ..locks
            }
        ),
        "aurora dsql has no savepoints, so an operation cannot run inside a transaction that is \
         already open"
    );
    let ledger = Ledger::new();
    for (engine, resolution, dialect, expected) in [
        (
            Engine::Vitess,
            Resolution::Nothing,
            Dialect::Sqlite,
            "engine is not supported on sqlite, only on mysql",
        ),
        (
            Engine::CockroachDb,
            Resolution::Ledger(&ledger),
            Dialect::Postgres,
            "ledger is not supported on cockroachdb",
        ),
        (
            Engine::Yugabyte,
            Resolution::TransactionStatus,
            Dialect::Postgres,
            "transaction_status is not supported on yugabytedb",
        ),
    ] {
        let spec = Spec {
            resolution,
            ..Spec::new(Name::Given("x"))
        };
        let profile = of(Some(engine), false, Defaults::NONE).profile();
        let error = spec.check(dialect, profile).expect_err("refused");
        assert_eq!(error.to_string(), expected);
        assert!(spec.check(Dialect::Postgres, Profile::default()).is_ok());
    }
}
