//! Texts that were made from a format, found by hashes.
//!
//! A [`Table`] knows formats, not as text but as hashes of their fixed parts. A text belongs to a
//! format when the parts are in it, in order, the first and the last at its ends; what stands
//! between them is never looked at. Looking up costs little more than reading the text once: the
//! first four bytes, or the last four for formats that begin with a value, leave a handful of rows,
//! and only their lengths are hashed. A few formats have a fixed part only between two values; they
//! begin with a quotation mark, and only texts that do are searched for them.
//!
//! Tables of a few readable rows are built by the compiler ([`table!`]). The generator of
//! PostgreSQL's translations uses the same functions, so this file depends on nothing else.

use std::ops::Range;

/// A fixed part of a format behind its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) hash: u64,
    pub(crate) length: u16,
}

/// One format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Of the part at the end that it is filed under.
    pub(crate) hash: u64,
    /// The four outermost bytes of that part.
    pub(crate) gate: u16,
    pub(crate) length: u16,
    /// The other parts. None: the format has no gap.
    pub(crate) first_part: u16,
    pub(crate) parts: u8,
    /// What the format means, as an index of whoever made the table.
    pub(crate) meaning: u8,
}

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

/// The formats filed under one end of them, sorted by gate and length.
#[derive(Debug)]
struct Rows {
    rows: &'static [Row],
    /// Where the rows of each upper half of a gate begin.
    buckets: [u16; 257],
}

/// Formats, and which of them a text was made from.
#[derive(Debug)]
pub(crate) struct Table {
    /// Those that begin with a fixed part, by their first bytes.
    front: Rows,
    /// Those that begin with a gap, by their last bytes.
    back: Rows,
    /// Those that have only a quotation mark there, by the first bytes of a part between gaps.
    inside: Rows,
    parts: &'static [Part],
    /// Meanings that count whatever else fits.
    first: Range<usize>,
}

impl Part {
    pub(crate) const fn new(hash: u64, length: u16) -> Self {
        Self { hash, length }
    }

    /// Whether the bytes of its length at one end of `text` are this part.
    fn is(self, bytes: Option<&[u8]>) -> bool {
        bytes.is_some_and(|bytes| self.length == 0 || hash(bytes) == self.hash)
    }
}

impl Row {
    pub(crate) const fn new(
        hash: u64,
        gate: u16,
        length: u16,
        first_part: u16,
        parts: u8,
        meaning: u8,
    ) -> Self {
        Self {
            hash,
            gate,
            length,
            first_part,
            parts,
            meaning,
        }
    }

    /// By what the rows of a table are sorted.
    pub(crate) const fn order(&self) -> u32 {
        (self.gate as u32) << 16 | self.length as u32
    }
}

