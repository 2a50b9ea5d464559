//! The network between nodes: every message waits for its time, which the test's seed chooses, and may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tresor_consensus::{Contact, Lane, Members, NodeId, PeerError, Peers};
use tresor_env::doubles::{ManualClock, SeededEntropy};
use tresor_env::{BoxFuture, Clock};

type Reply = oneshot::Sender<Result<Vec<u8>, PeerError>>;

/// A message or an answer on its way.
pub(crate) enum Parcel {
    Message { from: NodeId, to: NodeId, life: u64, bytes: Vec<u8>, reply: Reply },
    Answer { from: NodeId, to: NodeId, life: u64, bytes: Vec<u8>, reply: Reply },
}

impl Parcel {
    pub(crate) fn ends(&self) -> (NodeId, NodeId) {
        match self {
            Self::Message { from, to, .. } | Self::Answer { from, to, .. } => (*from, *to),
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    /// In the order of their times.
    under_way: BTreeMap<(u64, u64), Parcel>,
    sent: u64,
    pub(crate) now: u64,
    /// From where to where nothing comes through.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Of a thousand messages, how many are lost.
    pub(crate) lost: u64,
    /// How many steps a message takes at most.
    pub(crate) slowness: u64,
    pub(crate) paused: BTreeSet<NodeId>,
    /// Which life each node is in; those that are down have none.
    pub(crate) lives: BTreeMap<NodeId, u64>,
}

/// The network.
pub(crate) struct Wires {
    pub(crate) state: Mutex<State>,
    chance: SeededEntropy,
}

impl Wires {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State { slowness: 1, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), chance: SeededEntropy::new(seed) })
    }

    pub(crate) fn send(&self, parcel: Parcel) {
        let mut state = self.state.lock().unwrap();
        let (from, to) = parcel.ends();
        let is_lost = self.chance.next() % 1000 < state.lost;
        if is_lost || state.cut.contains(&(from, to)) {
            // Half of the time the sender knows at once.
            if let (Parcel::Message { reply, .. }, true) = (parcel, self.chance.next().is_multiple_of(2) && !is_lost) {
                drop(reply.send(Err(PeerError::Unreachable("cut".to_owned()))));
            }
            return;
        }
        let at = state.now + 1 + self.chance.next() % state.slowness.max(1);
        state.sent += 1;
        let number = state.sent;
        state.under_way.insert((at, number), parcel);
    }

    /// How many messages and answers there were.
    pub(crate) fn sent(&self) -> u64 {
        self.state.lock().unwrap().sent
    }

    /// What arrives at this step.
    pub(crate) fn arrivals(&self) -> Vec<Parcel> {
        let mut state = self.state.lock().unwrap();
        state.now += 1;
        let now = state.now;
        let due: Vec<(u64, u64)> = state.under_way.range(..(now + 1, 0)).map(|(key, _)| *key).collect();
        let mut arrived = Vec::new();
        for key in due {
            let parcel = state.under_way.remove(&key).unwrap();
            let (from, to) = parcel.ends();
            if state.paused.contains(&from) || state.paused.contains(&to) {
                state.under_way.insert((now + 1, key.1), parcel);
                continue;
            }
            if state.cut.contains(&(from, to)) {
                continue;
            }
            arrived.push(parcel);
        }
        arrived
    }
}

/// One life of a node, as it sends.
pub(crate) struct Sender {
    pub(crate) me: NodeId,
    pub(crate) life: u64,
    pub(crate) wires: Arc<Wires>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Peers for Sender {
    fn ask(
        &self,
        to: NodeId,
        _: &Contact,
        _: Lane,
        message: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, PeerError>> {
        let (reply, answered) = oneshot::channel();
        let life = self.wires.state.lock().unwrap().lives.get(&self.me).copied();
        if life == Some(self.life) {
            self.wires.send(Parcel::Message { from: self.me, to, life: self.life, bytes: message, reply });
        }
        let late = self.clock.sleep(deadline);
        Box::pin(async move {
            // A reply that is dropped is a message that is lost: the sender finds out by waiting.
            let answered = async {
                match answered.await {
                    Ok(answer) => answer,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = answered => answer,
                () = late => Err(PeerError::Lost("late".to_owned())),
            }
        })
    }

    fn know(&self, _: &Members) {}
}
