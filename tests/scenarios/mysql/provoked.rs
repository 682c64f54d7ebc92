//! The errors of MySQL and MariaDB, each provoked on the server: what dbop makes of them at top level,
//! in a step and in the caller's transaction.

use dbop_diesel::{FaultClass as C, IsolationLevel};
use dbop_tests::Opponent;
use dbop_tests::mysql::{BALLAST, USER};

use super::retries::rows::Do::{self, Meanwhile, Ours, Text, Theirs};
use super::retries::rows::Nested::{self, InPlace, Lost, Up};
use super::retries::rows::Top::{self, Elsewhere, ElsewhereOnce, Once, Retried};
use super::retries::rows::{Refusal, Row};
use super::retries::walk::{
    connecting, from_a_source, in_a_step, in_the_callers_transaction, on_a_connection,
};
use super::{Bed, helper, scenario};

const TABLES: &str = "
    CREATE TABLE names (id INT PRIMARY KEY, name VARCHAR(3) NOT NULL, age INT CHECK (age > 0),
                        since DATE);
    CREATE TABLE owners (account INT, FOREIGN KEY (account) REFERENCES accounts (id));
    INSERT INTO owners VALUES (1);
    CREATE TABLE parents (id INT PRIMARY KEY);
    CREATE TABLE children (parent INT UNIQUE,
                           FOREIGN KEY (parent) REFERENCES parents (id) ON UPDATE CASCADE);
    INSERT INTO parents VALUES (1);
    INSERT INTO children VALUES (1);
    SET foreign_key_checks = 0, max_heap_table_size = 16384;
    INSERT INTO children VALUES (9);
    CREATE TABLE small (b CHAR(255)) ENGINE = MEMORY;
    CREATE TABLE many AS WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n
                                              WHERE i < 500) SELECT i FROM n;
    SET foreign_key_checks = 1, max_heap_table_size = DEFAULT;
    CREATE PROCEDURE kill_sleeper() BEGIN
        DECLARE looks INT DEFAULT 0;
        WHILE looks < 5000 AND NOT EXISTS
            (SELECT 1 FROM information_schema.processlist
             WHERE id = IS_USED_LOCK(DATABASE()) AND state = 'User sleep')
        DO SET looks = looks + 1; DO SLEEP(0.002); END WHILE;
        KILL IS_USED_LOCK(DATABASE());
    END";

const FINAL: (Top, Nested) = (Top::Final, Nested::Final);

const HOLDS_2: Do = Theirs("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2");
const LEAVES: Do = Theirs("ROLLBACK");

