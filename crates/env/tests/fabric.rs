//! What the network of hosts promises: order, delay, partitions in one direction, hosts that stand still, are killed or
//! lose power; and that a seed fixes it all.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tresor_env::clock::Timestamp;
use tresor_env::doubles::{Fabric, ManualClock, Weather};
use tresor_env::net::{Listener, Net, Stream};

struct World {
    clock: Arc<ManualClock>,
    fabric: Fabric,
    net: Vec<Arc<dyn Net>>,
}

fn ip(host: u8) -> IpAddr {
    [10, 0, 0, host].into()
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::new(ip(host), 8201)
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(0)));
        let fabric = Fabric::new(clock.clone(), seed);
        let net = (0..3).map(|host| fabric.host(ip(host))).collect();
        Self { clock, fabric, net }
    }

    async fn listen(&self, host: u8) -> Box<dyn Listener> {
        self.net[usize::from(host)].listen(at(host)).await.unwrap()
    }

    /// A connection from host 0 to host 1.
    async fn pair(&self) -> (Box<dyn Stream>, Box<dyn Stream>, Box<dyn Listener>) {
        let listener = self.listen(1).await;
        let near = self.net[0].connect(at(1)).await.unwrap();
        let (far, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip(), ip(0));
        (near, far, listener)
    }
}

fn is_waiting<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

