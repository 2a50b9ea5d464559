//! The suite that every machine passes: the model in memory, the durable one.
//!
//! Each check gets fresh, empty machines. What a machine must survive (crashes, damage on its disk) is tested where its
//! disk is.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a failing check ends the test")]

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::machine::{Applied, CHUNK_BYTES_MAX, Change, Effect, Entry, Export, Machine, Position};
use crate::suite::{ENDED, Told, batch, key};
use crate::{Batch, StoreError, Version, pieces};

/// How machines are made.
pub type Fresh<'f> = &'f mut dyn FnMut() -> Arc<dyn Machine>;

/// Runs every check.
pub fn run(fresh: Fresh<'_>) {
    entries_are_applied_in_order(&*fresh());
    a_batch_that_does_not_follow_changes_nothing(&*fresh());
    a_change_of_members_keeps_every_batch_before(&*fresh());
    a_state_is_the_same_elsewhere(fresh);
    a_state_takes_the_place_of_what_is_held(fresh);
    a_state_does_not_move_while_it_is_read(fresh);
    a_state_of_large_values_comes_in_bounded_chunks(fresh);
    what_is_no_state_changes_nothing(fresh);
    who_watches_is_told_before_anybody_sees_and_after(fresh);
    any_history_gives_every_machine_the_same(fresh);
}

fn who_watches_is_told_before_anybody_sees_and_after(fresh: Fresh<'_>) {
    let (from, to) = (fresh(), fresh());
    let told = Arc::new(Told::default());
    to.watch(Arc::<Told>::downgrade(&told));
    let blank = Entry { position: Position { term: 1, index: 2 }, change: Change::Nothing };
    let entries = [
        entry(1, 1, batch(1, &[("a", Some(b"1"))])),
        blank,
        entry(1, 3, batch(1, &[("a", Some(b"fenced"))])),
        entry(1, 4, batch(2, &[("b", Some(b"2"))])),
    ];
    feed(&*to, &entries).unwrap();
    let mut expected = vec![(Some(Version(1)), Version(0)), ENDED, (Some(Version(2)), Version(1)), ENDED];
    assert_eq!(*told.0.lock().unwrap(), expected);
    filled(&*from);
    let mut export = from.export().unwrap();
    let state = export.state().clone();
    let chunks = chunks(&mut *export);
    transfer(&state, chunks.clone(), &*to).unwrap();
    expected.extend([(None, Version(2)), ENDED]);
    let next = state.version.next();
    let pieces = as_pieces(next, &chunks);
    let restore = Change::Restore { version: next.next(), pieces: u32::try_from(chunks.len()).unwrap() };
    let [at, behind] = [1, 2].map(|more| Position { term: 9, index: state.position.index + more });
    let entries = [entry(at.term, at.index, pieces), Entry { position: behind, change: restore }];
    assert_eq!(feed(&*to, &entries).unwrap(), [Effect::Applied; 2]);
    expected.extend([(Some(next), state.version), ENDED, (None, next), ENDED]);
    assert_eq!(*told.0.lock().unwrap(), expected);
}

fn a_change_of_members_keeps_every_batch_before(machine: &dyn Machine) {
    let members = Entry { position: Position { term: 1, index: 2 }, change: Change::Membership(vec![7]) };
    feed(machine, &[entry(1, 1, batch(1, &[("a", Some(b"1"))])), members]).unwrap();
    // Threads of its own may do it.
    let is_kept = (0..10_000_000).any(|_| {
        std::hint::spin_loop();
        machine.persisted().index >= 1
    });
    assert!(is_kept, "{:?}", machine.persisted());
}

/// An entry with a batch.
#[must_use]
pub fn entry(term: u64, index: u64, batch: Batch) -> Entry {
    Entry { position: Position { term, index }, change: Change::Batch(Arc::new(batch)) }
}

/// Applies entries one after the other.
///
/// # Errors
/// What the machine finds.
pub fn feed(machine: &dyn Machine, entries: &[Entry]) -> Result<Vec<Effect>, StoreError> {
    entries.iter().map(|entry| machine.apply(entry)).collect()
}

fn read(machine: &dyn Machine, name: &str) -> Option<(u64, Vec<u8>)> {
    machine.snapshot().unwrap().read(&key(name)).unwrap().map(|stored| (stored.version.0, stored.bytes))
}

