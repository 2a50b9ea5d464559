//! No secret and no name below the data directory or in the log; no secret in the audit file.
//!
//! Secrets of every kind go in through the binary's own interfaces; then every byte that it left behind is searched,
//! while it runs, after `kill -9`, and after it came back and deleted things.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;
use tresor_canary::{Canaries, canary};

use crate::support::{Cli, Http, Keys, Production, Server, until};

/// Every file below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// What was planted.
struct Planted {
    /// Values, tokens, passwords, shares: nowhere in clear.
    secrets: Canaries,
    /// Paths, mounts, users, policies, names of fields: nowhere in the store or the log; audit records name them.
    names: Canaries,
}

impl Planted {
    fn secret(&mut self, label: &str, number: u64) -> String {
        let text = canary(label, number);
        self.secrets.watch(label, text.as_bytes());
        text
    }

    fn name(&mut self, label: &str, number: u64) -> String {
        let text = canary(label, number);
        self.names.watch(label, text.as_bytes());
        text
    }

    /// The first time the server says a secret of its own.
    fn minted(&mut self, label: &str, text: &str) -> String {
        self.secrets.watch(label, text.as_bytes());
        text.to_owned()
    }

    #[track_caller]
    fn check(&self, production: &Production, server: Option<&Server>, when: &str) {
        let stored = files(&production.data());
        assert!(!stored.is_empty());
        let mut bytes_total = 0;
        for file in stored {
            // A server that runs takes some away.
            let bytes = match std::fs::read(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && server.is_some() => continue,
                read => read.unwrap(),
            };
            bytes_total += bytes.len();
            for canaries in [&self.secrets, &self.names] {
                let seen = canaries.find(&bytes).or_else(|| canaries.find(file.to_str().unwrap().as_bytes()));
                assert_eq!(seen, None, "{when}: {}", file.display());
            }
        }
        assert!(bytes_total > 10_000, "there was something to search");
        if let Some(server) = server {
            for text in [server.log(), server.output()] {
                assert_eq!(self.secrets.find(text.as_bytes()), None, "{when}: the log");
                assert_eq!(self.names.find(text.as_bytes()), None, "{when}: the log");
            }
        }
        let audit = std::fs::read(production.home().join("audit.log")).unwrap();
        assert_eq!(self.secrets.find(&audit), None, "{when}: the audit file");
    }
}

