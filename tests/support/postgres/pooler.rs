//! A pooler in front of the server under test, which lends its connections for a transaction at a time.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::{Bed, Conn};

/// Which PgBouncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgBouncer {
    /// That of this Debian, which knows nothing of prepared statements.
    Installed,
    /// A newer one, which tracks them.
    Tracking,
}

impl PgBouncer {
    /// The folder under which it is installed, and what it is told about prepared statements.
    fn program(self) -> (String, &'static str) {
        match self {
            Self::Installed => (String::new(), ""),
            Self::Tracking => {
                let root = std::env::var("DBOP_TEST_PGBOUNCER");
                let root = root.expect("tests/run.sh says where it is, or leaves this test out");
                (root, "max_prepared_statements=100")
            }
        }
    }
}

/// PgBouncer. It ends with the test.
#[derive(Debug)]
pub struct Pooler {
    dir: String,
    url: String,
}

impl Pooler {
    /// One with one server connection, in front of the schema of this test bed, for this user, who has a
    /// password of the same name unless it is that of the tests.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(pgbouncer: PgBouncer, bed: &Bed, credentials: &str) -> Self {
        Self::with(pgbouncer, bed, credentials, &[])
    }

    /// One with two server connections, which it lends in turn.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn of_two(pgbouncer: PgBouncer, bed: &Bed) -> Self {
        let options = ["default_pool_size=2", "server_round_robin=1"];
        let pooler = Self::with(pgbouncer, bed, bed.credentials(), &options);
        // It makes the second one when the first is lent.
        let mut clients = [(); 2].map(|()| {
            let mut conn = Conn::establish(&pooler.url).expect("the pooler answers");
            conn.batch_execute("BEGIN").expect("a server connection");
            conn
        });
        for conn in &mut clients {
            conn.batch_execute("COMMIT").expect("nothing to commit");
        }
        pooler
    }

    fn with(pgbouncer: PgBouncer, bed: &Bed, credentials: &str, options: &[&str]) -> Self {
        let (_, address) = bed.url().split_once('@').expect("user@host");
        let (address, schema) = address.rsplit_once("%3D").expect("a schema");
        let (host, _) = address.split_once('/').expect("a database");
        let (host, port) = host.split_once(':').expect("a port");
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let password = match password {
            "" => String::new(),
            password => format!("password={password}"),
        };
        let target = format!(
            "host={host} port={port} dbname=dbop user={user} {password} \
             connect_query='SET search_path TO {schema}'"
        );
        let (root, tracks) = pgbouncer.program();
        let mut arguments = vec![&*target, &*root, tracks];
        arguments.extend(options);
        let output = script(&arguments);
        let (dir, port) = output.split_once(' ').expect("a folder and a port");
        Self {
            dir: dir.to_owned(),
            url: format!("postgres://{user}@127.0.0.1:{port}/dbop"),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Another client, which does nothing but to look at the settings of its session, until it is asked what it
    /// has seen.
    ///
    /// # Panics
    ///
    /// If the pooler does not answer.
    #[must_use]
    pub fn onlooker(&self) -> Onlooker {
        let mut conn = Conn::establish(&self.url).expect("the pooler answers");
        let (ends, looks) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let (has_ended, counter) = (Arc::clone(&ends), Arc::clone(&looks));
        let thread = std::thread::spawn(move || {
            let mut wrong = Vec::new();
            while !has_ended.load(Ordering::Relaxed) {
                if let Err(error) = conn.batch_execute(LOOK) {
                    wrong.push(error.to_string());
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
            wrong
        });
        Onlooker {
            ends,
            looks,
            thread,
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        _ = script(&["stop", &self.dir]);
    }
}

/// Fails where a setting is not what the session began with. One message, so that a pooler cannot have
/// another session answer for it.
const LOOK: &str = "DO $$ DECLARE wrong text; BEGIN \
    SELECT string_agg(name || ' = ' || setting, ', ') INTO wrong FROM pg_settings \
    WHERE setting <> reset_val AND (name IN ('lock_timeout', 'statement_timeout', 'synchronous_commit') \
    OR name LIKE 'default\\_transaction\\_%'); \
    IF wrong IS NOT NULL THEN RAISE EXCEPTION 'somebody else''s: %', wrong; END IF; END $$";

/// See [`Pooler::onlooker`].
#[derive(Debug)]
pub struct Onlooker {
    ends: Arc<AtomicBool>,
    looks: Arc<AtomicU32>,
    thread: JoinHandle<Vec<String>>,
}

impl Onlooker {
    /// How often it has looked, and what it has seen that was not its own.
    ///
    /// # Panics
    ///
    /// If it has panicked.
    #[must_use]
    pub fn has_seen(self) -> (u32, Vec<String>) {
        self.ends.store(true, Ordering::Relaxed);
        let wrong = self.thread.join().expect("it does not panic");
        (self.looks.load(Ordering::Relaxed), wrong)
    }
}

fn script(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/pooler.sh");
    let mut bash = Command::new("bash");
    let output = bash.arg(script).args(arguments).output().expect("bash");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
