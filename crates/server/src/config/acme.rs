//! `tls_acme_*` of a listener: the authority whose certificates it gets for itself, and for which names.
//!
//! Unlike the reference's, nothing of it is on by itself, the names are given and so is the place of the keys: whoever connects could
//! otherwise have certificates ordered for any name, and a server agrees to an authority's terms when it is told to. Deliberately
//! absent: names with a star, which can be proven by records of the DNS alone.

use std::net::IpAddr;
use std::path::PathBuf;

use tresor_env::outgoing::Base;
use tresor_hcl::{Position, Value};

use super::ConfigError;
use super::load::Source;
use super::seal::KeyPlace;

/// What is asked for certificates unless a listener says another.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Where the same authority lets others try.
const TEST_DIRECTORY: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// How many names a listener may have certificates for.
const NAMES_MAX: usize = 100;

/// Whose certificates a listener gets for itself.
#[derive(Clone, Debug)]
pub struct AcmeConfig {
    /// The authority's directory.
    pub directory: String,
    /// The directory where it is tried again what went wrong.
    pub test_directory: Option<String>,
    /// Where certificates, their keys and that of the account are kept.
    pub cache: PathBuf,
    /// The authorities that vouch for the directory's server, PEM; those of the system when absent.
    pub authorities: Option<PathBuf>,
    /// The account outside of ACME that the one in it belongs to: its id, and where its key lies.
    pub external: Option<(String, KeyPlace)>,
    /// Where the authority writes to.
    pub email: Option<String>,
    /// What certificates are for.
    pub names: Vec<AcmeName>,
    /// What keys they have.
    pub key: AcmeKey,
    /// Names may be proven by HTTP.
    pub by_http: bool,
    /// Names may be proven by TLS.
    pub by_tls: bool,
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AcmeName {
    /// A name, in small letters.
    Dns(String),
    /// An address.
    Address(IpAddr),
}

impl AcmeName {
    /// Nothing when it is neither.
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let name = text.to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        (name.len() <= 253 && name.split('.').all(is_label)).then_some(Self::Dns(name))
    }

    /// What a request names as its host, with or without a port.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        let host = match host.rsplit_once(':') {
            Some((before, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !before.ends_with(':') => before,
            _ => host,
        };
        Self::parse(host.trim_matches(['[', ']']))
    }

    /// As certificates and people spell it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Dns(name) => name.clone(),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeKey {
    /// On the curve P-256.
    P256,
    /// On the curve P-384.
    P384,
    /// Ed25519, which few authorities sign.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 4096 bits.
    Rsa4096,
}

/// What a listener says of that, as far as it was read.
pub(super) struct Acme {
    config: AcmeConfig,
    /// Where the first of it stands.
    first: Option<Position>,
    has_test_directory: bool,
    external: (Option<String>, Option<KeyPlace>),
}

impl Acme {
    pub(super) fn new() -> Self {
        let config = AcmeConfig {
            directory: DIRECTORY.to_owned(),
            test_directory: None,
            cache: PathBuf::new(),
            authorities: None,
            external: None,
            email: None,
            names: Vec::new(),
            key: AcmeKey::P256,
            by_http: true,
            by_tls: true,
        };
        Self { config, first: None, has_test_directory: false, external: (None, None) }
    }

    /// Reads a key, if it is one of these.
    pub(super) fn read(&mut self, source: &Source<'_>, key: &str, value: &Value) -> Result<bool, ConfigError> {
        let config = &mut self.config;
        let text = || source.text(key, value);
        match key {
            "tls_acme_ca_directory" => config.directory = directory(source, key, value)?,
            "tls_acme_test_ca_directory" => {
                self.has_test_directory = true;
                config.test_directory = Some(directory(source, key, value)?).filter(|text| !text.is_empty());
            }
            "tls_acme_cache_path" => config.cache = PathBuf::from(text()?),
            "tls_acme_ca_root" => config.authorities = Some(text()?).filter(|text| !text.is_empty()).map(PathBuf::from),
            "tls_acme_eab_key_id" => self.external.0 = Some(text()?).filter(|text| !text.is_empty()),
            "tls_acme_eab_mac_key" => {
                let given = Some(text()?).filter(|text| !text.is_empty());
                let wrong = || {
                    let text = format!("`{key}` is env://VARIABLE, file:///PATH, credential://NAME, or the key itself");
                    source.error(value.position, text)
                };
                self.external.1 = given.map(|text| KeyPlace::parse(&text).ok_or_else(wrong)).transpose()?;
            }
            "tls_acme_email" => {
                let email = text()?;
                if email.chars().any(|character| character.is_whitespace() || character.is_control()) {
                    return Err(source.error(value.position, format!("`{key}` is one address of mail")));
                }
                config.email = Some(email).filter(|text| !text.is_empty());
            }
            "tls_acme_domains" => config.names = names(source, key, value)?,
            "tls_acme_key_type" => config.key = kind(source, key, value)?.unwrap_or(AcmeKey::P256),
            "tls_acme_disable_http_challenge" => config.by_http = !source.flag(key, value)?,
            "tls_acme_disable_alpn_challenge" => config.by_tls = !source.flag(key, value)?,
            _ => return Ok(false),
        }
        self.first.get_or_insert(value.position);
        Ok(true)
    }

