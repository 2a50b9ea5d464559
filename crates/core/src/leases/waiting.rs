//! What waits to be taken back, and why: by whom it waits for.
//!
//! Deliberately absent: what is tried again for a reason of its own ([`retried`](super::retried)).

use tresor_barrier::Txn;
use tresor_model::ids::MountId;
use tresor_model::{Fault, Timestamp};

use super::record::{LeaseRecord, LeaseState};
use super::secrets::{Leases, numbered};
use super::targets::{Down, Queue};
use crate::keys;
use crate::namespaces::{Space, ids};

/// The most that are counted of one target.
pub const COUNTED_MAX: usize = 10_000;

/// The most targets that are looked at, those of other namespaces among them.
const QUEUES_MAX: usize = 10_000;

/// What waits for one target.
pub struct Waiting {
    /// Where the mount is, or was.
    pub mount_path: String,
    /// The target, in the engine's words; empty where nobody outside is asked.
    pub target: String,
    /// How many leases wait.
    pub count: usize,
    /// Since when the one waits that is tried next.
    pub since: Option<Timestamp>,
    /// Why it could not be revoked the last time it was tried.
    pub reason: Option<String>,
    /// What is known of the target, when it does not answer.
    pub down: Option<Down>,
}

impl Leases {
    /// What waits in a namespace, at most for so many targets.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn waiting(&self, txn: &mut Txn, space: &Space, limit: usize) -> Result<Vec<Waiting>, Fault> {
        let queues = keys::queues().map_err(Fault::internal)?;
        let mut found = Vec::new();
        for queue in txn.list(&queues, None, QUEUES_MAX).map_err(Fault::internal)? {
            let name = queue.trim_end_matches('/');
            let own = Queue::named(name);
            let (mount, target) = own.target.split_once(':').unwrap_or((name, ""));
            if ids::home(mount) != space.id || found.len() >= limit {
                continue;
            }
            let at = queues.below(&queue).map_err(Fault::internal)?;
            let numbers = txn.list(&at, None, COUNTED_MAX).map_err(Fault::internal)?;
            let first = numbers.first().map(|number| numbered(txn, number)).transpose()?.flatten();
            let id = MountId::new(ids::bare(mount));
            let mount_path = match space.mounts.table().with_id(&id) {
                Some(mount) => mount.record.path.clone(),
                None => space.mounts.removal(txn, &id)?.map(|removal| removal.record.mount.0.path).unwrap_or_default(),
            };
            found.push(Waiting {
                mount_path,
                target: target.to_owned(),
                count: numbers.len(),
                since: first.as_ref().map(|record| record.due),
                reason: first.as_ref().and_then(reason),
                down: self.targets().down(&own.target),
            });
        }
        Ok(found)
    }
}

fn reason(record: &LeaseRecord) -> Option<String> {
    match &record.state {
        LeaseState::Revoking(attempts) if attempts.failed > 0 => Some(attempts.reason.clone()),
        _ => None,
    }
}
