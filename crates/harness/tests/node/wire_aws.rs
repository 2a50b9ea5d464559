//! `aws` against a fake of IAM and STS: what is asked for, what becomes of it when AWS fails in the middle, and rotations.
//! Signatures and policies are checked by the server that the documents' page runs against.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_env::Clock;
use tresor_env::outgoing::{Ask, OutgoingError, OutgoingRequest};

use tresor_harness::{Harness, ROOT};
use tresor_wire::time::rfc3339;

/// What was asked, by name.
type Form = BTreeMap<String, String>;

/// How something fails: in AWS's words, or without any.
pub(crate) type Failing = Result<(u16, &'static str), OutgoingError>;

/// A fake of AWS with users that have keys and whatever else was given to them.
#[derive(Default)]
pub(crate) struct Aws {
    /// The keys of users, by user.
    pub(crate) keys: BTreeMap<String, Vec<String>>,
    /// What else users have: how it is listed, and what it is called.
    pub(crate) belongings: BTreeSet<(String, &'static str, String)>,
    /// What was asked, and by which key.
    pub(crate) asked: Vec<(String, Form)>,
    /// Where, and for which region, in the same order.
    pub(crate) asked_at: Vec<(String, String)>,
    /// Servers that do not answer.
    down: Vec<&'static str>,
    /// Actions that fail like this, so many times.
    pub(crate) fails: Vec<(&'static str, usize, Failing)>,
    made: usize,
    /// When keys were made, where a test says so.
    dates: BTreeMap<String, String>,
    /// What time it is.
    pub(crate) now: Option<String>,
}

/// Actions that give something to a user, by how that is listed and called, and those that take it away.
const GIVEN: [(&str, &str, &str, &str); 3] = [
    ("AttachUserPolicy", "AttachedPolicies", "PolicyArn", "DetachUserPolicy"),
    ("PutUserPolicy", "PolicyNames", "PolicyName", "DeleteUserPolicy"),
    ("AddUserToGroup", "Groups", "GroupName", "RemoveUserFromGroup"),
];

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let pair = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The account that a key says that it is of.
fn account(key: &str) -> &'static str {
    if key.starts_with("AKIAFAR") { "2" } else { "1" }
}

type Said = Result<String, (u16, &'static str)>;

impl Aws {
    pub(crate) fn answer(&mut self, request: &OutgoingRequest) -> Result<(u16, Vec<u8>), OutgoingError> {
        let Ask::Post(body) = &request.ask else { unreachable!("only posts") };
        let body = std::str::from_utf8(body).unwrap();
        let pairs = body.split('&').map(|pair| pair.split_once('=').unwrap());
        let form: Form = pairs.map(|(name, value)| (decoded(name), decoded(value))).collect();
        let signed = &request.headers.iter().find(|(name, _)| *name == "authorization").unwrap().1;
        // KEY/DATE/REGION/SERVICE/aws4_request
        let scope: Vec<&str> = signed.split_once("Credential=").unwrap().1.split('/').collect();
        let key = scope[0].to_owned();
        let action = form["Action"].clone();
        self.asked.push((key.clone(), form.clone()));
        self.asked_at.push((request.url.clone(), scope[2].to_owned()));
        if self.down.iter().any(|host| request.url.contains(host)) {
            return Err(OutgoingError::Unreached("down".into()));
        }
        let failing = self.fails.iter_mut().find(|(wanted, times, _)| *wanted == action && *times > 0);
        let said = match failing {
            Some((_, times, how)) => {
                *times -= 1;
                let how = how.clone();
                if how == Err(OutgoingError::TooSlow) {
                    // It is done all the same.
                    drop(self.said(&key, &action, &form));
                }
                Err(how?)
            }
            None => self.said(&key, &action, &form),
        };
        Ok(match said {
            Ok(said) => {
                let text = format!("<{action}Response><{action}Result>{said}</{action}Result></{action}Response>");
                (200, text.into_bytes())
            }
            Err((status, code)) => {
                let text =
                    format!("<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>");
                (status, text.into_bytes())
            }
        })
    }

    /// What is said to who asks with a key.
    fn said(&mut self, key: &str, action: &str, form: &Form) -> Said {
        let owner =
            self.keys.iter().find(|(_, keys)| keys.iter().any(|known| known == key)).map(|(user, _)| user.clone());
        let owner = owner.or_else(|| key.starts_with("ASIA").then(|| "session".to_owned()));
        let owner = owner.ok_or((403, "InvalidClientTokenId"))?;
        let user = form.get("UserName").cloned().unwrap_or(owner);
        let absent = (404, "NoSuchEntity");
        let member = |name: &str, value: &str| format!("<member><{name}>{value}</{name}></member>");
        match action {
            "GetCallerIdentity" => return Ok(format!("<Arn>x</Arn><Account>{}</Account>", account(key))),
            "GetAccessKeyInfo" => return Ok(format!("<Account>{}</Account>", account(&form["AccessKeyId"]))),
            "AssumeRole" | "GetFederationToken" | "GetSessionToken" => {
                return Ok("<Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                           <SessionToken>t</SessionToken><Expiration>2126-01-01T00:00:00Z</Expiration></Credentials>\
                           <AssumedRoleUser><Arn>arn:assumed</Arn></AssumedRoleUser>"
                    .to_owned());
            }
            "ListAttachedGroupPolicies" => {
                return Ok(format!("<AttachedPolicies>{}</AttachedPolicies>", member("PolicyArn", "arn:g")));
            }
            "ListGroupPolicies" => return Ok("<PolicyNames><member>inline</member></PolicyNames>".to_owned()),
            "GetGroupPolicy" => {
                return Ok(
                    "<PolicyDocument>%7B%22Statement%22%3A%7B%22Sid%22%3A%22g%22%7D%7D</PolicyDocument>".to_owned()
                );
            }
            "CreateUser" => {
                self.keys.insert(user, Vec::new());
                return Ok(String::new());
            }
            _ => {}
        }
        let keys = self.keys.get_mut(&user).ok_or(absent)?;
        match action {
            "GetUser" => return Ok(format!("<User><UserName>{user}</UserName><UserId>ID-{user}</UserId></User>")),
            "CreateAccessKey" if keys.len() == 2 => return Err((409, "LimitExceeded")),
            "CreateAccessKey" => {
                self.made += 1;
                keys.push(format!("AKIA{}", self.made));
                let made = &keys[keys.len() - 1];
                if let Some(now) = &self.now {
                    self.dates.insert(made.clone(), now.clone());
                }
                return Ok(format!(
                    "<AccessKey><AccessKeyId>{made}</AccessKeyId><SecretAccessKey>secret-of-{made}</SecretAccessKey></AccessKey>"
                ));
            }
            "ListAccessKeys" => {
                let listed = keys.iter().enumerate().map(|(at, key)| {
                    let usual = format!("2020-01-01T00:00:{at:02}Z");
                    let date = self.dates.get(key).unwrap_or(&usual);
                    format!("<member><AccessKeyId>{key}</AccessKeyId><CreateDate>{date}</CreateDate></member>")
                });
                return Ok(format!("<AccessKeyMetadata>{}</AccessKeyMetadata>", listed.collect::<String>()));
            }
            "DeleteAccessKey" => {
                let before = keys.len();
                keys.retain(|key| *key != form["AccessKeyId"]);
                return if keys.len() < before { Ok(String::new()) } else { Err(absent) };
            }
            "DeleteUser" => {
                let is_bare = keys.is_empty() && !self.belongings.iter().any(|(of, ..)| *of == user);
                return if is_bare {
                    self.keys.remove(&user).map(|_| String::new()).ok_or(absent)
                } else {
                    Err((409, "DeleteConflict"))
                };
            }
            _ => {}
        }
        for (give, list, name, take) in GIVEN {
            let named = form.get(name).cloned().unwrap_or_default();
            if action == give {
                self.belongings.insert((user.clone(), list, named));
                return Ok(String::new());
            }
            if action == take {
                return if self.belongings.remove(&(user.clone(), list, named)) {
                    Ok(String::new())
                } else {
                    Err(absent)
                };
            }
        }
        let lists = [("ListAttachedUserPolicies", 0), ("ListUserPolicies", 1), ("ListGroupsForUser", 2)];
        let (_, at) = lists.into_iter().find(|(list, _)| *list == action).ok_or((400, "InvalidAction"))?;
        let (_, list, name, _) = GIVEN[at];
        let known = self.belongings.iter().filter(|(of, kind, _)| *of == user && *kind == list);
        let entries =
            known.map(|(.., value)| if at == 1 { format!("<member>{value}</member>") } else { member(name, value) });
        Ok(format!("<{list}>{}</{list}>", entries.collect::<String>()))
    }

    fn actions(&self) -> Vec<String> {
        self.asked.iter().map(|(_, form)| form["Action"].clone()).collect()
    }

    /// The last time that something was asked for.
    fn last(&self, action: &str) -> &Form {
        &self.asked.iter().rfind(|(_, form)| form["Action"] == action).unwrap().1
    }
}

pub(crate) type Shared = Arc<Mutex<Aws>>;

pub(crate) async fn with_aws() -> (Harness, Shared) {
    let harness = Harness::start().await;
    let aws = Shared::default();
    aws.lock().unwrap().keys.insert("tresor".to_owned(), vec!["AKIAROOT".to_owned()]);
    let server = Arc::clone(&aws);
    harness.doors.outgoing.answer(move |request| server.lock().unwrap().answer(request));
    harness.prepare("POST", "sys/mounts/aws", json!({ "type": "aws" })).await;
    let root = json!({ "access_key": "AKIAROOT", "secret_key": "planted-secret-key", "max_retries": 0 });
    harness.prepare("POST", "aws/config/root", root).await;
    (harness, aws)
}

/// Lets time pass.
pub(crate) async fn pass(harness: &Harness, seconds: u64) {
    for _ in 0..seconds {
        harness.advance(Duration::from_secs(1)).await;
    }
    harness.settle().await;
}

pub(crate) fn users(aws: &Shared) -> Vec<String> {
    aws.lock().unwrap().keys.keys().filter(|user| *user != "tresor").cloned().collect()
}

pub(crate) fn user_role() -> Value {
    json!({
        "credential_type": "iam_user",
        "policy_document": "{ \"Statement\": [] }",
        "policy_arns": ["arn:aws:iam::aws:policy/A", "arn:aws:iam::aws:policy/B"],
        "iam_groups": "g,h",
        "iam_tags": { "team": "x y" },
        "user_path": "/made/",
        "permissions_boundary_arn": "arn:aws:iam::aws:policy/Boundary",
    })
}

#[tokio::test]
async fn a_user_is_made_with_all_that_its_role_says_and_taken_apart() {
    let (harness, aws) = with_aws().await;
    harness.prepare("POST", "aws/config/lease", json!({ "lease": "1h", "lease_max": "2h" })).await;
    harness.prepare("POST", "aws/roles/app", user_role()).await;
    let made = harness.read("aws/creds/app", ROOT).await.expect_status(200);
    let user = users(&aws).pop().unwrap();
    assert!(user.starts_with("vault-root-app-") && user.len() <= 64, "{user}");
    assert_eq!((made.at("/lease_duration"), made.at("/renewable")), (&json!(3600), &json!(true)));
    assert_eq!(made.at("/data/secret_key"), &json!(format!("secret-of-{}", made.text_at("/data/access_key"))));
    assert_eq!((made.at("/data/security_token"), made.at("/data/session_token")), (&Value::Null, &Value::Null));
    {
        let aws = aws.lock().unwrap();
        let expected = [
            "CreateUser",
            "AttachUserPolicy",
            "AttachUserPolicy",
            "PutUserPolicy",
            "AddUserToGroup",
            "AddUserToGroup",
            "CreateAccessKey",
        ];
        assert_eq!(aws.actions(), expected);
        let (created, policy) = (aws.last("CreateUser"), aws.last("PutUserPolicy"));
        for (name, value) in [
            ("Path", "/made/"),
            ("PermissionsBoundary", "arn:aws:iam::aws:policy/Boundary"),
            ("Tags.member.1.Key", "team"),
            ("Tags.member.1.Value", "x y"),
            ("Version", "2010-05-08"),
        ] {
            assert_eq!(created[name], value, "{name}");
        }
        assert_eq!((policy["PolicyName"].as_str(), policy["PolicyDocument"].as_str()), ("app", r#"{"Statement":[]}"#));
    }
    pass(&harness, 301).await;
    let id = made.text_at("/lease_id");
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204));
    pass(&harness, 1).await;
    assert_eq!(users(&aws), Vec::<String>::new());
    assert!(aws.lock().unwrap().belongings.is_empty());
}

#[tokio::test]
async fn what_a_failed_creation_leaves_is_taken_back() {
    let (harness, aws) = with_aws().await;
    harness.prepare("POST", "aws/roles/app", user_role()).await;
    let fail = |action, how| aws.lock().unwrap().fails = vec![(action, 1, how)];
    fail("AddUserToGroup", Ok((404, "NoSuchEntity")));
    harness.read("aws/creds/app", ROOT).await.expect_error(400, "AWS says NoSuchEntity: no");
    pass(&harness, 10).await;
    assert_eq!(users(&aws), Vec::<String>::new());
    // Whether the key was made nobody knows.
    fail("CreateAccessKey", Err(OutgoingError::TooSlow));
    harness.read("aws/creds/app", ROOT).await.expect_error(502, "AWS took too long to answer");
    pass(&harness, 10).await;
    assert_eq!(users(&aws), Vec::<String>::new());
    // Nothing was made, so there is nothing to take back.
    fail("CreateUser", Ok((403, "AccessDenied")));
    aws.lock().unwrap().asked.clear();
    harness.read("aws/creds/app", ROOT).await.expect_error(400, "AWS says AccessDenied: no");
    pass(&harness, 10).await;
    assert_eq!(aws.lock().unwrap().actions(), ["CreateUser"]);
}

#[tokio::test]
async fn a_user_that_aws_does_not_know_is_gone_once_it_is_old_enough() {
    let (harness, aws) = with_aws().await;
    harness.prepare("POST", "aws/roles/app", json!({ "credential_type": "iam_user", "policy_document": "{}" })).await;
    let id = harness.read("aws/creds/app", ROOT).await.text_at("/lease_id");
    // A part of AWS that does not know it yet.
    aws.lock().unwrap().fails = vec![("ListAccessKeys", 1, Ok((404, "NoSuchEntity")))];
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await);
    pass(&harness, 120).await;
    assert_eq!(users(&aws), Vec::<String>::new());
    // One that somebody else deleted.
    let id = harness.read("aws/creds/app", ROOT).await.text_at("/lease_id");
    let gone = users(&aws).pop().unwrap();
    {
        let mut aws = aws.lock().unwrap();
        aws.keys.remove(&gone);
        aws.belongings.clear();
    }
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await);
    for _ in 0..40 {
        harness.advance(Duration::from_secs(60)).await;
    }
    let counts = harness.read("sys/leases/count?type=irrevocable", ROOT).await;
    assert_eq!(counts.at("/data/lease_count"), &json!(0));
}

#[tokio::test]
async fn keys_of_sts_are_limited_as_the_role_says_and_end_by_themselves() {
    let (harness, aws) = with_aws().await;
    let roles = ["arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b"];
    let assumed = json!({
        "credential_type": "assumed_role", "role_arns": roles, "policy_document": r#"{"Statement":[{"Sid":"own"}]}"#,
        "policy_arns": "arn:own", "iam_groups": "g", "external_id": "ext", "session_tags": { "k": "v" },
        "default_sts_ttl": "20m", "max_sts_ttl": "30m",
    });
    harness.prepare("POST", "aws/roles/assumed", assumed).await;
    harness.read("aws/sts/assumed", ROOT).await.expect_error(400, "unable to determine one");
    let other = harness.read("aws/sts/assumed?role_arn=arn:aws:iam::1:role/c", ROOT).await;
    other.expect_error(400, "not in allowed role arns");
    let path = "aws/creds/assumed?role_arn=arn:aws:iam::1:role/b&role_session_name=a%20b&ttl=2h";
    let given = harness.read(path, ROOT).await.expect_status(200);
    assert_eq!((given.at("/renewable"), given.at("/lease_duration")), (&json!(false), &json!(1800)));
    assert_eq!((given.at("/data/session_token"), given.at("/data/security_token")), (&json!("t"), &json!("t")));
    assert_eq!(given.at("/data/arn"), &json!("arn:assumed"));
    {
        let aws = aws.lock().unwrap();
        let asked = aws.last("AssumeRole");
        for (name, value) in [
            ("RoleArn", roles[1]),
            ("RoleSessionName", "a_b"),
            ("ExternalId", "ext"),
            ("DurationSeconds", "1800"),
            ("Policy", r#"{"Statement":[{"Sid":"g"},{"Sid":"own"}],"Version":"2012-10-17"}"#),
            ("PolicyArns.member.1.arn", "arn:own"),
            ("PolicyArns.member.2.arn", "arn:g"),
            ("Tags.member.1.Key", "k"),
            ("Tags.member.1.Value", "v"),
        ] {
            assert_eq!(asked[name], value, "{name}");
        }
    }
    let id = given.text_at("/lease_id");
    let renewed = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await;
    assert_eq!(renewed.status, 400);
    aws.lock().unwrap().asked.clear();
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204));
    pass(&harness, 3).await;
    assert_eq!(aws.lock().unwrap().actions(), Vec::<String>::new());

    let session = json!({ "credential_type": "session_token", "mfa_serial_number": "arn:mfa" });
    harness.prepare("POST", "aws/roles/session", session).await;
    drop(harness.write("aws/sts/session", ROOT, json!({ "mfa_code": "123456", "ttl": 900 })).await.expect_status(200));
    let asked = aws.lock().unwrap().last("GetSessionToken").clone();
    assert_eq!((asked["SerialNumber"].as_str(), asked["TokenCode"].as_str()), ("arn:mfa", "123456"));

    harness.prepare("POST", "aws/roles/bare", json!({ "credential_type": "federation_token" })).await;
    harness.read("aws/sts/bare", ROOT).await.expect_error(400, "must specify at least one of policy_arns");
    let federated = json!({ "credential_type": "federation_token", "policy_arns": "arn:own" });
    harness.prepare("POST", "aws/roles/federated", federated).await;
    drop(harness.read("aws/sts/federated", ROOT).await.expect_status(200));
    let asked = aws.lock().unwrap().last("GetFederationToken").clone();
    assert!(asked["Name"].starts_with("vault-") && asked["Name"].len() <= 32 && asked["DurationSeconds"] == "3600");
}

