//! `seal "gcpckms"` and `seal "azurekeyvault"`: which key of Google's or Microsoft's cloud opens the store, and who asks for it.
//!
//! What the environment says counts more than what the stanza says, as the reference has it. Secrets are references. Deliberately
//! absent: how services are asked (`key_services`).

use std::path::{Path, PathBuf};

use tresor_env::outgoing::Base;

use super::ConfigError;
use super::load::Source;
use super::seal::{KeyPlace, Options};
use super::services::{Environment, in_variable};

/// A `seal "gcpckms"` stanza.
#[derive(Clone, Debug)]
pub struct GcpKmsConfig {
    /// The key: `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    pub key: String,
    /// The file with the key of a service account; the account of the machine without one.
    pub credentials: Option<PathBuf>,
    /// Where a machine asks for the token of its account.
    pub machine: String,
}

pub(super) fn read_gcpckms(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<GcpKmsConfig, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let mut given = |name: &str, variable: &str| -> Result<Option<String>, ConfigError> {
        let own = options.text(source, name)?.map(|(text, _)| text);
        Ok(set(variable).or(own))
    };
    let credentials = given("credentials", "GOOGLE_CREDENTIALS")?;
    let credentials = credentials.or_else(|| set("GOOGLE_APPLICATION_CREDENTIALS")).map(PathBuf::from);
    let mut key = String::new();
    for (part, name, variable) in [
        ("projects", "project", "GOOGLE_PROJECT"),
        ("locations", "region", "GOOGLE_REGION"),
        ("keyRings", "key_ring", "VAULT_GCPCKMS_SEAL_KEY_RING"),
        ("cryptoKeys", "crypto_key", "VAULT_GCPCKMS_SEAL_CRYPTO_KEY"),
    ] {
        let is_name = |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
        let Some(text) = given(name, variable)?.filter(is_name) else {
            return Err(source.error(at, format!("seal `gcpckms` needs a `{name}`, which is a name without slashes")));
        };
        let slash = if key.is_empty() { "" } else { "/" };
        key.push_str(&format!("{slash}{part}/{text}"));
    }
    let machine = set("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
    Ok(GcpKmsConfig { key, credentials, machine: format!("http://{machine}") })
}

/// A `seal "azurekeyvault"` stanza.
#[derive(Clone, Debug)]
pub struct AzureKeyVaultConfig {
    /// Where the vault is.
    pub vault: String,
    /// The name of the vault.
    pub vault_name: String,
    /// The key.
    pub key_name: String,
    /// What a token is asked for: the hosts of vaults.
    pub resource: String,
    /// The host that gives tokens.
    pub login: &'static str,
    /// Who asks.
    pub identity: AzureIdentity,
}

/// Who asks a vault.
#[derive(Clone, Debug)]
pub enum AzureIdentity {
    /// An application with a secret.
    Secret {
        /// The tenant that it is of.
        tenant: String,
        /// Its id.
        client_id: String,
        /// Where its secret lies.
        secret: KeyPlace,
    },
    /// An application that shows the token of its pod.
    Pod {
        /// The tenant that it is of.
        tenant: String,
        /// Its id.
        client_id: String,
        /// The file with the token.
        token: PathBuf,
    },
    /// The machine.
    Machine {
        /// Which of its identities.
        client_id: Option<String>,
        /// Where it asks.
        address: String,
    },
}

impl AzureKeyVaultConfig {
    /// The vault and its key, as operators know them.
    #[must_use]
    pub fn key_id(&self) -> String {
        format!("{}/{}", self.vault_name, self.key_name)
    }

    /// The files that are read for it.
    pub(super) fn files(&self) -> Vec<&Path> {
        match &self.identity {
            AzureIdentity::Secret { secret, .. } => secret.file().into_iter().collect(),
            AzureIdentity::Pod { token, .. } => vec![token],
            AzureIdentity::Machine { .. } => Vec::new(),
        }
    }
}

pub(super) fn read_azurekeyvault(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<AzureKeyVaultConfig, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let secret = match in_variable("AZURE_CLIENT_SECRET", environment) {
        Some(secret) => Some(secret),
        None => options.place(source, "client_secret")?,
    };
    let mut given = |name: &str, variable: &str| -> Result<Option<String>, ConfigError> {
        let own = options.text(source, name)?.map(|(text, _)| text);
        Ok(set(variable).or(own))
    };
    let tenant = given("tenant_id", "AZURE_TENANT_ID")?;
    let client_id = given("client_id", "AZURE_CLIENT_ID")?;
    let cloud = given("environment", "AZURE_ENVIRONMENT")?;
    let (login, vaults) = match cloud.as_deref().map(str::to_ascii_uppercase).as_deref() {
        None | Some("AZUREPUBLICCLOUD") => ("login.microsoftonline.com", "vault.azure.net"),
        Some("AZUREUSGOVERNMENTCLOUD") => ("login.microsoftonline.us", "vault.usgovcloudapi.net"),
        Some("AZURECHINACLOUD") => ("login.chinacloudapi.cn", "vault.azure.cn"),
        Some(_) => {
            return Err(
                source.error(at, "`environment` is AzurePublicCloud, AzureUSGovernmentCloud or AzureChinaCloud")
            );
        }
    };
    let resource = given("resource", "AZURE_AD_RESOURCE")?.unwrap_or_else(|| vaults.to_owned());
    let mut name = |name: &str, variable: &str| {
        let is_name = |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let found = given(name, variable)?.filter(is_name);
        found.ok_or_else(|| {
            source.error(at, format!("seal `azurekeyvault` needs a `{name}` of letters, digits and `-`"))
        })
    };
    let vault_name = name("vault_name", "VAULT_AZUREKEYVAULT_VAULT_NAME")?;
    let key_name = name("key_name", "VAULT_AZUREKEYVAULT_KEY_NAME")?;
    let vault = format!("https://{vault_name}.{resource}");
    if Base::parse(&vault).is_none() {
        return Err(source.error(at, "`resource` is the end of vaults' host names, such as vault.azure.net"));
    }
    let identity = match (tenant, client_id, secret, set("AZURE_FEDERATED_TOKEN_FILE")) {
        (Some(tenant), Some(client_id), Some(secret), _) => AzureIdentity::Secret { tenant, client_id, secret },
        (_, _, Some(_), _) => {
            return Err(source.error(at, "`client_secret` goes together with `client_id` and `tenant_id`"));
        }
        (Some(tenant), Some(client_id), None, Some(token)) => {
            AzureIdentity::Pod { tenant, client_id, token: PathBuf::from(token) }
        }
        (_, client_id, None, _) => AzureIdentity::Machine { client_id, address: "http://169.254.169.254".to_owned() },
    };
    Ok(AzureKeyVaultConfig { vault, vault_name, key_name, resource, login, identity })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{SealWay, parse};

    fn read(seal: &str, variables: &[(&str, &str)]) -> Result<SealWay, String> {
        let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\n{seal}\n");
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let config = parse(&[(PathBuf::from("server.hcl"), text)], &set).map_err(|error| error.to_string())?;
        assert!(!format!("{config:?}").contains("canary"));
        Ok(config.seal.unwrap().way)
    }

    #[test]
    fn a_seal_of_google_is_read_with_its_variables() {
        let seal = "seal \"gcpckms\" {\n  project = \"p\"\n  region = \"global\"\n  key_ring = \"r\"\n  crypto_key = \"k\"\n  \
                    credentials = \"/a.json\"\n}";
        let SealWay::GcpKms(gcp) = read(seal, &[]).unwrap() else { panic!("another seal") };
        assert_eq!(gcp.key, "projects/p/locations/global/keyRings/r/cryptoKeys/k");
        assert_eq!(
            (gcp.credentials, gcp.machine.as_str()),
            (Some(PathBuf::from("/a.json")), "http://metadata.google.internal")
        );
        let variables = [("VAULT_GCPCKMS_SEAL_CRYPTO_KEY", "other"), ("GOOGLE_CREDENTIALS", "/b.json")];
        let SealWay::GcpKms(gcp) = read(seal, &variables).unwrap() else { panic!("another seal") };
        assert!(gcp.key.ends_with("/cryptoKeys/other") && gcp.credentials == Some(PathBuf::from("/b.json")));
        for (from, to, words) in [("project", "x", "needs a `project`"), ("\"r\"", "\"r/../s\"", "needs a `key_ring`")]
        {
            let error = read(&seal.replace(from, to), &[]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_seal_of_microsoft_is_read_with_its_variables_and_shows_no_secret() {
        let seal = "seal \"azurekeyvault\" {\n  vault_name = \"safe\"\n  key_name = \"unseal\"\n}";
        let SealWay::AzureKeyVault(azure) = read(seal, &[]).unwrap() else { panic!("another seal") };
        assert_eq!((azure.vault.as_str(), azure.key_id().as_str()), ("https://safe.vault.azure.net", "safe/unseal"));
        assert!(matches!(azure.identity, AzureIdentity::Machine { client_id: None, .. }));
        let own = seal.replace(
            '}',
            "tenant_id = \"t\"\nclient_id = \"c\"\nclient_secret = \"canary\"\nenvironment = \"AzureChinaCloud\"\n}",
        );
        let SealWay::AzureKeyVault(azure) = read(&own, &[]).unwrap() else { panic!("another seal") };
        assert_eq!((azure.vault.as_str(), azure.login), ("https://safe.vault.azure.cn", "login.chinacloudapi.cn"));
        assert!(matches!(azure.identity, AzureIdentity::Secret { .. }));
        let pod = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_FEDERATED_TOKEN_FILE", "/token")];
        let SealWay::AzureKeyVault(azure) = read(seal, &pod).unwrap() else { panic!("another seal") };
        assert!(matches!(azure.identity, AzureIdentity::Pod { .. }));
        for (from, to, words) in [
            ("safe", "safe.example/", "needs a `vault_name`"),
            ("key_name", "key", "needs a `key_name`"),
            ("}", "client_secret = \"canary\"\n}", "`client_secret` goes together with"),
            ("}", "environment = \"moon\"\n}", "`environment` is AzurePublicCloud"),
        ] {
            let error = read(&seal.replace(from, to), &[]).unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{error}");
        }
    }
}
