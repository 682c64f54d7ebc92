//! Before version 1.21, what a client has prepared on one server connection is missing on the next one.

use dbop_diesel::FaultClass;
use dbop_tests::postgres::Pooler;

use super::money::balance;
use super::{Bed, Conn, Connection as _, MODE, PGBOUNCER, Runner, scenario};

/// diesel-async prepares something as soon as it connects.
#[scenario]
async fn a_statement_that_another_server_connection_has_prepared_does_not_exist() {
    let bed = Bed::new();
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = match Conn::establish(pooler.url()).await {
        Ok(conn) => conn,
        Err(error) => {
            assert_eq!(MODE, "async");
            let text = error.to_string();
            assert!(text.starts_with("prepared statement \"s"), "{text}");
            assert!(text.ends_with("does not exist"), "{text}");
            return;
        }
    };
    assert_eq!(MODE, "sync");
    let runner = Runner::default();
    let look = runner.operation("look").max_retries(0);
    let mut faults = Vec::new();
    for _ in 0..2 {
        let report = look
            .run_report(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        faults.extend(report.failures.iter().filter_map(|attempt| attempt.fault));
    }
    let [fault] = faults[..] else {
        panic!("the second one: {faults:?}");
    };
    assert_eq!(fault.class(), FaultClass::StalePlan);
    assert_eq!(fault.code().expect("a code").to_string(), "26000");
}
