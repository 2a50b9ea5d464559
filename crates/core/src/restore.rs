//! A snapshot takes the place of what is stored.
//!
//! Nothing that knows what was stored may outlive it, so the node that restores lets go of everything that was unsealed. It
//! goes on leading meanwhile: in a cluster the others have to agree. If its keys open what is stored then, it serves again with
//! them; otherwise it is sealed, until the shares or the static key of the snapshot's cluster open it. The other nodes of a
//! cluster, whose store is replaced below them, follow what is stored as ever, or are told that their keys are not those of it
//! any more ([`tresor_barrier::Barrier::estranged`]). Deliberately absent: verifying the snapshot, which was done when it was
//! staged, and the local audit log, which says itself whose keys open it.

use std::sync::Arc;
use std::time::Duration;

use tresor_barrier::ShareCollector;
use tresor_env::tasks::run_blocking;
use tresor_model::Fault;
use tresor_storage::machine::Install;

use crate::node::{Node, close};
use crate::opening::{self, ByItself};
use crate::snapshots::{Staged, refusal};

/// Lets it take the place of what is stored.
///
/// # Errors
/// When that fails. What was stored is there then, or nobody knows.
pub(crate) async fn by(
    node: &Arc<Node>,
    staged: Staged,
    collector: &mut ShareCollector,
    by_itself: &mut ByItself,
) -> Result<(), Fault> {
    let keys = close(node).await.map(|unsealed| unsealed.barrier.clone());
    let restored = take_place(node, staged.install).await;
    match &restored {
        Ok(()) => tracing::info!("a snapshot took the place of what was stored"),
        Err(fault) => {
            tracing::error!(cause = fault.for_operators(), "a snapshot did not take the place of what is stored")
        }
    }
    // A key that lies with the machine also brings the slots of the snapshot's time to what is configured.
    if let Some(keys) = keys.filter(|_| node.settings().auto_seal.is_none()).and_then(|keys| keys.anew()) {
        match opening::with(node, keys).await {
            Ok(()) => return restored,
            Err(fault) => tracing::error!(cause = fault.for_operators(), "what is stored now cannot be served"),
        }
    }
    stay_sealed(node, collector, by_itself).await;
    restored
}

async fn take_place(node: &Node, install: Box<dyn Install>) -> Result<(), Fault> {
    let finished = match install.agree() {
        Ok(agreement) => agreement.await,
        Err(install) => {
            let finished = run_blocking(&*node.doors.workers, move || install.finish()).await;
            finished.map_err(Fault::internal)?
        }
    };
    finished.map_err(refusal)
}

/// How often a node looks whether its cluster has removed it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Node {
    /// Completes when the node serves no more though nobody told it to seal or to stop: what is stored was replaced by what
    /// other keys open, or its cluster removed it. For one who waits.
    pub async fn given_up(&self) {
        while !self.cluster.is_removed() {
            tokio::select! {
                biased;
                () = self.given_up.notified() => return,
                () = self.sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// The node is sealed, and what is stored is not what it was: shares that were entered count no more, and it may open by
/// itself, whatever became of what was there before.
pub(crate) async fn stay_sealed(node: &Arc<Node>, collector: &mut ShareCollector, by_itself: &mut ByItself) {
    collector.reset();
    node.publish_attempt(0, String::new());
    *by_itself = ByItself::default();
    let is_settled = by_itself.attempt(node).await;
    if node.unsealed().is_none() {
        node.cluster.set_sealed(true);
        node.given_up.notify_one();
    }
    if !is_settled {
        node.tasks.spawn(opening::keep_trying(Arc::downgrade(node)));
    }
}