#[tokio::test]
async fn the_key_is_rotated_and_what_was_made_with_the_old_one_still_goes() {
    let (harness, aws) = with_aws().await;
    harness.prepare("POST", "aws/roles/app", json!({ "credential_type": "iam_user", "policy_document": "{}" })).await;
    let id = harness.read("aws/creds/app", ROOT).await.text_at("/lease_id");
    // Not every part of AWS knows the new key at once.
    aws.lock().unwrap().fails = vec![];
    let rotated = harness.write("aws/config/rotate-root", ROOT, json!({})).await.expect_status(200);
    let key = rotated.text_at("/data/access_key");
    pass(&harness, 5).await;
    assert_eq!(aws.lock().unwrap().keys["tresor"], [key.as_str()]);
    let shown = harness.read("aws/config/root", ROOT).await;
    assert_eq!(shown.at("/data/access_key"), &json!(key));
    assert!(!String::from_utf8_lossy(&shown.bytes).contains("secret-of"));
    pass(&harness, 301).await;
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204));
    pass(&harness, 1).await;
    assert_eq!(users(&aws), Vec::<String>::new());
    // A second key is somebody's.
    aws.lock().unwrap().keys.get_mut("tresor").unwrap().push("AKIAOTHER".to_owned());
    harness.write("aws/config/rotate-root", ROOT, json!({})).await.expect_error(400, "has another key");
    assert_eq!(aws.lock().unwrap().keys["tresor"], [key.as_str(), "AKIAOTHER"]);
}

