//! The machine against the one before it: the same random answers, the same story.
use super::*;
use crate::backoff::Jitter;
use crate::dialect::Batches;
use crate::fault::{Code, FaultClass, SqlState};
use crate::ledger::Ledger;
use crate::old::transaction as o;
use crate::outcome::*;
use crate::policy::RetryPolicy;
use crate::retry::Advice;
use crate::settings::*;
use std::borrow::Cow;
use std::time::{Duration, Instant};

struct Ctx<'l> {
    rng: fastrand::Rng,
    trace: Vec<String>,
    now: Instant,
    base: Instant,
    key: usize,
    dialect: Dialect,
    ledger: &'l Ledger,
    tempo: u64,
    errors: u32,
    budget: u32,
    lossy: bool,
}

#[derive(Clone, Copy)]
struct Case {
    settings: Settings,
    max_retries: Option<u32>,
    idempotent: bool,
    deadline: Option<Duration>,
    ladder: bool,
    resolution: u8,
    can_reconnect: bool,
    depth: u32,
}

static LADDER: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];

impl Ctx<'_> {
    fn fault(&mut self) -> Fault {
        use FaultClass as C;
        const CLASSES: [C; 18] = [
            C::Deadlock,
            C::SerializationFailure,
            C::LockTimeout,
            C::Busy,
            C::ConnectionLost,
            C::NotConnected,
            C::ServerUnavailable,
            C::ReadOnlyServer,
            C::StalePlan,
            C::StatementTimeout,
            C::Canceled,
            C::ResourceExhausted,
            C::TransactionAborted,
            C::TransactionLost,
            C::OutcomeUnknown,
            C::Constraint,
            C::Permanent,
            C::Unknown,
        ];
        if self.rng.bool() {
            return Fault::from_class(self.dialect, CLASSES[self.rng.usize(..18)]);
        }
        let code = match self.dialect {
            Dialect::Mysql => Code::Errno(
                [
                    1213, 1205, 1020, 1305, 1062, 2013, 2006, 1047, 1180, 1040, 3572, 1290, 1412,
                    3100, 1317,
                ][self.rng.usize(..15)],
            ),
            Dialect::Sqlite => {
                Code::Sqlite([5, 6, 517, 13, 10, 7, 9, 19, 8, 1, 4, 516][self.rng.usize(..12)])
            }
            _ => Code::SqlState(
                [
                    "40P01", "40001", "55P03", "57014", "25P02", "25P01", "23505", "57P01",
                    "08006", "53300", "25006", "0A000", "3B001",
                ][self.rng.usize(..13)]
                .parse_state(),
            ),
        };
        Fault::from_code(self.dialect, code)
    }
    fn batch(&mut self, commit: bool, rollback: bool) -> Result<(), Fault> {
        let odds = if self.lossy { 4 } else { 12 };
        if commit && self.lossy && self.rng.u32(..3) != 0 {
            return Err(Fault::from_class(
                self.dialect,
                [
                    FaultClass::ConnectionLost,
                    FaultClass::Unknown,
                    FaultClass::OutcomeUnknown,
                    FaultClass::Busy,
                ][self.rng.usize(..4)],
            ));
        }
        if rollback && self.lossy && self.rng.bool() {
            return Err(Fault::from_class(self.dialect, FaultClass::TransactionLost));
        }
        if self.rng.u32(..odds) == 0 {
            Err(self.fault())
        } else {
            Ok(())
        }
    }
    fn advice(&mut self) -> Advice {
        match self.rng.u32(..12) {
            0 => Advice::Retry,
            1 => Advice::Never,
            _ => Advice::Judge,
        }
    }
    fn tick(&mut self) {
        let t = self.tempo;
        if t > 0 {
            self.now += Duration::from_micros(self.rng.u64(..t));
        }
    }
    fn log(&mut self, s: String) {
        if self.trace.len() < 4000 {
            self.trace.push(s);
        }
    }
    fn err(&mut self) -> u32 {
        self.errors += 1;
        self.errors
    }
    fn body(
        &mut self,
        inside: u32,
        run: &mut dyn FnMut(&mut Self, Case),
    ) -> (BodyEnd, Option<u32>) {
        if inside <= 3 && self.budget > 0 {
            while self.rng.u32(..3) == 0 && self.budget > 0 {
                self.budget -= 1;
                let depth = match self.rng.u32(..12) {
                    0 => inside - 1,
                    1 => 0,
                    2 => inside + 1,
                    _ => inside,
                };
                let case = self.case(depth);
                run(self, case);
            }
        }
        let depth = match self.rng.u32(..40) {
            0 => None,
            1 => Some(inside - 1),
            2 => Some(inside + 1),
            3 if inside > 1 => Some(inside - 2),
            _ => Some(inside),
        };
        let end = match self.rng.u32(..7) {
            0..=2 => BodyEnd::Ok,
            _ if self.lossy && self.rng.bool() => BodyEnd::Ok,
            3 => BodyEnd::Failed {
                fault: None,
                advice: self.advice(),
            },
            4 if self.rng.u32(..4) == 0 => BodyEnd::Panicked,
            _ => {
                let fault = Some(self.fault());
                BodyEnd::Failed {
                    fault,
                    advice: self.advice(),
                }
            }
        };
        self.log(format!("body {end:?} {depth:?}"));
        (end, depth)
    }
    fn case(&mut self, depth: u32) -> Case {
        let pg = self.dialect == Dialect::Postgres;
        let r = &mut self.rng;
        let level = [
            None,
            None,
            Some(IsolationLevel::Serializable),
            Some(IsolationLevel::ReadCommitted),
        ][r.usize(..4)];
        Case {
            settings: Settings {
                read_only: r.u32(..5) == 0,
                lock_timeout: (r.u32(..4) == 0).then_some(Duration::from_secs(3)),
                statement_timeout: (r.u32(..5) == 0).then_some(Duration::from_secs(5)),
                isolation: level,
                best_effort: r.u32(..20) != 0,
                ..Settings::default()
            },
            max_retries: [None, None, Some(0), Some(2), Some(30)][r.usize(..5)],
            idempotent: r.u32(..4) == 0,
            deadline: match r.u32(..6) {
                0 => Some(Duration::from_millis(r.u64(1..3000))),
                1 => Some(Duration::from_secs(30)),
                2 if r.u32(..20) == 0 => Some(Duration::ZERO),
                _ => None,
            },
            ladder: r.u32(..5) == 0,
            resolution: match r.u8(..4) {
                2 if !pg && r.u32(..30) != 0 => 3,
                n => n,
            },
            can_reconnect: depth == 0 && r.u32(..3) != 0,
            depth,
        }
    }
}

