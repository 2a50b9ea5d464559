//! How requests are read and answers look, whatever the endpoint: envelopes, hints, errors, verbs, queries.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn with_kv1() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv1", json!({ "type": "kv" })).await;
    harness
}

/// Sends a request whose path and headers are exactly these.
async fn send(harness: &Harness, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness.send(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

fn keys_in_order(answer: &Answer) -> Vec<String> {
    let text = String::from_utf8(answer.bytes.clone()).unwrap();
    let mut order: Vec<(usize, String)> = answer
        .json
        .as_object()
        .unwrap()
        .keys()
        .map(|key| (text.find(&format!("\"{key}\":")).unwrap(), key.clone()))
        .collect();
    order.sort();
    order.into_iter().map(|(_, key)| key).collect()
}

#[tokio::test]
async fn every_part_of_the_envelope_is_there_in_order_and_null_when_it_has_nothing() {
    let harness = with_kv1().await;
    harness.prepare("POST", "kv1/a", json!({ "k": "v" })).await;
    let answer = harness.read("kv1/a", ROOT).await.expect_status(200);
    let order = ["request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"];
    assert_eq!(keys_in_order(&answer), order);
    for null in ["/wrap_info", "/warnings", "/auth"] {
        assert_eq!(answer.at(null), &Value::Null);
    }
    assert_eq!(answer.at("/lease_id"), &json!(""));
    assert_eq!(answer.at("/renewable"), &json!(false));
    assert_eq!(answer.at("/lease_duration"), &json!(2_764_800));
    assert_eq!(answer.text_at("/request_id").len(), 36);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn nothing_is_404_with_an_empty_list_byte_for_byte_and_a_write_without_answer_is_204() {
    let harness = with_kv1().await;
    for (method, path) in [("GET", "kv1/none"), ("LIST", "kv1/none"), ("LIST", "kv1"), ("GET", "kv1/none?hint=1")] {
        let answer = harness.call(method, path, ROOT, Value::Null).await.expect_status(404);
        assert_eq!(answer.bytes, br#"{"errors":[]}"#, "{method} {path}");
    }
    let answer = harness.write("kv1/a", ROOT, json!({ "k": "v" })).await.expect_status(204);
    assert!(answer.bytes.is_empty());
}

#[tokio::test]
async fn unknown_parameters_are_hinted_at_where_there_is_an_answer_and_leave_a_204_alone() {
    let harness = Harness::start().await;
    let answer = harness.write("auth/token/create", ROOT, json!({ "zzz": 1, "aaa": 2, "nil": null })).await;
    let hints = json!(["Endpoint ignored these unrecognized parameters: [aaa zzz]"]);
    assert_eq!(answer.expect_status(200).at("/warnings"), &hints);
    let policy = json!({ "policy": "{}", "zzz": 1 });
    let answer = harness.write("sys/policies/acl/p", ROOT, policy).await.expect_status(204);
    assert!(answer.bytes.is_empty());
    let body = json!({ "name": "q", "input": "x", "path": "other" });
    harness.enable_audit().await;
    let answer = harness.write("sys/audit-hash/file", ROOT, body).await.expect_status(200);
    let hints = json!([
        "Endpoint ignored these unrecognized parameters: [name]",
        "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [path]",
    ]);
    assert_eq!(answer.at("/warnings"), &hints);
}

#[tokio::test]
async fn post_is_put_and_list_is_a_get_that_says_so() {
    let harness = with_kv1().await;
    for method in ["POST", "PUT"] {
        let answer = harness.call(method, "kv1/a", ROOT, json!({ "by": method })).await;
        drop(answer.expect_status(204));
        assert_eq!(harness.read("kv1/a", ROOT).await.at("/data/by"), &json!(method));
    }
    let listed = harness.list("kv1", ROOT).await;
    for path in ["kv1?list=true", "kv1/?list=1", "kv1?limit=10&list=True", "kv1/?list=t"] {
        let answer = harness.read(path, ROOT).await.expect_status(200);
        assert_eq!(answer.at("/data"), listed.at("/data"), "{path}");
    }
    harness.read("kv1?list=perhaps", ROOT).await.expect_error(400, "list");
    let answer = harness.read("kv1/a?list=false", ROOT).await.expect_status(200);
    assert_eq!(answer.at("/warnings"), &Value::Null);
}

#[tokio::test]
async fn the_query_of_a_write_is_not_data() {
    let harness = with_kv1().await;
    harness.prepare("POST", "kv1/a?injected=1", json!({ "k": "v" })).await;
    assert_eq!(harness.read("kv1/a", ROOT).await.at("/data"), &json!({ "k": "v" }));
    harness.write("kv1/b?k=v", ROOT, Value::Null).await.expect_error(400, "missing data fields");
}

#[tokio::test]
async fn null_is_the_same_as_absent() {
    let harness = Harness::start().await;
    let all_null = json!({
        "id": null, "policies": null, "meta": null, "no_parent": null, "no_default_policy": null, "renewable": null,
        "ttl": null, "type": null, "explicit_max_ttl": null, "display_name": null, "num_uses": null, "period": null,
        "entity_alias": null, "lease": null,
    });
    let answer = harness.write("auth/token/create", ROOT, all_null).await.expect_status(200);
    assert_eq!(answer.at("/warnings"), &Value::Null);
    let mount = json!({ "type": "kv", "options": null, "config": null, "description": null, "plugin_name": null });
    drop(harness.write("sys/mounts/n", ROOT, mount).await.expect_status(204));
}

#[tokio::test]
async fn keys_survive_slashes_blanks_quotes_and_percent_signs() {
    let harness = with_kv1().await;
    let keys = [
        ("http://test.com", "http://test.com"),
        ("sp%20ace%22q%3A%40%25", "sp%20ace%22q:@%25"),
        ("pl+us", "pl%2Bus"),
        ("a//b", "a%2F%2Fb"),
        ("%C3%BCml%C3%A4ut", "%c3%bcml%c3%a4ut"),
    ];
    for (written, read) in keys {
        harness.prepare("POST", &format!("kv1/{written}"), json!({ "is": written })).await;
        let answer = harness.read(&format!("kv1/{read}"), ROOT).await.expect_status(200);
        assert_eq!(answer.at("/data/is"), &json!(written));
    }
    let listed = harness.list("kv1", ROOT).await;
    assert_eq!(listed.at("/data/keys"), &json!(["a/", "http:/", "pl+us", "sp ace\"q:@%", "ümläut"]));
}

#[tokio::test]
async fn an_address_that_ends_in_a_slash_works() {
    let harness = Harness::start().await;
    let answer = send(&harness, "GET", "//v1/sys/seal-status", &[], "").await;
    assert_eq!(answer.expect_status(200).at("/sealed"), &json!(false));
}

#[tokio::test]
async fn tokens_come_in_either_header_and_strange_ones_are_told_so() {
    let harness = Harness::start().await;
    let bearer = format!("Bearer {ROOT}");
    let lookup = "/v1/auth/token/lookup-self";
    let root = [
        ("Authorization", bearer.as_str()),
        ("X-Vault-Request", "true"),
        ("X-Vault-Index", "abc"),
        ("X-Vault-Forward", "active-node"),
        ("X-Vault-No-Request-Forwarding", "true"),
        ("X-Vault-Namespace", "root/"),
    ];
    drop(send(&harness, "GET", lookup, &root, "").await.expect_status(200));
    send(&harness, "GET", lookup, &[("X-Vault-Token", "a\tb")], "").await.expect_error(400, "invalid header value");
    send(&harness, "GET", lookup, &[("X-Vault-Token", "unknown")], "").await.expect_error(403, "permission denied");
    send(&harness, "GET", lookup, &[], "").await.expect_error(403, "permission denied");
    let elsewhere = [("X-Vault-Token", ROOT), ("X-Vault-Namespace", "nowhere")];
    send(&harness, "GET", lookup, &elsewhere, "").await.expect_error(404, "no handler for route");
}

#[tokio::test]
async fn what_is_not_there_has_its_own_refusal() {
    let harness = with_kv1().await;
    harness.read("nope/x", ROOT).await.expect_error(404, "no handler for route \"nope/x\". route entry not found.");
    harness.read("auth/nope/x", ROOT).await.expect_error(404, "no handler for route");
    harness.read("sys/nope", ROOT).await.expect_error(404, "unsupported path");
    harness.read("auth/token/nope", ROOT).await.expect_error(404, "unsupported path");
    harness.delete("sys/capabilities", ROOT).await.expect_error(405, "unsupported operation");
    harness.call("PATCH", "kv1/a", ROOT, json!({})).await.expect_error(405, "unsupported operation");
    harness.call("OPTIONS", "kv1/a", ROOT, Value::Null).await.expect_error(405, "unsupported operation");
    // Who may not look there learns nothing of it.
    harness.read("sys/nope", "unknown").await.expect_error(403, "permission denied");
}

#[tokio::test]
async fn help_tells_of_an_engine_and_of_a_route() {
    let harness = with_kv1().await;
    for (path, text) in [
        ("sys?help=1", "system backend"),
        ("sys/?help=1", "mounts/{path...}"),
        ("sys/mounts?help", "Lists the secrets engines"),
        ("auth/token?help=1", "create-orphan"),
        ("kv1?help=1", "encrypted store"),
        ("kv1/a?help=1", "Reads, lists, scans, writes or deletes"),
    ] {
        let answer = harness.read(path, ROOT).await.expect_status(200);
        assert!(answer.text_at("/help").contains(text), "{path}: {answer:?}");
        assert!(answer.json.get("see_also").is_some(), "{path}");
        assert_eq!(answer.at("/openapi/openapi"), &json!("3.0.2"), "{path}");
    }
    // It is about what was asked for, by paths below the mount.
    let one = harness.read("sys/mounts/a/tune?help=1", ROOT).await.expect_status(200);
    let paths = one.at("/openapi/paths").as_object().unwrap();
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["/mounts/{path}/tune"]);
    assert!(one.at("/openapi/paths/~1mounts~1{path}~1tune/post/requestBody").is_object());
    let all = harness.read("kv1?help=1", ROOT).await.expect_status(200);
    assert!(all.at("/openapi/paths").as_object().unwrap().contains_key("/{path}"), "{all:?}");
    harness.read("sys/nope?help=1", ROOT).await.expect_error(404, "unsupported path");
    harness.read("nope/x?help=1", ROOT).await.expect_error(404, "no handler for route");
    harness.read("sys?help=1", "").await.expect_error(403, "permission denied");
}

#[tokio::test]
async fn head_answers_as_get_does_but_without_its_body() {
    let harness = Harness::start().await;
    for path in ["sys/health", "sys/init", "sys/seal-status"] {
        let answer = harness.call("HEAD", path, "", Value::Null).await.expect_status(200);
        assert!(answer.bytes.is_empty());
    }
    drop(harness.call("HEAD", "sys/health?activecode=299", "", Value::Null).await.expect_status(299));
}

#[tokio::test]
async fn scan_lists_every_depth_in_pages_to_whom_it_is_granted() {
    let harness = Harness::start().await;
    let all = r#"path "cubbyhole/*" { capabilities = ["create", "update", "list", "scan"] }
        path "cubbyhole/b/*" { capabilities = ["create", "update", "list"] }"#;
    let token = harness.token_with(all).await;
    let names = ["a", "b/c", "b/d/e", "b/d/f/g", "bb", "z"];
    for name in names {
        drop(harness.write(&format!("cubbyhole/{name}"), &token, json!({ "k": "v" })).await.expect_status(204));
    }
    let scan = async |path: &str| harness.call("SCAN", path, &token, Value::Null).await;
    assert_eq!(scan("cubbyhole").await.expect_status(200).at("/data/keys"), &json!(names));
    let by_query = harness.read("cubbyhole?scan=true&limit=2", &token).await.expect_status(200);
    assert_eq!(by_query.at("/data/keys"), &json!(["a", "b/c"]));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = scan(&format!("cubbyhole/?limit=1&after={after}")).await;
        let Some(name) = page.json["data"]["keys"][0].as_str().map(str::to_owned) else { break };
        after.clone_from(&name);
        seen.push(name);
    }
    assert_eq!(seen, names);
    assert_eq!(scan("cubbyhole?after=b/d/zz").await.at("/data/keys"), &json!(["bb", "z"]));
    drop(scan("cubbyhole/none").await.expect_status(404));
    // To list is not to scan, and the directory's own rule decides.
    drop(scan("cubbyhole/b").await.expect_status(403));
    let shown = json!({ "token": token, "paths": ["cubbyhole/b/", "cubbyhole/"] });
    let shown = harness.write("sys/capabilities", ROOT, shown).await.expect_status(200);
    assert_eq!(shown.at("/data/cubbyhole~1"), &json!(["create", "list", "scan", "update"]));
    assert_eq!(shown.at("/data/cubbyhole~1b~1"), &json!(["create", "list", "update"]));
    drop(harness.read("cubbyhole?scan=maybe", ROOT).await.expect_status(400));
}

#[tokio::test]
async fn a_form_says_what_json_says_and_json_that_is_called_a_form_is_json() {
    const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
    let harness = with_kv1().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/ada", json!({ "password": "p w&%" })).await;
    let login = "/v1/auth/userpass/login/ada";
    drop(send(&harness, "POST", login, &[FORM], "password=p+w%26%25").await.expect_status(200));
    send(&harness, "POST", login, &[FORM], "password=other").await.expect_error(400, "invalid username or password");
    let root = ("X-Vault-Token", ROOT);
    let write = async |headers: &[(&str, &str)], body: &str| send(&harness, "PUT", "/v1/kv1/f", headers, body).await;
    drop(write(&[root, FORM], "a=1&b=x%20y&a=2&c").await.expect_status(204));
    assert_eq!(harness.read("kv1/f", ROOT).await.at("/data"), &json!({ "a": "1,2", "b": "x y", "c": "" }));
    // What `curl -d` sends of JSON is called a form, too.
    drop(write(&[root, FORM], " {\"a\": 5}").await.expect_status(204));
    assert_eq!(harness.read("kv1/f", ROOT).await.at("/data"), &json!({ "a": 5 }));
    for (body, reason) in [
        ("a=%zz", "failed to parse form input: malformed percent-encoding"),
        ("a=%ff", "failed to parse form input: not valid UTF-8"),
        ("a=1;b=2", "failed to parse form input: a semicolon must be sent as `%3B`"),
        ("[1]", "the body must be an object"),
    ] {
        write(&[root, FORM], body).await.expect_error(400, reason);
    }
    // Without the type it is no form.
    write(&[root], "a=1").await.expect_error(400, "failed to parse JSON input");
    assert_eq!(harness.read("kv1/f", ROOT).await.at("/data"), &json!({ "a": 5 }));
    let patch = send(&harness, "PATCH", "/v1/kv1/f", &[root, FORM], "a=1").await;
    drop(patch.expect_status(415));
}
