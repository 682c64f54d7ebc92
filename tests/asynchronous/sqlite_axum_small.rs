//! The small service among the examples: visits at the same time are counted one by one, and a visit
//! that cannot be counted is refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dbop_tests::asynchronous::{Answer, Program, http};
use tokio::task::JoinSet;

use super::{Bed, LOCK, run};

fn start(bed: &Bed) -> Program {
    Program::start(env!("CARGO_BIN_EXE_axum-small-service"), &bed.service_url())
}

async fn visit(address: SocketAddr) -> Answer {
    let answer = http(address, "POST /visits/home", &[], "").await;
    answer.expect("an answer")
}

/// What is not counted is refused.
#[test]
fn visits_at_the_same_time_are_counted_one_by_one() {
    run(async {
        let bed = Bed::new();
        let service = start(&bed);
        let mut visitors = JoinSet::new();
        for _ in 0..16 {
            visitors.spawn(visit(service.address()));
        }
        let mut numbers = Vec::new();
        for answer in visitors.join_all().await {
            match answer.status {
                200 => numbers.push(answer.body.parse::<usize>().expect("a number")),
                503 => {}
                _ => panic!("{answer:?}"),
            }
        }
        numbers.sort_unstable();
        assert!(!numbers.is_empty());
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
        let next = visit(service.address()).await;
        assert_eq!(next.body, (numbers.len() + 1).to_string());
    });
}

/// It has no `busy_timeout`: what takes its time are the retries.
#[test]
fn while_another_program_writes_a_visit_is_retried_and_then_refused() {
    run(async {
        let bed = Bed::new();
        let service = start(&bed);
        let other = bed.opponent();
        other.execute(LOCK);
        let asked = Instant::now();
        let refused = visit(service.address()).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(asked.elapsed() > Duration::from_millis(50));
        other.execute("COMMIT");
        let counted = visit(service.address()).await;
        assert_eq!((counted.status, &*counted.body), (200, "1"));
    });
}
