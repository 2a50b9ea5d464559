//! The index as it was at one version: what readers, exports and the scrub see of it.
//!
//! A value that lies beside the tree is read when the tree has been let go of. Deliberately absent: changing anything.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tresor_storage::machine::Applied;
use tresor_storage::{RawKey, StoreError, Stored, Version};

use crate::beside::{Filled, Place};
use crate::index::{Facts, Index, beside_bytes, fenced};
use crate::takeover::{self, Lying, checksum};

/// The values as they were at one version.
type Values = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The index as it was at one version.
pub(crate) struct IndexView {
    /// `None` only while it is being dropped.
    pub(crate) values: Option<Values>,
    pub(crate) facts: Facts,
    pub(crate) files: BTreeMap<u32, Filled>,
    pub(crate) membership: Vec<u8>,
    pub(crate) index: Arc<Index>,
}

/// Where a copy, or a pass over what there is, has come to.
pub(crate) enum Reached {
    /// Up to and with this key.
    Key(Vec<u8>),
    /// There is nothing more.
    End,
}

/// What was found under a key.
enum Found {
    Here(Stored),
    Beside(Version, Place),
    /// It is not what was written.
    Wrong,
}

impl Found {
    fn parse(key: &[u8], spelled: &[u8]) -> Self {
        match takeover::read(spelled) {
            Some((version, sum, Lying::Here(bytes))) if checksum(key, version.0, bytes) == sum => {
                Self::Here(Stored { version, bytes: bytes.to_vec() })
            }
            Some((version, _, Lying::Beside(place))) => Self::Beside(version, place),
            Some((_, _, Lying::Here(_))) | None => Self::Wrong,
        }
    }
}

impl IndexView {
    /// What a machine holds with what is here.
    pub(crate) fn applied(&self) -> Applied {
        Applied { version: self.facts.version, position: self.facts.position, membership: self.membership.clone() }
    }

    /// How much of the disk it takes, with the files beside it.
    pub(crate) fn occupied(&self) -> Result<u64, StoreError> {
        Ok(self.index.occupied()? + beside_bytes(&self.files))
    }

    /// The value of a key.
    pub(crate) fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        let found = fenced(&self.index.name, &self.index.pages, || {
            let guard = self.values()?.get(key.as_bytes())?;
            Ok(guard.map(|guard| Found::parse(key.as_bytes(), guard.value())))
        });
        found?.map(|found| self.fetch(key.as_bytes(), found)).transpose()
    }

    /// What was found, from beside the tree if it lies there.
    fn fetch(&self, key: &[u8], found: Found) -> Result<Stored, StoreError> {
        match found {
            Found::Here(stored) => Ok(stored),
            Found::Beside(version, place) => {
                Ok(Stored { version, bytes: self.index.beside.read(key, version.0, &place)? })
            }
            Found::Wrong => Err(self.not_what_was_written()),
        }
    }

    /// The batch that wrote a key.
    pub(crate) fn written(&self, key: &RawKey) -> Result<Option<Version>, StoreError> {
        let found = fenced(&self.index.name, &self.index.pages, || {
            let Some(guard) = self.values()?.get(key.as_bytes())? else { return Ok(None) };
            Ok(Some(match Found::parse(key.as_bytes(), guard.value()) {
                Found::Here(Stored { version, .. }) | Found::Beside(version, _) => Some(version),
                Found::Wrong => None,
            }))
        });
        match found? {
            None => Ok(None),
            Some(Some(version)) => Ok(Some(version)),
            Some(None) => Err(self.not_what_was_written()),
        }
    }

    /// Reads values and shows them to nobody, those after `from`, about so many bytes. One beside the tree that is wrong is
    /// remembered, and what comes after it is read all the same.
    pub(crate) fn pass_over(&self, from: Option<&[u8]>, bytes_max: usize) -> Result<Reached, StoreError> {
        let (found, reached) = self.gather(from, bytes_max)?;
        for (key, found) in found {
            let is_beside = matches!(found, Found::Beside(..));
            match self.fetch(key.as_bytes(), found) {
                Err(StoreError::Damaged { .. }) if is_beside => {}
                read => drop(read?),
            }
        }
        Ok(reached)
    }

    pub(crate) fn values(&self) -> Result<&Values, redb::Error> {
        self.values.as_ref().ok_or(redb::Error::DatabaseAlreadyOpen)
    }

    /// What lies after a key, in the order of keys, about so many bytes of values; and where that ends.
    fn gather(&self, from: Option<&[u8]>, bytes_max: usize) -> Result<(Vec<(RawKey, Found)>, Reached), StoreError> {
        fenced(&self.index.name, &self.index.pages, || {
            let start = from.map_or(Bound::Unbounded, Bound::Excluded);
            let (mut gathered, mut bytes) = (Vec::new(), 0);
            for entry in self.values()?.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = entry?;
                let found = Found::parse(key.value(), value.value());
                bytes += key.value().len();
                bytes += match &found {
                    Found::Here(stored) => stored.bytes.len(),
                    Found::Beside(_, place) => usize::try_from(place.length).unwrap_or(usize::MAX),
                    Found::Wrong => 0,
                };
                let wrong = || redb::Error::Corrupted("a key is not what was written".to_owned());
                gathered.push((RawKey::new(key.value()).ok_or_else(wrong)?, found));
                if bytes >= bytes_max {
                    return Ok((gathered, Reached::Key(key.value().to_vec())));
                }
            }
            Ok((gathered, Reached::End))
        })
    }

    fn not_what_was_written(&self) -> StoreError {
        StoreError::Damaged { name: self.index.name.clone(), what: "a value is not what was written".to_owned() }
    }

    /// The values behind a key, in the order of keys: about so many bytes, and one at least if there is any.
    pub(crate) fn page(
        &self,
        after: Option<&RawKey>,
        bytes_max: usize,
    ) -> Result<VecDeque<(RawKey, Stored)>, StoreError> {
        let (found, _) = self.gather(after.map(RawKey::as_bytes), bytes_max)?;
        found
            .into_iter()
            .map(|(key, found)| {
                let stored = self.fetch(key.as_bytes(), found)?;
                Ok((key, stored))
            })
            .collect()
    }
}

impl Drop for IndexView {
    fn drop(&mut self) {
        // Ends the engine's transaction, which takes locks that a panic of it may have left poisoned.
        let values = self.values.take();
        drop(fenced(&self.index.name, &self.index.pages, || {
            drop(values);
            Ok(())
        }));
    }
}
