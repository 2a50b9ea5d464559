//! `aws` without keys of its own: where the machine's are looked for, in which order, and who may have them. The agent of a
//! container and the machine's metadata are fakes; AWS is the fake of [`wire_aws`](crate::wire_aws).
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tresor_env::outgoing::{Ask, OutgoingError, OutgoingRequest};
use tresor_harness::{Answer, Harness, ROOT};

use crate::wire_aws::{Aws, pass, with_aws};

/// What the fakes saw.
#[derive(Default)]
struct Seen {
    aws: Aws,
    /// The session tokens that AWS was shown, in order.
    tokens: Vec<Option<String>>,
    /// What else was asked: how, where, and with which header.
    others: Vec<String>,
    /// The roles that keys assumed: by which, how, and where.
    roles: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

/// A fake of the container's agent and of the machine's metadata, of which only the second version answers.
fn fake_machine(request: &OutgoingRequest) -> (u16, String) {
    let keys = |of: &str| {
        (200, json!({ "AccessKeyId": of, "SecretAccessKey": "planted-secret", "Token": format!("token-of-{of}") }))
    };
    let header = |name: &str| {
        let found = request.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.to_string()).unwrap_or_default()
    };
    let has_token = header("x-aws-ec2-metadata-token") == "metadata-token";
    let (status, said) = match (&request.ask, request.url.as_str()) {
        (Ask::Put(_), "http://169.254.169.254/latest/api/token")
            if header("x-aws-ec2-metadata-token-ttl-seconds") == "60" =>
        {
            return (200, "metadata-token".to_owned());
        }
        (Ask::Get, "http://169.254.169.254/latest/meta-data/iam/security-credentials/") if has_token => {
            return (200, "the-role\n".to_owned());
        }
        (Ask::Get, "http://169.254.169.254/latest/meta-data/iam/security-credentials/the-role") if has_token => {
            keys("AKIAMETADATA")
        }
        (Ask::Get, "http://169.254.170.2/v2/credentials/x") => keys("AKIATASK"),
        (Ask::Get, "http://169.254.170.23/v1/credentials") if header("authorization") == "pod-token" => keys("AKIAPOD"),
        _ => (401, json!({})),
    };
    (status, said.to_string())
}

/// A fake of STS, which lets one role be assumed by two tokens.
fn fake_sts(request: &OutgoingRequest) -> Option<(u16, String)> {
    let Ask::Post(body) = &request.ask else { return None };
    let form = String::from_utf8_lossy(body);
    let token = form.strip_prefix("Action=AssumeRoleWithWebIdentity&")?.rsplit_once("&WebIdentityToken=")?.1;
    let is_known = form.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fpod&");
    let key = match token {
        "first-token" if is_known => "AKIAWEB1",
        "second-token" if is_known => "AKIAWEB2",
        _ => {
            let said = format!("<E><Error><Code>InvalidIdentityToken</Code><Message>{token}</Message></Error></E>");
            return Some((400, said));
        }
    };
    let keys = format!(
        "<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>planted-secret</SecretAccessKey><SessionToken>t</SessionToken>"
    );
    let name = "AssumeRoleWithWebIdentity";
    Some((
        200,
        format!("<{name}Response><{name}Result><Credentials>{keys}</Credentials></{name}Result></{name}Response>"),
    ))
}

/// A fake of STS for roles that keys assume: who asks, for which role, how, and where; and the answer.
fn fake_assumption(request: &OutgoingRequest) -> Option<(String, u16, String)> {
    let Ask::Post(body) = &request.ask else { return None };
    let form = String::from_utf8_lossy(body);
    let form = form.strip_prefix("Action=AssumeRole&")?;
    let part = |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let name = part("RoleArn")?.strip_prefix("arn%3Aaws%3Aiam%3A%3A1%3Arole%2F")?;
    let signed = request.headers.iter().find(|(known, _)| known == "authorization")?.1.to_string();
    let (by, scope) = signed.split_once("Credential=")?.1.split_once('/')?;
    let place = request.url.strip_prefix("https://")?.strip_suffix(".amazonaws.com/")?;
    assert!(scope.contains(&format!("/{}/sts/", place.strip_prefix("sts.")?)), "{scope}");
    let said = ["RoleSessionName", "ExternalId", "DurationSeconds"].into_iter().filter_map(part);
    let heard = format!("{by}:{name}({})@{place}", said.collect::<Vec<_>>().join(","));
    if name == "closed" {
        return Some((heard, 403, "<E><Error><Code>AccessDenied</Code><Message>no</Message></Error></E>".to_owned()));
    }
    let keys = format!(
        "<AccessKeyId>ASIA{}</AccessKeyId><SecretAccessKey>planted-secret</SecretAccessKey><SessionToken>t</SessionToken>",
        name.to_ascii_uppercase()
    );
    let result = format!("<AssumeRoleResult><Credentials>{keys}</Credentials></AssumeRoleResult>");
    Some((heard, 200, format!("<AssumeRoleResponse>{result}</AssumeRoleResponse>")))
}

