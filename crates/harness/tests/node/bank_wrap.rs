//! The security bank's rows about wrapped answers, and how they look on the wire (`docs/security-bank.md`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tresor_harness::{AUDIT_LOG, Answer, Harness, ROOT, assembly};

const NOT_VALID: &str = "wrapping token is not valid or does not exist";

async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "sys/mounts/kv2", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "kv/a", json!({ "k": "the secret value" })).await;
    harness.prepare("POST", "kv2/data/a", json!({ "data": { "k": "the secret value" } })).await;
    harness
}

/// A call whose answer is to be wrapped for so long.
async fn wrapped(harness: &Harness, method: &str, path: &str, token: &str, body: Value, ttl: &str) -> Answer {
    let mut request = assembly::request(method, path, token, &body);
    request.headers_mut().insert("X-Vault-Wrap-TTL", ttl.parse().unwrap());
    harness.send(request).await
}

async fn wrap(harness: &Harness, content: Value) -> String {
    let answer = wrapped(harness, "POST", "sys/wrapping/wrap", ROOT, content, "60").await.expect_status(200);
    answer.text_at("/wrap_info/token")
}

async fn unwrap(harness: &Harness, token: &str) -> Answer {
    harness.write("sys/wrapping/unwrap", token, Value::Null).await
}

#[tokio::test]
async fn a_wrapped_answer_shows_how_it_is_opened_and_nothing_else() {
    let harness = node().await;
    let answer = wrapped(&harness, "GET", "kv/a", ROOT, Value::Null, "5m").await.expect_status(200);
    for (pointer, expected) in [
        ("/request_id", json!("")),
        ("/lease_id", json!("")),
        ("/lease_duration", json!(0)),
        ("/data", Value::Null),
        ("/auth", Value::Null),
        ("/warnings", Value::Null),
        ("/wrap_info/ttl", json!(300)),
        ("/wrap_info/creation_path", json!("kv/a")),
    ] {
        assert_eq!(answer.at(pointer), &expected, "{pointer}");
    }
    let info = answer.at("/wrap_info").as_object().unwrap();
    let names: Vec<&str> = info.keys().map(String::as_str).collect();
    assert_eq!(names, ["accessor", "creation_path", "creation_time", "token", "ttl"]);
    let token = answer.text_at("/wrap_info/token");
    // What lies behind it is the answer as it would have been.
    let plain = harness.read("kv/a", ROOT).await;
    let opened = unwrap(&harness, &token).await.expect_status(200);
    for pointer in ["/data", "/lease_duration", "/renewable", "/wrap_info", "/auth", "/warnings"] {
        assert_eq!(opened.at(pointer), plain.at(pointer), "{pointer}");
    }
    assert_eq!(opened.text_at("/request_id").len(), 36);
    assert_eq!(opened.headers.get("content-type").unwrap(), "application/json");
}

#[tokio::test]
async fn a_wrapping_token_is_a_token_with_one_use() {
    let harness = node().await;
    let token = wrap(&harness, json!({ "a": "b" })).await;
    let shown = harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await.expect_status(200);
    for (pointer, expected) in [
        ("/data/policies", json!(["response-wrapping"])),
        ("/data/num_uses", json!(1)),
        ("/data/explicit_max_ttl", json!(60)),
        ("/data/orphan", json!(true)),
        ("/data/renewable", json!(false)),
        ("/data/path", json!("sys/wrapping/wrap")),
        ("/data/type", json!("service")),
    ] {
        assert_eq!(shown.at(pointer), &expected, "{pointer}");
    }
    // It can be taken back by its handle, unopened.
    let body = json!({ "accessor": shown.text_at("/data/accessor") });
    drop(harness.write("auth/token/revoke-accessor", ROOT, body).await.expect_status(204));
    unwrap(&harness, &token).await.expect_error(400, NOT_VALID);
    // It ends by itself.
    let token = wrap(&harness, json!({ "a": "b" })).await;
    harness.advance(Duration::from_secs(61)).await;
    unwrap(&harness, &token).await.expect_error(400, NOT_VALID);
    // Nobody else gets its policy, which nobody changes.
    let body = json!({ "policies": ["response-wrapping"] });
    harness.write("auth/token/create", ROOT, body).await.expect_error(400, "cannot assign policy");
    let body = json!({ "policy": "path \"*\" { capabilities = [\"read\"] }" });
    harness.write("sys/policies/acl/Response-Wrapping", ROOT, body).await.expect_error(400, "cannot update");
    harness.delete("sys/policies/acl/response-wrapping", ROOT).await.expect_error(400, "cannot delete");
}

