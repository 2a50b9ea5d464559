//! How a member finds the others again when they are not where the log says: all addresses may have changed at once.
//!
//! A node that knows of no leader for a while asks the nodes that its operator configured, over their APIs, where the members
//! are. What they answer is a hint and never a truth: members are looked for there, too, and whoever is there has to prove the
//! key that the log pins; so a false answer costs attempts to connect. A node that reaches another one tells it where it is
//! itself, and that one can answer for both. A node that was removed is told so, with the signature of a member: the others do
//! not let it in any more, and it must not take that for a loss of the majority. Only who names the key of a member, or of one
//! that was removed, is answered. Deliberately absent: writing anything down, which is for the leader once there is one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_crypto::hash::to_hex;
use tresor_model::{Body, Fault, Map, map};

use super::join::is_cluster_address;
use super::joining::{LeaderDoor, bytes};
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

/// What a node is told that finds nobody.
pub enum Told {
    /// It is a member, and there are the others.
    Members(Vec<Whereabouts>),
    /// It was one.
    Removed {
        /// The key of the member that says so.
        by: [u8; 32],
        /// Its signature.
        signature: Vec<u8>,
    },
}

impl Node {
    /// What a node is told that finds nobody, and has this key.
    ///
    /// # Errors
    /// A refusal when it is no member, and none that is known to have been one.
    pub fn direct(&self, asker: &[u8; 32]) -> Result<Told, Fault> {
        if self.cluster.members().iter().any(|member| member.contact.key == *asker) {
            return Ok(Told::Members(self.cluster.whereabouts()));
        }
        match self.unsealed() {
            Some(unsealed) if unsealed.handles.membership.has_removed(asker)? => {
                Ok(Told::Removed { by: self.cluster.me().key, signature: self.cluster.sign_removal(asker) })
            }
            _ => Err(Fault::invalid("no member has this key")),
        }
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
            Ok(Told::Members(said)) => strong.cluster.hint(door.address(), said),
            Ok(Told::Removed { by, signature }) => {
                if !strong.cluster.hear_of_removal(&by, &signature) && looks == LOOKS {
                    let asked = door.address();
                    tracing::warn!(asked, "it says that this node was removed, and is none that this node knows");
                }
            }
            Err(cause) => tracing::debug!(asked = door.address(), cause, "a node does not say where the members are"),
        }
    }
}

/// Whether a member, or a node that was let in, knows of no leader.
fn is_lost(node: &Node) -> bool {
    !node.is_outside() && node.cluster.standing() == Standing::Leaderless && !node.cluster.is_removed()
}

async fn ask(node: &Node, door: &dyn LeaderDoor) -> Result<Told, String> {
    let answer = door.ask(ADDRESSES, map! { "node_key" => to_hex(&node.cluster.me().key) }).await?;
    if let (Some(by), Some(signature)) = (key(&answer, "removed_by"), bytes(&answer, "signature").ok()) {
        return Ok(Told::Removed { by, signature });
    }
    let members = answer.get("members").and_then(Body::as_list).unwrap_or_default();
    Ok(Told::Members(members.iter().take(MEMBERS_MAX).filter_map(read).collect()))
}

/// A member's place; nothing when it is spelled as none.
fn read(member: &Body) -> Option<Whereabouts> {
    let member = member.as_map()?;
    let key = key(member, "node_key")?;
    let cluster_address = member.text("cluster_addr").filter(|text| is_cluster_address(text))?.to_owned();
    Some(Whereabouts { key, cluster_address })
}

fn key(map: &Map, name: &str) -> Option<[u8; 32]> {
    bytes(map, name).ok()?.try_into().ok()
}

/// How a member's place is spelled in an answer.
#[must_use]
pub fn spell(member: Whereabouts) -> Map {
    map! { "node_key" => to_hex(&member.key), "cluster_addr" => member.cluster_address }
}
