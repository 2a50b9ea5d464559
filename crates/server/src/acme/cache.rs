//! What is kept of certificates that a listener gets for itself: files that are the server's alone, replaced whole or not at all.
//!
//! A certificate and its key are one file, so that they always belong together. A proof lies there too, so that whichever of the
//! servers that share a directory is asked can show it. Deliberately absent: what the files mean.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tresor_env::disk::Open;
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Timestamp};
use zeroize::Zeroizing;

use crate::config::AcmeName;

/// The largest file that is read: a long chain and a long key.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// How long after it was begun nobody goes on with a file: clocks of servers differ, and disks hang.
const LEFT_AFTER: Duration = Duration::from_secs(3600);

/// A directory of them.
#[derive(Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
    doors: Doors,
}

/// What an authority is shown, and how old it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// When it was laid there.
    pub(crate) made: Timestamp,
    /// What it is asked for by.
    pub(crate) token: String,
    /// What is shown; whoever asks may know it.
    pub(crate) shown: String,
}

impl Cache {
    pub(crate) fn new(directory: &Path, doors: &Doors) -> Self {
        Self { directory: directory.to_owned(), doors: doors.clone() }
    }

    /// Where the account with an authority is kept.
    pub(crate) fn account(&self, authority: &str) -> PathBuf {
        self.of(authority).join("account.json")
    }

    /// Where a certificate of an authority is kept.
    pub(crate) fn certificate(&self, authority: &str, name: &AcmeName) -> PathBuf {
        self.of(authority).join(format!("{}.pem", file_name(name)))
    }

    fn proof(&self, name: &AcmeName) -> PathBuf {
        self.directory.join("proofs").join(file_name(name))
    }

    /// The part of one authority: what a name of its directory can be in a path.
    fn of(&self, authority: &str) -> PathBuf {
        let name = authority.split_once("://").map_or(authority, |(_, rest)| rest).trim_end_matches('/');
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '.';
        let name: String = name.chars().map(|character| if plain(character) { character } else { '_' }).collect();
        // Never a name that leads out of the directory.
        self.directory.join(format!("ca-{name}"))
    }

    /// What a file holds; nothing where there is none. Blocking.
    pub(crate) fn read_now(&self, path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let file = match self.doors.disk.open(path, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.length()?;
        if length > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(0)]);
        file.read_exact_at(0, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// The same without blocking.
    pub(crate) async fn read(&self, path: PathBuf) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let cache = self.clone();
        run_blocking(&*self.doors.workers, move || cache.read_now(&path)).await.map_err(io::Error::other)?
    }

    /// Puts these bytes in the place of what a file holds, durably.
    pub(crate) async fn write(&self, path: PathBuf, bytes: Zeroizing<Vec<u8>>) -> io::Result<()> {
        let (disk, now) = (Arc::clone(&self.doors.disk), self.doors.clock.wall());
        let mut random = [0; 8];
        self.doors.entropy.fill(&mut random);
        let random = hex::encode(random);
        let write = move || {
            let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
            disk.create_directory(directory)?;
            // Two servers that share a directory do not write into each other's; when it was begun says what nobody goes on with.
            let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
            for left in disk.names(directory)?.iter().filter(|left| is_left(left, &name, now)) {
                gone(disk.remove(&directory.join(left)))?;
            }
            let beside = path.with_file_name(format!("{name}~{}-{random}", now.seconds()));
            let file = disk.open(&beside, Open::New)?;
            let written = file.write_all_at(0, &bytes).and_then(|()| file.sync());
            if let Err(error) = written.and_then(|()| disk.rename(&beside, &path)) {
                // What went wrong first says more.
                drop(disk.remove(&beside));
                return Err(error);
            }
            disk.sync_directory(directory)
        };
        run_blocking(&*self.doors.workers, write).await.map_err(io::Error::other)?
    }

    /// Removes a file; one that is not there is gone.
    pub(crate) async fn remove(&self, path: PathBuf) -> io::Result<()> {
        let disk = Arc::clone(&self.doors.disk);
        let remove = move || gone(disk.remove(&path));
        run_blocking(&*self.doors.workers, remove).await.map_err(io::Error::other)?
    }

    /// Lays out what a name is proven by.
    pub(crate) async fn lay_out(&self, name: &AcmeName, proof: &Proof) -> io::Result<()> {
        let text = format!("{}\n{}\n{}\n", proof.made.seconds(), proof.token, proof.shown);
        self.write(self.proof(name), Zeroizing::new(text.into_bytes())).await
    }

