//! From arguments to a running server, and back to an exit code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tresor_core::audits::DeclaredDevices;
use tresor_core::snapshots::schedule::Schedule;
use tresor_core::{Augmentation, AutoKey, AutoSeal, Elsewhere, Node, Settings};
use tresor_env::tasks::FINISH_BOUND;
use tresor_env::{Doors, Tasks};
use tresor_http::RequestLog;
use tresor_secret::TokenSecret;

use crate::auditing;
use crate::cluster::Nodes;
use crate::config::{self, CertificateSource, LogFormat, Pem, SealConfig, ServerConfig, SnapshotsConfig};
use crate::custody::Keepers;
use crate::dev;
use crate::dev_cluster;
use crate::dev_directory::{self, DevDirectory};
use crate::dev_tls::{self, DevCertificates};
use crate::joining::joining;
use crate::ledger::Ledger;
use crate::listen::{BoundListeners, Listeners};
use crate::log_file::LogFile;
use crate::logging::{self, Log};
use crate::machine::Machine;
use crate::outgoing::Https;
use crate::process::{PidFile, forbid_core_dumps, lock_memory};
use crate::recovery;
use crate::registration::Registration;
use crate::self_init;
use crate::service::NodeService;
use crate::storage::{self, Opened};
use crate::{idle, key_services, telemetry, traces};

/// What `tresor server` was called with.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// Configuration files and directories.
    pub config: Vec<PathBuf>,
    /// A dev server instead.
    pub dev: bool,
    /// The root token of a dev server.
    pub dev_root_token_id: Option<String>,
    /// Where a dev server listens.
    pub dev_listen_address: Option<String>,
    /// Do not store a dev server's token for the CLI.
    pub dev_no_store_token: bool,
    /// TLS for a dev server.
    pub dev_tls: bool,
    /// Where the certificates of a dev server go; a directory of their own when absent.
    pub dev_tls_cert_dir: Option<PathBuf>,
    /// How many nodes a dev server has where its store is that of a cluster; otherwise it is one, in memory.
    pub dev_nodes: Option<usize>,
    /// Where the addresses and the root token of a dev server are written.
    pub dev_cluster_json: Option<PathBuf>,
    /// KV version 1 at `secret/`.
    pub dev_kv_v1: bool,
    /// Let a dev server listen where other machines reach it.
    pub dev_allow_non_loopback: bool,
    /// Serve nothing but what is stored, for repairs.
    pub recovery: bool,
    /// End when the node serves no more by itself.
    pub exit_on_core_shutdown: bool,
    /// Names of experiments.
    pub experiments: Vec<String>,
    /// Overrides the configured level.
    pub log_level: Option<String>,
    /// Overrides the configured format.
    pub log_format: Option<String>,
    /// Overrides what is configured of the log as a file, by key.
    pub log_file: Vec<(String, String)>,
}

/// Stores a dev server's token where the CLI finds it.
pub(crate) type StoreToken<'a> = &'a dyn Fn(&TokenSecret) -> std::io::Result<()>;

/// Where a server speaks to whoever started it. The log goes to standard error by itself.
pub struct Streams<'a> {
    /// The block at start, and what a dev server tells.
    pub output: &'a mut dyn Write,
    /// Why it does not start.
    pub errors: &'a mut dyn Write,
}

/// Runs a server until it is told to stop; the exit code.
pub fn run(arguments: &Arguments, store_token: StoreToken<'_>, streams: &mut Streams<'_>) -> i32 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(streams, &format!("the runtime cannot be started: {error}")),
    };
    let outcome = runtime.block_on(serve(arguments, store_token, streams.output));
    // A thread may hang in a write that nobody takes, such as to a standard output that nobody reads.
    runtime.shutdown_timeout(FINISH_BOUND);
    match outcome {
        Ok(()) => 0,
        Err(error) => fail(streams, &error),
    }
}

fn fail(streams: &mut Streams<'_>, error: &str) -> i32 {
    // Nobody to tell when the stream is gone.
    drop(writeln!(streams.errors, "Error: {error}"));
    1
}

