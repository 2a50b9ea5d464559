//! Upkeep, on its own lane: the index takes over frozen generations, the log behind it is purged and its next segment
//! made ready, and an index that is far larger than what it holds is built anew (`rebuild.rs`).
//!
//! One piece of work at a time; the building goes on in small steps, one after each generation. A failure of the index loses nothing, because the log has everything: the index is opened again where its last commit left it,
//! and what waits is tried again, at most once a second, until there is space or the disk works. Meanwhile writers fill
//! the memory table, and are refused when it is full. What trying again cannot mend (damage, a failure whose outcome is
//! not known) stops the store. Deliberately absent: timers. Work follows from writes, reads and questions about health.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tresor_env::disk::Open;
use tresor_storage::StoreError;

use crate::index::Index;
use crate::machine::{Inner, View};
use crate::memory::Frozen;
use crate::open::index_name;
use crate::rebuild::{Built, Rebuild};
use crate::scrub::Scrub;

/// How long after a failure the index is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether somebody tends the store, and whether it can be tended.
#[derive(Default)]
pub(crate) struct Tending {
    state: Mutex<State>,
    pub(crate) changed: Condvar,
    pub(crate) rebuild: Mutex<Option<Rebuild>>,
    /// The index that was built and is to take the place of the one in use.
    pub(crate) swapping: Mutex<Option<Built>>,
    /// About how many bytes the index took over, or let go of, since it was built.
    pub(crate) absorbed: AtomicU64,
    pub(crate) scrub: Scrub,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) is_running: bool,
    /// Pieces of upkeep that still hold on to the store, the running one among them.
    holding: usize,
    is_requested: bool,
    pub(crate) is_closing: bool,
    /// How long writers should have waited (`pace.rs`), and have not yet.
    pub(crate) owed: Duration,
    /// Why the index cannot take over what waits for it.
    behind: Option<Behind>,
    stopped: Option<String>,
}

/// What keeps the index from taking over, and when that was.
#[derive(Clone)]
pub(crate) struct Behind {
    pub(crate) is_full: bool,
    why: String,
    failed_at: Duration,
}

/// What a failure of upkeep means.
enum Trouble {
    /// It is tried again.
    Passing(StoreError),
    /// Only opening the store again will tell.
    Lasting(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { .. } | StoreError::NoSpace { .. } => Self::Passing(error),
            other => Self::Lasting(other),
        }
    }
}

fn with_cause(error: &StoreError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

impl Tending {
    /// Of an index that was opened. Nobody knows how much it took over since it was built: if it is wasteful it is built
    /// anew at once, or one that is opened often never would be.
    pub(crate) fn of_opened(live_bytes: u64) -> Self {
        Self { absorbed: AtomicU64::new(live_bytes.div_ceil(2)), ..Self::default() }
    }

    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is written any more.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.state().stopped.clone()
    }

    /// Why the index cannot take over what waits for it.
    pub(crate) fn behind(&self) -> Option<Behind> {
        self.state().behind.clone()
    }

    /// Writes nothing any more.
    pub(crate) fn stop(&self, why: &str) {
        self.state().stopped.get_or_insert_with(|| why.to_owned());
    }

    /// Another index has taken the place of the one that was tended.
    pub(crate) fn begin_anew(&self) {
        self.absorbed.store(0, Ordering::Relaxed);
        self.state().behind = None;
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

/// While it lives, nobody tends the machine.
pub(crate) struct Rest<'i>(&'i Arc<Inner>);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.tending.state().is_running = false;
        self.0.tending.changed.notify_all();
        self.0.request_upkeep();
    }
}

impl Inner {
    /// Waits for what is being done, and keeps anything more from being begun for a while.
    pub(crate) fn rest(self: &Arc<Self>) -> Rest<'_> {
        let mut state = self.tending.state();
        while state.is_running {
            state = self.tending.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_running = true;
        Rest(self)
    }

    /// Whether what failed may be tried again.
    fn is_due(&self, behind: &Behind) -> bool {
        self.doors.clock.monotonic().saturating_sub(behind.failed_at) >= RETRY_AFTER
    }

