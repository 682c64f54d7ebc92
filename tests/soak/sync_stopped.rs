//! What the sync adapter cannot do about a server that has stopped without a word, as docs/unknown-outcome.md says.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use dbop_diesel::{Outcome, Runner};
use dbop_tests::server::Server;
use diesel::result::Error;
use diesel::{Connection as _, RunQueryDsl as _, sql_query};

use crate::{Bed, Conn};

/// Neither the deadline nor the options of the connection end the wait.
pub(crate) fn the_adapter_waits(server: &Server) {
    let bed = Arc::new(Bed::new());
    let (begun, is_under_way) = channel();
    let (go, may_go) = channel();
    let (ended, end) = channel();
    let worker = {
        let bed = bed.clone();
        thread::spawn(move || {
            let options = match bed.url().starts_with("postgres") {
                true => {
                    "&keepalives_idle=1&keepalives_interval=1&keepalives_count=1&tcp_user_timeout=1000"
                }
                false => "",
            };
            let url = format!("{}{options}", bed.url());
            let report = Runner::default()
                .operation("pay")
                .deadline(Duration::from_millis(300))
                .run_on_report(&|| Conn::establish(&url), |conn: &mut Conn| {
                    let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
                    let paid = sql_query(pay).execute(conn)?;
                    begun.send(()).expect("the test waits");
                    may_go.recv().expect("the server is halted");
                    sql_query(pay).execute(conn)?;
                    Ok::<_, Error>(paid)
                });
            ended.send(report.outcome).expect("the test waits");
        })
    };
    is_under_way.recv().expect("the first statement works");
    let halted = server.halt();
    go.send(()).expect("it waits for that");
    let waits = end.recv_timeout(Duration::from_secs(3));
    assert_eq!(waits, Err(RecvTimeoutError::Timeout), "it waits");
    drop(halted);
    let outcome = end.recv_timeout(Duration::from_secs(10));
    let outcome = outcome.expect("the server has answered");
    worker.join().expect("no panic");
    let paid = match outcome {
        Outcome::Committed => 20,
        Outcome::Undone => 0,
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(bed.balances()[0], (1, 100 + paid));
}
