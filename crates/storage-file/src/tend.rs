//! Upkeep, on its own lane: the index takes over frozen generations, the log behind it is purged and its next segment
//! made ready, and an index that is far larger than what it holds is built anew beside itself.
//!
//! One piece of work at a time, generations before the building, so that writers never wait for the building. A failure
//! of the index loses nothing, because the log has everything; the store stops writing then, and opening it again decides.
//! Deliberately absent: clocks. Work follows from writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tresor_env::disk::Open;
use tresor_storage::StoreError;

use crate::index::{Copied, Index, IndexView};
use crate::memory::Generation;
use crate::open::{index_name, unfinished_name};
use crate::{Inner, View, from_io, from_log};

/// An index is built anew when it is so many thousandths of what it holds, and of what it was when it was built.
const WASTE_PERMILLE: u64 = 1700;
const GROWTH_PERMILLE: u64 = 1250;

/// Whether somebody tends the store, and whether it can be tended.
#[derive(Default)]
pub(crate) struct Tending {
    state: Mutex<State>,
    changed: Condvar,
    rebuild: Mutex<Option<Rebuild>>,
    /// About how many bytes the index took over since it was built, or since the store was opened.
    absorbed: AtomicU64,
}

#[derive(Default)]
struct State {
    is_running: bool,
    /// Pieces of upkeep that still hold on to the store, the running one among them.
    holding: usize,
    is_requested: bool,
    is_closing: bool,
    stopped: Option<String>,
}

/// An index that is being built beside the one in use.
struct Rebuild {
    index: Arc<Index>,
    /// Up to which key it has everything.
    cursor: Option<Vec<u8>>,
}

/// Whether a piece of work was the last.
enum Step {
    Again,
    Last,
}

