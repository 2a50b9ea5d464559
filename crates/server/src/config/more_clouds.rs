//! `seal "alicloudkms"` and `seal "ocikms"`: which key of Alibaba's or Oracle's cloud opens the store, and who asks for it.
//!
//! What the environment says counts more than what the stanza says, as the reference has it. Secrets are references. Deliberately
//! absent: how services are asked (`key_services`).

use std::path::{Path, PathBuf};

use tresor_env::outgoing::{Base, is_beside};
use tresor_hcl::Position;

use super::ConfigError;
use super::load::Source;
use super::seal::{KeyPlace, Options};
use super::services::{Environment, address_of, in_variable};

/// A `seal "alicloudkms"` stanza.
#[derive(Clone, Debug)]
pub struct AliCloudKmsConfig {
    /// The key: its id or an alias.
    pub key_id: String,
    /// Where the service is.
    pub endpoint: String,
    /// Access key, secret key and security token; the role of the machine without them.
    pub keys: Option<(String, KeyPlace, Option<KeyPlace>)>,
    /// Where a machine asks for the keys of its role.
    pub machine: String,
}

/// A `seal "ocikms"` stanza.
#[derive(Clone, Debug)]
pub struct OciKmsConfig {
    /// The key.
    pub key_id: String,
    /// Where the service seals and opens.
    pub endpoint: String,
    /// Who asks.
    pub who: OciIdentity,
}

/// Who asks a service of Oracle's cloud.
#[derive(Clone, Debug)]
pub enum OciIdentity {
    /// A user.
    User {
        /// The file that says which, and where its key lies.
        file: PathBuf,
        /// The part of it that counts.
        profile: String,
        /// What `~` is in it.
        home: PathBuf,
    },
    /// The machine.
    Machine {
        /// Where it is told who it is.
        metadata: String,
        /// Where it shows that, where that is not in its region.
        authority: Option<String>,
    },
}

impl OciKmsConfig {
    /// The files that are read for it.
    pub(super) fn files(&self) -> Vec<&Path> {
        match &self.who {
            OciIdentity::User { file, .. } => vec![file],
            OciIdentity::Machine { .. } => Vec::new(),
        }
    }
}

/// Where machines of Oracle's cloud are told who they are.
const METADATA_OF_ORACLE: &str = "http://169.254.169.254/opc/v2";

/// Whether a text is the id of a key, as it stands in requests and is stored and shown.
fn is_key_id(text: &str) -> bool {
    text.len() <= 512 && text.chars().all(|letter| letter.is_ascii_graphic())
}

pub(super) fn read_alicloudkms(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<AliCloudKmsConfig, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let own_secret = options.place(source, "secret_key")?;
    let mut given = |name: &str, variable: &str| -> Result<Option<String>, ConfigError> {
        let own = options.text(source, name)?.map(|(text, _)| text);
        Ok(set(variable).or(own))
    };
    let region = given("region", "ALICLOUD_REGION")?.unwrap_or_else(|| "us-east-1".to_owned());
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(source.error(at, "`region` is the name of a region, such as eu-central-1"));
    }
    let domain = given("domain", "ALICLOUD_DOMAIN")?;
    let access_key = given("access_key", "ALICLOUD_ACCESS_KEY")?;
    let key_id = given("kms_key_id", "VAULT_ALICLOUDKMS_SEAL_KEY_ID")?.filter(|id| is_key_id(id));
    let key_id = key_id.ok_or_else(|| source.error(at, "seal `alicloudkms` needs a `kms_key_id`"))?;
    let endpoint = match domain {
        Some(address) if address.contains("://") => address,
        Some(domain) => format!("https://{domain}"),
        None => format!("https://kms.{region}.aliyuncs.com"),
    };
    let endpoint = address_of(source, &endpoint, "domain", at)?;
    let secret = in_variable("ALICLOUD_SECRET_KEY", environment).or(own_secret);
    let keys = match (access_key, secret) {
        (Some(access_key), Some(secret)) => {
            Some((access_key, secret, in_variable("ALICLOUD_SECURITY_TOKEN", environment)))
        }
        (None, None) => None,
        _ => return Err(source.error(at, "`access_key` and `secret_key` go together")),
    };
    Ok(AliCloudKmsConfig { key_id, endpoint, keys, machine: "http://100.100.100.200".to_owned() })
}

impl AliCloudKmsConfig {
    /// The files that are read for it.
    pub(super) fn files(&self) -> Vec<&Path> {
        self.keys
            .iter()
            .flat_map(|(_, secret, token)| [Some(secret), token.as_ref()])
            .flatten()
            .filter_map(KeyPlace::file)
            .collect()
    }
}

