//! Policies over HTTP: explanations, versions and ends, listings that rules bound and filter, password policies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "sys/mounts/kv2", json!({ "type": "kv-v2" })).await;
    harness
}

async fn policy(harness: &Harness, name: &str, body: Value) -> Answer {
    harness.call("POST", &format!("sys/policies/acl/{name}"), ROOT, body).await
}

#[tokio::test]
async fn who_holds_a_token_learns_which_rule_of_which_policy_decides() {
    let harness = node().await;
    let app = "# ours\npath \"kv/*\" { capabilities = [\"read\", \"update\"] }\npath \"kv/app/*\" { capabilities = [\"read\"] }";
    drop(policy(&harness, "app", json!({ "policy": app })).await.expect_status(204));
    let token = harness.token(json!({ "policies": ["app", "gone"], "no_default_policy": true })).await;
    let ask = async |operation: &str, path: &str| {
        let body = json!({ "operation": operation, "path": path });
        harness.write("sys/explain-self", &token, body).await.expect_status(200)
    };
    let denied = ask("update", "/kv/app/db").await;
    assert_eq!(denied.at("/data/allowed"), &json!(false));
    assert_eq!(denied.at("/data/reason"), &json!("missing-capability"));
    assert_eq!(denied.at("/data/rule/path"), &json!("kv/app/*"));
    let place = json!({ "name": "app", "line": 3, "column": 6, "capabilities": ["read"] });
    assert_eq!(denied.at("/data/rule/policies/0"), &place);
    assert_eq!(denied.at("/data/shadowed/0/path"), &json!("kv/*"));
    let states: Vec<_> = denied.at("/data/policies").as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, [&json!("in force"), &json!("absent")]);
    assert_eq!(denied.at("/data/policies/0/attached"), &json!("when the token was created"));
    // What is said is what happens, and what is said to help helps.
    drop(harness.write("kv/app/db", &token, json!({ "k": "v" })).await.expect_status(403));
    drop(policy(&harness, "gone", json!({ "policy": denied.text_at("/data/would_grant") })).await.expect_status(204));
    assert_eq!(ask("update", "kv/app/db").await.at("/data/allowed"), &json!(true));
    let created = ask("write", "kv/app/db").await;
    assert!(created.at("/data/hints/0").as_str().unwrap().contains("`create`, which is denied"), "{created:?}");
    // Paths of KV version 2 have a word more.
    let kv2 = "path \"kv2/app\" { capabilities = [\"read\"] }";
    drop(policy(&harness, "gone", json!({ "policy": kv2 })).await.expect_status(204));
    let short = ask("read", "kv2/app").await;
    assert!(short.at("/data/hints/0").as_str().unwrap().contains("kv2/data/app"), "{short:?}");
    let long = ask("read", "kv2/data/app").await;
    assert_eq!(long.at("/data/reason"), &json!("no-rule"));
    assert!(long.at("/data/hints/0").as_str().unwrap().contains("`kv2/app`"), "{long:?}");
    // Of a protected path, sudo is what lacks; of an open one, nothing does.
    let audit = "path \"sys/audit\" { capabilities = [\"read\"] }";
    drop(policy(&harness, "gone", json!({ "policy": audit })).await.expect_status(204));
    let protected = ask("read", "sys/audit").await;
    assert_eq!(protected.at("/data/reason"), &json!("protected"));
    assert!(protected.text_at("/data/would_grant").contains("\"sudo\""));
    assert_eq!(ask("read", "sys/internal/ui/mounts").await.at("/data/reason"), &json!("open"));
    drop(
        harness.write("sys/explain-self", &token, json!({ "operation": "fly", "path": "x" })).await.expect_status(400),
    );
}

