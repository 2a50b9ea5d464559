//! Three nodes on hosts of a simulated network: what the port, the log and the core's door promise together.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tresor_core::cluster::{About, Change, Cluster, ClusterError, Forwarded, Message, Needed, Standing, Whereabouts};
use tresor_env::doubles::{Fabric, InlineWorkers, ManualClock, MemoryDisk, SeededEntropy};
use tresor_env::{BoxFuture, Timestamp};
use tresor_storage::MemoryMachine;

use super::*;

const TICK: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

fn ip(node: usize) -> IpAddr {
    [10, 0, 0, u8::try_from(node).unwrap()].into()
}

/// Makes a node a member, as if it had proven that it may be one.
fn add(node: &Nodes) -> tresor_consensus::Change {
    tresor_consensus::Change::Add(node.me, node.contact.clone())
}

/// Gives back what it is asked, after a while; counts what it began and what it brought to its end.
#[derive(Default)]
struct Echo {
    begun: AtomicU32,
    ended: AtomicU32,
}

struct Answering(Arc<Echo>, Arc<ManualClock>);

impl Forwarded for Answering {
    fn answer(&self, _: &str, message: Message) -> BoxFuture<'static, Message> {
        let (echo, clock) = (Arc::clone(&self.0), Arc::clone(&self.1));
        Box::pin(async move {
            echo.begun.fetch_add(1, Ordering::SeqCst);
            clock.sleep(SECOND).await;
            echo.ended.fetch_add(1, Ordering::SeqCst);
            message
        })
    }

    fn hand_over(&self, message: Message) -> Message {
        message
    }

    fn take_report(&self, message: Message) -> Message {
        message
    }
}

struct Host {
    disk: Arc<MemoryDisk>,
    machine: MemoryMachine,
    nodes: Option<Arc<Nodes>>,
}

impl Host {
    fn new() -> Self {
        Self { disk: Arc::new(MemoryDisk::new()), machine: MemoryMachine::new(), nodes: None }
    }
}

struct World {
    clock: Arc<ManualClock>,
    fabric: Fabric,
    hosts: Vec<Host>,
}

