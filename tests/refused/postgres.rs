//! What PostgreSQL says to clients that it does not let in, and what it says as a standby, in every
//! language that it speaks.

use std::sync::{Arc, Mutex};

use dbop_diesel::FaultClass::{NotConnected, Permanent, ReadOnlyServer, ServerUnavailable};
use dbop_tests::server::Beside;
use dbop_tests::server_url;
use diesel::PgConnection;
use diesel::connection::{Connection as _, SimpleConnection as _};

use administrator::{Administrator, leave};
use everywhere::{
    Expected, Happens, another_one_is_tried, each_is_judged_in, execute, fill, is_let_in_when,
    one_of_two_ends, one_of_two_takes_no_writes, proxies_are_judged,
};

mod administrator;
mod everywhere;
mod throughput;

type Conn = dbop_tests::postgres::Conn;
type AsyncConn = dbop_tests::asynchronous::postgres::Conn;

/// The sync adapter, on connections from a closure.
#[path = "."]
mod from_closure {
    use dbop_tests::environment::postgres::sync::from_closure::*;

    pub(super) mod connecting;
    pub(super) mod nodes;
}

/// The sync adapter, on r2d2.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on every source")]
mod from_r2d2 {
    use dbop_tests::environment::postgres::sync::from_r2d2::*;

    #[expect(dead_code, reason = "it is let in by its own attempts")]
    pub(super) mod connecting;
    pub(super) mod nodes;
}

/// The async adapter, on connections from a closure.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on every source")]
mod from_async_closure {
    use dbop_tests::environment::postgres::asynchronous::from_closure::*;

    pub(super) mod connecting;
    pub(super) mod nodes;
}

/// The async adapter, on deadpool.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on every source")]
mod from_deadpool {
    use dbop_tests::environment::postgres::asynchronous::from_deadpool::*;

    pub(super) mod connecting;
    pub(super) mod nodes;
}

/// Those that tests/run.sh compiles for its servers.
const LANGUAGES: [&str; 13] = [
    "de_DE", "es_ES", "fr_FR", "it_IT", "ja_JP", "ko_KR", "pl_PL", "pt_BR", "ru_RU", "sv_SE",
    "tr_TR", "uk_UA", "zh_CN",
];

/// The URL of a role, of a database.
fn url(who: &str, database: &str) -> String {
    let server = server_url();
    let (_, address) = server.split_once('@').expect("user@host");
    let (address, _) = address.rsplit_once('/').expect("a database");
    format!("postgres://{who}@{address}/{database}")
}

fn refused(who: &str, database: &str, code: &'static str) -> Expected {
    Expected::new(url(who, database), code, Permanent)
}

fn not_now(who: &str, database: &str, code: &'static str) -> Expected {
    Expected::new(url(who, database), code, ServerUnavailable)
}

fn takes_no_writes(who: &str) -> Expected {
    Expected::new(url(who, "dbop"), "25006", ReadOnlyServer)
}

/// The server says this in each language.
fn in_each_language(server: &Administrator, refused: &[Expected]) {
    let texts = each_is_judged_in(&LANGUAGES, |language| server.speak(language), refused);
    // A few translations are missing.
    assert!(texts > 10, "{texts}");
}

#[test]
fn who_may_not_log_in_is_told_once() {
    in_each_language(
        &Administrator::new(),
        &[
            // The same text has another code in a statement.
            refused("stranger", "dbop", ""),
            refused("with_password:wrong", "dbop", "28P01"),
            // That is the client's own text.
            refused("with_password", "dbop", ""),
            refused("no_login", "dbop", "28000"),
            refused("plain", "missing", "3D000"),
            refused("plain", "closed", "55000"),
            refused("plain", "private", "42501"),
            refused("plain", "rejected", "28000"),
            refused("plain", "unlisted", "28000"),
        ],
    );
}

#[test]
fn what_proxies_say_is_judged_as_well() {
    let _server = Administrator::new();
    let said = [
        (
            "28000",
            "SSL connection is required. Please specify SSL options and retry.",
            Permanent,
        ),
        (
            "08P01",
            "no more connections allowed (max_client_conn)",
            ServerUnavailable,
        ),
        (
            "XX000",
            "the gateway has not been told where to go",
            NotConnected,
        ),
    ];
    proxies_are_judged(&url("plain", "dbop"), &said);
}