#[tokio::test]
async fn wrp_01_what_was_asked_for_wrapped_is_wrapped_or_refused() {
    let harness = node().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/u", json!({ "password": "p" })).await;
    for (method, path, token, body) in [
        ("GET", "kv/a", ROOT, Value::Null),
        ("LIST", "kv/", ROOT, Value::Null),
        ("GET", "kv2/data/a", ROOT, Value::Null),
        ("LIST", "kv2/metadata/", ROOT, Value::Null),
        ("POST", "kv2/data/b", ROOT, json!({ "data": { "k": "v" } })),
        ("GET", "sys/mounts", ROOT, Value::Null),
        ("GET", "sys/policy", ROOT, Value::Null),
        ("POST", "auth/token/create", ROOT, json!({ "ttl": "1h" })),
        ("POST", "auth/userpass/login/u", "", json!({ "password": "p" })),
        ("GET", "auth/token/lookup-self", ROOT, Value::Null),
    ] {
        let answer = wrapped(&harness, method, path, token, body, "60").await.expect_status(200);
        assert_eq!((answer.at("/data"), answer.at("/auth")), (&Value::Null, &Value::Null), "{method} {path}");
        assert_eq!(answer.text_at("/wrap_info/creation_path"), path.trim_start_matches('/'), "{method} {path}");
        let opened = unwrap(&harness, &answer.text_at("/wrap_info/token")).await.expect_status(200);
        let handle = opened.at("/auth/accessor").as_str().map(str::to_owned);
        let told = answer.at("/wrap_info/wrapped_accessor").as_str().map(str::to_owned);
        assert_eq!(told, handle, "{method} {path}");
    }
    // Whoever hands on a secret id can take it back unseen.
    harness.prepare("POST", "sys/auth/approle", json!({ "type": "approle" })).await;
    harness.prepare("POST", "auth/approle/role/r", json!({})).await;
    let answer = wrapped(&harness, "POST", "auth/approle/role/r/secret-id", ROOT, json!({}), "60").await;
    let handle = json!({ "secret_id_accessor": answer.text_at("/wrap_info/wrapped_accessor") });
    harness.prepare("POST", "auth/approle/role/r/secret-id-accessor/destroy", handle).await;
    // What is wrapped is not at top level either.
    let answer = wrapped(&harness, "GET", "sys/mounts", ROOT, Value::Null, "60").await;
    assert!(!String::from_utf8_lossy(&answer.bytes).contains("kv2"), "{answer:?}");
    // Nothing to wrap stays nothing, an error an error.
    drop(wrapped(&harness, "POST", "kv/c", ROOT, json!({ "k": "v" }), "60").await.expect_status(204));
    drop(wrapped(&harness, "GET", "kv/none", ROOT, Value::Null, "60").await.expect_status(404));
    wrapped(&harness, "GET", "kv/a", "", Value::Null, "60").await.expect_error(403, "permission denied");
}

