//! `seal "transit"` and `seal "awskms"`: which service keeps the key that opens the store, and how it is reached.
//!
//! What the environment says counts more than what the stanza says, as the reference has it. Secrets are references, read when
//! they are needed. Deliberately absent: how services are asked (`key_services`).

use std::path::{Path, PathBuf};

use tresor_env::outgoing::Base;
use tresor_hcl::Position;
use tresor_sigv4::assumed::Sts;
use tresor_sigv4::web_identity::{self, Role};
use tresor_sigv4::{profile, told};

use super::ConfigError;
use super::load::Source;
use super::seal::{KeyPlace, Options};

/// Variables of the process.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Where another server is when nobody says it.
const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";

/// A `seal "transit"` stanza.
#[derive(Clone, Debug)]
pub struct TransitConfig {
    /// Where the other server is: scheme, host and port.
    pub address: String,
    /// What it is asked with; nobody's token where something before it brings one.
    pub token: Option<KeyPlace>,
    /// The key of its transit engine.
    pub key_name: String,
    /// Where that engine is.
    pub mount_path: String,
    /// The namespace of that mount.
    pub namespace: Option<String>,
    /// Whether the token is renewed.
    pub renews: bool,
    /// Stands before the key's version in the name of it.
    pub key_id_prefix: String,
    /// How the other server is verified.
    pub tls: ServiceTls,
}

impl TransitConfig {
    /// The engine and its key, as operators know them.
    #[must_use]
    pub fn key_id(&self) -> String {
        format!("{}/{}", self.mount_path, self.key_name)
    }
}

/// Who a service has to be in TLS, and who this server says it is.
#[derive(Clone, Debug, Default)]
pub struct ServiceTls {
    /// The authorities that its certificate is verified by, PEM; the machine's own when absent.
    pub authorities: Option<PathBuf>,
    /// A certificate and its key to show, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name that its certificate is of, where that is not the address's.
    pub server_name: Option<String>,
    /// Whether whoever answers is taken for it.
    pub anybody: bool,
}

impl ServiceTls {
    /// The files that are read for it.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.authorities.iter().chain(client).map(PathBuf::as_path)
    }
}

fn read_tls(source: &mut Source<'_>, options: &mut Options<'_>, kind: &str) -> Result<ServiceTls, ConfigError> {
    let at = options.position;
    let path = |read: Option<(String, _)>| read.map(|(path, _)| PathBuf::from(path));
    let authorities = path(options.text(source, "tls_ca_cert")?);
    let client = match (path(options.text(source, "tls_client_cert")?), path(options.text(source, "tls_client_key")?)) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => return Err(source.error(at, "`tls_client_cert` and `tls_client_key` go together")),
    };
    let server_name = options.text(source, "tls_server_name")?.map(|(name, _)| name);
    let anybody = options.flag(source, "tls_skip_verify")?.unwrap_or(false);
    if anybody {
        let text = format!(
            "{}:{}: `tls_skip_verify`: whoever answers in the place of the seal `{kind}` is given the key that opens the store",
            source.file.display(),
            at.line
        );
        source.warnings.push(text);
    }
    Ok(ServiceTls { authorities, client, server_name, anybody })
}

