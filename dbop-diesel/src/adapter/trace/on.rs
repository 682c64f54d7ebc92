//! One span for an operation, one for each of its attempts, and an event for each record.

use std::fmt::Display;
use std::time::Duration;

use dbop_core::machine::{Event, EventKind, Logging, Name, Spec, Subject, TARGET};
use dbop_core::{Dialect, Fault, Outcome, StopReason};
use log::Level;
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::NoSubscriber;
use tracing::{Span, debug_span, info_span};

/// The spans of an operation, if a subscriber wants them.
#[derive(Debug, Default)]
pub struct Trace(Option<Box<Spans>>);

#[derive(Debug)]
struct Spans {
    operation: Span,
    attempt: Span,
    /// The number of the attempt.
    number: u32,
    /// The last event that says what went wrong.
    last: Option<Event>,
}

/// The span of the present attempt, entered until this is dropped.
#[derive(Debug)]
pub struct Entered<'a> {
    _span: Option<span::Entered<'a>>,
}

impl Trace {
    /// The operation begins. Its span is a child of the one in which it is called.
    pub(crate) fn begin(subject: &Subject<'_>, spec: &Spec<'_>, read_only: bool) -> Self {
        if !Self::is_seen() {
            return Self::default();
        }
        let name = subject.name();
        let (file, line) = match name {
            Name::Given(_) => (None, None),
            Name::Call(call) => (Some(call.file()), Some(call.line())),
        };
        let kind = match subject.dialect() {
            // In the process itself.
            Dialect::Sqlite => "internal",
            _ => "client",
        };
        let operation = info_span!(
            target: TARGET,
            "dbop.operation",
            "otel.name" = %name,
            "otel.kind" = kind,
            "otel.status_code" = Empty,
            "db.system.name" = subject.dialect().as_str(),
            "db.query.summary" = %name,
            "db.response.status_code" = Empty,
            "code.file.path" = file,
            "code.line.number" = line,
            "error.type" = Empty,
            "dbop.scope" = Empty,
            "dbop.read_only" = read_only || spec.settings.read_only,
            "dbop.attempts" = Empty,
            "dbop.outcome" = Empty,
            "dbop.stop" = Empty,
        );
        let is_wanted = !operation.is_disabled();
        Self(is_wanted.then(|| {
            Box::new(Spans {
                operation,
                attempt: Span::none(),
                number: 0,
                last: None,
            })
        }))
    }

    /// What is done from now on belongs to the attempt of this number.
    pub(crate) fn attempt(&mut self, number: u32) {
        let Some(spans) = &mut self.0 else { return };
        if number > spans.number {
            spans.number = number;
            spans.attempt = debug_span!(
                target: TARGET,
                parent: &spans.operation,
                "dbop.attempt",
                "dbop.resend_count" = (number > 1).then(|| number - 1),
                "dbop.phase" = Empty,
                "error.type" = Empty,
            );
        }
    }

    /// Where the attempts run.
    pub(crate) fn scope(&self, scope: &'static str) {
        if let Some(spans) = &self.0 {
            spans.operation.record("dbop.scope", scope);
        }
    }

    /// This has happened. `message` is the server's, for those who have asked for it. Returns whether a
    /// subscriber takes it: if not, there is to be a log record.
    pub(crate) fn event(
        &mut self,
        subject: &Subject<'_>,
        logging: &Logging,
        event: &Event,
        message: Option<&dyn Display>,
    ) -> bool {
        if let Some(spans) = &mut self.0 {
            spans.keep(event);
        }
        let level = match event.kind() {
            EventKind::Escalated => Level::Debug,
            _ => logging.level(event),
        };
        if !takes(level) {
            return false;
        }
        let _entered = self.enter();
        emit(
            level,
            subject,
            event,
            message.filter(|_| logging.server_messages),
        );
        true
    }

