//! The node under test, and another member: an arbitrator without which it has no quorum, or a second node.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use dbop_tests::{blocking, eventually, server_url};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::sql_types::Text;
use diesel::{MysqlConnection, QueryableByName, RunQueryDsl as _, sql_query};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// A cluster of two members, for one test at a time.
#[derive(Debug)]
pub(crate) struct Cluster {
    other: Other,
}

#[derive(Debug)]
enum Other {
    Arbitrator {
        process: Child,
        /// It writes a file where it runs.
        _folder: TempDir,
    },
    Node,
}

#[derive(QueryableByName)]
struct Status {
    #[diesel(sql_type = Text, column_name = "Value")]
    value: String,
}

fn node() -> MysqlConnection {
    MysqlConnection::establish(&server_url()).expect("the node answers")
}

fn status(name: &str) -> String {
    // What is read from a table is refused without a quorum.
    let status: Status = sql_query(format!("SHOW STATUS LIKE '{name}'"))
        .get_result(&mut node())
        .expect("a status");
    status.value
}

/// Where the node listens for other members.
fn address_of_node() -> String {
    let options: Status = sql_query("SHOW VARIABLES LIKE 'wsrep_provider_options'")
        .get_result(&mut node())
        .expect("a Galera node");
    let listens = options.value.split("gmcast.listen_addr = tcp://").nth(1);
    let address = listens.and_then(|rest| rest.split(';').next());
    address.expect("an address").trim().to_owned()
}

/// Waits until the test before this one is over.
fn take() {
    blocking(|| {
        while IS_TAKEN.swap(true, Ordering::Acquire) {
            sleep(Duration::from_millis(20));
        }
    });
}

fn has_two_members() -> bool {
    status("wsrep_cluster_size") == "2" && is_ready()
}

/// Starts a second node beside the one under test, or stops it. What is printed is its URL.
fn second_node(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/second.sh");
    let first = std::env::var_os("DBOP_TEST_DIR").expect("start with tests/run.sh");
    let mut bash = Command::new("bash");
    let output = bash.arg(script).arg(first).args(arguments).output();
    let output = output.expect("bash");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Cluster {
    /// With an arbitrator.
    pub(crate) fn new() -> Self {
        take();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("an address");
        drop(listener);
        let folder = TempDir::new().expect("a folder");
        let arbitrator = Command::new("garbd")
            .current_dir(folder.path())
            .arg(format!("--address=gcomm://{}", address_of_node()))
            .arg("--group=dbop")
            .arg(format!(
                "--options=gmcast.listen_addr=tcp://{own};evs.keepalive_period=PT0.3S;\
                 evs.suspect_timeout=PT1S;evs.inactive_timeout=PT3S;evs.install_timeout=PT3S"
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let cluster = Self {
            other: Other::Arbitrator {
                process: arbitrator.expect("garbd: tests/run.sh installs it"),
                _folder: folder,
            },
        };
        eventually("the arbitrator has joined", has_two_members);
        cluster
    }

    /// With a second node, whose URL is returned.
    pub(crate) fn of_two_nodes() -> (Self, String) {
        take();
        let cluster = Self { other: Other::Node };
        let url = blocking(|| second_node(&[]));
        eventually("the second node has joined", has_two_members);
        (cluster, url)
    }

    /// Kills the arbitrator. From then on the node refuses everything.
    pub(crate) fn lose_quorum(&self) {
        self.signal(Signal::KILL);
        eventually("the node has no quorum", || !is_ready());
    }

    /// Halts the arbitrator: the node does not know yet.
    pub(crate) fn halt_arbitrator(&self) {
        self.signal(Signal::STOP);
    }

    /// What is left of the cluster is the cluster, and accepts everything again.
    pub(crate) fn bootstrap() {
        eventually("the node has no quorum", || !is_ready());
        node()
            .batch_execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")
            .expect("a node");
        eventually("the node is ready", is_ready);
    }

    fn signal(&self, signal: Signal) {
        let Other::Arbitrator { process, .. } = &self.other else {
            panic!("there is no arbitrator");
        };
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("a running arbitrator");
    }
}

fn is_ready() -> bool {
    status("wsrep_ready") == "ON"
}

impl Drop for Cluster {
    fn drop(&mut self) {
        match &mut self.other {
            Other::Arbitrator { process, .. } => {
                _ = process.kill();
                _ = process.wait();
            }
            Other::Node => _ = blocking(|| second_node(&["stop"])),
        }
        // For the next test; this one has failed already if that does not help.
        blocking(|| {
            for _ in 0..100 {
                if status("wsrep_cluster_size") == "1" {
                    break;
                }
                sleep(Duration::from_millis(100));
            }
        });
        if !is_ready() {
            _ = node().batch_execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'");
        }
        IS_TAKEN.store(false, Ordering::Release);
    }
}
