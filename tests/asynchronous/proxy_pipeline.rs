//! The proxy that other tests rely on, and a client that does not wait for an answer before it asks
//! again.

use dbop_tests::accounts;
use dbop_tests::proxy::{Cut, Proxy, When};
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _};

use super::{Bed, Conn, run};

async fn add(mut conn: &Conn, id: i32) -> QueryResult<usize> {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(accounts::balance + 1))
        .execute(&mut conn)
        .await
}

#[test]
fn of_two_statements_on_their_way_one_is_answered() {
    run(async {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let conn = Conn::establish(proxy.url()).await.expect("a connection");
        let cut = proxy.cut(When::statement("update").nth(2), Cut::AnswerLost);
        let (one, two) = tokio::join!(add(&conn, 1), add(&conn, 2));
        let (answered, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        assert_eq!(answered, Ok(1));
        lost.expect_err("no answer");
        assert_eq!(bed.balances(), [(1, 101), (2, 101), (3, 100)]);
        assert_eq!((cut.reached(), proxy.cuts_made()), (1, 1));
    });
}
