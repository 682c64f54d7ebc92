//! Random plans of nested operations, with random settings and ends.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use dbop_diesel::{BeginMode, IsolationLevel};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::backend;
use super::model::{Ask, Before, Standard};
use super::sessions::LEVELS;

/// How many levels there are at most.
pub(super) const DEPTH: usize = 4;

/// An operation, and what happens in it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) ask: Ask,
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
}

/// An operation nested in it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) plan: Plan,
    /// Whether its failure is that of the operation around it.
    pub(super) matters: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ok,
    Own,
    Database,
    Panic,
    /// The first attempt fails, the second one does not.
    SecondAttempt,
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) before: Before,
    pub(super) standard: Standard,
    /// In a transaction of the caller's, with these two timeouts of his own.
    pub(super) caller: Option<(u64, u64)>,
    pub(super) plan: Plan,
}

impl Plan {
    /// Whether it is said to have succeeded.
    pub(super) fn succeeds(&self) -> bool {
        matches!(self.end, End::Ok | End::SecondAttempt)
            && self
                .steps
                .iter()
                .all(|step| !step.matters || step.plan.succeeds())
    }
}

/// The same cases every time, and what they can be simplified to. Strategies stay on one thread, and
/// scenarios do not.
#[derive(Debug)]
pub(super) struct Cases {
    orders: Sender<Order>,
    cases: Receiver<Option<Case>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Another,
    Simpler,
    LessSimple,
}

impl Cases {
    pub(super) fn new() -> Self {
        let (orders, inbox) = channel();
        let (outbox, answers) = channel();
        thread::spawn(move || {
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
            let mut random = TestRunner::new_with_rng(Config::default(), rng);
            let mut another = || cases().new_tree(&mut random).expect("a case");
            let mut tree = another();
            for order in inbox {
                let is_new = match order {
                    Order::Another => {
                        tree = another();
                        true
                    }
                    Order::Simpler => tree.simplify(),
                    Order::LessSimple => tree.complicate(),
                };
                if outbox.send(is_new.then(|| tree.current())).is_err() {
                    break;
                }
            }
        });
        Self {
            orders,
            cases: answers,
        }
    }

    pub(super) fn get(&self, order: Order) -> Option<Case> {
        self.orders.send(order).expect("the thread lives");
        self.cases.recv().expect("the thread lives")
    }
}

fn asks() -> impl Strategy<Value = Ask> {
    let ladder = select(vec![[1000, 5000], [90_000, 2000]]);
    // No statement may take as long as the shortest timeout: on PostgreSQL a deferrable one waits for the
    // serializable transactions of all other tests.
    let modes = [
        BeginMode::Deferred,
        BeginMode::Immediate,
        BeginMode::Exclusive,
    ];
    let values = (
        of(select(vec![1500_u64, 3000, 7000, 30_000, 90_000, 200_000])),
        weighted(0.2, ladder),
        of(select(vec![25_000_u64, 40_000, 66_000, 90_000, 250_000])),
        weighted(0.2, select(vec![60_000_u64, 120_000])),
        any::<bool>(),
        weighted(0.4, select(LEVELS.to_vec())),
        proptest::bool::weighted(0.1),
        weighted(0.3, select(modes.to_vec())),
    );
    values.prop_map(
        |(lock, ladder, statement, deadline, read_only, isolation, deferrable, begin_mode)| Ask {
            lock,
            ladder: ladder.map(|ladder| ladder.map(Duration::from_millis)),
            statement,
            deadline,
            // It takes both.
            read_only: read_only || deferrable,
            isolation: match deferrable {
                true => Some(IsolationLevel::Serializable),
                false => isolation,
            },
            deferrable,
            begin_mode,
        },
    )
}

/// Operations on up to this many levels.
fn plans(levels: usize) -> BoxedStrategy<Plan> {
    let ends = prop_oneof![
        4 => Just(End::Ok),
        1 => Just(End::Own),
        1 => Just(End::Database),
        1 => Just(End::Panic),
        2 => Just(End::SecondAttempt),
    ];
    let steps = match levels {
        1 => Just(Vec::new()).boxed(),
        _ => {
            let step = (plans(levels - 1), proptest::bool::weighted(0.2));
            vec(
                step.prop_map(|(plan, matters)| Step { plan, matters }),
                0..=2,
            )
            .boxed()
        }
    };
    let plan = (asks(), steps, ends).prop_map(|(ask, steps, end)| Plan { ask, steps, end });
    plan.boxed()
}

fn cases() -> impl Strategy<Value = Case> {
    let lock = || select(vec![2000_u64, 8000, 3_600_000]);
    let statement = || select(vec![0_u64, 50_000, 40_000, 3_600_000]);
    let isolation = || select(LEVELS.to_vec());
    let before = (
        lock(),
        statement(),
        proptest::bool::weighted(0.15),
        isolation(),
        any::<bool>(),
    );
    let standard = (
        of(select(vec![10_000_u64, 2500])),
        of(select(vec![60_000_u64, 300_000])),
        weighted(0.2, Just(60_000_u64)),
        proptest::bool::weighted(0.2),
        of(isolation()),
        of(select(vec![BeginMode::Deferred, BeginMode::Immediate])),
    );
    let caller = weighted(0.4, (lock(), statement()));
    (before, standard, caller, plans(DEPTH)).prop_map(|(before, standard, caller, plan)| {
        let (lock, statement, read_only, isolation, deferrable) = before;
        let before = Before {
            lock,
            statement,
            // SQLite's would refuse every operation that takes the write lock.
            read_only: read_only && backend::BACKEND != "sqlite",
            isolation,
            deferrable,
        };
        let (lock, statement, deadline, read_only, isolation, begin_mode) = standard;
        let standard = Standard {
            lock,
            statement,
            deadline,
            read_only,
            isolation,
            begin_mode,
        };
        Case {
            before,
            standard,
            caller,
            plan,
        }
    })
}
