//! The service among the examples, as a process of its own, over HTTP: many transfers at once
//! neither make nor lose money, what cannot be done now is told so that it can be tried again, and
//! a service that is asked to stop answers what it has been asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_tests::asynchronous::{Answer, Program, eventually, http};
use tokio::task::JoinSet;

use super::{Bed, LOCK, run};

/// The service, on the accounts of a test bed.
pub(super) struct Service {
    program: Program,
    pub(super) address: SocketAddr,
}

impl Service {
    pub(super) fn start(bed: &Bed) -> Self {
        let program = Program::start(env!("CARGO_BIN_EXE_axum-service"), &bed.service_url());
        Self {
            address: program.address(),
            program,
        }
    }

    /// Has something transferred for a patient client.
    pub(super) async fn transfer(&self, from: i32, to: i32, amount: i64) -> Answer {
        transfer(self.address, from, to, amount, 20_000).await
    }

    /// The accounts as the service tells them.
    async fn accounts(&self) -> String {
        let answer = http(self.address, "GET /accounts", &[], "").await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }
}

/// Has something transferred for a client that waits so long.
pub(super) async fn transfer(
    address: SocketAddr,
    from: i32,
    to: i32,
    amount: i64,
    timeout_ms: u32,
) -> Answer {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let key = format!("\"{}\"", REQUESTS.fetch_add(1, Ordering::Relaxed));
    let timeout = format!("X-Timeout-Ms: {timeout_ms}");
    let answer = repeat(address, &[&timeout], &key, (from, to, amount)).await;
    answer.expect("an answer")
}

/// Has something transferred by a request with this key.
pub(super) async fn repeat(
    address: SocketAddr,
    head: &[&str],
    key: &str,
    (from, to, amount): (i32, i32, i64),
) -> std::io::Result<Answer> {
    let body = format!(r#"{{"from":{from},"to":{to},"amount":{amount}}}"#);
    let key = format!("Idempotency-Key: {key}");
    let head: Vec<_> = [head, &[&key]].concat();
    http(address, "POST /transfer", &head, &body).await
}

/// What sixteen clients do at once, half of them the opposite of the other half: how much has
/// gone from the first account to the second in the end?
async fn opposite_transfers(address: SocketAddr) -> i64 {
    let mut clients = JoinSet::new();
    for client in 0..16 {
        let (from, to, sign) = if client % 2 == 0 {
            (1, 2, 1)
        } else {
            (2, 1, -1)
        };
        clients.spawn(async move {
            let mut done = 0;
            for _ in 0..5 {
                let answer = transfer(address, from, to, 1, 20_000).await;
                match answer.status {
                    200 => done += sign,
                    409 | 503 => is_a_polite_refusal(&answer),
                    _ => panic!("{answer:?}"),
                }
            }
            done
        });
    }
    clients.join_all().await.into_iter().sum()
}

fn is_a_polite_refusal(answer: &Answer) {
    assert!(answer.head.contains("\r\nretry-after: "), "{answer:?}");
    assert!(answer.body.starts_with(r#"{"error":""#), "{answer:?}");
}

#[test]
fn opposite_transfers_neither_make_nor_lose_money() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        let mut done = 0;
        for _ in 0..5 {
            done += opposite_transfers(service.address).await;
        }
        // They wait for their turn, so that none is in the way of another.
        let log = service.program.log();
        assert!(!log.contains("deadlock"), "{log}");
        let expected = [(1, 100 - done), (2, 100 + done), (3, 100)];
        assert_eq!(bed.balances(), expected);
        let told = expected.map(|(id, balance)| format!(r#"{{"id":{id},"balance":{balance}}}"#));
        assert_eq!(service.accounts().await, format!("[{}]", told.join(",")));
        service.program.ask_to_stop();
        assert_eq!(service.program.end().await, Some(0));
    });
}

/// All want more than half of it, at once.
#[test]
fn an_account_is_never_overdrawn() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        let mut clients = JoinSet::new();
        for _ in 0..16 {
            clients.spawn(transfer(service.address, 1, 2, 60, 20_000));
        }
        let answers = clients.join_all().await;
        let done = answers.iter().filter(|answer| answer.status == 200);
        assert_eq!(done.count(), 1, "{answers:?}");
        assert_eq!(bed.balances(), [(1, 40), (2, 160), (3, 100)]);
    });
}

#[test]
fn what_cannot_be_is_told() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        for (from, to, amount, status) in [
            (1, 9, 1, 404),
            (9, 1, 1, 404),
            (1, 2, 101, 422),
            (1, 2, 0, 422),
            (1, 2, 100, 200),
        ] {
            let answer = service.transfer(from, to, amount).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(!answer.head.contains("retry-after"), "{answer:?}");
        }
        assert_eq!(bed.balances(), [(1, 0), (2, 200), (3, 100)]);
        let answer = transfer(service.address, 2, 1, 1, 0).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let head = ["Idempotency-Key: \"no-json\""];
        let answer = http(service.address, "POST /transfer", &head, "{").await;
        assert_eq!(answer.expect("an answer").status, 400);
    });
}

/// The request's own time runs out while somebody else has the accounts.
#[test]
fn a_request_that_waits_in_vain_is_told_in_time_and_keeps_nothing() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        let holder = bed.opponent();
        holder.execute(LOCK);
        let asked = Instant::now();
        let answer = transfer(service.address, 1, 2, 1, 300).await;
        assert!(asked.elapsed() < Duration::from_secs(3));
        assert!([409, 503].contains(&answer.status), "{answer:?}");
        is_a_polite_refusal(&answer);
        holder.execute("ROLLBACK");
        bed.transactions_end().await;
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        assert_eq!(service.transfer(1, 2, 1).await.status, 200, "usable");
    });
}

