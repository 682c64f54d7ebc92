//! Formats, such as those of `printf`, as rows of hashes.

use super::hash::{Hasher, gate, hash, rolling};

/// A fixed part of a format besides the one that its row is filed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) hash: u64,
    pub(crate) length: u16,
}

/// One format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Of the part that it is filed by.
    pub(crate) hash: u64,
    /// A few bits of that part, see [`Side`].
    pub(crate) gate: u16,
    pub(crate) length: u16,
    /// The other parts.
    pub(crate) first_part: u16,
    pub(crate) parts: u8,
    /// What the format means, as an index of the table's user.
    pub(crate) meaning: u8,
}

/// By which of its parts a format is filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// It has no gap: the gate is of its first four bytes and its length.
    Whole,
    /// By the first part and its first four bytes.
    Front,
    /// By the last part and its last four bytes: the first one has fewer.
    Back,
    /// By a part between two gaps and its first four bytes: both ends have fewer. The format begins
    /// with a quotation mark, and the part, which is not ASCII, begins with one of [`BEGIN_INSIDE`].
    Inside,
}

impl Part {
    pub(crate) const fn new(hash: u64, length: u16) -> Self {
        Self { hash, length }
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

    /// What the rows of a table are sorted by.
    pub(crate) const fn order(&self) -> u32 {
        (self.gate as u32) << 16 | self.length as u32
    }
}

/// How a part can begin that a format between two gaps is filed by: with what ends a value.
pub(crate) const BEGIN_INSIDE: &[u8] = b"\" )";

const fn begins_inside(byte: u8) -> bool {
    let mut index = 0;
    while index < BEGIN_INSIDE.len() && BEGIN_INSIDE[index] != byte {
        index += 1;
    }
    index < BEGIN_INSIDE.len()
}

/// The gate of a format without a gap.
pub(crate) const fn gate_of_whole(text: &[u8]) -> u16 {
    gate(text) ^ (text.len() as u16).wrapping_mul(0x9e37)
}

/// The gate of a format that is filed by its last part.
pub(crate) const fn gate_of_end(text: &[u8]) -> u16 {
    gate(text.split_at(text.len().saturating_sub(4)).1)
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
            let (gate, length) = (gate_of_whole(bytes), bytes.len() as u16);
            let row = Row::new(hash(bytes), gate, length, used as u16, 0, meaning);
            return Ok((row, Side::Whole, used));
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
                if part.len() > longest.len() && begins_inside(part[0]) && !part.is_ascii() {
                    longest = part;
                }
                at = end;
            }
            Ok(None) => break between(bytes, at, bytes.len()),
            Err(unfit) => return Err(unfit),
        }
    };
    let (side, filed, hash_of_filed, gate) = if head.len() >= 4 {
        (Side::Front, head, hash(head), gate(head))
    } else if tail.len() >= 4 {
        let hash = Hasher::ends(tail).hash(tail.len());
        (Side::Back, tail, hash, gate_of_end(tail))
    } else if longest.len() >= 4 && !head.is_empty() && head[0] == b'"' {
        (Side::Inside, longest, hash(longest), gate(longest))
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
    let row = Row::new(hash_of_filed, gate, length, used as u16, count, meaning);
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

/// How many parts these formats have at most.
pub(crate) const fn count_parts(formats: &[&str]) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// How a format is filed, by which part, and how many other parts it has.
    fn filed(format: &str) -> Result<(Side, u64, u8), Unfit> {
        let mut parts = [Part::new(0, 0); 300];
        compile(format, 0, &mut parts, 0).map(|(row, side, _)| (side, row.hash, row.parts))
    }

    #[test]
    fn a_format_is_filed_by_an_end_of_four_bytes() {
        assert_eq!(filed("abcd"), Ok((Side::Whole, hash(b"abcd"), 0)));
        assert_eq!(filed("abcd%s"), Ok((Side::Front, hash(b"abcd"), 1)));
        let end = Hasher::ends(b"bcde").hash(4);
        assert_eq!(filed("abc%sbcde"), Ok((Side::Back, end, 1)));
        assert_eq!(filed("abc%sbcd"), Err(Unfit::NoPart));
    }

    #[test]
    fn without_such_an_end_it_is_filed_by_the_longest_part_that_ends_a_value() {
        let inside = |format, part: &str, parts| {
            let expected = Ok((Side::Inside, hash(part.as_bytes()), parts));
            assert_eq!(filed(format), expected, "{format}");
        };
        inside("\"%s\" 릴레이션 %s", "\" 릴레이션 ", 3);
        inside("\"%s) 릴레이션 %s", ") 릴레이션 ", 3);
        inside("\"%s 릴레이션 %s", " 릴레이션 ", 3);
        // The longest, of several the first.
        inside("\"%s\" 가 %s\" 릴레 %s", "\" 릴레 ", 4);
        inside("\"%s\" 가 %s\" 나 %s", "\" 가 ", 4);
        // Of four bytes at least.
        inside("\"%s)가%s", ")가", 3);
        for unfit in [
            "\"%s)é%s",
            // It does not end a value.
            "\"%s릴레이션 %s",
            // Nothing but ASCII is in too many texts.
            "\"%s\" relation %s",
            // It does not begin with a quotation mark.
            "(%s\" 릴레이션 %s",
            "%s\" 릴레이션 %s",
        ] {
            assert_eq!(filed(unfit), Err(Unfit::NoPart), "{unfit}");
        }
    }

    #[test]
    fn there_is_room_for_255_other_parts() {
        let format = |gaps: usize| format!("abcd{}", "%sx".repeat(gaps));
        assert_eq!(filed(&format(255)), Ok((Side::Front, hash(b"abcd"), 255)));
        assert_eq!(filed(&format(256)), Err(Unfit::Unsupported));
    }

    #[test]
    fn a_gap_is_a_star_or_a_placeholder_of_c() {
        for format in ["abcd*", "abcd%1$-.64s", "abcd%lu", "abcd%zu"] {
            assert_eq!(
                filed(format),
                Ok((Side::Front, hash(b"abcd"), 1)),
                "{format}"
            );
        }
        for unsupported in ["abcd%%", "abcd%5", "abcd%<x"] {
            assert_eq!(filed(unsupported), Err(Unfit::Unsupported), "{unsupported}");
        }
        assert_eq!(count_parts(&["a", "b%sc%d", "d*"]), 3);
    }
}
