//! `seal "kmip"`: which key of a server of keys opens the store, and how that server is reached.
//!
//! What the environment says counts more than what the stanza says, as the reference has it. Certificates and their key are files,
//! read when they are needed. Deliberately absent: how it is asked (`key_services`), and encryption by RSA keys, which is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs;

use super::ConfigError;
use super::load::Source;
use super::seal::Options;
use super::services::Environment;

/// The port of servers of keys.
const PORT: u16 = 5696;
/// How long one exchange may take where nobody says it.
const TIMEOUT_SECONDS: u64 = 10;
/// How long it may take at most: an attempt to open takes no longer.
const TIMEOUT_SECONDS_MAX: u64 = 60;
/// The longest id of a key.
const KEY_ID_BYTES_MAX: usize = 256;

/// A `seal "kmip"` stanza.
#[derive(Clone, Debug)]
pub struct KmipConfig {
    /// The key's id at the server.
    pub key_id: String,
    /// Host and port.
    pub endpoint: String,
    /// The name that the server's certificate is of.
    pub server_name: String,
    /// The authorities that it is verified by, PEM; the machine's own when absent.
    pub authorities: Option<PathBuf>,
    /// What is shown to it, PEM.
    pub certificate: PathBuf,
    /// The key of that, PEM.
    pub key: PathBuf,
    /// How long one exchange may take.
    pub time_max: Duration,
    /// The cipher suites of TLS 1.2 that are allowed, by their names; all that are known, where there are none.
    pub suites: Vec<String>,
}

impl KmipConfig {
    /// The files that are read for it.
    pub(super) fn files(&self) -> Vec<&Path> {
        self.authorities.iter().chain([&self.certificate, &self.key]).map(PathBuf::as_path).collect()
    }
}

pub(super) fn read_kmip(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<KmipConfig, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let mut given = |name: &str, variable: &str| -> Result<Option<String>, ConfigError> {
        let own = options.text(source, name)?.map(|(text, _)| text);
        Ok(set(variable).or(own))
    };
    let key_id = given("kms_key_id", "VAULT_KMIP_WRAPPER_KEY_ID")?;
    let endpoint = given("endpoint", "VAULT_KMIP_ENDPOINT")?;
    let certificate = given("client_cert", "VAULT_KMIP_CLIENT_CERT")?;
    let key = given("client_key", "VAULT_KMIP_CLIENT_KEY")?;
    let authorities = given("ca_cert", "VAULT_KMIP_CA_CERT")?.map(PathBuf::from);
    let server_name = given("server_name", "VAULT_KMIP_SERVER_NAME")?;
    let timeout = given("timeout", "VAULT_KMIP_TIMEOUT")?;
    let algorithm = given("encrypt_alg", "VAULT_KMIP_ENCRYPT_ALG")?;
    let suites = given("tls12_ciphers", "VAULT_KMIP_TLS12_CIPHERS")?;
    let needed = |name: &str| source.error(at, format!("seal `kmip` needs a `{name}`"));
    let fits = |id: &String| id.len() <= KEY_ID_BYTES_MAX && !id.chars().any(char::is_control);
    let key_id = key_id.filter(fits).ok_or_else(|| needed("kms_key_id"))?;
    let endpoint = endpoint.ok_or_else(|| needed("endpoint"))?;
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Err(source.error(at, "seal `kmip` needs a `client_cert` and its `client_key`"));
    };
    let wrong = || source.error(at, "`endpoint` is a host and a port, such as kms.example:5696");
    let (host, endpoint) = host_and_port(&endpoint).ok_or_else(wrong)?;
    let seconds = match timeout {
        None => TIMEOUT_SECONDS,
        Some(text) => {
            text.parse().ok().filter(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(seconds)).ok_or_else(|| {
                source.error(at, format!("`timeout` is a number of seconds, from 1 to {TIMEOUT_SECONDS_MAX}"))
            })?
        }
    };
    match algorithm.as_deref().map(str::to_ascii_uppercase).as_deref() {
        None | Some("AES_GCM") => {}
        Some(_) => return Err(source.error(at, "`encrypt_alg` is AES_GCM: encryption by RSA keys is not available")),
    }
    let suites: Vec<String> =
        suites.iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect();
    if let Some(unknown) = suites.iter().find(|name| !knows_suite(name)) {
        let text = format!("`tls12_ciphers`: `{unknown}` is none that is available: {}", known_suites());
        return Err(source.error(at, text));
    }
    Ok(KmipConfig {
        key_id,
        endpoint,
        server_name: server_name.unwrap_or(host),
        authorities,
        certificate: certificate.into(),
        key: key.into(),
        time_max: Duration::from_secs(seconds),
        suites,
    })
}

/// The name of a cipher suite of TLS 1.2, as standards have it.
pub(crate) fn suite_name(suite: &SupportedCipherSuite) -> Option<String> {
    let is_old = suite.tls13().is_none();
    is_old.then(|| format!("{:?}", suite.suite()))
}

