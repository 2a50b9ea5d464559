//! The API as a document: nothing that answers is missing from it, and whoever asks sees what they may see.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};
use tresor_model::Operation;

const PATH: &str = "sys/internal/specs/openapi";

async fn document(harness: &Harness, path: &str, token: &str) -> Value {
    let answer = harness.read(path, token).await.expect_status(200);
    assert_eq!(answer.headers["content-type"], "application/json");
    answer.json
}

#[tokio::test]
async fn every_endpoint_is_in_the_document_with_its_fields() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/a/kv", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    let document = document(&harness, PATH, ROOT).await;
    assert_eq!(document["openapi"], "3.0.2");
    let mut count = 0;
    for route in harness.node.routes().into_iter().filter(|route| !route.mount.is_empty()) {
        let pattern = route.pattern.replace(":folded}", "}").replace(":trimmed}", "}").replace("...}", "}");
        let described = &document["paths"][format!("/{}{pattern}", route.mount)];
        let method = match route.operation {
            Operation::Read | Operation::List => "get",
            Operation::Create | Operation::Update => "post",
            Operation::Patch => "patch",
            Operation::Delete => "delete",
            _ => continue,
        };
        assert!(described[method]["summary"].is_string(), "{method} {}{pattern} is missing", route.mount);
        for name in pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
            let parameters = described["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|parameter| parameter["name"] == name), "{pattern}: {name}");
        }
        count += 1;
    }
    assert!(count > 150, "{count}");
    let login = &document["paths"]["/auth/people/login/{username}"];
    assert_eq!(login["x-vault-unauthenticated"], true);
    let schema = &login["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["properties"]["password"]["type"], "string");
    assert_eq!(document["paths"]["/sys/seal"]["x-vault-sudo"], true);
    let posted = harness.write(PATH, ROOT, json!({})).await.expect_status(200);
    assert_eq!(posted.json, document);
}

#[tokio::test]
async fn who_may_see_nothing_sees_nothing_of_it() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/secret-mount", json!({ "type": "kv" })).await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    assert_eq!(document(&harness, PATH, "").await["paths"], json!({}));
    harness.prepare("POST", "sys/auth/people/tune", json!({ "listing_visibility": "unauth" })).await;
    let shown = document(&harness, PATH, "").await;
    let paths: Vec<&String> = shown["paths"].as_object().unwrap().keys().collect();
    assert!(!paths.is_empty() && paths.iter().all(|path| path.starts_with("/auth/people/")), "{paths:?}");
    let token = harness.token_with(r#"path "secret-mount/a" { capabilities = ["read"] }"#).await;
    let shown = document(&harness, PATH, &token).await["paths"].to_string();
    assert!(shown.contains("/secret-mount/{path}") && !shown.contains("/sys/seal"), "{shown}");
    let generic = document(&harness, &format!("{PATH}?generic_mount_paths=true"), ROOT).await["paths"].clone();
    let mount = &generic["/{kv_mount_path}/{path}"];
    assert!(mount["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "kv_mount_path"));
    assert!(generic["/auth/{userpass_mount_path}/login/{username}"].is_object() && generic["/sys/seal"].is_object());
}

#[tokio::test]
async fn a_caller_is_told_what_it_may_do() {
    let harness = Harness::start().await;
    let path = "sys/internal/ui/resultant-acl";
    assert_eq!(harness.read(path, ROOT).await.expect_status(200).at("/data"), &json!({ "root": true }));
    drop(harness.read(path, "").await.expect_status(403));
    let token = harness
        .token_with(
            r#"path "a/b" { capabilities = ["update", "read"] }
               path "a/c/*" { capabilities = ["list"] }
               path "a/+/d" { capabilities = ["sudo"] }
               path "a/b/no" { capabilities = ["deny"] }
               path "a/f" {
                 capabilities = ["update"]
                 allowed_parameters = { "x" = ["1", "2"], "y" = [] }
                 denied_parameters = { "z" = [] }
                 required_parameters = ["x"]
                 min_wrapping_ttl = "1m"
                 max_wrapping_ttl = "2m"
               }"#,
        )
        .await;
    let shown = harness.read(path, &token).await.expect_status(200);
    assert_eq!(
        shown.at("/data"),
        &json!({
            "root": false,
            "exact_paths": {
                "a/b": { "capabilities": ["read", "update"] },
                "a/b/no": { "capabilities": ["deny"] },
                "a/f": {
                    "capabilities": ["update"],
                    "allowed_parameters": { "x": ["1", "2"], "y": [] },
                    "denied_parameters": { "z": [] },
                    "required_parameters": ["x"],
                    "min_wrapping_ttl": 60,
                    "max_wrapping_ttl": 120,
                },
            },
            "glob_paths": { "a/c/": { "capabilities": ["list"] }, "a/+/d": { "capabilities": ["sudo"] } },
        })
    );
}

#[tokio::test]
async fn what_answers_everybody_is_described_as_well() {
    let harness = Harness::start().await;
    let document = document(&harness, PATH, ROOT).await;
    for path in ["/sys/health", "/sys/init", "/sys/leader", "/sys/seal-status", "/sys/unseal"] {
        let described = &document["paths"][path];
        assert_eq!(described["x-vault-unauthenticated"], true, "{path}");
    }
    let init = &document["paths"]["/sys/init"];
    assert!(init["get"]["summary"].is_string());
    let sent = &init["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"];
    assert_eq!(sent["secret_shares"]["type"], "integer");
    let key = &document["paths"]["/sys/unseal"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(key["properties"]["key"]["x-vault-displayAttrs"]["sensitive"], true);
}