#[tokio::test]
async fn an_old_key_that_cannot_be_deleted_yet_is_deleted_later() {
    let (harness, aws) = with_aws().await;
    aws.lock().unwrap().fails = vec![("DeleteAccessKey", 2, Ok((500, "InternalFailure")))];
    let key = harness.write("aws/config/rotate-root", ROOT, json!({})).await.text_at("/data/access_key");
    harness.write("aws/config/rotate-root", ROOT, json!({})).await.expect_error(400, "being rotated already");
    for _ in 0..20 {
        harness.advance(Duration::from_secs(60)).await;
    }
    harness.settle().await;
    assert_eq!(aws.lock().unwrap().keys["tresor"], [key.as_str()]);
    drop(harness.write("aws/config/rotate-root", ROOT, json!({})).await.expect_status(200));
}

#[tokio::test]
async fn a_rotation_that_nobody_heard_the_end_of_leaves_the_key_that_works() {
    let (harness, aws) = with_aws().await;
    aws.lock().unwrap().fails = vec![("CreateAccessKey", 1, Err(OutgoingError::TooSlow))];
    aws.lock().unwrap().now = Some(rfc3339(harness.doors.clock.wall()));
    let rotate = async || harness.write("aws/config/rotate-root", ROOT, json!({})).await;
    rotate().await.expect_error(502, "AWS took too long to answer");
    assert_eq!(aws.lock().unwrap().keys["tresor"], ["AKIAROOT", "AKIA1"]);
    assert_eq!(harness.read("aws/config/root", ROOT).await.at("/data/access_key"), &json!("AKIAROOT"));
    rotate().await.expect_error(400, "being rotated already");
    for _ in 0..10 {
        harness.advance(Duration::from_secs(60)).await;
    }
    harness.settle().await;
    assert_eq!(aws.lock().unwrap().keys["tresor"], ["AKIAROOT"]);
    drop(rotate().await.expect_status(200));
}

