//! Whether a seal that opens by itself still could: looked at now and then, while nobody needs it (SEAL-25).
//!
//! The key is read where it lies, or asked of the service that keeps it, and must open a slot of the store. Where that service
//! seals by another version by now, the leader makes the slot anew. Otherwise the node would stay sealed after its next start,
//! and nobody would know before: so the log warns, and numbers and `sys/seal-backend-status` say it. Deliberately absent: any
//! consequence; an open node goes on.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tresor_barrier::{StaticKey, StaticSlot};
use tresor_model::Timestamp;

use crate::gate::Gate;
use crate::key_service::Wanted;
use crate::opening::{NotOpened, read_keys};
use crate::unsealed::Unsealed;

/// When a seal is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealChecks {
    /// How often.
    pub interval: Duration,
    /// How often while it could not open.
    pub interval_unhealthy: Duration,
    /// How long one look may take.
    pub timeout: Duration,
}

impl Default for SealChecks {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { interval: minute * 10, interval_unhealthy: minute, timeout: minute }
    }
}

/// What was found.
#[derive(Default)]
pub struct SealHealth {
    unhealthy_since: Mutex<Option<Timestamp>>,
}

impl SealHealth {
    /// Since when the seal could not open by itself; nothing while it could.
    #[must_use]
    pub fn unhealthy_since(&self) -> Option<Timestamp> {
        *self.unhealthy_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, problem: Option<String>, now: Timestamp) {
        let mut since = self.unhealthy_since.lock().unwrap_or_else(PoisonError::into_inner);
        match (problem, since.is_some()) {
            (Some(cause), false) => {
                tracing::warn!(cause, "the seal could not open this store by itself: mend that before the next start");
                *since = Some(now);
            }
            (None, true) => {
                tracing::info!("the seal could open this store by itself again");
                *since = None;
            }
            (Some(_), true) | (None, false) => {}
        }
    }
}

/// Starts to look, where there is such a seal.
pub(crate) fn start(unsealed: &Arc<Unsealed>) {
    if let Some(checks) = unsealed.handles.settings.auto_seal.as_ref().and_then(|seal| seal.checks) {
        unsealed.look_after(watch(Arc::downgrade(unsealed), unsealed.gate.clone(), checks));
    }
}

async fn watch(node: Weak<Unsealed>, gate: Gate, checks: SealChecks) {
    while let Some(unsealed) = node.upgrade() {
        let is_healthy = unsealed.handles.seal_health.unhealthy_since().is_none();
        let waiting = unsealed.clock.sleep(if is_healthy { checks.interval } else { checks.interval_unhealthy });
        drop(unsealed);
        tokio::select! {
            biased;
            () = gate.closed() => return,
            () = waiting => {}
        }
        let Some(unsealed) = node.upgrade() else { return };
        let problem = tokio::select! {
            biased;
            problem = look(&unsealed) => problem,
            () = unsealed.clock.sleep(checks.timeout) => Some("the key cannot be read in time".to_owned()),
        };
        unsealed.handles.seal_health.found(problem, unsealed.clock.now());
    }
}

/// Why it could not open now, if it could not.
async fn look(unsealed: &Unsealed) -> Option<String> {
    let seal = unsealed.handles.settings.auto_seal.as_ref()?;
    // Of the store others tell.
    let Ok(stored) = unsealed.barrier.stored_keys() else { return None };
    let keys = match read_keys(&unsealed.doors, &unsealed.clock, seal, &stored, Wanted::Opening).await {
        Ok(keys) => keys,
        Err(NotOpened { cause, .. }) => return Some(cause),
    };
    let opens = |key: &StaticKey| unsealed.handles.keyring.slots_opened_by(key).is_ok_and(|slots| !slots.is_empty());
    if opens(&keys.current) {
        return None;
    }
    let is_kept_by_service = keys.current.sealed().is_some();
    if !is_kept_by_service || !keys.previous.as_ref().is_some_and(opens) {
        return Some(format!("the key `{}` opens no slot", seal.key_id()));
    }
    if unsealed.duties.is_active() {
        let wanted = StaticSlot::Beside(&keys.current);
        match unsealed.barrier.bring_slots(&wanted, unsealed.clock.now()).await {
            Ok(()) => {
                tracing::info!(key = seal.key_id(), "the store's key slot was made anew by another version of the key")
            }
            Err(error) => tracing::warn!(%error, "the store's key slot stays of an older version of the key"),
        }
    }
    None
}
