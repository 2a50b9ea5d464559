//! The security bank's rows about policies, over HTTP: each test is named by its row (`docs/security-bank.md`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

/// A node with a KV of either version at `kv/` and `kv2/`, and with users.
async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "sys/mounts/kv2", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness
}

/// Every spelling of one name in a path, as folding stores read it.
const SPELLINGS_OF_BOB: [&str; 8] = ["bob", "Bob", "BOB", "bob%20", "%20bob", "bob/", "b%6fb", "%42ob//"];

#[tokio::test]
async fn acl_02_a_denied_name_is_denied_in_every_spelling() {
    let harness = node().await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "right", "policies": "a" })).await;
    harness.prepare("POST", "sys/policies/acl/bob", json!({ "policy": "path \"x\" {}" })).await;
    for (prefix, suffix) in [
        ("auth/userpass/users/", ""),
        ("auth/userpass/users/", "/policies"),
        ("sys/policies/acl/", ""),
        ("sys/policy/", ""),
    ] {
        let token = harness
            .token_with(&format!(
                r#"path "{prefix}*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
                   path "{prefix}bob{suffix}" {{ capabilities = ["deny"] }}"#
            ))
            .await;
        for spelling in SPELLINGS_OF_BOB {
            for method in ["GET", "POST", "PUT", "DELETE"] {
                let path = format!("{prefix}{spelling}{suffix}");
                let body = json!({ "password": "stolen", "policies": "root-like", "policy": "path \"y\" {}" });
                let answer = harness.call(method, &path, &token, body).await;
                // Doubled slashes make another path, of which there is none.
                let is_refused = answer.status == 403 || path.contains("//") && answer.status == 404;
                assert!(is_refused, "{method} {path}: {answer:?}");
            }
        }
    }
    assert_eq!(harness.read("auth/userpass/users/bob", ROOT).await.at("/data/token_policies"), &json!(["a"]));
    assert_eq!(harness.list("auth/userpass/users", ROOT).await.at("/data/keys"), &json!(["bob"]));
}

#[tokio::test]
async fn acl_02_a_denied_endpoint_is_denied_with_slashes_at_its_ends() {
    let harness = node().await;
    let token = harness
        .token_with(
            r#"path "sys/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }
               path "sys/seal" { capabilities = ["deny"] }
               path "sys/mounts/kv" { capabilities = ["deny"] }
               path "sys/mounts/kv/tune" { capabilities = ["deny"] }
               path "sys/auth/userpass" { capabilities = ["deny"] }
               path "sys/audit/file" { capabilities = ["deny"] }"#,
        )
        .await;
    harness.enable_audit().await;
    for path in [
        "sys/seal",
        "sys/seal/",
        "sys/mounts/kv",
        "sys/mounts/kv/",
        "sys/mounts//kv",
        "sys/mounts//kv///",
        "sys/mounts/kv/tune",
        "sys/mounts/kv/tune/",
        "sys/mounts//kv/tune",
        "sys/mounts/kv//tune",
        "sys/auth/userpass",
        "sys/auth/userpass/",
        "sys/auth//userpass",
        "sys/audit/file",
        "sys/audit/file/",
        "sys/audit//file",
    ] {
        for method in ["POST", "DELETE", "GET"] {
            let answer = harness.call(method, path, &token, json!({})).await;
            assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
        }
    }
    drop(harness.read("sys/mounts/kv/tune", ROOT).await.expect_status(200));
    drop(harness.read("sys/auth/userpass", ROOT).await.expect_status(200));
    assert!(harness.read("sys/audit", ROOT).await.at("/data/file~1").is_object());
}

#[tokio::test]
async fn acl_03_a_denial_written_in_capitals_denies_the_folded_name() {
    let harness = node().await;
    harness.prepare("POST", "auth/userpass/users/admin", json!({ "password": "right" })).await;
    for denied in ["admin", "Admin", "ADMIN"] {
        let token = harness
            .token_with(&format!(
                r#"path "auth/userpass/users/*" {{ capabilities = ["update", "read"] }}
                   path "auth/userpass/users/{denied}" {{ capabilities = ["deny"] }}
                   path "sys/policies/acl/*" {{ capabilities = ["update", "create"] }}
                   path "sys/policies/acl/{denied}" {{ capabilities = ["deny"] }}"#
            ))
            .await;
        for asked in ["admin", "Admin", "aDMIN"] {
            for path in [format!("auth/userpass/users/{asked}"), format!("sys/policies/acl/{asked}")] {
                let body = json!({ "password": "stolen", "policy": "path \"x\" {}" });
                assert_eq!(harness.write(&path, &token, body).await.status, 403, "{denied} denied, {path} asked");
            }
        }
        drop(harness.read("auth/userpass/users/other", &token).await.expect_status(404));
    }
}