pub(super) fn read_transit(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<TransitConfig, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let mut text = |source: &Source<'_>, name: &str, variable: &str| -> Result<Option<String>, ConfigError> {
        Ok(set(variable).or(options.text(source, name)?.map(|(text, _)| text)))
    };
    let address = text(source, "address", "VAULT_TRANSIT_SEAL_ADDR")?.or_else(|| set("VAULT_ADDR"));
    let address = address.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
    let key_name = text(source, "key_name", "VAULT_TRANSIT_SEAL_KEY_NAME")?;
    let mount_path = text(source, "mount_path", "VAULT_TRANSIT_SEAL_MOUNT_PATH")?;
    let namespace = text(source, "namespace", "VAULT_NAMESPACE")?;
    let disabled = text(source, "disable_renewal", "VAULT_TRANSIT_SEAL_DISABLE_RENEWAL")?;
    let key_id_prefix = options.text(source, "key_id_prefix")?.map(|(prefix, _)| prefix).unwrap_or_default();
    let needed = |name: &str| source.error(at, format!("seal `transit` needs a `{name}`"));
    let key_name = key_name.ok_or_else(|| needed("key_name"))?;
    let mount_path = mount_path.map(|path| path.trim_matches('/').to_owned()).filter(|path| !path.is_empty());
    let mount_path = mount_path.ok_or_else(|| needed("mount_path"))?;
    // What is asked is that engine for that key, wherever an address with dots in it would lead.
    if !mount_path.split('/').all(is_part) {
        return Err(source.error(at, "`mount_path` is the path of an engine, without `.` and `..`"));
    }
    if !is_part(&key_name) || key_name.contains('/') {
        return Err(source.error(at, "`key_name` is the name of a key, without slashes"));
    }
    let address = address_of(source, &address, "address", at)?;
    let renews = match disabled.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0" | "f") => true,
        Some("true" | "1" | "t") => false,
        Some(_) => return Err(source.error(at, "`disable_renewal` is `true` or `false`")),
    };
    let own = options.place(source, "token")?;
    let variable = ["VAULT_TRANSIT_SEAL_TOKEN"].into_iter().find_map(|name| in_variable(name, environment));
    let token = variable.or(own).or_else(|| in_variable("VAULT_TOKEN", environment));
    if token.is_none() {
        let place = format!("{}:{}", source.file.display(), at.line);
        let text =
            "seal `transit` has no `token`: the other server refuses, unless something on the way to it adds one";
        source.warnings.push(format!("{place}: {text}"));
    }
    let tls = read_tls(source, options, "transit")?;
    Ok(TransitConfig { address, token, key_name, mount_path, namespace, renews, key_id_prefix, tls })
}

/// Whether a text is one part of a path, and leads nowhere else.
fn is_part(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.chars().any(char::is_control)
}

/// The address of a service, which is warned of when others can listen.
pub(super) fn address_of(source: &mut Source<'_>, text: &str, name: &str, at: Position) -> Result<String, ConfigError> {
    let Some(base) = Base::parse(text) else {
        let text = format!("`{name}` is the address of a server, such as https://vault.example:8200");
        return Err(source.error(at, text));
    };
    if !base.is_private() {
        let text = format!("`{name}` is not of TLS: whoever listens on the way sees the key that opens the store");
        source.warnings.push(format!("{}:{}: {text}", source.file.display(), at.line));
    }
    Ok(base.as_str().to_owned())
}

/// What a variable holds, as a reference; the text of it may be one, too.
pub(super) fn in_variable(name: &str, environment: Environment<'_>) -> Option<KeyPlace> {
    environment(name).filter(|text| !text.is_empty()).and_then(|text| KeyPlace::parse(&text))
}

/// A `seal "awskms"` stanza.
#[derive(Clone, Debug)]
pub struct AwsKmsConfig {
    /// The key: its id, its ARN, or an alias.
    pub key_id: String,
    /// The region that it is in.
    pub region: String,
    /// Where the service is.
    pub endpoint: String,
    /// What it is asked with.
    pub keys: AwsKeysConfig,
}

/// An access key, its secret, and the token of a session.
pub type AccessKeys = (String, KeyPlace, Option<KeyPlace>);

/// Where access keys of AWS come from, in this order.
#[derive(Clone, Debug)]
pub struct AwsKeysConfig {
    /// What the stanza says.
    pub own: Option<AccessKeys>,
    /// What the environment has.
    pub environment: Option<AccessKeys>,
    /// Whether those count by themselves, and not only for a role of a profile that they assume.
    pub environment_counts: bool,
    /// A role that is assumed by a token.
    pub web_identity: Option<WebIdentity>,
    /// The files that all of AWS's tools read.
    pub shared: Option<SharedFiles>,
    /// Where a container asks, and the file with what it shows there.
    pub container: Option<(String, Option<PathBuf>)>,
    /// Where a machine asks.
    pub machine: Option<String>,
}

