//! `rabbitmq` against a fake of a broker's management API: what is made there, and that it goes, whatever happens between.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_env::outgoing::{Ask, OutgoingError, OutgoingRequest};
use tresor_harness::{Harness, ROOT};

pub(crate) const BROKER: &str = "https://broker.example.com:15671";
/// `admin` with `first` and with `second`.
pub(crate) const FIRST: &str = "Basic YWRtaW46Zmlyc3Q=";
const SECOND: &str = "Basic YWRtaW46c2Vjb25k";

/// A fake of a broker.
#[derive(Default)]
pub(crate) struct Broker {
    /// The password by which its administrator is let in.
    pub(crate) lets_in: &'static str,
    /// Its users, with all that was said of each.
    pub(crate) users: BTreeMap<String, Vec<Value>>,
    /// What it was asked, by method and address.
    asked: Vec<String>,
    /// Addresses with this in them fail like this.
    fails: Option<(&'static str, Result<u16, OutgoingError>)>,
}

impl Broker {
    pub(crate) fn answer(&mut self, request: &OutgoingRequest) -> Result<(u16, Vec<u8>), OutgoingError> {
        let path = request.url.strip_prefix(&format!("{BROKER}/api/")).unwrap_or("elsewhere");
        let (method, body) = match &request.ask {
            Ask::Get => ("GET", None),
            Ask::Post(body) => ("POST", Some(body)),
            Ask::Put(body) => ("PUT", Some(body)),
            Ask::Patch(body) => ("PATCH", Some(body)),
            Ask::Delete => ("DELETE", None),
        };
        self.asked.push(format!("{method} {path}"));
        let sent: Value = body.map_or(Value::Null, |body| serde_json::from_slice(body).unwrap());
        let who = request.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
        if let Some((part, failure)) = &self.fails
            && path.contains(part)
        {
            let status = failure.clone()?;
            return Ok((status, br#"{"error":"bad_request","reason":"vhost_not_found"}"#.to_vec()));
        }
        if who.1.as_str() != self.lets_in {
            return Ok((401, br#"{"error":"not_authorised","reason":"Login failed"}"#.to_vec()));
        }
        let name = path.rsplit('/').next().unwrap().to_owned();
        let status = match (method, path.split('/').next().unwrap()) {
            ("GET", "whoami") => return Ok((200, br#"{"name":"admin","tags":["administrator"]}"#.to_vec())),
            ("PUT", "users") => {
                self.users.insert(name, vec![sent]);
                201
            }
            ("PUT", "permissions" | "topic-permissions") => {
                self.users.get_mut(&name).unwrap().push(json!({ path.rsplit_once('/').unwrap().0: sent }));
                201
            }
            ("GET", "users") if self.users.contains_key(&name) => 200,
            ("DELETE", "users") if self.users.remove(&name).is_some() => 204,
            _ => 404,
        };
        Ok((status, b"{}".to_vec()))
    }
}

pub(crate) type Shared = Arc<Mutex<Broker>>;

pub(crate) async fn with_broker() -> (Harness, Shared) {
    let harness = Harness::start().await;
    let broker = Shared::default();
    broker.lock().unwrap().lets_in = FIRST;
    let server = Arc::clone(&broker);
    harness.doors.outgoing.answer(move |request| server.lock().unwrap().answer(request));
    harness.prepare("POST", "sys/mounts/mq", json!({ "type": "rabbitmq" })).await;
    let config = json!({ "connection_uri": format!("{BROKER}/"), "username": "admin", "password": "first" });
    harness.prepare("POST", "mq/config/connection", config).await;
    let role = json!({
        "tags": "monitoring,policymaker",
        "vhosts": r#"{"/": {"configure": "c", "write": "w", "read": ".*"}}"#,
        "vhost_topics": { "a/b": { "amq.topic": { "write": "", "read": "r" } } },
    });
    harness.prepare("POST", "mq/roles/app", role).await;
    (harness, broker)
}

/// How many users the broker has, once the server has done what it does by itself.
async fn users_after(harness: &Harness, broker: &Shared, seconds: u64) -> usize {
    for _ in 0..seconds {
        harness.advance(Duration::from_secs(1)).await;
    }
    harness.settle().await;
    broker.lock().unwrap().users.len()
}

#[tokio::test]
async fn a_user_is_made_with_all_that_its_role_says_and_goes_with_its_lease() {
    let (harness, broker) = with_broker().await;
    harness.prepare("POST", "mq/config/lease", json!({ "ttl": "1h", "max_ttl": 7200 })).await;
    let lease = harness.read("mq/config/lease", ROOT).await;
    assert_eq!(lease.at("/data"), &json!({ "ttl": 3600, "max_ttl": 7200 }));
    let made = harness.read("mq/creds/app", ROOT).await.expect_status(200);
    let (name, password) = (made.text_at("/data/username"), made.text_at("/data/password"));
    assert_eq!((made.at("/lease_duration"), made.at("/renewable")), (&json!(3600), &json!(true)));
    assert!(name.starts_with("root-") && name.len() == 41, "{name}");
    assert_eq!(password.len(), 36);
    let expected = json!([
        { "password": password, "tags": "monitoring,policymaker" },
        { "permissions/%2F": { "configure": "c", "write": "w", "read": ".*" } },
        { "topic-permissions/a%2Fb": { "exchange": "amq.topic", "write": "", "read": "r" } },
    ]);
    assert_eq!(json!(broker.lock().unwrap().users[&name]), expected);

    let id = made.text_at("/lease_id");
    let renewed = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id, "increment": "30m" })).await;
    assert_eq!(renewed.expect_status(200).at("/lease_duration"), &json!(1800));
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204));
    assert_eq!(users_after(&harness, &broker, 1).await, 0);

    // One that somebody else deleted is gone.
    let id = harness.read("mq/creds/app", ROOT).await.text_at("/lease_id");
    broker.lock().unwrap().users.clear();
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204));
    harness.settle().await;
    assert_eq!(harness.read("sys/leases/count?type=irrevocable", ROOT).await.at("/data/lease_count"), &json!(0));
}

