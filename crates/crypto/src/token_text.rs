//! Random texts: base62 for tokens and accessors, UUIDs for ids.

use tresor_env::Entropy;
use zeroize::Zeroizing;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random letters and digits, every one equally likely: bytes that would favour some are drawn again.
#[must_use]
pub fn random_base62(length: usize, entropy: &dyn Entropy) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut drawn = Zeroizing::new([0_u8; 64]);
    while text.len() < length {
        entropy.fill(&mut *drawn);
        // 248 is the largest multiple of 62 that a byte can stay below.
        let letters = drawn.iter().filter(|byte| **byte < 248).filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        for letter in letters.take(length - text.len()) {
            text.push(char::from(*letter));
        }
    }
    text
}

/// A random UUID (version 4), lower case.
#[must_use]
pub fn random_uuid(entropy: &dyn Entropy) -> String {
    let mut bytes = [0_u8; 16];
    entropy.fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = crate::hash::to_hex(&bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    #[test]
    fn texts_have_their_length_and_alphabet() {
        let entropy = SeededEntropy::new(5);
        let text = random_base62(200, &entropy);
        assert_eq!(text.len(), 200);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let uuid = random_uuid(&entropy);
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes().get(14), Some(&b'4'));
        assert_ne!(random_uuid(&entropy), uuid);
    }
}
