//! The machine that is its own model: a persistent map and what it holds.
//!
//! What it would have after a loss of power is what a test last called persisted. Deliberately absent: durability.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, Weak};

use crate::machine::{Applied, Change, Effect, Entry, Export, Install, Machine, Position};
use crate::memory::{Contents, Incoming};
use crate::{Agreement, RawKey, Snapshot, StoreError, Stored, Watcher, Watchers, pieces};

#[derive(Clone, Default)]
struct State {
    applied: Applied,
    contents: Contents,
    begins_behind: u64,
}

#[derive(Default)]
struct States {
    now: State,
    persisted: State,
}

/// A machine in memory.
#[derive(Clone, Default)]
pub struct MemoryMachine {
    states: Arc<RwLock<States>>,
    watchers: Arc<Watchers>,
}

impl MemoryMachine {
    /// An empty machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes what it holds what it would have after a loss of power.
    pub fn persist(&self) {
        let mut states = self.states();
        states.persisted = states.now.clone();
    }

    /// What another process finds after this one.
    #[must_use]
    pub fn reopened(&self) -> Self {
        let persisted = self.states.read().unwrap_or_else(PoisonError::into_inner).persisted.clone();
        let states = Arc::new(RwLock::new(States { now: persisted.clone(), persisted }));
        Self { states, watchers: Arc::default() }
    }

    /// Every value by key.
    #[must_use]
    pub fn dump(&self) -> Vec<(RawKey, Stored)> {
        let contents = self.now().contents;
        contents.values.iter().map(|(key, stored)| (key.clone(), (**stored).clone())).collect()
    }

    fn states(&self) -> RwLockWriteGuard<'_, States> {
        self.states.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another state in place of everything, durably.
    fn take_over(&self, applied: Applied, contents: Contents) {
        let replace = || {
            let begins_behind = applied.position.index;
            let contents = Contents { version: applied.version, ..contents };
            let state = State { applied, contents, begins_behind };
            *self.states() = States { now: state.clone(), persisted: state };
        };
        self.watchers.around_state(|| Box::new(self.now().contents), replace);
    }

    fn now(&self) -> State {
        self.states.read().unwrap_or_else(PoisonError::into_inner).now.clone()
    }
}

impl Machine for MemoryMachine {
    fn applied(&self) -> Applied {
        self.now().applied
    }

    fn apply(&self, entry: &Entry) -> Result<Effect, StoreError> {
        match &entry.change {
            Change::Nothing => {}
            Change::Membership(members) => {
                let states = &mut *self.states();
                states.now.applied.membership.clone_from(members);
                states.now.applied.position = entry.position;
                states.persisted = states.now.clone();
            }
            Change::Restore { version, pieces } => {
                let State { applied: before, contents, .. } = self.now();
                let mut incoming = Incoming::new(None);
                let gathered = pieces::gather(&contents, *pieces, |chunk| incoming.take(&chunk));
                match gathered.and_then(|()| incoming.finish()) {
                    Ok((state, contents)) if *version == before.version.next() => {
                        let applied = pieces::taken_over(&before, &state, entry.position);
                        self.take_over(applied, contents);
                    }
                    Ok(_) | Err(StoreError::Foreign { .. }) => {
                        self.states().now.applied.position = entry.position;
                        return Ok(Effect::Fenced(before.version));
                    }
                    Err(error) => return Err(error),
                }
            }
            Change::Batch(batch) => {
                let before = self.now().applied.version;
                if batch.version != before.next() {
                    self.states().now.applied.position = entry.position;
                    return Ok(Effect::Fenced(before));
                }
                self.watchers.around(
                    &**batch,
                    || Box::new(self.now().contents),
                    |batch| {
                        let now = &mut self.states().now;
                        now.applied.version = batch.version;
                        now.applied.position = entry.position;
                        now.contents.apply(batch.clone())
                    },
                )?;
            }
        }
        self.states().now.applied.position = entry.position;
        Ok(Effect::Applied)
    }

    fn persisted(&self) -> Position {
        self.states.read().unwrap_or_else(PoisonError::into_inner).persisted.applied.position
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        let State { applied, contents, .. } = self.now();
        Ok(contents.export(applied))
    }

    fn install(&self, state: &Applied) -> Result<Box<dyn Install>, StoreError> {
        let incoming = Incoming::new(Some(state.clone()));
        Ok(Box::new(Installing { machine: self.clone(), incoming }))
    }

    fn begins_behind(&self) -> u64 {
        self.states.read().unwrap_or_else(PoisonError::into_inner).persisted.begins_behind
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.now().contents))
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.watchers.add(watcher);
    }
}

struct Installing {
    machine: MemoryMachine,
    incoming: Incoming,
}

impl Install for Installing {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.incoming.take(&chunk)
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        let (applied, contents) = self.incoming.finish()?;
        self.machine.take_over(applied, contents);
        Ok(())
    }

    fn agree(self: Box<Self>) -> Result<Agreement, Box<dyn Install>> {
        Err(self)
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
