//! Makes dbop-core's tables of the databases' messages in other languages.
//!
//! The messages come with the packages of the servers and of libpq. Nothing of them but hashes gets
//! into the tables.

use dbop_core::FaultClass;

pub mod catalog;
pub mod errmsg;
pub mod generate;

/// The rows of dbop-core: which messages, and what they mean.
#[allow(dead_code, reason = "dbop-core uses all of it")]
#[path = "../../../dbop-core/src/fault/postgres/messages.rs"]
mod messages;

/// The same for MySQL and MariaDB.
#[allow(dead_code, reason = "dbop-core uses all of it")]
#[path = "../../../dbop-core/src/fault/mysql/messages.rs"]
mod mysql;

/// How dbop-core hashes.
#[allow(dead_code, reason = "dbop-core uses all of it")]
#[path = "../../../dbop-core/src/fault/hash.rs"]
mod hash;

/// How dbop-core makes rows.
#[allow(dead_code, reason = "dbop-core uses all of it")]
#[path = "../../../dbop-core/src/fault/format.rs"]
mod format;

/// The versions whose catalogs are read. The first one is that of Debian 12.
pub const VERSIONS: [&str; 2] = ["PostgreSQL 15", "PostgreSQL 18"];

/// Which catalog a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The server's.
    Server,
    /// The client library's.
    Libpq,
}

/// A message that dbop-core knows.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// What it means: its index in the table.
    pub index: u8,
    /// Which catalog it is in.
    pub domain: Domain,
    /// Its first line in English, as in the source.
    pub english: &'static str,
    /// Its SQLSTATE or its number, or "".
    pub code: &'static str,
    /// What it is.
    pub class: FaultClass,
    /// Where in an error it stands.
    pub role: Role,
}

/// Where in an error a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is the error.
    Whole,
    /// In front of the reason why there is no connection.
    Refusal,
    /// In front of a server's message, with a colon.
    Severity,
}

/// PostgreSQL's messages that are looked up in catalogs.
///
/// # Panics
///
/// There are more than 256 of them.
#[must_use]
pub fn messages() -> Vec<Message> {
    let lists = [
        (messages::SERVER, Domain::Server, Role::Whole),
        (messages::LIBPQ, Domain::Libpq, Role::Whole),
        (messages::REFUSALS, Domain::Libpq, Role::Refusal),
        (messages::SEVERITIES, Domain::Server, Role::Severity),
    ];
    let mut all = Vec::new();
    for (rows, domain, role) in lists {
        for &(format, code, class) in rows {
            all.push(Message {
                index: u8::try_from(all.len()).expect("a meaning is one byte"),
                domain,
                english: match role {
                    // The reason is not in the catalog's text.
                    Role::Refusal => format.strip_suffix("%s").unwrap_or(format),
                    Role::Whole | Role::Severity => format,
                },
                code,
                class,
                role,
            });
        }
    }
    all
}

/// The text that C would make, with numbers where it wants numbers.
#[must_use]
pub fn with_values(format: &str, value: &str) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let is_end = |letter: char| letter.is_ascii_alphabetic() && !"hlLjzt".contains(letter);
        match after.find(is_end) {
            Some(end) if !after.starts_with('%') => {
                text.push_str(if "sm".contains(&after[end..=end]) {
                    value
                } else {
                    "42"
                });
                rest = &after[end + 1..];
            }
            _ => {
                text.push('%');
                rest = after.strip_prefix('%').unwrap_or(after);
            }
        }
    }
    text + rest
}