    /// Whether there is a subscriber for this thread. Where there is, no log records are needed: a
    /// subscriber that also receives those would have everything twice. Where there is none, nothing is
    /// emitted: `tracing` can make log records of that, which are there already.
    pub(crate) fn is_seen() -> bool {
        let is_some = |dispatch: &tracing::Dispatch| !dispatch.is::<NoSubscriber>();
        LevelFilter::current() != LevelFilter::OFF && tracing::dispatcher::get_default(is_some)
    }

    /// Whether there is something to end.
    pub(crate) const fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// The operation is over.
    pub(crate) fn end(&mut self, attempts: u32, outcome: Outcome, stop: StopReason) {
        if let Some(spans) = self.0.take() {
            spans.end(attempts, outcome, stop);
        }
    }

    /// Enters the span of the present attempt, or that of the operation if attempts have none.
    #[must_use]
    pub fn enter(&self) -> Entered<'_> {
        let spans = self.0.as_ref();
        Entered {
            _span: spans.map(|spans| spans.innermost().enter()),
        }
    }
}

impl Spans {
    fn innermost(&self) -> &Span {
        match self.attempt.is_disabled() {
            true => &self.operation,
            false => &self.attempt,
        }
    }

    fn keep(&mut self, event: &Event) {
        if event.kind().is_without_failure() {
            return;
        }
        self.last = Some(*event);
        self.attempt.record("dbop.phase", event.phase().as_str());
        if let Some(fault) = event.fault() {
            record_type(&self.attempt, fault);
        }
    }

    fn end(&self, attempts: u32, outcome: Outcome, stop: StopReason) {
        let span = &self.operation;
        span.record("dbop.attempts", attempts);
        span.record("dbop.outcome", outcome.as_str());
        if stop == StopReason::Succeeded {
            return;
        }
        span.record("dbop.stop", stop.as_str());
        let last = self.last.filter(|_| stop != StopReason::Cancelled);
        if let Some(fault) = last.and_then(|event| event.fault()) {
            record_type(span, fault);
            if let Some(code) = fault.code() {
                span.record("db.response.status_code", display(code));
            }
        }
        let is_answer = last.is_some_and(|event| event.is_answer());
        if !is_answer && stop != StopReason::Cancelled {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// The code, and the class where there is none.
fn record_type(span: &Span, fault: Fault) {
    match fault.code() {
        Some(code) => span.record("error.type", display(code)),
        None => span.record("error.type", fault.class().as_str()),
    };
}

/// Whether a subscriber of this thread takes events of this level.
fn takes(level: Level) -> bool {
    Trace::is_seen()
        && match level {
            Level::Error => tracing::enabled!(target: TARGET, tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(target: TARGET, tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: TARGET, tracing::Level::INFO),
            Level::Debug => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(target: TARGET, tracing::Level::TRACE),
        }
}

fn emit(level: Level, subject: &Subject<'_>, event: &Event, message: Option<&dyn Display>) {
    let fault = event.fault();
    let class = fault.map(|fault| fault.class().as_str());
    let code = fault.and_then(|fault| fault.code()).map(display);
    let rollback = event.rollback_fault().map(|fault| fault.class().as_str());
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let delay_ms = event.delay().map(millis);
    let waited_ms = event.waited().map(millis);
    let limit = match event.kind() {
        EventKind::Limited(limit) => Some(limit),
        _ => None,
    };
    let phase = (!event.kind().is_without_failure()).then(|| event.phase().as_str());
    let setting = event.setting().map(|setting| setting.as_str());
    let name = event.kind().as_str();
    macro_rules! emit {
        ($level:ident) => {
            tracing::event!(
                target: TARGET,
                tracing::Level::$level,
                operation = %subject.name(),
                attempt = event.attempt(),
                class,
                code,
                phase,
                delay_ms,
                waited_ms,
                limit,
                rollback,
                setting,
                error = message.map(display),
                "{name}",
            )
        };
    }
    match level {
        Level::Error => emit!(ERROR),
        Level::Warn => emit!(WARN),
        Level::Info => emit!(INFO),
        Level::Debug => emit!(DEBUG),
        Level::Trace => emit!(TRACE),
    }
}
