//! What whoever sends messages may rely on: answers, deadlines, bounds, and that nobody waits for somebody else.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use support::World;
use tresor_env::Clock;
use tresor_env::doubles::Weather;
use tresor_peers::{AskError, Lane, NodeId, Trouble};

use crate::support::ip;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn messages_are_answered_side_by_side_on_one_connection_per_lane() {
    let world = World::new(2, 1).await;
    let peers = world.peers(0);
    for lane in Lane::ALL {
        let slow = peers.ask(NodeId(1), lane, Bytes::from_static(b"s\xc8"), 5 * SECOND);
        let quick = (0..200_u8).map(|at| peers.ask(NodeId(1), lane, Bytes::from(vec![b'e', at]), 5 * SECOND));
        let began = world.clock.monotonic();
        let quick = async { (join_all(quick).await, world.clock.monotonic()) };
        let (slow, (quick, done)) = world.drive(async { tokio::join!(slow, quick) }).await;
        for (at, answer) in (0..200_u8).zip(quick) {
            assert_eq!(answer.as_deref(), Ok(&[b'e', at][..]));
        }
        assert!(done - began < Duration::from_millis(50), "quick ones waited for a slow one");
        assert_eq!(slow.as_deref(), Ok(&b"s\xc8"[..]));
    }
    // One for each lane that node 0 made, and one that node 1 keeps open.
    assert_eq!(world.fabric.connections(), Lane::ALL.len() + 1);
}

#[tokio::test]
async fn a_message_ends_at_its_deadline_on_both_sides() {
    let world = World::new(2, 1).await;
    let began = world.clock.monotonic();
    assert_eq!(world.ask_within(0, 1, Lane::Urgent, b"h", SECOND).await, Err(AskError::TimedOut));
    assert!((SECOND..SECOND * 2).contains(&(world.clock.monotonic() - began)));
    world.pass(Duration::from_millis(50)).await;
    assert_eq!(world.nodes[1].worker.counts(), (1, 1), "the work goes on though nobody waits");
}

#[tokio::test]
async fn what_is_given_up_is_dropped_where_it_stands() {
    let world = World::new(2, 1).await;
    world.assert_reaches(0, 1).await;
    let (reached, _) = world.nodes[1].worker.counts();
    let mut asked = world.peers(0).ask(NodeId(1), Lane::Entries, Bytes::from_static(b"h"), 3600 * SECOND);
    world
        .drive(async {
            tokio::select! {
                biased;
                _ = &mut asked => panic!("it hangs"),
                () = world.clock.sleep(Duration::from_millis(20)) => {}
            }
        })
        .await;
    assert_eq!(world.nodes[1].worker.counts(), (reached + 1, 0));
    drop(asked);
    world.pass(Duration::from_millis(20)).await;
    assert_eq!(world.nodes[1].worker.counts(), (reached + 1, 1));
    world.assert_reaches(0, 1).await;
}

#[tokio::test]
async fn work_that_declines_or_panics_is_one_messages_loss() {
    let world = World::new(2, 1).await;
    for command in [b"d", b"p"] {
        assert_eq!(world.ask(0, 1, Lane::Urgent, command).await, Err(AskError::Declined));
    }
    let connections = world.fabric.connections();
    world.assert_reaches(0, 1).await;
    assert_eq!(world.fabric.connections(), connections + Lane::ALL.len() - 1, "the connection did not survive");
}

#[tokio::test]
async fn the_largest_message_of_a_lane_goes_through_and_a_larger_one_is_not_sent() {
    let world = World::new(2, 1).await;
    for lane in [Lane::Urgent, Lane::Bulk] {
        let max = lane.message_bytes_max();
        let largest = vec![b'e'; max];
        assert_eq!(world.ask(0, 1, lane, &largest).await.unwrap(), largest);
        let begun = world.nodes[1].worker.counts();
        let error = world.ask(0, 1, lane, &vec![b'e'; max + 1]).await;
        assert_eq!(error, Err(AskError::TooLong { length: max + 1, max }));
        assert_eq!(world.nodes[1].worker.counts(), begun);
    }
}

#[tokio::test]
async fn who_is_no_member_cannot_be_asked() {
    let world = World::new(2, 1).await;
    assert_eq!(world.ask(0, 7, Lane::Urgent, b"e").await, Err(AskError::NotAMember));
    assert_eq!(world.ask(0, 0, Lane::Urgent, b"e").await, Err(AskError::NotAMember), "oneself");
}

