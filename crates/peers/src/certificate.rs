//! The certificates of a node: self-signed over its key, for two days, and made anew when the first of them has passed.
//!
//! Whoever asks for the certificate gets one with at least a day to live, so nothing has to run for it, and clocks may
//! differ by a day. Deliberately absent: names, authorities and serial numbers that mean something; trust is in the key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ED25519, date_time_ymd};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureScheme, sign};
use tresor_env::{Clock, Timestamp};

use crate::key::{NodeKey, PublicKey};

/// How long a certificate is used before the next is made; and how far other clocks may be off.
pub(crate) const USE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it is valid after it was made; it is valid for [`USE`] before, too.
pub(crate) const LIFE: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// A certificate that was made, and when.
struct Issued {
    certified: Arc<CertifiedKey>,
    made: Timestamp,
}

impl Issued {
    /// Whether it is to be replaced: it has been used long enough, or the clock went back.
    fn is_spent(&self, now: Timestamp) -> bool {
        now.since(self.made) >= USE || now < self.made
    }
}

/// A node's key with its certificate of the day.
pub(crate) struct Identity {
    signer: Arc<dyn SigningKey>,
    public: PublicKey,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Issued>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public)
    }
}

/// What the certificate is signed with.
pub(crate) struct Signer(Arc<dyn SigningKey>, PublicKey);

impl rcgen::PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.1.bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer: Option<Box<dyn sign::Signer>> = self.0.choose_scheme(&[SignatureScheme::ED25519]);
        let signed = signer.and_then(|signer| signer.sign(message).ok());
        signed.ok_or(rcgen::Error::RemoteKeyError)
    }
}

/// What signs for a key.
#[cfg(test)]
pub(crate) fn signer(key: &NodeKey) -> Signer {
    Signer(key.signer(), key.public())
}

/// A certificate over a key, made at `made`.
fn issue(signer: &Signer, made: Timestamp) -> Result<CertificateDer<'static>, rcgen::Error> {
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| epoch + Duration::from_secs(u64::try_from(time.seconds()).unwrap_or(0));
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Tresor node");
    params.not_before = at(Timestamp::from_seconds(made.seconds().saturating_sub_unsigned(USE.as_secs())));
    params.not_after = at(made.plus(LIFE));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.self_signed(signer)?.der().clone())
}

impl Identity {
    /// Takes a key, and makes the first certificate.
    pub(crate) fn new(key: &NodeKey, clock: Arc<dyn Clock>) -> Result<Self, rcgen::Error> {
        let (signer, public, made) = (key.signer(), key.public(), clock.wall());
        let certified = certify(&signer, &public, made)?;
        Ok(Self { signer, public, clock, current: ArcSwap::from_pointee(Issued { certified, made }) })
    }

    pub(crate) const fn public(&self) -> PublicKey {
        self.public
    }

    /// When the certificate of now was made; a connection that is older than that had another.
    pub(crate) fn made(&self) -> Timestamp {
        drop(self.certified());
        self.current.load().made
    }

    /// The certificate, made anew when its time has come. Two that come at once may both make one.
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let now = self.clock.wall();
        let current = self.current.load();
        if !current.is_spent(now) {
            return Some(Arc::clone(&current.certified));
        }
        let certified = certify(&self.signer, &self.public, now).ok()?;
        self.current.store(Arc::new(Issued { certified: Arc::clone(&certified), made: now }));
        Some(certified)
    }
}

fn certify(
    signer: &Arc<dyn SigningKey>,
    public: &PublicKey,
    made: Timestamp,
) -> Result<Arc<CertifiedKey>, rcgen::Error> {
    let certificate = issue(&Signer(Arc::clone(signer), *public), made)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], Arc::clone(signer))))
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