trait ParseState {
    fn parse_state(self) -> SqlState;
}
impl ParseState for &str {
    fn parse_state(self) -> SqlState {
        SqlState::new(self).expect("five")
    }
}

fn old_case(ctx: &mut Ctx<'_>, config: &RunnerConfig, case: Case) {
    let dialect = ctx.dialect;
    let default = config
        .defaults()
        .deadline
        .filter(|_| case.deadline.is_none());
    let at = match case.deadline.or(default) {
        Some(d) => match check_deadline(d) {
            Err(e) => return ctx.log(format!("refused {e}")),
            Ok(()) => ctx.now.checked_add(d),
        },
        None => None,
    };
    let terms = o::Terms {
        read_only: case.settings.read_only,
        idempotent: case.idempotent,
        fresh_connections: case.can_reconnect,
        resolution: [
            o::Resolution::Nothing,
            o::Resolution::Verify,
            o::Resolution::TransactionStatus,
            o::Resolution::Ledger,
        ][case.resolution as usize],
        deadline: at.filter(|_| default.is_none()),
        default_deadline: at.filter(|_| default.is_some()),
        lock_timeouts: if case.ladder { &LADDER } else { &[] },
    };
    if let Err(e) = terms.check(dialect) {
        return ctx.log(format!("refused {e}"));
    }
    let ledger = ctx.ledger;
    let entry = (case.resolution == 3).then(|| ledger.open());
    let policy = case
        .max_retries
        .map_or(*config.policy(), |n| config.policy().with_max_retries(n));
    let mut m = o::Machine::new(dialect, policy, terms);
    let (mut first, mut rollback) = (None::<u32>, None::<u32>);
    loop {
        ctx.tick();
        if m.is_timed() {
            m.tell_time(ctx.now);
        }
        match m.step() {
            o::Step::Connect => {
                let within = m.time_left();
                ctx.log(format!("connect {within:?}"));
                ctx.tick();
                let fails = case.can_reconnect && ctx.rng.u32(..5) == 0;
                let unusable = case.can_reconnect && ctx.rng.u32(..20) == 0;
                if fails || unusable {
                    let f = ctx.fault();
                    let a = ctx.advice();
                    let id = ctx.err();
                    first.get_or_insert(id);
                    if m.is_timed() {
                        m.tell_time(ctx.now);
                    }
                    m.connect_failed(f, a);
                    continue;
                }
                let depth = if ctx.rng.u32(..40) == 0 {
                    case.depth + 1
                } else {
                    case.depth
                };
                let start = o::Start::join(ctx.key, depth, m.retries_left());
                let needs =
                    dialect.pragmas_to_read(&case.settings, config.defaults(), m.is_timed());
                let before = SavedPragmas {
                    busy_timeout: if needs.busy_timeout {
                        [0, 5000][ctx.rng.usize(..2)]
                    } else {
                        0
                    },
                    query_only: needs.query_only && ctx.rng.bool(),
                };
                let batches = match m.spare_batches(&start, before) {
                    Some(b) => Ok(b),
                    None => {
                        let none = Defaults::NONE;
                        let defaults = if start.is_outermost() {
                            config.defaults()
                        } else {
                            &none
                        };
                        Batches::new(dialect, start.level(), &case.settings, defaults, before).map(
                            |b| match (&entry, case.resolution) {
                                (Some(e), _) => Cow::Owned(b.with_token(e)),
                                (None, 2) => Cow::Owned(b.with_mark()),
                                _ => Cow::Owned(b),
                            },
                        )
                    }
                };
                match batches {
                    Ok(b) => m.connected(start, b),
                    Err(e) if m.has_begun() => {
                        let id = ctx.err();
                        first.get_or_insert(id);
                        let now = ctx.now;
                        m.connect_failed(
                            Fault::from_class(dialect, FaultClass::Unknown),
                            Advice::Judge,
                        );
                        let _ = now;
                    }
                    Err(e) => return ctx.log(format!("refused {e}")),
                }
            }
            o::Step::Batch(b) => {
                let purpose = format!("{:?}", b.purpose).replace("Ask", "CheckUndone");
                let p = b.purpose;
                ctx.log(format!("{purpose}: {}", b.sql));
                let r = ctx.batch(p == o::Purpose::Commit, p == o::Purpose::Rollback);
                if r.is_err() {
                    let id = ctx.err();
                    match p {
                        o::Purpose::Begin => {
                            first.get_or_insert(id);
                        }
                        o::Purpose::Commit | o::Purpose::CommitAgain => first = Some(id),
                        _ => {
                            rollback.get_or_insert(id);
                        }
                    }
                }
                m.batch_done(r);
            }
            o::Step::Body => {
                let inside = match case.depth {
                    0 => 1,
                    d => d + 1,
                };
                let (end, depth) = ctx.body(inside, &mut |ctx, case| old_case(ctx, config, case));
                let end = match end {
                    BodyEnd::Ok => o::BodyEnd::Ok,
                    BodyEnd::Panicked => o::BodyEnd::Panicked,
                    BodyEnd::Failed { fault, advice } => {
                        first = Some(ctx.err());
                        o::BodyEnd::Failed { fault, advice }
                    }
                };
                m.body_done(end, depth);
            }
            o::Step::ReadId => {
                ctx.log("id".into());
                let r = ctx.batch(false, false);
                if r.is_err() {
                    let id = ctx.err();
                    first.get_or_insert(id);
                }
                let ours = ctx.rng.u32(..5) != 0;
                let some = ctx.rng.u32(..4) != 0;
                m.id_done(r.map(|()| o::CurrentTransaction {
                    is_ours: ours,
                    id: some.then_some(TransactionId {
                        id: 7,
                        statistics_since: 1,
                    }),
                }));
            }
            o::Step::Read(sql) => {
                let sql = sql.to_owned();
                ctx.log(sql);
                let r = ctx.batch(false, false);
                if r.is_err() {
                    let id = ctx.err();
                    first.get_or_insert(id);
                }
                let a = [
                    Some("committed"),
                    Some("aborted"),
                    Some("in progress"),
                    Some("x"),
                    None,
                ][ctx.rng.usize(..5)];
                m.read_done(r.map(|()| a.map(Into::into)));
            }
            o::Step::Verify => {
                let v = ctx.rng.u32(..8);
                let d = ctx.rng.u32(..10) != 0;
                ctx.log(format!("verify {v} {d}"));
                let verified = match v {
                    0..=2 => o::Verified::Committed(true),
                    3..=4 => o::Verified::Committed(false),
                    5..=6 => {
                        let f = ctx.fault();
                        let fault = ctx.rng.bool().then_some(f);
                        o::Verified::Failed {
                            fault,
                            advice: ctx.advice(),
                        }
                    }
                    _ => o::Verified::Panicked,
                };
                m.verify_done(verified, d.then_some(0));
            }
            o::Step::Report(e) => ctx.log(format!("{e:?}")),
            o::Step::Pause(p) => {
                ctx.log(format!(
                    "pause {:?} {:?} {} {first:?} {rollback:?}",
                    p.delay, p.connection, p.settled
                ));
                if p.settled {
                    first = None;
                    rollback = None;
                }
                ctx.now += p.delay;
            }
            o::Step::Done(d) => {
                let left = m.retries_left();
                drop(m);
                if let Some(e) = entry {
                    e.close(d.outcome);
                }
                let answer = match d.answer {
                    o::Answer::Own(e) => format!("own {e}"),
                    o::Answer::Value => "Value".into(),
                    o::Answer::FirstError => "FirstError".into(),
                    o::Answer::Panic => "Panic".into(),
                };
                return ctx.log(format!(
                    "done {answer} {:?} {:?} {} {} {} {first:?} {rollback:?} {left}",
                    d.outcome, d.stop, d.attempts, d.connection_broken, d.fallback_allowed
                ));
            }
        }
    }
}

