//! Taking over a state: an index is written beside the one in use, verified to its end, and takes its place by a rename.
//!
//! Until the rename nothing has changed, whatever fails, and what was written is removed, at the next opening at the
//! latest; from the rename on the new state is what an opening finds, and the log before it is void
//! ([`Applied::position`] of the new one says from where it counts). Deliberately absent: going on with a stream that broke
//! off; it begins anew.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use tresor_env::disk::Open;
use tresor_storage::machine::{Applied, Effect, Install, Position};
use tresor_storage::state::{Reading, Wrong};
use tresor_storage::{Agreement, RawKey, StoreError, Stored, Version, pieces};

use crate::index::Index;
use crate::machine::{FileMachine, Inner, View};
use crate::open::index_name;
use crate::view::IndexView;
use crate::{Limits, from_io};

/// How a state comes. A transfer that broke off may stay until the next one begins, and must not be in the way of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Chunk by chunk, for as long as it takes.
    Sent,
    /// In pieces that are stored here, as one entry.
    InPieces,
}

impl Way {
    /// The name of an index that is being taken over.
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "incoming.db.unfinished",
            Self::InPieces => "restored.db.unfinished",
        }
    }
}

/// Memory for the pages of it: it is written in order, and hardly read.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// The number of an index that has none yet.
const NUMBERLESS: u64 = 0;

/// Whether a state is being sent: one at a time.
#[derive(Default)]
pub(crate) struct Installing(AtomicBool);

/// An index on its way in.
pub(crate) struct Incoming {
    pub(crate) inner: Arc<Inner>,
    way: Way,
    reading: Reading,
    index: Option<Arc<Index>>,
    waiting: Vec<(RawKey, Stored)>,
    waiting_bytes: usize,
}

/// Why a chunk was not taken.
enum Refused {
    Wrong(Wrong),
    Store(StoreError),
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl FileMachine {
    /// Begins to take over a state, which must be this one when one is given.
    pub(crate) fn receive(&self, way: Way, expected: Option<Applied>) -> Result<Incoming, StoreError> {
        let inner = &self.0;
        if way == Way::Sent && inner.installing.0.swap(true, Ordering::AcqRel) {
            let source = std::io::Error::new(std::io::ErrorKind::ResourceBusy, "another state is being taken over");
            return Err(StoreError::Io { name: inner.name.clone(), source });
        }
        // From here on its drop gives the place up again.
        let mut incoming = Incoming {
            inner: Arc::clone(inner),
            way,
            reading: Reading::new(expected),
            index: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
        };
        let path = incoming.path();
        drop(inner.doors.disk.remove(&path));
        let limits = Limits { cache_bytes: inner.limits.cache_bytes.min(CACHE_BYTES), ..inner.limits };
        let disk = &*inner.doors.disk;
        let index = Index::open(disk, &path, Open::New, NUMBERLESS, &limits, &inner.shelf, &inner.lock)?;
        incoming.index = Some(index);
        Ok(incoming)
    }
}

impl Incoming {
    fn path(&self) -> PathBuf {
        self.inner.directory.join(self.way.name())
    }

    fn refused(&self, refused: Refused) -> StoreError {
        match refused {
            Refused::Wrong(wrong) => wrong.for_store(&self.inner.name),
            Refused::Store(error) => error,
        }
    }

    fn given_up(&self) -> StoreError {
        let source = std::io::Error::other("what is being taken over was refused before");
        StoreError::Io { name: self.inner.name.clone(), source }
    }

    pub(crate) fn take(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let index = self.index.take().ok_or_else(|| self.given_up())?;
        self.inner.refuse_when_low(chunk.len() as u64)?;
        let (waiting, bytes, step) = (&mut self.waiting, &mut self.waiting_bytes, self.inner.limits.rebuild_step_bytes);
        let taken = self.reading.take(chunk, |key, stored| {
            *bytes += key.as_bytes().len() + stored.bytes.len();
            waiting.push((key, stored));
            if *bytes >= step {
                *bytes = 0;
                index.add(waiting).map_err(Refused::Store)?;
                waiting.clear();
            }
            Ok(())
        });
        taken.map_err(|refused| self.refused(refused))?;
        // After a failure it is not put back: nothing more is taken then.
        self.index = Some(index);
        Ok(())
    }

    /// Writes what is left; the state that it is, when all of it came.
    pub(crate) fn complete(&mut self) -> Result<Applied, StoreError> {
        let index = self.index.as_ref().ok_or_else(|| self.given_up())?;
        let (state, amount) = self.reading.finish().map_err(|wrong| wrong.for_store(&self.inner.name))?;
        index.add(&std::mem::take(&mut self.waiting))?;
        let facts = index.view()?.facts;
        if (facts.count, facts.live_bytes) != (amount.count, amount.bytes) {
            let what = "what was taken over is not what was written".to_owned();
            return Err(StoreError::Damaged { name: self.path().display().to_string(), what });
        }
        Ok(state.clone())
    }

