//! What happens is told to those who listen: what, to whom, when, and until when.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT, assembly};
use tresor_model::{Ending, Fault, Map, Message, Messages, Refusal, map};

/// What is told by now.
pub(crate) async fn told(harness: &Harness, listening: &mut dyn Messages) -> Vec<Value> {
    harness.settle().await;
    let mut events = Vec::new();
    while let Some(message) = listening.next().now_or_never() {
        let Message::Text(text) = message else { panic!("{message:?} after {events:?}") };
        events.push(serde_json::from_str(&text).unwrap());
    }
    events
}

/// The types of what is told by now, and the paths.
async fn told_briefly(harness: &Harness, listening: &mut dyn Messages) -> Vec<(String, String)> {
    let text = |event: &Value, pointer: &str| event.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let events = told(harness, listening).await;
    events.iter().map(|event| (text(event, "/data/event_type"), text(event, "/data/event/metadata/path"))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(kind, path)| ((*kind).to_owned(), (*path).to_owned())).collect()
}

pub(crate) fn as_json() -> Map {
    map! { "json" => "true" }
}

/// How a stream ends, once so much time has passed.
async fn ends(harness: &Harness, listening: &mut dyn Messages, after: Duration) -> Option<Ending> {
    let mut next = pin!(listening.next());
    assert!(next.as_mut().now_or_never().is_none(), "something is told");
    harness.advance(after).await;
    match next.as_mut().now_or_never() {
        Some(Message::End(ending)) => Some(ending),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

async fn with_kv() -> Harness {
    let harness = Harness::start().await;
    for version in ["1", "2"] {
        let body = json!({ "type": "kv", "options": { "version": version } });
        harness.prepare("POST", &format!("sys/mounts/kv{version}"), body).await;
    }
    harness
}

#[tokio::test]
async fn each_change_of_a_secret_is_told_with_the_names_that_clients_know() {
    let harness = with_kv().await;
    let mut listening = harness.listen("", "*", as_json(), ROOT).await.unwrap();
    harness.prepare("POST", "kv1/app", json!({ "password": "s3cret" })).await;
    harness.prepare("DELETE", "kv1/app", Value::Null).await;
    harness.prepare("POST", "kv2/config", json!({ "max_versions": 5 })).await;
    harness.prepare("POST", "kv2/data/app", json!({ "data": { "password": "s3cret" } })).await;
    harness.prepare("PATCH", "kv2/data/app", json!({ "data": { "user": "u" } })).await;
    harness.prepare("POST", "kv2/delete/app", json!({ "versions": [1] })).await;
    harness.prepare("POST", "kv2/undelete/app", json!({ "versions": [1] })).await;
    harness.prepare("POST", "kv2/destroy/app", json!({ "versions": [1, 2] })).await;
    harness.prepare("POST", "kv2/metadata/app", json!({ "custom_metadata": { "a": "b" } })).await;
    harness.prepare("PATCH", "kv2/metadata/app", json!({ "custom_metadata": { "a": "c" } })).await;
    harness.prepare("POST", "kv2/data/app", json!({ "data": { "password": "s3cret" } })).await;
    harness.prepare("DELETE", "kv2/data/app", Value::Null).await;
    // It is deleted already: nothing happens.
    harness.prepare("DELETE", "kv2/data/app", Value::Null).await;
    harness.prepare("DELETE", "kv2/metadata/app", Value::Null).await;
    let events = told(&harness, &mut *listening).await;
    let seen: Vec<Value> =
        events.iter().map(|event| json!([event["data"]["event_type"], event["data"]["event"]["metadata"]])).collect();
    let numbered = |operation: &str, path: &str, current: &str| json!({ "current_version": current, "modified": "true", "oldest_version": "0", "operation": operation, "path": path });
    let with = |mut known: Value, name: &str, value: &str| {
        known[name] = value.into();
        known
    };
    let plain = |operation: &str, path: &str| json!({ "modified": "true", "operation": operation, "path": path });
    let read_at = |known: Value, path: &str| with(known, "data_path", path);
    let expected = [
        json!(["kv-v1/write", read_at(plain("write", "kv1/app"), "kv1/app")]),
        json!(["kv-v1/delete", plain("delete", "kv1/app")]),
        json!(["kv-v2/config-write", read_at(plain("config-write", "kv2/config"), "kv2/config")]),
        json!(["kv-v2/data-write", read_at(numbered("data-write", "kv2/data/app", "1"), "kv2/data/app")]),
        json!(["kv-v2/data-patch", read_at(numbered("data-patch", "kv2/data/app", "2"), "kv2/data/app")]),
        json!(["kv-v2/delete", with(numbered("delete", "kv2/delete/app", "2"), "deleted_versions", "[1]")]),
        json!([
            "kv-v2/undelete",
            read_at(with(numbered("undelete", "kv2/undelete/app", "2"), "undeleted_versions", "[1]"), "kv2/data/app")
        ]),
        json!(["kv-v2/destroy", with(numbered("destroy", "kv2/destroy/app", "2"), "destroyed_versions", "[1,2]")]),
        json!(["kv-v2/metadata-write", read_at(plain("metadata-write", "kv2/metadata/app"), "kv2/metadata/app")]),
        json!(["kv-v2/metadata-patch", read_at(plain("metadata-patch", "kv2/metadata/app"), "kv2/metadata/app")]),
        json!(["kv-v2/data-write", read_at(numbered("data-write", "kv2/data/app", "3"), "kv2/data/app")]),
        json!(["kv-v2/data-delete", numbered("data-delete", "kv2/data/app", "3")]),
        json!(["kv-v2/metadata-delete", plain("metadata-delete", "kv2/metadata/app")]),
    ];
    assert_eq!(seen, expected);
    let first = &events[3];
    assert_eq!(first["specversion"], "1.0");
    assert_eq!(first["id"], first["data"]["event"]["id"]);
    assert_ne!(first["id"], events[4]["id"]);
    assert_eq!(first["datacontentype"], "application/cloudevents");
    assert!(first["source"].as_str().unwrap().starts_with("tresor://"));
    let plugin = &first["data"]["plugin_info"];
    assert_eq!((&plugin["mount_class"], &plugin["mount_path"]), (&json!("secret"), &json!("kv2/")));
    assert_eq!((&plugin["plugin"], &plugin["version"]), (&json!("kv"), &json!("2")));
    assert!(first["data"].get("namespace").is_none(), "the root namespace has no name");
    // No value of anything is in any of it.
    assert!(!events.iter().any(|event| event.to_string().contains("s3cret")));
}

#[tokio::test]
async fn what_is_done_to_databases_is_told_without_what_they_are_reached_by() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/db", json!({ "type": "database" })).await;
    let mut listening = harness.listen("", "database/*", as_json(), ROOT).await.unwrap();
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "verify_connection": false,
        "connection_url": "postgresql://{{username}}:{{password}}@127.0.0.1:1/db", "username": "u", "password": "s3cret",
    });
    harness.prepare("POST", "db/config/one", config).await;
    let role = json!({ "db_name": "one", "creation_statements": "CREATE ROLE \"{{name}}\" PASSWORD '{{password}}';" });
    harness.prepare("POST", "db/roles/r", role.clone()).await;
    harness.prepare("POST", "db/roles/r", role).await;
    // Nobody is there.
    assert!(harness.read("db/creds/r", ROOT).await.status >= 400);
    harness.prepare("POST", "db/reset/one", json!({})).await;
    harness.prepare("POST", "db/reload/postgresql-database-plugin", json!({})).await;
    harness.prepare("DELETE", "db/roles/r", Value::Null).await;
    harness.prepare("DELETE", "db/roles/r", Value::Null).await;
    harness.prepare("DELETE", "db/config/one", Value::Null).await;
    let events = told(&harness, &mut *listening).await;
    let seen: Vec<Value> = events
        .iter()
        .map(|event| {
            let known = &event["data"]["event"]["metadata"];
            json!([event["data"]["event_type"], known["path"], known["modified"], known["name"]])
        })
        .collect();
    assert_eq!(
        seen,
        [
            json!(["database/config-write", "db/config/one", "true", "one"]),
            json!(["database/role-create", "db/roles/r", "true", "r"]),
            json!(["database/role-update", "db/roles/r", "true", "r"]),
            json!(["database/creds-create-fail", "db/creds/r", "false", "r"]),
            json!(["database/reset", "db/reset/one", "false", "one"]),
            json!(["database/reload", "db/reload/postgresql-database-plugin", "false", null]),
            json!(["database/role-delete", "db/roles/r", "true", "r"]),
            json!(["database/config-delete", "db/config/one", "true", "one"]),
        ]
    );
    assert!(!events.iter().any(|event| event.to_string().contains("s3cret")));
}

