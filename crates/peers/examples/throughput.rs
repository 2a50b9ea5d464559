//! What messages of 1 KiB cost over loopback TLS: `cargo run --release -p tresor-peers --example throughput`.
//!
//! Both ends run in this process, so a message's CPU is that of asking, answering and both directions of TLS together.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints, and ends when it cannot go on")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tresor_env::{BoxFuture, Clock};
use tresor_peers::{Declined, Handler, Lane, Member, Members, NodeId, NodeKey, Peers, Timing};

const MESSAGE: [u8; 1024] = [7; 1024];
const ROUND: Duration = Duration::from_secs(3);

struct Empty;

impl Handler for Empty {
    fn answer(&self, _from: NodeId, _lane: Lane, _message: Bytes) -> BoxFuture<'_, Result<Bytes, Declined>> {
        Box::pin(async { Ok(Bytes::new()) })
    }
}

fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap(), u32::try_from(used.tv_nsec).unwrap())
}

async fn node(seed: u64, home: &std::path::Path) -> (Peers, Member) {
    let doors = tresor_env_os::doors();
    let home = home.join(seed.to_string());
    doors.disk.create_directory(&home).unwrap();
    let key = NodeKey::open(&*doors.disk, &home, &*doors.entropy).unwrap();
    let peers = Peers::new(&doors, &key, Arc::new(Empty), Timing::default()).unwrap();
    let address = peers.listen("127.0.0.1:0".parse().unwrap()).await.unwrap().to_string();
    (peers, Member { key: key.public(), addresses: vec![address] })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let home = tempfile::tempdir().unwrap();
    let ((a, one), (b, two)) = (node(1, home.path()).await, node(2, home.path()).await);
    let members = Members::new([(NodeId(1), one), (NodeId(2), two)]).unwrap();
    a.set_members(members.clone()).unwrap();
    b.set_members(members).unwrap();
    let clock = tresor_env_os::OsClock::new();
    let message = Bytes::from_static(&MESSAGE);
    for at_once in [1, 8, 64] {
        let (began, used) = (clock.monotonic(), cpu());
        let ask = async |_| {
            let mut asked = 0_u32;
            while clock.monotonic() - began < ROUND {
                a.ask(NodeId(2), Lane::Urgent, message.clone(), Duration::from_secs(10)).await.unwrap();
                asked += 1;
            }
            asked
        };
        let asked: u32 = join_all((0..at_once).map(ask)).await.into_iter().sum();
        let (took, used) = (clock.monotonic() - began, cpu() - used);
        println!(
            "{at_once:>3} at once: {:>7.0} messages/s, {:>5.1} us of CPU each (both nodes), {:>6.1} us from asking to the answer",
            f64::from(asked) / took.as_secs_f64(),
            used.as_secs_f64() * 1e6 / f64::from(asked),
            took.as_secs_f64() * 1e6 / f64::from(asked) * f64::from(at_once),
        );
    }
}
