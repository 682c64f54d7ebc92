//! What MySQL and MariaDB say to clients that they do not let in, or do not let write, in other
//! languages than English.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use dbop_diesel::FaultClass::{NotConnected, Permanent, ReadOnlyServer, ServerUnavailable};
use dbop_tests::server::{Beside, Server};
use dbop_tests::{server_label, server_url};
use diesel::connection::{Connection as _, SimpleConnection as _};

use everywhere::{
    Expected, Happens, alone, another_one_is_tried, each_is_judged_in, execute, fill,
    is_let_in_when, one_of_two_ends, one_of_two_takes_no_writes, proxies_are_judged,
};

mod everywhere;
mod throughput;

type Conn = dbop_tests::mysql::Conn;
type AsyncConn = dbop_tests::asynchronous::mysql::Conn;

/// The sync adapter, on connections from a closure.
#[path = "."]
mod from_closure {
    use dbop_tests::environment::mysql::sync::from_closure::*;

    pub(super) mod connecting;
    pub(super) mod nodes;
}

/// The sync adapter, on r2d2.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on every source")]
mod from_r2d2 {
    use dbop_tests::environment::mysql::sync::from_r2d2::*;

    #[expect(dead_code, reason = "it is let in by its own attempts")]
    pub(super) mod connecting;
    pub(super) mod nodes;
}

/// The async adapter, on connections from a closure.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on every source")]
mod from_async_closure {
    use dbop_tests::environment::mysql::asynchronous::from_closure::*;

    pub(super) mod connecting;
    pub(super) mod nodes;
}

/// The async adapter, on deadpool.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "written once, run on every source")]
mod from_deadpool {
    use dbop_tests::environment::mysql::asynchronous::from_deadpool::*;

    pub(super) mod connecting;
    pub(super) mod nodes;
}

const LANGUAGES: [&str; 6] = ["de_DE", "es_ES", "fr_FR", "it_IT", "ja_JP", "ru_RU"];

const ACCOUNTS: &str = "
    CREATE TABLE written (n INT);
    CREATE USER plain@'127.0.0.1';
    GRANT ALL ON dbop.* TO plain@'127.0.0.1';
    CREATE USER guest@'127.0.0.1';
    CREATE USER with_password@'127.0.0.1' IDENTIFIED BY 'right';
    CREATE USER locked@'127.0.0.1' ACCOUNT LOCK;
    CREATE USER expired@'127.0.0.1' PASSWORD EXPIRE;
    GRANT ALL ON dbop.* TO expired@'127.0.0.1'";

const USERS: [&str; 6] = [
    "dbop",
    "plain",
    "guest",
    "with_password",
    "locked",
    "expired",
];

fn is_mysql() -> bool {
    server_label().starts_with("MySQL")
}

/// Who has the server to himself.
struct Administrator {
    session: Arc<Mutex<Conn>>,
    _alone: MutexGuard<'static, ()>,
}

impl Administrator {
    fn new() -> Self {
        let alone = alone();
        // No other tests use it.
        _ = Server::of_this_run();
        let mut session = Conn::establish(&server_url()).expect("the server answers");
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            session.batch_execute(ACCOUNTS).expect("a new server");
            if !is_mysql() {
                // MySQL does so unless it is told otherwise.
                let refuse = "SET GLOBAL disconnect_on_expired_password = 1";
                session.batch_execute(refuse).expect("a setting");
            }
        });
        Self {
            session: Arc::new(Mutex::new(session)),
            _alone: alone,
        }
    }

    /// The language of clients from now on, and of those who do not become clients.
    fn speak(&self, language: &str) {
        self.set(&format!("lc_messages = '{language}'"));
    }

    fn set(&self, setting: &str) {
        execute(&self.session, &format!("SET GLOBAL {setting}"));
    }

    /// A closure that sets it.
    fn sets(&self, setting: &'static str) -> Happens {
        let session = Arc::clone(&self.session);
        Arc::new(move || execute(&session, &format!("SET GLOBAL {setting}")))
    }

    /// In each language an operation waits from the one setting to the other. Returns how many different
    /// texts it got.
    fn is_waited_for(&self, code: &'static str, refuses: &str, lets_in: &'static str) -> usize {
        let expected = Expected::new(url("plain", "dbop"), code, ServerUnavailable);
        for language in LANGUAGES {
            self.speak(language);
            is_let_in_when(&expected, || {
                self.set(refuses);
                self.sets(lets_in)
            });
        }
        self.set(refuses);
        let speak = |language: &str| self.speak(language);
        let texts = each_is_judged_in(&LANGUAGES, speak, &[expected]);
        self.set(lets_in);
        texts
    }
}

impl Drop for Administrator {
    fn drop(&mut self) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settings = vec![
            "lc_messages = 'en_US'",
            "max_connections = 300",
            "max_user_connections = 300",
            "read_only = 0",
        ];
        if is_mysql() {
            settings.push("offline_mode = 0");
        }
        for setting in settings {
            let set = session.batch_execute(&format!("SET GLOBAL {setting}"));
            assert!(set.is_ok() || std::thread::panicking(), "{set:?}");
        }
    }
}

/// The URL of an account, of a database.
fn url(who: &str, database: &str) -> String {
    let server = server_url();
    let (_, address) = server.split_once('@').expect("user@host");
    let (address, _) = address.rsplit_once('/').expect("a database");
    format!("mysql://{who}@{address}/{database}")
}