impl AwsKeysConfig {
    /// No keys anywhere.
    pub const NOTHING: Self = Self {
        own: None,
        environment: None,
        environment_counts: true,
        web_identity: None,
        shared: None,
        container: None,
        machine: None,
    };
}

/// A role that is assumed by a token in a file.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// The role.
    pub role: Role,
    /// Where the token is; another one may be there each time.
    pub token_file: PathBuf,
    /// Where STS is.
    pub endpoint: String,
}

/// Where something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// In the stanza.
    Here,
    /// In the environment.
    Around,
    /// It is what counts when nobody says anything.
    Nowhere,
}

/// The files that all of AWS's tools read.
#[derive(Clone, Debug)]
pub struct SharedFiles {
    /// The one with keys.
    pub credentials: Option<SharedFile>,
    /// The one with what leads to keys.
    pub config: Option<SharedFile>,
    /// The part of them that counts.
    pub profile: String,
    /// Who says so.
    pub profile_said: Said,
    /// Who is asked for keys of a role.
    pub sts: Sts,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct SharedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether somebody says that it is there.
    pub is_named: bool,
}

impl SharedFiles {
    /// The two, where each is or usually is.
    fn of(
        credentials: Option<String>,
        profile: Option<String>,
        region: &str,
        environment: Environment<'_>,
    ) -> Option<Self> {
        let set = |name: &str| environment(name).filter(|text| !text.is_empty());
        let home = set("HOME");
        let file = |named: Option<String>, usual: &str| {
            let is_named = named.is_some();
            let usual = || home.as_ref().map(|home| Path::new(home).join(".aws").join(usual));
            named.map(PathBuf::from).or_else(usual).map(|path| SharedFile { path, is_named })
        };
        let credentials = file(credentials.or_else(|| set("AWS_SHARED_CREDENTIALS_FILE")), "credentials");
        let config = file(set("AWS_CONFIG_FILE"), "config");
        let (profile, profile_said) = match (profile, set("AWS_PROFILE")) {
            (Some(profile), _) => (profile, Said::Here),
            (None, Some(profile)) => (profile, Said::Around),
            (None, None) => (profile::DEFAULT.to_owned(), Said::Nowhere),
        };
        let sts = Sts::of(region, set("AWS_ENDPOINT_URL_STS"));
        let is_any = credentials.is_some() || config.is_some() || profile_said == Said::Here;
        is_any.then_some(Self { credentials, config, profile, profile_said, sts })
    }

    /// Where they are.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.credentials, &self.config].into_iter().flatten().map(|file| file.path.as_path())
    }
}

/// Keys that the environment has.
fn environment_keys(environment: Environment<'_>) -> Option<AccessKeys> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let secret = || KeyPlace::Variable("AWS_SECRET_ACCESS_KEY".to_owned());
    let session = set("AWS_SESSION_TOKEN").map(|_| KeyPlace::Variable("AWS_SESSION_TOKEN".to_owned()));
    set("AWS_ACCESS_KEY_ID").map(|access_key| (access_key, secret(), session))
}

