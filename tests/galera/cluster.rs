//! The node under test, and other members: an arbitrator without which it has no quorum, or one or two nodes.

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

/// A cluster of two or three members, for one test at a time.
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
    Nodes(Vec<&'static str>),
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
    has_members(2)
}

fn has_members(count: usize) -> bool {
    status("wsrep_cluster_size") == count.to_string() && is_ready()
}

/// Starts another node beside the one under test, or stops it: `name`, and perhaps `stop`. What is printed is its
/// URL.
fn member(arguments: &[&str]) -> String {
    try_member(arguments).unwrap_or_else(|log| panic!("{log}"))
}

/// What it has logged, if it does not start.
fn try_member(arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/member.sh");
    let first = std::env::var_os("DBOP_TEST_DIR").expect("start with tests/run.sh");
    let mut bash = Command::new("bash");
    let output = bash.arg(script).arg(first).args(arguments).output();
    let output = output.expect("bash");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
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
        let cluster = Self::with_nodes(&["second"]);
        let url = blocking(|| member(&["second"]));
        eventually("the second node has joined", has_two_members);
        (cluster, url)
    }

    /// With a second and a third node, whose URLs are returned.
    pub(crate) fn of_three_nodes() -> (Self, [String; 2]) {
        take();
        let names = ["second", "third"];
        let cluster = Self::with_nodes(&names);
        let urls = names.map(|name| cluster.start(name));
        (cluster, urls)
    }

    fn with_nodes(names: &[&'static str]) -> Self {
        Self {
            other: Other::Nodes(names.to_vec()),
        }
    }

    /// Starts one of its nodes, if it is not running, and waits until it has joined.
    pub(crate) fn start(&self, name: &str) -> String {
        let members: usize = status("wsrep_cluster_size").parse().expect("a number");
        let url = blocking(|| member(&[name]));
        eventually("the node has joined", || has_members(members + 1));
        url
    }

    /// The same where the node under test is alone. It can lose the other one again while that gets the data, and
    /// is the only one that has them.
    pub(crate) fn start_beside_one(&self, name: &str) {
        for _ in 0..4 {
            if blocking(|| try_member(&[name])).is_ok() {
                return self.wait_for_members(2);
            }
            if !is_ready() {
                Self::bootstrap();
            }
        }
        panic!("{name} does not join");
    }

    /// Stops one of its nodes as an administrator does.
    pub(crate) fn stop(&self, name: &str) {
        blocking(|| member(&[name, "stop"]));
    }

    /// Sends a signal to one of its nodes.
    pub(crate) fn signal_node(&self, name: &str, signal: Signal) {
        let first = std::env::var_os("DBOP_TEST_DIR").expect("start with tests/run.sh");
        let pid = std::fs::read_to_string(Path::new(&first).join(name).join("pid"));
        let pid = pid.expect("a node of this name");
        let pid = pid.split(' ').next().and_then(|pid| pid.parse().ok());
        let pid = pid.and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a running node");
    }

    /// Waits until so many nodes, the one under test among them, are the cluster.
    pub(crate) fn wait_for_members(&self, count: usize) {
        eventually("the nodes have found each other", || has_members(count));
    }

    /// Waits until the node under test is without a quorum.
    pub(crate) fn wait_for_loss(&self) {
        eventually("the node has no quorum", || !is_ready());
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
            Other::Nodes(names) => {
                for name in names {
                    _ = blocking(|| member(&[name, "stop"]));
                }
            }
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