fn refused(who: &str, database: &str, code: &'static str) -> Expected {
    Expected::new(url(who, database), code, Permanent)
}

#[test]
fn who_may_not_log_in_is_told_once() {
    let server = Administrator::new();
    let locked = if is_mysql() { "3118" } else { "4151" };
    let refused = [
        refused("dbop", "missing", "1049"),
        refused("guest", "dbop", "1044"),
        // MySQL may ask him for a proof that an async client does not know: then that says so.
        refused("stranger", "dbop", if is_mysql() { "" } else { "1045" }),
        refused("with_password", "dbop", "1045"),
        refused("with_password:wrong", "dbop", "1045"),
        refused("locked", "dbop", locked),
        refused("expired", "dbop", "1862"),
    ];
    let texts = each_is_judged_in(&LANGUAGES, |language| server.speak(language), &refused);
    assert_eq!(texts, LANGUAGES.len());
}

/// MySQL says so before it asks who the client is.
#[test]
fn a_host_that_may_not_connect_is_told_once() {
    let server = Administrator::new();
    let rename = |from: &str, to: &str| {
        let renamed = USERS.map(|user| format!("{user}@'{from}' TO {user}@'{to}'"));
        let rename = format!("RENAME USER {}", renamed.join(", "));
        execute(&server.session, &rename);
    };
    let expected = refused("plain", "dbop", if is_mysql() { "1130" } else { "1045" });
    rename("127.0.0.1", "192.0.2.1");
    let judged = catch_unwind(AssertUnwindSafe(|| {
        each_is_judged_in(&LANGUAGES, |language| server.speak(language), &[expected])
    }));
    rename("192.0.2.1", "127.0.0.1");
    let texts = judged.unwrap_or_else(|panic| resume_unwind(panic));
    assert!(texts > 3, "{texts}");
}

#[test]
fn what_proxies_say_is_judged_as_well() {
    let _server = Administrator::new();
    let said = [
        ("1045", "Access denied.", Permanent),
        (
            "9002",
            "SSL connection is required. Please specify SSL options and retry.",
            Permanent,
        ),
        (
            "1815",
            "Internal error: Session creation failed",
            ServerUnavailable,
        ),
        (
            "1927",
            "Connection killed by MaxScale: Router could not route query",
            NotConnected,
        ),
        (
            "1105",
            "the gateway has not been told where to go",
            NotConnected,
        ),
    ];
    proxies_are_judged(&url("plain", "dbop"), &said);
}

#[test]
fn a_full_server_is_waited_for() {
    let server = Administrator::new();
    let sessions = Mutex::new(Vec::new());
    // The tenth is the administrator's.
    fill(&sessions, 9, &url("plain", "dbop"));
    let texts = server.is_waited_for("1040", "max_connections = 10", "max_connections = 300");
    assert_eq!(texts, LANGUAGES.len());
}

#[test]
fn a_user_with_too_many_sessions_is_waited_for() {
    let server = Administrator::new();
    let sessions = Mutex::new(Vec::new());
    fill(&sessions, 1, &url("plain", "dbop"));
    let [one, many] = ["max_user_connections = 1", "max_user_connections = 300"];
    let texts = server.is_waited_for("1203", one, many);
    assert!(texts > 3, "{texts}");
}

/// MySQL says it in English only, and MariaDB has no such mode.
#[test]
fn a_server_that_is_offline_is_waited_for() {
    if is_mysql() {
        let server = Administrator::new();
        server.is_waited_for("3032", "offline_mode = 1", "offline_mode = 0");
    }
}

#[test]
fn a_server_that_takes_no_writes_is_left_for_another_connection() {
    let server = Administrator::new();
    let refuses = |who, setting| {
        for language in LANGUAGES {
            server.speak(language);
            let expected = Expected::new(url(who, "dbop"), "1290", ReadOnlyServer);
            another_one_is_tried(&expected, || {
                server.set(setting);
                Some(server.sets("read_only = 0"))
            });
        }
    };
    refuses("plain", "read_only = 1");
    if is_mysql() {
        // Not even who may do everything writes.
        refuses("dbop", "super_read_only = 1");
    }
}

/// A second server, with the table that is written to, and a session there.
fn beside() -> (Beside, Conn) {
    another("beside")
}

fn another(name: &str) -> (Beside, Conn) {
    let beside = Server::of_this_run().another(name);
    let mut session = Conn::establish(&beside.url()).expect("a new server");
    session
        .batch_execute("CREATE TABLE written (n INT)")
        .expect("a new table");
    (beside, session)
}

#[test]
fn of_two_servers_one_does_the_work_when_the_other_is_killed() {
    let _server = Administrator::new();
    one_of_two_ends(|| {
        let (beside, _) = beside();
        let urls = [beside.url(), server_url()];
        (urls, Arc::new(move || beside.kill()))
    });
}

#[test]
fn of_three_servers_two_do_most_of_the_work_when_the_other_is_killed() {
    let _server = Administrator::new();
    let (third, _) = another("third");
    throughput::most_of_it_stays(|| {
        let (second, _) = beside();
        let urls = [second.url(), server_url(), third.url()];
        (urls, Box::new(move || second.kill()))
    });
}

#[test]
fn of_two_servers_one_that_is_read_only_gets_no_work() {
    let _server = Administrator::new();
    let (beside, mut session) = beside();
    session
        .batch_execute("SET GLOBAL read_only = ON")
        .expect("allowed to");
    one_of_two_takes_no_writes(&[beside.url(), server_url()]);
}
