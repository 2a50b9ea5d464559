//! The file of `operator migrate`: from which storage to which.
//!
//! Deliberately absent: everything else that a server's file has.

use std::path::{Path, PathBuf};

use tresor_hcl::Object;

use super::load::{Source, complete};
use super::storage::read_storage;
use super::{ConfigError, Storage};

/// What is copied where to.
#[derive(Clone, Debug)]
pub struct MigrationConfig {
    /// `storage_source`.
    pub source: Storage,
    /// `storage_destination`.
    pub destination: Storage,
    /// `cluster_addr`: where a node of a cluster that is founded is reached.
    pub cluster_address: Option<String>,
    /// Hints for the operator.
    pub warnings: Vec<String>,
}

/// Reads it.
///
/// # Errors
/// [`ConfigError`].
pub fn load_migration(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<MigrationConfig, ConfigError> {
    let text = std::fs::read_to_string(path);
    let cannot = |error| ConfigError { file: path.into(), position: None, text: format!("cannot be read: {error}") };
    parse_migration(path, &text.map_err(cannot)?, environment)
}

fn parse_migration(
    path: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<MigrationConfig, ConfigError> {
    let document = tresor_hcl::parse(text).map_err(|error| ConfigError {
        file: path.to_path_buf(),
        position: Some(error.position),
        text: error.problem.to_string(),
    })?;
    let mut warnings = Vec::new();
    let mut source = Source { file: PathBuf::from(path), warnings: &mut warnings };
    let mut read = |key| one_storage(&mut source, &document, key, environment);
    let (from, to) = (read("storage_source")?, read("storage_destination")?);
    let mut cluster_address = None;
    for item in &document.items {
        let Some(key) = item.keys.first() else { continue };
        match key.name.as_str() {
            "storage_source" | "storage_destination" => {}
            "cluster_addr" => cluster_address = Some(source.address("cluster_addr", &item.value)?),
            unknown => source.unknown(unknown, key.position),
        }
    }
    Ok(MigrationConfig { source: from, destination: to, cluster_address, warnings })
}

/// The one stanza with a name. What it does not say itself, the environment says.
fn one_storage(
    source: &mut Source<'_>,
    document: &Object,
    key: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Storage, ConfigError> {
    let blocks = document.labelled_blocks(key).map_err(|error| source.wrong(&error))?;
    let missing = |text: String| ConfigError { file: source.file.clone(), position: None, text };
    let [block] = blocks.as_slice() else { return Err(missing(format!("exactly one `{key}` stanza is needed"))) };
    let (mut storage, join) = read_storage(source, block)?;
    if storage == Storage::Memory {
        return Err(source.error(block.position, format!("`{key}`: storage `inmem` is gone with its process")));
    }
    if !join.leaders.is_empty() {
        source.warnings.push(format!("`retry_join` in `{key}` has no effect: a node is opened by itself"));
    }
    let unsaid = |name: &str| if storage_says_it(&storage) { None } else { environment(name) };
    let url = unsaid("VAULT_PG_CONNECTION_URL");
    let path = unsaid("VAULT_RAFT_PATH");
    complete(&mut storage, url, path, None).map_err(|text| source.error(block.position, format!("`{key}`: {text}")))?;
    Ok(storage)
}

fn storage_says_it(storage: &Storage) -> bool {
    match storage {
        Storage::Memory | Storage::File(_) => true,
        Storage::Raft { directory, .. } => !directory.path.as_os_str().is_empty(),
        Storage::Postgresql(config) => !config.url.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<MigrationConfig, String> {
        let environment = |name: &str| match name {
            "VAULT_RAFT_PATH" => Some("/raft".to_owned()),
            "VAULT_PG_CONNECTION_URL" => Some("postgres://u@of-the-environment/x".to_owned()),
            _ => None,
        };
        parse_migration(Path::new("migrate.hcl"), text, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn each_side_is_what_its_stanza_says_and_else_the_environment() {
        let config = read(
            "storage_source \"file\" {\n path = \"/a\"\n}\nstorage_destination \"raft\" {\n path = \"/b\"\n node_id = \"n\"\n}\n\
             cluster_addr = \"https://10.0.0.1:8201\"\n",
        );
        let config = config.unwrap();
        assert_eq!((config.source.kind(), config.destination.kind()), ("file", "raft"));
        assert_eq!(config.destination.path(), Some(Path::new("/b")));
        assert_eq!(config.cluster_address.as_deref(), Some("https://10.0.0.1:8201"));
        let config = read("storage_source \"raft\" {}\nstorage_destination \"postgresql\" {}\nlistener = 1\n").unwrap();
        assert_eq!(config.source.path(), Some(Path::new("/raft")));
        let Storage::Postgresql(postgresql) = &config.destination else { panic!("it is postgresql") };
        assert_eq!(postgresql.url.dsn().unwrap().user(), "u");
        assert!(config.warnings.iter().any(|warning| warning.contains("`listener`")), "{:?}", config.warnings);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, part) in [
            ("storage_source \"file\" {\n path = \"/a\"\n}\n", "exactly one `storage_destination` stanza is needed"),
            ("storage_source \"inmem\" {}\nstorage_destination \"raft\" {}\n", "gone with its process"),
            ("storage_source \"consul\" {}\nstorage_destination \"raft\" {}\n", "storage `consul` is not available"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
