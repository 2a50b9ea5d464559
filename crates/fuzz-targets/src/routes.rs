//! FZ-04, FZ-17: requests to a whole node, by root. Whatever is sent to whatever route, the answer is a success or the
//! caller's fault, in the reference's shape; a failure of the server, or a panic below, is a finding.
//!
//! An input is a history: requests apart by a line `--`, each a line `METHOD path` and then a body.

use bytes::Bytes;
use http_body_util::Full;
use tresor_harness::{Harness, ROOT};

pub(crate) const WORDS: &[&str] = &[
    "POST sys/mounts/",
    "POST sys/auth/",
    "a",
    "/tune",
    "\n",
    "\n--\n",
    "GET ",
    "LIST ",
    "DELETE ",
    "PATCH ",
    "sys/policies/acl/",
    "sys/policy/p",
    "sys/audit/x",
    "auth/token/create",
    "auth/token/lookup",
    "auth/token/renew-self",
    "secret/data/a",
    "secret/metadata/",
    "secret/config",
    "secret/destroy/a",
    "cubbyhole/x",
    "sys/remount",
    "sys/capabilities-self",
    "sys/leases/",
    "{\"type\":\"kv\"}",
    "{\"type\":\"kv\",\"options\":{\"version\":\"2\"}}",
    "{\"data\":{\"a\":1}}",
    "{\"data\":null}",
    "{\"policy\":\"path \\\"a\\\" {}\"}",
    "{\"ttl\":\"-1h\"}",
    "{\"versions\":[1,\"2\"]}",
    "{\"options\":{\"cas\":99999999999999999999}}",
    "{\"default_lease_ttl\":\"9e9\"}",
    "{\"max_versions\":-1}",
    "{\"type\":\"userpass\"}",
    "{\"password\":[]}",
    "{\"from\":\"a\",\"to\":\"..\"}",
];

/// A history of requests.
pub fn routes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime in one thread");
    runtime.block_on(async {
        let harness = Harness::start().await;
        for request in text.split("\n--\n").take(8) {
            send(&harness, request).await;
        }
    });
}

async fn send(harness: &Harness, request: &str) {
    let (line, body) = request.split_once('\n').unwrap_or((request, ""));
    let Some((method, path)) = line.trim().split_once(' ') else { return };
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let mut built = http::Request::builder().method(method).uri(format!("/v1/{path}")).header("X-Vault-Token", ROOT);
    if method == "PATCH" {
        built = built.header("Content-Type", "application/merge-patch+json");
    }
    let Ok(built) = built.body(body) else { return };
    let answer = harness.send(built).await;
    // Sealing is a success, and what comes after it says so; a probe chooses its codes.
    let is_expected = answer.status == 503 || path.starts_with("sys/health");
    assert!(answer.status < 500 || is_expected, "{method} {path}: {answer:?}");
    if answer.status >= 400 && method != "HEAD" && !path.starts_with("sys/health") {
        // What a path is not is said by a warning where the reference says it so.
        let says_why = answer.at("/errors").is_array() || answer.at("/warnings").is_array();
        assert!(says_why || answer.at("/data").is_object(), "{method} {path}: {answer:?}");
    }
}
