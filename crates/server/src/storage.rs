//! The store of a server: in memory, in a directory of its own, as a node of a cluster, or in a table of PostgreSQL, alone or
//! shared with others.
//!
//! A node belongs to no cluster before its store is initialised, which founds one of it alone; so one that was never
//! initialised can still become another's. Deliberately absent: the other nodes ([`cluster`](crate::cluster),
//! [`sharing`](crate::sharing)).

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_core::cluster::{Alone, Cluster};
use tresor_core::snapshots::schedule::OpenScratch;
use tresor_env::Doors;
use tresor_storage::{Machine, MemoryStore, Store};
use tresor_storage_file::{FileMachine, FileStore, LOG_DIRECTORY, Limits, LogElsewhere};

use crate::cluster::{NodeOpening, Nodes, RAFT_DIRECTORY, advertised, reachable};
use crate::config::{Directory, PostgresqlConfig, ServerConfig, Storage};
use crate::postgresql;
use crate::sharing::{Sharing, SharingOpening};

/// A store that was opened.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// To be closed at the end.
    pub(crate) others: Others,
}

/// This node among others.
#[derive(Clone)]
pub(crate) enum Others {
    /// There are none.
    Nobody,
    /// They agree on a log.
    Agreeing(Arc<Nodes>),
    /// They share a store.
    Sharing(Arc<Sharing>),
}

impl Others {
    /// The core's door to them, of a node whose API is reached there.
    pub(crate) fn cluster(&self, api_address: String) -> Arc<dyn Cluster> {
        match self {
            Self::Nobody => Arc::new(Alone { api_address }),
            Self::Agreeing(nodes) => Arc::<Nodes>::clone(nodes),
            Self::Sharing(sharing) => Arc::<Sharing>::clone(sharing),
        }
    }

    /// This node among those that agree with it.
    pub(crate) fn agreeing(&self) -> Option<&Nodes> {
        match self {
            Self::Agreeing(nodes) => Some(nodes),
            Self::Nobody | Self::Sharing(_) => None,
        }
    }

    /// Host and port of this node's cluster port; nothing without one.
    pub(crate) fn cluster_address(&self) -> Option<&str> {
        let address = match self {
            Self::Nobody => None,
            Self::Agreeing(nodes) => Some(&nodes.contact().address),
            Self::Sharing(sharing) => Some(&sharing.contact().cluster_address),
        };
        address.map(String::as_str).filter(|address| !address.is_empty())
    }

    /// Lets another node lead, if this one does.
    pub(crate) async fn leave(&self) {
        match self {
            Self::Nobody => {}
            Self::Agreeing(nodes) => nodes.leave().await,
            Self::Sharing(sharing) => sharing.leave().await,
        }
    }

    /// Ends everything that this node does among others.
    pub(crate) async fn close(&self) {
        match self {
            Self::Nobody => {}
            Self::Agreeing(nodes) => nodes.close().await,
            Self::Sharing(sharing) => sharing.close().await,
        }
    }
}

impl Opened {
    /// Opens what is configured, for a server whose API listens on these addresses.
    pub(crate) async fn open(config: &ServerConfig, api: &[SocketAddr], doors: &Doors) -> Result<Self, String> {
        match &config.storage {
            Storage::Raft { directory, node_id } => {
                let machine = machine(directory, doors)?;
                let opening = opening(config, directory, node_id.as_deref(), api)?;
                let nodes = Nodes::open(doors, opening, machine).await.map_err(describe)?;
                Ok(Self { store: Arc::new(nodes.store()), others: Others::Agreeing(nodes) })
            }
            Storage::Postgresql(shared) if shared.lock.is_some() => Self::shared(config, shared, api, doors).await,
            alone => Self::plain(alone, doors).await,
        }
    }

    /// Opens what is configured for a server that is to have it to itself.
    pub(crate) async fn to_itself(config: &ServerConfig, api: &[SocketAddr], doors: &Doors) -> Result<Self, String> {
        match &config.storage {
            Storage::Raft { .. } => Self::open(config, api, doors).await,
            alone => Self::plain(alone, doors).await,
        }
    }