#[tokio::test]
async fn a_user_that_is_there_is_not_overwritten_and_does_not_go_with_a_lease() {
    let (harness, broker) = with_broker().await;
    let config =
        json!({ "connection_uri": BROKER, "username": "admin", "password": "first", "username_template": "victim" });
    drop(harness.write("mq/config/connection", ROOT, config).await.expect_status(204));
    broker.lock().unwrap().users.insert("victim".to_owned(), vec![json!("as it was")]);
    drop(harness.write("mq/roles/taken", ROOT, json!({ "tags": "monitoring" })).await.expect_status(204));
    harness.read("mq/creds/taken", ROOT).await.expect_error(400, "there is a user \"victim\" already");
    assert_eq!(users_after(&harness, &broker, 400).await, 1);
    assert_eq!(broker.lock().unwrap().users["victim"], [json!("as it was")]);
}

#[tokio::test]
async fn what_a_failed_creation_leaves_is_taken_back() {
    let (harness, broker) = with_broker().await;
    let fail = |part: &'static str, how| broker.lock().unwrap().fails = Some((part, how));
    fail("permissions/%2F", Ok(400));
    let answer = harness.read("mq/creds/app", ROOT).await;
    answer.expect_error(400, "the broker says: vhost_not_found");
    broker.lock().unwrap().fails = None;
    assert_eq!(users_after(&harness, &broker, 5).await, 0);

    // Nothing was sent, so nothing is deleted.
    fail("", Err(OutgoingError::Unreached("refused".to_owned())));
    harness.read("mq/creds/app", ROOT).await.expect_error(502, "the broker could not be asked");
    {
        let mut broker = broker.lock().unwrap();
        broker.fails = None;
        broker.asked.clear();
    }
    assert_eq!(users_after(&harness, &broker, 5).await, 0);
    assert_eq!(broker.lock().unwrap().asked, Vec::<String>::new());

    // Nobody knows whether the user is there: the broker stopped to answer.
    fail("topic-permissions", Err(OutgoingError::TooSlow));
    harness.read("mq/creds/app", ROOT).await.expect_error(502, "the broker took too long to answer");
    broker.lock().unwrap().fails = None;
    assert_eq!(users_after(&harness, &broker, 5).await, 0);
}

#[tokio::test]
async fn a_user_goes_whatever_became_of_role_and_connection() {
    let (harness, broker) = with_broker().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(harness.read("mq/creds/app", ROOT).await.text_at("/lease_id"));
    }
    drop(harness.delete("mq/roles/app", ROOT).await.expect_status(204));
    let revoke = async |id: &String| {
        let body = json!({ "lease_id": id, "sync": true });
        drop(harness.write("sys/leases/revoke", ROOT, body).await.expect_status(204));
        users_after(&harness, &broker, 1).await
    };
    // The administrator got another password.
    broker.lock().unwrap().lets_in = SECOND;
    let config = json!({ "password": "second" });
    harness.prepare("POST", "mq/config/connection", config).await;
    assert_eq!(revoke(&ids[0]).await, 2);
    // Another one was configured by mistake, without asking the broker.
    broker.lock().unwrap().lets_in = FIRST;
    assert_eq!(revoke(&ids[1]).await, 1);
    // And then another broker; the mount goes as well.
    let config = json!({
        "connection_uri": "https://other.example.com", "username": "x", "password": "y", "verify_connection": false,
    });
    harness.prepare("POST", "mq/config/connection", config).await;
    drop(harness.delete("sys/mounts/mq", ROOT).await.expect_status(204));
    assert_eq!(users_after(&harness, &broker, 20).await, 0);
}

