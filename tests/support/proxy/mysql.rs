use std::collections::{HashMap, VecDeque};

use super::dialog::{Action, End, Request, Response, Turn};
use answer::{Answer, Capabilities};

mod answer;

const CLIENT_MYSQL: u32 = 1;
const CLIENT_COMPRESS: u32 = 1 << 5;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_DEPRECATE_EOF: u32 = 1 << 24;
const CLIENT_OPTIONAL_RESULTSET_METADATA: u32 = 1 << 25;
const CLIENT_ZSTD_COMPRESSION: u32 = 1 << 26;
const CLIENT_QUERY_ATTRIBUTES: u32 = 1 << 27;
const MARIADB_CLIENT_CACHE_METADATA: u32 = 1 << 4;

/// What would hide or change what is looked at here, so the client must not see it in the greeting.
const HIDDEN: u32 =
    CLIENT_COMPRESS | CLIENT_SSL | CLIENT_OPTIONAL_RESULTSET_METADATA | CLIENT_ZSTD_COMPRESSION;

/// The protocol of MySQL and MariaDB.
#[derive(Debug, Default)]
pub(super) struct Mysql {
    is_greeted: bool,
    is_introduced: bool,
    is_logged_in: bool,
    capabilities: Capabilities,
    has_query_attributes: bool,
    /// The answers that the server owes, and the SQL that a prepared one is for.
    owed: VecDeque<(Answer, Option<String>)>,
    /// SQL by id.
    statements: HashMap<u32, String>,
    last: Option<u32>,
}

/// A packet, or several that belong together because one was not enough.
struct Packet {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    sequence: u8,
}

impl Mysql {
    pub(super) fn request(&mut self, buffer: &mut Vec<u8>) -> Option<Request> {
        let packet = take(buffer)?;
        if !self.is_introduced {
            self.is_introduced = true;
            self.introduce(&packet.payload);
            return Some(Request::new(packet.bytes, "login", Turn::Login));
        }
        if packet.sequence != 0 {
            // More about the login, or a file that the server has asked for.
            return Some(Request::new(packet.bytes, "more", Turn::Login));
        }
        Some(self.command(packet))
    }

    pub(super) fn response(&mut self, buffer: &mut Vec<u8>) -> Option<Response> {
        let mut packet = take(buffer)?;
        if !self.is_greeted {
            self.is_greeted = true;
            hide(&mut packet.bytes);
            self.owed.push_back((Answer::login(), None));
            return Some(Response {
                bytes: packet.bytes,
                end: None,
            });
        }
        let capabilities = self.capabilities;
        let (answer, sql) = match self.owed.front_mut() {
            Some((answer, sql)) => (answer, sql),
            // What a server says unasked before it closes the connection.
            None => {
                return Some(Response {
                    bytes: packet.bytes,
                    end: None,
                });
            }
        };
        if let Some(id) = answer.prepared(&packet.payload) {
            self.statements.insert(id, sql.take().unwrap_or_default());
            self.last = Some(id);
        }
        let is_complete = answer.is_complete_with(&packet.payload, capabilities);
        let end = is_complete.then_some(if self.is_logged_in {
            End::Answer
        } else {
            End::Login
        });
        if is_complete {
            self.owed.pop_front();
            self.is_logged_in = true;
        }
        Some(Response {
            bytes: packet.bytes,
            end,
        })
    }

    /// The client has said what it can do.
    fn introduce(&mut self, payload: &[u8]) {
        let flags = word(payload, 0);
        let more = if flags & CLIENT_MYSQL == 0 {
            word(payload, 28)
        } else {
            0
        };
        self.capabilities = Capabilities {
            no_eof: flags & CLIENT_DEPRECATE_EOF != 0,
            caches_metadata: more & MARIADB_CLIENT_CACHE_METADATA != 0,
        };
        self.has_query_attributes = flags & CLIENT_QUERY_ATTRIBUTES != 0;
    }

    fn command(&mut self, packet: Packet) -> Request {
        let code = packet.payload[0];
        let (name, answer) = Answer::to_command(code);
        let turn = if answer.is_some() {
            Turn::Asks
        } else {
            Turn::OneWay
        };
        let (sql, action) = self.sql(code, &packet.payload);
        if let Some(answer) = answer {
            let prepared = sql.clone().filter(|_| action == Action::Prepares);
            self.owed.push_back((answer, prepared));
        }
        let mut request = Request::new(packet.bytes, name, turn).about(sql, action);
        request.is_aside = matches!(code, answer::COM_QUIT | answer::COM_STMT_CLOSE);
        request
    }

    fn sql(&mut self, code: u8, payload: &[u8]) -> (Option<String>, Action) {
        let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
        match code {
            answer::COM_QUERY if self.has_query_attributes => {
                // The number of attributes and of their sets, which is 1. Attributes themselves
                // would be seen as a part of the text.
                (text(payload.get(3..).unwrap_or_default()), Action::Executes)
            }
            answer::COM_QUERY => (text(&payload[1..]), Action::Executes),
            answer::COM_STMT_PREPARE => (text(&payload[1..]), Action::Prepares),
            answer::COM_STMT_EXECUTE | answer::COM_STMT_BULK_EXECUTE => {
                (self.prepared(word(payload, 1)), Action::Executes)
            }
            answer::COM_STMT_CLOSE => {
                let id = word(payload, 1);
                (self.statements.remove(&id), Action::Neither)
            }
            answer::COM_STMT_RESET | answer::COM_STMT_FETCH | answer::COM_STMT_SEND_LONG_DATA => {
                (self.prepared(word(payload, 1)), Action::Neither)
            }
            _ => (None, Action::Neither),
        }
    }

    fn prepared(&self, id: u32) -> Option<String> {
        // MariaDB: the one prepared last.
        let id = if id == u32::MAX { self.last? } else { id };
        self.statements.get(&id).cloned()
    }
}

/// Takes the next whole packet.
fn take(buffer: &mut Vec<u8>) -> Option<Packet> {
    let sequence = *buffer.get(3)?;
    let (mut end, mut payload) = (0, Vec::new());
    loop {
        let head = buffer.get(end..end + 4)?;
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        payload.extend_from_slice(buffer.get(end + 4..end + 4 + length)?);
        end += 4 + length;
        if length < 0xff_ff_ff {
            break;
        }
    }
    Some(Packet {
        bytes: buffer.drain(..end).collect(),
        payload,
        sequence,
    })
}

/// Takes out of the greeting what is not to be seen.
fn hide(bytes: &mut [u8]) {
    const HEAD: usize = 4;
    const ERROR: u8 = 0xff;
    if bytes.get(HEAD) == Some(&ERROR) {
        return;
    }
    let version = &bytes[HEAD + 1..];
    let version = version
        .iter()
        .position(|byte| *byte == 0)
        .expect("a version");
    // Number of the session, first half of the challenge, filler.
    let lower = HEAD + 1 + version + 1 + 4 + 8 + 1;
    // Character set, status.
    let upper = lower + 2 + 1 + 2;
    for (place, byte) in [lower, lower + 1, upper, upper + 1]
        .into_iter()
        .zip(HIDDEN.to_le_bytes())
    {
        bytes[place] &= !byte;
    }
}

/// Four bytes, as a number; zero if they are not there.
fn word(payload: &[u8], at: usize) -> u32 {
    let bytes = payload.get(at..at + 4).unwrap_or(&[0; 4]);
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}
