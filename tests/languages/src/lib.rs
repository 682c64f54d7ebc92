//! Makes dbop-core's table of PostgreSQL's messages in other languages.
//!
//! The catalogs come with the packages of the server and of libpq. Nothing of them but hashes gets
//! into the table.

use dbop_core::FaultClass;

pub mod catalog;
pub mod generate;

/// The rows of dbop-core: which messages, and what they mean.
#[allow(dead_code, reason = "dbop-core uses all of it")]
#[path = "../../../dbop-core/src/fault/postgres/messages.rs"]
mod messages;

/// How dbop-core hashes.
#[allow(dead_code, reason = "dbop-core uses all of it")]
#[path = "../../../dbop-core/src/fault/hash.rs"]
mod hash;

/// How dbop-core makes rows.
#[allow(dead_code, reason = "dbop-core uses all of it")]
#[path = "../../../dbop-core/src/fault/format.rs"]
mod format;

/// The packages' versions whose catalogs are read. The first one is that of Debian 12.
pub const VERSIONS: [&str; 2] = ["15", "18"];

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
    /// Its SQLSTATE, or "".
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

/// All messages that are looked up in catalogs.
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
