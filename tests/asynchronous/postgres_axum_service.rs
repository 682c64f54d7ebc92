//! The service among the examples, on PostgreSQL, where requests wait for the rows of others: what
//! they know of them afterwards, and what one that is given up holds on to.

use super::axum_service::{Service, repeat, transfer};
use super::{Bed, run};

/// Its connection is closed, not kept in the pool with a transaction open on the server.
#[test]
fn a_client_that_goes_away_takes_its_session_along() {
    run(async {
        let bed = Bed::new();
        let service = Service::start(&bed);
        let holder = bed.opponent();
        holder.execute("BEGIN; UPDATE accounts SET balance = 0 WHERE id = 2");
        let client = tokio::spawn(transfer(service.address, 1, 2, 1, 20_000));
        let session = bed.blocked_session().await;
        client.abort();
        assert!(client.await.is_err());
        bed.session_ends(session).await;
        holder.execute("ROLLBACK");
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        assert_eq!(service.transfer(1, 2, 1).await.status, 200, "usable");
    });
}

/// Both want more than half of it, and wait for someone who has it. They are in two processes, which do not see
/// each other's gates.
#[test]
fn of_two_that_wait_for_an_account_one_is_told_that_it_is_empty() {
    run(async {
        let bed = Bed::new();
        let (service, second) = (Service::start(&bed), Service::start(&bed));
        let holder = bed.opponent();
        holder.execute("BEGIN; SELECT FROM accounts WHERE id = 1 FOR UPDATE");
        let one = tokio::spawn(transfer(service.address, 1, 2, 60, 20_000));
        let other = tokio::spawn(transfer(second.address, 1, 2, 60, 20_000));
        bed.blocked_sessions(2).await;
        holder.execute("ROLLBACK");
        let (one, other) = tokio::join!(one, other);
        let mut answers = [one, other].map(|answer| answer.expect("no panic").status);
        answers.sort_unstable();
        assert_eq!(answers, [200, 422]);
        assert_eq!(bed.balances(), [(1, 40), (2, 160), (3, 100)]);
    });
}

/// In another process, so it waits for the key and not for its turn. When the first one is killed, its session
/// ends with its statement, and the key is free.
#[test]
fn a_request_that_is_under_way_too_long_is_told_so_and_killed_it_is_free() {
    run(async {
        let bed = Bed::new();
        let (first, second) = (Service::start(&bed), Service::start(&bed));
        let holder = bed.opponent();
        let lock = fastrand::u32(..);
        // Its wait has no limit, so that the request is under way for as long as the test needs.
        holder.execute(&format!(
            "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$ \
             BEGIN PERFORM pg_advisory_xact_lock({lock}); RETURN NEW; END $$; \
             CREATE TRIGGER waits BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION waits()"
        ));
        holder.execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({lock})"));
        let head: &[&str] = &["X-Timeout-Ms: 20000"];
        let address = first.address;
        let asked = tokio::spawn(repeat(address, head, "\"a\"", (1, 2, 10)));
        let session = bed.blocked_session().await;
        let answer = repeat(second.address, head, "\"a\"", (1, 2, 10))
            .await
            .expect("an answer");
        assert_eq!(answer.status, 409, "{answer:?}");
        assert!(answer.head.contains("\r\nretry-after: "), "{answer:?}");
        drop(first);
        assert!(asked.await.expect("no panic").is_err());
        holder.execute("ROLLBACK");
        bed.session_ends(session).await;
        let answer = repeat(second.address, head, "\"a\"", (1, 2, 10))
            .await
            .expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);
    });
}