#[tokio::test]
async fn about_the_tokens_of_others_learns_whom_policies_let() {
    let harness = node().await;
    let token = harness.token_with("path \"kv/a\" { capabilities = [\"read\"] }").await;
    let body = json!({ "token": token, "operation": "read", "path": "kv/a" });
    assert_eq!(harness.write("sys/explain", ROOT, body.clone()).await.at("/data/allowed"), &json!(true));
    let known = harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await;
    let accessor = json!({ "accessor": known.at("/data/accessor"), "operation": "delete", "path": "kv/a" });
    let by_accessor = harness.write("sys/explain-accessor", ROOT, accessor.clone()).await;
    assert_eq!(by_accessor.at("/data/reason"), &json!("missing-capability"));
    for (path, body) in [("sys/explain", body), ("sys/explain-accessor", accessor)] {
        drop(harness.write(path, &token, body).await.expect_status(403));
    }
    let nobody = json!({ "token": "hvs.nobody", "operation": "read", "path": "kv/a" });
    drop(harness.write("sys/explain", ROOT, nobody.clone()).await.expect_status(400));
    drop(harness.write("sys/explain-self", "hvs.nobody", nobody).await.expect_status(403));
    // A mount that the token cannot see is not told from none.
    let ask = json!({ "token": token, "operation": "read", "path": "kv2/secret" });
    assert_eq!(harness.write("sys/explain", ROOT, ask).await.at("/data/hints"), &json!([]));
}

#[tokio::test]
async fn a_policy_has_a_version_that_whoever_writes_may_name() {
    let harness = node().await;
    let text = "path \"kv/a\" { capabilities = [\"read\"] }";
    let write = async |body: Value| policy(&harness, "p", body).await;
    write(json!({ "policy": text, "cas": 1 }))
        .await
        .expect_error(400, "check-and-set parameter did not match the current version");
    drop(write(json!({ "policy": text, "cas": -1 })).await.expect_status(204));
    // Clients of the original's compare the whole answer.
    let read = harness.read("sys/policies/acl/p", ROOT).await;
    assert_eq!(read.json["data"], json!({ "name": "p", "policy": text }));
    let detailed = harness.list("sys/policies/detailed/acl", ROOT).await;
    assert_eq!(detailed.at("/data/key_info/p/version"), &json!(1));
    write(json!({ "policy": text, "cas": -1 }))
        .await
        .expect_error(400, "check-and-set parameter set to -1 on existing entry");
    drop(write(json!({ "policy": text, "cas": 1, "cas_required": true })).await.expect_status(204));
    write(json!({ "policy": text })).await.expect_error(400, "check-and-set parameter required for this call");
    write(json!({ "policy": text, "cas": 1 }))
        .await
        .expect_error(400, "check-and-set parameter did not match the current version");
    let read = harness.read("sys/policies/acl/p", ROOT).await;
    assert_eq!(read.at("/data/version"), &json!(2));
    assert_eq!(read.at("/data/cas_required"), &json!(true));
    assert!(read.text_at("/data/modified").ends_with('Z'));
    // A change of one field leaves the others, and is about what is there now.
    let patch = async |body: Value| harness.call("PATCH", "sys/policies/acl/p", ROOT, body).await;
    drop(
        patch(json!({ "expiration": "2100-01-01T00:00:00Z", "allow_slashes_in_identity_templates": true }))
            .await
            .expect_status(204),
    );
    drop(patch(json!({ "cas_required": false })).await.expect_status(204));
    let read = harness.read("sys/policies/acl/p", ROOT).await;
    assert_eq!(read.at("/data/policy"), &json!(text));
    assert_eq!(read.at("/data/expiration"), &json!("2100-01-01T00:00:00Z"));
    assert_eq!(read.at("/data/allow_slashes_in_identity_templates"), &json!(true));
    assert_eq!((read.at("/data/version"), read.at("/data/cas_required")), (&json!(4), &json!(false)));
    drop(patch(json!({ "expiration": "" })).await.expect_status(204));
    assert!(harness.read("sys/policies/acl/p", ROOT).await.json["data"].get("expiration").is_none());
    let absent = harness.call("PATCH", "sys/policies/acl/none", ROOT, json!({ "policy": text })).await;
    assert_eq!(absent.status, 404);
    patch(json!({ "cas": 1, "policy": text }))
        .await
        .expect_error(400, "check-and-set parameter did not match the current version");
}

