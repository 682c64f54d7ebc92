//! What is said about transfers is true, whichever nodes of three are lost.

use std::thread::sleep;
use std::time::Duration;

use dbop_tests::server::Signal;
use dbop_tests::{Number, eventually};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::{RunQueryDsl as _, sql_query};
use fastrand::Rng;

use crate::cluster::Cluster;
use crate::clustered::{Transfers, create, rounds, say};
use crate::office::ACCOUNTS;
use crate::tally::Mode;
use crate::{Bed, Conn};

const MODES: &[Mode] = &[Mode::Nothing, Mode::Ledger, Mode::Hasty];

/// What happens to one or two of three nodes.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// kill -9. It comes back without its data.
    Killed,
    /// As an administrator does it.
    Stopped,
    /// It hangs for longer than the others wait for it.
    Halted,
    /// It does not hear the others any more.
    Isolated,
    /// Two are killed, and the third one does not know whether it is alone.
    QuorumLost,
}

const LOSSES: [Loss; 5] = [
    Loss::Killed,
    Loss::Stopped,
    Loss::Halted,
    Loss::Isolated,
    Loss::QuorumLost,
];

/// For how long something hangs: the others wait for three seconds.
const HALT: Duration = Duration::from_secs(5);

struct Nodes {
    cluster: Cluster,
    urls: [String; 3],
}

fn connect(url: &str) -> Conn {
    Conn::establish(url).expect("it answers")
}

fn set(url: &str, option: &str) {
    connect(url)
        .batch_execute(&format!("SET GLOBAL wsrep_provider_options = '{option}'"))
        .expect("a node");
}

impl Nodes {
    /// What happens to the second one, or to both others.
    fn lose(&self, loss: Loss, transfers: &Transfers) {
        let after = format!("{loss:?}");
        let second = "second";
        match loss {
            Loss::Killed => {
                self.cluster.signal_node(second, Signal::KILL);
                transfers.proceed(&after);
                self.cluster.wait_for_members(2);
                self.cluster.start(second);
            }
            Loss::Stopped => {
                self.cluster.stop(second);
                transfers.proceed(&after);
                self.cluster.start(second);
            }
            Loss::Halted => {
                self.cluster.signal_node(second, Signal::STOP);
                sleep(HALT);
                self.cluster.signal_node(second, Signal::CONT);
                transfers.proceed(&after);
            }
            Loss::Isolated => {
                set(&self.urls[0], "gmcast.isolate=1");
                sleep(HALT);
                set(&self.urls[0], "gmcast.isolate=0");
                transfers.proceed(&after);
            }
            Loss::QuorumLost => {
                for name in [second, "third"] {
                    self.cluster.signal_node(name, Signal::KILL);
                }
                self.cluster.wait_for_loss();
                sleep(Duration::from_secs(1));
                Cluster::bootstrap();
                transfers.proceed(&after);
                self.cluster.start_beside_one(second);
                self.cluster.start("third");
            }
        }
        self.cluster.wait_for_members(3);
        transfers.proceed("with three nodes again");
    }
}

fn round(random: &mut Rng) {
    let (cluster, others) = Cluster::of_three_nodes();
    let bed = Bed::new();
    create(&mut bed.connect());
    let (_, name) = bed.url().rsplit_once('/').expect("a database in the URL");
    let others = others.map(|url| {
        let (server, _) = url.rsplit_once('/').expect("a database in the URL");
        format!("{server}/{name}")
    });
    let [second, third] = others;
    let urls = [second, third, bed.url().to_owned()];
    let transfers = Transfers::begin(&urls, MODES, random);
    let nodes = Nodes { cluster, urls };
    let mut losses = LOSSES;
    random.shuffle(&mut losses);
    for loss in losses {
        nodes.lose(loss, &transfers);
    }
    let tally = transfers.end();
    let mut summary = String::new();
    for url in &nodes.urls {
        let mut conn = None;
        eventually("the node is in the cluster", || {
            conn = in_step(url);
            conn.is_some()
        });
        summary = tally.check(&mut conn.expect("a connection"), ACCOUNTS);
    }
    say(&summary);
}

/// A session that has everything that the cluster has committed.
fn in_step(url: &str) -> Option<Conn> {
    let mut conn = Conn::establish(url).ok()?;
    conn.batch_execute("SET SESSION wsrep_sync_wait = 1").ok()?;
    let journal = sql_query("SELECT count(*) AS n FROM journal");
    journal.get_result::<Number>(&mut conn).ok()?;
    Some(conn)
}

#[test]
fn what_is_said_about_transfers_is_true_when_nodes_are_lost() {
    rounds(round);
}
