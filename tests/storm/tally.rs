//! What the clients count.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Outcome;

/// What a client has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Operations that were committed before the end.
    pub(crate) committed: u64,
    /// Operations that were committed a moment later: they count for the money alone.
    pub(crate) late: u64,
    /// Operations that were given up.
    pub(crate) failed: u64,
    /// Operations that the end has cut off.
    pub(crate) cut: u64,
    /// Attempts of all operations that were not cut off.
    pub(crate) attempts: u64,
    /// How long an operation took at most, in microseconds; the end has cut off the one that was under way.
    pub(crate) longest: u64,
    /// How long those took that were committed or given up before the end, in microseconds.
    pub(crate) took: Vec<u64>,
    /// How many were committed in each second.
    pub(crate) seconds: Vec<u64>,
}

/// When a cell begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Tally {
    /// An operation has ended.
    pub(crate) fn note(&mut self, span: Span, begun: Instant, attempts: u32, is_committed: bool) {
        let now = Instant::now();
        let took = micros(now.min(span.end).saturating_duration_since(begun));
        self.longest = self.longest.max(took);
        match (now < span.end, is_committed) {
            (true, true) => {
                self.committed += 1;
                let second = now.saturating_duration_since(span.begin).as_secs();
                let second = usize::try_from(second).unwrap_or(0);
                self.seconds.resize(self.seconds.len().max(second + 1), 0);
                self.seconds[second] += 1;
            }
            (true, false) => self.failed += 1,
            (false, true) => self.late += 1,
            (false, false) => self.cut += 1,
        }
        if now < span.end {
            self.took.push(took);
            self.attempts += u64::from(attempts);
        }
    }

    /// For another process, in a line.
    pub(crate) fn line(&self) -> String {
        let counts = [
            self.committed,
            self.late,
            self.failed,
            self.cut,
            self.attempts,
            self.longest,
        ];
        let mut line = String::new();
        for numbers in [&counts[..], &self.took, &self.seconds] {
            for number in numbers {
                _ = write!(line, "{number} ");
            }
            line.push(';');
        }
        line
    }

    pub(crate) fn read(line: &str) -> Outcome<Self> {
        let mut parts = line.split(';').map(|numbers| {
            let numbers = numbers.split_whitespace().map(str::parse::<u64>);
            numbers.collect::<Result<Vec<_>, _>>()
        });
        let mut part = || parts.next().ok_or("a part is missing");
        let counts = part()??;
        let [committed, late, failed, cut, attempts, longest] = counts[..] else {
            return Err(format!("six counts, not {counts:?}").into());
        };
        Ok(Self {
            committed,
            late,
            failed,
            cut,
            attempts,
            longest,
            took: part()??,
            seconds: part()??,
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_the_same_in_another_process() {
        let begin = Instant::now();
        let end = begin + Duration::from_secs(60);
        let mut tally = Tally::default();
        tally.note(Span { begin, end }, begin, 3, true);
        tally.note(Span { begin, end }, begin, 6, false);
        tally.note(Span { begin, end: begin }, begin, 1, true);
        tally.note(Span { begin, end: begin }, begin, 1, false);
        let counts = (tally.committed, tally.failed, tally.late, tally.cut);
        assert_eq!((counts, tally.attempts), ((1, 1, 1, 1), 9));
        assert_eq!((tally.took.len(), &tally.seconds[..]), (2, &[1][..]));
        let read = Tally::read(&tally.line());
        assert_eq!(read.expect("a line"), tally);
    }
}
