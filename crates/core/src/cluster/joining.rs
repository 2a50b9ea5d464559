//! How this node becomes a member of a cluster whose store it does not have yet.
//!
//! It asks a leader for a challenge and for what opens its store. A static key opens that at once; otherwise the node waits
//! for shares, which are entered once: they prove that it may join, and open the store when that has arrived. Who failed tries
//! again, later each time. A node that has a store, or belongs to a cluster, never joins one. Deliberately absent: what is
//! proven ([`join`](super::join)), the leader's side ([`membership`](super::membership)), and TLS.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tresor_barrier::{JoinKey, Offer, SealFacts, UnsealError, UnsealKey};
use tresor_crypto::hash::to_hex;
use tresor_env::BoxFuture;
use tresor_model::{Body, Fault, Map, Refusal, map};
use tresor_secret::SecretString;

use super::join::{Applicant, is_welcome, prove};
use super::{Contact, Needed};
use crate::key_service::Wanted;
use crate::node::{Command, Node};
use crate::opening::{self, NotOpened, OpeningProblem};
use crate::pipeline::CONFIRMED_WITHIN;

/// The two routes of a leader.
pub const CHALLENGE: &str = "sys/storage/raft/bootstrap/challenge";
/// Where a node proves that it may join.
pub const ANSWER: &str = "sys/storage/raft/bootstrap/answer";

/// How soon a node that did not join tries again at first, and at the latest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How often a node looks whether the store that it joined has arrived.
const ARRIVAL: Duration = Duration::from_millis(50);
/// How long who enters the last share waits for the node to have joined and opened.
const SHARE_BOUND: Duration = Duration::from_secs(20);
/// How long who enters a share waits for a leader.
const PATIENCE: Duration = Duration::from_secs(6);
/// The most members that a leader may name.
const MEMBERS_MAX: usize = 1024;

/// A node of a cluster that may lead it, as the joining node reaches it: its API.
pub trait LeaderDoor: Send + Sync {
    /// Its address, for the log.
    fn address(&self) -> &str;

    /// Writes to one of its routes, and gives the answer, which is bounded.
    ///
    /// # Errors
    /// Why there is none, for the operator.
    fn ask(&self, path: &'static str, body: Map) -> BoxFuture<'_, Result<Map, String>>;
}

/// Where a leader is, as an operator says it.
pub struct LeaderAddress {
    /// Its API, with scheme.
    pub api_address: String,
    /// Who its certificate is to be of, in PEM; the authorities of the system when there is none.
    pub ca_certificate: Option<String>,
    /// The certificate that this node shows, in PEM.
    pub client_certificate: Option<String>,
    /// The key of that.
    pub client_key: Option<SecretString>,
    /// The name that the leader's certificate is to have.
    pub tls_server_name: Option<String>,
}

/// Opens doors to leaders.
pub trait LeaderDoors: Send + Sync {
    /// Opens one; nothing is sent yet.
    ///
    /// # Errors
    /// What is wrong with the address or a certificate.
    fn open(&self, leader: LeaderAddress) -> Result<Arc<dyn LeaderDoor>, String>;
}

/// What the operator configured.
#[derive(Clone)]
pub struct Joining {
    /// Opens doors to the leaders that are named later.
    pub doors: Arc<dyn LeaderDoors>,
    /// The nodes to join, of which any may lead; none: the node waits to be initialised, or told.
    pub retry_join: Vec<Arc<dyn LeaderDoor>>,
    /// Whether the node is never to vote.
    pub non_voter: bool,
}

/// How far the node has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does not join, or was not answered yet.
    Outside,
    /// It waits for shares of this seal.
    Offered(SealFacts),
    /// It has joined, and its store arrives.
    Joined(SealFacts),
}

impl Standing {
    /// What is known of the seal, as long as nothing is stored.
    pub(crate) const fn facts(&self) -> Option<&SealFacts> {
        match self {
            Self::Outside => None,
            Self::Offered(facts) | Self::Joined(facts) => Some(facts),
        }
    }
}

/// Whom to join, and as what.
pub(crate) struct Wish {
    pub(crate) leaders: Vec<Arc<dyn LeaderDoor>>,
    pub(crate) wants_vote: bool,
}

/// What waits for shares.
pub(crate) struct Offered {
    pub(crate) offer: Offer,
    pub(crate) wish: Arc<Wish>,
}

/// What became of an attempt.
pub(crate) enum Tried {
    /// The node has joined, or never will: it has a store.
    Settled,
    /// It waits for shares.
    Waits,
}

