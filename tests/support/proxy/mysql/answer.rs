pub(super) const COM_QUIT: u8 = 0x01;
pub(super) const COM_QUERY: u8 = 0x03;
pub(super) const COM_STMT_PREPARE: u8 = 0x16;
pub(super) const COM_STMT_EXECUTE: u8 = 0x17;
pub(super) const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
pub(super) const COM_STMT_CLOSE: u8 = 0x19;
pub(super) const COM_STMT_RESET: u8 = 0x1a;
pub(super) const COM_STMT_FETCH: u8 = 0x1c;
pub(super) const COM_STMT_BULK_EXECUTE: u8 = 0xfa;

const OK: u8 = 0x00;
const EOF: u8 = 0xfe;
const ERROR: u8 = 0xff;
const FILE: u8 = 0xfb;

/// An error with this number is none: MariaDB tells how far it has come.
const PROGRESS: u16 = 0xffff;

const CURSOR_EXISTS: u16 = 1 << 6;
const MORE_RESULTS: u16 = 1 << 3;

/// What a client can do that changes how answers look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capabilities {
    /// No EOF packet between columns and rows, and an OK packet at the end.
    pub(super) no_eof: bool,
    /// The server may leave out columns that the client knows.
    pub(super) caches_metadata: bool,
}

/// How far an answer of the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Until it is a yes or a no.
    Login,
    /// One packet.
    One,
    /// One or more results, of which the next one begins.
    Results,
    /// So many columns of a result, which are followed by rows.
    Columns(u64),
    /// Rows, until an end of them.
    Rows,
    /// A prepared statement.
    Prepared,
    /// So many packets about a prepared statement.
    Rest(u32),
}

impl Answer {
    pub(super) const fn login() -> Self {
        Self::Login
    }

    /// The name of a command, and how the server answers, if it does.
    pub(super) fn to_command(code: u8) -> (&'static str, Option<Self>) {
        let one = Some(Self::One);
        match code {
            COM_QUIT => ("COM_QUIT", None),
            0x02 => ("COM_INIT_DB", one),
            COM_QUERY => ("COM_QUERY", Some(Self::Results)),
            0x04 => ("COM_FIELD_LIST", Some(Self::Rows)),
            0x09 => ("COM_STATISTICS", one),
            0x0a => ("COM_PROCESS_INFO", Some(Self::Results)),
            0x0c => ("COM_PROCESS_KILL", one),
            0x0e => ("COM_PING", one),
            0x11 => ("COM_CHANGE_USER", Some(Self::Login)),
            COM_STMT_PREPARE => ("COM_STMT_PREPARE", Some(Self::Prepared)),
            COM_STMT_EXECUTE => ("COM_STMT_EXECUTE", Some(Self::Results)),
            COM_STMT_SEND_LONG_DATA => ("COM_STMT_SEND_LONG_DATA", None),
            COM_STMT_CLOSE => ("COM_STMT_CLOSE", None),
            COM_STMT_RESET => ("COM_STMT_RESET", one),
            0x1b => ("COM_SET_OPTION", one),
            COM_STMT_FETCH => ("COM_STMT_FETCH", Some(Self::Rows)),
            0x1f => ("COM_RESET_CONNECTION", one),
            COM_STMT_BULK_EXECUTE => ("COM_STMT_BULK_EXECUTE", Some(Self::Results)),
            other => panic!("no command of a MySQL client: {other}"),
        }
    }

    /// The id of the statement that has been prepared.
    pub(super) fn prepared(&self, payload: &[u8]) -> Option<u32> {
        let is_one = *self == Self::Prepared && payload.first() == Some(&OK);
        is_one.then(|| super::word(payload, 1))
    }

    /// Takes the next packet of it. Is it complete?
    pub(super) fn is_complete_with(&mut self, payload: &[u8], can: Capabilities) -> bool {
        let kind = payload.first().copied().unwrap_or_default();
        let next = match *self {
            _ if kind == ERROR && short(payload, 1) == PROGRESS => Some(*self),
            Self::Columns(_) | Self::Rest(_) => self.after_definition(kind, payload, can),
            _ if kind == ERROR => None,
            Self::One => None,
            Self::Login => (kind != OK).then_some(Self::Login),
            Self::Results => match kind {
                OK => more_results(status_of_ok(payload)),
                FILE => Some(Self::Results),
                _ => Some(columns(payload, can)),
            },
            // A row can begin like this only if it is a giant.
            Self::Rows if kind == EOF && payload.len() < 0xff_ff_ff => {
                let status = if can.no_eof {
                    status_of_ok(payload)
                } else {
                    short(payload, 3)
                };
                more_results(status)
            }
            Self::Rows => Some(Self::Rows),
            Self::Prepared => rest(payload, can),
        };
        if let Some(next) = next {
            *self = next;
        }
        next.is_none()
    }

    fn after_definition(self, kind: u8, payload: &[u8], can: Capabilities) -> Option<Self> {
        match self {
            Self::Rest(left) => (left > 1).then_some(Self::Rest(left - 1)),
            Self::Columns(0) if kind == EOF && short(payload, 3) & CURSOR_EXISTS != 0 => {
                // The rows are for COM_STMT_FETCH.
                None
            }
            Self::Columns(1) if can.no_eof => Some(Self::Rows),
            Self::Columns(0) => Some(Self::Rows),
            Self::Columns(left) => Some(Self::Columns(left - 1)),
            other => unreachable!("{other:?} has no definitions"),
        }
    }
}

fn more_results(status: u16) -> Option<Answer> {
    (status & MORE_RESULTS != 0).then_some(Answer::Results)
}

/// What follows the number of columns.
fn columns(payload: &[u8], can: Capabilities) -> Answer {
    let (count, length) = number(payload);
    let is_known = can.caches_metadata && payload.get(length) == Some(&0);
    match (is_known, can.no_eof) {
        (true, true) => Answer::Rows,
        (true, false) => Answer::Columns(0),
        (false, _) => Answer::Columns(count),
    }
}

/// What follows the id of a prepared statement: its parameters and its columns.
fn rest(payload: &[u8], can: Capabilities) -> Option<Answer> {
    let packets = [short(payload, 5), short(payload, 7)].map(|count| {
        let eof = u32::from(count > 0 && !can.no_eof);
        u32::from(count) + eof
    });
    let packets = packets.into_iter().sum();
    (packets > 0).then_some(Answer::Rest(packets))
}

/// The status in an OK packet, after two numbers.
fn status_of_ok(payload: &[u8]) -> u16 {
    let (_, affected) = number(&payload[1..]);
    let (_, last_id) = number(&payload[1 + affected..]);
    short(payload, 1 + affected + last_id)
}

/// A number of variable length, and how long it is.
fn number(payload: &[u8]) -> (u64, usize) {
    let length = match payload.first() {
        Some(0xfc) => 3,
        Some(0xfd) => 4,
        Some(0xfe) => 9,
        _ => 1,
    };
    let bytes = &payload[usize::from(length > 1)..length];
    let value = bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    (value, length)
}

/// Two bytes, as a number; zero if they are not there.
fn short(payload: &[u8], at: usize) -> u16 {
    let bytes = payload.get(at..at + 2).unwrap_or(&[0; 2]);
    u16::from_le_bytes(bytes.try_into().expect("two bytes"))
}

#[cfg(test)]
mod tests;
