//! Which format a text was made from.
//!
//! A [`Table`] knows formats, not as text but as hashes of their fixed parts. A text belongs to a
//! format when the parts are in it, in order, the first and the last at its ends; what stands
//! between them is never looked at. Looking up costs little more than reading the text once: the
//! first four bytes, or the last four for formats that begin with a value, leave a handful of rows,
//! and all starts of the text are hashed in one pass.
//!
//! Tables of a few readable rows are built by the compiler ([`table!`]).

use std::ops::Range;

use super::format::{BEGIN_INSIDE, Part, Row, Side, compile, gate_of_end, gate_of_whole};
use super::hash::{Hasher, find_rolling, gate, hash};

static BEGINS_INSIDE: [bool; 256] = bytes(BEGIN_INSIDE);

/// What a text was recognised as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// The index of the format.
    pub(crate) meaning: u8,
    /// Where its last fixed part ends, if the format ends with a gap.
    pub(crate) rest: usize,
    /// How many bytes are fixed: of two formats that fit, the one with more says more.
    rank: usize,
}

/// Formats filed in one way, sorted by gate and length.
#[derive(Debug)]
struct Rows {
    rows: &'static [Row],
    /// Where the rows of each upper half of a gate begin.
    buckets: [u16; 257],
}

/// Formats, and which of them a text was made from.
#[derive(Debug)]
pub(crate) struct Table {
    whole: Rows,
    front: Rows,
    back: Rows,
    inside: Rows,
    parts: &'static [Part],
    /// Meanings that count whatever else fits.
    first: Range<usize>,
}

impl Table {
    /// A table of rows filed by [`Side`], each sorted by its [`order`](Row::order).
    pub(crate) const fn new(rows: [&'static [Row]; 4], parts: &'static [Part]) -> Self {
        assert!(rows[Side::Inside as usize].len() <= 64, "each has one bit");
        Self {
            whole: Rows::new(rows[Side::Whole as usize]),
            front: Rows::new(rows[Side::Front as usize]),
            back: Rows::new(rows[Side::Back as usize]),
            inside: Rows::new(rows[Side::Inside as usize]),
            parts,
            first: 0..0,
        }
    }

    /// The same with meanings that count whatever else fits: their formats contain other messages.
    pub(crate) const fn with_first(mut self, meanings: Range<usize>) -> Self {
        self.first = meanings;
        self
    }

    /// The format that `text` was made from; of several, the one with the most fixed bytes.
    pub(crate) fn find(&self, text: &str) -> Option<Found> {
        if let Some(found) = self.find_whole(text) {
            return Some(found);
        }
        let text = text.as_bytes();
        let by_front = self.find_by_front(text);
        let found = better(by_front, self.find_by_back(text));
        let has_inside = !self.inside.rows.is_empty();
        if has_inside && text.first() == Some(&b'"') && !text.is_ascii() {
            return better(found, self.find_inside(text));
        }
        found
    }

    fn find_whole(&self, text: &str) -> Option<Found> {
        let text = text.as_bytes();
        let is_it = |row: &&Row| usize::from(row.length) == text.len() && hash(text) == row.hash;
        let row = self.whole.rows(gate_of_whole(text)).find(is_it)?;
        Some(self.found(row, text.len(), text.len()))
    }

    /// Whether `text` is a format without a gap that means this. Hashes hardly any other text.
    pub(crate) fn is_whole(&self, text: &str, meaning: usize) -> bool {
        let text = text.as_bytes();
        let is_it = |row: &Row| {
            usize::from(row.meaning) == meaning
                && usize::from(row.length) == text.len()
                && hash(text) == row.hash
        };
        self.whole.rows(gate_of_whole(text)).any(is_it)
    }

    fn find_by_front(&self, text: &[u8]) -> Option<Found> {
        let mut found = None;
        let mut starts = Hasher::starts(text);
        for row in self.front.rows(gate(text)) {
            let length = usize::from(row.length);
            if length > text.len() {
                break;
            }
            if starts.hash(length) == row.hash {
                found = better(found, self.fits_before(row, text));
            }
        }
        found
    }

    fn find_by_back(&self, text: &[u8]) -> Option<Found> {
        let mut found = None;
        let mut ends = Hasher::ends(text);
        for row in self.back.rows(gate_of_end(text)) {
            let length = usize::from(row.length);
            if length > text.len() {
                break;
            }
            if ends.hash(length) == row.hash {
                found = better(found, self.fits_behind(row, text));
            }
        }
        found
    }

    fn find_inside(&self, text: &[u8]) -> Option<Found> {
        let mut found = None;
        // Each row once, or a text that repeats one's part would take long.
        let mut tried = 0u64;
        let mut next = 0;
        while let Some(skipped) = position(&text[next..], &BEGINS_INSIDE) {
            let at = next + skipped;
            next = at + 1;
            let gate = gate(&text[at..]);
            for index in self.inside.bucket(gate) {
                let row = &self.inside.rows[index];
                let part = text.get(at..at + usize::from(row.length));
                let is_new = row.gate == gate && tried >> index & 1 == 0;
                if is_new && part.is_some_and(|part| hash(part) == row.hash) {
                    tried |= 1 << index;
                    found = better(found, self.fits_around(row, text));
                }
            }
        }
        found
    }

    /// Whether the parts behind the first one are in `text`.
    fn fits_before(&self, row: &Row, text: &[u8]) -> Option<Found> {
        let start = usize::from(row.length);
        let (tail, middle) = self.parts(row).split_last()?;
        let end = before_tail(*tail, text, start)?;
        let (rest, searched) = search(middle, text, start, end)?;
        Some(self.found(row, rest, start + searched + text.len() - end))
    }

    /// Whether the parts in front of the last one are in `text`.
    fn fits_behind(&self, row: &Row, text: &[u8]) -> Option<Found> {
        let end = text.len() - usize::from(row.length);
        let (head, middle) = self.parts(row).split_first()?;
        let start = behind_head(*head, text)?;
        let (_, searched) = search(middle, text, start, end)?;
        let fixed = start + searched + usize::from(row.length);
        Some(self.found(row, text.len(), fixed))
    }

    /// Whether all parts are in `text`.
    fn fits_around(&self, row: &Row, text: &[u8]) -> Option<Found> {
        let [head, middle @ .., tail] = self.parts(row) else {
            return None;
        };
        let start = behind_head(*head, text)?;
        let end = before_tail(*tail, text, start)?;
        let (rest, searched) = search(middle, text, start, end)?;
        Some(self.found(row, rest, start + searched + text.len() - end))
    }

    fn found(&self, row: &Row, rest: usize, fixed: usize) -> Found {
        let is_first = self.first.contains(&row.meaning.into());
        Found {
            meaning: row.meaning,
            rest,
            rank: if is_first { usize::MAX } else { fixed },
        }
    }

    fn parts(&self, row: &Row) -> &'static [Part] {
        let first = usize::from(row.first_part);
        &self.parts[first..first + usize::from(row.parts)]
    }
}

