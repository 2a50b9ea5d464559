//! The userpass rows of the security bank: what a login tells, what it costs, and which names and passwords are one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tresor_env::doubles::InlineWorkers;
use tresor_env::tasks::{NotComputed, WorkerPanicked};
use tresor_env::{BoxFuture, Workers};
use tresor_harness::{Answer, Harness, ROOT};

/// Workers that count: what is expensive runs on them.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Workers for Counting {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>> {
        InlineWorkers.run(work)
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), NotComputed>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        InlineWorkers.compute(work)
    }

    fn tidy_up(&self, work: Box<dyn FnOnce() + Send>) {
        InlineWorkers.tidy_up(work);
    }
}

async fn with_bob() -> Harness {
    let harness = Harness::start().await;
    prepare(&harness).await;
    harness
}

async fn prepare(harness: &Harness) {
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "right" })).await;
}

async fn login(harness: &Harness, name: &str, password: &str) -> Answer {
    harness.write(&format!("auth/userpass/login/{name}"), "", json!({ "password": password })).await
}

#[tokio::test]
async fn pwd_01_a_login_of_nobody_does_the_same_work_as_one_of_somebody() {
    let workers = Arc::new(Counting::default());
    let harness = Harness::start_on(Arc::clone(&workers) as Arc<dyn Workers>).await;
    prepare(&harness).await;
    harness.settle().await;
    let long = "x".repeat(73);
    let mut work = Vec::new();
    for (name, password) in [
        ("bob", "wrong"),
        ("nobody", "wrong"),
        ("bob", long.as_str()),
        ("nobody", long.as_str()),
        ("bob", "a\0"),
        ("nobody", "a\0"),
    ] {
        let before = workers.0.load(Ordering::SeqCst);
        login(&harness, name, password).await.expect_error(400, "invalid username or password");
        work.push(workers.0.load(Ordering::SeqCst) - before);
    }
    assert!(work[0] >= 1, "a password is checked on the workers");
    assert!(work.iter().all(|jobs| *jobs == work[0]), "{work:?}");
}

#[tokio::test]
async fn pt_10_every_login_that_fails_has_the_same_answer() {
    let harness = with_bob().await;
    harness
        .prepare("POST", "auth/userpass/users/far", json!({ "password": "right", "token_bound_cidrs": "10.0.0.0/8" }))
        .await;
    harness.prepare("POST", "auth/userpass/users/gone", json!({ "password": "right" })).await;
    drop(harness.delete("auth/userpass/users/gone", ROOT).await.expect_status(204));
    let long = "x".repeat(5000);
    let mut answers = Vec::new();
    for (name, password) in [
        ("bob", "wrong"),
        ("nobody", "right"),
        ("gone", "right"),
        // The right password from the wrong address is no better than a wrong one.
        ("far", "right"),
        ("far", "wrong"),
        ("bob", long.as_str()),
        ("bob", "right\0right"),
        ("nobody", "\0"),
        ("%2a", "right"),
        ("bob'--", "right"),
        ("bob%00", "right"),
    ] {
        let mut answer = login(&harness, name, password).await;
        // The one thing that is another's each time.
        answer.headers.remove("x-request-id");
        if name != "bob%00" {
            answers.push((answer.status, format!("{:?}", answer.headers), answer.bytes));
        } else {
            assert_eq!(answer.status, 400);
        }
    }
    assert_eq!(answers[0].0, 400);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // A missing password is told as such, whoever it is.
    for body in [json!({}), json!({ "password": "" }), json!({ "password": null }), Value::Null] {
        let known = harness.write("auth/userpass/login/bob", "", body.clone()).await;
        let unknown = harness.write("auth/userpass/login/nobody", "", body).await;
        known.expect_error(400, "missing password");
        assert_eq!((known.status, known.bytes), (unknown.status, unknown.bytes));
    }
}

#[tokio::test]
async fn pwd_06_no_password_is_cut_repeated_or_empty() {
    let harness = with_bob().await;
    let lockout = json!({ "user_lockout_config": { "lockout_disable": true } });
    harness.prepare("POST", "sys/auth/userpass/tune", lockout).await;
    for (password, status) in [
        ("", 400),
        ("x\0", 400),
        ("\0", 400),
        (&"x".repeat(72), 204),
        (&"x".repeat(73), 400),
        (&"é".repeat(36), 204),
        (&"é".repeat(37), 400),
    ] {
        let path = "auth/userpass/users/bob";
        let body = json!({ "password": password });
        assert_eq!(harness.write(&format!("{path}/password"), ROOT, body.clone()).await.status, status, "{password:?}");
        // A field that is sent empty is no password, and an update without one keeps the old.
        assert_eq!(harness.write(path, ROOT, body).await.status, status, "{password:?}");
    }
    let full = "p".repeat(72);
    harness.prepare("POST", "auth/userpass/users/bob/password", json!({ "password": full })).await;
    for wrong in [&full[..71], &format!("{full}p"), &format!("{full}q"), &format!("{full}\0"), "p", ""] {
        assert_eq!(login(&harness, "bob", wrong).await.status, 400, "{}", wrong.len());
    }
    drop(login(&harness, "bob", &full).await.expect_status(200));
    // bcrypt fills its key with the password and a NUL, over and over: these would be equal.
    harness.prepare("POST", "auth/userpass/users/bob/password", json!({ "password": "ab" })).await;
    for same in ["ab\0ab", "ab\0ab\0ab", "ab\0"] {
        assert_eq!(login(&harness, "bob", same).await.status, 400, "{same:?}");
    }
    // Case, blanks and the form of an accent are the password's own.
    harness.prepare("POST", "auth/userpass/users/bob/password", json!({ "password": " Pässword " })).await;
    for other in ["Pässword", " pässword ", " Pa\u{308}ssword "] {
        assert_eq!(login(&harness, "bob", other).await.status, 400, "{other:?}");
    }
    drop(login(&harness, "bob", " Pässword ").await.expect_status(200));
}

