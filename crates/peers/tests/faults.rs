//! Networks and hosts that fail: partitions, hosts that hang, half-open connections, restarts; and seeds of all of it.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use support::{PORT, World, ip};
use tresor_env::Clock;
use tresor_env::doubles::{SeededEntropy, Weather};
use tresor_peers::{AskError, Lane, NodeId, Trouble};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_partition_ends_nothing_that_it_does_not_touch_and_is_over_when_it_is() {
    let world = World::new(3, 1).await;
    for to in [1, 2] {
        world.assert_reaches(0, to).await;
    }
    world.fabric.part(&[ip(0)], &[ip(1)]);
    assert_eq!(world.ask_within(0, 1, Lane::Urgent, b"e", SECOND).await, Err(AskError::TimedOut));
    world.assert_reaches(0, 2).await;
    // Long enough for the connections to be given up.
    world.pass(10 * SECOND).await;
    let answer = world.ask_within(0, 1, Lane::Urgent, b"e", SECOND).await;
    assert_eq!(answer, Err(AskError::Unreachable(Trouble::Slow)));
    world.fabric.heal();
    let began = world.clock.monotonic();
    world.assert_reaches(0, 1).await;
    world.assert_reaches(1, 0).await;
    assert!(world.clock.monotonic() - began < 3 * SECOND);
}

#[tokio::test]
async fn a_short_partition_breaks_no_connection() {
    let world = World::new(2, 1).await;
    world.assert_reaches(0, 1).await;
    world.fabric.part(&[ip(0)], &[ip(1)]);
    let asked = world.peers(0).ask(NodeId(1), Lane::Urgent, Bytes::from_static(b"e"), 5 * SECOND);
    let healed = async {
        world.clock.sleep(2 * SECOND).await;
        world.fabric.heal();
    };
    let (answer, ()) = world.drive(async { tokio::join!(asked, healed) }).await;
    assert_eq!(answer.as_deref(), Ok(&b"e"[..]));
}

#[tokio::test]
async fn a_partition_in_one_direction_is_found_out_on_both_sides() {
    let world = World::new(2, 1).await;
    world.assert_reaches(0, 1).await;
    world.assert_reaches(1, 0).await;
    world.fabric.cut(ip(0), ip(1));
    world.pass(10 * SECOND).await;
    for (from, to) in [(0, 1), (1, 0)] {
        let answer = world.ask_within(from, to, Lane::Urgent, b"e", SECOND).await;
        assert!(matches!(answer, Err(AskError::Unreachable(_) | AskError::TimedOut)), "{answer:?}");
    }
    world.fabric.heal();
    world.pass(3 * SECOND).await;
    world.assert_reaches(0, 1).await;
    world.assert_reaches(1, 0).await;
}

#[tokio::test]
async fn a_host_that_hangs_is_given_up_and_reached_again_when_it_goes_on() {
    let world = World::new(3, 1).await;
    world.assert_reaches(0, 1).await;
    world.fabric.pause(ip(1));
    assert_eq!(world.ask_within(0, 1, Lane::Urgent, b"e", SECOND).await, Err(AskError::TimedOut));
    world.assert_reaches(0, 2).await;
    world.pass(6 * SECOND).await;
    let answer = world.ask_within(0, 1, Lane::Urgent, b"e", SECOND / 2).await;
    assert!(matches!(answer, Err(AskError::Unreachable(Trouble::Silent | Trouble::Slow))), "{answer:?}");
    world.fabric.resume(ip(1));
    world.pass(3 * SECOND).await;
    world.assert_reaches(0, 1).await;
    world.assert_reaches(1, 0).await;
}

#[tokio::test]
async fn a_half_open_connection_is_found_out_and_made_again() {
    let mut world = World::new(2, 1).await;
    world.assert_reaches(0, 1).await;
    world.assert_reaches(1, 0).await;
    world.fabric.lose_power(ip(1));
    world.nodes[1].peers = None;
    assert_eq!(world.ask_within(0, 1, Lane::Entries, b"e", SECOND).await, Err(AskError::TimedOut));
    let asked = world.peers(0).ask(NodeId(1), Lane::Entries, Bytes::from_static(b"e"), 60 * SECOND);
    assert_eq!(world.drive(asked).await, Err(AskError::Lost(Trouble::Silent)));
    world.fabric.restore_power(ip(1));
    world.start(1, PORT, world.members(PORT)).await;
    world.pass(3 * SECOND).await;
    world.assert_reaches(0, 1).await;
    world.assert_reaches(1, 0).await;
    // What the other end had of the first life is gone too.
    assert_eq!(world.fabric.connections(), 2 * Lane::ALL.len());
}

