//! The connection is lost while COMMIT is under way: what is reported is true, and where there is a
//! way to find out what became of the work, it is done exactly once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Ledger, Outcome};
use dbop_tests::proxy::{Cut, Proxy, Until, When};

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, backend, scenario};

/// What became of the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing went wrong.
    Answered,
    /// It never got to the server.
    NeverSent,
    /// It was carried out, and its answer was lost.
    AnswerLost,
    /// It is carried out after the client has given up on it.
    Late,
}

impl Fate {
    const LOST: [Self; 3] = [Self::NeverSent, Self::AnswerLost, Self::Late];

    fn befall(self, proxy: &Proxy) {
        let cut = match self {
            Self::Answered => return,
            Self::NeverSent => Cut::BeforeSent,
            Self::AnswerLost => Cut::AnswerLost,
            Self::Late => Cut::Late(Until::Passed(Duration::from_millis(700))),
        };
        _ = proxy.cut(When::commit(), cut);
    }
}

#[scenario]
async fn with_a_ledger_it_is_done_exactly_once() {
    for fate in Fate::LOST {
        let bed = Bed::new();
        bed.connect()
            .batch_execute(Ledger::create_table(backend::DIALECT))
            .await
            .expect("a new table");
        let ledger = Ledger::new();
        let proxy = Proxy::start(bed.url());
        fate.befall(&proxy);
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .operation("pay")
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                },
            )
            .await;
        assert_eq!(report.result, Ok(1), "{fate:?}");
        assert_eq!(report.outcome, Outcome::Committed);
        let once = matches!(fate, Fate::AnswerLost | Fate::Late);
        assert_eq!(bodies.into_inner(), if once { 1 } else { 2 }, "{fate:?}");
        assert_eq!(bed.balances()[0], (1, 110), "{fate:?}");
        assert_eq!(proxy.cuts_made(), 1);
    }
}
