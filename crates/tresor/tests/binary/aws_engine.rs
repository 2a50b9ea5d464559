//! `aws` against moto, which checks signatures, policies and who may assume a role: each way to keys, and what AWS's own client can
//! do by them and cannot.
//!
//! Deliberately absent: what keys of `session_token` can do, since those that moto gives are an example of AWS's documents; and the
//! boundary of a user, which moto takes and forgets: that it is sent is tested with the engine. Nothing here has a space in it: moto
//! takes a signature over what was sent for one over what it spells itself, a plus in its place.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tresor_services::Moto;

use super::awskms_seal::interpreter;
use crate::support::{Http, Keys, Production, Server, until};

/// What every test of this file begins with: groups, policies and a role of AWS.
const PREPARED: &str = r#"
def policy(*actions): return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})
iam.create_group(GroupName="readers")
iam.put_group_policy(GroupName="readers", PolicyName="inline", PolicyDocument=policy("s3:ListAllMyBuckets"))
print(iam.create_policy(PolicyName="listing", PolicyDocument=policy("iam:ListUsers"))["Policy"]["Arn"])
print(iam.create_policy(PolicyName="boundary", PolicyDocument=policy("*"))["Policy"]["Arn"])
me = sts.get_caller_identity()["Arn"]
trust = {"Effect": "Allow", "Principal": {"AWS": me}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "ours"}}}
print(iam.create_role(RoleName="keeper", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))["Role"]["Arn"])
iam.put_role_policy(RoleName="keeper", PolicyName="inline", PolicyDocument=policy("s3:ListAllMyBuckets"))
iam.create_user(UserName="limited")
iam.put_user_policy(UserName="limited", PolicyName="some", PolicyDocument=policy("iam:CreateUser", "iam:ListUsers", "sts:AssumeRole"))
key = iam.create_access_key(UserName="limited")["AccessKey"]
print(key["AccessKeyId"])
print(key["SecretAccessKey"])
"#;

/// What keys can be tried by: lists buckets, lists users, makes a user; each says what came of it.
const TRIES: &str = r#"
def tried(call, **arguments):
    try:
        call(**arguments)
        return "done"
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
print(sts.get_caller_identity()["Arn"])
print(tried(s3.list_buckets), tried(iam.list_users), tried(iam.create_user, UserName="intruder"))
"#;

/// AWS's place, a server with a mount that acts there, and what was prepared.
struct Both {
    python: PathBuf,
    moto: Moto,
    http: Http,
    /// ARNs of a policy, of one that bounds and of a role; a key and its secret of who may do little.
    prepared: Vec<String>,
    _server: Server,
    _production: Production,
}

impl Both {
    fn start() -> Self {
        let python = interpreter();
        let moto = Moto::start(&python, "tresor").unwrap();
        let production = Production::new();
        let (server, Keys { root, .. }) = production.start_ready();
        let http = server.http().with_token(&root);
        http.post("sys/mounts/aws", &json!({ "type": "aws" })).expect(204);
        let (access_key, secret_key) = (moto.access_key.clone(), moto.secret_key.clone());
        let mut both = Self { python, moto, http, prepared: Vec::new(), _server: server, _production: production };
        both.configure(&access_key, &secret_key);
        both.prepared = both.as_owner(PREPARED).lines().map(str::to_owned).collect();
        both
    }

    fn configure(&self, access_key: &str, secret_key: &str) {
        let place = self.moto.address();
        let root = json!({
            "access_key": access_key, "secret_key": secret_key, "region": "us-east-1", "iam_endpoint": place,
            "sts_endpoint": place, "max_retries": 0,
        });
        self.http.post("aws/config/root", &root).expect(204);
    }

    fn role(&self, name: &str, role: &Value) {
        self.http.post(&format!("aws/roles/{name}"), role).expect(204);
    }

