//! Nodes, their disks and machines, and time, which passes in steps of five milliseconds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tresor_consensus::{Consensus, ConsensusError, Contact, NodeId, OpenError, Opening, Pace, Role, Survivor};
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_env::{Doors, Tasks};
use tresor_log::Sizes;
use tresor_storage::machine::Effect;
use tresor_storage::suite::key;
use tresor_storage::{Batch, Machine, MemoryMachine};

use crate::wires::{Parcel, Sender, Wires};

pub(crate) const STEP: Duration = Duration::from_millis(5);
/// How often tasks get their turn in a step.
const TURNS: usize = 40;

/// A node, which may be down.
pub(crate) struct Host {
    pub(crate) doors: TestDoors,
    pub(crate) machine: MemoryMachine,
    pub(crate) life: u64,
    pub(crate) node: Option<Arc<Consensus>>,
}

/// The cluster and what is around it.
pub(crate) struct World {
    pub(crate) wires: Arc<Wires>,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) chance: SeededEntropy,
    pub(crate) tasks: Tasks,
    pub(crate) steps: u64,
    /// What the operator says on nodes that are started.
    pub(crate) survivors: Vec<Survivor>,
}

pub(crate) fn contact(id: NodeId) -> Contact {
    Contact {
        name: format!("node-{id}"),
        address: format!("node-{id}:8201"),
        api_address: format!("https://node-{id}:8200"),
        key: vec![1; 32],
    }
}

/// Runs a story on a runtime without threads and without time.
pub(crate) fn play<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(story)
}

impl World {
    /// A cluster of so many voters, and so many more nodes that belong to nothing yet; it has a leader.
    pub(crate) async fn new(seed: u64, voters: u64, others: u64) -> Self {
        let mut world = Self {
            wires: Wires::new(seed),
            hosts: BTreeMap::new(),
            chance: SeededEntropy::new(seed ^ 0x5eed),
            tasks: Tasks::new(),
            steps: 0,
            survivors: Vec::new(),
        };
        for id in 1..=voters + others {
            let doors = TestDoors::new(seed * 100 + id);
            world.hosts.insert(NodeId(id), Host { doors, machine: MemoryMachine::new(), life: 0, node: None });
            world.start(NodeId(id)).await;
        }
        let contacts = (1..=voters).map(|id| (NodeId(id), contact(NodeId(id)))).collect();
        world.node(NodeId(1)).bootstrap(contacts).await.unwrap();
        world.leader_within(Duration::from_secs(5)).await;
        world
    }

    pub(crate) fn pick(&self, below: u64) -> u64 {
        self.chance.next() % below
    }

    pub(crate) async fn start(&mut self, id: NodeId) {
        let node = self.open(id).await.unwrap_or_else(|error| panic!("node {id} does not open: {error:?}"));
        self.hosts.get_mut(&id).unwrap().node = Some(Arc::new(node));
    }

    /// Opens a node in a process of its own.
    pub(crate) async fn open(&mut self, id: NodeId) -> Result<Consensus, OpenError> {
        let wires = Arc::clone(&self.wires);
        let host = self.hosts.get_mut(&id).unwrap();
        host.life += 1;
        let doors = Doors { disk: host.doors.disk.of_process(), ..host.doors.doors.clone() };
        let opening = Opening {
            me: id,
            directory: PathBuf::from("/data/log"),
            sizes: Sizes { first: 4096, max: 16 * 1024 },
            pace: Pace::default(),
            is_sealed: false,
            survivors: self.survivors.clone(),
        };
        let sender = Sender { me: id, life: host.life, wires: Arc::clone(&wires), clock: host.doors.clock.clone() };
        wires.state.lock().unwrap().lives.insert(id, host.life);
        let machine: Arc<dyn Machine> = Arc::new(host.machine.clone());
        Consensus::open(&doors, opening, machine, Arc::new(sender)).await
    }

