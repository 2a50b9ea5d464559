//! `hashi-vault-js`: node runs each of its test files, with a few lines in the place of its test runner
//! (`conformance/clients/node/globals.mjs`). What its provisioning script would prepare is prepared by our own command line.

use std::path::Path;
use std::process::Command;

use super::server::{ROOT, Server};
use crate::steps::succeed_silently;
use crate::suites::Outcome;
use crate::workspace::Workspace;

const PACKAGE: &str = "hashi-vault-js";
const EVERYTHING: &str =
    "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\"] }";

pub(super) fn run(workspace: &Workspace, binary: &Path) -> Result<Vec<(String, Outcome)>, String> {
    let place = workspace.target.join("conformance").join(PACKAGE);
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    install(workspace, &place)?;
    let suite = place.join("suite");
    super::copy(&place.join("node_modules").join(PACKAGE), &suite)?;
    let mut files: Vec<String> = std::fs::read_dir(suite.join("tests"))
        .map_err(|error| format!("{}: {error}", suite.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".test.js"))
        .collect();
    files.sort();
    let mut outcomes = Vec::new();
    for file in files {
        // One seals its server, so each has one of its own.
        let server = Server::start(binary, &place, true)?;
        let mut command = Command::new("node");
        command.args(["--import", "../globals.mjs", "--test-reporter=tap"]).arg(format!("tests/{file}"));
        command.current_dir(&suite).envs(provisioned(&server, &place)?);
        let output = command.output().map_err(|error| format!("node: {error}"))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let before = outcomes.len();
        outcomes.extend(printed.lines().filter_map(|line| outcome(&file, line)));
        if outcomes.len() == before {
            outcomes.push((format!("{file} as a whole"), Outcome::Failed));
        }
    }
    Ok(outcomes)
}

/// The packages as they are locked, installed once.
fn install(workspace: &Workspace, place: &Path) -> Result<(), String> {
    let from = workspace.root.join("conformance/clients/node");
    let mut is_fresh = !place.join("node_modules").exists();
    for name in ["package.json", "package-lock.json", "globals.mjs"] {
        let read = |folder: &Path| std::fs::read(folder.join(name));
        let wanted = read(&from).map_err(|error| format!("{name}: {error}"))?;
        if read(place).is_ok_and(|there| there == wanted) {
            continue;
        }
        is_fresh = true;
        std::fs::write(place.join(name), wanted).map_err(|error| format!("{name}: {error}"))?;
    }
    if is_fresh {
        let mut command = Command::new("npm");
        succeed_silently(command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(place))?;
    }
    Ok(())
}

/// What the tests find on the server, and the variables that tell them.
fn provisioned(server: &Server, place: &Path) -> Result<Vec<(&'static str, String)>, String> {
    let policy = place.join("knight.hcl");
    std::fs::write(&policy, EVERYTHING).map_err(|error| format!("{}: {error}", policy.display()))?;
    for arguments in [
        &["secrets", "enable", "-path=secrets", "kv-v2"][..],
        &["auth", "enable", "approle"],
        &["auth", "enable", "userpass"],
        &["policy", "write", "knight", &policy.to_string_lossy()],
        &["write", "auth/token/roles/knight", "allowed_policies=default,knight"],
        &["write", "auth/approle/role/my-role", "token_policies=knight"],
        &["write", "auth/userpass/users/knight", "password=knight", "token_policies=knight"],
    ] {
        server.command(arguments)?;
    }
    let provider = server.command(&["token", "create", "-policy=knight", "-field=token"])?;
    let file = |name: &str| server.certificate(name).to_string_lossy().into_owned();
    let key = server.unseal_key();
    Ok(vec![
        ("ROLE_ID", server.command(&["read", "-field=role_id", "auth/approle/role/my-role/role-id"])?),
        ("SECRET_ID", server.command(&["write", "-f", "-field=secret_id", "auth/approle/role/my-role/secret-id"])?),
        ("VAULT_ROOT_TOKEN", ROOT.to_owned()),
        ("VAULT_PROV_TOKEN", provider.clone()),
        ("VAULT_KNIGHT_TOKEN", provider),
        ("VAULT_UNSEAL_KEY1", key.clone()),
        ("VAULT_UNSEAL_KEY2", key.clone()),
        ("VAULT_UNSEAL_KEY3", key),
        ("CLIENT_CERT", file("vault-cert.pem")),
        ("CLIENT_KEY", file("vault-key.pem")),
        ("CA_CERT", file("vault-ca.pem")),
        ("VAULT_URL", format!("{}/v1", server.url)),
        ("ROOT_PATH", "secrets".to_owned()),
        ("APPROLE", "my-role".to_owned()),
        ("USERPASS_USER", "knight".to_owned()),
        ("USERPASS_PASS", "knight".to_owned()),
    ])
}

/// One line of the reporter: `ok 3 - what it is`. Numbered, since names stand twice.
fn outcome(file: &str, line: &str) -> Option<(String, Outcome)> {
    let (outcome, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (Outcome::Failed, rest),
        None => (Outcome::Passed, line.strip_prefix("ok ")?),
    };
    let (number, name) = rest.split_once(" - ")?;
    let name = name.split(" # ").next().unwrap_or(name);
    Some((format!("{file} {number:0>2} {name}"), outcome))
}
