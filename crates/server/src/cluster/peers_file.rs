//! `peers.json`: who the members are, said by an operator on each node that is left, where too few are left to agree.
//!
//! It lies beside the log, is what the reference takes, and is obeyed once: then it has another name. Nodes keep their keys,
//! so each must have been a member. Deliberately absent: what it means (`tresor_consensus`).

use std::io;
use std::path::{Path, PathBuf};

use tresor_consensus::Survivor;
use tresor_env::Disk;
use tresor_env::disk::Open;
use tresor_model::{Body, Map};
use tresor_wire::json::{JsonError, JsonLimits, decode_value};

const FILE: &str = "peers.json";
/// Its name when it was obeyed.
const USED: &str = "peers.json.used";
/// More than any list of nodes takes.
const BYTES_MAX: u64 = 1 << 20;

/// Why the file is not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum PeersFileError {
    /// It cannot be read, or not be renamed.
    #[error("`{FILE}`: {0}")]
    Disk(#[from] io::Error),
    /// It is longer than a list of nodes.
    #[error("`{FILE}` is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// It is not JSON.
    #[error("`{FILE}`: {0}")]
    Json(#[from] JsonError),
    /// It is no list.
    #[error("`{FILE}` is not a list with a node at least")]
    NoList,
    /// A node is not spelled as one.
    #[error(
        "`{FILE}`: node {0} is not an object with `id` and `address` as texts, and perhaps `non_voter` as true or false"
    )]
    Node(usize),
}

/// The file of a node, if it is there.
pub(crate) struct PeersFile {
    directory: PathBuf,
    pub(crate) survivors: Vec<Survivor>,
}

impl PeersFile {
    /// Reads the one beside a log.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, PeersFileError> {
        let file = match disk.open(&directory.join(FILE), Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let length = file.length()?;
        let length = usize::try_from(length).ok().filter(|_| length <= BYTES_MAX).ok_or(PeersFileError::TooLong)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(0, &mut bytes)?;
        Ok(Some(Self { directory: directory.to_owned(), survivors: parse(&bytes)? }))
    }

    /// Gives it another name, once it was obeyed.
    pub(crate) fn put_away(self, disk: &dyn Disk) -> Result<(), PeersFileError> {
        let names: Vec<&str> = self.survivors.iter().map(|survivor| survivor.name.as_str()).collect();
        tracing::warn!(members = names.join(", "), "`{FILE}` says who the members are, and was obeyed");
        disk.rename(&self.directory.join(FILE), &self.directory.join(USED))?;
        Ok(disk.sync_directory(&self.directory)?)
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Survivor>, PeersFileError> {
    let list = decode_value(bytes, &JsonLimits::default())?;
    let nodes = list.as_list().filter(|nodes| !nodes.is_empty()).ok_or(PeersFileError::NoList)?;
    let numbered = (1..).zip(nodes);
    numbered.map(|(number, node)| survivor(node).ok_or(PeersFileError::Node(number))).collect()
}

fn survivor(node: &Body) -> Option<Survivor> {
    let node: &Map = node.as_map()?;
    let text = |name: &str| node.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let non_voter = match node.get("non_voter") {
        None | Some(Body::Null) => false,
        Some(said) => said.as_bool()?,
    };
    Some(Survivor { name: text("id")?, address: text("address")?, is_voter: !non_voter })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_format_is_the_reference_s() {
        let survivors = parse(
            br#"[ { "id": "a", "address": "10.0.0.1:8201" },
                  { "id": "b", "address": "b.example:8201", "non_voter": true },
                  { "id": "c", "address": "[::1]:8201", "non_voter": false } ]"#,
        );
        let node =
            |name: &str, address: &str, is_voter| Survivor { name: name.into(), address: address.into(), is_voter };
        let expected =
            [node("a", "10.0.0.1:8201", true), node("b", "b.example:8201", false), node("c", "[::1]:8201", true)];
        assert_eq!(survivors.unwrap(), expected);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_place() {
        for (text, error) in [
            ("[", "malformed"),
            ("[]", "not a list"),
            ("{}", "not a list"),
            (r#"[{"id":"a","address":"x"},{"id":"b"}]"#, "node 2"),
            (r#"[{"id":"","address":"x"}]"#, "node 1"),
            (r#"[{"id":"a","address":"x","non_voter":"no"}]"#, "node 1"),
            (r#"["a"]"#, "node 1"),
        ] {
            let refused = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains(error), "{text}: {refused}");
        }
    }
}
