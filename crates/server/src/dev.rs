//! `-dev`: a server that is ready at once and keeps nothing. Never for anything that matters.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::Node;
use tresor_crypto::shamir::Threshold;
use tresor_model::request::Connection;
use tresor_model::{Path, Request, Verb, map};
use tresor_secret::{TokenSecret, UnsealShare};

use crate::config::{JoinConfig, Listener, LogFormat, ServerConfig, Storage};
use crate::dev_cluster;
use crate::run::{Arguments, environment};

/// The configuration of a dev server.
pub(crate) fn config(arguments: &Arguments) -> Result<ServerConfig, String> {
    let text = arguments.dev_listen_address.as_deref().unwrap_or("127.0.0.1:8200");
    let address =
        crate::config::parse_listen_address(text).ok_or_else(|| format!("`{text}` is no address to listen on"))?;
    check_loopback(address, arguments)?;
    let mut listener = Listener::at(address);
    let storage = match arguments.dev_nodes {
        Some(_) => {
            listener.cluster_address = Some(dev_cluster::CLUSTER_PORT);
            dev_cluster::storage(1)
        }
        None => Storage::Memory,
    };
    let own = ServerConfig {
        storage,
        join: JoinConfig::default(),
        listeners: vec![listener],
        seal: None,
        kms_libraries: std::collections::BTreeMap::new(),
        initialize: tresor_profile::Profile::new(tresor_profile::Kind::Initialize),
        lockout: std::collections::BTreeMap::new(),
        snapshots: None,
        observations: None,
        telemetry: crate::config::TelemetryConfig::default(),
        registration: None,
        api_address: None,
        cluster_address: None,
        disable_clustering: false,
        disable_request_forwarding: false,
        open_to_shareholders: Vec::new(),
        cluster_name: String::new(),
        irrevocable_kept: None,
        default_lease_ttl: std::time::Duration::from_secs(768 * 3600),
        max_lease_ttl: std::time::Duration::from_secs(768 * 3600),
        administrative_namespace: String::new(),
        request_time_max: None,
        log_requests_level: None,
        log_level: "info".to_owned(),
        log_format: LogFormat::Standard,
        log_file: crate::config::LogFileConfig::default(),
        disable_mlock: true,
        ui: false,
        pid_file: None,
        audit_log: tresor_audit::LogOptions::default(),
        allow_audit_log_prefixing: false,
        audit_devices: Vec::new(),
        audit_by_api: true,
        public_workflows: false,
        raw_storage: false,
        introspection: false,
        shows_hostname: false,
        shows_node_id: false,
        warnings: Vec::new(),
    };
    if arguments.config.is_empty() { Ok(own) } else { beside(own, arguments) }
}

/// What a file says that gives way to what files say.
const FIRST: &str = "storage \"inmem\" {}\nlistener \"tcp\" {\n  tls_disable = true\n}\n";

/// What files say beside that. A dev server keeps nothing and opens by its own key whatever they say, and where they let it listen is
/// behind its own address.
fn beside(own: ServerConfig, arguments: &Arguments) -> Result<ServerConfig, String> {
    let first = vec![("-dev".into(), FIRST.to_owned())];
    let config =
        crate::config::load_behind(first, &arguments.config, &environment).map_err(|error| error.to_string())?;
    let configured = config.listeners.into_iter().skip(1).collect::<Vec<_>>();
    for address in configured.iter().filter_map(|listener| listener.place.tcp()) {
        check_loopback(address, arguments)?;
    }
    let is_cluster = arguments.dev_nodes.is_some();
    let ignored = [
        ("storage", !matches!(config.storage, Storage::Memory)),
        ("seal", config.seal.is_some()),
        ("initialize", !config.initialize.is_empty()),
        ("service_registration", config.registration.is_some()),
        ("retry_join", !config.join.leaders.is_empty()),
        ("api_addr", is_cluster && config.api_address.is_some()),
        ("cluster_addr", is_cluster && config.cluster_address.is_some()),
        ("disable_clustering", is_cluster && config.disable_clustering),
    ];
    let mut warnings = config.warnings;
    warnings.extend(
        ignored.iter().filter(|(_, is_said)| *is_said).map(|(key, _)| format!("`{key}` has no effect on a dev server")),
    );
    Ok(ServerConfig {
        storage: own.storage,
        join: own.join,
        listeners: own.listeners.into_iter().chain(configured).collect(),
        seal: own.seal,
        initialize: own.initialize,
        registration: own.registration,
        api_address: config.api_address.filter(|_| !is_cluster),
        cluster_address: config.cluster_address.filter(|_| !is_cluster),
        disable_clustering: config.disable_clustering && !is_cluster,
        disable_mlock: own.disable_mlock,
        warnings,
        ..config
    })
}

/// A dev server holds its only key in its output: other machines must not reach it by accident.
fn check_loopback(address: SocketAddr, arguments: &Arguments) -> Result<(), String> {
    if address.ip().to_canonical().is_loopback() || arguments.dev_allow_non_loopback {
        return Ok(());
    }
    Err(format!(
        "a dev server listens on loopback addresses only, and {address} is none; if you must, add -dev-allow-non-loopback"
    ))
}

/// What a dev server tells its user.
pub(crate) struct Ready {
    pub(crate) unseal_key: String,
    pub(crate) root_token: TokenSecret,
}

/// Initialises, unseals, and mounts KV at `secret/`.
pub(crate) async fn prepare(node: &Node, arguments: &Arguments) -> Result<Ready, String> {
    let wanted = arguments
        .dev_root_token_id
        .as_deref()
        .map(TokenSecret::parse)
        .transpose()
        .map_err(|error| error.to_string())?;
    let threshold = Threshold::new(1, 1).map_err(|error| error.to_string())?;
    let initialized = node.initialize(threshold, wanted).await.map_err(|fault| fault.to_string())?;
    let share = initialized.shares.first().ok_or("no unseal key was made")?;
    let share = share.expose();
    let unseal_key = STANDARD.encode(share);
    node.enter_share(UnsealShare::new(share.to_vec())).await.map_err(|fault| fault.to_string())?;
    let version = if arguments.dev_kv_v1 { "1" } else { "2" };
    let token = TokenSecret::parse(initialized.root_token.expose()).map_err(|error| error.to_string())?;
    let path = Path::from_decoded("sys/mounts/secret").map_err(|error| error.to_string())?;
    let connection = Connection::plain(std::net::Ipv4Addr::LOCALHOST.into(), 0);
    let request = Request {
        body: map! {
            "type" => "kv",
            "description" => "key/value secret storage",
            "options" => map! { "version" => version },
        },
        token: Some(token),
        ..Request::new(node.next_request_id(), Verb::Write, path, connection)
    };
    tresor_core::pipeline::serve(node, request).await.into_inner().map_err(|fault| fault.to_string())?;
    Ok(Ready { unseal_key, root_token: initialized.root_token })
}
