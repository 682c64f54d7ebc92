//! What identifies one operation in the ledger.

use std::fmt;

/// 128 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token([u8; 16]);

impl fmt::Display for Token {
    /// In hexadecimal digits, as SQL has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Token {
    /// From the operating system's randomness, which a forked process does not share with its parent.
    /// Two operations with the same token would mistake each other's work for their own.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness, as the standard library's maps do.
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) const fn of(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_in_every_bit() {
        let tokens: std::collections::HashSet<_> = (0..10_000).map(|_| Token::new().0).collect();
        assert_eq!(tokens.len(), 10_000);
        let (mut ones, mut zeros) = (0, 0);
        for token in tokens {
            ones |= u128::from_be_bytes(token);
            zeros |= !u128::from_be_bytes(token);
        }
        assert_eq!((ones, zeros), (u128::MAX, u128::MAX));
        assert_eq!(Token([0; 16]).to_string(), "0".repeat(32));
    }
}
