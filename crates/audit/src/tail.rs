//! One device: it follows the log from its own place, redacts with its own key, and delivers until taken.
//!
//! Invariants: in order, each record at least once; what a sink refuses is offered again, after a pause that doubles
//! up to half a minute; a device that hangs or fails holds up nobody else. Deliberately absent: giving up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tresor_env::Doors;
use tresor_env::tasks::run_blocking;

use crate::broker::{DeviceStanding, Options};
use crate::codec;
use crate::device::{DeviceConfig, FormatOptions};
use crate::error::AuditError;
use crate::log::{AuditLog, CURSOR_PREFIX, Reader, Record};
use crate::record::AuditRecord;
use crate::redact::Redactor;
use crate::sink::{AuditSink, SinkError};

/// How many records a sink is offered at once.
const BATCH_RECORDS_MAX: usize = 256;
/// How many bytes of sealed records a sink is offered at once, if more than one record.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The first pause after a refusal.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause after refusals.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a disabled device may take for what was recorded before.
const FAREWELL: Duration = Duration::from_secs(5);

/// One enabled device.
pub(crate) struct Device {
    config: DeviceConfig,
    options: Arc<Options>,
    redactor: Redactor,
    cursor_name: String,
    sink: Mutex<Option<Arc<dyn AuditSink>>>,
    last_error: Mutex<Option<String>>,
    /// The sequence up to which a disabled device is still served.
    stop: watch::Sender<Option<u64>>,
}

/// A device that was checked and opened and is not enabled yet.
pub struct Prepared(Arc<Device>);

impl Prepared {
    pub(crate) fn into_device(self) -> Arc<Device> {
        self.0
    }

    /// The configuration, to be stored before the device is enabled.
    #[must_use]
    pub fn config(&self) -> &DeviceConfig {
        &self.0.config
    }
}

impl Device {
    /// A device that is to be enabled: its options make sense and its sink can be opened, or it is refused.
    pub(crate) fn open(config: DeviceConfig, doors: &Doors, options: &Arc<Options>) -> Result<Prepared, AuditError> {
        let kind = kind_of(&config, options)?;
        let format = config.format_options(&**kind, options.prefix_allowed)?;
        let sink = kind.open(doors, &config, options)?;
        Ok(Prepared(Arc::new(Self::new(config, Arc::clone(options), format, Some(sink)))))
    }

    /// A device that was enabled before: what is wrong with it now is in its standing, and it is tried again.
    pub(crate) fn stored(config: DeviceConfig, doors: &Doors, options: &Arc<Options>) -> Self {
        let device = Self::unopened(config, options);
        // The tail tries again; the reason is in the standing by then.
        drop(device.opened_sink(doors));
        device
    }

    /// The same, opened by its tail.
    pub(crate) fn unopened(config: DeviceConfig, options: &Arc<Options>) -> Self {
        let format = kind_of(&config, options)
            .and_then(|kind| config.format_options(&**kind, true))
            .unwrap_or_else(|_| FormatOptions::strictest());
        Self::new(config, Arc::clone(options), format, None)
    }

    fn new(
        config: DeviceConfig,
        options: Arc<Options>,
        format: FormatOptions,
        sink: Option<Arc<dyn AuditSink>>,
    ) -> Self {
        let redactor = Redactor::new(&config.salt, format);
        // The salt is new with each enabling, so the name is of this device alone and tells nothing.
        let cursor_name = format!("{CURSOR_PREFIX}{}", redactor.cursor_id());
        Self {
            config,
            options,
            redactor,
            cursor_name,
            sink: Mutex::new(sink),
            last_error: Mutex::default(),
            stop: watch::Sender::new(None),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.config.path
    }

    pub(crate) fn cursor_name(&self) -> &str {
        &self.cursor_name
    }

    pub(crate) fn hash(&self, text: &str) -> String {
        self.redactor.hash(text)
    }

    pub(crate) fn reopen(&self) {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            sink.reopen();
        }
    }

    /// Serves the device up to `target` if it takes that at once, then lets it go.
    pub(crate) fn stop(&self, target: u64) {
        self.stop.send_replace(Some(target));
    }

    pub(crate) fn standing(&self, log: &AuditLog) -> DeviceStanding {
        let (lag_records, lag_bytes) = log.lag(&self.cursor_name);
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        DeviceStanding { path: self.config.path.clone(), lag_records, lag_bytes, last_error }
    }