fn better(one: Option<Found>, other: Option<Found>) -> Option<Found> {
    match (one, other) {
        (Some(one), Some(other)) if other.rank <= one.rank => Some(one),
        (one, None) => one,
        (_, other) => other,
    }
}

/// Where the part that the text must begin with ends.
fn behind_head(head: Part, text: &[u8]) -> Option<usize> {
    let end = usize::from(head.length);
    (hash(text.get(..end)?) == head.hash).then_some(end)
}

/// Where the part that the text must end with begins, not in front of `start`.
fn before_tail(tail: Part, text: &[u8], start: usize) -> Option<usize> {
    let at = text.len().checked_sub(tail.length.into())?;
    (at >= start && hash(&text[at..]) == tail.hash).then_some(at)
}

/// Finds the parts in `text[start..end]`, in order: where the last one ends, and how long they are
/// together. Taking each at its first place is enough, as the ends are fixed.
fn search(parts: &[Part], text: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let (mut rest, mut fixed) = (start, 0);
    for part in parts {
        let length = usize::from(part.length);
        rest += find_rolling(text.get(rest..end)?, length, part.hash)?;
        fixed += length;
    }
    (rest <= end).then_some((rest, fixed))
}

impl Rows {
    const fn new(rows: &'static [Row]) -> Self {
        let mut buckets = [0; 257];
        let mut index = 0;
        while index < rows.len() {
            assert!(index == 0 || rows[index - 1].order() <= rows[index].order());
            let half = (rows[index].gate >> 8) as usize;
            buckets[half + 1] = index as u16 + 1;
            index += 1;
        }
        let mut bucket = 1;
        while bucket < buckets.len() {
            if buckets[bucket] == 0 {
                buckets[bucket] = buckets[bucket - 1];
            }
            bucket += 1;
        }
        Self { rows, buckets }
    }

    /// The rows of this gate.
    fn rows(&self, gate: u16) -> impl Iterator<Item = &'static Row> {
        let rows = &self.rows[self.bucket(gate)];
        rows.iter().filter(move |row| row.gate == gate)
    }

    /// Where they are, with some others.
    fn bucket(&self, gate: u16) -> Range<usize> {
        let half = usize::from(gate >> 8);
        self.buckets[half].into()..self.buckets[half + 1].into()
    }
}

