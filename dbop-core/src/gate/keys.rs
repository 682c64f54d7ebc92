//! What operations name of the rows that they are going to lock.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The rows that an operation is going to lock, for `exclusive_by`: attempts that share a key run one at a
/// time in this process.
///
/// A key has a name space, so that account 7 is not order 7. Within it, integers of all types are the same
/// key if they are the same number. Name *all* rows that the operation locks. With only one of two, the
/// operations still collide on the other one: transfers between 4 accounts, 32 at a time on PostgreSQL, made 61
/// per second with the first account as the key, 2,592 with both, and 1.8 without a gate (measured).
///
/// The keys are kept as hashes, sorted, so that two operations never wait for each other. Two keys with the
/// same hash, which are improbable, only wait for each other without need.
///
/// ```
/// use dbop_core::Keys;
///
/// let (from, to) = (7_i64, 3_i64);
/// let accounts = Keys::new("account", [from, to]);
/// let all = Keys::new("account", [from, to]).and("order", ["A-17"]);
/// assert_eq!((accounts.len(), all.len()), (2, 3));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<u64>);

impl Keys {
    /// The keys of a name space. Without a key, there is no gate.
    #[must_use]
    pub fn new<K: Hash>(space: &str, keys: impl IntoIterator<Item = K>) -> Self {
        Self(Vec::new()).and(space, keys)
    }

    /// The same, and these keys of another name space.
    ///
    /// ```
    /// use dbop_core::Keys;
    ///
    /// let keys = Keys::new("account", [7]).and("order", [7]);
    /// assert_eq!(keys.len(), 2);
    /// ```
    #[must_use]
    pub fn and<K: Hash>(mut self, space: &str, keys: impl IntoIterator<Item = K>) -> Self {
        self.0.extend(keys.into_iter().map(|key| hash(space, &key)));
        self.0.sort_unstable();
        self.0.dedup();
        self
    }

    /// How many different keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn hashes(&self) -> &[u64] {
        &self.0
    }
}

fn hash<K: Hash>(space: &str, key: &K) -> u64 {
    let mut hasher = Numbers(DefaultHasher::new());
    space.hash(&mut hasher);
    key.hash(&mut hasher);
    hasher.finish()
}

/// The hash of a name.
pub(super) fn hash_of_name(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Hashes a number in the same way, whatever its type: an id is an `i32` in one place and an `i64` in
/// another.
struct Numbers(DefaultHasher);

macro_rules! numbers {
    ($($write:ident: $number:ty),+) => {
        $(fn $write(&mut self, number: $number) {
            self.0.write_i128(number.into());
        })+
    };
}

impl Hasher for Numbers {
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    numbers!(
        write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64,
        write_i8: i8, write_i16: i16, write_i32: i32, write_i64: i64
    );

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_i64(number as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_spaces_differ_and_numbers_of_two_types_do_not() {
        let of = |keys: Keys| keys.0;
        assert_ne!(of(Keys::new("account", [7])), of(Keys::new("order", [7])));
        assert_eq!(
            of(Keys::new("account", [7_i32])),
            of(Keys::new("account", [7_u64]))
        );
        assert_eq!(
            of(Keys::new("account", [7_usize])),
            of(Keys::new("account", [7_i8]))
        );
        assert_eq!(
            of(Keys::new("account", [-7_isize])),
            of(Keys::new("account", [-7_i16]))
        );
        assert_ne!(of(Keys::new("account", [7])), of(Keys::new("account", [8])));
        assert_eq!(
            of(Keys::new("order", ["a"])),
            of(Keys::new("order", [String::from("a")]))
        );
    }

    #[test]
    fn they_are_sorted_and_each_is_there_once() {
        let keys = Keys::new("account", [3, 1, 2, 3, 1]);
        assert_eq!(keys, Keys::new("account", [1, 2, 3]));
        assert!(keys.0.is_sorted());
        assert_eq!(keys.len(), 3);
        assert!(!keys.is_empty() && Keys::new("account", [0; 0]).is_empty());
    }
}