    /// Opens a store that several nodes share.
    async fn shared(
        config: &ServerConfig,
        shared: &PostgresqlConfig,
        api: &[SocketAddr],
        doors: &Doors,
    ) -> Result<Self, String> {
        let nowhere = Directory { path: PathBuf::new(), free_space_min: 0 };
        let NodeOpening { listen, address, api_address, .. } = opening(config, &nowhere, None, api)?;
        let listen =
            listen.ok_or("`ha_enabled` needs a listener at a port, behind which other nodes reach this one")?;
        if address.is_none() && listen.ip().is_unspecified() {
            return Err(
                "`ha_enabled` needs `cluster_addr`, since the cluster port listens on every address: an address \
                        that the other nodes reach, such as \"https://10.0.0.1:8201\" (or VAULT_CLUSTER_ADDR)"
                    .to_owned(),
            );
        }
        say_unverified(shared);
        let store = postgresql::open(shared, doors).await?;
        let opening = SharingOpening { listen, address, api_address };
        let sharing = Sharing::open(doors, opening, Arc::clone(&store)).await.map_err(describe)?;
        Ok(Self { store, others: Others::Sharing(sharing) })
    }

    /// Opens a store that no other node agrees on. A node of a cluster by itself is opened with the others in mind.
    pub(crate) async fn plain(storage: &Storage, doors: &Doors) -> Result<Self, String> {
        let store: Arc<dyn Store> = match storage {
            Storage::Memory => Arc::new(MemoryStore::new()),
            Storage::File(directory) => {
                refuse_other(doors, &directory.path, RAFT_DIRECTORY, ["file", "raft"])?;
                Arc::new(FileStore::open(doors, &directory.path, limits(directory)).map_err(describe)?)
            }
            Storage::Postgresql(config) => {
                say_unverified(config);
                postgresql::open(&PostgresqlConfig { lock: None, ..config.clone() }, doors).await?
            }
            Storage::Raft { .. } => return Err("storage \"raft\" is a node of a cluster".to_owned()),
        };
        Ok(Self { store, others: Others::Nobody })
    }

    /// Ends what was opened, when nobody uses it any more.
    pub(crate) async fn close(self) {
        self.others.close().await;
    }
}

fn say_unverified(config: &PostgresqlConfig) {
    if !postgresql::is_verified(config) {
        tracing::warn!(
            "nobody verifies that the store's server is the one that is meant: say sslmode=verify-full and sslrootcert in \
             `connection_url`"
        );
    }
}

/// The machine of a node of a cluster. It is opened first, because it holds the lock of the directory.
pub(crate) fn machine(directory: &Directory, doors: &Doors) -> Result<Arc<dyn Machine>, String> {
    refuse_other(doors, &directory.path, LOG_DIRECTORY, ["raft", "file"])?;
    let machine = FileMachine::open(doors, &directory.path, limits(directory)).map_err(describe)?;
    Ok(Arc::new(machine.start(Arc::new(LogElsewhere)).map_err(describe)?))
}

/// How a node is opened whose API listens on these addresses. Where nothing else is configured it is reached by the other
/// nodes at the port behind the first of them.
pub(crate) fn opening(
    config: &ServerConfig,
    directory: &Directory,
    name: Option<&str>,
    api: &[SocketAddr],
) -> Result<NodeOpening, String> {
    let listener = config.listeners.iter().find(|listener| listener.place.tcp().is_some());
    let listen = match listener.and_then(|listener| listener.cluster_address) {
        _ if config.disable_clustering => None,
        Some(address) => Some(address),
        None => match (listener, api.first()) {
            // A port that is chosen freely has none behind it that is known to be free.
            (Some(listener), Some(real)) if listener.place.tcp().is_some_and(|address| address.port() == 0) => {
                Some(SocketAddr::new(real.ip(), 0))
            }
            (_, Some(real)) => Some(behind(*real)?),
            (_, None) => None,
        },
    };
    let address = config.cluster_address.as_deref().map(advertised).transpose();
    let address = address.map_err(|error| format!("cluster_addr: {error}"))?;
    let is_everywhere = |listen: &SocketAddr| listen.ip().is_unspecified();
    let address = match (address, listen.filter(is_everywhere)) {
        (None, Some(everywhere)) => beside_api(config, everywhere),
        (address, _) => address,
    };
    if address.is_none() && listen.as_ref().is_some_and(is_everywhere) {
        let unreachable = "`cluster_addr` is not set, and the cluster port listens on every address";
        if !config.join.leaders.is_empty() {
            return Err(format!(
                "{unreachable}: the nodes of `retry_join` could not reach this one. Set `cluster_addr` to an address that \
                 they reach, such as \"https://10.0.0.1:8201\" (or VAULT_CLUSTER_ADDR)"
            ));
        }
        tracing::warn!(
            "{unreachable}: no other node can join this one before it is set to an address that others reach"
        );
    }
    Ok(NodeOpening {
        directory: directory.path.clone(),
        name: name.map(str::to_owned),
        listen,
        address,
        api_address: api_address(config, api),
    })
}

