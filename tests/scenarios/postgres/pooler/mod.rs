//! Behind a pooler that lends its server connections for a transaction at a time.

use super::*;

/// The PgBouncer of this Debian.
#[path = "."]
mod installed {
    use dbop_tests::postgres::PgBouncer;

    use super::*;

    const PGBOUNCER: PgBouncer = PgBouncer::Installed;

    /// How many operations each kind of refused COMMIT is.
    const OPERATIONS: u32 = 60;

    mod refused_commits;
    mod untracked;
}

/// A newer one, which tracks prepared statements.
#[path = "."]
mod tracking {
    use dbop_tests::postgres::PgBouncer;

    use super::*;

    const PGBOUNCER: PgBouncer = PgBouncer::Tracking;

    /// How many operations each kind of refused COMMIT is.
    const OPERATIONS: u32 = 20;

    mod prepared;
    mod refused_commits;
    mod stale_plans;
}
