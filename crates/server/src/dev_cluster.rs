//! `-dev-three-node` and `-dev-ha`: a dev server whose store is that of a cluster, with two more nodes in the same process or
//! none.
//!
//! The nodes are what they would be on three machines: each has its listener, its cluster port, its directory and its keys, and
//! joins the first by the share that opens it. Deliberately absent: anything that outlives the process.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{Node, Settings};
use tresor_env::Doors;
use tresor_env::tasks::FINISH_BOUND;
use tresor_http::{RequestLog, Serve};
use tresor_model::{Body, map};
use tresor_secret::UnsealShare;

use crate::config::{CertificateSource, Directory, JoinConfig, LeaderConfig, Listener, Pem, ServerConfig, Storage};
use crate::dev::{self, Ready};
use crate::dev_directory::{self, STORES};
use crate::dev_tls::DevCertificates;
use crate::listen::{BoundListeners, Listeners};
use crate::logging::Log;
use crate::machine::Machine;
use crate::run::{Arguments, settings};
use crate::service::NodeService;
use crate::storage::{Opened, Others};

/// Where a node is reached by the others: they are on this machine.
pub(crate) const CLUSTER_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How long a node may take to hear of the first one, and how often that is looked at.
const HEARD_BOUND: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The store of one of them.
pub(crate) fn storage(number: usize) -> Storage {
    let name = format!("node-{number}");
    let free_space_min = tresor_storage_file::Limits::default().reserve_bytes;
    let directory = Directory { path: dev_directory::place(STORES).join(&name), free_space_min };
    Storage::Raft { directory, node_id: Some(name) }
}

/// Another node than the first.
pub(crate) struct Companion {
    address: String,
    node: Arc<Node>,
    others: Others,
    listeners: Listeners,
    service: Arc<NodeService>,
}

/// Starts the nodes that there are to be beside the first, which leads and serves, until all are open.
pub(crate) async fn start(
    first: &ServerConfig,
    arguments: &Arguments,
    listeners: &Listeners,
    ready: &Ready,
    log: &Arc<Log>,
    doors: &Doors,
) -> Result<Vec<Companion>, String> {
    let leader = addresses(first, listeners, &[]).into_iter().next().unwrap_or_default();
    let mut companions = Vec::new();
    for number in 2..=arguments.dev_nodes.unwrap_or(1) {
        let config = configured(first, arguments, listeners, &leader, number)?;
        companions.push(Companion::start(&config, arguments, ready, log, doors).await?);
    }
    Ok(companions)
}

/// One that listens at the next port, and is to join the first.
fn configured(
    first: &ServerConfig,
    arguments: &Arguments,
    listeners: &Listeners,
    leader: &str,
    number: usize,
) -> Result<ServerConfig, String> {
    let bound = listeners.places.first().and_then(|place| place.tcp()).ok_or("a dev server listens at a port")?;
    let own = first.listeners.first().ok_or("a dev server listens")?;
    let is_free = own.place.tcp().is_some_and(|address| address.port() == 0);
    let behind = u16::try_from(number - 1).ok().and_then(|behind| bound.port().checked_add(behind));
    let port = if is_free { 0 } else { behind.ok_or("there is no port for each node")? };
    let mut config = dev::config(arguments)?;
    let listener = Listener::at(SocketAddr::new(bound.ip(), port));
    config.listeners = vec![Listener { tls: own.tls.clone(), cluster_address: Some(CLUSTER_PORT), ..listener }];
    config.storage = storage(number);
    let authority = own.tls.as_ref().and_then(|tls| match &tls.source {
        CertificateSource::Files(files) => Some(Pem::File(DevCertificates::authority_beside(&files.certificate))),
        CertificateSource::Acme(_) => None,
    });
    let leader =
        LeaderConfig { api_address: leader.to_owned(), ca_certificate: authority, client: None, tls_server_name: None };
    config.join = JoinConfig { leaders: vec![leader], non_voter: false };
    Ok(config)
}

impl Companion {
    async fn start(
        config: &ServerConfig,
        arguments: &Arguments,
        ready: &Ready,
        log: &Arc<Log>,
        doors: &Doors,
    ) -> Result<Self, String> {
        let bound = BoundListeners::bind(&config.listeners, doors).await?;
        let Opened { store, others } = Opened::open(config, &bound.addresses(), doors).await?;
        let cluster = others.cluster(String::new());
        let settings =
            Settings { process: Arc::new(Machine::new(Arc::clone(log), config)), ..settings(config, arguments, doors) };
        let node = Node::start(store, cluster, doors.clone(), settings, tresor_builtin::registry())
            .map_err(|fault| fault.for_operators())?;
        node.join_by_itself();
        let service = Arc::new(NodeService::new(Arc::clone(&node)));
        let serve: Arc<dyn Serve> = Arc::<NodeService>::clone(&service);
        let listeners = bound.serve(&serve, doors, &[], &RequestLog::default());
        heard_of_cluster(&node, doors).await?;
        let share = STANDARD.decode(&ready.unseal_key).map_err(|error| error.to_string())?;
        node.enter_share(UnsealShare::new(share)).await.map_err(|fault| fault.to_string())?;
        let address = address_of(config, &listeners);
        Ok(Self { address, node, others, listeners, service })
    }

    /// Ends it; the first has ended.
    pub(crate) async fn stop(self, doors: &Doors) {
        self.listeners.drain().await;
        self.service.finish(doors.clock.sleep(FINISH_BOUND)).await;
        if let Err(fault) = self.node.seal().await {
            tracing::warn!(%fault, "a node could not be sealed at the end");
        }
        self.others.close().await;
    }
}

/// Waits until a node was shown what its share is to open.
async fn heard_of_cluster(node: &Node, doors: &Doors) -> Result<(), String> {
    let until = doors.clock.monotonic() + HEARD_BOUND;
    while !node.standing().map_err(|fault| fault.to_string())?.facts.initialized {
        if doors.clock.monotonic() >= until {
            return Err("a node did not reach the first one, as the log says".to_owned());
        }
        doors.clock.sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Where a dev server is asked, with the scheme.
fn address_of(config: &ServerConfig, listeners: &Listeners) -> String {
    let scheme = if config.listeners.iter().any(|listener| listener.tls.is_some()) { "https" } else { "http" };
    let place = listeners.places.first().map(ToString::to_string).unwrap_or_default();
    format!("{scheme}://{place}")
}

/// The addresses of all nodes, the first of them first.
pub(crate) fn addresses(config: &ServerConfig, listeners: &Listeners, companions: &[Companion]) -> Vec<String> {
    let mut all = vec![address_of(config, listeners)];
    all.extend(companions.iter().map(|companion| companion.address.clone()));
    all
}

/// Writes what programs need to use a dev server, for the owner of the file alone: the root token is in it.
pub(crate) fn write_definition(
    file: &Path,
    addresses: &[String],
    ready: &Ready,
    certificates: Option<&DevCertificates>,
) -> Result<(), String> {
    let nodes: Vec<Body> =
        addresses.iter().map(|address| Body::from(map! { "api_address" => address.as_str() })).collect();
    let authority = certificates.map(|certificates| certificates.authority.display().to_string());
    let definition = map! {
        "nodes" => nodes,
        "ca_cert_path" => authority.unwrap_or_default(),
        "root_token" => ready.root_token.expose(),
    };
    let mut bytes = Vec::new();
    tresor_wire::json::encode_map(&definition, &mut bytes);
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    let written = opened.and_then(|mut file| file.write_all(&bytes));
    written.map_err(|error| format!("-dev-cluster-json: {}: {error}", file.display()))
}
