//! PostgreSQL's errors, each provoked on the server: what dbop makes of them at top level, in a step
//! and in the caller's transaction.

use dbop_diesel::FaultClass as C;
use dbop_tests::Opponent;
use dbop_tests::postgres::USER;

use super::retries::rows::Do::{self, Meanwhile, Ours, Swallow, Text, Theirs};
use super::retries::rows::Nested::{self, InPlace, Lost, Up};
use super::retries::rows::Top::{self, Elsewhere, ElsewhereOnce, Once, Retried};
use super::retries::rows::{Refusal, Row};
use super::retries::walk::{
    connecting, from_a_source, in_a_step, in_the_callers_transaction, on_a_connection,
};
use super::{Bed, helper, scenario};

const TABLES: &str = "
    CREATE TABLE names (id INT PRIMARY KEY, name VARCHAR(3) NOT NULL, age INT CHECK (age > 0));
    CREATE TABLE owners (account INT REFERENCES accounts (id) ON DELETE RESTRICT);
    INSERT INTO owners VALUES (1);
    CREATE TABLE later (account INT REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED,
                        token INT UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE circles (c circle, EXCLUDE USING gist (c WITH &&));
    INSERT INTO circles VALUES ('<(0,0),1>');
    CREATE TABLE changing (n INT);
    CREATE TYPE mood AS ENUM ('good');
    CREATE FUNCTION one() RETURNS INT LANGUAGE sql RETURN 1";

const FINAL: (Top, Nested) = (Top::Final, Nested::Final);
const UNKNOWN: (Top, Nested) = (Top::Unknown, Nested::Unknown);

/// By this name the opponent finds our session.
const NAMED: Do = Ours("SELECT set_config('application_name', current_schema(), false)");
const TERMINATE: Do = Theirs(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
     WHERE application_name = current_schema()",
);
const WAIT_UNTIL_GONE: Do = Theirs(
    "DO $$ BEGIN WHILE EXISTS \
     (SELECT FROM pg_stat_activity WHERE application_name = current_schema()) \
     LOOP PERFORM pg_stat_clear_snapshot(), pg_sleep(0.002); END LOOP; END $$",
);

/// The opponent commits when a session waits for it.
const COMMIT_WHEN_BLOCKING: &str = "
    DO $$ BEGIN WHILE NOT EXISTS
    (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))
    LOOP PERFORM pg_stat_clear_snapshot(), pg_sleep(0.002); END LOOP; END $$;
    COMMIT";

const COMMITS_WHEN_BLOCKING: Do = Meanwhile(|_, opponent| opponent.start(COMMIT_WHEN_BLOCKING));
const HAS_COMMITTED: Do = Meanwhile(|_, opponent| opponent.finish().expect("it has committed"));

const HOLDS_2: Do = Theirs("BEGIN; UPDATE accounts SET balance = 0 WHERE id = 2");
const LEAVES: Do = Theirs("ROLLBACK");

/// The opponent, who holds account 2, waits for account 1.
const WAITS_FOR_1: Do = Meanwhile(|bed, opponent| {
    opponent.start("UPDATE accounts SET balance = 0 WHERE id = 1");
    bed.wait_until_blocked(opponent.id());
});

/// In a savepoint we keep the lock that the opponent waits for.
const WINS: Do = Meanwhile(|bed, opponent| {
    let cancel = format!("SELECT pg_cancel_backend({})", opponent.id());
    Opponent::execute(&bed.opponent(), &cancel);
    _ = opponent.finish();
    opponent.execute("ROLLBACK");
});

const HAS_TRANSACTION_TIMEOUT: &str =
    "SELECT count(*) AS n FROM pg_settings WHERE name = 'transaction_timeout'";
const TELLS_RESTRICT: &str =
    "SELECT (current_setting('server_version_num')::int >= 180000)::int::bigint AS n";
