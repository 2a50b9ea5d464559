//! How values come into the index's tree: new neighbours together, everything else one by one.
//!
//! A value that is put by itself rewrites the page that it comes into, and splits a page that is full in two halves. Keys
//! of one neighbourhood begin alike and lie next to each other, so those that are new there go in as one run: each page
//! is written once, and is full. Deliberately absent: commits, and knowledge of what a neighbourhood is.

use std::ops::Bound;

use redb::{CursorError, Table};
use tresor_storage::{RawKey, Version};
use twox_hash::XxHash3_64;

use crate::beside::Place;

/// The index's values while they are changed.
pub(crate) type Values<'t> = Table<'t, &'static [u8], &'static [u8]>;
/// What becomes of a key: the batch that did it, and the value, or `None` when it is gone.
pub(crate) type Change<'c> = (&'c RawKey, u64, Option<&'c [u8]>);
/// The same, with where the value is.
pub(crate) type Laid<'c> = (&'c RawKey, u64, Option<Lying<'c>>);

/// Where a value is.
#[derive(Clone, Copy)]
pub(crate) enum Lying<'c> {
    /// In the tree.
    Here(&'c [u8]),
    /// In a file beside it.
    Beside(Place),
}

/// Keys that begin with so many same bytes are neighbours: those that lie anywhere never do by chance.
const ALIKE_BYTES: usize = 8;
/// Where a run ends after fewer, what is new lies among what is there, and each goes in by itself.
const RUN_MIN: usize = 4;
/// What a version has besides when the value lies beside the tree.
const IS_BESIDE: u64 = 1 << 63;