pub(super) fn read_awskms(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<AwsKmsConfig, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let mut given = |name: &str| Ok::<_, ConfigError>(options.text(source, name)?.map(|(text, _)| text));
    let region = given("region")?.or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(source.error(at, "`region` is the name of a region, such as eu-central-1"));
    }
    let own_key_id = given("kms_key_id")?;
    let key_id = set("VAULT_AWSKMS_SEAL_KEY_ID").or(own_key_id);
    let key_id = key_id.ok_or_else(|| source.error(at, "seal `awskms` needs a `kms_key_id`"))?;
    if key_id.len() > 2048 || key_id.chars().any(char::is_control) {
        return Err(source.error(at, "`kms_key_id` is the id of a key, its ARN or an alias"));
    }
    let own_endpoint = given("endpoint")?;
    let endpoint = set("AWS_KMS_ENDPOINT").or(own_endpoint).unwrap_or_else(|| {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://kms.{region}.{suffix}")
    });
    let (file, profile) = (given("shared_creds_filename")?, given("shared_creds_profile")?);
    let access_key = given("access_key")?;
    let endpoint = address_of(source, &endpoint, "endpoint", at)?;
    let (secret, session) = (options.place(source, "secret_key")?, options.place(source, "session_token")?);
    let assumed = web_identity(source, options, environment, &region)?;
    let own = match (access_key, secret) {
        (Some(access_key), Some(secret)) => Some((access_key, secret, session)),
        (None, None) => None,
        _ => return Err(source.error(at, "`access_key` and `secret_key` go together")),
    };
    let keys = AwsKeysConfig {
        own,
        environment: environment_keys(environment),
        // What the stanza says counts more than keys of the environment.
        environment_counts: !matches!(assumed, Some((_, Said::Here))),
        web_identity: assumed.map(|(web, _)| web),
        shared: SharedFiles::of(file, profile, &region, environment),
        container: container(environment),
        machine: machine(environment),
    };
    Ok(AwsKmsConfig { key_id, region, endpoint, keys })
}

/// Where access keys come from that no stanza says: the profile that is named, and else what the environment says.
pub(super) fn usual_aws_keys(profile: Option<String>, region: &str, environment: Environment<'_>) -> AwsKeysConfig {
    AwsKeysConfig {
        own: None,
        environment: environment_keys(environment),
        environment_counts: profile.is_none(),
        web_identity: None,
        shared: SharedFiles::of(None, profile, region, environment),
        container: container(environment),
        machine: machine(environment),
    }
}

/// A role that is assumed by a token: all of it is said by the stanza, or all of it by the environment.
fn web_identity(
    source: &Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
    region: &str,
) -> Result<Option<(WebIdentity, Said)>, ConfigError> {
    let at = options.position;
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let mut given = |name: &str| Ok::<_, ConfigError>(options.text(source, name)?.map(|(text, _)| text));
    let (arn, file, session) = (given("role_arn")?, given("web_identity_token_file")?, given("role_session_name")?);
    let (arn, file, session, said) = match (arn, file) {
        (Some(arn), Some(file)) => (arn, file, session, Said::Here),
        (None, None) if session.is_some() => {
            return Err(source.error(at, "`role_session_name` goes with `role_arn` and `web_identity_token_file`"));
        }
        (None, None) => {
            let Some(file) = set("AWS_WEB_IDENTITY_TOKEN_FILE") else { return Ok(None) };
            let Some(arn) = set("AWS_ROLE_ARN") else {
                let text = "the environment has AWS_WEB_IDENTITY_TOKEN_FILE without AWS_ROLE_ARN";
                return Err(source.error(at, text));
            };
            (arn, file, set("AWS_ROLE_SESSION_NAME"), Said::Around)
        }
        _ => {
            let text = "`role_arn` and `web_identity_token_file` go together: a role of keys is said by a profile";
            return Err(source.error(at, text));
        }
    };
    let endpoint = Sts::of(region, set("AWS_ENDPOINT_URL_STS")).endpoint;
    let session = session.unwrap_or_else(|| web_identity::SESSION.to_owned());
    let role = Role { arn, session };
    Ok(Some((WebIdentity { role, token_file: PathBuf::from(file), endpoint }, said)))
}

/// Where a container asks for its keys.
fn container(environment: Environment<'_>) -> Option<(String, Option<PathBuf>)> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let relative = set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let relative = relative.map(|path| format!("{}/{}", told::AGENT, path.trim_start_matches('/')));
    let uri = relative.or_else(|| set("AWS_CONTAINER_CREDENTIALS_FULL_URI"))?;
    Some((uri, set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from)))
}

