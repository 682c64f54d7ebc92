//! The future of a run contains that of its body, and so those of the runs in it. It is moved to the
//! heap or onto a worker's stack as a whole, so each run may only add a constant to it.
//!
//! Nothing is run here: the sizes are those of types. 20 levels are more than the compiler's default
//! `recursion_limit` allows.

use std::future::{Future, Ready, ready};

use dbop_diesel_async::Runner;
use diesel::{ConnectionResult, QueryResult};

use super::Conn;

/// What connects, for `run_on`.
type Connect = fn() -> Ready<ConnectionResult<Conn>>;

/// A body that does nothing.
fn nothing<'a>(
    _: &'a Runner,
    _: &'a Connect,
    _: &'a mut Conn,
) -> impl Future<Output = QueryResult<()>> + Send + use<'a> {
    ready(Ok(()))
}

/// How large the future is that such a function returns.
fn size<'a, F>(_: impl FnOnce(&'a Runner, &'a Connect, &'a mut Conn) -> F) -> usize {
    size_of::<F>()
}

/// Functions, each of which runs the one before it.
macro_rules! nested {
    ($call:tt; $innermost:ident) => {};
    ($call:tt; $inner:ident $outer:ident $($further:ident)*) => {
        fn $outer<'a>(
            runner: &'a Runner,
            connect: &'a Connect,
            conn: &'a mut Conn,
        ) -> impl Future<Output = QueryResult<()>> + Send + use<'a> {
            nested!(@ $call runner connect conn $inner)
        }

        nested!($call; $outer $($further)*);
    };
    (@ run $runner:ident $connect:ident $conn:ident $inner:ident) => {
        $runner.run($conn, async move |conn| $inner($runner, $connect, conn).await)
    };
    (@ run_report $runner:ident $connect:ident $conn:ident $inner:ident) => {
        async move {
            let run = $runner.run_report($conn, async move |conn| {
                $inner($runner, $connect, conn).await
            });
            run.await.result
        }
    };
    (@ run_on $runner:ident $connect:ident $conn:ident $inner:ident) => {{
        _ = $conn;
        $runner.run_on($connect, async move |conn| $inner($runner, $connect, conn).await)
    }};
}

/// The sizes of the futures of 1 to 20 runs, one in the other.
macro_rules! sizes {
    ($call:tt) => {
        sizes!($call: l1 l2 l3 l4 l5 l6 l7 l8 l9 l10 l11 l12 l13 l14 l15 l16 l17 l18 l19 l20)
    };
    ($call:tt: $($level:ident)*) => {{
        nested!($call; nothing $($level)*);
        [$(size($level)),*]
    }};
}

/// How many bytes a run may add to the future of its body.
const LIMIT: usize = 2_100;

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the sizes are of interest, not only their limit"
)]
fn the_futures_of_nested_runs_grow_by_a_constant() {
    for (call, sizes) in [
        ("run", sizes!(run)),
        ("run_report", sizes!(run_report)),
        ("run_on", sizes!(run_on)),
    ] {
        println!("{call}: {sizes:?}");
        for (depth, pair) in (2..).zip(sizes.windows(2)) {
            let added = pair[1] - pair[0];
            assert!(
                added <= LIMIT,
                "{call}: {added} at depth {depth} of {sizes:?}"
            );
        }
    }
}