fn a_state_takes_the_place_of_what_is_held(fresh: Fresh<'_>) {
    let (from, to) = (fresh(), fresh());
    feed(&*from, &[entry(1, 1, batch(1, &[("a", Some(b"1"))])), entry(1, 2, batch(2, &[("b", Some(b"2"))]))]).unwrap();
    let members = Entry { position: Position { term: 7, index: 1 }, change: Change::Membership(b"members".to_vec()) };
    let own = |version| entry(7, version + 1, batch(version, &[("own", Some(b"own"))]));
    feed(&*to, &[members, own(1), own(2), own(3)]).unwrap();
    let state = chunks(&mut *from.export().unwrap());
    let restore = |index, version, pieces: usize| Entry {
        position: Position { term: 7, index },
        change: Change::Restore { version: Version(version), pieces: u32::try_from(pieces).unwrap() },
    };
    let cut = as_pieces(Version(4), state.get(1..).unwrap());
    let not_yet = [restore(5, 4, 0), entry(7, 6, cut), restore(7, 5, state.len() - 1), restore(8, 5, state.len())];
    let effects = feed(&*to, &not_yet).unwrap();
    let fenced = |version| Effect::Fenced(Version(version));
    assert_eq!(effects, [fenced(3), Effect::Applied, fenced(4), fenced(4)], "what is no state changed something");
    assert_eq!(read(&*to, "own"), Some((3, b"own".to_vec())));
    // A transfer that broke off is in nobody's way.
    let broken_off = to.install(&from.applied()).unwrap();
    let whole = as_pieces(Version(5), &state);
    let effects = feed(&*to, &[entry(7, 9, whole), restore(10, 5, state.len()), restore(11, 6, state.len())]).unwrap();
    assert_eq!(effects, [Effect::Applied, fenced(5), Effect::Applied], "a restore that is not the next one is none");
    drop(broken_off);
    let held = to.applied();
    assert_eq!((held.position, held.membership.as_slice()), (Position { term: 7, index: 11 }, &b"members"[..]));
    assert_eq!(held.version, Version(6));
    assert_eq!((to.persisted(), to.begins_behind()), (held.position, 11));
    assert_eq!((read(&*to, "a"), read(&*to, "own")), (Some((1, b"1".to_vec())), None));
    assert_eq!(pieces::count(&*to.snapshot().unwrap()).unwrap(), 0, "pieces stayed");
    let next = held.version.next();
    let applied = feed(&*to, &[entry(7, 12, batch(next.0, &[("a", Some(b"next"))]))]).unwrap();
    assert_eq!((applied.as_slice(), read(&*to, "a")), (&[Effect::Applied][..], Some((next.0, b"next".to_vec()))));
}

/// A state as the batch that stores its pieces.
fn as_pieces(version: Version, state: &[Vec<u8>]) -> Batch {
    let pieces = (0..).zip(state).map(|(number, chunk)| (pieces::key(number), Some(chunk.clone())));
    Batch::new(version, pieces.collect())
}

fn chunks(export: &mut dyn Export) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| export.next().unwrap()).collect()
}

/// Takes over a state as it was exported.
///
/// # Errors
/// What the machine finds wrong with it.
pub fn transfer(state: &Applied, chunks: Vec<Vec<u8>>, to: &dyn Machine) -> Result<(), StoreError> {
    let mut install = to.install(state)?;
    for chunk in chunks {
        install.take(chunk)?;
    }
    install.finish()
}

