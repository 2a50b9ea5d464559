//! A standby that lags behind its leader, hears nothing of it, or led itself until it stood still: what it answers who chose
//! that data may be old.
//!
//! Deliberately absent: what else decides about a request as it is now (policies, mounts, the key ring); that is asked of nodes
//! without sockets.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::cluster::{Three, insist};
use super::support::hosts::Hosts;
use super::support::{Answer, Http, not_run, until};

const CHOICE: &str = "X-Vault-Inconsistent";
const BEHIND: &str = "X-Tresor-Behind";

#[test]
fn who_allows_it_is_answered_from_older_data_and_never_by_an_older_token() {
    // A thread of its own: it moves to other namespaces, where no other test is to be.
    std::thread::spawn(|| match Hosts::make() {
        Ok(hosts) => answer_from_what_is_there(&hosts),
        Err(why) => not_run("reads of a standby that lags behind", &why),
    })
    .join()
    .unwrap();
}

fn answer_from_what_is_there(hosts: &Hosts) {
    let three = Three::start(hosts);
    let leader = three.leader();
    let standby = (leader + 1) % 3;
    let world = World { hosts, standby, leads: three.http(leader), follows: three.server(standby).http() };
    let policy = json!({ "policy": "path \"kv/*\" { capabilities = [\"read\"] }" });
    insist(&world.leads, "POST", "sys/policies/acl/reads", &policy.to_string());

    let reader = world.reader();
    let stale = reader.with_header(CHOICE, "allow-stale");
    world.write("s", "first");
    // Where nothing is missing, nothing is. A majority without the standby may have had it first.
    until("it to have that", || (seen(&stale.get("kv/s")) == (200, json!("first"), Some(0))).then_some(()));
    for other in ["stale", "Allow-Stale", "allow-stale, fail"] {
        let refused = reader.with_header(CHOICE, other).get("kv/s").expect(400);
        assert!(refused.text.contains("`allow-stale`"), "{other}: {}", refused.text);
    }
    stale.with_header(CHOICE, "await-state").get("kv/s").expect(400);

    // It lacks data alone.
    let (status, x, behind) = world.lag(&stale);
    assert_eq!((status, x), (200, json!("old")));
    assert!(behind >= Some(2), "{behind:?}");
    // Who does not choose that is answered by the leader or, where none is heard any more, not at all.
    for says in ["", "fail", "forward-active-node"] {
        world.lag(&stale);
        let (status, x, behind) = seen(&reader.with_header(CHOICE, says).get("kv/s"));
        let is_new = (status, &x) == (200, &json!("new"));
        assert!((is_new || status == 503) && behind.is_none(), "{says}: {status} {x} {behind:?}");
    }

    // It lacks that the token was revoked, and knows that it lacks something.
    world.lag(&stale);
    let token = stale.token();
    world.leads.post("auth/token/revoke", &json!({ "token": token })).expect(204);
    let refused = stale.get("kv/s");
    assert!(matches!(refused.status, 403 | 503), "{}", refused.text);
    hosts.lose_nothing_at(standby);
    until("it to know", || Some(stale.get("kv/s")).filter(|answer| answer.status != 503)).expect(403);

    // It hears nobody, so it may lack anything.
    let stale = world.reader().with_header(CHOICE, "allow-stale");
    world.lag(&stale);
    hosts.lose_all_at(standby);
    for http in [&stale, &world.follows.with_token(&three.root)] {
        let refused = until("it to be refused", || Some(http.get("kv/s")).filter(|answer| answer.status != 200));
        assert_eq!((refused.status, refused.header(BEHIND)), (503, None), "{}", refused.text);
    }
    stale.send("POST", "kv/s", &json!({ "x": "lost" }).to_string()).expect(503);
    hosts.lose_nothing_at(standby);
    until("it to hear them again", || (seen(&stale.get("kv/s")) == (200, json!("new"), Some(0))).then_some(()));

    // Who led and stood still wakes up, and does not know yet what became of the token.
    let leader = three.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let stale = three.server(leader).http().with_token(stale.token()).with_header(CHOICE, "allow-stale");
    stale.get("kv/s").expect(200);
    three.server(leader).signal(Signal::STOP);
    until("another leader", || three.leader_seen_by(&others).filter(|it| *it != leader));
    insist(&three.http(others[0]), "POST", "auth/token/revoke", &json!({ "token": stale.token() }).to_string());
    three.server(leader).signal(Signal::CONT);
    until("it to know better", || {
        let answer = stale.get("kv/s");
        assert_ne!(answer.status, 200, "{}", answer.text);
        (answer.status == 403).then_some(())
    });
}

struct World<'h> {
    hosts: &'h Hosts,
    standby: usize,
    /// The leader, as root.
    leads: Http,
    /// The standby, as nobody.
    follows: Http,
}

impl World<'_> {
    /// The standby as somebody new, who may read.
    fn reader(&self) -> Http {
        let made = insist(&self.leads, "POST", "auth/token/create", &json!({ "policies": ["reads"] }).to_string());
        self.follows.with_token(&made.text_at("/auth/client_token"))
    }

    fn write(&self, name: &str, x: &str) {
        self.leads.post(&format!("kv/{name}"), &json!({ "x": x })).expect(204);
    }

    /// Lets the standby lack the last two writes; what it answers then who allows that.
    fn lag(&self, stale: &Http) -> (u16, Value, Option<u64>) {
        until("it to lag behind", || {
            self.hosts.lose_nothing_at(self.standby);
            self.write("s", "old");
            until("it to have that", || (seen(&stale.get("kv/s")) == (200, json!("old"), Some(0))).then_some(()));
            self.hosts.lose_large_at(self.standby);
            self.write("large", &"0".repeat(16_000));
            self.write("s", "new");
            // The time is told every 5 s; when that is lacking, too, the leader is asked.
            Some(seen(&stale.get("kv/s"))).filter(|(_, _, behind)| behind.is_some())
        })
    }
}

/// The status of an answer, the secret in it, and how many entries it does without, if it says so.
fn seen(answer: &Answer) -> (u16, Value, Option<u64>) {
    (answer.status, answer.at("/data/x"), answer.header(BEHIND).map(|behind| behind.parse().unwrap()))
}
