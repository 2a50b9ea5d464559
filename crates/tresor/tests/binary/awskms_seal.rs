//! A server whose key the key management service of AWS keeps, for which moto stands, which checks signatures and policies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::json;
use tresor_canary::Canaries;
use tresor_services::{Moto, python};

use super::canary::files;
use crate::support::{Production, Server};

fn is_sealed(server: &Server) -> bool {
    server.http().get("sys/seal-status").expect(200).at("/sealed") == json!(true)
}

/// Made once, whoever needs it first.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/aws-requirements.txt");
    python::environment("aws", Path::new(env!("CARGO_TARGET_TMPDIR")), &pinned).unwrap()
});

pub(crate) fn interpreter() -> PathBuf {
    PYTHON.clone()
}

/// What AWS's own client answers to a line of Python.
fn kms(python: &Path, moto: &Moto, line: &str) -> String {
    let program = format!(
        "import boto3\nkms = boto3.client('kms', region_name='eu-central-1', endpoint_url='{}')\n{line}",
        moto.address()
    );
    let mut command = Command::new(python);
    command
        .args(["-c", &program])
        .env("AWS_ACCESS_KEY_ID", &moto.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &moto.secret_key);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A file that nobody else reads, beside a server's data.
fn beside(production: &Production, name: &str, text: &str) -> String {
    let path = production.config().with_file_name(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[test]
fn a_server_opens_by_the_role_of_a_profile() {
    let python = interpreter();
    let moto = Moto::start(&python, "tresor").unwrap();
    // The role may what the seal needs; whoever has none of its policies may nothing.
    let role = "import json\niam = boto3.client('iam', region_name='eu-central-1', endpoint_url=kms.meta.endpoint_url)\n\
                one = lambda **more: json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', **more}]})\n\
                trust = one(Action='sts:AssumeRole', Principal={'AWS': '*'})\n\
                def role(name, **may):\n    \
                    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)['Role']['Arn']\n    \
                    iam.put_role_policy(RoleName=name, PolicyName='p', PolicyDocument=one(Resource='*', **may))\n    \
                    return made\n";
    let arns = kms(
        &python,
        &moto,
        &format!(
            "{role}k = kms.create_key()['KeyMetadata']['KeyId']\n\
             kms.create_alias(AliasName='alias/unseal', TargetKeyId=k)\n\
             print(role('between', Action='sts:AssumeRole'), role('unseal', Action=['kms:Encrypt', 'kms:Decrypt']))"
        ),
    );
    let (between, unseal) = arns.split_once(' ').unwrap();
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let stanza = |profile: &str| {
        format!(
            "{configured}log_level = \"trace\"\nseal \"awskms\" {{\n  region = \"eu-central-1\"\n  kms_key_id = \"alias/unseal\"\n  \
             endpoint = \"{}\"\n  shared_creds_profile = \"{profile}\"\n}}\n",
            moto.address()
        )
    };
    let profiles = format!(
        "[profile seal]\nrole_arn = {unseal}\nsource_profile = between\nexternal_id = ours\n\
         [profile between]\nrole_arn = {between}\nsource_profile = base\n"
    );
    let keys =
        format!("[base]\naws_access_key_id = {}\naws_secret_access_key = {}\n", moto.access_key, moto.secret_key);
    let (config, credentials) =
        (beside(&production, "aws-config", &profiles), beside(&production, "aws-credentials", &keys));
    let sts = moto.address();
    let variables = [
        ("AWS_CONFIG_FILE", config.as_str()),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str()),
        ("AWS_ENDPOINT_URL_STS", sts.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    production.configure(&stanza("seal"));
    let server = production.start_with(&variables);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    drop(server.http().post("sys/init", &body).expect(200));
    assert!(!is_sealed(&server), "{}", server.log());
    let mut logs = vec![server.log()];
    drop(server);
    let server = production.start_with(&variables);
    assert!(!is_sealed(&server), "{}", server.log());
    drop(server);
    // The role in between may not do what that of the seal may.
    production.configure(&stanza("between"));
    let server = production.start_with(&variables);
    assert!(is_sealed(&server));
    server.has_logged("the key `alias/unseal` of the seal `awskms`: it refuses: status 403");
    logs.push(server.log());
    drop(server);
    let mut secrets = Canaries::new();
    secrets.watch("the secret key", moto.secret_key.as_bytes());
    for text in logs {
        assert_eq!(secrets.find(text.as_bytes()), None);
    }
}

#[test]
fn a_server_whose_key_aws_keeps_opens_by_itself_with_keys_that_may() {
    let python = interpreter();
    let moto = Moto::start(&python, "tresor").unwrap();
    let made = "k = kms.create_key()['KeyMetadata']['KeyId']\n";
    kms(&python, &moto, &format!("{made}kms.create_alias(AliasName='alias/unseal', TargetKeyId=k)"));
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let stanza = |key: &str| {
        format!(
            "seal \"awskms\" {{\n  region = \"eu-central-1\"\n  kms_key_id = \"{key}\"\n  endpoint = \"{}\"\n}}\n",
            moto.address()
        )
    };
    production.configure(&format!("{configured}log_level = \"trace\"\n{}", stanza("alias/unseal")));
    let variables =
        [("AWS_ACCESS_KEY_ID", moto.access_key.as_str()), ("AWS_SECRET_ACCESS_KEY", moto.secret_key.as_str())];
    let server = production.start_with(&variables);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    let made_store = server.http().post("sys/init", &body).expect(200);
    let (share, root) = (made_store.text_at("/recovery_keys/0"), made_store.text_at("/root_token"));
    let status = server.http().get("sys/seal-status").expect(200);
    assert_eq!((status.at("/type"), status.at("/sealed")), (json!("awskms"), json!(false)), "{}", server.log());
    let version = |server: &Server| {
        let slots = server.http().with_token(&root).get("sys/seal-slots").expect(200);
        assert_eq!(
            (slots.at("/data/slots/1/type"), slots.at("/data/slots/1/key_id")),
            (json!("awskms"), json!("alias/unseal"))
        );
        slots.text_at("/data/slots/1/id")
    };
    let first = version(&server);
    drop(server);
    // Another key behind the alias: what the one before sealed opens, and is sealed anew.
    kms(&python, &moto, &format!("{made}kms.update_alias(AliasName='alias/unseal', TargetKeyId=k)"));
    let server = production.start_with(&variables);
    assert!(!is_sealed(&server), "{}", server.log());
    server.has_logged("the store's key slots were changed to what is configured");
    assert_ne!(version(&server), first);
    assert_eq!(
        server.http().with_token(&root).get("sys/seal-backend-status").expect(200).at("/data/healthy"),
        json!(true)
    );
    let log = server.log();
    drop(server);
    // Whose secret is another one is told so.
    let wrong = [variables[0], ("AWS_SECRET_ACCESS_KEY", "canary-of-a-wrong-secret")];
    let server = production.start_with(&wrong);
    assert!(is_sealed(&server));
    server.has_logged("the key `alias/unseal` of the seal `awskms`: it refuses: status 403");
    assert_eq!(server.http().post("sys/unseal", &json!({ "key": share })).expect(200).at("/sealed"), json!(false));
    let wrong_log = server.log();
    drop(server);
    // A key that AWS does not have.
    production.configure(&format!("{configured}{}", stanza("alias/nothing")));
    let server = production.start_with(&variables);
    assert!(!is_sealed(&server), "the slot opens by whichever key sealed it: {}", server.log());
    server.has_logged("the seal `awskms` opens, and makes no new slot: it refuses");
    drop(server);
    let mut secrets = Canaries::new();
    secrets.watch("the secret key", moto.secret_key.as_bytes());
    secrets.watch("a wrong one", b"canary-of-a-wrong-secret");
    for text in [log, wrong_log] {
        assert_eq!(secrets.find(text.as_bytes()), None);
    }
    for file in files(&production.data()) {
        assert_eq!(secrets.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}
