//! The `file` device: lines of JSON at the end of a file, on standard output, or nowhere.
//!
//! The file is opened anew for each delivery and written to at its end of that moment, so that a rotated, truncated
//! or deleted file is noticed without a signal. Lines are whole: what a failed write left behind is cut off again or
//! ended by a newline. Where a device may write is narrow (PLG-01): an API field could otherwise place bytes of the
//! caller's choice anywhere. Where its path really leads is asked at every opening, since links change. Deliberately absent: other modes than 0600, which the disk door does not offer yet.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tresor_env::disk::{Disk, DiskFile, Open};
use tresor_env::tasks::{Workers, run_blocking};
use tresor_env::{BoxFuture, Doors};
use zeroize::Zeroizing;

use crate::broker::{Options, StandardOutput};
use crate::device::DeviceConfig;
use crate::error::AuditError;
use crate::record::AuditRecord;
use crate::sink::{AuditSink, SinkError, SinkKind};

/// Makes `file` devices. Those of one kind that write to the same file take turns, so that no line is written over
/// another.
#[derive(Default)]
pub struct FileSinkKind {
    turns: Arc<Turns>,
}

/// Held while a file is written.
type Turn = Mutex<()>;

/// The turns by the real paths of the files.
#[derive(Default)]
struct Turns(Mutex<BTreeMap<PathBuf, Weak<Turn>>>);

impl Turns {
    fn of(&self, path: &Path) -> Arc<Turn> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(known) = turns.get(path).and_then(Weak::upgrade) {
            return known;
        }
        let turn = Arc::default();
        turns.insert(path.to_path_buf(), Arc::downgrade(&turn));
        turn
    }
}

impl SinkKind for FileSinkKind {
    fn name(&self) -> &'static str {
        "file"
    }

    fn option_names(&self) -> &'static [&'static str] {
        &["file_path", "mode", "path"]
    }

    fn open(&self, doors: &Doors, config: &DeviceConfig, options: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        check_mode(config.option("mode").unwrap_or_default())?;
        let named = config.option("file_path").or_else(|| config.option("path")).unwrap_or_default();
        let target = match named {
            "" => return Err(AuditError::option("`file_path` is required")),
            "discard" => Target::Nowhere,
            "stdout" => Target::Output(
                options.standard_output.clone().ok_or(AuditError::option("`stdout` is not available here"))?,
            ),
            path => {
                let file = Place {
                    disk: Arc::clone(&doors.disk),
                    plain: check_path(path, &options.protected_directories)?,
                    protected: options.protected_directories.clone(),
                    turns: Arc::clone(&self.turns),
                };
                file.open(&file.resolve()?).map_err(cannot_be_opened)?;
                Target::File(Arc::new(file))
            }
        };
        Ok(Arc::new(FileSink { workers: Arc::clone(&doors.workers), target }))
    }
}

/// No execute bit, no special bit, and of the rest what the disk door gives.
fn check_mode(text: &str) -> Result<(), AuditError> {
    if text.is_empty() {
        return Ok(());
    }
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    match mode {
        None => Err(AuditError::option("`mode` must be an octal file mode")),
        Some(mode) if mode & 0o7111 != 0 => Err(AuditError::option("`mode` must not have execute or special bits")),
        Some(0 | 0o600) => Ok(()),
        Some(_) => Err(AuditError::option("`mode` must be 0600, or 0000 to leave it as it is")),
    }
}

fn cannot_be_opened(error: io::Error) -> AuditError {
    AuditError::option(format!("`file_path` cannot be opened: {}", error.kind()))
}

/// The path of a device's file; what is refused is refused without a look at the disk.
fn check_path(text: &str, protected: &[PathBuf]) -> Result<PathBuf, AuditError> {
    if text.chars().any(char::is_control) {
        return Err(AuditError::option("`file_path` must be printable"));
    }
    if text.ends_with('/') {
        return Err(AuditError::option("`file_path` must name a file, not a directory"));
    }
    let path = Path::new(text);
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(AuditError::option("`file_path` must not contain `..`"));
    }
    if path.file_name().is_none() {
        return Err(AuditError::option("`file_path` must name a file, not a directory"));
    }
    // Rebuilt from its components, so that no other spelling of a protected directory passes.
    let plain: PathBuf = path.components().filter(|component| *component != Component::CurDir).collect();
    check_place(&plain, protected)?;
    Ok(plain)
}

