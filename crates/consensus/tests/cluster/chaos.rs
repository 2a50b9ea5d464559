//! Lives of whole clusters in which everything fails, by seed: cuts, losses, pauses, crashes of processes and of power,
//! members that come and go, leadership that is handed over, nodes that are sealed. Then everything heals, and what
//! clients were told must be what all nodes hold.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tresor_consensus::{Change, Consensus, ConsensusError, NodeId};
use tresor_storage::machine::Effect;
use tresor_storage::suite::key;
use tresor_storage::{Batch, Machine, MemoryMachine, RawKey, Stored};

use crate::history::{History, Wrote};
use crate::world::{World, contact, play};

/// Steps in which things fail.
const STEPS: u64 = 900;
const KEYS: u64 = 4;

type Shared = Arc<Mutex<History>>;

fn own_name(number: u64) -> String {
    format!("w{number}")
}

/// Writes one value to a key, and the same under the write's own name.
async fn write(node: Arc<Consensus>, machine: MemoryMachine, history: Shared, key_name: String) {
    let version = machine.applied().version.next();
    let (number, begun) = {
        let mut history = history.lock().unwrap();
        (history.begin_write(&key_name, version.0), history.begin(&key_name))
    };
    let value = number.to_le_bytes().to_vec();
    let writes = [(key(&key_name), Some(value.clone())), (key(&own_name(number)), Some(value))].into();
    let batch = Batch { is_dispensable: is_dispensable(&key_name), ..Batch::new(version, writes) };
    let ended = match node.propose(Arc::new(batch)).await {
        Ok(Effect::Applied) => Wrote::Yes,
        Ok(Effect::Fenced(_)) | Err(ConsensusError::NotLeader { .. } | ConsensusError::Stopped(_)) => Wrote::No,
        Err(_) => Wrote::Perhaps,
    };
    history.lock().unwrap().end_write(number, ended, begun);
}

/// Whether the batches that write a key are called so.
fn is_dispensable(key_name: &str) -> bool {
    matches!(key_name, "k2" | "k3")
}

/// A read that does without whatever it may do without sees of everything else as much as any.
async fn read_leniently(node: Arc<Consensus>, machine: MemoryMachine, history: Shared, key_name: String) {
    let begun = history.lock().unwrap().begin(&key_name);
    let Ok(both) = node.confirm_both().await else { return };
    assert!(both.indispensable <= both.index, "{both:?}");
    node.applied(both.indispensable).await;
    let seen = seen(&machine, &key_name);
    history.lock().unwrap().end_read(&key_name, seen, if is_dispensable(&key_name) { 0 } else { begun });
}

async fn read(node: Arc<Consensus>, machine: MemoryMachine, history: Shared, key_name: String) {
    let begun = history.lock().unwrap().begin(&key_name);
    let Ok(index) = node.confirm().await else { return };
    node.applied(index).await;
    let seen = seen(&machine, &key_name);
    history.lock().unwrap().end_read(&key_name, seen, begun);
}

fn seen(machine: &MemoryMachine, key_name: &str) -> Option<(u64, u64)> {
    let stored = machine.snapshot().unwrap().read(&key(key_name)).unwrap()?;
    Some((u64::from_le_bytes(stored.bytes.try_into().unwrap()), stored.version.0))
}

fn digest(dump: &[(RawKey, Stored)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, stored) in dump {
        (key.as_bytes(), stored.version.0, &stored.bytes).hash(&mut hasher);
    }
    hasher.finish()
}

impl World {
    /// Something that goes wrong, or right again.
    async fn accident(&mut self) {
        let all: Vec<NodeId> = self.hosts.keys().copied().collect();
        let some = all[usize::try_from(self.pick(all.len() as u64)).unwrap()];
        let other = all[usize::try_from(self.pick(all.len() as u64)).unwrap()];
        let choice = self.pick(16);
        match choice {
            0 | 1 => {
                let both = self.pick(3) > 0;
                let mut state = self.wires.state.lock().unwrap();
                state.cut.insert((some, other));
                if both {
                    state.cut.insert((other, some));
                }
            }
            2 => {
                let mut state = self.wires.state.lock().unwrap();
                for node in &all {
                    state.cut.extend([(some, *node), (*node, some)]);
                }
            }
            3 | 4 => self.wires.state.lock().unwrap().cut.clear(),
            5 => {
                let (lost, slowness) = (self.pick(2) * self.pick(100), 1 + self.pick(12));
                let mut state = self.wires.state.lock().unwrap();
                (state.lost, state.slowness) = (lost, slowness);
            }
            6 => drop(self.wires.state.lock().unwrap().paused.insert(some)),
            7 | 8 => self.wires.state.lock().unwrap().paused.clear(),
            9 | 10 => {
                if self.hosts[&some].node.is_some() {
                    self.kill(some, choice == 9).await;
                } else {
                    self.start(some).await;
                }
            }
            11 => self.start_all().await,
            12 | 13 => self.hosts[&some].machine.persist(),
            14 => {
                if let Some(node) = &self.hosts[&some].node {
                    node.set_sealed(self.pick(2) == 0);
                }
            }
            _ => {
                if let Some(leader) = self.leader() {
                    self.order(leader, some);
                }
            }
        }
    }

