//! What PostgreSQL is sent by what is known of the session.

use super::*;
use crate::dialect::sessions::{Knowledge, Known, Needed, SessionSetting, Sessions};
use crate::ledger::Ledger;
use crate::settings::IsolationLevel;

const COMMIT: &str = "SAVEPOINT dbop; COMMIT";

/// All defaults that depend on the session.
fn all_defaults() -> Defaults {
    Defaults {
        statement_timeout: Some(Duration::from_millis(2500)),
        isolation: Some(IsolationLevel::RepeatableRead),
        ..Defaults::default()
    }
}

/// The batches of an operation with these settings and defaults, asking the session.
fn asking(settings: &Settings, defaults: &Defaults, is_timed: bool) -> Batches {
    let needed = Needed::by(settings, defaults, false, is_timed);
    let known = Sessions::default().known(defaults, needed);
    let before = SavedPragmas::default();
    let batches = Batches::new(Dialect::Postgres, TOP, settings, defaults, before);
    batches.expect("valid").in_session(known)
}

/// The batches in a session that is stricter in these settings.
fn stricter(batches: &Batches, settings: &[SessionSetting]) -> Batches {
    let known = settings.iter().fold(batches.clone(), |batches, setting| {
        batches.in_stricter_session(*setting)
    });
    known.in_laxer_session()
}

/// (begin, commit, rollback)
fn owned(batches: &Batches) -> (String, String, String) {
    let (begin, commit, rollback) = texts(batches);
    (begin.to_owned(), commit.to_owned(), rollback)
}

fn local(begin: &str) -> (String, String, String) {
    (begin.to_owned(), COMMIT.to_owned(), "ROLLBACK".to_owned())
}

#[test]
fn the_default_lock_timeout_takes_four_statements_and_no_query() {
    let asking = asking(&Settings::NONE, &Defaults::default(), false);
    let begin = "BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000";
    assert_eq!(owned(&asking.in_laxer_session()), local(begin));
    let lock_timeout = [SessionSetting::LockTimeout];
    let bare = "BEGIN NOT DEFERRABLE";
    assert_eq!(owned(&stricter(&asking, &lock_timeout)), local(bare));
    let deferrable = [SessionSetting::Deferrable];
    let begin = "BEGIN DEFERRABLE; SET LOCAL lock_timeout = 10000";
    assert_eq!(owned(&stricter(&asking, &deferrable)), local(begin));
}

#[test]
fn the_question_fails_only_where_the_session_is_stricter_and_is_before_the_transaction() {
    let asking = asking(&Settings::NONE, &all_defaults(), false);
    let case = |condition: &str, name: &str| {
        format!("CASE WHEN {condition} THEN current_setting('dbop.{name}_is_stricter') END")
    };
    let interval = |name: &str, most: &str| {
        let condition =
            format!("current_setting('{name}')::interval BETWEEN '1 ms' AND '{most} ms'");
        case(&condition, name)
    };
    let isolation = "default_transaction_isolation";
    let deferrable = "default_transaction_deferrable";
    let question = [
        interval("lock_timeout", "10000"),
        interval("statement_timeout", "2500"),
        case(
            &format!("current_setting('{isolation}') IN ('serializable', '')"),
            isolation,
        ),
        case(
            &format!("current_setting('{deferrable}') = 'on'"),
            deferrable,
        ),
    ];
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ NOT DEFERRABLE; \
                 SET LOCAL lock_timeout = 10000; SET LOCAL statement_timeout = 2500";
    let expected = format!(
        "BEGIN NOT DEFERRABLE; SELECT {}; COMMIT; {begin}",
        question.join(", ")
    );
    assert_eq!(asking.begin(), expected);
    let commit = "SAVEPOINT dbop; SET CONSTRAINTS ALL IMMEDIATE; COMMIT";
    assert_eq!(asking.commit(), commit);
    assert_eq!(asking.undo(Undo::Rollback), "ROLLBACK");
    let laxer = asking.in_laxer_session();
    assert_eq!((laxer.begin(), laxer.commit()), (begin, commit));
}

