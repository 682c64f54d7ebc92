use dbop_tests::{Number, Word, accounts};
use diesel::connection::SimpleConnection as _;
use diesel::{RunQueryDsl as _, sql_query};

use super::{Bed, Conn, VERSION, interruption, others, session_of};
use crate::storm::Outcome;
use crate::storm::backends::Ground;

/// A test bed, and a session of its own.
pub(in super::super) struct Here {
    bed: Bed,
    conn: Conn,
}

impl Here {
    pub(in super::super) fn new() -> Outcome<Self> {
        let bed = Bed::new();
        let mut conn = bed.connect();
        // The bed has three of them.
        diesel::insert_into(accounts::table)
            .values((
                diesel::ExpressionMethods::eq(accounts::id, 4),
                diesel::ExpressionMethods::eq(accounts::balance, 100),
            ))
            .execute(&mut conn)?;
        Ok(Self { bed, conn })
    }
}

impl Ground for Here {
    fn url(&self) -> &str {
        self.bed.url()
    }

    fn session(&self) -> String {
        session_of(self.bed.url())
    }

    fn server(&mut self) -> Outcome<String> {
        let version: Word = sql_query(VERSION).get_result(&mut self.conn)?;
        Ok(version.s)
    }

    fn money(&mut self) -> Outcome<i64> {
        let balances: Vec<i64> =
            diesel::QueryDsl::select(accounts::table, accounts::balance).load(&mut self.conn)?;
        Ok(balances.iter().sum())
    }

    fn connect(&mut self) {
        self.conn = self.bed.connect();
    }

    fn interrupt(&mut self) -> Outcome<()> {
        let sessions: Vec<Number> = sql_query(others(self.bed.url())).load(&mut self.conn)?;
        for session in sessions {
            // It may have ended by itself.
            _ = self.conn.batch_execute(&interruption(session.n));
        }
        Ok(())
    }
}
