//! An index that is far larger than what it holds is built anew beside itself, step by step, and swapped in.
//!
//! Generations that the index takes over meanwhile go into both, so writers never wait for the building and nothing is
//! lost when it is given up. Deliberately absent: any pause; snapshots keep the old file for as long as they live.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tresor_env::disk::Open;
use tresor_storage::StoreError;

use crate::index::{Index, IndexView, Reached};
use crate::machine::Inner;
use crate::memory::Frozen;
use crate::open::{index_name, unfinished_name};
use crate::{Limits, from_io};

/// An index is built anew when it is so many thousandths of what it holds, and of what it was when it was built.
const WASTE_PERMILLE: u64 = 1700;
/// The same of index and log together: what a store takes of the disk in all.
const WHOLE_PERMILLE: u64 = 1900;
const GROWTH_PERMILLE: u64 = 1250;
/// Memory for the pages of the one that is being built. Half of it is for pages that are to be written: when a step and
/// what is taken over beside it do not fit, pages are written, read again for their sums, and written once more.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// An index that is being built beside the one in use.
pub(crate) struct Rebuild {
    index: Arc<Index>,
    /// Up to which key it has everything.
    cursor: Option<Vec<u8>>,
}

/// Whether a piece of work was the last.
enum Step {
    Again,
    Last,
}

impl Inner {
    /// What the index took over goes into the one that is being built as well, as far as that has come.
    pub(crate) fn follow_with_rebuild(&self, frozen: &Frozen) -> Result<(), StoreError> {
        self.with_rebuild(|rebuild| match &rebuild.cursor {
            Some(cursor) => rebuild.index.absorb(frozen, Some(cursor)).map(|()| Step::Again),
            None => Ok(Step::Again),
        })
    }

    /// Gives up what is being built; nothing depends on it.
    pub(crate) fn give_up_rebuild(&self) {
        let given_up = self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(rebuild) = given_up {
            self.remove_unfinished(rebuild.index.generation);
        }
    }

    fn remove_unfinished(&self, generation: u64) {
        // Not again before as much was written: what failed now would fail at once.
        self.tending.absorbed.store(0, Ordering::Relaxed);
        // What is left of it is removed at the next opening at the latest.
        drop(self.doors.disk.remove(&self.directory.join(unfinished_name(generation))));
    }

    /// Works on the index that is being built, if there is one. One that fails is given up, since nothing depends on it.
    fn with_rebuild(&self, work: impl FnOnce(&mut Rebuild) -> Result<Step, StoreError>) -> Result<(), StoreError> {
        let mut place = self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rebuild) = place.as_mut() else { return Ok(()) };
        let generation = rebuild.index.generation;
        match work(rebuild) {
            Ok(Step::Again) => {}
            Ok(Step::Last) => {
                *place = None;
                *self.tending.swapping.lock().unwrap_or_else(PoisonError::into_inner) = Some(generation);
                return self.finish_swap();
            }
            Err(_) => {
                *place = None;
                self.remove_unfinished(generation);
            }
        }
        Ok(())
    }

    /// Takes the next step in building the index anew, when that is worth it; tells whether there was one.
    pub(crate) fn rebuild(&self) -> Result<bool, StoreError> {
        let view = self.view();
        let is_under_way = self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let goes_on = is_under_way || (self.is_wasteful(&view.index) && self.begin_rebuild(&view.index));
        if !goes_on {
            return Ok(false);
        }
        self.with_rebuild(|rebuild| {
            let step = self.limits.rebuild_step_bytes;
            match rebuild.index.copy(&view.index, rebuild.cursor.as_deref(), step)? {
                Reached::Key(key) => {
                    rebuild.cursor = Some(key);
                    Ok(Step::Again)
                }
                Reached::End => rebuild.index.finish_copy(&view.index).map(|()| Step::Last),
            }
        })?;
        Ok(true)
    }

    fn is_wasteful(&self, view: &IndexView) -> bool {
        let facts = &view.facts;
        // As long as less than half of it was written since, building it anew would cost more than it gives.
        let absorbed = self.tending.absorbed.load(Ordering::Relaxed);
        if absorbed == 0 || absorbed.saturating_mul(2) < facts.live_bytes {
            return false;
        }
        let Ok(occupied) = view.index.occupied() else { return false };
        let beside = self.journal.bytes();
        let permille = |bytes: u64| bytes.saturating_mul(1000) / facts.live_bytes.max(1);
        let is_large = permille(occupied) > WASTE_PERMILLE || permille(occupied + beside) > WHOLE_PERMILLE;
        let has_grown = permille(occupied) > facts.built_permille.saturating_mul(GROWTH_PERMILLE) / 1000;
        occupied > self.limits.rebuild_bytes_min && is_large && has_grown
    }

    fn begin_rebuild(&self, view: &IndexView) -> bool {
        let needed = view.facts.live_bytes.saturating_mul(2);
        if self.refuse_when_low(needed).is_err() {
            return false;
        }
        let generation = view.index.generation + 1;
        let path = self.directory.join(unfinished_name(generation));
        drop(self.doors.disk.remove(&path));
        let limits = Limits { cache_bytes: self.limits.cache_bytes.min(CACHE_BYTES), ..self.limits };
        let made = Index::open(&*self.doors.disk, &path, Open::New, generation, &limits, &self.lock);
        let Ok(index) = made else { return false };
        let rebuild = Rebuild { index, cursor: None };
        *self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner) = Some(rebuild);
        true
    }

    /// Swaps in the index that was built, if there is one that waits for it. As long as that fails nothing else is done with
    /// either: nobody knows which of them a crash would leave, and both hold the same.
    pub(crate) fn finish_swap(&self) -> Result<(), StoreError> {
        let mut swapping = self.tending.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(generation) = *swapping {
            self.swap(generation)?;
            *swapping = None;
        }
        Ok(())
    }

    /// The new index takes the place of the old one: for whoever opens the store with its name, for snapshots at once.
    /// Until then both hold the same, so it does not matter which of them a crash leaves.
    fn swap(&self, generation: u64) -> Result<(), StoreError> {
        let path = |name: String| self.directory.join(name);
        let io = |source| from_io(&self.name, source);
        let whole = path(index_name(generation));
        let names = self.doors.disk.names(&self.directory).map_err(io)?;
        // Not when it was renamed before, and what came after failed.
        if names.contains(&unfinished_name(generation)) {
            self.doors.disk.rename(&path(unfinished_name(generation)), &whole).map_err(io)?;
        }
        self.doors.disk.sync_directory(&self.directory).map_err(io)?;
        // It was closed, and is opened with the memory that readers need.
        let index = Index::open(&*self.doors.disk, &whole, Open::OrCreate, generation, &self.limits, &self.lock)?;
        let fresh = index.view()?;
        self.tending.absorbed.store(0, Ordering::Relaxed);
        let old = self.view().index.index.generation;
        self.change_view(|view| view.with_index(fresh));
        // Snapshots that still read it keep the file; whoever opens the store takes the newer one.
        drop(self.doors.disk.remove(&path(index_name(old))));
        Ok(())
    }
}