/// A variable of the process, by its name or the one that OpenBao's users give it.
pub(crate) fn environment(name: &str) -> Option<String> {
    let set = |name: &str| std::env::var(name).ok();
    set(name).or_else(|| set(&format!("BAO_{}", name.strip_prefix("VAULT_")?)))
}

fn load(arguments: &Arguments) -> Result<ServerConfig, String> {
    if arguments.dev && arguments.recovery {
        return Err("-recovery and -dev exclude each other".to_owned());
    }
    if let Some(named) = arguments.experiments.first() {
        return Err(config::no_experiment(named));
    }
    let mut loaded = if arguments.dev {
        dev::config(arguments)?
    } else {
        config::load(&arguments.config, &environment).map_err(|error| error.to_string())?
    };
    if let Some(level) = &arguments.log_level {
        loaded.log_level =
            config::checked_level(level).ok_or("-log-level is one of trace, debug, info, warn, error")?;
    }
    if let Some(format) = &arguments.log_format {
        loaded.log_format = config::checked_format(format).ok_or("-log-format is `standard` or `json`")?;
    }
    for (key, text) in &arguments.log_file {
        loaded.log_file.set(key, text)?;
    }
    auditing::check(&loaded, own_files(&loaded, &arguments.config))?;
    Ok(loaded)
}

async fn serve(arguments: &Arguments, store_token: StoreToken<'_>, output: &mut dyn Write) -> Result<(), String> {
    let mut config = load(arguments)?;
    let certificates = if arguments.dev_tls { Some(dev_tls::prepare(&mut config, arguments)?) } else { None };
    let dev_directory = arguments.dev_nodes.map(|_| DevDirectory::make(dev_directory::STORES)).transpose()?;
    let log = Arc::new(logging::start(&config.log_level, config.log_format, LogFile::open(&config.log_file)?));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    forbid_core_dumps();
    if !config.disable_mlock {
        lock_memory()?;
    }
    let doors = Doors { outgoing: Arc::new(Https::default()), ..tresor_env_os::doors() };
    let custody = Arc::new(Keepers::new(config.kms_libraries.clone(), &doors));
    let doors = Doors { custody, ..doors };
    // Before anything is opened, because others are told where this node is reached.
    let bound = BoundListeners::bind(&config.listeners, &doors).await?;
    if arguments.recovery {
        let opened = Opened::to_itself(&config, &bound.addresses(), &doors).await?;
        return recovery::serve(opened, bound, &config, &doors, output).await;
    }
    let Opened { store, others } = Opened::open(&config, &bound.addresses(), &doors).await?;
    let reached = storage::api_address(&config, &bound.addresses());
    let known = if config.disable_clustering { &storage::Others::Nobody } else { &others };
    let cluster = known.cluster(reached);
    let ledger = config.observations.as_ref().map(Ledger::start).transpose()?;
    let (senders, closing) = (Tasks::new(), Arc::clone(&store));
    let settings = Settings {
        process: Arc::new(Machine::new(Arc::clone(&log), &config)),
        auto_seal: config.seal.as_ref().map(|seal| auto_seal(seal, &doors, &senders)),
        ledger: ledger.clone().map(|ledger| -> Arc<dyn tresor_core::observations::Ledger> { ledger }),
        tracer: config.telemetry.traces.as_ref().map(|wanted| traces::start(wanted, &doors, &senders)),
        ..settings(&config, arguments, &doors)
    };
    let node = Node::start(store, cluster, doors.clone(), settings, tresor_builtin::registry())
        .map_err(|fault| fault.for_operators())?;
    node.open_by_itself().await;
    node.join_by_itself();
    self_init::run(&node, &config.initialize, !config.join.leaders.is_empty()).await?;
    let ready = if arguments.dev { Some(dev::prepare(&node, arguments).await?) } else { None };
    let service = Arc::new(NodeService::new(Arc::clone(&node)));
    let serve: Arc<dyn tresor_http::Serve> = Arc::<NodeService>::clone(&service);
    let own = own_headers(&config, others.agreeing());
    let request_log = RequestLog::default();
    request_log.set_level(config.log_requests_level.as_deref());
    let listeners = bound.serve(&serve, &doors, &own, &request_log);
    telemetry::send(&config.telemetry, &node, &doors, &senders);
    idle::watch(&doors, &senders);
    let api = api_address(&config, &listeners);
    let registration = config.registration.as_ref().map(|wanted| Registration::start(wanted, &api, &node, &doors));
    let registration = registration.transpose()?;
    let pid_file =
        config.pid_file.as_deref().map(PidFile::write).transpose().map_err(|error| format!("pid file: {error}"))?;

    let companions = match &ready {
        Some(ready) => dev_cluster::start(&config, arguments, &listeners, ready, &log, &doors).await?,
        None => Vec::new(),
    };

    // A reader that went away is no reason to stop.
    drop(print_block(output, &config, &listeners, &others, false));
    if let Some(ready) = &ready {
        if !arguments.dev_no_store_token
            && let Err(error) = store_token(&ready.root_token)
        {
            tracing::warn!(%error, "the root token could not be stored for the CLI");
        }
        let addresses = dev_cluster::addresses(&config, &listeners, &companions);
        if let Some(file) = &arguments.dev_cluster_json {
            dev_cluster::write_definition(file, &addresses, ready, certificates.as_ref())?;
        }
        drop(print_dev(output, ready, &addresses, certificates.as_ref(), arguments.dev_nodes.is_none()));
    }
    // Where there is no service manager there is nobody to tell.
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));

    let mut ends = EndSignals::listen()?;
    let reloaded = Reloaded {
        arguments,
        config: &config,
        node: &node,
        listeners: &listeners,
        log: &log,
        ledger: &ledger,
        request_log,
    };
    let why = until_stopped(&mut ends, &reloaded).await?;
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    log.end_watching();
    let drained = async {
        let notice = node.say_farewell();
        if let Some(registration) = &registration {
            registration.end().await;
        }
        others.leave().await;
        if !notice.is_zero() {
            tracing::info!(
                seconds = notice.as_secs(),
                "going on for those who probe this node, and are told to look elsewhere"
            );
            listeners.part();
            doors.clock.sleep(notice).await;
        }
        // Another that left meanwhile may have let this one lead.
        others.leave().await;
        closing.hurry();
        listeners.drain().await;
        service.finish(doors.clock.sleep(FINISH_BOUND)).await;
    };
    tokio::select! {
        () = drained => {}
        () = ends.next() => tracing::warn!("told to stop again: requests that still run are cut off"),
    }
    closing.hurry();
    drop((senders, registration));
    node.seal().await.map_err(|fault| fault.to_string())?;
    others.close().await;
    for companion in companions {
        companion.stop(&doors).await;
    }
    drop((pid_file, certificates, dev_directory));
    tracing::info!("server stopped");
    ledger.iter().for_each(|ledger| ledger.finish());
    log.finish();
    match why {
        Stopped::AsTold => Ok(()),
        Stopped::ByItself => Err("the server serves no more by itself, as its log says".to_owned()),
    }
}

