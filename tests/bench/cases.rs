//! The cases: what one operation is, and whom it is compared with.

use crate::storm::Outcome;
use crate::storm::backends::Backend;

/// A way to do something.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The name of the case that it is compared with by default.
    pub(crate) partner: &'static str,
    pub(crate) about: &'static str,
    pub(crate) what: What,
    /// How many rows an operation adds one to.
    pub(crate) adds: u32,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Bare,
    BareThree,
    BareNestedThree,
    BareRead,
    BarePlain,
    /// The SQL is sent by hand.
    Checked,
    Contained,
    Run,
    Unset,
    NestedThree,
    Settings,
    ReadOnly,
    Plain,
    RunOn,
    Ledger,
    Keyed,
}

/// A case and its partner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) case: &'static Case,
    pub(crate) partner: &'static Case,
}

/// Every case.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "bare1",
        partner: "bare1",
        about: "Diesel's transaction around one UPDATE by primary key",
        what: What::Bare,
        adds: 1,
    },
    Case {
        name: "run1",
        partner: "bare1",
        about: "the same by a default runner",
        what: What::Run,
        adds: 1,
    },
    Case {
        name: "unset1",
        partner: "bare1",
        about: "the same by a runner without the default lock timeout",
        what: What::Unset,
        adds: 1,
    },
    Case {
        name: "checked1",
        partner: "bare1",
        about: "SQL by hand: before COMMIT, a statement that fails if the transaction is not the one that began",
        what: What::Checked,
        adds: 1,
    },
    Case {
        name: "contained1",
        partner: "checked1",
        about: "the same with autocommit off, so that nothing after such a rollback is committed",
        what: What::Contained,
        adds: 1,
    },
    Case {
        name: "settings1",
        partner: "run1",
        about: "run1 with a lock timeout of its own, and a statement timeout where there is one",
        what: What::Settings,
        adds: 1,
    },
    Case {
        name: "runon1",
        partner: "run1",
        about: "run1 on a pool, by run_on",
        what: What::RunOn,
        adds: 1,
    },
    Case {
        name: "ledger1",
        partner: "runon1",
        about: "runon1 with a ledger",
        what: What::Ledger,
        adds: 1,
    },
    Case {
        name: "keyed1",
        partner: "runon1",
        about: "runon1 with an idempotency key, another one each time",
        what: What::Keyed,
        adds: 1,
    },
    Case {
        name: "bare3",
        partner: "bare1",
        about: "Diesel's transaction around three such UPDATEs",
        what: What::BareThree,
        adds: 3,
    },
    Case {
        name: "barenested3",
        partner: "bare3",
        about: "Diesel's transaction around three others with one UPDATE each",
        what: What::BareNestedThree,
        adds: 3,
    },
    Case {
        name: "nested3",
        partner: "barenested3",
        about: "an operation around three others with one UPDATE each",
        what: What::NestedThree,
        adds: 3,
    },
    Case {
        name: "bareread1",
        partner: "bare1",
        about: "Diesel's transaction around one SELECT by primary key",
        what: What::BareRead,
        adds: 0,
    },
    Case {
        name: "readonly1",
        partner: "bareread1",
        about: "the same by a default runner, read-only",
        what: What::ReadOnly,
        adds: 0,
    },
    Case {
        name: "bareplain1",
        partner: "bareread1",
        about: "the SELECT alone, without a transaction",
        what: What::BarePlain,
        adds: 0,
    },
    Case {
        name: "plain1",
        partner: "bareplain1",
        about: "the same as an operation without_transaction",
        what: What::Plain,
        adds: 0,
    },
];

impl Case {
    /// Whether this backend has something to measure.
    pub(crate) fn is_on(&self, backend: Backend) -> bool {
        match self.what {
            What::Contained => backend == Backend::Mysql,
            // On SQLite no token is written.
            What::Ledger => backend != Backend::Sqlite,
            // And there is no default lock timeout.
            What::Unset => backend != Backend::Sqlite,
            _ => true,
        }
    }
}

impl What {
    /// Each operation takes its connection from the pool.
    pub(crate) const fn is_on_pool(self) -> bool {
        matches!(self, Self::RunOn | Self::Ledger | Self::Keyed)
    }
}

impl Pair {
    fn is_on(self, backend: Backend) -> bool {
        self.case.is_on(backend) && self.partner.is_on(backend)
    }
}

/// The pairs of these names, such as `run1` or `ledger1/runon1`; without any, every case with its partner.
pub(crate) fn pairs(names: &[String], backend: Backend) -> Outcome<Vec<Pair>> {
    if names.is_empty() {
        let all = CASES.iter().map(|case| pair(case, case.partner));
        let mut all = all.collect::<Outcome<Vec<_>>>()?;
        all.retain(|pair| pair.is_on(backend));
        return Ok(all);
    }
    let of_name = |name: &String| {
        let pair = match name.split_once('/') {
            Some((name, partner)) => pair(find(name)?, partner)?,
            None => {
                let case = find(name)?;
                pair(case, case.partner)?
            }
        };
        match pair.is_on(backend) {
            true => Ok(pair),
            false => Err(format!("{name} is nothing on {backend:?}").into()),
        }
    };
    names.iter().map(of_name).collect()
}

fn pair(case: &'static Case, partner: &str) -> Outcome<Pair> {
    let partner = find(partner)?;
    Ok(Pair { case, partner })
}

fn find(name: &str) -> Outcome<&'static Case> {
    let case = CASES.iter().find(|case| case.name == name);
    case.ok_or_else(|| format!("there is no case {name}: see bench list").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pairs: &[Pair]) -> Vec<String> {
        let name = |pair: &Pair| format!("{}/{}", pair.case.name, pair.partner.name);
        pairs.iter().map(name).collect()
    }

    #[test]
    fn a_case_has_a_partner_unless_another_one_is_named() {
        let asked = ["run1", "run1/run1", "ledger1"].map(String::from);
        let pairs = pairs(&asked, Backend::Postgres).expect("pairs");
        assert_eq!(names(&pairs), ["run1/bare1", "run1/run1", "ledger1/runon1"]);
    }

    #[test]
    fn what_a_backend_does_not_have_is_left_out_or_refused() {
        let all = names(&pairs(&[], Backend::Sqlite).expect("pairs"));
        assert!(all.contains(&"run1/bare1".into()), "{all:?}");
        for name in ["contained1", "ledger1", "unset1"] {
            assert!(!all.iter().any(|pair| pair.contains(name)), "{all:?}");
            assert!(pairs(&[name.into()], Backend::Sqlite).is_err(), "{name}");
        }
        assert_eq!(
            pairs(&[], Backend::Mysql).expect("pairs").len(),
            CASES.len()
        );
        assert!(pairs(&["run2".into()], Backend::Mysql).is_err());
    }
}
