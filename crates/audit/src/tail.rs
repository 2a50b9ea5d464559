//! One device: it follows the log from its own place, redacts with its own key, and delivers until taken.
//!
//! Invariants: in order, each record at least once; what a sink refuses is offered again, after a pause that doubles
//! up to half a minute; a device that hangs or fails holds up nobody else; the place on disk moves only after the sink
//! has made durable what is before it, so no loss of power skips a record. Deliberately absent: giving up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Timestamp};

use crate::broker::{DeviceStanding, Numbers, Options};
use crate::coverage::{Coverage, Takes};
use crate::device::{DeviceConfig, Rules};
use crate::entry::{Entry, RequestFacts};
use crate::error::AuditError;
use crate::log::{AuditLog, CURSOR_PREFIX, Reader, Record};
use crate::record::{Lines, Room};
use crate::redact::{Redactor, Shown, Written};
use crate::sink::{AuditSink, SinkError, Undelivered};
use crate::way::Way;

/// How many records a sink is offered at once.
const BATCH_RECORDS_MAX: usize = 256;
/// How many bytes of records a sink is offered at once, if more than one record: few enough for what becomes of them to
/// stay near the processor.
const BATCH_BYTES_MAX: usize = 1 << 18;
/// The first pause after a refusal.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause after refusals.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long what was delivered may wait for its place on disk.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// After so long a delivery that goes on counts as hanging.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// How long a disabled device may take for what was recorded before.
const FAREWELL: Duration = Duration::from_secs(5);

/// One enabled device.
pub(crate) struct Device {
    config: DeviceConfig,
    options: Arc<Options>,
    redactor: Redactor,
    takes: Takes,
    numbers: Arc<Numbers>,
    cursor_name: String,
    requires_delivery: bool,
    sink: Mutex<Option<Arc<dyn AuditSink>>>,
    health: Mutex<Health>,
    /// The sequence up to which a disabled device is still served.
    stop: watch::Sender<Option<u64>>,
}

/// How a device is doing.
#[derive(Clone, Default)]
struct Health {
    last_error: Option<String>,
    /// How often in a row it did not take what it was offered.
    attempts: u64,
    /// When the oldest record that it has not taken was made.
    oldest: Option<Timestamp>,
}

/// A device that was checked and opened and is not enabled yet.
pub struct Prepared(Arc<Device>);

