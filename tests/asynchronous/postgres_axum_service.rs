//! The service among the examples, on PostgreSQL: what a request that is given up holds on to.

use super::axum_service::{Service, transfer};
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
        assert_eq!(service.transfer(1, 2, 1).await.status, 204, "usable");
    });
}