/// Where others are told to reach an API that listens on these addresses; empty when nobody can know.
pub(crate) fn api_address(config: &ServerConfig, api: &[SocketAddr]) -> String {
    let listener = config.listeners.iter().find(|listener| listener.place.tcp().is_some());
    let scheme = if listener.is_some_and(|listener| listener.tls.is_some()) { "https" } else { "http" };
    let first = || Some(format!("{scheme}://{}", reachable(*api.first()?)?));
    config.api_address.clone().or_else(first).unwrap_or_default()
}

/// Where a cluster port that listens everywhere is reached, if the operator has said where the API is: on the same host.
fn beside_api(config: &ServerConfig, listen: SocketAddr) -> Option<String> {
    let (_, authority) = config.api_address.as_deref()?.split_once("://")?;
    let authority = authority.split('/').next()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    (listen.port() > 0).then(|| advertised(&format!("{host}:{}", listen.port())).ok())?
}

fn behind(api: SocketAddr) -> Result<SocketAddr, String> {
    let port = api.port().checked_add(1);
    let port = port.ok_or("the cluster port would lie behind port 65535: set the listener's `cluster_address`")?;
    Ok(SocketAddr::new(api.ip(), port))
}

/// What opens the stores that snapshots are restored into to see whether they can be: nobody's, whatever the storage is.
pub(crate) fn scratch(doors: &Doors) -> Arc<OpenScratch> {
    let doors = doors.clone();
    Arc::new(move |directory| Ok(Arc::new(FileStore::open(&doors, directory, Limits::default())?)))
}

fn limits(directory: &Directory) -> Limits {
    Limits { reserve_bytes: directory.free_space_min, ..Limits::default() }
}

/// Refuses a directory in which the other kind of storage has its log.
pub(crate) fn refuse_other(doors: &Doors, path: &Path, log: &str, [kind, other]: [&str; 2]) -> Result<(), String> {
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

pub(crate) fn describe<E: Error>(error: E) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config;

    /// What a node of a cluster tells of where it is, whose listener has this address and that has these settings more.
    fn told(listener: &str, more: &str, joins: &str) -> Result<Option<String>, String> {
        let text = format!(
            "storage \"raft\" {{\n path = \"data\"\n{joins}\n}}\nlistener \"tcp\" {{\n address = \"{listener}\"\n \
             tls_disable = true\n}}\n{more}\n"
        );
        let config = config::parse(&[("a.hcl".into(), text)], &|_| None).unwrap();
        let Storage::Raft { directory, .. } = &config.storage else { panic!("it is raft") };
        let bound = config.listeners[0].place.tcp().unwrap();
        opening(&config, directory, None, &[bound]).map(|opening| opening.address)
    }

    const JOINS: &str = "retry_join {\n leader_api_addr = \"https://a:8200\"\n}";

    #[test]
    fn a_node_that_listens_everywhere_is_reached_beside_its_api() {
        for (more, address) in [
            ("api_addr = \"https://vault-0.internal:8200\"", Some("vault-0.internal:8201")),
            ("api_addr = \"https://vault-0.internal\"", Some("vault-0.internal:8201")),
            ("api_addr = \"http://10.0.0.1:443/\"", Some("10.0.0.1:8201")),
            ("api_addr = \"https://[2001:db8::1]:8200\"", Some("[2001:db8::1]:8201")),
            ("api_addr = \"https://[2001:db8::1]\"", Some("[2001:db8::1]:8201")),
            ("api_addr = \"https://10.0.0.1:8200\"\ncluster_addr = \"https://10.0.0.9:9000\"", Some("10.0.0.9:9000")),
            ("api_addr = \"https://0.0.0.0:8200\"", None),
            ("", None),
        ] {
            let told = |joins: &str| told("0.0.0.0:8200", more, joins);
            assert_eq!(told("").unwrap().as_deref(), address, "{more}");
            // Who is to join others must be reached by them.
            assert_eq!(told(JOINS).ok().flatten().as_deref(), address, "{more}");
            assert!(address.is_some() || told(JOINS).unwrap_err().contains("`cluster_addr`"), "{more}");
        }
        assert_eq!(
            told("10.0.0.1:8200", "api_addr = \"https://b\"", JOINS).unwrap(),
            None,
            "it knows where it listens"
        );
    }
}