/// The opponent, who holds account 2, waits for account 1.
const WAITS_FOR_1: Do = Meanwhile(|bed, opponent| {
    opponent.start("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    bed.wait_until_blocked(opponent.id());
});

const WINS: Do = Meanwhile(|_, opponent| {
    opponent.finish().expect("it has got its lock");
    opponent.execute("ROLLBACK");
});

/// By this lock the opponent finds our session. One that has been killed may still hold it for a moment.
const NAMED: Do = Ours("SELECT GET_LOCK(DATABASE(), 10)");
const TERMINATE: Do = Theirs("KILL IS_USED_LOCK(DATABASE())");
const WAIT_UNTIL_GONE: Do = Theirs("DO GET_LOCK(DATABASE(), 10); DO RELEASE_LOCK(DATABASE())");

const MARIADB_KEEPS: &str = "SELECT CAST(@@version LIKE '%MariaDB%' \
                             AND @@innodb_rollback_on_timeout = 0 AS SIGNED) AS n";
const MARIADB_LOSES: &str = "SELECT CAST(@@version LIKE '%MariaDB%' \
                             AND @@innodb_rollback_on_timeout = 1 AS SIGNED) AS n";
const IS_MYSQL: &str = "SELECT CAST(@@version NOT LIKE '%MariaDB%' AS SIGNED) AS n";
const KEEPS_AT_TIMEOUT: &str = "SELECT CAST(@@innodb_rollback_on_timeout = 0 AS SIGNED) AS n";
const LOSES_AT_TIMEOUT: &str = "SELECT CAST(@@innodb_rollback_on_timeout = 1 AS SIGNED) AS n";
const REFUSES_CHANGED: &str =
    "SELECT CAST(0 /*M!100100 + @@innodb_snapshot_isolation */ AS SIGNED) AS n";

/// What passes, and what may.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const PASSING: &[Row] = &[
    Row::new("deadlock", &["1213"], C::Deadlock, (Retried, Lost), &[
        Ours("UPDATE accounts SET balance = balance + 1 WHERE id = 1"),
        Theirs("BEGIN"),
        Theirs(BALLAST),
        Theirs("UPDATE accounts SET balance = balance + 1 WHERE id = 2"),
        WAITS_FOR_1,
        Ours("UPDATE accounts SET balance = balance + 1 WHERE id = 2"),
        WINS,
    ]),
    Row::new("deadlock of locks by name", &["3058"], C::Deadlock, (Retried, Up), &[
        Ours("SELECT id FROM names"),
        Theirs("DO GET_LOCK(CONCAT(DATABASE(), 'b'), 0)"),
        // Who waits for a lock of DDL is never the victim.
        Meanwhile(|bed, opponent| {
            opponent.start("ALTER TABLE names COMMENT 'x'");
            bed.wait_until_in_state(opponent.id(), "Waiting for table metadata lock");
        }),
        Ours("SELECT GET_LOCK(CONCAT(DATABASE(), 'b'), 10)"),
        Meanwhile(|bed, opponent| {
            Opponent::execute(&bed.opponent(), &format!("KILL QUERY {}", opponent.id()));
            opponent.finish().expect_err("interrupted");
            opponent.execute("DO RELEASE_ALL_LOCKS()");
        }),
    ])
    .if_server(IS_MYSQL),
    Row::new("changed since it was read", &["1020"], C::SerializationFailure, (Retried, Lost), &[
        Ours("SELECT balance FROM accounts WHERE id = 2"),
        Theirs("UPDATE accounts SET balance = balance + 1 WHERE id = 2"),
        Ours("UPDATE accounts SET balance = 0 WHERE id = 2"),
    ])
    .if_server(REFUSES_CHANGED),
    Row::new("NOWAIT", &["3572"], C::LockTimeout, (Retried, InPlace), &[
        HOLDS_2,
        Ours("SELECT balance FROM accounts WHERE id = 2 FOR UPDATE NOWAIT"),
        LEAVES,
    ])
    .if_server(IS_MYSQL),
    Row::new("NOWAIT of MariaDB", &["1205"], C::LockTimeout, (Retried, InPlace), &[
        HOLDS_2,
        Ours("SELECT balance FROM accounts WHERE id = 2 FOR UPDATE NOWAIT"),
        LEAVES,
    ])
    .if_server(MARIADB_KEEPS),
    Row::new("NOWAIT of MariaDB, losing all", &["1205"], C::LockTimeout, (Retried, Lost), &[
        HOLDS_2,
        Ours("SELECT balance FROM accounts WHERE id = 2 FOR UPDATE NOWAIT"),
        LEAVES,
    ])
    .if_server(MARIADB_LOSES),
    Row::new("table newer than the snapshot", &["1412"], C::StalePlan, (Once, Up), &[
        Ours("SELECT balance FROM accounts"),
        Theirs("DROP TABLE IF EXISTS changing; CREATE TABLE changing (n INT); \
                INSERT INTO changing VALUES (1)"),
        Ours("SELECT n FROM changing"),
    ]),
    Row::new("read-only session", &["1792"], C::ReadOnlyServer, (Elsewhere, Up), &[
        Ours("UPDATE accounts SET balance = 0 WHERE id = 3"),
    ])
    .before(&[Ours("SET SESSION TRANSACTION READ ONLY")])
    .writes_nothing_first(),
];

/// What takes a second each time.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const SLOW: &[Row] = &[
    Row::new("lock timeout", &["1205"], C::LockTimeout, (Retried, InPlace), &[
        HOLDS_2,
        Ours("UPDATE accounts SET balance = 0 WHERE id = 2"),
        LEAVES,
    ])
    .before(&[Ours("SET innodb_lock_wait_timeout = 1")])
    .if_server(KEEPS_AT_TIMEOUT),
    Row::new("lock timeout, losing all", &["1205"], C::LockTimeout, (Retried, Lost), &[
        HOLDS_2,
        Ours("UPDATE accounts SET balance = 0 WHERE id = 2"),
        LEAVES,
    ])
    .before(&[Ours("SET innodb_lock_wait_timeout = 1")])
    .if_server(LOSES_AT_TIMEOUT),
];

