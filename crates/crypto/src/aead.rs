//! The sealing envelope: AES-256-GCM with a random nonce, bound to where the sealed value belongs.
//!
//! Layout: format `1`, key term (4 bytes, big-endian), nonce (12), ciphertext with tag. Format and term are
//! authenticated together with the caller's context, so nothing of an envelope can be moved or relabelled.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tresor_env::Entropy;
use tresor_secret::DataKey;
use tresor_secret::Wiped;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 5;
const TAG_BYTES: usize = 16;

/// How much longer a sealed value is than its plaintext.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_LEN + TAG_BYTES;

/// Why a sealed value was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short to be sealed.
    #[error("sealed value is too short")]
    Truncated,
    /// Sealed in a format that this release does not know.
    #[error("sealed value has the unknown format {0}")]
    UnknownFormat(u8),
    /// Sealed by a key term that the ring does not hold.
    #[error("sealed value names the unknown key term {0}")]
    UnknownTerm(u32),
    /// Changed, moved, or sealed by another key.
    #[error("sealed value is forged or belongs elsewhere")]
    Forged,
}

/// A key whose schedule is made once.
pub struct AeadKey(LessSafeKey);

impl AeadKey {
    /// Prepares a key.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the type fixes the length that the algorithm wants")]
    pub fn new(key: &DataKey) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).expect("32 bytes are an AES-256 key")))
    }

    /// Seals a value for one place (`context`).
    #[must_use]
    #[expect(clippy::expect_used, reason = "sealing fails only beyond 64 GiB, which no request carries")]
    pub fn seal(&self, term: u32, context: &[u8], plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let mut nonce = [0_u8; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&term.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let aad = Aad::from(bound(term, context));
        let (_, body) = sealed.split_at_mut(HEADER_BYTES + NONCE_LEN);
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, body)
            .expect("the plaintext is within the cipher's limit");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens a value sealed for this place.
    ///
    /// # Errors
    /// [`OpenError`] when it was not sealed by this key for this place.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Wiped<Vec<u8>>, OpenError> {
        let term = term_of(sealed)?;
        let (_, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or(OpenError::Truncated)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Truncated)?;
        if body.len() < TAG_BYTES {
            return Err(OpenError::Truncated);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Truncated)?;
        let mut opened = Wiped::new(body.to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(bound(term, context)), &mut opened)
            .map_err(|_| OpenError::Forged)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

/// A key for a sequence of values, each sealed under a number of its own instead of a random nonce.
///
/// Invariant, which is the caller's: no number is given twice. So the key must be of one log alone, derived anew
/// whenever it is not certain what was sealed before.
pub struct SequenceKey(LessSafeKey);

impl SequenceKey {
    /// How much longer a sealed value is than its plaintext.
    pub const OVERHEAD_BYTES: usize = TAG_BYTES;

    /// Prepares a key.
    #[must_use]
    pub fn new(key: &DataKey) -> Self {
        Self(AeadKey::new(key).0)
    }

    /// Appends the value of a number, sealed for one place; its tag comes last.
    #[expect(clippy::expect_used, reason = "sealing fails only beyond 64 GiB, which no request carries")]
    pub fn seal_onto(&self, out: &mut Vec<u8>, number: u64, context: &[u8], plaintext: &[u8]) {
        let start = out.len();
        out.reserve(plaintext.len() + TAG_BYTES);
        out.extend_from_slice(plaintext);
        let (_, body) = out.split_at_mut(start);
        let tag = self
            .0
            .seal_in_place_separate_tag(numbered(number), Aad::from(context), body)
            .expect("the plaintext is within the cipher's limit");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens the value of a number.
    ///
    /// # Errors
    /// [`OpenError`] when it was not sealed by this key under this number for this place.
    pub fn open(&self, number: u64, context: &[u8], sealed: &[u8]) -> Result<Wiped<Vec<u8>>, OpenError> {
        if sealed.len() < TAG_BYTES {
            return Err(OpenError::Truncated);
        }
        let mut opened = Wiped::new(sealed.to_vec());
        let length = self
            .0
            .open_in_place(numbered(number), Aad::from(context), &mut opened)
            .map_err(|_| OpenError::Forged)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

/// The nonce of a number.
fn numbered(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(nonce)
}

/// The key term that a sealed value names.
///
/// # Errors
/// [`OpenError`] when the bytes are no sealed value.
pub fn term_of(sealed: &[u8]) -> Result<u32, OpenError> {
    match sealed.split_first_chunk::<HEADER_BYTES>() {
        Some(([FORMAT, a, b, c, d], _)) => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        Some(([format, ..], _)) => Err(OpenError::UnknownFormat(*format)),
        None => Err(OpenError::Truncated),
    }
}

fn bound(term: u32, context: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(HEADER_BYTES + context.len());
    bound.push(FORMAT);
    bound.extend_from_slice(&term.to_be_bytes());
    bound.extend_from_slice(context);
    bound
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    fn key() -> AeadKey {
        AeadKey::new(&DataKey::new([7; 32]))
    }

    #[test]
    fn a_sealed_value_opens_in_its_place_only() {
        let sealed = key().seal(3, b"here", b"value", &SeededEntropy::new(1));
        assert_eq!(sealed.len(), 5 + OVERHEAD_BYTES);
        assert_eq!(term_of(&sealed), Ok(3));
        assert_eq!(*key().open(b"here", &sealed).unwrap(), b"value");
        assert_eq!(key().open(b"there", &sealed).err(), Some(OpenError::Forged));
        assert_eq!(AeadKey::new(&DataKey::new([8; 32])).open(b"here", &sealed).err(), Some(OpenError::Forged));
    }

    #[test]
    fn a_value_of_a_sequence_opens_under_its_number_in_its_place_only() {
        let key = SequenceKey::new(&DataKey::new([7; 32]));
        let mut sealed = b"before".to_vec();
        key.seal_onto(&mut sealed, 3, b"here", b"value");
        let sealed = sealed.strip_prefix(b"before").unwrap();
        assert_eq!(sealed.len(), 5 + SequenceKey::OVERHEAD_BYTES);
        assert_eq!(*key.open(3, b"here", sealed).unwrap(), b"value");
        assert_eq!(key.open(4, b"here", sealed).err(), Some(OpenError::Forged));
        assert_eq!(key.open(3, b"there", sealed).err(), Some(OpenError::Forged));
        assert_eq!(SequenceKey::new(&DataKey::new([8; 32])).open(3, b"here", sealed).err(), Some(OpenError::Forged));
        for length in 0..sealed.len() {
            assert!(key.open(3, b"here", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_never_opens() {
        let sealed = key().seal(3, b"here", b"value", &SeededEntropy::new(1));
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(key().open(b"here", &changed).is_err(), "byte {at} bit {bit}");
            }
            assert!(key().open(b"here", &sealed[..at]).is_err());
        }
    }

    #[test]
    fn the_cipher_agrees_with_a_published_vector() {
        // McGrew and Viega, test case 14: zero key, zero nonce, sixteen zero bytes.
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[0; 32]).unwrap());
        let mut body = vec![0_u8; 16];
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut body).unwrap();
        assert_eq!(hex::encode(body), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }

    proptest! {
        #[test]
        fn fz_11_any_bytes_are_refused_or_opened(bytes: Vec<u8>) {
            prop_assert!(key().open(b"x", &bytes).is_err());
        }
    }
}
