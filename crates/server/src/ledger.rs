//! The ledger of observations as a file: a line of JSON for each.
//!
//! Lines go through a bounded queue to one thread. When the queue is full, or the disk takes nothing, they are dropped and
//! counted, and the count is a line of its own as soon as one can be written again: no request waits for the ledger, and
//! nobody who reads it takes it for whole where it is not. Deliberately absent: rotation; whoever renames the file sends SIGHUP.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tresor_model::Timestamp;
use tresor_wire::time::rfc3339;

use crate::config::ObservationsConfig;

/// How many lines may wait.
const QUEUE_LINES: usize = 8_192;
/// How long the end of the server waits for the last lines to be written.
const FINISH_BOUND: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Everything before it is written: say so.
    Mark(SyncSender<()>),
    /// The file may have another name by now.
    Reopen,
}

/// The running ledger.
pub(crate) struct Ledger {
    config: ObservationsConfig,
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Ledger {
    /// Opens the file, so that a mistake is told before the server starts, and begins to write.
    pub(crate) fn start(config: &ObservationsConfig) -> Result<Arc<Self>, String> {
        let file = open(config).map_err(|error| format!("ledger `{}`: {error}", config.path.display()))?;
        let (queue, entries) = sync_channel(QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer =
            Writer { config: config.clone(), file: Some(file), dropped: Arc::clone(&dropped), is_failing: false };
        let spawned = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(&entries));
        spawned.map_err(|error| format!("the thread that writes the ledger: {error}"))?;
        Ok(Arc::new(Self { config: config.clone(), queue, dropped }))
    }

    /// Goes on in the file that has the ledger's name now.
    pub(crate) fn reopen(&self) {
        // One that is full goes on where it is.
        drop(self.queue.try_send(Entry::Reopen));
    }

    /// Waits until what was taken so far is written, but not for a disk that does not take it.
    pub(crate) fn finish(&self) {
        let (sender, written) = sync_channel(1);
        if self.queue.try_send(Entry::Mark(sender)).is_ok() {
            // Too late is no error: the lines are lost then.
            let _ = written.recv_timeout(FINISH_BOUND);
        }
    }
}

impl tresor_core::observations::Ledger for Ledger {
    fn wants(&self, kind: &str) -> bool {
        self.config.wants(kind)
    }

    fn take(&self, line: Vec<u8>) {
        if self.queue.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn open(config: &ObservationsConfig) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(config.mode).open(&config.path)
}

struct Writer {
    config: ObservationsConfig,
    file: Option<File>,
    dropped: Arc<AtomicU64>,
    is_failing: bool,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        for entry in entries {
            match entry {
                Entry::Line(line) => self.write(&line),
                Entry::Reopen => self.file = None,
                Entry::Mark(sender) => {
                    let _ = sender.try_send(());
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        let before = if lost > 0 { dropped_line(lost) } else { Vec::new() };
        // Together, so that a count is never said twice.
        let written = self.try_write(&[before.as_slice(), line].concat());
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        if let Err(error) = written {
            self.dropped.fetch_add(lost + 1, Ordering::Relaxed);
            if !was_failing {
                tracing::error!(%error, path = %self.config.path.display(), "the ledger cannot be written to, and lacks lines");
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.config)?),
        };
        file.write_all(bytes).inspect_err(|_| self.file = None)
    }
}

fn dropped_line(number: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = rfc3339(Timestamp::from_seconds(i64::try_from(now).unwrap_or(i64::MAX)));
    format!("{{\"type\":\"ledger/dropped\",\"time\":\"{now}\",\"data\":{{\"count\":{number}}}}}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use tresor_core::observations::Ledger as _;

    use super::*;

    fn config(home: &tempfile::TempDir) -> ObservationsConfig {
        ObservationsConfig { path: home.path().join("ledger"), denied: Vec::new(), allowed: Vec::new(), mode: 0o640 }
    }

    #[test]
    fn sys_30_lines_are_written_in_order_and_another_file_is_begun_when_somebody_says_so() {
        let home = tempfile::tempdir().unwrap();
        let config = config(&home);
        let ledger = Ledger::start(&config).unwrap();
        ledger.take(b"one\n".to_vec());
        ledger.take(b"two\n".to_vec());
        ledger.finish();
        assert_eq!(std::fs::read_to_string(&config.path).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::metadata(&config.path).unwrap().permissions().mode() & 0o777, 0o640);
        let aside = home.path().join("aside");
        std::fs::rename(&config.path, &aside).unwrap();
        ledger.reopen();
        ledger.take(b"three\n".to_vec());
        ledger.finish();
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&config.path).unwrap(), "three\n");
        // What others wrote before stays.
        let again = Ledger::start(&config).unwrap();
        again.take(b"four\n".to_vec());
        again.finish();
        assert_eq!(std::fs::read_to_string(&config.path).unwrap(), "three\nfour\n");
    }

    #[test]
    fn sys_30_what_the_ledger_could_not_take_is_counted_in_it() {
        let home = tempfile::tempdir().unwrap();
        let config = config(&home);
        // Nobody takes what is in the queue.
        let (queue, entries) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let ledger = Ledger { config: config.clone(), queue, dropped: Arc::clone(&dropped) };
        for line in ["one\n", "two\n", "three\n"] {
            ledger.take(line.as_bytes().to_vec());
        }
        drop(ledger);
        // The disk is not there at first.
        let path = home.path().join("missing").join("ledger");
        let config = ObservationsConfig { path: path.clone(), ..config };
        let mut writer = Writer { config, file: None, dropped, is_failing: false };
        writer.write(b"four\n");
        std::fs::create_dir(home.path().join("missing")).unwrap();
        writer.run(&entries);
        let text = std::fs::read_to_string(&path).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let first: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!((&first["type"], &first["data"]["count"]), (&"ledger/dropped".into(), &3.into()));
        assert_eq!(rest, "one\n");
    }

    #[test]
    fn sys_30_a_ledger_that_cannot_be_opened_is_a_mistake_at_once() {
        let home = tempfile::tempdir().unwrap();
        let config = ObservationsConfig { path: home.path().join("no").join("where"), ..config(&home) };
        assert!(Ledger::start(&config).err().unwrap().contains("ledger `"));
    }
}
