//! The decision after a rollback, for everything that can be known.

use super::AfterRollback::{CheckUndone, Resolve, Undone, Unknown};
use super::{AfterRollback, FailedPhase, RULES, RolledBack};

/// All combinations.
fn everything() -> impl Iterator<Item = RolledBack> {
    let phases = [FailedPhase::Begin, FailedPhase::Body, FailedPhase::Commit];
    phases.into_iter().flat_map(|phase| {
        (0_u32..1 << 11).map(move |bits| {
            let bit = |n: u32| bits & (1 << n) != 0;
            RolledBack {
                phase,
                gone: bit(0),
                body_ended_it: bit(1),
                lost: bit(2),
                loss_undone: bit(3),
                token_found: bit(4),
                commit_refused: bit(5),
                commit_is_last: bit(6),
                committed_early: bit(7),
                needs_check: bit(8),
                connection_broken: bit(9),
                server_may_have_ended_it: bit(10),
            }
        })
    })
}

/// The promise, phase by phase.
fn promised(it: &RolledBack) -> AfterRollback {
    if it.body_ended_it {
        return Unknown;
    }
    if it.lost {
        return if it.loss_undone { Undone } else { Unknown };
    }
    match it.phase {
        FailedPhase::Begin if it.token_found => Unknown,
        FailedPhase::Begin => Undone,
        FailedPhase::Commit if it.commit_refused && !it.gone => Undone,
        FailedPhase::Commit if it.commit_refused && it.commit_is_last => Undone,
        FailedPhase::Commit if it.committed_early => Unknown,
        FailedPhase::Commit => Resolve,
        FailedPhase::Body => match (it.gone, it.needs_check) {
            (false, _) => Undone,
            (true, true) if it.connection_broken => Unknown,
            (true, true) => CheckUndone,
            (true, false) if it.server_may_have_ended_it => Undone,
            (true, false) => Unknown,
        },
    }
}

#[test]
fn every_case_is_decided_as_promised() {
    for it in everything() {
        assert_eq!(it.decide(), promised(&it), "{it:?}");
    }
}

#[test]
fn every_rule_decides_something() {
    let mut decided = [0; RULES.len()];
    for it in everything() {
        let rule = RULES.iter().position(|(applies, _)| applies(&it));
        decided[rule.expect("the last rule always applies")] += 1;
    }
    assert!(decided.iter().all(|cases| *cases > 0), "{decided:?}");
}

#[test]
fn undone_is_said_only_of_what_cannot_have_been_committed() {
    for it in everything().filter(|it| it.decide() == Undone) {
        assert!(!it.body_ended_it, "{it:?}");
        assert!(!it.lost || it.loss_undone, "{it:?}");
        let found_out_by_a_nested_operation = it.lost;
        let refused = it.phase != FailedPhase::Commit || it.commit_refused;
        assert!(refused || found_out_by_a_nested_operation, "{it:?}");
        let no_token = it.phase != FailedPhase::Begin || !it.token_found;
        assert!(no_token || found_out_by_a_nested_operation, "{it:?}");
    }
}
