//! The server's log: lines on standard error, never a reason to wait.
//!
//! Whoever started the server may not read its pipes: lines go through a bounded queue to one thread, and when the
//! queue is full they are dropped and counted. Deliberately absent: bodies, tokens, and anything that is not a
//! message of ours: no dependency logs below `warn`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};
use tresor_core::process::LogChangeError;
use tresor_model::ByteStream;

use crate::config::{LogFormat, checked_format, checked_level};
use crate::log_file::LogFile;
use crate::watching::{Watchers, Writer};

/// How many lines may wait.
const QUEUE_LINES: usize = 4096;

/// How long the end of the server waits for the last lines to be written.
const FINISH_BOUND: Duration = Duration::from_secs(1);

/// The parts that log, as operators call them.
pub(crate) const LOGGERS: [&str; 6] = ["audit", "barrier", "core", "http", "server", "system"];

/// What is logged.
struct Levels {
    /// What is configured.
    configured: String,
    /// What an operator said since, by part.
    changed: BTreeMap<&'static str, String>,
}

/// What is made for those who watch, and what of it.
#[derive(Clone)]
struct Watched {
    watchers: Watchers,
    filters: [(LogFormat, reload::Handle<EnvFilter, Registry>); 2],
}

impl Watched {
    /// Makes as much as they want, and nothing when there is nobody.
    fn adjust(&self) {
        for (format, handle) in &self.filters {
            let wanted = self.watchers.level(*format).map_or_else(off, |level| {
                let configured = level.to_string().to_ascii_lowercase();
                filter(&Levels { configured, changed: BTreeMap::new() })
            });
            drop(handle.reload(wanted));
        }
    }
}

fn off() -> EnvFilter {
    EnvFilter::new("off")
}

/// The running log.
pub(crate) struct Log {
    level: reload::Handle<EnvFilter, Registry>,
    watched: Watched,
    levels: Mutex<Levels>,
    queue: SyncSender<Entry>,
}

/// What waits for the thread that writes.
enum Entry {
    Line(Vec<u8>),
    /// Everything before it is written: say so.
    Mark(SyncSender<()>),
    /// The file may have another name by now.
    Reopen,
}

impl Log {
    /// Changes what is configured; what was said of single parts is over.
    pub(crate) fn set_level(&self, level: &str) {
        // The level was checked when the configuration was read.
        self.change(|levels| *levels = Levels { configured: level.to_owned(), changed: BTreeMap::new() });
    }

    /// The parts, and the level of each.
    pub(crate) fn levels(&self) -> BTreeMap<String, String> {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        LOGGERS.iter().map(|logger| ((*logger).to_owned(), levels.of(logger).to_owned())).collect()
    }

    /// Changes the level of one part or of all; without a level, to what is configured.
    pub(crate) fn set(&self, logger: Option<&str>, level: Option<&str>) -> Result<(), LogChangeError> {
        let level = level.map(|level| checked_level(level).ok_or(LogChangeError::NoSuchLevel)).transpose()?;
        let chosen: Vec<&'static str> =
            LOGGERS.iter().copied().filter(|known| logger.is_none_or(|logger| logger == *known)).collect();
        if chosen.is_empty() {
            return Err(LogChangeError::NoSuchLogger);
        }
        self.change(|levels| {
            for logger in chosen {
                match &level {
                    Some(level) => drop(levels.changed.insert(logger, level.clone())),
                    None => drop(levels.changed.remove(logger)),
                }
            }
        });
        Ok(())
    }

    /// What is logged from now on, from a level up.
    pub(crate) fn watch(&self, level: &str, format: &str) -> Result<ByteStream, LogChangeError> {
        let level = checked_level(level).and_then(|level| level.parse::<Level>().ok());
        let level = level.ok_or(LogChangeError::NoSuchLevel)?;
        let format = checked_format(format).ok_or(LogChangeError::NoSuchFormat)?;
        let watched = self.watched.clone();
        let stream = self.watched.watchers.watch(level, format, move || watched.adjust())?;
        self.watched.adjust();
        Ok(stream)
    }

    /// Lets nobody watch any more: the server stops.
    pub(crate) fn end_watching(&self) {
        self.watched.watchers.end();
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut levels);
        drop(self.level.reload(filter(&levels)));
    }

    /// Goes on in the file that has the log's name now.
    pub(crate) fn reopen(&self) {
        // A log that is full goes on where it is.
        drop(self.queue.try_send(Entry::Reopen));
    }

    /// Waits until what was logged so far is written, but not for a reader that does not read.
    pub(crate) fn finish(&self) {
        let (sender, written) = sync_channel(1);
        if self.queue.try_send(Entry::Mark(sender)).is_ok() {
            // Too late is no error: the lines are lost then.
            let _ = written.recv_timeout(FINISH_BOUND);
        }
    }
}

