//! The `file` device: lines of JSON at the end of a file, on standard output, or nowhere.
//!
//! Before each delivery the path is asked for its file, and the file is written to at its end of that moment, so that a
//! rotated, truncated or deleted one is noticed without a signal; a file that was deleted while it was written to gets
//! its lines again under its name. Lines are whole: what a failed write left behind is cut off again or ended by a
//! newline. Where a device may write is narrow (PLG-01): an API field could otherwise place bytes of the caller's choice
//! anywhere. Where its path really leads is asked at every opening, since links change. Deliberately absent: when a file is
//! put aside (`file/rotation.rs`).

mod rotation;

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tresor_env::disk::{Disk, DiskFile, FileIdentity, Open};
use tresor_env::tasks::{Workers, run_blocking};
use tresor_env::{BoxFuture, Clock, Doors, Timestamp};

use crate::broker::{Options, StandardOutput};
use crate::device::DeviceConfig;
use crate::error::AuditError;
use crate::record::Lines;
use crate::sink::{AuditSink, SinkError, SinkKind, Undelivered};
use rotation::Rotation;

/// Makes `file` devices. Those of one kind that write to the same file take turns, so that no line is written over
/// another.
#[derive(Default)]
pub struct FileSinkKind {
    turns: Arc<Turns>,
    /// Whether somebody writes to standard output: a pipe that nobody reads holds one thread, not one per attempt.
    output_is_busy: Arc<AtomicBool>,
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
        &["file_path", "mode", "path", "rotate_bytes", "rotate_duration", "rotate_keep"]
    }

    fn check(&self, config: &DeviceConfig, options: &Options) -> Result<(), AuditError> {
        Named::of(config, options).map(drop)
    }

    fn open(&self, doors: &Doors, config: &DeviceConfig, options: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        let target = match Named::of(config, options)? {
            Named::Nowhere => Target::Nowhere,
            Named::Output(output) => Target::Output(output, Arc::clone(&self.output_is_busy)),
            Named::File { path, mode, rotation } => {
                let file = Place {
                    disk: Arc::clone(&doors.disk),
                    clock: Arc::clone(&doors.clock),
                    plain: path,
                    protected: options.protected_directories.clone(),
                    turns: Arc::clone(&self.turns),
                    mode,
                    rotation,
                    held: Mutex::default(),
                };
                file.make_directory()?;
                let held = file.open(&file.resolve()?, None).map_err(|error| cannot_be_opened(&file.plain, &error))?;
                *file.held() = Some(held);
                Target::File(Arc::new(file))
            }
        };
        Ok(Arc::new(FileSink { workers: Arc::clone(&doors.workers), target }))
    }
}

/// Where the options say that a device writes.
enum Named {
    Nowhere,
    Output(StandardOutput),
    File { path: PathBuf, mode: Option<u32>, rotation: Rotation },
}

impl Named {
    fn of(config: &DeviceConfig, options: &Options) -> Result<Self, AuditError> {
        let mode = checked_mode(config.option("mode").unwrap_or_default())?;
        let rotation = Rotation::of(config)?;
        let named = config.option("file_path").or_else(|| config.option("path")).unwrap_or_default();
        let is = |word: &str| named.eq_ignore_ascii_case(word);
        if named.is_empty() {
            return Err(AuditError::option("`file_path` is required"));
        }
        let output = if is("stdout") {
            Some(options.standard_output.clone().ok_or(AuditError::option("`stdout` is not available here"))?)
        } else if is("stderr") {
            Some(options.standard_error.clone().ok_or(AuditError::option("`stderr` is not available here"))?)
        } else {
            None
        };
        if output.is_none() && !is("discard") {
            let path = check_path(named, &options.protected_directories)?;
            return Ok(Self::File { path, mode, rotation });
        }
        if rotation.is_wanted() {
            return Err(AuditError::option(format!("`{}` and its kin need a file", rotation::OPTIONS[0])));
        }
        Ok(output.map_or(Self::Nowhere, Self::Output))
    }
}