impl Node {
    /// Whether the node could still join a cluster: it has no store, and belongs to none.
    pub(crate) fn is_outside(&self) -> bool {
        let has_joined = matches!(**self.joining.load(), Standing::Joined(_));
        self.cluster.is_enabled() && !has_joined && !self.cluster.is_member() && !self.has_store()
    }

    /// Whether it is a node among others; then there is a store, though after a start it may take a moment until it is seen.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.cluster.is_enabled() && self.cluster.members().len() > 1
    }

    /// Waits until a node among others sees its store: what its log has counts once a leader says so.
    pub(crate) async fn store_is_known(&self) -> Result<(), Fault> {
        let mut patience = self.sleep(PATIENCE);
        while self.is_one_of_several() && !self.has_store() && self.joining.load().facts().is_none() {
            tokio::select! {
                biased;
                () = self.sleep(ARRIVAL) => {}
                () = &mut patience => {
                    return Err(Refusal::Unavailable("the node has not heard of a leader yet".into()).into());
                }
            }
        }
        Ok(())
    }

    /// Joins the cluster of a leader; whether that is done, as far as it can be before shares are entered. When it cannot be
    /// done now, it is tried until it is, if the caller wants that.
    ///
    /// # Errors
    /// A refusal when the node is no node of a cluster, or was not let in.
    pub async fn join(&self, leader: LeaderAddress, is_kept_up: bool, non_voter: bool) -> Result<bool, Fault> {
        let joining = self.settings.joining.as_ref().filter(|_| self.cluster.has_log());
        let joining = joining.ok_or_else(|| Fault::invalid("raft storage is not in use"))?;
        let leaders = vec![joining.doors.open(leader).map_err(Fault::invalid)?];
        let wish = Arc::new(Wish { leaders, wants_vote: !non_voter });
        self.ask(|answer| Command::Join { wish, is_kept_up, answer }).await
    }

    /// Joins the cluster that the operator configured, in the background; a member asks there where the others are, whenever
    /// it does not find them.
    pub fn join_by_itself(self: &Arc<Self>) {
        let Some(joining) = self.settings.joining.as_ref().filter(|_| self.cluster.has_log()) else { return };
        self.find_others();
        if self.is_outside() && !joining.retry_join.is_empty() {
            let wish = Wish { leaders: joining.retry_join.clone(), wants_vote: !joining.non_voter };
            self.tasks.spawn(seek(Arc::downgrade(self), Arc::new(wish)));
        } else if self.cluster.is_member() && !self.has_store() {
            // It was let in before the process ended, and the store had not arrived.
            self.tasks.spawn(arrive_by_itself(Arc::downgrade(self)));
        }
    }
}

/// From now on shares open what a leader showed; whether they are of another seal than those that were entered before.
pub(crate) fn begin_to_wait(node: &Node, offered: &Offered) -> Result<bool, Fault> {
    if !node.is_outside() {
        return Err(Fault::invalid("the node has a store already"));
    }
    let waits = Standing::Offered(offered.offer.facts());
    let is_new = **node.joining.load() != waits;
    if is_new {
        node.publish_attempt(0, String::new());
        node.joining.store(Arc::new(waits));
        tracing::info!("the node waits for shares to join its cluster");
    }
    Ok(is_new)
}

/// Takes the members of the cluster that the node was let into.
pub(crate) fn adopt(node: &Node, members: Vec<Contact>, facts: SealFacts) -> Result<(), Fault> {
    if node.has_store() {
        return Err(Fault::invalid("the node has a store already"));
    }
    node.cluster.adopt(members)?;
    node.joining.store(Arc::new(Standing::Joined(facts)));
    tracing::info!("the node has joined its cluster, and waits for what is stored");
    Ok(())
}

