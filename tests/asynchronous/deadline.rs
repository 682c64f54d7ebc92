//! A server that accepts a connection and then says nothing is waited for until the deadline.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel_async::{OperationError as _, Outcome, Runner};
use dbop_tests::server_url;
use diesel::QueryResult;
use diesel_async::AsyncConnection as _;

use super::{Conn, run};

#[test]
fn a_login_that_is_never_answered_ends_with_it() {
    run(async {
        // The system accepts for whoever listens; nobody reads.
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = silent.local_addr().expect("an address");
        let url = server_url();
        let (user, rest) = url.split_once('@').expect("a user in the URL");
        let (_, database) = rest.split_once('/').expect("a database in the URL");
        let url = format!("{user}@{address}/{database}");
        let deadline = Duration::from_millis(300);
        let bodies = AtomicU32::new(0);
        let started = Instant::now();
        let report = Runner::default()
            .operation("patient")
            .deadline(deadline)
            .run_on_report(
                &async || Conn::establish(&url).await,
                async |_: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    QueryResult::Ok(())
                },
            )
            .await;
        let took = started.elapsed();
        assert!(
            took >= deadline && took < Duration::from_secs(8),
            "{took:?}"
        );
        let error = report.result.expect_err("no connection");
        let own = error.dbop_error().expect("of dbop's own");
        assert!(own.is_no_connection(), "{own}");
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
        assert_eq!(bodies.into_inner(), 0);
    });
}
