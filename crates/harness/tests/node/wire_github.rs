//! `github` against a fake of GitHub's endpoints: whom it lets in, and what of the token is seen where.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tresor_env::outgoing::{OutgoingError, OutgoingRequest};
use tresor_harness::{Answer, Harness, ROOT};

const TOKEN: &str = "ghp_planted-token-of-ann";

/// What was asked, without the values of headers.
type Asked = Arc<Mutex<Vec<String>>>;

/// What became of Ann at the fake of GitHub since she logged in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    Nothing,
    LeftTheOrganization,
    LeftHerTeams,
    TokenTakenBack,
}

/// A fake of the endpoints of GitHub that are asked: one user, Ann, in 150 organisations and three teams.
fn fake_github(request: &OutgoingRequest, base: &str) -> Result<(u16, Vec<u8>), OutgoingError> {
    fake_github_since(Since::Nothing, request, base)
}

fn fake_github_since(since: Since, request: &OutgoingRequest, base: &str) -> Result<(u16, Vec<u8>), OutgoingError> {
    let path = request.url.strip_prefix(base).unwrap_or("elsewhere");
    let sent = request.headers.iter().find(|(name, _)| *name == "authorization").map(|(_, value)| value.as_str());
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let page = |entries: Vec<Value>| {
        let number: usize = query.split_once("&page=").map_or(1, |(_, number)| number.parse().unwrap());
        let entries: Vec<Value> = entries.into_iter().skip((number - 1) * 100).take(100).collect();
        (200, json!(entries))
    };
    let team = |name: &str, slug: &str, id: u64| json!({ "name": name, "slug": slug, "organization": { "id": id } });
    let (status, body) = match (path, sent) {
        ("/orgs/acme", None) => (200, json!({ "login": "acme", "id": 149 })),
        ("/orgs/unknown", None) => (404, json!({ "message": "Not Found" })),
        (_, Some(token)) if token != format!("Bearer {TOKEN}") || since == Since::TokenTakenBack => {
            (401, json!({ "message": "Bad credentials" }))
        }
        ("/user/orgs", Some(_)) if since == Since::LeftTheOrganization => (200, json!([])),
        ("/user/teams", Some(_)) if since == Since::LeftHerTeams => (200, json!([])),
        ("/user", Some(_)) => (200, json!({ "login": "Ann", "id": 7 })),
        ("/user/orgs", Some(_)) => page((0..150).map(|id| json!({ "login": format!("o{id}"), "id": id })).collect()),
        ("/user/teams", Some(_)) => {
            page(vec![team("Core Team", "core-team", 149), team("ops", "ops", 149), team("secret", "secret", 1)])
        }
        _ => (404, json!({})),
    };
    Ok((status, serde_json::to_vec(&body).unwrap()))
}

async fn with_github(config: Value) -> (Harness, Asked) {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/github", json!({ "type": "github" })).await;
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    harness.doors.outgoing.answer(move |request| {
        seen.lock().unwrap().push(request.url.clone());
        fake_github(request, "https://github.example.com/api/v3")
    });
    harness.prepare("POST", "auth/github/config", config).await;
    (harness, asked)
}

fn acme() -> Value {
    json!({ "organization": "acme", "base_url": "https://github.example.com/api/v3/", "token_ttl": "1h" })
}

async fn login(harness: &Harness, token: &str) -> Answer {
    harness.write("auth/github/login", "", json!({ "token": token })).await
}