/// Where a machine asks for its keys.
fn machine(environment: Environment<'_>) -> Option<String> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    if set("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return None;
    }
    Some(set("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| told::METADATA.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{SealWay, ServerConfig, parse};

    fn read(inside: &str, variables: &[(&str, &str)]) -> Result<ServerConfig, String> {
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\nseal \"transit\" {{\n{inside}\n}}\n"
        );
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        parse(&[(PathBuf::from("server.hcl"), text)], &set).map_err(|error| error.to_string())
    }

    fn transit(config: &ServerConfig) -> &TransitConfig {
        match &config.seal.as_ref().unwrap().way {
            SealWay::Transit(transit) => transit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_transit_seal_is_read_as_the_reference_spells_it_and_shows_no_token() {
        let inside = r#"
            address            = "https://vault.example:8200/"
            token              = "hvs.canary"
            disable_renewal    = "true"
            key_name           = "unseal"
            mount_path         = "team/transit/"
            namespace          = "team"
            key_id_prefix      = "one-"
            tls_ca_cert        = "/tls/ca.pem"
            tls_client_cert    = "/tls/cert.pem"
            tls_client_key     = "/tls/key.pem"
            tls_server_name    = "vault"
            health_check_interval = "5m"
        "#;
        let config = read(inside, &[]).unwrap();
        let seal = transit(&config);
        assert_eq!(
            (seal.address.as_str(), seal.key_id().as_str(), seal.renews, seal.namespace.as_deref()),
            ("https://vault.example:8200", "team/transit/unseal", false, Some("team"))
        );
        assert_eq!((seal.key_id_prefix.as_str(), seal.tls.server_name.as_deref()), ("one-", Some("vault")));
        assert_eq!(seal.tls.files().count(), 3);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn the_environment_counts_more_than_the_stanza_and_the_clients_variables_less() {
        let inside = "address = \"https://a:1\"\nkey_name = \"a\"\nmount_path = \"a\"\ntoken = \"env://A\"";
        let token = |config: &ServerConfig| transit(config).token.as_ref().map(ToString::to_string);
        let clients = [("VAULT_ADDR", "https://c:1"), ("VAULT_TOKEN", "file:///c")];
        let config = read(inside, &clients).unwrap();
        assert_eq!((transit(&config).address.as_str(), token(&config).as_deref()), ("https://a:1", Some("env://A")));
        let own = [
            ("VAULT_TRANSIT_SEAL_ADDR", "https://b:1"),
            ("VAULT_TRANSIT_SEAL_KEY_NAME", "b"),
            ("VAULT_TRANSIT_SEAL_MOUNT_PATH", "b"),
            ("VAULT_TRANSIT_SEAL_DISABLE_RENEWAL", "true"),
            ("VAULT_TRANSIT_SEAL_TOKEN", "file:///b"),
            ("VAULT_NAMESPACE", "b"),
        ];
        let config = read(inside, &own).unwrap();
        let seal = transit(&config);
        assert_eq!((seal.address.as_str(), seal.key_id().as_str(), seal.renews), ("https://b:1", "b/b", false));
        assert_eq!((token(&config).as_deref(), seal.namespace.as_deref()), (Some("file:///b"), Some("b")));
        let config = read("key_name = \"a\"\nmount_path = \"a\"", &clients).unwrap();
        assert_eq!((transit(&config).address.as_str(), token(&config).as_deref()), ("https://c:1", Some("file:///c")));
        let config = read("key_name = \"a\"\nmount_path = \"a\"", &[]).unwrap();
        assert_eq!((transit(&config).address.as_str(), token(&config)), (DEFAULT_ADDRESS, None));
    }

    #[test]
    fn a_transit_seal_that_makes_no_sense_is_refused_and_a_careless_one_is_warned_of() {
        let named = "key_name = \"a\"\nmount_path = \"a\"\n";
        for (inside, words) in [
            ("mount_path = \"a\"".to_owned(), "needs a `key_name`"),
            ("key_name = \"a\"\nmount_path = \"/\"".to_owned(), "needs a `mount_path`"),
            (format!("{named}address = \"vault.example\""), "`address` is the address of a server"),
            (format!("{named}address = \"https://u:canary@vault.example\""), "`address` is the address"),
            (format!("{named}disable_renewal = \"perhaps\""), "`disable_renewal` is `true` or `false`"),
            (format!("{named}tls_client_key = \"/k\""), "`tls_client_cert` and `tls_client_key` go together"),
            (format!("{named}token = \"credential://../canary\""), "`token` is env://"),
            ("key_name = \"a\"\nmount_path = \"a/../sys\"".to_owned(), "`mount_path` is the path of an engine"),
            ("key_name = \"a\"\nmount_path = \"a//b\"".to_owned(), "`mount_path` is the path of an engine"),
            ("key_name = \"..\"\nmount_path = \"a\"".to_owned(), "`key_name` is the name of a key"),
            ("key_name = \"a/../../b\"\nmount_path = \"a\"".to_owned(), "`key_name` is the name of a key"),
        ] {
            let error = read(&inside, &[]).unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{inside}: {error}");
        }
        let careless = format!("{named}address = \"http://vault.example:8200\"\ntls_skip_verify = true\nkey = 1");
        let warnings = read(&careless, &[]).unwrap().warnings.join("\n");
        for words in
            ["is not of TLS", "`tls_skip_verify`", "unknown key `key`", "server.hcl:5: seal `transit` has no `token`"]
        {
            assert!(warnings.contains(words), "{words}: {warnings}");
        }
    }

    fn read_aws(inside: &str, variables: &[(&str, &str)]) -> Result<AwsKmsConfig, String> {
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\nseal \"awskms\" {{\n{inside}\n}}\n"
        );
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let config = parse(&[(PathBuf::from("server.hcl"), text)], &set).map_err(|error| error.to_string())?;
        assert!(!format!("{config:?}").contains("canary"));
        match config.seal.unwrap().way {
            SealWay::AwsKms(aws) => Ok(*aws),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_seal_of_aws_is_read_with_its_variables_and_shows_no_secret() {
        let aws = read_aws("kms_key_id = \"alias/a\"", &[]).unwrap();
        assert_eq!((aws.key_id.as_str(), aws.region.as_str()), ("alias/a", "us-east-1"));
        assert_eq!(aws.endpoint, "https://kms.us-east-1.amazonaws.com");
        assert!(aws.keys.own.is_none() && aws.keys.shared.is_none() && aws.keys.container.is_none());
        assert_eq!(aws.keys.machine.as_deref(), Some("http://169.254.169.254"));
        let inside = "kms_key_id = \"a\"\nregion = \"cn-north-1\"\naccess_key = \"AKID\"\nsecret_key = \"canary\"\n\
                      session_token = \"file:///canary-session\"";
        let variables = [
            ("BAO", ""),
            ("VAULT_AWSKMS_SEAL_KEY_ID", "b"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "OTHER"),
            ("AWS_PROFILE", "ops"),
            ("HOME", "/var/me"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let aws = read_aws(&inside.replace("canary-session", "session"), &variables).unwrap();
        assert_eq!((aws.key_id.as_str(), aws.endpoint.as_str()), ("b", "https://kms.cn-north-1.amazonaws.com.cn"));
        let (access_key, _, session) = aws.keys.own.unwrap();
        assert_eq!((access_key.as_str(), session.unwrap().to_string().as_str()), ("AKID", "file:///session"));
        let shared = aws.keys.shared.unwrap();
        assert_eq!((shared.profile.as_str(), shared.profile_said), ("ops", Said::Around));
        let usual = ["/var/me/.aws/credentials", "/var/me/.aws/config"].map(Path::new);
        assert!(shared.paths().eq(usual) && !shared.credentials.unwrap().is_named && !shared.config.unwrap().is_named);
        assert_eq!(shared.sts.endpoint, "https://sts.cn-north-1.amazonaws.com.cn");
        assert_eq!(aws.keys.container.unwrap().0, "http://169.254.170.2/v2/x");
        assert!(aws.keys.machine.is_none());
        let keys = read_aws("kms_key_id = \"a\"", &variables).unwrap().keys;
        let of_variables = keys.environment.unwrap();
        assert!(keys.own.is_none() && keys.environment_counts);
        let inside = "kms_key_id = \"a\"\nshared_creds_filename = \"/own\"\nshared_creds_profile = \"mine\"";
        let around =
            [("AWS_PROFILE", "ops"), ("AWS_CONFIG_FILE", "/config"), ("AWS_SHARED_CREDENTIALS_FILE", "/other")];
        let shared = read_aws(inside, &around).unwrap().keys.shared.unwrap();
        assert_eq!((shared.profile.as_str(), shared.profile_said), ("mine", Said::Here));
        assert!(shared.paths().eq(["/own", "/config"].map(Path::new)) && shared.config.unwrap().is_named);
        assert_eq!(
            (of_variables.0.as_str(), of_variables.1.to_string().as_str()),
            ("OTHER", "env://AWS_SECRET_ACCESS_KEY")
        );
    }

    #[test]
    fn a_role_that_a_token_assumes_is_that_of_the_stanza_or_of_the_environment() {
        let named = "kms_key_id = \"a\"\nregion = \"eu-west-1\"\n";
        let around = [
            ("AWS_ACCESS_KEY_ID", "KEYS"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/token"),
            ("AWS_ROLE_ARN", "arn:around"),
        ];
        let keys = read_aws(named, &around).unwrap().keys;
        assert_eq!(
            (keys.environment.unwrap().0.as_str(), keys.environment_counts),
            ("KEYS", true),
            "which counts more"
        );
        let web = keys.web_identity.unwrap();
        assert_eq!((web.role.arn.as_str(), web.role.session.as_str()), ("arn:around", "tresor"));
        assert_eq!(
            (web.token_file.as_path(), web.endpoint.as_str()),
            (Path::new("/var/token"), "https://sts.eu-west-1.amazonaws.com")
        );
        let inside =
            format!("{named}role_arn = \"arn:own\"\nweb_identity_token_file = \"/own\"\nrole_session_name = \"s\"");
        let around = [&around[..], &[("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")]].concat();
        let keys = read_aws(&inside, &around).unwrap().keys;
        let web = keys.web_identity.unwrap();
        assert!(keys.own.is_none() && !keys.environment_counts, "of the environment");
        assert_eq!((web.role.arn.as_str(), web.role.session.as_str()), ("arn:own", "s"));
        assert_eq!((web.token_file.as_path(), web.endpoint.as_str()), (Path::new("/own"), "http://127.0.0.1:1"));
        let error = read_aws(named, &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/token")]).unwrap_err();
        assert!(error.contains("without AWS_ROLE_ARN"), "{error}");
    }

    #[test]
    fn a_seal_of_aws_that_makes_no_sense_is_refused() {
        let named = "kms_key_id = \"a\"\n";
        for (inside, words) in [
            (String::new(), "needs a `kms_key_id`"),
            (format!("{named}access_key = \"a\""), "`access_key` and `secret_key` go together"),
            (format!("{named}region = \"a.example/\""), "`region` is the name of a region"),
            (format!("{named}endpoint = \"kms.example\""), "`endpoint` is the address of a server"),
            (
                format!("{named}role_arn = \"arn:aws:iam::1:role/x\""),
                "`role_arn` and `web_identity_token_file` go together",
            ),
            (format!("{named}role_session_name = \"x\""), "`role_session_name` goes with `role_arn`"),
        ] {
            let error = read_aws(&inside, &[]).unwrap_err();
            assert!(error.contains(words), "{inside}: {error}");
        }
    }
}