fn plant(planted: &mut Planted, http: &Http, server: &Server, production: &Production) {
    let (mount, policy, user) = (planted.name("mount", 0), planted.name("policy", 0), planted.name("user", 0));
    http.post(&format!("sys/mounts/{mount}"), &json!({ "type": "kv", "description": planted.name("description", 0) }))
        .expect(204);
    http.post(&format!("sys/mounts/{mount}v2"), &json!({ "type": "kv-v2" })).expect(204);
    for number in 0..40 {
        let (name, value, key) =
            (planted.name("path", number), planted.secret("value", number), planted.name("key", number));
        http.post(&format!("{mount}/{name}/below"), &json!({ key.as_str(): value })).expect(204);
        let nested = json!({ "data": { "list": [planted.secret("nested", number)] }, "options": { "cas": 0 } });
        http.post(&format!("{mount}v2/data/{name}"), &nested).expect(200);
        assert!(http.get(&format!("{mount}/{name}/below")).expect(200).text.contains(&value));
    }
    let metadata = json!({ "custom_metadata": { "owner": planted.secret("custom metadata", 0) } });
    http.post(&format!("{mount}v2/metadata/{}", planted.name("path", 100)), &metadata).expect(204);
    let rules = format!("path \"{mount}/{}\" {{ capabilities = [\"read\"] }}", planted.name("rule", 0));
    http.post(&format!("sys/policies/acl/{policy}"), &json!({ "policy": rules })).expect(204);
    http.post("sys/auth/userpass", &json!({ "type": "userpass" })).expect(204);
    let password = planted.secret("password", 0);
    let account = json!({ "password": password, "token_policies": [policy] });
    http.post(&format!("auth/userpass/users/{user}"), &account).expect(204);
    let wrong = json!({ "password": planted.secret("wrong password", 0) });
    server.http().post(&format!("auth/userpass/login/{user}"), &wrong).expect(400);
    let login =
        server.http().post(&format!("auth/userpass/login/{user}"), &json!({ "password": password })).expect(200);
    let token = planted.minted("token of a login", &login.text_at("/auth/client_token"));
    server.http().with_token(&token).post("cubbyhole/a", &json!({ "x": planted.secret("cubbyhole", 0) })).expect(204);
    server.http().with_token(&token).get(&format!("{mount}/{}", planted.name("refused path", 0))).expect(403);
    server.http().with_token(&planted.secret("unknown token", 0)).get("sys/mounts").expect(403);
    let child = http.post("auth/token/create", &json!({ "policies": [policy], "ttl": "1h" })).expect(200);
    planted.minted("token of a token", &child.text_at("/auth/client_token"));
    let chosen = planted.secret("chosen token", 0);
    http.post("auth/token/create", &json!({ "id": chosen, "display_name": planted.name("display name", 0) }))
        .expect(200);
    // Requests that fail, and that make no sense, must not leak either.
    let unparsable = format!("{{\"x\": \"{}", planted.secret("unparsable", 0));
    http.send("POST", &format!("{mount}/a"), &unparsable).expect(400);
    http.send("POST", "sys/unseal", &json!({ "key": planted.secret("no share", 0) }).to_string()).expect(400);
    http.send("GET", &format!("{mount}/a?x={}", planted.secret("query", 0)), "").expect(404);
    http.send(&planted.name("METHOD", 0), "sys/mounts", "").expect(405);
    // The command line: standard input, and what it writes.
    let cli = Cli::new(production.home(), server.address, &chosen);
    let typed = planted.secret("typed", 0);
    let written = cli.run_with(crate::support::binary(), &["kv", "put", &format!("{mount}/typed"), "x=-"], &[], &typed);
    assert_eq!(written.code, 0, "{written:?}");
    assert_eq!(cli.succeed(&["kv", "get", "-field=x", &format!("{mount}/typed")]), typed);
}

#[test]
fn no_planted_secret_is_in_any_byte_that_is_left_behind() {
    let production = Production::new();
    production.configure_more("log_level = \"trace\"");
    let server = production.start();
    let keys = Keys::initialize(&server.http(), 5, 3);
    let mut planted = Planted { secrets: Canaries::new(), names: Canaries::new() };
    planted.minted("root token", &keys.root);
    for (hex, base64) in keys.hex.iter().zip(&keys.base64) {
        planted.minted("share", hex);
        planted.minted("share", base64);
        planted.secrets.watch("share", &hex::decode(hex).unwrap());
    }
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    let audit = production.home().join("audit.log");
    let device = json!({ "type": "file", "options": { "file_path": audit.to_str().unwrap() } });
    http.post("sys/audit/file", &device).expect(204);
    plant(&mut planted, &http, &server, &production);
    // Records are written before the answers; the file follows them.
    until("the audit file", || {
        let text = std::fs::read_to_string(&audit).unwrap();
        text.contains(&canary("mount", 0)).then_some(()).filter(|()| text.contains("hmac-sha256:"))
    });
    assert!(planted.names.find(&std::fs::read(&audit).unwrap()).is_some(), "the search finds what is there");
    planted.check(&production, Some(&server), "while it runs");
    server.kill();
    planted.check(&production, None, "after a crash");
    let mut server = production.start();
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    let mount = canary("mount", 0);
    assert_eq!(http.get(&format!("{mount}/typed")).expect(200).at("/data/x"), json!(canary("typed", 0)));
    http.send("DELETE", &format!("sys/mounts/{mount}"), "").expect(204);
    http.post("sys/seal", &json!({})).expect(204);
    planted.check(&production, Some(&server), "after deleting and sealing");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    planted.check(&production, Some(&server), "after the end");
}
