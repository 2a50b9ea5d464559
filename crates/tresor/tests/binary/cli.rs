//! The command line against a server: transcripts, compared letter by letter.
//!
//! A transcript in `golden/` is a list of command lines, each with what it wrote: standard output as it is, standard
//! error behind `! `, the exit code last; `## ` begins a remark. What differs from run to run stands as `<time>` and the like. With
//! UPDATE_GOLDEN set the files are written anew; the test fails all the same, so that somebody reads the difference.

use std::path::{Path, PathBuf};

use regex::Regex;

use crate::support::{Cli, Production, Server, binary};

/// A line of a transcript, split as a shell splits it (quotes, no more).
struct Line {
    environment: Vec<(String, String)>,
    words: Vec<String>,
    input: String,
}

impl Line {
    fn parse(text: &str) -> Self {
        let (text, input) = match text.split_once(" <<< ") {
            Some((text, input)) => (text, format!("{}\n", input.trim_matches('\''))),
            None => (text, String::new()),
        };
        let (mut words, mut word, mut quoted, mut is_begun) = (Vec::new(), String::new(), false, false);
        for letter in text.chars() {
            match letter {
                '\'' => (quoted, is_begun) = (!quoted, true),
                ' ' if !quoted => {
                    if is_begun {
                        words.push(std::mem::take(&mut word));
                    }
                    is_begun = false;
                }
                letter => {
                    word.push(letter);
                    is_begun = true;
                }
            }
        }
        if is_begun {
            words.push(word);
        }
        let variables = words.iter().take_while(|word| word.starts_with("VAULT_") && word.contains('=')).count();
        let environment = words
            .drain(..variables)
            .map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
            .collect();
        Self { environment, words, input }
    }
}

/// What differs from run to run, and what stands for it.
fn volatile(server: &Server, home: &Path) -> Vec<(Regex, String)> {
    let literal = |text: String, name: &str| (Regex::new(&regex::escape(&text)).unwrap(), name.to_owned());
    let pattern = |text: &str, name: &str| (Regex::new(text).unwrap(), name.to_owned());
    vec![
        literal(server.address.to_string(), "<address>"),
        literal(home.to_str().unwrap().to_owned(), "<home>"),
        pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        pattern(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
        pattern(r"hvs\.[0-9A-Za-z_-]{20,}", "<token>"),
        pattern(r"\b[0-9A-Za-z]{24}\b", "<accessor>"),
        pattern(r"\b(cubbyhole|kv|system|auth_token|auth_userpass)_[0-9a-f]{8}\b", "${1}_<accessor>"),
        pattern(r"tresor-cluster-[0-9a-z]{8}", "<cluster>"),
        pattern(r"(creation_time +|\x22creation_time\x22: |creation_time: )\d{10}", "${1}<seconds>"),
        pattern(r"\b7[56]\dh\d+m\d+s\b", "<nearly 768h>"),
        pattern(r"\bttl(\x22?:?) +276\d{4}", "ttl$1 <nearly 2764800>"),
        pattern(r"\b(5\dm\d{1,2}s|1h)\b", "<nearly 1h>"),
        pattern(r"\x22ttl\x22: (3[45]\d\d|3600)", "\"ttl\": <nearly 3600>"),
        pattern(r"(?m)^( *)(uuid|request_id): \x22?<uuid>\x22?$", "$1$2: <uuid>"),
        pattern(r"v\d+\.\d+\.\d+\+builtin", "v<version>+builtin"),
        pattern(r"(running_plugin_version\x22: \x22)[^\x22]+", "${1}<version>"),
        pattern(r"(?m) +$", "<spaces>"),
    ]
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/golden").join(format!("{name}.txt"))
}

fn check(name: &str) {
    let home = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("value.txt", "from a file\n"),
        ("data.json", "{\"number\": 1.50, \"list\": [1, \"two\"], \"flag\": true}\n"),
        ("policy.hcl", "# kept as it is\npath   \"secret/data/*\" {\n    capabilities=[\"read\",\n  \"list\"]\n}\n"),
        ("broken.hcl", "path \"secret\" {"),
        ("empty.hcl", "\n"),
        (
            "cases.hcl",
            "policies = [\"policy.hcl\", \"default\"]\ncase \"reads\" {\n  policies = [\"policy\"]\n  path = \"secret/data/a\"\n  \
             can = [\"read\"]\n}\ncase \"writes\" {\n  path = \"secret/data/a\"\n  can = [\"update\"]\n}\n",
        ),
    ] {
        std::fs::write(home.path().join(file), text).unwrap();
    }
    let server = Server::start(
        home.path(),
        &["-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"],
    );
    let mut cli = Cli::new(home.path(), server.address, "root");
    cli.set("VAULT_MAX_RETRIES", "0");
    let replacements = volatile(&server, home.path());
    let normal = |text: &str| {
        replacements
            .iter()
            .fold(text.to_owned(), |text, (what, with)| what.replace_all(&text, with.as_str()).into_owned())
    };
    let expected = std::fs::read_to_string(golden(name)).unwrap();
    let mut actual = String::new();
    for line in expected.lines() {
        if line.starts_with("## ") || line.is_empty() && !actual.ends_with("]\n\n") {
            actual.push_str(&format!("{line}\n"));
        }
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let parsed = Line::parse(command);
        let words: Vec<&str> = parsed.words.iter().map(String::as_str).collect();
        let environment: Vec<(&str, &str)> =
            parsed.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let finished = cli.run_with(binary(), &words, &environment, &parsed.input);
        actual.push_str(&format!("{line}\n"));
        let output = normal(&finished.output);
        actual.push_str(&output);
        if !output.is_empty() && !output.ends_with('\n') {
            actual.push_str("<no newline>\n");
        }
        // A usage that follows a mistake is the table of flags, which is tested where it is made.
        let errors = normal(&finished.errors);
        let errors = errors.split("\n\nUsage: ").next().unwrap();
        for line in errors.trim_end().lines() {
            actual.push_str(&format!("! {line}\n"));
        }
        actual.push_str(&format!("[{}]\n\n", finished.code));
    }
    let actual = format!("{}\n", actual.trim_end());
    if actual == expected {
        return;
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden(name), &actual).unwrap();
        panic!("{name} was written anew: read the difference");
    }
    let pairs = actual.lines().zip(expected.lines()).position(|(actual, expected)| actual != expected);
    let at = pairs.unwrap_or_else(|| actual.lines().count().min(expected.lines().count()));
    let around = |text: &str| text.lines().skip(at.saturating_sub(6)).take(14).collect::<Vec<_>>().join("\n");
    panic!("{name}, line {}:\n--- expected\n{}\n--- actual\n{}", at + 1, around(&expected), around(&actual));
}

