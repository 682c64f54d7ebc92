//! dbop on sqlite.

/// The scenarios, on the sync adapter.
#[path = "../scenarios"]
mod sync {
    use dbop_diesel::Runner;
    use dbop_tests::sqlite::{Bed, Conn};
    use dbop_tests_macros::sync_scenario as scenario;
    use diesel::RunQueryDsl;

    mod basics;
}
