//! Old entries of a ledger are deleted while it is in use: what another transaction is about to write is
//! neither waited for nor deleted. And the table of an earlier version is migrated while it is in use.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Dialect, Ledger, OperationError as _};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, Number};
use diesel::{QueryResult, sql_query};

use super::ledger::with_table;
use super::money::add;
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, backend, helper,
    scenario, together,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The scope of the tokens, and one of keys.
const TOKENS: &str = "64626f70";
const KEYS: &str = "6b657973";

fn bytes(digits: &str) -> String {
    match backend::DIALECT {
        Dialect::Mysql => format!("X'{digits}'"),
        _ => format!("decode('{digits}', 'hex')"),
    }
}

fn is_entry(scope: &str, id: u8) -> String {
    let id = bytes(&format!("{id:02x}"));
    format!("scope = {} AND id = {id}", bytes(scope))
}

/// An entry in a state that was written so many hours ago.
fn entry(scope: &str, id: u8, state: u8, hours: u32) -> String {
    let at = match backend::DIALECT {
        Dialect::Mysql => format!("NOW(6) - INTERVAL {hours} HOUR"),
        _ => format!("NOW() - INTERVAL '{hours} hours'"),
    };
    let (scope, id) = (bytes(scope), bytes(&format!("{id:02x}")));
    format!(
        "INSERT INTO dbop_ledger (scope, id, state, changed_at) VALUES ({scope}, {id}, {state}, {at})"
    )
}

#[helper]
async fn count(conn: &mut Conn, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) AS n FROM dbop_ledger WHERE {condition}");
    let row: Number = sql_query(sql).get_result(conn).await.expect("a number");
    row.n
}

/// Sets the level of the session, and how long it waits.
fn session(level: &str) -> String {
    match backend::DIALECT {
        Dialect::Mysql => format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL {level}; SET SESSION innodb_lock_wait_timeout = 1"
        ),
        _ => format!(
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}; SET lock_timeout = '1s'"
        ),
    }
}

/// Whatever the session's level is. One entry under way is new, one takes the place of an old one that is
/// vacant, one is deleted, one is read and locked. None of them is waited for, and none of the free ones is
/// missed.
#[scenario]
async fn what_is_under_way_is_neither_waited_for_nor_forgotten() {
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let (bed, ledger) = (with_table().await, Ledger::new());
        let mut conn = bed.connect();
        conn.batch_execute(&session(level))
            .await
            .expect("a session");
        for id in 1..=8 {
            let sql = entry(KEYS, id, 2, 25);
            conn.batch_execute(&sql).await.expect("an entry");
        }
        let now = match backend::DIALECT {
            Dialect::Mysql => "NOW(6)",
            _ => "NOW()",
        };
        let writer = bed.opponent();
        writer.execute(&format!(
            "BEGIN; {}; UPDATE dbop_ledger SET state = 0, changed_at = {now} WHERE {}; \
             DELETE FROM dbop_ledger WHERE {}",
            entry(KEYS, 9, 0, 25),
            is_entry(KEYS, 3),
            is_entry(KEYS, 5)
        ));
        let reader = bed.opponent();
        let locked = is_entry(KEYS, 7);
        reader.execute(&format!(
            "BEGIN; SELECT state FROM dbop_ledger WHERE {locked} FOR UPDATE"
        ));
        let runner = Runner::default().with_default_lock_timeout(None);
        for expected in [3, 2, 0] {
            let operation = runner.forget(&mut conn, &ledger, DAY, 3).await;
            assert_eq!(operation, Ok(expected), "{level}");
        }
        writer.execute("COMMIT");
        reader.execute("COMMIT");
        for id in [3, 7, 9] {
            assert_eq!(
                count(&mut conn, &is_entry(KEYS, id)).await,
                1,
                "{level}: {id}"
            );
        }
        assert_eq!(count(&mut conn, "state < 3").await, 3);
        // What has been written is new, the others are old still.
        let forgotten = runner.forget(&mut conn, &ledger, DAY, 10).await;
        assert_eq!(forgotten, Ok(2), "{level}");
    }
}

