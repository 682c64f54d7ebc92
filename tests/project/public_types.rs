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
fn a_runner_s_debug_output_has_no_secrets_to_show() {
    let shown = format!("{:?}", dbop_diesel::Runner::default());
    assert!(shown.contains("max_retries: 5"), "{shown}");
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
    #![expect(dead_code, reason = "compiled, not run")]

    mod blocking {
        use dbop_diesel::*;
        use diesel::prelude::*;

        fn nested<C: Connection + SupportedConnection>(conn: &mut C) -> QueryResult<()> {
            conn.transaction(|conn| Runner::default().run(conn, |_| Ok(())))
        }
    }

    mod asynchronous {
        use dbop_diesel_async::*;
        use diesel::prelude::*;
        use diesel_async::*;

        async fn nested<C: SupportedConnection>(conn: &mut C) -> QueryResult<()> {
            conn.transaction(async |conn| Runner::default().run(conn, async |_| Ok(())).await)
                .await
        }
    }
}
