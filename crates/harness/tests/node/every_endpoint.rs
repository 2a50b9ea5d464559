//! Every endpoint that the node has, called by everybody who must not get in, and by somebody who may: what happens is
//! what the endpoint declares, and what it declares is what the golden list says (DR-08, ACL-09, ACL-17, PT-04, PT-15).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tresor_core::{Availability, ListedRoute};
use tresor_engine::{Access, Effect, Place};
use tresor_harness::walk::{example, method};
use tresor_harness::{Answer, Harness, ROOT};

/// Every endpoint: operation, mount, pattern, who may call it, what it does to the store, on which node of a
/// cluster it runs, whether it is audited. The unaudited ones are those, and no others, that end in `unaudited`.
const GOLDEN: &str = include_str!("golden/routes.txt");

/// Every capability there is but `sudo`, on everything.
const ALL_BUT_SUDO: &str =
    r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "scan"] }"#;

/// Endpoints whose handler denies what the walk asks for, although policies let it through: there is no such token.
const DENIED_BY_HANDLER: &[&str] =
    &["auth/token/lookup/x", "sys/internal/ui/mounts/x/y", "sys/workflows/unauthed-execute/x/y"];

/// A node with every engine and method of the registry mounted.
async fn everything_mounted() -> Harness {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/mounts/kv-v1", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "sys/mounts/kv-v2", json!({ "type": "kv-v2" })).await;
    for factory in tresor_builtin::registry().factories {
        let (table, path) = match factory.class {
            tresor_engine::Class::Auth => ("auth", factory.kind),
            _ if factory.kind == "kv" => continue,
            _ => ("mounts", factory.kind),
        };
        harness.prepare("POST", &format!("sys/{table}/{path}"), json!({ "type": factory.kind })).await;
    }
    harness
}

fn access(route: &ListedRoute) -> &'static str {
    match route.availability {
        Availability::Always => "always",
        Availability::Unsealed(Access::Public) => "public",
        Availability::Unsealed(Access::Login) => "login",
        Availability::Unsealed(Access::AnyToken) => "any-token",
        Availability::Unsealed(Access::Token) => "token",
        Availability::Unsealed(Access::Wrapping) => "wrapping",
        Availability::Unsealed(Access::Sudo | Access::Shareholders(_)) => "sudo",
    }
}

fn line(route: &ListedRoute) -> String {
    let effect = if route.effect == Effect::Reads { "reads" } else { "writes" };
    let place = match route.place {
        Place::Any => "any",
        Place::Asked => "asked",
        Place::Leader => "leader",
    };
    let audited = if route.is_audited { "audited" } else { "unaudited" };
    let mount = if route.mount.is_empty() { "-" } else { &route.mount };
    format!("{} {mount} {} {} {effect} {place} {audited}", route.operation.name(), route.pattern, access(route))
}

/// Whether an answer says no more than that the caller may not, or that what it has is no wrapping token.
fn is_denial(answer: &Answer) -> bool {
    let denial = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
    let not_valid = r#"{"errors":["wrapping token is not valid or does not exist"]}"#;
    let is = |status, text: &str| answer.status == status && answer.bytes == text.as_bytes();
    is(403, denial) || is(400, not_valid)
}

async fn call(harness: &Harness, method: &str, path: &str, token: &str) -> Answer {
    let body = if matches!(method, "POST" | "PUT" | "PATCH") { json!({}) } else { Value::Null };
    let answer = harness.call(method, path, token, body).await;
    assert!(answer.status < 500, "{method} {path}: {answer:?}");
    answer
}

#[tokio::test]
async fn acl_17_every_endpoint_is_in_the_golden_list() {
    let mut harness = everything_mounted().await;
    let mut listed = String::new();
    for route in harness.node.routes() {
        writeln!(listed, "{}", line(&route)).unwrap();
    }
    let (now, golden): (BTreeSet<&str>, BTreeSet<&str>) = (listed.lines().collect(), GOLDEN.lines().collect());
    let (new, gone): (Vec<_>, Vec<_>) = (now.difference(&golden).collect(), golden.difference(&now).collect());
    assert!(new.is_empty() && gone.is_empty(), "not in golden/routes.txt: {new:#?}\nonly there: {gone:#?}");
    // What a sealed node answers on is exactly what leaves no audit record.
    harness.restart().await;
    let sealed: BTreeSet<String> = harness.node.routes().iter().map(line).collect();
    let unaudited: BTreeSet<String> =
        listed.lines().filter(|line| line.ends_with(" unaudited")).map(str::to_owned).collect();
    assert_eq!(sealed, unaudited);
}

