//! The store of a server: in memory, in a directory of its own, or as a node of a cluster.
//!
//! A node belongs to no cluster before its store is initialised, which founds one of it alone; so one that was never
//! initialised can still become another's. Which node it is follows from its key, and neither name nor address change
//! that. Deliberately absent: other nodes; none can be added yet.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use tresor_consensus::{Consensus, Contact, Nobody, NodeId, Opening, Pace, RaftStore};
use tresor_core::snapshots::schedule::OpenScratch;
use tresor_env::Doors;
use tresor_peers::{NodeKey, PublicKey};
use tresor_storage::{MemoryStore, Store};
use tresor_storage_file::{FileMachine, FileStore, LOG_DIRECTORY, Limits, LogElsewhere, Sizes};

use crate::config::{Directory, ServerConfig, Storage};

/// Where the log of a node lies within its directory.
const RAFT_DIRECTORY: &str = "raft";

/// A store that was opened.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// What it is agreed by, to be closed at the end.
    pub(crate) consensus: Option<Arc<Consensus>>,
}

impl Opened {
    pub(crate) async fn open(config: &ServerConfig, doors: &Doors) -> Result<Self, String> {
        match &config.storage {
            Storage::Memory => Ok(Self { store: Arc::new(MemoryStore::new()), consensus: None }),
            Storage::File(directory) => {
                refuse_other(doors, &directory.path, RAFT_DIRECTORY, ["file", "raft"])?;
                let store = FileStore::open(doors, &directory.path, limits(directory)).map_err(describe)?;
                Ok(Self { store: Arc::new(store), consensus: None })
            }
            Storage::Raft { directory, node_id } => {
                refuse_other(doors, &directory.path, LOG_DIRECTORY, ["raft", "file"])?;
                Self::open_node(doors, directory, node_id.as_deref(), config).await
            }
        }
    }

    async fn open_node(
        doors: &Doors,
        directory: &Directory,
        name: Option<&str>,
        config: &ServerConfig,
    ) -> Result<Self, String> {
        // First, because it holds the lock of the directory.
        let machine = FileMachine::open(doors, &directory.path, limits(directory)).map_err(describe)?;
        let key = NodeKey::open(&*doors.disk, &directory.path, &*doors.entropy).map_err(describe)?.public();
        let machine = machine.start(Arc::new(LogElsewhere)).map_err(describe)?;
        let me = node_id(&key);
        let address = config.cluster_address.as_deref().unwrap_or_default();
        let contact = Contact {
            name: name.map_or_else(|| me.to_string(), str::to_owned),
            address: address.trim_start_matches("https://").to_owned(),
            api_address: config.api_address.clone().unwrap_or_default(),
            key: key.bytes().to_vec(),
        };
        let opening = Opening {
            me,
            directory: directory.path.join(RAFT_DIRECTORY),
            sizes: Sizes::default(),
            pace: Pace::default(),
            is_sealed: true,
            survivors: Vec::new(),
        };
        let consensus = Consensus::open(doors, opening, Arc::new(machine), Arc::new(Nobody)).await.map_err(describe)?;
        let consensus = Arc::new(consensus);
        // What was acknowledged is to be seen before anybody asks.
        consensus.settled().await.map_err(describe)?;
        let store = RaftStore::new(Arc::clone(&consensus), contact);
        Ok(Self { store: Arc::new(store), consensus: Some(consensus) })
    }
}

/// What opens the stores that snapshots are restored into to see whether they can be: nobody's, whatever the storage is.
pub(crate) fn scratch(doors: &Doors) -> Arc<OpenScratch> {
    let doors = doors.clone();
    Arc::new(move |directory| Ok(Arc::new(FileStore::open(&doors, directory, Limits::default())?)))
}

/// Keys are evenly distributed, so the front of one tells nodes apart.
fn node_id(key: &PublicKey) -> NodeId {
    let mut front = [0; 8];
    front.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = *from);
    NodeId(u64::from_be_bytes(front))
}

fn limits(directory: &Directory) -> Limits {
    Limits { reserve_bytes: directory.free_space_min, ..Limits::default() }
}

/// Refuses a directory in which the other kind of storage has its log.
fn refuse_other(doors: &Doors, path: &Path, log: &str, [kind, other]: [&str; 2]) -> Result<(), String> {
    // Where there is no directory yet there is no log in it.
    let names = doors.disk.names(path).unwrap_or_default();
    if !names.iter().any(|name| name == log) {
        return Ok(());
    }
    Err(format!(
        "`{}` holds what storage \"{other}\" wrote, and is not opened as storage \"{kind}\": start with storage \
         \"{other}\", save a snapshot (`operator raft snapshot save`), and restore it into storage \"{kind}\" in an \
         empty directory (`operator raft snapshot restore -force`)",
        path.display()
    ))
}

fn describe(error: impl Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