#[test]
fn what_the_session_has_stricter_is_left_alone() {
    use SessionSetting::{Deferrable, Isolation, LockTimeout, StatementTimeout};

    let asking = asking(&Settings::NONE, &all_defaults(), false);
    let begin = |settings: &[SessionSetting]| stricter(&asking, settings).begin().to_owned();
    assert_eq!(
        begin(&[StatementTimeout]),
        "BEGIN ISOLATION LEVEL REPEATABLE READ NOT DEFERRABLE; SET LOCAL lock_timeout = 10000"
    );
    assert_eq!(
        begin(&[Isolation]),
        "BEGIN ISOLATION LEVEL SERIALIZABLE NOT DEFERRABLE; \
         SET LOCAL lock_timeout = 10000; SET LOCAL statement_timeout = 2500"
    );
    assert_eq!(
        begin(&[LockTimeout, StatementTimeout, Isolation, Deferrable]),
        "BEGIN ISOLATION LEVEL SERIALIZABLE DEFERRABLE"
    );
}

/// Two levels are stricter than READ COMMITTED, and which of them the session has is not known.
#[test]
fn a_default_level_with_several_stricter_ones_is_not_named_where_the_session_is_stricter() {
    let defaults = Defaults {
        isolation: Some(IsolationLevel::ReadCommitted),
        ..Defaults::default()
    };
    let asking = asking(&Settings::NONE, &defaults, false);
    let stricter = stricter(&asking, &[SessionSetting::Isolation]);
    let begin = "BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000";
    assert_eq!(stricter.begin(), begin);
}

/// A deadline is shorter than any default, from attempt to attempt.
#[test]
fn a_shorter_timeout_than_the_default_is_set_where_the_session_is_known_to_have_none() {
    let left = Some(Duration::from_millis(700));
    let begin = |asking: &Batches, settings: &[SessionSetting]| {
        let batches = stricter(asking, settings).for_attempt(None, left);
        batches.expect("a shorter timeout").begin().to_owned()
    };
    let looks = |sql: &str| sql.contains("set_config('statement_timeout', CASE WHEN");
    let timed = asking(&Settings::NONE, &Defaults::default(), true);
    let question = timed.for_attempt(None, left).expect("timed");
    assert!(question.begin().contains(
        "CASE WHEN current_setting('statement_timeout') <> '0' \
         THEN current_setting('dbop.statement_timeout_is_stricter') END"
    ));
    let local = "BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000; \
                 SET LOCAL statement_timeout = 700";
    assert_eq!(begin(&timed, &[]), local);
    let statement_timeout = [SessionSetting::StatementTimeout];
    let looked = begin(&timed, &statement_timeout);
    assert!(looks(&looked), "it can be shorter still: {looked}");
    assert!(looked.ends_with("COMMIT; BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000"));
    // Longer than the default is longer than what is left.
    let with_default = asking(&Settings::NONE, &all_defaults(), true);
    assert!(begin(&with_default, &[]).ends_with("; SET LOCAL statement_timeout = 700"));
    assert!(looks(&begin(&with_default, &statement_timeout)));
}

/// Nor is it left to the session if the deadline is further away than the default: another session may
/// have no timeout.
#[test]
fn with_a_deadline_a_session_that_is_known_to_be_stricter_is_looked_at() {
    let statement_timeout = [SessionSetting::StatementTimeout];
    let asking = asking(&Settings::NONE, &all_defaults(), true);
    let batches = stricter(&asking, &statement_timeout);
    let local =
        "BEGIN ISOLATION LEVEL REPEATABLE READ NOT DEFERRABLE; SET LOCAL lock_timeout = 10000";
    assert_eq!(batches.begin(), local);
    let hour = Some(Duration::from_secs(3600));
    let timed = batches.for_attempt(None, hour).expect("it looks");
    let looked = timed.begin();
    let expected = "set_config('statement_timeout', CASE WHEN \
                    current_setting('statement_timeout')::interval BETWEEN '1 ms' AND '2500 ms'";
    assert!(looked.contains(expected), "{looked}");
    assert!(looked.ends_with(&format!("COMMIT; {local}")), "{looked}");
    assert!(timed.for_attempt(None, hour).is_none(), "it is the same");
    let laxer = asking.in_laxer_session();
    assert!(laxer.for_attempt(None, hour).is_none());
}

/// That of an operation at a gate.
#[test]
fn a_shorter_lock_timeout_than_the_default_is_no_shorter_than_that_of_any_stricter_session() {
    let asking = asking(&Settings::NONE, &Defaults::default(), false);
    let hurried = |batches: Batches| {
        let timeout = Some(Timeout::AtMost(Duration::from_millis(100)));
        let batches = batches.for_attempt(timeout, None);
        batches.expect("another lock timeout").begin().to_owned()
    };
    assert_eq!(
        hurried(asking.in_laxer_session()),
        "BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 100"
    );
    let looked = hurried(stricter(&asking, &[SessionSetting::LockTimeout]));
    assert!(
        looked.contains("set_config('lock_timeout', CASE WHEN"),
        "{looked}"
    );
}