#[tokio::test]
async fn acl_04_forbidden_parameters_are_forbidden_in_every_spelling() {
    let harness = node().await;
    let token = harness
        .token_with(
            r#"path "auth/token/create" { capabilities = ["create", "update", "sudo"]
                 denied_parameters = { "policies" = ["super-admin"], "ttl" = [], "meta" = ["*"] } }"#,
        )
        .await;
    for body in [
        json!({ "policies": ["super-admin"] }),
        json!({ "policies": ["Super-Admin"] }),
        json!({ "policies": [" super-admin"] }),
        json!({ "policies": "x,Super-Admin" }),
        json!({ "policies": ["x,super-admin"] }),
        json!({ "policies": [["super-admin"]] }),
        json!({ "POLICIES": ["super-admin"] }),
        json!({ "ttl": "1h" }),
        json!({ "lease": "1h" }),
        json!({ "meta": { "k": "v" } }),
        json!({ "metadata": { "k": "v" } }),
    ] {
        let answer = harness.write("auth/token/create", &token, body.clone()).await;
        assert_eq!(answer.status, 403, "{body}: {answer:?}");
    }
    // What stands in the query is not read by this endpoint, so it gives nothing.
    let child = harness.write("auth/token/create?policies=super-admin", &token, json!({})).await;
    assert!(!child.at("/auth/policies").to_string().contains("super-admin"), "{child:?}");
    drop(harness.write("auth/token/create", &token, json!({ "policies": ["reader"] })).await.expect_status(200));
}