#[tokio::test]
async fn what_was_not_committed_is_never_told() {
    let harness = with_kv().await;
    let mut listening = harness.listen("", "kv*", as_json(), ROOT).await.unwrap();
    let wrong = json!({ "data": { "a": "b" }, "options": { "cas": 7 } });
    harness.write("kv2/data/app", ROOT, wrong).await.expect_error(400, "check-and-set");
    let powerless = harness.token_with("path \"kv2/*\" { capabilities = [\"read\"] }").await;
    let body = json!({ "data": { "a": "b" } });
    assert_eq!(harness.write("kv2/data/app", &powerless, body.clone()).await.status, 403);
    assert_eq!(harness.write("kv2/data/app/", ROOT, body.clone()).await.status, 400);
    assert_eq!(told(&harness, &mut *listening).await, Vec::<Value>::new());
    // Many at once conflict and are done again: each is told once.
    let writes = (0..8).map(|_| harness.write("kv2/data/app", ROOT, body.clone()));
    for answer in futures_util::future::join_all(writes).await {
        drop(answer.expect_status(200));
    }
    let versions: Vec<Value> = told(&harness, &mut *listening)
        .await
        .iter()
        .map(|event| event["data"]["event"]["metadata"]["current_version"].clone())
        .collect();
    let mut sorted: Vec<u64> = versions.iter().map(|it| it.as_str().unwrap().parse().unwrap()).collect();
    sorted.sort_unstable();
    assert_eq!(sorted, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn who_listens_is_told_what_their_policies_say_and_nothing_else() {
    let harness = with_kv().await;
    let policy = r#"
        path "sys/events/subscribe/kv-v2/*" { capabilities = ["read"] }
        path "kv2/data/app/*" { capabilities = ["list", "subscribe"] subscribe_event_types = ["kv-v2/data-*"] }
        path "kv2/data/app/no" { capabilities = ["read"] }
        path "kv2/data/app/never" { capabilities = ["deny"] }
        path "kv2/delete/app/*" { capabilities = ["subscribe"] subscribe_event_types = ["kv-v1/*"] }"#;
    let token = harness.token_with(policy).await;
    for kinds in ["*", "kv-v1/write", "kv*"] {
        let refused = harness.listen("", kinds, as_json(), &token).await.err().unwrap();
        assert!(refused.to_string().contains("permission denied"), "{kinds}: {refused}");
    }
    assert!(harness.listen("", "kv-v2/*", as_json(), "").await.is_err());
    let mut listening = harness.listen("", "kv-v2/*", as_json(), &token).await.unwrap();
    for name in ["app/a", "app/no", "app/never", "other"] {
        harness.prepare("POST", &format!("kv2/data/{name}"), json!({ "data": { "a": "b" } })).await;
    }
    harness.prepare("POST", "kv2/delete/app/a", json!({ "versions": [1] })).await;
    let seen = told_briefly(&harness, &mut *listening).await;
    assert_eq!(seen, pairs(&[("kv-v2/data-write", "kv2/data/app/a")]));
    // What is granted later is told from then on, and the explanation says the same.
    let why = json!({ "path": "kv2/delete/app/a", "operation": "subscribe", "event_type": "kv-v2/delete" });
    let why = harness.write("sys/explain-self", &token, why).await.expect_status(200);
    assert_eq!((why.at("/data/allowed"), why.at("/data/reason")), (&json!(false), &json!("event-type")));
}

#[tokio::test]
async fn a_filter_lets_through_what_it_says_and_a_wrong_one_is_refused() {
    let harness = with_kv().await;
    let query = map! { "json" => "true", "filter" => "source_plugin_mount == kv2 and operation != \"data-patch\"" };
    let mut listening = harness.listen("", "*", query, ROOT).await.unwrap();
    harness.prepare("POST", "kv1/app", json!({ "a": "b" })).await;
    harness.prepare("POST", "kv2/data/app", json!({ "data": { "a": "b" } })).await;
    harness.prepare("PATCH", "kv2/data/app", json!({ "data": { "a": "c" } })).await;
    let seen = told_briefly(&harness, &mut *listening).await;
    assert_eq!(seen, pairs(&[("kv-v2/data-write", "kv2/data/app")]));
    let refused = harness.listen("", "*", map! { "filter" => "mount == kv" }, ROOT).await.err().unwrap();
    assert!(refused.to_string().contains("invalid filter: at character 1: `mount` is none of"), "{refused}");
}

#[tokio::test]
async fn ns_16_who_names_namespaces_is_told_of_those_below_and_only_what_policies_let_through() {
    let harness = with_kv().await;
    for path in ["a", "a/b", "c"] {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let within = |path: &str, call: &str, body: Value| {
            let mut request = assembly::request("POST", call, ROOT, &body);
            if !path.is_empty() {
                request.headers_mut().insert("x-vault-namespace", path.parse().unwrap());
            }
            harness.send(request)
        };
        assert_eq!(within(parent, &format!("sys/namespaces/{name}"), json!({})).await.status, 200);
        let kv = json!({ "type": "kv", "options": { "version": "1" } });
        assert_eq!(within(path, "sys/mounts/kv", kv).await.status, 204);
    }
    let listen = |namespace: &'static str, namespaces: &'static str, token: String| {
        let mut query = as_json();
        if !namespaces.is_empty() {
            query.insert("namespaces", namespaces);
        }
        let harness = &harness;
        async move { harness.listen(namespace, "kv-v1/*", query, &token).await }
    };
    let policy = r#"
        path "sys/events/subscribe/*" { capabilities = ["read"] }
        path "a/sys/events/subscribe/*" { capabilities = ["read"] }
        path "a/kv/*" { capabilities = ["subscribe"] subscribe_event_types = ["*"] }"#;
    let part = harness.token_with(policy).await;
    let root = ROOT.to_owned();
    let mut own = listen("", "", root.clone()).await.unwrap();
    let mut all = listen("", "*", root.clone()).await.unwrap();
    let mut named = listen("", "a,c/", root.clone()).await.unwrap();
    let mut within = listen("a/", "*", root.clone()).await.unwrap();
    let mut permitted = listen("", "*", part.clone()).await.unwrap();
    let mut permitted_within = listen("a/", "", part).await.unwrap();
    for path in ["kv1/x", "a/kv/x", "a/b/kv/x", "c/kv/x"] {
        harness.prepare("POST", path, json!({ "k": "v" })).await;
    }
    let namespaces = async |listening: &mut dyn Messages| -> Vec<String> {
        let of = |event: &Value| event["data"]["namespace"].as_str().unwrap_or_default().to_owned();
        told(&harness, listening).await.iter().map(of).collect()
    };
    assert_eq!(namespaces(&mut *own).await, [""]);
    assert_eq!(namespaces(&mut *all).await, ["", "a/", "a/b/", "c/"]);
    assert_eq!(namespaces(&mut *named).await, ["", "a/", "c/"]);
    assert_eq!(namespaces(&mut *within).await, ["a/", "a/b/"]);
    assert_eq!(namespaces(&mut *permitted).await, ["a/"]);
    assert_eq!(namespaces(&mut *permitted_within).await, ["a/"]);
    // A token of below reaches no further up.
    let mut request =
        assembly::request("POST", "auth/token/create", ROOT, &json!({ "policies": ["root"], "ttl": "1h" }));
    request.headers_mut().insert("x-vault-namespace", "a".parse().unwrap());
    let refused = harness.send(request).await;
    assert!(refused.status >= 400 || listen("", "*", refused.text_at("/auth/client_token")).await.is_err());
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_the_right_to_listen() {
    let harness = with_kv().await;
    let policy = |capability: &str| {
        json!({ "policy": format!(
            "path \"sys/events/subscribe/*\" {{ capabilities = [\"{capability}\"] }}
             path \"kv2/*\" {{ capabilities = [\"subscribe\"] subscribe_event_types = [\"*\"] }}"
        ) })
    };
    harness.prepare("PUT", "sys/policies/acl/listener", policy("read")).await;
    let token = async |more: Value| {
        let mut wish = json!({ "policies": ["listener"], "ttl": "1h" });
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        harness.token(wish).await
    };
    let write = async || drop(harness.prepare("POST", "kv2/data/app", json!({ "data": { "a": "b" } })).await);
    let soon = Duration::from_secs(6);

    // Revoked: nothing is told any more, be it the next moment.
    let revoked = token(json!({})).await;
    let mut listening = harness.listen("", "*", as_json(), &revoked).await.unwrap();
    assert_eq!(ends(&harness, &mut *listening, soon).await, None);
    harness.prepare("POST", "auth/token/revoke", json!({ "token": revoked })).await;
    write().await;
    harness.settle().await;
    assert_eq!(listening.next().now_or_never(), Some(Message::End(Ending::NotAllowed)));

    // Over, when nothing happens: also of a batch token, and of one without uses.
    for more in [json!({ "ttl": "20s" }), json!({ "ttl": "20s", "type": "batch" })] {
        let mut listening = harness.listen("", "*", as_json(), &token(more).await).await.unwrap();
        assert_eq!(ends(&harness, &mut *listening, soon).await, None);
        assert_eq!(ends(&harness, &mut *listening, Duration::from_secs(20)).await, Some(Ending::NotAllowed));
    }
    let once = token(json!({ "num_uses": 1 })).await;
    let mut listening = harness.listen("", "*", as_json(), &once).await.unwrap();
    assert_eq!(ends(&harness, &mut *listening, soon).await, Some(Ending::NotAllowed));

    // The policy changes.
    let mut listening = harness.listen("", "*", as_json(), &token(json!({})).await).await.unwrap();
    write().await;
    assert_eq!(told(&harness, &mut *listening).await.len(), 1);
    harness.prepare("PUT", "sys/policies/acl/listener", policy("list")).await;
    assert_eq!(ends(&harness, &mut *listening, soon).await, Some(Ending::NotAllowed));
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_keeps_nobody_waiting() {
    let harness = with_kv().await;
    let mut slow = harness.listen("", "*", as_json(), ROOT).await.unwrap();
    let mut quick = harness.listen("", "*", as_json(), ROOT).await.unwrap();
    let cut = slow.cut();
    let mut count = 0;
    for number in 0..1_100 {
        harness.prepare("POST", "kv1/app", json!({ "a": number })).await;
        while quick.next().now_or_never().is_some() {
            count += 1;
        }
    }
    assert_eq!(count, 1_100);
    assert_eq!(cut.now_or_never(), Some(Ending::TooSlow));
    assert_eq!(slow.next().now_or_never(), Some(Message::End(Ending::TooSlow)));
}

/// Writes within a namespace, by root.
async fn write_within(harness: &Harness, namespace: &str, path: &str, body: Value) {
    let mut request = assembly::request("POST", path, ROOT, &body);
    request.headers_mut().insert("x-vault-namespace", namespace.parse().unwrap());
    let answer = harness.send(request).await;
    assert!(answer.status < 300, "{path}: {answer:?}");
}

#[tokio::test]
async fn what_happens_in_a_locked_namespace_is_told_to_nobody() {
    let harness = with_kv().await;
    for (parent, name) in [("", "a"), ("a", "b")] {
        write_within(&harness, parent, &format!("sys/namespaces/{name}"), json!({})).await;
    }
    let kv = json!({ "type": "kv", "options": { "version": "1" } });
    write_within(&harness, "a/b", "sys/mounts/kv", kv).await;
    let mut above = harness.listen("", "kv-v1/*", map! { "json" => "true", "namespaces" => "*" }, ROOT).await.unwrap();
    let mut locked_soon = harness.listen("a/", "kv-v1/*", as_json(), ROOT).await.unwrap();
    let mut below = harness.listen("a/b/", "kv-v1/*", as_json(), ROOT).await.unwrap();
    // What was done before, and was not sent yet, counts as well.
    write_within(&harness, "a/b", "kv/x", json!({ "k": "v" })).await;
    let locked = harness.prepare("POST", "sys/namespaces/api-lock/lock/a", json!({})).await;
    harness.prepare("POST", "kv1/x", json!({ "k": "v" })).await;
    assert_eq!(told_briefly(&harness, &mut *above).await, pairs(&[("kv-v1/write", "kv1/x")]));
    for listening in [&mut locked_soon, &mut below] {
        assert_eq!(ends(&harness, &mut **listening, Duration::from_secs(6)).await, Some(Ending::GoesAway));
    }
    let refused = harness.listen("a/", "kv-v1/*", as_json(), ROOT).await.err().unwrap();
    assert!(refused.to_string().contains("has been locked by an administrator"), "{refused}");
    let key = locked.at("/data/unlock_key").clone();
    harness.prepare("POST", "sys/namespaces/api-lock/unlock/a", json!({ "unlock_key": key })).await;
    write_within(&harness, "a/b", "kv/x", json!({ "k": "v" })).await;
    assert_eq!(told_briefly(&harness, &mut *above).await, pairs(&[("kv-v1/write", "kv/x")]));
}

/// Listens until that is refused: the streams, and the refusal.
async fn filled(harness: &Harness, namespace: &str, token: &str) -> (Vec<Box<dyn Messages>>, Fault) {
    let mut all = Vec::new();
    loop {
        match harness.listen(namespace, "kv-v1/*", as_json(), token).await {
            Ok(listening) => all.push(listening),
            Err(refused) => return (all, refused),
        }
    }
}

fn is_throttled(refused: &Fault) -> bool {
    matches!(refused, Fault::Refusal(Refusal::Throttled(_)))
}

#[tokio::test]
async fn neither_one_token_nor_one_namespace_takes_the_places_of_all_who_listen() {
    let harness = with_kv().await;
    for (parent, name) in [("", "a"), ("a", "b"), ("", "c")] {
        write_within(&harness, parent, &format!("sys/namespaces/{name}"), json!({})).await;
    }
    let root_token = async || harness.token(json!({ "policies": ["root"] })).await;
    // One token: wherever it asks.
    let (mut own, refused) = filled(&harness, "", ROOT).await;
    assert_eq!(own.len(), 64);
    assert!(
        is_throttled(&refused) && refused.to_string().contains("this token listens to events 64 times"),
        "{refused}"
    );
    assert!(is_throttled(&harness.listen("a/", "kv-v1/*", as_json(), ROOT).await.err().unwrap()));
    drop(own.pop());
    own.push(harness.listen("a/", "kv-v1/*", as_json(), ROOT).await.unwrap());
    // One namespace with those below it, whatever number of tokens that takes.
    let (more, _) = filled(&harness, "a/b/", &root_token().await).await;
    let (rest, refused) = filled(&harness, "a/b/", &root_token().await).await;
    assert_eq!((more.len(), rest.len()), (64, 63));
    assert!(is_throttled(&refused) && refused.to_string().contains("128 listen to events already"), "{refused}");
    let another = root_token().await;
    assert!(is_throttled(&harness.listen("a/", "kv-v1/*", as_json(), &another).await.err().unwrap()));
    for elsewhere in ["", "c/"] {
        drop(harness.listen(elsewhere, "kv-v1/*", as_json(), &another).await.unwrap());
    }
    // Who leaves makes room.
    drop(rest);
    drop(harness.listen("a/", "kv-v1/*", as_json(), &another).await.unwrap());
}

#[tokio::test]
async fn sealing_ends_every_stream_and_so_many_are_taken() {
    let harness = with_kv().await;
    let mut all = Vec::new();
    let refused = loop {
        let token = harness.token(json!({ "policies": ["root"] })).await;
        let (more, refused) = filled(&harness, "", &token).await;
        all.extend(more);
        if !is_throttled(&refused) {
            break refused;
        }
    };
    assert_eq!(all.len(), 512);
    assert!(refused.to_string().contains("too many listen to events"), "{refused}");
    // Who leaves makes room.
    drop(all.pop());
    let token = harness.token(json!({ "policies": ["root"] })).await;
    let mut last = harness.listen("", "kv-v1/*", as_json(), &token).await.unwrap();
    let mut next = pin!(last.next());
    assert!(next.as_mut().now_or_never().is_none());
    harness.node.seal().await.unwrap();
    assert_eq!(next.as_mut().now_or_never(), Some(Message::End(Ending::GoesAway)));
    assert_eq!(all[0].next().now_or_never(), Some(Message::End(Ending::GoesAway)));
}

#[tokio::test]
async fn subscribing_is_recorded_once_and_is_a_websocket_or_nothing() {
    let harness = with_kv().await;
    harness.enable_audit().await;
    let listening = harness.listen("", "kv-v2/*", as_json(), ROOT).await.unwrap();
    harness.prepare("POST", "kv2/data/app", json!({ "data": { "a": "b" } })).await;
    let records = harness.audit_records().await;
    let subscribed: Vec<&Value> =
        records.iter().filter(|record| record["request"]["path"] == "sys/events/subscribe/kv-v2/*").collect();
    let kinds: Vec<&Value> = subscribed.iter().map(|record| &record["type"]).collect();
    assert_eq!(kinds, ["request", "response"]);
    drop(listening);
    // A plain request is told what it lacks; who may not, is told that.
    harness.read("sys/events/subscribe/kv-v2/data-write", ROOT).await.expect_error(400, "this is a WebSocket");
    let powerless = harness.token_with("path \"kv2/*\" { capabilities = [\"read\"] }").await;
    assert_eq!(harness.read("sys/events/subscribe/kv-v2/data-write", &powerless).await.status, 403);
}

#[tokio::test]
async fn without_json_an_event_is_a_message_of_the_published_schema() {
    let harness = with_kv().await;
    let mut listening = harness.listen("", "kv-v1/write", Map::new(), ROOT).await.unwrap();
    harness.prepare("POST", "kv1/app", json!({ "a": "b" })).await;
    harness.settle().await;
    let Some(Message::Bytes(bytes)) = listening.next().now_or_never() else { panic!("no bytes") };
    // Field 3 of `EventReceived` is the type.
    let kind = b"\x1a\x0bkv-v1/write";
    assert!(bytes.windows(kind.len()).any(|window| window == kind));
}
