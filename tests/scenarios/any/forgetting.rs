//! The ledger's table: it can have another name, several sessions create it at once, and entries that are old
//! are deleted, at most so many at a time.

use std::time::Duration;

use dbop_diesel::{Dialect, Ledger};
use dbop_tests::Number;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::{Bed, Conn, RunQueryDsl, Runner, SimpleConnection as _, backend, helper, scenario};

const HOUR: i32 = 3600;
const DAY: Duration = Duration::from_secs(86_400);

/// A new table of this name in a bed.
#[helper]
async fn create(conn: &mut Conn, ledger: &Ledger) {
    let sql = ledger.create_table(backend::DIALECT);
    conn.batch_execute(&sql).await.expect("a table");
}

/// Bytes in SQL.
fn bytes(digits: &str) -> String {
    match backend::DIALECT {
        Dialect::Postgres => format!("decode('{digits}', 'hex')"),
        _ => format!("X'{digits}'"),
    }
}

/// An entry that was completed so many seconds ago.
fn entry(table: &str, id: u8, age: i32) -> String {
    let at = match backend::DIALECT {
        Dialect::Postgres => format!("NOW() - INTERVAL '{age} seconds'"),
        Dialect::Mysql => format!("NOW(6) - INTERVAL {age} SECOND"),
        _ => format!("strftime('%Y-%m-%d %H:%M:%f', 'now', '{} seconds')", -age),
    };
    let (scope, id) = (bytes("70"), bytes(&format!("{id:02x}")));
    format!("INSERT INTO {table} (scope, id, state, changed_at) VALUES ({scope}, {id}, 1, {at})")
}

#[helper]
async fn count(conn: &mut Conn, table: &str, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) AS n FROM {table} WHERE {condition}");
    let row: Number = sql_query(sql).get_result(conn).await.expect("a number");
    row.n
}

/// By the clock of the server alone: one that has been set back is waited for.
#[scenario]
async fn what_is_old_is_forgotten_and_not_more_than_asked_for() {
    let (bed, ledger, runner) = (Bed::new(), Ledger::new(), Runner::default());
    let mut conn = bed.connect();
    create(&mut conn, &ledger).await;
    for (id, age) in [
        (1, 25 * HOUR),
        (2, 25 * HOUR),
        (3, 25 * HOUR),
        (4, 23 * HOUR),
        (5, 2),
        (6, -48 * HOUR),
    ] {
        let sql = entry("dbop_ledger", id, age);
        conn.batch_execute(&sql).await.expect("an entry");
    }
    let hour = Duration::from_secs(3600);
    for (older_than, at_most, forgotten, left) in [
        (Duration::MAX, 100, 0, 6),
        (DAY, 0, 0, 6),
        (DAY, 2, 2, 4),
        (DAY, 2, 1, 3),
        (DAY, 2, 0, 3),
        (hour, 2, 1, 2),
        (Duration::ZERO, u32::MAX, 1, 1),
    ] {
        let now = runner.forget(&mut conn, &ledger, older_than, at_most).await;
        assert_eq!(now, Ok(forgotten), "{older_than:?}, {at_most}");
        assert_eq!(count(&mut conn, "dbop_ledger", "state = 1").await, left);
    }
    let id = format!("id = {}", bytes("06"));
    assert_eq!(count(&mut conn, "dbop_ledger", &id).await, 1);
}

#[derive(diesel::QueryableByName)]
struct Schema {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Upper and lower case, a reserved word, a hyphen, with a schema and without one.
#[scenario]
async fn a_table_can_have_another_name() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let (schema, quote) = match backend::DIALECT {
        Dialect::Postgres => ("CAST(current_schema() AS TEXT)", '"'),
        Dialect::Mysql => ("DATABASE()", '`'),
        _ => ("'main'", '"'),
    };
    let schema: Schema = sql_query(format!("SELECT {schema} AS name"))
        .get_result(&mut conn)
        .await
        .expect("a schema");
    let runner = Runner::default();
    for name in ["Order".to_owned(), format!("{}.Ledger-1", schema.name)] {
        let parts: Vec<_> = name.split('.').collect();
        let quoted = parts.join(&format!("{quote}.{quote}"));
        let quoted = format!("{quote}{quoted}{quote}");
        let ledger = Ledger::named(Box::leak(name.into_boxed_str()));
        for _ in 0..2 {
            create(&mut conn, &ledger).await;
        }
        let migrate = ledger.migrate_table(backend::DIALECT);
        if !migrate.is_empty() {
            conn.batch_execute(&migrate).await.expect("nothing to do");
        }
        for (id, age) in [(1, 25 * HOUR), (2, 23 * HOUR)] {
            let sql = entry(&quoted, id, age);
            conn.batch_execute(&sql).await.expect("an entry");
        }
        let forgotten = runner.forget(&mut conn, &ledger, DAY, 10).await;
        assert_eq!(forgotten, Ok(1));
        assert_eq!(count(&mut conn, &quoted, "state = 1").await, 1);
    }
    let other = runner.forget(&mut conn, &Ledger::new(), DAY, 10).await;
    let error = other.expect_err("no table of that name");
    assert!(error.to_string().contains("dbop_ledger"), "{error}");
}

#[scenario]
async fn the_table_is_created_by_one_of_many_at_once() {
    let bed = Bed::new();
    let create = Ledger::new().create_table(backend::DIALECT);
    for _ in 0..5 {
        bed.opponent().execute("DROP TABLE IF EXISTS dbop_ledger");
        let sessions: Vec<_> = (0..8).map(|_| bed.opponent()).collect();
        if backend::DIALECT == Dialect::Sqlite {
            for session in &sessions {
                session.execute("PRAGMA busy_timeout = 20000");
            }
        }
        for session in &sessions {
            session.start(&create);
        }
        for session in &sessions {
            assert_eq!(session.finish(), Ok(()));
        }
        let mut conn = bed.connect();
        assert_eq!(count(&mut conn, "dbop_ledger", "state = 1").await, 0);
    }
}
