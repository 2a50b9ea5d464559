//! The machine that is its own model: a persistent map and what it holds.
//!
//! What it would have after a loss of power is what a test last called persisted. Its stream is one chunk per value behind
//! one that names the state, and one at the end that counts them. Deliberately absent: a format that lasts.

use std::sync::{Arc, PoisonError, RwLock};

use crate::machine::{Applied, CHUNK_BYTES_MAX, Change, Effect, Entry, Export, Install, Machine, Position};
use crate::memory::Contents;
use crate::{RawKey, Snapshot, StoreError, Stored, Version};

const NAME: &str = "memory";

#[derive(Clone, Default)]
struct State {
    applied: Applied,
    contents: Contents,
}

#[derive(Default)]
struct States {
    now: State,
    persisted: State,
}

/// A machine in memory.
#[derive(Clone, Default)]
pub struct MemoryMachine(Arc<RwLock<States>>);

impl MemoryMachine {
    /// An empty machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes what it holds what it would have after a loss of power.
    pub fn persist(&self) {
        let mut states = self.0.write().unwrap_or_else(PoisonError::into_inner);
        states.persisted = states.now.clone();
    }

    /// What another process finds after this one.
    #[must_use]
    pub fn reopened(&self) -> Self {
        let persisted = self.0.read().unwrap_or_else(PoisonError::into_inner).persisted.clone();
        Self(Arc::new(RwLock::new(States { now: persisted.clone(), persisted })))
    }

    /// Every value by key.
    #[must_use]
    pub fn dump(&self) -> Vec<(RawKey, Stored)> {
        let contents = self.now().contents;
        contents.values.iter().map(|(key, stored)| (key.clone(), (**stored).clone())).collect()
    }

    fn now(&self) -> State {
        self.0.read().unwrap_or_else(PoisonError::into_inner).now.clone()
    }
}

impl Machine for MemoryMachine {
    fn applied(&self) -> Applied {
        self.now().applied
    }

    fn apply(&self, entry: &Entry) -> Result<Effect, StoreError> {
        let mut states = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let now = &mut states.now;
        now.applied.position = entry.position;
        match &entry.change {
            Change::Nothing => {}
            Change::Membership(members) => now.applied.membership.clone_from(members),
            Change::Batch(batch) => {
                if now.contents.apply((**batch).clone()).is_err() {
                    return Ok(Effect::Fenced(now.applied.version));
                }
                now.applied.version = batch.version;
            }
        }
        Ok(Effect::Applied)
    }

    fn persisted(&self) -> Position {
        self.0.read().unwrap_or_else(PoisonError::into_inner).persisted.applied.position
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        let State { applied, contents } = self.now();
        let mut chunks: Vec<Vec<u8>> = vec![spelled(&applied)];
        chunks.extend(contents.values.iter().flat_map(|(key, stored)| chunks_of(key, stored)));
        let count = u64::try_from(chunks.len()).unwrap_or(u64::MAX);
        chunks.push([&[END][..], &count.to_le_bytes()].concat());
        Ok(Box::new(Chunks { state: applied, chunks: chunks.into_iter() }))
    }

    fn install(&self, state: &Applied) -> Result<Box<dyn Install>, StoreError> {
        let incoming = State { applied: state.clone(), contents: Contents::default() };
        Ok(Box::new(Incoming { machine: self.clone(), state: incoming, offset: 0, chunks: 0, is_whole: false }))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.now().contents))
    }
}

const STATE: u8 = 1;
const VALUE: u8 = 2;
const MORE: u8 = 3;
const END: u8 = 4;

fn spelled(applied: &Applied) -> Vec<u8> {
    let numbers = [applied.position.term, applied.position.index, applied.version.0];
    let mut bytes = vec![STATE];
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend_from_slice(&applied.membership);
    bytes
}

/// A value, and the rest of it when it is longer than a chunk.
fn chunks_of(key: &RawKey, stored: &Stored) -> Vec<Vec<u8>> {
    let mut chunk = vec![VALUE, u8::try_from(key.as_bytes().len()).unwrap_or(u8::MAX)];
    chunk.extend_from_slice(key.as_bytes());
    chunk.extend_from_slice(&stored.version.0.to_le_bytes());
    let (first, mut rest) = stored.bytes.split_at(stored.bytes.len().min(CHUNK_BYTES_MAX - chunk.len()));
    chunk.extend_from_slice(first);
    let mut chunks = vec![chunk];
    while !rest.is_empty() {
        let (next, left) = rest.split_at(rest.len().min(CHUNK_BYTES_MAX - 1 - key.as_bytes().len() - 1));
        chunks.push([&[MORE, u8::try_from(key.as_bytes().len()).unwrap_or(u8::MAX)], key.as_bytes(), next].concat());
        rest = left;
    }
    chunks
}

struct Chunks {
    state: Applied,
    chunks: std::vec::IntoIter<Vec<u8>>,
}

impl Export for Chunks {
    fn state(&self) -> &Applied {
        &self.state
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.chunks.next())
    }
}

struct Incoming {
    machine: MemoryMachine,
    state: State,
    offset: u64,
    chunks: u64,
    is_whole: bool,
}

impl Incoming {
    fn foreign(&self, what: &str) -> StoreError {
        StoreError::Foreign { name: NAME.to_owned(), offset: self.offset, what: what.to_owned() }
    }

    /// `None` when it is no chunk that may come here.
    fn read(&mut self, chunk: &[u8]) -> Option<()> {
        let (kind, rest) = chunk.split_first()?;
        match *kind {
            STATE if self.chunks == 0 => return (chunk == spelled(&self.state.applied)).then_some(()),
            _ if self.chunks == 0 || self.is_whole => return None,
            END => {
                self.is_whole = rest == self.chunks.to_le_bytes();
                return self.is_whole.then_some(());
            }
            _ => {}
        }
        let (length, rest) = rest.split_first()?;
        let (key, rest) = rest.split_at_checked(usize::from(*length))?;
        let key = RawKey::new(key)?;
        let values = &mut self.state.contents.values;
        if *kind == MORE {
            Arc::make_mut(values.get_mut(&key)?).bytes.extend_from_slice(rest);
            return Some(());
        }
        let (version, bytes) = rest.split_first_chunk::<8>()?;
        let version = Version(u64::from_le_bytes(*version));
        let is_new = values.insert(key, Arc::new(Stored { version, bytes: bytes.to_vec() })).is_none();
        (*kind == VALUE && is_new && version <= self.state.applied.version).then_some(())
    }
}

impl Install for Incoming {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.read(&chunk).ok_or_else(|| self.foreign("it is not the next chunk of a state"))?;
        self.chunks += 1;
        self.offset += chunk.len() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        if !self.is_whole {
            return Err(self.foreign("chunks are missing"));
        }
        self.state.contents.version = self.state.applied.version;
        let mut states = self.machine.0.write().unwrap_or_else(PoisonError::into_inner);
        states.now = self.state.clone();
        states.persisted = self.state.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_passes_the_suite() {
        crate::machine_suite::run(&mut || Arc::new(MemoryMachine::new()));
    }
}