/// A node with a mount that has a role and no configuration, in the root namespace and in another one.
async fn unconfigured() -> (Harness, Shared) {
    let harness = Harness::start().await;
    let seen = Shared::default();
    {
        let known = [
            "AKIAWEB1",
            "AKIAWEB2",
            "AKIAENV",
            "AKIAFILE",
            "AKIAOTHER",
            "AKIATASK",
            "AKIAPOD",
            "AKIAMETADATA",
            "AKIAOWN",
            "ASIAAPP",
        ];
        let known = known.map(str::to_owned).to_vec();
        seen.lock().unwrap().aws.keys.insert("tresor".to_owned(), known);
    }
    let shared = Arc::clone(&seen);
    harness.doors.outgoing.answer(move |request| answer(&mut shared.lock().unwrap(), request));
    harness.prepare("POST", "sys/namespaces/team", json!({})).await;
    for place in ["", "team/"] {
        harness.prepare("POST", &format!("{place}sys/mounts/aws"), json!({ "type": "aws" })).await;
        let role = json!({ "credential_type": "iam_user", "policy_document": "{}" });
        harness.prepare("POST", &format!("{place}aws/roles/app"), role).await;
    }
    (harness, seen)
}

fn answer(seen: &mut Seen, request: &OutgoingRequest) -> Result<(u16, Vec<u8>), OutgoingError> {
    if let Some((status, said)) = fake_sts(request) {
        seen.others.push(request.url.clone());
        return Ok((status, said.into_bytes()));
    }
    if let Some((heard, status, said)) = fake_assumption(request) {
        seen.roles.push(heard);
        return Ok((status, said.into_bytes()));
    }
    if matches!(request.ask, Ask::Post(_)) {
        let token = request.headers.iter().find(|(name, _)| name == "x-amz-security-token");
        seen.tokens.push(token.map(|(_, value)| value.to_string()));
        return seen.aws.answer(request);
    }
    seen.others.push(request.url.clone());
    let (status, said) = fake_machine(request);
    Ok((status, said.into_bytes()))
}

async fn ask(harness: &Harness) -> Answer {
    harness.read("aws/creds/app", ROOT).await
}

/// By which key AWS was asked last, with which token, and for which region.
fn last(seen: &Shared) -> (String, Option<String>, String) {
    let seen = seen.lock().unwrap();
    let (key, _) = seen.aws.asked.last().unwrap();
    (key.clone(), seen.tokens.last().unwrap().clone(), seen.aws.asked_at.last().unwrap().1.clone())
}

fn by(key: &str, token: Option<&str>) -> (String, Option<String>, String) {
    (key.to_owned(), token.map(str::to_owned), "us-east-1".to_owned())
}

