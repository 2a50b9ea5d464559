//! `approle`: the rows of the security bank about it, and its exchanges on the wire.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

const REFUSED: &str = "invalid role or secret ID";

async fn with_approle() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/approle", json!({ "type": "approle" })).await;
    harness
}

async fn role(harness: &Harness, name: &str, body: Value) -> String {
    harness.prepare("POST", &format!("auth/approle/role/{name}"), body).await;
    harness.read(&format!("auth/approle/role/{name}/role-id"), ROOT).await.text_at("/data/role_id")
}

/// A secret id with its accessor.
async fn secret_id(harness: &Harness, name: &str, body: Value) -> (String, String) {
    let made = harness.prepare("POST", &format!("auth/approle/role/{name}/secret-id"), body).await;
    (made.text_at("/data/secret_id"), made.text_at("/data/secret_id_accessor"))
}

async fn login(harness: &Harness, role_id: &str, secret_id: &str) -> Answer {
    harness.write("auth/approle/login", "", json!({ "role_id": role_id, "secret_id": secret_id })).await
}

async fn look_up(harness: &Harness, name: &str, accessor: &str) -> Answer {
    let path = format!("auth/approle/role/{name}/secret-id-accessor/lookup");
    harness.write(&path, ROOT, json!({ "secret_id_accessor": accessor })).await
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_role_has_its_fields_and_each_setting_has_its_path() {
    let harness = with_approle().await;
    let body = json!({ "policies": "b,A", "period": "1h", "secret_id_ttl": "10m", "token_ttl": 60 });
    drop(role(&harness, "App", body).await);
    let shown = harness.read("auth/approle/role/app", ROOT).await.expect_status(200);
    let expected = json!({
        "bind_secret_id": true, "local_secret_ids": false, "period": 3600, "policies": ["a", "b"],
        "secret_id_bound_cidrs": null, "secret_id_num_uses": 0, "secret_id_ttl": 600, "token_bound_cidrs": [],
        "token_explicit_max_ttl": 0, "token_max_ttl": 0, "token_no_default_policy": false, "token_num_uses": 0,
        "token_period": 3600, "token_policies": ["a", "b"], "token_ttl": 60, "token_type": "default",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(shown.at("/data").get(name), Some(value), "{name}");
    }
    for (setting, field, sent, kept, without) in [
        ("policies", "token_policies", json!("x,y"), json!(["x", "y"]), json!([])),
        ("secret-id-num-uses", "secret_id_num_uses", json!(5), json!(5), json!(0)),
        ("secret-id-ttl", "secret_id_ttl", json!("1h"), json!(3600), json!(0)),
        ("token-ttl", "token_ttl", json!("30s"), json!(30), json!(0)),
        ("token-max-ttl", "token_max_ttl", json!("1h"), json!(3600), json!(0)),
        ("token-num-uses", "token_num_uses", json!(7), json!(7), json!(0)),
        ("token-bound-cidrs", "token_bound_cidrs", json!("10.0.0.0/8"), json!(["10.0.0.0/8"]), Value::Null),
        ("secret-id-bound-cidrs", "secret_id_bound_cidrs", json!("10.1.2.3"), json!(["10.1.2.3/32"]), Value::Null),
        ("bound-cidr-list", "bound_cidr_list", json!(["10.0.0.0/8"]), json!(["10.0.0.0/8"]), Value::Null),
        ("bind-secret-id", "bind_secret_id", json!(true), json!(true), json!(true)),
        ("period", "token_period", json!("2h"), json!(7200), json!(0)),
    ] {
        let path = format!("auth/approle/role/app/{setting}");
        drop(harness.write(&path, ROOT, json!({ field: sent })).await.expect_status(204));
        assert_eq!(harness.read(&path, ROOT).await.at("/data").get(field), Some(&kept), "{setting}");
        drop(harness.delete(&path, ROOT).await.expect_status(204));
        assert_eq!(harness.read(&path, ROOT).await.at("/data").get(field), Some(&without), "{setting}");
        harness.write(&path, ROOT, json!({})).await.expect_error(400, "missing ");
        let nobody = format!("auth/approle/role/none/{setting}");
        drop(harness.read(&nobody, ROOT).await.expect_status(404));
        drop(harness.write(&nobody, ROOT, json!({ field: sent })).await.expect_status(404));
        drop(harness.delete(&nobody, ROOT).await.expect_status(204));
    }
    let shown = harness.read("auth/approle/role/app", ROOT).await;
    assert!(shown.at("/data").get("period").is_none() && shown.at("/data").get("policies").is_none());
    for (wrong, reason) in [
        (json!({ "bind_secret_id": false }), "at least one constraint should be enabled on the role"),
        (json!({ "local_secret_ids": true }), "local_secret_ids can only be modified during role creation"),
        (json!({ "secret_id_num_uses": -1 }), "secret_id_num_uses cannot be negative"),
        (json!({ "token_ttl": 100, "token_max_ttl": 10 }), "'token_ttl' cannot be greater than 'token_max_ttl'"),
        (json!({ "secret_id_bound_cidrs": "x" }), "address ranges"),
        (json!({ "token_policies": "root" }), "root"),
        (json!({ "role_id": "" }), "role_id"),
    ] {
        harness.write("auth/approle/role/app", ROOT, wrong).await.expect_error(400, reason);
    }
    harness.write("auth/approle/role/-x", ROOT, json!({})).await.expect_error(400, "invalid role name");
    let mine = role(&harness, "own", json!({ "role_id": "mine", "local_secret_ids": true })).await;
    assert_eq!(
        (mine.as_str(), &harness.read("auth/approle/role/own", ROOT).await.at("/data")["local_secret_ids"]),
        ("mine", &json!(true))
    );
    let taken = json!({ "role_id": "mine" });
    harness.write("auth/approle/role/app", ROOT, taken.clone()).await.expect_error(400, "role_id already in use");
    harness.write("auth/approle/role/app/role-id", ROOT, taken).await.expect_error(400, "role_id already in use");
    assert_eq!(harness.list("auth/approle/role", ROOT).await.at("/data/keys"), &json!(["app", "own"]));
    assert_eq!(harness.list("auth/approle/role?after=app", ROOT).await.at("/data/keys"), &json!(["own"]));
}

#[tokio::test]
async fn a_secret_id_is_made_looked_up_used_and_ended() {
    let harness = with_approle().await;
    let body = json!({
        "secret_id_num_uses": 5, "secret_id_ttl": "10m", "token_policies": "p", "token_ttl": "1h",
        "secret_id_bound_cidrs": ["127.0.0.0/8", "10.0.0.0/8"], "token_bound_cidrs": "127.0.0.0/8",
    });
    let role_id = role(&harness, "s", body).await;
    let at = "auth/approle/role/s/secret-id";
    for (wrong, reason) in [
        (json!({ "num_uses": 6 }), "num_uses cannot be higher than the role's secret_id_num_uses"),
        (json!({ "num_uses": 0 }), "num_uses cannot be higher than the role's secret_id_num_uses"),
        (json!({ "num_uses": -1 }), "num_uses cannot be negative"),
        (json!({ "ttl": "20m" }), "ttl cannot be longer than the role's secret_id_ttl"),
        (json!({ "ttl": 0 }), "ttl cannot be longer than the role's secret_id_ttl"),
        (json!({ "metadata": "x" }), "failed to parse metadata"),
        (json!({ "cidr_list": "11.0.0.0/8" }), "cidr_list must lie within those of the role"),
        (json!({ "cidr_list": "nope" }), "address ranges"),
        (json!({ "token_bound_cidrs": "11.0.0.0/8" }), "token_bound_cidrs must lie within those of the role"),
    ] {
        harness.write(at, ROOT, wrong).await.expect_error(400, reason);
    }
    drop(harness.write("auth/approle/role/none/secret-id", ROOT, json!({})).await.expect_status(404));
    let wishes =
        json!({ "num_uses": 3, "ttl": "5m", "metadata": r#"{"k":"v","role_name":"no"}"#, "cidr_list": "127.0.0.1" });
    let made = harness.write(at, ROOT, wishes).await.expect_status(200);
    assert_eq!(keys(made.at("/data")), ["secret_id", "secret_id_accessor", "secret_id_num_uses", "secret_id_ttl"]);
    assert_eq!((made.at("/data/secret_id_num_uses"), made.at("/data/secret_id_ttl")), (&json!(3), &json!(300)));
    let (secret, accessor) = (made.text_at("/data/secret_id"), made.text_at("/data/secret_id_accessor"));
    assert_eq!(harness.list(at, ROOT).await.at("/data/keys"), &json!([accessor]));
    let known = harness.write(&format!("{at}/lookup"), ROOT, json!({ "secret_id": secret })).await.expect_status(200);
    assert_eq!(known.json["data"], look_up(&harness, "s", &accessor).await.json["data"]);
    assert_eq!(
        keys(known.at("/data")),
        [
            "cidr_list",
            "creation_time",
            "expiration_time",
            "last_updated_time",
            "metadata",
            "secret_id_accessor",
            "secret_id_num_uses",
            "secret_id_ttl",
            "token_bound_cidrs"
        ]
    );
    let auth = login(&harness, &role_id, &format!("{secret}\n")).await.expect_status(200);
    assert_eq!(auth.at("/auth/metadata"), &json!({ "k": "v", "role_name": "s" }));
    assert_eq!((auth.at("/auth/policies"), auth.at("/auth/lease_duration")), (&json!(["default", "p"]), &json!(3600)));
    let token = harness.read("auth/token/lookup-self", &auth.text_at("/auth/client_token")).await;
    assert_eq!(
        (token.text_at("/data/display_name"), token.text_at("/data/path")),
        ("approle".into(), "auth/approle/login".into())
    );
    assert_eq!(look_up(&harness, "s", &accessor).await.at("/data/secret_id_num_uses"), &json!(2));
    // Nothing there is no error for who looks up or ends a secret id.
    for path in [format!("{at}/lookup"), format!("{at}/destroy")] {
        drop(harness.write(&path, ROOT, json!({ "secret_id": "nope" })).await.expect_status(204));
        harness.write(&path, ROOT, json!({})).await.expect_error(400, "missing secret_id");
    }
    drop(harness.write(&format!("{at}/destroy"), ROOT, json!({ "secret_id": secret })).await.expect_status(204));
    login(&harness, &role_id, &secret).await.expect_error(400, REFUSED);
    drop(harness.list(at, ROOT).await.expect_status(404));
    // One that the caller chose, ended by its accessor.
    let own = "auth/approle/role/s/custom-secret-id";
    harness.write(own, ROOT, json!({})).await.expect_error(400, "missing secret_id");
    let made = harness.write(own, ROOT, json!({ "secret_id": "mine" })).await.expect_status(200);
    assert_eq!(made.text_at("/data/secret_id"), "mine");
    harness.write(own, ROOT, json!({ "secret_id": "mine" })).await.expect_error(400, "SecretID is already registered");
    drop(login(&harness, &role_id, "mine").await.expect_status(200));
    let by_accessor = json!({ "secret_id_accessor": made.text_at("/data/secret_id_accessor") });
    let destroy = "auth/approle/role/s/secret-id-accessor/destroy";
    drop(harness.write(destroy, ROOT, by_accessor.clone()).await.expect_status(204));
    login(&harness, &role_id, "mine").await.expect_error(400, REFUSED);
    harness.write(destroy, ROOT, by_accessor).await.expect_error(403, "invalid secret id accessor");
    // A role without the demand.
    let open = role(&harness, "open", json!({ "bind_secret_id": false, "token_bound_cidrs": "127.0.0.0/8" })).await;
    drop(harness.write("auth/approle/login", "", json!({ "role_id": open })).await.expect_status(200));
    let path = "auth/approle/role/open/secret-id";
    harness.write(path, ROOT, json!({})).await.expect_error(400, "bind_secret_id is not set on the role");
}

#[tokio::test]
async fn pwd_09_no_role_reaches_the_secret_ids_of_another() {
    let harness = with_approle().await;
    drop(role(&harness, "r1", json!({})).await);
    let second = role(&harness, "r2", json!({})).await;
    let (secret, accessor) = secret_id(&harness, "r2", json!({})).await;
    let path = "auth/approle/role/r1/secret-id-accessor/destroy";
    for (foreign, method) in [(accessor.as_str(), "POST"), (&accessor, "DELETE"), ("../r2/x", "POST"), ("x", "POST")] {
        let answer = match method {
            "POST" => harness.write(path, ROOT, json!({ "secret_id_accessor": foreign })).await,
            _ => harness.delete(&format!("{path}?secret_id_accessor={foreign}"), ROOT).await,
        };
        answer.expect_error(403, "invalid secret id accessor");
    }
    look_up(&harness, "r1", &accessor).await.expect_error(404, "failed to find accessor entry");
    for ending in ["lookup", "destroy"] {
        let path = format!("auth/approle/role/r1/secret-id/{ending}");
        drop(harness.write(&path, ROOT, json!({ "secret_id": secret })).await.expect_status(204));
    }
    drop(login(&harness, &second, &secret).await.expect_status(200));
    let first = harness.read("auth/approle/role/r1/role-id", ROOT).await.text_at("/data/role_id");
    login(&harness, &first, &secret).await.expect_error(400, REFUSED);
}

#[tokio::test]
async fn pwd_10_a_deleted_role_takes_its_secret_ids_along_in_every_spelling() {
    let harness = with_approle().await;
    let role_id = role(&harness, "App", json!({})).await;
    let (secret, accessor) = secret_id(&harness, "app", json!({})).await;
    drop(login(&harness, &role_id, &secret).await.expect_status(200));
    drop(harness.delete("auth/approle/role/APP", ROOT).await.expect_status(204));
    login(&harness, &role_id, &secret).await.expect_error(400, REFUSED);
    let again = role(&harness, "App", json!({ "role_id": role_id })).await;
    assert_eq!(again, role_id);
    login(&harness, &role_id, &secret).await.expect_error(400, REFUSED);
    drop(look_up(&harness, "app", &accessor).await.expect_status(404));
    drop(harness.list("auth/approle/role/app/secret-id", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn pwd_11_every_login_that_fails_reads_the_same() {
    let mut harness = with_approle().await;
    let role_id = role(&harness, "r", json!({ "secret_id_ttl": "1h" })).await;
    let (used_up, _) = secret_id(&harness, "r", json!({ "num_uses": 1 })).await;
    drop(login(&harness, &role_id, &used_up).await.expect_status(200));
    let (elsewhere, _) = secret_id(&harness, "r", json!({ "cidr_list": "10.0.0.0/8" })).await;
    let (tokens_elsewhere, _) = secret_id(&harness, "r", json!({ "token_bound_cidrs": "10.0.0.0/8" })).await;
    let (expired, _) = secret_id(&harness, "r", json!({ "ttl": "1s" })).await;
    let (good, _) = secret_id(&harness, "r", json!({})).await;
    harness.advance(Duration::from_secs(2)).await;
    let mut answers = Vec::new();
    for (role_id, secret_id) in [
        ("nobody", good.as_str()),
        (&role_id, "wrong"),
        (&role_id, &used_up),
        (&role_id, &elsewhere),
        (&role_id, &tokens_elsewhere),
        (&role_id, &expired),
    ] {
        answers.push(login(&harness, role_id, secret_id).await.expect_status(400).bytes);
    }
    // Who sends none is told so, whether there is such a role or not, and from wherever it comes.
    let nothing = async |role_id: &str| {
        login(&harness, role_id, "").await.expect_error(400, "missing secret_id");
        let sent = json!({ "role_id": role_id });
        harness.write("auth/approle/login", "", sent).await.expect_error(400, "missing secret_id");
    };
    nothing(&role_id).await;
    nothing("nobody").await;
    harness.prepare("POST", "auth/approle/role/r", json!({ "secret_id_bound_cidrs": "10.0.0.0/8" })).await;
    nothing(&role_id).await;
    answers.push(login(&harness, &role_id, &good).await.expect_status(400).bytes);
    // A secret id whose ranges the role no longer allows.
    harness.peer = "10.0.0.1".parse().unwrap();
    harness.prepare("POST", "auth/approle/role/r", json!({ "secret_id_bound_cidrs": "10.0.0.0/16" })).await;
    answers.push(login(&harness, &role_id, &elsewhere).await.expect_status(400).bytes);
    for answer in &answers {
        assert_eq!(String::from_utf8_lossy(answer), format!("{{\"errors\":[\"{REFUSED}\"]}}"));
    }
    drop(login(&harness, &role_id, &good).await.expect_status(200));
}

#[tokio::test]
async fn pwd_12_nothing_that_is_stored_shows_an_id() {
    let harness = with_approle().await;
    let role_id = role(&harness, "r", json!({ "role_id": "the-id-of-the-role" })).await;
    let path = "auth/approle/role/r/custom-secret-id";
    harness.prepare("POST", path, json!({ "secret_id": "the-secret-of-the-role" })).await;
    drop(login(&harness, &role_id, "the-secret-of-the-role").await.expect_status(200));
    for (key, value) in harness.store.dump() {
        for planted in ["the-id-of-the-role", "the-secret-of-the-role"] {
            let shows = |bytes: &[u8]| bytes.windows(planted.len()).any(|window| window == planted.as_bytes());
            assert!(!shows(key.as_bytes()) && !shows(&value), "{planted}");
        }
    }
}

#[tokio::test]
async fn pwd_13_a_secret_id_is_used_as_often_as_it_may_be() {
    let harness = with_approle().await;
    let lockout = json!({ "user_lockout_config": { "lockout_disable": true } });
    harness.prepare("POST", "sys/auth/approle/tune", lockout).await;
    let role_id = role(&harness, "r", json!({})).await;
    for uses in [1, 3] {
        let (secret, accessor) = secret_id(&harness, "r", json!({ "num_uses": uses })).await;
        let logins = (0..50).map(|_| login(&harness, &role_id, &secret));
        let answers = futures_util::future::join_all(logins).await;
        let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!(good.len(), uses);
        assert!(bad.iter().all(|answer| answer.status == 400));
        drop(look_up(&harness, "r", &accessor).await.expect_status(404));
    }
}

#[tokio::test]
async fn mfa_10_a_login_of_any_shape_is_refused_and_breaks_nothing() {
    let harness = with_approle().await;
    drop(role(&harness, "r", json!({})).await);
    for body in [
        json!({ "role_id": {} }),
        json!({ "role_id": [] }),
        json!({ "role_id": "x", "secret_id": {} }),
        json!({ "role_id": null }),
        json!([]),
        json!(1),
        Value::Null,
        json!({}),
    ] {
        drop(harness.write("auth/approle/login", "", body).await.expect_status(400));
    }
}

/// What ended, and what deleted roles left, is taken away by those who make more, or by tidying.
#[tokio::test]
async fn nothing_is_left_of_what_ended() {
    let harness = with_approle().await;
    drop(role(&harness, "r", json!({})).await);
    let empty = harness.store.dump().len();
    for _ in 0..100 {
        drop(secret_id(&harness, "r", json!({ "ttl": "1s" })).await);
    }
    harness.advance(Duration::from_secs(2)).await;
    assert!(harness.store.dump().len() > empty + 250);
    harness.prepare("POST", "auth/approle/role/r", json!({})).await;
    let tidied = harness.write("auth/approle/tidy/secret-id", ROOT, json!({})).await.expect_status(202);
    assert!(tidied.text_at("/warnings/0").starts_with("Tidied: nothing is left"), "{tidied:?}");
    assert_eq!(harness.store.dump().len(), empty);
    // Without tidying: as many as are made meanwhile stay, and no more.
    for _ in 0..400 {
        drop(secret_id(&harness, "r", json!({ "ttl": "1s" })).await);
        harness.doors.clock.advance(Duration::from_millis(100));
    }
    harness.advance(Duration::from_secs(2)).await;
    let left = harness.list("auth/approle/role/r/secret-id", ROOT).await.at("/data/keys").as_array().unwrap().len();
    assert!(left < 150, "{left}");
    // A role that goes leaves what is too much for one request, and tidying takes it.
    for _ in 0..100 {
        drop(secret_id(&harness, "r", json!({})).await);
    }
    drop(harness.delete("auth/approle/role/r", ROOT).await.expect_status(204));
    drop(harness.write("auth/approle/tidy/secret-id", ROOT, json!({})).await.expect_status(202));
    assert!(harness.store.dump().len() < empty);
    // So does removing the mount, points included.
    drop(role(&harness, "r", json!({})).await);
    drop(secret_id(&harness, "r", json!({ "ttl": "1h" })).await);
    drop(harness.delete("sys/auth/approle", ROOT).await.expect_status(204));
    for _ in 0..20 {
        harness.advance(Duration::from_secs(1)).await;
    }
    harness.prepare("POST", "sys/auth/approle", json!({ "type": "approle" })).await;
    drop(harness.list("auth/approle/role", ROOT).await.expect_status(404));
}
