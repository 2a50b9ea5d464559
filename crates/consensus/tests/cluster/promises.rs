//! What a cluster promises, one story each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tresor_consensus::{Change, ConsensusError, NodeId, Role};
use tresor_storage::machine::Effect;
use tresor_storage::{Batch, Machine};

use crate::world::{STEP, World, contact, play, proposal, read_now};

const SECOND: Duration = Duration::from_secs(1);

/// Three voters of whom one leads, and has written something.
async fn led(seed: u64) -> (World, NodeId) {
    let mut world = World::new(seed, 3, 0).await;
    let leader = world.leader_within(SECOND).await;
    world.write(leader, "k", "1").await.unwrap();
    (world, leader)
}

/// Cuts a node off from everybody, or lets it back.
pub(crate) fn isolate(world: &World, node: NodeId, is_cut: bool) {
    let mut state = world.wires.state.lock().unwrap();
    for other in world.hosts.keys().filter(|other| **other != node) {
        for pair in [(node, *other), (*other, node)] {
            if is_cut {
                state.cut.insert(pair);
            } else {
                state.cut.remove(&pair);
            }
        }
    }
}

fn others(world: &World, node: NodeId) -> Vec<NodeId> {
    world.hosts.keys().copied().filter(|other| *other != node).collect()
}

