//! Names that grow with time: accessors, lease numbers, and the edges and index entries made of them.
//!
//! A directory is a tree of sorted blocks, and a batch rewrites each block that it touches. Names that begin with the
//! time meet in the last block; random ones would each rewrite a block of their own. The rest is random, so nobody can
//! guess one. Deliberately absent: anything to be read out of a name.

use std::time::Duration;

use tresor_crypto::token_text;
use tresor_env::{Entropy, Timestamp};

use crate::namespaces::ids;

/// Characters of an accessor, and of the last part of a lease id, as clients know them.
pub(super) const CHARACTERS: usize = 24;
/// Characters that tell the time: milliseconds, enough until the year 2081.
const TIME_CHARACTERS: usize = 7;
/// Of these, the ones that tell the moment: four seconds, and again after two years.
const MOMENT: std::ops::Range<usize> = 1..5;
/// Characters of the moment.
pub(super) const MOMENT_CHARACTERS: usize = MOMENT.end - MOMENT.start;
/// Characters of a token's keyed hash, the moment before it included.
pub(super) const HASH_CHARACTERS: usize = 32;

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

/// The moment: what was made in it lies side by side in the store, so that what is made, and what ends, changes one place
/// of the index.
pub(super) fn moment(now: Timestamp) -> String {
    moment_in_name(&time_part(now)).to_owned()
}

/// The moment in a name that begins with the time.
pub(crate) fn moment_in_name(name: &str) -> &str {
    name.get(MOMENT).unwrap_or(name)
}

/// The moment in a token's keyed hash.
pub(crate) fn moment_in_hash(hash: &str) -> &str {
    hash.get(..MOMENT_CHARACTERS).unwrap_or(hash)
}

/// The time that a name begins with.
pub(super) fn time_in(name: &str) -> &str {
    name.get(..TIME_CHARACTERS).unwrap_or(name)
}

/// What a name begins with that was made so much before another.
pub(super) fn earlier(name: &str, by: Duration) -> String {
    let value = |digit: u8| DIGITS.binary_search(&digit).ok().and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
    let millis =
        time_in(name).bytes().fold(0_u64, |millis, digit| millis.saturating_mul(62).saturating_add(value(digit)));
    in_digits(millis.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}

/// What a name begins with that is made now.
pub(super) fn time_part(now: Timestamp) -> String {
    in_digits(u64::try_from(now.nanos() / 1_000_000).unwrap_or(0))
}

fn in_digits(mut left: u64) -> String {
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
    format!("{}{hash}", time_in(accessor))
}

/// The name under which an accessor leads to its token.
#[must_use]
pub(super) fn handle(accessor: &str, hash: &str) -> String {
    format!("{}{hash}", ids::bare(accessor))
}

/// What comes after every name that leads from this accessor to a token, and before every other one.
pub(super) fn after_accessor(accessor: &str) -> String {
    format!("{}~", ids::bare(accessor))
}

/// The accessor in such a name.
pub(super) fn accessor_of(handle: &str) -> String {
    let bare = ids::bare(handle);
    let accessor = bare.len().checked_sub(HASH_CHARACTERS).and_then(|at| bare.get(..at)).unwrap_or(bare);
    [accessor, ids::suffix(handle)].concat()
}

/// The hash in a name of either kind.
pub(crate) fn hash_of(ordered: &str) -> Option<&str> {
    let at = ids::bare(ordered).len().checked_sub(HASH_CHARACTERS)?;
    ordered.get(at..)
}

#[cfg(test)]
mod tests {
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
    fn what_is_made_within_seconds_is_of_one_moment() {
        let entropy = SeededEntropy::new(3);
        let start = Timestamp::from_nanos(0).plus(Duration::from_millis(62_u64.pow(2) * 400_000_000));
        let at = |millis: u64| fresh(start.plus(Duration::from_millis(millis)), &entropy);
        assert_eq!(moment_in_name(&at(0)), moment_in_name(&at(3_843)));
        assert_eq!(moment_in_name(&at(0)), moment(start));
        assert_ne!(moment_in_name(&at(0)), moment_in_name(&at(3_844)));
        assert_eq!(moment(start).len(), MOMENT_CHARACTERS);
    }

    #[test]
    fn an_ordered_name_gives_its_hash_back() {
        let hash = "0123456789abcdef0123456789abcdef";
        assert_eq!(hash_of(&ordered("abcdefghijk", hash)), Some(hash));
        assert_eq!(hash_of("short"), None);
        let handle = handle("abcdefghijk", hash);
        assert_eq!((hash_of(&handle), accessor_of(&handle).as_str()), (Some(hash), "abcdefghijk"));
    }

    #[test]
    fn names_of_a_child_namespace_end_in_its_id() {
        let (accessor, hash) = ("abcdefghijk.a1b2C3", "0123456789abcdef0123456789abcdef.a1b2C3");
        let handle = handle(accessor, hash);
        assert_eq!((hash_of(&handle), accessor_of(&handle).as_str()), (Some(hash), accessor));
        assert_eq!(hash_of(&ordered(accessor, hash)), Some(hash));
        assert!(handle.starts_with("abcdefghijk0") && after_accessor(accessor) > handle);
    }
}
