//! The user's code, whose panics must not get past the ROLLBACK.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use dbop_diesel::adapter::Trace;

use crate::patience::Patience;

type Caught<T> = Result<T, Box<dyn Any + Send>>;

/// Makes the user's future, runs it and drops it. Each of the three can panic; the first panic is
/// returned. The span of the attempt is entered whenever code of the user's runs. `None` if the future has not
/// ended within the limit: it is dropped then.
///
/// It takes what makes the future and not the future itself, which would then be in the future of
/// the run twice: as the argument, and where it is pinned.
pub(crate) async fn caught<F: Future>(
    trace: &Trace,
    limit: Option<Duration>,
    make: impl FnOnce() -> F,
) -> Caught<Option<F::Output>> {
    let mut future = pin!(Some({
        let _entered = trace.enter();
        catch_unwind(AssertUnwindSafe(make))?
    }));
    let mut patience = Patience::new(limit);
    let output = poll_fn(|context| {
        let future = future.as_mut().as_pin_mut();
        let poll = || future.map_or(Poll::Pending, |future| future.poll(context));
        let _entered = trace.enter();
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) if patience.is_over(context) => Poll::Ready(Ok(None)),
            Ok(poll) => poll.map(|output| Ok(Some(output))),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await;
    let _entered = trace.enter();
    let dropped = catch_unwind(AssertUnwindSafe(|| Pin::set(&mut future, None)));
    output.and_then(|output| dropped.map(|()| output))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    /// Panics when it is polled or dropped, as it is told.
    struct Loud {
        polled: bool,
        dropped: bool,
    }

    impl Future for Loud {
        type Output = u32;

        fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<u32> {
            assert!(!self.polled, "polled");
            Poll::Ready(7)
        }
    }

    impl Drop for Loud {
        fn drop(&mut self) {
            assert!(!self.dropped, "dropped");
        }
    }

    fn outcome(make: impl FnOnce() -> Loud) -> Result<u32, &'static str> {
        let trace = Trace::default();
        let future = pin!(caught(&trace, None, make));
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(output)) => Ok(output.expect("there is no limit")),
            Poll::Ready(Err(payload)) => Err(*payload.downcast().expect("a text")),
            Poll::Pending => panic!("it waits for nothing"),
        }
    }

    #[test]
    fn the_first_panic_is_returned_wherever_it_happens() {
        for (polled, dropped, expected) in [
            (false, false, Ok(7)),
            (true, false, Err("polled")),
            (false, true, Err("dropped")),
            (true, true, Err("polled")),
        ] {
            assert_eq!(outcome(|| Loud { polled, dropped }), expected);
        }
        assert_eq!(outcome(|| panic!("made")), Err("made"));
    }
}
