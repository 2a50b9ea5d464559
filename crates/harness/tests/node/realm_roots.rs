//! Root tokens of namespaces that have a seal of their own: made by its shares, mighty there and below, and nobody elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::cluster::World;
use tresor_harness::{Answer, Harness, ROOT, assembly};

use crate::bank_realm::{SEAL, furnish, pass, seal, sealed, unseal, within};

const ATTEMPT: &str = "sys/generate-root-token/attempt";
const UPDATE: &str = "sys/generate-root-token/update";

/// Begins in a namespace, enters these shares, and gives the last answer and the password.
async fn entered(harness: &Harness, namespace: &str, by: &str, shares: &[String]) -> (Answer, String) {
    let begun = within(harness, namespace, ("POST", ATTEMPT), by, json!({})).await.expect_status(200);
    let (nonce, otp) = (begun.text_at("/data/nonce"), begun.text_at("/data/otp"));
    let mut last = begun;
    for share in shares {
        last = within(harness, namespace, ("POST", UPDATE), by, json!({ "key": share, "nonce": nonce })).await;
    }
    (last, otp)
}

/// A root token of a namespace.
async fn root_of(harness: &Harness, namespace: &str, by: &str, shares: &[String]) -> String {
    let (made, otp) = entered(harness, namespace, by, &shares[..2]).await;
    let made = made.expect_status(200);
    assert_eq!((made.at("/data/complete"), made.at("/data/progress")), (&json!(true), &json!(2)));
    let decode = json!({ "encoded_token": made.text_at("/data/encoded_token"), "otp": otp });
    within(harness, namespace, ("POST", "sys/decode-token"), "", decode).await.expect_status(200).text_at("/data/token")
}

/// An open namespace with a seal of its own, its shares, and an administrator of it.
async fn tenant(harness: &Harness, path: &str) -> (Vec<String>, String) {
    let shares = sealed(harness, path).await;
    unseal(harness, path, &shares).await;
    let admin = furnish(harness, path).await;
    (shares, admin)
}

async fn child(harness: &Harness, namespace: &str, by: &str, wish: Value) -> Answer {
    within(harness, namespace, ("POST", "auth/token/create"), by, wish).await
}

/// What only whoever is known somewhere may ask; nothing of it is done where it is refused.
const ASKED: &[(&str, &str)] = &[
    ("GET", "kv/secret"),
    ("POST", "kv/secret"),
    ("LIST", "kv"),
    ("GET", "made/creds/x"),
    ("GET", "auth/token/lookup-self"),
    ("POST", "auth/token/create"),
    ("POST", "auth/token/create-orphan"),
    ("POST", "auth/token/revoke-self"),
    ("LIST", "auth/token/accessors"),
    ("GET", "sys/mounts"),
    ("POST", "sys/mounts/more"),
    ("PUT", "sys/policies/acl/more"),
    ("LIST", "sys/namespaces"),
    ("POST", "sys/namespaces/more"),
    ("PUT", "sys/namespaces/a/seal"),
    ("PUT", "sys/namespaces/b/seal"),
    ("PUT", "sys/namespaces/b/unseal"),
    ("DELETE", "sys/namespaces/b"),
    ("POST", "sys/namespaces/api-lock/lock/b"),
    ("POST", "sys/capabilities-self"),
    ("POST", ATTEMPT),
    ("POST", "sys/rotate/root/init"),
    ("POST", "sys/leases/revoke-prefix/made"),
    ("POST", "sys/remount"),
    ("GET", "cubbyhole/a"),
    ("POST", "sys/wrapping/wrap"),
    ("GET", "nothing/there"),
];

/// What is about the whole server.
const OF_THE_SERVER: &[(&str, &str)] = &[
    ("POST", "sys/seal"),
    ("PUT", "sys/step-down"),
    ("GET", "sys/audit"),
    ("GET", "sys/generate-root/attempt"),
    ("POST", "sys/generate-root/attempt"),
    ("GET", "sys/rekey/init"),
    ("GET", "sys/raw/core/x"),
    ("GET", "sys/storage/raft/snapshot"),
    ("LIST", "sys/quotas/rate-limit"),
    ("GET", "sys/seal-slots"),
];