impl Tending {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is written any more.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.state().stopped.clone()
    }

    /// Waits for what is being done, and does nothing more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closing = true;
        while state.holding > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Inner {
    /// Sees to it that the store is tended soon.
    pub(crate) fn request_upkeep(self: &Arc<Self>) {
        {
            let mut state = self.tending.state();
            state.is_requested = true;
            if state.is_running || state.is_closing || state.stopped.is_some() {
                return;
            }
            state.is_running = true;
            state.holding += 1;
        }
        let (inner, tending) = (Arc::clone(self), Arc::clone(&self.tending));
        self.doors.workers.tidy_up(Box::new(move || {
            inner.tend();
            // Only then: who closes the store may open it again at once.
            drop(inner);
            tending.state().holding -= 1;
            tending.changed.notify_all();
        }));
    }

    /// Waits while the memory table is full; says why when nothing is written any more.
    pub(crate) fn wait_for_room(&self) -> Result<(), StoreError> {
        let mut state = self.tending.state();
        loop {
            if let Some(why) = &state.stopped {
                return Err(StoreError::Stopped { name: self.name.clone(), why: why.clone() });
            }
            if self.view().frozen.len() < self.limits.frozen_max || !state.is_running {
                return Ok(());
            }
            state = self.tending.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tend(&self) {
        loop {
            {
                let mut state = self.tending.state();
                state.is_requested = false;
                if state.is_closing {
                    break;
                }
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.tend_once()));
            let mut state = self.tending.state();
            match done {
                Ok(Ok(true)) => self.tending.changed.notify_all(),
                Ok(Ok(false)) if state.is_requested => {}
                Ok(Ok(false)) => {
                    state.is_running = false;
                    self.tending.changed.notify_all();
                    return;
                }
                Ok(Err(error)) => {
                    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                    state.stopped = Some(format!("{error}{}", source.unwrap_or_default()));
                    break;
                }
                Err(_) => {
                    state.stopped = Some("its upkeep panicked".to_owned());
                    break;
                }
            }
        }
        let mut state = self.tending.state();
        state.is_running = false;
        self.tending.changed.notify_all();
    }

    /// Does one piece of work; tells whether there was any.
    fn tend_once(&self) -> Result<bool, StoreError> {
        // First, because it takes little, and what was purged must not pile up while the index is behind.
        let plan = self.log.lock().unwrap_or_else(PoisonError::into_inner).plan();
        if let Some(plan) = plan {
            // Without it an append does the same itself, and says what is wrong.
            let done = plan.run().map(|done| self.log.lock().unwrap_or_else(PoisonError::into_inner).adopt(done));
            if done.is_ok() {
                return Ok(true);
            }
        }
        if let Some(oldest) = self.view().frozen.last() {
            self.take_over(oldest)?;
            return Ok(true);
        }
        self.rebuild()
    }

    /// The index takes over a generation, and the log behind it is purged.
    fn take_over(&self, oldest: &Arc<Generation>) -> Result<(), StoreError> {
        let index = Arc::clone(&self.view().index.index);
        index.absorb(oldest, None)?;
        let absorbed = index.view()?;
        self.with_rebuild(|rebuild| match &rebuild.cursor {
            Some(cursor) => rebuild.index.absorb(oldest, Some(cursor)).map(|()| Step::Again),
            None => Ok(Step::Again),
        })?;
        self.tending.absorbed.fetch_add(oldest.bytes(), Ordering::Relaxed);
        let version = absorbed.facts.version;
        self.change_view(|view| View {
            active: Arc::clone(&view.active),
            frozen: view.frozen.iter().filter(|frozen| !Arc::ptr_eq(frozen, oldest)).cloned().collect(),
            index: absorbed,
        });
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_worth_purging(version.0) {
            log.purge(version.0).map_err(|error| from_log(&self.name, error))?;
        }
        Ok(())
    }

    fn change_view(&self, change: impl FnOnce(&View) -> View) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.view = Arc::new(change(&current.view));
    }

    /// Works on the index that is being built, if there is one. One that fails is given up, since nothing depends on it.
    fn with_rebuild(&self, work: impl FnOnce(&mut Rebuild) -> Result<Step, StoreError>) -> Result<(), StoreError> {
        let mut place = self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rebuild) = place.as_mut() else { return Ok(()) };
        let unfinished = self.directory.join(unfinished_name(rebuild.index.generation));
        match work(rebuild) {
            Ok(Step::Again) => {}
            Ok(Step::Last) => {
                let swapped = self.swap(&rebuild.index);
                *place = None;
                return swapped;
            }
            Err(_) => {
                *place = None;
                // Not again before as much was written: what failed now would fail at once.
                self.tending.absorbed.store(0, Ordering::Relaxed);
                // What is left of it is removed at the next opening at the latest.
                drop(self.doors.disk.remove(&unfinished));
            }
        }
        Ok(())
    }

    /// Takes the next step in building the index anew, when that is worth it; tells whether there was one.
    fn rebuild(&self) -> Result<bool, StoreError> {
        let view = self.view();
        let is_under_way = self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let goes_on = is_under_way || (self.is_wasteful(&view.index) && self.begin_rebuild(&view.index));
        if !goes_on {
            return Ok(false);
        }
        self.with_rebuild(|rebuild| {
            let step = self.limits.rebuild_step_bytes;
            match rebuild.index.copy(&view.index, rebuild.cursor.as_deref(), step)? {
                Copied::UpTo(key) => {
                    rebuild.cursor = Some(key);
                    Ok(Step::Again)
                }
                Copied::Everything => rebuild.index.finish_copy(&view.index.facts).map(|()| Step::Last),
            }
        })?;
        Ok(true)
    }

    fn is_wasteful(&self, view: &IndexView) -> bool {
        let facts = &view.facts;
        // As long as less than half of it was written since, building it anew would cost more than it gives.
        let absorbed = self.tending.absorbed.load(Ordering::Relaxed);
        let is_due = absorbed > 0 && absorbed.saturating_mul(2) >= facts.live_bytes;
        is_due
            && view.index.occupied().is_ok_and(|occupied| {
                let permille = occupied.saturating_mul(1000) / facts.live_bytes.max(1);
                occupied > self.limits.rebuild_bytes_min
                    && permille > WASTE_PERMILLE
                    && permille > facts.built_permille.saturating_mul(GROWTH_PERMILLE) / 1000
            })
    }

    fn begin_rebuild(&self, view: &IndexView) -> bool {
        let needed = view.facts.live_bytes.saturating_mul(2);
        if self.refuse_when_low(needed).is_err() {
            return false;
        }
        let generation = view.index.generation + 1;
        let path = self.directory.join(unfinished_name(generation));
        drop(self.doors.disk.remove(&path));
        let made = Index::open(&*self.doors.disk, &path, Open::New, generation, &self.limits, &self.lock);
        let Ok(index) = made else { return false };
        let rebuild = Rebuild { index, cursor: None };
        *self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner) = Some(rebuild);
        true
    }

    /// The new index takes the place of the old one: for whoever opens the store with its name, for snapshots at once.
    /// Until then both hold the same, so it does not matter which of them a crash leaves.
    fn swap(&self, index: &Arc<Index>) -> Result<(), StoreError> {
        let fresh = index.view()?;
        let path = |name: String| self.directory.join(name);
        let io = |source| from_io(&self.name, source);
        let generation = index.generation;
        self.doors.disk.rename(&path(unfinished_name(generation)), &path(index_name(generation))).map_err(io)?;
        self.doors.disk.sync_directory(&self.directory).map_err(io)?;
        self.tending.absorbed.store(0, Ordering::Relaxed);
        let old = self.view().index.index.generation;
        self.change_view(|view| View { active: Arc::clone(&view.active), frozen: view.frozen.clone(), index: fresh });
        // Snapshots that still read it keep the file; whoever opens the store takes the newer one.
        drop(self.doors.disk.remove(&path(index_name(old))));
        Ok(())
    }
}
