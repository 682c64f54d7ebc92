//! Transfers on PostgreSQL while connections, sessions and the server are lost.

use std::sync::Arc;

use dbop_diesel::Ledger;
use dbop_tests::asynchronous::on_many_threads;
use dbop_tests::postgres::{self as backend, Bed, Conn};
use dbop_tests::server::{Beside, Server};
use dbop_tests::{Number, blocking, eventually};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::{RunQueryDsl as _, sql_query};

use losses::Great;
use tally::Mode;

mod clustered;
mod experience;
mod failover;
mod losses;
mod office;
mod rounds;
mod sync_stopped;
mod tally;

/// The ways to find out what became of a lost commit.
const MODES: &[Mode] = &[Mode::Nothing, Mode::Verify, Mode::Status, Mode::Ledger];

const GREAT: &[Great] = &[Great::Restart, Great::SessionKilled, Great::ServerKilled];

/// The other sessions on this database.
const SESSIONS: &str = "SELECT pid::bigint AS n FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// How many of them wait for a lock.
const BLOCKED: &str = "SELECT count(*) AS n FROM pg_stat_activity \
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

fn end(session: i64) -> String {
    format!("SELECT pg_terminate_backend({session}::int)")
}

/// The server is killed.
fn server_crash(server: &Server, _: &Bed) {
    server.kill();
    server.start();
}

/// A session is killed, and the server gives up what it has in its memory.
fn session_crash(server: &Server, bed: &Bed) {
    let [mut killed, mut witness] = [bed.connect(), bed.connect()];
    assert!(server.kill_session(Bed::session_id(&mut killed)));
    eventually("all sessions end", || {
        witness.batch_execute("SELECT").is_err()
    });
    eventually("the server is there again", || {
        Conn::establish(bed.url()).is_ok()
    });
}

/// The id of a transaction that has been committed.
fn committed_id(conn: &mut Conn) -> i64 {
    let id = sql_query("SELECT pg_current_xact_id()::text::bigint AS n");
    let id: Number = id.get_result(conn).expect("an id");
    id.n
}

/// What the transfers are written for: the sync adapter, on threads with r2d2.
#[path = "."]
mod sync {
    use dbop_diesel::{Runner, read_position};
    use dbop_tests_macros::sync_helper as helper;
    use diesel::r2d2::ConnectionManager;
    use diesel::{Connection, RunQueryDsl};

    type Conn = super::Conn;
    type Pool = diesel::r2d2::Pool<ConnectionManager<Conn>>;

    pub(super) mod acknowledged;
    pub(super) mod crash;
    pub(super) mod fresh;
    pub(super) mod restart;
    pub(super) mod standby;
    mod threads;
    mod transfer;
}

/// The async adapter, on tasks with deadpool.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod asynchronous {
    use dbop_diesel_async::{Runner, read_position};
    use dbop_tests::asynchronous::postgres::Conn;
    use dbop_tests::asynchronous::scenarios::RunQueryDsl;
    use dbop_tests_macros::async_helper as helper;
    use diesel_async::AsyncConnection as Connection;
    use diesel_async::pooled_connection::deadpool;

    type Pool = deadpool::Pool<Conn>;

    pub(super) mod acknowledged;
    pub(super) mod crash;
    pub(super) mod fresh;
    pub(super) mod restart;
    pub(super) mod standby;
    pub(super) mod stopped;
    mod tasks;
    mod transfer;
}

/// The transfers of the sync adapter on several servers.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod clustered_sync {
    use dbop_diesel::{Nodes, Runner};
    use dbop_tests_macros::sync_helper as helper;
    use diesel::RunQueryDsl;
    use diesel::r2d2::ConnectionManager;

    type Conn = super::Conn;
    type Pool = Nodes<diesel::r2d2::Pool<ConnectionManager<Conn>>>;

    pub(super) mod transfer;
}

/// Those of the async adapter.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod clustered_async {
    use dbop_diesel_async::{Nodes, Runner};
    use dbop_tests::asynchronous::postgres::Conn;
    use dbop_tests::asynchronous::scenarios::RunQueryDsl;
    use dbop_tests_macros::async_helper as helper;
    use diesel_async::pooled_connection::deadpool;

    type Pool = Nodes<deadpool::Pool<Conn>>;

    pub(super) mod transfer;
}

#[test]
fn what_is_said_about_transfers_is_true_when_standbys_take_over() {
    let _alone = office::alone();
    let server = Server::of_this_run();
    clustered::rounds(|random| failover::round(&server, random));
}

#[test]
fn an_id_that_a_crash_has_freed_proves_nothing_sync() {
    let _alone = office::alone();
    sync::crash::the_id_of_another_transaction_proves_nothing(Arc::new(Server::of_this_run()));
}

