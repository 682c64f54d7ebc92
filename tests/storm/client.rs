//! A client: what it knows, and what it counts.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use dbop_diesel::{Clock, Dialect, FaultClass, fault_of};
use diesel::result::Error;

use super::cells::{ACCOUNTS, Work};
use super::policies::Way;
use super::tally::{Span, Tally};

/// What there is to do next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) steps: [Step; 2],
    end: Instant,
}

/// A statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Read(i32),
    Add(i32, i64),
}

impl Order {
    /// Nothing more is begun then.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// The rows that it changes or reads.
    pub(crate) fn rows(&self) -> [i32; 2] {
        self.steps.map(|step| match step {
            Step::Read(row) | Step::Add(row, _) => row,
        })
    }

    /// The pause, but not beyond the end.
    pub(crate) fn within(&self, pause: Duration) -> Duration {
        pause.min(self.end.saturating_duration_since(Instant::now()))
    }
}

/// A client's own things.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) way: Way,
    work: Work,
    begin: Instant,
    span: Span,
    random: fastrand::Rng,
    tally: Tally,
    sender: Sender<Tally>,
}

impl Client {
    pub(crate) fn new(
        way: Way,
        work: Work,
        begin: Instant,
        span: Span,
        sender: Sender<Tally>,
    ) -> Self {
        Self {
            way,
            work,
            begin,
            span,
            random: fastrand::Rng::new(),
            tally: Tally::default(),
            sender,
        }
    }

    /// How long it is until its work begins.
    pub(crate) fn rest(&self) -> Duration {
        self.begin.saturating_duration_since(Instant::now())
    }

    /// What there is to do, until the end.
    pub(crate) fn next(&mut self) -> Option<Order> {
        let steps = match self.work {
            Work::HotRow => [Step::Read(1), Step::Add(1, 1)],
            Work::Transfers => {
                let payer = self.random.i32(0..ACCOUNTS);
                let payee = (payer + self.random.i32(1..ACCOUNTS)) % ACCOUNTS;
                [Step::Add(payer + 1, -1), Step::Add(payee + 1, 1)]
            }
        };
        let end = self.span.end;
        let order = Order { steps, end };
        (!order.is_over()).then_some(order)
    }

    pub(crate) fn note(&mut self, begun: Instant, attempts: u32, is_committed: bool) {
        self.tally.note(self.span, begun, attempts, is_committed);
    }

    pub(crate) fn tell(self) {
        // Whoever does not wait any more does not want to know.
        _ = self.sender.send(self.tally);
    }
}

/// What a loop by hand tries again.
pub(crate) fn is_passing(dialect: Dialect, error: &Error) -> bool {
    use FaultClass::{Busy, Deadlock, LockTimeout, SerializationFailure};

    let class = fault_of(dialect, error).map(|fault| fault.class());
    matches!(
        class,
        Some(Busy | Deadlock | LockTimeout | SerializationFailure)
    )
}

/// The system's time, in which no pause is longer than the cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UntilTheEnd(pub(crate) Instant);

impl UntilTheEnd {
    fn within(self, pause: Duration) -> Duration {
        pause.min(self.0.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

impl Clock for UntilTheEnd {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(self.within(pause));
    }
}

impl dbop_diesel_async::Clock for UntilTheEnd {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn sleep(&self, pause: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(self.within(pause)))
    }
}
