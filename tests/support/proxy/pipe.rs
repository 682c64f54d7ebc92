use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// One end of a connection, and what waits to be looked at or to be sent.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: TcpStream,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// Nothing more will come.
    pub(super) has_ended: bool,
}

impl Pipe {
    pub(super) fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            has_ended: false,
        })
    }

    /// Takes what has come.
    pub(super) fn read(&mut self) {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.has_ended = true,
            Ok(length) => self.input.extend_from_slice(&chunk[..length]),
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
            Err(_) => self.has_ended = true,
        }
    }

    /// Sends what can be sent now.
    pub(super) fn write(&mut self) {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.stream.write(&self.output[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // There may still be something to read: that will end, too.
                Err(_) => sent = self.output.len(),
            }
        }
        self.output.drain(..sent);
    }

    /// Sends nothing more.
    pub(super) fn shut(&mut self) {
        self.write();
        // One that is gone already needs no farewell.
        _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes it: the other end sees an EOF.
    pub(super) fn close(mut self) {
        self.shut();
        // What is closed with something unread answers with a reset.
        self.input.clear();
        while !self.has_ended {
            self.read();
            if self.input.is_empty() {
                break;
            }
            self.input.clear();
        }
    }

    /// Closes it: the other end sees a reset.
    pub(super) fn reset(self) {
        // Without it, it is closed as any other.
        _ = set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
