//! What the log does beside appends: the next segment is made ready before it is needed, and files of entries that are
//! gone are used again or removed.
//!
//! Asking for a [`Plan`] and telling the log that it is [`Done`] cost nothing; what waits for the disk is between the
//! two, where nobody who appends has to wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile};

use crate::LogError;
use crate::log::Log;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How the name of a file ends that is not whole yet.
pub(crate) const UNFINISHED_SUFFIX: &str = ".unfinished";

/// A file that is ready to become the next segment: it has its name and length, and both are durable.
pub(crate) struct Vacant {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) length: u64,
}

/// A file that holds nothing that is still needed.
pub(crate) struct Retired {
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
}

/// What is to be done on the disk.
pub struct Plan {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// Number and length of the segment to make.
    make: Option<(u64, u64)>,
    retired: Vec<Retired>,
}

/// What was done, and what could not be.
pub struct Done {
    vacant: Option<Vacant>,
    /// Files that could not be used again or removed yet.
    left: Vec<Retired>,
    failure: Option<LogError>,
}

pub(crate) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.segment"))
}

impl Plan {
    /// Does it; takes as long as the disk takes. What failed is told by [`Log::adopt`], which must be given this in any
    /// case: what is left is tried again.
    #[must_use]
    pub fn run(mut self) -> Done {
        let (mut vacant, mut failure) = (None, None);
        let mut make = self.make;
        if let Some((number, length)) = make
            && let Some(at) = self.retired.iter().position(|old| old.length == length)
        {
            let old = self.retired.swap_remove(at);
            match self.recycle(old, number) {
                Ok(made) => vacant = Some(made),
                Err((old, error)) => {
                    // It may have the name already that another one would get.
                    make = None;
                    self.retired.push(old);
                    failure = Some(error);
                }
            }
        }
        // Before anything is made: on a full disk that is the room for it.
        let mut left = Vec::new();
        for old in std::mem::take(&mut self.retired) {
            match self.disk.remove(&old.path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    failure = Some(LogError::io(&old.path, source));
                    left.push(old);
                }
                _ => {}
            }
        }
        if vacant.is_none()
            && let Some((number, length)) = make
        {
            match create(&*self.disk, &self.directory, number, segment_path(&self.directory, number), length) {
                Ok(made) => vacant = Some(made),
                Err(error) => failure = Some(error),
            }
        }
        Done { vacant, left, failure }
    }

    fn recycle(&self, mut old: Retired, number: u64) -> Result<Vacant, (Retired, LogError)> {
        let path = segment_path(&self.directory, number);
        if let Err(source) = self.disk.rename(&old.path, &path) {
            return Err((old, LogError::io(&path, source)));
        }
        old.path.clone_from(&path);
        let opened = self.disk.sync_directory(&self.directory).and_then(|()| self.disk.open(&path, Open::OrCreate));
        match opened {
            Ok(file) => Ok(Vacant { number, file, length: old.length, path }),
            Err(source) => Err((old, LogError::io(&path, source))),
        }
    }
}

/// Writes a file of zeros: written ones, because a hole or an unwritten extent would make every sync write metadata.
pub(crate) fn create(
    disk: &dyn Disk,
    directory: &Path,
    number: u64,
    path: PathBuf,
    length: u64,
) -> Result<Vacant, LogError> {
    let io = |source| LogError::io(&path, source);
    // It gets its name when it is whole: a segment that is shorter than it was is damage.
    let unfinished = directory.join(format!("{number:016x}{UNFINISHED_SUFFIX}"));
    let made = disk.open(&unfinished, Open::OrCreate).and_then(|file| {
        fill(&*file, length)?;
        disk.rename(&unfinished, &path)?;
        disk.sync_directory(directory)?;
        Ok(file)
    });
    match made {
        Ok(file) => Ok(Vacant { number, file, length, path }),
        Err(source) => {
            // Half a segment must not take what little space there is until the log is opened again.
            drop(disk.remove(&unfinished));
            drop(disk.remove(&path));
            Err(io(source))
        }
    }
}

/// Fills a file with zeros, durably.
fn fill(file: &dyn DiskFile, length: u64) -> std::io::Result<()> {
    let mut at = 0;
    while at < length {
        let part = usize::try_from(length - at).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all_at(at, ZEROS.get(..part).unwrap_or_default())?;
        at += part as u64;
    }
    file.sync()
}

impl Log {
    /// Whether [`Log::plan`] would have one.
    #[must_use]
    pub fn has_plan(&self) -> bool {
        !self.has_failed && (self.wants_segment() || !self.retired.is_empty())
    }

    /// What the log would like to be done on the disk; `None` when there is nothing. One plan at a time.
    #[must_use]
    pub fn plan(&mut self) -> Option<Plan> {
        if self.has_failed {
            return None;
        }
        let make = self.wants_segment().then(|| (self.take_number(), self.next_size()));
        if make.is_some()
            && let Some(large) = self.vacant.take()
        {
            self.retired.push(Retired { path: large.path, length: large.length });
        }
        let retired = std::mem::take(&mut self.retired);
        (make.is_some() || !retired.is_empty()).then(|| Plan {
            disk: Arc::clone(&self.disk),
            directory: self.directory.clone(),
            make,
            retired,
        })
    }

    /// Takes over what was done.
    ///
    /// # Errors
    /// What failed on the way, if anything did; the log goes on without.
    pub fn adopt(&mut self, done: Done) -> Result<(), LogError> {
        self.retired.extend(done.left);
        if let Some(made) = done.vacant {
            // Meanwhile an append that could not wait may have made one itself; numbers only rise along the log.
            let last = self.segments.back().map_or(0, |last| last.number);
            if self.vacant.is_none() && made.number > last {
                self.vacant = Some(made);
            } else {
                self.retired.push(Retired { path: made.path, length: made.length });
            }
        }
        done.failure.map_or(Ok(()), Err)
    }
}