#[tokio::test]
async fn a_hash_is_taken_at_the_one_cost_only() {
    let harness = with_bob().await;
    let body = "CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    for head in ["$2b$04$", "$2b$09$", "$2b$11$", "$2b$14$", "$2b$31$", "$2b$99$", "$2x$10$", "$5$10$", "plain", ""] {
        let hash = json!({ "password_hash": format!("{head}{body}") });
        for path in ["auth/userpass/users/bob", "auth/userpass/users/bob/password", "auth/userpass/users/new"] {
            harness.write(path, ROOT, hash.clone()).await.expect_error(400, "password_hash");
        }
    }
    drop(harness.read("auth/userpass/users/new", ROOT).await.expect_status(404));
    drop(login(&harness, "bob", "right").await.expect_status(200));
    let both = json!({ "password": "a", "password_hash": format!("$2b$10${body}") });
    harness.write("auth/userpass/users/bob", ROOT, both).await.expect_error(400, "together");
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password_hash": format!("$2b$10${body}") })).await;
    drop(login(&harness, "bob", "right").await.expect_status(400));
}

#[tokio::test]
async fn acl_02_names_that_fold_together_are_one_user_for_policies_too() {
    let harness = with_bob().await;
    let denied = r#"path "auth/userpass/users/*" { capabilities = ["create", "read", "update", "delete"] }
        path "auth/userpass/users/bob" { capabilities = ["deny"] }
        path "auth/userpass/users/bob/*" { capabilities = ["deny"] }"#;
    let token = harness.token_with(denied).await;
    for name in ["bob", "Bob", "BOB", "bob%20", "%20bob", "b%6Fb", "%20B%4fB%20", "bo%62", "%E2%80%83bob"] {
        for (method, path, body) in [
            ("POST", format!("auth/userpass/users/{name}"), json!({ "password": "taken" })),
            ("POST", format!("auth/userpass/users/{name}/password"), json!({ "password": "taken" })),
            ("POST", format!("auth/userpass/users/{name}/policies"), json!({ "token_policies": "root" })),
            ("GET", format!("auth/userpass/users/{name}"), Value::Null),
            ("DELETE", format!("auth/userpass/users/{name}"), Value::Null),
        ] {
            let answer = harness.call(method, &path, &token, body).await;
            assert_eq!(answer.status, 403, "{method} {path} {answer:?}");
        }
        drop(login(&harness, name, "right").await.expect_status(200));
    }
    let users = harness.list("auth/userpass/users", ROOT).await;
    assert_eq!(users.at("/data/keys"), &json!(["bob"]));
}

#[tokio::test]
async fn names_that_look_alike_are_refused_or_are_users_of_their_own() {
    let harness = with_bob().await;
    // The Kelvin sign folds to `k`, a dotted capital I to two letters, of which one is no letter.
    harness.prepare("POST", "auth/userpass/users/kim", json!({ "password": "kim" })).await;
    drop(login(&harness, "%E2%84%AAim", "kim").await.expect_status(200));
    for refused in ["%C4%B0da", "jose%CC%81", "bob.", "a%3Ab", "a%2Ab", "a%22b", "%E2%80%8Bbob", "bo%C2%ADb"] {
        let answer = harness.write(&format!("auth/userpass/users/{refused}"), ROOT, json!({ "password": "x" })).await;
        answer.expect_error(400, "invalid username");
    }
    // Fold twice is fold once: what is listed logs in.
    for name in ["%CE%9F%CE%94%CE%9F%CE%A3", "JOS%C3%89", "STRA%C3%9FE", "%E1%BA%9Eharp"] {
        harness.prepare("POST", &format!("auth/userpass/users/{name}"), json!({ "password": "x" })).await;
    }
    let users = harness.list("auth/userpass/users", ROOT).await;
    for name in users.at("/data/keys").as_array().unwrap() {
        let encoded: String = name.as_str().unwrap().bytes().map(|byte| format!("%{byte:02x}")).collect();
        drop(harness.read(&format!("auth/userpass/users/{encoded}"), ROOT).await.expect_status(200));
    }
    assert_eq!(users.at("/data/keys").as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn idn_01_no_user_has_the_root_policy_however_it_is_spelled() {
    let harness = with_bob().await;
    for policies in [json!("root"), json!(["Root"]), json!([" ROOT "]), json!("a, root"), json!(["a", "rooT"])] {
        for path in ["auth/userpass/users/bob", "auth/userpass/users/bob/policies"] {
            for field in ["policies", "token_policies"] {
                let answer = harness.write(path, ROOT, json!({ field: policies })).await;
                assert_eq!(answer.status, 400, "{path} {field} {policies} {answer:?}");
            }
        }
    }
    let token = login(&harness, "bob", "right").await;
    assert_eq!(token.at("/auth/policies"), &json!(["default"]));
}

#[tokio::test]
async fn log_02_a_password_of_the_wrong_type_is_not_echoed() {
    let harness = with_bob().await;
    for value in [json!({ "a": "canary-value" }), json!(["canary-value"]), json!([["canary-value"]])] {
        for path in ["auth/userpass/users/bob", "auth/userpass/users/bob/password", "auth/userpass/login/bob"] {
            for field in ["password", "password_hash"] {
                let answer = harness.write(path, ROOT, json!({ field: value })).await;
                assert_eq!(answer.status, 400, "{path} {field} {answer:?}");
                assert!(!answer.errors().contains("canary"), "{answer:?}");
            }
        }
    }
}
