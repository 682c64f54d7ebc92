//! The arithmetic of policies.

use super::*;

#[test]
fn without_a_seed_two_operations_differ() {
    let policy = RetryPolicy::new();
    let one: Vec<_> = policy.delays().take(20).collect();
    let other: Vec<_> = policy.delays().take(20).collect();
    assert_ne!(one, other);
}

#[test]
fn different_seeds_differ() {
    let one: Vec<_> = RetryPolicy::new().with_seed(1).delays().take(20).collect();
    let other: Vec<_> = RetryPolicy::new().with_seed(2).delays().take(20).collect();
    assert_ne!(one, other);
}

#[test]
fn each_delay_is_longer_than_the_one_before() {
    let policy = RetryPolicy::new().with_jitter(Jitter::None);
    let delays: Vec<_> = policy.delays().take(3).collect();
    assert_eq!(delays, [100, 200, 400].map(Duration::from_millis));
}

#[test]
fn a_class_is_opted_in_alone() {
    let policy = RetryPolicy::new().with_retry_on(FaultClass::StatementTimeout);
    assert!(policy.retries_on(FaultClass::StatementTimeout));
    assert!(!policy.retries_on(FaultClass::Canceled));
    assert!(!policy.never_retries_on(FaultClass::StatementTimeout));
    assert!(!policy.never_retries_on(FaultClass::Canceled));
}

#[test]
fn of_opting_in_and_excluding_the_last_call_counts() {
    const CLASS: FaultClass = FaultClass::Canceled;
    let excluded = RetryPolicy::new()
        .with_retry_on(CLASS)
        .without_retry_on(CLASS);
    assert!(excluded.never_retries_on(CLASS) && !excluded.retries_on(CLASS));
    assert!(!excluded.never_retries_on(FaultClass::Deadlock));
    let opted_in = excluded.with_retry_on(CLASS);
    assert!(opted_in.retries_on(CLASS) && !opted_in.never_retries_on(CLASS));
}

#[test]
fn saying_it_twice_changes_nothing_and_neither_does_a_rule_for_another_class() {
    use FaultClass::{Busy, Canceled, Deadlock, LockTimeout};

    let rules = ClassRules::NONE
        .also(Canceled)
        .also(Canceled)
        .never(Busy)
        .never(Busy)
        .never(Deadlock);
    assert_eq!(rules.rule(Canceled), Some(ClassRule::Also));
    assert_eq!(rules.rule(Busy), Some(ClassRule::Never));
    assert_eq!(rules.rule(Deadlock), Some(ClassRule::Never));
    assert_eq!(rules.rule(LockTimeout), None);
    let rules = rules.also(Busy).never(LockTimeout);
    assert_eq!(rules.rule(Busy), Some(ClassRule::Also));
    assert_eq!(rules.rule(Canceled), Some(ClassRule::Also));
    assert_eq!(rules.rule(Deadlock), Some(ClassRule::Never));
    let rules = rules.never(Canceled);
    assert_eq!(rules.rule(Canceled), Some(ClassRule::Never));
    assert_eq!(rules.rule(Busy), Some(ClassRule::Also));
}

#[test]
fn a_code_has_the_class_that_it_was_given_last() {
    const POLICY: RetryPolicy = RetryPolicy::new()
        .with_class_of(Code::Errno(1), FaultClass::Deadlock)
        .with_class_of(Code::Errno(2), FaultClass::Busy)
        .with_class_of(Code::Errno(1), FaultClass::Permanent);
    assert_eq!(POLICY.class_of(Code::Errno(1)), Some(FaultClass::Permanent));
    assert_eq!(POLICY.class_of(Code::Errno(2)), Some(FaultClass::Busy));
    assert_eq!(POLICY.class_of(Code::Sqlite(1)), None);
}