const TELLS_NO_RESTRICT: &str =
    "SELECT (current_setting('server_version_num')::int < 180000)::int::bigint AS n";

/// What passes, and what may.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const PASSING: &[Row] = &[
    Row::new("changed since it was read", &["40001"], C::SerializationFailure, (Retried, Up), &[
        Ours("SELECT balance FROM accounts WHERE id = 2"),
        Theirs("UPDATE accounts SET balance = balance + 1 WHERE id = 2"),
        Ours("UPDATE accounts SET balance = 0 WHERE id = 2"),
    ])
    .before(&[Ours("SET default_transaction_isolation = 'repeatable read'")]),
    Row::new("cannot be ordered", &["40001"], C::SerializationFailure, (Retried, Up), &[
        Ours("SELECT balance FROM accounts"),
        Theirs("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT balance FROM accounts"),
        Theirs("UPDATE accounts SET balance = balance + 1 WHERE id = 2; COMMIT"),
    ])
    .before(&[Ours("SET default_transaction_isolation = 'serializable'")])
    .at_commit(),
    Row::new("deadlock", &["40P01"], C::Deadlock, (Retried, Up), &[
        Ours("UPDATE accounts SET balance = 0 WHERE id = 1"),
        HOLDS_2,
        WAITS_FOR_1,
        Ours("UPDATE accounts SET balance = 0 WHERE id = 2"),
        WINS,
    ])
    .before(&[Ours("SET deadlock_timeout = '10ms'")]),
    Row::new("lock timeout", &["55P03"], C::LockTimeout, (Retried, InPlace), &[
        HOLDS_2,
        Ours("UPDATE accounts SET balance = 0 WHERE id = 2"),
        LEAVES,
    ])
    .before(&[Ours("SET lock_timeout = '10ms'")]),
    Row::new("a row, NOWAIT", &["55P03"], C::LockTimeout, (Retried, InPlace), &[
        HOLDS_2,
        Ours("SELECT balance FROM accounts WHERE id = 2 FOR UPDATE NOWAIT"),
        LEAVES,
    ]),
    Row::new("a table, NOWAIT", &["55P03"], C::LockTimeout, (Retried, InPlace), &[
        Theirs("BEGIN; LOCK TABLE names"),
        Ours("LOCK TABLE names NOWAIT"),
        LEAVES,
    ]),
    Row::new("plan of another result", &["0A000"], C::StalePlan, (Once, Up), &[Ours("EXECUTE stale")])
    .before(&[
        Theirs("DROP TABLE changing; CREATE TABLE changing (n INT)"),
        Ours("PREPARE stale AS SELECT * FROM changing"),
        Theirs("ALTER TABLE changing ADD COLUMN m INT"),
    ]),
    Row::new("no such plan", &["26000"], C::StalePlan, (Once, Up), &[Ours("EXECUTE gone")]),
    Row::new("plan of the same name", &["42P05"], C::StalePlan, (Once, Up), &[
        Ours("PREPARE twice AS SELECT 1"),
    ])
    .before(&[Ours("PREPARE twice AS SELECT 1")]),
    Row::new("read-only session", &["25006"], C::ReadOnlyServer, (Elsewhere, Up), &[
        Ours("UPDATE accounts SET balance = 0 WHERE id = 3"),
    ])
    .before(&[Ours("SET default_transaction_read_only = on")])
    .writes_nothing_first(),
    Row::new("table that is there", &["42P07"], C::SerializationFailure, (Once, Up), &[
        Ours("CREATE TABLE accounts (id INT)"),
    ]),
    Row::new("schema that is there", &["42P06"], C::SerializationFailure, (Once, Up), &[
        Ours("CREATE SCHEMA public"),
    ]),
    Row::new("type that is there", &["42710"], C::SerializationFailure, (Once, Up), &[
        Ours("CREATE TYPE mood AS ENUM ('bad')"),
    ]),
    Row::new("table of two sessions", &["23505"], C::SerializationFailure, (Once, Up), &[
        Theirs("BEGIN; CREATE TABLE raced (n INT)"),
        COMMITS_WHEN_BLOCKING,
        Ours("CREATE TABLE raced (n INT)"),
        HAS_COMMITTED,
        Theirs("DROP TABLE raced"),
    ]),
    Row::new("function of two sessions", &["XX000"], C::SerializationFailure, (Retried, Up), &[
        Theirs("BEGIN; CREATE OR REPLACE FUNCTION one() RETURNS INT LANGUAGE sql RETURN 2"),
        COMMITS_WHEN_BLOCKING,
        Ours("CREATE OR REPLACE FUNCTION one() RETURNS INT LANGUAGE sql RETURN 3"),
        HAS_COMMITTED,
    ]),
    Row::new("raised as 40001", &["40001"], C::SerializationFailure, (Retried, Up), &[
        Ours("DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '40001'; END $$"),
    ]),
    Row::new("raised as a deadlock", &["40P01"], C::Deadlock, (Retried, Up), &[
        Ours("DO $$ BEGIN RAISE 'deadlock detected' USING DETAIL = 'x'; END $$"),
    ]),
];

