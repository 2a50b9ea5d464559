//! Signatures that others verify: ECDSA on P-521 with SHA-512, as JWS calls ES512 (RFC 7518, section 3.4).
//!
//! The key follows from another secret, so nothing of it is stored. What a signature draws at random is the provider's own:
//! of one message there are many signatures, and none of them decides anything. Deliberately absent: other curves.

use aws_lc_rs::agreement::{ECDH_P521, PrivateKey};
use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use crate::hash::derive;

/// Bytes of a coordinate, and of a secret number.
const NUMBER_BYTES: usize = 66;
/// What stands before the coordinates of a point that is not compressed (SEC 1, section 2.3.3).
const UNCOMPRESSED: usize = 1;

/// A key that signs.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    /// The public point.
    public: Vec<u8>,
}

/// A key cannot be made, or a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider does not make a key or signature on P-521")]
pub struct SigningError;

impl SigningKey {
    /// The key that follows from a secret. Its first byte is zero, so it is below the order of the curve.
    ///
    /// # Errors
    /// Never in practice.
    pub fn derived(secret: &DataKey) -> Result<Self, SigningError> {
        let mut number = Zeroizing::new([0_u8; NUMBER_BYTES]);
        let parts: [DataKey; 3] = ["1", "2", "3"].map(|label| derive(secret, label));
        let drawn = parts.iter().flat_map(|part| part.expose());
        number.iter_mut().skip(1).zip(drawn).for_each(|(byte, drawn)| *byte = *drawn);
        let private = PrivateKey::from_private_key(&ECDH_P521, &number[..]).map_err(|_| SigningError)?;
        let public = private.compute_public_key().map_err(|_| SigningError)?.as_ref().to_vec();
        let algorithm = &ECDSA_P521_SHA512_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &number[..], &public);
        Ok(Self { pair: pair.map_err(|_| SigningError)?, public })
    }

    /// Signs.
    ///
    /// # Errors
    /// Never in practice.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let signature = self.pair.sign_digest(&digest(&SHA512, message)).map_err(|_| SigningError)?;
        Ok(signature.as_ref().to_vec())
    }

    /// Whether this key made a signature.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, &self.public).verify(message, signature).is_ok()
    }

    /// The coordinates of the public point, most significant byte first.
    #[must_use]
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        let point = self.public.get(UNCOMPRESSED..).unwrap_or_default();
        point.split_at_checked(NUMBER_BYTES).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_gives_one_key_and_what_it_signed_verifies_by_no_other() {
        let key = |byte| SigningKey::derived(&DataKey::new([byte; 32])).unwrap();
        let (one, again, other) = (key(1), key(1), key(2));
        let signature = one.sign(b"message").unwrap();
        assert!(again.verifies(b"message", &signature) && one.coordinates() == again.coordinates());
        assert!(!other.verifies(b"message", &signature) && !one.verifies(b"massage", &signature));
        let (x, y) = one.coordinates();
        assert_eq!((x.len(), y.len(), signature.len()), (66, 66, 132));
    }
}
