//! A program among the examples, as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::eventually;

/// A program that has started. It is killed when it is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    // What it prints later has to go somewhere.
    stdout: BufReader<ChildStdout>,
    first_line: String,
    log: Arc<Mutex<String>>,
}

impl Program {
    /// Starts a program on this database, and waits for the first line that it prints.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(path: &str, database_url: &str) -> Self {
        let mut child = Command::new(path)
            .env("DATABASE_URL", database_url)
            .env("LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let log = Arc::<Mutex<String>>::default();
        let (stderr, copy) = (child.stderr.take().expect("piped"), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = copy.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        // From here on it is killed if the test fails.
        let mut program = Self {
            child,
            stdout,
            first_line: String::new(),
            log,
        };
        let read = program.stdout.read_line(&mut program.first_line);
        read.expect("a line");
        program
    }

    /// The address that a service says it listens on.
    ///
    /// # Panics
    ///
    /// If it says something else.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let line = self.first_line.trim();
        let address = line.strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{line}: {}", self.log()));
        address.parse().expect("an address")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// As a supervisor does it.
    ///
    /// # Panics
    ///
    /// If it has ended before.
    pub fn ask_to_stop(&self) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.expect("a process").success());
    }

    /// Its exit code.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub async fn end(mut self) -> Option<i32> {
        let mut status = None;
        eventually("it stops", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Without effect on one that has ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
