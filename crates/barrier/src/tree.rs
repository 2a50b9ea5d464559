//! The names of one directory: a B+ tree of blocks, each a sealed value like any other.
//!
//! Leaves hold names in order, inner blocks hold the first name of each child. Block 0 is the root and counts the
//! blocks that were made, so an id is never used twice. A block that becomes empty is removed, a directory without
//! names has no block at all. Deliberately absent: rebalancing of half-empty blocks (an emptied one is freed), and
//! values; a page of names costs its blocks and nothing else.

use std::sync::Arc;

use crate::barrier::BarrierError;
use crate::cache::Plaintext;
use crate::names::Names;
use tresor_record::{Encoded, Part, Record};

/// How many names or children a block holds at most.
const FANOUT: usize = 96;
/// How deep a tree can be: 96 to the power of 8 names are more than any disk holds.
const DEPTH_MAX: usize = 8;
/// The block that a directory starts with.
const ROOT: u64 = 0;

/// Where blocks are read from.
pub(crate) trait Blocks {
    fn read_block(&mut self, directory: &str, block: u64) -> Result<Option<Plaintext>, BarrierError>;
}

/// Where blocks are changed: in the clear and taken apart, so that a batch reads and writes each of them once.
pub(crate) trait BlocksMut {
    /// The block as it is now.
    fn slot(&mut self, directory: &str, block: u64) -> Result<&mut Slot, BarrierError>;

    /// Puts a block in its place, whatever was there.
    ///
    /// # Errors
    /// When the directory is in a sealed realm.
    fn put(&mut self, directory: &str, id: u64, block: Block) -> Result<(), BarrierError>;
}

/// A place for a block while a batch is put together.
#[derive(Default)]
pub(crate) struct Slot {
    block: Option<Block>,
    is_changed: bool,
    /// The transaction that came here last.
    transaction: usize,
    /// What was here before that one changed it.
    before: Option<Before>,
}

struct Before {
    block: Option<Block>,
    is_changed: bool,
}

impl Slot {
    /// A block as it is stored.
    pub(crate) fn stored(bytes: &Plaintext) -> Result<Self, BarrierError> {
        Ok(Self { block: Some(Arc::unwrap_or_clone(bytes.record::<Block>()?)), ..Self::default() })
    }

    /// A transaction comes here; what the one before it changed stands.
    pub(crate) fn enter(&mut self, transaction: usize) {
        if self.transaction != transaction {
            self.transaction = transaction;
            self.before = None;
        }
    }

    /// Puts a block here, whatever was here.
    pub(crate) fn put(&mut self, block: Block) {
        let replaced = self.block.replace(block);
        self.before.get_or_insert(Before { block: replaced, is_changed: self.is_changed });
        self.is_changed = true;
    }

    /// Takes back what this transaction changed.
    pub(crate) fn take_back(&mut self, transaction: usize) {
        if self.transaction == transaction
            && let Some(before) = self.before.take()
        {
            (self.block, self.is_changed) = (before.block, before.is_changed);
        }
    }

    /// Whether it must be stored.
    pub(crate) const fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The bytes to store; `None` when there is no such block any more.
    pub(crate) fn encode(&self) -> Option<Encoded> {
        self.block.as_ref().map(Record::encode)
    }

    /// The block, to be changed.
    fn change(&mut self) -> &mut Option<Block> {
        if self.before.is_none() {
            self.before = Some(Before { block: self.block.clone(), is_changed: self.is_changed });
        }
        self.is_changed = true;
        &mut self.block
    }
}

#[derive(Record, Clone)]
#[record(kind = "directory-block", version = 1)]
pub(crate) struct Block {
    /// The highest id that was given out; kept in the root only.
    last_id: u64,
    entries: Entries,
}

#[derive(Part, Clone)]
enum Entries {
    #[part(tag = 1)]
    Names(Names),
    #[part(tag = 2)]
    Children(Vec<Child>),
}

#[derive(Part, Clone)]
struct Child {
    /// No name below this child is smaller, except below the first child.
    first: String,
    block: u64,
}