fn entries_are_applied_in_order(machine: &dyn Machine) {
    assert_eq!(machine.applied(), Applied::default());
    assert_eq!(machine.persisted(), Position::default());
    let members = Entry { position: Position { term: 1, index: 1 }, change: Change::Membership(b"us".to_vec()) };
    let blank = Entry { position: Position { term: 1, index: 2 }, change: Change::Nothing };
    assert_eq!(feed(machine, &[members, blank]).unwrap(), [Effect::Applied, Effect::Applied]);
    let held = Applied { position: Position { term: 1, index: 2 }, version: Version(0), membership: b"us".to_vec() };
    assert_eq!(machine.applied(), held);
    let first = entry(1, 3, batch(1, &[("a", Some(b"1")), ("b", Some(b"1"))]));
    let second = entry(4, 4, batch(2, &[("a", None), ("b", Some(b"2"))]));
    assert_eq!(feed(machine, &[first, second]).unwrap(), [Effect::Applied, Effect::Applied]);
    assert_eq!(read(machine, "a"), None);
    assert_eq!(read(machine, "b"), Some((2, b"2".to_vec())));
    assert_eq!(machine.snapshot().unwrap().version(), Version(2));
    let held = Applied { position: Position { term: 4, index: 4 }, version: Version(2), ..held };
    assert_eq!(machine.applied(), held);
    let others = Entry { position: held.position, change: Change::Membership(b"others".to_vec()) };
    machine.apply(&others).unwrap();
    let held = Applied { membership: b"others".to_vec(), ..held };
    assert_eq!(machine.applied(), held);
    transfer(&held, chunks(&mut *machine.export().unwrap()), machine).unwrap();
    assert_eq!((machine.applied(), machine.persisted(), read(machine, "a")), (held.clone(), held.position, None));
    assert!(machine.persisted() <= held.position);
}

fn a_batch_that_does_not_follow_changes_nothing(machine: &dyn Machine) {
    let entries = [
        entry(1, 1, batch(1, &[("a", Some(b"1"))])),
        entry(1, 2, batch(1, &[("a", Some(b"again"))])),
        entry(1, 3, batch(3, &[("a", Some(b"early"))])),
        entry(2, 4, batch(2, &[("b", Some(b"2"))])),
    ];
    let fenced = Effect::Fenced(Version(1));
    assert_eq!(feed(machine, &entries).unwrap(), [Effect::Applied, fenced, fenced, Effect::Applied]);
    assert_eq!(read(machine, "a"), Some((1, b"1".to_vec())));
    assert_eq!(read(machine, "b"), Some((2, b"2".to_vec())));
    assert_eq!(machine.applied().position, Position { term: 2, index: 4 });
    assert_eq!(machine.applied().version, Version(2));
}

/// Some entries, with a deletion and a membership.
fn filled(machine: &dyn Machine) {
    let entries = [
        Entry { position: Position { term: 1, index: 1 }, change: Change::Membership(b"first".to_vec()) },
        entry(1, 2, batch(1, &[("a", Some(b"1")), ("b", Some(b"1")), ("gone", Some(b"1"))])),
        entry(1, 3, batch(2, &[("b", Some(b"2")), ("gone", None), ("c", Some(b""))])),
        Entry { position: Position { term: 2, index: 4 }, change: Change::Membership(b"second".to_vec()) },
        entry(2, 5, batch(3, &[("d", Some(b"3"))])),
    ];
    feed(machine, &entries).unwrap();
}

fn a_state_is_the_same_elsewhere(fresh: Fresh<'_>) {
    let (from, to) = (fresh(), fresh());
    filled(&*from);
    feed(&*to, &[entry(1, 1, batch(1, &[("old", Some(b"x"))]))]).unwrap();
    let before = to.snapshot().unwrap();
    let mut export = from.export().unwrap();
    let state = export.state().clone();
    assert_eq!(state, from.applied());
    transfer(&state, chunks(&mut *export), &*to).unwrap();
    assert_eq!(to.applied(), state);
    assert_eq!(to.persisted(), state.position);
    assert_eq!(to.snapshot().unwrap().version(), Version(3));
    for name in ["a", "b", "c", "d", "gone", "old"] {
        assert_eq!(read(&*to, name), read(&*from, name), "{name}");
    }
    assert_eq!(read(&*to, "old"), None);
    assert_eq!(before.read(&key("old")).unwrap().map(|stored| stored.bytes), Some(b"x".to_vec()));
    // And it goes on from there.
    assert_eq!(feed(&*to, &[entry(2, 6, batch(4, &[("a", Some(b"4"))]))]).unwrap(), [Effect::Applied]);
    assert_eq!(read(&*to, "a"), Some((4, b"4".to_vec())));
    // An empty one travels too.
    let (from, to) = (fresh(), fresh());
    filled(&*to);
    let mut export = from.export().unwrap();
    let state = export.state().clone();
    transfer(&state, chunks(&mut *export), &*to).unwrap();
    assert_eq!(to.applied(), Applied::default());
    assert_eq!(read(&*to, "a"), None);
}

