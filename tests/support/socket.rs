//! What a client has asked of the kernel for its connection.

use std::fs::read_dir;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{
    socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl, tcp_user_timeout,
};
use rustix::net::{getpeername, getsockname};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The options that decide when a dead peer is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// How long nothing has to be heard before the first probe is sent.
    pub idle: Duration,
    /// The time between two probes.
    pub interval: Duration,
    /// After how many unanswered probes the connection is given up.
    pub count: u32,
    /// How long something sent may stay without an acknowledgement. Zero: the system decides.
    pub user_timeout: Duration,
}

/// Those of the connection of this process to a server at this port of this machine. `None`: it sends
/// no probes.
///
/// # Panics
///
/// If there is not exactly one.
#[must_use]
pub fn keepalives(port: u16) -> Option<Keepalives> {
    let mut sockets = connections_to(port);
    let socket = sockets.pop().expect("a connection");
    // Somebody else who looks for his own has copies of all, for a moment.
    let is_copy = |other: &OwnedFd| local_address(other) == local_address(&socket);
    assert!(sockets.iter().all(is_copy), "several connections");
    let answer = "a TCP connection";
    let keepalives = || Keepalives {
        idle: tcp_keepidle(&socket).expect(answer),
        interval: tcp_keepintvl(&socket).expect(answer),
        count: tcp_keepcnt(&socket).expect(answer),
        user_timeout: Duration::from_millis(tcp_user_timeout(&socket).expect(answer).into()),
    };
    socket_keepalive(&socket).expect(answer).then(keepalives)
}

fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

fn connections_to(port: u16) -> Vec<OwnedFd> {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).expect("Linux");
    let descriptors = read_dir("/proc/self/fd").expect("Linux");
    let descriptors =
        descriptors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    descriptors
        // Others are opened and closed meanwhile.
        .filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok())
        .filter(|descriptor| {
            let peer = getpeername(descriptor).ok().flatten();
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            peer.is_some_and(|peer| peer.port() == port)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    #[test]
    fn those_who_look_at_the_same_time_do_not_disturb_each_other() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
                    let address = listener.local_addr().expect("an address");
                    let _client = TcpStream::connect(address).expect("a connection");
                    for _ in 0..200 {
                        assert_eq!(keepalives(address.port()), None);
                    }
                });
            }
        });
    }
}