#[tokio::test]
async fn keys_that_nobody_configured_are_those_of_the_machine_in_the_usual_order() {
    let (harness, seen) = unconfigured().await;
    let around = &harness.doors.surroundings;
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen), by("AKIAMETADATA", Some("token-of-AKIAMETADATA")));

    let pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token"),
    ];
    around.set_variables(&pod);
    around.set_files(&[("/token", "pod-token\n")]);
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen), by("AKIAPOD", Some("token-of-AKIAPOD")));
    around.set_variables(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x"), pod[0], pod[1]]);
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen), by("AKIATASK", Some("token-of-AKIATASK")));

    let profiles = "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n\
                    [other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s\naws_session_token = t\n";
    around.set_files(&[("/home/t/.aws/credentials", profiles), ("/elsewhere", profiles)]);
    around.set_variables(&[("HOME", "/home/t"), pod[0], pod[1]]);
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen), by("AKIAFILE", None));
    around.set_variables(&[("AWS_SHARED_CREDENTIALS_FILE", "/elsewhere"), ("AWS_PROFILE", "other")]);
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen), by("AKIAOTHER", Some("t")));

    // Whoever runs in a cluster has a token in a file, and another one there before that one ends.
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_PROFILE", "other"),
    ];
    around.set_variables(&web);
    for (token, key) in [("first-token", "AKIAWEB1"), ("second-token\n", "AKIAWEB2")] {
        around.set_files(&[("/var/run/token", token), ("/elsewhere", profiles)]);
        drop(ask(&harness).await.expect_status(200));
        assert_eq!(last(&seen), (key.to_owned(), Some("t".to_owned()), "us-east-1".to_owned()));
        assert_eq!(seen.lock().unwrap().others.last().unwrap(), "https://sts.eu-central-1.amazonaws.com/");
    }

    let environment = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_PROFILE", "other")];
    around.set_variables(&environment);
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen), by("AKIAENV", None));
    let session = [("AWS_SESSION_TOKEN", "t"), ("AWS_REGION", "cn-north-1")];
    around.set_variables(&[&environment[..], &session[..]].concat());
    drop(ask(&harness).await.expect_status(200));
    let expected = ("AKIAENV".to_owned(), Some("t".to_owned()), "cn-north-1".to_owned());
    assert_eq!(last(&seen), expected);
    assert!(seen.lock().unwrap().aws.asked_at.last().unwrap().0.contains("iam.cn-north-1.amazonaws.com.cn"));
    // What is configured counts, and the environment's region where none is.
    let own = json!({ "access_key": "AKIAOWN", "secret_key": "s" });
    harness.prepare("POST", "aws/config/root", own).await;
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen), ("AKIAOWN".to_owned(), None, "cn-north-1".to_owned()));
    harness.prepare("POST", "aws/config/root", json!({ "access_key": "", "region": "eu-west-1" })).await;
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen).0, "AKIAENV", "until it is given up");
}

/// Profiles that lead to no keys.
const REFUSED: &str = "[profile program]\ncredential_process = /bin/planted\n[profile person]\nsso_session = x\n\
    [profile bare]\nregion = x\n[profile loop]\nrole_arn = a\nsource_profile = round\n\
    [profile round]\nrole_arn = a\nsource_profile = loop\n\
    [profile none-around]\nrole_arn = a\ncredential_source = EcsContainer\n\
    [profile closed]\nrole_arn = arn:aws:iam::1:role/closed\nsource_profile = closed\naws_access_key_id = AKIAFILE\n\
    aws_secret_access_key = planted-secret\n";

