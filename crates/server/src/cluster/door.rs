//! The core's door to the other nodes, over consensus and the port.
//!
//! The core calls nodes by their names; here they are looked up. Deliberately absent: any decision about members.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tresor_consensus::{Consensus, ConsensusError, NodeId, Status};
use tresor_core::cluster::{
    About, Change, Cluster, ClusterError, Contact, Entry, Forwarded, Indexes, Member, Message, Needed, Standing,
    Whereabouts,
};
use tresor_env::BoxFuture;
use tresor_metrics::Reading;
use tresor_peers::PublicKey;
use tresor_wire::API_LEVEL;

use super::hints::Voice;
use super::inbox::{answered, asking};
use super::{Nodes, node_id};

type Known = tresor_consensus::Contact;

fn of_core(contact: Contact) -> Known {
    let Contact { name, key, cluster_address, api_address } = contact;
    Known { name, address: cluster_address, api_address, key: key.to_vec() }
}

/// A member's contact; one whose key is none of ours has none.
fn to_core(known: &Known) -> Option<Contact> {
    Some(Contact {
        name: known.name.clone(),
        key: known.key.as_slice().try_into().ok()?,
        cluster_address: known.address.clone(),
        api_address: known.api_address.clone(),
    })
}

fn refused(why: impl Into<String>) -> ClusterError {
    ClusterError::Refused(why.into())
}

fn failed(error: ConsensusError) -> ClusterError {
    match error {
        ConsensusError::NotLeader { .. } => ClusterError::NotLeader,
        ConsensusError::Uncertain => ClusterError::Uncertain,
        ConsensusError::NoQuorum => ClusterError::NoLeader,
        ConsensusError::Members(why) => ClusterError::Refused(why),
        ConsensusError::Stopped(why) => ClusterError::Stopped(why),
    }
}

/// Refuses nodes of which two have one name, or one key.
fn refuse_twice(contacts: &[Contact]) -> Result<(), ClusterError> {
    let names: BTreeSet<&str> = contacts.iter().map(|contact| contact.name.as_str()).collect();
    let keys: BTreeSet<&[u8; 32]> = contacts.iter().map(|contact| &contact.key).collect();
    if names.len() == contacts.len() && keys.len() == contacts.len() {
        return Ok(());
    }
    Err(refused("two nodes have the same name, or the same key"))
}

impl Nodes {
    pub(super) fn status(&self) -> Status {
        self.consensus.status().read(|status| *status)
    }

    fn contact_of(&self, id: NodeId) -> Option<Contact> {
        to_core(&self.consensus.members().nodes.get(&id)?.contact)
    }

    fn id_of(&self, name: &str) -> Result<NodeId, ClusterError> {
        let members = self.consensus.members();
        let found = members.nodes.iter().find(|(_, member)| member.contact.name == name);
        found.map(|(id, _)| *id).ok_or_else(|| refused(format!("no member is called `{name}`")))
    }

    /// A node that others cannot reach is none that they could follow.
    fn refuse_unreachable(&self) -> Result<(), ClusterError> {
        if self.contact.address.is_empty() {
            return Err(refused("other nodes cannot reach this one: set its `cluster_addr`"));
        }
        Ok(())
    }

    fn asked(&self, change: Change) -> Result<tresor_consensus::Change, ClusterError> {
        Ok(match change {
            Change::Add(admitted) => {
                self.refuse_unreachable()?;
                let contact = admitted.into_contact();
                tresor_consensus::Change::Add(node_id(&PublicKey::new(contact.key)), of_core(contact))
            }
            Change::Promote(name) => tresor_consensus::Change::Promote(self.id_of(&name)?),
            Change::Demote(name) => tresor_consensus::Change::Demote(self.id_of(&name)?),
            Change::Remove(name) => tresor_consensus::Change::Remove(self.id_of(&name)?),
        })
    }
}

/// What a member signs of a node that was removed. It is true for good, so it needs no time: a node that comes again has
/// another key.
fn removal(of: &[u8; 32]) -> Vec<u8> {
    [b"tresor removed 1".as_slice(), of].concat()
}

async fn confirmed(consensus: &Consensus, needed: Needed, late: BoxFuture<'static, ()>) -> Result<u64, ClusterError> {
    let confirmed = match needed {
        Needed::Everything => consensus.confirm().await.map(|index| (index, index)),
        Needed::AllButData => consensus.confirm_both().await.map(|both| (both.index, both.indispensable)),
    };
    let (index, awaited) = confirmed.map_err(|error| match error {
        ConsensusError::Stopped(why) => ClusterError::Stopped(why),
        _ => ClusterError::NoLeader,
    })?;
    tokio::select! {
        biased;
        () = consensus.applied(awaited) => Ok(index.saturating_sub(consensus.indexes().applied)),
        // The machine has no room, or this node lags far behind.
        () = late => Err(ClusterError::Behind),
    }
}

impl Cluster for Nodes {
    fn is_enabled(&self) -> bool {
        true
    }

    fn me(&self) -> Contact {
        to_core(&self.contact).unwrap_or_else(|| Contact {
            name: self.contact.name.clone(),
            key: [0; 32],
            cluster_address: String::new(),
            api_address: String::new(),
        })
    }

    fn standing(&self) -> Standing {
        let status = self.status();
        // A node by itself whose disk failed goes on answering what can be read.
        if status.is_leader() || self.consensus.has_the_last_word() {
            return Standing::Leads { term: status.term };
        }
        status.leader.and_then(|id| self.contact_of(id)).map_or(Standing::Leaderless, Standing::Follows)
    }