    /// Gives the index its place: what the machine holds is `state` from now on. Upkeep must rest, and nothing be applied.
    pub(crate) fn swap_in(&mut self, state: &Applied) -> Result<(), StoreError> {
        let index = self.index.take().ok_or_else(|| self.given_up())?;
        index.finish_state(state)?;
        let beside = Arc::clone(&index.beside);
        drop(index);
        let inner = Arc::clone(&self.inner);
        let mut applied = inner.applied();
        inner.give_up_rebuild();
        // One that waits for its place goes on waiting if this one gets none: perhaps it is what an opening would find.
        let swapping = inner.tending.swapping.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = Arc::clone(&inner.view().index.index);
        let old = before.generation;
        let generation = old.max(swapping.as_ref().map_or(0, |built| built.generation)) + 1;
        let named = self.give_name(generation).inspect_err(|error| {
            // It was whole, and is nothing now; unless nobody knows.
            if !matches!(error, StoreError::Uncertain { .. }) {
                beside.remove_own();
            }
        })?;
        let fresh = match named {
            Ok(fresh) => fresh,
            Err(error) => {
                // What an opening finds from now on is another state than what is here.
                inner.tending.stop("a state was taken over that cannot be read");
                return Err(error);
            }
        };
        let kept = Arc::clone(&fresh.index);
        {
            let mut current = inner.current.write().unwrap_or_else(PoisonError::into_inner);
            current.view = Arc::new(View { active: Arc::default(), frozen: Vec::new(), index: fresh });
            current.version = state.version;
        }
        *applied = state.clone();
        drop(applied);
        *inner.tending.swapping.lock().unwrap_or_else(PoisonError::into_inner) = None;
        inner.tending.begin_anew();
        for old in [Some(old), swapping.as_ref().map(|built| built.generation)].into_iter().flatten() {
            // Snapshots that still read it keep the file; whoever opens the machine takes the newer one.
            drop(inner.doors.disk.remove(&inner.directory.join(index_name(old))));
        }
        before.beside.remove_all_but(&kept.beside);
        if let Some(built) = swapping {
            built.beside.remove_own();
        }
        Ok(())
    }

    /// Renames it, durably. An error outside: everything is as it was; inside: it has its name and cannot be opened.
    fn give_name(&self, generation: u64) -> Result<Result<Arc<IndexView>, StoreError>, StoreError> {
        let inner = &self.inner;
        let (unfinished, whole) = (self.path(), inner.directory.join(index_name(generation)));
        let io = |source| from_io(&inner.name, source);
        let disk = &*inner.doors.disk;
        disk.rename(&unfinished, &whole).map_err(io)?;
        if let Err(source) = disk.sync_directory(&inner.directory) {
            // Nobody knows which name would be found after a crash, unless the way back is durable.
            let undone = disk.rename(&whole, &unfinished).and_then(|()| disk.sync_directory(&inner.directory));
            if undone.is_err() {
                inner.tending.stop("nobody knows whether a state was taken over");
                return Err(StoreError::Uncertain { name: inner.name.clone(), source });
            }
            return Err(io(source));
        }
        let (limits, shelf) = (&inner.limits, &inner.shelf);
        let opened = Index::open(disk, &whole, Open::OrCreate, generation, limits, shelf, &inner.lock);
        Ok(opened.and_then(|index| index.view()))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        drop(self.index.take());
        drop(self.inner.doors.disk.remove(&self.path()));
        if self.way == Way::Sent {
            self.inner.installing.0.store(false, Ordering::Release);
        }
    }
}

impl Install for Incoming {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.take(&chunk)
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let state = self.complete()?;
        let inner = Arc::clone(&self.inner);
        inner.told(|| {
            let _rest = inner.rest();
            self.swap_in(&state)
        })
    }

    fn agree(self: Box<Self>) -> Result<Agreement, Box<dyn Install>> {
        Err(self)
    }
}

impl FileMachine {
    /// Takes over the state that lies in the store in pieces, if it is the next thing to be done and they are one.
    pub(crate) fn restore(&self, at: Position, version: Version, pieces: u32) -> Result<Effect, StoreError> {
        let (inner, before) = (&self.0, self.0.applied().clone());
        let nothing = || {
            inner.applied().position = at;
            Ok(Effect::Fenced(before.version))
        };
        if version != before.version.next() {
            return nothing();
        }
        let mut incoming = self.receive(Way::InPieces, None)?;
        let gathered = pieces::gather(&inner.seen(), pieces, |chunk| incoming.take(&chunk));
        match gathered.and_then(|()| incoming.complete()) {
            Ok(state) => {
                let after = pieces::taken_over(&before, &state, at);
                inner.told(|| {
                    let _rest = inner.rest();
                    incoming.swap_in(&after)
                })?;
                Ok(Effect::Applied)
            }
            // Every machine finds the same in them.
            Err(StoreError::Foreign { .. }) => nothing(),
            Err(error) => Err(error),
        }
    }
}