/// What takes the connection along, and what ends the transaction.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const ENDING: &[Row] = &[
    Row::new("session terminated", &["57P01"], C::ConnectionLost, (Elsewhere, Lost), &[
        Ours("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)"),
    ]),
    // Of a session that had ended before, the async client sometimes shows the code.
    Row::new("terminated before", &["57P01", ""], C::ConnectionLost, (Elsewhere, Lost), &[])
    .before(&[NAMED, TERMINATE])
    .at_begin(),
    Row::new("idle session", &["57P05", ""], C::ConnectionLost, (Elsewhere, Lost), &[])
    .before(&[
        NAMED,
        Ours("SET idle_session_timeout = '10ms'"),
        WAIT_UNTIL_GONE,
    ])
    .at_begin(),
    Row::new("idle in transaction", &["25P03", ""], C::ConnectionLost, (ElsewhereOnce, Lost), &[
        Ours("SET idle_in_transaction_session_timeout = '10ms'"),
        WAIT_UNTIL_GONE,
        Ours("SELECT 1"),
    ])
    .before(&[NAMED])
    // The client sends before it reads, and what the server said can be lost then.
    .only("sync"),
    Row::new("long transaction", &["25P04", ""], C::ConnectionLost, (ElsewhereOnce, Lost), &[
        Ours("SET transaction_timeout = '10ms'"),
        WAIT_UNTIL_GONE,
        Ours("SELECT 1"),
    ])
    .before(&[NAMED])
    .only("sync")
    .if_server(HAS_TRANSACTION_TIMEOUT),
    Row::new("terminated in COMMIT", &["57P01", ""], C::ConnectionLost, UNKNOWN, &[
        Text(
            "CREATE CONSTRAINT TRIGGER fatal AFTER INSERT ON names DEFERRABLE \
          INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fatal()",
        ),
        Ours("INSERT INTO names VALUES (1, 'x')"),
    ])
    .before(&[Text(
        "CREATE OR REPLACE FUNCTION fatal() RETURNS TRIGGER LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10); END $$",
    )])
    .at_commit()
    .shown_by("async"),
    Row::new("ROLLBACK of its own", &["25P01"], C::TransactionLost, UNKNOWN, &[
        Text("ROLLBACK"), Ours("SAVEPOINT outside"),
    ])
    .at_top_only(),
    Row::new("swallowed", &["25P02"], C::TransactionAborted, FINAL, &[Swallow("SELECT nonsense")])
    .at_end(),
    Row::new("swallowed, and on", &["25P02"], C::TransactionAborted, FINAL, &[
        Swallow("SELECT nonsense"), Ours("SELECT 1"),
    ]),
    Row::new("no such savepoint", &["3B001"], C::TransactionLost, FINAL, &[
        Ours("ROLLBACK TO SAVEPOINT gone"),
    ]),
];