/// What a value is compared with when it is read.
pub(crate) fn checksum(key: &[u8], version: u64, bytes: &[u8]) -> u64 {
    let seed = XxHash3_64::oneshot_with_seed(version, key);
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// What lies under a key: version, checksum, and the value or its place.
fn spell(key: &[u8], version: u64, lying: Lying<'_>, out: &mut Vec<u8>) {
    out.clear();
    match lying {
        Lying::Here(bytes) => {
            out.extend_from_slice(&version.to_be_bytes());
            out.extend_from_slice(&checksum(key, version, bytes).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        Lying::Beside(Place { file, at, length, sum }) => {
            out.extend_from_slice(&(version | IS_BESIDE).to_be_bytes());
            out.extend_from_slice(&sum.to_be_bytes());
            out.extend_from_slice(&file.to_be_bytes());
            out.extend_from_slice(&at.to_be_bytes());
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// What lies under a key, and the batch that wrote it; `None` when it cannot have been written so.
pub(crate) fn read(spelled: &[u8]) -> Option<(Version, u64, Lying<'_>)> {
    let (version, rest) = spelled.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let (version, sum) = (u64::from_be_bytes(*version), u64::from_be_bytes(*sum));
    if version & IS_BESIDE == 0 {
        return Some((Version(version), sum, Lying::Here(rest)));
    }
    let (file, rest) = rest.split_first_chunk::<4>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let length = u32::from_be_bytes(rest.try_into().ok()?);
    let place = Place { file: u32::from_be_bytes(*file), at: u64::from_be_bytes(*at), length, sum };
    Some((Version(version & !IS_BESIDE), sum, Lying::Beside(place)))
}

fn are_alike((one, ..): &Laid<'_>, (other, ..): &Laid<'_>) -> bool {
    let beginning = |key: &RawKey| key.as_bytes().first_chunk::<ALIKE_BYTES>().copied();
    beginning(one).is_some_and(|one| beginning(other) == Some(one))
}

/// Makes changes, which come in the order of keys. `replaced` learns of what lay under a key and does not any more.
pub(crate) fn take_over(
    values: &mut Values<'_>,
    changes: &[Laid<'_>],
    mut replaced: impl FnMut(&RawKey, &[u8]),
) -> Result<(), redb::Error> {
    let mut spelled = Vec::new();
    for neighbours in changes.chunk_by(are_alike) {
        let mut rest = neighbours;
        loop {
            let together = if rest.len() < RUN_MIN { 0 } else { put_run(values, rest, &mut spelled)? };
            rest = rest.get(together..).unwrap_or_default();
            let alone = if together < RUN_MIN { rest.len() } else { 1 };
            for (key, version, lying) in rest.iter().take(alone) {
                let before = match lying {
                    Some(lying) => {
                        spell(key.as_bytes(), *version, *lying, &mut spelled);
                        values.insert(key.as_bytes(), spelled.as_slice())?
                    }
                    None => values.remove(key.as_bytes())?,
                };
                if let Some(before) = before {
                    replaced(key, before.value());
                }
            }
            rest = rest.get(alone..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Puts values between two keys that are next to each other, as many as lie there; tells how many.
fn put_run(values: &mut Values<'_>, changes: &[Laid<'_>], spelled: &mut Vec<u8>) -> Result<usize, redb::Error> {
    let Some((first, ..)) = changes.first() else { return Ok(0) };
    let mut cursor = values.lower_bound_mut(Bound::Included(first.as_bytes()))?;
    let mut done = 0;
    for (key, version, lying) in changes {
        let Some(lying) = lying else { break };
        spell(key.as_bytes(), *version, *lying, spelled);
        match cursor.insert_before(key.as_bytes(), spelled.as_slice()) {
            Ok(()) => done += 1,
            Err(CursorError::UnorderedKey) => break,
            Err(error) => return Err(error.into()),
        }
    }
    cursor.close()?;
    Ok(done)
}

/// Puts values as another index has them behind all that there is, in the order of keys, until `take` has enough. It sees
/// each, and says what lies there now if that is something else than there.
pub(crate) fn append<'v, E: Into<redb::Error>>(
    values: &mut Values<'_>,
    from: impl Iterator<Item = Result<(redb::AccessGuard<'v, &'static [u8]>, redb::AccessGuard<'v, &'static [u8]>), E>>,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<Copied, redb::Error>,
) -> Result<(), redb::Error> {
    let mut cursor = values.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    let mut spelled = Vec::new();
    for entry in from {
        let (key, value) = entry.map_err(Into::into)?;
        let copied = take(key.value(), value.value())?;
        match copied.moved {
            Some((version, place)) => {
                spell(key.value(), version, Lying::Beside(place), &mut spelled);
                cursor.insert_before(key.value(), spelled.as_slice())?;
            }
            None => cursor.insert_before(key.value(), value.value())?,
        }
        if copied.is_enough {
            break;
        }
    }
    Ok(cursor.close()?)
}

/// What became of a value on its way into another index.
pub(crate) struct Copied {
    /// The batch that wrote it, and where it lies now, if that is elsewhere.
    pub(crate) moved: Option<(u64, Place)>,
    /// Whether no more are taken.
    pub(crate) is_enough: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition};

    use super::*;

    const VALUES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");

    fn database() -> Database {
        Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap()
    }

    /// A key that lies beside the others of its neighbourhood.
    fn key(neighbourhood: u8, own: u8) -> RawKey {
        RawKey::new(&[[neighbourhood; ALIKE_BYTES].as_slice(), &[own]].concat()).unwrap()
    }

    type Generation = BTreeMap<(u8, u8), Option<Vec<u8>>>;

    fn generations() -> impl Strategy<Value = Vec<Generation>> {
        let value = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..1500));
        prop::collection::vec(prop::collection::btree_map((0_u8..3, 0_u8..60), value, 0..60), 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_was_taken_over_equals_a_map(generations in generations()) {
            let (database, mut model) = (database(), BTreeMap::new());
            for (version, generation) in (1_u64..).zip(generations) {
                let keyed: BTreeMap<RawKey, _> =
                    generation.iter().map(|((near, own), value)| (key(*near, *own), value.as_deref())).collect();
                let changes: Vec<Laid<'_>> =
                    keyed.iter().map(|(key, value)| (key, version, value.map(Lying::Here))).collect();
                let write = database.begin_write().unwrap();
                let (mut table, mut replaced) = (write.open_table(VALUES).unwrap(), Vec::new());
                take_over(&mut table, &changes, |key, before| replaced.push((key.clone(), before.to_vec()))).unwrap();
                let mut expected = Vec::new();
                let mut spelled = Vec::new();
                for (key, version, value) in changes {
                    let before = match value {
                        Some(value) => {
                            spell(key.as_bytes(), version, value, &mut spelled);
                            model.insert(key.clone(), spelled.clone())
                        }
                        None => model.remove(key),
                    };
                    expected.extend(before.map(|before: Vec<u8>| (key.clone(), before)));
                }
                prop_assert_eq!(replaced, expected);
                let found: Vec<(RawKey, Vec<u8>)> = table.iter().unwrap().map(Result::unwrap)
                    .map(|(key, value)| (RawKey::new(key.value()).unwrap(), value.value().to_vec())).collect();
                prop_assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>());
                drop(table);
                write.commit().unwrap();
            }
        }
    }

    #[test]
    fn a_place_is_spelled_and_read_and_nothing_else_is_taken_for_one() {
        let place = Place { file: 7, at: 1 << 40, length: 1 << 20, sum: 99 };
        let mut spelled = Vec::new();
        spell(b"key", 5, Lying::Beside(place), &mut spelled);
        match read(&spelled) {
            Some((Version(5), 99, Lying::Beside(found))) => assert_eq!(found, place),
            _ => unreachable!("it is what was spelled"),
        }
        assert!(read(&spelled[..31]).is_none() && read(&[spelled.as_slice(), &[0]].concat()).is_none());
        spell(b"key", 5, Lying::Here(b"value"), &mut spelled);
        let is_here = |(version, _, lying)| version == Version(5) && matches!(lying, Lying::Here(b"value"));
        assert!(read(&spelled).is_some_and(is_here));
    }

    #[test]
    fn neighbours_that_are_new_fill_their_pages_and_so_does_a_copy() {
        let (database, value) = (database(), vec![7; 1100]);
        let keys: Vec<RawKey> = (0..120).map(|own| key(1, own)).collect();
        let changes: Vec<Laid<'_>> = keys.iter().map(|key| (key, 1, Some(Lying::Here(&value)))).collect();
        let write = database.begin_write().unwrap();
        {
            let mut table = write.open_table(VALUES).unwrap();
            take_over(&mut table, &changes, |_, _| ()).unwrap();
            assert_eq!(table.stats().unwrap().leaf_pages(), 40, "three fit a page; each by itself, it would be two");
            let mut copy = write.open_table(TableDefinition::new("copy")).unwrap();
            let mut left = 100;
            append(&mut copy, table.iter().unwrap(), |_, _| {
                left -= 1;
                Ok(Copied { moved: None, is_enough: left == 0 })
            })
            .unwrap();
            assert_eq!((copy.len().unwrap(), copy.stats().unwrap().leaf_pages()), (100, 34));
        }
        write.commit().unwrap();
    }
}