    /// What a name is proven by, if anything is laid out.
    pub(crate) async fn laid_out(&self, name: &AcmeName) -> Option<Proof> {
        let bytes = self.read(self.proof(name)).await.ok()??;
        let mut lines = std::str::from_utf8(&bytes).ok()?.lines();
        let made = Timestamp::from_seconds(lines.next()?.parse().ok()?);
        Some(Proof { made, token: lines.next()?.to_owned(), shown: lines.next()?.to_owned() })
    }

    /// Takes it away.
    pub(crate) async fn take_away(&self, name: &AcmeName) {
        if let Err(error) = self.remove(self.proof(name)).await {
            tracing::warn!(%error, "what a name was proven by cannot be taken away");
        }
    }
}

/// What is not there is gone.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Whether this is what a server left that ended while it wrote the file of this name.
fn is_left(left: &str, name: &str, now: Timestamp) -> bool {
    let begun = left.strip_prefix(name).and_then(|rest| rest.strip_prefix('~')?.split_once('-'));
    let begun = begun.and_then(|(seconds, _)| seconds.parse().ok()).map(Timestamp::from_seconds);
    begun.is_some_and(|begun| now.since(begun) > LEFT_AFTER)
}

/// What a name is in a path: names have no characters that mean anything there.
fn file_name(name: &AcmeName) -> String {
    name.text().replace(':', "_")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tresor_env::doubles::TestDoors;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_read_again_and_replaced_whole() {
        let doors = TestDoors::new(1);
        let cache = Cache::new(Path::new("/acme"), &doors.doors);
        let name = AcmeName::Address("::1".parse().unwrap());
        let path = cache.certificate("https://ca.example.com/acme/../directory?x", &name);
        assert_eq!(path, Path::new("/acme/ca-ca.example.com_acme_.._directory_x/__1.pem"));
        assert!(cache.read(path.clone()).await.unwrap().is_none());
        for text in [&b"a long certificate"[..], b"short"] {
            cache.write(path.clone(), Zeroizing::new(text.to_vec())).await.unwrap();
            assert_eq!(cache.read(path.clone()).await.unwrap().unwrap().as_slice(), text);
        }
        cache.remove(path.clone()).await.unwrap();
        cache.remove(path.clone()).await.unwrap();
        assert!(cache.read(path).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_proof_is_there_until_it_is_taken_away() {
        let doors = TestDoors::new(1);
        let cache = Cache::new(Path::new("/acme"), &doors.doors);
        let name = AcmeName::Dns("a.example.com".to_owned());
        assert_eq!(cache.laid_out(&name).await, None);
        let proof = Proof { made: Timestamp::from_seconds(7), token: "t".to_owned(), shown: "t.x".to_owned() };
        cache.lay_out(&name, &proof).await.unwrap();
        assert_eq!(cache.laid_out(&name).await, Some(proof));
        cache.take_away(&name).await;
        assert_eq!(cache.laid_out(&name).await, None);
    }

    #[tokio::test]
    async fn servers_that_share_a_directory_do_not_write_into_each_others_files() {
        let doors = TestDoors::new(1);
        let cache = Cache::new(Path::new("/acme"), &doors.doors);
        let name = AcmeName::Dns("a.example.com".to_owned());
        let path = cache.certificate("https://ca", &name);
        let disk = &doors.doors.disk;
        disk.create_directory(path.parent().unwrap()).unwrap();
        // In containers all of them have the same number.
        let now = doors.doors.clock.wall().seconds();
        let beside = |suffix: String| path.with_file_name(format!("a.example.com.pem~{suffix}"));
        let of_others = [beside(std::process::id().to_string()), beside(format!("{now}-00ff"))];
        // What a server that ended in the middle left.
        let old = beside(format!("{}-00ff", now - 3 * 3600));
        for file in of_others.iter().chain([&old]) {
            disk.open(file, Open::New).unwrap();
        }
        cache.write(path.clone(), Zeroizing::new(b"x".to_vec())).await.unwrap();
        assert_eq!(cache.read(path.clone()).await.unwrap().unwrap().as_slice(), b"x");
        for file in &of_others {
            assert!(disk.open(file, Open::Existing).is_ok(), "{}", file.display());
        }
        assert_eq!(disk.open(&old, Open::Existing).err().unwrap().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.names(path.parent().unwrap()).unwrap().len(), 3);
    }
}
