//! Public halves of keys that others keep: put together as `SubjectPublicKeyInfo` (RFC 5280), told apart, and verified by.
//!
//! Keepers give them in shapes of their own. Deliberately absent: private halves, and curves that nobody keeps keys of.

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
    OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use tresor_env::custody::{SignedHash, Signing};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
/// `rsaEncryption`, and its parameters.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// `id-ecPublicKey`.
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// A curve of NIST's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521.
    P521,
}

impl Curve {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// Its identifier, DER; what modules call the parameters of a key.
    #[must_use]
    pub const fn identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    /// Reads a name: `P256`, `P-256`, `p256` and their kin.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.replace('-', "").to_ascii_uppercase().as_str() {
            "P256" => Some(Self::P256),
            "P384" => Some(Self::P384),
            "P521" => Some(Self::P521),
            _ => None,
        }
    }
}

/// What a public key is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RSA.
    Rsa,
    /// A curve.
    Ec(Curve),
}

/// A public key of RSA, of its two numbers.
#[must_use]
pub fn of_rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = tagged(SEQUENCE, &[integer(modulus), integer(exponent)].concat());
    spki(RSA, &key)
}

/// A public key on a curve, of its point (SEC 1).
#[must_use]
pub fn of_curve(curve: Curve, point: &[u8]) -> Vec<u8> {
    spki(&[EC, curve.identifier()].concat(), point)
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let key = tagged(BIT_STRING, &[&[0], key].concat());
    tagged(SEQUENCE, &[tagged(SEQUENCE, algorithm), key].concat())
}

/// What it is one of; nothing where it is none that is known here.
#[must_use]
pub fn kind(spki: &[u8]) -> Option<Kind> {
    let algorithm = content(SEQUENCE, content(SEQUENCE, spki)?)?;
    if algorithm == RSA {
        return Some(Kind::Rsa);
    }
    let named = algorithm.strip_prefix(EC)?;
    Curve::ALL.into_iter().find(|curve| curve.identifier() == named).map(Kind::Ec)
}

/// Whether a signature is one of the message by the key; ECDSA as a sequence of two integers.
#[must_use]
pub fn verifies(spki: &[u8], how: Signing, message: &[u8], signature: &[u8]) -> bool {
    let Some(kind) = kind(spki) else { return false };
    let algorithm: &'static dyn VerificationAlgorithm = match (kind, how.hash, how.pss) {
        (Kind::Rsa, SignedHash::Sha256, false) => &RSA_PKCS1_2048_8192_SHA256,
        (Kind::Rsa, SignedHash::Sha384, false) => &RSA_PKCS1_2048_8192_SHA384,
        (Kind::Rsa, SignedHash::Sha512, false) => &RSA_PKCS1_2048_8192_SHA512,
        (Kind::Rsa, SignedHash::Sha256, true) => &RSA_PSS_2048_8192_SHA256,
        (Kind::Rsa, SignedHash::Sha384, true) => &RSA_PSS_2048_8192_SHA384,
        (Kind::Rsa, SignedHash::Sha512, true) => &RSA_PSS_2048_8192_SHA512,
        (Kind::Ec(Curve::P256), SignedHash::Sha256, _) => &ECDSA_P256_SHA256_ASN1,
        (Kind::Ec(Curve::P256), SignedHash::Sha384, _) => &ECDSA_P256_SHA384_ASN1,
        (Kind::Ec(Curve::P256), SignedHash::Sha512, _) => &ECDSA_P256_SHA512_ASN1,
        (Kind::Ec(Curve::P384), SignedHash::Sha256, _) => &ECDSA_P384_SHA256_ASN1,
        (Kind::Ec(Curve::P384), SignedHash::Sha384, _) => &ECDSA_P384_SHA384_ASN1,
        (Kind::Ec(Curve::P384), SignedHash::Sha512, _) => &ECDSA_P384_SHA512_ASN1,
        (Kind::Ec(Curve::P521), SignedHash::Sha256, _) => &ECDSA_P521_SHA256_ASN1,
        (Kind::Ec(Curve::P521), SignedHash::Sha384, _) => &ECDSA_P521_SHA384_ASN1,
        (Kind::Ec(Curve::P521), SignedHash::Sha512, _) => &ECDSA_P521_SHA512_ASN1,
    };
    UnparsedPublicKey::new(algorithm, spki).verify(message, signature).is_ok()
}

/// The hash of OAEP, and of its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oaep {
    /// SHA-1; for this padding it is not known to be weak.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Encrypts something short by a key of RSA with OAEP; nothing where it is no such key, or the text is too long for it.
#[must_use]
pub fn encrypted(spki: &[u8], hash: Oaep, plaintext: &[u8]) -> Option<Vec<u8>> {
    let algorithm: &'static OaepAlgorithm = match hash {
        Oaep::Sha1 => &OAEP_SHA1_MGF1SHA1,
        Oaep::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Oaep::Sha384 => &OAEP_SHA384_MGF1SHA384,
        Oaep::Sha512 => &OAEP_SHA512_MGF1SHA512,
    };
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(spki).ok()?).ok()?;
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let length = key.encrypt(algorithm, plaintext, &mut ciphertext, None).ok()?.len();
    ciphertext.truncate(length);
    Some(ciphertext)
}

