use tokio::runtime::{Handle, RuntimeFlavor};

/// Does something that blocks this thread. Where a test runs on a runtime of several threads, the
/// others are told to take over what this one had to do.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(f),
        _ => f(),
    }
}
