//! Before version 1.21, what a client has prepared on one server connection is missing on the next one.

use dbop_diesel::FaultClass;
use dbop_tests::postgres::Pooler;

use super::money::balance;
use super::{Bed, Conn, Connection as _, PGBOUNCER, Runner, scenario};

#[scenario]
async fn a_statement_that_another_server_connection_has_prepared_does_not_exist() {
    let bed = Bed::new();
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = Conn::establish(pooler.url()).await.expect("a connection");
    let runner = Runner::default();
    let look = || runner.operation("look").max_retries(0);
    let mut classes = Vec::new();
    for _ in 0..4 {
        let report = look()
            .run_report(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        let faults = report.failures.iter().filter_map(|failure| failure.fault);
        classes
            .extend(faults.map(|fault| (fault.class(), fault.code().map(|code| code.to_string()))));
    }
    let missing = (FaultClass::StalePlan, Some("26000".to_owned()));
    assert!(classes.contains(&missing), "{classes:?}");
}