#[tokio::test]
async fn ns_14_seal_34_a_root_token_of_a_namespace_may_all_there_and_below_and_nothing_elsewhere() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let (shares, admin) = tenant(&harness, "a").await;
    let (_, of_b) = tenant(&harness, "b").await;
    drop(harness.write("sys/namespaces/c", ROOT, json!({})).await.expect_status(200));
    drop(furnish(&harness, "c").await);
    for (at, kind) in
        [("kv", json!({ "type": "kv", "options": { "version": "1" } })), ("made", json!({ "type": "leasing" }))]
    {
        harness.prepare("POST", &format!("sys/mounts/{at}"), kind).await;
    }
    harness.prepare("POST", "kv/secret", json!({ "of": "the server" })).await;

    let token = root_of(&harness, "a", &admin, &shares).await;
    let id = harness.read("sys/namespaces/a", ROOT).await.text_at("/data/id");
    assert!(token.starts_with("hvs.") && token.ends_with(&format!(".{id}")), "{token}");
    assert!(!harness.audit_text().await.contains(&token));
    // It is shown like others.
    let found = within(&harness, "a", ("GET", "auth/token/lookup-self"), &token, Value::Null).await.expect_status(200);
    for (at, expected) in [
        ("policies", json!(["root"])),
        ("orphan", json!(true)),
        ("ttl", json!(0)),
        ("expire_time", Value::Null),
        ("renewable", json!(false)),
        ("path", json!("auth/token/root")),
        ("display_name", json!(format!("{id}_root"))),
        ("namespace_path", json!("a/")),
    ] {
        assert_eq!(found.at(&format!("/data/{at}")), &expected, "{at}");
    }
    let accessor = found.text_at("/data/accessor");
    let listed = within(&harness, "a", ("LIST", "auth/token/accessors"), &admin, Value::Null).await.expect_status(200);
    assert!(listed.at("/data/keys").as_array().unwrap().contains(&json!(accessor)));
    assert!(
        !harness.list("auth/token/accessors", ROOT).await.at("").to_string().contains(&accessor),
        "it is none of the server's"
    );

    // There, and below, whatever keys that is under, it may do all.
    drop(within(&harness, "a", ("POST", "sys/namespaces/in"), &token, json!({})).await.expect_status(200));
    let made = within(&harness, "a", ("POST", "sys/namespaces/own"), &token, json!({ "seal": SEAL })).await;
    let inner: Vec<String> = made
        .expect_status(200)
        .at("/data/key_shares")
        .as_array()
        .unwrap()
        .iter()
        .map(|share| share.as_str().unwrap().to_owned())
        .collect();
    unseal(&harness, "a/own", &inner).await;
    for below in ["a", "a/in", "a/own"] {
        if below != "a" {
            let kv = json!({ "type": "kv", "options": { "version": "1" } });
            drop(within(&harness, below, ("POST", "sys/mounts/kv"), &token, kv).await.expect_status(204));
        }
        drop(within(&harness, below, ("POST", "kv/of-root"), &token, json!({ "is": below })).await.expect_status(204));
        let read = within(&harness, below, ("GET", "kv/of-root"), &token, Value::Null).await.expect_status(200);
        assert_eq!(read.at("/data/is"), below);
        let asked = json!({ "paths": ["kv/x", "sys/policies/acl/y"] });
        let may = within(&harness, below, ("POST", "sys/capabilities-self"), &token, asked).await.expect_status(200);
        assert_eq!(
            (may.at("/data/kv~1x"), may.at("/data/sys~1policies~1acl~1y")),
            (&json!(["root"]), &json!(["root"]))
        );
    }
    drop(within(&harness, "a", ("POST", "sys/rotate"), &token, json!({})).await.expect_status(204));
    // Nowhere else is it a token at all, however that is spelled, and nobody tells it more than a stranger.
    for (method, path) in ASKED.iter().chain(OF_THE_SERVER) {
        for namespace in ["", "b", "c", "nowhere"] {
            let stranger = within(&harness, namespace, (method, path), "hvs.nobody", json!({ "of": "a" })).await;
            let refused = within(&harness, namespace, (method, path), &token, json!({ "of": "a" })).await;
            assert_eq!(
                (refused.status, refused.errors()),
                (stranger.status, stranger.errors()),
                "{namespace} {method} {path}"
            );
            let spelled = [namespace, path].join("/");
            let by_path = harness.call(method, spelled.trim_start_matches('/'), &token, json!({ "of": "a" })).await;
            assert_eq!(by_path.status, stranger.status, "{spelled}");
        }
    }
    for namespace in ["", "b", "c"] {
        let read = within(&harness, namespace, ("GET", "kv/secret"), ROOT, Value::Null).await.expect_status(200);
        assert_ne!(read.at("/data/of"), "a", "nothing was written");
    }
    drop(within(&harness, "b", ("GET", "kv/secret"), &of_b, Value::Null).await.expect_status(200));
    // What is about the whole server is not asked in a namespace, whoever does.
    for (method, path) in OF_THE_SERVER {
        let answer = within(&harness, "a", (method, path), &token, json!({})).await;
        assert!([400, 404].contains(&answer.status), "{method} {path}: {answer:?}");
    }
    // A text that says another home is another text.
    let bare = token.rsplit_once('.').unwrap().0;
    let of_another = harness.read("sys/namespaces/b", ROOT).await.text_at("/data/id");
    for forged in [
        bare.to_owned(),
        format!("{bare}.root"),
        format!("{bare}."),
        format!("{bare}.{of_another}"),
        format!("{token}.{of_another}"),
    ] {
        for namespace in ["", "a", "b", "c"] {
            let answer = within(&harness, namespace, ("GET", "kv/secret"), &forged, Value::Null).await;
            assert_eq!(answer.status, 403, "{namespace}");
        }
    }
    for (at, wish) in [
        ("lookup", json!({ "token": token })),
        ("lookup-accessor", json!({ "accessor": accessor })),
        ("revoke", json!({ "token": token })),
        ("revoke-accessor", json!({ "accessor": accessor })),
    ] {
        for namespace in ["", "b"] {
            let answer = within(&harness, namespace, ("POST", &format!("auth/token/{at}")), ROOT, wish.clone()).await;
            // Revoking what is not there is no failure, and revokes nothing.
            let is_warned = answer.at("/warnings/0").as_str().is_some_and(|text| text.contains("No token found"));
            assert!([204, 400, 403, 404].contains(&answer.status) || is_warned, "{namespace} {at}: {answer:?}");
        }
    }
    drop(within(&harness, "a", ("GET", "kv/secret"), &token, Value::Null).await.expect_status(200));
}