    fn note(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn opened_sink(&self, doors: &Doors) -> Result<Arc<dyn AuditSink>, SinkError> {
        let known = self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = known {
            return Ok(sink);
        }
        let opened =
            kind_of(&self.config, &self.options).and_then(|kind| kind.open(doors, &self.config, &self.options));
        match opened {
            Ok(sink) => {
                *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&sink));
                Ok(sink)
            }
            Err(error) => {
                self.note(Some(error.to_string()));
                Err(SinkError(error.to_string().into()))
            }
        }
    }

    /// Follows the log until the device is disabled or the log is closed.
    pub(crate) async fn tail(self: Arc<Self>, doors: Doors, log: Arc<AuditLog>) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            () = self.end(&mut stop, &doors, &log) => {}
            () = self.follow(&doors, &log) => {}
        }
        if !log.is_closed() {
            log.forget(&self.cursor_name);
        }
    }

    /// Completes when a disabled device has taken what it should, or does not take it at once.
    async fn end(&self, stop: &mut watch::Receiver<Option<u64>>, doors: &Doors, log: &AuditLog) {
        let target = match stop.wait_for(Option::is_some).await {
            Ok(target) => target.unwrap_or_default(),
            Err(_) => return,
        };
        if self.last_error.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let names = [self.cursor_name.clone()];
        tokio::select! {
            biased;
            () = log.wait_until_delivered(&names, target) => {}
            () = doors.clock.sleep(FAREWELL) => {}
        }
    }

    async fn follow(&self, doors: &Doors, log: &Arc<AuditLog>) {
        let Some(position) = log.position(&self.cursor_name) else { return };
        let mut reader = Reader::starting_at(position);
        let mut pause = PAUSE_MIN;
        loop {
            tokio::select! {
                biased;
                () = log.wait_until_closed() => return,
                () = log.wait_for_record(reader.next()) => {}
            }
            match self.step(doors, log, &mut reader).await {
                Ok(()) => {
                    pause = PAUSE_MIN;
                    self.note(None);
                }
                Err(error) => {
                    self.note(Some(error.0.into_owned()));
                    tokio::select! {
                        biased;
                        () = log.wait_until_closed() => return,
                        () = doors.clock.sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                    // What was read is offered again from where the device stands.
                    reader = Reader::starting_at(log.position(&self.cursor_name).unwrap_or(reader.next()));
                }
            }
        }
    }

    /// Delivers one batch and notes it.
    async fn step(&self, doors: &Doors, log: &Arc<AuditLog>, reader: &mut Reader) -> Result<(), SinkError> {
        let asked = reader.next();
        let records = read(doors, log, reader).await.map_err(|error| SinkError(error.to_string().into()))?;
        if records.is_empty() {
            if reader.next() == asked {
                return Err(SinkError("a record of the log is missing".into()));
            }
            log.advance(&self.cursor_name, reader.next(), 0);
            return Ok(());
        }
        let bytes = records.iter().map(|record| record.frame_bytes).sum();
        let shown = records
            .iter()
            .map(|record| codec::decode(&record.bytes).map(|entry| self.redactor.redact(&entry)))
            .collect::<Option<Vec<AuditRecord>>>()
            .ok_or(SinkError("a record of the log cannot be read by this version".into()))?;
        drop(records);
        let sink = self.opened_sink(doors)?;
        sink.deliver(&shown).await?;
        if log.syncs_each_record() {
            sink.sync().await?;
        }
        log.advance(&self.cursor_name, reader.next(), bytes);
        if log.wants_confirmation(&self.cursor_name) {
            sink.sync().await?;
            let (confirmed, name) = (Arc::clone(log), self.cursor_name.clone());
            let work = move || confirmed.confirm(&name);
            match run_blocking(&*doors.workers, work).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(SinkError(error.to_string().into())),
                Err(panicked) => return Err(SinkError(panicked.to_string().into())),
            }
        }
        Ok(())
    }
}

async fn read(doors: &Doors, log: &Arc<AuditLog>, reader: &mut Reader) -> Result<Vec<Record>, AuditError> {
    if let Some(records) = log.read_recent(reader, BATCH_RECORDS_MAX, BATCH_BYTES_MAX)? {
        return Ok(records);
    }
    let mut moved = std::mem::replace(reader, Reader::starting_at(reader.next()));
    let log = Arc::clone(log);
    let work = move || {
        let records = log.read_disk(&mut moved, BATCH_RECORDS_MAX, BATCH_BYTES_MAX);
        (records, moved)
    };
    let (records, moved) =
        run_blocking(&*doors.workers, work).await.map_err(|_| AuditError::LogUnavailable("reading panicked".into()))?;
    *reader = moved;
    records
}

fn kind_of<'a>(config: &DeviceConfig, options: &'a Options) -> Result<&'a Arc<dyn crate::sink::SinkKind>, AuditError> {
    options
        .kinds
        .iter()
        .find(|kind| kind.name() == config.kind)
        .ok_or_else(|| AuditError::option(format!("unknown backend type: \"{}\"", config.kind.escape_default())))
}
