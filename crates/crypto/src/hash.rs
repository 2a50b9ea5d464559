//! Keyed and plain hashes, and the derivation of keys for one purpose from one base.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::{digest, hmac};
use sha3::{Digest as _, Sha3_224};
use tresor_secret::DataKey;
use tresor_sha256::State;
use zeroize::Zeroizing;

/// The block of SHA-256, in bytes.
const BLOCK_BYTES: usize = 64;

/// A key for HMAC-SHA256 (RFC 2104), prepared once: what both hashes are after the block that holds the key.
pub struct HmacKey {
    inner: State,
    outer: State,
}

impl HmacKey {
    /// Prepares a key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK_BYTES]);
        let short = Zeroizing::new(sha256(key));
        let key = if key.len() > BLOCK_BYTES { &*short } else { key };
        block.iter_mut().zip(key).for_each(|(target, byte)| *target = *byte);
        let padded = |with: u8| {
            let mut state = State::new();
            state.update(&*Zeroizing::new(block.map(|byte| byte ^ with)));
            state
        };
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    /// The code of one message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.sign_parts(&[message])
    }

    /// Whether a code is that of the message; takes as long whichever byte differs.
    #[must_use]
    pub fn verifies(&self, message: &[u8], code: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.sign(message), code).is_ok()
    }

    /// The code of a message given in pieces.
    #[must_use]
    pub fn sign_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = self.inner.clone();
        parts.iter().for_each(|part| inner.update(part));
        let mut outer = self.outer.clone();
        outer.update(&inner.finish());
        outer.finish()
    }
}

/// HMAC-SHA1 (RFC 2104), for services of others that take no other signature.
#[must_use]
pub fn hmac_sha1(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// SHA-256.
#[must_use]
pub fn sha256(message: &[u8]) -> [u8; 32] {
    let mut state = State::new();
    state.update(message);
    state.finish()
}

/// The hash of a message, by the name that clients give it; nothing for a name that is none of these. SHA3-224 is not the
/// provider's, which has none.
#[must_use]
pub fn named(algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match algorithm {
        "sha2-224" => &digest::SHA224,
        "sha2-256" => &digest::SHA256,
        "sha2-384" => &digest::SHA384,
        "sha2-512" => &digest::SHA512,
        "sha3-224" => return Some(Sha3_224::digest(message).to_vec()),
        "sha3-256" => &digest::SHA3_256,
        "sha3-384" => &digest::SHA3_384,
        "sha3-512" => &digest::SHA3_512,
        _ => return None,
    };
    Some(digest::digest(algorithm, message).as_ref().to_vec())
}

/// Lower-case hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
    text
}

const fn digit(nibble: u8) -> char {
    (if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }) as char
}

/// A key for one purpose (RFC 5869, no salt, the label as info).
#[must_use]
#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes")]
pub fn derive(base: &DataKey, label: &str) -> DataKey {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = [0_u8; 32];
    let extracted = Salt::new(HKDF_SHA256, &[]).extract(base.expose());
    let info = [label.as_bytes()];
    extracted.expand(&info, Length).and_then(|okm| okm.fill(&mut key)).expect("32 bytes are within HKDF's limit");
    DataKey::new(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_are_those_of_the_providers_own_hmac(
            key in prop::collection::vec(any::<u8>(), 0..200), message in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let theirs = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
            prop_assert_eq!(&HmacKey::new(&key).sign(&message)[..], theirs.as_ref());
        }
    }

    #[test]
    fn codes_agree_with_published_vectors() {
        // RFC 4231, test case 2.
        let code = HmacKey::new(b"Jefe").sign(b"what do ya want for nothing?");
        assert_eq!(to_hex(&code), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(HmacKey::new(b"Jefe").sign_parts(&[b"what do ya ", b"want for nothing?"]), code);
        // RFC 2202, test case 2.
        let code = hmac_sha1(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(to_hex(&code), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        // FIPS 180-2, "abc".
        assert_eq!(to_hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn derived_keys_differ_by_label_and_base() {
        let (a, b) = (DataKey::new([1; 32]), DataKey::new([2; 32]));
        let keys = [derive(&a, "x"), derive(&a, "y"), derive(&b, "x")];
        assert_eq!(derive(&a, "x").expose(), keys[0].expose());
        assert_ne!(keys[0].expose(), keys[1].expose());
        assert_ne!(keys[0].expose(), keys[2].expose());
    }
}