/// Headers that say which node answers, where an operator wants them.
fn own_headers(config: &ServerConfig, nodes: Option<&Nodes>) -> Vec<(&'static str, String)> {
    let mut own = Vec::new();
    if config.shows_hostname {
        own.push(("x-vault-hostname", rustix::system::uname().nodename().to_string_lossy().into_owned()));
    }
    if let (true, Some(nodes)) = (config.shows_node_id, nodes) {
        own.push(("x-vault-raft-node-id", nodes.contact().name.clone()));
    }
    own
}

/// How long audit devices may wait for more records while there are many.
const AUDIT_GATHER: std::time::Duration = std::time::Duration::from_millis(10);

pub(crate) fn settings(config: &ServerConfig, arguments: &Arguments, doors: &Doors) -> Settings {
    Settings {
        default_lease_ttl: config.default_lease_ttl,
        max_lease_ttl: config.max_lease_ttl,
        irrevocable_kept: config.irrevocable_kept,
        request_time_max: config.request_time_max.unwrap_or(Settings::default().request_time_max),
        open_to_shareholders: config.open_to_shareholders.clone(),
        cluster_name: config.cluster_name.clone(),
        storage_type: config.storage.kind(),
        audit_directory: config.storage.path().map(|path| path.join("audit")),
        audit_log: config.audit_log.clone(),
        audit_prefix_allowed: config.allow_audit_log_prefixing,
        audit_gather: AUDIT_GATHER,
        standard_output: Some(auditing::standard_output()),
        standard_error: Some(auditing::standard_error()),
        audit_devices: DeclaredDevices::of(auditing::declared(config)),
        audit_by_api: config.audit_by_api,
        audit_references: Some(Arc::new(auditing::referred_to)),
        process_id: std::process::id(),
        protected_directories: own_files(config, &arguments.config),
        elsewhere: if config.disable_request_forwarding { Elsewhere::Redirect } else { Elsewhere::PassOn },
        joining: Some(joining(&config.join, &doors.workers)),
        lockout: config.lockout.clone(),
        snapshots: config.snapshots.as_ref().map(|wanted| schedule(wanted, doors)),
        shows_requests: config.introspection,
        has_public_workflows: config.public_workflows,
        has_raw_storage: config.raw_storage,
        administrative_namespace: config.administrative_namespace.clone(),
        metrics: config.telemetry.naming.clone(),
        ..Settings::default()
    }
}

