//! The same over real sockets, files and clocks: three nodes in this process.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tresor_env::{BoxFuture, Doors};
use tresor_env_os::doors;
use tresor_peers::{Declined, Handler, Lane, Member, Members, NodeId, NodeKey, NodeKeyError, Peers, PublicKey, Timing};

const WITHIN: Duration = Duration::from_secs(20);

struct Echo;

impl Handler for Echo {
    fn answer(&self, from: NodeId, lane: Lane, message: Bytes) -> BoxFuture<'_, Result<Bytes, Declined>> {
        Box::pin(async move { Ok([format!("{from} {lane:?} ").as_bytes(), &message].concat().into()) })
    }
}

struct Node {
    home: tempfile::TempDir,
    key: PublicKey,
    peers: Option<Peers>,
    address: String,
}

impl Node {
    async fn start(home: tempfile::TempDir, doors: &Doors, address: &str) -> Self {
        let key = NodeKey::open(&*doors.disk, home.path(), &*doors.entropy).unwrap();
        let peers = Peers::new(doors, &key, Arc::new(Echo), Timing::default()).unwrap();
        let address = peers.listen(address.parse().unwrap()).await.unwrap();
        Self { home, key: key.public(), peers: Some(peers), address: address.to_string() }
    }
}

fn introduce(nodes: &[Node]) {
    let all = nodes
        .iter()
        .zip(0..)
        .map(|(node, id)| (NodeId(id), Member { key: node.key, addresses: vec![node.address.clone()] }));
    let members = Members::new(all).unwrap();
    for node in nodes {
        node.peers.as_ref().unwrap().set_members(members.clone()).unwrap();
    }
}

async fn assert_all_reach_all(nodes: &[Node]) {
    for (from, node) in nodes.iter().enumerate() {
        for to in (0..nodes.len()).filter(|to| *to != from) {
            for lane in Lane::ALL {
                let asked = node.peers.as_ref().unwrap().ask(
                    NodeId(u64::try_from(to).unwrap()),
                    lane,
                    Bytes::from_static(b"hello"),
                    WITHIN,
                );
                assert_eq!(asked.await.unwrap(), format!("{from} {lane:?} hello"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_talk_over_loopback_also_after_a_restart_with_all_addresses_changed() {
    let doors = doors();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(tempfile::tempdir().unwrap(), &doors, "127.0.0.1:0").await);
    }
    introduce(&nodes);
    assert_all_reach_all(&nodes).await;
    let large = Bytes::from(vec![7; 20 << 20]);
    let asked = nodes[0].peers.as_ref().unwrap().ask(NodeId(1), Lane::Entries, large.clone(), WITHIN);
    assert!(asked.await.unwrap().ends_with(&large));
    let mut again = Vec::new();
    for node in nodes {
        drop(node.peers);
        let next = Node::start(node.home, &doors, "127.0.0.2:0").await;
        assert_eq!(next.key, node.key);
        assert_ne!(next.address, node.address);
        again.push(next);
    }
    introduce(&again);
    assert_all_reach_all(&again).await;
}

#[test]
fn the_keys_file_is_private_and_refused_by_name_when_others_may_read_it() {
    let (home, doors) = (tempfile::tempdir().unwrap(), doors());
    let open = || NodeKey::open(&*doors.disk, home.path(), &*doors.entropy);
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let made = open().map(|key| key.public());
    rustix::process::umask(before);
    let made = made.unwrap();
    let path = home.path().join("node.key");
    let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    for too_open in [0o640, 0o604, 0o622, 0o777] {
        mode(too_open);
        let error = open().err().unwrap();
        assert!(matches!(error, NodeKeyError::TooOpen { mode, .. } if mode == too_open));
        assert!(error.to_string().contains("node.key` has mode 0"), "{error}");
    }
    mode(0o400);
    assert_eq!(open().unwrap().public(), made);
}
