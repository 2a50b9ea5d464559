//! Shares and root tokens on the command line: encrypted to keys that GnuPG made, changed, and made anew.
//!
//! `keybase` is a fake of ours: one thread that serves keys by name.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Cli, Keys, Production, Server};

/// A home of GnuPG with one key.
struct Owner {
    home: tempfile::TempDir,
    file: PathBuf,
}

impl Owner {
    fn new(directory: &Path, name: &str) -> Self {
        let owner = Self { home: tempfile::tempdir().unwrap(), file: directory.join(format!("{name}.asc")) };
        owner.gpg(&["--quick-generate-key", name, "future-default", "default", "never"], b"");
        std::fs::write(&owner.file, owner.gpg(&["--armor", "--export", name], b"")).unwrap();
        owner
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.arg("--homedir").arg(self.home.path()).args(arguments);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(input).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// What was encrypted to this owner, from base64.
    fn read(&self, sealed: &str) -> String {
        use base64::Engine as _;
        let sealed = base64::engine::general_purpose::STANDARD.decode(sealed).unwrap();
        String::from_utf8(self.gpg(&["--decrypt"], &sealed)).unwrap()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status();
    }
}

/// Serves one key at `/alice/pgp_keys.asc` for as long as the test runs.
fn keybase(key: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut lines = BufReader::new(&connection).lines();
            let asked = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let (status, body) = match asked.as_str() {
                "GET /alice/pgp_keys.asc HTTP/1.1" => ("200 OK", key.as_slice()),
                _ => ("404 Not Found", b"nobody".as_slice()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = (&connection).write_all(&[head.as_bytes(), body].concat());
        }
    });
    address
}

