//! What an r2d2 pool of a single connection hands out after an operation is clean: nothing open,
//! nothing half done. Sync only: other pools have scenarios of their own.

use dbop_tests::{caught, depth};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{balance, set};
use super::{Bed, Conn, Runner};

#[test]
fn after_success_and_error() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let kept = runner.run(&mut bed.connect(), |conn: &mut Conn| set(conn, 1, 1));
    assert_eq!(kept, Ok(1));
    let undone: QueryResult<()> = runner.run(&mut bed.connect(), |conn: &mut Conn| {
        set(conn, 2, 2)?;
        Err(Error::RollbackTransaction)
    });
    assert_eq!(undone, Err(Error::RollbackTransaction));
    sees_only_the_first(&bed);
}

#[test]
fn after_a_panic_that_the_connection_outlives() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let kept = runner.run(&mut bed.connect(), |conn: &mut Conn| set(conn, 1, 1));
    assert_eq!(kept, Ok(1));
    let mut conn = bed.connect();
    let panicked = caught(|| {
        let never: QueryResult<()> = runner.run(&mut conn, |conn: &mut Conn| {
            set(conn, 2, 2)?;
            panic!("in the operation")
        });
        never
    });
    assert!(panicked.is_err());
    drop(conn);
    sees_only_the_first(&bed);
}

#[test]
fn after_a_panic_that_drops_the_connection() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let kept = runner.run(&mut bed.connect(), |conn: &mut Conn| set(conn, 1, 1));
    assert_eq!(kept, Ok(1));
    let panicked = caught(|| {
        let never: QueryResult<()> = runner.run(&mut bed.connect(), |conn: &mut Conn| {
            set(conn, 2, 2)?;
            panic!("in the operation")
        });
        never
    });
    assert!(panicked.is_err());
    sees_only_the_first(&bed);
}

fn sees_only_the_first(bed: &Bed) {
    let mut conn = bed.connect();
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(balance(&mut conn, 1), Ok(1));
    assert_eq!(balance(&mut conn, 2), Ok(100));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 100)]);
}
