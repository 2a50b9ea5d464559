//! Who watches the log through the API: each gets the lines from its level up, as they are made.
//!
//! Nobody waits for a watcher: what it does not take in time is left out, and it is told how much. How many there are is
//! bounded. Deliberately absent: lines of before; these are on standard error.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tresor_core::process::LogChangeError;
use tresor_model::ByteStream;

use crate::config::LogFormat;

/// How many may watch at once.
const WATCHERS_MAX: usize = 16;
/// How many lines may wait for one of them.
const LINES_MAX: usize = 512;

struct Watcher {
    number: u64,
    level: Level,
    format: LogFormat,
    lines: mpsc::Sender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    next: u64,
    watchers: Vec<Watcher>,
}

/// Those who watch.
#[derive(Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<State>>);

impl Watchers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that anybody wants of a format.
    pub(crate) fn level(&self, format: LogFormat) -> Option<Level> {
        self.state().watchers.iter().filter(|watcher| watcher.format == format).map(|watcher| watcher.level).max()
    }

    /// Lets somebody watch; `left` is called when they are gone.
    pub(crate) fn watch(
        &self,
        level: Level,
        format: LogFormat,
        left: impl Fn() + Send + Sync + 'static,
    ) -> Result<ByteStream, LogChangeError> {
        let mut state = self.state();
        if state.watchers.len() >= WATCHERS_MAX {
            return Err(LogChangeError::TooMany);
        }
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        let (number, lost) = (state.next, Arc::new(AtomicU64::new(0)));
        state.next += 1;
        state.watchers.push(Watcher { number, level, format, lines, lost: Arc::clone(&lost) });
        drop(state);
        let watching = Watching { watchers: self.clone(), number, left: Box::new(left) };
        let receiver = Arc::new(Mutex::new(Some(receiver)));
        Ok(ByteStream::new(move || {
            let (receiver, lost) = (Arc::clone(&receiver), Arc::clone(&lost));
            let _ = &watching;
            Box::pin(async move {
                let taken = receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(mut lines) = taken else { return Ok(None) };
                let next = lines.recv().await;
                *receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(lines);
                let missing = lost.swap(0, Ordering::Relaxed);
                Ok(next.map(|mut line| {
                    if missing > 0 {
                        line.splice(..0, format!("{missing} lines were left out\n").into_bytes());
                    }
                    line
                }))
            })
        }))
    }

    /// Lets nobody watch any more.
    pub(crate) fn end(&self) {
        self.state().watchers.clear();
    }

    fn tell(&self, level: Level, format: LogFormat, line: &[u8]) {
        for watcher in self.state().watchers.iter().filter(|watcher| watcher.format == format) {
            if level <= watcher.level && watcher.lines.try_send(line.to_vec()).is_err() {
                watcher.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Takes a watcher out when it is gone.
struct Watching {
    watchers: Watchers,
    number: u64,
    left: Box<dyn Fn() + Send + Sync>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watchers.state().watchers.retain(|watcher| watcher.number != self.number);
        (self.left)();
    }
}

/// Where lines of one format go.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) watchers: Watchers,
    pub(crate) format: LogFormat,
}

/// A line that is being made.
pub(crate) struct Line<'w> {
    writer: &'w Writer,
    level: Level,
    text: Vec<u8>,
}

impl<'w> MakeWriter<'w> for Writer {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line { writer: self, level: Level::ERROR, text: Vec::new() }
    }

    fn make_writer_for(&'w self, meta: &tracing::Metadata<'_>) -> Line<'w> {
        Line { writer: self, level: *meta.level(), text: Vec::with_capacity(256) }
    }
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
        self.writer.watchers.tell(self.level, self.writer.format, &self.text);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn each_watcher_gets_its_lines_and_nobody_waits_for_one() {
        let watchers = Watchers::default();
        let gone = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&gone);
        let watch = |level| {
            let count = Arc::clone(&count);
            watchers.watch(level, LogFormat::Standard, move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert!(watchers.level(LogFormat::Standard).is_none());
        let (mut info, mut debug) = (watch(Level::INFO).unwrap(), watch(Level::DEBUG).unwrap());
        assert_eq!(watchers.level(LogFormat::Standard), Some(Level::DEBUG));
        assert!(watchers.level(LogFormat::Json).is_none());
        watchers.tell(Level::DEBUG, LogFormat::Standard, b"debug");
        watchers.tell(Level::WARN, LogFormat::Json, b"json");
        watchers.tell(Level::WARN, LogFormat::Standard, b"warn");
        assert_eq!(info.part().await.unwrap().unwrap(), b"warn");
        assert_eq!(debug.part().await.unwrap().unwrap(), b"debug");
        assert_eq!(debug.part().await.unwrap().unwrap(), b"warn");
        for _ in 0..LINES_MAX + 7 {
            watchers.tell(Level::ERROR, LogFormat::Standard, b"flood");
        }
        assert_eq!(info.part().await.unwrap().unwrap(), b"7 lines were left out\nflood");
        assert_eq!(info.part().await.unwrap().unwrap(), b"flood");
        drop((info, debug));
        assert_eq!((gone.load(Ordering::Relaxed), watchers.level(LogFormat::Standard)), (2, None));
        let mut all: Vec<ByteStream> = (0..WATCHERS_MAX).map(|_| watch(Level::INFO).unwrap()).collect();
        assert!(matches!(watch(Level::INFO), Err(LogChangeError::TooMany)));
        watchers.end();
        assert!(all.first_mut().unwrap().part().await.unwrap().is_none());
    }
}