/// Formats that the compiler has hashed. Each means its index.
#[derive(Debug)]
pub(crate) struct Compiled<const ROWS: usize, const PARTS: usize> {
    /// Filed as a whole, then by the front, then by the back.
    rows: [Row; ROWS],
    ends: [usize; 3],
    parts: [Part; PARTS],
}

impl<const ROWS: usize, const PARTS: usize> Compiled<ROWS, PARTS> {
    pub(crate) const fn new(formats: &[&str; ROWS]) -> Self {
        let mut this = Self {
            rows: [Row::new(0, 0, 0, 0, 0, 0); ROWS],
            ends: [0; 3],
            parts: [Part::new(0, 0); PARTS],
        };
        let mut used = 0;
        let mut index = 0;
        assert!(ROWS <= u8::MAX as usize + 1, "a meaning is one byte");
        while index < ROWS {
            match compile(formats[index], index as u8, &mut this.parts, used) {
                Ok((row, side, next)) if !matches!(side, Side::Inside) => {
                    used = next;
                    this.insert(row, side as usize, index);
                }
                _ => panic!("neither end of a format has four bytes, or a placeholder is wrong"),
            }
            index += 1;
        }
        this
    }

    /// Among the rows that are there already.
    const fn insert(&mut self, row: Row, side: usize, count: usize) {
        let first = if side == 0 { 0 } else { self.ends[side - 1] };
        let mut at = count;
        while at > self.ends[side] || at > first && self.rows[at - 1].order() > row.order() {
            self.rows[at] = self.rows[at - 1];
            at -= 1;
        }
        self.rows[at] = row;
        let mut side = side;
        while side < self.ends.len() {
            self.ends[side] += 1;
            side += 1;
        }
    }

    pub(crate) const fn table(&'static self) -> Table {
        let (whole, rest) = self.rows.split_at(self.ends[0]);
        let (front, back) = rest.split_at(self.ends[1] - self.ends[0]);
        Table::new([whole, front, back, &[]], &self.parts)
    }
}

/// A [`Table`] of rows whose field `0` is a format.
macro_rules! table {
    ($rows:expr) => {{
        const TEXTS_OF_ROWS: [&str; $rows.len()] = {
            let mut formats = [""; $rows.len()];
            let mut index = 0;
            while index < formats.len() {
                formats[index] = $rows[index].0;
                index += 1;
            }
            formats
        };
        static COMPILED: $crate::fault::text::Compiled<
            { TEXTS_OF_ROWS.len() },
            { $crate::fault::format::count_parts(&TEXTS_OF_ROWS) },
        > = $crate::fault::text::Compiled::new(&TEXTS_OF_ROWS);
        COMPILED.table()
    }};
}
pub(crate) use table;

const fn bytes(of: &[u8]) -> [bool; 256] {
    let mut is_one = [false; 256];
    let mut index = 0;
    while index < of.len() {
        is_one[of[index] as usize] = true;
        index += 1;
    }
    is_one
}

/// The first of these bytes.
fn position(text: &[u8], of: &[bool; 256]) -> Option<usize> {
    let mut rest = text;
    // Looking at four together is what makes it fast.
    while let Some((four, behind)) = rest.split_first_chunk::<4>() {
        if four
            .iter()
            .fold(false, |any, byte| any | of[usize::from(*byte)])
        {
            break;
        }
        rest = behind;
    }
    let at = rest.iter().position(|byte| of[usize::from(*byte)])?;
    Some(text.len() - rest.len() + at)
}

/// Which of the names is in `text`: the first one of the list. Reads the text once.
pub(crate) fn name_in(names: &[&str], text: &str) -> Option<usize> {
    /// The bytes that names begin with, and the second ones; few others of a text are.
    static FIRST: [bool; 256] = bytes(b"dSR'");
    static SECOND: [bool; 256] = bytes(b"biAOd");

    let mut found = None;
    let mut rest = text.as_bytes();
    while let Some(at) = position(rest, &FIRST) {
        rest = &rest[at..];
        if rest
            .get(1)
            .is_some_and(|second| SECOND[usize::from(*second)])
        {
            let starts = |name: &&str| rest.starts_with(name.as_bytes());
            found = match (found, names.iter().position(starts)) {
                (Some(found), Some(here)) if found <= here => Some(found),
                (found, here) => here.or(found),
            };
        }
        rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod tests;
