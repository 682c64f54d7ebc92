//! The workers, what they share, and what they tell.

use std::env::var;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dbop_diesel::{Ledger, RetryPolicy};
use fastrand::Rng;

use crate::experience::Experience;
use crate::tally::{Mode, Told, Transfer};

pub(crate) const ACCOUNTS: i32 = 48;

/// How long a worker waits for a connection at most: a server that is started again takes a few
/// seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Enough for a server that is started again.
pub(crate) fn policy() -> RetryPolicy {
    RetryPolicy::new()
        .with_max_retries(300)
        .with_max_silent_losses(300)
        .with_initial_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(200))
}

#[allow(dead_code, reason = "a cluster keeps others away by itself")]
static ALONE: Mutex<()> = Mutex::new(());

/// Keeps the other tests away from the server.
#[allow(dead_code, reason = "a cluster keeps others away by itself")]
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number in the environment.
pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let text = var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// What all workers share.
pub(crate) struct Office {
    pub(crate) departments: Vec<(Mode, Arc<Experience>)>,
    ledger: Arc<Ledger>,
    next: Arc<AtomicI64>,
    is_over: Arc<AtomicBool>,
}

impl Office {
    /// So many workers, each with one of the modes.
    pub(crate) fn workers(
        &self,
        count: usize,
        random: &mut Rng,
        sender: &Sender<Vec<Told>>,
    ) -> Vec<Worker> {
        let departments = self.departments.iter().cycle().take(count);
        departments
            .map(|(mode, experience)| Worker {
                mode: *mode,
                experience: experience.clone(),
                ledger: self.ledger.clone(),
                random: random.fork(),
                next: self.next.clone(),
                is_over: self.is_over.clone(),
                sender: sender.clone(),
            })
            .collect()
    }

    /// How many transfers have been begun.
    #[allow(dead_code, reason = "not every target counts them")]
    pub(crate) fn begun(&self) -> i64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Tells the workers to come to an end.
    pub(crate) fn close(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn new(modes: &[Mode]) -> Self {
        let departments = modes.iter().map(|mode| (*mode, Arc::default()));
        Self {
            departments: departments.collect(),
            ledger: Arc::default(),
            next: Arc::default(),
            is_over: Arc::default(),
        }
    }

    #[allow(dead_code, reason = "only the rounds ask")]
    pub(crate) fn has_seen_enough(&self) -> bool {
        let mut departments = self.departments.iter();
        departments.all(|(mode, experience)| experience.is_enough(*mode))
    }
}

/// What a worker needs to know.
pub(crate) struct Worker {
    pub(crate) mode: Mode,
    pub(crate) experience: Arc<Experience>,
    pub(crate) ledger: Arc<Ledger>,
    random: Rng,
    next: Arc<AtomicI64>,
    is_over: Arc<AtomicBool>,
    sender: Sender<Vec<Told>>,
}

impl Worker {
    pub(crate) fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// A transfer that no worker has made yet.
    pub(crate) fn next(&mut self) -> Transfer {
        let payer = self.random.i32(1..=ACCOUNTS);
        Transfer {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            payer,
            payee: (payer + self.random.i32(0..ACCOUNTS - 1)) % ACCOUNTS + 1,
            amount: self.random.i64(1..=9),
        }
    }

    pub(crate) fn tell(self, told: Vec<Told>) {
        self.sender.send(told).expect("a receiver");
    }
}