#[tokio::test]
async fn acl_04_required_parameters_must_reach_the_handler() {
    let harness = node().await;
    let token = harness
        .token_with(r#"path "auth/token/create" { capabilities = ["create", "update"] required_parameters = ["ttl"] }"#)
        .await;
    drop(harness.write("auth/token/create?ttl=1h", &token, json!({})).await.expect_status(403));
    drop(harness.write("auth/token/create", &token, json!({ "ttl": null })).await.expect_status(403));
    drop(harness.write("auth/token/create", &token, json!({ "ttl": "1h" })).await.expect_status(200));
}

#[tokio::test]
async fn acl_13_a_policy_is_in_force_for_every_request_after_its_answer() {
    let harness = node().await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    harness
        .prepare("PUT", "sys/policies/acl/p", json!({ "policy": "path \"kv/a\" { capabilities = [\"read\"] }" }))
        .await;
    let token = harness.token(json!({ "policies": ["p"] })).await;
    for round in 0..50 {
        for (word, status) in [("read", 200), ("deny", 403)] {
            let policy = format!("path \"kv/a\" {{ capabilities = [\"{word}\"] }}");
            harness.prepare("PUT", "sys/policies/acl/p", json!({ "policy": policy })).await;
            assert_eq!(harness.read("kv/a", &token).await.status, status, "round {round}");
        }
    }
    harness.prepare("DELETE", "sys/policies/acl/p", Value::Null).await;
    drop(harness.read("kv/a", &token).await.expect_status(403));
}

#[tokio::test]
async fn acl_14_a_policy_that_reads_two_ways_is_refused() {
    let harness = node().await;
    for policy in [
        "path \"a\" { capabilities = [\"read\"] capabilities = [\"deny\"] }",
        "path \"a\" { capabilites = [\"read\"] }",
        "path \"a\" { capabilities = [\"read\"] } trailing",
        "path \"a\" { capabilities = [\"read\", \"raed\"] }",
        "{\"path\": {\"a\": {\"capabilities\": [\"read\"], \"capabilities\": [\"deny\"]}}}",
        "{\"path\": {\"a\": {\"policy\": \"read\"}}, \"pth\": {}}",
        "path \"a\" { denied_parameters = { \"K\" = [\"x\"], \"k\" = [] } }",
        "path \"a\" { min_wrapping_ttl = \"2h\" max_wrapping_ttl = \"1h\" }",
        "path \"kv/{{identity.entity.id\" { capabilities = [\"read\"] }",
    ] {
        let answer = harness.call("PUT", "sys/policies/acl/x", ROOT, json!({ "policy": policy })).await;
        answer.expect_error(400, "failed to parse policy");
    }
    // Several blocks of one path are united, and a denial among them wins.
    let twice = "path \"kv/a\" { capabilities = [\"read\"] }\npath \"kv/a\" { capabilities = [\"deny\"] }";
    let token = harness.token_with(twice).await;
    drop(harness.read("kv/a", &token).await.expect_status(403));
}

#[tokio::test]
async fn acl_15_any_text_is_a_policy_or_an_error() {
    let harness = node().await;
    let nested = |open: &str, close: &str| {
        format!("path \"a\" {{ capabilities = {}{} }}", open.repeat(500_000), close.repeat(500_000))
    };
    let policies = [
        "path \"a\" { allowed_parameters = { \"a\" = [] } }".to_owned(),
        "path \"a\" { capabilities = [] }".to_owned(),
        "path \"\" {}".to_owned(),
        "path \"a\" { allowed_parameters = [] }".to_owned(),
        "path \"a\" { allowed_parameters = { \"a\" = {} } denied_parameters = { \"*\" = null } }".to_owned(),
        "path \"a\" { max_wrapping_ttl = \"-1s\" }".to_owned(),
        "path \"a\" { max_wrapping_ttl = 99999999999999999999999 }".to_owned(),
        "path".to_owned(),
        "\u{feff}path \"a\" {}".to_owned(),
        "path \"a\u{0}b\" { policy = \"read\" }".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{\"path\": [[[[{}]]]]}".to_owned(),
        "/*".to_owned(),
        "<<EOF".to_owned(),
        "path \"${a}\" {}".to_owned(),
        nested("[", "]"),
        nested("{", "}"),
        "[".repeat(900_000),
        "{\"path\":".repeat(100_000),
    ];
    for policy in policies {
        let answer = harness.call("PUT", "sys/policies/acl/x", ROOT, json!({ "policy": policy })).await;
        assert!(matches!(answer.status, 204 | 400), "{}: {answer:?}", policy.get(..60).unwrap_or(&policy));
    }
    drop(harness.read("sys/policies/acl/default", ROOT).await.expect_status(200));
}

#[tokio::test]
async fn acl_17_protected_paths_need_sudo() {
    let harness = node().await;
    let all = r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }"#;
    let weak = harness.token_with(all).await;
    let strong = harness.token_with(&all.replace("\"list\"", "\"list\", \"sudo\"")).await;
    for (method, path, body) in [
        ("PUT", "sys/audit/x", json!({ "type": "file", "options": { "file_path": "/audit/x.log" } })),
        ("GET", "sys/audit", Value::Null),
        ("DELETE", "sys/audit/x", Value::Null),
        ("POST", "sys/auth/more", json!({ "type": "userpass" })),
        ("POST", "sys/auth/more/tune", json!({ "max_lease_ttl": "1h" })),
        ("GET", "sys/auth/more/tune", Value::Null),
        ("DELETE", "sys/auth/more", Value::Null),
        ("POST", "sys/remount", json!({ "from": "kv", "to": "moved" })),
        ("LIST", "auth/token/accessors", Value::Null),
        ("POST", "auth/token/create-orphan", json!({})),
        ("POST", "auth/token/revoke-orphan", json!({ "token": "hvs.nobody" })),
        ("PUT", "sys/seal", Value::Null),
    ] {
        drop(harness.call(method, path, &weak, body.clone()).await.expect_status(403));
        let answer = harness.call(method, path, &strong, body).await;
        assert_ne!(answer.status, 403, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn lst_01_the_directory_with_its_slash_decides_over_http() {
    let harness = node().await;
    for path in ["kv/a", "kv/test/a", "kv/private/a", "kv/private/internal/a", "kv/private/granted/a"] {
        harness.prepare("POST", path, json!({ "k": "v" })).await;
    }
    let token = harness
        .token_with(
            r#"path "kv/*" { capabilities = ["list"] }
               path "kv/private/*" { capabilities = ["deny"] }
               path "kv/private/granted/*" { capabilities = ["list"] }"#,
        )
        .await;
    let every_way = |path: &str| {
        let bare = path.trim_end_matches('/').to_owned();
        [
            ("LIST", path.to_owned()),
            ("LIST", bare.clone()),
            ("GET", format!("{path}?list=true")),
            ("GET", format!("{bare}?list=true")),
        ]
    };
    for (path, statuses) in [
        ("kv/", [200, 200]),
        ("kv/test/", [200, 200]),
        ("kv/private/granted/", [200, 200]),
        ("kv/private/granted/x/", [404, 404]),
        ("kv/private/", [403, 403]),
        ("kv/private/internal/", [403, 403]),
    ] {
        for (method, spelling) in every_way(path) {
            let status = harness.call(method, &spelling, &token, Value::Null).await.status;
            assert!(statuses.contains(&status), "{method} {spelling}: {status}");
        }
    }
}

#[tokio::test]
async fn acl_18_a_request_about_several_objects_is_judged_by_its_own_path_alone() {
    let harness = node().await;
    let token = harness.token_with(r#"path "sys/capabilities-self" { capabilities = ["update"] }"#).await;
    // The only endpoint that takes several paths answers about rights and touches none of them.
    let before = harness.store.dump();
    let answer =
        harness.write("sys/capabilities-self", &token, json!({ "paths": ["kv/a", "sys/seal", "../x", ""] })).await;
    assert_eq!(answer.at("/data/sys~1seal"), &json!(["deny"]), "{answer:?}");
    assert!(before == harness.store.dump());
    // A name is one name, slashes and all: no list, no traversal, no second object hides in it.
    for name in ["a,b", "a%2F%2Fb", "..%2Fx", "root", "ROOT%20", "a%00b"] {
        let path = format!("sys/policies/acl/{name}");
        let status = harness.call("PUT", &path, ROOT, json!({ "policy": "path \"x\" {}" })).await.status;
        assert!(matches!(status, 400 | 404 | 405), "{name}: {status}");
    }
}

#[tokio::test]
async fn tim_06_who_may_not_read_learns_nothing_about_what_is_there() {
    let harness = node().await;
    harness.prepare("POST", "auth/userpass/users/there", json!({ "password": "right" })).await;
    harness.prepare("PUT", "sys/policies/acl/there", json!({ "policy": "path \"x\" {}" })).await;
    harness.prepare("POST", "kv/there", json!({ "k": "v" })).await;
    harness.prepare("POST", "kv2/data/there", json!({ "data": { "k": "v" } })).await;
    let token = harness.token_with("path \"unrelated\" { capabilities = [\"read\"] }").await;
    for prefix in ["auth/userpass/users/", "sys/policies/acl/", "kv/", "kv2/data/", "kv2/metadata/", "sys/mounts/"] {
        for method in ["GET", "LIST", "POST", "PUT", "DELETE", "PATCH"] {
            let mut answers = Vec::new();
            for name in ["there", "nope", "kv"] {
                let answer = harness.call(method, &format!("{prefix}{name}"), &token, json!({ "x": 1 })).await;
                answers.push((answer.status, answer.bytes));
            }
            assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 403), "{method} {prefix}");
        }
    }
    // By accessor: what exists and what does not, in one answer, for who may ask at all.
    let asks = harness.token_with(r#"path "auth/token/+" { capabilities = ["update"] }"#).await;
    let mut answers = Vec::new();
    for accessor in ["nope", "x", "../../x", "a/b"] {
        let answer = harness.write("auth/token/lookup-accessor", &asks, json!({ "accessor": accessor })).await;
        answers.push((answer.status, answer.bytes));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 < 500), "{answers:?}");
}

#[tokio::test]
async fn dos_16_no_pattern_makes_a_path_slow() {
    let harness = node().await;
    let mut policy = String::new();
    for rule in 0..200 {
        let plus = "+/".repeat(rule % 100);
        policy.push_str(&format!("path \"kv/{plus}x{rule}*\" {{ capabilities = [\"read\"] }}\n"));
    }
    policy.push_str(&format!("path \"kv/{}\" {{ capabilities = [\"read\"] }}\n", "a*".repeat(100)));
    policy.push_str(&format!("path \"kv/{}end\" {{ capabilities = [\"read\"] }}\n", "+/".repeat(1000)));
    let token = harness.token_with(&policy).await;
    let long = format!("kv/{}{}", "a/".repeat(55), "a".repeat(3000));
    let started = std::time::Instant::now();
    for _ in 0..50 {
        drop(harness.read(&format!("{long}x"), &token).await.expect_status(403));
    }
    // Unoptimised and on a busy machine: three orders of magnitude below what backtracking would take.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    drop(harness.read(&"a/".repeat(5000), &token).await.expect_status(400));
}

#[tokio::test]
async fn dos_04_deciding_leaves_nothing_behind() {
    let harness = node().await;
    let token = harness.token_with(r#"path "kv/+/x" { capabilities = ["read"] }"#).await;
    drop(harness.read("kv/a/x", &token).await.expect_status(404));
    let before = harness.store.dump().len();
    for round in 0..2000 {
        let status =
            harness.read(&format!("kv/a{round}/{}", if round % 2 == 0 { "x" } else { "y" }), &token).await.status;
        assert!(matches!(status, 403 | 404));
    }
    assert_eq!(harness.store.dump().len(), before);
}

#[tokio::test]
async fn plg_05_templates_are_text_and_nothing_else() {
    let harness = node().await;
    for pattern in [
        "kv/{{7*7}}",
        "kv/${7*7}",
        "kv/<%= 7*7 %>",
        "kv/{% raw %}",
        "kv/#{7*7}",
        "kv/{{identity.entity.id}}",
        "kv/{{ }}",
    ] {
        let token = harness.token_with(&format!("path {pattern:?} {{ capabilities = [\"read\"] }}")).await;
        for path in ["kv/49", "kv/", "kv/x", "kv/raw", "kv/%7B%7B7*7%7D%7D"] {
            assert_eq!(harness.read(path, &token).await.status, 403, "{pattern}: {path}");
        }
    }
    // Text comes back as it was sent.
    let text = "# {{7*7}} ${x} <%= y %>\npath \"x\" {}\n";
    harness.prepare("PUT", "sys/policies/acl/text", json!({ "policy": text })).await;
    assert_eq!(harness.read("sys/policies/acl/text", ROOT).await.text_at("/data/policy"), text);
}

/// What the probe is asked and what is then really done: paths of every kind of route.
fn asked() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "kv/a",
        "kv/a/",
        "kv/dir/b",
        "kv",
        "kv2/data/a",
        "kv2/metadata/a",
        "kv2/config",
        "sys/mounts",
        "sys/mounts/kv/tune",
        "auth/userpass/users/bob",
        "auth/userpass/users/BOB",
        "auth/userpass/users/bob/",
        "sys/policies/acl/Bob",
        "sys/seal",
        "sys/mounts//kv/tune",
        "nope/a",
    ])
}

fn rule() -> impl Strategy<Value = String> {
    let pattern = prop::sample::select(vec![
        "kv/*",
        "kv/a",
        "kv/+",
        "kv/dir/",
        "kv/dir/*",
        "kv/a/",
        "kv",
        "kv2/+/a",
        "kv2/*",
        "sys/*",
        "sys/mounts",
        "sys/mounts/kv/*",
        "auth/userpass/users/*",
        "auth/userpass/users/bob",
        "auth/userpass/users/Bob",
        "auth/+/users/bob",
        "sys/policies/acl/bob",
        "*",
        "nope/*",
    ]);
    let granted =
        prop::collection::vec(prop::sample::select(vec!["read", "list", "update", "delete", "deny", "create"]), 1..3);
    (pattern, granted).prop_map(|(pattern, granted)| format!("path {pattern:?} {{ capabilities = {granted:?} }}\n"))
}

#[tokio::test]
async fn lst_06_what_the_probe_shows_is_what_is_enforced() {
    let harness = node().await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..150 {
        let policy = prop::collection::vec(rule(), 1..5).new_tree(&mut runner).unwrap().current().concat();
        let path = asked().new_tree(&mut runner).unwrap().current();
        let token = harness.token_with(&policy).await;
        let accessor =
            harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await.text_at("/data/accessor");
        let probe = harness.write("sys/capabilities", ROOT, json!({ "token": token, "paths": [path] })).await;
        let by_accessor =
            harness.write("sys/capabilities-accessor", ROOT, json!({ "accessor": accessor, "paths": [path] })).await;
        assert_eq!(probe.at("/data/capabilities"), by_accessor.at("/data/capabilities"));
        let shown: Vec<String> = serde_json::from_value(probe.at("/data/capabilities").clone()).unwrap();
        for (method, capability) in [("GET", "read"), ("LIST", "list"), ("DELETE", "delete")] {
            let answer = harness.call(method, path, &token, Value::Null).await;
            let is_sudo_only = path == "sys/seal";
            let is_allowed = answer.status != 403;
            let is_shown = shown.iter().any(|word| word == capability);
            assert!(is_allowed == is_shown || is_sudo_only, "{method} {path}: shown {shown:?}, {answer:?}\n{policy}");
        }
    }
}
