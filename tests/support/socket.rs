//! What a client has asked of the kernel for its connection.

use std::fs::read_dir;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::getpeername;
use rustix::net::sockopt::{
    socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl, tcp_user_timeout,
};
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
    assert!(sockets.is_empty(), "several connections");
    let answer = "a TCP connection";
    let keepalives = || Keepalives {
        idle: tcp_keepidle(&socket).expect(answer),
        interval: tcp_keepintvl(&socket).expect(answer),
        count: tcp_keepcnt(&socket).expect(answer),
        user_timeout: Duration::from_millis(tcp_user_timeout(&socket).expect(answer).into()),
    };
    socket_keepalive(&socket).expect(answer).then(keepalives)
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