fn read(blocks: &mut (impl Blocks + ?Sized), directory: &str, block: u64) -> Result<Option<Arc<Block>>, BarrierError> {
    let Some(stored) = blocks.read_block(directory, block)? else { return Ok(None) };
    Ok(Some(stored.record()?))
}

/// The child that a name belongs below.
fn position(children: &[Child], name: &str) -> usize {
    children.partition_point(|child| child.first.as_str() <= name).saturating_sub(1)
}

fn too_deep() -> BarrierError {
    tresor_record::RecordError::Impossible { kind: Block::KIND }.into()
}

/// At most `limit` names after `after`, in order.
pub(crate) fn page(
    blocks: &mut (impl Blocks + ?Sized),
    directory: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, BarrierError> {
    let mut found = Page::default();
    gather(blocks, directory, (ROOT, 0), after, limit, &mut found)?;
    found.damaged.map_or(Ok(found.names), Err)
}

/// As [`page`], leaving out what lies in blocks that cannot be read; and whether there was one.
pub(crate) fn page_readable(
    blocks: &mut (impl Blocks + ?Sized),
    directory: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<String>, bool), BarrierError> {
    let mut found = Page { goes_on: true, ..Page::default() };
    gather(blocks, directory, (ROOT, 0), after, limit, &mut found)?;
    Ok((found.names, found.damaged.is_some()))
}

/// What was found so far.
#[derive(Default)]
struct Page {
    names: Vec<String>,
    /// What is wrong with a block that was met.
    damaged: Option<BarrierError>,
    /// Whether that is no reason to stop.
    goes_on: bool,
}

/// The first name that can be read, and whether a block was damaged on the way.
pub(crate) fn first_readable(
    blocks: &mut (impl Blocks + ?Sized),
    directory: &str,
) -> Result<(Option<String>, bool), BarrierError> {
    let (mut to_visit, mut is_damaged) = (vec![ROOT], false);
    while let Some(id) = to_visit.pop() {
        let block = read(blocks, directory, id);
        match block.as_ref().map(|block| block.as_ref().map(|block| &block.entries)) {
            Ok(Some(Entries::Names(names))) => {
                if let Some(first) = names.get(0) {
                    return Ok((Some(first.to_owned()), is_damaged));
                }
            }
            Ok(Some(Entries::Children(children))) => to_visit.extend(children.iter().rev().map(|child| child.block)),
            Ok(None) => {}
            Err(error) if error.is_damage() => is_damaged = true,
            Err(_) => return block.map(|_| (None, is_damaged)),
        }
    }
    Ok((None, is_damaged))
}

/// The first name that is not before `start`. When the block that it belongs into cannot be read, one that begins so may
/// still stand in the block beside it; else that is the answer.
pub(crate) fn from(
    blocks: &mut (impl Blocks + ?Sized),
    directory: &str,
    start: &str,
) -> Result<Option<String>, BarrierError> {
    let (mut id, mut depth) = (ROOT, 0);
    // Where the search goes on when the block that `start` belongs into has nothing after it.
    let mut next: Option<u64> = None;
    let mut damaged: Option<BarrierError> = None;
    loop {
        if depth > 2 * DEPTH_MAX {
            return Err(too_deep());
        }
        depth += 1;
        let block = match (read(blocks, directory, id), next) {
            (Err(error), Some(beside)) if error.is_damage() => {
                (damaged, next, id) = (Some(error), None, beside);
                continue;
            }
            (block, _) => block?,
        };
        let found = match block.as_deref().map(|block| &block.entries) {
            Some(Entries::Children(children)) => {
                let at = position(children, start);
                next = children.get(at + 1).map(|child| child.block).or(next);
                id = children.get(at).map(|child| child.block).ok_or_else(too_deep)?;
                continue;
            }
            Some(Entries::Names(names)) => names.get(names.partition_point(|name| name < start)).map(str::to_owned),
            None => None,
        };
        match (found, next.take()) {
            (None, Some(beside)) => id = beside,
            (found, _) => match damaged {
                Some(error) if !found.as_ref().is_some_and(|found| found.starts_with(start)) => return Err(error),
                _ => return Ok(found),
            },
        }
    }
}

fn gather(
    blocks: &mut (impl Blocks + ?Sized),
    directory: &str,
    (id, depth): (u64, usize),
    after: Option<&str>,
    limit: usize,
    found: &mut Page,
) -> Result<(), BarrierError> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let block = match read(blocks, directory, id) {
        Err(error) if error.is_damage() => {
            found.damaged = Some(error);
            return Ok(());
        }
        block => block?,
    };
    match block.as_deref().map(|block| &block.entries) {
        Some(Entries::Names(entries)) => {
            let start = after.map_or(0, |after| entries.partition_point(|name| name <= after));
            found.names.extend(entries.iter().skip(start).take(limit - found.names.len()).map(str::to_owned));
        }
        Some(Entries::Children(children)) => {
            let start = after.map_or(0, |after| position(children, after));
            for child in children.iter().skip(start) {
                if found.names.len() >= limit || found.damaged.is_some() && !found.goes_on {
                    break;
                }
                gather(blocks, directory, (child.block, depth + 1), after, limit, found)?;
            }
        }
        None => {}
    }
    Ok(())
}

