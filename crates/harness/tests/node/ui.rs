//! What pages ask: messages for people, what to log in by, and which features there are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};
use tresor_wire::time::{parse_rfc3339, rfc3339};

const MESSAGES: &str = "sys/config/ui/custom-messages";

/// A message of some kind, from a time on.
fn message(title: &str, is_authenticated: bool) -> Value {
    json!({
        "title": title, "message": "aGVsbG8=", "authenticated": is_authenticated, "start_time": "2024-01-01T00:00:00.000Z",
    })
}

/// Deletes a namespace, until nothing is left of it.
async fn delete_namespace(harness: &Harness, name: &str) {
    let path = format!("sys/namespaces/{name}");
    harness.prepare("DELETE", &path, Value::Null).await;
    for _ in 0..400 {
        if harness.read(&path, ROOT).await.status == 404 {
            return;
        }
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(harness.read(&path, ROOT).await.status, 404, "it does not end");
}

/// The titles of what a page shows there.
async fn shown(harness: &Harness, path: &str, token: &str) -> Vec<String> {
    let answer = harness.read(path, token).await.expect_status(200);
    let keys = answer.json["data"]["keys"].as_array().cloned().unwrap_or_default();
    let title =
        |id: &Value| answer.json["data"]["key_info"][id.as_str().unwrap()]["title"].as_str().unwrap().to_owned();
    let mut titles: Vec<String> = keys.iter().map(title).collect();
    titles.sort();
    titles
}

#[tokio::test]
async fn a_message_is_shown_to_whom_it_is_for_and_as_long_as_it_says() {
    let mut harness = Harness::start().await;
    assert_eq!(harness.list(MESSAGES, ROOT).await.status, 404);
    let everybody = harness.write(MESSAGES, ROOT, message("everybody", false)).await.expect_status(200);
    let id = everybody.text_at("/data/id");
    assert_eq!((everybody.at("/data/active"), everybody.at("/data/type")), (&json!(true), &json!("banner")));
    let mut soon = message("soon", true);
    let now = harness.read("sys/host-info", ROOT).await.expect_status(200).text_at("/data/timestamp");
    let now = parse_rfc3339(&now).unwrap();
    let hour = |hours: u64| rfc3339(now.plus(Duration::from_secs(3600 * hours)));
    soon["start_time"] = json!(hour(1));
    soon["end_time"] = json!(hour(2));
    soon["type"] = json!("modal");
    soon["link"] = json!({ "more": "https://a.b/c" });
    soon["options"] = json!({ "colour": { "of": ["red"] } });
    let later = harness.write(MESSAGES, ROOT, soon.clone()).await.expect_status(200).text_at("/data/id");
    let (before, after) = ("sys/internal/ui/unauthenticated-messages", "sys/internal/ui/authenticated-messages");
    assert_eq!(shown(&harness, before, "").await, ["everybody"]);
    assert_eq!(shown(&harness, after, ROOT).await, Vec::<String>::new());
    harness.read(after, "").await.expect_error(403, "permission denied");
    for (query, found) in [("active=true", &id), ("authenticated=true", &later), ("type=modal", &later)] {
        let listed = harness.list(&format!("{MESSAGES}?{query}"), ROOT).await.expect_status(200);
        assert_eq!(listed.at("/data/keys"), &json!([found]), "{query}");
    }
    harness.advance(Duration::from_secs(3601)).await;
    assert_eq!(shown(&harness, after, ROOT).await, ["soon"]);
    let page = harness.read(after, ROOT).await.expect_status(200);
    assert_eq!(
        page.json["data"]["key_info"][&later],
        json!({
            "id": later, "title": "soon", "message": "aGVsbG8=", "type": "modal", "authenticated": true,
            "link": { "more": "https://a.b/c" }, "options": { "colour": { "of": ["red"] } },
            "start_time": hour(1), "end_time": hour(2),
        })
    );
    harness.advance(Duration::from_secs(3600)).await;
    assert_eq!(shown(&harness, after, ROOT).await, Vec::<String>::new());
    // One is written anew as a whole, and stays what it was otherwise.
    let path = format!("{MESSAGES}/{id}");
    harness.prepare("POST", &path, message("all", true)).await;
    harness.restart().await;
    harness.unseal().await;
    let read = harness.read(&path, ROOT).await.expect_status(200);
    assert_eq!((read.at("/data/title"), read.at("/data/authenticated")), (&json!("all"), &json!(true)));
    assert_eq!(shown(&harness, before, "").await, Vec::<String>::new());
    harness.prepare("DELETE", &path, Value::Null).await;
    assert_eq!(harness.read(&path, ROOT).await.status, 404);
    assert_eq!(harness.write(&path, ROOT, message("all", true)).await.status, 404);
}

#[tokio::test]
async fn a_message_that_cannot_be_shown_is_refused_and_there_are_a_hundred_at_most() {
    let harness = Harness::start().await;
    for (field, value, text) in [
        ("title", json!(""), "missing required field"),
        ("message", json!(""), "missing required field"),
        ("message", json!("%%"), "not the base64"),
        ("message", json!("/w=="), "not the base64"),
        ("type", json!("popup"), "must be \"banner\" or \"modal\""),
        ("start_time", json!("soon"), "start_time is missing"),
        ("end_time", json!("2023-01-01T00:00:00Z"), "must be after"),
        ("end_time", json!("later"), "no time in RFC 3339"),
        ("link", json!({ "a": "https://a", "b": "https://b" }), "one title"),
        ("link", json!({ "a": "javascript:alert(1)" }), "must begin with https://"),
        ("link", json!({ "a": "https://a\"onclick=x" }), "no blanks, quotes or control characters"),
        ("link", json!({ "a\u{1b}[31m": "https://a" }), "a title has no control characters"),
        ("title", json!("a\u{1b}[31m"), "a title has no control characters"),
        ("options", json!({ "a": "x".repeat(9000) }), "at most 8192 bytes"),
    ] {
        let mut wrong = message("a", true);
        wrong[field] = value;
        harness.write(MESSAGES, ROOT, wrong).await.expect_error(400, text);
    }
    for number in 0..100 {
        harness.prepare("POST", MESSAGES, message(&format!("m{number}"), true)).await;
    }
    harness.write(MESSAGES, ROOT, message("one more", true)).await.expect_error(400, "100 custom messages");
    assert_eq!(
        harness.list(MESSAGES, ROOT).await.expect_status(200).json["data"]["keys"].as_array().unwrap().len(),
        100
    );
}

#[tokio::test]
async fn a_namespace_shows_its_own_messages_and_those_from_above() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/namespaces/a", json!({})).await;
    harness.prepare("POST", "a/sys/namespaces/b", json!({})).await;
    harness.prepare("POST", "sys/namespaces/c", json!({})).await;
    for (namespace, title) in [("", "top"), ("a/", "a"), ("a/b/", "b"), ("c/", "c")] {
        harness.prepare("POST", &format!("{namespace}{MESSAGES}"), message(title, false)).await;
    }
    let at = "sys/internal/ui/unauthenticated-messages";
    for (namespace, titles) in
        [("", &["top"][..]), ("a/", &["a", "top"]), ("a/b/", &["a", "b", "top"]), ("c/", &["c", "top"])]
    {
        assert_eq!(shown(&harness, &format!("{namespace}{at}"), "").await, titles, "{namespace}");
    }
    assert_eq!(harness.list(&format!("a/{MESSAGES}"), ROOT).await.json["data"]["keys"].as_array().unwrap().len(), 1);
    // What is made under the name of one that is gone has none of its messages.
    delete_namespace(&harness, "c").await;
    harness.prepare("POST", "sys/namespaces/c", json!({})).await;
    assert_eq!(shown(&harness, &format!("c/{at}"), "").await, ["top"]);
}