#[tokio::test]
async fn wrp_02_what_has_no_envelope_is_refused_and_not_done() {
    let harness = node().await;
    for path in ["sys/storage/raft/snapshot", "sys/audit-status", "sys/storage-status"] {
        let answer = wrapped(&harness, "GET", path, ROOT, Value::Null, "60").await;
        answer.expect_error(400, "this answer cannot be wrapped");
    }
    let token = wrap(&harness, json!({ "a": "b" })).await;
    let body = json!({ "token": token });
    let answer = wrapped(&harness, "POST", "sys/wrapping/unwrap", ROOT, body, "60").await;
    answer.expect_error(400, "this answer cannot be wrapped");
    drop(unwrap(&harness, &token).await.expect_status(200));
    // The metadata of a deleted version is in the envelope, too.
    harness.prepare("DELETE", "kv2/data/a", Value::Null).await;
    let answer = wrapped(&harness, "GET", "kv2/data/a", ROOT, Value::Null, "60").await.expect_status(200);
    let opened = unwrap(&harness, &answer.text_at("/wrap_info/token")).await.expect_status(200);
    assert_eq!(opened.at("/data/data"), &Value::Null);
}

#[tokio::test]
async fn wrp_03_looking_up_does_not_open() {
    let harness = node().await;
    let token = wrap(&harness, json!({ "a": "b" })).await;
    for answer in [
        harness.write("sys/wrapping/lookup", "", json!({ "token": token })).await,
        harness.read("sys/wrapping/lookup", &token).await,
        harness.write("sys/wrapping/lookup", &token, Value::Null).await,
        harness.write("sys/wrapping/lookup", ROOT, json!({ "token": token })).await,
    ] {
        let answer = answer.expect_status(200);
        assert_eq!(answer.at("/data/creation_path"), "sys/wrapping/wrap");
        assert_eq!(answer.at("/data/creation_ttl"), 60);
        assert!(answer.text_at("/data/creation_time").ends_with('Z'));
        assert_eq!(answer.at("/data").as_object().unwrap().len(), 3);
    }
    let opened = harness.write("sys/wrapping/unwrap", ROOT, json!({ "token": token })).await.expect_status(200);
    assert_eq!(opened.at("/data"), &json!({ "a": "b" }));
    for answer in [
        harness.write("sys/wrapping/unwrap", ROOT, json!({ "token": token })).await,
        unwrap(&harness, &token).await,
        harness.write("sys/wrapping/lookup", "", json!({ "token": token })).await,
        harness.write("sys/wrapping/rewrap", ROOT, json!({ "token": token })).await,
    ] {
        answer.expect_error(400, NOT_VALID);
    }
    // Wrapping needs to be asked for.
    let answer = harness.write("sys/wrapping/wrap", ROOT, json!({ "a": "b" })).await;
    answer.expect_error(400, "endpoint requires response wrapping to be used");
}

#[tokio::test]
async fn wrp_04_of_many_who_open_one_succeeds() {
    let harness = node().await;
    for round in 0..3 {
        let token = wrap(&harness, json!({ "a": "b" })).await;
        let named = json!({ "token": token });
        let crowd = (0..50).map(|at| {
            let (harness, token, named) = (&harness, &token, &named);
            async move {
                match (at + round) % 4 {
                    0 => harness.write("sys/wrapping/unwrap", token, Value::Null).await,
                    1 => harness.write("sys/wrapping/unwrap", ROOT, named.clone()).await,
                    2 => harness.write("sys/wrapping/rewrap", ROOT, named.clone()).await,
                    _ => harness.read("cubbyhole/response", token).await,
                }
            }
        });
        let statuses: Vec<u16> = join_all(crowd).await.into_iter().map(|answer| answer.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 400 | 403)), "{statuses:?}");
    }
}

