//! What was said about the transfers, and whether it is true.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dbop_diesel::{OperationError as _, Outcome, Report, StopReason};
use dbop_tests::accounts;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Integer};

use crate::Conn;

/// How what became of a lost commit is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "not every one is for every server")]
pub(crate) enum Mode {
    Nothing,
    Verify,
    Status,
    Ledger,
    /// By the ledger, in little time: what becomes of it need not be found out.
    Hasty,
}

/// An amount from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub(crate) struct Transfer {
    #[diesel(sql_type = BigInt)]
    pub(crate) id: i64,
    #[diesel(sql_type = Integer)]
    pub(crate) payer: i32,
    #[diesel(sql_type = Integer)]
    pub(crate) payee: i32,
    #[diesel(sql_type = BigInt)]
    pub(crate) amount: i64,
}

/// What its report said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    Done,
    Undone,
    Unknown,
}

/// A transfer that is over.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) transfer: Transfer,
    mode: Mode,
    known: Known,
    /// Why it was given up on, if it was.
    reason: Option<String>,
}

impl Told {
    pub(crate) fn by(report: &Report<(), Error>, transfer: Transfer, mode: Mode) -> Self {
        let error = report.result.as_ref().err();
        let own = error.and_then(Error::dbop_error);
        let is_unknown = own.is_some_and(dbop_diesel::Error::is_outcome_unknown);
        let known = match (report.outcome, error.is_some(), is_unknown) {
            (Outcome::Committed, false, false) => Known::Done,
            (Outcome::Undone, true, false) => Known::Undone,
            (Outcome::Unknown, true, true) => Known::Unknown,
            _ => panic!("{transfer:?}, {mode:?}: a contradiction: {report:?}"),
        };
        // The pools are patient, and every loss is worth another try. A deadline cuts statements short, too.
        assert!(
            mode == Mode::Hasty || report.stop != StopReason::NotRetryable,
            "{mode:?}: {report:#?}"
        );
        // The retries are enough for every loss, and the ledger can always tell.
        let exactly_once = matches!(mode, Mode::Verify | Mode::Ledger);
        assert!(
            !exactly_once || known == Known::Done,
            "{mode:?}: {report:#?}"
        );
        Self {
            transfer,
            mode,
            known,
            reason: error.map(|error| format!("{:?}: {error}", report.stop)),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    told: Vec<Told>,
}

impl Tally {
    pub(crate) fn add(&mut self, told: Vec<Told>) {
        self.told.extend(told);
    }

    /// Compares what was said with what is there, now that nothing can happen any more. The answer
    /// is for humans.
    pub(crate) fn check(&self, conn: &mut Conn, accounts: i32) -> String {
        let journal: Vec<Transfer> = diesel::sql_query("SELECT * FROM journal")
            .load(conn)
            .expect("the journal");
        check_balances(conn, accounts, &journal);

        let mut times = HashMap::<i64, u32>::new();
        for entry in &journal {
            *times.entry(entry.id).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for told in &self.told {
            let times = times.remove(&told.transfer.id).unwrap_or(0);
            let is_true = match told.known {
                Known::Done => times == 1,
                Known::Undone => times == 0,
                Known::Unknown => times <= 1,
            };
            if !is_true {
                wrong.push(format!("{times} times: {told:?}"));
            }
        }
        assert!(wrong.is_empty(), "not true: {wrong:#?}");
        assert!(times.is_empty(), "nobody made these: {times:?}");
        self.summary(&journal)
    }

    fn of(&self, mode: Mode) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(move |told| told.mode == mode)
    }

    fn summary(&self, journal: &[Transfer]) -> String {
        let kept: BTreeSet<i64> = journal.iter().map(|entry| entry.id).collect();
        let mut lines = Vec::new();
        let modes: BTreeSet<Mode> = self.told.iter().map(|told| told.mode).collect();
        for mode in &modes {
            let count = |known| self.of(*mode).filter(|told| told.known == known).count();
            let unknown = self.of(*mode).filter(|told| told.known == Known::Unknown);
            let done = unknown.filter(|told| kept.contains(&told.transfer.id));
            lines.push(format!(
                "  {mode:?}: {} done, {} undone, {} unknown of which {} are there",
                count(Known::Done),
                count(Known::Undone),
                count(Known::Unknown),
                done.count()
            ));
        }
        let mut reasons = BTreeMap::<(Mode, &str), u32>::new();
        for told in &self.told {
            if let Some(reason) = &told.reason {
                *reasons.entry((told.mode, reason)).or_default() += 1;
            }
        }
        for ((mode, reason), count) in reasons {
            lines.push(format!("    {mode:?}, {count} times {reason}"));
        }
        lines.join("\n")
    }
}

/// Each account has what the journal says, so no money is made and none is lost.
fn check_balances(conn: &mut Conn, accounts: i32, journal: &[Transfer]) {
    let mut expected: BTreeMap<i32, i64> = (1..=accounts).map(|id| (id, 100)).collect();
    for Transfer {
        payer,
        payee,
        amount,
        ..
    } in journal
    {
        *expected.get_mut(payer).expect("an account") -= amount;
        *expected.get_mut(payee).expect("an account") += amount;
    }
    let balances: Vec<(i32, i64)> = accounts::table.load(conn).expect("the accounts");
    let sum: i64 = balances.iter().map(|(_, balance)| balance).sum();
    assert_eq!(sum, 100 * i64::from(accounts), "money was made or lost");
    assert_eq!(balances.into_iter().collect::<BTreeMap<_, _>>(), expected);
}
