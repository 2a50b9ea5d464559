//! Declarations of several structs as one list, made at compile time: what `flatten` in a derive expands to.
//!
//! Deliberately absent: names that stand in two of them; a test of the list would show those twice.

/// How many there are in all.
#[must_use]
pub const fn count<T>(parts: &[&[T]]) -> usize {
    let (mut total, mut part) = (0, 0);
    while part < parts.len() {
        total += parts[part].len();
        part += 1;
    }
    total
}

/// All of them in order. `N` is [`count`] of the same parts.
#[must_use]
pub const fn joined<T: Copy, const N: usize>(parts: &[&[T]], blank: T) -> [T; N] {
    let mut all = [blank; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut entry = 0;
        while entry < parts[part].len() {
            all[at] = parts[part][entry];
            at += 1;
            entry += 1;
        }
        part += 1;
    }
    all
}