#[tokio::test]
async fn wrp_05_who_names_no_wrapping_token_is_told_and_loses_nothing() {
    let harness = node().await;
    let limited = harness.token(json!({ "policies": ["default"], "num_uses": 1, "ttl": "1h" })).await;
    unwrap(&harness, &limited).await.expect_error(400, NOT_VALID);
    drop(harness.read("auth/token/lookup-self", &limited).await.expect_status(200));
    let service = harness.token(json!({ "policies": ["default"], "ttl": "1h" })).await;
    for named in ["nope", service.as_str(), ROOT, "hvs.", "\u{e9}"] {
        for path in ["sys/wrapping/unwrap", "sys/wrapping/rewrap", "sys/wrapping/lookup"] {
            harness.write(path, ROOT, json!({ "token": named })).await.expect_error(400, NOT_VALID);
        }
    }
    drop(harness.read("auth/token/lookup-self", &service).await.expect_status(200));
    unwrap(&harness, "nope").await.expect_error(400, NOT_VALID);
    unwrap(&harness, ROOT).await.expect_error(400, NOT_VALID);
    unwrap(&harness, "").await.expect_error(403, "permission denied");
    // A token of a wrapped answer opens nothing for somebody without a token.
    let token = wrap(&harness, json!({ "a": "b" })).await;
    harness.write("sys/wrapping/unwrap", "", json!({ "token": token })).await.expect_error(403, "permission denied");
    harness.write("sys/wrapping/lookup", "", json!({})).await.expect_error(400, NOT_VALID);
    drop(unwrap(&harness, &token).await.expect_status(200));
}

