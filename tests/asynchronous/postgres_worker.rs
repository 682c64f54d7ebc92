//! The worker among the examples: several of them do each job once, and none waits for a job that another
//! one has.

use dbop_tests::Number;
use dbop_tests::asynchronous::{Program, eventually};
use diesel::{RunQueryDsl as _, sql_query};

use super::{Bed, run};

fn start(bed: &Bed) -> Program {
    Program::start(env!("CARGO_BIN_EXE_worker"), &bed.service_url())
}

/// Waits until so many jobs are not done.
async fn left(bed: &Bed, wanted: i64) {
    let mut conn = dbop_tests::postgres::Bed::connect(bed);
    eventually("the jobs are done", || {
        let sql = "SELECT count(*) AS n FROM jobs WHERE NOT done";
        let row: Number = sql_query(sql).get_result(&mut conn).expect("an answer");
        row.n == wanted
    })
    .await;
}

#[test]
fn several_workers_do_each_job_once() {
    run(async {
        let bed = Bed::new();
        let _workers = [start(&bed), start(&bed), start(&bed)];
        bed.opponent().execute(
            "INSERT INTO jobs (account, amount) SELECT 1 + n % 3, 1 FROM generate_series(0, 299) n",
        );
        left(&bed, 0).await;
        assert_eq!(bed.balances(), [(1, 200), (2, 200), (3, 200)]);
    });
}

/// Its session is ended in the middle of its job. The others do the rest meanwhile.
#[test]
fn a_job_whose_session_is_ended_is_done_once_and_holds_up_no_other() {
    run(async {
        let bed = Bed::new();
        let _workers = [start(&bed), start(&bed)];
        let holder = bed.opponent();
        holder.execute("BEGIN; SELECT FROM accounts WHERE id = 1 FOR UPDATE");
        bed.opponent()
            .execute("INSERT INTO jobs (account, amount) VALUES (1, 5), (2, 7), (3, 9)");
        left(&bed, 1).await;
        let session = bed.blocked_session().await;
        bed.opponent()
            .execute(&format!("SELECT pg_terminate_backend({session})"));
        bed.session_ends(session).await;
        assert_ne!(bed.blocked_session().await, session);
        holder.execute("ROLLBACK");
        left(&bed, 0).await;
        assert_eq!(bed.balances(), [(1, 105), (2, 107), (3, 109)]);
    });
}
