//! For how long a server or a body is waited for.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// A wait that may be limited. The timer is made where there is something to wait for, and in a box: a run without
/// a deadline has no room for it.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) const fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None }
    }

    /// What is waited for is not there. Whether the time for it is over; if not, the task is woken then.
    pub(crate) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context).is_ready()
    }
}

/// What the work returns. `None` if that takes longer than the limit.
pub(crate) async fn in_time<F: Future>(
    limit: Option<Duration>,
    mut work: Pin<&mut F>,
) -> Option<F::Output> {
    let mut patience = Patience::new(limit);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending if patience.is_over(context) => Poll::Ready(None),
        poll => poll.map(Some),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_waited_for_until_the_limit() {
        let start = Instant::now();
        let limit = Duration::from_secs(5);
        let never = pin!(pending::<()>());
        assert_eq!(in_time(Some(limit), never).await, None);
        let waited = start.elapsed();
        assert!(waited >= limit && waited < 2 * limit, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_time_is_returned() {
        let later = pin!(async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            7
        });
        assert_eq!(in_time(Some(Duration::from_secs(5)), later).await, Some(7));
        assert_eq!(in_time(Some(Duration::ZERO), pin!(ready(8))).await, Some(8));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_there_is_no_timer() {
        let later = pin!(tokio::time::sleep(Duration::from_secs(4_000)));
        assert_eq!(in_time(None, later).await, Some(()));
    }
}
