//! The service among the examples, as a process of its own, over HTTP: many transfers at once
//! neither make nor lose money, what cannot be done now is told so that it can be tried again, and
//! a service that is asked to stop answers what it has been asked.

use std::net::SocketAddr;
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
    let body = format!(r#"{{"from":{from},"to":{to},"amount":{amount}}}"#);
    let timeout = format!("X-Timeout-Ms: {timeout_ms}");
    let answer = http(address, "POST /transfer", &[&timeout], &body).await;
    answer.expect("an answer")
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
                    204 => done += sign,
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
        let done = answers.iter().filter(|answer| answer.status == 204);
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
            (1, 2, 100, 204),
        ] {
            let answer = service.transfer(from, to, amount).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(!answer.head.contains("retry-after"), "{answer:?}");
        }
        assert_eq!(bed.balances(), [(1, 0), (2, 200), (3, 100)]);
        let answer = transfer(service.address, 2, 1, 1, 0).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let answer = http(service.address, "POST /transfer", &[], "{").await;
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
        assert_eq!(service.transfer(1, 2, 1).await.status, 204, "usable");
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
        assert_eq!(asked.await.expect("no panic").status, 204);
        assert_eq!(service.program.end().await, Some(0));
        assert_eq!(bed.balances(), [(1, 93), (2, 107), (3, 100)]);
    });
}