/// A signature by ECDSA of its two numbers, which lie one behind the other, as long as each other.
#[must_use]
pub fn of_two_numbers(raw: &[u8]) -> Option<Vec<u8>> {
    let half = raw.len() / 2;
    if half == 0 || half > 66 || raw.len() % 2 == 1 {
        return None;
    }
    let (one, other) = raw.split_at(half);
    Some(tagged(SEQUENCE, &[integer(one), integer(other)].concat()))
}

/// A point that lies in an octet string, or bare: modules do not agree on it.
#[must_use]
pub fn out_of_octets(bytes: &[u8]) -> &[u8] {
    // A bare point begins as octets do; none of these lengths is that of what it would hold then.
    content(OCTET_STRING, bytes).filter(|inner| matches!(inner.len(), 65 | 97 | 133)).unwrap_or(bytes)
}

/// A number that is not negative.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    let is_signed = digits.first().is_none_or(|first| *first >= 0x80);
    tagged(INTEGER, &[&[0][..usize::from(is_signed)], digits].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = length.get(length.iter().take_while(|byte| **byte == 0).count()..).unwrap_or_default();
    let mut der = vec![tag];
    match (digits, u8::try_from(digits.len())) {
        ([], _) => der.push(0),
        ([short], _) if *short < 0x80 => der.push(*short),
        (digits, count) => {
            der.push(0x80 | count.unwrap_or(u8::MAX));
            der.extend_from_slice(digits);
        }
    }
    der.extend_from_slice(content);
    der
}

/// What the first element holds, where it is one of these.
fn content(tag: u8, der: &[u8]) -> Option<&[u8]> {
    element(der).filter(|(first, ..)| *first == tag).map(|(_, content, _)| content)
}

/// The first element: its tag, what it holds, and what follows.
pub(crate) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        short @ 0..=0x7f => (usize::from(*short), rest),
        0x81 => rest.split_first().map(|(one, rest)| (usize::from(*one), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(two, rest)| (usize::from(u16::from_be_bytes(*two)), rest))?,
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*first, content, after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA256,
        RsaKeyPair,
    };
    use proptest::prelude::*;

    use super::*;

    const HOW: Signing = Signing { hash: SignedHash::Sha256, pss: false };

    #[test]
    fn keys_of_curves_are_told_apart_and_verify_what_they_signed() {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = of_curve(Curve::P256, pair.public_key().as_ref());
        let theirs: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        assert_eq!(spki, theirs.as_ref());
        assert_eq!(kind(&spki), Some(Kind::Ec(Curve::P256)));
        let signature = pair.sign(&random, b"message").unwrap();
        assert!(verifies(&spki, HOW, b"message", signature.as_ref()));
        assert!(!verifies(&spki, HOW, b"another", signature.as_ref()));
        assert!(!verifies(&spki, Signing { hash: SignedHash::Sha512, pss: false }, b"message", signature.as_ref()));
        // As modules write it.
        let fixed = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let spki = of_curve(Curve::P256, fixed.public_key().as_ref());
        for number in 0..20 {
            let message = [number];
            let raw = fixed.sign(&random, &message).unwrap();
            assert!(verifies(&spki, HOW, &message, &of_two_numbers(raw.as_ref()).unwrap()), "{number}");
        }
        assert_eq!(of_two_numbers(b""), None);
        assert_eq!(of_two_numbers(b"odd"), None);
    }

    #[test]
    fn keys_of_rsa_verify_by_both_paddings() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let theirs: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        assert_eq!(kind(theirs.as_ref()), Some(Kind::Rsa));
        // The numbers, out of the shape that they have there.
        let key = content(SEQUENCE, pair.public_key().as_ref()).unwrap();
        let modulus = content(INTEGER, key).unwrap();
        let exponent = content(INTEGER, &key[modulus.len() + 4..]).unwrap();
        let spki = of_rsa(modulus, exponent);
        assert_eq!(spki, theirs.as_ref());
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), b"message", &mut signature).unwrap();
        assert!(verifies(&spki, Signing { pss: true, ..HOW }, b"message", &signature));
        assert!(!verifies(&spki, HOW, b"message", &signature));
    }

    #[test]
    fn a_point_is_found_in_its_octets_or_bare() {
        for (length, first) in [(64, 9), (64, 63), (96, 95), (132, 130), (132, 0x81)] {
            let point = [&[4, first][..], &vec![130; length - 1]].concat();
            assert_eq!(out_of_octets(&tagged(OCTET_STRING, &point)), point);
            assert_eq!(out_of_octets(&point), point);
        }
        assert_eq!(Curve::parse("p-256"), Some(Curve::P256));
        assert_eq!(Curve::parse("P224"), None);
    }

    proptest! {
        #[test]
        fn dos_02_whatever_a_keeper_answers_is_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200), signature in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = (kind(&bytes), out_of_octets(&bytes), of_two_numbers(&bytes));
            prop_assert!(!verifies(&bytes, HOW, b"message", &signature));
        }
    }
}
