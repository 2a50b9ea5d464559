//! How far one device has come, on disk: two slots written in turn, so that a torn write leaves the older one.
//!
//! A cursor that is lost or damaged costs nothing but deliveries made twice. Deliberately absent: syncs by itself; the
//! log syncs a cursor before it removes what the cursor has passed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tresor_crypto::hash::HmacKey;
use tresor_env::disk::{Disk, DiskFile, Open};

const SLOT_BYTES: usize = 32;

/// The file of one cursor.
pub(super) struct CursorFile {
    file: Arc<dyn DiskFile>,
    generation: u64,
}

impl CursorFile {
    /// Opens or creates a cursor; the position is the next sequence to deliver, `None` when there is no valid slot.
    pub(super) fn open(disk: &dyn Disk, path: &Path, key: &HmacKey) -> io::Result<(Self, Option<u64>)> {
        let file = disk.open(path, Open::OrCreate)?;
        let slots = [read_slot(&*file, 0, key), read_slot(&*file, 1, key)];
        let newest = slots.into_iter().flatten().max();
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((Self { file, generation }, newest.map(|(_, position)| position)))
    }

    /// Writes a new position over the older slot.
    pub(super) fn write(&mut self, position: u64, key: &HmacKey) -> io::Result<()> {
        self.generation += 1;
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&self.generation.to_le_bytes());
        slot.extend_from_slice(&position.to_le_bytes());
        let digest = key.sign(&slot);
        slot.extend(digest.iter().take(16));
        self.file.write_all_at(slot_offset(self.generation), &slot)
    }

    /// Makes the position durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

fn slot_offset(generation: u64) -> u64 {
    (generation % 2) * SLOT_BYTES as u64
}

fn read_slot(file: &dyn DiskFile, index: u64, key: &HmacKey) -> Option<(u64, u64)> {
    let mut slot = [0; SLOT_BYTES];
    file.read_exact_at(slot_offset(index), &mut slot).ok()?;
    let (content, digest) = slot.split_at_checked(16)?;
    let expected = key.sign(content);
    if !tresor_secret::ct_eq(expected.get(..16)?, digest) {
        return None;
    }
    let (generation, position) = content.split_at_checked(8)?;
    let generation = u64::from_le_bytes(generation.try_into().ok()?);
    Some((generation, u64::from_le_bytes(position.try_into().ok()?)))
}