    /// Ends a node's process; with its power, of what was not synced only what chance keeps is left.
    pub(crate) async fn kill(&mut self, id: NodeId, with_power: bool) {
        let chance = self.chance.next();
        let host = self.hosts.get_mut(&id).unwrap();
        host.node = None;
        host.doors.disk.kill_process();
        if with_power {
            let odds = SeededEntropy::new(chance);
            host.doors.disk.crash_by_sector(|| odds.next().is_multiple_of(2));
        }
        host.machine = host.machine.reopened();
        self.wires.state.lock().unwrap().lives.remove(&id);
        // What is left of the process ends when it is looked at.
        for _ in 0..TURNS {
            yield_now().await;
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> Arc<Consensus> {
        Arc::clone(self.hosts[&id].node.as_ref().expect("the node runs"))
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.hosts.iter().filter(|(_, host)| host.node.is_some()).map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_paused(&self, id: NodeId) -> bool {
        self.wires.state.lock().unwrap().paused.contains(&id)
    }

    /// Lets five milliseconds pass.
    pub(crate) async fn step(&mut self) {
        self.steps += 1;
        for (id, host) in &self.hosts {
            if !self.is_paused(*id) {
                host.doors.clock.advance(STEP);
            }
        }
        for parcel in self.wires.arrivals() {
            self.deliver(parcel);
        }
        for _ in 0..TURNS {
            yield_now().await;
        }
    }

    fn deliver(&self, parcel: Parcel) {
        let lives = self.wires.state.lock().unwrap().lives.clone();
        match parcel {
            Parcel::Message { from, to, life, bytes, reply } => {
                let Some(node) = self.hosts.get(&to).and_then(|host| host.node.as_ref()) else {
                    drop(reply.send(Err(tresor_consensus::PeerError::Unreachable("down".to_owned()))));
                    return;
                };
                let answer = node.answer(from, bytes);
                let wires = Arc::clone(&self.wires);
                let answers = lives[&to];
                self.tasks.spawn(async move {
                    let bytes = answer.await;
                    // A process that is gone by now answers nothing.
                    if wires.state.lock().unwrap().lives.get(&to) == Some(&answers) {
                        wires.send(Parcel::Answer { from: to, to: from, life, bytes, reply });
                    }
                });
            }
            Parcel::Answer { to, life, bytes, reply, .. } => {
                if lives.get(&to) == Some(&life) {
                    drop(reply.send(Ok(bytes)));
                }
            }
        }
    }

    pub(crate) async fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.step().await;
        }
    }

    /// Who calls itself the leader, in the highest term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |(id, host): (&NodeId, &Host)| {
            let status = host.node.as_ref()?.status().read(|status| *status);
            (status.role == Role::Leader && !self.is_paused(*id)).then_some((status.term, *id))
        };
        self.hosts.iter().filter_map(leads).max().map(|(_, id)| id)
    }

    pub(crate) async fn leader_within(&mut self, time: Duration) -> NodeId {
        let until = self.steps + u64::try_from(time.as_millis() / STEP.as_millis()).unwrap();
        loop {
            if let Some(leader) = self.leader() {
                return leader;
            }
            assert!(self.steps < until, "there is no leader: {:?}", self.statuses());
            self.step().await;
        }
    }

    pub(crate) fn statuses(&self) -> Vec<String> {
        let status = |(id, host): (&NodeId, &Host)| match &host.node {
            Some(node) => {
                let status = node.status().read(|status| *status);
                format!("{id}: {status:?}, applied {:?}", host.machine.applied().position)
            }
            None => format!("{id}: down"),
        };
        self.hosts.iter().map(status).collect()
    }

    /// Lets time pass until work is done.
    pub(crate) async fn until<T: Send + 'static>(
        &mut self,
        time: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (done, mut result) = tokio::sync::oneshot::channel();
        self.tasks.spawn(async move { drop(done.send(work.await)) });
        let until = self.steps + u64::try_from(time.as_millis() / STEP.as_millis()).unwrap();
        loop {
            match result.try_recv() {
                Ok(result) => return result,
                Err(_) => assert!(self.steps < until, "it takes too long: {:?}", self.statuses()),
            }
            self.step().await;
        }
    }

    /// Writes a value at a node.
    pub(crate) async fn write(&mut self, at: NodeId, name: &str, value: &str) -> Result<Effect, ConsensusError> {
        let proposal = proposal(&self.hosts[&at].machine, name, value);
        let node = self.node(at);
        self.until(Duration::from_secs(20), async move { node.propose(Arc::new(proposal)).await }).await
    }

    /// Writes until some node takes it; how long that took.
    pub(crate) async fn write_somewhere(&mut self, name: &str, value: &str, within: Duration) -> Duration {
        let begun = self.steps;
        loop {
            if let Some(leader) = self.leader()
                && matches!(self.write(leader, name, value).await, Ok(Effect::Applied))
            {
                return STEP * u32::try_from(self.steps - begun).unwrap();
            }
            let took = STEP * u32::try_from(self.steps - begun).unwrap();
            assert!(took < within, "nobody writes within {within:?}: {:?}", self.statuses());
            self.step().await;
        }
    }

    /// A confirmed read at a node.
    pub(crate) async fn read(&mut self, at: NodeId, name: &str) -> Result<Option<String>, ConsensusError> {
        let (node, machine, name) = (self.node(at), self.hosts[&at].machine.clone(), name.to_owned());
        let read = async move {
            let index = node.confirm().await?;
            node.applied(index).await;
            Ok(read_now(&machine, &name))
        };
        self.until(Duration::from_secs(20), read).await
    }
}

pub(crate) fn proposal(machine: &MemoryMachine, name: &str, value: &str) -> Batch {
    let version = machine.applied().version.next();
    Batch::new(version, [(key(name), Some(value.as_bytes().to_vec()))].into())
}

pub(crate) fn read_now(machine: &MemoryMachine, name: &str) -> Option<String> {
    let stored = machine.snapshot().unwrap().read(&key(name)).unwrap()?;
    Some(String::from_utf8(stored.bytes).unwrap())
}
