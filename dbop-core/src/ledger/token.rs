//! What identifies one operation in the ledger.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// 112 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u128);

impl fmt::Display for Token {
    /// A duplicate is recognised by the prefix, whatever language the server speaks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dbop{:028x}", self.0)
    }
}

impl Token {
    /// From the operating system's randomness by way of the standard library's hasher. Two
    /// operations with the same token would mistake each other's work for their own.
    pub(super) fn new() -> Self {
        // A forked process starts with its parent's random keys.
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        Self((half() << 64 | half()) >> (128 - BITS))
    }
}

const BITS: u32 = 112;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        let tokens: std::collections::HashSet<_> = (0..10_000).map(|_| Token::new().0).collect();
        assert_eq!(tokens.len(), 10_000);
        let ones = tokens.iter().fold(0, |ones, token| ones | token);
        assert_eq!(ones, (1 << BITS) - 1, "every bit is used");
        assert_eq!(Token::new().to_string().len(), 32);
    }
}
