//! The other members of a cluster whose first one is the server under test. Each has a folder of its name in the
//! folder of the first one, and `servers/member.sh` starts it there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, kill_process};

use crate::blocking;
use crate::server::Signal;

/// Starts it, without the data that it had, and returns its URL. If it does not start, what it has logged is returned.
///
/// # Errors
///
/// If it does not start.
pub fn start(name: &str) -> Result<String, String> {
    member(&[name])
}

/// Stops it as an administrator does.
pub fn stop(name: &str) {
    // It may not have been started at all.
    _ = member(&[name, "stop"]);
}

/// Sends it a signal.
///
/// # Panics
///
/// If it is not running.
pub fn signal(name: &str, signal: Signal) {
    let text = fs::read_to_string(folder().join(name).join("pid")).expect("a member of this name");
    let pid = text.split(' ').next().and_then(|pid| pid.parse().ok());
    let pid = pid.and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("a running member");
}

/// Where the first one is.
fn folder() -> PathBuf {
    std::env::var_os("DBOP_TEST_DIR")
        .expect("start with tests/run.sh")
        .into()
}

fn member(arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/member.sh");
    let mut bash = Command::new("bash");
    bash.arg(script).arg(folder()).args(arguments);
    let output = blocking(|| bash.output()).expect("bash");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
