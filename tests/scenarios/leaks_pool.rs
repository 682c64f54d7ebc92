//! A pool of a single connection hands it out again with every setting that it had before, however
//! an operation on it ended.

use dbop_diesel::RetryPolicy;
use dbop_tests::InstantClock;

use super::leaks_session::{Trouble, assert_unchanged, operations, runners, session, sessions};
use super::money::{balance, insert};
use super::{Bed, Conn, Runner, SimpleConnection as _, caught, scenario};

#[scenario]
async fn the_next_one_gets_it_as_it_was() {
    let bed = Bed::of(1);
    // It is the same one: another one would not have these.
    bed.connect()
        .batch_execute(sessions()[1])
        .await
        .expect("it can be set");
    let before = session(&mut bed.connect()).await;
    let policy = RetryPolicy::new().with_max_retries(1);
    let all = runners(&Runner::new(policy).with_clock(InstantClock::new()));
    for runner in all {
        for operation in operations(&runner) {
            let what = format!("{operation:?}");
            let done: Result<i64, Trouble> = operation
                .run(&mut bed.connect(), async |conn: &mut Conn| {
                    Ok(balance(conn, 1).await?)
                })
                .await;
            drop(done);
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let failed: Result<usize, Trouble> = operation
                .run(&mut bed.connect(), async |conn: &mut Conn| {
                    Ok(insert(conn, 1).await?)
                })
                .await;
            failed.expect_err("a unique violation");
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let own: Result<(), Trouble> = operation
                .run(&mut bed.connect(), async |_: &mut Conn| Err(Trouble::Own))
                .await;
            own.expect_err("as it says");
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let in_vain: Result<(), Trouble> = operation
                .run(&mut bed.connect(), async |_: &mut Conn| Err(Trouble::Again))
                .await;
            in_vain.expect_err("as it says");
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let mut conn = bed.connect();
            let panicked = caught(async || {
                let never: Result<(), Trouble> = operation
                    .run(&mut conn, async |_: &mut Conn| panic!("in the operation"))
                    .await;
                never
            })
            .await;
            assert!(!matches!(panicked, Ok(Ok(()))));
            drop(conn);
            assert_unchanged(&mut bed.connect(), &before, &what).await;
        }
    }
}