#[test]
fn an_id_that_a_crash_has_freed_proves_nothing_async() {
    let _alone = office::alone();
    let server = Arc::new(Server::of_this_run());
    on_many_threads(asynchronous::crash::the_id_of_another_transaction_proves_nothing(server));
}

/// A bed on the server, which has become a standby.
fn on_a_standby() -> Arc<Bed> {
    let server = Server::of_this_run();
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .expect("a new table");
    server.become_standby();
    Arc::new(bed)
}

#[test]
fn a_standby_is_left_sync() {
    let _alone = office::alone();
    sync::standby::another_connection_is_tried(on_a_standby());
}

#[test]
fn a_standby_is_left_async() {
    let _alone = office::alone();
    on_many_threads(asynchronous::standby::another_connection_is_tried(
        on_a_standby(),
    ));
}

#[test]
fn a_server_that_is_down_is_asked_until_the_deadline_sync() {
    let _alone = office::alone();
    sync::restart::it_is_asked_until_the_deadline(Arc::new(Server::of_this_run()));
}

#[test]
fn a_server_that_is_down_is_asked_until_the_deadline_async() {
    let _alone = office::alone();
    let server = Arc::new(Server::of_this_run());
    on_many_threads(asynchronous::restart::it_is_asked_until_the_deadline(
        server,
    ));
}

/// A bed with the table of the ledger.
fn with_ledger() -> Arc<Bed> {
    _ = Server::of_this_run();
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .expect("a new table");
    Arc::new(bed)
}

#[test]
fn a_yes_waits_for_the_standby_sync() {
    let _alone = office::alone();
    sync::acknowledged::a_yes_waits_for_the_standby(with_ledger());
}

#[test]
fn a_yes_waits_for_the_standby_async() {
    let _alone = office::alone();
    on_many_threads(asynchronous::acknowledged::a_yes_waits_for_the_standby(
        with_ledger(),
    ));
}

#[test]
fn a_stopped_server_is_waited_for_until_the_deadline() {
    let _alone = office::alone();
    let server = Arc::new(Server::of_this_run());
    on_many_threads(async {
        asynchronous::stopped::a_statement_is_cut_off(server.clone()).await;
        asynchronous::stopped::the_beginning_is_cut_off(server.clone()).await;
        asynchronous::stopped::a_commit_that_is_cut_off_is_unknown(server.clone()).await;
        asynchronous::stopped::the_ledger_knows_what_became_of_it(server).await;
    });
}

/// Its calls cannot be interrupted: it has the answer when the server works again.
#[test]
fn a_stopped_server_is_waited_for_by_the_sync_adapter() {
    let _alone = office::alone();
    let server = Server::of_this_run();
    sync_stopped::the_adapter_waits(&server);
}

/// A server with a standby, which can be held up.
fn with_standby() -> (Bed, String, Beside) {
    let server = Server::of_this_run();
    let bed = Bed::new();
    let standby = server.standby("replica", ".");
    let replica = at(bed.url(), &standby.url());
    (bed, replica, standby)
}

/// The same database on another server.
fn at(url: &str, server: &str) -> String {
    let address = |url: &'_ str| {
        let (_, rest) = url.split_once('@').expect("user@host");
        rest.split_once('/').expect("a database").0.to_owned()
    };
    url.replacen(&address(url), &address(server), 1)
}

/// Whether the standby applies what it gets.
fn hold(replica: &str, held: bool) {
    let mut conn = <Conn as diesel::Connection>::establish(replica).expect("a standby");
    if !held {
        let resume = conn.batch_execute("SELECT pg_wal_replay_resume()");
        return resume.expect("a superuser");
    }
    let pause = conn.batch_execute("SELECT pg_wal_replay_pause()");
    pause.expect("a superuser");
    let is_held =
        "SELECT count(*) AS n FROM pg_get_wal_replay_pause_state() AS state WHERE state = 'paused'";
    eventually("the standby applies nothing", || {
        let row: Number = sql_query(is_held).get_result(&mut conn).expect("a row");
        row.n == 1
    });
}

#[test]
fn a_read_sees_what_its_caller_has_committed() {
    let _alone = office::alone();
    let (bed, replica, _server) = with_standby();
    let primary = bed.url().to_owned();
    sync::fresh::a_read_sees_what_its_caller_has_committed((&primary, &replica), |held| {
        hold(&replica, held);
    });
    on_many_threads(async move {
        let hold = |held| blocking(|| hold(&replica, held));
        let servers = (&*primary, &*replica);
        asynchronous::fresh::a_read_sees_what_its_caller_has_committed(servers, hold).await;
    });
}
