//! `rabbitmq` and `aws` on a server that is killed at every word that they say to whom they act on, before it is heard there and
//! after: of what is made and taken back nothing is left without a lease, and no lease without it; and a key that is rotated
//! works. Tests of the security bank are named by their row.
//!
//! Deliberately absent: what comes true after the kill (`outside.rs`), and `ldap` (`killed_ldap.rs`; its rotations
//! in `ldap.rs`).
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::cluster::Alone;
use tresor_env::doubles::TestDoors;
use tresor_env::outgoing::{Outgoing, OutgoingAnswer, OutgoingError, OutgoingRequest};
use tresor_env::{BoxFuture, Clock};
use tresor_harness::{Harness, ROOT, assembly};
use tresor_wire::time::rfc3339;

use crate::{wire_aws, wire_rabbitmq};

/// Whether the last word is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    No,
    Yes,
}

/// What the line stands at, counted from when it was told to.
#[derive(Default)]
struct Stand {
    /// Where it stops.
    at: Option<(usize, Heard)>,
    /// What was said so far.
    said: usize,
    is_held: bool,
}

type Server = Box<dyn Fn(&OutgoingRequest) -> Result<(u16, Vec<u8>), OutgoingError> + Send + Sync>;

/// The way to a server of others, on which nothing is heard any more from a certain word on.
struct Line {
    server: Server,
    stand: Mutex<Stand>,
}

impl Line {
    fn to(server: Server) -> Arc<Self> {
        Arc::new(Self { server, stand: Mutex::default() })
    }

    /// From now on counts what is said, and stops there.
    fn stop_at(&self, at: Option<(usize, Heard)>) {
        *self.stand.lock().unwrap() = Stand { at, ..Stand::default() };
    }

    fn is_held(&self) -> bool {
        self.stand.lock().unwrap().is_held
    }

    fn said(&self) -> usize {
        self.stand.lock().unwrap().said
    }
}

impl Outgoing for Line {
    fn ask(&self, request: OutgoingRequest) -> BoxFuture<'_, Result<OutgoingAnswer, OutgoingError>> {
        let stops = {
            let mut stand = self.stand.lock().unwrap();
            stand.said += 1;
            let stops = stand.at.filter(|(at, _)| *at == stand.said).map(|(_, heard)| heard);
            stand.is_held |= stops.is_some();
            stops
        };
        if stops == Some(Heard::No) {
            return Box::pin(std::future::pending());
        }
        let answer = (self.server)(&request);
        if stops == Some(Heard::Yes) {
            return Box::pin(std::future::pending());
        }
        let answer = answer.map(|(status, body)| OutgoingAnswer { status, body: body.into() });
        Box::pin(async move { answer })
    }
}

/// A node, and the one line that it has to others.
struct Node {
    harness: Harness,
    line: Arc<Line>,
}

impl Node {
    async fn on(line: Arc<Line>) -> Self {
        let mut doors = TestDoors::new(1);
        doors.doors.outgoing = Arc::<Line>::clone(&line);
        let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
        harness.initialize().await;
        Self { harness, line }
    }

    async fn post(&self, path: &str, body: Value) {
        self.harness.prepare("POST", path, body).await;
    }

    /// Does something until it says a certain word, and kills the server there. Whether it says as much.
    async fn stopped_at(&mut self, at: usize, heard: Heard, does: impl AsyncFnOnce(&Harness)) -> bool {
        self.line.stop_at(Some((at, heard)));
        let is_held = {
            let mut doing = std::pin::pin!(does(&self.harness));
            loop {
                tokio::select! {
                    biased;
                    () = &mut doing => break self.line.is_held(),
                    () = tokio::task::yield_now() => if self.line.is_held() { break true },
                }
            }
        };
        self.line.stop_at(None);
        if is_held {
            self.harness.kill();
            // The one that was killed does nothing any more.
            self.harness.advance(Duration::from_secs(2)).await;
            assert_eq!(self.line.said(), 0);
        }
        is_held
    }

    /// The same, and opens another server on the same store.
    async fn killed_at(&mut self, at: usize, heard: Heard, does: impl AsyncFnOnce(&Harness)) -> bool {
        let was_said = self.stopped_at(at, heard, does).await;
        if was_said {
            self.harness.unseal().await;
        }
        was_said
    }

    /// Lets time pass in steps, so that what follows from one thing can happen after the other.
    async fn pass(&self, steps: u32, seconds: u64) {
        for _ in 0..steps {
            self.harness.advance(Duration::from_secs(seconds)).await;
        }
    }