/// So does this one.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const IDLE: &[Row] = &[
    Row::new("idle session", &["4031", "2006", "2013", ""], C::ConnectionLost, (Elsewhere, Lost), &[])
    .before(&[NAMED, Ours("SET SESSION wait_timeout = 1"), WAIT_UNTIL_GONE])
    .at_begin()
    .shown_by("sync"),
];

/// What takes the connection along, and what ends the transaction.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const ENDING: &[Row] = &[
    // The client hears nothing of the reason.
    Row::new("session killed", &["2006", "2013", ""], C::ConnectionLost, (ElsewhereOnce, Lost), &[
        Meanwhile(|_, opponent| opponent.start("CALL kill_sleeper()")),
        Ours("SELECT SLEEP(10)"),
        Meanwhile(|_, opponent| opponent.finish().expect("it has killed")),
    ])
    .before(&[NAMED])
    .shown_by("sync"),
    Row::new("killed before", &["2006", "2013", ""], C::ConnectionLost, (Elsewhere, Lost), &[])
    .before(&[NAMED, TERMINATE, WAIT_UNTIL_GONE])
    .at_begin()
    .shown_by("sync"),
    Row::new("no such savepoint", &["1305"], C::TransactionLost, FINAL, &[
        Text("ROLLBACK TO SAVEPOINT gone"),
    ]),
    Row::new("begun in SQL", &["1568"], C::Permanent, FINAL, &[])
    .before(&[Text("BEGIN")])
    .with(|operation| operation.isolation(IsolationLevel::Serializable))
    .at_begin(),
];

/// What another attempt does not change.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const HOPELESS: &[Row] = &[
    Row::new("statement timeout", &["1969", "3024"], C::StatementTimeout, FINAL, &[
        Ours("/*M!100100 SET STATEMENT max_statement_time = 0.02 FOR */ \
              SELECT /*+ MAX_EXECUTION_TIME(20) */ count(*) FROM many a, many b, many c \
              WHERE a.i + b.i + c.i < 0"),
    ]),
    Row::new("cancelled", &["1317"], C::Canceled, FINAL, &[Ours("KILL QUERY CONNECTION_ID()")]),
    Row::new("full table", &["1114"], C::ResourceExhausted, FINAL, &[
        Ours("INSERT INTO small SELECT 'x' FROM many"),
    ]),
    Row::new("unique", &["1062"], C::Constraint, FINAL, &[
        Ours("INSERT INTO accounts VALUES (1, 0)"),
    ]),
    Row::new("foreign key", &["1452"], C::Constraint, FINAL, &[
        Ours("INSERT INTO owners VALUES (99)"),
    ]),
    Row::new("foreign key of others", &["1451"], C::Constraint, FINAL, &[
        Ours("DELETE FROM accounts WHERE id = 1"),
    ]),
    Row::new("foreign key, then unique", &["1761", "1762"], C::Constraint, FINAL, &[
        Ours("UPDATE parents SET id = 9 WHERE id = 1"),
    ]).by_asking(),
    Row::new("not null", &["1048"], C::Constraint, FINAL, &[
        Ours("INSERT INTO accounts VALUES (4, NULL)"),
    ]),
    Row::new("no value", &["1364"], C::Constraint, FINAL, &[
        Ours("INSERT INTO accounts (id) VALUES (4)"),
    ]),
    Row::new("check", &["3819", "4025"], C::Constraint, FINAL, &[
        Ours("INSERT INTO names VALUES (1, 'x', 0, NULL)"),
    ]),
    Row::new("syntax", &["1064"], C::Permanent, FINAL, &[Ours("SELEC 1")]),
    Row::new("no such table", &["1146"], C::Permanent, FINAL, &[Ours("SELECT * FROM nowhere")]),
    Row::new("no such column", &["1054"], C::Permanent, FINAL, &[Ours("SELECT nonsense")]).by_asking(),
    Row::new("no such function", &["1305"], C::Permanent, FINAL, &[Ours("SELECT nothing(1)")]),
    Row::new("no such variable", &["1193"], C::Permanent, FINAL, &[Ours("SET nothing = 1")]).by_asking(),
    Row::new("no such mode", &["1231"], C::Permanent, FINAL, &[Ours("SET sql_mode = 'x'")]).by_asking(),
    Row::new("too long", &["1406"], C::Permanent, FINAL, &[
        Ours("INSERT INTO names (id, name) VALUES (1, 'long')"),
    ]).by_asking(),
    Row::new("too large", &["1264"], C::Permanent, FINAL, &[
        Ours("INSERT INTO accounts VALUES (99999999999, 0)"),
    ]).by_asking(),
    Row::new("no number", &["1366"], C::Permanent, FINAL, &[
        Ours("INSERT INTO accounts VALUES ('x', 0)"),
    ]).by_asking(),
    Row::new("no date", &["1292"], C::Permanent, FINAL, &[
        Ours("INSERT INTO names VALUES (1, 'x', 1, '2000-13-01')"),
    ]).by_asking(),
    Row::new("by zero", &["1365"], C::Permanent, FINAL, &[
        Ours("UPDATE accounts SET balance = 1 / 0 WHERE id = 2"),
    ]).by_asking(),
    Row::new("in a transaction", &["1568"], C::Permanent, FINAL, &[
        Text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
    ]).by_asking(),
    Row::new("another kind of transaction", &["1399", "1400"], C::Permanent, FINAL, &[
        Text("XA START 'x'"),
    ]).by_asking(),
    Row::new("forbidden by an option", &["1290"], C::Permanent, FINAL, &[
        Ours("SELECT 1 INTO OUTFILE '/no/such/place'"),
    ]),
    Row::new("raised", &["1644"], C::Permanent, FINAL, &[
        Text("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"),
    ]).by_asking(),
];

