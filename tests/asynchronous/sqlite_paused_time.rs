//! A timeout around a run, where time is paused: with a server, paused time would run on while its
//! answers are awaited.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel_async::Runner;
use dbop_tests::Again;
use dbop_tests::asynchronous::refuses;
use tokio::time::{Instant, timeout};

use super::money::share_out;
use super::paused_time::{POLICY, is_about};
use super::{Bed, Conn};

#[tokio::test(start_paused = true)]
async fn a_timeout_around_a_run_ends_it_in_the_middle_of_a_delay() {
    let bed = Bed::new();
    let mut conn = bed.connect().await;
    let bodies = AtomicU32::new(0);
    let started = Instant::now();
    let runner = Runner::new(POLICY);
    let work = runner.run(&mut conn, async |conn: &mut Conn| {
        bodies.fetch_add(1, Ordering::Relaxed);
        share_out(conn).await?;
        Err::<(), _>(Again)
    });
    assert!(timeout(Duration::from_secs(150), work).await.is_err());
    assert!(is_about(started.elapsed(), 150), "{:?}", started.elapsed());
    assert_eq!(bodies.into_inner(), 2);
    assert!(refuses(&mut conn));
}