impl Table {
    /// A table of rows that are sorted by their [`order`](Row::order).
    pub(crate) const fn new(
        front: &'static [Row],
        back: &'static [Row],
        inside: &'static [Row],
        parts: &'static [Part],
    ) -> Self {
        Self {
            front: Rows::new(front),
            back: Rows::new(back),
            inside: Rows::new(inside),
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
        let text = text.as_bytes();
        let mut found = self.find_by_front(text, false);
        if let Some(gate) = text.last_chunk().map(gate) {
            for row in self.back.rows(gate) {
                let Some(at) = text.len().checked_sub(row.length.into()) else {
                    break;
                };
                if hash(&text[at..]) == row.hash {
                    let other = self.fits_behind(row, text, at);
                    found = better(found, other);
                }
            }
        }
        if text.first() == Some(&b'"') {
            found = better(found, self.find_inside(text));
        }
        found
    }

    /// The format without a gap that `text` is.
    pub(crate) fn find_whole(&self, text: &str) -> Option<Found> {
        self.find_by_front(text.as_bytes(), true)
    }

    fn find_by_front(&self, text: &[u8], whole: bool) -> Option<Found> {
        let gate = gate(&first_four(text));
        let mut found = None;
        let mut hashed = (0, 0);
        for row in self.front.rows(gate) {
            let length = usize::from(row.length);
            if length > text.len() {
                break;
            }
            if (row.parts == 0 || whole) && (row.parts != 0 || length != text.len()) {
                continue;
            }
            if hashed.0 != length {
                hashed = (length, hash(&text[..length]));
            }
            if hashed.1 == row.hash {
                let other = self.fits_before(row, text);
                found = better(found, other);
            }
        }
        found
    }

    fn find_inside(&self, text: &[u8]) -> Option<Found> {
        if self.inside.rows.is_empty() {
            return None;
        }
        let mut found = None;
        for window in text.windows(4) {
            for row in self.inside.rows(gate(&first_four(window))) {
                found = better(found, self.fits_around(row, text));
            }
        }
        found
    }

    /// Whether the parts behind the first one are in `text`.
    fn fits_before(&self, row: &Row, text: &[u8]) -> Option<Found> {
        let fixed = usize::from(row.length);
        let Some((tail, middle)) = self.parts(row).split_last() else {
            return Some(self.found(row, text.len(), fixed));
        };
        let end = text.len().checked_sub(tail.length.into())?;
        if end < fixed || !tail.is(text.get(end..)) {
            return None;
        }
        let (rest, searched) = search(middle, text, fixed, end)?;
        let fixed = fixed + searched + usize::from(tail.length);
        Some(self.found(row, rest, fixed))
    }

    /// Whether the parts in front of the last one, which begins `at` this byte, are in `text`.
    fn fits_behind(&self, row: &Row, text: &[u8], at: usize) -> Option<Found> {
        let (head, middle) = self.parts(row).split_first()?;
        let start = usize::from(head.length);
        if start > at || !head.is(text.get(..start)) {
            return None;
        }
        let (_, searched) = search(middle, text, start, at)?;
        let fixed = start + searched + usize::from(row.length);
        Some(self.found(row, text.len(), fixed))
    }

    /// Whether all parts are in `text`.
    fn fits_around(&self, row: &Row, text: &[u8]) -> Option<Found> {
        let [head, middle @ .., tail] = self.parts(row) else {
            return None;
        };
        let start = usize::from(head.length);
        let end = text.len().checked_sub(tail.length.into())?;
        if end < start || !head.is(text.get(..start)) || !tail.is(text.get(end..)) {
            return None;
        }
        let (rest, searched) = search(middle, text, start, end)?;
        let fixed = start + searched + usize::from(tail.length);
        Some(self.found(row, rest, fixed))
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

impl Rows {
    const fn new(rows: &'static [Row]) -> Self {
        let mut buckets = [0; 257];
        let mut index = 0;
        while index < rows.len() {
            assert!(index == 0 || rows[index - 1].order() <= rows[index].order());
            buckets[(rows[index].gate >> 8) as usize + 1] = index as u16 + 1;
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
        let bucket = usize::from(gate >> 8);
        let rows = &self.rows[self.buckets[bucket].into()..self.buckets[bucket + 1].into()];
        rows.iter().filter(move |row| row.gate == gate)
    }
}

/// Finds the parts in `text[start..end]`, in order: where the last one ends, and how long they are
/// together. Taking each at its first place is enough, as the ends are fixed.
fn search(parts: &[Part], text: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let mut rest = start;
    let mut fixed = 0;
    for part in parts {
        rest += find_part(*part, &text[rest..end])?;
        fixed += usize::from(part.length);
    }
    Some((rest, fixed))
}

/// Where the first occurrence of the part in `text` ends.
fn find_part(part: Part, text: &[u8]) -> Option<usize> {
    let length = usize::from(part.length);
    let mut window = rolling(text.get(..length)?);
    let mut power = 1u64;
    for _ in 0..length {
        power = power.wrapping_mul(BASE);
    }
    let mut end = length;
    while window != part.hash {
        let next = *text.get(end)?;
        let gone = text[end - length];
        window = roll(window, next).wrapping_sub(power.wrapping_mul(gone as u64 + 1));
        end += 1;
    }
    Some(end)
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const BASE: u64 = 0xd6e8_feb8_6659_fd93;

/// Of a part at a known place.
const fn hash(bytes: &[u8]) -> u64 {
    let mut hash = mix(FACTOR, bytes.len() as u64);
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk() {
        hash = mix(hash, u64::from_le_bytes(*word));
        rest = tail;
    }
    let mut last = 0;
    let mut index = 0;
    while index < rest.len() {
        last = last << 8 | rest[index] as u64;
        index += 1;
    }
    mix(hash, last)
}

const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word) as u128 * FACTOR as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Of a part that is searched for: the hash of the next window follows from that of the last one.
const fn rolling(bytes: &[u8]) -> u64 {
    let mut hash = 0;
    let mut index = 0;
    while index < bytes.len() {
        hash = roll(hash, bytes[index]);
        index += 1;
    }
    hash
}

const fn roll(hash: u64, byte: u8) -> u64 {
    hash.wrapping_mul(BASE).wrapping_add(byte as u64 + 1)
}

/// The first bytes of a text, or all and zeros.
const fn first_four(text: &[u8]) -> [u8; 4] {
    match *text {
        [a, b, c, d, ..] => [a, b, c, d],
        [a, b, c] => [a, b, c, 0],
        [a, b] => [a, b, 0, 0],
        [a] => [a, 0, 0, 0],
        [] => [0; 4],
    }
}

const fn gate(bytes: &[u8; 4]) -> u16 {
    (u32::from_le_bytes(*bytes).wrapping_mul(0x9e37_79b1) >> 16) as u16
}

/// By which of its parts a format is filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// By the first one, or as a whole.
    Front,
    /// By the last one.
    Back,
    /// By one between gaps.
    Inside,
}

/// Why a format cannot be in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// No part of it is long enough to be filed by.
    NoPart,
    /// `%%`, a placeholder without an end, or too many parts.
    Unsupported,
}

/// One format as a row. Gaps are `*` and the placeholders of C, such as `%s` or `%1$d`. The parts go
/// to `parts`, from `used` on; how many are used then is returned as well.
pub(crate) const fn compile(
    format: &str,
    meaning: u8,
    parts: &mut [Part],
    used: usize,
) -> Result<(Row, Side, usize), Unfit> {
    let bytes = format.as_bytes();
    let (head_end, mut at) = match next_gap(bytes, 0) {
        Ok(Some(gap)) => gap,
        Ok(None) => {
            let length = bytes.len() as u16;
            let gate = gate(&first_four(bytes));
            let row = Row::new(hash(bytes), gate, length, used as u16, 0, meaning);
            return Ok((row, Side::Front, used));
        }
        Err(unfit) => return Err(unfit),
    };
    let head = between(bytes, 0, head_end);
    let mut next = used;
    if head.len() < 4 {
        parts[next] = Part::new(hash(head), head.len() as u16);
        next += 1;
    }
    let mut longest: &[u8] = &[];
    let tail = loop {
        match next_gap(bytes, at) {
            Ok(Some((start, end))) => {
                let part = between(bytes, at, start);
                if !part.is_empty() {
                    parts[next] = Part::new(rolling(part), part.len() as u16);
                    next += 1;
                }
                if part.len() > longest.len() {
                    longest = part;
                }
                at = end;
            }
            Ok(None) => break between(bytes, at, bytes.len()),
            Err(unfit) => return Err(unfit),
        }
    };
    let (side, filed, gate) = if head.len() >= 4 {
        (Side::Front, head, gate(&first_four(head)))
    } else if let Some(last) = tail.last_chunk() {
        (Side::Back, tail, gate(last))
    } else if longest.len() >= 4 && !head.is_empty() && head[0] == b'"' {
        (Side::Inside, longest, gate(&first_four(longest)))
    } else {
        return Err(Unfit::NoPart);
    };
    if !matches!(side, Side::Back) {
        parts[next] = Part::new(hash(tail), tail.len() as u16);
        next += 1;
    }
    if next - used > u8::MAX as usize {
        return Err(Unfit::Unsupported);
    }
    let (length, count) = (filed.len() as u16, (next - used) as u8);
    let row = Row::new(hash(filed), gate, length, used as u16, count, meaning);
    Ok((row, side, next))
}

/// The first gap from `at` on: where it begins and ends.
const fn next_gap(format: &[u8], at: usize) -> Result<Option<(usize, usize)>, Unfit> {
    let mut start = at;
    while start < format.len() {
        match format[start] {
            b'*' => return Ok(Some((start, start + 1))),
            b'%' => {
                let mut end = start + 1;
                while end < format.len() {
                    match format[end] {
                        b'%' | b'<' => return Err(Unfit::Unsupported),
                        // How long the value is.
                        b'h' | b'l' | b'L' | b'j' | b'z' | b't' => {}
                        letter if letter.is_ascii_alphabetic() => {
                            return Ok(Some((start, end + 1)));
                        }
                        _ => {}
                    }
                    end += 1;
                }
                return Err(Unfit::Unsupported);
            }
            _ => start += 1,
        }
    }
    Ok(None)
}

const fn between(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.split_at(end).0.split_at(start).1
}

/// How many parts these formats have at most, if an end of each has four bytes.
pub(crate) const fn count_gaps(formats: &[&str]) -> usize {
    let mut count = 0;
    let mut index = 0;
    while index < formats.len() {
        let mut at = 0;
        while let Ok(Some((_, end))) = next_gap(formats[index].as_bytes(), at) {
            count += 1;
            at = end;
        }
        index += 1;
    }
    count
}

/// Formats that the compiler has hashed. Each means its index.
#[derive(Debug)]
pub(crate) struct Compiled<const ROWS: usize, const PARTS: usize> {
    rows: [Row; ROWS],
    fronts: usize,
    parts: [Part; PARTS],
}

impl<const ROWS: usize, const PARTS: usize> Compiled<ROWS, PARTS> {
    pub(crate) const fn new(formats: &[&str; ROWS]) -> Self {
        let mut this = Self {
            rows: [Row::new(0, 0, 0, 0, 0, 0); ROWS],
            fronts: 0,
            parts: [Part::new(0, 0); PARTS],
        };
        let mut used = 0;
        let mut index = 0;
        assert!(ROWS <= u8::MAX as usize + 1, "a meaning is one byte");
        while index < ROWS {
            match compile(formats[index], index as u8, &mut this.parts, used) {
                Ok((row, side, next)) if !matches!(side, Side::Inside) => {
                    used = next;
                    this.insert(row, matches!(side, Side::Front), index);
                }
                _ => panic!("neither end of a format has four bytes, or a placeholder is wrong"),
            }
            index += 1;
        }
        this
    }

    /// Among the rows that are there: those filed by their front come first, both kinds are sorted.
    const fn insert(&mut self, row: Row, by_front: bool, count: usize) {
        let first = if by_front { 0 } else { self.fronts };
        let mut at = count;
        while at > first
            && (by_front && at > self.fronts || self.rows[at - 1].order() > row.order())
        {
            self.rows[at] = self.rows[at - 1];
            at -= 1;
        }
        self.rows[at] = row;
        if by_front {
            self.fronts += 1;
        }
    }

    pub(crate) const fn table(&'static self) -> Table {
        let (front, back) = self.rows.split_at(self.fronts);
        Table::new(front, back, &[], &self.parts)
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
            { $crate::fault::text::count_gaps(&TEXTS_OF_ROWS) },
        > = $crate::fault::text::Compiled::new(&TEXTS_OF_ROWS);
        COMPILED.table()
    }};
}
pub(crate) use table;

/// Which of the names is in `text`: the first one of the list. Reads the text once.
pub(crate) fn name_in(names: &[&str], text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut found = None;
    for (at, byte) in bytes.iter().enumerate() {
        // The first bytes of all names are among these; few others of a text are.
        if !matches!(byte, b'd' | b'S' | b'R' | b'\'') {
            continue;
        }
        let rest = &bytes[at..];
        let starts = |name: &&str| rest.starts_with(name.as_bytes());
        let here = names.iter().position(starts);
        found = match (found, here) {
            (Some(found), Some(here)) if found <= here => Some(found),
            (found, here) => here.or(found),
        };
    }
    found
}
