//! Nodes that leave the cluster and come back: removed, demoted, or replaced after their disk was lost.
//!
//! At most a minority of the nodes is outside at a time, or what was acknowledged would rightly be gone. Deliberately absent:
//! nodes that were never members; each joins when the world begins, and again after each loss.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tresor_core::cluster::Cluster;
use tresor_env::Tasks;
use tresor_harness::{ROOT, assembly};

use super::Life;

/// How long a removed node may take to know it, when nothing stands in its way.
const KNOWS_WITHIN: Duration = Duration::from_secs(10);
/// How long an operator waits before asking again, and before what was done is undone.
const PAUSE: Duration = Duration::from_secs(1);
/// How far back a lost disk may take records with it that its device had not written yet.
const UNWRITTEN: Duration = Duration::from_secs(5);
/// The steps of becoming a member again.
#[derive(Debug)]
enum Stage {
    /// The operator has its name removed, which may take several attempts.
    Leaving,
    /// It is to know that it was removed, from some moment on at which nothing stands in its way.
    Told { undisturbed_since: Option<Duration> },
    /// It is a new machine, and is let in, by shares.
    Joining,
    /// It has the log, and no vote until some time, once that is certain.
    Demoted { until: Duration, is_certain: bool },
}

/// A node that is outside.
#[derive(Debug)]
pub(super) struct Outside {
    stage: Stage,
    /// As what it was a member.
    key: [u8; 32],
    /// Whether it is a new machine already.
    is_new: bool,
    /// What is being asked because of it.
    errand: Option<Errand>,
    since: Duration,
    not_before: Duration,
}

/// What an operator asks and waits for.
struct Errand {
    status: oneshot::Receiver<u16>,
    _driver: Tasks,
}

impl std::fmt::Debug for Errand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("asking")
    }
}

impl Errand {
    fn begin(doing: impl Future<Output = u16> + Send + 'static) -> Self {
        let ((done, status), driver) = (oneshot::channel(), Tasks::new());
        driver.spawn(async move {
            // Who asked may be gone.
            let _ = done.send(doing.await);
        });
        Self { status, _driver: driver }
    }
}

impl Life {
    fn may_leave(&self, node: usize) -> bool {
        self.changes && !self.outside.contains_key(&node) && (self.outside.len() + 1) * 2 < self.count
    }

    fn leave(&mut self, node: usize, stage: Stage, errand: Option<Errand>) {
        let key = self.world.cluster(node).me().key;
        let since = self.world.now();
        self.outside.insert(node, Outside { stage, key, is_new: false, errand, since, not_before: since });
    }

    /// Whether a node is no member, or may not know yet that it is one.
    pub(super) fn is_stranger(&self, node: usize) -> bool {
        self.outside.get(&node).is_some_and(|outside| !matches!(outside.stage, Stage::Demoted { .. }))
    }

    /// Whether a node is to be started and opened by whoever mends the cluster.
    pub(super) fn is_at_home(&self, node: usize) -> bool {
        !self.is_stranger(node)
    }

    /// A node and its disk are gone; another machine comes in its place.
    pub(super) async fn lose_disk(&mut self, node: usize) {
        if !self.may_leave(node) {
            return;
        }
        self.leave(node, Stage::Leaving, None);
        self.end(node).await;
        self.replace(node, self.world.now());
        self.outside.get_mut(&node).into_iter().for_each(|outside| outside.is_new = true);
        self.say(format!("n{node} is gone with its disk"));
        if self.random.chance(50) {
            self.world.start(node).await;
        }
    }

    /// The machine of a node that does not run is another one from now on. Since it was a member and open, its device may have
    /// written nothing.
    fn replace(&mut self, node: usize, since: Duration) {
        self.records.excuse(since.saturating_sub(UNWRITTEN), self.world.now());
        self.records.keep(self.world.disk(node));
        self.world.lose_disk(node);
        self.report.disks_lost += 1;
    }

    /// A node is removed, or loses its vote for a while.
    pub(super) fn change_members(&mut self, node: usize) {
        if !self.may_leave(node) {
            return;
        }
        self.report.members_changed += 1;
        if self.random.chance(50) {
            self.say(format!("n{node} is to be removed"));
            self.leave(node, Stage::Leaving, None);
        } else {
            self.say(format!("n{node} is to lose its vote"));
            let until = self.world.now() + Duration::from_millis(self.random.next() % 4000);
            let asking = Errand::begin(self.operator("demote", node));
            self.leave(node, Stage::Demoted { until, is_certain: false }, Some(asking));
        }
    }

    /// An operator asks any node that runs, and answers with the status.
    fn operator(&mut self, what: &str, node: usize) -> impl Future<Output = u16> + Send + use<> {
        let running = self.world.running();
        let at = self.random.pick(&running).copied();
        let body = json!({ "server_id": format!("n{node}") });
        let request = assembly::request("POST", &format!("sys/storage/raft/{what}"), ROOT, &body);
        let asking = at.map(|at| self.world.sending(at, request));
        async move {
            match asking {
                Some(asking) => asking.await.status,
                None => 503,
            }
        }
    }

    /// Every node that is outside comes a step further, if it can.
    pub(super) async fn tend_members(&mut self) -> Result<(), String> {
        for node in self.outside.keys().copied().collect::<Vec<_>>() {
            let Some(mut outside) = self.outside.remove(&node) else { continue };
            if self.tend(node, &mut outside).await? {
                self.say(format!("n{node} votes again"));
            } else {
                self.outside.insert(node, outside);
            }
        }
        Ok(())
    }

