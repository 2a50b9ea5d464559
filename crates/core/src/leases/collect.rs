//! Collecting what revoked tokens and removed mounts left behind: lazily, depth first, within a budget.
//!
//! Below a doomed token everything is removed, the deepest first, so that the walk finds its place again from the top
//! and needs no memory. Below a cut token everything stays and forgets the ancestors that it lost; that walk keeps its
//! place in the mark. All of it is refused, or an orphan, long before: see `tokens::lineage`. Deliberately absent:
//! revoking what lies outside the server.

use std::sync::Arc;

use tresor_barrier::{KeyPrefix, StorageKey, Txn};
use tresor_engine::{Mounted, View, is_damage};
use tresor_model::Fault;
use tresor_model::ids::MountId;
use tresor_record::Record;

use super::secrets::Retired;
use super::{Doing, Progress, index, parked, wakes};
use crate::keys;
use crate::mounts::record::WipeRecord;
use crate::namespaces::ids;
use crate::tokens::record::{MarkRecord, StoredFate};
use crate::tokens::{self, FoundToken};
use crate::unsealed::Unsealed;

/// How many marks are looked at in one step.
const MARKS_MAX: usize = 128;

/// Collects below one mark.
pub(super) fn marks(unsealed: &Unsealed, txn: &mut Txn, doing: &mut Doing) -> Result<Progress, Fault> {
    let marks = keys::marks().map_err(Fault::internal)?;
    let aside = keys::set_aside().map_err(Fault::internal)?;
    let (mut budget, mut did_something) = (doing.step_max, false);
    let spaces = &unsealed.handles.spaces;
    let (mut hashes, _) = parked::open_names(spaces, txn, &marks, None, MARKS_MAX)?;
    let mut at = 0;
    // Marks that wait for something that is sealed stand in the way of no other.
    while let Some(hash) = hashes.get(at).cloned() {
        at += 1;
        if at == MARKS_MAX && hashes.len() == MARKS_MAX && !did_something {
            (hashes, at) = (parked::open_names(spaces, txn, &marks, Some(&hash), MARKS_MAX)?.0, 0);
        }
        let key = marks.key(&hash).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { continue };
        let mut mark = MarkRecord::decode(&bytes).map_err(Fault::internal)?;
        let now = unsealed.clock.now();
        let damaged = format!("mark-{hash}");
        let is_aside = txn.contains(&aside.key(&damaged).map_err(Fault::internal)?).map_err(Fault::internal)?;
        let walk = Walk { unsealed, budget: &mut budget, revoked: &mut doing.revoked, sealed: 0 };
        let walked = match mark.fate {
            _ if is_aside => Ok(Done::Waits),
            StoredFate::Doomed => walk.doom(txn, &hash),
            StoredFate::Cut => walk.cut(txn, &hash, &mut mark),
        };
        let walked = match walked {
            Err(fault) if is_damage(&fault) => {
                // The mark goes on refusing what is below, which ends in its own time; nothing would mend by trying again.
                let reason = format!("collecting below a revoked token: {}", fault.for_operators());
                index::set_aside(txn, &aside, &damaged, reason, now)?;
                Done::Partly
            }
            walked => walked?,
        };
        match walked {
            Done::Wholly => {
                did_something = true;
                txn.forget_tally(&keys::below(&hash).map_err(Fault::internal)?);
                txn.delete(&key).map_err(Fault::internal)?;
                budget = budget.saturating_sub(1);
            }
            Done::Partly => {
                did_something = true;
                if mark.fate == StoredFate::Cut {
                    txn.write(&key, &mark.encode()).map_err(Fault::internal)?;
                }
            }
            Done::Waits => {}
        }
        if budget == 0 {
            break;
        }
    }
    Ok(if did_something { Progress::More } else { Progress::Idle })
}

/// How far a walk came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Wholly,
    Partly,
    /// All is done that can be done before something else is.
    Waits,
}

