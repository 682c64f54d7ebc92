use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::dialog::{End, Request};
use super::plan::{Cut, Progress, When};
use crate::blocking;

/// What the threads of a proxy share with the test.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    plans: Vec<Plan>,
    pub(super) lines: Vec<String>,
    pub(super) round_trips: u32,
    pub(super) asides: u32,
    pub(super) cuts: u32,
    pub(super) connections: u64,
    pub(super) resets: bool,
    resumed: u64,
    /// Connections with a number below this one are to be closed.
    closed_below: u64,
    /// What wakes the threads of the open connections.
    wakers: HashMap<u64, UnixStream>,
    /// What a test must not pass with.
    pub(super) mishaps: Vec<String>,
}

#[derive(Debug)]
struct Plan {
    when: When,
    cut: Cut,
    progress: Progress,
}

/// A message that has met its cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) plan: usize,
    pub(super) cut: Cut,
}

impl State {
    pub(super) fn progress(&self, plan: usize) -> Progress {
        self.plans[plan].progress
    }

    fn wake(&mut self) {
        for waker in self.wakers.values_mut() {
            // Full is as good as one more, and who is gone need not be woken.
            _ = waker.write(&[0]);
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plan(&self, when: When, cut: Cut) -> usize {
        let mut state = self.lock();
        let progress = Progress::default();
        state.plans.push(Plan {
            when,
            cut,
            progress,
        });
        state.plans.len() - 1
    }

    pub(super) fn progress(&self, plan: usize) -> Progress {
        self.lock().progress(plan)
    }

    pub(super) fn release(&self, plan: usize) {
        let mut state = self.lock();
        state.plans[plan].progress.released = true;
        state.wake();
    }

    /// Lets all go on that have stalled.
    pub(super) fn resume(&self) {
        let mut state = self.lock();
        state.resumed += 1;
        state.wake();
    }

    /// How often that has been said.
    pub(super) fn resumed(&self) -> u64 {
        self.lock().resumed
    }

    /// Takes note of a message of a client, and says which cut it meets, if it may meet any.
    pub(super) fn sent(&self, request: &Request, may_be_cut: bool) -> Option<Hit> {
        let mut state = self.lock();
        state.lines.push(request.to_string());
        if !may_be_cut {
            return None;
        }
        let mut hit = None;
        for (number, plan) in state.plans.iter_mut().enumerate() {
            if !plan.when.is(request) {
                continue;
            }
            plan.progress.seen += 1;
            if hit.is_none() && plan.when.is_turn(plan.progress.seen) {
                let cut = plan.cut;
                hit = Some(Hit { plan: number, cut });
            }
        }
        if let Some(Hit { cut, .. }) = hit {
            state.lines.push(format!("-- {cut:?}"));
        }
        hit
    }

    /// The server has answered.
    pub(super) fn answered(&self, end: End) {
        match end {
            End::Login => {}
            End::Answer => self.lock().round_trips += 1,
            End::Aside => self.went_aside(),
        }
    }

    /// The client has sent something that nobody answers.
    pub(super) fn went_aside(&self) {
        self.lock().asides += 1;
    }

    /// The server has got the statement in whose middle the cut is to be.
    pub(super) fn is_in_the_middle(&self, hit: Hit) {
        self.lock().plans[hit.plan].progress.reached += 1;
        self.changed.notify_all();
    }

    /// It has come to the cut. To be told before the client can see it.
    pub(super) fn has_cut(&self, hit: Hit) {
        let mut state = self.lock();
        state.cuts += 1;
        if !matches!(hit.cut, Cut::MidStatement(_)) {
            state.plans[hit.plan].progress.reached += 1;
        }
        self.changed.notify_all();
    }

    pub(super) fn has_finished(&self, hit: Hit) {
        self.lock().plans[hit.plan].progress.finished += 1;
        self.changed.notify_all();
    }

    pub(super) fn mishap(&self, what: String) {
        self.lock().mishaps.push(what);
    }

    /// A number for a new connection.
    pub(super) fn enters(&self, waker: UnixStream) -> u64 {
        let mut state = self.lock();
        let number = state.connections;
        state.connections += 1;
        state.wakers.insert(number, waker);
        number
    }

    pub(super) fn leaves(&self, connection: u64) {
        self.lock().wakers.remove(&connection);
        self.changed.notify_all();
    }

    pub(super) fn is_to_close(&self, connection: u64) -> bool {
        connection < self.lock().closed_below
    }

    /// Closes what is open now, and waits for it.
    pub(super) fn close_all(&self) {
        let below = {
            let mut state = self.lock();
            state.closed_below = state.connections;
            state.wake();
            state.closed_below
        };
        self.wait("all connections are closed", |state| {
            state.wakers.keys().all(|connection| *connection >= below)
        });
    }

    /// Waits until this is so.
    pub(super) fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        blocking(|| self.wait_here(what, is_so));
    }

    fn wait_here(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut state = self.lock();
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "never happened: {what}: {:#?}",
                state.lines
            );
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