fn schedule(wanted: &SnapshotsConfig, doors: &Doors) -> Schedule {
    Schedule {
        directory: wanted.directory.clone(),
        interval: wanted.interval,
        retain: wanted.retain,
        open_scratch: storage::scratch(doors),
    }
}

fn auto_seal(config: &SealConfig, doors: &Doors, tasks: &Tasks) -> AutoSeal {
    let key = key_services::start(&config.way, doors, tasks);
    let augmentation = match &key {
        AutoKey::Service(service) if config.augments_entropy => {
            Some(Arc::new(Augmentation::new(Arc::clone(service), doors)))
        }
        _ => None,
    };
    AutoSeal { key, checks: config.checks, augmentation }
}

/// Files and directories that no audit device may write into: what the server itself reads or writes.
pub(crate) fn own_files(config: &ServerConfig, files: &[PathBuf]) -> Vec<PathBuf> {
    let mut own = files.to_vec();
    own.extend(config.storage.path().map(Path::to_path_buf));
    own.extend(config.pid_file.clone());
    own.extend(config.log_file.path.clone());
    own.extend(config.observations.as_ref().map(|ledger| ledger.path.clone()));
    own.extend(config.kms_libraries.values().cloned());
    for leader in &config.join.leaders {
        let client = leader.client.as_ref().map(|(certificate, key)| [certificate.file(), key.file()]);
        let files = client.into_iter().flatten().chain([leader.ca_certificate.as_ref().and_then(Pem::file)]);
        own.extend(files.flatten().map(Path::to_path_buf));
    }
    own.extend(config.seal.iter().flat_map(|seal| seal.way.files()).map(Path::to_path_buf));
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        match &tls.source {
            CertificateSource::Files(files) => own.extend([files.certificate.clone(), files.key.clone()]),
            CertificateSource::Acme(acme) => {
                own.extend([acme.cache.clone()].into_iter().chain(acme.authorities.clone()))
            }
        }
        own.extend(tls.client_ca_file.clone());
    }
    own
}

/// The signals that end the server.
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    pub(crate) fn listen() -> Result<Self, String> {
        Ok(Self { terminate: receive(SignalKind::terminate())?, interrupt: receive(SignalKind::interrupt())? })
    }

    /// Completes at the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn receive(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("signals cannot be received: {error}"))
}

/// Why a server stops.
enum Stopped {
    AsTold,
    ByItself,
}

