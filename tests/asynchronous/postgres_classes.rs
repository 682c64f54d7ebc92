//! PostgreSQL's errors.

use dbop_diesel_async::Dialect;

use super::classes::{Case, are_the_same_from_both_adapters};

#[test]
fn every_error_is_the_same_from_both_adapters() {
    are_the_same_from_both_adapters(Dialect::Postgres, CASES);
}

/// The id of the session on the server.
const SESSION: &str = "SELECT pg_backend_pid()::bigint AS n";

const CASES: &[Case] = &[
    Case {
        name: "unique violation",
        class: "constraint",
        codes: &["23505"],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES (1, 1)"),
    },
    Case {
        name: "foreign key violation",
        class: "constraint",
        codes: &["23503"],
        provoke: |stage| {
            stage.before("CREATE TABLE owners (account INTEGER REFERENCES accounts (id))");
            stage.fails("INSERT INTO owners VALUES (99)")
        },
    },
    Case {
        name: "foreign key violation by a deletion",
        class: "constraint",
        codes: &["23503"],
        provoke: |stage| {
            stage.before(
                "CREATE TABLE owners (account INTEGER REFERENCES accounts (id)); \
                 INSERT INTO owners VALUES (1)",
            );
            stage.fails("DELETE FROM accounts WHERE id = 1")
        },
    },
    Case {
        name: "deferred foreign key violation",
        class: "constraint",
        codes: &["23503"],
        provoke: |stage| {
            stage.before(
                "CREATE TABLE owners (account INTEGER REFERENCES accounts (id) \
                 DEFERRABLE INITIALLY DEFERRED); BEGIN; INSERT INTO owners VALUES (99)",
            );
            stage.fails("COMMIT")
        },
    },
    Case {
        name: "not null violation",
        class: "constraint",
        codes: &["23502"],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES (4, NULL)"),
    },
    Case {
        name: "check violation",
        class: "constraint",
        codes: &["23514"],
        provoke: |stage| {
            stage.before("ALTER TABLE accounts ADD CHECK (balance >= 0)");
            stage.fails("UPDATE accounts SET balance = -1")
        },
    },
    Case {
        name: "exclusion violation",
        class: "constraint",
        codes: &["23P01"],
        provoke: |stage| {
            stage.before(
                "CREATE TABLE circles (c circle, EXCLUDE USING gist (c WITH &&)); \
                 INSERT INTO circles VALUES ('<(0,0),1>')",
            );
            stage.fails("INSERT INTO circles VALUES ('<(0,0),2>')")
        },
    },
    Case {
        name: "syntax error",
        class: "unknown",
        codes: &[""],
        provoke: |stage| stage.fails("SELEC 1"),
    },
    Case {
        name: "missing table",
        class: "unknown",
        codes: &[""],
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
        name: "no number",
        class: "unknown",
        codes: &[""],
        provoke: |stage| stage.fails("SELECT 'x'::text::integer"),
    },
    Case {
        name: "permission denied",
        class: "unknown",
        codes: &[""],
        provoke: |stage| {
            stage.before("SET ROLE pg_monitor");
            stage.fails("SELECT pg_read_file('x')")
        },
    },
    Case {
        name: "lock timeout",
        class: "lock_timeout",
        codes: &["55P03"],
        provoke: |stage| {
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 0");
            stage.before("SET lock_timeout = '20ms'; BEGIN");
            stage.fails("UPDATE accounts SET balance = 1")
        },
    },
    Case {
        name: "no wait",
        class: "lock_timeout",
        codes: &["55P03"],
        provoke: |stage| {
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 0");
            stage.fails("SELECT FROM accounts FOR UPDATE NOWAIT")
        },
    },
    Case {
        name: "no wait for a table",
        class: "lock_timeout",
        codes: &["55P03"],
        provoke: |stage| {
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 0");
            stage.before("BEGIN");
            stage.fails("LOCK TABLE accounts NOWAIT")
        },
    },
    Case {
        name: "statement timeout",
        class: "statement_timeout",
        codes: &["57014"],
        provoke: |stage| {
            stage.before("SET statement_timeout = '20ms'");
            stage.fails("SELECT pg_sleep(9)")
        },
    },
    Case {
        name: "cancelled",
        class: "canceled",
        codes: &["57014"],
        provoke: |stage| stage.fails("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(9)"),
    },
    Case {
        name: "read-only transaction",
        class: "read_only_server",
        codes: &["25006"],
        provoke: |stage| {
            stage.before("BEGIN READ ONLY");
            stage.fails("UPDATE accounts SET balance = 0")
        },
    },
    Case {
        name: "aborted transaction",
        class: "transaction_aborted",
        codes: &["25P02"],
        provoke: |stage| {
            stage.before("BEGIN");
            stage.fails("SELEC 1").expect_err("no SQL");
            stage.fails("SELECT 1")
        },
    },
    Case {
        name: "serialization failure",
        class: "serialization_failure",
        codes: &["40001"],
        provoke: |stage| {
            stage.before("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM accounts");
            stage.meanwhile("UPDATE accounts SET balance = 0");
            stage.fails("UPDATE accounts SET balance = 1")
        },
    },
    Case {
        name: "serialization failure by reading and writing",
        class: "serialization_failure",
        codes: &["40001"],
        provoke: |stage| {
            let read = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(balance) FROM accounts";
            stage.before(read).meanwhile(read);
            stage.meanwhile("UPDATE accounts SET balance = 0 WHERE id = 1; COMMIT");
            stage.fails("UPDATE accounts SET balance = 0 WHERE id = 2")
        },
    },
    Case {
        name: "deadlock",
        class: "deadlock",
        codes: &["40P01"],
        provoke: |stage| {
            stage.before("SET deadlock_timeout = '10ms'");
            stage.before("BEGIN; UPDATE accounts SET balance = 1 WHERE id = 1");
            stage.meanwhile("BEGIN; UPDATE accounts SET balance = 2 WHERE id = 2");
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
        codes: &["3B001"],
        provoke: |stage| {
            stage.before("BEGIN");
            stage.fails("ROLLBACK TO SAVEPOINT nowhere")
        },
    },
    Case {
        name: "stale plan",
        class: "stale_plan",
        codes: &["0A000"],
        provoke: |stage| {
            stage.before("PREPARE plan AS SELECT * FROM accounts");
            stage.meanwhile("ALTER TABLE accounts ADD COLUMN note TEXT");
            stage.fails("EXECUTE plan")
        },
    },
    Case {
        name: "session ended by itself",
        class: "connection_lost",
        codes: &["57P01"],
        provoke: |stage| stage.fails("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(9)"),
    },
    Case {
        name: "session ended while idle",
        class: "connection_lost",
        codes: &["57P01"],
        provoke: |stage| {
            let session = stage.number(SESSION);
            stage.bed.kill(session);
            stage.wait_until_gone(session);
            stage.fails("SELECT 1")
        },
    },
    Case {
        name: "session ended for idling in a transaction",
        class: "connection_lost",
        codes: &["25P03"],
        provoke: |stage| {
            let session = stage.number(SESSION);
            stage.before("SET idle_in_transaction_session_timeout = '10ms'; BEGIN");
            stage.wait_until_gone(session);
            stage.fails("SELECT 1")
        },
    },
];
