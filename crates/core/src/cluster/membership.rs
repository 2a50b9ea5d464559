//! Changes of the members, on the leader: who joins, gets a vote or loses it, and who is removed.
//!
//! By joining, a node becomes a member only as [`Admitted`], which is made of a proof. It gets its vote by itself once it has
//! the log; until then the store remembers that it is to have one ([`Roster`]), so that whoever leads next goes on. What is
//! remembered is stored before the members are changed when it must not be forgotten, and a step that was done twice changes
//! nothing. A node that is dead is removed, when the operator wants that. Deliberately absent: what is proven
//! ([`join`](super::join)), the joining node's side ([`joining`](super::joining)), and what makes a node dead
//! ([`autopilot`](super::autopilot)).

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tresor_barrier::{Barrier, CommitError, JoinKey, Txn};
use tresor_crypto::hash::HmacKey;
use tresor_env::{Entropy, SteadyClock, Tasks};
use tresor_model::{Fault, Operation, Refusal, map};
use tresor_record::Record;

use super::autopilot::{Autopilot, Judged, LOOK, Watch};
use super::join::{Admitted, Applicant, Leader, welcome};
use super::roster::Roster;
use super::{Change, Cluster, Contact, Member, Standing};
use crate::deeds;
use crate::gate::Gate;
use crate::keys;
use crate::node::Node;
use crate::storage::Storage;
use crate::unsealed::Unsealed;

/// A node has the log when it lacks no more entries than this: so many are sent at once.
const LAG_MAX: u64 = 64;
/// A node is there when the leader has heard it within this time.
const HEARD_LATELY: Duration = Duration::from_secs(2);
/// How long a node that was to join and is no member is remembered: its joining may have come to nothing.
const STRANGER_BOUND: Duration = Duration::from_secs(3600);
/// How often a change of the roster is tried that met another one.
const ATTEMPTS: usize = 16;

/// What a node is shown that wants to join.
pub struct Shown {
    /// What it is to prove something over.
    pub challenge: Vec<u8>,
    /// Key slots and key ring, as they are stored.
    pub offer: Vec<u8>,
}

/// What a node is told that joined.
pub struct Welcome {
    /// The members, itself among them.
    pub members: Vec<Contact>,
    /// The proof that these are.
    pub proof: [u8; 32],
    /// Whether it was none before.
    pub is_new: bool,
}

/// The members of the cluster of an unsealed node.
pub struct Membership {
    cluster: Arc<dyn Cluster>,
    barrier: Barrier,
    store: Arc<Storage>,
    clock: SteadyClock,
    entropy: Arc<dyn Entropy>,
    join: JoinKey,
    challenges: HmacKey,
    /// What this node saw of the others since it leads.
    watch: Mutex<Watch>,
}

impl Membership {
    pub(crate) fn new(
        cluster: Arc<dyn Cluster>,
        barrier: &Barrier,
        store: Arc<Storage>,
        clock: SteadyClock,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let (join, challenges) = (barrier.join_key(), barrier.challenge_key());
        Self { cluster, barrier: barrier.clone(), store, clock, entropy, join, challenges, watch: Mutex::default() }
    }

    /// The term in which this node leads.
    fn term(&self) -> Result<u64, Fault> {
        if !self.cluster.has_log() {
            return Err(Fault::invalid("raft storage is not in use"));
        }
        match self.cluster.standing() {
            Standing::Leads { term } => Ok(term),
            Standing::Follows(_) | Standing::Leaderless => Err(not_leader()),
        }
    }