#[test]
fn a_batch_costs_one_sync_on_every_node() {
    play(async {
        let mut world = World::new(1, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        world.pass(SECOND).await;
        let before: Vec<u64> = world.running().iter().map(|id| world.node(*id).syncs()).collect();
        for number in 0..50 {
            let written = world.write(leader, "k", &number.to_string()).await.unwrap();
            assert!(matches!(written, Effect::Applied));
        }
        world.pass(SECOND).await;
        for (id, before) in world.running().into_iter().zip(before) {
            assert_eq!(world.node(id).syncs() - before, 50, "{id}");
            assert_eq!(read_now(&world.hosts[&id].machine, "k").as_deref(), Some("49"));
        }
    });
}

#[test]
fn a_cluster_of_one_leads_at_once_and_again_after_a_crash() {
    play(async {
        let mut world = World::new(2, 1, 0).await;
        let only = NodeId(1);
        world.write(only, "k", "1").await.unwrap();
        world.kill(only, true).await;
        world.start(only).await;
        let begun = world.steps;
        world.leader_within(SECOND).await;
        assert!(STEP * u32::try_from(world.steps - begun).unwrap() <= Duration::from_millis(100));
        assert_eq!(world.read(only, "k").await.unwrap().as_deref(), Some("1"));
        assert!(matches!(world.write(only, "k", "2").await, Ok(Effect::Applied)));
    });
}

#[test]
fn after_the_leader_is_killed_a_write_is_accepted_within_a_second_and_a_half() {
    for seed in 0..20 {
        play(async {
            let (mut world, leader) = led(seed).await;
            world.pass(SECOND + STEP * u32::try_from(world.pick(100)).unwrap()).await;
            world.kill(leader, false).await;
            world.write_somewhere("k", "2", Duration::from_millis(1500)).await;
        });
    }
}

#[test]
fn leadership_that_is_handed_over_costs_writers_less_than_three_tenths_of_a_second() {
    for seed in 0..20 {
        play(async {
            let (mut world, leader) = led(seed).await;
            let node = world.node(leader);
            world.tasks.spawn(async move { assert!(node.hand_over().await.is_ok()) });
            world.pass(STEP).await;
            let took = world.write_somewhere("k", "2", Duration::from_millis(300)).await;
            assert!(world.leader().unwrap() != leader, "{took:?}");
        });
    }
}

/// What the leader took counts, written down or not: who campaigned with less than the others are about to have would lose.
#[test]
fn leadership_is_handed_over_by_one_campaign_while_proposals_are_on_their_way() {
    for seed in 0..20 {
        play(async {
            let (mut world, leader) = led(seed).await;
            let node = world.node(leader);
            let term = node.status().read(|status| status.term);
            for number in 0..200 {
                let (node, batch) =
                    (Arc::clone(&node), proposal(&world.hosts[&leader].machine, "k", &number.to_string()));
                world.tasks.spawn(async move { drop(node.propose(Arc::new(batch)).await) });
            }
            world.tasks.spawn(async move { assert!(node.hand_over().await.is_ok()) });
            world.pass(STEP).await;
            world.write_somewhere("k", "2", Duration::from_millis(300)).await;
            let next = world.leader().unwrap();
            assert_eq!(world.node(next).status().read(|status| status.term), term + 1, "seed {seed}");
        });
    }
}

#[test]
fn a_write_while_leadership_is_handed_over_is_refused_not_lost() {
    play(async {
        let mut world = World::new(5, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        let node = world.node(leader);
        world.tasks.spawn(async move { drop(node.hand_over().await) });
        world.step().await;
        let refused = world.write(leader, "k", "1").await;
        assert!(matches!(refused, Err(ConsensusError::NotLeader { .. })), "{refused:?}");
    });
}

#[test]
fn a_node_that_comes_back_from_a_partition_deposes_nobody() {
    play(async {
        let mut world = World::new(3, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        let cut = others(&world, leader)[0];
        let term = world.node(leader).status().read(|status| status.term);
        isolate(&world, cut, true);
        world.pass(SECOND * 10).await;
        world.write(leader, "k", "1").await.unwrap();
        isolate(&world, cut, false);
        world.pass(SECOND * 3).await;
        assert_eq!(world.leader(), Some(leader));
        assert_eq!(world.node(leader).status().read(|status| status.term), term);
        assert_eq!(read_now(&world.hosts[&cut].machine, "k").as_deref(), Some("1"));
    });
}

#[test]
fn a_leader_without_a_majority_says_so_confirms_nothing_and_is_followed_by_another() {
    play(async {
        let mut world = World::new(4, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        isolate(&world, leader, true);
        let stale = world.write(leader, "k", "lost");
        // Its proposal is in doubt, and comes to nothing.
        assert!(matches!(stale.await, Err(ConsensusError::Uncertain)));
        assert_eq!(world.node(leader).status().read(|status| status.role), Role::Candidate);
        assert!(matches!(world.read(leader, "k").await, Err(ConsensusError::NoQuorum)));
        let next = world.leader().unwrap();
        assert!(next != leader);
        world.write(next, "k", "kept").await.unwrap();
        isolate(&world, leader, false);
        world.pass(SECOND * 7).await;
        assert_eq!(read_now(&world.hosts[&leader].machine, "k").as_deref(), Some("kept"));
    });
}

#[test]
fn a_leader_that_hears_nobody_keeps_nobody_from_campaigning() {
    play(async {
        let mut world = World::new(6, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        {
            // What it sends arrives; what it is answered does not.
            let mut state = world.wires.state.lock().unwrap();
            for other in [1, 2, 3].map(NodeId).into_iter().filter(|other| *other != leader) {
                state.cut.insert((other, leader));
            }
        }
        world.pass(SECOND * 3).await;
        let next = world.leader().unwrap();
        assert!(next != leader);
        assert!(matches!(world.write(next, "k", "1").await, Ok(Effect::Applied)));
    });
}

#[test]
fn a_leader_that_starts_again_does_not_lead_on_and_confirms_no_stale_read() {
    play(async {
        for seed in 0..10 {
            let mut world = World::new(seed, 3, 0).await;
            let leader = world.leader_within(SECOND).await;
            world.hosts[&leader].machine.persist();
            world.write(leader, "k", "acknowledged").await.unwrap();
            let term = world.node(leader).status().read(|status| status.term);
            world.kill(leader, true).await;
            world.start(leader).await;
            // Its machine lacks the write, which its log has.
            assert_eq!(read_now(&world.hosts[&leader].machine, "k"), None);
            let status = world.node(leader).status().read(|status| *status);
            assert!(status.role != Role::Leader);
            if let Ok(read) = world.read(leader, "k").await {
                assert_eq!(read.as_deref(), Some("acknowledged"));
            }
            let next = world.leader_within(SECOND * 2).await;
            assert!(world.node(next).status().read(|status| status.term) > term);
            assert_eq!(world.read(leader, "k").await.unwrap().as_deref(), Some("acknowledged"));
        }
    });
}

#[test]
fn a_sealed_node_votes_and_does_not_campaign() {
    play(async {
        let mut world = World::new(7, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        let rest = others(&world, leader);
        world.node(rest[0]).set_sealed(true);
        world.kill(leader, false).await;
        world.leader_within(SECOND * 3).await;
        assert_eq!(world.leader(), Some(rest[1]));
        // Nor when it is asked to, nor when there is nobody else.
        let node = world.node(rest[1]);
        let refused = world.until(SECOND * 2, async move { node.hand_over().await }).await;
        assert!(matches!(refused, Err(ConsensusError::NoQuorum)), "{refused:?}");
        world.write_somewhere("k", "1", SECOND).await;
        world.kill(rest[1], false).await;
        world.start(leader).await;
        world.node(leader).set_sealed(true);
        world.pass(SECOND * 5).await;
        assert_eq!(world.leader(), None);
        world.node(rest[0]).set_sealed(false);
        world.leader_within(SECOND * 2).await;
        assert_eq!(world.leader(), Some(rest[0]));
    });
}

#[test]
fn any_node_confirms_reads_and_many_of_them_cost_one_round() {
    play(async {
        let mut world = World::new(8, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        world.write(leader, "k", "1").await.unwrap();
        for id in world.running() {
            assert_eq!(world.read(id, "k").await.unwrap().as_deref(), Some("1"), "{id}");
        }
        let node = world.node(others(&world, leader)[0]);
        let before = world.wires.sent();
        let waiting: Vec<_> = (0..200)
            .map(|_| {
                let (node, (done, result)) = (node.clone(), tokio::sync::oneshot::channel());
                world.tasks.spawn(async move { drop(done.send(node.confirm().await)) });
                result
            })
            .collect();
        world.pass(Duration::from_millis(50)).await;
        for mut confirmed in waiting {
            assert!(confirmed.try_recv().unwrap().is_ok());
        }
        assert!(world.wires.sent() - before < 60, "{}", world.wires.sent() - before);
    });
}

#[test]
fn who_may_do_without_batches_is_told_what_nobody_does_without() {
    play(async {
        let mut world = World::new(31, 3, 0).await;
        let leader = world.leader_within(SECOND).await;
        let follower = others(&world, leader)[0];
        let mut last = 0;
        // What a node is told, after a write of one kind or the other.
        for (round, is_dispensable) in [false, true, true, true, false, true].into_iter().enumerate() {
            let batch = proposal(&world.hosts[&leader].machine, "k", &round.to_string());
            let node = world.node(leader);
            let batch = Arc::new(Batch { is_dispensable, ..batch });
            world.until(SECOND, async move { node.propose(batch).await }).await.unwrap();
            for at in [leader, follower] {
                let node = world.node(at);
                let both = world.until(SECOND, async move { node.confirm_both().await }).await.unwrap();
                assert_eq!(both.indispensable == both.index, !is_dispensable, "round {round} at {at}: {both:?}");
                assert!(both.indispensable >= last, "round {round} at {at}: {both:?}");
                last = if is_dispensable { last } else { both.index };
                assert_eq!(both.indispensable, last, "round {round} at {at}");
            }
        }
        // Nothing is known of what other leaders wrote: an entry of the next one's own comes behind it.
        let before = world.node(leader).indexes().last.index;
        world.kill(leader, false).await;
        let next = world.leader_within(SECOND * 3).await;
        for at in world.running() {
            let node = world.node(at);
            let both = world.until(SECOND, async move { node.confirm_both().await }).await.unwrap();
            assert!(both.indispensable > before, "{next} leads, at {at}: {both:?}, {before}");
        }
    });
}

#[test]
fn a_change_that_its_leader_left_half_done_is_ended_by_the_next() {
    let mut half_done = 0;
    for steps in 0..24 {
        play(async {
            let mut world = World::new(9, 3, 1).await;
            let leader = world.leader_within(SECOND).await;
            let (node, four) = (world.node(leader), NodeId(4));
            let adding = Arc::clone(&node);
            world.until(SECOND, async move { adding.change(Change::Add(four, contact(four))).await }).await.unwrap();
            let changing = tokio::spawn(async move { node.change(Change::Promote(four)).await });
            for _ in 0..steps {
                world.step().await;
            }
            world.kill(leader, false).await;
            changing.abort();
            let next = world.leader_within(SECOND * 3).await;
            half_done += u32::from(world.node(next).members().is_changing());
            world.pass(SECOND * 2).await;
            for id in world.running() {
                assert!(!world.node(id).members().is_changing(), "{id} after {steps} steps");
            }
        });
    }
    assert!(half_done > 0, "no change was left half done");
}

#[test]
fn a_removal_takes_nobody_along_whose_own_change_is_half_done() {
    let mut half_done = 0;
    for steps in 0..24 {
        play(async {
            let mut world = World::new(10, 5, 0).await;
            let leader = world.leader_within(SECOND).await;
            let [demoted, ..] = *others(&world, leader) else { panic!("there are five") };
            let node = world.node(leader);
            let demoting = tokio::spawn(async move { node.change(Change::Demote(demoted)).await });
            for _ in 0..steps {
                world.step().await;
            }
            world.kill(leader, false).await;
            demoting.abort();
            let next = world.leader_within(SECOND * 3).await;
            let node = world.node(next);
            half_done += u32::from(node.members().is_changing());
            let removing = async move { node.change(Change::Remove(leader)).await };
            world.until(SECOND * 3, removing).await.unwrap();
            world.pass(SECOND * 2).await;
            let members = world.node(next).members();
            assert!(members.nodes.contains_key(&demoted), "{members:?} after {steps} steps");
            assert!(!members.nodes.contains_key(&leader), "{members:?} after {steps} steps");
        });
    }
    assert!(half_done > 0, "no change was left half done");
}

#[test]
fn members_come_and_go() {
    play(async {
        let mut world = World::new(9, 3, 2).await;
        let leader = world.leader_within(SECOND).await;
        world.write(leader, "k", "1").await.unwrap();
        let four = NodeId(4);
        let change = |change: Change| {
            let node = world.node(leader);
            async move { node.change(change).await }
        };
        let changes = [
            Change::Add(four, contact(four)),
            Change::Promote(four),
            Change::Contact(four, tresor_consensus::Contact { address: "elsewhere:1".to_owned(), ..contact(four) }),
            Change::Demote(four),
            Change::Promote(four),
            Change::Remove(four),
            Change::Add(four, contact(four)),
        ];
        let votes = [false, true, true, false, true, false, false];
        let work: Vec<_> = changes.into_iter().map(change).collect();
        for (number, (work, votes)) in work.into_iter().zip(votes).enumerate() {
            world.until(SECOND * 5, work).await.unwrap_or_else(|error| panic!("change {number}: {error:?}"));
            world.pass(SECOND).await;
            let members = world.node(leader).members();
            assert_eq!(members.votes(four), votes, "change {number}");
            assert_eq!(members.nodes.contains_key(&four), number != 5, "change {number}");
            if (2..5).contains(&number) {
                assert_eq!(members.nodes[&four].contact.address, "elsewhere:1");
            }
        }
        assert_eq!(read_now(&world.hosts[&four].machine, "k").as_deref(), Some("1"));
        // Of two that ask for one name at once, one gets it.
        let called = |id| tresor_consensus::Contact { name: "twin".to_owned(), ..contact(id) };
        let [one, other] = [NodeId(5), NodeId(6)].map(|id| {
            let node = world.node(leader);
            async move { node.change(Change::Add(id, called(id))).await }
        });
        let done = world.until(SECOND * 5, async move { tokio::join!(one, other) }).await;
        assert_eq!(u8::from(done.0.is_ok()) + u8::from(done.1.is_ok()), 1, "{done:?}");
        assert_eq!(world.node(leader).members().nodes.len(), 5);
        let twin = if done.0.is_ok() { NodeId(5) } else { NodeId(6) };
        let node = world.node(leader);
        world.until(SECOND * 5, async move { node.change(Change::Remove(twin)).await }).await.unwrap();
        // What makes no sense is refused, and a leader hands over before it goes.
        let node = world.node(leader);
        let refused = [
            node.change(Change::Promote(NodeId(9))).await,
            node.change(Change::Add(four, contact(four))).await,
            node.change(Change::Demote(four)).await,
        ];
        assert!(refused.iter().all(|refused| matches!(refused, Err(ConsensusError::Members(_)))), "{refused:?}");
        let moved = world.until(SECOND * 2, async move { node.change(Change::Remove(leader)).await }).await;
        let Err(ConsensusError::NotLeader { leader: Some(next) }) = moved else { panic!("{moved:?}") };
        let node = world.node(next);
        world.until(SECOND * 2, async move { node.change(Change::Remove(leader)).await }).await.unwrap();
        world.write_somewhere("k", "2", SECOND).await;
        let voters: BTreeSet<NodeId> = [1, 2, 3].map(NodeId).into_iter().filter(|id| *id != leader).collect();
        let members = world.node(next).members();
        assert!(voters.iter().all(|id| members.votes(*id)) && members.nodes.len() == 3);
        // The one that was removed disturbs nobody.
        let term = world.node(next).status().read(|status| status.term);
        world.pass(SECOND * 5).await;
        assert_eq!(world.node(next).status().read(|status| status.term), term);
    });
}

#[test]
fn a_node_that_is_far_behind_gets_the_state() {
    play(async {
        let mut world = World::new(10, 3, 1).await;
        let leader = world.leader_within(SECOND).await;
        let cut = others(&world, leader).into_iter().find(|id| *id != NodeId(4)).unwrap();
        isolate(&world, cut, true);
        let large = "x".repeat(3000);
        for number in 0..60 {
            world.write(leader, &format!("k{}", number % 20), &format!("{number}{large}")).await.unwrap();
            for host in world.hosts.values() {
                host.machine.persist();
            }
        }
        // For so long the log is kept for it.
        world.pass(SECOND * 6).await;
        isolate(&world, cut, false);
        let node = world.node(leader);
        world
            .until(SECOND * 2, async move { node.change(Change::Add(NodeId(4), contact(NodeId(4)))).await })
            .await
            .unwrap();
        world.pass(SECOND * 8).await;
        for id in [cut, NodeId(4)] {
            let machine = &world.hosts[&id].machine;
            assert_eq!(machine.dump(), world.hosts[&leader].machine.dump(), "{id}");
            // It came as a state: its machine has more than any entry that it applied since could give it.
            assert!(machine.persisted().index > 50, "{id}: {:?}", machine.persisted());
        }
        // And it survives a crash right after.
        world.kill(cut, true).await;
        world.start(cut).await;
        world.pass(SECOND * 2).await;
        assert_eq!(world.hosts[&cut].machine.dump(), world.hosts[&leader].machine.dump());
    });
}

#[test]
fn a_node_that_is_opened_knows_at_once_who_the_members_are() {
    play(async {
        let mut world = World::new(1, 3, 0).await;
        world.pass(SECOND).await;
        world.kill(NodeId(2), true).await;
        let opened = world.open(NodeId(2)).await.unwrap();
        assert_eq!(opened.members().nodes.len(), 3);
    });
}
