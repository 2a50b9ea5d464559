//! Files of the system: private by default, positioned reads and writes, `fdatasync`.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, FlockOperation, OFlags, access, flock};
use tresor_env::disk::{FileIdentity, Open};
use tresor_env::{Disk, DiskFile};

/// The file system.
pub struct OsDisk;

struct OsFile(File);

fn identity(metadata: &Metadata) -> FileIdentity {
    FileIdentity { device: metadata.dev(), file: metadata.ino(), names: metadata.nlink() }
}

/// A directory given as nothing is the current one.
fn directory(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match open {
            Open::Existing => {}
            Open::OrCreate => {
                options.write(true).create(true);
            }
            Open::New => {
                options.write(true).create_new(true);
            }
        }
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        // A pipe without a reader must fail rather than hang; for regular files the flag means nothing.
        let file = options.custom_flags(nonblocking).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory(path))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let path = directory(path);
        let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !self::directory(ancestor).exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let above = |path: &'_ Path| self.sync_directory(path.parent().unwrap_or(path));
        // One that was there may have been made by a process that was killed before it could sync; the directory
        // above it need not be ours to open, though.
        if missing.is_empty() {
            drop(above(path));
        }
        missing.into_iter().rev().try_for_each(above)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match (std::fs::canonicalize(path), path.file_name()) {
            (Err(error), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                // A link that leads to nothing yet is followed when the file is created: it is no place of its own.
                if std::fs::symlink_metadata(path).is_ok() {
                    return Err(error);
                }
                Ok(std::fs::canonicalize(directory(path.parent().unwrap_or(Path::new(""))))?.join(name))
            }
            (resolved, _) => resolved,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        Ok(identity(&std::fs::metadata(path)?))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(directory(path))?.sync_all()
    }

    fn check_writable(&self, path: &Path) -> io::Result<()> {
        Ok(access(directory(path), Access::WRITE_OK | Access::EXEC_OK)?)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let told = rustix::fs::statvfs(directory(path))?;
        // What only the superuser may still use does not count.
        Ok(told.f_bavail.saturating_mul(told.f_frsize))
    }
}

impl DiskFile for OsFile {
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn occupied(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.blocks().saturating_mul(512))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        Ok(identity(&self.0.metadata()?))
    }

    fn mode(&self) -> io::Result<u32> {
        Ok(self.0.metadata()?.permissions().mode() & 0o7777)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.0.set_permissions(Permissions::from_mode(mode))
    }

    fn lock_exclusive(&self) -> io::Result<()> {
        flock(&self.0, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn directories_are_private_made_with_their_parents_and_once() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b/c");
        for _ in 0..2 {
            OsDisk.create_directory(&deep).unwrap();
        }
        for made in deep.ancestors().take(3) {
            assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
        }
        std::fs::write(home.path().join("file"), b"").unwrap();
        assert!(OsDisk.create_directory(&home.path().join("file")).is_err());
        OsDisk.create_directory(Path::new("")).unwrap();
    }

    #[test]
    fn the_free_space_of_a_directory_is_told() {
        let home = tempfile::tempdir().unwrap();
        assert!(OsDisk.free_bytes(home.path()).unwrap() > 0);
        let file = OsDisk.open(&home.path().join("a"), Open::New).unwrap();
        file.set_length(1 << 20).unwrap();
        assert!(file.occupied().unwrap() < 1 << 20);
        file.write_all_at(0, &[1; 1 << 16]).unwrap();
        file.sync().unwrap();
        assert!(file.occupied().unwrap() >= 1 << 16);
        assert!(OsDisk.free_bytes(&home.path().join("nothing")).is_err());
        OsDisk.check_writable(home.path()).unwrap();
        assert!(OsDisk.check_writable(&home.path().join("nothing")).is_err());
    }

    #[test]
    fn a_file_is_known_again_under_another_name_and_knows_when_it_has_none() {
        let home = tempfile::tempdir().unwrap();
        let (path, moved) = (home.path().join("a"), home.path().join("b"));
        let file = OsDisk.open(&path, Open::New).unwrap();
        let own = file.identity().unwrap();
        assert!(OsDisk.identity(&path).unwrap().is(own) && own.names == 1);
        OsDisk.rename(&path, &moved).unwrap();
        assert_eq!(OsDisk.identity(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(OsDisk.identity(&moved).unwrap().is(own));
        let other = OsDisk.open(&path, Open::New).unwrap();
        assert!(!other.identity().unwrap().is(own));
        OsDisk.remove(&moved).unwrap();
        assert_eq!(file.identity().unwrap().names, 0);
        other.set_mode(0o640).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(other.mode().unwrap(), 0o640);
    }

    #[test]
    fn files_are_private_and_locked_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        let file = OsDisk.open(&path, Open::New).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(OsDisk.open(&path, Open::New).is_err());
        file.lock_exclusive().unwrap();
        let second = OsDisk.open(&path, Open::OrCreate).unwrap();
        assert_eq!(second.lock_exclusive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        file.write_all_at(0, b"abc").unwrap();
        file.sync().unwrap();
        let mut out = [0; 2];
        second.read_exact_at(1, &mut out).unwrap();
        assert_eq!(&out, b"bc");
        assert_eq!(OsDisk.names(home.path()).unwrap(), ["a"]);
    }
}