/// What another attempt does not change.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const HOPELESS: &[Row] = &[
    Row::new("statement timeout", &["57014"], C::StatementTimeout, FINAL, &[
        Ours("SET LOCAL statement_timeout = '10ms'"),
        Ours("SELECT pg_sleep(10)"),
    ]),
    Row::new("cancelled", &["57014"], C::Canceled, FINAL, &[
        Ours("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(10)"),
    ]),
    Row::new("temporary files", &["53400"], C::ResourceExhausted, FINAL, &[
        Ours("SET LOCAL temp_file_limit = 0"),
        Ours("SET LOCAL work_mem = '64kB'"),
        Ours(
            "SELECT count(*) FROM (SELECT generate_series(1, 50000) AS n ORDER BY n DESC) AS t",
        ),
    ]),
    Row::new("unique", &["23505"], C::Constraint, FINAL, &[Ours("INSERT INTO accounts VALUES (1, 0)")]),
    Row::new("foreign key", &["23503"], C::Constraint, FINAL, &[Ours("INSERT INTO owners VALUES (99)")]),
    Row::new("restrict", &["23001"], C::Constraint, FINAL, &[Ours("DELETE FROM accounts WHERE id = 1")])
    .if_server(TELLS_RESTRICT),
    Row::new("restrict, before 18", &["23503"], C::Constraint, FINAL, &[
        Ours("DELETE FROM accounts WHERE id = 1"),
    ])
    .if_server(TELLS_NO_RESTRICT),
    Row::new("not null", &["23502"], C::Constraint, FINAL, &[Ours("INSERT INTO accounts VALUES (4, NULL)")]),
    Row::new("check", &["23514"], C::Constraint, FINAL, &[Ours("INSERT INTO names VALUES (1, 'x', 0)")]),
    Row::new("exclusion", &["23P01"], C::Constraint, FINAL, &[
        Ours("INSERT INTO circles VALUES ('<(0,0),2>')"),
    ]),
    Row::new("foreign key, deferred", &["23503"], C::Constraint, FINAL, &[
        Ours("INSERT INTO later VALUES (99, 1)"),
    ])
    .at_commit(),
    Row::new("unique, deferred", &["23505"], C::Constraint, FINAL, &[
        Ours("INSERT INTO later VALUES (1, 1), (1, 1)"),
    ])
    .at_commit(),
    // Diesel shows no codes for what follows, and dbop needs none.
    Row::new("syntax, 42601", &[""], C::Unknown, FINAL, &[Ours("SELEC 1")]),
    Row::new("no such table, 42P01", &[""], C::Unknown, FINAL, &[Ours("SELECT * FROM nowhere")]),
    Row::new("no such column, 42703", &[""], C::Unknown, FINAL, &[Ours("SELECT nonsense")]),
    Row::new("not allowed, 42501", &[""], C::Unknown, FINAL, &[
        Ours("SET LOCAL ROLE pg_monitor"),
        Ours("SELECT pg_read_file('x')"),
    ]),
    Row::new("no number, 22P02", &[""], C::Unknown, FINAL, &[Ours("SELECT 'x'::text::int")]),
    Row::new("too large, 22003", &[""], C::Unknown, FINAL, &[Ours("SELECT 99999999999::int")]),
    Row::new("too long, 22001", &[""], C::Unknown, FINAL, &[Ours("INSERT INTO names VALUES (1, 'long')")]),
    Row::new("by zero, 22012", &[""], C::Unknown, FINAL, &[Ours("SELECT 1 / 0")]),
    Row::new("not supported, 0A000", &[""], C::Unknown, FINAL, &[
        Ours("SELECT balance FROM accounts GROUP BY balance FOR UPDATE"),
    ]),
    Row::new("not in a transaction, 25001", &[""], C::Unknown, FINAL, &[Ours("VACUUM accounts")]),
    Row::new("in use, 55006", &[""], C::Unknown, FINAL, &[
        Ours("DECLARE it CURSOR FOR SELECT * FROM names"),
        Ours("DROP TABLE names"),
    ]),
    Row::new("no such file, 58P01", &[""], C::Unknown, FINAL, &[Ours("COPY names FROM '/no/such/file'")]),
    Row::new("raised, P0001", &[""], C::Unknown, FINAL, &[Ours("DO $$ BEGIN RAISE 'no'; END $$")]),
    Row::new("raised as 40P01, in other words", &[""], C::Unknown, FINAL, &[
        Ours("DO $$ BEGIN RAISE 'mine' USING ERRCODE = '40P01'; END $$"),
    ]),
];