#[tokio::test]
async fn seal_34_root_tokens_of_a_namespace_come_of_each_other_and_end_like_others() {
    let mut harness = Harness::start().await;
    let (shares, admin) = tenant(&harness, "a").await;
    let token = root_of(&harness, "a", &admin, &shares).await;
    drop(within(&harness, "a", ("POST", "sys/namespaces/in"), &token, json!({})).await.expect_status(200));
    // Another one is made of a root token alone, and not from above, nor from beside.
    let root = json!({ "policies": ["root"] });
    let another = child(&harness, "a", &token, root.clone()).await.expect_status(200).text_at("/auth/client_token");
    let orphan = json!({ "policies": ["root"], "no_parent": true });
    let orphan = child(&harness, "a", &token, orphan).await.expect_status(200).text_at("/auth/client_token");
    let dated = json!({ "policies": ["root"], "ttl": "60s" });
    let dated = child(&harness, "a", &token, dated).await.expect_status(200).text_at("/auth/client_token");
    child(&harness, "a", &admin, root.clone()).await.expect_error(400, "root tokens may not be created");
    child(&harness, "a", ROOT, root.clone()).await.expect_error(400, "from a parent namespace");
    child(&harness, "a/in", &token, root.clone()).await.expect_error(400, "from a parent namespace");
    child(&harness, "", &token, root).await.expect_error(403, "permission denied");
    child(&harness, "a", &token, json!({ "id": "mine" })).await.expect_error(400, "root namespace");
    let lesser = child(&harness, "a", &token, json!({ "policies": ["admin"], "ttl": "1h" })).await;
    let lesser = lesser.expect_status(200).text_at("/auth/client_token");
    let of = async |harness: &Harness, token: &str| {
        within(harness, "a", ("GET", "kv/secret"), token, Value::Null).await.status
    };
    for token in [&another, &orphan, &dated, &lesser] {
        assert_eq!(of(&harness, token).await, 200);
    }
    pass(&harness, 70).await;
    assert_eq!(of(&harness, &dated).await, 403);
    // While the namespace is sealed it is nobody's token, and afterwards it is again.
    seal(&harness, "a").await;
    assert_eq!(of(&harness, &token).await, 503);
    harness.restart().await;
    harness.unseal().await;
    unseal(&harness, "a", &shares).await;
    assert_eq!((of(&harness, &token).await, of(&harness, &another).await), (200, 200));
    // Revoked it takes along what is below it.
    let found = within(&harness, "a", ("GET", "auth/token/lookup-self"), &token, Value::Null).await;
    let accessor = json!({ "accessor": found.text_at("/data/accessor") });
    let revoked = within(&harness, "a", ("POST", "auth/token/revoke-accessor"), &admin, accessor).await;
    drop(revoked.expect_status(204));
    for (token, status) in [(&token, 403), (&another, 403), (&lesser, 403), (&orphan, 200)] {
        assert_eq!(of(&harness, token).await, status);
    }
    // A namespace that is deleted takes its root tokens along, and leaves nothing.
    drop(within(&harness, "a", ("DELETE", "sys/namespaces/in"), ROOT, Value::Null).await.expect_status(200));
    pass(&harness, 30).await;
    drop(harness.delete("sys/namespaces/a", ROOT).await.expect_status(200));
    assert_eq!(of(&harness, &orphan).await, 403);
    pass(&harness, 60).await;
    assert_eq!(harness.read("sys/namespaces/a", ROOT).await.status, 404);
    let (shares, admin) = tenant(&harness, "a").await;
    assert_eq!(of(&harness, &orphan).await, 403, "one of the same name is another");
    drop(root_of(&harness, "a", &admin, &shares).await);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn seal_34_only_enough_shares_of_a_namespace_make_its_root_token() {
    let harness = Harness::start().await;
    let (shares, admin) = tenant(&harness, "a").await;
    let (others, of_b) = tenant(&harness, "b").await;
    let of_server: Vec<String> =
        harness.shares.iter().map(|share| share.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    // Who may ask is a matter of policies.
    let weak = child(&harness, "a", &admin, json!({ "policies": ["default"] })).await.text_at("/auth/client_token");
    for token in ["", "hvs.nobody", weak.as_str(), of_b.as_str()] {
        for (method, path) in [("GET", ATTEMPT), ("POST", ATTEMPT), ("DELETE", ATTEMPT), ("POST", UPDATE)] {
            let answer = within(&harness, "a", (method, path), token, json!({})).await;
            answer.expect_error(403, "permission denied");
        }
    }
    // Shares of others are none, and the attempt goes on.
    for wrong in [&others[..2], &of_server[..2]] {
        let (answer, _) = entered(&harness, "a", &admin, wrong).await;
        answer.expect_error(400, "root key verification failed");
        drop(within(&harness, "a", ("DELETE", ATTEMPT), &admin, Value::Null).await.expect_status(204));
    }
    let begun = within(&harness, "a", ("POST", ATTEMPT), &admin, json!({})).await.expect_status(200);
    assert_eq!((begun.at("/data/required"), begun.at("/data/otp_length")), (&json!(2), &json!(28 + 13)));
    assert_eq!(begun.text_at("/data/otp").len(), 28 + 13);
    let nonce = begun.text_at("/data/nonce");
    let enter = async |share: &str, nonce: &str| {
        within(&harness, "a", ("POST", UPDATE), &admin, json!({ "key": share, "nonce": nonce })).await
    };
    within(&harness, "a", ("POST", ATTEMPT), &admin, json!({})).await.expect_error(400, "already in progress");
    enter(&shares[0], "another").await.expect_error(400, "incorrect nonce");
    enter("zz", &nonce).await.expect_error(400, "hex or base64");
    enter("", &nonce).await.expect_error(400, "'key' must be specified");
    let first = enter(&shares[0], &nonce).await.expect_status(200);
    assert_eq!((first.at("/data/progress"), first.at("/data/complete")), (&json!(1), &json!(false)));
    assert_eq!(first.at("/data/encoded_token"), "");
    enter(&shares[0], &nonce).await.expect_error(400, "already been provided");
    // That of the server, and that of another namespace, are others.
    for (namespace, token) in [("", ROOT), ("b", of_b.as_str())] {
        let status = within(&harness, namespace, ("GET", ATTEMPT), token, Value::Null).await.expect_status(200);
        assert_eq!(status.at("/data/started"), false);
        let body = json!({ "key": shares[1], "nonce": nonce });
        within(&harness, namespace, ("POST", UPDATE), token, body).await.expect_error(400, "no root generation");
    }
    // Sealing ends it.
    seal(&harness, "a").await;
    for (method, path) in [("GET", ATTEMPT), ("POST", ATTEMPT), ("POST", UPDATE)] {
        within(&harness, "a", (method, path), ROOT, json!({})).await.expect_error(503, "namespace is sealed");
    }
    unseal(&harness, "a", &shares).await;
    let status = within(&harness, "a", ("GET", ATTEMPT), &admin, Value::Null).await.expect_status(200);
    assert_eq!((status.at("/data/started"), status.at("/data/nonce")), (&json!(false), &json!("")));
    // So does a day.
    drop(within(&harness, "a", ("POST", ATTEMPT), &admin, json!({})).await.expect_status(200));
    harness.advance(Duration::from_secs(24 * 3600)).await;
    let status = within(&harness, "a", ("GET", ATTEMPT), ROOT, Value::Null).await.expect_status(200);
    assert_eq!(status.at("/data/started"), false);
    // A password is as long as the token.
    for otp in ["short", "0123456789abcdefghijklmnopqr", &"x".repeat(42)] {
        let answer = within(&harness, "a", ("POST", ATTEMPT), ROOT, json!({ "otp": otp })).await;
        answer.expect_error(400, "OTP string has incorrect length");
    }
    for (wish, text) in [
        (json!({ "pgp_key": "bm8ga2V5" }), "error parsing PGP key"),
        (json!({ "otp": ["x"] }), "otp"),
        (json!({ "pgp_key": { "a": 1 } }), "pgp_key"),
    ] {
        within(&harness, "a", ("POST", ATTEMPT), ROOT, wish).await.expect_error(400, text);
    }
    // What has no seal of its own has no shares, whatever lies around it.
    drop(harness.write("sys/namespaces/plain", ROOT, json!({})).await.expect_status(200));
    drop(within(&harness, "a", ("POST", "sys/namespaces/in"), ROOT, json!({})).await.expect_status(200));
    for namespace in ["plain", "a/in"] {
        for (method, path) in [("GET", ATTEMPT), ("POST", ATTEMPT), ("DELETE", ATTEMPT), ("POST", UPDATE)] {
            let answer = within(&harness, namespace, (method, path), ROOT, json!({})).await;
            answer.expect_error(400, "namespace is not sealable");
        }
        let older = within(&harness, namespace, ("GET", "sys/generate-root/attempt"), ROOT, Value::Null).await;
        older.expect_error(400, "root namespace");
    }
}

#[tokio::test]
async fn seal_34_in_a_cluster_a_root_token_of_a_namespace_is_made_at_any_node_and_is_one_at_all() {
    let world = World::new(3, 83).await;
    let call = async |at: usize, method: &str, path: &str, token: &str, body: Value| {
        let mut request = assembly::request(method, path, token, &body);
        request.headers_mut().insert("x-vault-namespace", "a".parse().unwrap());
        world.drive(world.send(at, request)).await
    };
    let made = world.prepare(1, "POST", "sys/namespaces/a", json!({ "seal": SEAL })).await;
    let shares: Vec<String> = made
        .at("/data/key_shares")
        .as_array()
        .unwrap()
        .iter()
        .map(|share| share.as_str().unwrap().to_owned())
        .collect();
    for (at, share) in shares.iter().take(2).enumerate() {
        drop(world.prepare(at, "PUT", "sys/namespaces/a/unseal", json!({ "key": share })).await);
    }
    let begun = call(0, "POST", ATTEMPT, ROOT, json!({})).await.expect_status(200);
    let nonce = begun.text_at("/data/nonce");
    drop(call(1, "POST", UPDATE, ROOT, json!({ "key": shares[0], "nonce": nonce })).await.expect_status(200));
    let made = call(2, "POST", UPDATE, ROOT, json!({ "key": shares[2], "nonce": nonce })).await.expect_status(200);
    let decode = json!({ "encoded_token": made.text_at("/data/encoded_token"), "otp": begun.text_at("/data/otp") });
    let token = call(1, "POST", "sys/decode-token", "", decode).await.expect_status(200).text_at("/data/token");
    for at in 0..3 {
        let found = call(at, "GET", "auth/token/lookup-self", &token, Value::Null).await.expect_status(200);
        assert_eq!(found.at("/data/policies"), &json!(["root"]), "at n{at}");
        assert_eq!(world.call(at, "GET", "auth/token/lookup-self", &token, Value::Null).await.status, 403, "at n{at}");
    }
}
