//! Directories that a dev server has below the system's temporary one: they go with it, and what one that was killed left goes when
//! the next one starts.
//!
//! That a server runs says a lock on a file in its directory, which ends with the process, in whatever container that is.
//! Deliberately absent: anything that is to be kept.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What directories are called that have the stores of nodes; behind it stands the number of the process.
pub(crate) const STORES: &str = "tresor-dev-";
/// The same of certificates.
pub(crate) const CERTIFICATES: &str = "vault-tls-";

/// The file that is locked while the server runs.
const RUNS: &str = "runs";

/// Where such a directory of this process lies.
pub(crate) fn place(kind: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{kind}{}", std::process::id()))
}

/// A directory, for as long as the process runs.
pub(crate) struct DevDirectory {
    path: PathBuf,
    _runs: File,
}

impl DevDirectory {
    /// Makes one, and removes those that servers of this user left behind.
    pub(crate) fn make(kind: &str) -> Result<Self, String> {
        let path = place(kind);
        remove_left(&std::env::temp_dir());
        let made = DirBuilder::new().mode(0o700).create(&path).and_then(|()| locked(&path));
        let runs = made.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, _runs: runs })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DevDirectory {
    fn drop(&mut self) {
        // Left behind, it would be rubbish in a temporary directory.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// The file is there only when it is locked.
fn locked(directory: &Path) -> std::io::Result<File> {
    let coming = directory.join("starts");
    let file = File::create_new(&coming)?;
    file.lock()?;
    std::fs::rename(&coming, directory.join(RUNS))?;
    Ok(file)
}

/// Removes directories of servers that run no more. What cannot be removed is in nobody's way.
fn remove_left(temporary: &Path) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let number =
            name.to_str().and_then(|name| [STORES, CERTIFICATES].iter().find_map(|kind| name.strip_prefix(kind)));
        let is_ours = number.is_some_and(|number| number.parse::<u32>().is_ok()) && is_own_directory(&path);
        let Some(runs) = is_ours.then(|| File::open(path.join(RUNS)).ok()).flatten() else { continue };
        if runs.try_lock().is_ok() {
            drop(std::fs::remove_dir_all(&path));
        }
    }
}

/// Whether this user made it, and it leads nowhere else.
fn is_own_directory(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_runs_and_what_is_none_of_ours_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        for name in ["tresor-dev-1", "tresor-dev-2", "vault-tls-3", "tresor-dev-4", "tresor-dev-x", "other-5"] {
            std::fs::create_dir_all(at(name).join("node-1")).unwrap();
            if name != "tresor-dev-4" {
                File::create(at(name).join(RUNS)).unwrap();
            }
        }
        std::os::unix::fs::symlink(at("other-5"), at("tresor-dev-6")).unwrap();
        let running = File::open(at("tresor-dev-2").join(RUNS)).unwrap();
        running.lock().unwrap();
        remove_left(temporary.path());
        let mut left: Vec<_> =
            std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other-5", "tresor-dev-2", "tresor-dev-4", "tresor-dev-6", "tresor-dev-x"]);
        drop(running);
        remove_left(temporary.path());
        assert!(!at("tresor-dev-2").exists() && at("other-5").join("node-1").exists());
    }
}
