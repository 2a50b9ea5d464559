//! The disk door: named files with positioned reads and writes and explicit syncs.
//!
//! What is written and not yet synced may vanish, partly or wholly, at a crash; a created, renamed or removed name
//! is certain only after [`Disk::sync_directory`] (names of directories are certain at once). Deliberately absent: memory maps, and any buffering of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist; opened for reading only.
    Existing,
    /// Created when absent, with mode 0600; opened for reading and writing.
    OrCreate,
    /// It must not exist; created with mode 0600.
    New,
}

/// What tells a file from every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The file system that it lies on.
    pub device: u64,
    /// Its number there.
    pub file: u64,
    /// How many names lead to it; none when it was removed and is only still open.
    pub names: u64,
}

impl FileIdentity {
    /// Whether both are the same file, whatever names it has by now.
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        self.device == other.device && self.file == other.file
    }
}

/// Files and directories by path.
pub trait Disk: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn DiskFile>>;

    /// The names (not paths) in a directory, sorted.
    ///
    /// # Errors
    /// What the operating system says.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory, mode 0700, and its parents; unlike those of files, their names are durable when this
    /// returns.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Where a path leads after every link in it; absolute, where there is such a thing. The file itself may be
    /// missing, its directory may not.
    ///
    /// # Errors
    /// What the operating system says.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// Renames a file, replacing the target atomically.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Which file a path leads to now.
    ///
    /// # Errors
    /// `NotFound`, or what the operating system says; `Unsupported` where files cannot be told apart.
    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes created, renamed and removed names of a directory durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Whether files can be created in a directory now.
    ///
    /// # Errors
    /// Why not: what the operating system says.
    fn check_writable(&self, directory: &Path) -> io::Result<()>;

    /// How many bytes may still be written below a directory.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
}

/// One open file; shared handles are fine, every call names its position.
pub trait DiskFile: Send + Sync {
    /// Reads exactly `out.len()` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end, else what the operating system says.
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all bytes at `offset`, growing the file when needed.
    ///
    /// # Errors
    /// What the operating system says; some of the bytes may have been written.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Current length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn length(&self) -> io::Result<u64>;

    /// How much of the disk it takes: less than its length when parts were never written.
    ///
    /// # Errors
    /// What the operating system says.
    fn occupied(&self) -> io::Result<u64>;

    /// Truncates or extends with zeros.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// What the operating system says; afterwards nothing may be assumed of unsynced bytes.
    fn sync(&self) -> io::Result<()>;

    /// Takes the exclusive lock of this file for as long as the handle lives.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    fn lock_exclusive(&self) -> io::Result<()>;

    /// Which file this is.
    ///
    /// # Errors
    /// What the operating system says; `Unsupported` where files cannot be told apart.
    fn identity(&self) -> io::Result<FileIdentity> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Who may read and write the file.
    ///
    /// # Errors
    /// What the operating system says; `Unsupported` where there are no modes.
    fn mode(&self) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sets who may read and write the file.
    ///
    /// # Errors
    /// What the operating system says; `Unsupported` where there are no modes.
    fn set_mode(&self, mode: u32) -> io::Result<()> {
        let _ = mode;
        Err(io::ErrorKind::Unsupported.into())
    }
}