async fn read(stream: &mut Box<dyn Stream>, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[tokio::test]
async fn bytes_arrive_in_order_and_not_before_their_time() {
    let world = World::new(1);
    let (mut near, mut far, _listener) = world.pair().await;
    let weather =
        Weather { delay_min: Duration::from_millis(5), delay_max: Duration::from_millis(50), ..Weather::default() };
    world.fabric.set_way(ip(0), ip(1), Some(weather));
    for byte in 0..100 {
        near.write_all(&[byte]).await.unwrap();
    }
    far.write_all(b"back").await.unwrap();
    assert_eq!(read(&mut near, 4).await.unwrap(), b"back", "the other way is as it was");
    assert!(is_waiting(&mut Box::pin(read(&mut far, 1))));
    world.clock.advance(Duration::from_millis(50));
    assert_eq!(read(&mut far, 100).await.unwrap(), (0..100).collect::<Vec<u8>>());
    drop(near);
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(far.write_all(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(world.fabric.connections(), 0);
}

#[tokio::test]
async fn a_writer_waits_for_a_slow_reader() {
    let world = World::new(1);
    let (mut near, mut far, _listener) = world.pair().await;
    near.write_all(&[7; 64 * 1024]).await.unwrap();
    assert!(is_waiting(&mut Box::pin(near.write_all(b"x"))));
    read(&mut far, 1).await.unwrap();
    near.write_all(b"x").await.unwrap();
}

#[tokio::test]
async fn a_cut_holds_one_direction_and_what_it_held_arrives_after_it() {
    let world = World::new(1);
    let (mut near, mut far, listener) = world.pair().await;
    world.fabric.cut(ip(0), ip(1));
    near.write_all(b"held").await.unwrap();
    far.write_all(b"free").await.unwrap();
    assert_eq!(read(&mut near, 4).await.unwrap(), b"free");
    let mut held = Box::pin(read(&mut far, 4));
    assert!(is_waiting(&mut held));
    // A connection needs both ways.
    let own = world.listen(0).await;
    let (mut there, mut back) = (world.net[0].connect(at(1)), world.net[1].connect(at(0)));
    assert!(is_waiting(&mut there) && is_waiting(&mut back));
    world.fabric.heal();
    assert_eq!(held.await.unwrap(), b"held");
    there.await.unwrap();
    back.await.unwrap();
    listener.accept().await.unwrap();
    own.accept().await.unwrap();
}

#[tokio::test]
async fn groups_are_parted_both_ways() {
    let world = World::new(1);
    let (mut near, mut far, _listener) = world.pair().await;
    world.fabric.part(&[ip(0), ip(2)], &[ip(1)]);
    near.write_all(b"a").await.unwrap();
    far.write_all(b"b").await.unwrap();
    assert!(is_waiting(&mut Box::pin(read(&mut near, 1))) && is_waiting(&mut Box::pin(read(&mut far, 1))));
    let _other = world.listen(2).await;
    world.net[0].connect(at(2)).await.unwrap();
}

#[tokio::test]
async fn a_host_that_stands_still_takes_bytes_and_says_nothing() {
    let world = World::new(1);
    let (mut near, mut far, listener) = world.pair().await;
    world.fabric.pause(ip(1));
    near.write_all(b"a").await.unwrap();
    assert!(is_waiting(&mut Box::pin(read(&mut far, 1))) && is_waiting(&mut Box::pin(far.write_all(b"x"))));
    world.net[0].connect(at(1)).await.unwrap();
    let mut accepted = listener.accept();
    assert!(is_waiting(&mut accepted));
    world.fabric.resume(ip(1));
    accepted.await.unwrap();
    assert_eq!(read(&mut far, 1).await.unwrap(), b"a");
}

#[tokio::test]
async fn a_killed_process_resets_its_connections_and_its_door_is_of_no_use() {
    let world = World::new(1);
    let (mut near, mut far, listener) = world.pair().await;
    let waits_in_the_backlog = world.net[0].connect(at(1)).await.unwrap();
    far.write_all(b"last").await.unwrap();
    world.fabric.kill(ip(1));
    assert_eq!(read(&mut near, 4).await.unwrap(), b"last");
    assert_eq!(near.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(far.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(listener.accept().await.is_err() && world.net[1].listen(at(1)).await.is_err());
    assert_eq!(world.net[0].connect(at(1)).await.err().unwrap().kind(), ErrorKind::ConnectionRefused);
    drop(waits_in_the_backlog);
    let next = world.fabric.host(ip(1));
    let _again = next.listen(at(1)).await.unwrap();
    drop(listener);
    world.net[0].connect(at(1)).await.unwrap();
}

#[tokio::test]
async fn who_lost_power_is_missed_by_nobody_until_it_is_back() {
    let world = World::new(1);
    let (mut near, far, _listener) = world.pair().await;
    world.fabric.lose_power(ip(1));
    drop(far);
    near.write_all(b"into the void").await.unwrap();
    let mut heard = Box::pin(read(&mut near, 1));
    assert!(is_waiting(&mut heard));
    let mut connecting = world.net[0].connect(at(1));
    assert!(is_waiting(&mut connecting));
    world.fabric.restore_power(ip(1));
    assert_eq!(heard.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(connecting.await.err().unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn connections_break_when_told_to() {
    let world = World::new(1);
    let (mut near, mut far, _listener) = world.pair().await;
    world.fabric.break_between(ip(1), ip(0));
    for end in [&mut near, &mut far] {
        assert_eq!(end.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

/// Writes until the connection breaks, connects again, and so on; tells when each broke.
async fn history(seed: u64) -> Vec<u32> {
    let world = World::new(seed);
    world.fabric.set_weather(Weather {
        breaks_per_million: 20_000,
        refusals_per_million: 300_000,
        ..Weather::default()
    });
    let listener = world.listen(1).await;
    let mut broken = Vec::new();
    for _ in 0..20 {
        let Ok(mut near) = world.net[0].connect(at(1)).await else {
            broken.push(u32::MAX);
            continue;
        };
        let (mut far, _) = listener.accept().await.unwrap();
        let mut written = 0;
        while near.write_all(b"x").await.is_ok() {
            read(&mut far, 1).await.unwrap();
            written += 1;
        }
        broken.push(written);
    }
    broken
}

#[tokio::test]
async fn a_seed_fixes_what_goes_wrong() {
    let first = history(1).await;
    assert!(first.contains(&u32::MAX) && first.iter().any(|broken| *broken != u32::MAX));
    assert_eq!(first, history(1).await);
    assert_ne!(first, history(2).await);
}