struct Walk<'w> {
    unsealed: &'w Unsealed,
    budget: &'w mut usize,
    revoked: &'w mut u64,
    /// How much was met that waits for its namespace to be opened.
    sealed: usize,
}

impl Walk<'_> {
    /// Removes everything below a doomed token.
    fn doom(mut self, txn: &mut Txn, hash: &str) -> Result<Done, Fault> {
        let before = *self.budget;
        Ok(match self.remove_below(txn, hash, 0)? {
            true if self.sealed == 0 => Done::Wholly,
            // The mark goes on refusing what is sealed, and is there when that is opened.
            true if *self.budget == before => Done::Waits,
            _ => Done::Partly,
        })
    }

    /// Removes what is below a token, children after what is below them; true when nothing is left.
    fn remove_below(&mut self, txn: &mut Txn, hash: &str, depth: usize) -> Result<bool, Fault> {
        if !self.remove_own(txn, hash)? {
            return Ok(false);
        }
        let edges = keys::children(hash).map_err(Fault::internal)?;
        let mut after: Option<String> = None;
        // What stays because something below it is sealed is passed by, too.
        loop {
            let limit = self.budget.saturating_add(1);
            let names = self.open_names(txn, &edges, after.as_deref(), limit)?;
            let is_last = names.len() < limit;
            for name in names {
                if *self.budget == 0 {
                    return Ok(false);
                }
                let child = tokens::hash_of(&name).unwrap_or(&name);
                let sealed = self.sealed;
                // A chain longer than any that could be made ends here, whatever the store says.
                if depth < tokens::DEPTH_MAX && !self.remove_below(txn, child, depth + 1)? {
                    return Ok(false);
                }
                if self.sealed == sealed {
                    if let Some(record) = tokens::read_record(txn, child)? {
                        let found = self.unsealed.handles.tokens.as_stored(child, record);
                        self.unsealed.handles.tokens.remove(txn, &found)?;
                        *self.revoked += 1;
                    }
                    txn.forget_tally(&keys::below(child).map_err(Fault::internal)?);
                    txn.leave(&edges.key(&name).map_err(Fault::internal)?);
                    *self.budget -= 1;
                }
                after = Some(name);
            }
            if is_last {
                return Ok(*self.budget > 0);
            }
        }
    }

    /// Names that lead into no sealed namespace; that others were passed over is remembered.
    fn open_names(
        &mut self,
        txn: &mut Txn,
        prefix: &KeyPrefix,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Fault> {
        let (names, has_passed) = parked::open_names(&self.unsealed.handles.spaces, txn, prefix, after, limit)?;
        self.sealed += usize::from(has_passed);
        Ok(names)
    }

    /// Removes what belongs to a token itself, but for what is sealed; true when nothing else is left.
    fn remove_own(&mut self, txn: &mut Txn, hash: &str) -> Result<bool, Fault> {
        // Leases are retired here and revoked by their own task: what lies outside may take its time.
        let owned = keys::leases_of(hash).map_err(Fault::internal)?;
        let limit = self.budget.saturating_add(1);
        for number in self.open_names(txn, &owned, None, limit)? {
            if *self.budget == 0 {
                return Ok(false);
            }
            self.unsealed.handles.leases.retire_owned(txn, &owned, &number, self.unsealed.clock.now())?;
            *self.budget -= 1;
        }
        match self.unsealed.handles.tokens.cubbyhole(hash)? {
            Some(own) => Wipe { contents: own, engine: None }.run(txn, self.budget),
            None => Ok(true),
        }
    }

    /// Lets everything below a cut token forget its lost ancestors, in order of the tree, from where the walk stopped.
    fn cut(mut self, txn: &mut Txn, hash: &str, mark: &mut MarkRecord) -> Result<Done, Fault> {
        if !self.remove_own(txn, hash)? {
            return Ok(Done::Partly);
        }
        // First below the token that was visited last, then beside it, then beside those above.
        let mut after: Option<String> = None;
        while *self.budget > 0 {
            let above = mark.walked.last().and_then(|name| tokens::hash_of(name)).unwrap_or(hash).to_owned();
            let edges = keys::children(&above).map_err(Fault::internal)?;
            match txn.list(&edges, after.as_deref(), 1).map_err(Fault::internal)?.pop() {
                Some(next) if parked::is_erased(&self.unsealed.handles.spaces, &next) => {
                    parked::drop_name(txn, &edges.key(&next).map_err(Fault::internal)?)?;
                    *self.budget -= 1;
                }
                Some(next) if parked::is_sealed(&self.unsealed.handles.spaces, &next) => return Ok(Done::Waits),
                Some(next) if mark.walked.len() <= tokens::DEPTH_MAX => {
                    self.forget_lost(txn, tokens::hash_of(&next).unwrap_or(&next))?;
                    *self.budget -= 1;
                    mark.walked.push(next);
                    after = None;
                }
                _ => match mark.walked.pop() {
                    Some(visited) => after = Some(visited),
                    // What was revoked below keeps saying that it lay here until it is collected.
                    None if self.unsealed.handles.tokens.any_mark_below(hash) => return Ok(Done::Waits),
                    None if self.sealed > 0 => return Ok(Done::Waits),
                    None => return self.forget_edges(txn, hash),
                },
            }
        }
        // The walk goes on below the last visited; when it was on its way up, it comes down to the same place.
        if let Some(visited) = after {
            mark.walked.push(visited);
        }
        Ok(Done::Partly)
    }

    fn forget_lost(&self, txn: &mut Txn, hash: &str) -> Result<(), Fault> {
        let Some(record) = tokens::read_record(txn, hash)? else { return Ok(()) };
        let written = record.ancestors.len();
        let found = self.unsealed.handles.tokens.as_stored(hash, record);
        if found.record.ancestors.len() < written {
            tokens::write_record(txn, &found)?;
        }
        Ok(())
    }

    /// Removes the edges that lead out of a cut token.
    fn forget_edges(&mut self, txn: &mut Txn, hash: &str) -> Result<Done, Fault> {
        let edges = keys::children(hash).map_err(Fault::internal)?;
        for name in txn.list(&edges, None, self.budget.saturating_add(1)).map_err(Fault::internal)? {
            if *self.budget == 0 {
                return Ok(Done::Partly);
            }
            txn.leave(&edges.key(&name).map_err(Fault::internal)?);
            *self.budget -= 1;
        }
        Ok(if *self.budget > 0 { Done::Wholly } else { Done::Partly })
    }
}

