//! Migrations in an operation: their error has no source, and hides Diesel's.

use std::error::Error;
use std::time::Duration;

use dbop_diesel::{FaultClass, Runner};
use dbop_tests::Meanwhile;
use dbop_tests::sqlite::Bed;
use diesel_migrations::{FileBasedMigrations, MigrationHarness as _};

#[test]
fn a_migration_that_finds_the_database_busy_is_retried() {
    let folder = tempfile::tempdir().expect("a folder");
    let migration = folder.path().join("2026-01-01-000000_more");
    std::fs::create_dir(&migration).expect("a folder");
    for (file, sql) in [
        ("up.sql", "CREATE TABLE more (id INTEGER PRIMARY KEY);"),
        ("down.sql", "DROP TABLE more;"),
    ] {
        std::fs::write(migration.join(file), sql).expect("a file");
    }
    let migrations = FileBasedMigrations::from_path(folder.path()).expect("migrations");

    let bed = Bed::new();
    let mut conn = bed.connect();
    // The table of migrations is there before: the migration itself is to fail.
    conn.has_pending_migration(migrations.clone()).expect("one");
    let opponent = bed.opponent();
    opponent.execute("BEGIN IMMEDIATE; UPDATE accounts SET balance = 7 WHERE id = 1");
    let clock = Meanwhile::new(move |sleep| {
        if sleep == 2 {
            opponent.execute("COMMIT");
        }
    });
    let report = Runner::default()
        .with_clock(clock)
        .operation("migrate")
        .lock_timeout(Duration::from_millis(50))
        .run_report(&mut conn, |conn| {
            let done = conn.run_pending_migrations(migrations.clone())?;
            Ok::<_, Box<dyn Error + Send + Sync>>(done.len())
        });
    assert_eq!(report.result.expect("migrated"), 1);
    assert_eq!(report.attempts, 3);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Busy);
}
