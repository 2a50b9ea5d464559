//! The strings of a redacted record: public, hashed, or raw because this device was configured so.
//!
//! Invariant: made by the redactor alone (`pub(super)`); there is no constructor from a plain string. Deliberately
//! absent: a way back to what was hashed.

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

    /// Calls `write` with the text as devices show it, in one or two pieces.
    pub(crate) fn write(&self, mut write: impl FnMut(&str)) {
        match &self.0 {
            Kind::Public(text) => write(text),
            Kind::Raw(text) => write(text),
            Kind::Hmac(digest) => {
                write(HMAC_PREFIX);
                let mut text = [0; 64];
                for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
                    pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
                }
                write(std::str::from_utf8(&text).unwrap_or_default());
            }
        }
    }
}

/// What every hashed string starts with.
pub(super) const HMAC_PREFIX: &str = "hmac-sha256:";

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}