    /// Says that it has no effect, where there is some.
    pub(super) fn unused(&self, source: &mut Source<'_>) {
        if let Some(first) = self.first {
            source.warnings.push(format!(
                "{}:{}: `tls_acme_*` has no effect: the certificate is that of `tls_cert_file`",
                source.file.display(),
                first.line
            ));
        }
    }

    /// What all of it says; nothing where there is none of it, or an empty directory.
    pub(super) fn judged(self, source: &Source<'_>) -> Result<Option<AcmeConfig>, ConfigError> {
        let Some(first) = self.first.filter(|_| !self.config.directory.is_empty()) else { return Ok(None) };
        let mut config = self.config;
        let says = |text: &str| Err(source.error(first, text));
        if config.names.is_empty() {
            return says(
                "`tls_acme_domains` is needed: without it whoever connects could have certificates ordered for any name",
            );
        }
        if config.cache.as_os_str().is_empty() {
            return says("`tls_acme_cache_path` is needed: the directory for the keys and certificates that are got");
        }
        if !config.by_http && !config.by_tls {
            return says(
                "`tls_acme_disable_http_challenge` and `tls_acme_disable_alpn_challenge` leave no way to prove a name",
            );
        }
        config.external = match self.external {
            (None, None) => None,
            (Some(id), Some(place)) => Some((id, place)),
            _ => return says("`tls_acme_eab_key_id` and `tls_acme_eab_mac_key` go together"),
        };
        if !self.has_test_directory && config.directory == DIRECTORY {
            config.test_directory = Some(TEST_DIRECTORY.to_owned());
        }
        Ok(Some(config))
    }
}

/// An address of a directory, which may be empty.
fn directory(source: &Source<'_>, key: &str, value: &Value) -> Result<String, ConfigError> {
    let text = source.text(key, value)?;
    if text.is_empty() || Base::parse(&text).is_some_and(Base::is_private) {
        return Ok(text);
    }
    Err(source.error(value.position, format!("`{key}` is an address that begins with https://")))
}

