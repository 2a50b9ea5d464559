//! Canaries: texts that can be told apart from everything else, and a search for them in bytes.
//!
//! A test plants canaries as values, names, tokens and passwords, and afterwards looks for them where no secret may
//! be: in the store, in logs, in audit records. They are found as they are, in base64 at all three alignments (both
//! alphabets), in hexadecimal and percent-encoded. Deliberately absent: randomness; the same label and number give
//! the same canary.

#![allow(clippy::expect_used, clippy::panic, reason = "a check of tests ends the test that failed it")]

use std::collections::BTreeMap;

/// What every canary contains, so that a human recognises one in a dump.
const MARK: &str = "canary";
/// How many letters follow the mark.
const TAIL_LETTERS: usize = 20;

/// A canary: lower-case letters and digits only, so that it is a legal value, path segment, policy name, user name
/// and password at once, and survives folding of case.
#[must_use]
pub fn canary(label: &str, number: u64) -> String {
    let mut state = label.bytes().fold(number ^ 0x9e37_79b9_7f4a_7c15, |state, byte| mix(state ^ u64::from(byte)));
    let letters = (0..TAIL_LETTERS).map(|_| {
        state = mix(state);
        char::from(b'a' + u8::try_from(state % 26).unwrap_or(0))
    });
    format!("{MARK}{}", letters.collect::<String>())
}

/// SplitMix64.
const fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One spelling of one canary.
struct Needle {
    canary: usize,
    form: &'static str,
    bytes: Vec<u8>,
}

/// The shortest secret that can be watched; every spelling of it is at least as long.
const HEAD_BYTES: usize = 8;

/// A set of secrets to look for. Any text of at least eight bytes can be watched, not only [`canary`]s.
#[derive(Default)]
pub struct Canaries {
    labels: Vec<String>,
    needles: Vec<Needle>,
    /// Needles by how they start.
    by_head: BTreeMap<[u8; HEAD_BYTES], Vec<usize>>,
    /// Marks the first two bytes of every needle: all that most positions of a haystack need.
    pairs: Vec<bool>,
}

/// A canary that was where it must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What [`Canaries::watch`] was told that it is; never the secret itself.
    pub label: String,
    /// In which spelling.
    pub form: &'static str,
    /// Where it starts.
    pub offset: usize,
}

impl Canaries {
    /// Nothing to look for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for this secret from now on; `label` is what a sighting says.
    pub fn watch(&mut self, label: &str, secret: &[u8]) {
        assert!(secret.len() >= HEAD_BYTES, "{label}: so short a secret is found everywhere");
        let canary = self.labels.len();
        self.labels.push(label.to_owned());
        for (form, bytes) in spellings(secret) {
            let Some((head, _)) = bytes.split_first_chunk::<HEAD_BYTES>() else { continue };
            let starting = self.by_head.entry(*head).or_default();
            if starting.iter().any(|at| self.needles.get(*at).is_some_and(|known| known.bytes == bytes)) {
                continue;
            }
            starting.push(self.needles.len());
            self.pairs.resize(1 << 16, false);
            if let Some(mark) = self.pairs.get_mut(pair(head)) {
                *mark = true;
            }
            self.needles.push(Needle { canary, form, bytes });
        }
    }

    /// How many secrets are watched.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.labels.len()
    }

    /// The first secret in these bytes.
    #[must_use]
    pub fn find(&self, haystack: &[u8]) -> Option<Sighting> {
        haystack.array_windows::<HEAD_BYTES>().enumerate().find_map(|(offset, head)| {
            if !self.pairs.get(pair(head)).is_some_and(|mark| *mark) {
                return None;
            }
            let rest = haystack.get(offset..)?;
            let starting = self.by_head.get(head)?;
            let needle =
                starting.iter().filter_map(|at| self.needles.get(*at)).find(|known| rest.starts_with(&known.bytes))?;
            Some(Sighting { label: self.labels.get(needle.canary)?.clone(), form: needle.form, offset })
        })
    }

    /// Ends the test when a secret is in these bytes.
    #[track_caller]
    pub fn assert_absent(&self, place: &str, haystack: &[u8]) {
        if let Some(sighting) = self.find(haystack) {
            panic!("{place}: {} ({}) at byte {}", sighting.label, sighting.form, sighting.offset);
        }
    }
}

/// The first two bytes as one number.
fn pair(head: &[u8; HEAD_BYTES]) -> usize {
    let [first, second, ..] = *head;
    usize::from(first) << 8 | usize::from(second)
}

/// Every spelling that a secret is looked for in.
fn spellings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let lower: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("hexadecimal", lower.to_uppercase().into_bytes()),
        ("hexadecimal", lower.into_bytes()),
        ("percent-encoded", percent.to_lowercase().into_bytes()),
        ("percent-encoded", percent.into_bytes()),
    ];
    for alignment in 0..3 {
        for alphabet in [STANDARD, URL_SAFE] {
            forms.push(("base64", base64_inside(secret, alignment, alphabet)));
        }
    }
    forms
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The letters of base64 that depend on the secret alone when `alignment` bytes come before it.
fn base64_inside(secret: &[u8], alignment: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let mut bits = vec![0_u8; alignment];
    bits.extend_from_slice(secret);
    let first = (alignment * 8).div_ceil(6);
    let end = bits.len() * 8 / 6;
    (first..end)
        .filter_map(|letter| {
            let value = (0..6).fold(0_u8, |value, bit| {
                let at = letter * 6 + bit;
                let byte = bits.get(at / 8).copied().unwrap_or_default();
                (value << 1) | ((byte >> (7 - at % 8)) & 1)
            });
            alphabet.get(usize::from(value)).copied()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: &str = "a secret of some length";
    /// What `base64` prints for the secret after no, one and two letters `x`.
    const ENCODED: [&str; 3] = [
        "YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg=",
        "eGEgc2VjcmV0IG9mIHNvbWUgbGVuZ3Ro",
        "eHhhIHNlY3JldCBvZiBzb21lIGxlbmd0aA==",
    ];

    fn watching() -> Canaries {
        let mut canaries = Canaries::new();
        canaries.watch("the value", SECRET.as_bytes());
        canaries
    }

    #[test]
    fn a_canary_is_found_in_every_spelling() {
        let canaries = watching();
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut spelled = vec![SECRET.to_owned(), hex.to_uppercase(), hex, percent.to_uppercase(), percent];
        spelled.extend(ENCODED.iter().map(|text| (*text).to_owned()));
        for text in spelled {
            let found = canaries.find(format!("before {text} after").as_bytes());
            assert_eq!(found.map(|sighting| sighting.label), Some("the value".to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let canaries = watching();
        assert_eq!(canaries.find(b"a secret of some kinD and its YSBzZWNyZXQ"), None);
        assert_eq!(Canaries::default().find(SECRET.as_bytes()), None);
    }

    #[test]
    #[should_panic(expected = "the log: the value (as it is) at byte 3")]
    fn a_sighting_ends_the_test_and_does_not_show_the_secret() {
        watching().assert_absent("the log", format!("...{SECRET}").as_bytes());
    }

    #[test]
    fn canaries_differ_and_are_the_same_each_time() {
        assert_eq!(canary("value", 1), canary("value", 1));
        assert_ne!(canary("value", 1), canary("value", 2));
        assert_ne!(canary("value", 1), canary("name", 1));
        assert!(canary("value", 1).starts_with(MARK));
    }
}
