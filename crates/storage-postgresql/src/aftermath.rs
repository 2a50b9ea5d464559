//! What became of a batch whose answer was lost, once the store is another process's: what lies under its keys says it.
//!
//! From the moment on that the store is another's, nothing of ours changes it any more, and versions only grow. So a key with an older
//! version than the batch's was not written by it; one with the batch's version was, if it holds what the batch wrote there, and
//! otherwise by the batch that has that number in its place. Deliberately absent: an answer where all keys were written since.

use tresor_storage::Batch;

use crate::lane::Lane;
use crate::link::Link;
use crate::readers::{Reader, Sought};
use crate::settings::{READ_MAX, Settings};
use crate::trouble::Trouble;

/// How many keys are looked at.
const KEYS_MAX: usize = 64;

/// Whether a batch is there; nothing where nobody can say. In the lane.
pub(crate) async fn is_there(lane: &Lane, settings: &Settings, generation: i64, batch: &Batch) -> Option<bool> {
    let looked = lane.within(READ_MAX, async {
        let reader = Reader::over(Link::open(lane, settings).await?, settings).await?;
        for (key, written) in batch.writes.iter().take(KEYS_MAX) {
            let found = reader.find(generation, key, Sought::Value).await?.stored;
            match found {
                Some(found) if found.version < batch.version => return Ok(Some(false)),
                Some(found) if found.version == batch.version => {
                    // What is stored is sealed, by a nonce that is drawn: nobody else writes the same.
                    return Ok(Some(written.as_ref().is_some_and(|written| *written == found.bytes)));
                }
                // It was written since, or deleted by this or since.
                Some(_) | None => {}
            }
        }
        Ok::<_, Trouble>(None)
    });
    looked.await?.ok().flatten()
}
