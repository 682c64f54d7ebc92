//! The async adapter, on a server.

use dbop_diesel::SupportedBackend;
use dbop_diesel_async::Runner;
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::{
    AsyncConnection as _, AsyncConnectionCore, RunQueryDsl as _, SimpleAsyncConnection as _,
};

use crate::texts::Texts;
use crate::{AsyncConn as Conn, accounts, setup};

async fn update(conn: &mut Conn) -> QueryResult<usize> {
    diesel::update(accounts::table.find(1))
        .set(accounts::balance.eq(7))
        .execute(conn)
        .await
}

/// Runs a case so many times.
pub(crate) fn run(case: &str, url: &str, times: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut conn = Conn::establish(url).await.expect("a connection");
        conn.batch_execute(&setup()).await.expect("a table");
        let dialect = <<Conn as AsyncConnectionCore>::Backend as SupportedBackend>::DIALECT;
        let [outer, inner] = [0, 1].map(|depth| Texts::of(dialect, depth));
        let runner = Runner::default();
        for _ in 0..times {
            let conn = &mut conn;
            let done = match case {
                "bare1" => conn.transaction(update).await,
                "by_hand1" => by_hand(conn, &outer).await,
                "run1" => runner.run(conn, update).await,
                "bare3" => conn.transaction(three_bare).await,
                "by_hand3" => by_hand3(conn, &outer, &inner).await,
                "nested3" => {
                    let three = async |conn: &mut Conn| three_with_dbop(&runner, conn).await;
                    runner.run(conn, three).await
                }
                "steps3" => {
                    let three = async |conn: &mut Conn| three_with_dbop(&runner, conn).await;
                    conn.transaction(three).await
                }
                other => panic!("no case: {other}"),
            };
            done.expect("done");
        }
    });
}

async fn by_hand(conn: &mut Conn, texts: &Texts) -> QueryResult<usize> {
    conn.batch_execute(&texts.begin).await?;
    let value = update(conn).await?;
    conn.batch_execute(&texts.commit).await?;
    Ok(value)
}

async fn by_hand3(conn: &mut Conn, outer: &Texts, inner: &Texts) -> QueryResult<usize> {
    conn.batch_execute(&outer.begin).await?;
    for _ in 0..3 {
        by_hand(conn, &inner.clone()).await?;
    }
    conn.batch_execute(&outer.commit).await?;
    Ok(1)
}

async fn three_bare(conn: &mut Conn) -> QueryResult<usize> {
    conn.transaction(update).await?;
    conn.transaction(update).await?;
    conn.transaction(update).await
}

async fn three_with_dbop(runner: &Runner, conn: &mut Conn) -> QueryResult<usize> {
    runner.run(conn, update).await?;
    runner.run(conn, update).await?;
    runner.run(conn, update).await
}
