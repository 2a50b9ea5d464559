//! How far one device has come, on disk: two slots, of which one holds what was synced last and is not written to
//! before the other one is synced.
//!
//! So no crash, whichever of the unsynced writes it keeps or tears, leaves a place before the synced one, below which
//! the log may have removed its records. Deliberately absent: syncs of its own while it is written; the log syncs a
//! cursor before it removes what the cursor has passed.

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
    /// The slot that is written to: not the one that was synced last.
    open_slot: u64,
    is_dirty: bool,
}

impl CursorFile {
    /// Opens or creates a cursor; the position is the next sequence to deliver, `None` when there is no valid slot.
    pub(super) fn open(disk: &dyn Disk, path: &Path, key: &HmacKey) -> io::Result<(Self, Option<u64>)> {
        let file = disk.open(path, Open::OrCreate)?;
        let slots = [read_slot(&*file, 0, key), read_slot(&*file, 1, key)];
        let [first, second] = slots;
        let newest = first.max(second);
        let open_slot = u64::from(first.is_some() && newest == first);
        // What a killed process left unsynced counts from now on.
        file.sync()?;
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((Self { file, generation, open_slot, is_dirty: false }, newest.map(|(_, position)| position)))
    }

    /// Writes a new position over the slot that was not synced last.
    pub(super) fn write(&mut self, position: u64, key: &HmacKey) -> io::Result<()> {
        self.generation += 1;
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&self.generation.to_le_bytes());
        slot.extend_from_slice(&position.to_le_bytes());
        let digest = key.sign(&slot);
        slot.extend(digest.iter().take(16));
        self.is_dirty = true;
        self.file.write_all_at(slot_offset(self.open_slot), &slot)
    }

    /// Makes the position durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        if std::mem::take(&mut self.is_dirty) {
            self.open_slot = 1 - self.open_slot;
        }
        Ok(())
    }
}

const fn slot_offset(slot: u64) -> u64 {
    slot * SLOT_BYTES as u64
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tresor_env::doubles::MemoryDisk;

    #[test]
    fn no_loss_of_power_leaves_a_place_before_the_synced_one() {
        let (path, key) = (Path::new("d/cursor"), HmacKey::new(&[7; 32]));
        // Which of three unsynced writes survive, and of the last one that does, only a part.
        for kept in 0..8_u32 {
            for torn in [false, true] {
                let disk = MemoryDisk::new();
                let (mut cursor, _) = CursorFile::open(&disk, path, &key).unwrap();
                disk.sync_directory(Path::new("d")).unwrap();
                for position in [10, 20, 30] {
                    cursor.write(position, &key).unwrap();
                    cursor.sync().unwrap();
                }
                for position in [40, 50, 60] {
                    cursor.write(position, &key).unwrap();
                }
                let mut write = 0;
                disk.crash(|length| {
                    write += 1;
                    let survives = kept & (1 << (write - 1)) != 0;
                    let is_last = kept >> write == 0;
                    if survives { if torn && is_last { length / 2 } else { length } } else { 0 }
                });
                let (_, position) = CursorFile::open(&disk, path, &key).unwrap();
                assert!(position >= Some(30), "{position:?}, kept {kept:03b}, torn {torn}");
            }
        }
    }
}