impl World {
    fn new(count: usize) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(1_767_225_600)));
        let fabric = Fabric::new(clock.clone(), 7);
        Self { clock, fabric, hosts: (0..count).map(|_| Host::new()).collect() }
    }

    /// Starts a node on an address of its host.
    async fn start(&mut self, at: usize, port: u16) {
        let doors = Doors {
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(at as u64 + 1)),
            disk: self.hosts[at].disk.of_process(),
            net: self.fabric.host(ip(at)),
            outgoing: Arc::new(tresor_env::outgoing::NoWayOut),
            surroundings: Arc::new(tresor_env::surroundings::Bare),
            custody: Arc::new(tresor_env::custody::Nobody),
            workers: Arc::new(InlineWorkers),
        };
        let opening = NodeOpening {
            directory: "/data".into(),
            name: Some(format!("n{at}")),
            listen: Some(SocketAddr::new(ip(at), port)),
            address: None,
            api_address: format!("https://n{at}:8200"),
        };
        let machine = Arc::new(self.hosts[at].machine.clone());
        let nodes = self.drive(Nodes::open(&doors, opening, machine)).await.unwrap();
        nodes.set_sealed(false);
        self.hosts[at].nodes = Some(nodes);
    }

    /// Ends a process without a word.
    async fn kill(&mut self, at: usize) {
        self.fabric.kill(ip(at));
        self.hosts[at].disk.kill_process();
        self.hosts[at].nodes = None;
        self.hosts[at].machine = self.hosts[at].machine.reopened();
        self.pass(TICK).await;
    }

    fn node(&self, at: usize) -> Arc<Nodes> {
        Arc::clone(self.hosts[at].nodes.as_ref().unwrap())
    }

    /// Drives a future to its end, letting time pass while nothing else can happen.
    async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        for _ in 0..20_000 {
            for _ in 0..40 {
                if let Poll::Ready(done) =
                    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
                {
                    return done;
                }
                tokio::task::yield_now().await;
            }
            self.clock.advance(TICK);
        }
        panic!("it takes longer than 100 seconds");
    }

    async fn pass(&self, time: Duration) {
        self.drive(self.clock.sleep(time)).await;
    }

    /// A cluster that the first one founded.
    async fn founded(count: usize) -> Self {
        let mut world = Self::new(count);
        for at in 0..count {
            world.start(at, 8201).await;
        }
        let first = world.node(0);
        world.drive(first.consensus.bootstrap([(first.me, first.contact.clone())].into())).await.unwrap();
        world.leads(0).await;
        for at in 1..count {
            let node = world.node(at);
            let members = first.members().into_iter().map(|member| member.contact).collect();
            assert!(!node.is_member());
            node.adopt(members).unwrap();
            world.drive(first.consensus.change(add(&node))).await.unwrap();
            world.drive(first.change(Change::Promote(format!("n{at}")))).await.unwrap();
            assert!(node.is_member());
        }
        for at in 1..count {
            world.follows(at, 0).await;
        }
        world.pass(SECOND).await;
        world
    }

    async fn leads(&self, at: usize) {
        let node = self.node(at);
        self.drive(async {
            let mut standing = node.standing();
            while !standing.leads() {
                standing = node.changed(standing).await;
            }
        })
        .await;
    }

    /// Who leads, as a node sees it, once that is somebody else than before.
    async fn another_leads(&self, seen: usize, before: &str) -> usize {
        let node = self.node(seen);
        let name = self.drive(async {
            let mut standing = node.standing();
            loop {
                match standing {
                    Standing::Leads { .. } if before != node.me().name => return node.me().name,
                    Standing::Follows(leader) if leader.name != before => return leader.name,
                    known => standing = node.changed(known).await,
                }
            }
        });
        name.await.trim_start_matches('n').parse().unwrap()
    }

    async fn follows(&self, at: usize, leader: usize) {
        let (node, leader) = (self.node(at), self.node(leader).me());
        self.drive(async {
            let mut standing = node.standing();
            while standing != Standing::Follows(leader.clone()) {
                standing = node.changed(standing).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn three_nodes_are_a_cluster_and_what_is_forwarded_is_answered_by_the_leader() {
    let world = World::founded(3).await;
    assert_eq!(world.node(0).standing(), Standing::Leads { term: world.node(0).status().term });
    world.drive(world.node(2).confirm(Needed::Everything, Duration::from_secs(10))).await.unwrap();
    assert!(world.node(2).indexes().applied >= world.node(0).indexes().applied);
    let told: Vec<_> =
        world.node(0).members().into_iter().map(|member| (member.contact.name.clone(), member)).collect();
    assert_eq!(told.len(), 3);
    for (name, member) in told {
        assert!(member.is_voter && member.is_leader == (name == "n0"), "{name}");
        assert!(
            member.heard_ago.unwrap() < SECOND && member.matched.unwrap().index == world.node(0).indexes().last,
            "{member:?}"
        );
    }
    world.pass(6 * SECOND).await;
    let versions = world.node(0).members().into_iter().map(|member| member.version);
    assert!(versions.eq(std::iter::repeat_n(Some(tresor_wire::API_LEVEL.to_owned()), 3)), "each told it");
    let indexes = world.node(0).indexes();
    assert!(indexes.members > 0 && indexes.members <= indexes.committed && indexes.applied == indexes.committed);
    // Before anybody can answer, nothing is done.
    let none = world.drive(world.node(1).ask_leader(About::Request, Message::new(b"a".to_vec()), SECOND)).await;
    assert!(matches!(none, Err(ClusterError::Unreachable(_))));
    let echo = Arc::new(Echo::default());
    world.node(0).answer_with(Arc::new(Answering(Arc::clone(&echo), world.clock.clone())));
    assert_eq!(
        world
            .drive(world.node(1).ask_leader(About::Request, Message::new(b"a".to_vec()), 5 * SECOND))
            .await
            .unwrap()
            .as_slice(),
        b"a"
    );
    // What was begun comes to its end, though nobody waits any more.
    let lost = world.drive(world.node(2).ask_leader(About::Request, Message::new(b"b".to_vec()), SECOND / 2)).await;
    assert!(matches!(lost, Err(ClusterError::Uncertain)));
    world.pass(SECOND).await;
    assert_eq!((echo.begun.load(Ordering::SeqCst), echo.ended.load(Ordering::SeqCst)), (2, 2));
    let own = world.drive(world.node(0).ask_leader(About::Request, Message::new(b"c".to_vec()), SECOND)).await;
    assert!(matches!(own, Err(ClusterError::NotLeader)));
}

#[tokio::test]
async fn a_leader_that_leaves_or_dies_is_followed_by_another() {
    let mut world = World::founded(3).await;
    let before = world.clock.monotonic();
    world.drive(world.node(0).leave()).await;
    let second = world.another_leads(0, "n0").await;
    let took = world.clock.monotonic() - before;
    assert!(took < Duration::from_millis(300), "handing over took {took:?}");
    let before = world.clock.monotonic();
    world.kill(second).await;
    world.another_leads(0, &format!("n{second}")).await;
    let took = world.clock.monotonic() - before;
    assert!(took < Duration::from_millis(1500), "it took {took:?} until another led");
}

#[tokio::test]
async fn a_node_that_moved_tells_the_others_and_is_one_of_them_again() {
    let mut world = World::founded(3).await;
    for (at, port) in [(2, 9001), (0, 9002)] {
        world.kill(at).await;
        world.pass(2 * SECOND).await;
        world.start(at, port).await;
        world.pass(10 * SECOND).await;
        let expected = SocketAddr::new(ip(at), port).to_string();
        for seen in 0..3 {
            let members = world.node(seen).members();
            let moved = members.iter().find(|member| member.contact.name == format!("n{at}")).unwrap();
            assert_eq!(moved.contact.cluster_address, expected, "as n{seen} sees it");
        }
        world.drive(world.node(at).confirm(Needed::Everything, Duration::from_secs(10))).await.unwrap();
    }
}

#[tokio::test]
async fn nodes_that_all_moved_at_once_find_each_other_by_one_that_all_can_ask_whatever_liars_say() {
    for moved in [vec![0, 1, 2], vec![1, 2]] {
        let mut world = World::founded(3).await;
        for at in 0..3 {
            world.kill(at).await;
        }
        for at in 0..3 {
            world.start(at, if moved.contains(&at) { 9000 + u16::try_from(at).unwrap() } else { 8201 }).await;
        }
        world.pass(8 * SECOND).await;
        let has_leader = (0..3).any(|at| world.node(at).standing() != Standing::Leaderless);
        assert!(moved.len() < 3 || !has_leader, "nobody told them yet");
        let lies = |to: &str| -> Vec<Whereabouts> {
            let said = world.node(0).whereabouts().into_iter();
            said.map(|member| Whereabouts { cluster_address: to.to_owned(), ..member }).collect()
        };
        let stranger = Whereabouts { key: [9; 32], cluster_address: "10.0.0.9:1".to_owned() };
        // Who knows of no leader asks the first, which learns where the others are when they reach it.
        let is_lost = |at: &usize| world.node(*at).standing() == Standing::Leaderless;
        while (0..3).any(|at| is_lost(&at)) {
            for at in (0..3).filter(is_lost) {
                let node = world.node(at);
                node.hint("liar", lies("10.0.0.1:9001"));
                node.hint("other liar", [lies("10.0.0.9:1"), vec![stranger.clone()]].concat());
                node.hint("first", world.node(0).whereabouts());
            }
            world.pass(2 * SECOND).await;
        }
        world.pass(15 * SECOND).await;
        for seen in 0..3 {
            let members = world.node(seen).members();
            assert_eq!(members.len(), 3, "nobody became a member by being named");
            for member in members {
                assert_eq!(
                    member.contact,
                    world.node(member.contact.name[1..].parse().unwrap()).me(),
                    "as n{seen} sees it"
                );
            }
            world.drive(world.node(seen).confirm(Needed::Everything, Duration::from_secs(10))).await.unwrap();
        }
    }
}

#[tokio::test]
async fn that_a_node_was_removed_is_believed_of_a_member_that_signs_it_and_while_nobody_leads_it() {
    let mut world = World::founded(3).await;
    let [one, two] = [world.node(1), world.node(2)];
    let me = two.me().key;
    let signature = one.sign_removal(&me);
    let stranger = world.node(0).sign_removal(&me);
    assert!(!two.hear_of_removal(&one.me().key, &stranger), "another key signed it");
    assert!(!two.hear_of_removal(&[9; 32], &signature), "it is no member's key");
    assert!(!two.hear_of_removal(&me, &two.sign_removal(&me)), "it is its own");
    assert!(!two.hear_of_removal(&one.me().key, &one.sign_removal(&[9; 32])), "it is of another");
    assert!(two.hear_of_removal(&one.me().key, &signature));
    assert!(!two.is_removed(), "it has a leader");
    drop((one, two));
    for at in [0, 1] {
        world.kill(at).await;
    }
    world.pass(3 * SECOND).await;
    assert!(world.node(2).is_removed());
}

/// What a node may say of the members: that there is a stranger, which is newer than any log.
fn a_strangers_word() -> vouched::Said {
    let contact =
        Contact { name: "n9".into(), address: "10.0.0.9:8201".into(), api_address: String::new(), key: vec![9; 32] };
    vouched::Said::read(&[u64::MAX.to_le_bytes().to_vec(), contact.spelled()].concat()).unwrap()
}

#[tokio::test]
async fn a_node_that_was_away_while_another_was_replaced_follows_who_came_and_believes_members_alone() {
    let mut world = World::founded(4).await;
    world.kill(3).await;
    world.hosts.push(Host::new());
    world.start(4, 8201).await;
    let first = world.node(0);
    world.node(4).adopt(first.members().into_iter().map(|member| member.contact).collect()).unwrap();
    world.drive(first.consensus.change(add(&world.node(4)))).await.unwrap();
    for change in [Change::Promote("n4".to_owned()), Change::Remove("n1".to_owned())] {
        world.drive(first.change(change)).await.unwrap();
    }
    let gone = world.node(1).me;
    world.kill(1).await;
    // Who is sealed leads nobody.
    for at in [0, 2] {
        world.node(at).set_sealed(true);
    }
    world.leads(4).await;
    world.follows(0, 4).await;
    drop(first);

    // What the leader of before was about to send to it ends.
    world.pass(10 * SECOND).await;
    world.start(3, 8201).await;
    let away = world.node(3);
    let lets_in = || away.port.refusals().0;
    world.pass(2 * SECOND).await;
    assert_eq!((away.standing(), lets_in()), (Standing::Leaderless, 3), "its log names n0, n1 and n2 beside it");
    away.port.take_vouched([(node_id(&PublicKey::new([9; 32])), a_strangers_word())]);
    away.port.take_vouched([(world.node(4).me, a_strangers_word())]);
    assert_eq!(lets_in(), 3, "neither of them is a member, as far as it knows");
    away.port.take_vouched([(gone, a_strangers_word())]);
    assert_eq!(lets_in(), 4);
    assert!(!away.port.pins(&PublicKey::new([9; 32])), "whom it lets in beside vouches for nobody");
    world.follows(3, 4).await;
    world.drive(away.confirm(Needed::Everything, Duration::from_secs(10))).await.unwrap();
    let mut names: Vec<_> = away.members().into_iter().map(|member| member.contact.name).collect();
    names.sort();
    assert_eq!(names, ["n0", "n2", "n3", "n4"]);
    assert_eq!(lets_in(), 3, "what the removed member said went with it");
    away.port.take_vouched([(gone, a_strangers_word())]);
    assert_eq!(lets_in(), 3);
}

#[tokio::test]
async fn a_node_that_is_started_again_before_it_was_let_in_still_knows_who_lets_it_in() {
    let mut world = World::new(3);
    for at in 0..3 {
        world.start(at, 8201).await;
    }
    let first = world.node(0);
    world.drive(first.consensus.bootstrap([(first.me, first.contact.clone())].into())).await.unwrap();
    world.leads(0).await;
    let members: Vec<_> = first.members().into_iter().map(|member| member.contact).collect();
    world.node(1).adopt(members.clone()).unwrap();
    world.kill(1).await;
    world.start(1, 8201).await;
    world.drive(first.consensus.change(add(&world.node(1)))).await.unwrap();
    world.follows(1, 0).await;
    world.pass(SECOND).await;
    // It belongs to a cluster now, and the list is gone.
    assert!(matches!(world.node(1).adopt(members), Err(ClusterError::Refused(_))));
    assert!(!world.hosts[1].disk.dump().contains_key(std::path::Path::new("/data/adopted")));
    let refused = world.drive(first.consensus.change(add(&world.node(1)))).await;
    assert!(matches!(refused, Err(ConsensusError::Members(_))), "{refused:?}");
    let two = world.node(2);
    let twin = Contact { name: "n1".to_owned(), ..two.contact.clone() };
    let refused = world.drive(first.consensus.change(tresor_consensus::Change::Add(two.me, twin))).await;
    assert!(matches!(refused, Err(ConsensusError::Members(_))), "{refused:?}");
    let refused = world.drive(first.change(Change::Promote("n7".to_owned()))).await;
    assert!(matches!(refused, Err(ClusterError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn the_last_node_of_three_goes_on_when_an_operator_says_that_it_is_alone() {
    let mut world = World::founded(3).await;
    let before = world.node(2).indexes().applied;
    for at in 0..3 {
        world.kill(at).await;
    }
    let file = std::path::Path::new("/data/raft/peers.json");
    let disk = world.hosts[2].disk.of_process();
    let text = br#"[{ "id": "n2", "address": "10.0.0.2:8201", "non_voter": false }]"#;
    disk.open(file, tresor_env::disk::Open::New).unwrap().write_all_at(0, text).unwrap();
    world.start(2, 8201).await;
    world.leads(2).await;
    world.drive(world.node(2).confirm(Needed::Everything, Duration::from_secs(10))).await.unwrap();
    let members = world.node(2).members();
    assert_eq!(members.iter().map(|member| member.contact.name.as_str()).collect::<Vec<_>>(), ["n2"]);
    assert!(world.node(2).indexes().applied >= before);
    assert!(!world.hosts[2].disk.dump().contains_key(file), "it is obeyed once");

    // One of those that were left out finds nobody, and a majority neither.
    world.start(0, 8201).await;
    world.pass(SECOND * 2).await;
    assert_eq!(world.node(0).standing(), Standing::Leaderless);
    assert_eq!(world.node(2).members().len(), 1);
}
