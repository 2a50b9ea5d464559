//! The certificates of `-dev-tls`: an authority for this run alone, and a server certificate that it signs.
//!
//! The authority's key is forgotten at once, so nothing else can ever be signed with it. Deliberately absent: any
//! use outside a dev server.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tresor_secret::SecretBytes;

use crate::config::{CertificateFiles, CertificateSource, ListenerTls, ServerConfig, TlsVersion};
use crate::dev_directory::{CERTIFICATES, DevDirectory};
use crate::run::Arguments;

/// The files, under the names that scripts know.
const AUTHORITY_FILE: &str = "vault-ca.pem";
const CERTIFICATE_FILE: &str = "vault-cert.pem";
const KEY_FILE: &str = "vault-key.pem";

/// The certificates of a dev server. A directory that was made for them goes with them.
pub(crate) struct DevCertificates {
    /// What clients must trust.
    pub(crate) authority: PathBuf,
    _made: Option<DevDirectory>,
}

impl DevCertificates {
    /// The authority of a certificate that was made here.
    pub(crate) fn authority_beside(certificate: &Path) -> PathBuf {
        certificate.with_file_name(AUTHORITY_FILE)
    }
}

/// Makes the certificates, and has every listener use them.
pub(crate) fn prepare(config: &mut ServerConfig, arguments: &Arguments) -> Result<DevCertificates, String> {
    let (directory, made) = match &arguments.dev_tls_cert_dir {
        Some(directory) => (directory.clone(), None),
        None => {
            let made = DevDirectory::make(CERTIFICATES).map_err(|error| format!("-dev-tls: {error}"))?;
            (made.path().to_owned(), Some(made))
        }
    };
    let certificates = DevCertificates { authority: directory.join(AUTHORITY_FILE), _made: made };
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for address in config.listeners.iter().filter_map(|listener| listener.place.tcp()) {
        let address = address.ip();
        if !address.is_unspecified() && !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
    }
    write_all(&directory, &make(names).map_err(|error| format!("-dev-tls: {error}"))?)
        .map_err(|error| format!("-dev-tls-cert-dir: {}: {error}", directory.display()))?;
    // Those of a configuration behind it are as they are configured.
    if let Some(listener) = config.listeners.first_mut() {
        listener.tls = Some(ListenerTls {
            source: CertificateSource::Files(CertificateFiles {
                certificate: directory.join(CERTIFICATE_FILE),
                key: directory.join(KEY_FILE),
                reload_interval: None,
            }),
            version_min: TlsVersion::Tls12,
            version_max: TlsVersion::Tls13,
            client_ca_file: None,
            require_client_certificate: false,
            disable_client_certificates: false,
            cipher_suites: None,
            key_exchanges: None,
        });
    }
    Ok(certificates)
}

struct Made {
    authority: String,
    certificate: String,
    key: SecretBytes,
}

fn make(names: Vec<String>) -> Result<Made, rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Tresor dev server authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "Tresor dev server");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(Made {
        authority: authority_certificate.pem(),
        certificate: certificate.pem(),
        key: SecretBytes::new(key.serialize_pem().into_bytes()),
    })
}

fn write_all(directory: &Path, made: &Made) -> std::io::Result<()> {
    for (name, mode, bytes) in [
        (AUTHORITY_FILE, 0o644, made.authority.as_bytes()),
        (CERTIFICATE_FILE, 0o644, made.certificate.as_bytes()),
        (KEY_FILE, 0o600, made.key.expose()),
    ] {
        let path = directory.join(name);
        // An older file might be readable by others, and be open somewhere.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?.write_all(bytes)?;
    }
    Ok(())
}