/// Whether the directory has no name.
pub(crate) fn is_empty(blocks: &mut (impl BlocksMut + ?Sized), directory: &str) -> Result<bool, BarrierError> {
    Ok(blocks.slot(directory, ROOT)?.block.is_none())
}

/// Whether the directory has this name.
pub(crate) fn contains(
    blocks: &mut (impl BlocksMut + ?Sized),
    directory: &str,
    name: &str,
) -> Result<bool, BarrierError> {
    let mut id = ROOT;
    for _ in 0..=DEPTH_MAX {
        match blocks.slot(directory, id)?.block.as_ref().map(|block| &block.entries) {
            None => return Ok(false),
            Some(Entries::Names(names)) => return Ok(names.search(name).is_ok()),
            Some(Entries::Children(children)) => {
                id = children.get(position(children, name)).map(|child| child.block).ok_or_else(too_deep)?;
            }
        }
    }
    Err(too_deep())
}

/// Begins a directory anew with one name, whatever was there; no block gets an id of `last_id` or less again.
pub(crate) fn begin_anew(
    blocks: &mut (impl BlocksMut + ?Sized),
    directory: &str,
    name: &str,
    last_id: u64,
) -> Result<(), BarrierError> {
    blocks.put(directory, ROOT, Block { last_id, entries: Entries::Names(Names::one(name)) })
}

/// What an insertion did to a block: it may have split off a right part.
type Split = Option<Child>;

/// Adds a name; adding it twice changes nothing.
pub(crate) fn insert(blocks: &mut (impl BlocksMut + ?Sized), directory: &str, name: &str) -> Result<(), BarrierError> {
    let Some(before) = blocks.slot(directory, ROOT)?.block.as_ref().map(|root| root.last_id) else {
        blocks.put(directory, ROOT, Block { last_id: 0, entries: Entries::Names(Names::one(name)) })?;
        return Ok(());
    };
    let mut last_id = before;
    let split = insert_below(blocks, directory, ROOT, name, &mut last_id, 0)?;
    if let Some(right) = split {
        // The root stays block 0: its left half moves to a block of its own.
        last_id += 1;
        let root = blocks.slot(directory, ROOT)?.change().take().ok_or_else(too_deep)?;
        blocks.put(directory, last_id, Block { last_id: 0, entries: root.entries })?;
        let left = Child { first: String::new(), block: last_id };
        blocks.put(directory, ROOT, Block { last_id, entries: Entries::Children(vec![left, right]) })?;
    } else if last_id != before {
        blocks.slot(directory, ROOT)?.change().as_mut().ok_or_else(too_deep)?.last_id = last_id;
    }
    Ok(())
}

