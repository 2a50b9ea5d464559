//! The server's log: lines on standard error, never a reason to wait.
//!
//! Whoever started the server may not read its pipes: lines go through a bounded queue to one thread, and when the
//! queue is full they are dropped and counted. Deliberately absent: bodies, tokens, and anything that is not a
//! message of ours: no dependency logs below `warn`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::LogFormat;

/// How many lines may wait.
const QUEUE_LINES: usize = 4096;

/// Changes the level of the running log.
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    pub(crate) fn set(&self, level: &str) {
        // The level was checked when the configuration was read.
        drop(self.0.reload(filter(level)));
    }
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "warn,tresor={level},tresor_core={level},tresor_server={level},tresor_http={level},tresor_audit={level},tresor_barrier={level},tresor_system={level}"
    ))
}

#[derive(Clone)]
struct Lines {
    queue: SyncSender<Vec<u8>>,
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
        if let Err(TrySendError::Full(_)) = self.lines.queue.try_send(std::mem::take(&mut self.text)) {
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

/// Starts the log of the process.
pub(crate) fn start(level: &str, format: LogFormat) -> LogLevel {
    let (queue, lines) = sync_channel::<Vec<u8>>(QUEUE_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        let mut output = io::stderr();
        for line in lines {
            let lost = counter.swap(0, Ordering::Relaxed);
            // Nobody to tell when standard error is gone.
            if lost > 0 {
                drop(writeln!(output, "{lost} log lines were dropped: standard error is not read"));
            }
            drop(output.write_all(&line));
        }
    });
    drop(spawned);
    let (filter, handle) = reload::Layer::new(filter(level));
    let writer = Lines { queue, dropped };
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first log.
    match format {
        LogFormat::Standard => {
            drop(registry.with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer)).try_init())
        }
        LogFormat::Json => drop(registry.with(tracing_subscriber::fmt::layer().json().with_writer(writer)).try_init()),
    }
    LogLevel(handle)
}