fn with_codes(count: u16) -> RetryPolicy {
    (0..count).fold(RetryPolicy::new(), |policy, errno| {
        policy.with_class_of(Code::Errno(errno), FaultClass::Busy)
    })
}

#[test]
fn a_policy_has_room_for_eight_codes() {
    let full = with_codes(8);
    assert_eq!(full.class_of(Code::Errno(7)), Some(FaultClass::Busy));
}

#[test]
#[should_panic(expected = "at most 8 codes")]
fn a_ninth_code_is_refused() {
    _ = with_codes(9);
}

#[test]
fn a_class_is_as_all_classes_where_its_policy_is_silent() {
    let policy = RetryPolicy::new()
        .with_max_retries(5)
        .with_initial_delay(Duration::from_millis(7))
        .with_class_policy(FaultClass::Deadlock, ClassPolicy::new())
        .with_class_policy(FaultClass::NotConnected, ClassPolicy::new());
    let same = policy.backoff_after(FaultClass::Deadlock);
    assert_eq!(same, policy.backoff());
    let slow = policy.backoff_after(FaultClass::NotConnected);
    assert_eq!(slow, policy.backoff().slow());
    assert_eq!(policy.backoff_after(FaultClass::ReadOnlyServer), slow);
    assert_eq!(policy.max_retries_after(FaultClass::Deadlock), 5);
}

#[test]
fn a_class_has_what_its_policy_says() {
    const OWN: ClassPolicy = ClassPolicy::new()
        .with_max_retries(9)
        .with_initial_delay(Duration::from_millis(3))
        .with_max_delay(Duration::from_millis(9))
        .with_jitter(Jitter::Decorrelated);
    for class in [FaultClass::Busy, FaultClass::NotConnected] {
        let policy = RetryPolicy::new().with_class_policy(class, OWN);
        let backoff = policy.backoff_after(class);
        let (initial, longest) = (Duration::from_millis(3), Duration::from_millis(9));
        assert_eq!(
            backoff,
            Backoff::new(initial, longest, Jitter::Decorrelated)
        );
        assert_eq!(policy.max_retries_after(class), 9);
        let other = FaultClass::LockTimeout;
        assert_eq!(policy.backoff_after(other), policy.backoff());
        assert_eq!(policy.max_retries_after(other), 5);
    }
}

#[test]
fn conflicts_have_a_default_of_their_own_until_it_is_said_how_often_and_how_soon() {
    use FaultClass::{Busy, Deadlock, LockTimeout, SerializationFailure};

    let ms = Duration::from_millis;
    let soon = |policy: RetryPolicy, class| policy.backoff_after(class).initial_delay();
    let policy = RetryPolicy::new();
    for class in [Deadlock, SerializationFailure, Busy] {
        let initial_delay = 20;
        assert_eq!(policy.max_retries_after(class), 20);
        assert_eq!(soon(policy, class), ms(initial_delay));
        let often = policy.with_max_retries(3);
        assert_eq!(often.max_retries_after(class), 3);
        assert_eq!(soon(often, class), ms(initial_delay));
        let late = policy.with_initial_delay(ms(300));
        assert_eq!(late.max_retries_after(class), 20);
        assert_eq!(soon(late, class), ms(300));
        let own = ClassPolicy::new().with_jitter(Jitter::Equal);
        let other = policy.with_class_policy(class, own);
        assert_eq!(other.max_retries_after(class), 20);
        let longest = Duration::from_secs(1);
        let expected = Backoff::new(ms(initial_delay), longest, Jitter::Equal).with_multiplier(8);
        for alike in [late, policy.with_multiplier(2)] {
            assert_eq!(alike.backoff_after(class), alike.backoff());
        }
        let own = own.with_initial_delay(ms(300));
        let doubles = policy.with_class_policy(class, own).backoff_after(class);
        assert_eq!(
            (doubles.initial_delay(), doubles.multiplier()),
            (ms(300), 2)
        );
        assert_eq!(other.backoff_after(class), expected);
    }
    assert_eq!(policy.max_retries_after(LockTimeout), 5);
    assert_eq!(soon(policy, LockTimeout), ms(100));
}

