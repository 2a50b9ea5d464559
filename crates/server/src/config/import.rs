//! The file of `operator import`: from where secrets come, where they go, and which.
//!
//! Stanzas and keys are those of the reference. No secret is in the file: it says where one lies. Deliberately absent: access to
//! clouds by credentials that another server makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use tresor_env::outgoing::Base;
use tresor_hcl::{Item, Object};

use super::load::Source;
use super::services::{Environment, usual_aws_keys};
use super::{AwsKeysConfig, AzureIdentity, ConfigError, KeyPlace};

/// Keys of the reference for credentials that another server makes.
const DYNAMIC: [&str; 5] =
    ["vault_mount_path", "vault_role_name", "vault_namespace", "vault_address", "vault_credentials_file"];

/// The stanzas that there are.
const STANZAS: [&str; 8] = [
    "source_aws",
    "source_gcp",
    "source_azure",
    "destination_vault",
    "mapping",
    "mapping_passthrough",
    "mapping_metadata",
    "mapping_regex",
];

/// What is imported.
#[derive(Debug, Default)]
pub(crate) struct ImportConfig {
    /// From where, by name.
    pub(crate) sources: BTreeMap<String, SourceConfig>,
    /// Where to, by name.
    pub(crate) destinations: BTreeMap<String, DestinationConfig>,
    /// Which, in the order in which they are asked.
    pub(crate) mappings: Vec<Mapping>,
    /// Hints for the operator.
    pub(crate) warnings: Vec<String>,
}

/// From where secrets come.
#[derive(Debug)]
pub(crate) enum SourceConfig {
    /// AWS Secrets Manager.
    Aws {
        /// The region.
        region: String,
        /// Where the service is.
        endpoint: String,
        /// What it is asked with.
        keys: Box<AwsKeysConfig>,
    },
    /// GCP Secret Manager.
    Gcp {
        /// The project; without one, that of the account.
        project: Option<String>,
        /// The file with the key of an account; the machine's account without one.
        credentials: Option<PathBuf>,
        /// Where the service is.
        endpoint: String,
        /// Where the machine asks.
        machine: String,
    },
    /// Azure Key Vault.
    Azure {
        /// The vault's address.
        vault: String,
        /// Who asks.
        identity: AzureIdentity,
    },
}

/// Where secrets go: a mount with versions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DestinationConfig {
    /// The server; the command's without one.
    pub(crate) address: Option<String>,
    /// The namespace; the command's without one.
    pub(crate) namespace: Option<String>,
    /// The mount's path, without slashes around it.
    pub(crate) mount: String,
}

/// Which secrets of a source go to a destination.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Its name.
    pub(crate) name: String,
    /// From where.
    pub(crate) source: String,
    /// Where to.
    pub(crate) destination: String,
    /// Those with the highest are asked first.
    pub(crate) priority: i64,
    /// Which.
    pub(crate) filter: Filter,
}

/// Which secrets a mapping is about.
#[derive(Debug)]
pub(crate) enum Filter {
    /// All.
    Everything,
    /// Those that have all of these tags or labels.
    Metadata(BTreeMap<String, String>),
    /// Those whose name matches.
    Name(Regex),
}

impl Filter {
    /// Whether it is about a secret.
    pub(crate) fn takes(&self, name: &str, metadata: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Everything => true,
            Self::Metadata(wanted) => wanted.iter().all(|(key, value)| metadata.get(key) == Some(value)),
            Self::Name(pattern) => pattern.is_match(name),
        }
    }
}

/// Reads it.
pub(crate) fn load_import(path: &Path, environment: Environment<'_>) -> Result<ImportConfig, ConfigError> {
    let text = std::fs::read_to_string(path);
    let cannot = |error| ConfigError { file: path.into(), position: None, text: format!("cannot be read: {error}") };
    parse(path, &text.map_err(cannot)?, environment)
}

