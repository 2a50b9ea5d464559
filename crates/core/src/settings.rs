//! What the operator configured, as far as the core needs to know it.
//!
//! Deliberately absent: listeners, logging, and everything else that ends in the assembly.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tresor_audit::{LogOptions, References, StandardOutput};
use tresor_engine::{AnswersIn, Quorum};
use tresor_metrics::Naming;
use tresor_model::Fault;

use crate::audits::DeclaredDevices;
use crate::augmentation::Augmentation;
use crate::cluster::joining::Joining;
use crate::lockout::Rules;
use crate::namespaces::Space;
use crate::observations::Ledger;
use crate::opening::AutoSeal;
use crate::pipeline::DEADLINE;
use crate::process::{Nowhere, Process};
use crate::snapshots::schedule::Schedule;
use crate::traces::Tracer;

/// What a node does with requests that run on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It passes them on.
    PassOn,
    /// It sends whoever asks there.
    Redirect,
}

/// The operator's choices; fixed for the life of a node.
#[derive(Clone)]
pub struct Settings {
    /// Life of a lease or token that says nothing else.
    pub default_lease_ttl: Duration,
    /// Longest life of any lease or token that has an end.
    pub max_lease_ttl: Duration,
    /// How long after a lease was set apart as irrevocable it is forgotten; `None`: never, an operator decides.
    pub irrevocable_kept: Option<Duration>,
    /// How long a handler may take where its listener does not say it.
    pub request_time_max: Duration,
    /// Shown in `sys/seal-status`; made up at initialisation when empty.
    pub cluster_name: String,
    /// The word for the store in `sys/seal-status`, such as `inmem`.
    pub storage_type: &'static str,
    /// Where the local audit log is kept; `None` keeps it in memory (development).
    pub audit_directory: Option<PathBuf>,
    /// Bounds and durability of the local audit log.
    pub audit_log: LogOptions,
    /// Audit devices may put a prefix in front of their lines.
    pub audit_prefix_allowed: bool,
    /// Audit records that follow a delivery within this time are delivered together.
    pub audit_gather: Duration,
    /// Standard output, for audit devices that write there; `None` refuses them.
    pub standard_output: Option<StandardOutput>,
    /// Standard error, in the same way.
    pub standard_error: Option<StandardOutput>,
    /// Audit devices that the configuration declares, which may change.
    pub audit_devices: DeclaredDevices,
    /// Whether audit devices may be enabled through the API.
    pub audit_by_api: bool,
    /// Reads what options of declared audit devices refer to.
    pub audit_references: Option<References>,
    /// The number of this process.
    pub process_id: u32,
    /// Directories and files that no audit device may write into.
    pub protected_directories: Vec<PathBuf>,
    /// How the node opens by itself; `None`: only shares open it.
    pub auto_seal: Option<AutoSeal>,
    /// How the node joins a cluster; `None`: it cannot.
    pub joining: Option<Joining>,
    /// When names are locked after wrong passwords, by the type of auth method, and `all`.
    pub lockout: BTreeMap<String, Rules>,
    /// What becomes of requests that run on another node.
    pub elsewhere: Elsewhere,
    /// What those who hold shares may do without a token.
    pub open_to_shareholders: Vec<Quorum>,
    /// Snapshots that are taken without anybody asking; `None`: there are none.
    pub snapshots: Option<Schedule>,
    /// Whether a caller can look at what the server makes of a request.
    pub shows_requests: bool,
    /// Whether workflows that say so are run for those who have no token.
    pub has_public_workflows: bool,
    /// Whether what is stored can be looked at and changed record by record.
    pub has_raw_storage: bool,
    /// The path of the namespace that administrates the server beside the root namespace, with a slash at its end; empty:
    /// there is none.
    pub administrative_namespace: String,
    /// How the numbers of the node are called, and which are there.
    pub metrics: Naming,
    /// Who is told how long the steps of requests took; `None`: nobody.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// Who is told what becomes of tokens, leases and mounts; `None`: nobody.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// The process around the node.
    pub process: Arc<dyn Process>,
    /// The release of this binary, for start-up output and logs (the API level is `tresor_wire::API_LEVEL`).
    pub release: &'static str,
}

impl Settings {
    /// The node's entropy with that of its seal in it, where the operator demands it.
    #[must_use]
    pub fn augmentation(&self) -> Option<&Arc<Augmentation>> {
        self.auto_seal.as_ref()?.augmentation.as_ref()
    }

    /// Sees to it that keys that are made next have fresh bytes of the seal in them, where the operator demands it.
    ///
    /// # Errors
    /// When the seal gives none.
    pub async fn stir(&self) -> Result<(), Fault> {
        let Some(augmentation) = self.augmentation() else { return Ok(()) };
        augmentation.stir().await.map_err(|error| augmentation.fault(&error))
    }

    /// Whether what answers there answers in this namespace.
    pub(crate) fn answers(&self, there: AnswersIn, space: &Space) -> bool {
        match there {
            AnswersIn::Every => true,
            _ if space.is_root() => true,
            AnswersIn::Sealable => space.realm().is_some(),
            AnswersIn::Administration => space.path == self.administrative_namespace,
            AnswersIn::Root => false,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_lease_ttl: Duration::from_secs(768 * 3600),
            max_lease_ttl: Duration::from_secs(768 * 3600),
            irrevocable_kept: None,
            request_time_max: DEADLINE,
            cluster_name: String::new(),
            storage_type: "inmem",
            audit_directory: None,
            audit_log: LogOptions::default(),
            audit_prefix_allowed: false,
            audit_gather: Duration::ZERO,
            standard_output: None,
            standard_error: None,
            audit_devices: DeclaredDevices::default(),
            audit_by_api: true,
            audit_references: None,
            process_id: 0,
            protected_directories: Vec::new(),
            auto_seal: None,
            joining: None,
            lockout: BTreeMap::new(),
            elsewhere: Elsewhere::PassOn,
            open_to_shareholders: Vec::new(),
            snapshots: None,
            shows_requests: false,
            has_public_workflows: false,
            has_raw_storage: false,
            administrative_namespace: String::new(),
            metrics: Naming::default(),
            tracer: None,
            ledger: None,
            process: Arc::new(Nowhere),
            release: env!("CARGO_PKG_VERSION"),
        }
    }
}