/// The library of the consensus says at each attempt that a node is not reached; what carries the messages says it once.
fn filter(levels: &Levels) -> EnvFilter {
    let of_parts = LOGGERS.iter().map(|logger| format!(",tresor_{logger}={}", levels.of(logger)));
    EnvFilter::new(format!("warn,openraft=off,tresor={}{}", levels.configured, of_parts.collect::<String>()))
}

impl Levels {
    fn of(&self, logger: &str) -> &str {
        self.changed.get(logger).unwrap_or(&self.configured)
    }
}

#[derive(Clone)]
struct Lines {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

struct Line<'l> {
    lines: &'l Lines,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Err(TrySendError::Full(_)) = self.lines.queue.try_send(Entry::Line(std::mem::take(&mut self.text))) {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Line<'l>;

    fn make_writer(&'l self) -> Line<'l> {
        Line { lines: self, text: Vec::with_capacity(256) }
    }
}

/// Lets panics be logged by their place alone: what they say may hold values (LOG-07).
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked; the request that caused it fails, and nothing else");
    }));
}

/// Makes lines of one format of what a filter lets through.
fn lines<W>(
    format: LogFormat,
    writer: W,
    filter: reload::Layer<EnvFilter, Registry>,
) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer();
    match format {
        LogFormat::Standard => layer.with_ansi(false).with_writer(writer).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_writer(writer).with_filter(filter).boxed(),
    }
}

/// Starts the log of the process.
pub(crate) fn start(level: &str, format: LogFormat, mut file: Option<LogFile>) -> Log {
    let (queue, entries) = sync_channel::<Entry>(QUEUE_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        let mut output = io::stderr();
        for entry in entries {
            let line = match entry {
                Entry::Line(line) => line,
                Entry::Mark(sender) => {
                    let _ = sender.try_send(());
                    continue;
                }
                Entry::Reopen => {
                    file.iter_mut().for_each(LogFile::reopen);
                    continue;
                }
            };
            let lost = counter.swap(0, Ordering::Relaxed);
            // Nobody to tell when standard error is gone.
            if lost > 0 {
                drop(writeln!(output, "{lost} log lines were dropped: standard error is not read"));
            }
            drop(output.write_all(&line));
            if let Some(told) = file.as_mut().and_then(|file| file.write(&line, SystemTime::now())) {
                drop(output.write_all(told.as_bytes()));
            }
        }
    });
    drop(spawned);
    let levels = Levels { configured: level.to_owned(), changed: BTreeMap::new() };
    let (filter, handle) = reload::Layer::new(filter(&levels));
    let writer = Lines { queue: queue.clone(), dropped };
    let mut layers = vec![lines(format, writer, filter)];
    let watchers = Watchers::default();
    let filters = [LogFormat::Standard, LogFormat::Json].map(|format| {
        let (filter, handle) = reload::Layer::new(off());
        layers.push(lines(format, Writer { watchers: watchers.clone(), format }, filter));
        (format, handle)
    });
    report_panics();
    // A second start in one process (tests) keeps the first log.
    drop(tracing_subscriber::registry().with(layers).try_init());
    Log { level: handle, watched: Watched { watchers, filters }, levels: Mutex::new(levels), queue }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]
    use super::*;

    #[test]
    fn levels_of_the_log_are_changed_part_by_part() {
        let log = start("info", LogFormat::Standard, None);
        let of = |name: &str| log.levels()[name].clone();
        assert_eq!(log.levels().len(), LOGGERS.len());
        log.set(Some("core"), Some("debug")).unwrap();
        assert_eq!((of("core"), of("http")), ("debug".to_owned(), "info".to_owned()));
        log.set(None, Some("WARNING")).unwrap();
        assert_eq!((of("core"), of("http")), ("warn".to_owned(), "warn".to_owned()));
        log.set(Some("http"), None).unwrap();
        assert_eq!((of("core"), of("http")), ("warn".to_owned(), "info".to_owned()));
        assert_eq!(log.set(None, Some("loud")), Err(LogChangeError::NoSuchLevel));
        assert_eq!(log.set(Some("moon"), Some("info")), Err(LogChangeError::NoSuchLogger));
        // What is configured counts again when it is read again.
        log.set_level("error");
        assert!(log.levels().values().all(|level| level == "error"));
    }

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_07_a_panic_is_logged_by_its_place_and_not_by_its_text() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let before = std::panic::take_hook();
        report_panics();
        let caught = tracing::subscriber::with_default(subscriber, || {
            std::panic::catch_unwind(|| {
                let value = "canary-in-a-panic";
                panic!("cannot go on with {value}");
            })
        });
        std::panic::set_hook(before);
        assert!(caught.is_err());
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("logging.rs") && text.contains("panicked"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
