//! How values come into the index's tree: new neighbours together, everything else one by one.
//!
//! A value that is put by itself rewrites the page that it comes into, and splits a page that is full in two halves. Keys
//! of one neighbourhood begin alike and lie next to each other, so those that are new there go in as one run: each page
//! is written once, and is full. Deliberately absent: commits, and knowledge of what a neighbourhood is.

use std::ops::Bound;

use redb::{CursorError, Table};
use tresor_storage::RawKey;
use twox_hash::XxHash3_64;

/// The index's values while they are changed.
pub(crate) type Values<'t> = Table<'t, &'static [u8], &'static [u8]>;
/// What becomes of a key: the batch that did it, and the value, or `None` when it is gone.
pub(crate) type Change<'c> = (&'c RawKey, u64, Option<&'c [u8]>);

/// Keys that begin with so many same bytes are neighbours: those that lie anywhere never do by chance.
const ALIKE_BYTES: usize = 8;
/// Where a run ends after fewer, what is new lies among what is there, and each goes in by itself.
const RUN_MIN: usize = 4;
/// Version and checksum before a value.
pub(crate) const PREFIX_BYTES: usize = 16;

/// What a value is compared with when it is read.
pub(crate) fn checksum(key: &[u8], version: u64, bytes: &[u8]) -> u64 {
    let seed = XxHash3_64::oneshot_with_seed(version, key);
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// What lies under a key.
pub(crate) fn spell(key: &[u8], version: u64, bytes: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&checksum(key, version, bytes).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn are_alike((one, ..): &Change<'_>, (other, ..): &Change<'_>) -> bool {
    let beginning = |key: &RawKey| key.as_bytes().first_chunk::<ALIKE_BYTES>().copied();
    beginning(one).is_some_and(|one| beginning(other) == Some(one))
}

/// Makes changes, which come in the order of keys. `replaced` learns of each value that is not there any more: its key
/// and length.
pub(crate) fn take_over(
    values: &mut Values<'_>,
    changes: &[Change<'_>],
    mut replaced: impl FnMut(&RawKey, usize),
) -> Result<(), redb::Error> {
    let mut spelled = Vec::new();
    for neighbours in changes.chunk_by(are_alike) {
        let mut rest = neighbours;
        loop {
            let together = if rest.len() < RUN_MIN { 0 } else { put_run(values, rest, &mut spelled)? };
            rest = rest.get(together..).unwrap_or_default();
            let alone = if together < RUN_MIN { rest.len() } else { 1 };
            for (key, version, bytes) in rest.iter().take(alone) {
                let before = match bytes {
                    Some(bytes) => {
                        spell(key.as_bytes(), *version, bytes, &mut spelled);
                        values.insert(key.as_bytes(), spelled.as_slice())?
                    }
                    None => values.remove(key.as_bytes())?,
                };
                if let Some(before) = before {
                    replaced(key, before.value().len());
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
fn put_run(values: &mut Values<'_>, changes: &[Change<'_>], spelled: &mut Vec<u8>) -> Result<usize, redb::Error> {
    let Some((first, ..)) = changes.first() else { return Ok(0) };
    let mut cursor = values.lower_bound_mut(Bound::Included(first.as_bytes()))?;
    let mut done = 0;
    for (key, version, bytes) in changes {
        let Some(bytes) = bytes else { break };
        spell(key.as_bytes(), *version, bytes, spelled);
        match cursor.insert_before(key.as_bytes(), spelled.as_slice()) {
            Ok(()) => done += 1,
            Err(CursorError::UnorderedKey) => break,
            Err(error) => return Err(error.into()),
        }
    }
    cursor.close()?;
    Ok(done)
}

/// Puts values as another index has them behind all that there is, in the order of keys, until `take` has enough.
pub(crate) fn append<'v, E: Into<redb::Error>>(
    values: &mut Values<'_>,
    from: impl Iterator<Item = Result<(redb::AccessGuard<'v, &'static [u8]>, redb::AccessGuard<'v, &'static [u8]>), E>>,
    mut take: impl FnMut(&[u8], usize) -> bool,
) -> Result<(), redb::Error> {
    let mut cursor = values.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    for entry in from {
        let (key, value) = entry.map_err(Into::into)?;
        cursor.insert_before(key.value(), value.value())?;
        if take(key.value(), value.value().len()) {
            break;
        }
    }
    Ok(cursor.close()?)
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
                let changes: Vec<Change<'_>> = keyed.iter().map(|(key, value)| (key, version, *value)).collect();
                let write = database.begin_write().unwrap();
                let (mut table, mut replaced) = (write.open_table(VALUES).unwrap(), Vec::new());
                take_over(&mut table, &changes, |key, length| replaced.push((key.clone(), length))).unwrap();
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
                    expected.extend(before.map(|before: Vec<u8>| (key.clone(), before.len())));
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
    fn neighbours_that_are_new_fill_their_pages_and_so_does_a_copy() {
        let (database, value) = (database(), vec![7; 1100]);
        let keys: Vec<RawKey> = (0..120).map(|own| key(1, own)).collect();
        let changes: Vec<Change<'_>> = keys.iter().map(|key| (key, 1, Some(value.as_slice()))).collect();
        let write = database.begin_write().unwrap();
        {
            let mut table = write.open_table(VALUES).unwrap();
            take_over(&mut table, &changes, |_, _| ()).unwrap();
            assert_eq!(table.stats().unwrap().leaf_pages(), 40, "three fit a page; each by itself, it would be two");
            let mut copy = write.open_table(TableDefinition::new("copy")).unwrap();
            let mut left = 100;
            append(&mut copy, table.iter().unwrap(), |_, _| {
                left -= 1;
                left == 0
            })
            .unwrap();
            assert_eq!((copy.len().unwrap(), copy.stats().unwrap().leaf_pages()), (100, 34));
        }
        write.commit().unwrap();
    }
}