pub(super) fn read_ocikms(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<OciKmsConfig, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let mut given = |name: &str, variable: &str| -> Result<Option<String>, ConfigError> {
        let own = options.text(source, name)?.map(|(text, _)| text);
        Ok(set(variable).or(own))
    };
    let key_id = given("key_id", "VAULT_OCIKMS_SEAL_KEY_ID")?.filter(|id| is_key_id(id));
    let endpoint = given("crypto_endpoint", "VAULT_OCIKMS_CRYPTO_ENDPOINT")?;
    // The newest version of the key seals, without being asked for.
    given("management_endpoint", "VAULT_OCIKMS_MANAGEMENT_ENDPOINT")?;
    let key_id = key_id.ok_or_else(|| source.error(at, "seal `ocikms` needs a `key_id`"))?;
    let endpoint = endpoint.ok_or_else(|| source.error(at, "seal `ocikms` needs a `crypto_endpoint`"))?;
    let endpoint = address_of(source, &endpoint, "crypto_endpoint", at)?;
    let who = if options.flag(source, "auth_type_api_key")?.unwrap_or(false) {
        user_of_oracle(source, at, environment)?
    } else {
        machine_of_oracle(source, at, environment)?
    };
    Ok(OciKmsConfig { key_id, endpoint, who })
}

fn user_of_oracle(source: &Source<'_>, at: Position, environment: Environment<'_>) -> Result<OciIdentity, ConfigError> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let named = ["OCI_CONFIG_FILE", "OCI_CLI_CONFIG_FILE"].into_iter().find_map(set).map(PathBuf::from);
    let usual = || set("HOME").map(|home| Path::new(&home).join(".oci/config"));
    let file = named
        .or_else(usual)
        .ok_or_else(|| source.error(at, "seal `ocikms` needs ~/.oci/config, and there is no HOME"))?;
    let profile = ["OCI_CONFIG_PROFILE", "OCI_CLI_PROFILE"].into_iter().find_map(set);
    let (profile, home) = (profile.unwrap_or_else(|| "DEFAULT".to_owned()), set("HOME").unwrap_or_default().into());
    Ok(OciIdentity::User { file, profile, home })
}

