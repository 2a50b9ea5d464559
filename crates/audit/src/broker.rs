//! The one place that requests meet audit: it takes records, and owns the devices that are told of them.
//!
//! Invariants: a record is in the local log before [`Broker::record_request`] or [`Broker::record_response`] gives
//! its proof; no request ever waits for a device; enabling and disabling take no lock that a writer or a device can
//! hold. With no device enabled nothing is recorded and everything is accepted, as in the reference. Deliberately
//! absent: the storing of device configurations and the routes of `sys/audit` (the core's and the system engine's).

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Tasks};
use tresor_metrics::Counter;
use tresor_secret::{DataKey, Wiped};
use zeroize::Zeroizing;

use crate::codec;
use crate::coverage::Coverage;
use crate::device::DeviceConfig;
use crate::entry::{Admission, RequestEntry, WrittenResponse};
use crate::error::{AuditError, Unrecorded};
use crate::file::FileSinkKind;
use crate::http::HttpSinkKind;
use crate::log::{AuditLog, LogOptions, LogStanding};
pub use crate::numbers::Numbers;
use crate::sink::SinkKind;
use crate::socket::SocketSinkKind;
use crate::syslog::SyslogSinkKind;
use crate::tail::{Device, Prepared, kind_of};
use crate::witness::Audited;

/// How long a request waits for a device with `require_delivery`; its record stays, and is delivered later.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

/// Where a device writes that is told to write to standard output: takes whole lines.
pub type StandardOutput = Arc<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

/// Reads what a reference leads to; nothing when that cannot be read.
pub type References = Arc<dyn Fn(&str) -> Option<Zeroizing<String>> + Send + Sync>;

/// What the server's configuration says of audit.
#[derive(Clone)]
pub struct Options {
    /// The local log's bounds and durability.
    pub log: LogOptions,
    /// The kinds of devices that can be enabled.
    pub kinds: Vec<Arc<dyn SinkKind>>,
    /// Standard output, for `file_path=stdout`; without it such a device is refused.
    pub standard_output: Option<StandardOutput>,
    /// Standard error, for `file_path=stderr`.
    pub standard_error: Option<StandardOutput>,
    /// Reads what `env://NAME` or `file://PATH` leads to; for devices that the configuration declares.
    pub references: Option<References>,
    /// The number of this process, which syslog puts beside its name.
    pub process_id: u32,
    /// Directories and files that no device may write into: the server's data, configuration and keys (PLG-01).
    pub protected_directories: Vec<PathBuf>,
    /// Devices may put a prefix in front of their lines; default false (PLG-01).
    pub prefix_allowed: bool,
    /// Records that follow a delivery within this time are delivered together; default none.
    pub gather: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            kinds: vec![
                Arc::new(FileSinkKind::default()),
                Arc::new(SocketSinkKind),
                Arc::new(SyslogSinkKind),
                Arc::new(HttpSinkKind),
            ],
            standard_output: None,
            standard_error: None,
            references: None,
            process_id: 0,
            protected_directories: Vec::new(),
            prefix_allowed: false,
            gather: Duration::ZERO,
        }
    }
}

/// How audit is doing, for health reports and operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The local log; `log.accepting == false` means that requests are refused.
    pub log: LogStanding,
    /// The devices, by path.
    pub devices: Vec<DeviceStanding>,
    /// How many records no device took, because all have filters and none is a fallback.
    pub missed: u64,
}

/// How one device is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStanding {
    /// Its path.
    pub path: String,
    /// Its kind.
    pub kind: String,
    /// How many records it has not taken yet.
    pub lag_records: u64,
    /// How many bytes of the local log these are; exact when the device has caught up once.
    pub lag_bytes: u64,
    /// How long ago the oldest of them was made; zero until the first of them was offered.
    pub lag_age: Duration,
    /// Why it did not take the last ones; `None` while it does.
    pub last_error: Option<String>,
    /// How often in a row it did not take them.
    pub attempts: u64,
    /// How many lines the sink could only take in part since it was opened.
    pub cut_lines: u64,
    /// Whether the server's configuration declares it.
    pub declared: bool,
    /// Whether it gets what no other device takes.
    pub is_fallback: bool,
}

/// An answer written down, not recorded yet; nothing when no device is enabled.
#[must_use]
pub struct EncodedResponse(Option<WrittenResponse>);

