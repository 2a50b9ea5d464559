//! Signatures by an RSA key: PKCS #1 v1.5 with SHA-256, as JWS calls RS256 (RFC 7518, section 3.3). Somebody else made the key, or
//! it is made for a session and forgotten after it.
//!
//! What a key is made of is drawn by the provider itself. Deliberately absent: private halves in any form, other paddings, and
//! verifying.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

/// A key that signs.
pub struct RsaKey(RsaKeyPair);

/// It is no RSA key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no RSA key in PKCS #8 or PKCS #1")]
pub struct NotRsa;

impl RsaKey {
    /// Reads one in PKCS #8.
    ///
    /// # Errors
    /// [`NotRsa`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NotRsa> {
        RsaKeyPair::from_pkcs8(der).map(Self).map_err(|_| NotRsa)
    }

    /// Reads one in PKCS #1, as older tools write them.
    ///
    /// # Errors
    /// [`NotRsa`].
    pub fn from_pkcs1(der: &[u8]) -> Result<Self, NotRsa> {
        RsaKeyPair::from_der(der).map(Self).map_err(|_| NotRsa)
    }

    /// Makes one of 2048 bits. It takes a while: for a thread that may wait.
    ///
    /// # Errors
    /// [`NotRsa`], never in practice.
    pub fn generate() -> Result<Self, NotRsa> {
        RsaKeyPair::generate(KeySize::Rsa2048).map(Self).map_err(|_| NotRsa)
    }

    /// Its public half, as `SubjectPublicKeyInfo` (RFC 5280).
    ///
    /// # Errors
    /// [`NotRsa`], never in practice.
    pub fn public(&self) -> Result<Vec<u8>, NotRsa> {
        self.0.public_key().as_der().map(|der| der.as_ref().to_vec()).map_err(|_| NotRsa)
    }

    /// Signs.
    ///
    /// # Errors
    /// [`NotRsa`], never in practice.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NotRsa> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign_digest(&RSA_PKCS1_SHA256, &digest(&SHA256, message), &mut signature).map_err(|_| NotRsa)?;
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::Pkcs8V1Der;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use tresor_env::custody::{SignedHash, Signing};

    use super::*;
    use crate::public_key::verifies;

    #[test]
    fn a_key_of_a_session_is_another_one_each_time_and_known_by_its_public_half() {
        let keys = [RsaKey::generate(), RsaKey::generate()].map(|key| key.unwrap_or_else(|error| panic!("{error}")));
        let [one, other] = keys.each_ref().map(|key| key.public().unwrap_or_default());
        assert_ne!(one, other);
        let signature = keys[0].sign(b"message").unwrap_or_default();
        let how = Signing { hash: SignedHash::Sha256, pss: false };
        assert!(verifies(&one, how, b"message", &signature) && !verifies(&other, how, b"message", &signature));
    }

    #[test]
    fn others_verify_what_is_signed() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap_or_else(|error| panic!("{error}"));
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap_or_else(|error| panic!("{error}"));
        let key = RsaKey::from_pkcs8(der.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        let signature = key.sign(b"message").unwrap_or_default();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        assert!(public.verify(b"message", &signature).is_ok());
        assert!(public.verify(b"another", &signature).is_err());
        assert!(RsaKey::from_pkcs8(b"nonsense").is_err() && RsaKey::from_pkcs1(b"nonsense").is_err());
    }
}