impl Prepared {
    pub(crate) fn device(&self) -> &Device {
        &self.0
    }

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
        let rules = config.rules(&**kind, options, options.prefix_allowed)?;
        let sink = kind.open(doors, &config, options)?;
        Ok(Prepared(Arc::new(Self::new(config, Arc::clone(options), rules, Some(sink)))))
    }

    /// Offers the sink a line to try with, unless the device's options say not to.
    pub(crate) async fn probe(&self, now: Timestamp) -> Result<(), AuditError> {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sink) = sink.filter(|_| !self.config.skips_test()) else { return Ok(()) };
        let mut lines = Lines::default();
        let entry = Entry::test(now);
        lines.push(|out| {
            // Where a filter does not let it through, whether the sink can be reached is tried all the same.
            if matches!(self.takes, Takes::Rest) || Coverage::default().is_for(&self.takes, 0, &entry.request) {
                self.redactor.write_line(&entry, out);
            }
        });
        let failed = |error: SinkError| AuditError::option(format!("audit backend failed test message: {error}"));
        sink.probe(Arc::new(lines)).await.map_err(failed)
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
        let rules = kind_of(&config, options)
            .and_then(|kind| config.rules(&**kind, options, true))
            .unwrap_or_else(|_| Rules::strictest());
        Self::new(config, Arc::clone(options), rules, None)
    }

    fn new(config: DeviceConfig, options: Arc<Options>, rules: Rules, sink: Option<Arc<dyn AuditSink>>) -> Self {
        let redactor = Redactor::shaped(&config.salt, rules.format, rules.shaping);
        // The salt is new with each enabling, so the name is of this device alone and tells nothing.
        let cursor_name = format!("{CURSOR_PREFIX}{}", redactor.cursor_id());
        let requires_delivery = config.requires_delivery();
        Self {
            config,
            options,
            redactor,
            takes: rules.takes,
            numbers: Arc::default(),
            cursor_name,
            requires_delivery,
            sink: Mutex::new(sink),
            health: Mutex::default(),
            stop: watch::Sender::new(None),
        }
    }

    /// Whether requests wait until it has taken their records.
    pub(crate) const fn requires_delivery(&self) -> bool {
        self.requires_delivery
    }

    pub(crate) fn path(&self) -> &str {
        &self.config.path
    }

    pub(crate) fn cursor_name(&self) -> &str {
        &self.cursor_name
    }

    /// Which records it takes.
    pub(crate) const fn takes(&self) -> &Takes {
        &self.takes
    }

    /// What it counted and timed.
    pub(crate) const fn numbers(&self) -> &Arc<Numbers> {
        &self.numbers
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

    pub(crate) fn standing(&self, log: &AuditLog, now: Timestamp) -> DeviceStanding {
        let (lag_records, lag_bytes) = log.lag(&self.cursor_name);
        let health = self.health().clone();
        let oldest = health.oldest.filter(|_| lag_records > 0);
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        DeviceStanding {
            path: self.config.path.clone(),
            kind: self.config.kind.clone(),
            lag_records,
            lag_bytes,
            lag_age: oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)),
            last_error: health.last_error,
            attempts: health.attempts,
            cut_lines: sink.map_or(0, |sink| sink.cut_lines()),
            declared: self.config.declared,
            is_fallback: matches!(self.takes, Takes::Rest),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the device does not take what it is offered.
    fn note_failure(&self, error: &str, log: &AuditLog) {
        let mut health = self.health();
        health.attempts += 1;
        let is_news = health.last_error.as_deref() != Some(error);
        health.last_error = Some(error.to_owned());
        let (attempts, oldest) = (health.attempts, health.oldest.map_or(0, Timestamp::seconds));
        drop(health);
        let (lag_records, lag_bytes) = log.lag(&self.cursor_name);
        let path = self.path();
        if is_news {
            tracing::warn!(path, error, lag_records, lag_bytes, "an audit device does not take its records");
        } else {
            tracing::debug!(path, error, attempts, lag_records, lag_bytes, oldest, "an audit device is still behind");
        }
    }

    /// Notes that it takes them again.
    fn note_success(&self, log: &AuditLog) {
        let before = std::mem::take(&mut *self.health());
        if before.last_error.is_some() {
            let (lag_records, _) = log.lag(&self.cursor_name);
            let (path, attempts) = (self.path(), before.attempts);
            tracing::info!(path, attempts, lag_records, "an audit device takes its records again");
        }
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
                let text = error.to_string();
                self.health().last_error.get_or_insert(text);
                Err(SinkError(error.to_string().into()))
            }
        }
    }

    /// Follows the log until the device is disabled or the log is closed.
    pub(crate) async fn tail(self: Arc<Self>, doors: Doors, log: Arc<AuditLog>, coverage: Arc<Coverage>) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            () = self.end(&mut stop, &doors, &log) => {}
            () = self.follow(&doors, &log, &coverage) => {}
        }
        if !log.is_closed() {
            let name = self.cursor_name.clone();
            // What it did not come to is for whoever takes what no other does.
            coverage.ends(&name, log.position(&name).unwrap_or(0));
            let work = move || log.forget(&name);
            if let Err(panicked) = run_blocking(&*doors.workers, work).await {
                tracing::error!(path = self.path(), %panicked, "an audit device that is gone could not be forgotten");
            }
        }
    }

    /// Completes when a disabled device has taken what it should, or does not take it at once.
    async fn end(&self, stop: &mut watch::Receiver<Option<u64>>, doors: &Doors, log: &AuditLog) {
        let target = match stop.wait_for(Option::is_some).await {
            Ok(target) => target.unwrap_or_default(),
            Err(_) => return,
        };
        if self.health().last_error.is_some() {
            return;
        }
        let names = [self.cursor_name.clone()];
        tokio::select! {
            biased;
            () = log.wait_until_delivered(&names, target) => {}
            () = doors.clock.sleep(FAREWELL) => {}
        }
    }

    async fn follow(&self, doors: &Doors, log: &Arc<AuditLog>, coverage: &Coverage) {
        let Some(position) = log.safe(&self.cursor_name) else { return };
        let mut place = Place {
            reader: Reader::starting_at(position),
            way: Way::default(),
            confirmed_at: Duration::ZERO,
            lines: Lines::default(),
        };
        let mut pause = PAUSE_MIN;
        let mut delivered_at = None;
        loop {
            tokio::select! {
                biased;
                () = log.wait_until_closed() => return self.part(doors, log, &mut place).await,
                () = log.wait_for_record(place.reader.next()) => {}
                () = doors.clock.sleep(CONFIRM_AFTER), if !place.way.is_empty() => {}
            }
            if !self.requires_delivery() {
                self.gather(doors, log, delivered_at).await;
            }
            let outcome = self.step(doors, log, coverage, &mut place).await;
            delivered_at = Some(doors.clock.monotonic());
            match outcome {
                Ok(()) => {
                    pause = PAUSE_MIN;
                    self.note_success(log);
                }
                Err(undelivered) => {
                    self.take_back(log, &mut place, undelivered.doubtful_bytes);
                    self.note_failure(&undelivered.error.0, log);
                    tokio::select! {
                        biased;
                        () = log.wait_until_closed() => return self.part(doors, log, &mut place).await,
                        () = doors.clock.sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Records that come close upon each other are delivered together; a full delivery waits for nothing.
    async fn gather(&self, doors: &Doors, log: &AuditLog, delivered_at: Option<Duration>) {
        let (records, bytes) = log.lag(&self.cursor_name);
        if records >= BATCH_RECORDS_MAX as u64 || bytes >= BATCH_BYTES_MAX as u64 {
            return;
        }
        let since = delivered_at.map(|then| doors.clock.monotonic().saturating_sub(then));
        if let Some(rest) =
            since.and_then(|since| self.options.gather.checked_sub(since)).filter(|rest| !rest.is_zero())
        {
            doors.clock.sleep(rest).await;
        }
    }

    /// Goes back to what may not have arrived, and to what was read and not taken.
    fn take_back(&self, log: &AuditLog, place: &mut Place, doubtful_bytes: u64) {
        if let Some((position, frame_bytes)) = place.way.take_back(doubtful_bytes) {
            log.rewind(&self.cursor_name, position, frame_bytes);
        }
        place.reader = Reader::starting_at(log.position(&self.cursor_name).unwrap_or(place.reader.next()));
    }

    /// Delivers one batch and notes it.
    async fn step(
        &self,
        doors: &Doors,
        log: &Arc<AuditLog>,
        coverage: &Coverage,
        place: &mut Place,
    ) -> Result<(), Undelivered> {
        let asked = place.reader.next();
        let failed = |error: AuditError| SinkError(error.to_string().into());
        let records = read(doors, log, &mut place.reader).await.map_err(failed)?;
        if records.is_empty() {
            if asked >= log.head() {
                return self.confirm_in_time(doors, log, place).await;
            }
            if place.reader.next() == asked {
                return Err(SinkError("a record of the log is missing".into()).into());
            }
            log.advance(&self.cursor_name, place.reader.next(), 0);
            return Ok(());
        }
        // Redacted texts are longer than what they stand for, seldom more than twice in all.
        let mut lines = std::mem::take(&mut place.lines);
        lines.reserve(2 * records.iter().map(|record| record.bytes.len()).sum::<usize>());
        let mut shown = Shown::default();
        let mut all: Vec<Written> = Vec::with_capacity(records.len());
        for record in &records {
            let takes = |facts: &RequestFacts<'_>| coverage.is_for(&self.takes, record.sequence, facts);
            let written = lines
                .push(|out| self.redactor.write_record(&record.bytes, &takes, &mut shown, out))
                .ok_or(SinkError("a record of the log cannot be read by this version".into()))?;
            if all.is_empty() {
                self.health().oldest = Some(written.time);
            }
            all.push(written);
        }
        drop(shown);
        let lines = Arc::new(lines);
        let outcome = if lines.bytes().is_empty() { Ok(()) } else { self.deliver(doors, log, &lines, &all).await };
        let taken = outcome.as_ref().map_or_else(|undelivered| undelivered.taken, |()| records.len());
        let mut position = asked;
        for (record, line) in records.iter().zip(lines.iter()).take(taken) {
            position = record.sequence + 1;
            place.way.push(position, record.frame_bytes, line.len());
        }
        let bytes = records.iter().take(taken).map(|record| record.frame_bytes).sum();
        let room = if self.redactor.shows_secrets() { Room::Wiped } else { Room::AsItIs };
        place.lines = Arc::into_inner(lines).map(|lines| lines.emptied(room)).unwrap_or_default();
        if outcome.is_ok() {
            position = place.reader.next();
        }
        if position > asked {
            log.advance(&self.cursor_name, position, bytes);
        }
        outcome?;
        self.confirm_in_time(doors, log, place).await
    }

    /// Hands the lines over; a sink that hangs is waited for, and its standing says so.
    async fn deliver(
        &self,
        doors: &Doors,
        log: &AuditLog,
        lines: &Arc<Lines>,
        written: &[Written],
    ) -> Result<(), Undelivered> {
        let begun = doors.clock.monotonic();
        let sink = self.opened_sink(doors)?;
        let mut delivery = sink.deliver(Arc::clone(lines));
        loop {
            tokio::select! {
                biased;
                outcome = &mut delivery => {
                    let took = doors.clock.monotonic().saturating_sub(begun);
                    let taken = outcome.as_ref().map_or_else(|undelivered| undelivered.taken, |()| written.len());
                    self.numbers.note(written, taken, took);
                    return outcome;
                }
                () = doors.clock.sleep(HANGS_AFTER) => {
                    let seconds = doors.clock.monotonic().saturating_sub(begun).as_secs();
                    self.note_failure(&format!("the device has not answered for {seconds} seconds"), log);
                }
            }
        }
    }

    /// Ends in good order, so that nothing is delivered twice when the log is opened again.
    async fn part(&self, doors: &Doors, log: &Arc<AuditLog>, place: &mut Place) {
        let Ok(sink) = self.opened_sink(doors) else { return };
        let window = if sink.farewell().await { 0 } else { sink.unconfirmed_bytes_max() };
        if let Some(position) = place.way.confirmable(window) {
            // If this fails, some records are delivered twice.
            drop(self.confirm(doors, log, &*sink, place, position).await);
        }
    }

    /// Moves the place on disk, when it is time to.
    async fn confirm_in_time(&self, doors: &Doors, log: &Arc<AuditLog>, place: &mut Place) -> Result<(), Undelivered> {
        let now = doors.clock.monotonic();
        let is_due = now.saturating_sub(place.confirmed_at) >= CONFIRM_AFTER;
        let sink = self.opened_sink(doors)?;
        let Some(position) = place.way.confirmable(sink.unconfirmed_bytes_max()) else {
            return Ok(());
        };
        if !is_due && !log.wants_confirmation(&self.cursor_name, position) {
            return Ok(());
        }
        place.confirmed_at = now;
        self.confirm(doors, log, &*sink, place, position).await
    }

    /// Moves the place on disk.
    async fn confirm(
        &self,
        doors: &Doors,
        log: &Arc<AuditLog>,
        sink: &dyn AuditSink,
        place: &mut Place,
        position: u64,
    ) -> Result<(), Undelivered> {
        // What cannot be made durable may be lost: it is delivered again.
        let in_doubt = |error: SinkError| Undelivered { taken: 0, doubtful_bytes: u64::MAX, error };
        sink.sync().await.map_err(in_doubt)?;
        let (confirmed, name) = (Arc::clone(log), self.cursor_name.clone());
        let work = move || confirmed.confirm(&name, position);
        match run_blocking(&*doors.workers, work).await {
            Ok(Ok(())) => {
                place.way.confirm(position);
                Ok(())
            }
            Ok(Err(error)) => Err(SinkError(error.to_string().into()).into()),
            Err(panicked) => Err(SinkError(panicked.to_string().into()).into()),
        }
    }
}

/// Where a device stands while it follows the log.
struct Place {
    reader: Reader,
    way: Way,
    /// When its place was last written to disk.
    confirmed_at: Duration,
    /// Room for what is delivered next.
    lines: Lines,
}

async fn read(doors: &Doors, log: &Arc<AuditLog>, reader: &mut Reader) -> Result<Vec<Record>, AuditError> {
    if let Some(records) = log.read_recent(reader, BATCH_RECORDS_MAX, BATCH_BYTES_MAX) {
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

pub(crate) fn kind_of<'a>(
    config: &DeviceConfig,
    options: &'a Options,
) -> Result<&'a Arc<dyn crate::sink::SinkKind>, AuditError> {
    options
        .kinds
        .iter()
        .find(|kind| kind.name() == config.kind)
        .ok_or_else(|| AuditError::option(format!("unknown backend type: \"{}\"", config.kind.escape_default())))
}