/// Of a session whose `default_transaction_deferrable` is not known, no word of a BEGIN may change it.
#[test]
fn where_nothing_is_known_of_deferrable_the_guard_is_a_transaction_of_its_own() {
    let defaults = Defaults::default();
    let sessions = Sessions::default();
    let needed = Needed::by(&Settings::NONE, &defaults, false, false);
    sessions.found_laxer([SessionSetting::LockTimeout, SessionSetting::Deferrable].into_iter());
    sessions.found_stricter(SessionSetting::Deferrable);
    _ = sessions.known(&defaults, needed);
    let known = sessions.known(&defaults, needed);
    assert_eq!(known.of(SessionSetting::Deferrable), Knowledge::Nothing);
    let batches = asking(&Settings::NONE, &defaults, false).in_session(known);
    let begin = "BEGIN NOT DEFERRABLE; COMMIT; BEGIN; SET LOCAL lock_timeout = 10000";
    assert_eq!(owned(&batches), local(begin));
}

/// An operation that asks for it is guarded by that.
#[test]
fn a_deferrable_operation_stays_so() {
    let settings = Settings {
        read_only: true,
        isolation: Some(IsolationLevel::Serializable),
        deferrable: true,
        ..Settings::NONE
    };
    let asking = asking(&settings, &Defaults::default(), false);
    let laxer = asking.in_laxer_session();
    assert_eq!(
        laxer.begin(),
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; \
         SET LOCAL lock_timeout = 10000; SAVEPOINT dbop_alive"
    );
    assert!(!asking.begin().contains("deferrable_is_stricter"));
}

#[test]
fn an_answer_is_recognised_by_its_word_in_every_language() {
    let asking = asking(&Settings::NONE, &Defaults::default(), false);
    let of = |message: &str| asking.stricter_setting(message);
    let german = "unbekannter Konfigurationsparameter »dbop.lock_timeout_is_stricter«";
    assert_eq!(of(german), Some(SessionSetting::LockTimeout));
    let french = "paramètre de configuration « dbop.default_transaction_deferrable_is_stricter » \
                  non reconnu";
    assert_eq!(of(french), Some(SessionSetting::Deferrable));
    assert_eq!(of("unrecognized configuration parameter \"dbop.x\""), None);
    // It was not asked.
    let other = "unrecognized configuration parameter \"dbop.statement_timeout_is_stricter\"";
    assert_eq!(of(other), None);
    assert_eq!(asking.in_laxer_session().stricter_setting(german), None);
}

#[test]
fn a_question_about_a_token_asks_nothing_else() {
    let ledger = Ledger::new();
    let asking = asking(&Settings::NONE, &Defaults::default(), false);
    let proven = asking.with_token(&ledger.open()).expect("a token");
    for batches in [&proven, &proven.in_laxer_session()] {
        let question = batches.question().expect("a token").batches;
        assert!(!question.asks());
        let (sql, looks) = (question.begin(), batches.asks());
        assert!(!sql.contains("is_stricter"), "{sql}");
        assert_eq!(sql.contains("set_config"), looks, "{sql}");
    }
    assert!(
        proven
            .begin()
            .starts_with("BEGIN NOT DEFERRABLE; SELECT CASE")
    );
}

/// The value that the caller has in the transaction is not known, so a savepoint keeps it by a query.
#[test]
fn a_savepoint_knows_nothing() {
    let defaults = Defaults::default();
    let before = SavedPragmas::default();
    let nested = Batches::new(
        Dialect::Postgres,
        NESTED,
        &Settings::NONE,
        &defaults,
        before,
    );
    let nested = nested.expect("valid");
    assert_eq!(
        nested.begin(),
        "SAVEPOINT dbop_savepoint_1; SELECT \
         set_config('dbop.lock_timeout_1', current_setting('lock_timeout'), true), \
         set_config('lock_timeout', CASE WHEN current_setting('lock_timeout')::interval \
         BETWEEN '1 ms' AND '10000 ms' THEN current_setting('lock_timeout') ELSE '10000' END, true)"
    );
    assert_eq!(Known::NOTHING, Known::default());
}
