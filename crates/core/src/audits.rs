//! The audit devices of the node: their records are stored, the broker is told to follow them.
//!
//! Enabling and disabling write a record within the request's transaction; after the commit the broker is brought to
//! what is stored, so a device exists exactly when its record does. Deliberately absent: the log, redaction and
//! delivery, which are `tresor-audit`'s.

pub(crate) mod declared;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tresor_audit::{
    Audited, Broker, DeviceConfig, DeviceSalt, EncodedResponse, LogOptions, Numbers, Options, RequestEntry, Standing,
    WrittenResponse,
};
use tresor_barrier::{Barrier, Changed, KeyPrefix, Txn};
use tresor_env::{Doors, Entropy};
use tresor_metrics::Counter;
use tresor_model::{Fault, Response};
use tresor_record::Record;
use tresor_secret::SecretBytes;

use crate::cached::{Cached, every_name};
use crate::keys;
use crate::settings::Settings;

pub use declared::{DeclaredDevice, DeclaredDevices};

/// The longest that sealing waits for devices to take what is recorded.
const FLUSH_BOUND: Duration = Duration::from_secs(2);

/// A device as it was stored when none was declared by the configuration.
#[derive(Record)]
#[record(kind = "audit-device", version = 1)]
struct DeviceRecordV1 {
    path: String,
    kind: String,
    description: String,
    options: BTreeMap<String, String>,
    local: bool,
    salt: SecretBytes,
}

/// A device as it is stored.
#[derive(Record)]
#[record(kind = "audit-device", version = 2, previous = DeviceRecordV1)]
pub struct DeviceRecord {
    /// Where it is enabled, ending in a slash.
    pub path: String,
    /// What kind it is.
    pub kind: String,
    /// What it is for.
    pub description: String,
    /// Its options as sent.
    pub options: BTreeMap<String, String>,
    /// Kept for clients.
    pub local: bool,
    /// The server's configuration declares it.
    pub declared: bool,
    salt: SecretBytes,
}

impl From<DeviceRecordV1> for DeviceRecord {
    fn from(older: DeviceRecordV1) -> Self {
        let DeviceRecordV1 { path, kind, description, options, local, salt } = older;
        Self { path, kind, description, options, local, declared: false, salt }
    }
}

impl DeviceRecord {
    /// Whether it gets what no other device takes.
    fn is_fallback(&self) -> bool {
        tresor_audit::device::is_fallback(&self.options)
    }

    fn config(&self) -> Result<DeviceConfig, Fault> {
        let salt = self
            .salt
            .expose()
            .as_slice()
            .try_into()
            .map_err(|_| Fault::internal("an audit device has a salt of the wrong length"))?;
        Ok(DeviceConfig {
            path: self.path.clone(),
            kind: self.kind.clone(),
            description: self.description.clone(),
            options: self.options.clone(),
            local: self.local,
            declared: self.declared,
            salt: DeviceSalt::from_bytes(salt),
        })
    }
}

/// The owner of the devices.
pub struct Audits {
    broker: Broker,
    stored: Cached<Vec<Arc<DeviceRecord>>>,
    /// Held while the broker is brought to what is stored, so that no older list overtakes a newer one.
    following: Mutex<()>,
    /// Whether all devices that are stored were known at some time.
    knows_all: AtomicBool,
}

impl Audits {
    /// Opens the local log and starts the stored devices. What cannot be read keeps the node sealed (DR-19). A node of a
    /// cluster may not have all that is stored yet, and keeps what it has for devices that it does not know.
    ///
    /// # Errors
    /// When the store or the log's directory fails.
    pub async fn load(
        txn: &mut Txn,
        barrier: &Barrier,
        doors: &Doors,
        settings: &Settings,
        is_clustered: bool,
    ) -> Result<Self, Fault> {
        let stored = read_devices(txn)?;
        let configs = stored.iter().map(|device| device.config()).collect::<Result<Vec<_>, _>>()?;
        let options = Options {
            log: LogOptions { keeps_unknown: is_clustered, ..settings.audit_log.clone() },
            standard_output: settings.standard_output.clone(),
            standard_error: settings.standard_error.clone(),
            references: settings.audit_references.clone(),
            process_id: settings.process_id,
            protected_directories: settings.protected_directories.clone(),
            prefix_allowed: settings.audit_prefix_allowed,
            gather: settings.audit_gather,
            ..Options::default()
        };
        let key = barrier.derive_subkey("audit-log");
        let broker = Broker::open(doors.clone(), settings.audit_directory.clone(), key, configs, options).await?;
        let stored = Cached::new(prefix()?, txn, stored);
        Ok(Self { broker, stored, following: Mutex::default(), knows_all: AtomicBool::new(false) })
    }

    /// Everything that was acknowledged is applied here, and the devices follow it.
    pub(crate) fn are_known(&self) {
        if !self.knows_all.swap(true, Ordering::AcqRel) {
            self.broker.knows_all();
        }
    }

    /// The devices as a transaction sees them, in order of path: whoever was told that a path is taken finds it in a
    /// listing, even while the answer to its taking is not out yet.
    ///
    /// # Errors
    /// When the store fails.
    pub fn devices(&self, txn: &mut Txn) -> Result<Vec<Arc<DeviceRecord>>, Fault> {
        read_devices(txn)
    }

