//! SQL of the operation's own: last in the batch that begins an attempt, and in no other.

use super::*;
use crate::ledger::Ledger;

const SQL: &str = " SELECT set_user(7); \n";

#[test]
fn it_follows_everything_else_and_is_in_no_other_batch() {
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        for level in [TOP, NESTED] {
            for settings in [Settings::default(), timeouts()] {
                let settings = Settings {
                    best_effort: true,
                    ..settings
                };
                let plain = batches(dialect, level, settings);
                let own = plain.with_opening(SQL);
                let expected = format!("{}; SELECT set_user(7);", plain.begin());
                assert_eq!(own.begin(), expected);
                assert_eq!(own.commit(), plain.commit());
                let (undo, plain) = (own.undo(Undo::Rollback), plain.undo(Undo::Rollback));
                assert_eq!(undo, plain);
            }
        }
    }
}

#[test]
fn nothing_is_nothing() {
    let plain = batches(Dialect::Postgres, TOP, Settings::default());
    assert_eq!(plain.with_opening(" ").begin(), plain.begin());
}

#[test]
fn an_attempt_with_other_settings_has_it_too() {
    let own = batches(Dialect::Postgres, TOP, Settings::default()).with_opening(SQL);
    let timeout = Some(Timeout::Exact(Duration::from_secs(3)));
    let own = own.for_attempt(timeout, None).expect("another timeout");
    assert_eq!(
        own.begin(),
        "BEGIN; SET LOCAL lock_timeout = 3000; SELECT set_user(7);"
    );
}

/// What is asked on another connection is about the token alone.
#[test]
fn a_question_is_asked_without_it() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let ledger = Ledger::new();
        let plain = batches(dialect, TOP, Settings::default());
        let proven = plain.with_token(&ledger.open()).expect("a token");
        let own = proven.with_opening(SQL);
        let asked = |batches: &Batches| {
            let question = batches.question().expect("a token");
            assert!(!question.batches.begin().contains(SQL));
            question.batches.begin().to_owned()
        };
        assert_eq!(asked(&own), asked(&proven));
    }
}

/// It can have failed behind a BEGIN that did not.
#[test]
fn on_sqlite_an_attempt_that_failed_to_begin_can_have_opened_something() {
    let plain = batches(Dialect::Sqlite, TOP, timeouts_of_sqlite());
    let own = plain.with_opening(SQL);
    assert!(plain.has(Undo::FailedBegin) && !plain.has(Undo::IfOpened));
    assert!(!own.has(Undo::FailedBegin) && own.has(Undo::IfOpened));
    assert_eq!(own.undo(Undo::IfOpened), own.undo(Undo::Rollback));
}

fn timeouts_of_sqlite() -> Settings {
    Settings {
        lock_timeout: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}
