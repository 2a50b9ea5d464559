//! A directory of scheduled snapshots: their names, which say when they were taken, and their bytes.
//!
//! A snapshot has its name only once it is whole and durable. What does not have such a name is somebody else's and is left
//! alone. Deliberately absent: what is in a snapshot, and when one is due. Everything here is blocking.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile, Timestamp};
use tresor_wire::time::{parse_rfc3339, rfc3339};

const PREFIX: &str = "tresor-";
const SUFFIX: &str = ".snap";
/// What is behind the name of one that is being written.
const UNFINISHED: &str = ".part";
/// Where one is restored to see whether it can be; a directory of the server's own, emptied each time, so its name must not
/// be that of somebody else's.
const REHEARSAL: &str = ".tresor-rehearsal";

/// The name of a snapshot: `tresor-20261129T074500Z.snap`.
pub(super) fn name(taken: Timestamp) -> String {
    let time = rfc3339(Timestamp::from_seconds(taken.seconds()));
    format!("{PREFIX}{}{SUFFIX}", time.replace(['-', ':'], ""))
}

/// When a snapshot was taken, by its name.
pub(super) fn taken(name: &str) -> Option<Timestamp> {
    let time = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let (date, clock) = time.split_once('T')?;
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (clock.get(..2)?, clock.get(2..4)?, clock.get(4..)?);
    parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}"))
}

/// The snapshots in a directory, oldest first.
pub(super) fn list(disk: &dyn Disk, directory: &Path) -> io::Result<Vec<(Timestamp, String)>> {
    let names = match disk.names(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let mut found: Vec<_> = names.into_iter().filter_map(|name| Some((taken(&name)?, name))).collect();
    found.sort();
    Ok(found)
}

/// A snapshot on its way to the disk.
pub(super) struct Unfinished {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    name: String,
    file: Arc<dyn DiskFile>,
    length: u64,
}

impl Unfinished {
    /// Begins one; what an attempt before left behind goes first.
    pub(super) fn begin(disk: &Arc<dyn Disk>, directory: &Path, name: String) -> io::Result<Self> {
        disk.create_directory(directory)?;
        for left in disk.names(directory)? {
            if left.strip_suffix(UNFINISHED).is_some_and(|name| taken(name).is_some()) {
                disk.remove(&directory.join(left))?;
            }
        }
        let file = disk.open(&directory.join(format!("{name}{UNFINISHED}")), Open::New)?;
        Ok(Self { disk: Arc::clone(disk), directory: directory.to_path_buf(), name, file, length: 0 })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(self.length, bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// What was written so far.
    pub(super) fn written(&self) -> Written {
        Written { file: Arc::clone(&self.file), length: self.length, offset: 0 }
    }

    /// Gives it its name, and removes the oldest ones beyond those that are kept.
    pub(super) fn finish(self, retain: usize) -> io::Result<()> {
        let Self { disk, directory, name, file, .. } = self;
        file.sync()?;
        disk.rename(&directory.join(format!("{name}{UNFINISHED}")), &directory.join(&name))?;
        disk.sync_directory(&directory)?;
        let kept = list(&*disk, &directory)?;
        for (_, old) in kept.iter().take(kept.len().saturating_sub(retain)) {
            disk.remove(&directory.join(old))?;
        }
        disk.sync_directory(&directory)
    }
}

/// Removes one that was not finished.
pub(super) fn abandon(disk: &dyn Disk, directory: &Path, name: &str) -> io::Result<()> {
    match disk.remove(&directory.join(format!("{name}{UNFINISHED}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Reads what was written, part by part.
pub(super) struct Written {
    file: Arc<dyn DiskFile>,
    length: u64,
    offset: u64,
}

impl Written {
    pub(super) const LENGTH_OF_PART: u64 = 1 << 20;

    pub(super) fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = (self.length - self.offset).min(Self::LENGTH_OF_PART);
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(self.offset, &mut bytes)?;
        self.offset += length;
        Ok(Some(bytes))
    }
}

/// Where snapshots of a directory are restored to see whether they can be.
pub(super) fn rehearsal(directory: &Path) -> PathBuf {
    directory.join(REHEARSAL)
}

/// Removes what a store left where it was restored; the directories stay, empty.
pub(super) fn clear_rehearsal(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let place = rehearsal(directory);
    if disk.resolve(&place)? != disk.resolve(directory)?.join(REHEARSAL) {
        let text = format!("`{}` leads elsewhere, and is to be emptied", place.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    clear(disk, &place)
}

fn clear(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let names = match disk.names(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for name in names {
        let path = directory.join(name);
        if disk.remove(&path).is_err() {
            // What cannot be removed is a directory, or says why when it is listed.
            clear(disk, &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_when_a_snapshot_was_taken_and_no_other_name_does() {
        let at = Timestamp::from_seconds(1_795_938_300);
        assert_eq!(name(at), "tresor-20261129T074500Z.snap");
        assert_eq!(taken(&name(at)), Some(at));
        assert_eq!(taken(&name(at.plus(std::time::Duration::from_millis(900)))), Some(at));
        for other in ["tresor-.snap", "tresor-20261129T0745Z.snap", "backup.snap", "tresor-20261129T074500Z.snap.part"]
        {
            assert_eq!(taken(other), None, "{other}");
        }
        assert_eq!(taken("tresor-éé61129T074500Z.snap"), None);
    }
}
