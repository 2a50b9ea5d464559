//! What a batch says to those who follow it: the names that it changes, as far as somebody follows them, sealed.
//!
//! Names are secrets, so the note is opaque to whoever carries it. Its version is part of the seal: the note of one batch
//! is none of another. A batch that changes nothing that is followed has no note. Deliberately absent: values, which are
//! read from what is stored.

use tresor_record::Record;
use tresor_storage::{Batch, Version};

use crate::barrier::{BarrierError, Vault, short_key};
use crate::feed::Changed;
use crate::key::{KeyPrefix, StorageKey};

/// A note in the clear.
#[derive(Record)]
#[record(kind = "note", version = 1)]
struct Note {
    names: Vec<String>,
}

/// What the note of a batch is bound to: like a raw key, which no value lies under.
fn context(version: Version) -> tresor_storage::RawKey {
    let [a, b, c, d, e, f, g, h] = version.0.to_be_bytes();
    short_key(&[6, a, b, c, d, e, f, g, h])
}

/// The note of a batch that changes these names, of which those below `wanted` are followed.
pub(crate) fn sealed<'k>(
    vault: &Vault,
    version: Version,
    changed: impl Iterator<Item = &'k StorageKey>,
    wanted: &[KeyPrefix],
) -> Result<Vec<u8>, BarrierError> {
    let is_wanted = |key: &&StorageKey| wanted.iter().any(|prefix| key.is_below(prefix));
    let names: Vec<String> = changed.filter(is_wanted).map(|key| key.as_str().to_owned()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    vault.seal(&context(version), &Note { names }.encode())
}

/// What a batch changes of what is followed. When its note cannot be opened, everything may have changed.
pub(crate) fn opened(vault: &Vault, batch: &Batch) -> Changed {
    if batch.note.is_empty() {
        return Changed::Names(Vec::new());
    }
    let names = || -> Result<Vec<StorageKey>, BarrierError> {
        let plain = vault.open(&context(batch.version), &batch.note)?;
        Note::decode(&plain)?.names.into_iter().map(StorageKey::noted).collect()
    };
    names().map_or_else(
        |error| {
            tracing::error!(%error, version = batch.version.0, "a batch's note cannot be opened: everything is loaded anew");
            Changed::Everything
        },
        Changed::Names,
    )
}