#[tokio::test]
async fn the_key_is_rotated_by_itself_when_its_time_has_come() {
    let (harness, aws) = with_aws().await;
    let write = async |body: Value| harness.write("aws/config/root", ROOT, body).await;
    for (body, text) in [
        (json!({ "rotation_period": "5s" }), "10 seconds or more"),
        (json!({ "rotation_period": "1h", "rotation_schedule": "0 3 * * *" }), "mutually exclusive"),
        (json!({ "rotation_window": "1h" }), "rotation_window without rotation_schedule"),
        (json!({ "rotation_schedule": "often" }), "could not parse rotation_schedule"),
    ] {
        write(body).await.expect_error(400, text);
    }
    drop(write(json!({ "rotation_period": "1h" })).await.expect_status(204));
    let shown = harness.read("aws/config/root", ROOT).await;
    assert_eq!(shown.at("/data/rotation_period"), &json!(3600));
    let used = async || {
        harness.settle().await;
        harness.read("aws/config/root", ROOT).await.text_at("/data/access_key")
    };
    let later = async |seconds: u64| {
        harness.advance(Duration::from_secs(seconds)).await;
        pass(&harness, 5).await;
    };
    later(3500).await;
    assert_eq!(used().await, "AKIAROOT");
    later(100).await;
    let first = used().await;
    assert_ne!(first, "AKIAROOT");
    assert_eq!(aws.lock().unwrap().keys["tresor"], [first.as_str()], "the old one is deleted");
    // What fails is tried again, and a rotation by order counts as one.
    aws.lock().unwrap().fails = vec![("GetUser", 1, Ok((500, "InternalFailure")))];
    later(3600).await;
    assert_eq!(used().await, first);
    later(125).await;
    let second = used().await;
    assert_ne!(second, first);
    later(1800).await;
    let ordered = harness.write("aws/config/rotate-root", ROOT, json!({})).await.text_at("/data/access_key");
    later(1900).await;
    assert_eq!(used().await, ordered);
    // A restart forgets nothing; what is disabled or without a time is left alone.
    drop(write(json!({ "disable_automated_rotation": true })).await.expect_status(204));
    later(7200).await;
    assert_eq!(used().await, ordered);
    drop(write(json!({ "disable_automated_rotation": false })).await.expect_status(204));
    later(3700).await;
    let third = used().await;
    assert_ne!(third, ordered);
    drop(write(json!({ "rotation_period": 0 })).await.expect_status(204));
    later(7200).await;
    assert_eq!(used().await, third);
    assert!(harness.read("aws/config/root", ROOT).await.at("/data/rotation_period").is_null());
}

