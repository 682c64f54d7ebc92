use std::collections::HashMap;

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
        let body = &bytes[5..];
        let request = match bytes[0] {
            b'Q' => {
                let sql = Some(word(body).0);
                return Some(Request::new(bytes, "Query", Turn::Asks).about(sql, Action::Executes));
            }
            b'P' => return Some(self.parse(bytes)),
            b'B' => return Some(self.bind(bytes)),
            b'E' => {
                let sql = self.portals.get(&word(body).0).cloned();
                return Some(
                    Request::new(bytes, "Execute", Turn::GoesOn).about(sql, Action::Executes),
                );
            }
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
        Some(Request::new(bytes, request.0, request.1))
    }

    pub(super) fn response(&mut self, buffer: &mut Vec<u8>) -> Option<Response> {
        let bytes = take(buffer, 1)?;
        let end = (bytes[0] == b'Z').then_some(if self.logged_in {
            End::Answer
        } else {
            End::Login
        });
        self.logged_in |= end.is_some();
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

    fn parse(&mut self, bytes: Vec<u8>) -> Request {
        let (name, rest) = word(&bytes[5..]);
        let (sql, _) = word(rest);
        self.statements.insert(name, sql.clone());
        Request::new(bytes, "Parse", Turn::GoesOn).about(Some(sql), Action::Prepares)
    }

    fn bind(&mut self, bytes: Vec<u8>) -> Request {
        let (portal, rest) = word(&bytes[5..]);
        let sql = self.statements.get(&word(rest).0).cloned();
        if let Some(sql) = sql.clone() {
            self.portals.insert(portal, sql);
        }
        Request::new(bytes, "Bind", Turn::GoesOn).about(sql, Action::Neither)
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
