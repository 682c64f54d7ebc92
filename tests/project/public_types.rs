//! Runners are shared between threads; everything public can be shown for debugging.

use std::fmt::Debug;

fn shared<T: Send + Sync + Clone + Debug + 'static>() {}
fn sent<T: Send + Sync + Debug>() {}

#[test]
fn runners_can_be_shared() {
    shared::<dbop_diesel::Runner>();
    shared::<dbop_diesel_async::Runner>();
    shared::<dbop_diesel::RetryPolicy>();
    sent::<dbop_diesel::Operation<'_>>();
    sent::<dbop_diesel::Operation<'_, dbop_diesel::FallbackValue<u8>>>();
    sent::<dbop_diesel::Error>();
    sent::<dbop_diesel::Fault>();
    sent::<dbop_diesel::Report<(), diesel::result::Error>>();
}

#[test]
fn a_runners_debug_output_has_no_secrets_to_show() {
    let shown = format!("{:?}", dbop_diesel::Runner::default());
    assert!(shown.contains("jitter: Full"), "{shown}");
    assert!(!shown.contains("://"), "{shown}");
}

#[test]
fn a_policy_can_be_a_constant() {
    const POLICY: dbop_diesel::RetryPolicy = dbop_diesel::RetryPolicy::new().with_max_retries(2);
    assert_eq!(POLICY.max_retries(), 2);
}

/// dbop's names can be imported as a whole beside Diesel's: no trait shadows the one that
/// `transaction` is from. This is shown by compiling it.
mod imported_as_a_whole {
    use dbop_diesel::*;
    use diesel::prelude::*;
    use diesel::r2d2::{ConnectionManager, PooledConnection, R2D2Connection};

    #[expect(dead_code, reason = "compiled, not run")]
    fn nested<C>(conn: &mut PooledConnection<ConnectionManager<C>>) -> QueryResult<()>
    where
        C: R2D2Connection + 'static,
        PooledConnection<ConnectionManager<C>>: SupportedConnection,
    {
        conn.transaction(|conn| Runner::default().run(conn, |_| Ok(())))
    }
}
