//! A state that comes through the log: its chunks are stored as pieces, like values, then one entry lets them take the place
//! of everything.
//!
//! So whoever has the log up to that entry has the state, a crash in between leaves what was there before, and no machine
//! waits for bytes that do not come with its entries. Deliberately absent: where the state comes from, and clearing away what
//! was never taken over.

use crate::machine::{Applied, Position};
use crate::{RawKey, Snapshot, StoreError};

/// What pieces are called in errors.
const NAME: &str = "pieces of a state";

/// What the keys of all pieces begin with.
pub const PREFIX: &[u8] = b"\0piece";

/// Where a piece lies: outside the barrier, `0x00 ‖ "piece" ‖ number (4, big-endian)`.
#[must_use]
#[expect(clippy::expect_used, reason = "ten bytes are a short key")]
pub fn key(number: u32) -> RawKey {
    RawKey::new(&[PREFIX, &number.to_be_bytes()].concat()).expect("it is a short key")
}

/// How many pieces lie in a store, from the first to the last without a gap.
///
/// # Errors
/// When the store fails.
pub fn count(snapshot: &dyn Snapshot) -> Result<u32, StoreError> {
    let mut number = 0;
    while snapshot.written(&key(number))?.is_some() {
        number += 1;
    }
    Ok(number)
}

/// What a machine that held `before` holds, once it has taken over `state` at an entry: its own members, and a version that is
/// newer than all of both.
#[must_use]
pub fn taken_over(before: &Applied, state: &Applied, at: Position) -> Applied {
    let version = before.version.max(state.version).next();
    Applied { position: at, version, membership: before.membership.clone() }
}

/// Shows the pieces that a store holds, in order.
///
/// # Errors
/// [`StoreError::Foreign`] when one is missing; what the store or `see` says.
pub fn gather(
    snapshot: &dyn Snapshot,
    pieces: u32,
    mut see: impl FnMut(Vec<u8>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for number in 0..pieces {
        let missing = || StoreError::Foreign {
            name: NAME.to_owned(),
            offset: u64::from(number),
            what: "a piece is missing".to_owned(),
        };
        see(snapshot.read(&key(number))?.ok_or_else(missing)?.bytes)?;
    }
    Ok(())
}
