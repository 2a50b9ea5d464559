//! Who may talk to whom: pinned keys and nothing else; also when addresses, certificates or the membership change.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::{Log, PORT, World, at, ip};
use tresor_env::Clock;
use tresor_env::doubles::ManualClock;
use tresor_peers::{AskError, Lane, Member, Members, NodeId, Parting, Trouble};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn without(members: &Members, node: u64) -> Members {
    Members::new(members.iter().filter(|(id, _)| id.0 != node).map(|(id, member)| (id, member.clone()))).unwrap()
}

#[tokio::test]
async fn a_node_that_is_no_member_is_refused_before_anything_it_sends_is_read_and_both_logs_say_so() {
    let log = Log::default();
    let _kept = log.keep();
    let mut world = World::new(2, 1).await;
    // Node 2 knows everybody, and nobody knows it.
    world.add(NodeId(2), world.clock.clone(), 2);
    let with_2 = world.members(PORT);
    world.start(2, PORT, with_2).await;
    for lane in Lane::ALL {
        assert_eq!(world.ask(2, 0, lane, b"e").await, Err(AskError::Unreachable(Trouble::NotAdmitted)));
    }
    assert_eq!(world.nodes[0].worker.counts(), (0, 0));
    log.assert_says("cannot reach a node node=0 lane=Urgent reason=this node's key is not in its membership");
    log.assert_says("refused a connection to the cluster port from=10.0.0.2:");
    log.assert_says("reason=it proved no key of this node's membership");
    // As soon as it is known, it may.
    world.peers(0).set_members(world.members(PORT)).unwrap();
    world.pass(2 * SECOND).await;
    world.assert_reaches(2, 0).await;
    world.assert_reaches(0, 2).await;
    // Node 1 was never told.
    assert_eq!(world.ask(2, 1, Lane::Urgent, b"e").await, Err(AskError::Unreachable(Trouble::NotAdmitted)));
}

#[tokio::test]
async fn a_second_node_that_claims_an_id_with_another_key_is_refused_and_is_told_nothing() {
    let mut world = World::new(2, 1).await;
    // An impostor takes over the host of node 1, with a key of its own.
    world.fabric.kill(ip(1));
    let sound = world.nodes.remove(1);
    world.add(NodeId(1), world.clock.clone(), 4711);
    assert_ne!(sound.key, world.nodes[1].key);
    world.start(1, PORT, world.members(PORT)).await;
    world.pass(2 * SECOND).await;
    assert_eq!(world.ask(0, 1, Lane::Entries, b"e").await, Err(AskError::Unreachable(Trouble::WrongKey)));
    assert_eq!(world.ask(1, 0, Lane::Entries, b"e").await, Err(AskError::Unreachable(Trouble::NotAdmitted)));
    assert_eq!((world.nodes[0].worker.counts().0, world.nodes[1].worker.counts().0), (0, 0));
}

#[tokio::test]
async fn a_removed_node_is_cut_off_at_once_and_learns_why() {
    let world = World::new(3, 1).await;
    world.assert_reaches(1, 0).await;
    world.assert_reaches(0, 1).await;
    let hangs = world.peers(1).ask(NodeId(0), Lane::Urgent, Bytes::from_static(b"h"), 60 * SECOND);
    let removed = async {
        world.clock.sleep(Duration::from_millis(10)).await;
        world.peers(0).set_members(without(&world.members(PORT), 1)).unwrap();
    };
    let began = world.clock.monotonic();
    let (answer, ()) = world.drive(async { tokio::join!(hangs, removed) }).await;
    assert_eq!(answer, Err(AskError::Lost(Trouble::Parted(Parting::Removed))));
    assert!(world.clock.monotonic() - began < Duration::from_millis(50));
    assert_eq!(world.nodes[0].worker.counts().1, 1, "its work goes on");
    assert_eq!(world.ask(0, 1, Lane::Urgent, b"e").await, Err(AskError::NotAMember));
    assert_eq!(world.ask(1, 0, Lane::Urgent, b"e").await, Err(AskError::Unreachable(Trouble::NotAdmitted)));
    world.assert_reaches(0, 2).await;
}

#[tokio::test]
async fn all_addresses_may_change_at_once() {
    let mut world = World::new(3, 1).await;
    for node in 0..3 {
        world.fabric.kill(ip(node));
    }
    world.start_all(9999).await;
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        world.assert_reaches(from, to).await;
    }
    // And while they run: whoever waited to try the old one again tries the new one.
    world.fabric.kill(ip(2));
    world.pass(3 * SECOND).await;
    let before = world.members(9999);
    let members = before.iter().map(|(id, member)| {
        let addresses = if id.0 == 2 { vec![at(2, 4444).to_string()] } else { member.addresses.clone() };
        (id, Member { addresses, ..member.clone() })
    });
    let members = Members::new(members).unwrap();
    world.start(2, 4444, members.clone()).await;
    for node in 0..2 {
        world.peers(node).set_members(members.clone()).unwrap();
    }
    let within = Duration::from_millis(50);
    assert!(world.ask_within(0, 2, Lane::Urgent, b"e", within).await.is_ok());
}

