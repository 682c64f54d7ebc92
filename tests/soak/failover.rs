//! A primary and its synchronous standby, which takes over when the primary is lost. What was lost becomes the next
//! standby.

use std::thread::sleep;
use std::time::Duration;

use dbop_tests::server::{Beside, Server};
use dbop_tests::{Number, eventually};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::{RunQueryDsl as _, sql_query};
use fastrand::Rng;

use crate::Conn;
use crate::clustered::{Transfers, check, create};
use crate::tally::Mode;

const MODES: &[Mode] = &[
    Mode::Nothing,
    Mode::Verify,
    Mode::Status,
    Mode::Ledger,
    Mode::Hasty,
];

/// How a primary is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// kill -9.
    Killed,
    /// As an administrator does it.
    Stopped,
    /// It hangs for some time, and is killed.
    Halted,
}

const LOSSES: [Loss; 3] = [Loss::Killed, Loss::Stopped, Loss::Halted];

/// For how long something hangs.
const HALT: Duration = Duration::from_millis(1500);

struct Pair<'a> {
    server: &'a Server,
    primary: (&'static str, Beside),
    standby: (&'static str, Beside),
}

fn connect(server: &Server) -> Conn {
    Conn::establish(&server.url()).expect("it answers")
}

impl<'a> Pair<'a> {
    fn new(server: &'a Server) -> Self {
        let primary = ("one", server.another("one"));
        let pair = Self {
            server,
            standby: ("two", server.standby("two", primary.0)),
            primary,
        };
        pair.synchronize();
        pair
    }

    fn urls(&self) -> [String; 2] {
        [self.primary.1.url(), self.standby.1.url()]
    }

    /// From now on a COMMIT waits for the standby.
    fn synchronize(&self) {
        set(&self.primary.1, "SET synchronous_standby_names = '*'");
        let synchronous = "SELECT count(*) AS n FROM pg_stat_replication \
            WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming'";
        let mut conn = connect(&self.primary.1);
        eventually("the standby is synchronous", || {
            let row: Number = sql_query(synchronous).get_result(&mut conn).expect("rows");
            row.n == 1
        });
    }

    /// The standby takes over.
    fn fail_over(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.primary.1.kill(),
            Loss::Stopped => self.primary.1.stop(),
            Loss::Halted => {
                let halted = self.primary.1.halt();
                sleep(HALT);
                // Without it both would take writes.
                self.primary.1.kill();
                drop(halted);
            }
        }
        connect(&self.standby.1)
            .batch_execute("SELECT pg_promote()")
            .expect("a standby");
        // It has none itself yet, and waits for none.
        set(&self.standby.1, "RESET synchronous_standby_names");
        std::mem::swap(&mut self.primary, &mut self.standby);
    }

    /// What was lost follows the other one now.
    fn repair(&mut self) {
        self.server.make_standby(self.standby.0, self.primary.0);
        self.synchronize();
    }
}

/// ALTER SYSTEM.
fn set(server: &Server, what: &str) {
    let mut conn = connect(server);
    for sql in [&format!("ALTER SYSTEM {what}"), "SELECT pg_reload_conf()"] {
        conn.batch_execute(sql).expect("a superuser");
    }
}

/// What is said about transfers is true, whichever server is lost.
pub(crate) fn round(server: &Server, random: &mut Rng) {
    let mut pair = Pair::new(server);
    create(&mut connect(&pair.primary.1));
    let transfers = Transfers::begin(&pair.urls(), MODES, random);
    let mut losses = LOSSES;
    random.shuffle(&mut losses);
    for loss in losses {
        pair.fail_over(loss);
        transfers.proceed(&format!("{loss:?}"));
        pair.repair();
        transfers.proceed("with a standby again");
        // COMMITs wait for it.
        let halted = pair.standby.1.halt();
        sleep(HALT);
        drop(halted);
        transfers.proceed("with a standby that hung");
    }
    check(&transfers.end(), &[pair.primary.1.url()], "SELECT 1");
}
