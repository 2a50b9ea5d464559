//! Too few voters are left, and an operator says who the members are.

use std::time::Duration;

use tresor_consensus::{Consensus, NodeId, OpenError, Survivor};
use tresor_storage::Machine;
use tresor_storage::machine::Effect;

use crate::promises::isolate;
use crate::world::{World, play, read_now};

const SECOND: Duration = Duration::from_secs(1);

fn survivor(id: NodeId) -> Survivor {
    Survivor { name: format!("node-{id}"), address: format!("elsewhere-{id}:8201"), is_voter: true }
}

/// Ends every process that runs, and starts these with what the operator says.
async fn recover(world: &mut World, nodes: &[NodeId], survivors: Vec<Survivor>) {
    for id in world.running() {
        world.kill(id, true).await;
    }
    world.survivors = survivors;
    for id in nodes {
        world.start(*id).await;
    }
    world.survivors = Vec::new();
}

fn names(node: &Consensus) -> Vec<String> {
    node.members().nodes.values().map(|member| format!("{} {}", member.contact.name, member.contact.address)).collect()
}

#[test]
fn the_last_node_of_three_goes_on_with_everything_that_was_acknowledged() {
    for seed in 0..10 {
        play(async {
            let mut world = World::new(seed, 3, 0).await;
            let leader = world.leader_within(SECOND).await;
            for number in 0..20 {
                world.write(leader, &format!("k{number}"), "1").await.unwrap();
            }
            world.pass(SECOND).await;
            let left = NodeId(seed % 3 + 1);
            for id in world.running().into_iter().filter(|id| *id != left) {
                world.kill(id, true).await;
            }
            world.pass(SECOND * 3).await;
            assert_eq!(world.leader(), None, "a node leads without a majority");
            recover(&mut world, &[left], vec![survivor(left)]).await;
            assert_eq!(world.leader_within(SECOND).await, left);
            for number in 0..20 {
                assert_eq!(world.read(left, &format!("k{number}")).await.unwrap().as_deref(), Some("1"));
            }
            assert!(matches!(world.write(left, "k", "2").await, Ok(Effect::Applied)));
            // It needs to be said once.
            recover(&mut world, &[left], Vec::new()).await;
            assert_eq!(world.leader_within(SECOND).await, left);
            assert_eq!(world.read(left, "k").await.unwrap().as_deref(), Some("2"));
            assert_eq!(names(&world.node(left)), [format!("node-{left} elsewhere-{left}:8201")]);
        });
    }
}

#[test]
fn of_several_that_are_left_the_one_with_more_is_followed() {
    for seed in 0..10 {
        play(async {
            let mut world = World::new(seed, 5, 0).await;
            let leader = world.leader_within(SECOND).await;
            let mut others: Vec<NodeId> = world.running().into_iter().filter(|id| *id != leader).collect();
            let behind = others.remove(usize::try_from(seed).unwrap() % others.len());
            world.write(leader, "first", "1").await.unwrap();
            isolate(&world, behind, true);
            for number in 0..5 {
                world.write(leader, "k", &number.to_string()).await.unwrap();
            }
            world.pass(SECOND).await;
            isolate(&world, behind, false);
            let ahead = others[0];
            recover(&mut world, &[behind, ahead], vec![survivor(behind), survivor(ahead)]).await;
            assert_eq!(world.leader_within(SECOND * 3).await, ahead);
            assert_eq!(world.read(ahead, "k").await.unwrap().as_deref(), Some("4"));
            assert!(matches!(world.write(ahead, "k", "5").await, Ok(Effect::Applied)));
            world.pass(SECOND).await;
            for id in [ahead, behind] {
                let machine = &world.hosts[&id].machine;
                assert_eq!(
                    (read_now(machine, "k").as_deref(), read_now(machine, "first").as_deref()),
                    (Some("5"), Some("1"))
                );
                assert_eq!(names(&world.node(id)).len(), 2);
            }
            assert_eq!(world.hosts[&ahead].machine.applied(), world.hosts[&behind].machine.applied());
        });
    }
}

#[test]
fn a_member_that_was_not_told_learns_it_from_the_log() {
    for seed in 0..10 {
        play(async {
            let mut world = World::new(seed, 3, 0).await;
            let leader = world.leader_within(SECOND).await;
            world.write(leader, "k", "1").await.unwrap();
            world.pass(SECOND).await;
            let (told, not_told) = (NodeId(1), NodeId(2));
            recover(&mut world, &[told], vec![survivor(told), survivor(not_told)]).await;
            world.start(not_told).await;
            let leader = world.leader_within(SECOND * 5).await;
            assert!(matches!(world.write(leader, "k", "2").await, Ok(Effect::Applied)));
            world.pass(SECOND).await;
            for id in [told, not_told] {
                assert_eq!(read_now(&world.hosts[&id].machine, "k").as_deref(), Some("2"), "{id}");
            }
            assert_eq!(names(&world.node(told)).len(), 2);
            if leader == told {
                assert_eq!(names(&world.node(not_told)), names(&world.node(told)));
            }
        });
    }
}

#[test]
fn who_cannot_be_a_member_is_refused_and_nothing_changes() {
    play(async {
        let mut world = World::new(1, 3, 1).await;
        let leader = world.leader_within(SECOND).await;
        world.write(leader, "k", "1").await.unwrap();
        world.pass(SECOND).await;
        let (own, stranger, silent) =
            (survivor(NodeId(1)), survivor(NodeId(9)), Survivor { is_voter: false, ..survivor(NodeId(1)) });
        for id in [NodeId(1), NodeId(4)] {
            world.kill(id, false).await;
        }
        for (id, survivors) in [
            (1, vec![own.clone(), stranger]),
            (1, vec![own.clone(), own.clone()]),
            (1, vec![survivor(NodeId(2))]),
            (1, vec![silent]),
            (4, vec![own.clone()]),
        ] {
            world.survivors = survivors;
            let opened = world.open(NodeId(id)).await;
            assert!(matches!(opened, Err(OpenError::Survivors(_))), "{:?}", opened.err());
        }
        world.survivors = Vec::new();
        world.start(NodeId(1)).await;
        world.pass(SECOND).await;
        assert_eq!(names(&world.node(NodeId(1))).len(), 3);
        assert_eq!(world.read(NodeId(1), "k").await.unwrap().as_deref(), Some("1"));
    });
}