/// What signals act on.
struct Reloaded<'s> {
    arguments: &'s Arguments,
    /// As it was at the start.
    config: &'s ServerConfig,
    node: &'s Node,
    listeners: &'s Listeners,
    log: &'s Log,
    ledger: &'s Option<Arc<Ledger>>,
    request_log: RequestLog,
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads what can be, SIGUSR2 logs what runs.
async fn until_stopped(ends: &mut EndSignals, reloaded: &Reloaded<'_>) -> Result<Stopped, String> {
    let mut hang_up = receive(SignalKind::hangup())?;
    let mut look = receive(SignalKind::user_defined2())?;
    // A file that grows to a limit fails its writer, and must not end the server.
    let _files_too_large = receive(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let mut given_up = pin!(reloaded.node.given_up());
    loop {
        tokio::select! {
            () = ends.next() => break,
            () = &mut given_up, if reloaded.arguments.exit_on_core_shutdown => {
                tracing::error!("the node serves no more by itself: the server ends, as -exit-on-core-shutdown says");
                return Ok(Stopped::ByItself);
            }
            _ = hang_up.recv() => reloaded.reload().await,
            _ = look.recv() => reloaded.log_what_runs(),
        }
    }
    tracing::info!("stopping: no new connections, requests that run may end");
    Ok(Stopped::AsTold)
}

impl Reloaded<'_> {
    /// Certificates, audit files, declared audit devices and levels of the log as they are now; of everything else the log says that it waits.
    async fn reload(&self) {
        tracing::info!("SIGHUP: reloading");
        self.listeners.reload_certificates();
        self.node.reopen_audit_files();
        self.log.reopen();
        self.ledger.iter().for_each(|ledger| ledger.reopen());
        match load(self.arguments) {
            Ok(config) => {
                self.log.set_level(&config.log_level);
                self.request_log.set_level(config.log_requests_level.as_deref());
                let waiting = config.differences(self.config);
                if !waiting.is_empty() {
                    tracing::warn!(
                        stanzas = waiting.join(", "),
                        "the configuration changed where only a restart follows"
                    );
                }
                if let Err(fault) = self.node.declare_audit_devices(auditing::declared(&config)).await {
                    tracing::error!(cause = ?fault, "declared audit devices could not be stored");
                }
                tracing::info!(log_level = config.log_level, "configuration reloaded");
            }
            Err(error) => tracing::error!(%error, "the configuration cannot be reloaded; the log level stays"),
        }
    }

    /// What whoever looks at a server that hangs needs to see: no bodies, no tokens.
    fn log_what_runs(&self) {
        let runtime = self.node.settings().process.runtime();
        let running = self.node.running().all();
        let now = self.node.now();
        tracing::info!(
            tasks = runtime.tasks,
            threads = runtime.threads,
            resident_bytes = runtime.resident_bytes,
            requests = running.len(),
            "SIGUSR2: what runs"
        );
        for request in running {
            let seconds = now.seconds().saturating_sub(request.began.seconds());
            tracing::info!(request_id = %request.id, path = request.path, seconds, "a request runs");
        }
    }
}

/// The address that clients are told: where it is not configured, that of the first listener at a port.
fn api_address(config: &ServerConfig, listeners: &Listeners) -> String {
    if let Some(configured) = &config.api_address {
        return configured.clone();
    }
    let first = config.listeners.iter().zip(&listeners.places).find(|(_, place)| place.tcp().is_some());
    let (listener, first) =
        first.map_or((None, String::new()), |(listener, place)| (Some(listener), place.to_string()));
    let scheme = if listener.is_some_and(|listener| listener.tls.is_some()) { "https" } else { "http" };
    format!("{scheme}://{first}")
}

pub(crate) fn print_block(
    output: &mut dyn Write,
    config: &ServerConfig,
    listeners: &Listeners,
    others: &storage::Others,
    is_recovery: bool,
) -> std::io::Result<()> {
    let mut rows: Vec<(String, String)> = Vec::new();
    rows.push(("Api Address".to_owned(), api_address(config, listeners)));
    if let Some(address) = others.cluster_address() {
        rows.push(("Cluster Address".to_owned(), format!("https://{address}")));
    }
    for (number, (listener, place)) in config.listeners.iter().zip(&listeners.places).enumerate() {
        let tls = if listener.tls.is_some() { "enabled" } else { "disabled" };
        let facts = format!(
            "{} (addr: \"{place}\", max_request_size: \"{}\", tls: \"{tls}\")",
            place.kind(),
            listener.request_bytes_max
        );
        rows.push((format!("Listener {}", number + 1), facts));
    }
    rows.push(("Log Level".to_owned(), config.log_level.clone()));
    if config.log_format == LogFormat::Json {
        rows.push(("Log Format".to_owned(), "json".to_owned()));
    }
    rows.push(("Mlock".to_owned(), format!("supported: true, enabled: {}", !config.disable_mlock)));
    rows.push(("Recovery Mode".to_owned(), is_recovery.to_string()));
    if let Some(seal) = &config.seal {
        rows.push(("Seal".to_owned(), format!("{} (key: \"{}\")", seal.way.kind(), seal.way.key_id())));
    }
    rows.push(("Storage".to_owned(), config.storage.kind().to_owned()));
    rows.push(("Version".to_owned(), format!("Tresor v{}", env!("CARGO_PKG_VERSION"))));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    writeln!(output, "==> Tresor server configuration:\n")?;
    for (name, value) in rows {
        writeln!(output, "{name:>width$}: {value}")?;
    }
    writeln!(output, "\n==> Tresor server started! Log data will stream in below:\n")?;
    output.flush()
}

