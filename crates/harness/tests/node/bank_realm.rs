//! Namespaces with seals of their own: nothing of one is reached while it is sealed, nothing else notices, and nothing of it
//! is lost. Tests of the security bank are named by their row.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::Settings;
use tresor_harness::{Answer, Harness, ROOT, assembly};

const TENANT: &str = r#"
path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "scan", "sudo"] }"#;
pub(crate) const SEAL: &str = "seal \"shamir\" {\n  shares = 3\n  threshold = 2\n}";

/// One call with a header.
pub(crate) async fn within(harness: &Harness, namespace: &str, call: (&str, &str), token: &str, body: Value) -> Answer {
    let mut request = assembly::request(call.0, call.1, token, &body);
    if !namespace.is_empty() {
        request.headers_mut().insert("x-vault-namespace", namespace.parse().unwrap());
    }
    harness.send(request).await
}

/// Makes a namespace with a seal of its own; gives its shares.
pub(crate) async fn sealed(harness: &Harness, path: &str) -> Vec<String> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let at = format!("sys/namespaces/{name}");
    let made = within(harness, parent, ("POST", &at), ROOT, json!({ "seal": SEAL })).await.expect_status(200);
    assert_eq!(made.at("/data/key_threshold"), 2);
    made.at("/data/key_shares").as_array().unwrap().iter().map(|share| share.as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn enter(harness: &Harness, path: &str, share: &str) -> Answer {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let at = format!("sys/namespaces/{name}/unseal");
    within(harness, parent, ("PUT", &at), ROOT, json!({ "key": share })).await
}

pub(crate) async fn unseal(harness: &Harness, path: &str, shares: &[String]) {
    for share in &shares[..2] {
        drop(enter(harness, path, share).await.expect_status(200));
    }
    assert!(!is_sealed(harness, path).await);
}

pub(crate) async fn seal(harness: &Harness, path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let at = format!("sys/namespaces/{name}/seal");
    drop(within(harness, parent, ("PUT", &at), ROOT, json!({})).await.expect_status(204));
    assert!(is_sealed(harness, path).await);
}

pub(crate) async fn is_sealed(harness: &Harness, path: &str) -> bool {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let at = format!("sys/namespaces/{name}/seal-status");
    within(harness, parent, ("GET", &at), ROOT, Value::Null).await.expect_status(200).at("/data/sealed") == true
}

async fn token(harness: &Harness, namespace: &str, by: &str, wish: Value) -> String {
    let made = within(harness, namespace, ("POST", "auth/token/create"), by, wish).await.expect_status(200);
    made.text_at("/auth/client_token")
}

/// An administrator of an open namespace, which gets a kv store with a secret, and a mount that hands out leases.
pub(crate) async fn furnish(harness: &Harness, path: &str) -> String {
    let policy = json!({ "policy": TENANT });
    drop(within(harness, path, ("PUT", "sys/policies/acl/admin"), ROOT, policy).await.expect_status(204));
    let admin = token(harness, path, ROOT, json!({ "policies": ["admin"], "ttl": "24h", "no_parent": true })).await;
    for (at, kind) in
        [("kv", json!({ "type": "kv", "options": { "version": "1" } })), ("made", json!({ "type": "leasing" }))]
    {
        drop(within(harness, path, ("POST", &format!("sys/mounts/{at}")), &admin, kind).await.expect_status(204));
    }
    drop(within(harness, path, ("POST", "kv/secret"), &admin, json!({ "of": path })).await.expect_status(204));
    admin
}

pub(crate) async fn sums(harness: &Harness, path: &str) -> (bool, u64, u64) {
    let sums = within(harness, path, ("GET", "made/sums"), ROOT, Value::Null).await.expect_status(200);
    let number = |of: &str| sums.at(&format!("/data/{of}")).as_u64().unwrap();
    (sums.at("/data/any_left") == true, number("revoked"), number("twice"))
}

pub(crate) async fn pass(harness: &Harness, seconds: u64) {
    for _ in 0..seconds {
        harness.advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn seal_34_a_namespace_with_a_seal_of_its_own_opens_by_its_own_shares_alone() {
    let mut harness = Harness::start().await;
    let shares = sealed(&harness, "a").await;
    assert_eq!(shares.len(), 3);
    let id = harness.read("sys/namespaces/a", ROOT).await.expect_status(200).text_at("/data/id");
    assert_eq!(id.len(), 12);
    // It comes sealed, and says so to whoever asks above it.
    let status = harness.read("sys/namespaces/a/seal-status", ROOT).await.expect_status(200);
    assert_eq!((status.at("/data/sealed"), status.at("/data/type")), (&json!(true), &json!("shamir")));
    assert_eq!((status.at("/data/t"), status.at("/data/n")), (&json!(2), &json!(3)));
    within(&harness, "a", ("GET", "sys/mounts"), ROOT, Value::Null).await.expect_error(503, "namespace is sealed");
    // Shares that are none, or another seal's, open nothing.
    enter(&harness, "a", "zz").await.expect_error(400, "hex or base64");
    enter(&harness, "a", "00").await.expect_error(400, "wrong length");
    for (share, status) in harness.shares.clone().iter().zip([200, 400]) {
        let share: String = share.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(enter(&harness, "a", &share).await.status, status);
    }
    assert!(is_sealed(&harness, "a").await);
    // One share is not enough; forgotten, it counts for nothing.
    let one = enter(&harness, "a", &shares[0]).await.expect_status(200);
    assert_eq!((one.at("/data/progress"), one.at("/data/sealed")), (&json!(1), &json!(true)));
    assert!(!one.text_at("/data/nonce").is_empty());
    let reset = harness.call("PUT", "sys/namespaces/a/unseal", ROOT, json!({ "reset": true })).await.expect_status(200);
    assert_eq!((reset.at("/data/progress"), reset.at("/data/nonce")), (&json!(0), &json!("")));
    unseal(&harness, "a", &shares).await;
    let admin = furnish(&harness, "a").await;
    // What lies below it is under the same keys, but for what has keys of its own.
    drop(within(&harness, "a", ("POST", "sys/namespaces/in"), ROOT, json!({})).await.expect_status(200));
    let below = furnish(&harness, "a/in").await;
    let inner = sealed(&harness, "a/own").await;
    unseal(&harness, "a/own", &inner).await;
    let own = furnish(&harness, "a/own").await;
    let reads = |namespace: &'static str, token: String| {
        let harness = &harness;
        async move { within(harness, namespace, ("GET", "kv/secret"), &token, Value::Null).await.status }
    };
    assert_eq!(reads("a", admin.clone()).await, 200);
    assert_eq!(reads("a/in", below.clone()).await, 200);
    assert_eq!(reads("a/own", own.clone()).await, 200);
    // Sealing the inner one leaves the outer one open, and the other way round it does not.
    seal(&harness, "a/own").await;
    assert_eq!((reads("a", admin.clone()).await, reads("a/own", own.clone()).await), (200, 503));
    unseal(&harness, "a/own", &inner).await;
    assert_eq!(reads("a/own", own.clone()).await, 200);
    seal(&harness, "a").await;
    for (namespace, token) in [("a", &admin), ("a/in", &below), ("a/own", &own)] {
        for token in [token.as_str(), ROOT] {
            let answer = within(&harness, namespace, ("GET", "kv/secret"), token, Value::Null).await;
            answer.expect_error(503, "namespace is sealed");
        }
    }
    unseal(&harness, "a", &shares).await;
    assert_eq!((reads("a", admin.clone()).await, reads("a/in", below.clone()).await), (200, 200));
    assert_eq!(reads("a/own", own.clone()).await, 503, "it was sealed with the one that it lies in");
    unseal(&harness, "a/own", &inner).await;
    assert_eq!(reads("a/own", own.clone()).await, 200);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    // After a restart all of it is sealed until somebody enters shares again.
    harness.restart().await;
    harness.unseal().await;
    assert!(is_sealed(&harness, "a").await);
    within(&harness, "a", ("GET", "kv/secret"), &admin, Value::Null).await.expect_error(503, "namespace is sealed");
    unseal(&harness, "a", &shares).await;
    let answer = within(&harness, "a", ("GET", "kv/secret"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(answer.at("/data/of"), "a");
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn seal_34_what_makes_no_seal_is_refused() {
    let harness = Harness::start().await;
    for (seal, text) in [
        ("nothing", "invalid seal configuration"),
        ("other \"shamir\" {}", "unknown key `other`"),
        ("seal \"static\" { shares = 1 threshold = 1 }", "of the type `shamir`"),
        ("seal \"shamir\" { shares = 1 }", "`threshold` is missing"),
        ("seal \"shamir\" { shares = 2 threshold = 3 }", "invalid seal configuration"),
        ("seal \"shamir\" { shares = 300 threshold = 3 }", "invalid seal configuration"),
        ("seal \"shamir\" { shares = 3 threshold = 2 name = \"x\" }", "unknown key `name`"),
    ] {
        harness.write("sys/namespaces/a", ROOT, json!({ "seal": seal })).await.expect_error(400, text);
    }
    let keys = json!({ "seal": SEAL, "pgp_keys": ["a key"] });
    harness.write("sys/namespaces/a", ROOT, keys).await.expect_error(400, "PGP key");
    drop(harness.write("sys/namespaces/a", ROOT, json!({})).await.expect_status(200));
    harness.write("sys/namespaces/a", ROOT, json!({ "seal": SEAL })).await.expect_error(400, "modify its seal config");
    for (method, path) in [("GET", "seal-status"), ("PUT", "seal"), ("PUT", "unseal")] {
        let answer = harness.call(method, &format!("sys/namespaces/a/{path}"), ROOT, json!({ "key": "00" })).await;
        answer.expect_error(400, "not sealable");
    }
    // A document in JSON means the same.
    let seal = json!({ "seal": { "shamir": { "shares": 1, "threshold": 1 } } }).to_string();
    let made = harness.write("sys/namespaces/b", ROOT, json!({ "seal": seal })).await.expect_status(200);
    let share = made.text_at("/data/key_shares/0");
    let opened = harness.call("PUT", "sys/namespaces/b/unseal", ROOT, json!({ "key": share })).await.expect_status(200);
    assert_eq!(opened.at("/data/sealed"), false);
}

#[tokio::test]
async fn ns_15_a_sealed_namespace_answers_503_for_everything_and_its_neighbours_do_not_notice() {
    let harness = Harness::start_with(Settings { has_raw_storage: true, ..Settings::default() }).await;
    let shares = sealed(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    let admin = furnish(&harness, "a").await;
    drop(harness.write("sys/namespaces/b", ROOT, json!({})).await.expect_status(200));
    let sibling = furnish(&harness, "b").await;
    for namespace in ["a", "b"] {
        let body = json!({ "type": "userpass" });
        drop(within(&harness, namespace, ("POST", "sys/auth/up"), ROOT, body).await.expect_status(204));
        let body = json!({ "password": "hunter2hunter2" });
        drop(within(&harness, namespace, ("POST", "auth/up/users/u"), ROOT, body).await.expect_status(204));
    }
    let raw = |namespace: &'static str| {
        let harness = &harness;
        async move {
            let id = harness.read(&format!("sys/namespaces/{namespace}"), ROOT).await.text_at("/data/id");
            (harness.list(&format!("sys/raw/{id}/core/mounts"), ROOT).await.status, id)
        }
    };
    let (listed, id) = raw("a").await;
    assert_eq!(listed, 200);
    let mounts = harness.list(&format!("sys/raw/{id}/core/mounts"), ROOT).await;
    let record = format!("sys/raw/{id}/core/mounts/{}", mounts.text_at("/data/keys/0"));
    let shown = harness.read(&format!("{record}?encoding=base64"), ROOT).await.expect_status(200);
    seal(&harness, "a").await;
    let login = json!({ "password": "hunter2hunter2" });
    let calls = [
        ("GET", "kv/secret", Value::Null),
        ("POST", "kv/secret", json!({ "of": "nobody" })),
        ("LIST", "kv", Value::Null),
        ("GET", "made/creds/x", Value::Null),
        ("POST", "auth/up/login/u", login.clone()),
        ("GET", "auth/token/lookup-self", Value::Null),
        ("POST", "auth/token/lookup", json!({ "token": admin })),
        ("POST", "auth/token/create", json!({})),
        ("GET", "sys/mounts", Value::Null),
        ("LIST", "sys/namespaces", Value::Null),
        ("POST", "sys/namespaces/below", json!({})),
        ("GET", "nothing/there", Value::Null),
        ("POST", "sys/wrapping/wrap", json!({ "a": "b" })),
    ];
    for (method, path, body) in &calls {
        for token in [admin.as_str(), ROOT, "", "hvs.nobody"] {
            let answer = within(&harness, "a", (method, path), token, body.clone()).await;
            answer.expect_error(503, "namespace is sealed");
            let by_path = harness.call(method, &format!("a/{path}"), token, body.clone()).await;
            by_path.expect_error(503, "namespace is sealed");
        }
    }
    // What is stored of it is neither shown, nor listed, nor written, nor deleted, raw or not.
    for (method, path, body) in [
        ("LIST", format!("sys/raw/{id}/core/mounts"), Value::Null),
        ("GET", record.clone(), Value::Null),
        ("POST", record.clone(), json!({ "value": shown.text_at("/data/value"), "encoding": "base64" })),
        ("DELETE", record.clone(), Value::Null),
    ] {
        harness.call(method, &path, ROOT, body).await.expect_error(503, "sealed");
    }
    harness.delete("sys/namespaces/a", ROOT).await.expect_error(400, "sealed namespace");
    // Its token is nobody elsewhere, and its neighbour is as ever.
    assert_eq!(harness.read("auth/token/lookup-self", &admin).await.status, 403);
    for (method, path, body) in [
        ("GET", "kv/secret", Value::Null),
        ("POST", "auth/up/login/u", login),
        ("GET", "auth/token/lookup-self", Value::Null),
        ("GET", "made/creds/x", Value::Null),
    ] {
        drop(within(&harness, "b", (method, path), &sibling, body).await.expect_status(200));
    }
    assert_eq!(raw("b").await.0, 200);
    drop(harness.list("sys/namespaces", ROOT).await.expect_status(200));
    pass(&harness, 5).await;
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    unseal(&harness, "a", &shares).await;
    let answer = within(&harness, "a", ("GET", "kv/secret"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(answer.at("/data/of"), "a", "nothing was written meanwhile");
}

#[tokio::test]
async fn ns_08_what_ends_in_a_sealed_namespace_waits_is_in_nobodys_way_and_ends_once() {
    let harness = Harness::start().await;
    let shares = sealed(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    let admin = furnish(&harness, "a").await;
    drop(harness.write("sys/namespaces/b", ROOT, json!({})).await.expect_status(200));
    let other = furnish(&harness, "b").await;
    // More than one step takes, all of them earlier than those of the neighbour.
    for _ in 0..300 {
        drop(within(&harness, "a", ("GET", "made/creds/x?ttl=60s"), &admin, Value::Null).await.expect_status(200));
    }
    let wish = json!({ "policies": ["admin"], "ttl": "60s", "no_parent": true });
    let parent = token(&harness, "a", &admin, wish.clone()).await;
    let wish = json!({ "policies": ["admin"], "ttl": "12h" });
    let child = token(&harness, "a", &parent, wish).await;
    let left = within(&harness, "a", ("GET", "made/creds/x?ttl=12h"), &child, Value::Null).await.expect_status(200);
    pass(&harness, 2).await;
    drop(within(&harness, "b", ("GET", "made/creds/x?ttl=60s"), &other, Value::Null).await.expect_status(200));
    seal(&harness, "a").await;
    pass(&harness, 120).await;
    assert_eq!(sums(&harness, "b").await, (false, 1, 0), "what is due elsewhere ends");
    // Opened: what is over is refused at once, though nobody came by yet.
    unseal(&harness, "a", &shares).await;
    for gone in [&parent, &child] {
        let answer = within(&harness, "a", ("GET", "kv/secret"), gone, Value::Null).await;
        assert_eq!(answer.status, 403, "a token whose ancestor has ended is over");
    }
    pass(&harness, 60).await;
    let (_, revoked, twice) = sums(&harness, "a").await;
    assert_eq!((revoked, twice), (301, 0), "each once, and the lease of the child with it");
    let body = json!({ "lease_id": left.text_at("/lease_id") });
    assert_eq!(within(&harness, "a", ("PUT", "sys/leases/lookup"), ROOT, body).await.status, 400);
    // What was there before lives on.
    assert_eq!(within(&harness, "a", ("GET", "kv/secret"), &admin, Value::Null).await.status, 200);
}

#[tokio::test]
async fn ns_08_what_a_revoked_token_has_in_a_sealed_namespace_goes_when_that_is_opened() {
    let mut harness = Harness::start().await;
    let shares = sealed(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    drop(furnish(&harness, "a").await);
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    let policy = json!({ "policy": TENANT });
    harness.prepare("PUT", "sys/policies/acl/admin", policy).await;
    // One above the namespace, with a lease in it and a child in it that has another; and a child beside it.
    let above = token(&harness, "", ROOT, json!({ "policies": ["admin"], "ttl": "24h" })).await;
    drop(within(&harness, "a", ("GET", "made/creds/x"), &above, Value::Null).await.expect_status(200));
    let inside = token(&harness, "a", &above, json!({ "policies": ["admin"], "ttl": "12h" })).await;
    drop(within(&harness, "a", ("GET", "made/creds/x"), &inside, Value::Null).await.expect_status(200));
    let beside = token(&harness, "", &above, json!({ "policies": ["admin"], "ttl": "12h" })).await;
    drop(harness.read("made/creds/x", &beside).await.expect_status(200));
    seal(&harness, "a").await;
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": above })).await.expect_status(204));
    pass(&harness, 10).await;
    assert_eq!(sums(&harness, "").await, (false, 1, 0), "what is elsewhere is taken back");
    harness.restart().await;
    harness.unseal().await;
    pass(&harness, 10).await;
    unseal(&harness, "a", &shares).await;
    assert_eq!(within(&harness, "a", ("GET", "kv/secret"), &inside, Value::Null).await.status, 403);
    pass(&harness, 10).await;
    assert_eq!(sums(&harness, "a").await, (false, 2, 0));
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn seal_34_nothing_of_a_namespace_with_a_seal_lies_under_the_servers_own_keys() {
    let harness = Harness::start().await;
    let shares = sealed(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    let before = harness.store.dump();
    let admin = furnish(&harness, "a").await;
    for number in 0..200 {
        let body = json!({ "v": number.to_string() });
        drop(within(&harness, "a", ("POST", &format!("kv/d/{number}")), &admin, body).await.expect_status(204));
    }
    let id = harness.read("sys/namespaces/a", ROOT).await.text_at("/data/id");
    let realm = id.as_bytes()[6..].to_vec();
    let after = harness.store.dump();
    let fresh: Vec<_> = after.iter().filter(|(key, _)| !before.iter().any(|(known, _)| known == key)).collect();
    let own = fresh.iter().filter(|(key, _)| key.as_bytes().ends_with(&realm)).count();
    assert!(own > 200, "{own}");
    // The rest is what all namespaces share: when what ends.
    assert!(fresh.len() - own < 40, "{} of {}", fresh.len() - own, fresh.len());
}