#[test]
fn a_role_or_database_at_its_limit_is_waited_for() {
    let server = Administrator::new();
    let role = not_now("limited", "dbop", "53300");
    let database = not_now("plain", "small", "53300");
    in_each_language(&server, &[role.clone(), database]);
    let admin = Arc::new(Mutex::new(server.connect()));
    for language in LANGUAGES {
        server.speak(language);
        is_let_in_when(&role, || {
            let limit = |limit: i32| format!("ALTER ROLE limited CONNECTION LIMIT {limit}");
            execute(&admin, &limit(0));
            let admin = Arc::clone(&admin);
            Arc::new(move || execute(&admin, &limit(-1)))
        });
    }
}

/// First only superusers find room, then not even they do.
#[test]
fn a_full_server_is_waited_for() {
    let server = Administrator::new();
    let sessions = Arc::new(Mutex::new(Vec::new()));
    // tests/run.sh starts the server with room for 60, of which 3 are superusers.
    for (who, room) in [("plain", 57), ("postgres", 60)] {
        let expected = not_now(who, "dbop", "53300");
        for language in LANGUAGES {
            server.speak(language);
            is_let_in_when(&expected, || {
                fill(&sessions, room, &expected.url);
                let sessions = Arc::clone(&sessions);
                Arc::new(move || {
                    let session = sessions.lock().expect("no panic").pop();
                    leave(session.expect("a full server"));
                })
            });
        }
        fill(&sessions, room, &expected.url);
        in_each_language(&server, &[expected]);
    }
}

#[test]
fn a_server_that_starts_up_or_takes_no_writes_is_waited_for() {
    let server = Administrator::new();
    server.start_on_hold();
    in_each_language(&server, &[not_now("plain", "dbop", "57P03")]);
    server.let_go();
    for language in LANGUAGES {
        server.speak(language);
        another_one_is_tried(&takes_no_writes("plain"), || None);
    }
}

#[test]
fn who_may_not_write_is_left_for_another_connection() {
    let server = Administrator::new();
    let admin = Arc::new(Mutex::new(server.connect()));
    for language in LANGUAGES {
        server.speak(language);
        another_one_is_tried(&takes_no_writes("reader"), || {
            let set = |reads: bool| {
                format!("ALTER ROLE reader SET default_transaction_read_only = {reads}")
            };
            execute(&admin, &set(true));
            let admin = Arc::clone(&admin);
            let happens: Happens = Arc::new(move || execute(&admin, &set(false)));
            Some(happens)
        });
    }
}

#[test]
fn a_standby_that_refuses_everybody_is_waited_for() {
    let server = Administrator::new();
    server.start_cold();
    in_each_language(&server, &[not_now("plain", "dbop", "57P03")]);
}

#[test]
fn a_server_that_shuts_down_is_waited_for() {
    let server = Administrator::new();
    let last = server.connect();
    server.shut_down();
    in_each_language(&server, &[not_now("plain", "dbop", "57P03")]);
    drop(last);
}

#[test]
fn a_server_that_recovers_from_a_crash_is_waited_for() {
    let server = Administrator::new();
    server.crash_on_hold();
    in_each_language(&server, &[not_now("plain", "dbop", "57P03")]);
    server.let_go();
}

/// A second server, with the table that is written to.
fn beside(server: &Administrator) -> Beside {
    another(server, "beside")
}

fn another(server: &Administrator, name: &str) -> Beside {
    let beside = server.another(name);
    let mut conn = PgConnection::establish(&beside.url()).expect("a new server");
    conn.batch_execute("CREATE TABLE written (n INT)")
        .expect("a new table");
    beside
}

#[test]
fn of_two_servers_one_does_the_work_when_the_other_is_killed() {
    let server = Administrator::new();
    one_of_two_ends(|| {
        let beside = beside(&server);
        let urls = [beside.url(), server_url()];
        (urls, Arc::new(move || beside.kill()))
    });
}

#[test]
fn of_three_servers_two_do_most_of_the_work_when_the_other_is_killed() {
    let server = Administrator::new();
    let third = another(&server, "third");
    throughput::most_of_it_stays(|| {
        let second = beside(&server);
        let urls = [second.url(), server_url(), third.url()];
        (urls, Box::new(move || second.kill()))
    });
}

#[test]
fn of_two_servers_a_standby_gets_no_work() {
    let server = Administrator::new();
    let beside = beside(&server);
    beside.become_standby();
    one_of_two_takes_no_writes(&[beside.url(), server_url()]);
}