fn parse(path: &Path, text: &str, environment: Environment<'_>) -> Result<ImportConfig, ConfigError> {
    let document = tresor_hcl::parse(text).map_err(|error| ConfigError {
        file: path.to_path_buf(),
        position: Some(error.position),
        text: error.problem.to_string(),
    })?;
    let mut warnings = Vec::new();
    let mut source = Source { file: path.to_path_buf(), warnings: &mut warnings };
    let mut config = ImportConfig::default();
    for item in &document.items {
        let Some(key) = item.keys.first() else { continue };
        let kind = key.name.as_str();
        if !STANZAS.contains(&kind) {
            source.unknown(kind, key.position);
            continue;
        }
        let mut stanza = Stanza::of(&source, kind, item)?;
        let name = stanza.name.clone();
        let twice = |what: &str| source.error(key.position, format!("there are two {what} of the name {name:?}"));
        match kind {
            "source_aws" | "source_gcp" | "source_azure" => {
                let read = read_source(&mut stanza, kind, environment)?;
                if config.sources.insert(name.clone(), read).is_some() {
                    return Err(twice("sources"));
                }
            }
            "destination_vault" => {
                let read = read_destination(&mut stanza)?;
                if config.destinations.insert(name.clone(), read).is_some() {
                    return Err(twice("destinations"));
                }
            }
            _ if config.mappings.iter().any(|mapping| mapping.name == name) => return Err(twice("mappings")),
            _ => config.mappings.push(read_mapping(&mut stanza, kind)?),
        }
        let unknown = stanza.rest()?;
        unknown.iter().for_each(|(name, position)| source.unknown(name, *position));
    }
    let missing = |text: String| ConfigError { file: path.to_path_buf(), position: None, text };
    if config.mappings.is_empty() {
        return Err(missing("there is no `mapping_passthrough`, `mapping_metadata` or `mapping_regex`".to_owned()));
    }
    for mapping in &config.mappings {
        let Mapping { name, source, destination, .. } = mapping;
        if !config.sources.contains_key(source) {
            return Err(missing(format!("mapping `{name}`: there is no source `{source}`")));
        }
        if !config.destinations.contains_key(destination) {
            return Err(missing(format!("mapping `{name}`: there is no destination `{destination}`")));
        }
    }
    config.mappings.sort_by_key(|mapping| std::cmp::Reverse(mapping.priority));
    config.warnings = warnings;
    Ok(config)
}

/// A stanza while it is read.
struct Stanza<'s> {
    file: PathBuf,
    kind: &'s str,
    name: String,
    object: &'s Object,
    read: Vec<&'s str>,
}

impl<'s> Stanza<'s> {
    fn of(source: &Source<'_>, kind: &'s str, item: &'s Item) -> Result<Self, ConfigError> {
        let object = item.value.as_object(kind).map_err(|error| source.wrong(&error))?;
        let mut stanza = Self { file: source.file.clone(), kind, name: String::new(), object, read: Vec::new() };
        stanza.name = stanza.text("name")?.ok_or_else(|| stanza.wrong("`name` is missing"))?;
        Ok(stanza)
    }

    fn wrong(&self, text: impl AsRef<str>) -> ConfigError {
        let text = format!("`{}` `{}`: {}", self.kind, self.name, text.as_ref());
        ConfigError { file: self.file.clone(), position: None, text }
    }

    fn value(&mut self, name: &'s str) -> Option<&'s tresor_hcl::Value> {
        self.read.push(name);
        self.object.items_named(name).last().map(|item| &item.value)
    }

    fn text(&mut self, name: &'s str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.as_string(name).map_err(|error| self.wrong(error.to_string()))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn needed(&mut self, name: &'s str) -> Result<String, ConfigError> {
        self.text(name)?.ok_or_else(|| self.wrong(format!("`{name}` is missing")))
    }

    /// An address that is asked with what is secret.
    fn address(&mut self, name: &'s str) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match Base::parse(&text).filter(|base| base.is_private()) {
            Some(base) => Ok(Some(base.as_str().to_owned())),
            None => Err(self.wrong(format!("`{name}` must be an address that begins with https://"))),
        }
    }

    /// What was not asked for; what is about credentials that are made is refused.
    fn rest(&self) -> Result<Vec<(String, tresor_hcl::Position)>, ConfigError> {
        let mut unknown = Vec::new();
        for key in self.object.items.iter().filter_map(|item| item.keys.first()) {
            if DYNAMIC.contains(&key.name.as_str()) {
                return Err(
                    self.wrong(format!("`{}`: credentials that another server makes are not supported", key.name))
                );
            }
            if !self.read.contains(&key.name.as_str()) {
                unknown.push((key.name.clone(), key.position));
            }
        }
        Ok(unknown)
    }
}