/// No execute bit, no special bit, nothing for everybody to write to; `None` leaves a file's mode as it is.
fn checked_mode(text: &str) -> Result<Option<u32>, AuditError> {
    if text.is_empty() {
        return Ok(None);
    }
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    match mode {
        None => Err(AuditError::option("`mode` must be an octal file mode")),
        Some(mode) if mode & 0o7111 != 0 => Err(AuditError::option("`mode` must not have execute or special bits")),
        Some(mode) if mode & 0o002 != 0 => Err(AuditError::option("`mode` must not let everybody write")),
        Some(0) => Ok(None),
        Some(mode) if mode & 0o600 != 0o600 => Err(AuditError::option("`mode` must let the server read and write")),
        Some(mode) => Ok(Some(mode)),
    }
}

/// What whoever enables a device can do something about, in words.
fn cannot_be_opened(path: &Path, error: &io::Error) -> AuditError {
    let cause = match error.kind() {
        io::ErrorKind::NotFound => "its directory is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "the server has no permission to".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::NotADirectory => "what should be its directory is a file".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system can only be read".to_owned(),
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        _ => error.to_string(),
    };
    AuditError::option(format!("`file_path` cannot be opened: `{}`: {cause}", path.display()))
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
    mode: Option<u32>,
    rotation: Rotation,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
}

/// A file that is held open.
#[derive(Clone)]
struct Held {
    file: Arc<dyn DiskFile>,
    /// `None` where files cannot be told apart: it is opened for each delivery then.
    identity: Option<FileIdentity>,
    turn: Arc<Turn>,
    /// Whether opening it made it.
    is_new: bool,
    /// When its first line was written, as far as that is known and asked for.
    began: Timestamp,
}

impl Place {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the path really leads now: neither a link nor a relative path is a way around what is protected.
    fn resolve(&self) -> Result<PathBuf, AuditError> {
        let real = self.disk.resolve(&self.plain).map_err(|error| cannot_be_opened(&self.plain, &error))?;
        self.check(&real)?;
        Ok(real)
    }

    /// Checks where a path really leads.
    fn check(&self, real: &Path) -> Result<(), AuditError> {
        let protected: Vec<PathBuf> =
            self.protected.iter().map(|path| self.disk.resolve(path).unwrap_or_else(|_| path.clone())).collect();
        check_place(real, &protected)
    }

    /// Makes the directory of the file where it is missing, for the server alone; not where a link leads into what is
    /// protected.
    fn make_directory(&self) -> Result<(), AuditError> {
        if self.disk.resolve(&self.plain).is_ok() {
            return Ok(());
        }
        let directory = self.plain.parent().unwrap_or(Path::new(""));
        let there = directory.ancestors().find_map(|above| Some((above, self.disk.resolve(above).ok()?)));
        // What has nothing above it is told when it is opened.
        let Some((above, real)) = there else { return Ok(()) };
        let real = directory.strip_prefix(above).map_or_else(|_| real.clone(), |rest| real.join(rest));
        self.check(&real)?;
        self.disk.create_directory(&real).map_err(|error| cannot_be_opened(&self.plain, &error))
    }

