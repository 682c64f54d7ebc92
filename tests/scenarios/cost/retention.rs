//! What it costs to forget: with a million entries no call takes long, whether there is much to delete or
//! nothing.

use std::time::{Duration, Instant};

use dbop_diesel::{Dialect, Ledger};
use dbop_tests::Number;
use diesel::sql_query;

use super::{Bed, MODE, RunQueryDsl, Runner, SimpleConnection as _, backend, scenario};

const DAY: Duration = Duration::from_secs(86_400);

/// So long may a call take on a machine on which other tests are running. A call that reads the table row by
/// row from another machine, or waits for a lock, takes longer.
const LONG: Duration = Duration::from_secs(20);

const AT_ONCE: u32 = 20_000;

/// Both adapters send the same statement.
fn entries() -> u32 {
    match MODE {
        "sync" => 1_000_000,
        _ => 50_000,
    }
}

/// Fills the table: the entries are a second apart, the oldest ones first, so that a tenth of them are older
/// than a day. Each has an answer of 100 bytes.
fn fill(entries: u32) -> String {
    let oldest = 86_400 + entries / 10;
    let into = "INSERT INTO dbop_ledger (scope, id, state, changed_at, answer)";
    match backend::DIALECT {
        Dialect::Postgres => format!(
            "{into} SELECT decode('6b6579', 'hex'), decode(lpad(to_hex(n), 32, '0'), 'hex'), 1, \
             NOW() - ({oldest} - n) * INTERVAL '1 second', decode(repeat('61', 100), 'hex') \
             FROM generate_series(1, {entries}) AS n; ANALYZE dbop_ledger"
        ),
        // MariaDB and MySQL have no series in common. Some of them would be in the future: those are new.
        Dialect::Mysql => format!(
            "CREATE TABLE digits (d INT); INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9); \
             {into} SELECT X'6b6579', LPAD(n, 7, '0'), 1, \
             NOW(6) - INTERVAL ({oldest} - n) SECOND, REPEAT('a', 100) FROM (\
             SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS n \
             FROM digits a, digits b, digits c, digits d, digits e, digits f) AS numbers \
             WHERE n <= {entries}; ANALYZE TABLE dbop_ledger"
        ),
        _ => format!(
            "{into} WITH RECURSIVE numbers (n) AS (\
             SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {entries}) \
             SELECT X'6b6579', n, 1, \
             strftime('%Y-%m-%d %H:%M:%f', 'now', (n - {oldest}) || ' seconds'), \
             zeroblob(100) FROM numbers"
        ),
    }
}

#[scenario]
async fn a_million_entries_are_forgotten_in_bounded_portions() {
    let (bed, ledger, runner) = (Bed::new(), Ledger::new(), Runner::default());
    let mut conn = bed.connect();
    let create = ledger.create_table(backend::DIALECT);
    conn.batch_execute(&create).await.expect("a table");
    let entries = entries();
    conn.batch_execute(&fill(entries)).await.expect("entries");
    let mut forgotten = 0;
    for older_than in [10 * DAY, DAY] {
        loop {
            let begin = Instant::now();
            let operation = runner.forget(&mut conn, &ledger, older_than, AT_ONCE).await;
            let now = operation.expect("no error");
            assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
            assert!(now <= AT_ONCE as usize && older_than == DAY || now == 0);
            forgotten += now;
            if now < AT_ONCE as usize {
                break;
            }
        }
    }
    // Each second one more has become old.
    let old = entries as usize / 10;
    assert!((old..old + 600).contains(&forgotten), "{forgotten}");
    let left: Number = sql_query("SELECT count(*) AS n FROM dbop_ledger")
        .get_result(&mut conn)
        .await
        .expect("a number");
    assert_eq!(
        left.n,
        i64::from(entries) - i64::try_from(forgotten).expect("few")
    );
}
