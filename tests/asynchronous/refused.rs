//! An operation that is refused before it begins has not touched its connection, which stays as
//! usable as it was.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel_async::Runner;
use dbop_tests::asynchronous::{depth, refuses};
use diesel::QueryResult;

use super::money::share_out;
use super::{Bed, Conn, run};

#[test]
fn for_a_setting_that_cannot_be() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let bodies = AtomicU32::new(0);
        let runner = Runner::default();
        let refused: QueryResult<()> = runner
            .operation("never")
            .lock_timeout(Duration::ZERO)
            .run(&mut conn, async |_: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .await;
        assert!(refused.is_err());
        assert_eq!(bodies.into_inner(), 0);
        assert!(!refuses(&mut conn));
        assert_eq!(depth(&mut conn), Some(0));
        assert_eq!(runner.run(&mut conn, share_out::<Conn>).await, Ok(()));
        assert_eq!(bed.balances(), [(1, 90), (2, 104), (3, 106)]);
    });
}
