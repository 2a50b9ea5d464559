//! The small durable record beside the entries: up to where the log was purged, and a few bytes of the owner's (a vote,
//! what is committed).
//!
//! It lies twice in one file, each copy with its checksum; both are written one after the other, so that a torn write
//! and one flipped bit each leave the other copy. Deliberately absent: meaning of the owner's bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile};
use twox_hash::XxHash3_64;

use crate::LogError;

/// The most that the owner may keep here.
pub const RECORD_BYTES_MAX: usize = 1024;
/// The name of the file.
pub(crate) const STATE_NAME: &str = "state";
const UNFINISHED_NAME: &str = "state.new";
/// Where the second copy begins.
const COPY_BYTES: usize = 4096;
const FIXED_BYTES: usize = 8 + 8 + 8 + 4;
const SEED: u64 = 0x5452_4c4f_4753_5431;

/// What the record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    sequence: u64,
    /// Entries up to this one are gone.
    pub(crate) purged: u64,
    /// The owner's bytes.
    pub(crate) record: Vec<u8>,
}

/// The open file.
pub(crate) struct StateFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    pub(crate) state: State,
}

fn encode(state: &State) -> [u8; COPY_BYTES] {
    let mut bytes = [0; COPY_BYTES];
    let length = u32::try_from(state.record.len()).unwrap_or(0).to_le_bytes();
    let parts: [&[u8]; 4] = [&state.sequence.to_le_bytes(), &state.purged.to_le_bytes(), &length, &state.record];
    let mut at = 8;
    for part in parts {
        if let Some(place) = bytes.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
        at += part.len();
    }
    let (sum, rest) = bytes.split_at_mut(8);
    sum.copy_from_slice(&XxHash3_64::oneshot_with_seed(SEED, rest).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<State> {
    let (sum, rest) = bytes.split_first_chunk::<8>()?;
    if XxHash3_64::oneshot_with_seed(SEED, rest) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (purged, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some(State {
        sequence: u64::from_le_bytes(*sequence),
        purged: u64::from_le_bytes(*purged),
        record: rest.get(..length)?.to_vec(),
    })
}

impl StateFile {
    /// Opens the record, or makes it where there is no log yet.
    pub(crate) fn open(disk: &dyn Disk, directory: &Path, is_new: bool) -> Result<Self, LogError> {
        let path = directory.join(STATE_NAME);
        if is_new {
            return Self::create(disk, directory, path);
        }
        let file = disk.open(&path, Open::OrCreate).map_err(|source| LogError::io(&path, source))?;
        let length = file.length().map_err(|source| LogError::io(&path, source))?;
        if length != 2 * COPY_BYTES as u64 {
            return Err(LogError::damaged(&path, length, "the record has another length"));
        }
        let mut bytes = vec![0; 2 * COPY_BYTES];
        file.read_exact_at(0, &mut bytes).map_err(|source| LogError::io(&path, source))?;
        let (first, second) = bytes.split_at(COPY_BYTES);
        let (first, second) = (decode(first), decode(second));
        let newest = match (&first, &second) {
            (Some(first), Some(second)) if second.sequence > first.sequence => second,
            (Some(first), _) => first,
            (None, Some(second)) => second,
            (None, None) => return Err(LogError::damaged(&path, 0, "neither copy of the record can be read")),
        };
        let mut opened = Self { state: newest.clone(), path, file };
        if first != second {
            opened.write()?;
        }
        Ok(opened)
    }

    fn create(disk: &dyn Disk, directory: &Path, path: PathBuf) -> Result<Self, LogError> {
        let unfinished = directory.join(UNFINISHED_NAME);
        let io = |source| LogError::io(&path, source);
        let file = disk.open(&unfinished, Open::OrCreate).map_err(io)?;
        let copy = encode(&State::default());
        file.set_length(0).map_err(io)?;
        file.write_all_at(0, &[copy, copy].concat()).map_err(io)?;
        file.sync().map_err(io)?;
        disk.rename(&unfinished, &path).map_err(io)?;
        disk.sync_directory(directory).map_err(io)?;
        Ok(Self { path, file, state: State::default() })
    }

    /// Makes a change durable.
    pub(crate) fn save(&mut self, change: impl FnOnce(&mut State)) -> Result<(), LogError> {
        let mut next = self.state.clone();
        change(&mut next);
        if next == self.state {
            return Ok(());
        }
        next.sequence += 1;
        self.state = next;
        self.write()
    }

    fn write(&mut self) -> Result<(), LogError> {
        let copy = encode(&self.state);
        for at in [0, COPY_BYTES as u64] {
            self.file
                .write_all_at(at, &copy)
                .and_then(|()| self.file.sync())
                .map_err(|source| LogError::io(&self.path, source))?;
        }
        Ok(())
    }
}

/// The bytes that a record takes besides the owner's.
const _: () = assert!(FIXED_BYTES + RECORD_BYTES_MAX <= COPY_BYTES);
