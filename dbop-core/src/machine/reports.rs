//! What the driver is still to report.

use super::Machine;
use super::attempt::{Failure, FailureAnswer};
use crate::dialect::Skipped;
use crate::event::{Event, EventKind};
use crate::outcome::Phase;

#[derive(Debug)]
pub(super) struct Reports {
    pub(super) event: Option<Event>,
    /// How many are let in at the operation's gate, if that has changed.
    pub(super) limit: Option<u32>,
    /// Unsupported settings not reported yet.
    pub(super) skipped: Skipped,
}

impl Reports {
    pub(super) const NONE: Self = Self {
        event: None,
        limit: None,
        skipped: Skipped::NONE,
    };

    pub(super) const fn are_due(&self) -> bool {
        self.event.is_some() || self.limit.is_some() || !self.skipped.is_empty()
    }
}

impl Machine<'_> {
    pub(super) fn report(&mut self, event: Event) {
        self.reports.event = Some(event);
    }

    pub(super) fn next_report(&mut self) -> Option<Event> {
        if let Some(event) = self.reports.event.take() {
            return Some(event);
        }
        if let Some(limit) = self.reports.limit.take() {
            return Some(self.make_event(EventKind::Limited(limit), None));
        }
        let setting = self.reports.skipped.take()?;
        Some(self.make_event(EventKind::SettingSkipped(setting), None))
    }

    pub(super) fn make_event(&self, kind: EventKind, failure: Option<&Failure>) -> Event {
        Event {
            kind,
            attempt: self.attempt.number.max(1),
            fault: failure.and_then(|failure| failure.fault),
            own: failure.and_then(|failure| match failure.answer {
                FailureAnswer::Own(kind) => Some(kind),
                _ => None,
            }),
            phase: failure.map_or(Phase::Body, |failure| failure.phase),
            delay: None,
            rollback_fault: self.attempt.rollback_fault,
            is_autocommit: self.connection.is_autocommit(),
        }
    }
}