    fn is_out_of_service(&self) -> bool {
        self.consensus.has_stopped() && !self.consensus.has_the_last_word()
    }

    fn changed(&self, known: Standing) -> BoxFuture<'_, Standing> {
        Box::pin(async move {
            let look = || Some(self.standing()).filter(|now| *now != known);
            tokio::select! {
                biased;
                now = self.consensus.status().wait_until(look) => now,
                now = self.port.told().wait_until(look) => now,
            }
        })
    }

    fn confirm(&self, needed: Needed, within: Duration) -> BoxFuture<'_, Result<u64, ClusterError>> {
        Box::pin(confirmed(&self.consensus, needed, self.clock.sleep(within)))
    }

    fn ask_leader(
        &self,
        about: About,
        message: Message,
        within: Duration,
    ) -> BoxFuture<'_, Result<Message, ClusterError>> {
        let status = self.status();
        if status.is_leader() {
            return Box::pin(std::future::ready(Err(ClusterError::NotLeader)));
        }
        let Some(leader) = status.leader else { return Box::pin(std::future::ready(Err(ClusterError::NoLeader))) };
        let asked = self.port.request(leader, asking(about, message), within);
        Box::pin(async move { answered(asked.await) })
    }

    fn answer_with(&self, handler: Arc<dyn Forwarded>) {
        self.inbox.answer_with(handler);
    }

    fn step_down(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        Box::pin(async move {
            match self.consensus.hand_over().await {
                Ok(_) => Ok(()),
                Err(ConsensusError::NoQuorum) => Err(ClusterError::NotTakenOver),
                Err(error) => Err(failed(error)),
            }
        })
    }

    fn set_sealed(&self, is_sealed: bool) {
        self.consensus.set_sealed(is_sealed);
        self.is_sealed.update(|known| *known = is_sealed);
    }

    fn members(&self) -> Vec<Member> {
        let (members, status, progress) = (self.consensus.members(), self.status(), self.consensus.progress());
        let member = |(id, member): (&NodeId, &tresor_consensus::Member)| {
            let known = progress.get(id);
            let is_me = *id == self.me && status.is_leader();
            let matched = if is_me { Some(self.consensus.indexes().last) } else { known.map(|known| known.matched) };
            Some(Member {
                contact: to_core(&member.contact)?,
                is_voter: member.is_seated,
                is_leader: status.leader == Some(*id),
                heard_ago: if is_me { Some(Duration::ZERO) } else { known.and_then(|progress| progress.heard_ago) },
                matched: matched.map(|at| Entry { term: at.term, index: at.index }),
                version: if *id == self.me { Some(API_LEVEL.to_owned()) } else { self.releases.of(*id) },
            })
        };
        members.nodes.iter().filter_map(member).collect()
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), ClusterError>> {
        let asked = self.asked(change);
        Box::pin(async move { self.consensus.change(asked?).await.map_err(failed) })
    }

    fn is_member(&self) -> bool {
        !self.consensus.is_pristine()
    }

    fn adopt(&self, members: Vec<Contact>) -> Result<(), ClusterError> {
        if self.is_member() {
            return Err(refused("this node belongs to a cluster"));
        }
        self.refuse_unreachable()?;
        refuse_twice(&members)?;
        let others = members.into_iter().filter(|contact| contact.key.as_slice() != self.contact.key);
        self.port.adopt(others.map(of_core).collect()).map_err(|error| ClusterError::Stopped(error.to_string()))
    }

    fn sign_removal(&self, of: &[u8; 32]) -> Vec<u8> {
        self.key.sign(&removal(of)).unwrap_or_default()
    }

    fn hear_of_removal(&self, by: &[u8; 32], signature: &[u8]) -> bool {
        let (by, me) = (PublicKey::new(*by), self.key.public());
        let is_signed = by != me && self.port.pins(&by) && by.verifies(&removal(me.bytes()), signature);
        if is_signed {
            self.is_told_removed.store(true, Ordering::Relaxed);
        }
        is_signed
    }

    fn is_removed(&self) -> bool {
        // A leader that sends it something would disprove it.
        if self.is_told_removed.load(Ordering::Relaxed) && self.status().leader.is_none() {
            return true;
        }
        let members = self.consensus.members();
        if self.consensus.is_pristine() || members.nodes.is_empty() {
            return false;
        }
        // The entry that removes a node may not reach it; then it hears it from those that it still takes for members.
        let (others, refusing) = self.port.refusals();
        let is_refused = self.status().leader.is_none() && refusing * 2 > others;
        !members.nodes.contains_key(&self.me) || is_refused
    }

    fn whereabouts(&self) -> Vec<Whereabouts> {
        let members = self.consensus.members();
        let place = |(id, member): (&NodeId, &tresor_consensus::Member)| {
            let logged = &member.contact;
            let is_known = *id == self.me && !self.contact.address.is_empty();
            let cluster_address = if is_known { self.contact.address.clone() } else { self.port.place(*id, logged) };
            Some(Whereabouts { key: to_core(logged)?.key, cluster_address })
        };
        members.nodes.iter().filter_map(place).collect()
    }

    fn hint(&self, source: &str, said: Vec<Whereabouts>) {
        let said = said.into_iter().map(|member| (node_id(&PublicKey::new(member.key)), member.cluster_address));
        self.port.take_hints(&Voice::At(source.to_owned()), said);
    }

    fn figures(&self) -> Vec<Reading> {
        self.consensus.figures()
    }

    fn indexes(&self) -> Indexes {
        let indexes = self.consensus.indexes();
        Indexes {
            last: indexes.last.index,
            committed: indexes.committed,
            applied: indexes.applied,
            members: self.consensus.members().index,
        }
    }
}