fn new_case(ctx: &mut Ctx<'_>, config: &RunnerConfig, case: Case) {
    let dialect = ctx.dialect;
    let ledger = ctx.ledger;
    let spec = Spec {
        settings: case.settings,
        max_retries: case.max_retries,
        idempotent: case.idempotent,
        deadline: case.deadline,
        lock_timeouts: if case.ladder { &LADDER } else { &[] },
        resolution: match case.resolution {
            0 => Resolution::Nothing,
            1 => Resolution::Verify,
            2 => Resolution::TransactionStatus,
            _ => Resolution::Ledger(ledger),
        },
        ..Spec::new(Name::Given("x"))
    };
    let at = ctx.now;
    let mut m = match Machine::new(dialect, config, &spec, case.can_reconnect, || at) {
        Ok(m) => m,
        Err(e) => return ctx.log(format!("refused {e}")),
    };
    let (mut first, mut rollback) = (None::<u32>, None::<u32>);
    let mut keep = |slot: ErrorSlot,
                    id: u32,
                    first: &mut Option<u32>,
                    rollback: &mut Option<u32>| match slot {
        ErrorSlot::First => *first = Some(id),
        ErrorSlot::Rollback => {
            rollback.get_or_insert(id);
        }
        ErrorSlot::Dropped => {}
    };
    loop {
        ctx.tick();
        let now = ctx.now;
        match m.step(|| now) {
            Step::Connect { within } => {
                ctx.log(format!("connect {within:?}"));
                ctx.tick();
                let fails = case.can_reconnect && ctx.rng.u32(..5) == 0;
                let unusable = case.can_reconnect && ctx.rng.u32(..20) == 0;
                if fails || unusable {
                    let f = ctx.fault();
                    let a = ctx.advice();
                    let id = ctx.err();
                    let now = ctx.now;
                    let slot = m.connect_failed(f, a, || now);
                    keep(slot, id, &mut first, &mut rollback);
                    continue;
                }
                let depth = if ctx.rng.u32(..40) == 0 {
                    case.depth + 1
                } else {
                    case.depth
                };
                let place = m.place(ctx.key, depth);
                let needs = m.pragmas_to_read();
                let before = SavedPragmas {
                    busy_timeout: if needs.busy_timeout {
                        [0, 5000][ctx.rng.usize(..2)]
                    } else {
                        0
                    },
                    query_only: needs.query_only && ctx.rng.bool(),
                };
                match m.connected(place, before) {
                    Ok(()) => {}
                    Err(_) if m.has_connected() => {
                        let id = ctx.err();
                        let slot = m.connect_failed(
                            Fault::from_class(dialect, FaultClass::Unknown),
                            Advice::Judge,
                            || now,
                        );
                        keep(slot, id, &mut first, &mut rollback);
                    }
                    Err(e) => return ctx.log(format!("refused {e}")),
                }
            }
            Step::Batch(b) => {
                ctx.log(format!("{:?}: {}", b.purpose, b.sql));
                let r = ctx.batch(
                    b.purpose == BatchPurpose::Commit,
                    b.purpose == BatchPurpose::Rollback,
                );
                let id = r.is_err().then(|| ctx.err());
                let slot = m.batch_done(r);
                if let Some(id) = id {
                    keep(slot, id, &mut first, &mut rollback);
                }
            }
            Step::Body => {
                let inside = match case.depth {
                    0 => 1,
                    d => d + 1,
                };
                let (end, depth) = ctx.body(inside, &mut |ctx, case| new_case(ctx, config, case));
                if let BodyEnd::Failed { .. } = end {
                    first = Some(ctx.err());
                }
                m.body_done(end, depth);
            }
            Step::ReadId => {
                ctx.log("id".into());
                let r = ctx.batch(false, false);
                let id = r.is_err().then(|| ctx.err());
                let ours = ctx.rng.u32(..5) != 0;
                let some = ctx.rng.u32(..4) != 0;
                let slot = m.id_done(r.map(|()| CurrentTransaction {
                    is_ours: ours,
                    id: some.then_some(TransactionId {
                        id: 7,
                        statistics_since: 1,
                    }),
                }));
                if let Some(id) = id {
                    keep(slot, id, &mut first, &mut rollback);
                }
            }
            Step::Read(sql) => {
                let sql = sql.to_owned();
                ctx.log(sql);
                let r = ctx.batch(false, false);
                let id = r.is_err().then(|| ctx.err());
                let a = [
                    Some("committed"),
                    Some("aborted"),
                    Some("in progress"),
                    Some("x"),
                    None,
                ][ctx.rng.usize(..5)];
                let slot = m.read_done(r.map(|()| a.map(Into::into)));
                if let Some(id) = id {
                    keep(slot, id, &mut first, &mut rollback);
                }
            }
            Step::Verify => {
                let v = ctx.rng.u32(..8);
                let d = ctx.rng.u32(..10) != 0;
                ctx.log(format!("verify {v} {d}"));
                let verified = match v {
                    0..=2 => Verified::Committed(true),
                    3..=4 => Verified::Committed(false),
                    5..=6 => {
                        let f = ctx.fault();
                        let fault = ctx.rng.bool().then_some(f);
                        Verified::Failed {
                            fault,
                            advice: ctx.advice(),
                        }
                    }
                    _ => Verified::Panicked,
                };
                m.verify_done(verified, d.then_some(0));
            }
            Step::Report(e) => ctx.log(format!("{e:?}")),
            Step::Pause(p) => {
                ctx.log(format!(
                    "pause {:?} {:?} {} {first:?} {rollback:?}",
                    p.delay, p.connection, p.settled
                ));
                if p.settled {
                    first = None;
                    rollback = None;
                }
                ctx.now += p.delay;
            }
            Step::Done(d) => {
                let left = m.retries_left();
                drop(m);
                let answer = match d.answer {
                    Answer::Own(e) => format!("own {e}"),
                    Answer::Value => "Value".into(),
                    Answer::FirstError => "FirstError".into(),
                    Answer::Panic => "Panic".into(),
                };
                return ctx.log(format!(
                    "done {answer} {:?} {:?} {} {} {} {first:?} {rollback:?} {left}",
                    d.outcome, d.stop, d.attempts, d.connection_broken, d.fallback_allowed
                ));
            }
        }
    }
}