#[tokio::test]
async fn a_member_logs_in_with_the_policies_of_teams_and_name() {
    let (harness, asked) = with_github(acme()).await;
    let config = harness.read("auth/github/config", ROOT).await.expect_status(200);
    assert_eq!((config.at("/data/organization_id"), config.at("/data/token_ttl")), (&json!(149), &json!(3600)));
    for (path, value) in [
        ("teams/Core-Team", "core, base"),
        ("teams/ops", "ops"),
        ("teams/secret", "secret"),
        ("teams/default", "everybody"),
        ("users/ANN", "ann"),
        ("users/bob", "bob"),
    ] {
        harness.prepare("POST", &format!("auth/github/map/{path}"), json!({ "value": value })).await;
    }
    let known = harness.read("auth/github/map/teams/core-team", ROOT).await.expect_status(200);
    assert_eq!(known.at("/data"), &json!({ "key": "core-team", "value": "core, base" }));
    let teams = json!(["core-team", "default", "ops", "secret"]);
    assert_eq!(harness.list("auth/github/map/teams", ROOT).await.at("/data/keys"), &teams);
    assert_eq!(harness.read("auth/github/map/teams", ROOT).await.at("/data/keys"), &teams);
    let auth = login(&harness, &format!("{TOKEN}\n")).await.expect_status(200);
    assert_eq!(auth.at("/auth/policies"), &json!(["ann", "base", "core", "default", "everybody", "ops"]));
    assert_eq!(auth.at("/auth/metadata"), &json!({ "org": "acme", "username": "Ann" }));
    assert_eq!(auth.at("/auth/lease_duration"), &json!(3600));
    let itself = harness.read("auth/token/lookup-self", &auth.text_at("/auth/client_token")).await;
    assert_eq!(itself.text_at("/data/display_name"), "github-Ann");
    // To nobody else than the configured server, and page by page.
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().all(|url| url.starts_with("https://github.example.com/api/v3/")), "{asked:?}");
    assert!(asked.iter().any(|url| url.ends_with("/user/orgs?per_page=100&page=2")), "{asked:?}");
    drop(harness.delete("auth/github/map/users/ann", ROOT).await.expect_status(204));
    assert_eq!(harness.read("auth/github/map/users/ann", ROOT).await.expect_status(200).at("/data"), &json!({}));
}

#[tokio::test]
async fn who_is_no_member_or_has_no_token_of_github_is_refused() {
    let (harness, _) = with_github(acme()).await;
    login(&harness, "ghp_wrong").await.expect_error(400, "GitHub does not take this token");
    login(&harness, " \n").await.expect_error(400, "missing token");
    for body in [json!({}), Value::Null, json!({ "token": {} }), json!([])] {
        drop(harness.write("auth/github/login", "", body).await.expect_status(400));
    }
    harness.prepare("POST", "auth/github/config", json!({ "organization_id": 9_999 })).await;
    login(&harness, TOKEN).await.expect_error(400, "user is not part of required org");
    harness.prepare("POST", "auth/github/config", json!({ "organization_id": 149 })).await;
    harness.prepare("POST", "auth/github/config", json!({ "token_bound_cidrs": "10.0.0.0/8" })).await;
    drop(login(&harness, TOKEN).await.expect_status(400));
    // Another organisation is another number, which nobody may carry over.
    let unknown = json!({ "organization": "unknown" });
    harness.write("auth/github/config", ROOT, unknown).await.expect_error(400, "unable to fetch the organization_id");
    for (wrong, reason) in [
        (json!({ "organization": "../user" }), "organization is no name"),
        (json!({ "base_url": "http://github.example.com" }), "base_url must be https"),
        (json!({ "token_policies": "root" }), "root"),
    ] {
        harness.write("auth/github/config", ROOT, wrong).await.expect_error(400, reason);
    }
    harness
        .write("auth/github/map/users/ann", ROOT, json!({ "value": "a, ROOT" }))
        .await
        .expect_error(400, "root policy");
    harness.write("auth/github/map/users/ann", ROOT, json!({})).await.expect_error(400, "missing value");
}