/// An operation in progress can still ask for its token, so that is kept for a day at least.
#[scenario]
async fn tokens_are_kept_for_a_day() {
    let (bed, ledger, runner) = (with_table().await, Ledger::new(), Runner::default());
    let mut conn = bed.connect();
    for scope in [TOKENS, KEYS] {
        for (id, hours) in [(1, 2), (2, 25)] {
            let sql = entry(scope, id, 1, hours);
            conn.batch_execute(&sql).await.expect("an entry");
        }
    }
    let forgotten = runner.forget(&mut conn, &ledger, 2 * DAY, 10).await;
    assert_eq!(forgotten, Ok(0));
    let forgotten = runner.forget(&mut conn, &ledger, HOUR, 10).await;
    assert_eq!(forgotten, Ok(3));
    assert_eq!(count(&mut conn, &is_entry(TOKENS, 1)).await, 1);
}

/// Its level would be that of the transaction, and its locks would be kept until the end of that.
#[scenario]
async fn in_an_open_transaction_nothing_is_forgotten() {
    let (bed, ledger, runner) = (with_table().await, Ledger::new(), Runner::default());
    let mut conn = bed.connect();
    let sql = entry(KEYS, 1, 1, 25);
    conn.batch_execute(&sql).await.expect("an entry");
    let refused: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            runner.forget(conn, &ledger, DAY, 10).await
        })
        .await;
    let error = refused.expect_err("a setting that is not possible");
    assert!(
        error
            .dbop_error()
            .is_some_and(|own| own.is_unsupported_setting()),
        "{error}"
    );
    assert_eq!(count(&mut conn, "state = 1").await, 1);
}

/// Several processes do it at the same time, while operations use the ledger. No one fails, and no entry is
/// counted twice.
#[scenario]
async fn while_in_use_by_several_at_once() {
    let (bed, ledger) = (with_table().await, Ledger::new());
    let mut conn = bed.connect();
    for id in 0..200 {
        let sql = entry(KEYS, id, 1, 25);
        conn.batch_execute(&sql).await.expect("an entry");
    }
    let source = async || Conn::establish(bed.url()).await;
    // A deadlock or a lock timeout would be an error.
    let runner = Runner::default().with_default_lock_timeout(Duration::from_secs(5));
    let (forgotten, (also_forgotten, paid)) = together(
        async || {
            let (mut conn, mut all) = (bed.connect(), 0);
            for _ in 0..130 {
                let operation = runner.forget(&mut conn, &ledger, DAY, 3).await;
                all += operation.expect("no error");
            }
            all
        },
        async || {
            let (mut conn, mut all, mut paid) = (bed.connect(), 0, 0);
            for _ in 0..130 {
                let operation = runner.forget(&mut conn, &ledger, DAY, 3).await;
                all += operation.expect("no error");
                let pay = runner.operation("pay").max_retries(0).ledger(&ledger);
                let done = pay.run_on(&source, async |conn: &mut Conn| add(conn, 1, 1).await);
                paid += done.await.expect("no error");
            }
            (all, paid)
        },
    )
    .await;
    assert_eq!((forgotten + also_forgotten, paid), (200, 130));
    assert_eq!(bed.balances()[0], (1, 230));
    assert_eq!(
        count(&mut conn, &format!("scope = {}", bytes(KEYS))).await,
        0
    );
}

/// Where the session's clock shows something else, and where an hour of its time is there twice.
#[scenario]
async fn the_time_zone_of_the_session_changes_nothing() {
    let (bed, ledger, runner) = (with_table().await, Ledger::new(), Runner::default());
    let mut conn = bed.connect();
    let zones = match backend::DIALECT {
        Dialect::Mysql => ["SET time_zone = '-12:00'", "SET time_zone = '+13:00'"],
        _ => [
            "SET TIME ZONE 'America/New_York'",
            "SET TIME ZONE 'Pacific/Apia'",
        ],
    };
    for (id, zone) in (1..).zip(zones) {
        let sql = entry(KEYS, id, 1, 25);
        conn.batch_execute(&sql).await.expect("an entry");
        let sql = entry(KEYS, id + 100, 1, 23);
        conn.batch_execute(&sql).await.expect("an entry");
        conn.batch_execute(zone).await.expect("a time zone");
        let forgotten = runner.forget(&mut conn, &ledger, DAY, 10).await;
        assert_eq!(forgotten, Ok(1), "{zone}");
    }
}