/// A request is under way when it is asked to stop.
#[test]
fn a_service_that_is_asked_to_stop_answers_what_it_has_been_asked() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        let holder = bed.opponent();
        holder.execute(LOCK);
        let address = service.address;
        let asked = tokio::spawn(transfer(address, 1, 2, 7, 20_000));
        eventually("it is under way", || {
            service.program.log().contains("transfer: attempt 1: ")
        })
        .await;
        service.program.ask_to_stop();
        // From then on it takes no new ones.
        let deadline = Instant::now() + Duration::from_secs(10);
        while http(address, "GET /accounts", &[], "").await.is_ok() {
            assert!(Instant::now() < deadline, "it does not stop listening");
        }
        assert!(!asked.is_finished());
        holder.execute("ROLLBACK");
        assert_eq!(asked.await.expect("no panic").status, 200);
        assert_eq!(service.program.end().await, Some(0));
        assert_eq!(bed.balances(), [(1, 93), (2, 107), (3, 100)]);
    });
}

/// The header is a string of structured fields; without quotation marks it means the same.
#[test]
fn a_request_needs_a_key() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        let body = r#"{"from":1,"to":2,"amount":1}"#;
        let answer = http(service.address, "POST /transfer", &[], body).await;
        assert_eq!(answer.expect("an answer").status, 400);
        let long = "k".repeat(256);
        for key in ["", "\"\"", "\"a", "\"a\"b", "\"a\\b\"", &long] {
            let answer = repeat(service.address, &[], key, (1, 2, 1)).await;
            assert_eq!(answer.expect("an answer").status, 400, "{key}");
        }
        let answer = repeat(service.address, &["Idempotency-Key: a"], "b", (1, 2, 1)).await;
        assert_eq!(answer.expect("an answer").status, 400, "two");
        assert_eq!(bed.balances()[0], (1, 100));
        for (key, status) in [(r#""a\"b""#, 200), (&long[1..], 200)] {
            let answer = repeat(service.address, &[], key, (1, 2, 1)).await;
            assert_eq!(answer.expect("an answer").status, status, "{key}");
        }
        assert_eq!(bed.balances()[0], (1, 98));
    });
}

/// Also after other transfers, and after the service was killed.
#[test]
fn a_repeated_request_gets_the_first_answer() {
    run(async {
        let bed = Bed::new();
        let mut service = Service::start(&bed);
        let ask = async |address, key: &str| {
            let answer = repeat(address, &[], key, (1, 2, 10)).await;
            answer.expect("an answer")
        };
        let first = ask(service.address, "\"a\"").await;
        assert_eq!(first.status, 200);
        assert_eq!(first.body, r#"{"from":1,"to":2,"amount":10,"balance":90}"#);
        assert_eq!(service.transfer(1, 3, 5).await.status, 200);
        for is_killed in [false, true] {
            if is_killed {
                drop(service.program);
                service = Service::start(&bed);
            }
            for key in ["\"a\"", "a"] {
                let again = ask(service.address, key).await;
                assert_eq!((again.status, &again.body), (200, &first.body));
            }
        }
        assert_eq!(bed.balances(), [(1, 85), (2, 110), (3, 105)]);
        let other = ask(service.address, "A").await;
        assert_eq!(other.body, r#"{"from":1,"to":2,"amount":10,"balance":75}"#);
    });
}

#[test]
fn a_key_is_good_for_one_request() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        for (order, status) in [
            ((1, 2, 10), 200),
            ((1, 2, 11), 422),
            ((1, 3, 10), 422),
            ((1, 2, 10), 200),
        ] {
            let answer = repeat(service.address, &[], "\"a\"", order)
                .await
                .expect("an answer");
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(
                answer.body.contains("another request"),
                status == 422,
                "{answer:?}"
            );
        }
        assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);
    });
}

/// Also when it would be possible. With another key it is another request.
#[test]
fn what_was_refused_stays_refused() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        let ask = async |key: &str| {
            let answer = repeat(service.address, &[], key, (1, 2, 150)).await;
            answer.expect("an answer").status
        };
        assert_eq!(ask("\"a\"").await, 422);
        assert_eq!(service.transfer(3, 1, 100).await.status, 200);
        assert_eq!(ask("\"a\"").await, 422);
        assert_eq!(bed.balances(), [(1, 200), (2, 100), (3, 0)]);
        assert_eq!(ask("\"b\"").await, 200);
        assert_eq!(bed.balances(), [(1, 50), (2, 250), (3, 0)]);
    });
}

/// It is repeated at once, a hundred times: one is made, and all are told the same.
#[test]
fn of_many_repetitions_at_once_one_is_done() {
    run(async {
        let bed = Bed::new();
        let services = [Service::start(&bed), Service::start(&bed)];
        let mut clients = JoinSet::new();
        for number in 0..100 {
            let address = services[number % 2].address;
            clients.spawn(async move {
                loop {
                    let head = ["X-Timeout-Ms: 20000"];
                    let answer = repeat(address, &head, "\"a\"", (1, 2, 10)).await;
                    let answer = answer.expect("an answer");
                    match answer.status {
                        200 => break answer.body,
                        409 | 503 => is_a_polite_refusal(&answer),
                        _ => panic!("{answer:?}"),
                    }
                }
            });
        }
        let answers = clients.join_all().await;
        assert!(answers.iter().all(|it| it == &answers[0]), "{answers:?}");
        assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);
    });
}