#[tokio::test]
async fn acl_17_every_endpoint_lets_in_whom_it_declares_and_nobody_else() {
    let harness = everything_mounted().await;
    let powerless = harness.token(json!({ "policies": ["nothing"], "no_default_policy": true })).await;
    for route in harness.node.routes() {
        let (path, method) = (example(&route), method(route.operation));
        let strong = harness.token_with(ALL_BUT_SUDO).await;
        let before = harness.store.dump();
        let mut denied = Vec::new();
        for token in ["", "hvs.nobody", &powerless] {
            let answer = call(&harness, method, &path, token).await;
            if answer.status == 403 {
                assert!(is_denial(&answer), "{method} {path}: {answer:?}");
            }
            denied.push(answer.status == 403);
        }
        let let_in = match route.availability {
            // Who shows a token that is none is told so, instead of what everybody may see.
            Availability::Unsealed(Access::Public) if route.pattern == "internal/ui/mounts" => [true, false, true],
            // The handler denies what nobody said is for everybody.
            Availability::Unsealed(Access::Public) if route.pattern.starts_with("workflows/") => [false; 3],
            Availability::Always | Availability::Unsealed(Access::Public | Access::Login) => [true, true, true],
            // The handler decides by itself what such a caller sees.
            Availability::Unsealed(Access::AnyToken) => [false, false, !denied[2]],
            // Whoever has a token that is none for this is told so.
            Availability::Unsealed(Access::Wrapping) => [false, true, true],
            Availability::Unsealed(Access::Token | Access::Sudo | Access::Shareholders(_)) => [false; 3],
        };
        assert_eq!(denied, let_in.map(|let_in| !let_in), "{}", line(&route));
        if denied.iter().all(|denied| *denied) {
            assert!(before == harness.store.dump(), "a refused call has written: {}", line(&route));
        }
        let answer = call(&harness, method, &path, &strong).await;
        let must_be_denied = route.availability == Availability::Unsealed(Access::Sudo);
        if !DENIED_BY_HANDLER.contains(&path.as_str()) {
            assert_eq!(answer.status == 403, must_be_denied, "{}: {answer:?}", line(&route));
        }
    }
}

#[tokio::test]
async fn acl_09_no_other_method_of_an_open_endpoint_is_open() {
    let harness = everything_mounted().await;
    let routes = harness.node.routes();
    let is_open = |path: &str, method_name: &str| {
        routes.iter().any(|route| {
            let open = matches!(access(route), "always" | "public" | "login");
            open && example(route) == path && method(route.operation) == method_name
        })
    };
    for route in &routes {
        let path = example(route);
        for method_name in ["GET", "LIST", "POST", "PUT", "PATCH", "DELETE", "HEAD"] {
            let known = match method_name {
                "PUT" => "POST",
                "HEAD" => "GET",
                other => other,
            };
            if is_open(&path, known) {
                continue;
            }
            // Neither a slash more nor a slash doubled opens what is closed.
            for spelling in [path.clone(), format!("{path}/"), path.replacen('/', "//", 1), format!("{path}?help=1")] {
                for token in ["", "hvs.nobody"] {
                    let answer = call(&harness, method_name, &spelling, token).await;
                    let is_denied = is_denial(&answer) || (method_name == "HEAD" && answer.status == 403);
                    let helps_openly = spelling.ends_with("help=1") && !matches!(method_name, "GET" | "HEAD");
                    assert!(is_denied || helps_openly && answer.status == 403, "{method_name} {spelling}: {answer:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn acl_16_methods_that_are_none_reach_nothing() {
    let harness = everything_mounted().await;
    let accessors = harness.list("auth/token/accessors", ROOT).await;
    for route in harness.node.routes() {
        let path = example(&route);
        for method in ["OPTIONS", "RENEW", "REVOKE", "ROLLBACK", "RESOLVE-ROLE", "ALIAS-LOOKAHEAD", "TRACE", "get"] {
            for token in ["", ROOT] {
                let answer = call(&harness, method, &path, token).await;
                assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            }
        }
    }
    assert_eq!(harness.list("auth/token/accessors", ROOT).await.json["data"], accessors.json["data"]);
}

#[tokio::test]
async fn aud_09_every_endpoint_is_recorded_once_and_once_answered_unless_it_is_on_the_list() {
    let harness = everything_mounted().await;
    for route in harness.node.routes() {
        let (path, method) = (example(&route), method(route.operation));
        let before = harness.audit_text().await.lines().count();
        drop(call(&harness, method, &path, "").await);
        let after = harness.audit_records().await;
        let new: Vec<&Value> = after.iter().skip(before).map(|record| &record["type"]).collect();
        let expected: &[&str] = if route.is_audited { &["request", "response"] } else { &[] };
        assert_eq!(new, expected, "{}", line(&route));
    }
}

#[tokio::test]
async fn lst_03_paths_that_lead_nowhere_say_so_only_to_whom_policies_let_ask() {
    let harness = everything_mounted().await;
    let strong = harness.token_with(ALL_BUT_SUDO).await;
    let nowhere = ["nope", "nope/x", "sys", "sys/nope", "auth/nope/login/x", "auth", "identity/x", "kv-v2/nope"];
    let somewhere = ["kv-v2/data/x", "kv-v1/x", "kv-v1", "sys/mounts", "sys/internal/ui/mounts/kv-v2/x"];
    for path in nowhere.iter().chain(&somewhere).chain(&["sys/internal/ui/mounts/nope"]) {
        for method in ["GET", "LIST", "POST", "DELETE"] {
            for token in ["", "hvs.nobody"] {
                assert!(is_denial(&call(&harness, method, path, token).await), "{method} {path}");
            }
        }
    }
    for path in nowhere {
        let status = call(&harness, "GET", path, &strong).await.status;
        assert!(matches!(status, 404 | 405), "{path}: {status}");
    }
}