fn insert_below(
    blocks: &mut (impl BlocksMut + ?Sized),
    directory: &str,
    id: u64,
    name: &str,
    last_id: &mut u64,
    depth: usize,
) -> Result<Split, BarrierError> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let slot = blocks.slot(directory, id)?;
    let right = match &slot.block.as_ref().ok_or_else(too_deep)?.entries {
        Entries::Names(names) => {
            let Err(at) = names.search(name) else { return Ok(None) };
            let Some(Block { entries: Entries::Names(names), .. }) = slot.change() else { return Err(too_deep()) };
            names.insert(at, name);
            let right = split_place(names.len(), at).map(|place| names.split_off(place));
            right.map(|right| (right.get(0).unwrap_or_default().to_owned(), Entries::Names(right)))
        }
        Entries::Children(children) => {
            let at = position(children, name);
            let child = children.get(at).map(|child| child.block).ok_or_else(too_deep)?;
            let split = match insert_below(blocks, directory, child, name, last_id, depth + 1) {
                Ok(None) => return Ok(None),
                Ok(Some(split)) => split,
                Err(error) if error.is_damage() => {
                    // The block stays as it is, and whoever lists it is told; names from this one on go beside it.
                    tracing::error!(%error, "a block of a directory cannot be read: what is new goes beside it");
                    *last_id += 1;
                    blocks.put(directory, *last_id, Block { last_id: 0, entries: Entries::Names(Names::one(name)) })?;
                    Child { first: name.to_owned(), block: *last_id }
                }
                Err(error) => return Err(error),
            };
            let Some(Block { entries: Entries::Children(children), .. }) = blocks.slot(directory, id)?.change() else {
                return Err(too_deep());
            };
            children.insert(at + 1, split);
            let right = split_place(children.len(), at + 1).map(|place| children.split_off(place));
            right.map(|right| {
                (right.first().map(|child| child.first.clone()).unwrap_or_default(), Entries::Children(right))
            })
        }
    };
    let Some((first, entries)) = right else { return Ok(None) };
    *last_id += 1;
    blocks.put(directory, *last_id, Block { last_id: 0, entries })?;
    Ok(Some(Child { first, block: *last_id }))
}

/// Where a block is split that is too full. Names that come in order leave full blocks behind.
fn split_place(length: usize, inserted: usize) -> Option<usize> {
    let is_in_order = inserted + 1 == length;
    (length > FANOUT).then_some(if is_in_order { inserted } else { length / 2 })
}

/// Removes a name; removing nothing changes nothing.
pub(crate) fn remove(blocks: &mut (impl BlocksMut + ?Sized), directory: &str, name: &str) -> Result<(), BarrierError> {
    remove_below(blocks, directory, ROOT, name, 0)?;
    // A root with a single child gives its place to it, so that a directory that shrank is shallow again.
    loop {
        let Some(Block { last_id, entries: Entries::Children(children) }) = &blocks.slot(directory, ROOT)?.block else {
            return Ok(());
        };
        let [only] = children.as_slice() else { return Ok(()) };
        let (last_id, only) = (*last_id, only.block);
        let child = blocks.slot(directory, only)?.change().take().ok_or_else(too_deep)?;
        blocks.put(directory, ROOT, Block { last_id, entries: child.entries })?;
    }
}

