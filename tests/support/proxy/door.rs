use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use super::Protocol;
use super::connection::Connection;
use super::shared::Shared;

/// Where clients come in.
#[derive(Debug)]
pub(super) struct Door {
    protocol: Protocol,
    server: String,
    shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    port: u16,
    /// Keeps the port while nobody listens.
    _port: OwnedFd,
    doorman: Mutex<Option<Doorman>>,
}

#[derive(Debug)]
struct Doorman {
    waker: UnixStream,
    thread: JoinHandle<()>,
}

impl Door {
    /// One to this server, closed.
    pub(super) fn new(protocol: Protocol, server: &str, shared: Arc<Shared>) -> Self {
        let socket = bound(0);
        let address = rustix::net::getsockname(&socket).expect("an address");
        let address = SocketAddrV4::try_from(address).expect("an IPv4 address");
        Self {
            protocol,
            server: server.into(),
            shared,
            threads: Arc::default(),
            port: address.port(),
            _port: socket,
            doorman: Mutex::default(),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// From now on clients are let in.
    pub(super) fn open(&self) {
        let mut doorman = self.doorman.lock().unwrap_or_else(PoisonError::into_inner);
        if doorman.is_some() {
            return;
        }
        let socket = bound(self.port);
        rustix::net::listen(&socket, 128).expect("a listening socket");
        let listener = TcpListener::from(socket);
        let (waker, woken) = UnixStream::pair().expect("a pair of sockets");
        let (protocol, server) = (self.protocol, self.server.clone());
        let (shared, threads) = (self.shared.clone(), self.threads.clone());
        let thread = std::thread::spawn(move || {
            while let Some(client) = next_client(&listener, &woken) {
                let shared = shared.clone();
                // Without a server there is nothing that could be done for a client.
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                let Ok(connection) = Connection::new(protocol, client, server, shared) else {
                    continue;
                };
                let thread = std::thread::spawn(move || connection.run());
                let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
                threads.push(thread);
            }
            // A child that is being started elsewhere has a copy of it, which would let clients in.
            rustix::net::shutdown(&listener, Shutdown::Both).expect("a listening socket");
        });
        *doorman = Some(Doorman { waker, thread });
    }

    /// From now on clients are refused.
    pub(super) fn close(&self) {
        let doorman = self
            .doorman
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Doorman { mut waker, thread }) = doorman {
            // One that is gone already needs no waking.
            _ = waker.write(&[0]);
            thread.join().expect("no panic");
        }
    }

    /// Waits for the threads of all connections, and says whether all has gone well.
    pub(super) fn join(&self) -> bool {
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        threads.into_iter().all(|thread| thread.join().is_ok())
    }
}

/// `None` if there are to be no more.
fn next_client(listener: &TcpListener, woken: &UnixStream) -> Option<TcpStream> {
    loop {
        let (listener_fd, woken_fd) = (listener.as_fd(), woken.as_fd());
        let mut ready =
            [listener_fd, woken_fd].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        if poll(&mut ready, None).is_err() {
            continue;
        }
        if !ready[1].revents().is_empty() {
            return None;
        }
        if let Ok((client, _)) = listener.accept() {
            return Some(client);
        }
    }
}

/// A socket with this port, or any free one for 0. Several can have the same.
fn bound(port: u16) -> OwnedFd {
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None);
    let socket = socket.expect("a socket");
    let share = || {
        sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
        sockopt::set_socket_reuseport(&socket, true).expect("an option");
    };
    // A socket that is ready to share can be given the port of another one that is, as a free one.
    if port != 0 {
        share();
    }
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    rustix::net::bind(&socket, &address).expect("a free port");
    if port == 0 {
        share();
    }
    socket
}
