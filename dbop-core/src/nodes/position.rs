//! How far a server is: what it has committed, or has applied of what another one has committed.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::dialect::Dialect;

/// How far a server was when it was asked: everything that it had committed by then, or had applied as a
/// replica. [`Split::after`](super::Split::after) reads where that is there.
///
/// The adapters read it with `read_position`. Its text is short on most servers, and can be parsed again: a
/// web application can keep it in the session of a user, between the request that writes and the one that
/// reads. A text that a client may have changed does no harm: one that is too large only makes reads go to the
/// server that takes the writes.
///
/// | server | what it is |
/// |---|---|
/// | PostgreSQL | the position in the write-ahead log |
/// | MySQL | the set of its GTIDs, also with Group Replication; it has none with `gtid_mode=OFF` |
/// | MariaDB | the last GTID of each domain; it has none without a binary log |
/// | Galera (MariaDB) | the number of the last transaction |
/// | SQLite | nothing: all connections see the same file |
///
/// Positions are those of one history. After a failover that has lost commits, the new history passes
/// numbers of the old one, and a replica can be taken for fresh although the lost work is not there.
///
/// ```
/// use dbop_core::Position;
///
/// let position: Position = "lsn:16/B374D848".parse()?;
/// assert_eq!(position.to_string(), "lsn:16/B374D848");
/// assert!("DROP TABLE accounts".parse::<Position>().is_err());
/// # Ok::<(), dbop_core::ParsePositionError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position(At);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    /// There is only one copy.
    OneCopy,
    Lsn(u64),
    /// Of each source of transactions, a UUID with a tag perhaps, the numbers of those that are there.
    Gtids(BTreeMap<String, Vec<RangeInclusive<u64>>>),
    /// Of each domain the last number, and the server that gave it.
    Domains(BTreeMap<u32, (u32, u64)>),
    /// In the history with this UUID.
    Wsrep(String, u64),
}

const ONE_COPY: &str = "one copy";
const LSN: &str = "lsn";
const GTIDS: &str = "gtids";
const DOMAINS: &str = "domains";
const WSREP: &str = "wsrep";

/// Asks a PostgreSQL server. Of a primary it is the end of what has been written to the log, flushed or not:
/// with `synchronous_commit = off` a commit is not flushed yet when it is acknowledged.
const OF_POSTGRES: &str = "SELECT 'lsn:' || CAST(CASE WHEN pg_is_in_recovery() \
     THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS text) AS s";

/// Asks a MySQL or MariaDB server. Each executes the comment of its own.
const OF_MYSQL: &str = "SELECT CAST(\
     /*!80000 NULLIF(CONCAT('gtids:', @@GLOBAL.gtid_executed), 'gtids:') */\
     /*M!100100 CASE WHEN EXISTS(SELECT 1 FROM information_schema.GLOBAL_VARIABLES \
     WHERE VARIABLE_NAME = 'WSREP_ON' AND VARIABLE_VALUE = 'ON') \
     THEN (SELECT CONCAT('wsrep:', u.VARIABLE_VALUE, ':', n.VARIABLE_VALUE) \
     FROM information_schema.GLOBAL_STATUS u, information_schema.GLOBAL_STATUS n \
     WHERE u.VARIABLE_NAME = 'WSREP_CLUSTER_STATE_UUID' AND n.VARIABLE_NAME = 'WSREP_LAST_COMMITTED') \
     ELSE NULLIF(CONCAT('domains:', @@GLOBAL.gtid_current_pos), 'domains:') END */ AS CHAR) AS s";

