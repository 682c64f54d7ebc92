//! How long what dbop-core does in memory takes: `cargo bench -p dbop-core --bench decisions`. What is behind
//! `--` is for criterion, for example the name of a group: `policy`, `recogniser`, `gate`, `registry`.

use std::hint::black_box;

use criterion::Criterion;
use dbop_core::machine::{Name, Spec};
use dbop_core::{
    Advice, Dialect, ErrorKind, Fault, FaultClass, Keys, Reported, RetryPolicy, Scope, verdict,
};

use operation::{Connection, plain};

mod operation;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    policy(&mut criterion);
    recogniser(&mut criterion);
    gate(&mut criterion);
    registry(&mut criterion);
    criterion.final_summary();
}

/// What a retry takes before its delay begins.
fn policy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    let policy = RetryPolicy::new();
    group.bench_function("verdict", |bencher| {
        let fault = Fault::from_class(Dialect::Postgres, FaultClass::Deadlock);
        let judge = || {
            let fault = Some(black_box(fault));
            verdict(fault, Advice::Judge, Scope::Transaction, false, &policy)
        };
        bencher.iter(judge);
    });
    group.bench_function("rules", |bencher| {
        bencher.iter(|| {
            let class = black_box(FaultClass::Deadlock);
            let limit = policy.max_retries_after(class);
            (
                policy.never_retries_on(class),
                limit,
                policy.backoff_after(class),
            )
        });
    });
    group.bench_function("delay", |bencher| {
        let mut delays = policy.delays();
        bencher.iter(|| black_box(delays.next()));
    });
    group.finish();
}

/// From the text of an error to its class: by the kind, by a text in some language, and in vain.
fn recogniser(criterion: &mut Criterion) {
    let unique = "duplicate key value violates unique constraint \"accounts_email_key\"";
    let texts = [
        ("the kind decides", ErrorKind::UniqueViolation, unique),
        ("English", ErrorKind::Unknown, "deadlock detected"),
        ("Russian", ErrorKind::Unknown, "обнаружена взаимоблокировка"),
        (
            "unknown",
            ErrorKind::Unknown,
            "relation \"accounts\" does not exist",
        ),
    ];
    let mut group = criterion.benchmark_group("recogniser");
    for (name, kind, text) in texts {
        group.bench_function(name, |bencher| {
            let recognise = || {
                let reported = Reported::new(kind, black_box(text));
                Fault::recognize(Dialect::Postgres, reported)
            };
            bencher.iter(recognise);
        });
    }
    group.finish();
}

/// A whole operation, whose gate is open or whose key is free.
fn gate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gate");
    let connection = Connection::new();
    group.bench_function("none", |bencher| {
        bencher.iter(|| connection.run(&plain(), 0, 0));
    });
    let mut gated = Connection::new();
    gated.config.set_gates(true);
    // As with a source, which is where gates are by default.
    let queues = Spec {
        queues_with_connection: true,
        ..Spec::new(Name::Given("gated"))
    };
    group.bench_function("by name", |bencher| {
        bencher.iter(|| gated.run(&queues, 0, 0));
    });
    let keys = Keys::new("account", [1, 2]);
    let keyed = Spec {
        exclusive_by: Some(&keys),
        ..queues
    };
    group.bench_function("by two keys", |bencher| {
        bencher.iter(|| connection.run(&keyed, 0, 0));
    });
    group.finish();
}

/// A whole operation, which takes its seat among those of other connections; and those nested in it.
fn registry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("registry");
    let connection = Connection::new();
    for nested in [0, 1, 3] {
        group.bench_function(format!("{nested} nested"), |bencher| {
            bencher.iter(|| connection.run(&plain(), 0, nested));
        });
    }
    group.finish();
}
