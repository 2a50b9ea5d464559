//! Canaries through every endpoint, then a look at every byte that may be seen by others: the raw store, the disk, the
//! log at its most talkative, every error, every `Debug`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::fmt::Write as _;
use std::io;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_canary::{Canaries, canary};
use tresor_harness::{AUDIT_FILE, AUDIT_LOG, Answer, Captured, Harness, ROOT};

/// What is planted, and where it may be seen.
struct Planted {
    value: String,
    key: String,
    field: String,
    mount: String,
    policy_name: String,
    policy_text: String,
    user: String,
    password: String,
    token_id: String,
    metadata: String,
    description: String,
    header: String,
    wrong_password: String,
    unknown_token: String,
}

impl Planted {
    fn new() -> Self {
        let plant = |label: &str| canary(label, 1);
        Self {
            value: plant("value"),
            key: plant("key"),
            field: plant("field"),
            mount: plant("mount"),
            policy_name: plant("policy name"),
            policy_text: plant("policy text"),
            user: plant("user"),
            password: plant("password"),
            token_id: plant("token id"),
            metadata: plant("metadata"),
            description: plant("description"),
            header: plant("header"),
            wrong_password: plant("wrong password"),
            unknown_token: plant("unknown token"),
        }
    }

    /// Secrets that nobody but their owner may see, ever.
    fn secrets(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("value", &self.value),
            ("policy text", &self.policy_text),
            ("password", &self.password),
            ("token id", &self.token_id),
            ("header", &self.header),
            ("wrong password", &self.wrong_password),
            ("unknown token", &self.unknown_token),
            ("description", &self.description),
        ]
    }

    /// Names: on no disk outside the barrier, but in audit records, where the reference shows them.
    fn names(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("key", &self.key),
            ("field", &self.field),
            ("mount", &self.mount),
            ("policy name", &self.policy_name),
            ("user", &self.user),
            ("metadata", &self.metadata),
        ]
    }
}

struct Walk<'h> {
    harness: &'h Harness,
    planted: &'h Planted,
    /// Error answers, and the `Debug` text of what can be printed.
    errors: Vec<u8>,
    made: Vec<(String, String)>,
}

