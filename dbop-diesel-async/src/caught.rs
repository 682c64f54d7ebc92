//! The user's code, whose panics must not get past the ROLLBACK.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use dbop_diesel::adapter::Trace;

use crate::patience::Patience;

/// What the user's code returned, or the payload of its panic.
pub(crate) type Caught<T> = Result<T, Box<dyn Any + Send>>;

/// Makes the user's future, runs it and drops it. Each of the three can panic; the first panic is
/// returned. The span of the attempt is entered whenever code of the user's runs. `None` if the future has not
/// ended within the limit: it is dropped then.
///
/// It is compiled for each body, so what catches and what polls do not know the future's type. The future is made in
/// a place of the caller's: an `async fn` would be one more state machine for each body, and would have what it takes
/// twice.
pub(crate) fn caught<F: Future>(
    trace: &Trace,
    limit: Option<Duration>,
    mut future: Pin<&mut Option<F>>,
    make: impl FnOnce() -> F,
) -> impl Future<Output = Caught<Option<F::Output>>> {
    let mut make = Some(make);
    let mut patience = Patience::new(limit);
    poll_fn(move |context| {
        let mut user = |context: Option<&mut Context<'_>>| {
            let Some(context) = context else {
                future.set(None);
                return Poll::Pending;
            };
            if let Some(make) = make.take() {
                future.set(Some(make()));
            }
            match future.as_mut().as_pin_mut() {
                Some(future) => future.poll(context),
                None => Poll::Pending,
            }
        };
        poll(trace, &mut patience, context, &mut user)
    })
}

/// Code of the user's: polls the future, and drops it if there is no context.
type User<'a, T> = dyn FnMut(Option<&mut Context<'_>>) -> Poll<T> + 'a;

fn poll<T>(
    trace: &Trace,
    patience: &mut Patience,
    context: &mut Context<'_>,
    user: &mut User<'_, T>,
) -> Poll<Caught<Option<T>>> {
    let output = match guarded(trace, || user(Some(context))) {
        Ok(Poll::Ready(output)) => Ok(Some(output)),
        Ok(Poll::Pending) if !patience.is_over(context) => return Poll::Pending,
        Ok(Poll::Pending) => Ok(None),
        Err(payload) => Err(payload),
    };
    let dropped = guarded(trace, || user(None));
    Poll::Ready(output.and_then(|output| dropped.map(|_| output)))
}

fn guarded<T>(trace: &Trace, code: impl FnOnce() -> T) -> Caught<T> {
    let _entered = trace.enter();
    catch_unwind(AssertUnwindSafe(code))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
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
        let mut place = pin!(None);
        let future = pin!(caught(&trace, None, place.as_mut(), make));
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
