//! Erasing realms that nobody can open: what lies in them can be told by its raw keys, which end in the realm's id.
//!
//! Nothing can be named without the ring, so all that is stored is walked over, once, in the order of raw keys, and what is of
//! these realms is deleted batch by batch. A walk that broke off begins anew and finds less. Deliberately absent: what other
//! records say of a realm, and any other use of raw keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tresor_env::tasks::run_blocking;
use tresor_model::ids::RealmId;
use tresor_storage::state::{Reading, Wrong};
use tresor_storage::{RawKey, StoreError};

use crate::barrier::{Barrier, CommitError};
use crate::lanes::Lane;
use crate::realms::of_raw_key;
use crate::txn::Changes;

/// How many records are deleted together.
const KEYS_PER_BATCH: usize = 512;

/// Why a walk broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what the store exports is no state")]
    State(#[from] Wrong),
}

impl From<Broken> for CommitError {
    fn from(broken: Broken) -> Self {
        let error = match broken {
            Broken::Store(error) => error,
            Broken::State(wrong) => wrong.for_store("export"),
        };
        Self::Failed(Arc::new(error.into()))
    }
}

impl Barrier {
    /// Deletes everything in these realms, which must be sealed for good; how many records that were.
    ///
    /// # Errors
    /// [`CommitError`]; what is left is found again.
    pub async fn erase_realms(&self, realms: &BTreeSet<RealmId>) -> Result<u64, CommitError> {
        let vault = self.vault();
        let (store, workers) = (Arc::clone(&vault.store), Arc::clone(&vault.doors.workers));
        let begun = run_blocking(&*workers, move || store.export()).await;
        let mut export = begun.map_err(|_| CommitError::Unknown)?.map_err(Broken::Store)?;
        let (mut reading, mut found, mut erased) = (Reading::new(None), Vec::new(), 0);
        loop {
            let next = run_blocking(&*workers, move || {
                let chunk = export.next();
                (export, chunk)
            });
            let (rest, chunk) = next.await.map_err(|_| CommitError::Unknown)?;
            export = rest;
            let Some(chunk) = chunk.map_err(Broken::Store)? else { break };
            reading.take::<Broken>(&chunk, |key, _| {
                if of_raw_key(&key).is_some_and(|id| realms.iter().any(|realm| realm.as_str() == id)) {
                    found.push(key);
                }
                Ok(())
            })?;
            while found.len() >= KEYS_PER_BATCH {
                let rest = found.split_off(KEYS_PER_BATCH);
                erased += self.erase(std::mem::replace(&mut found, rest)).await?;
            }
        }
        erased += self.erase(found).await?;
        Ok(erased)
    }

    async fn erase(&self, keys: Vec<RawKey>) -> Result<u64, CommitError> {
        if self.is_stopped() {
            return Err(CommitError::Stopped);
        }
        let count = keys.len() as u64;
        if count > 0 {
            let headers: BTreeMap<_, _> = keys.into_iter().map(|key| (key, None)).collect();
            self.enqueue(Lane::Background, Changes { headers, ..Changes::default() }).await?;
        }
        Ok(count)
    }
}