/// Checks what is said of a device, without a look at where it leads.
///
/// # Errors
/// [`AuditError::InvalidOption`] with a text for whoever says it.
pub fn check(config: &DeviceConfig, options: &Options) -> Result<(), AuditError> {
    let kind = kind_of(config, options)?;
    config.rules(&**kind, options, options.prefix_allowed)?;
    kind.check(config, options)
}

/// Takes records and tells devices of them; dropping it stops the devices where they stand.
pub struct Broker {
    doors: Doors,
    options: Arc<Options>,
    log: Arc<AuditLog>,
    devices: Mutex<BTreeMap<String, Arc<Device>>>,
    coverage: Arc<Coverage>,
    /// How many records no device took.
    missed: Counter,
    tasks: Tasks,
}

impl Broker {
    /// Opens the local log (in `directory`, or in memory without one) and starts the devices where they stood. A
    /// device that cannot be opened is tried again and again and its records wait for it; it keeps nobody from
    /// unsealing. `key` must be a key of its own, derived for the audit log alone. Must be called within a runtime.
    ///
    /// # Errors
    /// [`AuditError::LogUnavailable`] when the directory cannot be read or written, [`AuditError::Damaged`] when a
    /// record that had been made durable is not what was written.
    pub async fn open(
        doors: Doors,
        directory: Option<PathBuf>,
        key: DataKey,
        devices: Vec<DeviceConfig>,
        options: Options,
    ) -> Result<Self, AuditError> {
        let options = Arc::new(options);
        let (opened_doors, opened_options) = (doors.clone(), Arc::clone(&options));
        let open = move || {
            let devices: Vec<Arc<Device>> = devices
                .into_iter()
                .map(|config| Arc::new(Device::stored(config, &opened_doors, &opened_options)))
                .collect();
            let cursors: Vec<String> = devices.iter().map(|device| device.cursor_name().to_owned()).collect();
            let log = AuditLog::open(opened_doors, directory, &key, opened_options.log.clone(), &cursors)?;
            Ok((devices, Arc::new(log)))
        };
        let (devices, log) = run_blocking(&*doors.workers, open)
            .await
            .map_err(|_| AuditError::LogUnavailable("opening panicked".into()))??;
        let opened = log.standing();
        if let Some(directory) = &opened.set_aside {
            tracing::warn!(directory = %directory.display(), "the audit log of the cluster of before is set aside");
        } else if opened.was_missing {
            const VANISHED: &str =
                "the local audit log has vanished: records that devices had not taken are lost with it";
            if options.log.keeps_unknown {
                tracing::warn!("there is no local audit log: this node is new to its cluster, or else {VANISHED}");
            } else {
                tracing::error!("{VANISHED}");
            }
        }
        if opened.lost_records > 0 {
            tracing::error!(records = opened.lost_records, "audit records are lost that a failing disk did not keep");
        }
        if opened.cut_bytes > 0 {
            tracing::warn!(bytes = opened.cut_bytes, "the end of the local audit log was torn, and is cut off");
        }
        let broker = Self {
            doors,
            options,
            log,
            devices: Mutex::default(),
            coverage: Arc::default(),
            missed: Counter::default(),
            tasks: Tasks::new(),
        };
        if let Some(syncer) = AuditLog::syncer(&broker.log) {
            broker.spawn_until_closed(syncer);
        }
        if let Some(preparer) = AuditLog::preparer(&broker.log) {
            broker.spawn_until_closed(preparer);
        }
        broker.spawn_until_closed(AuditLog::healer(&broker.log));
        for device in devices {
            broker.start(device);
        }
        Ok(broker)
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Device>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn_until_closed(&self, task: impl Future<Output = ()> + Send + 'static) {
        let log = Arc::clone(&self.log);
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = log.wait_until_closed() => {}
                () = task => {}
            }
        });
    }

    fn start(&self, device: Arc<Device>) {
        let from = self.log.position(device.cursor_name()).unwrap_or_else(|| self.log.head());
        self.coverage.begins(device.cursor_name(), device.takes().clone(), from);
        let (log, coverage) = (Arc::clone(&self.log), Arc::clone(&self.coverage));
        self.tasks.spawn(Arc::clone(&device).tail(self.doors.clone(), log, coverage));
        self.devices().insert(device.path().to_owned(), device);
    }

    /// Whether any device is enabled, so that records are taken.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.devices().is_empty()
    }

    /// Records a request before it has any effect. Only when this gives `Ok` may the request go on.
    ///
    /// # Errors
    /// [`AuditError::LogUnavailable`] or [`AuditError::BacklogFull`]: refuse the request.
    pub async fn record_request(&self, entry: &RequestEntry<'_>) -> Result<(), AuditError> {
        if !self.is_enabled() {
            return Ok(());
        }
        self.accept(codec::encode_request(entry), entry.admission).await
    }

    /// Has an answer written down for [`Broker::record_response`], if records are taken: the entry borrows from the
    /// answer, which is handed over only after. A request without any effect need not be recorded before: the record of
    /// its answer can say both.
    pub fn encode_response(&self, write: impl FnOnce() -> WrittenResponse) -> EncodedResponse {
        EncodedResponse(self.is_enabled().then(write))
    }

    /// Records an answer before it leaves, and gives the proof that the encoder asks for.
    ///
    /// # Errors
    /// [`Unrecorded`]: the answer must not leave; [`Unrecorded::refuse`] gives what may.
    pub async fn record_response<T>(&self, encoded: EncodedResponse, value: T) -> Result<Audited<T>, Unrecorded<T>> {
        let Some(WrittenResponse { record, admission }) = encoded.0 else { return Ok(Audited::witness(value)) };
        match self.accept(record, admission).await {
            Ok(()) => Ok(Audited::witness(value)),
            Err(error) => Err(Unrecorded { value, error }),
        }
    }

    async fn accept(&self, record: Wiped<Vec<u8>>, admission: Admission) -> Result<(), AuditError> {
        // Looked into only where every device has a filter and none takes the rest.
        if self.coverage.may_miss() && codec::decode_request(&record).is_some_and(|facts| self.coverage.misses(&facts))
        {
            self.missed.add(1);
        }
        let sequence = self.log.append(record, admission).await?;
        self.log.settle(sequence).await?;
        match admission {
            Admission::Ordinary => self.wait_for_delivery(sequence).await,
            // Or such a device could not be disabled.
            Admission::Reserve => Ok(()),
        }
    }

    /// Waits until every device that asks for it has taken a record.
    async fn wait_for_delivery(&self, sequence: u64) -> Result<(), AuditError> {
        let required: Vec<String> = {
            let devices = self.devices();
            let required = devices.values().filter(|device| device.requires_delivery());
            required.map(|device| device.cursor_name().to_owned()).collect()
        };
        if required.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.log.wait_until_delivered(&required, sequence + 1) => Ok(()),
            () = self.log.wait_until_closed() => Err(AuditError::Closed),
            () = self.doors.clock.sleep(DELIVERY_MAX) => Err(AuditError::Undelivered),
        }
    }

    /// Checks what is said of a device, without a look at where it leads.
    ///
    /// # Errors
    /// [`AuditError::InvalidOption`] with a text for whoever says it.
    pub fn check(&self, config: &DeviceConfig) -> Result<(), AuditError> {
        check(config, &self.options)
    }

    /// Checks a device and opens its sink, without enabling it: what can fail, fails here, before the core stores the
    /// configuration. Whether its path is free is for the core to say: the devices here follow what is stored, so the
    /// last one of a path that was just given up may still be among them.
    ///
    /// # Errors
    /// [`AuditError::InvalidOption`] with a text for the caller.
    pub async fn prepare(&self, config: DeviceConfig) -> Result<Prepared, AuditError> {
        let (doors, options) = (self.doors.clone(), Arc::clone(&self.options));
        let open = move || Device::open(config, &doors, &options);
        let prepared = run_blocking(&*self.doors.workers, open)
            .await
            .map_err(|_| AuditError::LogUnavailable("opening a device panicked".into()))??;
        prepared.device().probe(self.doors.clock.wall()).await?;
        Ok(prepared)
    }

    /// Enables a prepared device: it is told of every record from now on, the answer of the request that enables it
    /// included.
    ///
    /// # Errors
    /// [`AuditError::PathInUse`] when another device took the path meanwhile, or the same one is still being disabled; [`AuditError::LogUnavailable`] when the
    /// device's place in the log cannot be kept.
    pub fn enable(&self, prepared: Prepared) -> Result<(), AuditError> {
        let device = prepared.into_device();
        if self.devices().contains_key(device.path()) {
            return Err(AuditError::PathInUse);
        }
        self.log.register_at_head(device.cursor_name())?;
        self.start(device);
        Ok(())
    }

    /// Brings the devices to those that are stored: starts the new ones at the end of the log, lets go of those that
    /// are gone. A device that cannot be opened now is started all the same, and tried again. Whoever calls this twice
    /// at once must order the calls; calling it again after an error is right.
    ///
    /// # Errors
    /// [`AuditError::LogUnavailable`] when the place of a device in the log cannot be kept; all others are as they
    /// should be.
    pub fn follow(&self, stored: Vec<DeviceConfig>) -> Result<(), AuditError> {
        let wanted: Vec<Arc<Device>> =
            stored.into_iter().map(|config| Arc::new(Device::unopened(config, &self.options))).collect();
        let is_wanted = |device: &Device| wanted.iter().any(|wanted| wanted.cursor_name() == device.cursor_name());
        let gone: Vec<Arc<Device>> =
            self.devices().extract_if(.., |_, device| !is_wanted(device)).map(|(_, device)| device).collect();
        gone.iter().for_each(|device| self.let_go(device));
        let mut outcome = Ok(());
        for device in wanted {
            let is_known =
                self.devices().get(device.path()).is_some_and(|known| known.cursor_name() == device.cursor_name());
            if is_known {
                continue;
            }
            match self.log.register_at_head(device.cursor_name()) {
                Ok(()) => self.start(device),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// All devices that are stored are known: what was kept for others goes ([`LogOptions::keeps_unknown`]).
    pub fn knows_all(&self) {
        self.log.forget_unclaimed();
    }

    /// Disables a device: it is told of what was recorded so far if it takes it at once, and forgotten.
    ///
    /// # Errors
    /// [`AuditError::UnknownDevice`].
    pub fn disable(&self, path: &str) -> Result<(), AuditError> {
        let device = self.devices().remove(path).ok_or(AuditError::UnknownDevice)?;
        self.let_go(&device);
        Ok(())
    }

    fn let_go(&self, device: &Device) {
        let head = self.log.head();
        self.coverage.ends(device.cursor_name(), head);
        device.stop(head);
    }

    /// What the device of a path shows in the place of a text (`sys/audit-hash`).
    ///
    /// # Errors
    /// [`AuditError::UnknownDevice`].
    pub fn hash(&self, path: &str, text: &str) -> Result<String, AuditError> {
        let device = self.devices().get(path).cloned().ok_or(AuditError::UnknownDevice)?;
        Ok(device.hash(text))
    }

    /// Lets every device open its files anew (SIGHUP, after log rotation).
    pub fn reopen(&self) {
        let devices: Vec<_> = self.devices().values().cloned().collect();
        devices.iter().for_each(|device| device.reopen());
    }

    /// Why the local log takes no records, so that requests are refused; `None` while it does.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.log.refusal()
    }

    /// How the log and the devices are doing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let devices: Vec<_> = self.devices().values().cloned().collect();
        Standing {
            log: self.log.standing(),
            devices: devices.iter().map(|device| device.standing(&self.log, self.doors.clock.wall())).collect(),
            missed: self.missed.read(self.doors.clock.monotonic()).total,
        }
    }

    /// Records that no device took.
    #[must_use]
    pub const fn missed(&self) -> &Counter {
        &self.missed
    }

    /// What each device counted and timed, by path.
    #[must_use]
    pub fn numbers(&self) -> Vec<(String, Arc<Numbers>)> {
        self.devices().iter().map(|(path, device)| (path.clone(), Arc::clone(device.numbers()))).collect()
    }

    /// Waits until every device has taken what is recorded so far, at most `bound`; then makes the log durable.
    /// `true` when all did.
    pub async fn flush(&self, bound: Duration) -> bool {
        let names: Vec<String> = self.devices().values().map(|device| device.cursor_name().to_owned()).collect();
        let target = self.log.head();
        let drained = tokio::select! {
            biased;
            () = self.log.wait_until_delivered(&names, target) => true,
            () = self.doors.clock.sleep(bound) => false,
        };
        let log = Arc::clone(&self.log);
        let synced = run_blocking(&*self.doors.workers, move || log.sync()).await;
        drained && matches!(synced, Ok(Ok(())))
    }

    /// Flushes as [`Broker::flush`] does, then takes no record any more and lets every device end where it stands, so
    /// that another broker may open the same log. `true` when every device had taken everything.
    pub async fn close(&self, bound: Duration) -> bool {
        let flushed = self.flush(bound).await;
        self.log.close();
        self.tasks.finish(self.doors.clock.sleep(bound)).await;
        flushed
    }
}
