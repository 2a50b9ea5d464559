//! `storage`: where data is kept, and, for a node of a cluster, whom it joins.
//!
//! Deliberately absent: finding the others with a cloud's help (`auto_join`), which is refused.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_hcl::{Block, Object, Value, ValueKind};
use tresor_secret::SecretString;

use super::load::{Source, set};
use super::postgresql::read_postgresql;
use super::{ConfigError, Directory, Storage};

/// Whom a node joins, and as what.
#[derive(Clone, Debug, Default)]
pub struct JoinConfig {
    /// The nodes of the cluster, of which any may lead.
    pub leaders: Vec<LeaderConfig>,
    /// The node is never to vote.
    pub non_voter: bool,
}

/// A `retry_join` stanza: a node of the cluster.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// Its API, with scheme.
    pub api_address: String,
    /// The authorities that its certificate may be of; those of the system when there are none.
    pub ca_certificate: Option<Pem<String>>,
    /// The certificate that is shown to it, with its key.
    pub client: Option<(Pem<String>, Pem<Arc<SecretString>>)>,
    /// The name that its certificate is to have.
    pub tls_server_name: Option<String>,
}

/// Certificates or a key.
#[derive(Clone)]
pub enum Pem<T> {
    /// In a file, which is read whenever it is needed.
    File(PathBuf),
    /// In the configuration.
    Text(T),
}

impl<T> Pem<T> {
    fn new(name: &str, text: String, own: impl FnOnce(String) -> T) -> Self {
        if name.ends_with("_file") { Self::File(PathBuf::from(text)) } else { Self::Text(own(text)) }
    }

    /// The file that they are in.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }
}

impl<T> fmt::Debug for Pem<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("the configuration"),
        }
    }
}

/// Reads a `storage` stanza.
pub(super) fn read_storage(source: &mut Source<'_>, block: &Block<'_>) -> Result<(Storage, JoinConfig), ConfigError> {
    let (kind, known): (&'static str, &[&str]) = match block.labels.as_slice() {
        ["inmem"] => return Ok((Storage::Memory, JoinConfig::default())),
        ["raft"] => (
            "raft",
            &[
                "performance_multiplier",
                "trailing_logs",
                "snapshot_threshold",
                "snapshot_interval",
                "max_entry_size",
                "autopilot_reconcile_interval",
                "autopilot_update_interval",
                "max_transaction_size",
            ],
        ),
        ["file"] => ("file", &[]),
        ["postgresql"] => {
            let config = read_postgresql(source, block)?;
            return Ok((Storage::Postgresql(config), JoinConfig::default()));
        }
        [other] => {
            return Err(source.error(
                block.position,
                format!("storage `{other}` is not available: `raft`, `file`, `postgresql` and `inmem` are"),
            ));
        }
        _ => return Err(source.error(block.position, "`storage` takes one type")),
    };
    let (mut path, mut node_id, mut join) = (None, None, JoinConfig::default());
    let mut free_space_min = tresor_storage_file::Limits::default().reserve_bytes;
    for item in &block.object.items {
        let Some(key) = item.keys.first() else { continue };
        match key.name.as_str() {
            "path" => path = Some(source.text("path", &item.value)?),
            "node_id" if kind == "raft" => node_id = Some(read_node_id(source, &item.value)?),
            "free_space_min" => {
                let bytes = source.text("free_space_min", &item.value)?.parse().ok();
                free_space_min = bytes.ok_or_else(|| {
                    source.error(item.value.position, "`free_space_min` is a number of bytes; 0 is no limit")
                })?;
            }
            "retry_join" if kind == "raft" => join.leaders.extend(read_leaders(source, &item.value)?),
            "retry_join_as_non_voter" if kind == "raft" => {
                join.non_voter = source.flag("retry_join_as_non_voter", &item.value)?;
            }
            name if known.contains(&name) => {
                if !matches!(item.value.kind, ValueKind::String(_) | ValueKind::Integer(_)) {
                    return Err(source.error(item.value.position, format!("`{name}` must be a string or a number")));
                }
            }
            unknown => source.unknown(unknown, key.position),
        }
    }
    let directory = Directory { path: PathBuf::from(set(path).unwrap_or_default()), free_space_min };
    if kind == "raft" {
        // Its path may come from the environment.
        return Ok((Storage::Raft { directory, node_id: set(node_id) }, join));
    }
    if directory.path.as_os_str().is_empty() {
        return Err(source.error(block.position, "storage `file` needs a `path`"));
    }
    Ok((Storage::File(directory), join))
}

/// The longest name of a node.
const NODE_ID_BYTES_MAX: usize = 256;

fn read_node_id(source: &Source<'_>, value: &Value) -> Result<String, ConfigError> {
    let text = source.text("node_id", value)?;
    if text.len() > NODE_ID_BYTES_MAX || text.chars().any(char::is_control) {
        let what = format!("`node_id` has at most {NODE_ID_BYTES_MAX} bytes, and no control characters");
        return Err(source.error(value.position, what));
    }
    Ok(text)
}

/// Reads `retry_join`: one stanza, or a list of them as JSON has it.
fn read_leaders(source: &mut Source<'_>, value: &Value) -> Result<Vec<LeaderConfig>, ConfigError> {
    if let ValueKind::List(values) = &value.kind {
        return values
            .iter()
            .map(|value| read_leaders(source, value))
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.concat());
    }
    let object = value.as_object("retry_join").map_err(|error| source.wrong(&error))?;
    read_leader(source, object, value).map(|leader| vec![leader])
}