    async fn count(&self, kind: &str) -> Value {
        let path = format!("sys/leases/count?type={kind}");
        self.harness.read(&path, ROOT).await.expect_status(200).at("/data/lease_count").clone()
    }

    /// Kills it at every word of a creation and of an order to take back, and of one that follows from time.
    async fn is_killed_at_every_step(&mut self, creds: &str, accounts: impl Fn() -> usize) -> [usize; 3] {
        let mut words = [0; 3];
        let mut halves = 0;
        for (which, words) in words.iter_mut().enumerate() {
            for at in 1.. {
                let mut goes_on = false;
                for heard in [Heard::No, Heard::Yes] {
                    let place = format!("{which} {at} {heard:?}");
                    let lease = match which {
                        0 => String::new(),
                        _ => self.harness.read(creds, ROOT).await.expect_status(200).text_at("/lease_id"),
                    };
                    // What was made may not be known everywhere at once.
                    self.pass(u32::from(which == 1) * 11, 30).await;
                    let was_said = self
                        .stopped_at(at, heard, async |harness| match which {
                            0 => drop(harness.read(creds, ROOT).await.expect_status(200)),
                            1 => {
                                let body = json!({ "lease_id": lease, "sync": true });
                                drop(harness.write("sys/leases/revoke", ROOT, body).await.expect_status(204));
                            }
                            _ => {
                                for _ in 0..10 {
                                    harness.advance(Duration::from_secs(400)).await;
                                }
                            }
                        })
                        .await;
                    goes_on |= was_said;
                    if was_said {
                        halves += accounts();
                        self.harness.unseal().await;
                    } else if which == 0 {
                        let all = json!({ "sync": true });
                        let path = format!("sys/leases/revoke-prefix/{creds}");
                        self.pass(11, 30).await;
                        drop(self.harness.write(&path, ROOT, all).await.expect_status(204));
                    }
                    // Until the deadline of whoever was killed is over, and once more after that.
                    self.pass(10, 10).await;
                    self.pass(14, 30).await;
                    assert_eq!(accounts(), 0, "{place}: an account without a lease");
                    assert_eq!(self.count("irrevocable").await, 0, "{place}");
                    assert_eq!(self.count("live").await, 0, "{place}: a lease without an account");
                    drop(self.harness.list(&format!("sys/leases/lookup/{creds}"), ROOT).await.expect_status(404));
                    if which > 0 {
                        let shown = self.harness.write("sys/leases/lookup", ROOT, json!({ "lease_id": lease })).await;
                        drop(shown.expect_status(400));
                    }
                }
                if !goes_on {
                    *words = at - 1;
                    break;
                }
            }
        }
        assert_ne!(halves, 0, "it was always killed with nothing made");
        words
    }
}

#[tokio::test]
async fn users_of_a_broker_are_what_leases_say_at_whatever_word_the_server_is_killed() {
    let broker = wire_rabbitmq::Shared::default();
    broker.lock().unwrap().lets_in = wire_rabbitmq::FIRST;
    let server = Arc::clone(&broker);
    let line = Line::to(Box::new(move |request| server.lock().unwrap().answer(request)));
    let mut node = Node::on(line).await;
    node.post("sys/mounts/mq", json!({ "type": "rabbitmq" })).await;
    let config = json!({ "connection_uri": wire_rabbitmq::BROKER, "username": "admin", "password": "first" });
    node.post("mq/config/connection", config).await;
    node.post("mq/config/lease", json!({ "ttl": "1h", "max_ttl": "1h" })).await;
    let rights = json!({ "configure": "c", "write": "w", "read": ".*" });
    let role = json!({
        "vhosts": { "/": rights, "other": rights }, "vhost_topics": { "/": { "amq.topic": { "write": "", "read": "r" } } },
    });
    node.post("mq/roles/app", role).await;
    let words = node.is_killed_at_every_step("mq/creds/app", || broker.lock().unwrap().users.len()).await;
    // Whether there is one, a user, its permissions in two hosts, and those of a topic.
    assert_eq!(words, [5, 1, 1]);
}

/// A node with a mount that may do everything with this fake.
async fn with_aws() -> (Node, wire_aws::Shared) {
    let aws = wire_aws::Shared::default();
    aws.lock().unwrap().keys.insert("tresor".to_owned(), vec!["AKIAROOT".to_owned()]);
    let server = Arc::clone(&aws);
    let line = Line::to(Box::new(move |request| server.lock().unwrap().answer(request)));
    let node = Node::on(line).await;
    node.post("sys/mounts/aws", json!({ "type": "aws" })).await;
    let root = json!({ "access_key": "AKIAROOT", "secret_key": "planted-secret-key", "max_retries": 0 });
    node.post("aws/config/root", root).await;
    (node, aws)
}

