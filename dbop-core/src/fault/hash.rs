//! Hashes of 64 bits that the compiler can make as well.
//!
//! Two kinds: for bytes at a known place one of eight bytes at a time, by which all starts (or ends)
//! of a text are hashed in one pass; for bytes that are searched for one whose next window follows
//! from the last one.

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const BASE: u64 = 0xd6e8_feb8_6659_fd93;

/// The starts of a text, or its ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher<'text> {
    text: &'text [u8],
    from_end: bool,
    state: u64,
    done: usize,
    /// The last length and its hash.
    last: (usize, u64),
}

impl<'text> Hasher<'text> {
    pub(crate) const fn starts(text: &'text [u8]) -> Self {
        Self {
            text,
            from_end: false,
            state: FACTOR,
            done: 0,
            last: (usize::MAX, 0),
        }
    }

    pub(crate) const fn ends(text: &'text [u8]) -> Self {
        Self {
            from_end: true,
            ..Self::starts(text)
        }
    }

    /// The hash of the start, or end, of this length. Lengths must not become less.
    pub(crate) const fn hash(&mut self, length: usize) -> u64 {
        if length == self.last.0 {
            return self.last.1;
        }
        let (text, all) = (self.text, self.text.len());
        while self.done + 8 <= length {
            let at = if self.from_end {
                all - self.done - 8
            } else {
                self.done
            };
            self.state = mix(self.state, word(text, at));
            self.done += 8;
        }
        // The other edge, which overlaps with what is done.
        let last = if length < 8 {
            let from = if self.from_end { all - length } else { 0 };
            short_word(text, from, length)
        } else if self.from_end {
            word(text, all - length)
        } else {
            word(text, length - 8)
        };
        self.last = (length, mix(self.state ^ length as u64, last));
        self.last.1
    }
}

/// The hash of bytes at a known place.
pub(crate) const fn hash(bytes: &[u8]) -> u64 {
    Hasher::starts(bytes).hash(bytes.len())
}

const fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.split_at(at).1.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => 0,
    }
}

const fn short_word(bytes: &[u8], from: usize, length: usize) -> u64 {
    let mut word = 0;
    let mut index = 0;
    while index < length {
        word = word << 8 | bytes[from + index] as u64;
        index += 1;
    }
    word
}

const fn mix(state: u64, word: u64) -> u64 {
    let product = (state ^ word) as u128 * FACTOR as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The hash of bytes that are searched for.
pub(crate) const fn rolling(bytes: &[u8]) -> u64 {
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

/// Where the first window of this length and [`rolling`] hash ends.
pub(crate) fn find_rolling(text: &[u8], length: usize, wanted: u64) -> Option<usize> {
    let mut window = rolling(text.get(..length)?);
    let mut power = 1u64;
    for _ in 0..length {
        power = power.wrapping_mul(BASE);
    }
    let mut end = length;
    for (gone, next) in text.iter().zip(&text[length..]) {
        if window == wanted {
            return Some(end);
        }
        let gone = power.wrapping_mul(u64::from(*gone) + 1);
        window = roll(window, *next).wrapping_sub(gone);
        end += 1;
    }
    (window == wanted).then_some(end)
}

/// A few bits of the first four bytes.
pub(crate) const fn gate(bytes: &[u8]) -> u16 {
    let first = match *bytes {
        [a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]),
        _ => short_word(bytes, 0, bytes.len()) as u32,
    };
    (first.wrapping_mul(0x9e37_79b1) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"a text that is longer than a few words of eight bytes each";

    #[test]
    fn starts_and_ends_are_hashed_in_one_pass_as_by_themselves() {
        let (mut starts, mut ends) = (Hasher::starts(TEXT), Hasher::ends(TEXT));
        for length in 0..=TEXT.len() {
            assert_eq!(starts.hash(length), hash(&TEXT[..length]));
            let end = &TEXT[TEXT.len() - length..];
            assert_eq!(ends.hash(length), Hasher::ends(end).hash(length));
        }
    }

    #[test]
    fn every_byte_counts() {
        for length in 1..=TEXT.len() {
            let text = &TEXT[..length];
            for at in 0..length {
                let mut other = text.to_vec();
                other[at] ^= 1;
                assert_ne!(hash(text), hash(&other));
                assert_ne!(rolling(text), rolling(&other));
                let ends = |text| Hasher::ends(text).hash(length);
                assert_ne!(ends(text), ends(&other));
            }
        }
        assert_ne!(hash(b"a"), hash(b"a\0"));
    }

    #[test]
    fn a_part_is_found_where_it_first_is() {
        for start in 0..TEXT.len() {
            for end in start + 1..=TEXT.len() {
                let part = &TEXT[start..end];
                let first = TEXT.windows(part.len()).position(|window| window == part);
                let found = find_rolling(TEXT, part.len(), rolling(part));
                assert_eq!(found, first.map(|at| at + part.len()));
            }
        }
        assert_eq!(find_rolling(TEXT, 3, rolling(b"xyz")), None);
        assert_eq!(find_rolling(b"ab", 3, rolling(b"abc")), None);
    }

    /// The tables that are checked in were made with these.
    #[test]
    fn what_was_hashed_before_has_the_same_hash() {
        for (length, whole, part) in [
            (7, 15_670_611_834_531_587_251, 14_237_777_810_244_926_477),
            (8, 13_217_443_545_858_549_298, 14_367_026_475_847_587_052),
            (9, 14_129_707_038_669_056_711, 16_607_109_147_657_912_301),
            (16, 7_622_187_757_795_376_965, 4_513_609_265_144_680_707),
        ] {
            let text = &TEXT[..length];
            assert_eq!((hash(text), rolling(text)), (whole, part), "{length}");
        }
    }
}