fn texts(made: &Value, name: &str) -> Vec<String> {
    made[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn shares_and_tokens_reach_their_owners_encrypted_and_are_changed_and_made_by_them() {
    let production = Production::new();
    let server = production.start();
    let owners = [Owner::new(production.home(), "alice"), Owner::new(production.home(), "bob")];
    let files = owners.each_ref().map(|owner| owner.file.display().to_string());
    let mut cli = Cli::new(production.home(), server.address, "");
    cli.set("TRESOR_KEYBASE_ADDR", &keybase(std::fs::read(&owners[0].file).unwrap()));
    let unknown = cli.run(&["operator", "init", "-key-shares=1", "-key-threshold=1", "-pgp-keys=keybase:mallory"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.errors.contains("keybase:mallory") && unknown.errors.contains("404"), "{unknown:?}");
    let keys = format!("-pgp-keys=keybase:alice,{}", files[1]);
    let token_key = format!("-root-token-pgp-key={}", files[1]);
    let init = ["operator", "init", "-key-shares=2", "-key-threshold=2", &keys, &token_key, "-format=json"];
    let made: Value = serde_json::from_str(&cli.succeed(&init)).unwrap();
    let shares = texts(&made, "unseal_keys_b64");
    let shares = [owners[0].read(&shares[0]), owners[1].read(&shares[1])];
    let token = owners[1].read(made["root_token"].as_str().unwrap());
    for share in &shares {
        cli.succeed(&["operator", "unseal", share]);
    }
    cli.set("VAULT_TOKEN", &token);

    // New shares for the same two, verified before they open, and kept.
    let keys = format!("-pgp-keys={},{}", files[0], files[1]);
    let wish = ["operator", "rotate-keys", "-init", "-key-shares=2", "-key-threshold=2", "-verify", "-backup"];
    let begun = cli.succeed(&[&wish[..], &[&keys, "-format=json"]].concat());
    let begun: Value = serde_json::from_str(&begun).unwrap();
    let nonce = format!("-nonce={}", begun["nonce"].as_str().unwrap());
    cli.succeed(&["operator", "rotate-keys", &nonce, &shares[0]]);
    let made = cli.succeed(&["operator", "rotate-keys", &nonce, "-format=json", &shares[1]]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let new = texts(&made, "keys_base64");
    let new = [owners[0].read(&new[0]), owners[1].read(&new[1])];
    let nonce = format!("-nonce={}", made["verification_nonce"].as_str().unwrap());
    cli.succeed(&["operator", "rotate-keys", "-verify", &nonce, &new[0]]);
    let done = cli.succeed(&["operator", "rotate-keys", "-verify", &nonce, &new[1]]);
    assert!(done.contains("Success!"), "{done}");
    let kept = cli.succeed(&["operator", "rotate-keys", "-backup-retrieve", "-format=json"]);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["keys_base64"].as_object().unwrap().len(), 2);
    let first = kept["keys_base64"].as_object().unwrap().values().find_map(|keys| keys[0].as_str()).unwrap();
    assert!(texts(&made, "keys_base64").iter().any(|key| key == first));
    cli.succeed(&["operator", "rotate-keys", "-backup-delete"]);
    cli.succeed(&["operator", "seal"]);
    for share in &new {
        cli.succeed(&["operator", "unseal", share]);
    }

    // A root token, encrypted and with a password.
    let key = format!("-pgp-key={}", files[0]);
    let begun = cli.succeed(&["operator", "generate-root", "-init", &key, "-format=json"]);
    let begun: Value = serde_json::from_str(&begun).unwrap();
    let nonce = format!("-nonce={}", begun["nonce"].as_str().unwrap());
    cli.succeed(&["operator", "generate-root", &nonce, &new[0]]);
    let made = cli.succeed(&["operator", "generate-root", &nonce, "-format=json", &new[1]]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let sealed = owners[0].read(made["encoded_token"].as_str().unwrap());
    let otp = cli.succeed(&["operator", "generate-root", "-generate-otp"]).trim().to_owned();
    let otp_flag = format!("-otp={otp}");
    let begun = cli.succeed(&["operator", "generate-root", "-init", &otp_flag, "-format=json"]);
    let begun: Value = serde_json::from_str(&begun).unwrap();
    let nonce = format!("-nonce={}", begun["nonce"].as_str().unwrap());
    cli.succeed(&["operator", "generate-root", &nonce, &new[0]]);
    let made = cli.succeed(&["operator", "generate-root", &nonce, "-format=json", &new[1]]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let encoded = format!("-decode={}", made["encoded_token"].as_str().unwrap());
    let decoded = cli.succeed(&["operator", "generate-root", &encoded, &otp_flag]).trim().to_owned();
    for token in [sealed, decoded] {
        cli.set("VAULT_TOKEN", &token);
        assert!(cli.succeed(&["token", "lookup"]).contains("root"));
    }

    // Terms and slots.
    assert!(cli.succeed(&["operator", "rotate"]).contains("Key Term"));
    assert!(cli.succeed(&["operator", "key-status", "-format=json"]).contains("\"term\": 2"));
    let key = production.home().join("static.key");
    std::fs::write(&key, "ab".repeat(32)).unwrap();
    let from = format!("@{}", key.display());
    let tried = cli.run(&["operator", "seal-slots", "test", "-key-id=one", &from]);
    assert_eq!(tried.code, 2, "{tried:?}");
    let added = cli.succeed(&["operator", "seal-slots", "add", "-key-id=one", &from]);
    let slot = added.trim().rsplit(' ').next().unwrap().trim_matches(['[', ']']).to_owned();
    let listed = cli.succeed(&["operator", "seal-slots", "list"]);
    assert!(listed.contains("static") && listed.contains("n/a") && !listed.contains("<nil>"), "{listed}");
    cli.succeed(&["operator", "seal-slots", "test", "-key-id=one", &from]);
    cli.succeed(&["operator", "seal-slots", "remove", &slot]);
    assert_eq!(cli.run(&["operator", "seal-slots", "test", "-key-id=one", &from]).code, 2);
}

#[test]
fn sea_11_a_server_in_recovery_mode_serves_what_is_stored_to_whoever_has_its_token() {
    let production = Production::new();
    let server = production.start();
    let keys = Keys::initialize(&server.http(), 2, 2);
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    http.post("sys/policies/acl/kept", &json!({ "policy": "path \"a\" { capabilities = [\"read\"] }" })).expect(204);
    drop(server);

    let config = production.config();
    let arguments = ["-config", config.to_str().unwrap(), "-recovery"];
    let server = Server::start_by(&[], production.home(), &arguments, &[]);
    assert_eq!(server.said("Recovery Mode: "), "true");
    let nobody = server.http();
    for path in ["sys/health", "sys/seal-status", "sys/mounts", "cubbyhole/a", "sys/init"] {
        nobody.get(path).expect(404);
    }
    // Before there is a token nobody has it, whatever is sent.
    for token in ["", "hvr.", keys.root.as_str()] {
        nobody.with_token(token).get("sys/raw/root/policies/acl/kept").expect(403);
    }
    let mut cli = Cli::new(production.home(), server.address, "");
    cli.set("VAULT_FORMAT", "json");
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let begun = of(&cli.succeed(&["operator", "generate-root", "-recovery-token", "-init"]));
    let (nonce, otp) = (begun["nonce"].as_str().unwrap(), begun["otp"].as_str().unwrap());
    let enter = |share: &str| {
        of(&cli.succeed(&["operator", "generate-root", "-recovery-token", &format!("-nonce={nonce}"), share]))
    };
    assert_eq!(enter(&keys.hex[0])["complete"], false);
    let made = enter(&keys.hex[1]);
    assert_eq!(made["complete"], true);
    let encoded = format!("-decode={}", made["encoded_token"].as_str().unwrap());
    let token = of(&cli.succeed(&["operator", "generate-root", &encoded, &format!("-otp={otp}")]));
    let token = token["token"].as_str().unwrap();
    assert!(token.starts_with("hvr."), "{token}");
    // TIM-01: nothing that is nearly the token is the token.
    for wrong in ["", &token[..token.len() - 1], &format!("{token}a"), keys.root.as_str()] {
        nobody.with_token(wrong).get("sys/raw/root/policies/acl/kept").expect(403);
    }
    let http = server.http().with_token(token);
    assert_eq!(http.get("sys/raw/root/policies/acl?list=true").expect(200).at("/data/keys/1"), json!("kept"));
    let kept = http.get("sys/raw/root/policies/acl/kept?encoding=base64").expect(200).text_at("/data/value");
    http.send("DELETE", "sys/raw/root/policies/acl/kept", "").expect(204);
    http.get("sys/raw/root/policies/acl/kept").expect(404);
    http.get("sys/raw/core/keyring").expect(403);
    server.has_logged("recovery: what is stored is asked for");
    assert!(!server.log().contains(token));
    drop(server);

    // What was done there is what the server finds; and the token went with the process.
    let server = production.start();
    keys.unseal(&server.http());
    let root = server.http().with_token(&keys.root);
    root.get("sys/policies/acl/kept").expect(404);
    server.http().with_token(token).get("sys/mounts").expect(403);
    drop(server);
    let server = Server::start_by(&[], production.home(), &arguments, &[]);
    server.http().with_token(token).get("sys/raw/root/core/x").expect(403);
    assert!(!kept.is_empty());
}

#[test]
fn shares_of_a_namespaces_own_seal_reach_their_owners_encrypted_and_open_it() {
    let production = Production::new();
    let server = production.start();
    let owners = [Owner::new(production.home(), "alice"), Owner::new(production.home(), "bob")];
    let mut cli = Cli::new(production.home(), server.address, "");
    let init = ["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"];
    let made: Value = serde_json::from_str(&cli.succeed(&init)).unwrap();
    cli.succeed(&["operator", "unseal", &texts(&made, "unseal_keys_b64")[0]]);
    cli.set("VAULT_TOKEN", made["root_token"].as_str().unwrap());
    let keys = format!("-pgp-keys={},{}", owners[0].file.display(), owners[1].file.display());
    let create = ["namespace", "create", "-key-shares=2", "-key-threshold=2", &keys, "-format=json", "vaulted"];
    let made: Value = serde_json::from_str(&cli.succeed(&create)).unwrap();
    let sealed = texts(&made["data"], "key_shares");
    let mut shares = Vec::new();
    for (owner, share) in owners.iter().zip(&sealed) {
        // What the server gave out opens nothing, what its owner reads in it does.
        assert_ne!(cli.run(&["namespace", "unseal", "vaulted", share]).code, 0);
        let byte = |at: usize| u8::from_str_radix(&share[2 * at..2 * at + 2], 16).unwrap();
        let message: Vec<u8> = (0..share.len() / 2).map(byte).collect();
        let read = String::from_utf8(owner.gpg(&["--decrypt"], &message)).unwrap();
        cli.succeed(&["namespace", "unseal", "vaulted", &read]);
        shares.push(read);
    }
    let status = cli.succeed(&["namespace", "seal-status", "-format=json", "vaulted"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["sealed"], false, "{status}");
    // A root token of it, by the same shares: combined with a password, and encrypted to one of them.
    let generate = |cli: &Cli, rest: &[&str]| {
        let words = ["operator", "generate-root", "-namespace=vaulted"];
        cli.succeed(&[&words[..], rest].concat())
    };
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let otp = generate(&cli, &["-generate-otp"]).trim().to_owned();
    assert_eq!(otp.len(), 41, "as long as the token, which names the namespace");
    let (otp, key) = (format!("-otp={otp}"), format!("-pgp-key={}", owners[0].file.display()));
    for wish in [&otp, &key] {
        let begun = of(&generate(&cli, &["-init", wish, "-format=json"]));
        let nonce = format!("-nonce={}", begun["nonce"].as_str().unwrap());
        assert_eq!(of(&generate(&cli, &[&nonce, "-format=json", &shares[0]]))["complete"], false);
        let made = of(&generate(&cli, &[&nonce, "-format=json", &shares[1]]));
        let encoded = made["encoded_token"].as_str().unwrap();
        let token = if *wish == key {
            owners[0].read(encoded)
        } else {
            generate(&cli, &[&format!("-decode={encoded}"), &otp]).trim().to_owned()
        };
        let mut theirs = Cli::new(production.home(), server.address, "");
        theirs.set("VAULT_TOKEN", &token);
        assert!(theirs.succeed(&["token", "lookup", "-namespace=vaulted"]).contains("root"));
        assert_ne!(theirs.run(&["token", "lookup"]).code, 0, "it is no token of the server");
        assert!(!server.log().contains(&token));
    }
    // One key too few.
    let short = format!("-pgp-keys={}", owners[0].file.display());
    let refused = cli.run(&["namespace", "create", "-key-shares=2", "-key-threshold=2", &short, "other"]);
    assert!(refused.errors.contains("incorrect number of PGP keys"), "{refused:?}");
    // Sealed and given up, it is deleted without them.
    cli.succeed(&["namespace", "seal", "vaulted"]);
    let deleted = cli.succeed(&["namespace", "delete-sealed", "vaulted"]);
    assert!(deleted.contains("deletion scheduled: vaulted/"), "{deleted}");
}
