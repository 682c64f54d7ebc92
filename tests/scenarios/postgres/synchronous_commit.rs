//! What a COMMIT waits for is the operation's own, and gone with it.

use dbop_diesel::{OperationError as _, SynchronousCommit};
use dbop_tests::Capture;
use diesel::QueryResult;

use super::money::set;
use super::steps::show;
use super::{Bed, Conn, Connection as _, Runner, scenario};

#[scenario]
async fn it_is_in_force_in_the_transaction_and_gone_after_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let before = show(&mut conn, "synchronous_commit").await;
    let runner = Runner::default();
    for commit in [
        SynchronousCommit::Off,
        SynchronousCommit::Local,
        SynchronousCommit::RemoteWrite,
        SynchronousCommit::On,
        SynchronousCommit::RemoteApply,
    ] {
        let inside: QueryResult<String> = runner
            .operation("last-seen")
            .synchronous_commit(commit)
            .run(&mut conn, async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                Ok(show(conn, "synchronous_commit").await)
            })
            .await;
        assert_eq!(inside.as_deref(), Ok(commit.as_str()));
        assert_eq!(show(&mut conn, "synchronous_commit").await, before);
    }
}

/// It would be that of the whole transaction.
#[scenario]
async fn in_a_savepoint_it_is_refused_or_skipped() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    let step = runner
        .operation("last-seen")
        .synchronous_commit(SynchronousCommit::Off);
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            let refused: QueryResult<usize> = step
                .run(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await;
            let error = refused.expect_err("it is not possible here");
            assert!(
                error
                    .dbop_error()
                    .is_some_and(|own| own.is_unsupported_setting())
            );
            let skipped: QueryResult<String> = step
                .best_effort()
                .run(conn, async |conn: &mut Conn| {
                    Ok(show(conn, "synchronous_commit").await)
                })
                .await;
            assert_eq!(skipped.as_deref(), Ok("on"));
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(log.records()[0].keys["setting"], "synchronous_commit");
}