fn machine_of_oracle(
    source: &Source<'_>,
    at: Position,
    environment: Environment<'_>,
) -> Result<OciIdentity, ConfigError> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    // What is told there, and what is shown, is nobody else's to hear.
    let address =
        |name: &str, may_be_beside: bool| {
            let Some(text) = set(name) else { return Ok(None) };
            let is_unheard = |base: Base<'_>| base.is_private() || may_be_beside && is_beside(base.as_str());
            match Base::parse(&text) {
                Some(base) if is_unheard(base) => Ok(Some(base.as_str().to_owned())),
                _ => Err(source
                    .error(at, format!("the variable `{name}` is an address that nobody else hears, https://HOST"))),
            }
        };
    let metadata = address("OCI_METADATA_BASE_URL", true)?.unwrap_or_else(|| METADATA_OF_ORACLE.to_owned());
    Ok(OciIdentity::Machine { metadata, authority: address("OCI_SDK_AUTH_CLIENT_REGION_URL", false)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{SealWay, parse};

    fn read(kind: &str, inside: &str, variables: &[(&str, &str)]) -> Result<SealWay, String> {
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\nseal \"{kind}\" {{\n{inside}\n}}\n"
        );
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let config = parse(&[(PathBuf::from("server.hcl"), text)], &set).map_err(|error| error.to_string())?;
        assert!(!format!("{config:?}").contains("canary"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        Ok(config.seal.unwrap().way)
    }

    fn alibaba(inside: &str, variables: &[(&str, &str)]) -> Result<AliCloudKmsConfig, String> {
        match read("alicloudkms", inside, variables)? {
            SealWay::AliCloudKms(seal) => Ok(seal),
            other => panic!("{other:?}"),
        }
    }

    fn oracle(inside: &str, variables: &[(&str, &str)]) -> Result<OciKmsConfig, String> {
        match read("ocikms", inside, variables)? {
            SealWay::OciKms(seal) => Ok(seal),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_seal_of_alibaba_is_read_with_its_variables_and_shows_no_secret() {
        let seal = alibaba("kms_key_id = \"k\"", &[]).unwrap();
        assert_eq!((seal.endpoint.as_str(), seal.keys.is_none()), ("https://kms.us-east-1.aliyuncs.com", true));
        let inside = "region = \"eu-central-1\"\nkms_key_id = \"k\"\naccess_key = \"A\"\nsecret_key = \"canary\"";
        let seal = alibaba(inside, &[]).unwrap();
        let (access_key, secret, token) = seal.keys.unwrap();
        assert_eq!(
            (access_key.as_str(), secret.to_string().as_str(), token.is_none()),
            ("A", "the configuration", true)
        );
        let variables = [
            ("ALICLOUD_REGION", "cn-beijing"),
            ("ALICLOUD_DOMAIN", "kms-vpc.cn-beijing.aliyuncs.com"),
            ("ALICLOUD_ACCESS_KEY", "B"),
            ("ALICLOUD_SECRET_KEY", "file:///secret"),
            ("ALICLOUD_SECURITY_TOKEN", "env://TOKEN"),
            ("VAULT_ALICLOUDKMS_SEAL_KEY_ID", "other"),
        ];
        let seal = alibaba(inside, &variables).unwrap();
        assert_eq!(
            (seal.endpoint.as_str(), seal.key_id.as_str()),
            ("https://kms-vpc.cn-beijing.aliyuncs.com", "other")
        );
        assert_eq!(seal.files(), [Path::new("/secret")]);
        assert_eq!(seal.keys.unwrap().2.unwrap().to_string(), "env://TOKEN");
        for (from, to, words) in [
            ("kms_key_id", "disabled = false #", "needs a `kms_key_id`"),
            ("\"k\"", "\"a key\"", "needs a `kms_key_id`"),
            ("access_key = \"A\"", "", "`access_key` and `secret_key` go together"),
            ("eu-central-1", "a.example/", "`region` is the name of a region"),
            ("region", "domain = \"u:p@kms\"\nregion", "`domain` is the address of a server"),
        ] {
            let error = alibaba(&inside.replace(from, to), &[]).unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{to}: {error}");
        }
    }

    #[test]
    fn a_seal_of_oracle_is_read_with_its_variables() {
        let inside = "key_id = \"k\"\ncrypto_endpoint = \"https://a-crypto.kms.us-ashburn-1.oraclecloud.com\"\n\
                      management_endpoint = \"https://a-management.kms.us-ashburn-1.oraclecloud.com\"\nauth_type_api_key = \"true\"";
        let user = |seal: &OciKmsConfig| match &seal.who {
            OciIdentity::User { file, profile, .. } => (file.clone(), profile.clone()),
            other => panic!("{other:?}"),
        };
        let seal = oracle(inside, &[("HOME", "/var/me")]).unwrap();
        assert_eq!(user(&seal), (PathBuf::from("/var/me/.oci/config"), "DEFAULT".to_owned()));
        let variables = [
            ("OCI_CONFIG_FILE", "/oci"),
            ("OCI_CONFIG_PROFILE", "ops"),
            ("VAULT_OCIKMS_SEAL_KEY_ID", "other"),
            ("VAULT_OCIKMS_CRYPTO_ENDPOINT", "https://b-crypto.kms.us-ashburn-1.oraclecloud.com"),
        ];
        let seal = oracle(inside, &variables).unwrap();
        assert_eq!((user(&seal), seal.key_id.as_str()), ((PathBuf::from("/oci"), "ops".to_owned()), "other"));
        assert_eq!(seal.files(), [Path::new("/oci")]);
        assert!(seal.endpoint.starts_with("https://b-crypto"));
        for (from, to, words) in [
            ("key_id", "disabled = false #", "needs a `key_id`"),
            ("crypto_endpoint", "management_endpoint = \"x\" #", "is given twice"),
            ("https://a-crypto", "a-crypto", "`crypto_endpoint` is the address of a server"),
        ] {
            let error = oracle(&inside.replace(from, to), &[("HOME", "/")]).unwrap_err();
            assert!(error.contains(words), "{to}: {error}");
        }
        assert!(oracle(inside, &[]).unwrap_err().contains("there is no HOME"));
    }

    #[test]
    fn a_machine_asks_oracle_where_no_user_does() {
        let inside = "key_id = \"k\"\ncrypto_endpoint = \"https://a-crypto.kms.us-ashburn-1.oraclecloud.com\"";
        let machine = |inside: &str, variables: &[(&str, &str)]| match oracle(inside, variables)?.who {
            OciIdentity::Machine { metadata, authority } => Ok::<_, String>((metadata, authority)),
            other => panic!("{other:?}"),
        };
        let usual = ("http://169.254.169.254/opc/v2".to_owned(), None);
        assert_eq!(machine(inside, &[]).unwrap(), usual);
        assert_eq!(machine(&format!("{inside}\nauth_type_api_key = \"false\""), &[]).unwrap(), usual);
        let around =
            |metadata, authority| [("OCI_METADATA_BASE_URL", metadata), ("OCI_SDK_AUTH_CLIENT_REGION_URL", authority)];
        let told = machine(inside, &around("http://[fe80::1]/opc/v2/", "https://auth.example")).unwrap();
        assert_eq!(told, ("http://[fe80::1]/opc/v2".to_owned(), Some("https://auth.example".to_owned())));
        for (metadata, authority, words) in [
            ("http://metadata.example", "https://a", "`OCI_METADATA_BASE_URL` is an address"),
            ("http://127.0.0.1:1", "http://auth.example", "`OCI_SDK_AUTH_CLIENT_REGION_URL` is an address"),
            ("http://127.0.0.1:1", "http://169.254.1.1", "`OCI_SDK_AUTH_CLIENT_REGION_URL` is an address"),
        ] {
            let error = machine(inside, &around(metadata, authority)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