/// What refuses a connection.
const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "no such user",
        before: "",
        url: |bed, _| bed.url_with("stranger:hunter2", None),
        codes: &["1045", ""],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "not allowed into the database",
        before: "CREATE USER {}@'127.0.0.1'",
        url: |bed, name| bed.url_with(name, None),
        codes: &["1044"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "no such database",
        before: "",
        url: |bed, name| bed.url_with(USER, Some(&format!("no_{name}"))),
        codes: &["1049"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "locked account",
        before: "GRANT ALL ON {}.* TO {}@'127.0.0.1'; ALTER USER {}@'127.0.0.1' ACCOUNT LOCK",
        url: |bed, name| bed.url_with(name, None),
        codes: &["3118", "4151"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "expired password",
        before: "ALTER USER {}@'127.0.0.1' ACCOUNT UNLOCK PASSWORD EXPIRE",
        url: |bed, name| bed.url_with(name, None),
        codes: &["1820", "1862"],
        class: C::Permanent,
        attempts: 1,
    },
    Refusal {
        name: "more connections than allowed",
        before: "CREATE USER {}_2@'127.0.0.1'; GRANT ALL ON {}.* TO {}_2@'127.0.0.1'; \
                 ALTER USER {}_2@'127.0.0.1' WITH MAX_CONNECTIONS_PER_HOUR 1",
        url: |bed, name| {
            let url = bed.url_with(&format!("{name}_2"), None);
            drop(bed.opponent_at(&url));
            url
        },
        codes: &["1226"],
        class: C::ServerUnavailable,
        attempts: 3,
    },
    Refusal {
        name: "no server listens",
        before: "",
        url: |_, _| String::from("mysql://dbop@127.0.0.1:1/dbop"),
        codes: &["2002", ""],
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
async fn each_that_takes_a_second_on_a_connection() {
    on_a_connection(&Bed::new(), SLOW).await;
}

#[scenario]
async fn each_that_takes_a_second_from_a_source() {
    from_a_source(&Bed::new(), SLOW).await;
}

#[scenario]
async fn each_that_takes_a_second_in_a_step() {
    in_a_step(&Bed::new(), SLOW).await;
}

#[scenario]
async fn each_that_takes_a_second_in_the_callers_transaction() {
    in_the_callers_transaction(&Bed::new(), SLOW).await;
}

#[scenario]
async fn what_was_idle_for_too_long() {
    from_a_source(&Bed::new(), IDLE).await;
}

#[scenario]
async fn each_that_refuses_a_connection() {
    let bed = Bed::new();
    let (_, name) = bed.url().rsplit_once('/').expect("a database");
    connecting(&bed, name, REFUSALS).await;
}
