//! The service on actix-web among the examples, whose workers each have a runtime of one thread and a pool
//! of their own.

use std::net::SocketAddr;

use dbop_tests::asynchronous::{Answer, Program, http};
use tokio::task::JoinSet;

use super::{Bed, run};

fn start(bed: &Bed) -> Program {
    Program::start(env!("CARGO_BIN_EXE_actix-service"), &bed.service_url())
}

async fn visit(address: SocketAddr) -> Answer {
    let answer = http(address, "POST /visits/home", &[], "").await;
    answer.expect("an answer")
}

#[test]
fn visits_at_the_same_time_are_all_counted() {
    run(async {
        let bed = Bed::new();
        let service = start(&bed);
        let mut visitors = JoinSet::new();
        for _ in 0..32 {
            visitors.spawn(visit(service.address()));
        }
        let mut numbers = Vec::new();
        for answer in visitors.join_all().await {
            assert_eq!(answer.status, 200, "{answer:?}");
            numbers.push(answer.body.parse::<u32>().expect("a number"));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=32).collect::<Vec<_>>());
    });
}

/// Its session is ended while it waits for the row of another visitor.
#[test]
fn a_visit_whose_session_is_ended_is_counted_in_another_one() {
    run(async {
        let bed = Bed::new();
        let service = start(&bed);
        assert_eq!(visit(service.address()).await.body, "1");
        let holder = bed.opponent();
        holder.execute("BEGIN; SELECT FROM visits FOR UPDATE");
        let visitor = tokio::spawn(visit(service.address()));
        let session = bed.blocked_session().await;
        bed.opponent()
            .execute(&format!("SELECT pg_terminate_backend({session})"));
        bed.session_ends(session).await;
        assert_ne!(bed.blocked_session().await, session);
        holder.execute("ROLLBACK");
        let answer = visitor.await.expect("no panic");
        assert_eq!((answer.status, &*answer.body), (200, "2"));
    });
}
