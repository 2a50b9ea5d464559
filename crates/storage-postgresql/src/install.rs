//! A state that comes from elsewhere takes the place of what is stored: it is brought as a generation that does not count
//! yet, then one statement lets it count.
//!
//! So a crash in between leaves what was there before, and snapshots of before are read where they always were. Deliberately
//! absent: clearing away the generation that counts no more, or one that was never finished, which is for who looks after
//! the store.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio_postgres::Statement;
use tresor_storage::machine::Install;
use tresor_storage::state::{Reading, Wrong};
use tresor_storage::{Agreement, RawKey, StoreError, Stored};

use crate::history::Moment;
use crate::link::Link;
use crate::settings::WRITE_MAX;
use crate::store::{Inner, drawn};
use crate::trouble::Trouble;
use crate::writer::Change;

/// How many bytes of values go with one statement.
const PART_BYTES: usize = 1 << 20;
/// How many values.
const PART_VALUES: usize = 1000;

/// A state on its way in.
pub(crate) struct Restoring {
    store: Arc<Inner>,
    reading: Reading,
    generation: i64,
    part: Part,
    way: Arc<Bringing>,
}

#[derive(Default)]
struct Part {
    values: Vec<(RawKey, Stored)>,
    bytes: usize,
}

struct Bringing {
    link: Link,
    bringing: Statement,
}

impl Restoring {
    pub(crate) fn begin(store: &Arc<Inner>) -> Result<Self, StoreError> {
        let generation = drawn(&store.lane.doors);
        {
            let mut restoring = store.restoring.lock().unwrap_or_else(PoisonError::into_inner);
            if restoring.is_some() {
                let source = io::ErrorKind::ResourceBusy.into();
                return Err(StoreError::Io { name: store.name.clone(), source });
            }
            *restoring = Some(generation);
        }
        let (lane, settings) = (Arc::clone(&store.lane), Arc::clone(&store.settings));
        let begun = store.lane.wait(async move {
            let opening = async {
                let link = Link::open(&lane, &settings).await?;
                let bringing = link.prepare(&settings.table.bringing()).await?;
                Ok(Bringing { link, bringing })
            };
            lane.within(WRITE_MAX, opening).await.unwrap_or_else(|| Err(Trouble::late()))
        });
        match begun.unwrap_or_else(|| Err(Trouble::late())) {
            Ok(way) => Ok(Self {
                store: Arc::clone(store),
                reading: Reading::new(None),
                generation,
                part: Part::default(),
                way: Arc::new(way),
            }),
            Err(trouble) => {
                *store.restoring.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(store.told(trouble))
            }
        }
    }

    /// Brings what came to the server.
    fn bring(&mut self) -> Result<(), StoreError> {
        let values = std::mem::take(&mut self.part).values;
        if values.is_empty() {
            return Ok(());
        }
        let (lane, way) = (Arc::clone(&self.store.lane), Arc::clone(&self.way));
        let (owner, generation) = (self.store.writer.owner(), self.generation);
        let brought = self.store.lane.wait(async move {
            let keys: Vec<&[u8]> = values.iter().map(|(key, _)| key.as_bytes()).collect();
            let versions: Vec<i64> =
                values.iter().map(|(_, stored)| i64::try_from(stored.version.0).unwrap_or(i64::MAX)).collect();
            let bytes: Vec<&[u8]> = values.iter().map(|(_, stored)| stored.bytes.as_slice()).collect();
            let arguments: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&owner, &generation, &keys, &versions, &bytes];
            let changed = way.link.change(&way.bringing, &arguments);
            match lane.within(WRITE_MAX, changed).await.unwrap_or_else(|| Err(Trouble::late()))? {
                count if usize::try_from(count).is_ok_and(|count| count == values.len()) => Ok(()),
                _ => Err(Trouble::Taken),
            }
        });
        brought.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| self.store.told(trouble))
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        *self.store.restoring.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Of this one, or of the one before.
        self.store.has_remains.store(true, Ordering::Release);
    }
}

impl Install for Restoring {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        let part = &mut self.part;
        let taken = self.reading.take(&chunk, |key, stored| {
            part.bytes += key.as_bytes().len() + stored.bytes.len();
            part.values.push((key, stored));
            Ok::<(), Wrong>(())
        });
        taken.map_err(|wrong| wrong.for_store(&self.store.name))?;
        if self.part.bytes >= PART_BYTES || self.part.values.len() >= PART_VALUES { self.bring() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let version = {
            let (state, _) = self.reading.finish().map_err(|wrong| wrong.for_store(&self.store.name))?;
            state.version
        };
        self.bring()?;
        let store = Arc::clone(&self.store);
        store.watchers.around_state(
            || store.now(),
            || {
                if !store.writes() {
                    return Err(StoreError::Elsewhere { name: store.name.clone() });
                }
                let before = store.at();
                let after = Moment { generation: self.generation, version: before.version.max(version).next() };
                store.make(Change::Switch(after, before.version))
            },
        )
    }

    fn agree(self: Box<Self>) -> Result<Agreement, Box<dyn Install>> {
        Err(self)
    }
}
