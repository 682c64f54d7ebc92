//! An operation that ended its transaction and then runs another one: that one is alone, and says of
//! itself what is true; of the one around it nothing can be said any more, and its connection, whose
//! settings were kept twice, is nobody's.

use dbop_tests::assert_unknown;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::OperationError as _;
use diesel::QueryResult;

use super::money::set;
use super::{
    Bed, Conn, Manager, Runner, SimpleConnection as _, TransactionManager as _, depth, scenario,
};

#[scenario]
async fn another_operation_in_its_place_is_noticed() {
    let bed = Bed::new();
    for says_ok in [true, false] {
        let mut conn = bed.connect();
        let runner = Runner::default();
        let bodies = AtomicU32::new(0);
        let report = runner
            .operation("outer")
            .fallback(())
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                set(conn, 1, 1).await?;
                Manager::commit_transaction(conn).await?;
                let inner: QueryResult<usize> = runner
                    .run(conn, async |conn: &mut Conn| set(conn, 2, 2).await)
                    .await;
                assert_eq!(inner, Ok(1));
                match says_ok {
                    true => Ok(()),
                    false => Err(diesel::result::Error::NotFound),
                }
            })
            .await;
        assert_unknown(&report);
        assert_eq!(bodies.into_inner(), 1, "not done again");
        assert_eq!(depth(&mut conn), None, "it refuses to go on");
        drop(conn);
        assert_eq!(bed.balances(), [(1, 1), (2, 2), (3, 100)]);
    }
}

#[scenario]
async fn after_a_loss_nothing_runs_in_its_place() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let ended: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    conn.batch_execute("COMMIT").await
                })
                .await;
            ended.expect_err("it has ended everything");
            let further: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    set(conn, 2, 2).await
                })
                .await;
            let refusal = further.expect_err("refused");
            assert!(refusal.dbop_error().is_some(), "{refusal}");
            Ok(())
        })
        .await;
    result.expect_err("nobody knows");
    assert_eq!(bodies.into_inner(), 0);
    drop(conn);
    assert_eq!(bed.balances()[1], (2, 100));
}
