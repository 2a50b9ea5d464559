//! An index that is far larger than what it holds is built anew beside itself, step by step, and swapped in; so is one
//! beside which files lie that hold little any more, whose values it then has elsewhere.
//!
//! Generations that the index takes over meanwhile go into both, so writers never wait for the building and nothing is
//! lost when it is given up. Deliberately absent: any pause; snapshots keep the old file for as long as they live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tresor_env::disk::Open;
use tresor_storage::StoreError;

use crate::beside::{Beside, Filled, Place};
use crate::index::Index;
use crate::machine::Inner;
use crate::memory::Frozen;
use crate::open::{index_name, unfinished_name};
use crate::view::{IndexView, Reached};
use crate::{Limits, from_io};

/// An index is built anew when it is so many thousandths of what it holds, and of what it was when it was built.
const WASTE_PERMILLE: u64 = 1700;
/// The same of index and log together: what a store takes of the disk in all.
const WHOLE_PERMILLE: u64 = 1900;
const GROWTH_PERMILLE: u64 = 1250;
/// A file beside the index is emptied, too, when it is smaller than this part of a full one.
const SMALL_PART: u64 = 2;
/// More files than this are made fewer.
const FILES_MAX: usize = 64;
/// Of what nothing refers to so much may be left when files are emptied, of it and of what is referred to. Fuller files are
/// left for later: moving what they hold would take more of the disk, until it is done, than it gives back.
const LEFT_PERMILLE: u64 = 500;
/// An index is built anew, whatever it was before, when so much for each thousand live bytes beside it is referred to by
/// nothing.
const HOLLOW_PERMILLE: u64 = 650;
/// Meanwhile so much of what is live may be written, whatever it takes.
const MEANWHILE_PART: u64 = 8;
/// More steps than this are not taken after one another.
const STEPS_MAX: u64 = 16;
/// Memory for the pages of the one that is being built. Half of it is for pages that are to be written: when a step and
/// what is taken over beside it do not fit, pages are written, read again for their sums, and written once more.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// An index that is being built beside the one in use.
pub(crate) struct Rebuild {
    index: Arc<Index>,
    /// Up to which key it has everything.
    cursor: Option<Vec<u8>>,
    /// Files beside the index in use whose values it has elsewhere.
    emptied: BTreeSet<u32>,
    /// How many bytes are copied in all, and how many may be written meanwhile.
    work: u64,
    meanwhile: u64,
}

/// How many steps of a building are taken for so many bytes that the index took over, so that it ends in time.
fn steps(work: u64, meanwhile: u64, absorbed: u64, step: u64) -> u64 {
    let wanted = u128::from(work) * u128::from(absorbed) / u128::from(meanwhile.max(1)) / u128::from(step.max(1));
    u64::try_from(wanted).unwrap_or(STEPS_MAX).clamp(1, STEPS_MAX)
}

/// An index that was built, and waits to take the place of the one in use.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) generation: u64,
    pub(crate) beside: Arc<Beside>,
}

/// What nothing refers to in a file.
fn unused(filled: &Filled) -> u64 {
    filled.length.saturating_sub(filled.live)
}

/// The files that are to be emptied: the emptiest, until most of what nothing refers to is gone with them, and small ones.
fn emptied(files: &BTreeMap<u32, Filled>, small: u64) -> BTreeSet<u32> {
    let all = files.values().map(unused).sum::<u64>();
    let left = all.min(files.values().map(|filled| filled.live).sum());
    let wanted = all - left.saturating_mul(LEFT_PERMILLE) / 1000;
    let mut by_part: Vec<(u64, u32, &Filled)> = files
        .iter()
        .map(|(number, filled)| (filled.live.saturating_mul(1000) / filled.length.max(1), *number, filled))
        .collect();
    by_part.sort_unstable_by_key(|(part, number, _)| (*part, *number));
    let mut gone = 0;
    let mut emptied = BTreeSet::new();
    for (_, number, filled) in by_part {
        if gone < wanted || filled.length < small {
            gone += unused(filled);
            emptied.insert(number);
        }
    }
    emptied
}

/// Whether a piece of work was the last.
enum Step {
    Again,
    Last,
}

