//! CPU time of the client's process, and of the server's where the server is on this machine.

use std::net::IpAddr;

use procfs::process::{FDTarget, Process, all_processes};
use procfs::{ProcResult, net, ticks_per_second};

/// A process; of a server also those that it has made, of which PostgreSQL has one for each session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    id: i32,
    has_children: bool,
}

impl Program {
    /// This process.
    pub(crate) fn client() -> ProcResult<Self> {
        Ok(Self {
            id: Process::myself()?.pid,
            has_children: false,
        })
    }

    /// The one that listens at the address of this URL. `None` if it is on another machine, or another
    /// user's.
    pub(crate) fn server(url: &str) -> Option<Self> {
        let port = local_port(url)?;
        let id = listener(port).ok().flatten()?;
        Some(Self {
            id,
            has_children: true,
        })
    }

    /// Its CPU time so far, in ticks.
    fn ticks(self) -> ProcResult<u64> {
        let mut ticks = ticks_of(&Process::new(self.id)?)?;
        if self.has_children {
            for process in all_processes()?.flatten() {
                // One may end in between.
                if process.stat().is_ok_and(|stat| stat.ppid == self.id) {
                    ticks += ticks_of(&process).unwrap_or_default();
                }
            }
        }
        Ok(ticks)
    }

    /// Its CPU time so far, in microseconds.
    pub(crate) fn micros(self) -> ProcResult<u64> {
        Ok(self.ticks()? * 1_000_000 / ticks_per_second())
    }
}

fn ticks_of(process: &Process) -> ProcResult<u64> {
    let stat = process.stat()?;
    Ok(stat.utime + stat.stime)
}

/// The port in a URL, if it is one of this machine.
fn local_port(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let (address, _) = rest.split_once('/').unwrap_or((rest, ""));
    let (_, address) = address.rsplit_once('@').unwrap_or(("", address));
    let (host, port) = address.rsplit_once(':')?;
    let is_here = host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
    is_here.then(|| port.parse().ok())?
}

/// Which process listens at this port.
fn listener(port: u16) -> ProcResult<Option<i32>> {
    let is_it = |entry: &net::TcpNetEntry| {
        entry.state == net::TcpState::Listen && entry.local_address.port() == port
    };
    let entries = net::tcp()?.into_iter();
    let entries = entries.chain(net::tcp6().unwrap_or_default());
    let sockets: Vec<u64> = entries.filter(is_it).map(|entry| entry.inode).collect();
    let has_one = |process: &Process| {
        let files = process.fd().into_iter().flatten().flatten();
        files
            .map(|file| file.target)
            .any(|file| matches!(file, FDTarget::Socket(inode) if sockets.contains(&inode)))
    };
    let mut processes = all_processes()?.flatten();
    Ok(processes.find(has_one).map(|process| process.pid))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_is_found_by_its_port() {
        let listening = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listening.local_addr().expect("an address").port();
        let own = Process::myself().expect("a process").pid;
        assert_eq!(listener(port).expect("a process"), Some(own));
        let url = format!("postgres://dbop@127.0.0.1:{port}/dbop");
        let server = Program::server(&url).expect("a server");
        let client = Program::client().expect("a client");
        // Both are this process, whose time does not go back.
        let before = client.micros().expect("a time");
        assert!(server.micros().expect("a time") >= before);
        drop(listening);
        assert!(Program::server(&url).is_none());
    }

    #[test]
    fn only_a_server_of_this_machine_has_a_port_here() {
        let ports = [
            ("postgres://u:p@127.0.0.1:5433/dbop?options=x", Some(5433)),
            ("mysql://dbop@localhost:3306/dbop", Some(3306)),
            ("mysql://dbop@192.0.2.1:3306/dbop", None),
            ("postgres://dbop@127.0.0.1/dbop", None),
            ("test.db", None),
        ];
        for (url, port) in ports {
            assert_eq!(local_port(url), port, "{url}");
        }
    }
}
