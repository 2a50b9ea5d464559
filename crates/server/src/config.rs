//! The configuration file: HCL or JSON, one or several files or directories, later ones win.
//!
//! An unknown key is a warning that names file and line; a value that makes no sense is an error that names file,
//! line and column. What the reference has and this release has not is either harmless to ignore (a warning) or
//! refused, such as kinds of seals.

mod acme;
mod audit;
mod clouds;
mod import;
mod initialize;
mod kmip;
mod listener;
mod load;
mod lockout;
mod log_file;
mod migration;
mod modules;
mod more_clouds;
mod numbers;
mod observations;
mod pages;
mod postgresql;
mod proxies;
mod registration;
mod seal;
mod services;
mod snapshots;
mod storage;
mod telemetry;
mod template;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tresor_audit::LogOptions;
use tresor_core::Quorum;
use tresor_hcl::Position;

pub use crate::log_file::LogFileConfig;
pub use crate::proxied::{ProxyProtocol, Unauthorized};
pub use acme::{AcmeConfig, AcmeKey, AcmeName};
pub use audit::AuditConfig;
pub use clouds::{AzureIdentity, AzureKeyVaultConfig, GcpKmsConfig};
#[cfg(test)]
pub(crate) use import::Filter;
pub(crate) use import::{DestinationConfig, ImportConfig, Mapping, SourceConfig, load_import};
pub use kmip::KmipConfig;
pub(crate) use kmip::suite_name;
pub(crate) use listener::parse_address as parse_listen_address;
pub use listener::{
    CertificateFiles, CertificateSource, IDLE_TIMEOUT, Listener, ListenerTls, Place, TlsVersion, WRITE_TIMEOUT,
};
pub(crate) use load::load_behind;
pub(crate) use load::{checked_format, checked_level, no_experiment};
pub use load::{load, parse};
pub use migration::{MigrationConfig, load_migration};
pub use modules::Pkcs11Config;
pub use more_clouds::{AliCloudKmsConfig, OciIdentity, OciKmsConfig};
pub use observations::ObservationsConfig;
pub use postgresql::{ConnectionUrl, PostgresqlConfig};
pub use registration::{ConsulConfig, KubernetesConfig, RegistrationConfig};
pub use seal::{KeyPlace, KeyReference, SealConfig, SealWay, StaticSealConfig};
pub use services::{
    AccessKeys, AwsKeysConfig, AwsKmsConfig, Said, ServiceTls, SharedFile, SharedFiles, TransitConfig, WebIdentity,
};
pub use snapshots::SnapshotsConfig;
pub use storage::{JoinConfig, LeaderConfig, Pem};
pub use telemetry::{Collector, TelemetryConfig, TracesConfig, Way};

/// What the operator configured.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where data is kept.
    pub storage: Storage,
    /// Whom the node joins that belongs to no cluster yet.
    pub join: JoinConfig,
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// What opens the store without people; shares open it always.
    pub seal: Option<SealConfig>,
    /// The libraries of modules that keep keys, by the lower-case names that such keys are written down with.
    pub kms_libraries: std::collections::BTreeMap<String, PathBuf>,
    /// What is asked once, where the server initialises its store by itself.
    pub initialize: tresor_profile::Profile,
    /// When names are locked after wrong passwords, by the type of auth method.
    pub lockout: std::collections::BTreeMap<String, tresor_core::lockout::Rules>,
    /// Snapshots that are taken without anybody asking.
    pub snapshots: Option<SnapshotsConfig>,
    /// The ledger of what becomes of tokens, leases and mounts.
    pub observations: Option<ObservationsConfig>,
    /// How numbers are called, which there are, and who is sent them.
    pub telemetry: TelemetryConfig,
    /// The registry of services that is told what this node is.
    pub registration: Option<RegistrationConfig>,
    /// The address that clients are told.
    pub api_address: Option<String>,
    /// The address that other nodes are told.
    pub cluster_address: Option<String>,
    /// Open no cluster port: this node stays alone.
    pub disable_clustering: bool,
    /// Pass no requests on to the active node: send whoever asks there.
    pub disable_request_forwarding: bool,
    /// What those who hold shares may do without a token.
    pub open_to_shareholders: Vec<Quorum>,
    /// The cluster's name; made up when empty.
    pub cluster_name: String,
    /// Life of leases that say nothing else.
    pub default_lease_ttl: Duration,
    /// How long after a lease was set apart as irrevocable it is forgotten; `None`: never.
    pub irrevocable_kept: Option<Duration>,
    /// Longest life of leases.
    pub max_lease_ttl: Duration,
    /// The path of the namespace that administrates the server, with a slash at its end; empty: there is none.
    pub administrative_namespace: String,
    /// How long a request may take where its listener does not say it.
    pub request_time_max: Option<Duration>,
    /// The level at which each answered request is logged; none: it is not.
    pub log_requests_level: Option<String>,
    /// Least severe messages that are logged.
    pub log_level: String,
    /// How messages are logged.
    pub log_format: LogFormat,
    /// The log as a file, too.
    pub log_file: LogFileConfig,
    /// Do not lock memory.
    pub disable_mlock: bool,
    /// Serve the web UI.
    pub ui: bool,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// Bounds and durability of the local audit log.
    pub audit_log: LogOptions,
    /// Audit devices may put a prefix in front of their lines.
    pub allow_audit_log_prefixing: bool,
    /// Audit devices that are declared here.
    pub audit_devices: Vec<AuditConfig>,
    /// Whether audit devices may be enabled through the API.
    pub audit_by_api: bool,
    /// Workflows that say so are run for those who have no token.
    pub public_workflows: bool,
    /// What is stored can be looked at and changed record by record.
    pub raw_storage: bool,
    /// Whether a caller can look at what the server makes of a request.
    pub introspection: bool,
    /// Answers name the machine.
    pub shows_hostname: bool,
    /// Answers name the node of the cluster.
    pub shows_node_id: bool,
    /// Hints for the operator.
    pub warnings: Vec<String>,
}

