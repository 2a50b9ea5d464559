//! The ways in which a key of a module seals: their names, as configurations spell them.
//!
//! Each of them tells when something else comes back than was sealed. Deliberately absent: RSA with the padding of PKCS#1 1.5, and
//! AES in CBC mode without an HMAC, which do not.

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism as Asked, MechanismType};
use tresor_crypto::public_key::Oaep;

/// How a key seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// AES in Galois/counter mode; binds.
    AesGcm,
    /// AES in CBC mode, and an HMAC by another key; binds.
    AesCbcPad(HmacHash),
    /// RSA with OAEP; binds to nothing.
    RsaOaep(OaepHash),
}

/// A mechanism without what goes with it: numbers and names of the standard.
const NAMES: [(&str, u64); 3] = [("AES_GCM", 0x1087), ("AES_CBC_PAD", 0x1085), ("RSA_PKCS_OAEP", 0x0009)];

impl Mechanism {
    /// Reads a name or a number of the standard.
    #[must_use]
    pub fn parse(text: &str, hmac: HmacHash, oaep: OaepHash) -> Option<Self> {
        let (name, _) = named(&NAMES, text)?;
        Some(match name {
            "AES_GCM" => Self::AesGcm,
            "AES_CBC_PAD" => Self::AesCbcPad(hmac),
            _ => Self::RsaOaep(oaep),
        })
    }

    /// How it is stored.
    pub(crate) fn stored(self) -> String {
        match self {
            Self::AesGcm => "AES_GCM".to_owned(),
            Self::AesCbcPad(hash) => format!("AES_CBC_PAD {}", hash.name()),
            Self::RsaOaep(hash) => format!("RSA_PKCS_OAEP {}", hash.name()),
        }
    }

    /// Reads what is stored.
    pub(crate) fn parse_stored(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None => (text == "AES_GCM").then_some(Self::AesGcm),
            Some(("AES_CBC_PAD", hash)) => HmacHash::parse(hash).map(Self::AesCbcPad),
            Some(("RSA_PKCS_OAEP", hash)) => OaepHash::parse(hash).map(Self::RsaOaep),
            Some(_) => None,
        }
    }
}

/// One of `names`, by its name with or without `CKM_`, or by its number.
fn named(names: &[(&'static str, u64)], text: &str) -> Option<(&'static str, u64)> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CKM_").unwrap_or(&upper);
    let number = match upper.strip_prefix("0X") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => upper.parse().ok(),
    };
    names.iter().copied().find(|(known, value)| *known == name || Some(*value) == number)
}

/// The hash of an HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HmacHash {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HmacHash {
    /// Reads a name or a number of the standard.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let names = [("SHA256_HMAC", 0x0251), ("SHA384_HMAC", 0x0261), ("SHA512_HMAC", 0x0271)];
        Some(match named(&names, text)?.1 {
            0x0251 => Self::Sha256,
            0x0261 => Self::Sha384,
            _ => Self::Sha512,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA256_HMAC",
            Self::Sha384 => "SHA384_HMAC",
            Self::Sha512 => "SHA512_HMAC",
        }
    }

    pub(crate) const fn asked(self) -> Asked<'static> {
        match self {
            Self::Sha256 => Asked::Sha256Hmac,
            Self::Sha384 => Asked::Sha384Hmac,
            Self::Sha512 => Asked::Sha512Hmac,
        }
    }
}

/// The hash of OAEP, and of its mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OaepHash {
    /// SHA-1, for modules that know no other; for this padding it is not known to be weak.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// All of them, by name.
const HASHES: [(&str, OaepHash); 5] = [
    ("sha1", OaepHash::Sha1),
    ("sha224", OaepHash::Sha224),
    ("sha256", OaepHash::Sha256),
    ("sha384", OaepHash::Sha384),
    ("sha512", OaepHash::Sha512),
];

impl OaepHash {
    /// Reads a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        HASHES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, hash)| *hash)
    }

    fn name(self) -> &'static str {
        HASHES.iter().find(|(_, hash)| *hash == self).map_or("", |(name, _)| name)
    }

    /// The same outside of a token; nothing where only tokens do it.
    #[must_use]
    pub const fn outside(self) -> Option<Oaep> {
        match self {
            Self::Sha1 => Some(Oaep::Sha1),
            Self::Sha224 => None,
            Self::Sha256 => Some(Oaep::Sha256),
            Self::Sha384 => Some(Oaep::Sha384),
            Self::Sha512 => Some(Oaep::Sha512),
        }
    }

    pub(crate) fn asked(self) -> Asked<'static> {
        let (hash, mask) = match self {
            Self::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
            Self::Sha224 => (MechanismType::SHA224, PkcsMgfType::MGF1_SHA224),
            Self::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
            Self::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
            Self::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
        };
        Asked::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_is_named_as_the_standard_spells_it_or_by_its_number() {
        let parse = |text| Mechanism::parse(text, HmacHash::Sha384, OaepHash::Sha1);
        for text in ["AES_GCM", "CKM_AES_GCM", "ckm_aes_gcm", "0x1087", "0X1087", "4231"] {
            assert_eq!(parse(text), Some(Mechanism::AesGcm), "{text}");
        }
        for text in ["CKM_RSA_PKCS_OAEP", "0x0009", "0x9", "9"] {
            assert_eq!(parse(text), Some(Mechanism::RsaOaep(OaepHash::Sha1)), "{text}");
        }
        assert_eq!(parse("0x1085"), Some(Mechanism::AesCbcPad(HmacHash::Sha384)));
        for text in ["", "CKM_", "0x", "1", "0x1082", "CKM_RSA_PKCS", "-9", "AES"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(HmacHash::parse("0x0251"), Some(HmacHash::Sha256));
        assert_eq!((HmacHash::parse("0x0220"), OaepHash::parse("md5")), (None, None));
    }

    #[test]
    fn what_is_stored_of_a_mechanism_is_read_again() {
        let hmacs = [HmacHash::Sha256, HmacHash::Sha384, HmacHash::Sha512].map(Mechanism::AesCbcPad);
        let paddings = HASHES.map(|(_, hash)| Mechanism::RsaOaep(hash));
        for mechanism in hmacs.into_iter().chain(paddings).chain([Mechanism::AesGcm]) {
            assert_eq!(Mechanism::parse_stored(&mechanism.stored()), Some(mechanism));
        }
        for text in ["", "AES_GCM ", "RSA_PKCS_OAEP", "RSA_PKCS_OAEP md5", "AES_CBC_PAD"] {
            assert_eq!(Mechanism::parse_stored(text), None, "{text}");
        }
    }
}
