//! The guides, one page each: the files in `docs/` of the repository.

// Their links lead from page to page in the repository. Here, where the pages are modules, the
// first definition of a link is the one that counts. Their examples are doctests of `dbop-tests`,
// where the async adapter and every pool are available.
macro_rules! page {
    ($file:literal) => {
        concat!(
            "[budget]: crate::guide::retries#a-budget-for-all-operations\n",
            "[constraints]: crate::guide::settings#statement-timeout\n",
            "[concurrently]: crate::guide::recipes#vacuum-and-indexes-built-concurrently\n",
            "[classes]: crate::guide::retries#a-policy-for-each-class\n",
            "[contention]: crate::guide::contention\n",
            "[cost]: crate::guide::cost\n",
            "[dead server]: crate::guide::unknown_outcome#notice-a-dead-server\n",
            "[dead sessions]: crate::guide::limits#bodies-that-end-their-connection\n",
            "[errors]: crate::guide::errors#which-error-types-work\n",
            "[helpers]: crate::guide::adopting\n",
            "[hooks]: crate::guide::hooks\n",
            "[forget]: crate::guide::idempotency#how-long-entries-are-kept\n",
            "[how long]: crate::guide::recipes#how-long-a-policy-lasts\n",
            "[idempotency]: crate::guide::idempotency\n",
            "[ledger]: crate::guide::unknown_outcome#ledger\n",
            "[limits]: crate::guide::limits#what-dbop-does-not-notice\n",
            "[log]: crate::LogLevels\n",
            "[lost connections]: crate::guide::pools#a-lost-connection\n",
            "[nodes]: crate::guide::nodes\n",
            "[observability]: crate::guide::observability\n",
            "[outlives]: crate::guide::limits#what-outlives-a-rollback\n",
            "[own words]: crate::guide::limits#what-cannot-be-told-apart\n",
            "[engines]: crate::guide::engines\n",
            "[poolers]: crate::guide::poolers\n",
            "[pools]: crate::guide::pools#pgbouncer\n",
            "[queue]: crate::guide::recipes#a-queue-of-jobs\n",
            "[retries]: crate::guide::retries\n",
            "[retry budget]: crate::guide::retries#a-budget-for-all-operations\n",
            "[retry settings]: crate::guide::settings#retries\n",
            "[round trips]: crate::guide::round_trips\n",
            "[statements]: crate::guide::poolers#prepared-statements\n",
            "[storms]: crate::guide::storms\n",
            "[sync]: crate::guide::sync_in_async\n",
            "[unknown outcome]: crate::guide::unknown_outcome\n",
            "[verdict]: crate::verdict()\n",
            "[waiting]: crate::guide::pools#waiting-for-a-server\n",
            "[without a transaction]: crate::guide::settings#without-a-transaction\n",
            "\n",
            include_str!($file)
        )
    };
}

#[cfg_attr(not(doctest), doc = page!("../docs/from-a-retry-loop.md"))]
#[cfg_attr(doctest, doc = "From a retry loop.")]
pub mod from_a_retry_loop {}

#[cfg_attr(not(doctest), doc = page!("../docs/adopting.md"))]
#[cfg_attr(doctest, doc = "Helpers around dbop.")]
pub mod adopting {}

#[cfg_attr(not(doctest), doc = page!("../docs/recipes.md"))]
#[cfg_attr(doctest, doc = "Recipes.")]
pub mod recipes {}

#[cfg_attr(not(doctest), doc = page!("../docs/retries.md"))]
#[cfg_attr(doctest, doc = "Retries.")]
pub mod retries {}

#[cfg_attr(not(doctest), doc = page!("../docs/hooks.md"))]
#[cfg_attr(doctest, doc = "Hooks.")]
pub mod hooks {}

#[cfg_attr(not(doctest), doc = page!("../docs/errors.md"))]
#[cfg_attr(doctest, doc = "Errors.")]
pub mod errors {}

#[cfg_attr(not(doctest), doc = page!("../docs/testing.md"))]
#[cfg_attr(doctest, doc = "Testing.")]
pub mod testing {}

#[cfg_attr(not(doctest), doc = page!("../docs/pools.md"))]
#[cfg_attr(doctest, doc = "Pools and poolers.")]
pub mod pools {}

#[cfg_attr(not(doctest), doc = page!("../docs/poolers.md"))]
#[cfg_attr(doctest, doc = "Poolers.")]
pub mod poolers {}

#[cfg_attr(not(doctest), doc = page!("../docs/engines.md"))]
#[cfg_attr(doctest, doc = "Engines.")]
pub mod engines {}

#[cfg_attr(not(doctest), doc = page!("../docs/nodes.md"))]
#[cfg_attr(doctest, doc = "Several nodes.")]
pub mod nodes {}

#[cfg_attr(not(doctest), doc = page!("../docs/postgres.md"))]
#[cfg_attr(doctest, doc = "PostgreSQL.")]
pub mod postgres {}

#[cfg_attr(not(doctest), doc = page!("../docs/mysql.md"))]
#[cfg_attr(doctest, doc = "MySQL and MariaDB.")]
pub mod mysql {}

#[cfg_attr(not(doctest), doc = page!("../docs/sqlite.md"))]
#[cfg_attr(doctest, doc = "SQLite.")]
pub mod sqlite {}

#[cfg_attr(not(doctest), doc = page!("../docs/settings.md"))]
#[cfg_attr(doctest, doc = "Settings.")]
pub mod settings {}

#[cfg_attr(not(doctest), doc = page!("../docs/contention.md"))]
#[cfg_attr(doctest, doc = "Contention.")]
pub mod contention {}

#[cfg_attr(not(doctest), doc = page!("../docs/storms.md"))]
#[cfg_attr(doctest, doc = "Storms.")]
pub mod storms {}

#[cfg_attr(not(doctest), doc = page!("../docs/unknown-outcome.md"))]
#[cfg_attr(doctest, doc = "Unknown outcomes.")]
pub mod unknown_outcome {}

#[cfg_attr(not(doctest), doc = page!("../docs/idempotency.md"))]
#[cfg_attr(doctest, doc = "Idempotency keys.")]
pub mod idempotency {}

#[cfg_attr(not(doctest), doc = page!("../docs/observability.md"))]
#[cfg_attr(doctest, doc = "Observability.")]
pub mod observability {}

#[cfg_attr(not(doctest), doc = page!("../docs/limits.md"))]
#[cfg_attr(doctest, doc = "Limits.")]
pub mod limits {}

#[cfg_attr(not(doctest), doc = page!("../docs/round-trips.md"))]
#[cfg_attr(doctest, doc = "Round trips.")]
pub mod round_trips {}

#[cfg_attr(not(doctest), doc = page!("../docs/cost.md"))]
#[cfg_attr(doctest, doc = "Cost.")]
pub mod cost {}

#[cfg_attr(not(doctest), doc = page!("../docs/sync-in-async.md"))]
#[cfg_attr(doctest, doc = "Sync connections in async code.")]
pub mod sync_in_async {}

#[cfg_attr(not(doctest), doc = page!("../docs/architecture.md"))]
#[cfg_attr(doctest, doc = "Architecture.")]
pub mod architecture {}