impl ServerConfig {
    /// The keys at top level that differ and that only a restart follows.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        // What values look like is compared, and shown to nobody.
        let spelled = |config: &Self| {
            [
                ("storage", format!("{:?} {:?}", config.storage, config.join)),
                ("listener", format!("{:?}", config.listeners)),
                ("seal", format!("{:?}", config.seal)),
                ("kms_library", format!("{:?}", config.kms_libraries)),
                ("user_lockout", format!("{:?}", config.lockout)),
                ("snapshots", format!("{:?}", config.snapshots)),
                ("observations", format!("{:?}", config.observations)),
                ("telemetry", format!("{:?}", config.telemetry)),
                ("service_registration", format!("{:?}", config.registration)),
                ("api_addr", format!("{:?}", config.api_address)),
                ("cluster_addr", format!("{:?}", config.cluster_address)),
                ("cluster_name", format!("{:?}", config.cluster_name)),
                ("default_lease_ttl", format!("{:?}", config.default_lease_ttl)),
                ("remove_irrevocable_lease_after", format!("{:?}", config.irrevocable_kept)),
                ("administrative_namespace_path", config.administrative_namespace.clone()),
                ("max_lease_ttl", format!("{:?}", config.max_lease_ttl)),
                ("default_max_request_duration", format!("{:?}", config.request_time_max)),
                ("log_format", format!("{:?}", config.log_format)),
                ("log_file", format!("{:?}", config.log_file)),
                ("disable_mlock", format!("{:?}", config.disable_mlock)),
                ("allow_unauthenticated_workflows", format!("{:?}", config.public_workflows)),
                ("raw_storage_endpoint", format!("{:?}", config.raw_storage)),
                ("introspection_endpoint", format!("{:?}", config.introspection)),
                ("pid_file", format!("{:?}", config.pid_file)),
                ("audit_log_sync", format!("{:?}", config.audit_log)),
                ("allow_audit_log_prefixing", config.allow_audit_log_prefixing.to_string()),
                ("unsafe_allow_api_audit_creation", config.audit_by_api.to_string()),
            ]
        };
        let pairs = spelled(self).into_iter().zip(spelled(other));
        pairs.filter(|(one, other)| one.1 != other.1).map(|(one, _)| one.0).collect()
    }
}

/// Where data is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory; gone with the process.
    Memory,
    /// In a directory, by this server alone.
    File(Directory),
    /// In a directory, as a node of a cluster.
    Raft {
        /// Its directory.
        directory: Directory,
        /// What people call the node; made up when absent.
        node_id: Option<String>,
    },
    /// In a table of PostgreSQL, by this server alone.
    Postgresql(PostgresqlConfig),
}

/// A directory with data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Below so many free bytes nothing is written any more.
    pub free_space_min: u64,
}

impl Storage {
    /// The word in `sys/seal-status` and in the block at start.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Memory => "inmem",
            Self::File(_) => "file",
            Self::Raft { .. } => "raft",
            Self::Postgresql(_) => "postgresql",
        }
    }

    /// Where data is kept on a disk of this machine: with a server elsewhere, the local audit log alone.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Postgresql(config) => config.directory.as_deref(),
            Self::File(directory) | Self::Raft { directory, .. } => Some(&directory.path),
        }
    }
}

/// How messages are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Standard,
    /// For machines.
    Json,
}

/// Why a configuration cannot be used; names the file, and the place when there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The place.
    pub position: Option<Position>,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing was named: what is missing is the file itself.
        if self.file.as_os_str().is_empty() {
            return f.write_str(&self.text);
        }
        write!(f, "{}", self.file.display())?;
        if let Some(position) = self.position {
            write!(f, ":{}:{}", position.line, position.column)?;
        }
        write!(f, ": {}", self.text)
    }
}

impl std::error::Error for ConfigError {}