#[tokio::test]
async fn a_page_offers_what_is_said_of_its_namespace_or_handed_down_to_it() {
    let harness = Harness::start().await;
    for (parent, name) in [("", "a"), ("a/", "b"), ("", "c")] {
        harness.prepare("POST", &format!("{parent}sys/namespaces/{name}"), json!({})).await;
    }
    let forms = "sys/config/ui/login/default-auth";
    let offered = async |namespace: &str| {
        let answer = harness.read(&format!("{namespace}sys/internal/ui/default-auth-methods"), "").await;
        if answer.status == 404 { Value::Null } else { answer.expect_status(200).at("/data/default_auth_type").clone() }
    };
    assert_eq!((offered("").await, harness.list(forms, ROOT).await.status), (Value::Null, 404));
    for (name, body, text) in [
        ("a.b", json!({ "default_auth_type": "ldap" }), "letters, numbers"),
        ("a", json!({}), "must be set"),
        ("a", json!({ "default_auth_type": "carrier-pigeon" }), "is none of github"),
        ("a", json!({ "backup_auth_types": ["token", "x"] }), "`x` is none of"),
        ("a", json!({ "default_auth_type": "ldap", "namespace_path": "nowhere" }), "leads to no namespace"),
    ] {
        harness.write(&format!("{forms}/{name}"), ROOT, body).await.expect_error(400, text);
    }
    let whole = json!({ "default_auth_type": "ldap", "backup_auth_types": "token,userpass" });
    harness.prepare("POST", &format!("{forms}/whole"), whole).await;
    let of_a = json!({ "default_auth_type": "okta", "namespace_path": "a", "disable_inheritance": true });
    harness.prepare("POST", &format!("{forms}/of_a"), of_a.clone()).await;
    harness.write(&format!("{forms}/second"), ROOT, of_a).await.expect_error(400, "has a login configuration: `of_a`");
    assert_eq!((offered("").await, offered("c/").await), (json!("ldap"), json!("ldap")));
    assert_eq!((offered("a/").await, offered("a/b/").await), (json!("okta"), Value::Null));
    let read = harness.read(&format!("{forms}/whole"), ROOT).await.expect_status(200);
    assert_eq!(
        read.at("/data"),
        &json!({
            "default_auth_type": "ldap", "backup_auth_types": ["token", "userpass"], "disable_inheritance": false,
            "namespace_path": "root",
        })
    );
    let listed = harness.list(forms, ROOT).await.expect_status(200);
    assert_eq!(listed.at("/data/keys"), &json!(["of_a", "whole"]));
    assert_eq!(listed.at("/data/key_info/of_a/namespace_path"), &json!("a/"));
    // One that comes to be about another namespace is not about the former one any more.
    harness
        .prepare("POST", &format!("{forms}/of_a"), json!({ "default_auth_type": "oidc", "namespace_path": "c/" }))
        .await;
    assert_eq!((offered("a/").await, offered("c/").await), (json!("ldap"), json!("oidc")));
    // What is said of a namespace goes with it.
    delete_namespace(&harness, "c").await;
    assert_eq!(harness.list(forms, ROOT).await.at("/data/keys"), &json!(["whole"]));
    harness.prepare("DELETE", &format!("{forms}/whole"), Value::Null).await;
    assert_eq!(offered("").await, Value::Null);
}

#[tokio::test]
async fn programs_that_ask_for_features_are_told_that_none_waits_and_none_is_tried() {
    let mut harness = Harness::start().await;
    let none = Vec::<String>::new();
    let flags = harness.read("sys/activation-flags", "").await.expect_status(200);
    assert_eq!(flags.at("/data"), &json!({ "activated": none, "unactivated": none }));
    let experiments = harness.read("sys/experiments", ROOT).await.expect_status(200);
    assert_eq!(experiments.at("/data"), &json!({ "available": none, "enabled": none }));
    drop(harness.read("sys/well-known", ROOT).await.expect_status(200));
    assert_eq!(harness.list("sys/well-known", ROOT).await.status, 404);
    assert_eq!(harness.read("sys/well-known/est/cacerts", ROOT).await.status, 404);
    let mut request = tresor_harness::assembly::request("GET", "", "", &Value::Null);
    *request.uri_mut() = "/.well-known/est/cacerts".parse().unwrap();
    assert_eq!(harness.send(request).await.status, 404);
    harness.restart().await;
    let flags = harness.read("sys/internal/ui/feature-flags", "").await.expect_status(200);
    assert_eq!(flags.json, json!({ "feature_flags": none, "feature-flags": none }));
}
