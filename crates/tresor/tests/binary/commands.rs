//! Every command by its own example: what it prints instead of its request, and what it says when it is denied.
//!
//! The commands are those that help lists, so none is forgotten.

use super::tls::Authority;
use crate::support::{Cli, Server, binary, try_run};

/// Commands whose example sends nothing that could be printed, and why.
const SEND_NOTHING: &[(&str, &str)] = &[
    ("print token", "it prints what is kept"),
    ("policy lint", "it reads files, unless policies of a server are asked for"),
    ("policy test", "it reads files, unless they name policies of a server"),
    ("operator import", "it asks more than a server, and reads a file first that is not here"),
    ("operator raft snapshot restore", "it reads the file first, and there is none here"),
];

/// How many are asked at once.
const AT_ONCE: usize = 4;

/// A command: its name, and what its help says.
struct Command {
    name: String,
    help: String,
}

/// Everything below a group, by help.
fn commands(cli: &Cli<'_>, words: &[&str]) -> Vec<Command> {
    let help = cli.succeed(&[words, &["-help"]].concat());
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return vec![Command { name: words.join(" "), help }];
    };
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.flat_map(|name| commands(cli, &[words, &[name]].concat())).collect()
}

/// As a shell splits an example.
fn split(example: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (number, part) in example.split('\'').enumerate() {
        for (place, piece) in (if number % 2 == 0 { part.split(' ').collect() } else { vec![part] }).iter().enumerate()
        {
            if place > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words
}

fn place() -> (tempfile::TempDir, Server) {
    let home = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("app.json", "{\"a\": 1}"),
        ("password.txt", "x"),
        ("spare.key", "542a91c2aff86797e8dfa16adf86dcbea5706410791b319798936a1b08e4ef8b"),
        ("app.hcl", "path \"a\" {\n  capabilities = [\"read\"]\n}\n"),
    ] {
        std::fs::write(home.path().join(file), text).unwrap();
    }
    let server = Server::start(
        home.path(),
        &["-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"],
    );
    let root = Cli::new(home.path(), server.address, "root");
    root.succeed(&["secrets", "enable", "-path=kv", "kv"]);
    root.succeed(&["kv", "put", "secret/app", "a=1"]);
    (home, server)
}

#[test]
fn every_command_can_be_printed_and_says_why_it_is_denied() {
    let (home, server) = place();
    // One authority instead of all that the machine knows, which each of these processes would read.
    let authority = Authority::new(home.path(), "own").file;
    let as_whom = |token: &str| {
        let mut cli = Cli::new(home.path(), server.address, token);
        for (name, value) in [("CACERT", authority.to_str().unwrap()), ("MAX_RETRIES", "0"), ("CLIENT_TIMEOUT", "5s")] {
            cli.set(&format!("VAULT_{name}"), value);
        }
        cli
    };
    let (root, nobody) = (as_whom("root"), as_whom("none"));
    let all = commands(&root, &[]);
    assert!(all.len() > 80, "{}", all.len());
    let is_asked = |command: &&Command| {
        command.help.contains("  -output-policy\n") && SEND_NOTHING.iter().all(|(left, _)| *left != command.name)
    };
    let asked: Vec<&Command> = all.iter().filter(is_asked).collect();
    let denied: usize = std::thread::scope(|scope| {
        let (root, nobody) = (&root, &nobody);
        let ask = |part: &'_ [&Command]| part.iter().filter(|command| is_denied(command, root, nobody)).count();
        let parts = asked.chunks(asked.len().div_ceil(AT_ONCE));
        let asking: Vec<_> = parts.map(|part| scope.spawn(move || ask(part))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(denied > 50, "{denied} were denied");
    assert_eq!(root.run(&["status"]).code, 0, "nothing was done");
}

/// Whether nobody may do what the example of a command does; what is printed of it, and said to nobody, is looked at.
fn is_denied(Command { name, help }: &Command, root: &Cli<'_>, nobody: &Cli<'_>) -> bool {
    let example = split(help.lines().find_map(|line| line.strip_prefix("  $ tresor ")).unwrap());
    let example: Vec<&str> = example.iter().map(String::as_str).collect();
    let run = |cli: &Cli<'_>, more: &str| cli.run_with(binary(), &[&example, [more].as_slice()].concat(), &[], "x\n");
    let curl = run(root, "-output-curl-string");
    assert!(curl.code == 0 && curl.output.starts_with("curl "), "{name}: {curl:?}");
    assert!(!curl.output.contains("Token: root"), "{name} shows a token: {curl:?}");
    let rule = run(root, "-output-policy");
    assert!(rule.code == 0 && rule.output.starts_with("path \""), "{name}: {rule:?}");
    if name == "debug" {
        // It would go on for two minutes with what nobody may know left out.
        return false;
    }
    let refused = run(nobody, "-non-interactive");
    let is_denied = refused.errors.contains("Code: 403") && name != "login";
    if is_denied {
        // Of a token that may be none there is nothing to ask.
        let can_ask = name != "token lookup";
        assert_eq!(refused.errors.contains("\nWhy: tresor policy why "), can_ask, "{name}: {refused:?}");
        assert_eq!(refused.code, 2, "{name}: {refused:?}");
    }
    is_denied
}

#[test]
fn the_command_that_tells_why_asks_the_same_server_about_the_path_that_was_named() {
    let (home, server) = place();
    let address = format!("-address=http://{}", server.address);
    let mut nobody = Cli::new(home.path(), server.address, "none");
    nobody.set("VAULT_ADDR", "http://127.0.0.1:1");
    let flags = [address.as_str(), "-ns=team-a", "-tls-skip-verify"];
    let denied = nobody.run(&[&["kv", "get"], flags.as_slice(), &["secret/a b"]].concat());
    let why = denied.errors.lines().find_map(|line| line.strip_prefix("Why: ")).unwrap_or_else(|| panic!("{denied:?}"));
    assert_eq!(
        why,
        format!("tresor policy why {address} -tls-skip-verify=true -ns=team-a read 'secret/a b'"),
        "{denied:?}"
    );
}

#[test]
fn a_terminal_gets_tables_that_fit_and_colours() {
    let (home, server) = place();
    let on_terminal = |columns: usize, line: &str| {
        let set = format!("stty cols {columns}; exec {} {line}", binary());
        let mut command = crate::support::command("script", home.path());
        command.args(["-qec", &set, "/dev/null"]).env("PATH", std::env::var("PATH").unwrap()).env("TERM", "xterm");
        command.env("VAULT_ADDR", format!("http://{}", server.address)).env("VAULT_TOKEN", "root");
        String::from_utf8(command.output().unwrap().stdout).unwrap().replace('\r', "")
    };
    if let Err(error) = try_run(&["script", "--version"]) {
        panic!("`script` of bsdutils is needed: {error}");
    }
    let wide = on_terminal(200, "secrets list");
    assert!(wide.lines().next().unwrap().starts_with("Path"), "{wide}");
    let narrow = on_terminal(60, "secrets list");
    assert!(narrow.lines().count() > wide.lines().count(), "{narrow}");
    let block = on_terminal(60, "secrets list -detailed");
    assert!(block.contains("Path ") && block.contains("\n\nPath "), "{block}");
    assert!(block.lines().all(|line| !line.contains("Path") || !line.contains("Plugin")), "{block}");
    // What somebody stored does not steer the terminal of whoever looks at it; a single value is as it is.
    let cli = Cli::new(home.path(), server.address, "root");
    cli.succeed(&["write", "cubbyhole/a", "title=\u{1b}[2Jx"]);
    cli.succeed(&["kv", "put", "secret/a", "title=\u{1b}[2Jx"]);
    std::fs::write(home.path().join("steers.hcl"), "# \u{1b}[2Jx\npath \"a\" { capabilities = [\"read\"] }\n").unwrap();
    cli.succeed(&["policy", "write", "steers", "steers.hcl"]);
    assert_eq!(cli.succeed(&["policy", "read", "steers"]).lines().next(), Some("# \u{1b}[2Jx"), "as it is stored");
    for command in [
        "read cubbyhole/a",
        "kv get secret/a",
        "policy read steers",
        "policy read 'no\u{1b}[2Jx'",
        "'no\u{1b}[2Jx'",
        "write 'cubbyhole/\u{1b}[2Jx' a=b",
        "server -dev -dev-listen-address='\u{1b}[2Jx'",
        "server -config='\u{1b}[2Jx'",
        "operator migrate -config='\u{1b}[2Jx'",
    ] {
        let shown = on_terminal(80, command).replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
        let is_shown = shown.to_lowercase().contains("\\u{1b}[2jx");
        assert!(is_shown && !shown.contains('\u{1b}'), "{command}: {shown:?}");
    }
    assert!(on_terminal(80, "read -field=title cubbyhole/a").contains("\u{1b}[2Jx"));
    let wrong = on_terminal(80, "read nowhere/x");
    assert!(wrong.contains("\u{1b}[31mNo value found"), "{wrong:?}");
}
