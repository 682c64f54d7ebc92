//! A service with operations that cannot be repeated, as their authors have tested them: no fault came. A
//! test that runs every operation twice finds them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use dbop_diesel::testing::Faults;
use diesel::QueryResult;

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, helper, scenario};

/// Pays a bonus to the owners of accounts, in the order of a queue, and writes to them.
struct Bonuses {
    runner: Runner,
    queue: Mutex<VecDeque<i32>>,
    letters: Mutex<Vec<i32>>,
}

impl Bonuses {
    fn new(faults: &Faults) -> Self {
        Self {
            runner: Runner::default().with_faults(faults),
            queue: Mutex::new(VecDeque::from([1, 2, 3])),
            letters: Mutex::default(),
        }
    }

    fn next(&self) -> Option<i32> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }

    fn write_to(&self, account: i32) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(account);
    }

    fn letters(&self) -> Vec<i32> {
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.clone()
    }
}

/// The mistake: the body takes from the queue, and what it takes is gone with the attempt.
#[helper]
async fn takes_in_the_body(bonuses: &Bonuses, conn: &mut Conn) -> QueryResult<usize> {
    bonuses
        .runner
        .operation("bonus")
        .run(conn, async |conn: &mut Conn| match bonuses.next() {
            Some(account) => add(conn, account, 10).await,
            None => Ok(0),
        })
        .await
}

/// The mistake: the body writes before anything is committed.
#[helper]
async fn writes_in_the_body(bonuses: &Bonuses, conn: &mut Conn) -> QueryResult<usize> {
    let Some(account) = bonuses.next() else {
        return Ok(0);
    };
    bonuses
        .runner
        .operation("bonus")
        .run(conn, async |conn: &mut Conn| {
            bonuses.write_to(account);
            add(conn, account, 10).await
        })
        .await
}

/// As it should be: before the operation, and after it.
#[helper]
async fn repeatable(bonuses: &Bonuses, conn: &mut Conn) -> QueryResult<usize> {
    let Some(account) = bonuses.next() else {
        return Ok(0);
    };
    let paid = bonuses
        .runner
        .operation("bonus")
        .run(conn, async |conn: &mut Conn| add(conn, account, 10).await)
        .await?;
    bonuses.write_to(account);
    Ok(paid)
}

#[scenario]
async fn every_operation_twice_finds_what_the_database_cannot_undo() {
    for (twice, of_first, letters) in [(false, 110, [1].as_slice()), (true, 100, &[1, 1])] {
        let faults = Faults::new();
        if twice {
            faults.every_operation_twice();
        }
        let bed = Bed::new();
        let mut conn = Conn::establish(bed.url()).await.expect("a connection");
        let bonuses = Bonuses::new(&faults);
        assert_eq!(takes_in_the_body(&bonuses, &mut conn).await, Ok(1));
        assert_eq!(bed.balances()[0], (1, of_first), "twice: {twice}");

        let bonuses = Bonuses::new(&faults);
        assert_eq!(writes_in_the_body(&bonuses, &mut conn).await, Ok(1));
        assert_eq!(bonuses.letters(), letters, "twice: {twice}");
        assert_eq!(faults.attempts("bonus"), if twice { 4 } else { 2 });
    }
}

#[scenario]
async fn a_repeatable_operation_does_the_same_when_it_runs_twice() {
    let faults = Faults::new();
    faults.every_operation_twice();
    let bed = Bed::new();
    let mut conn = Conn::establish(bed.url()).await.expect("a connection");
    let bonuses = Bonuses::new(&faults);
    for _ in 0..2 {
        assert_eq!(repeatable(&bonuses, &mut conn).await, Ok(1));
    }
    assert_eq!(bonuses.letters(), [1, 2]);
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
    assert_eq!(faults.attempts("bonus"), 4);
}