/// A longer `max_delay` alone is what a class that takes its time needs.
#[test]
fn a_slow_class_with_a_longest_delay_of_its_own_waits_for_half_of_it_at_least() {
    let patient = ClassPolicy::new().with_max_delay(Duration::from_secs(10));
    let policy = RetryPolicy::new().with_class_policy(FaultClass::ServerUnavailable, patient);
    let backoff = policy.backoff_after(FaultClass::ServerUnavailable);
    assert_eq!(backoff.delay(0, 0), Duration::from_secs(5));
    assert_eq!(backoff.delay(0, u64::MAX), Duration::from_secs(10));
}

#[test]
fn of_two_policies_for_a_class_the_last_one_counts() {
    let of = |max_retries| ClassPolicy::new().with_max_retries(max_retries);
    let policy = RetryPolicy::new()
        .with_class_policy(FaultClass::Busy, of(1))
        .with_class_policy(FaultClass::Deadlock, of(2))
        .with_class_policy(FaultClass::Busy, of(3));
    assert_eq!(policy.max_retries_after(FaultClass::Busy), 3);
    assert_eq!(policy.max_retries_after(FaultClass::Deadlock), 2);
    assert_eq!(policy.class_policy(FaultClass::LockTimeout), None);
}

fn with_classes(count: usize) -> RetryPolicy {
    let classes = &crate::classifier::tests::CLASSES[..count];
    classes.iter().fold(RetryPolicy::new(), |policy, class| {
        policy.with_class_policy(*class, ClassPolicy::new().with_max_retries(1))
    })
}

#[test]
fn a_policy_has_room_for_eight_classes() {
    let full = with_classes(8);
    let last = crate::classifier::tests::CLASSES[7];
    assert_eq!(full.max_retries_after(last), 1);
}

#[test]
#[should_panic(expected = "at most 8 classes")]
fn a_ninth_class_is_refused() {
    _ = with_classes(9);
}

#[test]
fn functions_are_equal_by_their_address_and_are_not_shown() {
    fn zero(_: &RetryContext) -> Duration {
        Duration::ZERO
    }
    let policy = RetryPolicy::new().with_backoff_fn(zero);
    assert_eq!(policy, policy.with_backoff_fn(zero));
    assert_ne!(policy, policy.with_backoff_fn(|retry| 2 * retry.delay()));
    assert_ne!(policy, RetryPolicy::new());
    assert!(format!("{policy:?}").contains("backoff_fn: Some(own)"));
}

#[test]
fn decorrelated_delays_depend_on_those_before() {
    let policy = RetryPolicy::new()
        .with_jitter(Jitter::Decorrelated)
        .with_max_delay(Duration::from_secs(60));
    for seed in 0..100 {
        let mut previous = Duration::from_millis(100);
        for delay in policy.with_seed(seed).delays().take(10) {
            assert!(delay >= Duration::from_millis(100) && delay <= 3 * previous);
            previous = delay;
        }
    }
}

/// It is copied by each of its setters.
#[test]
fn a_policy_is_small() {
    assert!(
        size_of::<RetryPolicy>() <= 640,
        "{}",
        size_of::<RetryPolicy>()
    );
}

#[test]
fn a_delay_that_is_not_the_policys_is_not_counted_as_one() {
    let mut draws = RetryPolicy::new().draws();
    let longest = Duration::from_secs(3600);
    let drawn: Vec<_> = (0..50).map(|_| draws.up_to(longest)).collect();
    assert!(drawn.iter().all(|delay| *delay <= longest));
    assert!(drawn.iter().any(|delay| *delay > longest / 2));
    assert!(drawn.iter().any(|delay| *delay < longest / 2));
    assert_eq!((draws.count, draws.previous), (0, None));
}
