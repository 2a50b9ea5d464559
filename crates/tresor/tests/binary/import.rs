//! Secrets of AWS, for which moto stands, become secrets of a server, and are seen nowhere on the way.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tresor_canary::Canaries;
use tresor_services::{Moto, python};

use super::canary::files;
use crate::support::{Cli, Production};

fn interpreter() -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/aws-requirements.txt");
    python::environment("aws", Path::new(env!("CARGO_TARGET_TMPDIR")), &pinned).unwrap()
}

/// Has AWS's own client do something.
fn aws(python: &Path, moto: &Moto, lines: &str) {
    let program = format!(
        "import boto3\nthere = boto3.client('secretsmanager', region_name='eu-central-1', endpoint_url='{}')\n{lines}",
        moto.address()
    );
    let mut command = Command::new(python);
    command.args(["-c", &program]);
    command.env("AWS_ACCESS_KEY_ID", &moto.access_key).env("AWS_SECRET_ACCESS_KEY", &moto.secret_key);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn sys_32_secrets_of_aws_are_imported_once_and_their_values_are_seen_nowhere() {
    let python = interpreter();
    let moto = Moto::start(&python, "tresor").unwrap();
    aws(
        &python,
        &moto,
        "there.create_secret(Name='prod/db', SecretString='{\"password\": \"canary-import-1\"}', Tags=[{'Key': 'team', 'Value': 'a'}])\n\
         there.create_secret(Name='other', SecretString='canary-import-2')\n\
         there.create_secret(Name='bytes', SecretBinary=b'\\xff\\x00', Tags=[{'Key': 'team', 'Value': 'a'}])\n\
         [there.create_secret(Name='many-%03d' % n, SecretString='canary-import-3') for n in range(120)]\n",
    );
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let owner = server.http().with_token(&keys.root);
    owner.post("sys/namespaces/team", &json!({})).expect(200);
    for path in ["sys/mounts/kv", "team/sys/mounts/kv"] {
        owner.post(path, &json!({ "type": "kv-v2" })).expect(204);
    }
    let profile = production.home().join("credentials");
    std::fs::write(
        &profile,
        format!("[moves]\naws_access_key_id = {}\naws_secret_access_key = {}\n", moto.access_key, moto.secret_key),
    )
    .unwrap();
    let config = production.home().join("import.hcl");
    let written = |profile: &str| {
        let text = format!(
            "source_aws {{\n name = \"aws\"\n region = \"eu-central-1\"\n endpoint = \"{}\"\n credentials_profile = \"{profile}\"\n}}\n\
             destination_vault {{\n name = \"own\"\n mount = \"kv\"\n}}\n\
             destination_vault {{\n name = \"team\"\n mount = \"kv\"\n namespace = \"team\"\n}}\n\
             mapping_metadata {{\n name = \"tagged\"\n source = \"aws\"\n destination = \"team\"\n priority = 2\n tags = {{\n team = \"a\"\n }}\n}}\n\
             mapping_regex {{\n name = \"named\"\n source = \"aws\"\n destination = \"own\"\n priority = 1\n expression = \"^(other|many-)\"\n}}\n",
            moto.address()
        );
        std::fs::write(&config, text).unwrap();
    };
    written("moves");
    let mut cli = Cli::new(production.home(), server.address, &keys.root);
    cli.set("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap());
    let with_config = format!("-config={}", config.display());
    let run = |words: &[&str]| cli.run(&[&["operator", "import", &with_config], words].concat());
    // Others may read the file with the secret.
    set_mode(&profile, 0o644);
    let open = run(&["plan"]);
    assert!(open.code == 2 && open.errors.contains("has the mode 0644"), "{open:?}");
    set_mode(&profile, 0o600);
    let plan = run(&["plan"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    for line in ["* prod/db (new)", "* bytes (new)", "* many-119 (new)", "123 to import, 0 the same"] {
        assert!(plan.output.contains(line), "{plan:?}");
    }
    owner.get("kv/metadata/other").expect(404);
    // Nobody says yes.
    let unapproved = run(&["apply"]);
    assert_eq!(unapproved.code, 2, "{unapproved:?}");
    owner.get("kv/metadata/other").expect(404);
    let first = run(&["-auto-approve", "apply"]);
    assert!(first.code == 0 && first.output.contains("Imported 123 secrets"), "{first:?}");
    let of = |path: &str| owner.get(path).expect(200).at("/data/data");
    assert_eq!(of("team/kv/data/prod/db"), json!({ "password": "canary-import-1" }));
    assert_eq!(of("team/kv/data/bytes"), json!({ "value_base64": "/wA=" }));
    assert_eq!(of("kv/data/other"), json!({ "value": "canary-import-2" }));
    let again = run(&["-auto-approve", "apply"]);
    assert!(again.code == 0 && again.output.contains("0 to import, 123 the same"), "{again:?}");
    assert_eq!(owner.get("kv/metadata/other").expect(200).at("/data/current_version"), json!(1));
    aws(&python, &moto, "there.put_secret_value(SecretId='other', SecretString='canary-import-4')\n");
    let changed = run(&["-auto-approve", "apply"]);
    assert!(
        changed.output.contains("* other (different)\n") && changed.output.contains("Imported 1 secrets"),
        "{changed:?}"
    );
    assert_eq!(of("kv/data/other"), json!({ "value": "canary-import-4" }));
    written("nobody");
    let unknown = run(&["plan"]);
    assert!(unknown.code == 2 && unknown.errors.contains("there is no such profile"), "{unknown:?}");
    let mistaken = run(&["later"]);
    assert_eq!(mistaken.code, 1, "{mistaken:?}");
    let log = server.log();
    drop(server);
    let mut secrets = Canaries::new();
    secrets.watch("a value", b"canary-import-");
    secrets.watch("the secret key", moto.secret_key.as_bytes());
    for said in [&open, &plan, &unapproved, &first, &again, &changed, &unknown, &mistaken] {
        assert_eq!(secrets.find([&said.output, said.errors.as_str()].concat().as_bytes()), None, "{said:?}");
    }
    assert_eq!(secrets.find(log.as_bytes()), None);
    for file in files(&production.data()) {
        assert_eq!(secrets.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}

fn set_mode(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}