    /// Something that an operator asks of the leader.
    fn order(&self, leader: NodeId, node: NodeId) {
        let at = self.node(leader);
        // Of the last three with a vote none goes, or chance would end the cluster.
        let voters = at.members().nodes.values().filter(|member| member.is_voter).count();
        let choice = self.pick(if voters > 3 { 6 } else { 5 });
        self.tasks.spawn(async move {
            match choice {
                0 => drop(at.change(Change::Add(node, contact(node))).await),
                1 => drop(at.change(Change::Promote(node)).await),
                2 => drop(at.change(Change::Demote(node)).await),
                3 => drop(at.change(Change::Contact(node, contact(node))).await),
                5 => drop(at.change(Change::Remove(node)).await),
                _ => drop(at.hand_over().await),
            }
        });
    }

    async fn start_all(&mut self) {
        let down: Vec<NodeId> = self.hosts.iter().filter(|(_, host)| host.node.is_none()).map(|(id, _)| *id).collect();
        for id in down {
            self.start(id).await;
        }
    }

    async fn heal(&mut self) {
        {
            let mut state = self.wires.state.lock().unwrap();
            state.cut.clear();
            state.paused.clear();
            (state.lost, state.slowness) = (0, 1);
        }
        self.start_all().await;
        for host in self.hosts.values() {
            host.node.as_ref().unwrap().set_sealed(false);
        }
    }

    /// Whether every member has applied what a node has.
    fn all_agree(&self, with: NodeId) -> bool {
        let held = self.hosts[&with].machine.applied();
        self.node(with).members().nodes.keys().all(|id| self.hosts[id].machine.applied() == held)
    }

    fn compare(&self, history: &Shared) {
        for host in self.hosts.values() {
            let (position, dump) = (host.machine.applied().position, host.machine.dump());
            history.lock().unwrap().hold(position, digest(&dump));
        }
    }
}

/// One life; what clients were told by its end.
async fn live(seed: u64) -> (usize, usize, BTreeMap<u64, String>) {
    let (voters, others) = if seed.is_multiple_of(3) { (5, 0) } else { (3, 1) };
    let mut world = World::new(seed, voters, others).await;
    let history = Shared::default();
    for step in 0..STEPS {
        if world.pick(12) == 0 {
            world.accident().await;
        }
        let running = world.running();
        if let Some(at) = running.get(usize::try_from(world.pick(running.len().max(1) as u64)).unwrap()) {
            let key_name = format!("k{}", world.pick(KEYS));
            let at = if world.pick(2) == 0 { world.leader().unwrap_or(*at) } else { *at };
            let (node, machine) = (world.node(at), world.hosts[&at].machine.clone());
            match world.pick(4) {
                0 => world.tasks.spawn(write(node, machine, history.clone(), key_name)),
                1 => world.tasks.spawn(read(node, machine, history.clone(), key_name)),
                2 => world.tasks.spawn(read_leniently(node, machine, history.clone(), key_name)),
                _ => {}
            }
        }
        world.step().await;
        if step.is_multiple_of(20) {
            world.compare(&history);
        }
    }
    world.heal().await;
    let leader = world.leader_within(Duration::from_secs(30)).await;
    world.write_somewhere("end", "1", Duration::from_secs(30)).await;
    for _ in 0..40 {
        if world.all_agree(leader) {
            break;
        }
        world.pass(Duration::from_millis(250)).await;
    }
    world.compare(&history);
    let leader = world.leader().unwrap_or(leader);
    let (machine, members) = (world.hosts[&leader].machine.clone(), world.node(leader).members());
    for id in members.nodes.keys() {
        let held = world.hosts[id].machine.applied();
        assert_eq!(held, machine.applied(), "{id} did not catch up: {:?}", world.statuses());
    }
    let told = history.lock().unwrap();
    told.settle(|number| machine.snapshot().unwrap().read(&key(&own_name(number))).unwrap().is_some());
    let ends = told.writes.iter().map(|(number, write)| (*number, format!("{write:?}"))).collect();
    (told.acknowledged, told.reads, ends)
}

fn seeds(range: std::ops::Range<u64>) {
    let (mut acknowledged, mut reads) = (0, 0);
    for seed in range {
        let lived = std::panic::catch_unwind(|| play(live(seed)));
        let Ok((written, read, _)) = lived else { panic!("seed {seed} fails") };
        (acknowledged, reads) = (acknowledged + written, reads + read);
    }
    // Not everything may fail, or nothing was tested.
    assert!(acknowledged > 500 && reads > 500, "{acknowledged} writes, {reads} reads");
}

#[test]
fn clusters_keep_their_promises_whatever_fails_first_half() {
    seeds(0..150);
}

#[test]
fn clusters_keep_their_promises_whatever_fails_second_half() {
    seeds(150..300);
}

#[test]
fn the_same_seed_gives_the_same_life() {
    assert_eq!(play(live(7)), play(live(7)));
}