#[tokio::test]
async fn who_is_down_is_tried_again_less_often_each_time_and_reached_soon_after() {
    let mut world = World::new(2, 1).await;
    world.fabric.kill(ip(1));
    world.nodes[1].peers = None;
    world.settle().await;
    let refused = AskError::Unreachable(Trouble::Connect(std::io::ErrorKind::ConnectionRefused));
    let mut attempts = 0;
    let until = world.clock.monotonic() + 20 * SECOND;
    while world.clock.monotonic() < until {
        // Every attempt that fails says so to whoever waits.
        assert_eq!(world.ask(0, 1, Lane::Bulk, b"e").await, Err(refused));
        attempts += 1;
    }
    assert!((20..60).contains(&attempts), "{attempts} attempts in 20 s");
    world.start(1, PORT, world.members(PORT)).await;
    let began = world.clock.monotonic();
    world.assert_reaches(0, 1).await;
    assert!(world.clock.monotonic() - began <= SECOND * 6 / 5);
}

/// In what time passes while everything goes wrong.
const TICK: Duration = Duration::from_millis(5);

/// What whoever asked was told, and when.
type History = Vec<(u64, u8, Duration, Result<Vec<u8>, AskError>)>;

/// Three nodes ask each other while everything goes wrong; then it heals.
async fn live(seed: u64) -> History {
    let mut world = World::new(3, seed).await;
    world.tick = TICK;
    let dice = SeededEntropy::new(seed);
    let roll = |sides: u64| dice.next() % sides;
    world.fabric.set_weather(Weather {
        delay_max: Duration::from_millis(roll(30)),
        breaks_per_million: u32::try_from(roll(3) * 4000).unwrap(),
        refusals_per_million: u32::try_from(roll(2) * 200_000).unwrap(),
        ..Weather::default()
    });
    let mut history = History::new();
    for round in 0..10_u8 {
        let (a, b) = (roll(3), roll(3));
        match roll(7) {
            0 => world.fabric.cut(ip(a), ip(b)),
            1 => world.fabric.part(&[ip(a)], &[ip((a + 1) % 3), ip((a + 2) % 3)]),
            2 => world.fabric.pause(ip(a)),
            3 => world.fabric.break_between(ip(a), ip((a + 1) % 3)),
            4 | 5 => {
                let node = usize::try_from(a).unwrap();
                world.fabric.kill(ip(a));
                world.nodes[node].peers = None;
                world.settle().await;
                world.start(node, PORT, world.members(PORT)).await;
            }
            _ => {
                world.fabric.heal();
                (0..3).for_each(|host| world.fabric.resume(ip(host)));
            }
        }
        let asked = (0..8_u8).map(|at| {
            let (from, to, lane) = (roll(3), roll(3), Lane::ALL[usize::try_from(roll(3)).unwrap()]);
            let length = if roll(4) == 0 { 100_000 } else { 10 };
            let mut message = vec![b'e', round, at];
            message.resize(length, at);
            let within = Duration::from_millis(50 + roll(900));
            let peers = world.nodes[usize::try_from(from).unwrap()].peers.clone().unwrap();
            let clock = world.clock.clone();
            async move {
                let asked = clock.monotonic();
                let answer = peers.ask(NodeId(to), lane, Bytes::from(message.clone()), within).await;
                let took = clock.monotonic() - asked;
                assert!(took <= within + 2 * TICK, "waited for {took:?} of {within:?}");
                if let Ok(answer) = &answer {
                    assert_eq!(*answer, message, "somebody else's answer");
                }
                (to, at, took, answer.map(|answer| answer.to_vec()))
            }
        });
        history.extend(world.drive(join_all(asked.collect::<Vec<_>>())).await);
    }
    world.fabric.heal();
    (0..3).for_each(|host| world.fabric.resume(ip(host)));
    world.fabric.set_weather(Weather::default());
    world.pass(4 * SECOND).await;
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        world.assert_reaches(from, to).await;
    }
    assert!(world.fabric.connections() <= 6 * Lane::ALL.len(), "{} connections", world.fabric.connections());
    history
}

#[tokio::test]
async fn whatever_goes_wrong_everybody_is_told_in_time_and_reaches_everybody_after_it() {
    let mut told = [0; 2];
    for seed in 0..25 {
        for (.., answer) in live(seed).await {
            told[usize::from(answer.is_ok())] += 1;
        }
    }
    assert!(told.iter().all(|count| *count > 200), "failures and answers: {told:?}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_history() {
    for seed in [3, 4] {
        assert!(live(seed).await == live(seed).await, "seed {seed}");
    }
}