fn check_place(plain: &Path, protected: &[PathBuf]) -> Result<(), AuditError> {
    let system = ["/proc", "/dev", "/sys"].into_iter().any(|directory| plain.starts_with(directory));
    let own = protected.iter().any(|directory| {
        let directory: PathBuf = directory.components().filter(|component| *component != Component::CurDir).collect();
        plain.starts_with(directory)
    });
    if system || own {
        return Err(AuditError::option("`file_path` lies in a directory that audit devices may not write into"));
    }
    Ok(())
}

/// Where a device writes: a file of the disk, by the path that it was configured with.
struct Place {
    disk: Arc<dyn Disk>,
    plain: PathBuf,
    protected: Vec<PathBuf>,
    turns: Arc<Turns>,
}

impl Place {
    /// Where the path really leads now: neither a link nor a relative path is a way around what is protected.
    fn resolve(&self) -> Result<PathBuf, AuditError> {
        let real = self.disk.resolve(&self.plain).map_err(cannot_be_opened)?;
        let protected: Vec<PathBuf> =
            self.protected.iter().map(|path| self.disk.resolve(path).unwrap_or_else(|_| path.clone())).collect();
        check_place(&real, &protected)?;
        Ok(real)
    }

    fn open(&self, real: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(real, Open::OrCreate)
    }

    fn append(&self, lines: Zeroizing<Vec<u8>>) -> io::Result<()> {
        let real = self.resolve().map_err(io::Error::other)?;
        let turn = self.turns.of(&real);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        append(&*self.open(&real)?, lines)
    }

    fn sync(&self) -> io::Result<()> {
        let real = self.resolve().map_err(io::Error::other)?;
        self.open(&real)?.sync()?;
        self.disk.sync_directory(real.parent().unwrap_or(Path::new("")))
    }
}

enum Target {
    Nowhere,
    Output(StandardOutput),
    File(Arc<Place>),
}

struct FileSink {
    workers: Arc<dyn Workers>,
    target: Target,
}

impl AuditSink for FileSink {
    fn deliver<'a>(&'a self, records: &'a [AuditRecord]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            if matches!(self.target, Target::Nowhere) {
                return Ok(());
            }
            let mut lines = Zeroizing::new(Vec::new());
            records.iter().for_each(|record| record.write_line(&mut lines));
            let written = match &self.target {
                Target::Nowhere => Ok(Ok(())),
                Target::Output(output) => {
                    let output = Arc::clone(output);
                    run_blocking(&*self.workers, move || output(&lines)).await
                }
                Target::File(file) => {
                    let file = Arc::clone(file);
                    run_blocking(&*self.workers, move || file.append(lines)).await
                }
            };
            match written {
                Ok(outcome) => Ok(outcome?),
                Err(panicked) => Err(SinkError(panicked.to_string().into())),
            }
        })
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let Target::File(file) = &self.target else { return Ok(()) };
            let file = Arc::clone(file);
            match run_blocking(&*self.workers, move || file.sync()).await {
                Ok(outcome) => Ok(outcome?),
                Err(panicked) => Err(SinkError(panicked.to_string().into())),
            }
        })
    }

    /// Nothing is held open between deliveries.
    fn reopen(&self) {}
}

fn append(file: &dyn DiskFile, mut lines: Zeroizing<Vec<u8>>) -> io::Result<()> {
    let end = file.length()?;
    if let Some(last) = end.checked_sub(1) {
        let mut byte = [0];
        file.read_exact_at(last, &mut byte)?;
        if byte != *b"\n" {
            lines.insert(0, b'\n');
        }
    }
    let written = file.write_all_at(end, &lines);
    if written.is_err() {
        // If this fails too, the next delivery starts a new line.
        drop(file.set_length(end));
    }
    written
}