/// Whether a cipher suite of TLS 1.2 is available.
fn knows_suite(text: &str) -> bool {
    aws_lc_rs::default_provider().cipher_suites.iter().filter_map(suite_name).any(|known| known == text)
}

/// Those that are.
fn known_suites() -> String {
    aws_lc_rs::default_provider().cipher_suites.iter().filter_map(suite_name).collect::<Vec<_>>().join(", ")
}

/// A host without the brackets of an address, and the same with a port.
fn host_and_port(text: &str) -> Option<(String, String)> {
    let (host, port) = match text.rsplit_once(':') {
        // The colon is one within an address.
        Some((before, _)) if before.starts_with('[') && !before.ends_with(']') => (text, PORT),
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, PORT),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_host = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    let is_bracketed = host.starts_with('[') == host.ends_with(']');
    let fits = !bare.is_empty() && is_host && is_bracketed && (host.starts_with('[') || !bare.contains(':'));
    fits.then(|| (bare.to_owned(), format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{SealWay, parse};

    fn read(inside: &str, variables: &[(&str, &str)]) -> Result<KmipConfig, String> {
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\nseal \"kmip\" {{\n{inside}\n}}\n"
        );
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let config = parse(&[(PathBuf::from("server.hcl"), text)], &set).map_err(|error| error.to_string())?;
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        match config.seal.unwrap().way {
            SealWay::Kmip(seal) => Ok(seal),
            other => panic!("{other:?}"),
        }
    }

    const LEAST: &str = "endpoint = \"kms.example\"\nkms_key_id = \"k\"\nclient_cert = \"/c\"\nclient_key = \"/k\"";

    #[test]
    fn a_seal_of_a_server_of_keys_is_read_as_the_reference_spells_it() {
        let least = read(LEAST, &[]).unwrap();
        assert_eq!((least.endpoint.as_str(), least.server_name.as_str()), ("kms.example:5696", "kms.example"));
        assert_eq!((least.time_max, least.files().len(), least.suites.len()), (Duration::from_secs(10), 2, 0));
        let variables = [
            ("VAULT_KMIP_WRAPPER_KEY_ID", "other"),
            ("VAULT_KMIP_ENDPOINT", "[::1]:6000"),
            ("VAULT_KMIP_CLIENT_CERT", "/oc"),
            ("VAULT_KMIP_CLIENT_KEY", "/ok"),
            ("VAULT_KMIP_CA_CERT", "/oa"),
            ("VAULT_KMIP_SERVER_NAME", "kms"),
            ("VAULT_KMIP_TIMEOUT", "3"),
            ("VAULT_KMIP_ENCRYPT_ALG", "aes_gcm"),
            (
                "VAULT_KMIP_TLS12_CIPHERS",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            ),
        ];
        let seal = read(LEAST, &variables).unwrap();
        assert_eq!(
            (seal.key_id.as_str(), seal.endpoint.as_str(), seal.server_name.as_str()),
            ("other", "[::1]:6000", "kms")
        );
        assert_eq!((seal.time_max, seal.suites.len()), (Duration::from_secs(3), 2));
        assert_eq!(seal.files(), [Path::new("/oa"), Path::new("/oc"), Path::new("/ok")]);
        assert_eq!(read(&LEAST.replace("kms.example", "[::1]"), &[]).unwrap().endpoint, "[::1]:5696");
    }

    #[test]
    fn a_seal_of_a_server_of_keys_that_makes_no_sense_is_refused() {
        for (from, to, words) in [
            ("kms_key_id", "disabled = false #", "needs a `kms_key_id`"),
            ("endpoint", "disabled = false #", "needs a `endpoint`"),
            ("client_key = \"/k\"", "", "needs a `client_cert` and its `client_key`"),
            ("kms.example", "https://kms.example", "`endpoint` is a host and a port"),
            ("kms.example", "kms.example:port", "`endpoint` is a host and a port"),
            ("kms.example", "::1", "`endpoint` is a host and a port"),
            ("client_key", "timeout = 0\nclient_key", "`timeout` is a number of seconds"),
            ("client_key", "encrypt_alg = \"RSA_OAEP_SHA256\"\nclient_key", "encryption by RSA keys is not available"),
            (
                "client_key",
                "tls12_ciphers = \"TLS_RSA_WITH_AES_128_CBC_SHA256\"\nclient_key",
                "is none that is available: TLS_ECDHE",
            ),
        ] {
            let error = read(&LEAST.replacen(from, to, 1), &[]).unwrap_err();
            assert!(error.contains(words), "{to}: {error}");
        }
    }

    #[test]
    fn the_suites_of_the_old_tls_are_named_as_standards_name_them() {
        assert!(knows_suite("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), "{}", known_suites());
        assert!(!knows_suite("TLS13_AES_256_GCM_SHA384") && !knows_suite("TLS_RSA_WITH_AES_128_CBC_SHA256"));
    }
}