fn read_source(stanza: &mut Stanza<'_>, kind: &str, environment: Environment<'_>) -> Result<SourceConfig, ConfigError> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    match kind {
        "source_aws" => {
            let region = stanza.text("region")?.or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"));
            let region = region.unwrap_or_else(|| "us-east-1".to_owned());
            if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(stanza.wrong("`region` is the name of a region, such as eu-central-1"));
            }
            let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let usual = format!("https://secretsmanager.{region}.{suffix}");
            let endpoint = stanza.address("endpoint")?.unwrap_or(usual);
            let keys = Box::new(usual_aws_keys(stanza.text("credentials_profile")?, &region, environment));
            Ok(SourceConfig::Aws { region, endpoint, keys })
        }
        "source_gcp" => {
            let file = stanza.text("credentials_file")?.or(stanza.text("credentials")?);
            let file = file.or_else(|| set("GOOGLE_APPLICATION_CREDENTIALS"));
            let project = stanza.text("project")?.or_else(|| set("GOOGLE_CLOUD_PROJECT"));
            let usual = || "https://secretmanager.googleapis.com".to_owned();
            Ok(SourceConfig::Gcp {
                project,
                credentials: file.map(|file| PathBuf::from(file.trim_start_matches('@'))),
                endpoint: stanza.address("endpoint")?.unwrap_or_else(usual),
                machine: set("GCE_METADATA_HOST")
                    .map_or("http://metadata.google.internal".to_owned(), |host| format!("http://{host}")),
            })
        }
        _ => {
            let vault = stanza.address("key_vault_uri")?;
            let vault = vault.ok_or_else(|| stanza.wrong("`key_vault_uri` is missing"))?;
            let tenant = stanza.text("tenant_id")?.or_else(|| set("AZURE_TENANT_ID"));
            let client_id = stanza.text("client_id")?.or_else(|| set("AZURE_CLIENT_ID"));
            let of_environment =
                || set("AZURE_CLIENT_SECRET").map(|_| KeyPlace::Variable("AZURE_CLIENT_SECRET".to_owned()));
            let secret =
                stanza.text("credentials_file")?.map(|file| KeyPlace::File(file.into())).or_else(of_environment);
            let identity = match (tenant, client_id, secret) {
                (Some(tenant), Some(client_id), Some(secret)) => AzureIdentity::Secret { tenant, client_id, secret },
                (_, _, Some(_)) => return Err(stanza.wrong("`tenant_id` and `client_id` go with `credentials_file`")),
                (_, client_id, None) => {
                    AzureIdentity::Machine { client_id, address: "http://169.254.169.254".to_owned() }
                }
            };
            Ok(SourceConfig::Azure { vault, identity })
        }
    }
}

fn read_destination(stanza: &mut Stanza<'_>) -> Result<DestinationConfig, ConfigError> {
    let mount = stanza.needed("mount")?.trim_matches('/').to_owned();
    if mount.is_empty() {
        return Err(stanza.wrong("`mount` is missing"));
    }
    Ok(DestinationConfig { address: stanza.text("address")?, namespace: stanza.text("namespace")?, mount })
}