    fn leader(&self, term: u64) -> Leader<'_> {
        Leader { challenges: &self.challenges, join: &self.join, term, now: self.clock.now() }
    }

    fn contacts(&self) -> Vec<Contact> {
        self.cluster.members().into_iter().map(|member| member.contact).collect()
    }

    /// What a node is shown that wants to join; nothing is kept for it.
    ///
    /// # Errors
    /// When this node does not lead, or the store cannot be read.
    pub(crate) fn challenge(&self, name: &str, key: &[u8; 32]) -> Result<Shown, Fault> {
        let term = self.term()?;
        let offer = self.store.offer()?.encode();
        let mut nonce = [0; 16];
        self.entropy.fill(&mut nonce);
        Ok(Shown { challenge: self.leader(term).challenge(nonce, name, key), offer })
    }

    /// Makes a node a member that proves that it could open the store.
    ///
    /// # Errors
    /// When it does not, when this node does not lead, or when the members cannot be changed now.
    pub(crate) async fn admit(&self, challenge: &[u8], applicant: Applicant, proof: &[u8]) -> Result<Welcome, Fault> {
        let leader = self.leader(self.term()?);
        let (name, roster) = (applicant.name().to_owned(), self.roster()?);
        let admitted = leader.admit(challenge, applicant, proof, &self.contacts(), &roster).map_err(|refused| {
            tracing::warn!(name, cause = %refused, "a node was not let into the cluster");
            Fault::invalid(refused.public())
        })?;
        let (contact, is_new) = (admitted.contact().clone(), !admitted.is_known());
        if is_new {
            self.add(admitted).await?;
        }
        let mut members = self.contacts();
        if members.iter().all(|member| member.key != contact.key) {
            members.push(contact);
        }
        let proof = welcome(&self.join, challenge, &members);
        Ok(Welcome { members, proof, is_new })
    }

    async fn add(&self, admitted: Admitted) -> Result<(), Fault> {
        let (contact, now) = (admitted.contact().clone(), self.clock.now());
        if admitted.wants_vote() {
            let mut has_room = true;
            let remembered = self.change_roster(|roster| {
                has_room = roster.await_vote(&contact.key, now);
                has_room
            });
            remembered.await?;
            if !has_room {
                return Err(Refusal::Unavailable("too many nodes wait for their votes".into()).into());
            }
        }
        self.cluster.change(Change::Add(admitted)).await?;
        tracing::info!(name = contact.name, address = contact.cluster_address, "a node joined the cluster");
        Ok(())
    }

    /// Removes a node; it joins again only with another key.
    ///
    /// # Errors
    /// When there is no such node, too few would be left to agree, or the members cannot be changed now.
    pub async fn remove(&self, name: &str) -> Result<(), Fault> {
        self.can_do_without(name)?;
        if let Some(key) = self.key_of(name) {
            let now = self.clock.now();
            // Before, or it could join again in between. For a member that stays one it means nothing.
            let remembered = self.change_roster(|roster| {
                roster.remove(&key, name, now);
                true
            });
            remembered.await?;
        }
        self.cluster.change(Change::Remove(name.to_owned())).await?;
        tracing::info!(name, "a node was removed from the cluster");
        Ok(())
    }

    /// Gives a node a vote.
    ///
    /// # Errors
    /// When there is no such node, or the members cannot be changed now.
    pub async fn promote(&self, name: &str) -> Result<(), Fault> {
        self.cluster.change(Change::Promote(name.to_owned())).await?;
        self.settle(name).await
    }

    /// Takes a node's vote, for good.
    ///
    /// # Errors
    /// When there is no such node, too few would be left to agree, or the members cannot be changed now.
    pub async fn demote(&self, name: &str) -> Result<(), Fault> {
        self.can_do_without(name)?;
        // Before, or it would get its vote again.
        self.settle(name).await?;
        Ok(self.cluster.change(Change::Demote(name.to_owned())).await?)
    }

    /// Refuses to take a vote when that would begin and not end, and would block every other change of the members.
    fn can_do_without(&self, name: &str) -> Result<(), Fault> {
        let refused = |few| {
            let way_out = "remove those first that are gone, bring them back, or see `peers.json` when most are lost";
            Fault::invalid(format!("the vote of `{name}` cannot be taken now: {few}; {way_out}"))
        };
        self.judged()?.can_do_without(name).map_err(refused)
    }

    /// A node waits for no vote any more.
    async fn settle(&self, name: &str) -> Result<(), Fault> {
        let Some(key) = self.key_of(name) else { return Ok(()) };
        self.change_roster(|roster| roster.settle(&key)).await
    }

    fn key_of(&self, name: &str) -> Option<[u8; 32]> {
        self.contacts().into_iter().find(|member| member.name == name).map(|member| member.key)
    }

    fn roster(&self) -> Result<Roster, Fault> {
        read_roster(&mut self.barrier.begin().map_err(Fault::internal)?)
    }

    /// Whether a node was a member and is none any more, for good.
    pub(crate) fn has_removed(&self, key: &[u8; 32]) -> Result<bool, Fault> {
        // What is remembered is remembered before the members are changed; that may still come to nothing.
        let indexes = self.cluster.indexes();
        Ok(indexes.members <= indexes.committed && self.roster()?.was_removed(key))
    }

    /// Stores the roster as it is changed, when it is.
    async fn change_roster(&self, mut change: impl FnMut(&mut Roster) -> bool) -> Result<(), Fault> {
        let key = keys::roster().map_err(Fault::internal)?;
        for _ in 0..ATTEMPTS {
            let mut txn = self.barrier.begin().map_err(Fault::internal)?;
            let mut roster = read_roster(&mut txn)?;
            if !change(&mut roster) {
                return Ok(());
            }
            txn.write(&key, &roster.encode()).map_err(Fault::internal)?;
            match self.barrier.commit(txn).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(other) => return Err(Fault::internal(other)),
            }
        }
        Err(Refusal::Unavailable("the members are changed by many at once".into()).into())
    }

    /// What this node, as the leader, makes of the others.
    ///
    /// # Errors
    /// When it does not lead, or the store fails.
    pub fn judged(&self) -> Result<Judged, Fault> {
        self.term()?;
        let rules = Autopilot::stored(&mut self.barrier.begin().map_err(Fault::internal)?)?;
        let (members, last) = (self.cluster.members(), self.cluster.indexes().last);
        Ok(self.watch.lock().unwrap_or_else(PoisonError::into_inner).judge(&rules, last, &members))
    }

    /// Gives votes to nodes that have the log by now, and removes one that is dead; tells which.
    async fn tend(&self) -> Result<Option<String>, Fault> {
        let Standing::Leads { term } = self.cluster.standing() else { return Ok(None) };
        let rules = Autopilot::stored(&mut self.barrier.begin().map_err(Fault::internal)?)?;
        let (members, last) = (self.cluster.members(), self.cluster.indexes().last);
        let judged = {
            let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.look(&rules, self.clock.now(), term, last, &members);
            watch.judge(&rules, last, &members)
        };
        self.give_votes(&judged, &members, last).await?;
        let Some(dead) = judged.dead(&rules) else { return Ok(None) };
        tracing::warn!(name = dead.contact.name, silent_for = ?dead.silent_for, "a node is dead, and is removed");
        self.remove(&dead.contact.name).await?;
        Ok(Some(dead.contact.name.clone()))
    }

    async fn give_votes(&self, judged: &Judged, members: &[Member], last: u64) -> Result<(), Fault> {
        let roster = self.roster()?;
        if !roster.is_anybody_waiting() {
            return Ok(());
        }
        let is_stable = |key| judged.servers.iter().any(|server| server.contact.key == key && server.is_stable);
        for Member { contact, is_voter, heard_ago, matched, .. } in members {
            if !roster.awaits_vote(&contact.key) {
                continue;
            }
            let is_there = heard_ago.is_some_and(|ago| ago <= HEARD_LATELY);
            let has_the_log = matched.is_some_and(|matched| last.saturating_sub(matched.index) <= LAG_MAX);
            if *is_voter {
                self.change_roster(|roster| roster.settle(&contact.key)).await?;
            } else if is_there && has_the_log && is_stable(contact.key) {
                self.promote(&contact.name).await?;
                tracing::info!(name = contact.name, "a node that joined has the log, and votes");
            }
        }
        let now = self.clock.now();
        let is_member = |key: &[u8]| members.iter().any(|member| member.contact.key == key);
        let is_old = |roster: &mut Roster| roster.forget_strangers(now, STRANGER_BOUND, is_member);
        self.change_roster(is_old).await
    }
}

