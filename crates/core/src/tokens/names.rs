//! Names that grow with time: accessors, lease numbers, and the edges and index entries made of them.
//!
//! A directory is a tree of sorted blocks, and a batch rewrites each block that it touches. Names that begin with the
//! time meet in the last block; random ones would each rewrite a block of their own. The rest is random, so nobody can
//! guess one. Deliberately absent: anything to be read out of a name.

use tresor_crypto::token_text;
use tresor_env::{Entropy, Timestamp};

/// Characters of an accessor, and of the last part of a lease id, as clients know them.
pub(super) const CHARACTERS: usize = 24;
/// Characters that tell the time: milliseconds, enough until the year 2081.
const TIME_CHARACTERS: usize = 7;
/// Characters of a token's keyed hash.
const HASH_CHARACTERS: usize = 32;

/// Characters of a name in order of time.
pub(super) const ORDERED_CHARACTERS: usize = TIME_CHARACTERS + HASH_CHARACTERS;

/// Letters and digits in the order of their bytes.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh name: 7 characters of time, 17 (101 bits) at random.
#[must_use]
pub fn fresh(now: Timestamp, entropy: &dyn Entropy) -> String {
    let mut name = time_part(now);
    name.push_str(&token_text::random_base62(CHARACTERS - TIME_CHARACTERS, entropy));
    name
}

fn time_part(now: Timestamp) -> String {
    let mut left = u64::try_from(now.nanos() / 1_000_000).unwrap_or(0);
    let mut digits = [b'0'; TIME_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        let at = usize::try_from(left % 62).unwrap_or(0);
        *digit = DIGITS.get(at).copied().unwrap_or(b'0');
        left /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// The name under which a thing with this accessor and hash stands in an ordered directory.
#[must_use]
pub(crate) fn ordered(accessor: &str, hash: &str) -> String {
    let time = accessor.get(..TIME_CHARACTERS).unwrap_or(accessor);
    format!("{time}{hash}")
}

/// The name under which an accessor leads to its token.
#[must_use]
pub(super) fn handle(accessor: &str, hash: &str) -> String {
    format!("{accessor}{hash}")
}

/// What comes after every name that leads from this accessor to a token, and before every other one.
pub(super) fn after_accessor(accessor: &str) -> String {
    format!("{accessor}~")
}

/// The accessor in such a name.
pub(super) fn accessor_of(handle: &str) -> &str {
    handle.len().checked_sub(HASH_CHARACTERS).and_then(|at| handle.get(..at)).unwrap_or(handle)
}

/// The hash in a name of either kind.
pub(crate) fn hash_of(ordered: &str) -> Option<&str> {
    let at = ordered.len().checked_sub(HASH_CHARACTERS)?;
    ordered.get(at..)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tresor_env::doubles::SeededEntropy;

    use super::*;

    #[test]
    fn names_grow_with_time_and_keep_their_shape() {
        let entropy = SeededEntropy::new(3);
        let start = Timestamp::from_seconds(1_790_000_000);
        let mut last = String::new();
        for step in 0..2_000_u64 {
            let name = fresh(start.plus(Duration::from_millis(step * 977)), &entropy);
            assert!(name.len() == CHARACTERS && name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert!(name > last, "{name} after {last}");
            last = name;
        }
        // Even before the epoch, and in the last year that fits.
        assert!(fresh(Timestamp::from_nanos(-5), &entropy).starts_with("0000000"));
        assert!(fresh(Timestamp::from_seconds(3_500_000_000), &entropy) > last);
    }

    #[test]
    fn an_ordered_name_gives_its_hash_back() {
        let hash = "0123456789abcdef0123456789abcdef";
        assert_eq!(hash_of(&ordered("abcdefghijk", hash)), Some(hash));
        assert_eq!(hash_of("short"), None);
        let handle = handle("abcdefghijk", hash);
        assert_eq!((hash_of(&handle), accessor_of(&handle)), (Some(hash), "abcdefghijk"));
    }
}
