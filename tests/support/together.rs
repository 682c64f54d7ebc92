use std::thread;

/// Does two things at the same time, on two threads, and waits for both.
///
/// # Panics
///
/// If one of them does.
pub fn together<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().expect("no panic"), other)
    })
}
