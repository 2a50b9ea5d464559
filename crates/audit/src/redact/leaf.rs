//! The strings of a redacted record: public, hashed, or raw because this device was configured so.
//!
//! Invariant: made by the redactor alone (`pub(super)`); there is no constructor from a plain string. Deliberately
//! absent: a way back to what was hashed.

use tresor_crypto::hash::to_hex;
use tresor_wire::json::encode_text;
use zeroize::Zeroizing;

use crate::entry::Clear;

/// One string of a redacted record.
pub struct Leaf(Kind);

enum Kind {
    Public(Box<str>),
    Hmac([u8; 32]),
    Raw(Zeroizing<String>),
}

impl Leaf {
    /// A fact that every device shows.
    pub(super) fn public(fact: &Clear<'_>) -> Self {
        Self(Kind::Public(fact.as_str().into()))
    }

    /// A word that the mount's configuration declares public.
    pub(super) fn declared(text: &str) -> Self {
        Self(Kind::Public(text.into()))
    }

    /// A keyed hash.
    pub(super) const fn hashed(digest: [u8; 32]) -> Self {
        Self(Kind::Hmac(digest))
    }

    /// A secret, for a device with `log_raw`.
    pub(super) fn raw(text: String) -> Self {
        Self(Kind::Raw(Zeroizing::new(text)))
    }

    /// Appends the string as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Public(text) => encode_text(text, out),
            Kind::Raw(text) => encode_text(text, out),
            Kind::Hmac(digest) => encode_text(&shown(digest), out),
        }
    }
}

/// What stands in the place of a hashed string.
pub(super) fn shown(digest: &[u8; 32]) -> String {
    format!("hmac-sha256:{}", to_hex(digest))
}
