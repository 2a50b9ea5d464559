//! Signatures by an RSA key that somebody else made: PKCS #1 v1.5 with SHA-256, as JWS calls RS256 (RFC 7518, section 3.3).
//!
//! Deliberately absent: making keys, other paddings, and verifying.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

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
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

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