#[test]
fn secrets_with_versions() {
    check("kv_2");
}

#[test]
fn secrets_without_versions() {
    check("kv_1");
}

#[test]
fn verbs_formats_and_inputs() {
    check("verbs");
}

#[test]
fn mounts_and_audit_devices() {
    check("mounts");
}

#[test]
fn tokens_policies_and_logins() {
    check("access");
}

#[test]
fn mistakes_and_exit_codes() {
    check("mistakes");
}

#[test]
fn the_servers_help_about_a_path_is_printed() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(
        home.path(),
        &["-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"],
    );
    let cli = Cli::new(home.path(), server.address, "root");
    assert!(cli.succeed(&["path-help", "secret/data/a"]).contains("cas"));
    assert!(cli.succeed(&["path-help", "sys/mounts"]).contains("secrets engines"));
    let json: serde_json::Value =
        serde_json::from_str(&cli.succeed(&["path-help", "-format=json", "sys/seal"])).unwrap();
    assert!(json["help"].is_string(), "{json}");
    let nowhere = cli.run(&["path-help", "nowhere"]);
    assert_eq!((nowhere.code, nowhere.output.as_str()), (2, ""));
}

#[test]
fn called_vault_it_says_the_api_level_in_every_spelling() {
    let home = tempfile::tempdir().unwrap();
    let vault = home.path().join("vault");
    std::os::unix::fs::symlink(binary(), &vault).unwrap();
    let cli = Cli { home: home.path(), environment: Vec::new() };
    for spelling in ["version", "-version", "--version", "-v"] {
        let finished = cli.run_with(vault.to_str().unwrap(), &[spelling], &[], "");
        assert!(finished.code == 0 && finished.output.starts_with("Vault v1.16.3 ("), "{spelling}: {finished:?}");
        assert_eq!(finished.errors, "");
        let finished = cli.run(&[spelling]);
        assert!(finished.code == 0 && finished.output.starts_with("Tresor v"), "{spelling}: {finished:?}");
    }
}

#[test]
fn a_login_keeps_the_token_and_the_environment_wins_over_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(
        home.path(),
        &["-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"],
    );
    let root = Cli::new(home.path(), server.address, "root");
    root.succeed(&["auth", "enable", "userpass"]);
    root.succeed(&["write", "auth/userpass/users/bob", "password=right", "policies=default"]);
    let kept = home.path().join(".vault-token");
    let cli = Cli::new(home.path(), server.address, "");
    assert_eq!(cli.run(&["token", "lookup"]).code, 2, "nobody is logged in");
    let wrong = cli.run(&["login", "-method=userpass", "username=bob", "password=wrong"]);
    assert_eq!((wrong.code, kept.exists()), (2, false), "{wrong:?}");
    // The password may come from standard input, where no list of processes shows it.
    let login = cli.run_with(binary(), &["login", "-method=userpass", "username=bob"], &[], "right\n");
    assert_eq!(login.code, 0, "{login:?}");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&kept).unwrap();
    assert!(token.starts_with("hvs.") && !token.contains('\n'), "{token}");
    assert!(cli.succeed(&["token", "lookup", "-field=display_name"]).contains("userpass-bob"));
    assert_eq!(cli.succeed(&["print", "token"]), format!("{token}\n"));
    assert_eq!(root.succeed(&["token", "lookup", "-field=display_name"]), "root", "the environment wins");
    let only = cli.succeed(&["login", "-method=userpass", "-token-only", "username=bob", "password=right"]);
    assert!(only.starts_with("hvs.") && only != token, "{only}");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), token, "-token-only keeps nothing");
    assert!(cli.succeed(&["login", "root"]).contains("Success! You are now authenticated."));
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "root");
    assert_eq!(cli.run(&["login", "nobody"]).code, 2);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "root", "a failed login changes nothing");
}

#[test]
fn a_proxy_is_used_when_the_environment_names_one() {
    let home = tempfile::tempdir().unwrap();
    let production = Production::new();
    let server = production.start();
    // The server stands in for the proxy: what reaches it is a request for another host.
    let mut cli = Cli { home: home.path(), environment: Vec::new() };
    cli.set("VAULT_ADDR", "http://vault.example:8200");
    assert_eq!(cli.run(&["operator", "init", "-status"]).code, 1, "there is no such host");
    for name in ["VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY", "HTTP_PROXY", "http_proxy"] {
        let finished = cli.run_with(
            binary(),
            &["operator", "init", "-status"],
            &[(name, &format!("http://{}", server.address))],
            "",
        );
        assert_eq!(finished.code, 2, "{name}: {finished:?}");
    }
}