    /// What AWS's own client prints, with these keys.
    fn boto(&self, keys: &[(&str, &str)], lines: &str) -> String {
        let program = format!(
            "import boto3, botocore, json\niam, sts, s3 = (boto3.client(name, region_name='us-east-1', \
             endpoint_url='{}') for name in ['iam', 'sts', 's3'])\n{lines}",
            self.moto.address()
        );
        let output = Command::new(&self.python).args(["-c", &program]).envs(keys.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn as_owner(&self, lines: &str) -> String {
        let keys =
            [("AWS_ACCESS_KEY_ID", self.moto.access_key.as_str()), ("AWS_SECRET_ACCESS_KEY", &self.moto.secret_key)];
        self.boto(&keys, lines)
    }

    /// Who somebody with keys that were given is, and what comes of what they try.
    fn try_with(&self, given: &Value) -> (String, String) {
        let text = |field: &str| given["data"][field].as_str().unwrap_or_default();
        let keys = [
            ("AWS_ACCESS_KEY_ID", text("access_key")),
            ("AWS_SECRET_ACCESS_KEY", text("secret_key")),
            ("AWS_SESSION_TOKEN", text("session_token")),
        ];
        let with_token = if text("session_token").is_empty() { &keys[..2] } else { &keys[..] };
        let said = self.boto(with_token, TRIES);
        let (who, tries) = said.split_once('\n').unwrap();
        (who.to_owned(), tries.to_owned())
    }
}

#[test]
fn users_of_aws_are_as_their_role_says_may_what_it_says_and_go() {
    let both = Both::start();
    let [listing, boundary] = [&both.prepared[0], &both.prepared[1]];
    let role = json!({
        "credential_type": "iam_user", "iam_groups": "readers", "policy_arns": [listing], "user_path": "/made/here/",
        "permissions_boundary_arn": boundary, "iam_tags": { "team": "x-y", "cost=centre": "7/8" },
    });
    both.role("app", &role);
    let made = both.http.get("aws/creds/app").expect(200).json();
    let (who, tries) = both.try_with(&made);
    // By its group, by its policy, and by nothing.
    assert_eq!(tries, "done done AccessDenied");
    let user = who.rsplit_once('/').unwrap().1.to_owned();
    assert!(who.ends_with(&format!(":user/made/here/{user}")) && user.starts_with("vault-"), "{who}");
    let shown = both.as_owner(&format!(
        "it = iam.get_user(UserName='{user}')['User']\n\
         tags = {{tag['Key']: tag['Value'] for tag in iam.list_user_tags(UserName='{user}')['Tags']}}\n\
         groups = [group['GroupName'] for group in iam.list_groups_for_user(UserName='{user}')['Groups']]\n\
         print(json.dumps([it['Path'], tags, groups]))"
    ));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown, json!(["/made/here/", { "team": "x-y", "cost=centre": "7/8" }, ["readers"]]));

    let lease = json!({ "lease_id": made["lease_id"], "sync": true });
    both.http.post("sys/leases/revoke", &lease).expect(204);
    let left = both.as_owner("print([user['UserName'] for user in iam.list_users()['Users']])");
    assert_eq!(left, "['tresor', 'limited']");
    // One that may not be what its role says is not left behind.
    both.role("app", &json!({ "credential_type": "iam_user", "iam_groups": "nobody" }));
    let refused = both.http.get("aws/creds/app").expect(400);
    assert!(refused.errors().unwrap()[0].contains("AWS says NoSuchEntity"), "{}", refused.text);
    let count = || both.as_owner("print(len(iam.list_users()['Users']))");
    until("what was begun is taken back", || (count() == "2").then_some(()));
}

#[test]
fn a_role_of_aws_is_assumed_by_whom_it_trusts_and_by_nobody_else() {
    let both = Both::start();
    let arn = &both.prepared[2];
    let role = json!({
        "credential_type": "assumed_role", "role_arns": [arn], "external_id": "ours", "session_tags": { "team": "x-y" },
        "iam_groups": "readers", "default_sts_ttl": "20m",
    });
    both.role("keeper", &role);
    let made = both.http.get("aws/sts/keeper?role_session_name=nightly&ttl=15m").expect(200).json();
    assert_eq!((&made["lease_duration"], &made["renewable"]), (&json!(900), &json!(false)));
    let ttl = made["data"]["ttl"].as_u64().unwrap();
    assert!((800..=900).contains(&ttl) && made["data"]["security_token"] == made["data"]["session_token"], "{ttl}");
    let (who, tries) = both.try_with(&made);
    assert!(who.ends_with(":assumed-role/keeper/nightly"), "{who}");
    assert_eq!(made["data"]["arn"], json!(who));
    assert_eq!(tries, "done AccessDenied AccessDenied");
    let again = both.http.get("aws/creds/keeper").expect(200).json();
    assert_eq!(again["lease_duration"], json!(1200));
    // The role trusts whoever knows the word, and nobody else.
    for (word, user) in [("theirs", false), ("ours", true)] {
        let mut role = role.clone();
        role["external_id"] = json!(word);
        if user {
            both.configure(&both.prepared[3], &both.prepared[4]);
            role["iam_groups"] = json!([]);
        }
        both.role("keeper", &role);
        let refused = both.http.get("aws/sts/keeper").expect(400);
        assert!(refused.errors().unwrap()[0].contains("AWS says AccessDenied"), "{}", refused.text);
    }
}

#[test]
fn a_session_is_given_to_whom_aws_lets_ask_for_one_by_a_signature_that_fits() {
    let both = Both::start();
    both.role("session", &json!({ "credential_type": "session_token", "max_sts_ttl": "30m" }));
    let made = both.http.get("aws/sts/session?ttl=1h").expect(200).json();
    assert_eq!((&made["lease_duration"], &made["renewable"]), (&json!(1800), &json!(false)));
    assert!(made["data"]["session_token"].as_str().is_some_and(|token| !token.is_empty()));
    assert!(made["data"]["ttl"].as_u64().is_some_and(|ttl| (1700..=1800).contains(&ttl)), "{}", made["data"]["ttl"]);
    // Who may make users may not ask for a session; and whose secret is another one is nobody.
    let (key, secret) = (&both.prepared[3], &both.prepared[4]);
    for (secret, code) in [(secret.as_str(), "AccessDenied"), ("canary-of-a-wrong-secret", "SignatureDoesNotMatch")] {
        both.configure(key, secret);
        let refused = both.http.get("aws/sts/session").expect(400);
        assert!(refused.errors().unwrap()[0].contains(&format!("AWS says {code}")), "{}", refused.text);
        assert!(!refused.text.contains("canary"));
    }
}
