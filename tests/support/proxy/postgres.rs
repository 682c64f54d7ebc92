use std::collections::{HashMap, VecDeque};

use super::dialog::{Action, End, Request, Response, Turn};

const CANCEL: [u8; 4] = 80_877_102_u32.to_be_bytes();
const SSL: [u8; 4] = 80_877_103_u32.to_be_bytes();
const GSS: [u8; 4] = 80_877_104_u32.to_be_bytes();

/// PostgreSQL's protocol, version 3.
#[derive(Debug, Default)]
pub(super) struct Postgres {
    started: bool,
    logged_in: bool,
    /// SQL by name.
    statements: HashMap<String, String>,
    portals: HashMap<String, String>,
    turn: OpenTurn,
    /// The answers that the server owes.
    owed: VecDeque<End>,
}

/// What the client has sent since it last asked for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OpenTurn {
    #[default]
    Nothing,
    /// Statements that are to be forgotten: a pipelining client says so in passing.
    Closes,
    More,
}

impl Postgres {
    pub(super) fn request(&mut self, buffer: &mut Vec<u8>) -> Option<Request> {
        if !self.started {
            return self.opening(buffer);
        }
        let bytes = take(buffer, 1)?;
        if !self.logged_in {
            return Some(Request::new(bytes, "login", Turn::Login));
        }
        let mut request = self.message(bytes);
        self.turn = match (self.turn, request.name) {
            (OpenTurn::Nothing | OpenTurn::Closes, "Close") => OpenTurn::Closes,
            (turn, "Sync") => turn,
            _ => OpenTurn::More,
        };
        request.is_aside = self.turn == OpenTurn::Closes || request.name == "Terminate";
        if request.turn == Turn::Asks {
            self.turn = OpenTurn::Nothing;
            self.owed.push_back(if request.is_aside {
                End::Aside
            } else {
                End::Answer
            });
        }
        Some(request)
    }

    fn message(&mut self, bytes: Vec<u8>) -> Request {
        let (name, turn) = match bytes[0] {
            b'Q' => ("Query", Turn::Asks),
            b'P' => ("Parse", Turn::GoesOn),
            b'B' => ("Bind", Turn::GoesOn),
            b'E' => ("Execute", Turn::GoesOn),
            b'D' => ("Describe", Turn::GoesOn),
            b'C' => ("Close", Turn::GoesOn),
            b'H' => ("Flush", Turn::GoesOn),
            b'S' => ("Sync", Turn::Asks),
            b'F' => ("FunctionCall", Turn::Asks),
            b'd' => ("CopyData", Turn::GoesOn),
            b'c' => ("CopyDone", Turn::GoesOn),
            b'f' => ("CopyFail", Turn::GoesOn),
            b'X' => ("Terminate", Turn::OneWay),
            other => panic!("no message of a PostgreSQL client: {other}"),
        };
        let (sql, action) = self.sql(name, &bytes[5..]);
        Request::new(bytes, name, turn).about(sql, action)
    }

    fn sql(&mut self, name: &str, body: &[u8]) -> (Option<String>, Action) {
        let (first, rest) = word(body);
        match name {
            "Query" => (Some(first), Action::Executes),
            "Parse" => {
                let (sql, _) = word(rest);
                self.statements.insert(first, sql.clone());
                (Some(sql), Action::Prepares)
            }
            "Bind" => {
                let sql = self.statements.get(&word(rest).0).cloned();
                self.portals.insert(first, sql.clone().unwrap_or_default());
                (sql, Action::Neither)
            }
            "Execute" => (self.portals.get(&first).cloned(), Action::Executes),
            _ => (None, Action::Neither),
        }
    }

    pub(super) fn response(&mut self, buffer: &mut Vec<u8>) -> Option<Response> {
        let bytes = take(buffer, 1)?;
        let mut end = None;
        if bytes[0] == b'Z' {
            end = Some(if self.logged_in {
                self.owed.pop_front().expect("a question to the answer")
            } else {
                End::Login
            });
            self.logged_in = true;
        }
        Some(Response { bytes, end })
    }

    /// The messages before the login have no type.
    fn opening(&mut self, buffer: &mut Vec<u8>) -> Option<Request> {
        let bytes = take(buffer, 0)?;
        let (name, turn) = match &bytes[4..8] {
            code if code == SSL => ("SSLRequest", Turn::AsksForEncryption),
            code if code == GSS => ("GSSENCRequest", Turn::AsksForEncryption),
            code if code == CANCEL => ("CancelRequest", Turn::OneWay),
            _ => {
                self.started = true;
                ("login", Turn::Login)
            }
        };
        Some(Request::new(bytes, name, turn))
    }
}

/// Takes a message whose length stands after its type.
fn take(buffer: &mut Vec<u8>, type_len: usize) -> Option<Vec<u8>> {
    let length = buffer.get(type_len..type_len + 4)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    let end = type_len + usize::try_from(length).expect("memory for it");
    (buffer.len() >= end).then(|| buffer.drain(..end).collect())
}

/// A text that ends with a zero, and what follows it.
fn word(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0);
    let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let text = String::from_utf8_lossy(text).into_owned();
    (text, rest.get(1..).unwrap_or_default())
}