fn normal(trace: Vec<String>) -> Vec<String> {
    let mut seen: Vec<String> = vec![];
    trace
        .into_iter()
        .map(|mut s| {
            let mut from = 0;
            while let Some(at) = s[from..].find("'dbop") {
                let at = from + at + 1;
                let t = s[at..].chars().take(32).collect::<String>();
                if t.len() == 32 && t[4..].chars().all(|c| c.is_ascii_hexdigit()) {
                    let n = seen.iter().position(|x| *x == t).unwrap_or_else(|| {
                        seen.push(t.clone());
                        seen.len() - 1
                    });
                    s = s.replace(&t, &format!("T{n}"));
                } else {
                    from = at;
                }
            }
            s
        })
        .collect()
}

#[test]
fn the_same_story() {
    let cases: u64 = std::env::var("CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(20_000);
    let from: u64 = std::env::var("FROM")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let base = Instant::now();
    let (mut steps, mut differ) = (0usize, 0);
    let mut ends: std::collections::BTreeMap<String, usize> = Default::default();
    for seed in from..from + cases {
        let mut setup = fastrand::Rng::with_seed(seed);
        let dialect = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite][setup.usize(..3)];
        let mut config = RunnerConfig::default();
        config.set_policy(
            RetryPolicy::new()
                .with_jitter(Jitter::None)
                .with_seed(seed)
                .with_max_retries(setup.u32(..6)),
        );
        let d = [None, None, Some(Duration::from_millis(1500))][setup.usize(..3)];
        config.set_defaults(|s| {
            s.deadline = d;
            s.read_only = seed % 7 == 0;
        });
        let tempo = [0, 1000, 400_000][setup.usize(..3)];
        let depth = [0, 0, 0, 1, 2][setup.usize(..5)];
        let lossy = setup.u32(..3) == 0;
        let key = 0x10_0000_0000 + seed as usize;
        let (la, lb) = (Ledger::new(), Ledger::new());
        let ctx = |ledger| Ctx {
            rng: fastrand::Rng::with_seed(seed ^ 0x5555),
            trace: vec![],
            now: base,
            base,
            key,
            dialect,
            ledger,
            tempo,
            errors: 0,
            budget: 6,
            lossy,
        };
        let mut a = ctx(&la);
        let case = a.case(depth);
        old_case(&mut a, &config, case);
        let mut b = ctx(&lb);
        let case = b.case(depth);
        new_case(&mut b, &config, case);
        let (x, y) = (normal(a.trace), normal(b.trace));
        steps += x.len();
        if let Some(end) = x.last() {
            *ends
                .entry(
                    end.split(' ')
                        .take(6)
                        .filter(|w| !w.starts_with("own"))
                        .collect::<Vec<_>>()
                        .join(" "),
                )
                .or_default() += 1;
        }
        if x != y {
            differ += 1;
            if differ < 6 {
                let at = x
                    .iter()
                    .zip(&y)
                    .position(|(p, q)| p != q)
                    .unwrap_or(x.len().min(y.len()));
                println!("seed {seed} {dialect} depth {depth}, at {at}:");
                for s in &x[at.saturating_sub(14)..at] {
                    println!("   {s}");
                }
                for s in x.iter().skip(at).take(4) {
                    println!(" - {s}");
                }
                for s in y.iter().skip(at).take(4) {
                    println!(" + {s}");
                }
            }
        }
    }
    println!("{cases} cases, {steps} steps, {differ} differ");
    let mut ends: Vec<_> = ends.into_iter().collect();
    ends.sort_by_key(|e| std::cmp::Reverse(e.1));
    for (e, n) in ends.iter().take(25) {
        println!("{n:8} {e}");
    }
    assert_eq!(differ, 0);
}