fn print_dev(
    output: &mut dyn Write,
    ready: &dev::Ready,
    addresses: &[String],
    certificates: Option<&DevCertificates>,
    is_in_memory: bool,
) -> std::io::Result<()> {
    let address = addresses.first().map_or("", String::as_str);
    if addresses.len() > 1 {
        writeln!(output, "The nodes of this cluster:\n")?;
        for (number, address) in (1..).zip(addresses) {
            writeln!(output, "    node-{number}: {address}")?;
        }
        writeln!(output)?;
    }
    let store = if is_in_memory { "entirely in-memory" } else { "in a temporary directory" };
    let authority = certificates
        .map(|certificates| format!("    $ export VAULT_CACERT='{}'\n", certificates.authority.display()))
        .unwrap_or_default();
    writeln!(
        output,
        "WARNING! dev mode is enabled! In this mode, Tresor runs {store}\n\
         and starts unsealed with a single unseal key. The root token is already\n\
         authenticated to the CLI, so you can immediately begin using Tresor.\n\n\
         You may need to set the following environment variables:\n\n\
         \x20   $ export VAULT_ADDR='{address}'\n\
         {authority}\n\
         The unseal key and root token are displayed below in case you want to\n\
         seal/unseal the server or re-authenticate.\n\n\
         Unseal Key: {}\n\
         Root Token: {}\n\n\
         Development mode should NOT be used in production installations!\n",
        ready.unseal_key,
        ready.root_token.expose(),
    )?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_files_are_protected_from_audit_devices() {
        let text = r#"
            storage "file" { path = "/srv/data" }
            listener "tcp" {
              address = "127.0.0.1:0"
              tls_cert_file = "/srv/tls/cert.pem"
              tls_key_file = "/srv/tls/key.pem"
              tls_client_ca_file = "/srv/tls/ca.pem"
            }
            listener "tcp" {
              address = "127.0.0.1:1"
              tls_acme_domains = ["a.example.com"]
              tls_acme_cache_path = "/srv/acme"
              tls_acme_ca_root = "/srv/acme.pem"
            }
            observations { ledger_path = "/srv/ledger" }
            kms_library "pkcs11" {
              name = "hsm"
              library = "/srv/hsm.so"
            }
            pid_file = "/run/tresor.pid"
            seal "static" {
              current_key_id  = "b"
              current_key     = "file:///srv/keys/b"
              previous_key_id = "a"
              previous_key    = "file:///srv/keys/a"
            }
        "#;
        let parsed = config::parse(&[(PathBuf::from("/etc/tresor.hcl"), text.to_owned())], &|_| None);
        let arguments = Arguments { config: vec!["/etc/tresor.hcl".into()], ..Arguments::default() };
        let own = own_files(&parsed.unwrap_or_else(|error| panic!("{error}")), &arguments.config);
        for file in [
            "/etc/tresor.hcl",
            "/srv/data",
            "/srv/tls/cert.pem",
            "/srv/tls/key.pem",
            "/srv/tls/ca.pem",
            "/run/tresor.pid",
            "/srv/keys/a",
            "/srv/keys/b",
            "/srv/acme",
            "/srv/acme.pem",
            "/srv/ledger",
            "/srv/hsm.so",
        ] {
            assert!(own.contains(&PathBuf::from(file)), "{file}");
        }
    }
}