#[tokio::test]
async fn certificates_are_made_anew_by_themselves_for_as_long_as_a_node_runs() {
    let world = World::new(2, 1).await;
    let began = world.clock.wall();
    world.assert_reaches(0, 1).await;
    // Ten days in steps in which the connections live, with a message on its way each time a new certificate comes.
    for step in 0..40 {
        let waits = world.peers(0).ask(NodeId(1), Lane::Entries, Bytes::from_static(b"s\x05"), HOUR * 7);
        let passes = async {
            world.clock.sleep(Duration::from_millis(1)).await;
            world.leap(HOUR * 6).await;
            for _ in 0..3 {
                world.clock.sleep(SECOND).await;
            }
        };
        let (answer, ()) = world.drive(async { tokio::join!(waits, passes) }).await;
        assert!(answer.is_ok(), "step {step}: {answer:?}");
        world.assert_reaches(0, 1).await;
        world.assert_reaches(1, 0).await;
    }
    assert!(world.clock.wall().since(began) > 10 * 24 * HOUR);
    // Connections that are made now prove themselves with certificates of now.
    world.fabric.break_between(ip(0), ip(1));
    world.pass(2 * SECOND).await;
    world.assert_reaches(0, 1).await;
    world.assert_reaches(1, 0).await;
}

/// Two nodes of which the second has a clock of its own.
async fn with_clocks_apart(apart: Duration, ahead: bool) -> World {
    let mut world = World::new(1, 1).await;
    let now = world.clock.wall();
    let nanos = i64::try_from(apart.as_nanos()).unwrap();
    let theirs = if ahead { now.nanos() + nanos } else { now.nanos() - nanos };
    world.add(NodeId(1), Arc::new(ManualClock::starting_at(tresor_env::Timestamp::from_nanos(theirs))), 1);
    world.fabric.kill(ip(0));
    world.start_all(PORT).await;
    world
}

#[tokio::test]
async fn clocks_may_differ_by_most_of_a_day_and_no_more() {
    for ahead in [false, true] {
        let world = with_clocks_apart(HOUR * 23, ahead).await;
        for _ in 0..3 {
            world.assert_reaches(0, 1).await;
            world.assert_reaches(1, 0).await;
            world.leap(HOUR * 11).await;
            world.pass(6 * SECOND).await;
        }
        let world = with_clocks_apart(HOUR * 49, ahead).await;
        world.settle().await;
        let found: Vec<_> = [world.ask(0, 1, Lane::Bulk, b"e").await, world.ask(1, 0, Lane::Bulk, b"e").await]
            .into_iter()
            .map(|answer| match answer {
                Err(AskError::Unreachable(trouble)) => trouble,
                other => panic!("an expired certificate was taken: {other:?}"),
            })
            .collect();
        let outdated = [Trouble::OutOfDate, Trouble::FoundOutOfDate];
        assert!(found.iter().all(|trouble| outdated.contains(trouble)), "{found:?}");
        assert_eq!((world.nodes[0].worker.counts().0, world.nodes[1].worker.counts().0), (0, 0));
    }
}

#[tokio::test]
async fn who_is_removed_by_what_it_asked_is_still_told_so_and_nothing_more() {
    let world = World::new(3, 1).await;
    let ask =
        |message: &'static [u8], lane| world.peers(1).ask(NodeId(0), lane, Bytes::from_static(message), SECOND * 5);
    let removes = ask(b"s\x64", Lane::Requests);
    let (hangs, urgent) = (ask(b"h", Lane::Requests), ask(b"s\x64", Lane::Urgent));
    let removed = async {
        world.clock.sleep(Duration::from_millis(20)).await;
        world.peers(0).set_members(without(&world.members(PORT), 1)).unwrap();
        world.clock.sleep(Duration::from_millis(20)).await;
        let begun = world.nodes[0].worker.counts().0;
        (ask(b"e", Lane::Requests).await, world.nodes[0].worker.counts().0 - begun)
    };
    let (removes, hangs, urgent, later) = world.drive(async { tokio::join!(removes, hangs, urgent, removed) }).await;
    assert_eq!(removes.as_deref(), Ok(&b"s\x64"[..]));
    let lost = Err(AskError::Lost(Trouble::Parted(Parting::Removed)));
    assert_eq!((hangs, urgent, later), (lost.clone(), lost.clone(), (lost, 0)));
}

#[tokio::test]
async fn a_node_is_found_at_one_of_several_places_and_false_ones_lead_nowhere() {
    let mut world = World::new(3, 1).await;
    world.fabric.kill(ip(1));
    world.start(1, 4444, world.members(PORT)).await;
    // Nothing, what is no address, another member, no host at all; and where it is.
    let places = [at(1, PORT).to_string(), "nowhere".to_owned(), at(2, PORT).to_string(), "10.0.0.9:1".to_owned()];
    let addresses: Vec<String> = places.into_iter().chain([at(1, 4444).to_string()]).collect();
    let known = world.members(PORT);
    let members = known.iter().map(|(id, member)| {
        let addresses = if id.0 == 1 { addresses.clone() } else { member.addresses.clone() };
        (id, Member { addresses, ..member.clone() })
    });
    world.peers(0).set_members(Members::new(members).unwrap()).unwrap();
    world.pass(15 * SECOND).await;
    world.assert_reaches(0, 1).await;
    // A connection that is lost is made again where the node was found.
    world.fabric.kill(ip(1));
    world.start(1, 4444, world.members(PORT)).await;
    world.pass(SECOND / 4).await;
    world.assert_reaches(0, 1).await;
}

#[tokio::test]
async fn one_key_is_one_node() {
    let world = World::new(1, 1).await;
    let member = Member { key: world.nodes[0].key, addresses: Vec::new() };
    let twice = Members::new([(NodeId(3), member.clone()), (NodeId(4), member)]);
    assert_eq!(twice.unwrap_err().to_string(), "nodes 3 and 4 have the same key");
}