#[tokio::test]
async fn a_role_of_a_profile_is_assumed_by_the_keys_that_the_profile_names() {
    let (harness, seen) = unconfigured().await;
    let around = &harness.doors.surroundings;
    let config = "[default]\nregion = eu-west-1\n\
                  [profile app]\nrole_arn = arn:aws:iam::1:role/app\nsource_profile = between\nregion = eu-west-1\n\
                  external_id = x\nrole_session_name = own\nduration_seconds = 900\n\
                  [profile between]\nrole_arn = arn:aws:iam::1:role/between\nsource_profile = base\n\
                  [profile metadata]\nrole_arn = arn:aws:iam::1:role/app\ncredential_source = Ec2InstanceMetadata\n\
                  [profile task]\nrole_arn = arn:aws:iam::1:role/app\ncredential_source = EcsContainer\n\
                  [profile environment]\nrole_arn = arn:aws:iam::1:role/app\ncredential_source = Environment\n\
                  [profile web]\nrole_arn = arn:aws:iam::1:role/pod\nweb_identity_token_file = /token\n\
                  [profile of-web]\nrole_arn = arn:aws:iam::1:role/app\nsource_profile = web\n";
    let credentials = "[base]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n";
    around.set_files(&[
        ("/home/t/.aws/config", config),
        ("/home/t/.aws/credentials", credentials),
        ("/token", "first-token"),
        ("/elsewhere", config),
    ]);
    let home = ("HOME", "/home/t");
    // A configuration that says nothing about keys is passed over.
    around.set_variables(&[home]);
    drop(ask(&harness).await.expect_status(200));
    assert_eq!(last(&seen).0, "AKIAMETADATA");
    let assumed = |seen: &Shared| {
        let roles: Vec<String> = seen.lock().unwrap().roles.drain(..).collect();
        roles.join(" ")
    };
    let task = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x");
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    for (variables, expected) in [
        (
            &[home, ("AWS_PROFILE", "app")][..],
            "AKIAFILE:between(tresor)@sts.eu-west-1 ASIABETWEEN:app(own,x,900)@sts.eu-west-1",
        ),
        (&[home, ("AWS_PROFILE", "metadata")], "AKIAMETADATA:app(tresor)@sts.us-east-1"),
        (&[home, ("AWS_PROFILE", "task"), task], "AKIATASK:app(tresor)@sts.us-east-1"),
        // Keys of the environment count before a profile, unless that wants them for its role.
        (&[home, ("AWS_PROFILE", "environment"), keys[0], keys[1]], "AKIAENV:app(tresor)@sts.us-east-1"),
        (&[home, ("AWS_PROFILE", "of-web"), ("AWS_REGION", "eu-west-2")], "AKIAWEB1:app(tresor)@sts.eu-west-2"),
        (
            &[("AWS_CONFIG_FILE", "/elsewhere"), home, ("AWS_PROFILE", "metadata")],
            "AKIAMETADATA:app(tresor)@sts.us-east-1",
        ),
    ] {
        around.set_variables(variables);
        drop(ask(&harness).await.expect_status(200));
        assert_eq!(last(&seen).0, "ASIAAPP", "{variables:?}");
        assert_eq!(assumed(&seen), expected);
    }
    around.set_variables(&[home, ("AWS_PROFILE", "app"), keys[0], keys[1]]);
    drop(ask(&harness).await.expect_status(200));
    assert_eq!((last(&seen), assumed(&seen)), (by("AKIAENV", None), String::new()));
}

#[tokio::test]
async fn a_place_that_is_named_and_has_no_keys_is_an_error_and_not_passed_over() {
    let (harness, seen) = unconfigured().await;
    let around = &harness.doors.surroundings;
    let half = "[half]\naws_access_key_id = planted-id\n";
    around.set_files(&[("/c", half), ("/t", "planted-token"), ("/empty", "\n"), ("/config", REFUSED)]);
    let profile = |name| [("AWS_CONFIG_FILE", "/config"), ("AWS_PROFILE", name)];
    let web = |file| [("AWS_WEB_IDENTITY_TOKEN_FILE", file), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod")];
    for (variables, text) in [
        (&[("AWS_ACCESS_KEY_ID", "planted-id")][..], "without AWS_SECRET_ACCESS_KEY"),
        (&[("AWS_SECRET_ACCESS_KEY", "planted-secret")], "without AWS_ACCESS_KEY_ID"),
        (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")], "the environment has no AWS_ROLE_ARN"),
        (&web("/none"), "the file is not there"),
        (&web("/empty"), "the file of the token has none"),
        (&web("/t"), "status 400 InvalidIdentityToken: [token]"),
        (&[web("/t")[0], web("/t")[1], ("AWS_ENDPOINT_URL_STS", "http://sts.example")], "must be https://"),
        (&[("AWS_SHARED_CREDENTIALS_FILE", "/none")], "it is not there"),
        (&[("AWS_SHARED_CREDENTIALS_FILE", "/c"), ("AWS_PROFILE", "p")], "tools has a profile \"p\""),
        (&[("AWS_PROFILE", "p")], "tools has a profile \"p\""),
        (&[("AWS_CONFIG_FILE", "/none")], "it is not there"),
        (&profile("program"), "says `credential_process`, which is not available: no programs are started"),
        (&profile("person"), "says `sso_session`, which is not available"),
        (&profile("bare"), "has neither keys nor a way to some"),
        (&profile("loop"), "the profile `loop` is its own source by way of others"),
        (&profile("none-around"), "`credential_source` is `EcsContainer`, which has none"),
        (&profile("closed"), "the role `arn:aws:iam::1:role/closed` is not assumed: status 403 AccessDenied: no"),
        (&[("AWS_SHARED_CREDENTIALS_FILE", "/c"), ("AWS_PROFILE", "half")], "no aws_access_key_id with"),
        (&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/none")], "it answered with status 401"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://agent.example.com/")], "must be https://"),
        (&[("AWS_EC2_METADATA_DISABLED", "true")], "nothing around the server has keys"),
    ] {
        around.set_variables(variables);
        let answer = ask(&harness).await;
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("planted"));
        answer.expect_error(400, text);
    }
    assert!(seen.lock().unwrap().aws.asked.is_empty());
    // Nothing was made, and no intent of it is left.
    let counts = harness.read("sys/leases/tree", ROOT).await;
    assert!(!String::from_utf8_lossy(&counts.bytes).contains("aws/creds"));
}