#[tokio::test]
async fn wrp_06_a_wrapping_token_opens_and_does_nothing_else() {
    let harness = node().await;
    for (method, path) in [
        ("GET", "auth/token/lookup-self"),
        ("GET", "sys/mounts"),
        ("GET", "kv/a"),
        ("GET", "cubbyhole/other"),
        ("POST", "cubbyhole/response"),
        ("LIST", "cubbyhole/"),
        ("POST", "sys/wrapping/wrap"),
        ("POST", "auth/token/create"),
    ] {
        let token = wrap(&harness, json!({ "a": "b" })).await;
        harness.call(method, path, &token, json!({ "k": "v" })).await.expect_error(403, "permission denied");
    }
    // What old clients do.
    let token = wrap(&harness, json!({ "a": "b" })).await;
    let answer = harness.read("cubbyhole/response", &token).await.expect_status(200);
    let envelope: Value = serde_json::from_str(&answer.text_at("/data/response")).unwrap();
    assert_eq!(envelope["data"], json!({ "a": "b" }));
    drop(harness.read("cubbyhole/response", &token).await.expect_status(403));
    drop(harness.read("cubbyhole/response", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn a_rewrapped_answer_keeps_its_path_and_life_behind_another_token() {
    let harness = node().await;
    let token = wrapped(&harness, "GET", "kv/a", ROOT, Value::Null, "90").await.text_at("/wrap_info/token");
    harness.advance(Duration::from_secs(60)).await;
    let again = harness.write("sys/wrapping/rewrap", ROOT, json!({ "token": token })).await.expect_status(200);
    assert_eq!((again.at("/wrap_info/ttl"), again.at("/data")), (&json!(90), &Value::Null));
    assert_eq!(again.at("/wrap_info/creation_path"), "kv/a");
    unwrap(&harness, &token).await.expect_error(400, NOT_VALID);
    // Its holder may, too.
    let again = harness.write("sys/wrapping/rewrap", &again.text_at("/wrap_info/token"), Value::Null).await;
    harness.advance(Duration::from_secs(60)).await;
    let opened = unwrap(&harness, &again.text_at("/wrap_info/token")).await.expect_status(200);
    assert_eq!(opened.at("/data"), &json!({ "k": "the secret value" }));
}

#[tokio::test]
async fn wrp_08_bounds_of_a_policy_hold_whether_or_not_wrapping_is_asked_for() {
    let harness = node().await;
    let policy = r#"path "kv/a" { capabilities = ["read"] min_wrapping_ttl = "60s" max_wrapping_ttl = "2m" }"#;
    let token = harness.token_with(policy).await;
    harness.read("kv/a", &token).await.expect_error(403, "permission denied");
    for (ttl, status) in [("30", 403), ("60", 200), ("2m", 200), ("121", 403)] {
        assert_eq!(wrapped(&harness, "GET", "kv/a", &token, Value::Null, ttl).await.status, status, "{ttl}");
    }
    // Nothing is to be wrapped, as in the reference; where it must be, that is refused.
    assert_eq!(wrapped(&harness, "GET", "kv/a", &token, Value::Null, "0").await.status, 403);
    let open = wrapped(&harness, "GET", "kv/a", ROOT, Value::Null, "0").await.expect_status(200);
    assert!(open.at("/wrap_info").is_null() && open.at("/data/k").is_string(), "{open:?}");
    for ttl in ["-1", "1ms", "1e9", "9999999h", "99999999999999999999", "soon"] {
        assert_eq!(wrapped(&harness, "GET", "kv/a", ROOT, Value::Null, ttl).await.status, 400, "{ttl}");
    }
}

#[tokio::test]
async fn an_answer_that_was_opened_is_stored_nowhere_and_recorded_by_its_hash() {
    let mut harness = node().await;
    harness.enable_audit().await;
    let answer = wrapped(&harness, "GET", "kv/a", ROOT, Value::Null, "60").await.expect_status(200);
    let (token, accessor) = (answer.text_at("/wrap_info/token"), answer.text_at("/wrap_info/accessor"));
    // It outlives the process, and is opened once then, too.
    harness.restart().await;
    harness.unseal().await;
    drop(unwrap(&harness, &token).await.expect_status(200));
    harness.kill();
    harness.unseal().await;
    unwrap(&harness, &token).await.expect_error(400, NOT_VALID);
    let records = harness.audit_records().await;
    let of = |kind: &str, path: &str| {
        let mut found = records.iter().filter(|record| record["type"] == kind && record["request"]["path"] == path);
        found.next_back().unwrap().clone()
    };
    let made = of("response", "kv/a");
    assert_eq!(made["response"]["wrap_info"]["creation_path"], "kv/a");
    assert_eq!(made["response"]["wrap_info"]["ttl"], 60);
    assert!(made["response"]["wrap_info"]["token"].as_str().unwrap().starts_with("hmac-sha256:"));
    assert!(made["response"].get("data").is_none_or(Value::is_null), "{made}");
    let text = harness.audit_text().await;
    assert!(!text.contains("the secret value") && !text.contains(&token));
    // The records of its life have one name for it.
    let named = made["response"]["wrap_info"]["accessor"].as_str().unwrap().to_owned();
    assert_ne!(named, accessor, "handles are hashed unless a device is told otherwise");
    let opened: Vec<&Value> =
        records.iter().filter(|record| record["auth"]["accessor"].as_str() == Some(&named)).collect();
    assert!(!opened.is_empty() && opened.iter().all(|record| record["request"]["path"] == "sys/wrapping/unwrap"));
    let disk = harness.doors.disk.dump();
    for (file, bytes) in disk.iter().filter(|(file, _)| file.starts_with(AUDIT_LOG)) {
        assert!(!bytes.windows(16).any(|bytes| bytes == b"the secret value"), "{file:?}");
    }
}

/// A call whose answer is to be wrapped, with its token as JWT.
async fn wrapped_as_jwt(harness: &Harness, method: &str, path: &str, token: &str, body: Value) -> Answer {
    let mut request = assembly::request(method, path, token, &body);
    request.headers_mut().insert("X-Vault-Wrap-TTL", "60".parse().unwrap());
    request.headers_mut().insert("X-Vault-Wrap-Format", "jwt".parse().unwrap());
    harness.send(request).await
}

fn parts(jwt: &str) -> Vec<Value> {
    let decode = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    jwt.split('.').take(2).map(decode).collect()
}

#[tokio::test]
async fn a_wrapping_token_as_jwt_opens_once_and_only_as_it_was_signed() {
    let mut harness = node().await;
    let answer = wrapped_as_jwt(&harness, "GET", "kv/a", ROOT, Value::Null).await.expect_status(200);
    assert!(answer.text_at("/warnings/0").contains("api_addr"), "{answer:?}");
    let jwt = answer.text_at("/wrap_info/token");
    let read = parts(&jwt);
    let (header, claims) = (&read[0], &read[1]);
    assert_eq!(header, &json!({ "alg": "ES512", "typ": "JWT" }));
    let inner = claims["jti"].as_str().unwrap();
    assert!(inner.starts_with("hvs."), "{claims}");
    assert_eq!((&claims["type"], &claims["addr"], &claims["accessor"]), (&json!("wrapping"), &json!(""), &json!("")));
    let at = |name: &str| claims[name].as_i64().unwrap();
    assert_eq!((at("exp") - at("iat"), at("iat") - at("nbf")), (60, 5));
    let key = harness.read("sys/wrapping/pubkey", "").await.expect_status(200);
    assert_eq!(key.text_at("/data/jwt_curve"), "p521");
    for coordinate in ["/data/jwt_x", "/data/jwt_y"] {
        let digits = key.text_at(coordinate);
        assert!(digits.len() > 140 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
    }
    // Whoever changes it, or signs nothing, opens nothing and uses nothing up.
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let (_, claims_part) = signed.split_once('.').unwrap();
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
    let rest: String = signature.chars().skip(1).collect();
    for wrong in [
        format!("{signed}.{flipped}{rest}"),
        format!("{signed}."),
        format!("{unsigned}.{claims_part}."),
        format!("{unsigned}.{claims_part}.{signature}"),
        signed.to_owned(),
    ] {
        unwrap(&harness, &wrong).await.expect_error(400, NOT_VALID);
        let named = harness.write("sys/wrapping/unwrap", ROOT, json!({ "token": wrong })).await;
        named.expect_error(400, NOT_VALID);
    }
    // It is no token where nothing is unwrapped.
    drop(harness.read("cubbyhole/response", &jwt).await.expect_status(403));
    drop(harness.read("auth/token/lookup-self", &jwt).await.expect_status(403));
    for (token, body) in [("", json!({ "token": jwt })), (jwt.as_str(), Value::Null)] {
        let shown = harness.write("sys/wrapping/lookup", token, body).await.expect_status(200);
        assert_eq!(shown.text_at("/data/creation_path"), "kv/a");
    }
    let again = wrapped_as_jwt(&harness, "POST", "sys/wrapping/rewrap", &jwt, Value::Null).await.expect_status(200);
    unwrap(&harness, &jwt).await.expect_error(400, NOT_VALID);
    let jwt = again.text_at("/wrap_info/token");
    // A later process, after a change of keys, verifies by the same key.
    harness.prepare("POST", "sys/rotate", Value::Null).await;
    harness.restart().await;
    harness.unseal().await;
    let same = harness.read("sys/wrapping/pubkey", "").await.expect_status(200);
    assert_eq!(same.at("/data"), key.at("/data"));
    let opened = unwrap(&harness, &jwt).await.expect_status(200);
    assert_eq!(opened.text_at("/data/k"), "the secret value");
    unwrap(&harness, &jwt).await.expect_error(400, NOT_VALID);
    let inner = parts(&jwt)[1]["jti"].as_str().unwrap().to_owned();
    unwrap(&harness, &inner).await.expect_error(400, NOT_VALID);
    // Of a login, the handle of the token inside is said.
    let made = wrapped_as_jwt(&harness, "POST", "auth/token/create", ROOT, json!({})).await.expect_status(200);
    let said = parts(&made.text_at("/wrap_info/token"))[1]["accessor"].clone();
    assert_eq!(&said, made.at("/wrap_info/wrapped_accessor"));
}
