//! Migrations in an operation: their error has no source, and hides Diesel's.

use std::error::Error;
use std::time::Duration;

use dbop_diesel::{FaultClass, Runner};
use dbop_tests::Meanwhile;
use dbop_tests::postgres::Bed;
use diesel_migrations::{FileBasedMigrations, MigrationHarness as _};

#[test]
fn a_migration_that_does_not_get_its_lock_is_retried() {
    let folder = tempfile::tempdir().expect("a folder");
    let migration = folder.path().join("2026-01-01-000000_note");
    std::fs::create_dir(&migration).expect("a folder");
    for (file, sql) in [
        ("up.sql", "ALTER TABLE accounts ADD COLUMN note TEXT;"),
        ("down.sql", "ALTER TABLE accounts DROP COLUMN note;"),
    ] {
        std::fs::write(migration.join(file), sql).expect("a file");
    }
    let migrations = FileBasedMigrations::from_path(folder.path()).expect("migrations");

    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = 7 WHERE id = 1");
    let clock = Meanwhile::new(move |sleep| {
        if sleep == 3 {
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
    assert_eq!(report.attempts, 4);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
}