#[tokio::test]
async fn keys_of_the_machine_are_no_ones_who_operates_another_namespace() {
    let (harness, seen) = unconfigured().await;
    let variables = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "eu-central-1")];
    harness.doors.surroundings.set_variables(&variables);
    let text = "keys of the server's own are for mounts of the root namespace";
    harness.read("team/aws/creds/app", ROOT).await.expect_error(400, text);
    let role = json!({ "username": "tresor", "rotation_period": "1h" });
    harness.write("team/aws/static-roles/r", ROOT, role).await.expect_error(400, text);
    assert!(seen.lock().unwrap().aws.asked.is_empty() && seen.lock().unwrap().others.is_empty());
    // With keys of its own it is as any other, and the machine tells it nothing else, either.
    let own = json!({ "access_key": "AKIAOWN", "secret_key": "s" });
    harness.prepare("POST", "team/aws/config/root", own).await;
    drop(harness.read("team/aws/creds/app", ROOT).await.expect_status(200));
    assert_eq!(last(&seen), by("AKIAOWN", None));
}

#[tokio::test]
async fn what_was_made_by_keys_of_the_machine_is_taken_back_by_those_that_it_has_then() {
    let (harness, seen) = unconfigured().await;
    let around = &harness.doors.surroundings;
    around.set_variables(&[("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s")]);
    let id = ask(&harness).await.expect_status(200).text_at("/lease_id");
    let refused = harness.write("aws/config/rotate-root", ROOT, json!({})).await;
    refused.expect_error(400, "Cannot call config/rotate-root when either access_key or secret_key is empty");
    let period = harness.write("aws/config/root", ROOT, json!({ "rotation_period": "1h" })).await;
    period.expect_error(400, "no access_key is configured");
    // Other keys count from now on; and what was made by those of the machine stays theirs.
    around.set_variables(&[("AWS_ACCESS_KEY_ID", "AKIAOTHER"), ("AWS_SECRET_ACCESS_KEY", "s")]);
    harness.prepare("POST", "aws/config/root", json!({ "access_key": "AKIAOWN", "secret_key": "s" })).await;
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204));
    assert_eq!(last(&seen).0, "AKIAOTHER");
    let users: Vec<String> = seen.lock().unwrap().aws.keys.keys().cloned().collect();
    assert_eq!(users, ["tresor"], "the user is gone");
    assert_eq!(harness.read("aws/config/root", ROOT).await.at("/data/secret_key"), &Value::Null);
}

#[tokio::test]
async fn what_was_made_by_a_key_that_is_gone_is_taken_back_by_another_one_of_its_account_alone() {
    let (harness, aws) = with_aws().await;
    harness.prepare("POST", "aws/roles/app", json!({ "credential_type": "iam_user", "policy_document": "{}" })).await;
    let lease = harness.read("aws/creds/app", ROOT).await.expect_status(200).text_at("/lease_id");
    pass(&harness, 301).await;
    let instead = async |key: &str| {
        aws.lock().unwrap().keys.insert("tresor".to_owned(), vec![key.to_owned()]);
        let root = json!({ "access_key": key, "secret_key": "another-planted-key" });
        harness.prepare("POST", "aws/config/root", root).await;
        harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": lease, "sync": true })).await
    };
    let users = || aws.lock().unwrap().keys.len() - 1;
    // That another account knows no such user says nothing, and what it knows by that name is somebody else's.
    let refused = instead("AKIAFAR").await;
    assert!(refused.status >= 400, "{refused:?}");
    assert_eq!(users(), 1);
    assert!(!aws.lock().unwrap().asked.iter().any(|(key, form)| key == "AKIAFAR" && form["Action"].contains("User")));
    drop(instead("AKIANEXT").await.expect_status(204));
    pass(&harness, 1).await;
    assert_eq!(users(), 0);
}