#[tokio::test]
async fn a_static_role_takes_a_user_over_and_makes_its_key_anew() {
    let (harness, aws) = with_aws().await;
    aws.lock().unwrap().keys.insert("app".to_owned(), vec!["AKIAX".to_owned(), "AKIAY".to_owned()]);
    let write = async |body: Value| harness.write("aws/static-roles/r", ROOT, body).await;
    for (body, text) in [
        (json!({ "rotation_period": "1h" }), "missing \\\"username\\\" parameter"),
        (json!({ "username": "app" }), "missing \\\"rotation_period\\\" parameter"),
        (json!({ "username": "app", "rotation_period": "10s" }), "must be greater than 60.00 seconds"),
        (json!({ "username": "app", "rotation_period": "1h", "rotation_schedule": "0 0 * * *" }), "only one of"),
        (json!({ "username": "none", "rotation_period": "1h" }), "NoSuchEntity"),
    ] {
        write(body).await.expect_error(400, &text.replace('\\', ""));
        drop(harness.read("aws/static-roles/r", ROOT).await.expect_status(404));
    }
    let made = write(json!({ "username": "app", "rotation_period": "1h" })).await.expect_status(200);
    assert_eq!(made.at("/data"), &json!({ "name": "r", "id": "ID-app", "username": "app", "rotation_period": 3600 }));
    let key = async || harness.read("aws/static-creds/r", ROOT).await.expect_status(200).text_at("/data/access_key");
    let first = key().await;
    assert_eq!(aws.lock().unwrap().keys["app"], ["AKIAY", first.as_str()]);
    write(json!({ "username": "tresor" })).await.expect_error(400, "cannot be changed");
    for _ in 0..62 {
        harness.advance(Duration::from_secs(60)).await;
    }
    harness.settle().await;
    let second = key().await;
    assert_ne!(first, second);
    // The one before stays, and whoever had it may go on until the next.
    assert_eq!(aws.lock().unwrap().keys["app"], [first.as_str(), second.as_str()]);
    // What AWS does not do now it does later; until then the key in use is the one that works.
    aws.lock().unwrap().fails = vec![("CreateAccessKey", 1, Ok((500, "InternalFailure")))];
    for _ in 0..90 {
        harness.advance(Duration::from_secs(60)).await;
    }
    harness.settle().await;
    let third = key().await;
    assert_eq!(aws.lock().unwrap().keys["app"], [second.as_str(), third.as_str()]);
    drop(harness.delete("aws/static-roles/r", ROOT).await.expect_status(204));
    assert_eq!(aws.lock().unwrap().keys["app"], [second.as_str()]);
    drop(harness.read("aws/static-creds/r", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn a_user_of_another_account_is_reached_by_a_role_that_is_assumed() {
    let (harness, aws) = with_aws().await;
    aws.lock().unwrap().keys.insert("app".to_owned(), Vec::new());
    let role = json!({
        "username": "app", "rotation_period": "1h", "assume_role_arn": "arn:aws:iam::2:role/keeper",
        "assume_role_session_name": "of-tresor", "external_id": "planted-external-id",
    });
    let refused = vec![("AssumeRole", 1, Ok((403, "AccessDenied")))];
    aws.lock().unwrap().fails = refused;
    harness.write("aws/static-roles/r", ROOT, role.clone()).await.expect_error(400, "AccessDenied");
    drop(harness.read("aws/static-creds/r", ROOT).await.expect_status(404));
    assert_eq!(aws.lock().unwrap().actions(), ["AssumeRole"], "nothing else is asked for without the role");

    aws.lock().unwrap().asked.clear();
    drop(harness.write("aws/static-roles/r", ROOT, role).await.expect_status(200));
    {
        let aws = aws.lock().unwrap();
        let assumed = aws.last("AssumeRole");
        let part = |name| assumed.get(name).map(String::as_str);
        assert_eq!(part("RoleArn"), Some("arn:aws:iam::2:role/keeper"));
        assert_eq!(part("RoleSessionName"), Some("of-tresor"));
        assert_eq!(part("ExternalId"), Some("planted-external-id"));
        // The configured keys assume the role; what is done to the user is done by the session, and the new key is tried.
        for (key, form) in &aws.asked {
            let expected = match form["Action"].as_str() {
                "AssumeRole" => "AKIAROOT",
                "GetCallerIdentity" => aws.keys["app"][0].as_str(),
                _ => "ASIA1",
            };
            assert_eq!(key, expected, "{}", form["Action"]);
        }
    }
    let first = harness.read("aws/static-creds/r", ROOT).await.expect_status(200).text_at("/data/access_key");
    // A rotation assumes it again: sessions end.
    aws.lock().unwrap().asked.clear();
    for _ in 0..62 {
        harness.advance(Duration::from_secs(60)).await;
    }
    harness.settle().await;
    let second = harness.read("aws/static-creds/r", ROOT).await.expect_status(200).text_at("/data/access_key");
    assert_ne!(first, second);
    assert!(aws.lock().unwrap().actions().contains(&"AssumeRole".to_owned()));
}

#[tokio::test]
async fn sts_is_asked_elsewhere_when_it_does_not_answer() {
    let (harness, aws) = with_aws().await;
    let root = json!({
        "sts_endpoint": "sts.one.example", "sts_region": "eu-west-1",
        "sts_fallback_endpoints": "sts.two.example,sts.three.example", "sts_fallback_regions": "eu-west-2,eu-west-3",
    });
    harness.prepare("POST", "aws/config/root", root).await;
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::1:role/a" });
    harness.prepare("POST", "aws/roles/r", role).await;
    let ask = async || harness.read("aws/creds/r", ROOT).await;
    let places = || std::mem::take(&mut aws.lock().unwrap().asked_at);
    let at = |host: &str, region: &str| (format!("https://{host}/"), region.to_owned());
    let (one, two, three) =
        (at("sts.one.example", "eu-west-1"), at("sts.two.example", "eu-west-2"), at("sts.three.example", "eu-west-3"));

    drop(ask().await.expect_status(200));
    assert_eq!(places(), std::slice::from_ref(&one), "the first one answers");
    aws.lock().unwrap().down = vec!["sts.one.example", "sts.two.example"];
    drop(ask().await.expect_status(200));
    assert_eq!(places(), [one.clone(), two.clone(), three.clone()], "each is asked in the name of its own region");
    aws.lock().unwrap().down.clear();
    aws.lock().unwrap().fails = vec![("AssumeRole", 1, Ok((403, "AccessDenied")))];
    ask().await.expect_error(400, "AccessDenied");
    assert_eq!(places(), std::slice::from_ref(&one), "a refusal is an answer");
    aws.lock().unwrap().down = vec!["sts."];
    ask().await.expect_error(502, "could not be asked");
    assert_eq!(places(), [one, two, three]);
}

#[tokio::test]
async fn the_configuration_is_changed_part_by_part_and_its_secret_never_shown() {
    let (harness, _aws) = with_aws().await;
    let write = async |body: Value| harness.write("aws/config/root", ROOT, body).await;
    drop(write(json!({ "region": "eu-central-1" })).await.expect_status(204));
    let shown = harness.read("aws/config/root", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/access_key"), shown.at("/data/region")), (&json!("AKIAROOT"), &json!("eu-central-1")));
    assert!(!String::from_utf8_lossy(&shown.bytes).contains("planted"));
    for (body, text) in [
        (json!({ "access_key": "AKIAOTHER" }), "needs its secret_key"),
        (json!({ "iam_endpoint": "https://x/path" }), "iam_endpoint must be a host"),
        (json!({ "role_arn": "arn:r", "identity_token_audience": "a" }), "need an issuer of identity tokens"),
        (json!({ "sts_fallback_endpoints": "a,b", "sts_fallback_regions": "c" }), "as many entries"),
        (json!({ "username_template": "{{ .Nothing }}" }), "unable to generate a username"),
        (json!({ "username_template": "{{ random 65 }}" }), "exceeds the IAM username length limits of 64 chars"),
    ] {
        write(body).await.expect_error(400, text);
    }
    drop(write(json!({ "iam_endpoint": "localhost", "sts_endpoint": "localhost" })).await.expect_status(204));
    drop(harness.read("aws/config/lease", ROOT).await.expect_status(404));
    harness
        .write("aws/config/lease", ROOT, json!({ "lease": "1h" }))
        .await
        .expect_error(400, "'lease_max' is a required");
    harness.prepare("POST", "aws/config/lease", json!({ "lease": "60s", "lease_max": "120s" })).await;
    let lease = harness.read("aws/config/lease", ROOT).await;
    assert_eq!(lease.at("/data"), &json!({ "lease": "1m0s", "lease_max": "2m0s" }));
}

#[tokio::test]
async fn a_role_that_contradicts_itself_is_refused_and_an_older_one_is_read() {
    let (harness, _aws) = with_aws().await;
    let write = async |body: Value| harness.write("aws/roles/r", ROOT, body).await;
    for (body, text) in [
        (json!({}), "did not supply credential_type"),
        (json!({ "credential_type": "cat" }), "unrecognized credential type: cat"),
        (json!({ "credential_type": "iam_user", "role_arns": "a" }), "cannot supply role_arns"),
        (json!({ "credential_type": "iam_user", "default_sts_ttl": 60 }), "default_sts_ttl parameter only valid"),
        (json!({ "credential_type": "assumed_role", "default_sts_ttl": 61, "max_sts_ttl": 60 }), "less than or equal"),
        (json!({ "credential_type": "assumed_role", "user_path": "/a/" }), "user_path parameter only valid"),
        (json!({ "credential_type": "iam_user", "user_path": "a" }), "value for user_path is invalid"),
        (json!({ "credential_type": "iam_user", "permissions_boundary_arn": "x" }), "invalid permissions_boundary_arn"),
        (json!({ "credential_type": "iam_user", "external_id": "x" }), "cannot supply external_id"),
        (json!({ "credential_type": "iam_user", "mfa_serial_number": "x" }), "cannot supply mfa_serial_number"),
        (json!({ "credential_type": "iam_user", "policy_document": "{" }), "cannot parse policy document"),
        (json!({ "policy": "{}", "arn": "arn:x" }), "only one of policy or arn"),
        (
            json!({ "policy": "{}", "credential_type": "iam_user" }),
            "cannot supply deprecated role or policy parameters",
        ),
        (json!({ "arn": "arn:aws:iam::1:user/x" }), "unable to parse supplied data"),
    ] {
        write(body).await.expect_error(400, text);
    }
    let old = write(json!({ "policy": "{ \"Statement\": [] }" })).await.expect_status(200);
    assert!(old.text_at("/warnings/0").contains("legacy role or policy parameter"));
    let shown = harness.read("aws/roles/r", ROOT).await;
    assert_eq!(shown.at("/data/credential_type"), &json!("iam_user,federation_token"));
    assert_eq!(shown.at("/data/policy_document"), &json!(r#"{"Statement":[]}"#));
    drop(harness.read("aws/creds/r", ROOT).await.expect_status(200));
    drop(harness.read("aws/sts/r", ROOT).await.expect_status(200));
    drop(write(json!({ "arn": "arn:aws:iam::1:role/x" })).await.expect_status(200));
    harness.read("aws/creds/r", ROOT).await.expect_error(400, "not allowed for legacy roles");
    assert_eq!(harness.list("aws/roles", ROOT).await.at("/data/keys"), &json!(["r"]));
    drop(harness.delete("aws/roles/r", ROOT).await.expect_status(204));
    harness.read("aws/creds/r", ROOT).await.expect_error(400, "Role \"r\" not found");
}