impl tokens::Tokens {
    /// A token as it is stored, alive or not, with the ancestors that it has not lost.
    pub(crate) fn as_stored(&self, hash: &str, mut record: Arc<tokens::record::TokenRecord>) -> FoundToken {
        let within = self.within_cuts(&record.ancestors);
        if within < record.ancestors.len() {
            Arc::make_mut(&mut record).keep_ancestors(within);
        }
        FoundToken { hash: hash.to_owned(), record, uses_left: None }
    }
}

/// Removes the data of removed mounts.
///
/// What it handed out is taken back first, because that may need the data; a mount whose leases are not revoked yet
/// keeps no other waiting.
pub(super) fn wipe(unsealed: &Unsealed, txn: &mut Txn, doing: &mut Doing) -> Result<Progress, Fault> {
    let wipes = keys::wipes().map_err(Fault::internal)?;
    for name in parked::open_names(&unsealed.handles.spaces, txn, &wipes, None, MARKS_MAX)?.0 {
        let key = wipes.key(&name).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { continue };
        let mut record = WipeRecord::decode(&bytes).map_err(Fault::internal)?;
        let (namespace, id) = (ids::home(&name), MountId::new(ids::bare(&name)));
        match unsealed.handles.leases.retire_below(
            txn,
            &namespace,
            &mut record,
            doing.step_max,
            unsealed.clock.now(),
        )? {
            Retired::Some => {
                txn.write(&key, &record.encode()).map_err(Fault::internal)?;
                return Ok(Progress::More);
            }
            Retired::Waits => {}
            Retired::All => {
                // Without its engine (of a type that is not known any more), what no listing shows stays.
                if !wakes::forget(txn, &namespace, &id, &mut doing.step_max)? {
                    return Ok(Progress::More);
                }
                let engine =
                    unsealed.handles.spaces.of(&namespace).and_then(|space| space.mounts.taking_back(txn, &id));
                let engine = engine.inspect_err(|error| tracing::error!(%error, "a mount is wiped without its engine"));
                let engine = engine.ok().flatten().map(|found| found.engine);
                let budget = doing.step_max;
                for store in 0..=record.mount.0.store {
                    let contents = keys::mount_contents(&namespace, &id, store).map_err(Fault::internal)?;
                    // Data of an older shape has no points that hang on it.
                    let engine = engine.clone().filter(|_| store == record.mount.0.store);
                    if !(Wipe { contents, engine }).run(txn, &mut doing.step_max)? {
                        record.records_wiped += u64::try_from(budget - doing.step_max).unwrap_or(0);
                        txn.write(&key, &record.encode()).map_err(Fault::internal)?;
                        return Ok(Progress::More);
                    }
                }
                txn.delete(&key).map_err(Fault::internal)?;
                return Ok(Progress::More);
            }
        }
    }
    Ok(Progress::Idle)
}