#[tokio::test]
async fn a_connection_is_verified_and_never_shown() {
    let (harness, _broker) = with_broker().await;
    let write = async |body: Value| harness.write("mq/config/connection", ROOT, body).await;
    write(json!({ "password": "wrong" })).await.expect_error(400, "refuses the configured username and password");
    drop(write(json!({ "password": "wrong", "verify_connection": false })).await.expect_status(204));
    drop(write(json!({ "password": "first" })).await.expect_status(204));
    drop(write(json!({ "username_template": "{{ .RoleName }}-{{ random 4 }}" })).await.expect_status(204));
    let made = harness.read("mq/creds/app", ROOT).await.expect_status(200);
    assert!(made.text_at("/data/username").starts_with("app-"));
    // A password is not handed on to a broker or for a user that it was not given for.
    write(json!({ "connection_uri": "https://other.example.com" })).await.expect_error(400, "missing password");
    write(json!({ "username": "other" })).await.expect_error(400, "missing password");
    for (body, text) in [
        (json!({ "connection_uri": "ftp://x" }), "missing password"),
        (json!({ "connection_uri": "https://a:b@x", "password": "p" }), "connection_uri must be"),
        (json!({ "username_template": "{{ .Nothing }}" }), "invalid username template"),
        (json!({ "username_template": ".." }), "cannot be one"),
    ] {
        write(body).await.expect_error(400, text);
    }
    harness.read("mq/config/connection", ROOT).await.expect_error(405, "unsupported operation");
    let open = json!({ "connection_uri": "http://b.example.com", "password": "p", "verify_connection": false });
    let warned = write(open).await;
    assert!(warned.bytes.is_empty() || warned.text_at("/warnings/0").contains("in the clear"));
}

#[tokio::test]
async fn roles_are_read_as_the_broker_will_and_shown_whole() {
    let (harness, _broker) = with_broker().await;
    let shown = harness.read("mq/roles/app", ROOT).await.expect_status(200);
    let expected = json!({
        "tags": "monitoring,policymaker",
        "vhosts": { "/": { "configure": "c", "write": "w", "read": ".*" } },
        "vhost_topics": { "a/b": { "amq.topic": { "write": "", "read": "r" } } },
    });
    assert_eq!(shown.at("/data"), &expected);
    assert_eq!(harness.list("mq/roles", ROOT).await.at("/data/keys"), &json!(["app"]));
    for (body, text) in [
        (json!({}), "both tags and vhosts not specified"),
        (json!({ "vhost_topics": { "/": { "x": { "read": "" } } } }), "both tags and vhosts not specified"),
        (json!({ "vhosts": "{" }), "failed to unmarshal vhosts"),
        (json!({ "vhosts": "[]" }), "failed to unmarshal vhosts"),
        (json!({ "vhosts": { "/": { "read": 1 } } }), "read is no text"),
        (json!({ "vhosts": { "..": { "read": "" } } }), "a name that cannot be one"),
        (json!({ "tags": "x", "vhost_topics": { "/": 1 } }), "failed to unmarshal vhost_topics"),
    ] {
        harness.write("mq/roles/bad", ROOT, body).await.expect_error(400, text);
    }
    harness.read("mq/creds/none", ROOT).await.expect_error(400, "unknown role: none");
    drop(harness.read("mq/roles/none", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn a_password_policy_makes_the_passwords() {
    let (harness, _broker) = with_broker().await;
    let policy = r#"length = 12 rule "charset" { charset = "xyz" }"#;
    harness.prepare("POST", "sys/policies/password/short", json!({ "policy": policy })).await;
    harness.prepare("POST", "mq/config/connection", json!({ "password_policy": "short" })).await;
    let password = harness.read("mq/creds/app", ROOT).await.text_at("/data/password");
    assert!(password.len() == 12 && password.chars().all(|letter| "xyz".contains(letter)));
    harness.prepare("POST", "mq/config/connection", json!({ "password_policy": "none" })).await;
    harness.read("mq/creds/app", ROOT).await.expect_error(400, "");
}