fn names(source: &Source<'_>, key: &str, value: &Value) -> Result<Vec<AcmeName>, ConfigError> {
    let mut names = Vec::new();
    for text in value.as_string_list(key).map_err(|error| source.wrong(&error))? {
        let Some(name) = AcmeName::parse(&text) else {
            let text = if text.contains('*') {
                format!("`{key}`: `{text}` can be proven by the DNS alone, which is not available")
            } else {
                format!("`{key}`: `{text}` is neither a name nor an address")
            };
            return Err(source.error(value.position, text));
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() > NAMES_MAX {
        return Err(source.error(value.position, format!("`{key}` has at most {NAMES_MAX} names")));
    }
    Ok(names)
}

fn kind(source: &Source<'_>, key: &str, value: &Value) -> Result<Option<AcmeKey>, ConfigError> {
    Ok(Some(match source.text(key, value)?.as_str() {
        "" => return Ok(None),
        "p256" => AcmeKey::P256,
        "p384" => AcmeKey::P384,
        "ed25519" => AcmeKey::Ed25519,
        "rsa2048" => AcmeKey::Rsa2048,
        "rsa4096" => AcmeKey::Rsa4096,
        _ => {
            let text = format!("`{key}` is `p256`, `p384`, `ed25519`, `rsa2048` or `rsa4096`");
            return Err(source.error(value.position, text));
        }
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{CertificateSource, parse};

    fn read(keys: &str) -> Result<Option<CertificateSource>, String> {
        let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n{keys}\n}}\n");
        let parsed = parse(&[("a.hcl".into(), text)], &|_| None).map_err(|error| error.to_string());
        parsed.map(|mut config| config.listeners.remove(0).tls.map(|tls| tls.source))
    }

    fn acme(keys: &str) -> AcmeConfig {
        match read(keys).unwrap() {
            Some(CertificateSource::Acme(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    const LEAST: &str = "tls_acme_domains = [\"Vault.Example.com\"]\ntls_acme_cache_path = \"/srv/acme\"";

    #[test]
    fn names_and_a_place_for_keys_are_enough_and_the_rest_is_as_in_the_reference() {
        let config = acme(LEAST);
        assert_eq!(config.directory, "https://acme-v02.api.letsencrypt.org/directory");
        assert!(config.test_directory.unwrap().starts_with("https://acme-staging-v02.api.letsencrypt.org/"));
        assert_eq!(config.names, [AcmeName::Dns("vault.example.com".to_owned())]);
        assert_eq!((config.key, config.by_http, config.by_tls), (AcmeKey::P256, true, true));
        let other = acme(&format!(
            "{LEAST}\ntls_acme_ca_directory = \"https://ca.internal/acme\"\ntls_acme_key_type = \"rsa2048\"\n\
             tls_acme_disable_http_challenge = true\ntls_acme_email = \"a@b.c\"\ntls_acme_ca_root = \"/ca.pem\"\n\
             tls_acme_eab_key_id = \"one\"\ntls_acme_eab_mac_key = \"CANARY\""
        ));
        assert_eq!((other.test_directory.as_deref(), other.key, other.by_http), (None, AcmeKey::Rsa2048, false));
        assert!(!format!("{other:?}").contains("CANARY"));
        let address = acme("tls_acme_domains = [\"::ffff:127.0.0.1\", \"a\"]\ntls_acme_cache_path = \"/srv/acme\"");
        assert_eq!(address.names.iter().map(AcmeName::text).collect::<Vec<_>>(), ["127.0.0.1", "a"]);
    }

    #[test]
    fn files_count_where_there_are_some_and_nothing_is_fetched_where_nobody_said_so() {
        let files = "tls_cert_file = \"/c\"\ntls_key_file = \"/k\"";
        assert!(matches!(read(&format!("{files}\n{LEAST}")).unwrap(), Some(CertificateSource::Files(_))));
        assert!(read(&format!("tls_disable = true\n{LEAST}")).unwrap().is_none());
        for nothing in ["", "tls_acme_ca_directory = \"\"\ntls_acme_domains = [\"a\"]"] {
            let refused = read(nothing).unwrap_err();
            assert!(refused.contains("`tls_acme_domains`") && refused.contains("`tls_cert_file`"), "{refused}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name_and_without_the_key() {
        for (keys, words) in [
            ("tls_acme_domains = [\"a\"]", "`tls_acme_cache_path` is needed"),
            ("tls_acme_cache_path = \"/c\"", "`tls_acme_domains` is needed"),
            ("tls_acme_domains = [\"*.example.com\"]", "can be proven by the DNS alone"),
            ("tls_acme_domains = [\"a/../b\"]", "is neither a name nor an address"),
            ("tls_acme_domains = [\"a..b\"]", "is neither a name nor an address"),
            ("tls_acme_ca_directory = \"http://ca.example.com/\"", "begins with https://"),
            ("tls_acme_key_type = \"rsa8192\"", "`tls_acme_key_type` is"),
            ("tls_acme_email = \"a b\"", "one address of mail"),
            ("tls_acme_eab_mac_key = \"CANARY\"", "go together"),
            ("tls_acme_eab_mac_key = \"env://\"", "`tls_acme_eab_mac_key` is env://"),
            (
                "tls_acme_disable_http_challenge = true\ntls_acme_disable_alpn_challenge = true",
                "leave no way to prove a name",
            ),
        ] {
            let whole = if keys.contains("domains") || keys.contains("cache_path") {
                keys.to_owned()
            } else {
                format!("{LEAST}\n{keys}")
            };
            let refused = read(&whole).unwrap_err();
            assert!(refused.contains(words) && !refused.contains("CANARY"), "{keys}: {refused}");
        }
    }
}
