//! The node under test, and other members: an arbitrator without which it has no quorum, or one or two nodes.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use dbop_diesel::{Code, Fault, FaultClass};
use dbop_tests::{blocking, eventually, members, server_url};
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

/// How the question about a COMMIT may be asked: what the session is told first.
pub(crate) const QUESTIONS: &[&str] = &["SELECT 1"];

/// How many rows keep a node busy.
pub(crate) const LARGE: i64 = 1 << 17;

/// For how many keys two nodes compete.
pub(crate) const KEYS: u32 = 200;

/// Whether this is how a cluster refuses a transaction because of another one on another node.
pub(crate) fn is_refusal(fault: Fault) -> bool {
    fault.class() == FaultClass::Deadlock && fault.code() == Some(Code::Errno(1213))
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

/// What it has logged, if it does not start.
fn start_member(name: &str) -> String {
    members::start(name).unwrap_or_else(|log| panic!("{log}"))
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
        let url = start_member("second");
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
        let url = start_member(name);
        eventually("the node has joined", || has_members(members + 1));
        url
    }

    /// The same where the node under test is alone. It can lose the other one again while that gets the data, and
    /// is the only one that has them.
    pub(crate) fn start_beside_one(&self, name: &str) {
        for _ in 0..4 {
            if members::start(name).is_ok() {
                return self.wait_for_members(2);
            }
            if !is_ready() {
                Self::bootstrap();
            }
        }
        panic!("{name} does not join");
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
                    members::stop(name);
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