/// What takes away one record: from the budget it takes what it deletes.
type Delete<'d> = dyn FnMut(&mut Txn, &StorageKey, &mut usize) -> Result<(), Fault> + 'd;

/// Hands every name below a prefix to `delete` while the budget lasts; true when nothing is left. It goes no deeper than a
/// name has segments, which the barrier bounds.
pub(crate) fn every_below(
    txn: &mut Txn,
    prefix: &KeyPrefix,
    budget: &mut usize,
    delete: &mut Delete<'_>,
) -> Result<bool, Fault> {
    for name in txn.list(prefix, None, *budget + 1).map_err(Fault::internal)? {
        if *budget == 0 {
            return Ok(false);
        }
        if name.ends_with('/') {
            let deeper = prefix.below(&name).map_err(Fault::internal)?;
            if !every_below(txn, &deeper, budget, delete)? {
                return Ok(false);
            }
        } else {
            delete(txn, &prefix.key(&name).map_err(Fault::internal)?, budget)?;
        }
    }
    Ok(*budget > 0)
}

/// Deleting what a removed mount has, and the points that hang on it.
struct Wipe {
    contents: KeyPrefix,
    /// Who knows of the points, if anybody.
    engine: Option<Arc<dyn Mounted>>,
}

impl Wipe {
    /// Deletes as much as the budget allows; true when nothing is left.
    fn run(&self, txn: &mut Txn, budget: &mut usize) -> Result<bool, Fault> {
        every_below(txn, &self.contents, budget, &mut |txn, record, budget| self.delete(txn, record, budget))
    }

    fn delete(&self, txn: &mut Txn, record: &StorageKey, budget: &mut usize) -> Result<(), Fault> {
        if let (Some(engine), Some(name)) = (&self.engine, record.as_str().strip_prefix(self.contents.as_str())) {
            let mut view = View::new(txn, self.contents.clone());
            let points = match engine.points(&mut view, name) {
                Err(error) if is_damage(&error) => {
                    tracing::error!("what hangs on a damaged record of a removed mount stays");
                    Vec::new()
                }
                points => points?,
            };
            for point in points {
                view.delete_point(&point)?;
                *budget = budget.saturating_sub(1);
            }
        }
        txn.delete(record).map_err(Fault::internal)?;
        *budget = budget.saturating_sub(1);
        Ok(())
    }
}