    /// Stores a device after checking that it can be opened.
    ///
    /// # Errors
    /// A refusal when the path is taken or the options make no sense.
    pub async fn enable(&self, txn: &mut Txn, mut device: DeviceRecord, entropy: &dyn Entropy) -> Result<(), Fault> {
        let key = prefix()?
            .key(&name(&device.path))
            .map_err(|_| Fault::invalid("the path of the audit device is no name"))?;
        if txn.read(&key).map_err(Fault::internal)?.is_some() {
            return Err(Fault::invalid("path already in use"));
        }
        if device.is_fallback() && read_devices(txn)?.iter().any(|known| known.is_fallback()) {
            return Err(Fault::invalid("another device is the fallback already"));
        }
        device.salt = SecretBytes::new(DeviceSalt::generate(entropy).expose().to_vec());
        // Opening it now tells the operator what is wrong; the broker opens it again after the commit.
        drop(self.broker.prepare(device.config()?).await?);
        txn.write(&key, &device.encode()).map_err(Fault::internal)
    }

    /// Removes a device; removing nothing is fine.
    ///
    /// # Errors
    /// A refusal when the configuration declares it; when the store fails.
    pub fn disable(&self, txn: &mut Txn, path: &str) -> Result<(), Fault> {
        let key = prefix()?.key(&name(path)).map_err(|_| Fault::invalid("the path of the audit device is no name"))?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(()) };
        // What cannot be read is nobody's any more, and must be removable.
        if DeviceRecord::decode(&bytes).is_ok_and(|device| device.declared) {
            return Err(Fault::invalid("cannot disable configuration-managed audit device"));
        }
        txn.delete(&key).map_err(Fault::internal)
    }

    /// How a device shows a text; `None` when there is no such device.
    #[must_use]
    pub fn hash(&self, path: &str, text: &str) -> Option<String> {
        self.broker.hash(path, text).ok()
    }

    /// Lets devices open their files anew.
    pub fn reopen(&self) {
        self.broker.reopen();
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> KeyPrefix {
        self.stored.prefix().clone()
    }

    /// Whether a change is of the devices.
    pub(crate) fn is_touched_by(&self, changed: &Changed) -> bool {
        self.stored.is_touched_by(changed)
    }

    /// Brings the broker to what is stored, after a commit that touched it.
    pub(crate) fn reload(&self, txn: &mut Txn) -> Result<(), Fault> {
        let stored = read_devices(txn)?;
        self.stored.replace(txn, stored);
        let following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.stored.load();
        let configs = newest.iter().map(|device| device.config()).collect::<Result<Vec<_>, _>>()?;
        let followed = self.broker.follow(configs);
        drop(following);
        Ok(followed?)
    }

    /// Why requests are refused because they cannot be recorded; `None` while they can.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.broker.refusal()
    }

    /// Records that no device took.
    #[must_use]
    pub const fn missed(&self) -> &Counter {
        self.broker.missed()
    }

    /// What each device counted and timed, by path.
    #[must_use]
    pub fn numbers(&self) -> Vec<(String, Arc<Numbers>)> {
        self.broker.numbers()
    }

    /// How the local log and the devices are doing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.broker.standing()
    }

    /// Whether the devices known, and those that are told of records, are the stored ones.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let (stored, known) = (read_devices(txn)?, self.stored.load());
        let told: Vec<String> = self.broker.standing().devices.into_iter().map(|device| device.path).collect();
        let mut paths: Vec<String> = stored.iter().map(|device| device.path.clone()).collect();
        paths.sort_unstable();
        Ok(salts(&stored) == salts(&known) && told == paths)
    }

    pub(crate) async fn record_request(&self, entry: &RequestEntry<'_>) -> Result<(), Fault> {
        Ok(self.broker.record_request(entry).await?)
    }

    /// Whether records are taken.
    pub(crate) fn is_enabled(&self) -> bool {
        self.broker.is_enabled()
    }

    pub(crate) fn encode_response(&self, write: impl FnOnce() -> WrittenResponse) -> EncodedResponse {
        self.broker.encode_response(write)
    }

    pub(crate) async fn record_response(
        &self,
        encoded: EncodedResponse,
        outcome: Result<Response, Fault>,
    ) -> Audited<Result<Response, Fault>> {
        match self.broker.record_response(encoded, outcome).await {
            Ok(audited) => audited,
            Err(unrecorded) => {
                tracing::error!(error = %unrecorded.error, "an answer could not be recorded and is withheld");
                unrecorded.refuse_outcome()
            }
        }
    }

    pub(crate) async fn close(&self) {
        if !self.broker.close(FLUSH_BOUND).await {
            tracing::warn!("audit devices are behind; they go on after the next unsealing");
        }
    }

    /// A device that is about to be stored; its salt is made when it is.
    #[must_use]
    pub fn describe(
        path: String,
        kind: String,
        description: String,
        options: BTreeMap<String, String>,
        local: bool,
    ) -> DeviceRecord {
        DeviceRecord { path, kind, description, options, local, declared: false, salt: SecretBytes::new(Vec::new()) }
    }
}

fn prefix() -> Result<KeyPrefix, Fault> {
    keys::audit_devices().map_err(Fault::internal)
}

/// A device's path as one name: devices are a flat list.
fn name(path: &str) -> String {
    path.trim_end_matches('/').replace('%', "%25").replace('/', "%2F")
}

/// What tells a device from every other, even from one of the same path before or after it.
fn salts(devices: &[Arc<DeviceRecord>]) -> Vec<Vec<u8>> {
    devices.iter().map(|device| device.salt.expose().clone()).collect()
}

fn read_devices(txn: &mut Txn) -> Result<Vec<Arc<DeviceRecord>>, Fault> {
    let prefix = prefix()?;
    let mut devices = Vec::new();
    for name in every_name(txn, &prefix).map_err(Fault::internal)? {
        let key = prefix.key(&name).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { continue };
        devices.push(Arc::new(DeviceRecord::decode(&bytes).map_err(Fault::internal)?));
    }
    Ok(devices)
}
