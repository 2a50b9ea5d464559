//! `observations`: the ledger of what becomes of leases, tokens and mounts.
//!
//! Deliberately absent: the ledger (`crate::ledger`).

use std::path::PathBuf;

use tresor_hcl::Item;

use super::ConfigError;
use super::load::Source;

/// What an owner may do, and nobody else.
const MODE: u32 = 0o600;

/// What is configured of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationsConfig {
    /// The file.
    pub path: PathBuf,
    /// Beginnings of types that are left out.
    pub denied: Vec<String>,
    /// Beginnings of types that alone are taken; all when empty.
    pub allowed: Vec<String>,
    /// The permissions that the file is made with.
    pub mode: u32,
}

impl ObservationsConfig {
    /// Whether things of this type go into the ledger.
    pub(crate) fn wants(&self, kind: &str) -> bool {
        let begins = |with: &String| kind.starts_with(with.as_str());
        !self.denied.iter().any(begins) && (self.allowed.is_empty() || self.allowed.iter().any(begins))
    }
}

/// Reads the stanza.
pub(super) fn read_observations(source: &mut Source<'_>, stanza: &Item) -> Result<ObservationsConfig, ConfigError> {
    let object = stanza.value.as_object("observations").map_err(|error| source.wrong(&error))?;
    let mut read = ObservationsConfig { path: PathBuf::new(), denied: Vec::new(), allowed: Vec::new(), mode: MODE };
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        let value = &item.value;
        let list = || value.as_string_list(key.name.as_str()).map_err(|error| source.wrong(&error));
        match key.name.as_str() {
            "ledger_path" => read.path = PathBuf::from(source.text("ledger_path", value)?),
            "type_prefix_denylist" => read.denied = list()?,
            "type_prefix_allowlist" => read.allowed = list()?,
            "file_mode" => {
                let text = source.text("file_mode", value)?;
                let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
                read.mode = mode.ok_or_else(|| {
                    source.error(value.position, "`file_mode` is permissions as octal digits, such as \"0600\"")
                })?;
            }
            unknown => source.unknown(unknown, key.position),
        }
    }
    if read.path.as_os_str().is_empty() {
        return Err(source.error(stanza.value.position, "`observations` needs a `ledger_path`"));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(stanza: &str) -> Result<ServerConfig, ConfigError> {
        let text =
            format!("storage \"file\" {{ path = \"data\" }}\nlistener \"tcp\" {{ tls_disable = true }}\n{stanza}");
        parse(&[(PathBuf::from("a.hcl"), text)], &|_| None)
    }

    #[test]
    fn sys_30_the_ledger_is_read_as_the_reference_spells_it() {
        assert_eq!(read("").unwrap().observations, None);
        let config = read(
            "observations {\n ledger_path = \"/var/log/ledger\"\n type_prefix_denylist = [\"kv-v2/data\"]\n \
             type_prefix_allowlist = [\"kv-v2/\", \"lease/\"]\n file_mode = \"0640\"\n}",
        );
        let read_config = config.unwrap().observations.unwrap();
        assert_eq!((read_config.path.to_str().unwrap(), read_config.mode), ("/var/log/ledger", 0o640));
        for (kind, wanted) in
            [("kv-v2/data-write", false), ("kv-v2/config-write", true), ("lease/create", true), ("token/end", false)]
        {
            assert_eq!(read_config.wants(kind), wanted, "{kind}");
        }
        let all = read("observations { ledger_path = \"l\" }").unwrap().observations.unwrap();
        assert!(all.wants("token/create") && all.mode == 0o600);
        for (wrong, said) in [
            ("observations {}", "`observations` needs a `ledger_path`"),
            ("observations {\n ledger_path = \"l\"\n file_mode = \"rw\"\n}", "`file_mode` is permissions"),
            ("observations {\n ledger_path = \"l\"\n file_mode = \"7777\"\n}", "`file_mode` is permissions"),
        ] {
            assert!(read(wrong).unwrap_err().to_string().contains(said), "{wrong}");
        }
    }
}
