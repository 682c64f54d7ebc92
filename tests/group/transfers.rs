//! What is said about transfers is true, whichever members of a group of three are lost.

use std::thread::sleep;
use std::time::Duration;

use dbop_tests::server::Signal;
use dbop_tests::{eventually, members};
use fastrand::Rng;

use crate::Bed;
use crate::cluster::{Cluster, Halted, IN_STEP, Primaries, answers, tell};
use crate::clustered::{Transfers, check, create, rounds};
use crate::office::from_environment;
use crate::tally::Mode;

const MODES: &[Mode] = &[Mode::Nothing, Mode::Ledger, Mode::Hasty];

/// What happens to one or two of three members. With a single primary, it is the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// kill -9. It comes back without its data.
    Killed,
    /// As an administrator does it.
    Stopped,
    /// It leaves the group and works on alone, as a server that takes no writes.
    Left,
    /// It hangs for longer than the others wait for it, and finds itself expelled.
    Halted,
    /// Two are killed, and the third one does not know whether it is alone.
    QuorumLost,
}

const LOSSES: [Loss; 5] = [
    Loss::Killed,
    Loss::Stopped,
    Loss::Left,
    Loss::Halted,
    Loss::QuorumLost,
];

/// A member takes half a minute to stop while clients are connected, and a group without a majority one to be forced.
/// So these are for runs that are asked for.
fn is_long() -> bool {
    from_environment("DBOP_SOAK_SECONDS").is_some_and(|seconds| seconds > 0)
}

/// For how long something hangs: the others notice after five seconds.
const HALT: Duration = Duration::from_secs(8);

/// What happens to the second member, or to both others.
fn lose(cluster: &Cluster, loss: Loss, transfers: &Transfers) {
    let after = format!("{loss:?}");
    let second = "second";
    match loss {
        Loss::Killed => {
            members::signal(second, Signal::KILL);
            cluster.wait_for_members(2);
            transfers.proceed(&after);
            cluster.start(second);
        }
        Loss::Stopped => {
            members::stop(second);
            transfers.proceed(&after);
            cluster.start(second);
        }
        Loss::Left => {
            tell(&cluster.others()[0], "STOP GROUP_REPLICATION");
            transfers.proceed(&after);
            tell(&cluster.others()[0], "START GROUP_REPLICATION");
        }
        Loss::Halted => {
            let halted = Halted::new(&[second]);
            sleep(HALT);
            drop(halted);
            transfers.proceed(&after);
        }
        Loss::QuorumLost => {
            let waits = cluster.wait_without_a_majority();
            Cluster::kill_others();
            cluster.force();
            drop(waits);
            transfers.proceed(&after);
            cluster.start_both();
        }
    }
    cluster.wait_for_members(3);
    transfers.proceed("with three members again");
}

fn round(primaries: Primaries, random: &mut Rng) {
    let cluster = Cluster::alone(primaries);
    let bed = Bed::new();
    create(&mut bed.connect());
    let [second, third] = cluster.others().each_ref().map(|url| bed.url_at(url));
    let urls = [second, third, bed.url().to_owned()];
    for url in &urls {
        eventually("the tables are there", || {
            answers(url, "(SELECT count(*) = 0 FROM dbop_ledger)")
        });
    }
    let transfers = Transfers::begin(&urls, MODES, random);
    let mut losses = match (is_long(), primaries) {
        (true, _) => LOSSES.to_vec(),
        (false, Primaries::Single) => vec![Loss::Left, Loss::Killed],
        (false, Primaries::Multi) => vec![Loss::Left],
    };
    random.shuffle(&mut losses);
    for loss in losses {
        // Without a majority, the primary does not know what becomes of its transactions.
        if primaries == Primaries::Single && loss != Loss::QuorumLost {
            cluster.move_primary();
        }
        lose(&cluster, loss, &transfers);
    }
    check(&transfers.end(), &urls, IN_STEP);
}

#[test]
fn what_is_said_about_transfers_is_true_when_a_primary_is_lost() {
    rounds(|random| round(Primaries::Single, random));
}

#[test]
fn what_is_said_about_transfers_is_true_when_members_are_lost() {
    rounds(|random| round(Primaries::Multi, random));
}