    /// Sees to it that the store is tended soon.
    pub(crate) fn request_upkeep(self: &Arc<Self>) {
        {
            let mut state = self.tending.state();
            state.is_requested = true;
            let must_wait = state.behind.as_ref().is_some_and(|behind| !self.is_due(behind));
            if state.is_running || state.is_closing || state.stopped.is_some() || must_wait {
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
    pub(crate) fn wait_for_room(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut state = self.tending.state();
        loop {
            if let Some(why) = &state.stopped {
                return Err(StoreError::Stopped { name: self.name.clone(), why: why.clone() });
            }
            if self.view().frozen.len() < self.limits.frozen_max || state.is_closing {
                return Ok(());
            }
            if !state.is_running {
                match &state.behind {
                    Some(behind) if !self.is_due(behind) => return Err(self.refusal(behind)),
                    Some(_) => {
                        drop(state);
                        self.request_upkeep();
                        state = self.tending.state();
                        continue;
                    }
                    None => return Ok(()),
                }
            }
            state = self.tending.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn refusal(&self, behind: &Behind) -> StoreError {
        let name = self.name.clone();
        if behind.is_full { StoreError::NoSpace { name } } else { StoreError::Behind { name, why: behind.why.clone() } }
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
                    state.behind = None;
                    break;
                }
                Ok(Err(Trouble::Passing(error))) => {
                    let why = with_cause(&error);
                    if state.behind.is_none() {
                        tracing::error!(%why, "the index is behind: it is tried again each second");
                    }
                    let (is_full, failed_at) =
                        (matches!(error, StoreError::NoSpace { .. }), self.doors.clock.monotonic());
                    state.behind = Some(Behind { is_full, why, failed_at });
                    break;
                }
                Ok(Err(Trouble::Lasting(error))) => {
                    let why = with_cause(&error);
                    tracing::error!(%why, "the store takes no writes until it is opened again");
                    state.stopped = Some(why);
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
    fn tend_once(&self) -> Result<bool, Trouble> {
        // First, because it takes little, and what was purged must not pile up while the index is behind.
        if self.journal.tidy() {
            return Ok(true);
        }
        if self.view().index.index.has_failed() {
            self.open_index_again()?;
        }
        self.finish_swap()?;
        let done = match self.view().frozen.last() {
            // Some of the building after each.
            Some(oldest) => self
                .take_over(oldest)
                .and_then(|()| Ok(self.rebuild_beside(oldest.generation.bytes()).map(|()| true)?)),
            None => match self.rebuild() {
                Ok(false) => match self.settle() {
                    Ok(false) => {
                        self.scrub();
                        Ok(false)
                    }
                    done => done.map_err(Trouble::Lasting),
                },
                done => done.map_err(Trouble::from),
            },
        };
        if done.is_err() && self.view().index.index.has_failed() {
            // At once, because nothing can be read through it any more; if it does not work, it is done before all else
            // the next time.
            drop(self.open_index_again());
        }
        done
    }

    /// The index takes over a generation, and the log behind it is purged. Taking one over twice does nothing more, so one
    /// whose outcome is not known is taken over again: what was committed in doubt is certain with the next commit.
    fn take_over(&self, oldest: &Arc<Frozen>) -> Result<(), Trouble> {
        let (index, live_before) = {
            let view = self.view();
            (Arc::clone(&view.index.index), view.index.facts.live_bytes)
        };
        index.settle_doubt()?;
        let places = index.absorb(oldest)?;
        let absorbed = index.view()?;
        self.follow_with_rebuild(oldest, &absorbed, &places).map_err(Trouble::Lasting)?;
        let facts = absorbed.facts;
        // Who deletes writes little, and lets go of much.
        let less = live_before.saturating_sub(facts.live_bytes);
        self.tending.absorbed.fetch_add(oldest.generation.bytes().max(less), Ordering::Relaxed);
        self.change_view(|view| View {
            active: Arc::clone(&view.active),
            frozen: view.frozen.iter().filter(|frozen| !Arc::ptr_eq(frozen, oldest)).cloned().collect(),
            index: absorbed,
        });
        self.tending.state().behind = None;
        self.fit_segments(facts.live_bytes);
        self.journal.purge(facts.position.index).map_err(Trouble::Lasting)?;
        Ok(())
    }

    /// After a failure the engine does nothing more. What its last commit left is opened anew, for whoever reads from now
    /// on; snapshots that hold the old one are refused what they have not read yet.
    fn open_index_again(&self) -> Result<(), Trouble> {
        self.give_up_rebuild();
        let old = self.view();
        let generation = old.index.index.generation;
        old.index.index.abandon();
        let path = self.directory.join(index_name(generation));
        let (disk, limits) = (&*self.doors.disk, &self.limits);
        let index = Index::open(disk, &path, Open::OrCreate, generation, limits, &self.shelf, &self.lock)?;
        index.beside.succeed(&old.index.index.beside);
        let fresh = index.view()?;
        if fresh.facts.version < old.index.facts.version {
            let (name, what) = (path.display().to_string(), "it has forgotten what was committed".to_owned());
            return Err(Trouble::Lasting(StoreError::Damaged { name, what }));
        }
        self.change_view(|view| view.with_index(fresh));
        Ok(())
    }
}
