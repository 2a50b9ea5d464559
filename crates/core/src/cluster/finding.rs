//! How a member finds the others again when they are not where the log says: all addresses may have changed at once.
//!
//! A node that knows of no leader for a while asks the nodes that its operator configured, over their APIs, where the members
//! are. What they answer is a hint and never a truth: members are looked for there, too, and whoever is there has to prove the
//! key that the log pins; so a false answer costs attempts to connect. A node that reaches another one tells it where it is
//! itself, and that one can answer for both. Only who names the key of a member is answered. Deliberately absent: proofs, and
//! writing anything down, which is for the leader once there is one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_crypto::hash::to_hex;
use tresor_model::{Body, Fault, Map, map};

use super::join::is_cluster_address;
use super::joining::LeaderDoor;
use super::{Standing, Whereabouts};
use crate::node::Node;

/// Where a node tells where the members are.
pub const ADDRESSES: &str = "sys/storage/raft/bootstrap/addresses";

/// How often a node looks whether it knows of a leader.
const LOOK: Duration = Duration::from_secs(1);
/// At how many looks in a row it must have known of none: choosing another leader takes less.
const LOOKS: u32 = 4;
/// How soon it asks again, at first and at the latest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));
/// The most members that an answer may name.
const MEMBERS_MAX: usize = 1024;

impl Node {
    /// Where the members are, for one of them.
    ///
    /// # Errors
    /// A refusal when nobody of them has this key.
    pub fn whereabouts(&self, asker: &[u8; 32]) -> Result<Vec<Whereabouts>, Fault> {
        let members = self.cluster.members();
        if members.iter().all(|member| member.contact.key != *asker) {
            return Err(Fault::invalid("no member has this key"));
        }
        Ok(self.cluster.whereabouts())
    }

    /// Starts to ask each of the nodes that the operator configured, whenever this one knows of no leader.
    pub(crate) fn find_others(self: &Arc<Self>) {
        let Some(joining) = &self.settings.joining else { return };
        for door in &joining.retry_join {
            self.tasks.spawn(find(Arc::downgrade(self), Arc::clone(door)));
        }
    }
}

/// Asks one node, again and again as long as no leader is known.
async fn find(node: Weak<Node>, door: Arc<dyn LeaderDoor>) {
    let (mut looks, mut pause) = (0, PAUSES.0);
    loop {
        let Some(strong) = node.upgrade() else { return };
        let pausing = strong.sleep(if looks < LOOKS { LOOK } else { pause });
        drop(strong);
        pausing.await;
        let Some(strong) = node.upgrade() else { return };
        if !is_lost(&strong) {
            (looks, pause) = (0, PAUSES.0);
            continue;
        }
        looks += 1;
        if looks < LOOKS {
            continue;
        }
        if looks > LOOKS {
            pause = (pause * 2).min(PAUSES.1);
        }
        match ask(&strong, &*door).await {
            Ok(said) => strong.cluster.hint(door.address(), said),
            Err(cause) => tracing::debug!(asked = door.address(), cause, "a node does not say where the members are"),
        }
    }
}

/// Whether a member knows of no leader.
fn is_lost(node: &Node) -> bool {
    node.cluster.is_member() && node.cluster.standing() == Standing::Leaderless && !node.cluster.is_removed()
}

async fn ask(node: &Node, door: &dyn LeaderDoor) -> Result<Vec<Whereabouts>, String> {
    let answer = door.ask(ADDRESSES, map! { "node_key" => to_hex(&node.cluster.me().key) }).await?;
    let members = answer.get("members").and_then(Body::as_list).unwrap_or_default();
    Ok(members.iter().take(MEMBERS_MAX).filter_map(read).collect())
}

/// A member's place; nothing when it is spelled as none.
fn read(member: &Body) -> Option<Whereabouts> {
    let member = member.as_map()?;
    let key = hex::decode(member.text("node_key")?).ok()?.try_into().ok()?;
    let cluster_address = member.text("cluster_addr").filter(|text| is_cluster_address(text))?.to_owned();
    Some(Whereabouts { key, cluster_address })
}

/// How a member's place is spelled in an answer.
#[must_use]
pub fn spell(member: Whereabouts) -> Map {
    map! { "node_key" => to_hex(&member.key), "cluster_addr" => member.cluster_address }
}
