//! When a device's file is put aside under another name, and which of those are removed again.
//!
//! A file that was put aside lies beside the new one, named after the moment: `audit.log.20261129T210000.000000000Z`, so
//! names sort by time. Only names of exactly that form are ever removed. Deliberately absent: compression, and any wish to
//! fail a delivery because a file cannot be put aside: it grows on, and the log says so.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_env::disk::{Disk, DiskFile, Open};
use tresor_wire::time::{parse_rfc3339, rfc3339};

use crate::device::DeviceConfig;
use crate::error::AuditError;

/// The smallest size that may be configured.
const BYTES_MIN: u64 = 1024;
/// The shortest age.
const AGE_MIN: Duration = Duration::from_secs(60);
/// The most files that may be told to be kept.
const KEEP_MAX: usize = 10_000;
/// How long after a failure it is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// How much of a file is looked at for the time that it begins with.
const BEGINNING_BYTES: u64 = 1024;

/// The options that say so.
pub(super) const OPTIONS: [&str; 3] = ["rotate_bytes", "rotate_duration", "rotate_keep"];

/// When, and how many are kept.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    bytes_max: Option<u64>,
    age_max: Option<Duration>,
    /// All of them without a number.
    keep: Option<usize>,
    /// The moment, in nanoseconds, before which it is not tried again.
    not_before: AtomicU64,
}

impl Rotation {
    pub(super) fn of(config: &DeviceConfig) -> Result<Self, AuditError> {
        let given = |name: &str| config.option(name).filter(|text| !matches!(*text, "" | "0"));
        let bytes_max = match given("rotate_bytes") {
            None => None,
            Some(text) => Some(text.parse().ok().filter(|bytes| *bytes >= BYTES_MIN).ok_or_else(|| {
                AuditError::option(format!("`rotate_bytes` must be a number of bytes of at least {BYTES_MIN}"))
            })?),
        };
        let age_max = match given("rotate_duration") {
            None => None,
            Some(text) => Some(
                tresor_wire::duration::parse_go(text)
                    .filter(|age| *age >= AGE_MIN)
                    .ok_or(AuditError::option("`rotate_duration` must be a duration of at least 1m"))?,
            ),
        };
        let keep = match given("rotate_keep") {
            None => None,
            Some(text) => Some(text.parse().ok().filter(|keep| *keep <= KEEP_MAX).ok_or_else(|| {
                AuditError::option(format!("`rotate_keep` must be a number of files of at most {KEEP_MAX}"))
            })?),
        };
        if keep.is_some() && bytes_max.is_none() && age_max.is_none() {
            return Err(AuditError::option("`rotate_keep` needs `rotate_bytes` or `rotate_duration`"));
        }
        Ok(Self { bytes_max, age_max, keep, not_before: AtomicU64::new(0) })
    }

    /// Whether there is anything to do, ever.
    pub(super) const fn is_wanted(&self) -> bool {
        self.bytes_max.is_some() || self.age_max.is_some()
    }

    /// Whether a file of this length, which began then, is put aside before so many bytes more come into it.
    pub(super) fn is_due(&self, length: u64, more: usize, began: Timestamp, now: Timestamp) -> bool {
        if length == 0 || now.nanos().max(0).unsigned_abs() < self.not_before.load(Ordering::Relaxed) {
            return false;
        }
        let after = length.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        self.bytes_max.is_some_and(|max| after > max) || self.age_max.is_some_and(|max| now.since(began) >= max)
    }

    /// Puts a file aside, durably as far as it was written, and removes what is too old.
    pub(super) fn put_aside(
        &self,
        disk: &dyn Disk,
        real: &Path,
        file: &dyn DiskFile,
        now: Timestamp,
    ) -> io::Result<()> {
        let done = put_aside(disk, real, file, now);
        if done.is_err() {
            let later = now.nanos().max(0).unsigned_abs().saturating_add(nanos(RETRY_AFTER));
            self.not_before.store(later, Ordering::Relaxed);
        }
        done?;
        if let (Some(keep), Some((directory, name))) = (self.keep, split(real)) {
            let mut aside: Vec<String> = disk.names(directory)?;
            aside.retain(|other| {
                other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).is_some_and(is_moment)
            });
            aside.sort_unstable();
            let too_many = aside.len().saturating_sub(keep);
            // What cannot be removed now is tried again with the next.
            aside.iter().take(too_many).for_each(|name| drop(disk.remove(&directory.join(name))));
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn split(real: &Path) -> Option<(&Path, &str)> {
    Some((real.parent()?, real.file_name()?.to_str()?))
}

fn put_aside(disk: &dyn Disk, real: &Path, file: &dyn DiskFile, now: Timestamp) -> io::Result<()> {
    let unnamed = || io::Error::other("the file's name cannot be extended");
    let (directory, name) = split(real).ok_or_else(unnamed)?;
    file.sync()?;
    // A name that is taken would be lost.
    let free = (0..1000)
        .map(|later| {
            directory.join(format!("{name}.{}", moment(Timestamp::from_nanos(now.nanos().saturating_add(later)))))
        })
        .find(|path| disk.open(path, Open::Existing).is_err());
    disk.rename(real, &free.ok_or_else(unnamed)?)
}

/// A moment as it stands in a name.
fn moment(at: Timestamp) -> String {
    let whole = rfc3339(Timestamp::from_seconds(at.seconds())).replace(['-', ':', 'Z'], "");
    format!("{whole}.{:09}Z", at.nanos().rem_euclid(1_000_000_000))
}

/// Whether a text is a moment as it stands in names.
fn is_moment(text: &str) -> bool {
    const FORM: &str = "00000000T000000.000000000Z";
    text.len() == FORM.len()
        && text.chars().zip(FORM.chars()).all(|(is, form)| if form == '0' { is.is_ascii_digit() } else { is == form })
}

/// The time that a file's first line tells; nothing when it tells none.
pub(super) fn beginning(file: &dyn DiskFile) -> Option<Timestamp> {
    let length = file.length().ok()?.min(BEGINNING_BYTES);
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(0, &mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let is_of_time = |character: char| character.is_ascii_digit() || matches!(character, '-' | ':' | '.' | 'T' | 'Z');
    text.split(|character| !is_of_time(character)).filter(|word| word.len() >= 20).find_map(parse_rfc3339)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_moment_in_a_name_is_told_from_everything_else() {
        let at = Timestamp::from_nanos(1_767_225_600_000_000_007);
        assert_eq!(moment(at), "20260101T000000.000000007Z");
        assert!(is_moment(&moment(at)));
        for other in ["", "1", "gz", "20260101T000000Z", "20260101T000000.000000007Z.gz", "2026010xT000000.000000007Z"]
        {
            assert!(!is_moment(other), "{other}");
        }
    }
}