#[tokio::test]
async fn users_of_aws_are_what_leases_say_at_whatever_word_the_server_is_killed() {
    let (mut node, aws) = with_aws().await;
    node.post("aws/config/lease", json!({ "lease": "1h", "lease_max": "1h" })).await;
    node.post("aws/roles/app", wire_aws::user_role()).await;
    let words = node.is_killed_at_every_step("aws/creds/app", || wire_aws::users(&aws).len()).await;
    // The user, three policies, two groups, its key; and all of that taken away again, with what lists it.
    assert_eq!(words, [7, 11, 11]);
    assert!(aws.lock().unwrap().belongings.is_empty(), "what users had is gone with them");
}

#[tokio::test]
async fn dyn_08_the_configured_key_works_at_whatever_word_of_its_rotation_the_server_is_killed() {
    let (mut node, aws) = with_aws().await;
    node.post("aws/roles/app", json!({ "credential_type": "iam_user", "policy_document": "{}" })).await;
    let used = async |node: &Node| node.harness.read("aws/config/root", ROOT).await.text_at("/data/access_key");
    let known = || aws.lock().unwrap().keys["tresor"].clone();
    let mut words = 0;
    for at in 1.. {
        let mut goes_on = false;
        for heard in [Heard::No, Heard::Yes] {
            aws.lock().unwrap().now = Some(rfc3339(node.harness.doors.clock.wall()));
            let was_said = node
                .killed_at(at, heard, async |harness| {
                    drop(harness.write("aws/config/rotate-root", ROOT, json!({})).await.expect_status(200));
                    // The old key is deleted by a call of its own.
                    harness.advance(Duration::from_secs(5)).await;
                })
                .await;
            goes_on |= was_said;
            assert!(known().contains(&used(&node).await), "{at} {heard:?}: the key in use is one that AWS knows");
            let made = node.harness.read("aws/creds/app", ROOT).await.expect_status(200);
            node.pass(12, 30).await;
            assert_eq!(known(), [used(&node).await], "{at} {heard:?}: and the only one");
            let body = json!({ "lease_id": made.text_at("/lease_id"), "sync": true });
            drop(node.harness.write("sys/leases/revoke", ROOT, body).await.expect_status(204));
        }
        if !goes_on {
            words = at - 1;
            break;
        }
    }
    // Who it is, its keys, a new one, a try with that, and the old one deleted.
    assert_eq!(words, 5);
}

#[tokio::test]
async fn a_static_key_works_at_whatever_word_of_its_rotation_the_server_is_killed() {
    let (mut node, aws) = with_aws().await;
    aws.lock().unwrap().keys.insert("app".to_owned(), vec!["AKIAX".to_owned(), "AKIAY".to_owned()]);
    let known = || aws.lock().unwrap().keys["app"].clone();
    let used = async |node: &Node| {
        let shown = node.harness.read("aws/static-creds/r", ROOT).await;
        shown.expect_status(200).text_at("/data/access_key")
    };
    let role = json!({ "username": "app", "rotation_period": "1h" });
    let mut words = [0; 2];
    for (which, words) in words.iter_mut().enumerate() {
        for at in 1.. {
            let mut goes_on = false;
            for heard in [Heard::No, Heard::Yes] {
                let place = format!("{which} {at} {heard:?}");
                if which == 0 {
                    drop(node.harness.delete("aws/static-roles/r", ROOT).await.expect_status(204));
                }
                let was_said = node
                    .killed_at(at, heard, async |harness| {
                        if which == 0 {
                            drop(harness.write("aws/static-roles/r", ROOT, role.clone()).await.expect_status(200));
                        } else {
                            for _ in 0..8 {
                                harness.advance(Duration::from_secs(500)).await;
                            }
                        }
                    })
                    .await;
                goes_on |= was_said;
                if which == 1 {
                    assert!(known().contains(&used(&node).await), "{place}: what is shown works");
                }
                // What was begun is finished, and then what is shown works, too.
                node.pass(14, 30).await;
                let key = used(&node).await;
                assert!(known().contains(&key) && known().len() <= 2, "{place}: {key} of {:?}", known());
                let next = async || used(&node).await != key;
                node.pass(8, 500).await;
                assert!(next().await, "{place}: the next rotation comes in its time");
                assert!(known().contains(&used(&node).await), "{place}: and what it makes works");
            }
            if !goes_on {
                *words = at - 1;
                break;
            }
        }
    }
    assert!(words.iter().all(|words| *words >= 4), "{words:?}");
}
