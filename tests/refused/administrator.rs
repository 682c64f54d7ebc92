//! Who has a PostgreSQL server to himself: its language, whom it lets in, and the states in which it
//! refuses everybody.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, Once};
use std::thread::panicking;

use dbop_tests::server::{Beside, Server, Signal};
use dbop_tests::{Number, eventually, server_url};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::{PgConnection, RunQueryDsl as _, sql_query};

use crate::everywhere::alone;

/// Who may connect to what, and how.
const DOORS: &str = "\
    host all with_password 127.0.0.1/32 scram-sha-256\n\
    host rejected all 127.0.0.1/32 reject\n\
    host dbop,missing,closed,private,small all 127.0.0.1/32 trust\n";

/// `written` is a table that everybody may write to.
const ACCOUNTS: &str = "
    CREATE TABLE written (n INT);
    GRANT ALL ON written TO PUBLIC;
    CREATE ROLE plain LOGIN;
    CREATE ROLE reader LOGIN;
    CREATE ROLE limited LOGIN CONNECTION LIMIT 0;
    CREATE ROLE no_login NOLOGIN;
    CREATE ROLE with_password LOGIN PASSWORD 'right'";

/// Each has to be a statement of its own.
const DATABASES: [&str; 4] = [
    "CREATE DATABASE closed ALLOW_CONNECTIONS false",
    "CREATE DATABASE private",
    "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
    "CREATE DATABASE small CONNECTION LIMIT 0",
];

/// If the server is to recover from an archive, it waits until the file `hold` is gone.
const RECOVERY: &str =
    "restore_command = 'touch held; while test -e hold; do sleep 0.05; done; false'";

/// A line of the log begins with its code, whatever language the rest is in.
const LOG: &str = "log_line_prefix = '%e '";

#[derive(Debug)]
pub(crate) struct Administrator {
    server: Server,
    _alone: MutexGuard<'static, ()>,
}

impl Administrator {
    /// Of a server that has just been started.
    pub(crate) fn new() -> Self {
        let this = Self {
            _alone: alone(),
            server: Server::of_this_run(),
        };
        this.server.stop();
        this.write("pg_hba.conf", DOORS);
        this.set("C", "");
        this.server.start();
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let mut conn = this.connect();
            for sql in [ACCOUNTS].iter().chain(&DATABASES) {
                conn.batch_execute(sql).expect("a new server");
            }
        });
        this
    }

    /// Another server, as new, in a folder of this name.
    pub(crate) fn another(&self, name: &str) -> Beside {
        self.server.another(name)
    }

    /// A session of the superuser.
    pub(crate) fn connect(&self) -> PgConnection {
        PgConnection::establish(&server_url()).expect("the server lets a superuser in")
    }

    /// The server's language from now on, whatever its state is.
    pub(crate) fn speak(&self, language: &str) {
        let said = self.log().len();
        self.set(language, "");
        self.server.signal(Signal::HUP);
        // Its log is the only way to tell while it refuses everybody. The next client is served after that.
        let mut answer = None;
        eventually("the server knows its language", || {
            let log = String::from_utf8_lossy(&self.log()[said..]).into_owned();
            let mut lines = log.lines();
            answer = lines
                .find(|line| line.contains(&format!("{language}.UTF-8")))
                .map(String::from);
            answer.is_some()
        });
        // A language that the system does not have is an invalid value, which the log says in any language.
        let answer = answer.expect("a line");
        assert!(answer.starts_with("00000 "), "{answer}");
    }

    /// Starts it again as a standby that recovers when `let_go` is called, and not before.
    pub(crate) fn start_on_hold(&self) {
        self.server.stop();
        self.hold();
        self.server.start_unready();
        self.is_held();
    }

    /// Starts it again as a standby that no client may read from.
    pub(crate) fn start_cold(&self) {
        self.server.stop();
        self.write("standby.signal", "");
        self.set("C", "hot_standby = off");
        self.server.start_unready();
        eventually("the server recovers", || {
            let refusal = PgConnection::establish(&server_url()).err();
            refusal.is_some_and(|refusal| refusal.to_string().contains("not accepting"))
        });
    }

    /// Kills a session, after which the server recovers when `let_go` is called, and not before.
    pub(crate) fn crash_on_hold(&self) {
        let mut conn = self.connect();
        let session: Number = sql_query("SELECT pg_backend_pid()::bigint AS n")
            .get_result(&mut conn)
            .expect("an id");
        self.hold();
        assert!(self.server.kill_session(session.n));
        self.is_held();
    }

    pub(crate) fn let_go(&self) {
        fs::remove_file(self.data("hold")).expect("it is on hold");
        eventually("the server can be read from", || {
            PgConnection::establish(&server_url()).is_ok()
        });
    }

    /// Asks it to end when all sessions have ended.
    pub(crate) fn shut_down(&self) {
        self.server.signal(Signal::TERM);
        eventually("the server refuses everybody", || {
            PgConnection::establish(&server_url()).is_err()
        });
    }

    fn hold(&self) {
        self.write("hold", "");
        self.write("standby.signal", "");
        _ = fs::remove_file(self.data("held"));
    }

    fn is_held(&self) {
        eventually("the server recovers", || self.data("held").exists());
    }

    fn set(&self, language: &str, more: &str) {
        let language = match language {
            "C" => language.into(),
            _ => format!("{language}.UTF-8"),
        };
        // Settings by SQL come here, so that there are none but these.
        let settings = format!("lc_messages = '{language}'\n{RECOVERY}\n{LOG}\n{more}\n");
        self.write("postgresql.auto.conf", &settings);
    }

    fn log(&self) -> Vec<u8> {
        fs::read(self.server.path("log")).expect("a log")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.data(file), text).expect("a file in the data directory");
    }

    fn data(&self, file: &str) -> PathBuf {
        self.server.path("data").join(file)
    }
}

impl Drop for Administrator {
    /// Removes the standby files, so that the next start is a normal one.
    fn drop(&mut self) {
        for file in ["hold", "standby.signal"] {
            _ = fs::remove_file(self.data(file));
        }
        match panicking() {
            true if self.server.is_running() => self.server.kill(),
            _ => self.server.stop(),
        }
    }
}

/// Ends a session, and waits until the server has the room that it had.
pub(crate) fn leave(mut conn: PgConnection) {
    let session: Number = sql_query("SELECT pg_backend_pid()::bigint AS n")
        .get_result(&mut conn)
        .expect("an id");
    drop(conn);
    let process = format!("/proc/{}", session.n);
    eventually("the process of a session ends", || {
        !Path::new(&process).exists()
    });
}