impl Position {
    /// The query for the position of a server: a text, or NULL if it has none. `None`: no server need be
    /// asked.
    #[must_use]
    pub const fn query(dialect: Dialect) -> Option<&'static str> {
        match dialect {
            Dialect::Postgres => Some(OF_POSTGRES),
            Dialect::Mysql => Some(OF_MYSQL),
            Dialect::Sqlite => None,
        }
    }

    /// What the server has answered to the [query](Self::query).
    ///
    /// # Errors
    ///
    /// If it has no position, or one that is not known here.
    pub fn answered(dialect: Dialect, answer: Option<&str>) -> Result<Self, ParsePositionError> {
        match (Self::query(dialect), answer) {
            (None, _) => Ok(Self(At::OneCopy)),
            (Some(_), Some(text)) => text.parse(),
            (Some(_), None) => Err(ParsePositionError {
                why: "the server has no position: GTIDs or the binary log are off",
            }),
        }
    }

    /// Whether a server that is here has everything that was at the other position. Not so, if the two are
    /// of different kinds of servers.
    ///
    /// ```
    /// use dbop_core::Position;
    ///
    /// let [first, second]: [Position; 2] = ["domains:0-1-7".parse()?, "domains:0-1-9".parse()?];
    /// assert!(second.covers(&first) && !first.covers(&second));
    /// # Ok::<(), dbop_core::ParsePositionError>(())
    /// ```
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (_, At::OneCopy) => true,
            (At::Lsn(here), At::Lsn(there)) => here >= there,
            (At::Gtids(here), At::Gtids(there)) => there.iter().all(|(source, numbers)| {
                let has = |wanted: &RangeInclusive<u64>| {
                    let here = here.get(source).into_iter().flatten();
                    here.clone()
                        .any(|have| have.contains(wanted.start()) && have.contains(wanted.end()))
                };
                numbers.iter().all(has)
            }),
            (At::Domains(here), At::Domains(there)) => there
                .iter()
                .all(|(domain, (_, last))| here.get(domain).is_some_and(|(_, have)| have >= last)),
            (At::Wsrep(history, here), At::Wsrep(of, there)) => history == of && here >= there,
            _ => false,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::OneCopy => f.write_str(ONE_COPY),
            At::Lsn(lsn) => write!(f, "{LSN}:{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF),
            At::Wsrep(history, number) => write!(f, "{WSREP}:{history}:{number}"),
            At::Domains(domains) => {
                let mut separator = format!("{DOMAINS}:");
                for (domain, (server, last)) in domains {
                    write!(f, "{separator}{domain}-{server}-{last}")?;
                    separator.replace_range(.., ",");
                }
                Ok(())
            }
            At::Gtids(sources) => {
                let mut separator = format!("{GTIDS}:");
                for (source, numbers) in sources {
                    write!(f, "{separator}{source}")?;
                    for range in numbers {
                        write!(f, ":{}-{}", range.start(), range.end())?;
                    }
                    separator.replace_range(.., ",");
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        parse(text).map(Self).ok_or(ParsePositionError {
            why: "this is not a position of a server",
        })
    }
}

fn parse(text: &str) -> Option<At> {
    if text == ONE_COPY {
        return Some(At::OneCopy);
    }
    let (kind, position) = text.split_once(':')?;
    Some(match kind {
        LSN => {
            let (high, low) = position.split_once('/')?;
            let part = |part: &str| u32::from_str_radix(unsigned(part)?, 16).ok();
            At::Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?))
        }
        WSREP => {
            let (history, number) = position.split_once(':')?;
            At::Wsrep(uuid(history)?, number_of(number)?)
        }
        DOMAINS => {
            let mut domains = BTreeMap::new();
            for gtid in position.split(',') {
                let mut parts = gtid.splitn(3, '-').map(unsigned);
                let mut next = || parts.next().flatten();
                let (domain, server) = (next()?.parse().ok()?, next()?.parse().ok()?);
                domains.insert(domain, (server, next()?.parse().ok()?));
            }
            At::Domains(domains)
        }
        GTIDS => At::Gtids(gtids(position)?),
        _ => return None,
    })
}

/// Items like `UUID:1-5:7:tag:1-3`, which stand on lines of their own in the server's answer.
fn gtids(text: &str) -> Option<BTreeMap<String, Vec<RangeInclusive<u64>>>> {
    let mut sources = BTreeMap::new();
    for item in text.split(',') {
        let mut parts = item.trim().split(':');
        let of = uuid(parts.next()?)?;
        let mut source = of.clone();
        let mut is_empty = true;
        for part in parts {
            if part.starts_with(|first: char| first.is_ascii_digit()) {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let numbers = sources.entry(source.clone()).or_insert_with(Vec::new);
                numbers.push(number_of(first)?..=number_of(last)?);
                is_empty = false;
            } else {
                source = format!("{of}:{}", tag(part)?);
            }
        }
        if is_empty {
            return None;
        }
    }
    Some(sources)
}

fn uuid(text: &str) -> Option<String> {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_uuid.then(|| text.to_ascii_lowercase())
}

fn tag(text: &str) -> Option<String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_tag = (1..=32).contains(&text.len()) && text.bytes().all(is_word);
    is_tag.then(|| text.to_ascii_lowercase())
}

fn number_of(text: &str) -> Option<u64> {
    unsigned(text)?.parse().ok()
}

/// Rust would accept a sign.
fn unsigned(text: &str) -> Option<&str> {
    text.starts_with(|first: char| first.is_ascii_hexdigit())
        .then_some(text)
}

/// A text is not a [`Position`], or a server has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePositionError {
    why: &'static str,
}

