//! TLS of listeners: versions 1.2 and 1.3, certificates that can be replaced while running.
//!
//! Clients are asked for a certificate and need not have one; whether to trust it is the cert auth method's decision,
//! so any is accepted here, after proof that the client holds its key. Only `tls_require_and_verify_client_cert`
//! makes the listener itself decide. Deliberately absent: older versions, and any other provider of cryptography.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, NamedGroup, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::config::{CertificateFiles, ListenerTls, TlsVersion};

/// Whether a cipher suite of TLS 1.2 is offered, by its name.
pub(crate) fn offers(name: &str) -> bool {
    let mut suites = aws_lc_rs::default_provider().cipher_suites.into_iter();
    suites.any(|suite| suite.tls13().is_none() && suite.suite().as_str() == Some(name))
}

/// The group of key exchange that has this name, or the one that the reference has for it, if it is offered.
pub(crate) fn group(name: &str) -> Option<NamedGroup> {
    let name = match name.to_ascii_lowercase().as_str() {
        "curvep256" => "secp256r1".to_owned(),
        "curvep384" => "secp384r1".to_owned(),
        other => other.to_owned(),
    };
    let mut groups = ALL_KX_GROUPS.iter().map(|group| group.name());
    groups.find(|group| group.as_str().is_some_and(|known| known.eq_ignore_ascii_case(&name)))
}

/// What a file is, as far as it is known without reading it.
type Seen = Option<(SystemTime, u64, u64)>;

/// A listener's certificate, replaceable.
pub(crate) struct Certificate {
    current: ArcSwap<CertifiedKey>,
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// Reads the files again; when they make no sense the old certificate stays.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let fresh = read(&self.files, &self.provider)?;
        self.current.store(Arc::new(fresh));
        Ok(())
    }

    /// How often it is to be looked whether its files were replaced.
    pub(crate) const fn reload_interval(&self) -> Option<Duration> {
        self.files.reload_interval
    }

    /// What its files are now. Whoever replaces both does it one after the other: a key that does not belong to the certificate
    /// yet is read again when the other one comes.
    pub(crate) fn seen(&self) -> [Seen; 2] {
        [&self.files.certificate, &self.files.key].map(|file| {
            let known = std::fs::metadata(file).ok()?;
            Some((known.modified().ok()?, known.len(), known.ino()))
        })
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?.collect();
    let found = found.map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"holds no certificate")) } else { Ok(found) }
}

fn read(files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates(&files.certificate)?;
    let path = files.key.display();
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| format!("{path}: {error}"))?;
    let signer = provider.key_provider.load_private_key(key).map_err(|error| format!("{path}: {error}"))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(format!("{path}: the key does not belong to the certificate {}", files.certificate.display())),
    }
}

/// The cryptography that a listener offers.
pub(crate) fn provider(settings: &ListenerTls) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(wanted) = settings.cipher_suites.as_ref().filter(|wanted| !wanted.is_empty()) {
        let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || suite.suite().as_str().is_some_and(is_wanted));
    }
    if let Some(wanted) = &settings.key_exchanges {
        let offered = |wanted: &NamedGroup| ALL_KX_GROUPS.iter().find(|group| group.name() == *wanted).copied();
        provider.kx_groups = wanted.iter().filter_map(offered).collect();
    }
    Arc::new(provider)
}

/// A certificate in files, as they are now.
pub(crate) fn certificate(
    files: &CertificateFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<Certificate>, String> {
    Ok(Arc::new(Certificate {
        current: ArcSwap::from_pointee(read(files, provider)?),
        files: files.clone(),
        provider: Arc::clone(provider),
    }))
}

/// The configuration of a listener, which shows what it is told to.
pub(crate) fn configure(
    settings: &ListenerTls,
    provider: Arc<CryptoProvider>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, String> {
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(TlsVersion::Tls13, &rustls::version::TLS13), (TlsVersion::Tls12, &rustls::version::TLS12)]
            .into_iter()
            .filter(|(version, _)| (settings.version_min..=settings.version_max).contains(version))
            .map(|(_, version)| version)
            .collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?;
    let builder = if settings.disable_client_certificates {
        builder.with_no_client_auth()
    } else if settings.require_client_certificate {
        let path = settings
            .client_ca_file
            .as_ref()
            .ok_or("`tls_require_and_verify_client_cert` needs `tls_client_ca_file`")?;
        let mut roots = RootCertStore::empty();
        for root in certificates(path)? {
            roots.add(root).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
    } else {
        builder.with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes any certificate whose key the client holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // No claim about the certificate: whoever reads it from the connection verifies it.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