#[tokio::test]
async fn what_ends_is_over_for_every_request_from_then_on() {
    let harness = node().await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let text = "path \"kv/a\" { capabilities = [\"read\"] }";
    drop(policy(&harness, "p", json!({ "policy": text, "ttl": "60s" })).await.expect_status(204));
    let token = harness.token(json!({ "policies": ["p"] })).await;
    drop(harness.read("kv/a", &token).await.expect_status(200));
    harness.advance(Duration::from_secs(59)).await;
    drop(harness.read("kv/a", &token).await.expect_status(200));
    harness.advance(Duration::from_secs(2)).await;
    drop(harness.read("kv/a", &token).await.expect_status(403));
    drop(harness.read("sys/policies/acl/p", ROOT).await.expect_status(404));
    assert!(!harness.list("sys/policies/acl", ROOT).await.at("/data/keys").to_string().contains("\"p\""));
    drop(policy(&harness, "p", json!({ "policy": text, "ttl": "-1s" })).await.expect_status(400));
    drop(
        policy(&harness, "p", json!({ "policy": text, "ttl": "1h", "expiration": "2100-01-01T00:00:00Z" }))
            .await
            .expect_status(400),
    );
    drop(policy(&harness, "p", json!({ "policy": text })).await.expect_status(204));
    drop(harness.read("kv/a", &token).await.expect_status(200));
}

#[tokio::test]
async fn policies_are_listed_by_their_beginnings_and_with_what_is_known() {
    let harness = node().await;
    for name in ["team-a", "team-b", "other"] {
        drop(policy(&harness, name, json!({ "policy": "path \"x\" {}" })).await.expect_status(204));
    }
    assert_eq!(harness.list("sys/policies/acl/team", ROOT).await.at("/data/keys"), &json!(["team-a", "team-b"]));
    drop(harness.list("sys/policies/acl/none", ROOT).await.expect_status(404));
    let detailed = harness.list("sys/policies/detailed/acl/team-", ROOT).await;
    assert_eq!(detailed.at("/data/keys"), &json!(["team-a", "team-b"]));
    assert_eq!(detailed.at("/data/key_info/team-a/version"), &json!(1));
    let every = harness.list("sys/policies/detailed/acl", ROOT).await;
    assert_eq!(every.at("/data/key_info/root/policy"), &json!(""));
    assert!(every.at("/data/key_info/default/policy").as_str().unwrap().contains("lookup-self"));
}

#[tokio::test]
async fn acl_10_a_bounded_listing_never_gives_more() {
    let harness = node().await;
    for at in 0..20 {
        harness.prepare("POST", &format!("kv/n{at:02}"), json!({ "k": "v" })).await;
        harness.prepare("POST", &format!("sys/policies/acl/q{at:02}"), json!({ "policy": "path \"x\" {}" })).await;
    }
    let capped = "path \"kv/*\" { capabilities = [\"list\"] pagination_limit = 10 }
                  path \"sys/policies/acl\" { capabilities = [\"list\"] pagination_limit = 3 }";
    let token = harness.token_with(capped).await;
    let list = async |query: &str| harness.list(&format!("kv/{query}"), &token).await;
    let count = |answer: &Answer| answer.at("/data/keys").as_array().unwrap().len();
    for (query, expected) in
        [("", 10), ("?limit=0", 10), ("?limit=max", 10), ("?limit=4", 4), ("?limit=10&after=n05", 10)]
    {
        assert_eq!(count(&list(query).await.expect_status(200)), expected, "{query}");
    }
    for refused in ["?limit=11", "?limit=-1", "?limit=abc", "?limit=1&limit=11"] {
        drop(list(refused).await.expect_status(403));
    }
    // A listing that knows no limit is bounded all the same.
    assert_eq!(count(&harness.list("sys/policies/acl", &token).await.expect_status(200)), 3);
    let required =
        "path \"kv/*\" { capabilities = [\"list\"] pagination_limit = 10 required_parameters = [\"limit\"] }";
    let token = harness.token_with(required).await;
    drop(harness.list("kv/", &token).await.expect_status(403));
    drop(harness.list("kv/?limit=max", &token).await.expect_status(200));
    // `max` without a bound is no bound.
    assert_eq!(count(&harness.list("kv/?limit=max", ROOT).await.expect_status(200)), 20);
}

