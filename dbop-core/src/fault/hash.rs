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
}

impl<'text> Hasher<'text> {
    pub(crate) const fn starts(text: &'text [u8]) -> Self {
        Self {
            text,
            from_end: false,
            state: FACTOR,
            done: 0,
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
        mix(self.state ^ length as u64, last)
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