impl fmt::Display for ParsePositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl StdError for ParsePositionError {}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn position(text: &str) -> Position {
        text.replace("A:", &format!("{A}:"))
            .replace("B:", &format!("{B}:"))
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_position_covers_what_is_not_ahead_of_it() {
        for (here, covers, does_not) in [
            ("lsn:2/1", "lsn:2/1", "lsn:2/2"),
            ("lsn:2/0", "lsn:1/FFFFFFFF", "lsn:10/0"),
            ("lsn:2/0", "one copy", "wsrep:A:1"),
            ("wsrep:A:7", "wsrep:A:7", "wsrep:A:8"),
            ("wsrep:A:7", "wsrep:A:6", "wsrep:B:6"),
            ("domains:0-1-7", "domains:0-2-7", "domains:0-1-8"),
            ("domains:0-1-7,1-1-9", "domains:1-1-9", "domains:2-1-1"),
            (
                "domains:0-1-7,1-1-9",
                "domains:0-1-6,1-2-9",
                "domains:0-1-7,1-1-10",
            ),
            ("gtids:A:1-7", "gtids:A:1-7", "gtids:A:1-8"),
            ("gtids:A:3-7", "gtids:A:3", "gtids:A:2-7"),
            ("gtids:A:1-7:9-12", "gtids:A:2-3:9-10", "gtids:A:1-9"),
            ("gtids:A:1-7", "gtids:A:4", "gtids:B:4"),
            ("gtids:A:1-7,B:1-2", "gtids:B:1", "gtids:A:1-7,B:1-3"),
            ("gtids:A:1-7:x:1-9", "gtids:A:x:9", "gtids:A:9"),
            ("gtids:A:1-7:x:1-9", "gtids:A:7:x:1", "gtids:A:y:1"),
            ("one copy", "one copy", "lsn:0/0"),
        ] {
            let here = position(here);
            assert!(here.covers(&position(covers)), "{here} {covers}");
            assert!(!here.covers(&position(does_not)), "{here} {does_not}");
        }
    }

    #[test]
    fn a_position_is_the_same_when_it_is_read_again() {
        for (text, shown) in [
            ("one copy", "one copy"),
            ("lsn:0/16b3748", "lsn:0/16B3748"),
            ("lsn:FFFFFFFF/FFFFFFFF", "lsn:FFFFFFFF/FFFFFFFF"),
            (
                "wsrep:A:18446744073709551615",
                "wsrep:A:18446744073709551615",
            ),
            ("domains:1-2-3,0-1-7", "domains:0-1-7,1-2-3"),
            (
                "gtids:B:3,\nA:1-7:9:x_1:4-5",
                "gtids:A:1-7:9-9,A:x_1:4-5,B:3-3",
            ),
        ] {
            let read = position(text);
            let shown = shown
                .replace("A:", &format!("{A}:"))
                .replace("B:", &format!("{B}:"));
            assert_eq!(read.to_string(), shown);
            assert_eq!(shown.parse(), Ok(read));
        }
    }

    #[test]
    fn what_is_not_a_position_is_refused() {
        for text in [
            "",
            "lsn",
            "lsn:",
            "lsn:1",
            "lsn:1/",
            "lsn:/1",
            "lsn:+1/1",
            "lsn:1/-1",
            "lsn:100000000/0",
            "lsn:0/0 ",
            "lsn:G/0",
            "wsrep:A",
            "wsrep:A:",
            "wsrep:A:-1",
            "wsrep:A:+1",
            "wsrep:x:1",
            "wsrep:A:1:2",
            "domains:",
            "domains:1-2",
            "domains:1-2-",
            "domains:1-2-3-4",
            "domains:1-2-3,",
            "domains:-1-2-3",
            "domains:4294967296-1-1",
            "gtids:",
            "gtids:A",
            "gtids:A:",
            "gtids:A:tag",
            "gtids:A:1-",
            "gtids:A:1-2-3",
            "gtids:A:1,",
            "gtids:A:1;x:2",
            "gtids:1-2",
            "gtids:A:18446744073709551616",
            "all:1",
            "LSN:0/0",
        ] {
            let text = text.replace("A:", &format!("{A}:"));
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        for text in [
            format!("wsrep:{A}0:1"),
            format!("wsrep:{}:1", A.replace('-', "0")),
            format!("gtids:{A}:ta-g:1"),
            format!("gtids:{A}:{}:1", "t".repeat(33)),
            format!("gtids:{A}::1"),
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_server_that_says_so_has_a_position() {
        let answered = Position::answered;
        let (postgres, mysql) = (Dialect::Postgres, Dialect::Mysql);
        assert_eq!(answered(postgres, Some("lsn:0/1")), Ok(position("lsn:0/1")));
        assert_eq!(answered(Dialect::Sqlite, None), Ok(position("one copy")));
        let error = answered(mysql, None).expect_err("no answer");
        assert!(error.to_string().contains("no position"), "{error}");
        let error = answered(mysql, Some("?")).expect_err("no text of ours");
        assert!(error.to_string().contains("not a position"), "{error}");
    }
}
