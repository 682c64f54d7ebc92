//! An r2d2 pool of a single connection replaces one that the server ended, although it does not
//! test what it hands out. Sync only: other pools have scenarios of their own.

use dbop_tests::depth;
use diesel::QueryResult;

use super::money::{balance, set};
use super::{Bed, Conn, Runner};

#[test]
fn after_an_operation_that_lost_it() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let mut conn = bed.connect();
    let lost = dbop_tests::postgres::Bed::session_id(&mut conn);
    let result: QueryResult<i64> = runner.run(&mut conn, |conn: &mut Conn| {
        set(conn, 1, 1)?;
        bed.kill(lost);
        balance(conn, 1)
    });
    assert!(result.is_err());
    drop(conn);
    goes_on_with_another(&bed, lost);
}

#[test]
fn after_an_operation_that_could_not_begin_on_it() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let mut conn = bed.connect();
    let lost = dbop_tests::postgres::Bed::session_id(&mut conn);
    bed.kill(lost);
    let result: QueryResult<usize> = runner.run(&mut conn, |conn: &mut Conn| set(conn, 1, 1));
    assert!(result.is_err());
    drop(conn);
    goes_on_with_another(&bed, lost);
}

fn goes_on_with_another(bed: &Bed, lost: i64) {
    let mut conn = bed.connect();
    assert_ne!(dbop_tests::postgres::Bed::session_id(&mut conn), lost);
    assert_eq!(depth(&mut conn), Some(0));
    let next: QueryResult<usize> = Runner::default().run(&mut conn, |conn: &mut Conn| {
        assert_eq!(balance(conn, 1), Ok(100));
        set(conn, 1, 7)
    });
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[0], (1, 7));
}
