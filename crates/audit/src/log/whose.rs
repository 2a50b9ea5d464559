//! Whose a local log is: a mark beside its segments, which only its own keys make.
//!
//! A log is sealed by the keys of the cluster whose records it holds. When the snapshot of another cluster took the place of
//! what was stored, on this node or on another one of its cluster, nothing could be recorded under the new keys: the log of
//! before is set aside, whole, and another begins. The mark goes last, so what a crash leaves is set aside as well. Deliberately
//! absent: any way to tell a mark that somebody replaced; who can do that can remove the log.

use std::io;
use std::path::{Path, PathBuf};

use tresor_crypto::hash::HmacKey;
use tresor_env::disk::{Disk, Open};

use super::unavailable;
use crate::error::AuditError;

/// The mark's file.
const NAME: &str = "keys";
const UNFINISHED_NAME: &str = "keys.unfinished";
const MARK_BYTES: usize = 16;
/// How often another name is tried for what is set aside.
const NAMES_MAX: u32 = 10_000;

fn mark(key: &HmacKey) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark.iter_mut().zip(key.sign(b"whose log this is")).for_each(|(to, byte)| *to = byte);
    mark
}

fn stored(disk: &dyn Disk, directory: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(&directory.join(NAME), Open::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX).min(MARK_BYTES + 1)];
    file.read_exact_at(0, &mut bytes)?;
    Ok(Some(bytes))
}

/// Sets a log aside that other keys have sealed; where it is then.
///
/// # Errors
/// When the disk fails, or the mark is none.
pub(super) fn set_aside_if_another_s(
    disk: &dyn Disk,
    directory: &Path,
    key: &HmacKey,
) -> Result<Option<PathBuf>, AuditError> {
    match stored(disk, directory).map_err(unavailable)? {
        None => Ok(None),
        Some(bytes) if bytes == mark(key) => Ok(None),
        Some(bytes) if bytes.len() == MARK_BYTES => set_aside(disk, directory).map(Some).map_err(unavailable),
        Some(_) => Err(AuditError::Damaged { segment: NAME.to_owned(), offset: 0 }),
    }
}

/// Marks a log that these keys have opened.
///
/// # Errors
/// When the disk fails.
pub(super) fn say(disk: &dyn Disk, directory: &Path, key: &HmacKey) -> io::Result<()> {
    if stored(disk, directory)?.is_some() {
        return Ok(());
    }
    let unfinished = directory.join(UNFINISHED_NAME);
    let file = disk.open(&unfinished, Open::OrCreate)?;
    file.write_all_at(0, &mark(key))?;
    file.sync()?;
    disk.rename(&unfinished, &directory.join(NAME))
}

/// Moves what is in the log's directory into one beside it. A crash leaves records in one of the two or, where a disk forgets a
/// rename's other half, in both; so the mark, by which one that is whole is known, is moved when they are there for certain.
fn set_aside(disk: &dyn Disk, log: &Path) -> io::Result<PathBuf> {
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let records = disk.names(log)?.into_iter().filter(|name| name != NAME).collect::<Vec<_>>();
    for number in 1..=NAMES_MAX {
        let aside = log.with_file_name(format!("{name}-of-before-{number}"));
        disk.create_directory(&aside)?;
        let there = disk.names(&aside)?;
        if there.iter().any(|name| name == NAME) {
            continue;
        }
        for record in &records {
            disk.rename(&log.join(record), &aside.join(record))?;
        }
        disk.sync_directory(&aside)?;
        disk.sync_directory(log)?;
        if records.is_empty() && there.is_empty() {
            // The one before is whole, and its mark is here still.
            disk.remove(&log.join(NAME))?;
        } else {
            disk.rename(&log.join(NAME), &aside.join(NAME))?;
            disk.sync_directory(&aside)?;
        }
        disk.sync_directory(log)?;
        return Ok(aside);
    }
    Err(io::Error::other("there are too many audit logs that were set aside"))
}