fn a_state_does_not_move_while_it_is_read(fresh: Fresh<'_>) {
    let (from, to) = (fresh(), fresh());
    filled(&*from);
    let mut export = from.export().unwrap();
    let state = export.state().clone();
    for (index, version) in (6..40).zip(4..) {
        feed(&*from, &[entry(2, index, batch(version, &[("a", None), ("d", Some(b"later")), ("e", Some(b"later"))]))])
            .unwrap();
    }
    transfer(&state, chunks(&mut *export), &*to).unwrap();
    assert_eq!(to.applied(), state);
    assert_eq!(read(&*to, "a"), Some((1, b"1".to_vec())));
    assert_eq!(read(&*to, "d"), Some((3, b"3".to_vec())));
    assert_eq!(read(&*to, "e"), None);
}

fn a_state_of_large_values_comes_in_bounded_chunks(fresh: Fresh<'_>) {
    let (from, to) = (fresh(), fresh());
    let large: Vec<u8> = (0..3 * CHUNK_BYTES_MAX + 7).map(|at| u8::try_from(at % 251).unwrap()).collect();
    feed(&*from, &[entry(1, 1, batch(1, &[("large", Some(&large)), ("small", Some(b"1"))]))]).unwrap();
    let mut export = from.export().unwrap();
    let state = export.state().clone();
    let chunks = chunks(&mut *export);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
    transfer(&state, chunks, &*to).unwrap();
    assert_eq!(read(&*to, "large"), Some((1, large)));
    assert_eq!(read(&*to, "small"), Some((1, b"1".to_vec())));
}

fn what_is_no_state_changes_nothing(fresh: Fresh<'_>) {
    let (from, to) = (fresh(), fresh());
    filled(&*from);
    feed(&*to, &[entry(1, 1, batch(1, &[("old", Some(b"x"))]))]).unwrap();
    let held = to.applied();
    let mut export = from.export().unwrap();
    let state = export.state().clone();
    let whole = chunks(&mut *export);
    let last = whole.len() - 1;
    let cut = whole.get(..last).unwrap_or_default().to_vec();
    let without_first = whole.get(1..).unwrap_or_default().to_vec();
    let doubled = whole.iter().chain(whole.last()).cloned().collect();
    let mut longer = whole.clone();
    longer.push(b"more".to_vec());
    let elsewhere = Applied { version: Version(9), ..state.clone() };
    for (what, state, chunks) in [
        ("cut", &state, cut),
        ("without its head", &state, without_first),
        ("with its end twice", &state, doubled),
        ("with something behind", &state, longer),
        ("nothing", &state, Vec::new()),
        ("another state", &elsewhere, whole),
    ] {
        let refused = transfer(state, chunks, &*to);
        assert!(matches!(refused, Err(StoreError::Foreign { .. })), "{what}: {refused:?}");
        assert_eq!(to.applied(), held, "{what}");
        assert_eq!(read(&*to, "old"), Some((1, b"x".to_vec())), "{what}");
    }
}

fn any_history_gives_every_machine_the_same(fresh: Fresh<'_>) {
    let writes = || prop::collection::btree_map(0_u8..12, prop::option::of(0_u8..255), 1..6);
    // How much later than the next one a batch's version is, and its writes.
    let histories = prop::collection::vec((prop::sample::select(vec![0, 0, 0, 1, 7]), writes()), 1..20);
    let mut runner = TestRunner::new(Config { failure_persistence: None, cases: 16, ..Config::default() });
    let machines = std::cell::RefCell::new(fresh);
    runner
        .run(&histories, |history| {
            let (machine, model) = ((machines.borrow_mut())(), crate::MemoryMachine::new());
            for (index, (gap, writes)) in (1_u64..).zip(&history) {
                let writes = writes
                    .iter()
                    .map(|(name, value)| (key(&format!("k{name}")), value.map(|byte| vec![byte])))
                    .collect();
                let version = Version(model.applied().version.next().0 + gap);
                let next = entry(index / 4, index, Batch::new(version, writes));
                prop_assert_eq!(machine.apply(&next).unwrap(), model.apply(&next).unwrap());
                prop_assert_eq!(machine.applied(), model.applied());
            }
            for name in 0..12 {
                let name = format!("k{name}");
                prop_assert_eq!(read(&*machine, &name), read(&model, &name));
            }
            Ok(())
        })
        .unwrap();
}