impl Node {
    /// What a node is shown that wants to join this one's cluster.
    ///
    /// # Errors
    /// When this node is sealed or does not lead.
    pub fn challenge(&self, name: &str, key: &[u8; 32]) -> Result<Shown, Fault> {
        self.unsealed().ok_or(Refusal::Sealed)?.handles.membership.challenge(name, key)
    }

    /// Lets a node into this one's cluster that proves that it could open the store.
    ///
    /// # Errors
    /// When it does not, or this node is sealed or does not lead.
    pub async fn admit(&self, challenge: &[u8], applicant: Applicant, proof: &[u8]) -> Result<Welcome, Fault> {
        let unsealed = self.unsealed().ok_or(Refusal::Sealed)?;
        let _inside = unsealed.gate.enter().ok_or(Refusal::Sealed)?;
        let body = map! { "server_id" => applicant.name() };
        let welcome = unsealed.handles.membership.admit(challenge, applicant, proof).await?;
        if welcome.is_new {
            deeds::record(&unsealed, "sys/storage/raft/joined", Operation::Create, body).await;
        }
        Ok(welcome)
    }
}

fn read_roster(txn: &mut Txn) -> Result<Roster, Fault> {
    let stored = txn.read(&keys::roster().map_err(Fault::internal)?).map_err(Fault::internal)?;
    stored.map_or_else(|| Ok(Roster::default()), |bytes| Roster::decode(&bytes).map_err(Fault::internal))
}

/// What is told whoever asked a node that does not lead.
fn not_leader() -> Fault {
    Refusal::Unavailable("this node does not lead the cluster".into()).into()
}

/// Starts giving votes to nodes that joined, and removing those that are dead, on the leader.
pub(crate) fn start(unsealed: &Arc<Unsealed>, tasks: &Tasks) {
    let membership = &unsealed.handles.membership;
    if membership.cluster.has_log() {
        tasks.spawn(run(Arc::downgrade(unsealed), membership.clock.clone(), unsealed.gate.clone()));
    }
}

async fn run(unsealed: Weak<Unsealed>, clock: SteadyClock, gate: Gate) {
    let mut told = String::new();
    loop {
        tokio::select! {
            biased;
            () = gate.closed() => return,
            () = clock.sleep(LOOK) => {}
        }
        let Some(unsealed) = unsealed.upgrade() else { return };
        match unsealed.handles.membership.tend().await {
            Ok(None) => {}
            Ok(Some(removed)) => {
                let body = map! { "server_id" => removed };
                deeds::record(&unsealed, "sys/storage/raft/cleaned-up", Operation::Delete, body).await;
            }
            Err(fault) => {
                let cause = fault.for_operators();
                if cause != told {
                    tracing::warn!(cause, "the members are not as they should be yet; it is tried again");
                }
                told = cause;
            }
        }
    }
}
