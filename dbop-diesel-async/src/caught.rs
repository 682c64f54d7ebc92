//! The user's code, whose panics must not get past the ROLLBACK.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use dbop_diesel::adapter::Trace;

use crate::patience::Patience;

type Caught<T> = Result<T, Box<dyn Any + Send>>;

/// Makes the user's future, runs it and drops it. Each of the three can panic; the first panic is
/// returned. The span of the attempt is entered whenever code of the user's runs. `None` if the future has not
/// ended within the limit: it is dropped then.
///
/// It takes what makes the future and not the future itself, which would then be in the future of
/// the run twice: as the argument, and where it is pinned. It is compiled for each body, so what catches and
/// what polls do not know the future's type.
pub(crate) async fn caught<F: Future>(
    trace: &Trace,
    limit: Option<Duration>,
    make: impl FnOnce() -> F,
) -> Caught<Option<F::Output>> {
    let mut future = pin!(None);
    {
        let mut make = Some(make);
        guarded(trace, &mut || {
            future.set(make.take().map(|make| make()));
        })?;
    }
    let mut patience = Patience::new(limit);
    let output = poll_fn(|context| match future.as_mut().as_pin_mut() {
        Some(future) => poll(trace, &mut patience, future, context),
        None => Poll::Pending,
    })
    .await;
    let dropped = guarded(trace, &mut || future.set(None));
    first_panic(output, dropped)
}

fn first_panic<T>(output: Caught<T>, dropped: Caught<()>) -> Caught<T> {
    output.and_then(|output| dropped.map(|()| output))
}

/// Code of the user's.
fn guarded(trace: &Trace, code: &mut dyn FnMut()) -> Caught<()> {
    let _entered = trace.enter();
    catch_unwind(AssertUnwindSafe(code))
}

fn poll<T>(
    trace: &Trace,
    patience: &mut Patience,
    future: Pin<&mut dyn Future<Output = T>>,
    context: &mut Context<'_>,
) -> Poll<Caught<Option<T>>> {
    let mut polled = Poll::Pending;
    let mut future = Some(future);
    let mut once = || {
        if let Some(future) = future.take() {
            polled = future.poll(context);
        }
    };
    if let Err(payload) = guarded(trace, &mut once) {
        return Poll::Ready(Err(payload));
    }
    match polled {
        Poll::Pending if patience.is_over(context) => Poll::Ready(Ok(None)),
        polled => polled.map(|output| Ok(Some(output))),
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

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
