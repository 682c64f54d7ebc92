//! Transfers on MySQL and MariaDB while connections, sessions and the server are lost.

use std::sync::Arc;

use dbop_tests::asynchronous::on_many_threads;
use dbop_tests::mysql::{self as backend, Bed, Conn};
use dbop_tests::server::{Beside, Server};
use dbop_tests::{Number, blocking, eventually, server_label};
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncConnection as _, AsyncMysqlConnection, RunQueryDsl as _};

use losses::Great;
use tally::Mode;

mod experience;
mod losses;
mod office;
mod rounds;
mod sync_stopped;
mod tally;

/// The ways to find out what became of a lost commit.
const MODES: &[Mode] = &[Mode::Nothing, Mode::Verify, Mode::Ledger];

const GREAT: &[Great] = &[Great::Restart, Great::ServerKilled];

/// The other sessions on this database.
const SESSIONS: &str = "SELECT CAST(id AS SIGNED) AS n FROM information_schema.processlist \
    WHERE db = database() AND id <> connection_id()";

/// How many of them wait for a lock.
const BLOCKED: &str = "SELECT count(*) AS n FROM information_schema.innodb_trx \
    WHERE trx_state = 'LOCK WAIT'";

fn end(session: i64) -> String {
    format!("KILL CONNECTION {session}")
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

    pub(super) mod binlog;
    pub(super) mod demoted;
    pub(super) mod fresh;
    pub(super) mod restart;
    mod threads;
    mod transfer;
}

/// The async adapter, on tasks with deadpool.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on both adapters")]
mod asynchronous {
    use dbop_diesel_async::{Runner, read_position};
    use dbop_tests::asynchronous::mysql::Conn;
    use dbop_tests::asynchronous::scenarios::RunQueryDsl;
    use dbop_tests_macros::async_helper as helper;
    use diesel_async::AsyncConnection as Connection;
    use diesel_async::pooled_connection::deadpool;

    type Pool = deadpool::Pool<Conn>;

    pub(super) mod binlog;
    pub(super) mod demoted;
    pub(super) mod fresh;
    pub(super) mod restart;
    pub(super) mod stopped;
    mod tasks;
    mod transfer;
}

/// A file of the binary log.
#[derive(Debug, PartialEq, Eq, QueryableByName)]
struct File {
    #[diesel(sql_type = Text, column_name = "Log_name")]
    name: String,
    #[diesel(sql_type = BigInt, column_name = "File_size")]
    size: i64,
}

/// How far it goes. Asked by the async client: the sync one understands the answer of MariaDB only.
fn binary_log(bed: &Bed) -> Vec<File> {
    let url = bed.url().to_owned();
    on_many_threads(async move {
        let mut conn = AsyncMysqlConnection::establish(&url)
            .await
            .expect("a connection");
        let files = sql_query("SHOW BINARY LOGS").load(&mut conn).await;
        files.expect("a binary log")
    })
}

/// Replicas read the log: what dbop sends around an operation is not for them.
fn what_reads_leaves_nothing_in_the_binary_log(read: fn(String), write: fn(String)) {
    let _alone = office::alone();
    let bed = Bed::new();
    let before = binary_log(&bed);
    read(bed.url().to_owned());
    assert_eq!(binary_log(&bed), before);
    write(bed.url().to_owned());
    assert_ne!(binary_log(&bed), before);
}

#[test]
fn what_reads_leaves_nothing_in_the_binary_log_sync() {
    what_reads_leaves_nothing_in_the_binary_log(sync::binlog::read, sync::binlog::write);
}

#[test]
fn what_reads_leaves_nothing_in_the_binary_log_async() {
    what_reads_leaves_nothing_in_the_binary_log(
        |url| on_many_threads(asynchronous::binlog::read(url)),
        |url| on_many_threads(asynchronous::binlog::write(url)),
    );
}

/// A database, and the URL for somebody who may do everything in it and nothing else.
fn with_user() -> (Arc<Bed>, String) {
    let bed = Bed::new();
    let (server, database) = bed.url().rsplit_once('/').expect("a database in the URL");
    let url = format!("{}/{database}", server.replace("dbop@", "demoted@"));
    bed.connect()
        .batch_execute(&format!(
            "CREATE USER IF NOT EXISTS demoted@'127.0.0.1'; \
             GRANT ALL ON {database}.* TO demoted@'127.0.0.1'"
        ))
        .expect("a user");
    (Arc::new(bed), url)
}

#[test]
fn a_server_that_must_not_write_any_more_is_left_sync() {
    let _alone = office::alone();
    let (bed, url) = with_user();
    sync::demoted::another_connection_is_tried(bed.clone(), url.clone());
    sync::demoted::what_it_refuses_to_commit_is_undone(bed, url);
}

#[test]
fn a_server_that_must_not_write_any_more_is_left_async() {
    let _alone = office::alone();
    let (bed, url) = with_user();
    on_many_threads(async {
        asynchronous::demoted::another_connection_is_tried(bed.clone(), url.clone()).await;
        asynchronous::demoted::what_it_refuses_to_commit_is_undone(bed, url).await;
    });
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

/// A replica of the server under test, which can be held up.
fn with_replica() -> (Bed, String, Beside) {
    let server = Server::of_this_run();
    let replica = server.another("replica");
    let (url, primary) = (replica.url(), server.url());
    let (_, port) = primary.rsplit_once(':').expect("a port");
    let (port, _) = port.split_once('/').expect("a database");
    let position = dbop_diesel::read_position(&mut session(&primary)).expect("a position");
    let position = position.to_string();
    let (_, position) = position.split_once(':').expect("its kind");
    // It begins here, and not with all that the server has in its log.
    let follow = match is_mariadb() {
        true => format!(
            "RESET MASTER; SET GLOBAL server_id = 2; SET GLOBAL gtid_slave_pos = '{position}'; \
             CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, \
             MASTER_USER = 'dbop', MASTER_USE_GTID = slave_pos; START SLAVE"
        ),
        false => format!(
            "SET GLOBAL server_id = 2; SET GLOBAL gtid_purged = '{position}'; \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, \
             SOURCE_USER = 'dbop', SOURCE_AUTO_POSITION = 1; START REPLICA"
        ),
    };
    session(&url)
        .batch_execute(&follow)
        .expect("may do everything");
    let bed = Bed::new();
    let (_, name) = bed.url().rsplit_once('/').expect("a database");
    let (there, _) = url.rsplit_once('/').expect("a database");
    let there = format!("{there}/{name}");
    eventually("the replica has the accounts", || {
        let conn = <Conn as diesel::Connection>::establish(&there);
        let count = sql_query("SELECT count(*) AS n FROM accounts");
        conn.is_ok_and(|mut conn| {
            let row: QueryResult<Number> = diesel::RunQueryDsl::get_result(count, &mut conn);
            row.is_ok_and(|row| row.n > 0)
        })
    });
    (bed, there, replica)
}

fn session(url: &str) -> Conn {
    <Conn as diesel::Connection>::establish(url).expect("the server answers")
}

fn is_mariadb() -> bool {
    server_label().starts_with("MariaDB")
}

/// Whether the replica applies what it gets.
fn hold(url: &str, held: bool) {
    let word = if held { "STOP" } else { "START" };
    let replica_of = if is_mariadb() { "SLAVE" } else { "REPLICA" };
    let hold = format!("{word} {replica_of} SQL_THREAD");
    session(url)
        .batch_execute(&hold)
        .expect("may do everything");
}

#[test]
fn a_read_sees_what_its_caller_has_committed() {
    let _alone = office::alone();
    let (bed, replica, _server) = with_replica();
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
