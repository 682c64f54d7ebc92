//! What is said about transfers is true, whichever nodes of three are lost.

use std::thread::sleep;
use std::time::Duration;

use dbop_tests::members;
use dbop_tests::server::Signal;
use diesel::connection::{Connection as _, SimpleConnection as _};
use fastrand::Rng;

use crate::cluster::Cluster;
use crate::clustered::{Transfers, check, create, rounds};
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
                members::signal(second, Signal::KILL);
                transfers.proceed(&after);
                self.cluster.wait_for_members(2);
                self.cluster.start(second);
            }
            Loss::Stopped => {
                members::stop(second);
                transfers.proceed(&after);
                self.cluster.start(second);
            }
            Loss::Halted => {
                members::signal(second, Signal::STOP);
                sleep(HALT);
                members::signal(second, Signal::CONT);
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
                    members::signal(name, Signal::KILL);
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
    let [second, third] = others.map(|url| bed.url_at(&url));
    let urls = [second, third, bed.url().to_owned()];
    let transfers = Transfers::begin(&urls, MODES, random);
    let nodes = Nodes { cluster, urls };
    let mut losses = LOSSES;
    random.shuffle(&mut losses);
    for loss in losses {
        nodes.lose(loss, &transfers);
    }
    check(
        &transfers.end(),
        &nodes.urls,
        "SET SESSION wsrep_sync_wait = 1",
    );
}

#[test]
fn what_is_said_about_transfers_is_true_when_nodes_are_lost() {
    rounds(round);
}