    /// Whether it is a voter again.
    async fn tend(&mut self, node: usize, outside: &mut Outside) -> Result<bool, String> {
        let now = self.world.now();
        let status = match &mut outside.errand {
            None => None,
            Some(errand) => match errand.status.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Ok(false),
                Err(oneshot::error::TryRecvError::Closed) => return Err("an operator's request panicked".to_owned()),
                Ok(status) => Some(status),
            },
        };
        if let Some(status) = status {
            outside.errand = None;
            outside.not_before = now + PAUSE;
            self.say(format!("about n{node}, {:?}: {status}", outside.stage));
        }
        let is_running = self.world.running().contains(&node);
        match &mut outside.stage {
            Stage::Leaving => {
                let is_gone = self.is_member(outside.key) == Some(false);
                if is_gone && outside.is_new {
                    outside.stage = Stage::Joining;
                } else if is_gone {
                    outside.stage = Stage::Told { undisturbed_since: None };
                } else if now >= outside.not_before {
                    // Only while it is one, or who joins by that name would be removed.
                    outside.errand = Some(Errand::begin(self.operator("remove-peer", node)));
                }
            }
            Stage::Told { undisturbed_since } => {
                if !is_running || self.world.is_paused(node) {
                    *undisturbed_since = None;
                } else if self.world.cluster(node).is_removed() {
                    let answer = self.world.call(node, "GET", "sys/health", "", Value::Null).await;
                    if answer.status != 530 {
                        return Err(format!("n{node} was removed and does not say so: {answer:?}"));
                    }
                    self.end(node).await;
                    self.replace(node, outside.since);
                    self.say(format!("n{node} knows that it was removed, and is wiped"));
                    (outside.stage, outside.is_new) = (Stage::Joining, true);
                } else if self.is_member(outside.key) == Some(true) {
                    // The leader that had removed it took nobody along.
                    outside.stage = Stage::Leaving;
                } else if self.is_disturbed(node) {
                    *undisturbed_since = None;
                } else if now > *undisturbed_since.get_or_insert(now) + KNOWS_WITHIN {
                    return Err(format!("n{node} was removed and never knows it"));
                }
            }
            Stage::Joining => return self.let_in(node, outside, is_running).await,
            Stage::Demoted { until, is_certain } => {
                *is_certain |= status.is_some_and(|status| status < 500);
                if now < outside.not_before {
                    return Ok(false);
                }
                if !*is_certain {
                    outside.errand = Some(Errand::begin(self.operator("demote", node)));
                } else if now >= *until && is_running {
                    if self.votes(node) {
                        return Ok(true);
                    }
                    outside.errand = Some(Errand::begin(self.operator("promote", node)));
                }
            }
        }
        Ok(false)
    }

    /// Starts a new machine, opens it when it waits for that, and looks whether it votes.
    async fn let_in(&mut self, node: usize, outside: &mut Outside, is_running: bool) -> Result<bool, String> {
        if !is_running {
            self.world.start(node).await;
            self.say(format!("n{node} starts anew"));
            return Ok(false);
        }
        let now = self.world.now();
        if self.world.is_paused(node) || now < outside.not_before {
            return Ok(false);
        }
        if self.is_member(outside.key) == Some(true) {
            // The leader that had removed it took nobody along.
            outside.stage = Stage::Leaving;
            return Ok(false);
        }
        let standing = self.world.node(node).standing().map_err(|fault| fault.for_operators())?;
        if standing.sealed && standing.facts.initialized {
            let entering = self.world.entering_shares(node);
            outside.errand = Some(Errand::begin(async move { if entering.await.is_ok() { 200 } else { 503 } }));
        } else if !standing.sealed && self.votes(node) {
            return Ok(true);
        } else if !standing.sealed && self.random.below(400) == 0 {
            outside.errand = Some(Errand::begin(self.operator("promote", node)));
        }
        Ok(false)
    }

    /// The keys of the members, and whether they vote, as the leader knows them.
    fn members(&self) -> Option<impl Iterator<Item = ([u8; 32], bool)>> {
        let leader = self.world.active()?;
        Some(self.world.cluster(leader).members().into_iter().map(|member| (member.contact.key, member.is_voter)))
    }

    /// Whether the leader knows a key as a member's.
    fn is_member(&self, key: [u8; 32]) -> Option<bool> {
        self.members().map(|mut members| members.any(|(known, _)| known == key))
    }

    /// Whether the leader counts a node, as it is now, as a voter.
    fn votes(&self, node: usize) -> bool {
        let key = self.world.cluster(node).me().key;
        self.members().is_some_and(|mut members| members.any(|member| member == (key, true)))
    }

    /// Ends a node's process, with what it is asked.
    pub(super) async fn end(&mut self, node: usize) {
        self.forget(node);
        if self.world.running().contains(&node) {
            self.world.kill(node).await;
        }
    }

    /// Errands at a node end with its process.
    pub(super) fn drop_errand(&mut self, node: usize) {
        if let Some(outside) = self.outside.get_mut(&node).filter(|outside| matches!(outside.stage, Stage::Joining)) {
            outside.errand = None;
        }
    }
}
