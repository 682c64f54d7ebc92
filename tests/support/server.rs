//! A server that a test may stop, kill and start again, because nobody else uses it.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, WaitOptions, kill_process, set_child_subreaper, waitpid};

/// The server under test, where `tests/run.sh` has started it for this test alone.
///
/// Its folder is that of `servers/lib.sh`, which also ends it when the test has failed to.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
}

impl Server {
    /// The one of this run, in working order.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn of_this_run() -> Self {
        let dir = std::env::var_os("DBOP_TEST_DIR")
            .expect("DBOP_TEST_DIR names no server that may be killed: start with tests/run.sh");
        // A dead process that nobody has asked about is one that runs, for a server that finds its
        // id. So what this one starts becomes a child of ours.
        let ours = Pid::from_raw(1);
        set_child_subreaper(ours).expect("Linux");
        let server = Self { dir: dir.into() };
        // A test before this one may have failed in between.
        if !server.is_running() {
            server.start();
        }
        server
    }

    /// Another server of the same kind and version, with data of its own, in a folder of this name. It ends with the
    /// test.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn another(&self, name: &str) -> Beside {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/beside.sh");
        let mut bash = Command::new("bash");
        let status = bash.arg(script).arg(&self.dir).arg(name).status();
        let beside = Beside(Self {
            dir: self.path(name),
        });
        assert!(
            status.expect("bash").success(),
            "there is no second server: see {}",
            beside.0.path("log").display()
        );
        beside
    }

    /// A standby of the server that is in the folder `of`, beside this one. If there was a server of its name before,
    /// it has its port. PostgreSQL only.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn standby(&self, name: &str, of: &str) -> Beside {
        self.make_standby(name, of);
        Beside(Self {
            dir: self.path(name),
        })
    }

    /// The same where there was a server of this name before.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn make_standby(&self, name: &str, of: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/standby.sh");
        let mut bash = Command::new("bash");
        let status = bash.arg(script).arg(&self.dir).args([name, of]).status();
        assert!(
            status.expect("bash").success(),
            "there is no standby: see {}",
            self.path(name).join("log").display()
        );
    }

    /// Its URL, with a database `dbop`.
    ///
    /// # Panics
    ///
    /// If its folder has none.
    #[must_use]
    pub fn url(&self) -> String {
        self.read("url").trim().into()
    }

    /// Whether its process has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        is_alive(self.pid())
    }

    /// A file in its folder: `data` is the server's own, `log` is what it has said.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a running server");
    }

    /// Stops it as an administrator does who does not wait for its clients. It may have ended already.
    ///
    /// # Panics
    ///
    /// If that takes more than a minute.
    pub fn stop(&self) {
        let pid = self.pid();
        // PostgreSQL takes TERM as "when the last client has left".
        let signal = match self.kind().as_str() {
            "postgres" => Signal::INT,
            _ => Signal::TERM,
        };
        if is_alive(pid) {
            kill_process(pid, signal).expect("a running server");
        }
        wait_until_gone(pid, &[]);
    }

    /// Starts it again as a standby that follows nobody: it can be read until it is promoted.
    /// PostgreSQL only.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn become_standby(&self) {
        self.stop();
        let signal = self.path("data/standby.signal");
        fs::write(signal, "").expect("a file in the data directory");
        self.start();
    }

    /// Ends it with all its processes, without giving any of them a chance to do something.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn kill(&self) {
        let pid = self.pid();
        // While it is halted, there are no new processes.
        kill_process(pid, Signal::STOP).expect("a running server");
        let children = children(pid);
        kill_process(pid, Signal::KILL).expect("a halted server");
        for child in &children {
            // Who has ended in the meantime needs no killing.
            _ = kill_process(*child, Signal::KILL);
        }
        wait_until_gone(pid, &children);
    }

    /// Halts it with all its processes until what is returned is dropped. Its system still acknowledges what is
    /// sent to it.
    ///
    /// # Panics
    ///
    /// If it is not running.
    #[must_use]
    pub fn halt(&self) -> Halted {
        let pid = self.pid();
        // While it is halted, there are no new processes.
        kill_process(pid, Signal::STOP).expect("a running server");
        let mut halted = children(pid);
        for child in &halted {
            // It may have ended in the meantime.
            _ = kill_process(*child, Signal::STOP);
        }
        halted.push(pid);
        Halted(halted)
    }

    /// Ends the process of a session in the same way as [`kill`](Self::kill). `false` if it is gone already.
    #[must_use]
    pub fn kill_session(&self, session: i64) -> bool {
        let mut pids = children(self.pid()).into_iter();
        let pid = pids.find(|pid| i64::from(pid.as_raw_nonzero().get()) == session);
        pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }

    /// Starts it again, on the same port, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn start(&self) {
        self.start_again(&[]);
    }

    /// Starts it again, on the same port, and does not wait: it refuses everybody.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn start_unready(&self) {
        self.start_again(&["unready"]);
    }

    fn start_again(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/again.sh");
        let mut bash = Command::new("bash");
        let status = bash.arg(script).arg(&self.dir).args(arguments).status();
        assert!(
            status.expect("bash").success(),
            "the server does not start again: see {}",
            self.path("log").display()
        );
    }

    fn kind(&self) -> String {
        self.read("kind").trim().into()
    }

    fn pid(&self) -> Pid {
        let text = self.read("pid");
        let pid = text.split_whitespace().next();
        pid.and_then(|pid| Pid::from_raw(pid.parse().ok()?))
            .expect("a process id")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a file about the server")
    }
}

/// A server that is halted: it works again when this is dropped.
#[derive(Debug)]
pub struct Halted(Vec<Pid>);

impl Drop for Halted {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have been killed.
            _ = kill_process(*pid, Signal::CONT);
        }
    }
}

/// A server beside the one under test: it ends when this is dropped.
#[derive(Debug)]
pub struct Beside(Server);

impl Deref for Beside {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

/// What the kernel tells about a process: its state, and whose child it is.
fn stat(pid: Pid) -> Option<(String, i32)> {
    let pid = pid.as_raw_nonzero();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    Some((fields.next()?.into(), fields.next()?.parse().ok()?))
}

fn is_there(pid: Pid) -> bool {
    stat(pid).is_some()
}

/// One that has ended is there until its parent has asked about it.
fn is_alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state.as_str(), "Z" | "X"))
}

fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").expect("Linux");
    processes
        .filter_map(|process| {
            let pid = process.ok()?.file_name().to_str()?.parse().ok()?;
            let pid = Pid::from_raw(pid)?;
            (stat(pid)?.1 == parent.as_raw_nonzero().get()).then_some(pid)
        })
        .collect()
}

fn wait_until_gone(server: Pid, children: &[Pid]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_there(server) || children.iter().any(|pid| is_alive(*pid)) {
        assert!(
            Instant::now() < deadline,
            "the server does not end: {:?}",
            children
                .iter()
                .chain([&server])
                .map(|pid| stat(*pid))
                .collect::<Vec<_>>()
        );
        for pid in children.iter().chain([&server]) {
            // Not every one is a child of ours.
            _ = waitpid(Some(*pid), WaitOptions::NOHANG);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