#[tokio::test]
async fn a_server_that_fails_is_named_and_the_token_is_nowhere() {
    let (harness, _) = with_github(acme()).await;
    harness.enable_audit().await;
    for (answer, public) in [
        (Err(OutgoingError::Failed("connection refused".to_owned())), "GitHub could not be asked"),
        (Err(OutgoingError::TooSlow), "GitHub took too long to answer"),
        (Ok((200, vec![b'x'; 3 * 1024 * 1024])), "GitHub's answer is larger than expected"),
        (Ok((200, b"<html>".to_vec())), "GitHub answered something unexpected"),
        (Ok((500, TOKEN.as_bytes().to_vec())), "GitHub answered something unexpected"),
        (Ok((302, Vec::new())), "GitHub answered something unexpected"),
        (Ok((200, b"{\"login\": \"\"}".to_vec())), "GitHub answered something unexpected"),
        (Ok((200, b"[1]".to_vec())), "GitHub answered something unexpected"),
    ] {
        harness.doors.outgoing.answer(move |_| answer.clone());
        let refused = login(&harness, TOKEN).await;
        refused.expect_error(502, public);
        assert!(!String::from_utf8_lossy(&refused.bytes).contains("planted"));
    }
    harness.doors.outgoing.answer(|_| Ok((429, Vec::new())));
    login(&harness, TOKEN).await.expect_error(503, "GitHub takes no more requests now");
    let audited = harness.audit_text().await;
    assert!(audited.contains("auth/github/login") && !audited.contains("planted"));
    drop(harness.delete("sys/auth/github", ROOT).await.expect_status(204));
    harness.prepare("POST", "sys/auth/github", json!({ "type": "github" })).await;
    login(&harness, TOKEN).await.expect_error(400, "configuration has not been set");
}

#[tokio::test]
async fn github_is_asked_again_when_a_token_is_renewed() {
    const BASE: &str = "https://github.example.com/api/v3";
    let (harness, asked) = with_github(acme()).await;
    harness.prepare("POST", "auth/github/map/teams/ops", json!({ "value": "ops" })).await;
    let token = login(&harness, TOKEN).await.expect_status(200).text_at("/auth/client_token");
    let renew = async || harness.write("auth/token/renew-self", &token, json!({ "increment": "30m" })).await;
    let before = asked.lock().unwrap().len();
    let renewed = renew().await.expect_status(200);
    assert_eq!(renewed.at("/auth/lease_duration"), &json!(1800));
    let again = asked.lock().unwrap().split_off(before);
    assert!(again.iter().any(|url| url.ends_with("/user")) && again.iter().any(|url| url.contains("/user/teams")));

    for (since, reason) in [
        (Since::LeftTheOrganization, "user is not part of required org"),
        (Since::LeftHerTeams, "policies have changed, not renewing"),
        (Since::TokenTakenBack, "GitHub does not take this token"),
    ] {
        harness.doors.outgoing.answer(move |request| fake_github_since(since, request, BASE));
        renew().await.expect_error(400, reason);
        // By its accessor, too; and it goes on as it was.
        let itself = harness.read("auth/token/lookup-self", &token).await.expect_status(200);
        let by_accessor = json!({ "accessor": itself.text_at("/data/accessor") });
        harness.write("auth/token/renew-accessor", ROOT, by_accessor).await.expect_error(400, reason);
        assert!(!String::from_utf8_lossy(&itself.bytes).contains("planted"));
    }
    harness.doors.outgoing.answer(|_| Err(OutgoingError::Failed("connection refused".to_owned())));
    renew().await.expect_error(502, "GitHub could not be asked");
    harness.doors.outgoing.answer(|request| fake_github(request, BASE));
    drop(renew().await.expect_status(200));
    // What it may is decided by the maps as they are now.
    harness.prepare("POST", "auth/github/map/teams/ops", json!({ "value": "other" })).await;
    renew().await.expect_error(400, "policies have changed, not renewing");
    harness.prepare("POST", "auth/github/map/teams/ops", json!({ "value": "ops" })).await;
    drop(renew().await.expect_status(200));
}

#[tokio::test]
async fn a_token_of_github_is_sent_to_no_server_that_was_configured_after_the_login() {
    let (harness, _) = with_github(acme()).await;
    let token = login(&harness, TOKEN).await.expect_status(200).text_at("/auth/client_token");
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    harness.doors.outgoing.answer(move |request| {
        seen.lock().unwrap().push(request.url.clone());
        fake_github(request, "https://other.example.com")
    });
    harness.prepare("POST", "auth/github/config", json!({ "base_url": "https://other.example.com" })).await;
    harness
        .write("auth/token/renew-self", &token, json!({}))
        .await
        .expect_error(400, "base_url was changed since the login: log in again");
    assert!(asked.lock().unwrap().is_empty());
    let batch = json!({ "token_type": "batch" });
    harness.prepare("POST", "auth/github/config", batch).await;
    drop(login(&harness, TOKEN).await.expect_status(200));
}
