//! What MySQL and MariaDB are asked.

use std::sync::atomic::{AtomicBool, Ordering};

use dbop_core::machine::{Batch, BatchPurpose};
use dbop_core::{Code, Dialect, FaultClass};
use diesel::connection::LoadConnection;
use diesel::mysql::Mysql;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::Error;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use crate::fault::fault_of;

/// Asks how many statements this session has prepared.
///
/// Diesel may cache the question. Where it does, a second answer is the same as the first; where the
/// cache is off, the question itself adds one.
#[derive(Clone, Copy, Debug, QueryId)]
pub struct PreparedSoFar;

impl Query for PreparedSoFar {
    type SqlType = (Text, Text);
}

impl QueryFragment<Mysql> for PreparedSoFar {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Mysql>) -> QueryResult<()> {
        pass.push_sql("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'");
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for PreparedSoFar {}

/// Whether the servers of this process have compound statements outside of stored programs. MariaDB has.
static HAS_COMPOUND: AtomicBool = AtomicBool::new(true);

/// Sends a batch as one compound statement, unless a server has refused that before. What it refuses to
/// prepare has not run, and is sent as text.
pub fn send_as_one<C>(conn: &mut C, batch: Batch<'_>) -> QueryResult<()>
where
    C: LoadConnection<Backend = Mysql>,
{
    if !HAS_COMPOUND.load(Ordering::Relaxed) {
        return conn.batch_execute(batch.sql);
    }
    let Err(error) = Compound(batch.sql).execute(conn) else {
        return Ok(());
    };
    if !is_unknown_to_server(&error, batch.purpose) {
        return Err(error);
    }
    // What has begun to run must not be sent again: it would keep the values that it has set itself.
    let is_named = fault_of(Dialect::Mysql, &error).is_some_and(|fault| fault.code().is_some());
    if !is_named && Compound("DO 0").execute(conn).is_ok() {
        return Err(error);
    }
    conn.batch_execute(batch.sql)?;
    HAS_COMPOUND.store(false, Ordering::Relaxed);
    Ok(())
}

/// Whether the server does not know compound statements, or says in a text that dbop does not know what has
/// failed where nothing was committed.
fn is_unknown_to_server(error: &Error, purpose: BatchPurpose) -> bool {
    let Some(fault) = fault_of(Dialect::Mysql, error) else {
        return false;
    };
    match fault.code() {
        Some(code) => code == Code::Errno(1064),
        None => purpose != BatchPurpose::Commit && fault.class() == FaultClass::Unknown,
    }
}

/// Statements as one, which MariaDB executes until one of them fails. Diesel prepares it once for each
/// connection, unless its cache is off.
#[derive(Clone, Copy, Debug)]
struct Compound<'a>(&'a str);

impl QueryId for Compound<'_> {
    type QueryId = ();

    // The text tells them apart.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Mysql> for Compound<'_> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Mysql>) -> QueryResult<()> {
        pass.push_sql("BEGIN NOT ATOMIC ");
        pass.push_sql(self.0);
        pass.push_sql("; END");
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for Compound<'_> {}
