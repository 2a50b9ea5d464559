//! What a batch says to those who follow it: the names that it changes, as far as somebody follows them, sealed.
//!
//! Names are secrets, so the note is opaque to whoever carries it. Its version is part of the seal: the note of one batch
//! is none of another. Names in a realm are sealed by the realm's ring: who has not opened it keeps nothing of the realm in
//! memory, and passes over them. A batch that changes nothing that is followed has no note. Deliberately absent: values, which
//! are read from what is stored.

use std::collections::BTreeMap;

use tresor_model::ids::REALM_CHARACTERS;
use tresor_record::{Part, Record, RecordError};
use tresor_storage::{Batch, RawKey, Version};

use crate::barrier::{BarrierError, RAW_KEY_BYTES, Vault, short_key};
use crate::feed::Changed;
use crate::key::{KeyPrefix, StorageKey};
use crate::realms;

/// As it was before there were realms in clusters.
#[derive(Record)]
#[record(kind = "note", version = 1)]
struct NoteV1 {
    names: Vec<String>,
}

impl From<NoteV1> for Note {
    fn from(older: NoteV1) -> Self {
        Self { names: older.names, realms: Vec::new() }
    }
}

/// A note in the clear.
#[derive(Record)]
#[record(kind = "note", version = 2, previous = NoteV1)]
struct Note {
    names: Vec<String>,
    realms: Vec<OfRealm>,
}

/// What a batch changes in a realm.
#[derive(Part)]
struct OfRealm {
    realm: String,
    /// The names, sealed by the realm's ring.
    sealed: Vec<u8>,
}

/// The same in the clear.
#[derive(Record)]
#[record(kind = "note of a realm", version = 1)]
struct RealmNote {
    names: Vec<String>,
}

/// What the note of a batch is bound to: like a raw key, which no value lies under.
fn context(version: Version) -> RawKey {
    let [a, b, c, d, e, f, g, h] = version.0.to_be_bytes();
    short_key(&[6, a, b, c, d, e, f, g, h])
}

/// The same of a realm's part of it: as long as the raw keys in the realm, so that it is under the same ring.
fn context_in(realm: &str, version: Version) -> RawKey {
    let mut bytes = context(version).as_bytes().to_vec();
    bytes.resize(RAW_KEY_BYTES, 0);
    bytes.extend_from_slice(realm.as_bytes());
    short_key(&bytes)
}

/// The note of a batch that changes these names, of which those below `wanted` are followed.
pub(crate) fn sealed<'k>(
    vault: &Vault,
    version: Version,
    changed: impl Iterator<Item = &'k StorageKey>,
    wanted: &[KeyPrefix],
) -> Result<Vec<u8>, BarrierError> {
    let is_wanted = |key: &&StorageKey| wanted.iter().any(|prefix| key.is_below(prefix));
    let (mut names, mut inside) = (Vec::new(), BTreeMap::<&str, Vec<String>>::new());
    for key in changed.filter(is_wanted) {
        let place = match realms::of_name(key.as_str().as_bytes()) {
            None => &mut names,
            Some(realm) => inside.entry(realm).or_default(),
        };
        place.push(key.as_str().to_owned());
    }
    if names.is_empty() && inside.is_empty() {
        return Ok(Vec::new());
    }
    let of_realm = |(realm, names): (&str, Vec<String>)| {
        let sealed = vault.seal(&context_in(realm, version), &RealmNote { names }.encode())?;
        Ok(OfRealm { realm: realm.to_owned(), sealed })
    };
    let realms = inside.into_iter().map(of_realm).collect::<Result<Vec<_>, BarrierError>>()?;
    // Nodes of an older release read what they know.
    let note = if realms.is_empty() { NoteV1 { names }.encode() } else { Note { names, realms }.encode() };
    vault.seal(&context(version), &note)
}

/// What a batch changes of what is followed. When its note cannot be opened, everything may have changed.
pub(crate) fn opened(vault: &Vault, batch: &Batch) -> Changed {
    if batch.note.is_empty() {
        return Changed::Names(Vec::new());
    }
    names(vault, batch).map_or_else(
        |error| {
            tracing::error!(%error, version = batch.version.0, "a batch's note cannot be opened: everything is loaded anew");
            Changed::Everything
        },
        Changed::Names,
    )
}

fn names(vault: &Vault, batch: &Batch) -> Result<Vec<StorageKey>, BarrierError> {
    let Note { mut names, realms } = Note::decode(&vault.open(&context(batch.version), &batch.note)?)?;
    for OfRealm { realm, sealed } in realms {
        if realm.len() != REALM_CHARACTERS {
            return Err(RecordError::Impossible { kind: Note::KIND }.into());
        }
        match vault.open(&context_in(&realm, batch.version), &sealed) {
            Ok(plain) => names.extend(RealmNote::decode(&plain)?.names),
            // Nothing of it is in memory here.
            Err(BarrierError::SealedRealm) => {}
            Err(other) => return Err(other),
        }
    }
    names.into_iter().map(StorageKey::noted).collect()
}
