//! What a session is, read by somebody who knows nothing of dbop: all that the server shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use diesel::sql_types::BigInt;

/// Which server it is a session of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// SQLite.
    Sqlite,
}

impl Server {
    /// That of a target, by its name in records.
    ///
    /// # Panics
    ///
    /// If there is none with that name.
    #[must_use]
    pub fn of(backend: &str) -> Self {
        match backend {
            "postgresql" => Self::Postgres,
            "mysql" => Self::Mysql,
            "sqlite" => Self::Sqlite,
            other => panic!("which server is {other}?"),
        }
    }

    /// Shows every setting in one [`Word`](crate::Word), as [`Session::of`] reads it: a client built for tests
    /// takes longer over six hundred rows than the server.
    #[must_use]
    pub fn all_settings(self) -> String {
        let noise = NOISE.map(|name| format!("'{name}'")).join(", ");
        match self {
            // The characteristics of the present transaction, or of the next one where there is
            // none, are among them. What the view leaves out is asked for by name.
            Self::Postgres => format!(
                "SELECT string_agg(name || '=' || coalesce(value, 'NULL'), '{END}') AS s FROM \
                 (SELECT name, current_setting(name) AS value FROM pg_settings \
                 UNION ALL SELECT name, current_setting(name, true) \
                 FROM (VALUES ('role'), ('app.tenant')) AS hidden (name)) AS shown"
            ),
            // MySQL cuts what it concatenates unless told otherwise. Each server has its own table.
            Self::Mysql => format!(
                "SELECT /*+ SET_VAR(group_concat_max_len = 1000000) */ \
                 GROUP_CONCAT(VARIABLE_NAME, '=', IFNULL(VARIABLE_VALUE, 'NULL') SEPARATOR '{END}') AS s \
                 FROM /*!80000 performance_schema.session_variables */ \
                 /*M! information_schema.SESSION_VARIABLES */ WHERE VARIABLE_NAME NOT IN ({noise})"
            ),
            Self::Sqlite => {
                let one = |pragma: &&str| {
                    let column = match *pragma {
                        "busy_timeout" => "timeout",
                        "default_cache_size" => "cache_size",
                        other => other,
                    };
                    format!(
                        "SELECT '{pragma}=' || coalesce(\
                         (SELECT CAST({column} AS TEXT) FROM pragma_{pragma}), 'NULL') AS line"
                    )
                };
                let all = PRAGMAS
                    .iter()
                    .map(one)
                    .collect::<Vec<_>>()
                    .join(" UNION ALL ");
                format!("SELECT group_concat(line, '{END}') AS s FROM ({all})")
            }
        }
    }

    /// What succeeds in a transaction and fails outside of one, or the other way round
    /// ([`opens`](Self::opens)). Either way it changes nothing.
    #[must_use]
    pub const fn probe(self) -> &'static str {
        match self {
            Self::Postgres | Self::Mysql => "SAVEPOINT probe; RELEASE SAVEPOINT probe",
            Self::Sqlite => "BEGIN; ROLLBACK",
        }
    }

    /// Whether the probe succeeds outside of transactions.
    #[must_use]
    pub const fn opens(self) -> bool {
        matches!(self, Self::Sqlite)
    }
}

/// What SQLite says to `PRAGMA wal_autocheckpoint`, which no table shows.
#[derive(Clone, Copy, Debug, diesel::QueryableByName)]
pub struct Checkpoint {
    /// In pages.
    #[diesel(sql_type = BigInt, column_name = "wal_autocheckpoint")]
    pub pages: i64,
}

/// Ends a setting. No value has it.
const END: char = '\u{1e}';

/// Everything that the server says about a session: `name=value`, each with a separator after it.
#[derive(Clone, Default)]
pub struct Session(String);

impl Session {
    /// One with these settings.
    #[must_use]
    pub fn of(settings: String) -> Self {
        let mut session = Self(settings);
        session.0.push(END);
        session
    }

    /// Something else that is known about it.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.extend([name, "=", value]);
        self.0.push(END);
    }

    fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let settings = self.0.split_terminator(END);
        settings.filter_map(|setting| setting.split_once('='))
    }

    /// A setting, with its name in lower case. MariaDB's table has them in upper case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .all()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// How many settings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.matches(END).count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is different later. Names are in lower case.
    #[must_use]
    pub fn changes(&self, later: &Self) -> Vec<String> {
        if self.0 == later.0 {
            return Vec::new();
        }
        let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (self.all().collect(), later.all().collect());
        let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        names
            .into_iter()
            .map(|name| (name, before.get(name), after.get(name)))
            .filter(|(_, before, after)| before != after)
            .map(|(name, before, after)| {
                let name = name.to_ascii_lowercase();
                format!("{name}: {before:?} -> {after:?}")
            })
            .collect()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.all()).finish()
    }
}

/// What changes by itself on MySQL and MariaDB.
const NOISE: [&str; 7] = [
    // What the server has written to its binary log.
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_current_pos",
    "last_gtid",
    // MySQL 9.7 shows it now on, now off while many sessions are busy, also to one that was only
    // just opened.
    "sql_log_off",
    // The number of the statement that asks.
    "statement_id",
    // The time.
    "timestamp",
];

/// SQLite's settings.
pub const PRAGMAS: [&str; 38] = [
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "cell_size_check",
    "checkpoint_fullfsync",
    "count_changes",
    "default_cache_size",
    "defer_foreign_keys",
    "empty_result_callbacks",
    "encoding",
    "foreign_keys",
    "full_column_names",
    "fullfsync",
    "hard_heap_limit",
    "ignore_check_constraints",
    "journal_mode",
    "journal_size_limit",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "page_size",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "short_column_names",
    "soft_heap_limit",
    "synchronous",
    "temp_store",
    "threads",
    "trusted_schema",
    "user_version",
    "writable_schema",
];

/// SQLite's pragmas that are no settings, and those that nothing shows.
pub const OTHER_PRAGMAS: [&str; 29] = [
    // Shown by `Checkpoint`.
    "wal_autocheckpoint",
    // They can be set and not read, or only together with a path.
    "case_sensitive_like",
    "mmap_size",
    "temp_store_directory",
    // What is in the file.
    "data_version",
    "freelist_count",
    "page_count",
    "schema_version",
    // Lists.
    "collation_list",
    "compile_options",
    "database_list",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "module_list",
    "pragma_list",
    "table_info",
    "table_list",
    "table_xinfo",
    // Orders.
    "foreign_key_check",
    "incremental_vacuum",
    "integrity_check",
    "optimize",
    "quick_check",
    "shrink_memory",
    "wal_checkpoint",
    "data_store_directory",
];