/// Tries until it is settled, or the node waits for shares.
pub(crate) async fn seek(node: Weak<Node>, wish: Arc<Wish>) {
    let (mut pause, mut told) = (PAUSES.0, String::new());
    loop {
        let Some(strong) = node.upgrade() else { return };
        let Err(cause) = attempt(&strong, &wish).await else { return };
        if cause != told {
            tracing::warn!(cause, "the node has not joined its cluster yet; it tries again");
        }
        told = cause;
        let pausing = strong.sleep(pause);
        drop(strong);
        pausing.await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Tries once, and then again in the background if that is wanted; answers whether it was done at once.
pub(crate) async fn on_demand(
    node: Weak<Node>,
    wish: Arc<Wish>,
    is_kept_up: bool,
    answer: oneshot::Sender<Result<bool, Fault>>,
) {
    let Some(strong) = node.upgrade() else { return };
    let tried = attempt(&strong, &wish).await;
    drop(strong);
    match tried {
        Ok(_) => drop(answer.send(Ok(true))),
        Err(cause) if is_kept_up => {
            tracing::warn!(cause, "the node has not joined its cluster yet; it tries again");
            drop(answer.send(Ok(false)));
            seek(node, wish).await;
        }
        Err(cause) => {
            // Strangers ask this, too: what became of an address that they named is not for them.
            tracing::warn!(cause, "the node did not join the cluster that it was told");
            let text = "failed to join raft cluster: the server's log says why";
            drop(answer.send(Err(Refusal::Unavailable(text.into()).into())));
        }
    }
}

/// Asks each leader in turn, until one lets the node in or shows it what it has to open.
pub(crate) async fn attempt(node: &Arc<Node>, wish: &Arc<Wish>) -> Result<Tried, String> {
    if !node.is_outside() {
        // It may have been let in by a process before, and nobody opens what arrives now.
        node.tasks.spawn(arrive_by_itself(Arc::downgrade(node)));
        return Ok(Tried::Settled);
    }
    let mut causes = Vec::new();
    for leader in &wish.leaders {
        match knock(node, wish, &**leader).await {
            Ok(tried) => return Ok(tried),
            Err(cause) => causes.push(format!("{}: {cause}", leader.address())),
        }
    }
    Err(causes.join("; "))
}

async fn knock(node: &Arc<Node>, wish: &Arc<Wish>, leader: &dyn LeaderDoor) -> Result<Tried, String> {
    let shown = ask_to_be_shown(node, leader).await?;
    let Some(seal) = &node.settings().auto_seal else { return wait_for_shares(node, wish, shown.offer).await };
    let stored = shown.offer.stored_keys();
    let keys = match opening::read_keys(&node.doors, &node.clock, seal, &stored, Wanted::Opening).await {
        Ok(keys) => keys,
        Err(NotOpened { problem: OpeningProblem::NoSlot, cause }) => {
            tracing::warn!(cause, "the node waits for shares");
            return wait_for_shares(node, wish, shown.offer).await;
        }
        Err(NotOpened { cause, .. }) => return Err(cause),
    };
    match shown.offer.open_by(&keys) {
        Ok(key) => enter(node, wish, leader, &shown, &key).await?,
        Err(error @ UnsealError::StaticKey(_)) => {
            tracing::warn!(%error, "the key does not open the cluster's store; the node waits for shares");
            return wait_for_shares(node, wish, shown.offer).await;
        }
        Err(error) => return Err(error.to_string()),
    }
    node.tasks.spawn(arrive_by_itself(Arc::downgrade(node)));
    Ok(Tried::Settled)
}

async fn wait_for_shares(node: &Arc<Node>, wish: &Arc<Wish>, offer: Offer) -> Result<Tried, String> {
    let offered = Offered { offer, wish: Arc::clone(wish) };
    node.wait_for_shares(offered).await.map_err(|fault| fault.to_string())?;
    Ok(Tried::Waits)
}

/// What a leader showed.
struct Shown {
    challenge: Vec<u8>,
    offer: Offer,
}

async fn ask_to_be_shown(node: &Node, leader: &dyn LeaderDoor) -> Result<Shown, String> {
    let me = node.cluster.me();
    let body = map! { "server_id" => me.name, "node_key" => to_hex(&me.key) };
    let answer = leader.ask(CHALLENGE, body).await?;
    let challenge = bytes(&answer, "challenge")?;
    let offer = Offer::decode(&bytes(&answer, "offer")?).map_err(|error| error.to_string())?;
    Ok(Shown { challenge, offer })
}

/// Proves that the node may join, and takes the members that the leader proves to be its own.
async fn enter(node: &Node, wish: &Wish, leader: &dyn LeaderDoor, shown: &Shown, key: &JoinKey) -> Result<(), String> {
    let me = node.cluster.me();
    let applicant = Applicant::new(me.clone(), wish.wants_vote).map_err(|error| error.to_string())?;
    let body = map! {
        "server_id" => me.name,
        "node_key" => to_hex(&me.key),
        "cluster_addr" => me.cluster_address,
        "api_addr" => me.api_address,
        "non_voter" => !wish.wants_vote,
        "challenge" => to_hex(&shown.challenge),
        "proof" => to_hex(&prove(key, &shown.challenge, &applicant)),
    };
    let answer = leader.ask(ANSWER, body).await?;
    let members = answer.get("members").and_then(Body::as_list).unwrap_or_default();
    if members.len() > MEMBERS_MAX {
        return Err("the answer names too many members".to_owned());
    }
    let members = members.iter().map(member).collect::<Result<Vec<_>, _>>()?;
    if !is_welcome(key, &shown.challenge, &members, &bytes(&answer, "proof")?) {
        return Err("it did not prove that it is of this cluster: its answer was not taken".to_owned());
    }
    node.adopt(members, shown.offer.facts()).await.map_err(|fault| fault.to_string())
}

fn member(body: &Body) -> Result<Contact, String> {
    let member = body.as_map().ok_or("a member of the answer is none")?;
    let text = |name: &str| member.text(name).unwrap_or_default().to_owned();
    let key = bytes(member, "node_key")?.try_into().map_err(|_| "the key of a member is none")?;
    let (name, cluster_address, api_address) = (text("server_id"), text("cluster_addr"), text("api_addr"));
    Ok(Contact { name, key, cluster_address, api_address })
}

/// How a member is spelled in a leader's answer.
#[must_use]
pub fn spell(member: Contact) -> Map {
    map! {
        "server_id" => member.name,
        "node_key" => to_hex(&member.key),
        "cluster_addr" => member.cluster_address,
        "api_addr" => member.api_address,
    }
}

pub(super) fn bytes(map: &Map, name: &str) -> Result<Vec<u8>, String> {
    map.text(name).and_then(|text| hex::decode(text).ok()).ok_or_else(|| format!("its answer has no `{name}`"))
}

/// Joins by the key that shares were put together to, which opened the offer; answers who entered the last one when the
/// node is open, or did not join at the first attempt, or after some time. The key is kept until the node is open.
pub(crate) async fn by_shares(
    node: Weak<Node>,
    wish: Arc<Wish>,
    key: UnsealKey,
    answer: oneshot::Sender<Result<(), Fault>>,
) {
    let mut answer = Some(answer);
    let mut tell = |result: Result<(), Fault>| {
        let Some(answer) = answer.take() else { return Some(result) };
        // Who went away meanwhile sees it in the log.
        answer.send(result).err()
    };
    let mut pause = PAUSES.0;
    loop {
        let Some(strong) = node.upgrade() else { return };
        let Err(cause) = enter_any(&strong, &wish, &key).await else { break };
        tracing::warn!(cause, "the node has not joined its cluster yet; it tries again");
        tell(Err(Refusal::Unavailable(format!("the node has not joined its cluster yet: {cause}").into()).into()));
        let pausing = strong.sleep(pause);
        drop(strong);
        pausing.await;
        pause = (pause * 2).min(PAUSES.1);
    }
    let Some(bound) = node.upgrade().map(|node| node.sleep(SHARE_BOUND)) else { return };
    let mut arriving = Box::pin(arrived(&node));
    tokio::select! {
        biased;
        () = &mut arriving => {}
        () = bound => {
            tell(Ok(()));
            arriving.await;
        }
    }
    let Some(node) = node.upgrade() else { return };
    if let Some(Err(fault)) = tell(node.open_with(key, None).await) {
        tracing::error!(cause = fault.for_operators(), "the node joined its cluster and does not open: shares do");
    }
}

async fn enter_any(node: &Arc<Node>, wish: &Wish, key: &UnsealKey) -> Result<(), String> {
    if !node.is_outside() {
        return Ok(());
    }
    let mut causes = Vec::new();
    for leader in &wish.leaders {
        let entered = async {
            let shown = ask_to_be_shown(node, &**leader).await?;
            let join = shown.offer.open_with(key).map_err(|error| error.to_string())?;
            enter(node, wish, &**leader, &shown, &join).await
        };
        match entered.await {
            Ok(()) => return Ok(()),
            Err(cause) => causes.push(format!("{}: {cause}", leader.address())),
        }
    }
    Err(causes.join("; "))
}

/// Completes when the store has arrived, with everything that was acknowledged until now, or the node is gone.
async fn arrived(node: &Weak<Node>) {
    while let Some(strong) = node.upgrade() {
        if strong.has_store() && strong.cluster.confirm(Needed::Everything, CONFIRMED_WITHIN).await.is_ok() {
            return;
        }
        let pausing = strong.sleep(ARRIVAL);
        drop(strong);
        pausing.await;
    }
}

/// Opens the node by its static key once the store is there.
pub(crate) async fn arrive_by_itself(node: Weak<Node>) {
    arrived(&node).await;
    if let Some(node) = node.upgrade() {
        node.open_by_itself().await;
    }
}
