//! A client and a server that are no more than sockets. They speak PostgreSQL.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dbop_tests::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a server gets, and how it was cut off in the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Query(String),
    Other(u8),
    Eof,
    Reset,
}

/// A server that answers every query but those that begin with `WAIT`.
pub(super) struct Server {
    pub(super) url: String,
    heard: Receiver<Heard>,
}

impl Server {
    /// One that answers with so many bytes.
    pub(super) fn answering(length: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (outbox, heard) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut wire, outbox) = (Wire(stream.expect("a client")), outbox.clone());
                std::thread::spawn(move || {
                    if wire.lets_in().is_err() {
                        return;
                    }
                    loop {
                        let heard = wire.hears(length);
                        let is_end = matches!(heard, Heard::Eof | Heard::Reset);
                        if outbox.send(heard).is_err() || is_end {
                            break;
                        }
                    }
                });
            }
        });
        let url = format!("postgres://user@{address}/db?options=-csearch_path%3Dx");
        Self { url, heard }
    }

    pub(super) fn start() -> Self {
        Self::answering(10)
    }

    pub(super) fn hears(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("in time")
    }

    pub(super) fn hears_query(&self, sql: &str) {
        assert_eq!(self.hears(), Heard::Query(sql.into()));
    }

    pub(super) fn hears_nothing(&self) -> bool {
        self.heard.try_recv().is_err()
    }
}

/// One end of a connection.
pub(super) struct Wire(pub(super) TcpStream);

impl Wire {
    /// A client.
    pub(super) fn to(proxy: &Proxy) -> Self {
        let (_, rest) = proxy.url().split_once('@').expect("a user");
        let (address, _) = rest.split_once('/').expect("a database");
        let stream = TcpStream::connect(address).expect("a listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self(stream)
    }

    /// A client that has logged in.
    pub(super) fn logged_in(proxy: &Proxy) -> Self {
        let mut wire = Self::to(proxy);
        wire.open(196_608);
        assert_eq!(wire.read().expect("an answer").0, b'Z');
        wire
    }

    /// Sends a message as it comes before the login.
    pub(super) fn open(&mut self, code: u32) {
        let message = [8_u32.to_be_bytes(), code.to_be_bytes()].concat();
        self.0.write_all(&message).expect("a connection");
    }

    pub(super) fn write(&mut self, kind: u8, body: &[u8]) {
        self.0
            .write_all(&message(kind, body))
            .expect("a connection");
    }

    pub(super) fn ask(&mut self, sql: &str) {
        self.0.write_all(&query(sql)).expect("a connection");
    }

    pub(super) fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes(head[1..].try_into().expect("four"));
        let mut body = vec![0; usize::try_from(length).expect("memory") - 4];
        self.0.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    /// The text of a whole answer.
    pub(super) fn answer(&mut self) -> std::io::Result<String> {
        let (kind, text) = self.read()?;
        assert_eq!((kind, self.read()?.0), (b'C', b'Z'));
        Ok(String::from_utf8(text).expect("a text"))
    }

    /// How it ends, if nothing more comes before.
    pub(super) fn end(&mut self) -> Heard {
        match self.0.read(&mut [0]) {
            Ok(0) => Heard::Eof,
            Ok(_) => panic!("not the end"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Heard::Reset,
            Err(error) => panic!("{error}"),
        }
    }

    /// The login as a server sees it.
    fn lets_in(&mut self) -> std::io::Result<()> {
        self.0.read_exact(&mut [0; 8])?;
        self.0.write_all(&message(b'Z', b"I"))
    }

    /// What a server hears, and says to it.
    fn hears(&mut self, length: usize) -> Heard {
        match self.read() {
            Ok((b'Q', body)) => {
                let sql = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                if !sql.starts_with("WAIT") {
                    let mut text = sql.clone().into_bytes();
                    text.resize(length.max(sql.len()), b' ');
                    let answer = [message(b'C', &text), message(b'Z', b"I")];
                    // Who has gone misses it.
                    _ = self.0.write_all(&answer.concat());
                }
                Heard::Query(sql)
            }
            Ok((b'S', _)) => {
                _ = self.0.write_all(&message(b'Z', b"I"));
                Heard::Other(b'S')
            }
            Ok((kind, _)) => Heard::Other(kind),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Heard::Eof,
            Err(_) => Heard::Reset,
        }
    }
}

pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("not that long");
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

pub(super) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), &[0]].concat())
}
