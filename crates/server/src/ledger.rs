//! The ledger of observations as a file: a line of JSON for each.
//!
//! Lines go through a bounded queue to one thread. When the queue is full, or the disk takes nothing, they are dropped and
//! counted, and the count is a line of its own as soon as one can be written again: no request waits for the ledger, and
//! nobody who reads it takes it for whole where it is not. Deliberately absent: rotation; whoever renames the file sends SIGHUP.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Nothing but to look around.
    Wake,
}

/// The running ledger.
pub(crate) struct Ledger {
    config: ObservationsConfig,
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
    /// The file may have another name by now.
    is_renamed: Arc<AtomicBool>,
}

impl Ledger {
    /// Opens the file, so that a mistake is told before the server starts, and begins to write.
    pub(crate) fn start(config: &ObservationsConfig) -> Result<Arc<Self>, String> {
        let file = open(config).map_err(|error| format!("ledger `{}`: {error}", config.path.display()))?;
        let (queue, entries) = sync_channel(QUEUE_LINES);
        let (dropped, is_renamed) = (Arc::default(), Arc::default());
        let mut writer = Writer::new(config, file, Arc::clone(&dropped));
        writer.is_renamed = Arc::clone(&is_renamed);
        let spawned = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(&entries));
        spawned.map_err(|error| format!("the thread that writes the ledger: {error}"))?;
        Ok(Arc::new(Self { config: config.clone(), queue, dropped, is_renamed }))
    }

    /// Goes on in the file that has the ledger's name now.
    pub(crate) fn reopen(&self) {
        self.is_renamed.store(true, Ordering::Release);
        // In a full queue there is something else to wake for.
        drop(self.queue.try_send(Entry::Wake));
    }

    /// Waits until what was taken so far is written, and what was dropped is said, but not for a disk that does not take it.
    pub(crate) fn finish(&self) {
        let (sender, written) = sync_channel(1);
        let queue = self.queue.clone();
        // A full queue takes it as soon as it can; the thread ends with the process if it never does.
        let wait = move || queue.send(Entry::Mark(sender));
        if std::thread::Builder::new().name("ledger-end".to_owned()).spawn(wait).is_ok() {
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

/// Whether a file ends in the middle of a line: the disk was full, or a writer ended there.
fn is_torn(file: &File, config: &ObservationsConfig) -> bool {
    let length = file.metadata().ok().filter(|facts| facts.is_file() && facts.len() > 0).map(|facts| facts.len());
    let Some(length) = length else { return false };
    let mut last = [0];
    // One that cannot be read may be; a line of nothing spoils none.
    let read = File::open(&config.path).and_then(|file| file.read_exact_at(&mut last, length - 1));
    read.is_err() || last != *b"\n"
}

struct Writer {
    config: ObservationsConfig,
    file: Option<File>,
    dropped: Arc<AtomicU64>,
    is_renamed: Arc<AtomicBool>,
    is_failing: bool,
    /// Whether a line is to be ended first that somebody began.
    is_torn: bool,
}

impl Writer {
    fn new(config: &ObservationsConfig, file: File, dropped: Arc<AtomicU64>) -> Self {
        let is_torn = is_torn(&file, config);
        Self {
            config: config.clone(),
            file: Some(file),
            dropped,
            is_renamed: Arc::default(),
            is_failing: false,
            is_torn,
        }
    }

    fn run(mut self, entries: &Receiver<Entry>) {
        for entry in entries {
            if self.is_renamed.swap(false, Ordering::Acquire) {
                self.file = None;
            }
            match entry {
                Entry::Line(line) => self.write(&line),
                Entry::Wake => {}
                Entry::Mark(sender) => {
                    self.write(&[]);
                    let _ = sender.try_send(());
                }
            }
        }
    }

    /// Writes a line, or none, after what it has to say of those that are missing.
    fn write(&mut self, line: &[u8]) {
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        if line.is_empty() && lost == 0 {
            return;
        }
        let before = if lost > 0 { dropped_line(lost) } else { Vec::new() };
        // Together, so that a count is never said twice.
        let written = self.try_write(&[before.as_slice(), line].concat());
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        if let Err(error) = written {
            self.dropped.fetch_add(lost + u64::from(!line.is_empty()), Ordering::Relaxed);
            if !was_failing {
                tracing::error!(%error, path = %self.config.path.display(), "the ledger cannot be written to, and lacks lines");
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = open(&self.config)?;
                self.is_torn = is_torn(&file, &self.config);
                none.insert(file)
            }
        };
        let end: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = file.write_all(&[end, bytes].concat());
        self.is_torn = false;
        written.inspect_err(|_| self.file = None)
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
        let is_renamed = Arc::default();
        let ledger = Ledger { config: config.clone(), queue, dropped: Arc::clone(&dropped), is_renamed };
        for line in ["one\n", "two\n", "three\n"] {
            ledger.take(line.as_bytes().to_vec());
        }
        drop(ledger);
        // The disk is not there at first.
        let path = home.path().join("missing").join("ledger");
        let config = ObservationsConfig { path: path.clone(), ..config };
        let is_renamed = Arc::default();
        let mut writer = Writer { config, file: None, dropped, is_renamed, is_failing: false, is_torn: false };
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

    #[test]
    fn sys_30_a_line_that_was_torn_by_a_full_disk_or_a_crash_spoils_no_other() {
        let home = tempfile::tempdir().unwrap();
        let config = config(&home);
        std::fs::write(&config.path, "{\"torn\":").unwrap();
        let ledger = Ledger::start(&config).unwrap();
        ledger.take(b"one\n".to_vec());
        ledger.finish();
        let text = || std::fs::read_to_string(&config.path).unwrap();
        assert_eq!(text(), "{\"torn\":\none\n");
        // A disk that takes half a line: what can be written to by nobody stands for it.
        let dropped = Arc::default();
        let mut writer = Writer::new(&config, open(&config).unwrap(), dropped);
        let half = [text().as_str(), "{\"ha"].concat();
        std::fs::write(&config.path, half).unwrap();
        writer.file = Some(File::open(&config.path).unwrap());
        writer.write(b"two\n");
        writer.write(b"three\n");
        let lines = text();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!((lines[2], lines[4]), ("{\"ha", "three"), "{lines:?}");
        assert!(lines[3].contains("\"data\":{\"count\":1}"), "{lines:?}");
    }

    #[test]
    fn sys_30_another_file_is_begun_however_many_lines_wait() {
        let home = tempfile::tempdir().unwrap();
        let config = config(&home);
        let (queue, entries) = sync_channel(1);
        let (dropped, is_renamed) = (Arc::default(), Arc::default());
        let mut writer = Writer::new(&config, open(&config).unwrap(), Arc::clone(&dropped));
        writer.is_renamed = Arc::clone(&is_renamed);
        let ledger = Ledger { config: config.clone(), queue, dropped, is_renamed };
        ledger.take(b"one\n".to_vec());
        std::fs::rename(&config.path, home.path().join("aside")).unwrap();
        ledger.reopen();
        drop(ledger);
        writer.run(&entries);
        assert_eq!(std::fs::read_to_string(&config.path).unwrap(), "one\n");
    }

    #[test]
    fn sys_30_the_last_thing_that_a_ledger_says_is_what_it_lacks() {
        let home = tempfile::tempdir().unwrap();
        let config = config(&home);
        let ledger = Ledger::start(&config).unwrap();
        ledger.dropped.fetch_add(7, Ordering::Relaxed);
        ledger.finish();
        let text = std::fs::read_to_string(&config.path).unwrap();
        assert!(text.starts_with("{\"type\":\"ledger/dropped\"") && text.contains("\"count\":7"), "{text}");
    }

    #[test]
    fn sys_30_a_ledger_that_ends_waits_for_its_turn_in_a_full_queue() {
        let home = tempfile::tempdir().unwrap();
        let config = config(&home);
        let (queue, entries) = sync_channel(1);
        let (dropped, is_renamed) = (Arc::default(), Arc::default());
        let mut writer = Writer::new(&config, open(&config).unwrap(), Arc::clone(&dropped));
        writer.is_renamed = Arc::clone(&is_renamed);
        let ledger = Ledger { config: config.clone(), queue, dropped, is_renamed };
        ledger.take(b"one\n".to_vec());
        ledger.take(b"two\n".to_vec());
        let begun = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                ledger.finish();
                let text = std::fs::read_to_string(&config.path).unwrap();
                drop(ledger);
                assert!(text.ends_with("one\n") && text.contains("\"count\":1"), "{text}");
            });
            begun.wait();
            writer.run(&entries);
        });
    }
}
