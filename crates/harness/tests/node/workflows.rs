//! Workflows over HTTP: how they are kept, what running one does, and what it cannot do (SYS-27, SYS-28).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::Settings;
use tresor_harness::{Answer, Captured, Harness, ROOT, assembly};

const CANARY: &str = "canary-of-a-workflow";

/// Reads a secret, copies it, and says what was copied.
const COPY: &str = r#"
  input {
    field "string" "from" { required = true }
    field "string" "to" { required = true }
  }
  flow "copy" {
    request "read" {
      operation = "read"
      path = { eval_source = "template" eval_type = "string" template = "kv/{{ .input.from }}" }
    }
    request "write" {
      operation = "update"
      path = { eval_source = "template" eval_type = "string" template = "kv/{{ .input.to }}" }
      data = { v = { eval_source = "response" eval_type = "string" flow_name = "copy" response_name = "read" field_selector = ["data", "v"] } }
    }
  }
  output {
    data = {
      copied = { eval_source = "cel" eval_type = "int" expression = "size(responses.copy.read.data)" }
      to = { eval_source = "input" eval_type = "string" field_name = "to" }
    }
  }"#;

fn of(path: &str) -> String {
    format!("flow \"f\" {{ request \"r\" {{ operation = \"update\" path = \"{path}\" }} }}")
}

async fn node() -> Harness {
    with(Harness::start_with(Settings { has_public_workflows: true, ..Settings::default() }).await).await
}

async fn with(harness: Harness) -> Harness {
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "kv/a", json!({ "v": CANARY })).await;
    harness
}

async fn keep(harness: &Harness, path: &str, workflow: &str) -> Answer {
    harness
        .write(&format!("sys/workflows/manage/{path}"), ROOT, json!({ "workflow": workflow }))
        .await
        .expect_status(200)
}

/// Whoever may do so much.
async fn may(harness: &Harness, rules: &[(&str, &str)]) -> String {
    let rule = |(path, capabilities): &(&str, &str)| format!("path \"{path}\" {{ capabilities = [{capabilities}] }}\n");
    harness.token_with(&rules.iter().map(rule).collect::<String>()).await
}

