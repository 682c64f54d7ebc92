use std::fmt;

use super::Protocol;
use super::mysql::Mysql;
use super::postgres::Postgres;

/// What a client and a server say to each other on one connection, message by message.
#[derive(Debug)]
pub struct Dialog(Wire);

#[derive(Debug)]
enum Wire {
    Postgres(Postgres),
    Mysql(Mysql),
}

impl Dialog {
    /// That of a new connection.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self(match protocol {
            Protocol::Postgres => Wire::Postgres(Postgres::default()),
            Protocol::Mysql => Wire::Mysql(Mysql::default()),
        })
    }

    /// Takes the next whole message out of what the client has sent.
    pub fn request(&mut self, buffer: &mut Vec<u8>) -> Option<Request> {
        match &mut self.0 {
            Wire::Postgres(postgres) => postgres.request(buffer),
            Wire::Mysql(mysql) => mysql.request(buffer),
        }
    }

    /// Takes the next whole message out of what the server has sent.
    pub fn response(&mut self, buffer: &mut Vec<u8>) -> Option<Response> {
        match &mut self.0 {
            Wire::Postgres(postgres) => postgres.response(buffer),
            Wire::Mysql(mysql) => mysql.response(buffer),
        }
    }
}

/// A message of the client.
#[derive(Clone, Debug)]
pub struct Request {
    /// The whole of it.
    pub bytes: Vec<u8>,
    /// What the protocol calls it.
    pub name: &'static str,
    /// The SQL it contains, or that of the statement it is about.
    pub sql: Option<String>,
    /// What it does with this SQL.
    pub action: Action,
    /// What comes after it.
    pub turn: Turn,
    /// Whether it is part of something that no client waits for, sent whenever it suits.
    pub is_aside: bool,
}

impl Request {
    pub(super) const fn new(bytes: Vec<u8>, name: &'static str, turn: Turn) -> Self {
        Self {
            bytes,
            name,
            sql: None,
            action: Action::Neither,
            turn,
            is_aside: false,
        }
    }

    pub(super) fn about(mut self, sql: Option<String>, action: Action) -> Self {
        self.sql = sql;
        self.action = action;
        self
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match &self.sql {
            Some(sql) => write!(f, ": {sql}"),
            None => Ok(()),
        }
    }
}

/// What a message does with its SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It has it prepared.
    Prepares,
    /// It has it executed.
    Executes,
    /// Something else.
    Neither,
}

/// What comes after a message of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The answer of the server.
    Asks,
    /// More messages, and then one answer to all of them.
    GoesOn,
    /// Nothing: it has no answer.
    OneWay,
    /// It belongs to the login.
    Login,
    /// An N from whoever stands in the middle: the server never sees it.
    AsksForEncryption,
}

/// A message of the server.
#[derive(Clone, Debug)]
pub struct Response {
    /// The whole of it.
    pub bytes: Vec<u8>,
    /// What is complete with it, if anything.
    pub end: Option<End>,
}

/// What is complete with a message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The login.
    Login,
    /// The answer to a message that [asks](Turn::Asks).
    Answer,
    /// The same, but to an [aside](Request::is_aside).
    Aside,
}
