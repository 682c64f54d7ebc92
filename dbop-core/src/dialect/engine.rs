//! Which server it is, of those that speak a protocol, and what dbop may send to it.

use std::fmt;

use super::Dialect;

/// The server, of those that speak one of the protocols: they differ in what they understand and what they
/// keep.
///
/// A runner takes it for the server after which the protocol is named, unless its `with_engine` says
/// otherwise. The page about engines says which of them were measured.
///
/// ```
/// use dbop_core::{Dialect, Engine};
///
/// assert_eq!(Engine::Vitess.dialect(), Dialect::Mysql);
/// assert_eq!(Engine::Vitess.as_str(), "vitess");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// PostgreSQL, and what is made of it: Aurora PostgreSQL, AlloyDB, Azure, Citus, Neon, Supabase.
    Postgres,
    /// MySQL, and what is made of it: Aurora MySQL, Azure, Group Replication.
    MySql,
    /// MariaDB.
    MariaDb,
    /// A Galera cluster of MariaDB or MySQL.
    Galera,
    /// CockroachDB.
    CockroachDb,
    /// YugabyteDB, by its YSQL.
    Yugabyte,
    /// Amazon Aurora DSQL.
    AuroraDsql,
    /// TiDB.
    TiDb,
    /// Vitess, and PlanetScale.
    Vitess,
}

impl Engine {
    /// All of them, in the order of their declaration.
    #[cfg(test)]
    pub(super) const ALL: [Self; 9] = [
        Self::Postgres,
        Self::MySql,
        Self::MariaDb,
        Self::Galera,
        Self::CockroachDb,
        Self::Yugabyte,
        Self::AuroraDsql,
        Self::TiDb,
        Self::Vitess,
    ];

    /// The protocol that it speaks.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Postgres | Self::CockroachDb | Self::Yugabyte | Self::AuroraDsql => {
                Dialect::Postgres
            }
            Self::MySql | Self::MariaDb | Self::Galera | Self::TiDb | Self::Vitess => {
                Dialect::Mysql
            }
        }
    }

    /// The name used in errors, such as `cockroachdb`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
            Self::Galera => "galera",
            Self::CockroachDb => "cockroachdb",
            Self::Yugabyte => "yugabytedb",
            Self::AuroraDsql => "aurora dsql",
            Self::TiDb => "tidb",
            Self::Vitess => "vitess",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a server does with a transaction that is to be read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOnly {
    /// It refuses writes in it.
    Enforced,
    /// It understands it, and may let writes through.
    NotProven,
    /// It does not understand it, or lets writes through.
    Refused,
}

/// Where a runner's operations go: which server it is, and whether a pooler is in between that lends its
/// connections to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// `None`: the one after which the dialect is named.
    pub(crate) engine: Option<Engine>,
    pub(crate) pooler_safe: bool,
}

impl Profile {
    /// Whether there are savepoints. Without them an operation cannot be part of another transaction.
    pub(super) const fn has_savepoints(self) -> bool {
        !matches!(self.engine, Some(Engine::AuroraDsql))
    }

    /// Whether settings and user variables of the session may be changed for a while. In Vitess each of them
    /// takes a connection of its own for good.
    pub(super) const fn may_set_session(self) -> bool {
        !self.pooler_safe && !matches!(self.engine, Some(Engine::Vitess))
    }

    /// Whether deferred constraints can be checked before the COMMIT. Where there is no SET CONSTRAINTS, no
    /// constraint can be deferred.
    pub(super) const fn has_set_constraints(self) -> bool {
        !matches!(self.engine, Some(Engine::CockroachDb | Engine::AuroraDsql))
    }

    /// Whether a read-only transaction proves that nothing was written.
    pub(super) const fn read_only(self) -> ReadOnly {
        match self.engine {
            Some(Engine::TiDb) => ReadOnly::Refused,
            // DDL first commits it, or there is no savepoint that keeps the operation from making it
            // read-write.
            Some(Engine::CockroachDb | Engine::AuroraDsql | Engine::Vitess) => ReadOnly::NotProven,
            _ => ReadOnly::Enforced,
        }
    }

