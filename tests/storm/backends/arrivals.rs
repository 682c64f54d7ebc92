//! Operations that arrive at a steady rate, whatever becomes of those before them: tasks, with deadpool.

use std::sync::Arc;
use std::time::Duration;

use dbop_tests::accounts;
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection as _, SimpleAsyncConnection as _};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::runners::runner;
use super::tasks::{checkout, fill, pause};
use super::{Conn, Pool, RunQueryDsl as _, Runner};
use crate::storm::Outcome;
use crate::storm::backends::Arrivals;
use crate::storm::cells::ACCOUNTS;
use crate::storm::outage::timeline::{Event, Timeline};
use crate::storm::outage::{CONNECTIONS, PATIENCE, Plan};
use crate::storm::policies::{Delays, Way};

pub(in super::super::super) fn arrivals(plan: Plan) -> Outcome<Box<dyn Arrivals>> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let pool = pool(&plan)?;
    runtime.block_on(fill(&pool, CONNECTIONS))?;
    let shared = Shared {
        pool,
        runner: runner(plan.way),
        way: plan.way,
        timeline: Arc::clone(&plan.timeline),
    };
    Ok(Box::new(Here {
        runtime,
        plan,
        shared: Arc::new(shared),
    }))
}

/// Counts the connections that it opens, and tries to open.
fn pool(plan: &Plan) -> Outcome<Pool> {
    let (session, timeline) = (plan.session.clone(), Arc::clone(&plan.timeline));
    let mut config = ManagerConfig::default();
    // What is written by hand needs the pool's own check: Diesel does not notice that a session on MySQL
    // or MariaDB has ended before BEGIN, so the pool would lend that connection for ever.
    config.recycling_method = match plan.way {
        Way::ByHand(_) => RecyclingMethod::Verified,
        Way::Dbop(_) => RecyclingMethod::Fast,
    };
    config.custom_setup = Box::new(move |url| {
        let (url, session) = (url.to_owned(), session.clone());
        let timeline = Arc::clone(&timeline);
        Box::pin(async move {
            timeline.count(Event::Connecting);
            let mut conn = Conn::establish(&url).await?;
            timeline.count(Event::Connected);
            let told = conn.batch_execute(&session).await;
            told.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        })
    });
    let manager = AsyncDieselConnectionManager::new_with_config(plan.url.clone(), config);
    Ok(Pool::builder(manager).max_size(CONNECTIONS).build()?)
}

struct Here {
    runtime: Runtime,
    plan: Plan,
    shared: Arc<Shared>,
}

impl Arrivals for Here {
    fn run(self: Box<Self>) {
        self.runtime.block_on(arrive(&self.plan, &self.shared));
        self.runtime.shutdown_background();
    }
}

async fn arrive(plan: &Plan, shared: &Arc<Shared>) {
    let end = plan.timeline.begin() + plan.length;
    let mut operations = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / plan.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while ticks.tick().await.into_std() < end {
        let shared = Arc::clone(shared);
        operations.spawn(async move { shared.operate().await });
        while operations.try_join_next().is_some() {}
    }
    // Those that have not ended by then are neither committed nor failed.
    let last = async { while operations.join_next().await.is_some() {} };
    _ = tokio::time::timeout(PATIENCE, last).await;
}

struct Shared {
    pool: Pool,
    runner: Runner,
    way: Way,
    timeline: Arc<Timeline>,
}

impl Shared {
    async fn operate(&self) {
        self.timeline.count(Event::Arrived);
        let account = fastrand::i32(1..=ACCOUNTS);
        let is_committed = match self.way {
            Way::ByHand(way) => self.by_hand((way.delays)(), account).await,
            Way::Dbop(_) => self.by_dbop(account).await,
        };
        self.timeline.count(if is_committed {
            Event::Committed
        } else {
            Event::Failed
        });
    }

    /// As a loop is written that is to survive an outage: whatever the error is, it tries again.
    async fn by_hand(&self, mut delays: Delays, account: i32) -> bool {
        while self.attempt(account).await.is_err() {
            let Some(delay) = delays.next() else {
                return false;
            };
            pause(delay).await;
        }
        true
    }

    async fn attempt(&self, account: i32) -> QueryResult<()> {
        let mut held = checkout(&self.pool).await?;
        let conn: &mut Conn = &mut held;
        let add = async |conn: &mut Conn| self.add(conn, account).await;
        conn.transaction(add).await
    }

    async fn by_dbop(&self, account: i32) -> bool {
        let add = async move |conn: &mut Conn| self.add(conn, account).await;
        let operation = self.runner.operation("add");
        operation.run_on(&self.pool, add).await.is_ok()
    }

    async fn add(&self, conn: &mut Conn, account: i32) -> QueryResult<()> {
        self.timeline.count(Event::Body);
        diesel::update(accounts::table.find(account))
            .set(accounts::balance.eq(accounts::balance + 1))
            .execute(conn)
            .await?;
        Ok(())
    }
}
