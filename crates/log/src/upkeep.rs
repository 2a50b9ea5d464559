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

/// What was done.
pub struct Done {
    vacant: Option<Vacant>,
}

pub(crate) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.segment"))
}

impl Plan {
    /// Does it; takes as long as the disk takes.
    ///
    /// # Errors
    /// [`LogError::Io`]; the log goes on without.
    pub fn run(mut self) -> Result<Done, LogError> {
        let vacant = match self.make {
            Some((number, length)) => {
                let path = segment_path(&self.directory, number);
                Some(match self.retired.iter().position(|old| old.length == length) {
                    Some(at) => self.recycle(at, number, path)?,
                    None => create(&*self.disk, &self.directory, number, path, length)?,
                })
            }
            None => None,
        };
        for old in &self.retired {
            self.disk.remove(&old.path).map_err(|source| LogError::io(&old.path, source))?;
        }
        Ok(Done { vacant })
    }

    fn recycle(&mut self, at: usize, number: u64, path: PathBuf) -> Result<Vacant, LogError> {
        let old = self.retired.swap_remove(at);
        let io = |source| LogError::io(&path, source);
        self.disk.rename(&old.path, &path).map_err(io)?;
        self.disk.sync_directory(&self.directory).map_err(io)?;
        let file = self.disk.open(&path, Open::OrCreate).map_err(io)?;
        Ok(Vacant { number, file, length: old.length, path })
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
    let file = disk.open(&unfinished, Open::OrCreate).map_err(io)?;
    extend(&*file, 0, length).map_err(io)?;
    disk.rename(&unfinished, &path).map_err(io)?;
    disk.sync_directory(directory).map_err(io)?;
    Ok(Vacant { number, file, length, path })
}

/// Fills a file with zeros from one offset to another, durably.
pub(crate) fn extend(file: &dyn DiskFile, from: u64, to: u64) -> std::io::Result<()> {
    let mut at = from;
    while at < to {
        let length = usize::try_from(to - at).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all_at(at, ZEROS.get(..length).unwrap_or_default())?;
        at += length as u64;
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
        let retired = std::mem::take(&mut self.retired);
        (make.is_some() || !retired.is_empty()).then(|| Plan {
            disk: Arc::clone(&self.disk),
            directory: self.directory.clone(),
            make,
            retired,
        })
    }

    /// Takes over what was done.
    pub fn adopt(&mut self, done: Done) {
        let Some(made) = done.vacant else { return };
        // Meanwhile an append that could not wait may have made one itself; numbers only rise along the log.
        let last = self.segments.back().map_or(0, |last| last.number);
        if self.vacant.is_none() && made.number > last {
            self.vacant = Some(made);
        } else {
            self.retired.push(Retired { path: made.path, length: made.length });
        }
    }
}