/// The table as it was without columns for keys.
const BEFORE: &str = match backend::DIALECT {
    Dialect::Mysql => {
        "CREATE TABLE dbop_ledger (\
         scope VARBINARY(64) NOT NULL, id VARBINARY(255) NOT NULL, \
         state TINYINT NOT NULL DEFAULT 0, \
         changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
         PRIMARY KEY (scope, id)) ENGINE=InnoDB"
    }
    _ => {
        "CREATE TABLE dbop_ledger (\
         scope BYTEA NOT NULL, id BYTEA NOT NULL, state SMALLINT NOT NULL DEFAULT 0, \
         changed_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP, \
         PRIMARY KEY (scope, id))"
    }
};

/// How many indexes there are, the primary key included.
const INDEXES: &str = match backend::DIALECT {
    Dialect::Mysql => {
        "SELECT count(DISTINCT index_name) AS n FROM information_schema.statistics \
         WHERE table_schema = DATABASE() AND table_name = 'dbop_ledger'"
    }
    _ => "SELECT count(*) AS n FROM pg_index WHERE indrelid = 'dbop_ledger'::regclass",
};

#[helper]
async fn indexes(bed: &Bed) -> i64 {
    let row: Number = sql_query(INDEXES)
        .get_result(&mut bed.connect())
        .await
        .expect("a number");
    row.n
}

/// Sent again, it waits for no session.
#[scenario]
async fn an_older_table_is_migrated_and_keeps_its_entries() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(BEFORE).await.expect("a table");
    let sql = entry(KEYS, 1, 1, 25);
    conn.batch_execute(&sql).await.expect("an entry");
    assert_eq!(indexes(&bed).await, 1);
    let ledger = Ledger::new();
    let migrate = ledger.migrate_table(backend::DIALECT);
    let writer = bed.opponent();
    for is_in_use in [false, true] {
        if is_in_use {
            let sql = entry(KEYS, 2, 0, 0);
            writer.execute(&format!("BEGIN; {sql}"));
        }
        let wait = match backend::DIALECT {
            Dialect::Mysql => "SET SESSION lock_wait_timeout = 1",
            _ => "SET lock_timeout = '1s'",
        };
        conn.batch_execute(wait).await.expect("a setting");
        let create = ledger.create_table(backend::DIALECT);
        for sql in [&create, &migrate] {
            conn.batch_execute(sql).await.expect("it does not wait");
        }
        assert_eq!(indexes(&bed).await, 2);
    }
    writer.execute("ROLLBACK");
    let sql = "UPDATE dbop_ledger SET token = NULL, fingerprint = NULL, answer = NULL";
    conn.batch_execute(sql).await.expect("its columns");
    let paid = Runner::default()
        .operation("pay")
        .ledger(&ledger)
        .run_on(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_eq!(paid, Ok(1));
    let forgotten = Runner::default().forget(&mut conn, &ledger, DAY, 10).await;
    assert_eq!(forgotten, Ok(1));
}

/// Every statement about the tokens finds it.
#[scenario]
async fn in_a_table_with_another_name_everything_is_done_once() {
    for (cut, times) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        let bed = Bed::new();
        let ledger = Ledger::named("Order");
        let mut conn = bed.connect();
        let create = ledger.create_table(backend::DIALECT);
        conn.batch_execute(&create).await.expect("a table");
        let proxy = Proxy::start(bed.url());
        let bodies = AtomicU32::new(0);
        let runner = Runner::default().with_clock(InstantClock::new());
        let source = async || Conn::establish(proxy.url()).await;
        // The last one deletes the tokens of those before it, too.
        for number in 0..=64 {
            if number == 63 {
                _ = proxy.cut(When::commit(), cut);
            }
            let body = async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 1).await
            };
            let paid = runner
                .operation("pay")
                .ledger(&ledger)
                .run_on(&source, body);
            assert_eq!(paid.await, Ok(1), "{cut:?}: {number}");
        }
        assert_eq!(bodies.into_inner(), 64 + times, "{cut:?}");
        assert_eq!(bed.balances()[0], (1, 165), "{cut:?}");
        let quote = match backend::DIALECT {
            Dialect::Mysql => '`',
            _ => '"',
        };
        let sql = format!("SELECT count(*) AS n FROM {quote}Order{quote}");
        let left: Number = sql_query(sql)
            .get_result(&mut conn)
            .await
            .expect("a number");
        assert_eq!(
            left.n,
            i64::from(times),
            "its own, and a token that is never committed"
        );
    }
}