#[tokio::test]
async fn a_filtered_listing_shows_what_the_caller_could_read() {
    let harness = node().await;
    for name in ["mine", "other", "deep/mine", "shut/x"] {
        harness.prepare("POST", &format!("kv2/data/{name}"), json!({ "data": { "k": "v" } })).await;
    }
    let text = r#"path "kv2/metadata/*" { capabilities = ["list"]
            list_scan_response_keys_filter_path = "{{ .path | replace \"kv2/metadata/\" \"kv2/data/\" }}{{ .key }}" }
        path "kv2/data/mine" { capabilities = ["read"] }
        path "kv2/data/deep/*" { capabilities = ["read", "list"] }
        path "kv2/data/shut/*" { capabilities = ["deny"] }"#;
    let token = harness.token_with(text).await;
    assert_eq!(harness.list("kv2/metadata", &token).await.at("/data/keys"), &json!(["deep/", "mine"]));
    assert_eq!(harness.list("kv2/metadata/deep", &token).await.at("/data/keys"), &json!(["mine"]));
    drop(harness.list("kv2/metadata/shut", &token).await.expect_status(404));
}

#[tokio::test]
async fn a_password_policy_makes_passwords_that_keep_it() {
    let harness = node().await;
    let text = "length = 12\nrule \"charset\" { charset = \"abcdef\" min-chars = 1 }\nrule \"charset\" { charset = \"0123\" min-chars = 2 }";
    let path = "sys/policies/password/app";
    drop(harness.write(path, ROOT, json!({ "policy": text })).await.expect_status(204));
    assert_eq!(harness.read(path, ROOT).await.at("/data"), &json!({ "policy": text }));
    assert_eq!(harness.list("sys/policies/password", ROOT).await.at("/data/keys"), &json!(["app"]));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let password = harness.read(&format!("{path}/generate"), ROOT).await.text_at("/data/password").to_owned();
        assert_eq!(password.len(), 12);
        assert!(password.chars().filter(char::is_ascii_digit).count() >= 2);
        seen.insert(password);
    }
    assert!(seen.len() > 15, "{seen:?}");
    for wrong in
        ["length = 2", "length = 8", "length = 5 rule \"charset\" { charset = \"a\" min-chars = 9 }", "nonsense {", ""]
    {
        drop(harness.write(path, ROOT, json!({ "policy": wrong })).await.expect_status(400));
    }
    drop(harness.delete(path, ROOT).await.expect_status(204));
    for gone in [path.to_owned(), format!("{path}/generate")] {
        harness.read(&gone, ROOT).await.expect_error(404, "policy does not exist");
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_grants_nothing_and_keeps_nobody_from_being_served() {
    let mut harness = node().await;
    let text = r#"path "kv/*" { capabilities = ["read", "update", "create"] }"#;
    drop(policy(&harness, "kept", json!({ "policy": text })).await.expect_status(204));
    let before = harness.store.dump();
    drop(policy(&harness, "lost", json!({ "policy": text })).await.expect_status(204));
    harness.damage_since(&before);
    // What an operator set up besides keeps nobody out either.
    for (path, body) in [
        ("sys/quotas/lease-count/lost", json!({ "max_leases": 1 })),
        ("sys/config/ui/headers/X-Lost", json!({ "values": "a" })),
        ("sys/config/auditing/request-headers/x-lost", json!({})),
        ("sys/quotas/rate-limit/lost", json!({ "rate": 1, "interval": "1h" })),
    ] {
        let before = harness.store.dump();
        harness.prepare("POST", path, body).await;
        harness.damage_since(&before);
    }
    harness.restart().await;
    harness.unseal().await;
    let kept = harness.token(json!({ "policies": ["kept"] })).await;
    let lost = harness.token(json!({ "policies": ["kept", "lost"] })).await;
    drop(harness.write("kv/a", &kept, json!({ "x": 1 })).await.expect_status(204));
    drop(harness.write("kv/a", &lost, json!({ "x": 1 })).await.expect_status(403));
    for path in ["sys/policies/acl/lost", "sys/policy/lost"] {
        harness.read(path, ROOT).await.expect_error(503, "policy \"lost\" cannot be read");
    }
    let names = harness.list("sys/policies/acl", ROOT).await.expect_status(200);
    assert_eq!(names.at("/data/keys"), &json!(["default", "kept", "lost", "root"]));
    let details = harness.list("sys/policies/detailed/acl", ROOT).await.expect_status(200);
    assert!(
        details.at("/data/key_info/lost/damage").is_string() && details.at("/data/key_info/kept/version") == &json!(1)
    );
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    // Written again it is a policy like any other; deleted it is gone.
    drop(policy(&harness, "lost", json!({ "policy": text })).await.expect_status(204));
    drop(harness.write("kv/a", &lost, json!({ "x": 1 })).await.expect_status(204));
    let before = harness.store.dump();
    drop(policy(&harness, "lost", json!({ "policy": text })).await.expect_status(204));
    harness.damage_since(&before);
    harness.restart().await;
    harness.unseal().await;
    drop(harness.write("kv/a", &lost, json!({ "x": 1 })).await.expect_status(403));
    drop(harness.delete("sys/policies/acl/lost", ROOT).await.expect_status(204));
    drop(harness.read("sys/policies/acl/lost", ROOT).await.expect_status(404));
    drop(harness.write("kv/a", &lost, json!({ "x": 1 })).await.expect_status(204));
    // What else was lost is written again like anything that is not there.
    for path in ["sys/quotas/lease-count/lost", "sys/quotas/rate-limit/lost"] {
        drop(harness.delete(path, ROOT).await.expect_status(204));
    }
}

#[tokio::test]
async fn pol_22_rotation_policies_are_written_shown_listed_and_deleted_in_each_namespace() {
    let harness = Harness::start().await;
    let at = "sys/policies/rotation/often";
    drop(harness.read(at, ROOT).await.expect_status(404));
    drop(harness.list("sys/policies/rotation", ROOT).await.expect_status(404));
    let both = json!({ "max_retries_per_cycle": 3, "max_retry_cycles": "2" });
    drop(harness.write(at, ROOT, both).await.expect_status(204));
    let shown = harness.read(at, ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data"), &json!({ "max_retries_per_cycle": 3, "max_retry_cycles": 2 }));
    // As it was sent once.
    let older = json!({ "policy": "{\"max_retry_cycles\": 0, \"max_retries_per_cycle\": 6}" });
    drop(harness.write(at, ROOT, older).await.expect_status(204));
    let shown = harness.read(at, ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data"), &json!({ "max_retries_per_cycle": 6, "max_retry_cycles": 0 }));
    assert_eq!(harness.list("sys/policies/rotation", ROOT).await.at("/data/keys"), &json!(["often"]));
    for (wish, text) in [
        (json!({}), "max_retries_per_cycle is required"),
        (json!({ "max_retries_per_cycle": 1 }), "max_retry_cycles is required"),
        (json!({ "max_retries_per_cycle": -1, "max_retry_cycles": 1 }), "max_retries_per_cycle must be from 0"),
        (json!({ "max_retries_per_cycle": 1, "max_retry_cycles": 1_000_001 }), "max_retry_cycles must be from 0"),
        (json!({ "max_retries_per_cycle": "x", "max_retry_cycles": 1 }), "max_retries_per_cycle"),
        (json!({ "policy": "{}" }), "max_retries_per_cycle is required"),
        (json!({ "policy": "[1]" }), "no object in JSON"),
        (json!({ "policy": "{\"max_retries_per_cycle\": 1.5, \"max_retry_cycles\": 1}" }), "no whole number"),
        (json!({ "policy": "{\"retries\": 1}" }), "has `max_retries_per_cycle` and"),
        (json!({ "policy": "{}", "max_retry_cycles": 1 }), "send it or them"),
    ] {
        harness.write(at, ROOT, wish).await.expect_error(400, text);
    }
    assert_eq!(harness.read(at, ROOT).await.at("/data/max_retries_per_cycle"), 6);
    // Another namespace has others.
    drop(harness.write("sys/namespaces/team", ROOT, json!({})).await.expect_status(200));
    drop(harness.read("team/sys/policies/rotation/often", ROOT).await.expect_status(404));
    drop(harness.delete(at, ROOT).await.expect_status(204));
    drop(harness.delete(at, ROOT).await.expect_status(204));
    drop(harness.read(at, ROOT).await.expect_status(404));
}

#[tokio::test]
async fn names_of_policies_may_have_slashes_and_are_listed_whole() {
    let harness = node().await;
    let text = "path \"kv/a\" { capabilities = [\"read\"] }";
    drop(policy(&harness, "Team/App", json!({ "policy": text })).await.expect_status(204));
    drop(harness.write("sys/policy/team/deep/er", ROOT, json!({ "policy": text })).await.expect_status(204));
    for path in ["sys/policies/acl/team/app", "sys/policy/team/app"] {
        assert_eq!(harness.read(path, ROOT).await.expect_status(200).at("/data/name"), &json!("team/app"));
    }
    let listed = async |path: &str| harness.list(path, ROOT).await.expect_status(200).at("/data/keys").clone();
    assert_eq!(listed("sys/policies/acl").await, json!(["default", "root", "team/app", "team/deep/er"]));
    assert_eq!(listed("sys/policies/acl/team").await, json!(["team/app", "team/deep/er"]));
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let token = harness.token(json!({ "policies": ["team/app"], "no_default_policy": true })).await;
    drop(harness.read("kv/a", &token).await.expect_status(200));
    drop(harness.read("kv/b", &token).await.expect_status(403));
    // What is changed and removed is that one.
    drop(harness.delete("sys/policies/acl/team/app", ROOT).await.expect_status(204));
    drop(harness.read("kv/a", &token).await.expect_status(403));
    assert_eq!(listed("sys/policies/acl").await, json!(["default", "root", "team/deep/er"]));
    assert_eq!(policy(&harness, "team//app", json!({ "policy": text })).await.status, 400);
    // A rule for one segment is about no deeper name.
    let writes = "path \"sys/policies/acl/+\" { capabilities = [\"create\", \"update\"] }";
    let narrow = harness.token_with(writes).await;
    drop(harness.write("sys/policies/acl/mine", &narrow, json!({ "policy": text })).await.expect_status(204));
    drop(harness.write("sys/policies/acl/team/mine", &narrow, json!({ "policy": text })).await.expect_status(403));
}

#[tokio::test]
async fn a_plus_with_a_star_is_refused_of_who_writes_it() {
    let harness = node().await;
    for pattern in ["+*", "a/+*", "a+*/b", "/+*"] {
        let text = format!("path \"{pattern}\" {{ capabilities = [\"read\"] }}");
        let reason =
            format!("path \"{}\": invalid use of wildcards ('+*' is forbidden)", pattern.trim_start_matches('/'));
        policy(&harness, "p", json!({ "policy": text })).await.expect_error(400, &reason);
    }
    let text = "path \"a/+/*\" { capabilities = [\"read\"] }";
    drop(policy(&harness, "p", json!({ "policy": text })).await.expect_status(204));
}

#[tokio::test]
async fn names_of_password_policies_may_have_slashes_and_are_listed_whole() {
    let harness = node().await;
    let policy = json!({ "policy": "length = 12\nrule \"charset\" { charset = \"abc\" }" });
    for name in ["team/app", "team", "a-b", "team/app/deep"] {
        let path = format!("sys/policies/password/{name}");
        drop(harness.write(&path, ROOT, policy.clone()).await.expect_status(204));
        drop(harness.read(&path, ROOT).await.expect_status(200));
        let made = harness.read(&format!("{path}/generate"), ROOT).await.expect_status(200);
        assert_eq!(made.text_at("/data/password").len(), 12);
    }
    let all = harness.list("sys/policies/password", ROOT).await.expect_status(200);
    assert_eq!(all.at("/data/keys"), &json!(["a-b", "team", "team/app", "team/app/deep"]));
    let page = harness.list("sys/policies/password?after=team&limit=1", ROOT).await.expect_status(200);
    assert_eq!(page.at("/data/keys"), &json!(["team/app"]));
    drop(harness.delete("sys/policies/password/team/app", ROOT).await.expect_status(204));
    drop(harness.read("sys/policies/password/team/app", ROOT).await.expect_status(404));
    drop(harness.read("sys/policies/password/team/app/deep", ROOT).await.expect_status(200));
    assert_eq!(harness.write("sys/policies/password/a//b", ROOT, policy).await.status, 400);
}