impl Inner {
    /// What the index took over goes into the one that is being built as well, as far as that has come.
    pub(crate) fn follow_with_rebuild(
        &self,
        frozen: &Frozen,
        absorbed: &IndexView,
        places: &[Option<Place>],
    ) -> Result<(), StoreError> {
        self.with_rebuild(|rebuild| match &rebuild.cursor {
            Some(cursor) => rebuild.index.follow(absorbed, frozen, places, cursor).map(|()| Step::Again),
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
        let (generation, beside) = (rebuild.index.generation, Arc::clone(&rebuild.index.beside));
        match work(rebuild) {
            Ok(Step::Again) => {}
            Ok(Step::Last) => {
                *place = None;
                let built = Built { generation, beside };
                *self.tending.swapping.lock().unwrap_or_else(PoisonError::into_inner) = Some(built);
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
        // Values that cannot be read would lie beside the new one as well, and nobody would know.
        if self.is_impaired() {
            return Ok(false);
        }
        let goes_on = is_under_way || (self.is_wasteful(&view.index) && self.begin_rebuild(&view.index));
        if !goes_on {
            return Ok(false);
        }
        self.with_rebuild(|rebuild| {
            let step = self.limits.rebuild_step_bytes;
            match rebuild.index.copy(&view.index, &rebuild.emptied, rebuild.cursor.as_deref(), step)? {
                Reached::Key(key) => {
                    rebuild.cursor = Some(key);
                    Ok(Step::Again)
                }
                Reached::End => rebuild.index.finish_copy(&view.index).map(|()| Step::Last),
            }
        })?;
        Ok(true)
    }

    /// The same as many times as so many bytes ask for that the index took over: writers that never rest would keep the
    /// disk from following otherwise.
    pub(crate) fn rebuild_beside(&self, absorbed: u64) -> Result<(), StoreError> {
        let mut taken = 0;
        while self.rebuild()? {
            taken += 1;
            let rebuild = self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(rebuild) = rebuild.as_ref() else { break };
            let step = self.limits.rebuild_step_bytes as u64;
            if taken >= steps(rebuild.work, rebuild.meanwhile, absorbed, step) || self.tending.state().is_closing {
                break;
            }
        }
        Ok(())
    }

    fn is_wasteful(&self, view: &IndexView) -> bool {
        let facts = &view.facts;
        // As long as less than half of it was written since, building it anew would cost more than it gives; emptying files
        // alone moves less.
        let absorbed = self.tending.absorbed.load(Ordering::Relaxed);
        if absorbed == 0 || absorbed.saturating_mul(4) < facts.live_bytes {
            return false;
        }
        let is_half_new = absorbed.saturating_mul(2) >= facts.live_bytes;
        let Ok(occupied) = view.occupied() else { return false };
        let beside = self.journal.bytes();
        let permille = |bytes: u64| bytes.saturating_mul(1000) / facts.live_bytes.max(1);
        let is_large = permille(occupied) > WASTE_PERMILLE || permille(occupied + beside) > WHOLE_PERMILLE;
        let tellable = facts.built_of(occupied, self.limits.rebuild_bytes_min);
        let has_grown = tellable > facts.built_permille.saturating_mul(GROWTH_PERMILLE) / 1000;
        let is_hollow = permille(view.files.values().map(unused).sum()) > HOLLOW_PERMILLE;
        // Each is open, whatever it takes of the disk.
        let are_many = view.files.len() > FILES_MAX;
        is_half_new && are_many
            || occupied > self.limits.rebuild_bytes_min && (is_half_new && is_large && has_grown || is_hollow)
    }

    fn begin_rebuild(&self, view: &IndexView) -> bool {
        let small = self.limits.value_file_bytes_at(view.facts.live_bytes) / SMALL_PART;
        let emptied = emptied(&view.files, small);
        // The tree, about as it is, and the values that are moved: who asks for more never makes room on a disk that is
        // filling.
        let moved: u64 = emptied.iter().filter_map(|number| view.files.get(number)).map(|filled| filled.live).sum();
        let Ok(tree) = view.index.occupied() else { return false };
        let needed = tree
            .min(view.facts.live_bytes.saturating_mul(2))
            .saturating_add(moved)
            .saturating_add(self.limits.generation_bytes);
        if self.refuse_when_low(needed).is_err() {
            return false;
        }
        let generation = view.index.generation + 1;
        let path = self.directory.join(unfinished_name(generation));
        drop(self.doors.disk.remove(&path));
        let limits = Limits { cache_bytes: self.limits.cache_bytes.min(CACHE_BYTES), ..self.limits };
        let made = Index::open(&*self.doors.disk, &path, Open::New, generation, &limits, &self.shelf, &self.lock);
        let Ok(index) = made else { return false };
        // What is appended from now on is not in a file that is emptied.
        view.index.beside.turn(0);
        let work = tree.saturating_add(moved);
        let rebuild = Rebuild { index, cursor: None, emptied, work, meanwhile: view.facts.live_bytes / MEANWHILE_PART };
        *self.tending.rebuild.lock().unwrap_or_else(PoisonError::into_inner) = Some(rebuild);
        true
    }

    /// Swaps in the index that was built, if there is one that waits for it. As long as that fails nothing else is done with
    /// either: nobody knows which of them a crash would leave, and both hold the same.
    pub(crate) fn finish_swap(&self) -> Result<(), StoreError> {
        let mut swapping = self.tending.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &*swapping {
            self.swap(built.generation)?;
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
        let index =
            Index::open(&*self.doors.disk, &whole, Open::OrCreate, generation, &self.limits, &self.shelf, &self.lock)?;
        let fresh = index.view()?;
        self.tending.absorbed.store(0, Ordering::Relaxed);
        let old = Arc::clone(&self.view().index.index);
        self.change_view(|view| view.with_index(fresh));
        // Snapshots that still read it keep the files; whoever opens the store takes the newer one.
        drop(self.doors.disk.remove(&path(index_name(old.generation))));
        old.beside.remove_all_but(&index.beside);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emptiest_files_go_until_most_of_the_waste_does_and_so_do_small_ones() {
        let filled = |live, length| Filled { live, length };
        let files = [(1, filled(0, 1000)), (2, filled(900, 1000)), (3, filled(200, 1000)), (4, filled(1000, 1000))];
        let files = BTreeMap::from(files);
        assert_eq!(emptied(&files, 0), BTreeSet::from([1]), "1,000 of the 1,900 that nothing refers to");
        let small = [(5, filled(100, 100)), (6, filled(10, 100))];
        let files = files.into_iter().chain(small).collect();
        assert_eq!(emptied(&files, 101), BTreeSet::from([1, 5, 6]));
        assert!(emptied(&BTreeMap::from([(4, filled(1000, 1000))]), 0).is_empty(), "nothing is waste");
    }

    #[test]
    fn a_building_takes_as_many_steps_as_writers_leave_it_time() {
        assert_eq!(steps(400, 100, 4, 2), 8, "four times what is written");
        assert_eq!([steps(10, 100, 4, 2), steps(1000, 0, 4, 2)], [1, STEPS_MAX]);
    }
}
