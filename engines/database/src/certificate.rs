//! Certificates that accounts are let in by: what a role says of them, and how one is made.
//!
//! The key of a certificate is made for it, answered once, and kept nowhere. Deliberately absent: lists of revoked
//! certificates, since who is taken away is let in by nothing; and the entropy door for keys, which the library makes by its
//! own generator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    PKCS_RSA_SHA384, PKCS_RSA_SHA512, RsaKeySize, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tresor_model::Timestamp;
use tresor_secret::SecretString;

/// What a role can say of its certificates and is shown.
pub(crate) const FIELDS: &[&str] = &["common_name_template", "ca_cert", "key_type", "key_bits", "signature_bits"];
/// What it must say and is never shown.
pub(crate) const KEY_FIELD: &str = "ca_private_key";

/// How long before it is made a certificate holds, so that clocks may differ.
const BEFORE: Duration = Duration::from_secs(30);

/// Why there is no certificate. All but the last are the role's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The role does not say who issues.
    #[error("missing {0}")]
    Missing(&'static str),
    /// Nobody knows such keys.
    #[error("key_type is `rsa`, `ec` or `ed25519`")]
    KeyType,
    /// Keys of that type have other lengths.
    #[error("key_bits of {0} keys is {1}")]
    KeyBits(&'static str, &'static str),
    /// Signatures have other lengths.
    #[error("signature_bits is 256, 384 or 512")]
    SignatureBits,
    /// It is not a number.
    #[error("{0} is a number")]
    Number(&'static str),
    /// It is no certificate of an authority.
    #[error("ca_cert holds no certificate of an authority in PEM")]
    Authority,
    /// It is no private key.
    #[error("ca_private_key holds no private key in PEM that is known")]
    Key,
    /// They do not belong together, or who has the one may not sign with the other.
    #[error("what ca_private_key signs is not believed by ca_cert: {0}")]
    Mismatch(String),
    /// The library's.
    #[error("no certificate was made: {0}")]
    Library(#[from] rcgen::Error),
}

/// A certificate and its key.
pub(crate) struct Issued {
    /// In PEM.
    pub(crate) certificate: String,
    /// In PEM, as PKCS #8.
    pub(crate) key: SecretString,
    /// `rsa`, `ec` or `ed25519`.
    pub(crate) key_type: &'static str,
}

/// Whose certificate is to be made.
pub(crate) struct Order {
    /// The account.
    pub(crate) name: String,
    /// When it is made.
    pub(crate) now: Timestamp,
    /// Until when it holds.
    pub(crate) until: Timestamp,
    /// Its number.
    pub(crate) serial: [u8; 16],
}

/// What keys of certificates are like.
#[derive(Clone, Copy)]
enum KeyKind {
    Rsa(RsaKeySize),
    Ec(&'static SignatureAlgorithm),
    Ed25519,
}

impl KeyKind {
    fn of(config: &BTreeMap<String, String>) -> Result<Self, CertificateError> {
        let bits = number(config, "key_bits")?;
        match (config.get("key_type").map_or("", String::as_str), bits) {
            ("" | "rsa", 0 | 2048) => Ok(Self::Rsa(RsaKeySize::_2048)),
            ("" | "rsa", 3072) => Ok(Self::Rsa(RsaKeySize::_3072)),
            ("" | "rsa", 4096) => Ok(Self::Rsa(RsaKeySize::_4096)),
            ("" | "rsa", _) => Err(CertificateError::KeyBits("rsa", "2048, 3072 or 4096")),
            ("ec", 0 | 256) => Ok(Self::Ec(&PKCS_ECDSA_P256_SHA256)),
            ("ec", 384) => Ok(Self::Ec(&PKCS_ECDSA_P384_SHA384)),
            ("ec", 521) => Ok(Self::Ec(&PKCS_ECDSA_P521_SHA512)),
            ("ec", _) => Err(CertificateError::KeyBits("ec", "256, 384 or 521")),
            // There is one length.
            ("ed25519", _) => Ok(Self::Ed25519),
            _ => Err(CertificateError::KeyType),
        }
    }

    fn make(self) -> Result<KeyPair, CertificateError> {
        let made = match self {
            Self::Rsa(size) => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size),
            Self::Ec(algorithm) => KeyPair::generate_for(algorithm),
            Self::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
        };
        Ok(made?)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa",
            Self::Ec(_) => "ec",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// What makes the certificates of a role.
pub(crate) struct Maker {
    key: KeyKind,
    authority: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Maker {
    /// Reads what a role says. Whether it makes sense as a whole, [`Maker::check`] says.
    pub(crate) fn of(config: &BTreeMap<String, String>, key: Option<&SecretString>) -> Result<Self, CertificateError> {
        let kind = KeyKind::of(config)?;
        let by_bits = match number(config, "signature_bits")? {
            0 | 256 => &PKCS_RSA_SHA256,
            384 => &PKCS_RSA_SHA384,
            512 => &PKCS_RSA_SHA512,
            _ => return Err(CertificateError::SignatureBits),
        };
        let certificate = config.get("ca_cert").filter(|text| !text.is_empty());
        let certificate = certificate.ok_or(CertificateError::Missing("ca_cert"))?;
        let authority = CertificateDer::from_pem_slice(certificate.as_bytes());
        let authority = authority.map_err(|_| CertificateError::Authority)?;
        let key = key.ok_or(CertificateError::Missing(KEY_FIELD))?;
        let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| CertificateError::Key)?;
        let signer = KeyPair::try_from(&der).map_err(|_| CertificateError::Key)?;
        // Other keys have signatures of one length.
        let signer = if signer.algorithm() == &PKCS_RSA_SHA256 {
            KeyPair::from_der_and_sign_algo(&der, by_bits).map_err(|_| CertificateError::Key)?
        } else {
            signer
        };
        let issuer = Issuer::from_ca_cert_der(&authority, signer).map_err(|_| CertificateError::Authority)?;
        Ok(Self { key: kind, authority, issuer })
    }

    /// Whether who believes the authority believes what is made; tried with a certificate that nobody gets.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), CertificateError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).map_err(|_| CertificateError::Authority)?;
        let order = Order { name: "name".to_owned(), now, until: now.plus(BEFORE), serial: [1; 16] };
        let made = self.sign(&order, &KeyKind::Ed25519.make()?)?;
        let mismatch = |error: &dyn std::fmt::Display| CertificateError::Mismatch(error.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let seconds = Duration::from_secs(u64::try_from(now.seconds()).unwrap_or_default());
        let verified = verifier.map_err(|error| mismatch(&error))?.verify_client_cert(
            made.der(),
            &[],
            UnixTime::since_unix_epoch(seconds),
        );
        verified.map(drop).map_err(|error| mismatch(&error))
    }

    /// Makes one, and its key: keeps a core busy for a while.
    pub(crate) fn issue(&self, order: &Order) -> Result<Issued, CertificateError> {
        let key = self.key.make()?;
        let certificate = self.sign(order, &key)?.pem();
        Ok(Issued { certificate, key: SecretString::new(key.serialize_pem()), key_type: self.key.name() })
    }

    fn sign(&self, order: &Order, key: &KeyPair) -> Result<rcgen::Certificate, CertificateError> {
        let epoch = date_time_ymd(1970, 1, 1);
        let at = |time: Timestamp| epoch + Duration::from_secs(u64::try_from(time.seconds()).unwrap_or_default());
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, order.name.as_str());
        params.not_before = at(Timestamp::from_seconds(order.now.seconds().saturating_sub_unsigned(BEFORE.as_secs())));
        params.not_after = at(order.until);
        let mut serial = order.serial;
        // A number that is positive and as long as it looks.
        if let Some(first) = serial.first_mut() {
            *first = (*first & 0x7f) | 0x40;
        }
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?)
    }
}

fn number(config: &BTreeMap<String, String>, field: &'static str) -> Result<u32, CertificateError> {
    match config.get(field).map_or("", |text| text.trim()) {
        "" => Ok(0),
        text => text.parse().map_err(|_| CertificateError::Number(field)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{BasicConstraints, IsCa};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// An authority: its certificate, and its key.
    fn authority(algorithm: &'static SignatureAlgorithm) -> (String, SecretString) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::OrganizationName, "Tests");
        let key = KeyPair::generate_for(algorithm).unwrap();
        (params.self_signed(&key).unwrap().pem(), SecretString::new(key.serialize_pem()))
    }

    fn config(certificate: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = [("ca_cert", certificate)];
        more.iter().chain(&own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn whatever_the_authority_and_the_key_are_what_is_made_is_believed() {
        for algorithm in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (certificate, key) = authority(algorithm);
            for (kind, bits, signature) in
                [("", "", ""), ("rsa", "2048", "512"), ("ec", "256", "384"), ("ec", "521", "0"), ("ed25519", "7", "")]
            {
                let said = [("key_type", kind), ("key_bits", bits), ("signature_bits", signature)];
                let maker = Maker::of(&config(&certificate, &said), Some(&key)).unwrap();
                maker.check(NOW).unwrap();
                let order = Order {
                    name: "v-a".to_owned(),
                    now: NOW,
                    until: NOW.plus(Duration::from_secs(60)),
                    serial: [0; 16],
                };
                let issued = maker.issue(&order).unwrap();
                assert_eq!(issued.key_type, if kind.is_empty() { "rsa" } else { kind });
                let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(issued.key.expose().as_bytes()).unwrap();
                let provider = aws_lc_rs::default_provider();
                // The key is the certificate's.
                let signer = provider.key_provider.load_private_key(key).unwrap();
                rustls::sign::CertifiedKey::new(vec![chain], signer).keys_match().unwrap();
            }
        }
    }

    #[test]
    fn what_a_role_says_wrong_is_named() {
        let (certificate, key) = authority(&PKCS_ECDSA_P256_SHA256);
        let (other, _) = authority(&PKCS_ECDSA_P256_SHA256);
        let refused = |config: BTreeMap<String, String>, key: Option<&SecretString>| {
            let made = Maker::of(&config, key).and_then(|maker| maker.check(NOW));
            made.unwrap_err().to_string()
        };
        let with = |name, value| config(&certificate, &[(name, value)]);
        assert_eq!(refused(BTreeMap::new(), Some(&key)), "missing ca_cert");
        assert_eq!(refused(config(&certificate, &[]), None), "missing ca_private_key");
        assert_eq!(refused(with("key_type", "dsa"), Some(&key)), "key_type is `rsa`, `ec` or `ed25519`");
        assert_eq!(refused(with("key_bits", "1024"), Some(&key)), "key_bits of rsa keys is 2048, 3072 or 4096");
        assert_eq!(refused(with("key_bits", "many"), Some(&key)), "key_bits is a number");
        assert_eq!(refused(with("signature_bits", "1"), Some(&key)), "signature_bits is 256, 384 or 512");
        assert!(refused(config("x", &[]), Some(&key)).starts_with("ca_cert holds no certificate"));
        let nonsense = SecretString::new("canary-no-key".to_owned());
        let said = refused(config(&certificate, &[]), Some(&nonsense));
        assert!(said.starts_with("ca_private_key holds no private key") && !said.contains("canary"), "{said}");
        let said = refused(config(&other, &[]), Some(&key));
        assert!(said.starts_with("what ca_private_key signs is not believed by ca_cert"), "{said}");
    }
}