    /// PostgreSQL: whether DDL commits the transaction, and what should fail without one is a warning then.
    const fn ddl_commits(self) -> bool {
        matches!(self.engine, Some(Engine::CockroachDb))
    }

    /// PostgreSQL: whether a setting that ends with the transaction shows that it is the one that was opened,
    /// because a savepoint cannot.
    pub(super) const fn has_mark(self) -> bool {
        !self.has_savepoints() || self.ddl_commits()
    }

    /// Whether statements wait for locks. Without locks there is nothing to limit.
    pub(super) const fn has_locks(self) -> bool {
        !matches!(self.engine, Some(Engine::AuroraDsql))
    }

    /// Whether the isolation level of a transaction can be chosen.
    pub(super) const fn has_levels(self) -> bool {
        !matches!(self.engine, Some(Engine::AuroraDsql | Engine::Vitess))
    }

    /// PostgreSQL: whether a session can make its transactions deferrable by default.
    pub(super) const fn has_default_deferrable(self) -> bool {
        !matches!(self.engine, Some(Engine::CockroachDb))
    }

    /// Whether a timeout is a number of milliseconds when it is read, where PostgreSQL adds a unit.
    pub(super) const fn may_leave_out_units(self) -> bool {
        matches!(self.engine, Some(Engine::CockroachDb))
    }

    /// Whether the columns and functions are there by which PostgreSQL tells one transaction from another.
    pub(crate) const fn has_transaction_ids(self) -> bool {
        !matches!(
            self.engine,
            Some(Engine::CockroachDb | Engine::Yugabyte | Engine::AuroraDsql)
        )
    }

    /// MySQL: what follows COMMIT and ROLLBACK, so that the session's `completion_type` does not count. Vitess
    /// has neither those words nor that setting.
    pub(super) const fn end_words(self) -> &'static str {
        match self.engine {
            Some(Engine::Vitess) => "",
            _ => " AND NO CHAIN NO RELEASE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the page about engines says of each.
    #[test]
    fn five_questions_have_an_answer_for_each_engine() {
        let answers = Engine::ALL.map(|engine| {
            let profile = Profile {
                engine: Some(engine),
                pooler_safe: false,
            };
            (
                engine.as_str(),
                profile.has_savepoints(),
                profile.may_set_session(),
                profile.has_set_constraints(),
                profile.read_only(),
                profile.ddl_commits(),
            )
        });
        use ReadOnly::{Enforced, NotProven, Refused};
        let expected = [
            ("postgresql", true, true, true, Enforced, false),
            ("mysql", true, true, true, Enforced, false),
            ("mariadb", true, true, true, Enforced, false),
            ("galera", true, true, true, Enforced, false),
            ("cockroachdb", true, true, false, NotProven, true),
            ("yugabytedb", true, true, true, Enforced, false),
            ("aurora dsql", false, true, false, NotProven, false),
            ("tidb", true, true, true, Refused, false),
            ("vitess", true, false, true, NotProven, false),
        ];
        assert_eq!(answers, expected);
        let without_ids: Vec<_> = Engine::ALL
            .into_iter()
            .filter(|engine| {
                let profile = Profile {
                    engine: Some(*engine),
                    pooler_safe: false,
                };
                !profile.has_transaction_ids()
            })
            .map(Engine::as_str)
            .collect();
        assert_eq!(without_ids, ["cockroachdb", "yugabytedb", "aurora dsql"]);
    }

    #[test]
    fn a_runner_that_names_none_sends_what_the_server_of_that_name_gets() {
        let none = Profile::default();
        for engine in [
            Engine::Postgres,
            Engine::MySql,
            Engine::MariaDb,
            Engine::Galera,
        ] {
            let named = Profile {
                engine: Some(engine),
                ..none
            };
            let answers = |it: Profile| {
                let flags = [
                    it.has_savepoints(),
                    it.may_set_session(),
                    it.has_set_constraints(),
                    it.has_mark(),
                    it.has_locks(),
                    it.has_levels(),
                    it.may_leave_out_units(),
                    it.has_transaction_ids(),
                ];
                (flags, it.read_only(), it.end_words())
            };
            assert_eq!(answers(named), answers(none), "{engine}");
        }
    }
}