fn read_leader(source: &mut Source<'_>, object: &Object, at: &Value) -> Result<LeaderConfig, ConfigError> {
    let (mut api_address, mut tls_server_name) = (None, None);
    let (mut authority, mut certificate, mut client_key) = (None, None, None);
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        let name = key.name.as_str();
        if name.starts_with("auto_join") {
            let text = format!("`{name}` is not available: name nodes by `leader_api_addr`");
            return Err(source.error(key.position, text));
        }
        let text = |source: &Source<'_>| source.text(name, &item.value).map(|text| set(Some(text)));
        let is_twice = match name {
            "leader_api_addr" => {
                api_address = text(source)?;
                false
            }
            "leader_tls_servername" => {
                tls_server_name = text(source)?;
                false
            }
            "leader_ca_cert" | "leader_ca_cert_file" => {
                let given = text(source)?.map(|text| Pem::new(name, text, |text| text));
                given.is_some_and(|given| authority.replace(given).is_some())
            }
            "leader_client_cert" | "leader_client_cert_file" => {
                let given = text(source)?.map(|text| Pem::new(name, text, |text| text));
                given.is_some_and(|given| certificate.replace(given).is_some())
            }
            "leader_client_key" | "leader_client_key_file" => {
                let given = text(source)?.map(|text| Pem::new(name, text, |text| Arc::new(SecretString::new(text))));
                given.is_some_and(|given| client_key.replace(given).is_some())
            }
            unknown => {
                source.unknown(unknown, key.position);
                false
            }
        };
        if is_twice {
            let text = format!("`{name}` is given twice, in the configuration and by a file");
            return Err(source.error(key.position, text));
        }
    }
    let api_address = api_address.filter(|address| address.contains("://"));
    let needed = "`retry_join` needs a `leader_api_addr` with its scheme, such as \"https://a.example:8200\"";
    let api_address = api_address.ok_or_else(|| source.error(at.position, needed))?;
    let client = match (certificate, client_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => return Err(source.error(at.position, "`leader_client_cert` and `leader_client_key` go together")),
    };
    Ok(LeaderConfig { api_address, ca_certificate: authority, client, tls_server_name })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(stanzas: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<ServerConfig, String> {
        let text = format!(
            "storage \"raft\" {{\n path = \"data\"\n{stanzas}\n}}\nlistener \"tcp\" {{ tls_disable = true }}\n"
        );
        parse(&[(PathBuf::from("a.hcl"), text)], environment).map_err(|error| error.to_string())
    }

    #[test]
    fn a_node_joins_whom_it_is_told() {
        let none = read("", &|_| None).unwrap().join;
        assert!(none.leaders.is_empty() && !none.non_voter);
        let two = read(
            "retry_join {\n leader_api_addr = \"https://a:8200\"\n leader_ca_cert_file = \"/ca.pem\"\n\
             leader_client_cert = \"CERT\"\n leader_client_key_file = \"/key.pem\"\n\
             leader_tls_servername = \"vault\"\n}\nretry_join {\n leader_api_addr = \"http://b:8200\"\n}\n\
             retry_join_as_non_voter = true",
            &|_| None,
        );
        let JoinConfig { leaders, non_voter } = two.unwrap().join;
        assert!(non_voter);
        let shown: Vec<String> = leaders.iter().map(|leader| format!("{leader:?}")).collect();
        assert!(shown[0].contains("https://a:8200") && shown[0].contains("/ca.pem") && shown[0].contains("/key.pem"));
        assert!(shown[0].contains("vault") && !shown[0].contains("CERT"), "what is given itself is not shown");
        assert!(shown[1].contains("http://b:8200") && leaders[1].client.is_none());
        let variable = |value: &'static str| {
            move |name: &str| (name == "VAULT_RAFT_RETRY_JOIN_AS_NON_VOTER").then(|| value.to_owned())
        };
        assert!(read("", &variable("true")).unwrap().join.non_voter);
        assert!(!read("retry_join_as_non_voter = true", &variable("false")).unwrap().join.non_voter);
        assert!(read("", &variable("perhaps")).is_err());
    }

    #[test]
    fn a_list_as_json_has_it_is_as_good() {
        let text = r#"{"storage": {"raft": {"path": "data", "retry_join": [
            {"leader_api_addr": "https://a:8200"}, {"leader_api_addr": "https://b:8200"}]}},
            "listener": {"tcp": {"tls_disable": true}}}"#;
        let config = parse(&[(PathBuf::from("a.json"), text.to_owned())], &|_| None).unwrap();
        let addresses: Vec<&str> = config.join.leaders.iter().map(|leader| leader.api_address.as_str()).collect();
        assert_eq!(addresses, ["https://a:8200", "https://b:8200"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (stanza, text) in [
            ("auto_join = \"provider=aws\"", "`auto_join` is not available"),
            ("auto_join_port = 8200", "`auto_join_port` is not available"),
            ("leader_api_addr = \"a:8200\"", "with its scheme"),
            ("", "needs a `leader_api_addr`"),
            ("leader_api_addr = \"https://a\"\n leader_client_cert = \"x\"", "go together"),
            ("leader_api_addr = \"https://a\"\n leader_ca_cert = \"x\"\n leader_ca_cert_file = \"y\"", "given twice"),
        ] {
            let error = read(&format!("retry_join {{\n {stanza}\n}}"), &|_| None).err().unwrap();
            assert!(error.contains(text) && error.starts_with("a.hcl:"), "{error}");
        }
    }
}
