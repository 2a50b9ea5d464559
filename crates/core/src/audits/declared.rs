//! Audit devices that the server's configuration declares: the leader brings what is stored to what is declared, when it
//! begins to lead and whenever the configuration is read anew.
//!
//! What is declared is stored like every other device, so every node follows it; nobody may remove it through the API. A device
//! is not changed in its place: its records would be shown in two ways under one name. Deliberately absent: opening a declared
//! device before it is stored: one that cannot be opened now must be told of every record once it can.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tresor_audit::DeviceSalt;
use tresor_barrier::Txn;
use tresor_env::Entropy;
use tresor_model::Fault;
use tresor_record::Record;
use tresor_secret::SecretBytes;

use super::{Audits, DeviceRecord, name, prefix, read_devices};
use crate::unsealed::{CommitFault, Unsealed};

/// How often a change is tried that others get in the way of.
const ATTEMPTS: usize = 10;

/// A device as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredDevice {
    /// Where it is enabled, ending in a slash.
    pub path: String,
    /// What kind it is.
    pub kind: String,
    /// What it is for.
    pub description: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
    /// Kept for clients.
    pub local: bool,
}

/// What is declared now, whoever holds it.
#[derive(Clone, Debug, Default)]
pub struct DeclaredDevices(Arc<ArcSwap<Vec<DeclaredDevice>>>);

impl DeclaredDevices {
    /// These are declared.
    #[must_use]
    pub fn of(devices: Vec<DeclaredDevice>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(devices)))
    }

    /// From now on these are declared.
    pub fn replace(&self, devices: Vec<DeclaredDevice>) {
        self.0.store(Arc::new(devices));
    }
}

impl DeclaredDevice {
    /// What of a stored device is not as it is declared; nothing when all of it is.
    fn differs_from(&self, stored: &DeviceRecord) -> Option<&'static str> {
        let parts = [
            ("type", self.kind != stored.kind),
            ("description", self.description != stored.description),
            ("options", self.options != stored.options),
            ("local", self.local != stored.local),
        ];
        parts.into_iter().find(|(_, differs)| *differs).map(|(part, _)| part)
    }

    fn record(&self, entropy: &dyn Entropy) -> DeviceRecord {
        let salt = SecretBytes::new(DeviceSalt::generate(entropy).expose().to_vec());
        let Self { path, kind, description, options, local } = self.clone();
        DeviceRecord { path, kind, description, options, local, declared: true, salt }
    }
}

impl Audits {
    /// Brings what is stored to what is declared; whether anything changes. What cannot be brought to it is said, and stays.
    fn bring_to(&self, declared: &[DeclaredDevice], txn: &mut Txn, entropy: &dyn Entropy) -> Result<bool, Fault> {
        let stored = read_devices(txn)?;
        let mut changes = false;
        for gone in stored.iter().filter(|stored| stored.declared) {
            if !declared.iter().any(|device| device.path == gone.path) {
                tracing::info!(path = gone.path, "an audit device is not declared any more, and is disabled");
                txn.delete(&prefix()?.key(&name(&gone.path)).map_err(Fault::internal)?).map_err(Fault::internal)?;
                changes = true;
            }
        }
        for device in declared {
            let path = device.path.as_str();
            if let Some(known) = stored.iter().find(|stored| stored.path == device.path) {
                if !known.declared {
                    tracing::error!(
                        path,
                        "a declared audit device was enabled through the API; disable it there first"
                    );
                } else if let Some(part) = device.differs_from(known) {
                    tracing::error!(
                        path,
                        part,
                        "a declared audit device is not changed in its place: declare it under another path"
                    );
                }
                continue;
            }
            let record = device.record(entropy);
            let is_fallback = |other: &DeclaredDevice| tresor_audit::device::is_fallback(&other.options);
            let others = stored.iter().filter(|other| !other.declared).any(|other| other.is_fallback())
                || declared.iter().take_while(|other| other.path != device.path).any(is_fallback);
            if record.is_fallback() && others {
                tracing::error!(path, "a declared audit device is a fallback, and another is already");
                continue;
            }
            if let Err(error) = self.broker.check(&record.config()?) {
                tracing::error!(path, %error, "a declared audit device cannot be enabled");
                continue;
            }
            tracing::info!(path, kind = device.kind, "a declared audit device is stored, and gets records from now on");
            let key =
                prefix()?.key(&name(path)).map_err(|_| Fault::invalid("the path of the audit device is no name"))?;
            txn.write(&key, &record.encode()).map_err(Fault::internal)?;
            changes = true;
        }
        Ok(changes)
    }
}

/// Brings what is stored to what is declared.
///
/// # Errors
/// When the store fails, or the node does not lead.
pub(crate) async fn reconcile(unsealed: &Unsealed) -> Result<(), Fault> {
    let declared = unsealed.handles.settings.audit_devices.0.load_full();
    for _ in 0..ATTEMPTS {
        let mut txn = unsealed.begin()?;
        if !unsealed.handles.audits.bring_to(&declared, &mut txn, &*unsealed.doors.entropy)? {
            return Ok(());
        }
        match unsealed.commit(txn).await {
            Err(CommitFault::Conflict) => {}
            outcome => return Ok(outcome?),
        }
    }
    Err(CommitFault::Conflict.into())
}

/// The same for a node that begins to lead: one that could not enable any of the devices that are declared would serve
/// without a record, and does not.
///
/// # Errors
/// As [`reconcile`], if then nothing is recorded that was to be.
pub(crate) async fn reconcile_to_lead(unsealed: &Unsealed) -> Result<(), Fault> {
    let Err(fault) = reconcile(unsealed).await else { return Ok(()) };
    let is_wanted = !unsealed.handles.settings.audit_devices.0.load().is_empty();
    if is_wanted && !unsealed.handles.audits.is_enabled() {
        return Err(fault);
    }
    tracing::error!(cause = ?fault, "declared audit devices could not be brought to what is stored");
    Ok(())
}