#[tokio::test]
async fn sys_27_a_workflow_is_kept_listed_and_removed() {
    let harness = node().await;
    drop(harness.list("sys/workflows/manage", ROOT).await.expect_status(404));
    let answer = keep(&harness, "copy", COPY).await;
    assert_eq!((answer.at("/data/version"), answer.at("/data/path")), (&json!(1), &json!("copy")));
    let body = json!({ "workflow": of("kv/a"), "description": "about it", "allow_unauthenticated": true });
    drop(harness.write("sys/workflows/manage/team/one", ROOT, body).await.expect_status(200));
    let read = harness.read("sys/workflows/manage/team/one", ROOT).await.expect_status(200);
    let data = json!({
        "path": "team/one", "workflow": of("kv/a"), "description": "about it", "version": 1,
        "cas_required": false, "allow_unauthenticated": true,
    });
    assert_eq!(read.at("/data"), &data);
    let listed = harness.list("sys/workflows/manage", ROOT).await.expect_status(200);
    assert_eq!(listed.at("/data/keys"), &json!(["copy", "team/"]));
    assert_eq!(listed.at("/data/key_info/copy/version"), &json!(1));
    assert!(listed.at("/data/key_info/copy").get("workflow").is_none());
    let listed = harness.list("sys/workflows/manage/team", ROOT).await.expect_status(200);
    assert_eq!(listed.at("/data/keys"), &json!(["one"]));
    let scanned = harness.call("SCAN", "sys/workflows/manage", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(scanned.at("/data/keys"), &json!(["copy", "team/one"]));
    let page =
        harness.call("SCAN", "sys/workflows/manage?after=copy&limit=1", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(page.at("/data/keys"), &json!(["team/one"]));
    drop(harness.delete("sys/workflows/manage/team/one", ROOT).await.expect_status(204));
    drop(harness.read("sys/workflows/manage/team/one", ROOT).await.expect_status(404));
    // Another namespace has its own.
    harness.prepare("POST", "sys/namespaces/ns", json!({})).await;
    drop(harness.read("ns/sys/workflows/manage/copy", ROOT).await.expect_status(404));
    harness.write("ns/sys/workflows/execute/copy", ROOT, json!({})).await.expect_error(404, "workflow does not exist");
}

#[tokio::test]
async fn sys_27_who_changes_a_workflow_can_be_made_to_say_which_one() {
    let harness = node().await;
    let write = async |cas: Value, required: bool| {
        let mut body = json!({ "workflow": of("kv/a"), "cas_required": required });
        if !cas.is_null() {
            body["cas"] = cas;
        }
        harness.write("sys/workflows/manage/w", ROOT, body).await
    };
    write(json!(1), false).await.expect_error(400, "check-and-set parameter other than -1 on non-existent entry");
    write(Value::Null, true).await.expect_error(400, "check-and-set parameter required for this call");
    drop(write(json!(-1), true).await.expect_status(200));
    write(json!(-1), true).await.expect_error(400, "check-and-set parameter set to -1 on existing entry");
    // What is stored asks for it, too.
    write(Value::Null, false).await.expect_error(400, "check-and-set parameter required for this call");
    write(json!(2), true).await.expect_error(400, "check-and-set parameter did not match the current version");
    assert_eq!(write(json!("1"), false).await.expect_status(200).at("/data/version"), &json!(2));
    assert_eq!(write(Value::Null, false).await.expect_status(200).at("/data/version"), &json!(3));
}

#[tokio::test]
async fn sys_27_what_is_no_workflow_is_refused_when_it_is_written() {
    let harness = node().await;
    for (path, body, words) in [
        ("w", json!({}), "missing workflow"),
        ("w", json!({ "workflow": "" }), "missing workflow"),
        ("w", json!({ "workflow": "flow" }), "invalid workflow: "),
        ("w", json!({ "workflow": "what = 1" }), "1:1: a workflow has no `what`"),
        ("w", json!({ "workflow": { "flow": 1 } }), "must be a string"),
        ("w", json!({ "workflow": "x".repeat(300_000) }), "too long"),
        ("w", json!({ "workflow": of("kv/a"), "cas": "x" }), "`cas`"),
        ("w", json!({ "workflow": of("kv/a"), "description": "x".repeat(5000) }), "`description` is longer"),
        ("Upper", json!({ "workflow": of("kv/a") }), "in lower case"),
        ("w", json!({ "workflow": COPY.replace("\"template\"", "\"env\"") }), "cannot be \"env\" in a workflow"),
        ("w", json!({ "workflow": COPY.replace("size(", "sizes(") }), "there is no function `sizes`"),
    ] {
        let answer = harness.write(&format!("sys/workflows/manage/{path}"), ROOT, body).await;
        assert!(answer.errors().contains(words), "{path}: {answer:?}");
        drop(answer.expect_status(400));
    }
    drop(harness.list("sys/workflows/manage", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn sys_27_running_one_makes_its_requests_as_whoever_asks_and_no_more() {
    let harness = node().await;
    harness.enable_audit().await;
    keep(&harness, "copy", COPY).await;
    let run = ("sys/workflows/execute/copy", "\"update\"");
    let can = may(&harness, &[run, ("kv/a", "\"read\""), ("kv/b", "\"create\"")]).await;
    let ask = json!({ "from": "a", "to": "b" });
    let answer = harness.write("sys/workflows/execute/copy", &can, ask.clone()).await.expect_status(200);
    assert_eq!(answer.at("/data"), &json!({ "copied": 1, "to": "b" }));
    assert_eq!(harness.read("kv/b", ROOT).await.at("/data/v"), CANARY);
    // Who may not write can copy nothing, and who may not read learns nothing; root is of no use to them for having written it.
    let reads = may(&harness, &[run, ("kv/a", "\"read\"")]).await;
    let refused = harness.write("sys/workflows/execute/copy", &reads, json!({ "from": "a", "to": "c" })).await;
    refused.expect_error(403, "flow `copy`, request `write`: permission denied");
    let runs = may(&harness, &[run]).await;
    let refused = harness.write("sys/workflows/execute/copy", &runs, ask.clone()).await;
    refused.expect_error(403, "flow `copy`, request `read`: permission denied");
    drop(harness.read("kv/c", ROOT).await.expect_status(404));
    // To run it at all is something to be granted, too; so is reading its text.
    let nothing = may(&harness, &[("kv/*", "\"read\", \"create\", \"update\"")]).await;
    harness.write("sys/workflows/execute/copy", &nothing, ask.clone()).await.expect_error(403, "permission denied");
    harness.read("sys/workflows/manage/copy", &can).await.expect_error(403, "permission denied");
    harness.write("sys/workflows/trace/copy", &can, ask).await.expect_error(403, "permission denied");
    // Each request is recorded, as part of which one, and by whom; no record shows what was copied.
    let records = harness.audit_records().await;
    let of = |path: &str| {
        let is_it = |record: &&Value| record["request"]["path"] == path;
        records
            .iter()
            .filter(is_it)
            .map(|record| record["request"]["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = &of("sys/workflows/execute/copy")[0];
    assert!(of("kv/a").contains(&format!("{first}.copy.read")) && of("kv/b").contains(&format!("{first}.copy.write")));
    assert!(!harness.audit_text().await.contains(CANARY));
}

#[tokio::test]
async fn sys_27_input_is_checked_before_anything_is_asked() {
    let harness = node().await;
    keep(&harness, "copy", COPY).await;
    let run = async |body: Value| harness.write("sys/workflows/execute/copy", ROOT, body).await;
    run(json!({ "from": "a" })).await.expect_error(400, "input: `to`: is required");
    run(json!({ "from": ["a"], "to": "b" })).await.expect_error(400, "input: `from`: must be a string");
    run(json!({ "from": "../sys/mounts", "to": "b" })).await.expect_error(400, "flow `copy`, request `read`: ");
    run(json!({ "from": "none", "to": "b" }))
        .await
        .expect_error(400, "flow `copy`, request `write`: `data`: there is no `v`");
    harness.write("sys/workflows/execute/none", ROOT, json!({})).await.expect_error(404, "workflow does not exist");
    drop(harness.read("kv/b", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn sys_27_a_trace_shows_answers_and_requests_without_their_tokens() {
    let harness = node().await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    let bob = json!({ "password": "pass", "token_policies": "default" });
    harness.prepare("POST", "auth/userpass/users/bob", bob).await;
    let text = r#"flow "f" {
        request "login" { operation = "update" path = "auth/userpass/login/bob" token = "" data = { password = "pass" } }
        request "mine" {
          operation = "update"
          path = "cubbyhole/x"
          token = { eval_source = "response" eval_type = "string" flow_name = "f" response_name = "login" field_selector = ["auth", "client_token"] }
          data = { v = "w" }
        }
        request "a" { operation = "read" path = "kv/a" }
        request "nobody" { operation = "read" path = "kv/a" token = "" allow_failure = true }
        request "last" { operation = "read" path = "sys/nope" }
      }
      output { data = { never = "said" } }"#;
    keep(&harness, "t", text).await;
    let rules = [("sys/workflows/trace/t", "\"update\""), ("kv/a", "\"read\""), ("sys/nope", "\"read\"")];
    let token = may(&harness, &rules).await;
    let traced = harness.write("sys/workflows/trace/t", &token, json!({})).await.expect_status(200);
    assert!(!format!("{}", traced.at("/data")).contains(&token), "the caller's token is in a trace");
    let error = traced.text_at("/data/error");
    assert!(error.starts_with("flow `f`, request `last`: ") && traced.at("/data/response").is_null(), "{error}");
    assert_eq!(traced.at("/data/history/responses/f/a/data/v"), CANARY);
    assert_eq!(
        traced.at("/data/history/requests/f/mine"),
        &json!({
            "operation": "update", "path": "cubbyhole/x", "data": { "v": "w" }, "headers": {},
        })
    );
    assert!(traced.at("/data/history/responses/f").get("nobody").is_none(), "without a token, nothing is let in");
    // Records have neither what was read, nor tokens, nor passwords in the clear.
    let (text, login) =
        (harness.audit_text().await, traced.text_at("/data/history/responses/f/login/auth/client_token"));
    for secret in [CANARY, &token, &login, "\"pass\""] {
        assert!(!text.contains(secret), "{secret} is recorded");
    }
}

#[tokio::test]
async fn sys_27_nobody_runs_what_is_not_for_everybody() {
    let closed = with(Harness::start().await).await;
    let body = json!({ "workflow": of("kv/a"), "allow_unauthenticated": true });
    drop(closed.write("sys/workflows/manage/w", ROOT, body).await.expect_status(200));
    closed.write("sys/workflows/unauthed-execute/w", "", json!({})).await.expect_error(403, "permission denied");

    let harness = node().await;
    let seal = r#"flow "f" { request "r" { operation = "read" path = "sys/seal-status" } }
      output { data = { sealed = { eval_source = "response" eval_type = "bool" flow_name = "f" response_name = "r" field_selector = ["data", "sealed"] } } }"#;
    let public = |text: &str| json!({ "workflow": text, "allow_unauthenticated": true });
    let publish = async |path: &str, text: &str| {
        drop(harness.write(&format!("sys/workflows/manage/{path}"), ROOT, public(text)).await.expect_status(200));
    };
    publish("open", seal).await;
    keep(&harness, "shut", seal).await;
    let run = async |path: &str, token: &str| {
        harness.write(&format!("sys/workflows/unauthed-execute/{path}"), token, json!({})).await
    };
    assert_eq!(run("open", "").await.expect_status(200).at("/data/sealed"), &json!(false));
    // What is not for everybody, and what is not there, look the same.
    for path in ["shut", "none"] {
        let answer = run(path, "").await;
        assert_eq!(answer.errors(), "1 error occurred:\n\t* permission denied\n\n");
        answer.expect_error(403, "permission denied");
    }
    // It has no token, be it that whoever runs it shows one; and runs no other workflow, however it comes to a token.
    publish("reads", r#"flow "f" { request "r" { operation = "read" path = "kv/a" } }"#).await;
    for token in ["", ROOT] {
        run("reads", token).await.expect_error(403, "flow `f`, request `r`: permission denied");
    }
    keep(&harness, "copy", COPY).await;
    let by_token = format!(
        r#"flow "f" {{ request "r" {{ operation = "update" path = "sys/workflows/execute/copy" token = "{ROOT}"
             data = {{ from = "a" to = "b" }} }} }}"#
    );
    publish("lends", &by_token).await;
    run("lends", "").await.expect_error(403, "permission denied");
    publish("again", &of("sys/workflows/unauthed-execute/open")).await;
    run("again", "").await.expect_error(403, "permission denied");
    drop(harness.read("kv/b", ROOT).await.expect_status(404));
    // Whoever has a token can run one for everybody within another.
    keep(&harness, "asks", &of("sys/workflows/unauthed-execute/open")).await;
    drop(harness.write("sys/workflows/execute/asks", ROOT, json!({})).await.expect_status(200));
}

#[tokio::test]
async fn sys_27_workflows_that_run_each_other_end() {
    let harness = node().await;
    keep(&harness, "loop", &of("sys/workflows/execute/loop")).await;
    let answer = harness.write("sys/workflows/execute/loop", ROOT, json!({})).await;
    assert!(answer.errors().contains("too much workflow recursion"), "{answer:?}");
    drop(answer.expect_status(400));
    // How many requests all of them make is bounded, too.
    let requests = |path: &str| {
        let each =
            |index| format!("request \"r{index}\" {{ operation = \"update\" path = \"{path}\" data = {{ v = 1 }} }}\n");
        format!("flow \"f\" {{ {} }}", (0..60).map(each).collect::<String>())
    };
    keep(&harness, "many", &requests("kv/many")).await;
    keep(&harness, "more", &requests("sys/workflows/execute/many")).await;
    drop(harness.write("sys/workflows/execute/many", ROOT, json!({})).await.expect_status(200));
    let answer = harness.write("sys/workflows/execute/more", ROOT, json!({})).await;
    answer.expect_error(400, "make at most 256 requests");
}

#[tokio::test]
async fn sys_27_a_workflow_stays_in_its_namespace_and_below() {
    let harness = node().await;
    harness.prepare("POST", "sys/namespaces/ns", json!({})).await;
    harness.prepare("POST", "ns/sys/namespaces/inner", json!({})).await;
    harness.prepare("POST", "ns/inner/sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "ns/inner/kv/x", json!({ "v": "inner" })).await;
    let text = |path: &str, header: &str| {
        format!(
            r#"flow "f" {{ request "r" {{ operation = "read" path = "{path}" headers = {{ X-Vault-Namespace = "{header}" }} }} }}
               output {{ data = {{ v = {{ eval_source = "response" eval_type = "string" flow_name = "f" response_name = "r" field_selector = ["data", "v"] }} }} }}"#
        )
    };
    let run = async |path: &str, header: &str| {
        drop(
            harness
                .write("ns/sys/workflows/manage/w", ROOT, json!({ "workflow": text(path, header) }))
                .await
                .expect_status(200),
        );
        harness.write("ns/sys/workflows/execute/w", ROOT, json!({})).await
    };
    assert_eq!(run("inner/kv/x", "").await.expect_status(200).at("/data/v"), "inner");
    assert_eq!(run("kv/x", "inner/").await.expect_status(200).at("/data/v"), "inner");
    for header in ["../", "/..", "inner/../.."] {
        run("kv/a", header).await.expect_error(400, "goes to its namespace, or below");
    }
    let out = run("kv/a", "").await;
    assert!(out.status >= 400 && !format!("{out:?}").contains(CANARY), "{out:?}");
}

#[tokio::test]
async fn sys_27_an_answer_can_be_wrapped_and_what_was_done_stays_when_a_later_request_fails() {
    let harness = node().await;
    keep(&harness, "copy", COPY).await;
    let mut request = assembly::request("POST", "sys/workflows/execute/copy", ROOT, &json!({ "from": "a", "to": "b" }));
    request.headers_mut().insert("x-vault-wrap-ttl", "60s".parse().unwrap());
    let wrapped = harness.send(request).await.expect_status(200).text_at("/wrap_info/token");
    let opened = harness.write("sys/wrapping/unwrap", &wrapped, json!({})).await.expect_status(200);
    assert_eq!(opened.at("/data/to"), "b");
    let half = r#"flow "f" {
        request "one" { operation = "update" path = "kv/one" data = { v = 1 } }
        request "two" { operation = "update" path = "sys/mounts/kv" data = { type = "nonsense" } } }"#;
    keep(&harness, "half", half).await;
    let failed = harness.write("sys/workflows/execute/half", ROOT, json!({})).await;
    assert!(failed.errors().contains("flow `f`, request `two`: "), "{failed:?}");
    drop(failed.expect_status(400));
    drop(harness.read("kv/one", ROOT).await.expect_status(200));
}

#[tokio::test]
async fn sys_27_a_request_of_a_workflow_asks_for_a_wrapped_answer_and_keeps_one_that_is_no_json() {
    let harness = node().await;
    let wraps = r#"flow "f" { request "r" { operation = "read" path = "kv/a" headers = { "X-Vault-Wrap-TTL" = "90s" } } }
        output { data = { wrapped = { eval_source = "response" eval_type = "any" flow_name = "f" response_name = "r" field_selector = ["wrap_info"] } } }"#;
    keep(&harness, "wraps", wraps).await;
    let run = harness.write("sys/workflows/execute/wraps", ROOT, json!({})).await.expect_status(200);
    assert_eq!((run.at("/data/wrapped/ttl"), run.at("/data/wrapped/creation_path")), (&json!(90), &json!("kv/a")));
    assert!(!format!("{:?}", run.json).contains(CANARY));
    let opened = harness.write("sys/wrapping/unwrap", &run.text_at("/data/wrapped/token"), json!({})).await;
    assert_eq!(opened.expect_status(200).at("/data/v"), CANARY);

    let looks = r#"flow "f" {
          request "metrics" { operation = "read" path = "sys/metrics" data = { format = "prometheus" } }
          request "api" { operation = "read" path = "sys/internal/specs/openapi" } }
        output { data = {
          text = { eval_source = "response" eval_type = "string" flow_name = "f" response_name = "metrics" field_selector = ["data", "http_raw_body"] }
          version = { eval_source = "response" eval_type = "string" flow_name = "f" response_name = "api" field_selector = ["data", "openapi"] } } }"#;
    keep(&harness, "looks", looks).await;
    let run = harness.write("sys/workflows/execute/looks", ROOT, json!({})).await.expect_status(200);
    assert!(run.text_at("/data/text").contains("# TYPE "), "{run:?}");
    assert!(run.text_at("/data/version").starts_with("3."), "{run:?}");
}

#[tokio::test]
async fn sys_27_what_a_workflow_that_fails_asked_for_is_in_its_answer_and_not_in_the_log() {
    let harness = node().await;
    keep(&harness, "fails", &of(&format!("nothing/{CANARY}"))).await;
    let captured = Captured::start();
    let failed = harness.write("sys/workflows/execute/fails", ROOT, json!({})).await;
    assert!(failed.status == 404 && failed.errors().contains(CANARY), "{failed:?}");
    let log = String::from_utf8(captured.bytes()).unwrap();
    assert!(!log.contains(CANARY), "{log}");
}

#[tokio::test]
async fn sys_27_requests_of_a_workflow_count_for_quotas_and_wrong_passwords_lock_names() {
    let harness = node().await;
    let quota = json!({ "path": "kv/", "rate": 2, "interval": "1h" });
    harness.prepare("POST", "sys/quotas/rate-limit/few", quota).await;
    let three: String =
        (0..3).map(|index| format!("request \"r{index}\" {{ operation = \"read\" path = \"kv/a\" }}\n")).collect();
    keep(&harness, "three", &format!("flow \"f\" {{ {three} }}")).await;
    harness.write("sys/workflows/execute/three", ROOT, json!({})).await.expect_error(429, "flow `f`, request `r2`: ");
    drop(harness.delete("sys/quotas/rate-limit/few", ROOT).await.expect_status(204));
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "right" })).await;
    let wrong = (0..6).map(|index| {
        format!("request \"r{index}\" {{ operation = \"update\" path = \"auth/userpass/login/bob\" data = {{ password = \"wrong\" }} allow_failure = true }}\n")
    });
    keep(&harness, "guesses", &format!("flow \"f\" {{ {} }}", wrong.collect::<String>())).await;
    drop(harness.write("sys/workflows/execute/guesses", ROOT, json!({})).await.expect_status(200));
    let right = harness.write("auth/userpass/login/bob", "", json!({ "password": "right" })).await;
    right.expect_error(403, "permission denied");
    harness.advance(Duration::from_secs(3600)).await;
    drop(harness.write("auth/userpass/login/bob", "", json!({ "password": "right" })).await.expect_status(200));
}

#[tokio::test]
async fn sys_27_a_token_of_one_use_runs_a_workflow_and_none_of_its_requests() {
    let harness = node().await;
    keep(&harness, "copy", COPY).await;
    let all = r#"path "*" { capabilities = ["create", "read", "update"] }"#;
    harness.prepare("POST", "sys/policies/acl/all", json!({ "policy": all })).await;
    let token = harness.token(json!({ "policies": ["all"], "num_uses": 1 })).await;
    let answer = harness.write("sys/workflows/execute/copy", &token, json!({ "from": "a", "to": "b" })).await;
    answer.expect_error(403, "flow `copy`, request `read`: permission denied");
    drop(harness.read("kv/b", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn tok_09_nothing_hangs_on_a_login_in_the_headers_of_what_runs_a_workflow() {
    use base64::Engine as _;
    let harness = node().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    let all = r#"path "*" { capabilities = ["create", "read", "update"] }"#;
    harness.prepare("POST", "sys/policies/acl/all", json!({ "policy": all })).await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "pass", "token_policies": "all" })).await;
    keep(&harness, "makes", &of("auth/token/create")).await;
    let writes = "flow \"f\" { request \"r\" { operation = \"update\" path = \"kv/x\" data = { v = 1 } } }";
    keep(&harness, "writes", writes).await;
    let run = async |workflow: &str| {
        let mut request = assembly::request("POST", &format!("sys/workflows/execute/{workflow}"), "", &json!({}));
        let parameter = json!({ "key": "password", "value": "pass" }).to_string();
        let parameter = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(parameter);
        request.headers_mut().insert("x-vault-inline-auth-path", "auth/userpass/login/bob".parse().unwrap());
        request.headers_mut().insert("x-vault-inline-auth-parameter-0", parameter.parse().unwrap());
        harness.send(request).await
    };
    drop(run("writes").await.expect_status(200));
    drop(run("makes").await.expect_status(400));
}