#[tokio::test]
async fn chunks_of_a_snapshot_on_a_slow_way_do_not_delay_heartbeats() {
    let world = World::new(2, 1).await;
    let delay = Duration::from_millis(10);
    world.fabric.set_weather(Weather { delay_min: delay, delay_max: delay, ..Weather::default() });
    world.assert_reaches(0, 1).await;
    // At a window each way, 24 chunks of 1 MiB take four seconds.
    let chunk = Bytes::from(vec![b'e'; 1 << 20]);
    let chunks = join_all((0..24).map(|_| world.peers(0).ask(NodeId(1), Lane::Bulk, chunk.clone(), 600 * SECOND)));
    let heartbeats = async {
        for _ in 0..40 {
            let before = world.clock.monotonic();
            let asked = world.peers(0).ask(NodeId(1), Lane::Urgent, Bytes::from_static(b"e"), SECOND);
            asked.await.unwrap();
            let took = world.clock.monotonic() - before;
            assert!(took <= 5 * delay, "a heartbeat took {took:?}");
            world.clock.sleep(Duration::from_millis(20)).await;
        }
    };
    world
        .drive(async {
            tokio::select! {
                biased;
                () = heartbeats => {}
                _ = chunks => panic!("the chunks were through too early to prove anything"),
            }
        })
        .await;
}

#[tokio::test]
async fn requests_that_take_long_keep_neither_others_nor_heartbeats_waiting() {
    let world = World::new(2, 1).await;
    let hang = |_| world.peers(0).ask(NodeId(1), Lane::Requests, Bytes::from_static(b"h"), 90 * SECOND);
    let stuck = join_all((0..1000).map(hang));
    let others = async {
        world.clock.sleep(SECOND).await;
        for lane in Lane::ALL {
            let asked = world.peers(0).ask(NodeId(1), lane, Bytes::from_static(b"e"), SECOND);
            asked.await.unwrap();
        }
    };
    world
        .drive(async {
            tokio::select! {
                biased;
                () = others => {}
                stuck = stuck => panic!("{stuck:?}"),
            }
        })
        .await;
}

#[tokio::test]
async fn a_node_that_reads_nothing_fills_its_own_queue_and_no_other() {
    let world = World::new(3, 1).await;
    world.assert_reaches(0, 1).await;
    world.assert_reaches(0, 2).await;
    // Work that never ends takes up the bound on unanswered bytes; then nothing more is read, and the rest waits.
    let hangs = Bytes::from([&b"h"[..], &[0; 1 << 20]].concat());
    let within = 2 * SECOND;
    let stuck = join_all((0..200).map(|_| world.peers(0).ask(NodeId(1), Lane::Bulk, hangs.clone(), within)));
    let others = async {
        for _ in 0..20 {
            let asked = [(1, Lane::Urgent), (1, Lane::Entries), (2, Lane::Bulk)].map(|(node, lane)| {
                world.peers(0).ask(NodeId(node), lane, Bytes::from_static(b"e"), Duration::from_millis(50))
            });
            for answer in join_all(asked).await {
                answer.unwrap();
            }
            world.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    let began = world.clock.monotonic();
    let (stuck, ()) = world.drive(async { tokio::join!(stuck, others) }).await;
    assert!(stuck.iter().all(|answer| *answer == Err(AskError::TimedOut)), "{stuck:?}");
    assert!(world.clock.monotonic() - began < within + SECOND / 2);
    world.pass(Duration::from_millis(100)).await;
    let (begun, dropped) = world.nodes[1].worker.counts();
    // What reached it, and what it answered meanwhile.
    let answered = u32::try_from(Lane::ALL.len()).unwrap() + 40;
    assert!(begun - answered <= 8, "{begun} were taken on at once");
    assert_eq!(begun - answered, dropped);
    world.assert_reaches(0, 1).await;
}

#[tokio::test]
async fn work_that_takes_long_is_no_silence() {
    let world = World::new(2, 1).await;
    world.assert_reaches(0, 1).await;
    let hangs = Bytes::from([&b"h"[..], &[0; 1 << 20]].concat());
    let within = 9 * SECOND;
    let stuck = join_all((0..10).map(|_| world.peers(0).ask(NodeId(1), Lane::Bulk, hangs.clone(), within)));
    let stuck = world.drive(stuck).await;
    assert!(stuck.iter().all(|answer| *answer == Err(AskError::TimedOut)), "{stuck:?}");
}

#[tokio::test]
async fn a_broken_connection_loses_what_was_on_its_way_and_is_made_again_at_once() {
    let world = World::new(2, 1).await;
    world.pass(3 * SECOND).await;
    let asked = world.peers(0).ask(NodeId(1), Lane::Urgent, Bytes::from_static(b"h"), 60 * SECOND);
    let broken = async {
        world.clock.sleep(Duration::from_millis(5)).await;
        world.fabric.break_between(ip(0), ip(1));
    };
    let (answer, ()) = world.drive(async { tokio::join!(asked, broken) }).await;
    assert!(matches!(answer, Err(AskError::Lost(Trouble::Broken(_)))), "{answer:?}");
    let began = world.clock.monotonic();
    world.assert_reaches(0, 1).await;
    assert!(world.clock.monotonic() - began < Duration::from_millis(20));
}
