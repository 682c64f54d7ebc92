//! A panic in an operation whose session the server has ended: it cannot be rolled back any more,
//! so the connection is discarded, and the panic goes on all the same.

use dbop_diesel_async::Runner;
use dbop_tests::asynchronous::{caught, refuses};
use diesel::QueryResult;

use super::money::{add, share_out};
use super::{Bed, Conn, run};

#[test]
fn a_connection_that_cannot_roll_back_is_discarded() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let session = Bed::session_id(&mut conn).await;
        let runner = Runner::default();
        let work = runner.run(&mut conn, async |conn: &mut Conn| {
            share_out(conn).await?;
            bed.kill(session);
            bed.session_ends(session).await;
            panic!("after the loss");
            #[expect(unreachable_code, reason = "it names the type")]
            QueryResult::Ok(())
        });
        let payload = caught(work).await.expect_err("a panic");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"after the loss"));
        assert!(refuses(&mut conn));
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}

/// Without noticing anything itself.
#[test]
fn in_a_nested_run_too() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let session = Bed::session_id(&mut conn).await;
        let runner = Runner::default();
        let work = runner.run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, -1).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    add(conn, 2, 1).await?;
                    bed.kill(session);
                    bed.session_ends(session).await;
                    panic!("after the loss");
                    #[expect(unreachable_code, reason = "it names the type")]
                    QueryResult::Ok(())
                })
                .await
        });
        let payload = caught(work).await.expect_err("a panic");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"after the loss"));
        assert!(refuses(&mut conn));
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}
