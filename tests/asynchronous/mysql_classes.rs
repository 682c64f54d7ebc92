//! The errors of MySQL and MariaDB.

use dbop_diesel_async::Dialect;
use dbop_tests::mysql::BALLAST;

use super::classes::{Case, Stage, are_the_same_from_both_adapters};

#[test]
fn every_error_is_the_same_from_both_adapters() {
    are_the_same_from_both_adapters(Dialect::Mysql, CASES);
}

/// MariaDB with isolated snapshots; elsewhere it is no error at all.
#[test]
fn so_is_a_record_that_has_changed() {
    let is_isolated = "SELECT 0 /*M!100100 + @@innodb_snapshot_isolation */ AS n";
    let mut stage = Stage::new(true, true);
    if stage.number(is_isolated) == 1 {
        are_the_same_from_both_adapters(Dialect::Mysql, &[CHANGED]);
    } else {
        assert_eq!((CHANGED.provoke)(&mut stage), Ok(()));
    }
}

const CHANGED: Case = Case {
    name: "record has changed",
    class: "serialization_failure",
    codes: &["1020"],
    provoke: |stage| {
        stage.before(
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
             START TRANSACTION WITH CONSISTENT SNAPSHOT",
        );
        stage.meanwhile("UPDATE accounts SET balance = 0");
        stage.fails("UPDATE accounts SET balance = 1")
    },
};

/// The id of the session on the server.
const SESSION: &str = "SELECT CAST(connection_id() AS SIGNED) AS n";

const CASES: &[Case] = &[
    Case {
        name: "unique violation",
        class: "constraint",
        codes: &["1062"],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES (1, 1)"),
    },
    Case {
        name: "foreign key violation",
        class: "constraint",
        codes: &["1452"],
        provoke: |stage| {
            stage.before(
                "CREATE TABLE owners (account INTEGER, FOREIGN KEY (account) \
                 REFERENCES accounts (id))",
            );
            stage.fails("INSERT INTO owners VALUES (99)")
        },
    },
    Case {
        name: "foreign key violation by a deletion",
        class: "constraint",
        codes: &["1451"],
        provoke: |stage| {
            stage.before(
                "CREATE TABLE owners (account INTEGER, FOREIGN KEY (account) \
                 REFERENCES accounts (id)); INSERT INTO owners VALUES (1)",
            );
            stage.fails("DELETE FROM accounts WHERE id = 1")
        },
    },
    Case {
        name: "not null violation",
        class: "constraint",
        codes: &["1048"],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES (4, NULL)"),
    },
    Case {
        name: "missing value",
        class: "constraint",
        codes: &["1364"],
        provoke: |stage| stage.fails("INSERT INTO accounts (id) VALUES (4)"),
    },
    Case {
        name: "check violation",
        class: "constraint",
        codes: &["3819", "4025"],
        provoke: |stage| {
            stage.before("ALTER TABLE accounts ADD CHECK (balance >= 0)");
            stage.fails("UPDATE accounts SET balance = -1")
        },
    },
    Case {
        name: "syntax error",
        class: "permanent",
        codes: &["1064"],
        provoke: |stage| stage.fails("SELEC 1"),
    },
    Case {
        name: "missing table",
        class: "permanent",
        codes: &["1146"],
        provoke: |stage| stage.fails("SELECT * FROM nowhere"),
    },
    Case {
        name: "missing column",
        class: "unknown",
        codes: &[""],
        provoke: |stage| stage.fails("SELECT nothing FROM accounts"),
    },
    Case {
        name: "division by zero",
        class: "unknown",
        codes: &[""],
        provoke: |stage| stage.fails("UPDATE accounts SET balance = balance / 0"),
    },
    Case {
        name: "too large a number",
        class: "unknown",
        codes: &[""],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES (99999999999, 0)"),
    },
    Case {
        name: "lock timeout",
        class: "lock_timeout",
        codes: &["1205"],
        provoke: |stage| {
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 0");
            stage.before("SET innodb_lock_wait_timeout = 1; BEGIN");
            stage.fails("UPDATE accounts SET balance = 1")
        },
    },
    Case {
        name: "no wait",
        class: "lock_timeout",
        codes: &["1205", "3572"],
        provoke: |stage| {
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 0");
            stage.fails("SELECT * FROM accounts FOR UPDATE NOWAIT")
        },
    },
    Case {
        name: "metadata lock timeout",
        class: "lock_timeout",
        codes: &["1205"],
        provoke: |stage| {
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 0");
            stage.before("SET lock_wait_timeout = 1");
            stage.fails("ALTER TABLE accounts ADD COLUMN note INTEGER")
        },
    },
    Case {
        name: "statement timeout",
        class: "statement_timeout",
        codes: &["1969", "3024"],
        provoke: |stage| {
            stage.before(
                "SET /*M!100100 max_statement_time=0.02 *//*!80000 max_execution_time=20 */",
            );
            stage.fails(
                "SELECT count(*) FROM information_schema.columns a, \
                 information_schema.columns b, information_schema.columns c",
            )
        },
    },
    Case {
        name: "read-only transaction",
        class: "read_only_server",
        codes: &["1792"],
        provoke: |stage| {
            stage.before("START TRANSACTION READ ONLY");
            stage.fails("UPDATE accounts SET balance = 0")
        },
    },
    Case {
        name: "deadlock",
        class: "deadlock",
        codes: &["1213"],
        provoke: |stage| {
            stage.before("BEGIN; UPDATE accounts SET balance = 1 WHERE id = 1");
            stage.meanwhile("BEGIN").meanwhile(BALLAST);
            stage.meanwhile("UPDATE accounts SET balance = 2 WHERE id = 2");
            stage
                .opponent
                .start("UPDATE accounts SET balance = 2 WHERE id = 1");
            stage.bed.wait_until_blocked(stage.opponent.id());
            stage.fails("UPDATE accounts SET balance = 1 WHERE id = 2")
        },
    },
    Case {
        name: "missing savepoint",
        class: "transaction_lost",
        codes: &["1305"],
        provoke: |stage| {
            stage.before("BEGIN");
            stage.fails_in_batch("ROLLBACK TO SAVEPOINT nowhere")
        },
    },
    Case {
        name: "statement killed",
        class: "canceled",
        codes: &["1317"],
        provoke: |stage| stage.fails("KILL QUERY CONNECTION_ID()"),
    },
    Case {
        name: "session killed in a statement",
        class: "connection_lost",
        codes: &["2006", "2013"],
        provoke: |stage| {
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 0");
            let (bed, session) = (stage.bed.clone(), stage.number(SESSION));
            let killer = std::thread::spawn(move || {
                bed.wait_until_blocked(session);
                bed.kill(session);
            });
            let failed = stage.fails("UPDATE accounts SET balance = 1");
            killer.join().expect("no panic");
            failed
        },
    },
    Case {
        name: "session killed while idle",
        class: "connection_lost",
        codes: &["2006", "2013"],
        provoke: |stage| {
            let session = stage.number(SESSION);
            stage.bed.kill(session);
            stage.wait_until_gone(session);
            stage.fails("SELECT 1")
        },
    },
];
