//! `service_registration`: the registry that is told what this node is, as `consul` or as `kubernetes`.
//!
//! Deliberately absent: other registries, and a connection that is not verified.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tresor_env::outgoing::Base;
use tresor_hcl::Block;
use tresor_secret::SecretString;

use super::ConfigError;
use super::load::Source;

/// Where a pod finds what it asks Kubernetes with.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long Consul waits for the next word by default, and at least.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// A registry.
#[derive(Clone, Debug)]
pub enum RegistrationConfig {
    /// An agent of Consul.
    Consul(ConsulConfig),
    /// The labels of this server's own pod.
    Kubernetes(KubernetesConfig),
}

/// An agent of Consul, and what it is told.
#[derive(Clone)]
pub struct ConsulConfig {
    /// Where it answers: scheme, host and port.
    pub base: String,
    /// What the service is called.
    pub service: String,
    /// Tags beside those that say what the node is.
    pub tags: Vec<String>,
    /// Where the service is reached; `None` takes `api_addr`, an empty text leaves it to the agent.
    pub service_address: Option<String>,
    /// What the agent is asked with.
    pub token: Option<Arc<SecretString>>,
    /// How long the agent waits for the next word before it takes the node for dead.
    pub check_timeout: Duration,
    /// The authorities that its certificate is verified by, PEM; the machine's own when absent.
    pub ca_file: Option<PathBuf>,
    /// A certificate and its key to show, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for ConsulConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_token = self.token.is_some();
        let names = (&self.base, &self.service, &self.tags, &self.service_address, self.check_timeout);
        f.debug_tuple("ConsulConfig").field(&names).field(&self.ca_file).field(&self.client).field(&has_token).finish()
    }
}

/// The pod that this server is.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The directory with the token and the authority of its service account.
    pub service_account: PathBuf,
}

type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Reads a `service_registration` stanza; nothing when it says that nobody is to be told.
pub(super) fn read_registration(
    source: &mut Source<'_>,
    block: &Block<'_>,
    environment: Environment<'_>,
) -> Result<Option<RegistrationConfig>, ConfigError> {
    match block.labels.as_slice() {
        ["consul"] => Ok(read_consul(source, block, environment)?.map(RegistrationConfig::Consul)),
        ["kubernetes"] => read_kubernetes(source, block, environment).map(RegistrationConfig::Kubernetes).map(Some),
        [other] => {
            let text = format!("service_registration `{other}` is not available: `consul` and `kubernetes` are");
            Err(source.error(block.position, text))
        }
        _ => Err(source.error(block.position, "`service_registration` takes one type")),
    }
}

fn read_consul(
    source: &mut Source<'_>,
    block: &Block<'_>,
    environment: Environment<'_>,
) -> Result<Option<ConsulConfig>, ConfigError> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let (mut address, mut scheme) = (set("CONSUL_HTTP_ADDR"), None);
    let mut token = set("CONSUL_HTTP_TOKEN").map(|text| Arc::new(SecretString::new(text)));
    let (mut certificate, mut key, mut is_disabled) = (None, None, false);
    let mut read = ConsulConfig {
        base: String::new(),
        service: "vault".to_owned(),
        tags: Vec::new(),
        service_address: None,
        token: None,
        check_timeout: CHECK_TIMEOUT,
        ca_file: None,
        client: None,
    };
    for item in &block.object.items {
        let Some(name) = item.keys.first() else { continue };
        let value = &item.value;
        match name.name.as_str() {
            "address" => address = Some(source.text("address", value)?).filter(|text| !text.is_empty()).or(address),
            "scheme" => scheme = Some(source.text("scheme", value)?),
            "service" => read.service = source.text("service", value)?,
            "service_tags" => {
                let tags = source.text("service_tags", value)?;
                read.tags = tags.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
            }
            "service_address" => read.service_address = Some(source.text("service_address", value)?),
            "token" => token = Some(Arc::new(SecretString::new(source.text("token", value)?))),
            "check_timeout" => {
                read.check_timeout = source.duration("check_timeout", value)?;
                if read.check_timeout < CHECK_TIMEOUT_MIN {
                    return Err(source.error(value.position, "`check_timeout` is at least two seconds"));
                }
            }
            "disable_registration" => is_disabled = source.flag("disable_registration", value)?,
            "tls_ca_file" => read.ca_file = Some(PathBuf::from(source.text("tls_ca_file", value)?)),
            "tls_cert_file" => certificate = Some(PathBuf::from(source.text("tls_cert_file", value)?)),
            "tls_key_file" => key = Some(PathBuf::from(source.text("tls_key_file", value)?)),
            "tls_skip_verify" => {
                if source.flag("tls_skip_verify", value)? {
                    let text = "`tls_skip_verify` is not available: name the authority by `tls_ca_file`";
                    return Err(source.error(value.position, text));
                }
            }
            "tls_min_version" => source.ignored("tls_min_version", name.position),
            unknown => source.unknown(unknown, name.position),
        }
    }
    if is_disabled {
        return Ok(None);
    }
    let named = address.unwrap_or_else(|| "127.0.0.1:8500".to_owned());
    read.base = match (named.contains("://"), scheme) {
        (true, _) => named,
        (false, scheme) => format!("{}://{named}", scheme.as_deref().unwrap_or("http")),
    };
    let wrong = || source.error(block.position, "`address` must be the host and port of an agent of Consul");
    let base = Base::parse(&read.base).ok_or_else(wrong)?;
    if token.is_some() && !base.is_private() {
        let text = "`token` would be sent in the clear: an agent on another machine needs `scheme = \"https\"`";
        return Err(source.error(block.position, text));
    }
    if read.service.is_empty() || !read.service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(source.error(block.position, "`service` has letters, digits and dashes"));
    }
    read.client = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => return Err(source.error(block.position, "`tls_cert_file` and `tls_key_file` go together")),
    };
    read.token = token;
    Ok(Some(read))
}

