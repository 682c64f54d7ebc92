//! Reads on the second node, which does not apply what the first one has committed.

use std::sync::Mutex;

use dbop_tests::{Opponent, blocking};
use diesel::MysqlConnection;

use super::reads::a_read_sees_what_its_caller_has_committed;
use super::scenario;
use super::several::two_nodes;

#[scenario]
async fn a_read_on_the_second_node_sees_what_its_caller_has_committed() {
    let (_cluster, bed, second) = two_nodes();
    // What locks all tables of a node stops what that applies.
    let lock = Mutex::new(None);
    let hold = |held: bool| {
        let mut lock = lock.lock().expect("no panic");
        *lock = held.then(|| {
            let conn = <MysqlConnection as diesel::Connection>::establish(&second);
            let session = Opponent::new(conn.expect("a node"), 0);
            blocking(|| session.execute("FLUSH TABLES WITH READ LOCK"));
            session
        });
    };
    a_read_sees_what_its_caller_has_committed((bed.url(), &second), hold).await;
}