    /// Opens the file; one that this makes gets the mode of the one before, unless the device has one.
    fn open(&self, real: &Path, former_mode: Option<u32>) -> io::Result<Held> {
        let (file, is_new) = match self.disk.open(real, Open::New) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (self.disk.open(real, Open::OrCreate)?, false)
            }
            Err(error) => return Err(error),
        };
        if let Some(mode) = self.mode.or(former_mode.filter(|_| is_new)) {
            file.set_mode(mode)?;
        }
        let identity = file.identity().ok();
        let known = if self.rotation.is_wanted() { rotation::beginning(&*file) } else { None };
        let began = known.unwrap_or_else(|| self.clock.wall());
        Ok(Held { file, identity, turn: self.turns.of(real), is_new, began })
    }

    /// The file that the path leads to now.
    fn current(&self) -> io::Result<Held> {
        let held = self.held().clone();
        let still = held.filter(|held| {
            let named = self.disk.identity(&self.plain).ok();
            matches!((held.identity, named), (Some(own), Some(named)) if own.is(named))
        });
        if let Some(held) = still {
            return Ok(held);
        }
        let real = self.resolve().map_err(io::Error::other)?;
        let held = self.open(&real, None)?;
        *self.held() = Some(held.clone());
        Ok(held)
    }

    /// Puts the file aside if it is large or old enough; one that cannot be put aside goes on growing.
    fn rotate(&self, held: &Held, more: usize) -> io::Result<()> {
        let now = self.clock.wall();
        if !self.rotation.is_due(held.file.length()?, more, held.began, now) {
            return Ok(());
        }
        let real = self.resolve().map_err(io::Error::other)?;
        let turn = held.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.rotation.put_aside(&*self.disk, &real, &*held.file, now);
        drop(turn);
        if let Err(error) = done {
            tracing::warn!(%error, "the file of an audit device cannot be put aside; it goes on growing");
            return Ok(());
        }
        let next = self.open(&real, held.file.mode().ok())?;
        *self.held() = Some(next);
        Ok(())
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        if self.rotation.is_wanted() {
            self.rotate(&self.current()?, lines.len())?;
        }
        // Once more when the file was deleted while it was written to: the lines are in a file that nobody finds.
        for _ in 0..2 {
            let held = self.current()?;
            let turn = held.turn.lock().unwrap_or_else(PoisonError::into_inner);
            append(&*held.file, lines)?;
            drop(turn);
            if held.file.identity().ok().is_none_or(|identity| identity.names > 0) {
                return Ok(());
            }
        }
        Err(io::Error::other("the file is deleted again and again"))
    }

    /// Writes a line and takes it away again: so it is known that there is room.
    fn probe(&self, line: &[u8]) -> io::Result<()> {
        let held = self.current()?;
        let turn = held.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let end = held.file.length()?;
        let written = held.file.write_all_at(end, line);
        let restored = held.file.set_length(end);
        drop(turn);
        let outcome = written.and(restored);
        if outcome.is_err() && held.is_new && end == 0 {
            // What fails leaves nothing behind.
            drop(self.resolve().map(|real| self.disk.remove(&real)));
        }
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let held = self.held().clone();
        let Some(held) = held else { return Ok(()) };
        held.file.sync()?;
        let real = self.resolve().map_err(io::Error::other)?;
        self.disk.sync_directory(real.parent().unwrap_or(Path::new("")))
    }
}

enum Target {
    Nowhere,
    Output(StandardOutput, Arc<AtomicBool>),
    File(Arc<Place>),
}

struct FileSink {
    workers: Arc<dyn Workers>,
    target: Target,
}

impl FileSink {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        match run_blocking(&*self.workers, work).await {
            Ok(outcome) => Ok(outcome?),
            Err(panicked) => Err(SinkError(panicked.to_string().into())),
        }
    }
}

impl AuditSink for FileSink {
    fn deliver(&self, lines: Arc<Lines>) -> BoxFuture<'_, Result<(), Undelivered>> {
        Box::pin(async move {
            match &self.target {
                Target::Nowhere => {}
                Target::Output(output, busy) => {
                    let (output, busy) = (Arc::clone(output), Arc::clone(busy));
                    self.blocking(move || say(&output, &busy, lines.bytes())).await?;
                }
                Target::File(file) => {
                    let file = Arc::clone(file);
                    self.blocking(move || file.append(lines.bytes())).await?;
                }
            }
            Ok(())
        })
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let Target::File(file) = &self.target else { return Ok(()) };
            let file = Arc::clone(file);
            self.blocking(move || file.sync()).await
        })
    }

    fn probe(&self, line: Arc<Lines>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let Target::File(file) = &self.target else { return Ok(()) };
            let file = Arc::clone(file);
            self.blocking(move || file.probe(line.bytes())).await
        })
    }

    /// The next delivery opens the file anew, whatever its name leads to.
    fn reopen(&self) {
        if let Target::File(file) = &self.target {
            *file.held() = None;
        }
    }
}

/// Writes to standard output, one at a time.
fn say(output: &StandardOutput, busy: &AtomicBool, lines: &[u8]) -> io::Result<()> {
    if busy.swap(true, Ordering::AcqRel) {
        return Err(io::Error::other("nobody reads standard output"));
    }
    let said = output(lines);
    busy.store(false, Ordering::Release);
    said
}

fn append(file: &dyn DiskFile, lines: &[u8]) -> io::Result<()> {
    let length = file.length()?;
    let mut end = length;
    if let Some(last) = length.checked_sub(1) {
        let mut byte = [0];
        file.read_exact_at(last, &mut byte)?;
        if byte != *b"\n" {
            file.write_all_at(end, b"\n")?;
            end += 1;
        }
    }
    let written = file.write_all_at(end, lines);
    if written.is_err() {
        // If this fails too, the next delivery starts a new line.
        drop(file.set_length(length));
    }
    written
}