fn read_kubernetes(
    source: &mut Source<'_>,
    block: &Block<'_>,
    environment: Environment<'_>,
) -> Result<KubernetesConfig, ConfigError> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let (mut namespace, mut pod) = (None, None);
    let mut service_account = PathBuf::from(SERVICE_ACCOUNT);
    for item in &block.object.items {
        let Some(name) = item.keys.first() else { continue };
        let value = &item.value;
        match name.name.as_str() {
            "namespace" => namespace = Some(source.text("namespace", value)?),
            "pod_name" => pod = Some(source.text("pod_name", value)?),
            "service_account" => service_account = PathBuf::from(source.text("service_account", value)?),
            unknown => source.unknown(unknown, name.position),
        }
    }
    // As in the reference, what a pod is told of itself counts before the file that all pods share.
    let namespace = set("VAULT_K8S_NAMESPACE").or(namespace);
    let pod = set("VAULT_K8S_POD_NAME").or(pod);
    let named = |key: &str, variable: &str, value: Option<String>| {
        let is_name = |text: &String| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        };
        let text = format!("`{key}` (or {variable}) must name what Kubernetes calls this pod");
        value.filter(is_name).ok_or_else(|| source.error(block.position, text))
    };
    Ok(KubernetesConfig {
        namespace: named("namespace", "VAULT_K8S_NAMESPACE", namespace)?,
        pod: named("pod_name", "VAULT_K8S_POD_NAME", pod)?,
        service_account,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::parse;

    fn read(stanza: &str, environment: Environment<'_>) -> Result<Option<RegistrationConfig>, String> {
        let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{ tls_disable = true }}\n{stanza}");
        let parsed = parse(&[(PathBuf::from("a.hcl"), text)], environment);
        parsed.map(|config| config.registration).map_err(|error| error.to_string())
    }

    #[test]
    fn an_agent_of_consul_is_asked_in_private_or_without_a_token() {
        let consul = |keys: &str| read(&format!("service_registration \"consul\" {{\n{keys}\n}}"), &|_| None);
        let Some(RegistrationConfig::Consul(plain)) = consul("").unwrap() else { panic!("not consul") };
        assert_eq!((plain.base.as_str(), plain.service.as_str()), ("http://127.0.0.1:8500", "vault"));
        let far =
            "address = \"consul.example.com:8501\"\nscheme = \"https\"\ntoken = \"canary\"\nservice_tags = \"a, b\"";
        let Some(RegistrationConfig::Consul(far)) = consul(far).unwrap() else { panic!("not consul") };
        assert_eq!(
            (far.base.as_str(), far.tags.as_slice()),
            ("https://consul.example.com:8501", &["a".to_owned(), "b".to_owned()][..])
        );
        assert!(far.token.is_some() && !format!("{far:?}").contains("canary"));
        assert!(consul("disable_registration = \"true\"").unwrap().is_none());
        for (wrong, said) in [
            ("address = \"consul.example.com:8500\"\ntoken = \"canary\"", "sent in the clear"),
            ("address = \"http://user@host\"", "`address` must be"),
            ("check_timeout = \"500ms\"", "a.hcl:4:17: `check_timeout` is at least"),
            ("tls_skip_verify = \"true\"", "`tls_skip_verify` is not available"),
            ("tls_cert_file = \"x\"", "go together"),
            ("service = \"a/b\"", "`service` has letters"),
        ] {
            let refused = consul(wrong).unwrap_err();
            assert!(refused.contains(said) && !refused.contains("canary"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn a_pod_is_named_by_its_own_variables_before_the_file() {
        let stanza = "service_registration \"kubernetes\" {\n namespace = \"safe\"\n pod_name = \"vault-1\"\n}";
        let Some(RegistrationConfig::Kubernetes(read_of_file)) = read(stanza, &|_| None).unwrap() else {
            panic!("not kubernetes")
        };
        assert_eq!((read_of_file.namespace.as_str(), read_of_file.pod.as_str()), ("safe", "vault-1"));
        let own = |name: &str| (name == "VAULT_K8S_POD_NAME").then(|| "vault-2".to_owned());
        let Some(RegistrationConfig::Kubernetes(of_pod)) = read(stanza, &own).unwrap() else {
            panic!("not kubernetes")
        };
        assert_eq!((of_pod.namespace.as_str(), of_pod.pod.as_str()), ("safe", "vault-2"));
        for (wrong, said) in [
            ("service_registration \"kubernetes\" {}", "VAULT_K8S_NAMESPACE"),
            ("service_registration \"kubernetes\" {\n namespace = \"../x\"\n pod_name = \"y\"\n}", "`namespace`"),
            ("service_registration \"etcd\" {}", "`consul` and `kubernetes` are"),
        ] {
            let refused = read(wrong, &|_| None).unwrap_err();
            assert!(refused.contains(said), "{wrong}: {refused}");
        }
    }
}