/// True when the block is empty and was removed.
fn remove_below(
    blocks: &mut (impl BlocksMut + ?Sized),
    directory: &str,
    id: u64,
    name: &str,
    depth: usize,
) -> Result<bool, BarrierError> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let slot = blocks.slot(directory, id)?;
    let Some(block) = &slot.block else { return Ok(false) };
    let (changed, is_empty) = match &block.entries {
        Entries::Names(names) => {
            let Ok(at) = names.search(name) else { return Ok(false) };
            let changed = slot.change();
            let Some(Block { entries: Entries::Names(names), .. }) = changed else { return Err(too_deep()) };
            names.remove(at);
            let is_empty = names.is_empty();
            (changed, is_empty)
        }
        Entries::Children(children) => {
            let at = position(children, name);
            let child = children.get(at).map(|child| child.block).ok_or_else(too_deep)?;
            if !remove_below(blocks, directory, child, name, depth + 1)? {
                return Ok(false);
            }
            let changed = blocks.slot(directory, id)?.change();
            let Some(Block { entries: Entries::Children(children), .. }) = changed else { return Err(too_deep()) };
            children.remove(at);
            let is_empty = children.is_empty();
            (changed, is_empty)
        }
    };
    if is_empty {
        *changed = None;
    }
    Ok(is_empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Memory(BTreeMap<u64, Slot>, usize);

    impl Memory {
        fn count(&self) -> usize {
            self.0.values().filter(|slot| slot.block.is_some()).count()
        }
    }

    impl Blocks for Memory {
        fn read_block(&mut self, _directory: &str, block: u64) -> Result<Option<Plaintext>, BarrierError> {
            Ok(self.0.get(&block).and_then(Slot::encode).map(Plaintext::new))
        }
    }

    impl BlocksMut for Memory {
        fn slot(&mut self, _directory: &str, block: u64) -> Result<&mut Slot, BarrierError> {
            let slot = self.0.entry(block).or_default();
            slot.enter(self.1);
            Ok(slot)
        }

        fn put(&mut self, _directory: &str, id: u64, block: Block) -> Result<(), BarrierError> {
            let slot = self.0.entry(id).or_default();
            slot.enter(self.1);
            slot.put(block);
            Ok(())
        }
    }

    fn everything(blocks: &mut Memory, limit: usize) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let next = page(blocks, "d/", names.last().map(String::as_str), limit).unwrap();
            if next.is_empty() {
                return names;
            }
            names.extend(next);
        }
    }

    #[test]
    fn many_names_in_order_leave_full_blocks_and_none_when_removed() {
        let mut blocks = Memory::default();
        for at in 0..10_000 {
            insert(&mut blocks, "d/", &format!("{at:06}")).unwrap();
        }
        assert!(blocks.count() < 10_000 / FANOUT + 10, "{}", blocks.count());
        assert_eq!(everything(&mut blocks, 250).len(), 10_000);
        for at in 0..10_000 {
            remove(&mut blocks, "d/", &format!("{at:06}")).unwrap();
        }
        assert_eq!(blocks.count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_a_transaction_changed_can_be_taken_back(
            transactions in prop::collection::vec(
                (prop::collection::vec((0_u16..600, prop::bool::weighted(0.6)), 0..200), any::<bool>()), 0..20),
        ) {
            let (mut blocks, mut model) = (Memory::default(), BTreeSet::new());
            for (steps, stands) in transactions {
                blocks.1 += 1;
                let mut changed = model.clone();
                for (name, is_insert) in steps {
                    let name = format!("n{}", u32::from(name) * 7919 % 600);
                    if is_insert {
                        insert(&mut blocks, "d/", &name).unwrap();
                        changed.insert(name);
                    } else {
                        remove(&mut blocks, "d/", &name).unwrap();
                        changed.remove(&name);
                    }
                }
                if stands {
                    model = changed;
                } else {
                    let transaction = blocks.1;
                    blocks.0.values_mut().for_each(|slot| slot.take_back(transaction));
                }
                prop_assert_eq!(everything(&mut blocks, 100), model.iter().cloned().collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_tree_equals_a_sorted_set(steps in prop::collection::vec((0_u16..1500, prop::bool::weighted(0.6)), 0..3000), limit in 1_usize..300) {
            let (mut blocks, mut model) = (Memory::default(), BTreeSet::new());
            for (name, is_insert) in steps {
                let name = format!("n{}", u32::from(name) * 7919 % 1500);
                if is_insert {
                    insert(&mut blocks, "d/", &name).unwrap();
                    model.insert(name);
                } else {
                    remove(&mut blocks, "d/", &name).unwrap();
                    model.remove(&name);
                }
            }
            prop_assert_eq!(everything(&mut blocks, limit), model.iter().cloned().collect::<Vec<_>>());
            prop_assert_eq!(is_empty(&mut blocks, "d/").unwrap(), model.is_empty());
            for start in ["", "n0", "n1234", "n75", "n751x", "n9", "o"] {
                let first = model.iter().find(|name| name.as_str() >= start).cloned();
                prop_assert_eq!(from(&mut blocks, "d/", start).unwrap(), first, "from {}", start);
            }
        }
    }
}