fn read_mapping(stanza: &mut Stanza<'_>, kind: &str) -> Result<Mapping, ConfigError> {
    let filter = match kind {
        "mapping_metadata" => {
            let tags = stanza.value("tags").ok_or_else(|| stanza.wrong("`tags` is missing"))?;
            let tags = tags.as_object("tags").map_err(|error| stanza.wrong(error.to_string()))?;
            let mut wanted = BTreeMap::new();
            for item in &tags.items {
                let Some(key) = item.keys.first() else { continue };
                let value = item.value.as_string(&key.name).map_err(|error| stanza.wrong(error.to_string()))?;
                wanted.insert(key.name.clone(), value);
            }
            if wanted.is_empty() {
                return Err(stanza.wrong("`tags` is empty"));
            }
            Filter::Metadata(wanted)
        }
        "mapping_regex" => {
            let text = stanza.needed("expression")?;
            let pattern = regex::RegexBuilder::new(&text).size_limit(1 << 20).build();
            Filter::Name(pattern.map_err(|_| stanza.wrong("`expression` is no regular expression"))?)
        }
        _ => Filter::Everything,
    };
    let priority = match stanza.value("priority") {
        Some(value) => value.as_integer("priority").map_err(|error| stanza.wrong(error.to_string()))?,
        None => 0,
    };
    let (name, source) = (stanza.name.clone(), stanza.needed("source")?);
    Ok(Mapping { name, source, destination: stanza.needed("destination")?, priority, filter })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn read(text: &str) -> Result<ImportConfig, String> {
        let environment = |name: &str| (name == "HOME").then(|| "/h/me".to_owned());
        parse(Path::new("import.hcl"), text, &environment).map_err(|error| error.to_string())
    }

    const WHOLE: &str = "source_aws {\n name = \"aws\"\n credentials_profile = \"p\"\n region = \"eu-central-1\"\n}\n\
        source_gcp {\n name = \"gcp\"\n credentials_file = \"/g.json\"\n project = \"p\"\n}\n\
        source_azure {\n name = \"azure\"\n key_vault_uri = \"https://v.vault.azure.net\"\n tenant_id = \"t\"\n \
        client_id = \"c\"\n credentials_file = \"/secret\"\n}\n\
        destination_vault {\n name = \"d\"\n mount = \"/kv/\"\n namespace = \"team\"\n}\n\
        mapping_passthrough {\n name = \"rest\"\n source = \"aws\"\n destination = \"d\"\n priority = 1\n}\n\
        mapping_metadata {\n name = \"tagged\"\n source = \"aws\"\n destination = \"d\"\n priority = 5\n \
        tags = {\n team = \"a\"\n }\n}\n\
        mapping_regex {\n name = \"named\"\n source = \"gcp\"\n destination = \"d\"\n priority = 3\n \
        expression = \"^prod\"\n}\n";

    #[test]
    fn sys_32_a_plan_is_read_as_the_reference_spells_it_and_the_highest_priority_is_asked_first() {
        let config = read(WHOLE).unwrap();
        let order: Vec<&str> = config.mappings.iter().map(|mapping| mapping.name.as_str()).collect();
        assert_eq!(order, ["tagged", "named", "rest"]);
        assert_eq!(
            config.destinations["d"],
            DestinationConfig { address: None, namespace: Some("team".to_owned()), mount: "kv".to_owned() }
        );
        let SourceConfig::Aws { endpoint, keys, .. } = &config.sources["aws"] else { panic!("it is AWS") };
        assert_eq!(endpoint, "https://secretsmanager.eu-central-1.amazonaws.com");
        let shared = keys.shared.as_ref().unwrap();
        let paths = ["/h/me/.aws/credentials", "/h/me/.aws/config"].map(Path::new);
        assert!(shared.profile == "p" && shared.paths().eq(paths));
        let tags = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let [tagged, named, rest] = config.mappings.as_slice() else { panic!("there are three") };
        assert!(tagged.filter.takes("x", &tags(&[("team", "a"), ("y", "z")])));
        assert!(!tagged.filter.takes("x", &tags(&[("team", "b")])));
        assert!(named.filter.takes("prod/a", &BTreeMap::new()) && !named.filter.takes("a/prod", &BTreeMap::new()));
        assert!(rest.filter.takes("", &BTreeMap::new()));
    }

    #[test]
    fn sys_32_what_makes_no_sense_is_refused_by_name() {
        let destination = "destination_vault {\n name = \"d\"\n mount = \"kv\"\n}\n";
        let mapping = "mapping {\n name = \"m\"\n source = \"s\"\n destination = \"d\"\n}\n";
        let with = |source: &str| format!("{source}\n{destination}{mapping}");
        for (text, said) in [
            (destination.to_owned(), "there is no `mapping_passthrough`"),
            (with(""), "there is no source `s`"),
            (format!("source_gcp {{\n name = \"s\"\n}}\n{mapping}"), "there is no destination `d`"),
            (with("source_aws {\n region = \"x\"\n}"), "`name` is missing"),
            (with("source_aws {\n name = \"s\"\n endpoint = \"http://elsewhere\"\n}"), "`endpoint` must be"),
            (with("source_aws {\n name = \"s\"\n vault_mount_path = \"aws\"\n}"), "not supported"),
            (with("source_azure {\n name = \"s\"\n}"), "`key_vault_uri` is missing"),
            (
                with("source_azure {\n name = \"s\"\n key_vault_uri = \"https://v\"\n credentials_file = \"/s\"\n}"),
                "go with `credentials_file`",
            ),
            (
                format!(
                    "{destination}mapping_regex {{\n name = \"m\"\n source = \"s\"\n destination = \"d\"\n expression = \"(\"\n}}"
                ),
                "no regular expression",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let config = read(&with("source_aws {\n name = \"s\"\n colour = \"red\"\n}")).unwrap();
        assert!(config.warnings.iter().any(|warning| warning.contains("`colour`")), "{:?}", config.warnings);
    }

    #[test]
    fn sys_32_no_two_have_one_name() {
        let again = |stanza: &str| read(&format!("{WHOLE}{stanza}")).unwrap_err();
        let source = again("source_gcp {\n name = \"aws\"\n}\n");
        assert_eq!(source, "import.hcl:45:1: there are two sources of the name \"aws\"");
        let destination = again("destination_vault {\n name = \"d\"\n mount = \"other\"\n}\n");
        assert_eq!(destination, "import.hcl:45:1: there are two destinations of the name \"d\"");
        let mapping = "mapping_passthrough {\n name = \"named\"\n source = \"aws\"\n destination = \"d\"\n}\n";
        assert_eq!(again(mapping), "import.hcl:45:1: there are two mappings of the name \"named\"");
        // They are of different kinds.
        read(&WHOLE.replace("\"rest\"", "\"d\"")).unwrap();
    }
}