impl Walk<'_> {
    async fn call(&mut self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        self.raw(method, path, token, &bytes).await
    }

    async fn raw(&mut self, method: &str, path: &str, token: &str, body: &[u8]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("/v1/{path}"));
        request = request.header("X-Custom", &self.planted.header).header("Cookie", &self.planted.header);
        if !token.is_empty() {
            request = request.header("X-Vault-Token", token);
        }
        if method == "PATCH" {
            request = request.header("Content-Type", "application/merge-patch+json");
        }
        let answer = self.harness.send(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await;
        if answer.status >= 400 {
            self.errors.extend_from_slice(&answer.bytes);
            self.errors.push(b'\n');
        }
        if let (Some(token), Some(accessor)) =
            (answer.at("/auth/client_token").as_str(), answer.at("/auth/accessor").as_str())
        {
            self.made.push((token.to_owned(), accessor.to_owned()));
        }
        answer
    }

    async fn ok(&mut self, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.call(method, path, ROOT, body).await;
        assert!(answer.status < 300, "{method} {path} {answer:?}");
        answer
    }

    /// Everything that this release can store, with a canary in each place.
    async fn plant(&mut self) {
        let planted = self.planted;
        let Planted { value, key, field, mount, policy_name, policy_text, user, password, .. } = planted;
        for version in ["1", "2"] {
            let options =
                json!({ "type": "kv", "options": { "version": version }, "description": planted.description });
            self.ok("POST", &format!("sys/mounts/{mount}{version}"), options).await;
        }
        let data = json!({ field: value, "list": [value], "map": { field: { "deep": value } } });
        self.ok("POST", &format!("{mount}1/{key}/{key}"), data.clone()).await;
        self.ok("POST", &format!("{mount}2/data/{key}/{key}"), json!({ "data": data })).await;
        let patch = json!({ "data": { "more": value } });
        assert_eq!(self.call("PATCH", &format!("{mount}2/data/{key}/{key}"), ROOT, patch).await.status, 200);
        self.ok("POST", &format!("{mount}2/metadata/{key}/{key}"), json!({ "custom_metadata": { field: value } }))
            .await;
        self.ok("POST", &format!("cubbyhole/{key}"), json!({ field: value })).await;
        let rules = format!("path \"{mount}1/{policy_text}\" {{ capabilities = [\"read\"] }}");
        self.ok("POST", &format!("sys/policies/acl/{policy_name}"), json!({ "policy": rules })).await;
        self.ok(
            "POST",
            &format!("sys/auth/{mount}"),
            json!({ "type": "userpass", "description": planted.description }),
        )
        .await;
        let terms = json!({ "password": password, "token_policies": [policy_name] });
        self.ok("POST", &format!("auth/{mount}/users/{user}"), terms).await;
        let login = self.call("POST", &format!("auth/{mount}/login/{user}"), "", json!({ "password": password })).await;
        assert_eq!(login.status, 200, "{login:?}");
        let token = json!({
            "id": planted.token_id, "meta": { "note": planted.metadata }, "policies": [policy_name], "ttl": "1h",
            "display_name": user,
        });
        self.ok("POST", "auth/token/create", token).await;
    }

    /// Every route, right and wrong, by root, by nobody and by an unknown token, with a canary wherever one fits.
    async fn poke(&mut self) {
        let planted = self.planted;
        let secret = &planted.value;
        for route in self.harness.node.routes() {
            if !route.is_audited || route.pattern == "seal" {
                continue;
            }
            let segments: Vec<&str> = route
                .pattern
                .split('/')
                .map(|segment| if segment.starts_with('{') { planted.key.as_str() } else { segment })
                .collect();
            let path = format!("{}{}", route.mount, segments.join("/"));
            let method = match route.operation.name() {
                "read" | "help" => "GET",
                "list" => "LIST",
                "patch" => "PATCH",
                "delete" => continue,
                _ => "POST",
            };
            let wrong = json!([secret, { "a": secret }]);
            let every = |value: &Value| -> Value {
                let names = [
                    "password",
                    "password_hash",
                    "token",
                    "accessor",
                    "policy",
                    "policies",
                    "token_policies",
                    "type",
                    "path",
                    "paths",
                    "data",
                    "options",
                    "config",
                    "input",
                    "ttl",
                    "period",
                    "num_uses",
                    "id",
                    "meta",
                    "from",
                    "to",
                    "versions",
                    "custom_metadata",
                    "max_versions",
                    "cas",
                    "token_bound_cidrs",
                    "token_type",
                    "description",
                    "rules",
                    "display_name",
                    "explicit_max_ttl",
                    "increment",
                    "delete_version_after",
                    "renewable",
                ];
                names.iter().map(|name| ((*name).to_owned(), value.clone())).collect::<serde_json::Map<_, _>>().into()
            };
            // Once all fields at a time, once each: the first wrong field must not hide the others.
            let mut bodies = vec![
                every(&wrong),
                every(&json!({ "a": secret })),
                every(&json!(secret)),
                json!({ "data": { "x": secret } }),
            ];
            if let Value::Object(fields) = every(&wrong) {
                bodies.extend(fields.into_iter().map(|(name, value)| json!({ name: value })));
            }
            if method == "GET" || method == "LIST" {
                bodies = vec![Value::Null];
            }
            for token in ["", planted.unknown_token.as_str()] {
                self.call(method, &path, token, bodies[0].clone()).await;
            }
            for body in bodies {
                self.call(method, &path, ROOT, body).await;
            }
            for broken in
                [format!("{{\"a\":\"{secret}"), format!("{{\"{secret}\"}}"), format!("[\"{secret}\"]"), secret.clone()]
            {
                self.raw(method, &path, ROOT, broken.as_bytes()).await;
            }
            self.raw(method, &format!("{path}?limit={secret}&version={secret}&list={secret}"), ROOT, b"").await;
        }
        for (path, body) in [
            ("sys/unseal", json!({ "key": secret })),
            ("sys/unseal", json!({ "key": [secret] })),
            ("sys/unseal", json!({ "key": "Y2FuYXJ5", "reset": secret })),
            ("sys/init", json!({ "secret_shares": secret, "secret_threshold": { "a": secret } })),
            ("sys/health", json!({ "activecode": secret })),
        ] {
            self.call("POST", path, "", body).await;
        }
        let login = format!("auth/{}/login/{}", planted.mount, planted.user);
        self.call("POST", &login, "", json!({ "password": planted.wrong_password })).await;
        self.call("GET", "sys/mounts", &planted.unknown_token, Value::Null).await;
        self.call("POST", "auth/token/lookup", ROOT, json!({ "token": planted.unknown_token })).await;
        self.call("POST", "auth/token/create", ROOT, json!({ "id": planted.token_id })).await;
        let bad = format!("path \"x\" {{ capabilities = [\"{}\"] }} {}", planted.policy_text, planted.policy_text);
        self.call("POST", "sys/policies/acl/bad", ROOT, json!({ "policy": bad })).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn no_canary_is_seen_where_it_must_not_be() {
    let log = Captured::start();
    let planted = Planted::new();
    let mut harness = Harness::start().await;
    harness.enable_audit().await;
    let shares = harness.shares.clone();
    let (errors, made) = {
        let mut walk = Walk { harness: &harness, planted: &planted, errors: Vec::new(), made: Vec::new() };
        walk.plant().await;
        walk.poke().await;
        // The disk fails under some of them.
        harness.settle().await;
        harness.doors.disk.fail_below(AUDIT_LOG, io::ErrorKind::StorageFull);
        walk.call("POST", &format!("{}1/x", planted.mount), ROOT, json!({ "v": planted.value })).await;
        harness.doors.disk.heal();
        harness.advance(std::time::Duration::from_secs(2)).await;
        (walk.errors, walk.made)
    };
    harness.restart().await;
    harness.unseal().await;
    harness.settle().await;

    let mut secrets = Canaries::new();
    for (label, secret) in planted.secrets() {
        secrets.watch(label, secret.as_bytes());
    }
    secrets.watch("root token", ROOT.as_bytes());
    for (token, accessor) in &made {
        secrets.watch("a token that was made", token.as_bytes());
        secrets.watch("an accessor that was made", accessor.as_bytes());
    }
    assert!(made.len() >= 2);
    for share in &shares {
        secrets.watch("a share", share);
    }
    let mut everything = Canaries::new();
    for (label, secret) in planted.secrets().into_iter().chain(planted.names()) {
        everything.watch(label, secret.as_bytes());
    }
    everything.watch("root token", ROOT.as_bytes());
    for (token, accessor) in &made {
        everything.watch("a token that was made", token.as_bytes());
        everything.watch("an accessor that was made", accessor.as_bytes());
    }
    for share in &shares {
        everything.watch("a share", share);
    }

    // The store: nothing, neither in values nor in keys.
    for (key, value) in harness.store.dump() {
        everything.assert_absent("a key of the store", key.as_bytes());
        everything.assert_absent("a value of the store", &value);
    }
    // The disk: nothing in the local log; in the device's file, names alone.
    let mut device_file = Vec::new();
    for (path, bytes) in harness.doors.disk.dump() {
        everything.assert_absent("a path of the disk", path.to_string_lossy().as_bytes());
        if path.starts_with(AUDIT_LOG) {
            everything.assert_absent("the local audit log", &bytes);
        } else {
            assert_eq!(path.to_string_lossy(), AUDIT_FILE);
            device_file = bytes;
        }
    }
    secrets.assert_absent("the audit file", &device_file);
    // They are there by their names and hashes, so the search did look at the right file.
    let text = String::from_utf8(device_file).unwrap();
    assert!(text.contains(&planted.mount) && text.contains(&planted.field) && text.contains("hmac-sha256:"));
    // The log.
    let logged = log.bytes();
    everything.assert_absent("the log", &logged);
    assert!(String::from_utf8_lossy(&logged).contains("node is unsealed"), "the log was captured");
    // Errors: the path that the caller itself sent may be named, nothing else.
    secrets.assert_absent("an error", &errors);
    assert!(errors.len() > 10_000);
    // What can be printed; the types of secrets themselves cannot.
    let mut printed = String::new();
    write!(printed, "{:?}", harness.node.standing().unwrap()).unwrap();
    write!(printed, "{:?}", tresor_model::Body::from(planted.value.as_str())).unwrap();
    write!(printed, "{:?}", tresor_model::Map::new().with("a", planted.value.as_str())).unwrap();
    everything.assert_absent("a Debug text", printed.as_bytes());
}