/// What refuses a connection.
const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "no such role",
        before: "",
        url: |bed, name| bed.url_with(&format!("no_{name}"), None),
        codes: &[""],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "not permitted to log in",
        before: "CREATE ROLE {} NOLOGIN",
        url: |bed, name| bed.url_with(name, None),
        codes: &["28000"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "too many connections of the role",
        before: "ALTER ROLE {} LOGIN CONNECTION LIMIT 0",
        url: |bed, name| bed.url_with(name, None),
        codes: &["53300"],
        class: C::ServerUnavailable,
        attempts: 3,
    },
    Refusal {
        name: "no such database",
        before: "",
        url: |bed, name| bed.url_with(USER, Some(&format!("no_{name}"))),
        codes: &["3D000"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "database that takes no connections",
        before: "",
        url: |bed, _| bed.url_with(USER, Some("template0")),
        codes: &["55000"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "not allowed into the database",
        before: "ALTER ROLE {} CONNECTION LIMIT -1; CREATE DATABASE {}; \
                 REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
        url: |bed, name| bed.url_with(name, Some(name)),
        codes: &["42501"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "too many connections of the database",
        before: "GRANT CONNECT ON DATABASE {} TO {}; ALTER DATABASE {} CONNECTION LIMIT 0",
        url: |bed, name| bed.url_with(name, Some(name)),
        codes: &["53300"],
        class: C::ServerUnavailable,
        attempts: 3,
    },
    Refusal {
        name: "no server listens",
        before: "",
        url: |_, _| String::from("postgres://postgres@127.0.0.1:1/dbop"),
        codes: &[""],
        class: C::NotConnected,
        attempts: 3,
    },
];

#[helper]
async fn bed() -> Bed {
    let bed = Bed::new();
    bed.opponent().execute(TABLES);
    bed
}

#[scenario]
async fn each_on_a_connection() {
    let bed = bed().await;
    on_a_connection(&bed, PASSING).await;
    on_a_connection(&bed, ENDING).await;
    on_a_connection(&bed, HOPELESS).await;
}

#[scenario]
async fn each_from_a_source() {
    let bed = bed().await;
    from_a_source(&bed, PASSING).await;
    from_a_source(&bed, ENDING).await;
    from_a_source(&bed, HOPELESS).await;
}

#[scenario]
async fn each_in_a_step() {
    let bed = bed().await;
    in_a_step(&bed, PASSING).await;
    in_a_step(&bed, ENDING).await;
    in_a_step(&bed, HOPELESS).await;
}

#[scenario]
async fn each_in_the_callers_transaction() {
    let bed = bed().await;
    in_the_callers_transaction(&bed, PASSING).await;
    in_the_callers_transaction(&bed, ENDING).await;
    in_the_callers_transaction(&bed, HOPELESS).await;
}

#[scenario]
async fn each_that_refuses_a_connection() {
    let bed = Bed::new();
    let (_, name) = bed.url().rsplit_once("%3D").expect("a schema");
    connecting(&bed, name, REFUSALS).await;
    bed.opponent().execute(&format!("DROP DATABASE {name}"));
}
