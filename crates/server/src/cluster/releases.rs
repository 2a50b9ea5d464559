//! Which release each node is of, as far as the leader was told: operators look at that while they upgrade one node after the
//! other.
//!
//! The leader asks; who is asked may have been started again since, as another release. Deliberately absent: any decision by it;
//! what two nodes must agree on has a version of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tresor_consensus::{Consensus, NodeId};
use tresor_env::Clock;

use super::inbox::{ANSWERED, RELEASE};
use super::port::Port;

/// How often the leader asks.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(2);
/// The longest answer.
const BYTES_MAX: usize = 64;

/// What the other nodes said.
#[derive(Default)]
pub(crate) struct Releases(Mutex<BTreeMap<NodeId, String>>);

impl Releases {
    /// What a node said last.
    pub(crate) fn of(&self, node: NodeId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Asks the others, as long as this node leads.
    pub(crate) async fn keep(
        self: Arc<Self>,
        me: NodeId,
        consensus: Arc<Consensus>,
        port: Arc<Port>,
        clock: Arc<dyn Clock>,
    ) {
        loop {
            consensus.status().wait_for(|status| status.is_leader().then_some(())).await;
            let members = consensus.members();
            let others = members.nodes.keys().filter(|id| **id != me);
            let ask = |id: &NodeId| {
                let (id, asked) = (*id, port.request(*id, Bytes::from_static(&[RELEASE]), WITHIN));
                async move { Some((id, read(&asked.await.ok()?)?)) }
            };
            let said = futures_util::future::join_all(others.map(ask)).await.into_iter().flatten().collect();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = said;
            clock.sleep(AGAIN).await;
        }
    }
}

fn read(answer: &[u8]) -> Option<String> {
    let said = answer.strip_suffix(&[ANSWERED]).filter(|said| said.len() <= BYTES_MAX)?;
    String::from_utf8(said.to_vec()).ok().filter(|text| text.chars().all(|c| c.is_ascii_graphic()))
}
