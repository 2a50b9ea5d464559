//! Completion as the shells do it, whose programs are run; and what a server adds to it.

use std::process::Command;

use crate::support::{Cli, Server, binary};

struct Place {
    home: tempfile::TempDir,
    server: Server,
}

impl Place {
    /// A server with secrets, and the program on a search path.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(binary(), home.path().join("bin/tresor")).unwrap();
        let server = Server::start(
            home.path(),
            &["-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"],
        );
        let place = Self { home, server };
        let cli = place.cli("root");
        cli.succeed(&["kv", "put", "secret/team/app", "a=1"]);
        cli.succeed(&["kv", "put", "secret/teapot", "a=1"]);
        place
    }

    fn cli(&self, token: &str) -> Cli<'_> {
        Cli::new(self.home.path(), self.server.address, token)
    }

    fn candidates(&self, token: &str, line: &str) -> Vec<String> {
        self.cli(token).succeed(&["completion", "candidates", line]).lines().map(str::to_owned).collect()
    }

    /// What a shell prints for a script.
    fn shell(&self, program: &str, arguments: &[&str], script: &str) -> Vec<String> {
        let mut shell = Command::new(program);
        let search = format!("{}:{}", self.home.path().join("bin").display(), std::env::var("PATH").unwrap());
        shell.args(arguments).arg("-c").arg(script).env_clear().current_dir(self.home.path());
        shell.env("PATH", search).env("HOME", self.home.path()).env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
        shell.env("VAULT_ADDR", format!("http://{}", self.server.address)).env("VAULT_TOKEN", "root");
        let done = shell.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&done.stderr));
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_server_offers_its_paths_and_names_to_whoever_has_a_token() {
    let place = Place::new();
    let offered = |line: &str| place.candidates("root", line);
    assert_eq!(offered("tresor kv get sec"), ["secret/"]);
    assert_eq!(offered("tresor kv get secret/te"), ["secret/team/", "secret/teapot"]);
    assert_eq!(offered("tresor kv get -mount=secret team/"), ["team/app"]);
    assert_eq!(offered("tresor kv get -mount=se"), ["-mount=secret/"]);
    assert_eq!(offered("tresor read secret/data/team/"), ["secret/data/team/app"]);
    assert_eq!(offered("tresor read secret/m"), ["secret/metadata/"]);
    assert_eq!(offered("tresor policy read de"), ["default"]);
    assert_eq!(offered("tresor secrets disable cub"), ["cubbyhole/"]);
    assert_eq!(offered("tresor auth tune to"), ["token/"]);
    assert!(offered("tresor kv get secret/teapot more").is_empty(), "there is one path");
    // Without a token, or with a wrong one, nothing is asked or told.
    assert!(place.candidates("", "tresor kv get sec").is_empty());
    assert!(place.candidates("wrong", "tresor kv get sec").is_empty());
    // A server that does not answer keeps nobody waiting.
    let mut cli = place.cli("root");
    cli.set("VAULT_ADDR", "http://127.0.0.1:1");
    assert_eq!(cli.succeed(&["completion", "candidates", "tresor kv get sec"]), "");
}

#[test]
fn bash_zsh_and_fish_complete_as_they_do() {
    let place = Place::new();
    // As bash calls it: the line, the point, the word that it has taken apart.
    let bash = |line: &str, word: &str| {
        let script = format!(
            "source <(tresor completion bash); COMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}}; COMP_POINT=${{#COMP_LINE}}; \
             _tresor tresor '{word}' '' 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        place.shell("bash", &["--norc", "--noprofile"], &script)
    };
    assert_eq!(bash("tresor kv metadata p", "p"), ["patch", "put"]);
    assert_eq!(bash("tresor kv get secret/te", "secret/te"), ["secret/team/", "secret/teapot"]);
    assert_eq!(bash("tresor status -format=j", "j"), ["json"]);
    assert_eq!(
        place.shell("bash", &["--norc"], "source <(tresor completion bash); complete -p tresor"),
        ["complete -o default -F _tresor tresor"]
    );

    // zsh offers by a builtin that works within its line editor alone: a function stands in for it.
    let zsh = |words: &[&str]| {
        let current = words.len();
        let last = words.last().unwrap();
        let words: String = words.iter().map(|word| format!("'{word}' ")).collect();
        let script = format!(
            "compdef() {{ }}; source <(tresor completion zsh); \
             compadd() {{ while [[ $1 != -- ]] {{ shift }}; shift; print -rl -- \"$@\" }}; _files() {{ print files }}; \
             words=({words}); CURRENT={current}; PREFIX='{last}'; _tresor"
        );
        place.shell("zsh", &["-f"], &script).into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(zsh(&["tresor", "kv", "metadata", "p"]), ["patch", "put"]);
    assert_eq!(zsh(&["tresor", "kv", "get", "secret/te"]), ["secret/team/", "secret/teapot"]);
    assert_eq!(zsh(&["tresor", "policy", "fmt", "x"]), ["files"]);

    let fish = |line: &str| {
        let script = format!("tresor completion fish | source; complete -C '{line}'");
        place.shell("fish", &["--no-config"], &script)
    };
    assert_eq!(fish("tresor kv metadata p"), ["patch", "put"]);
    assert_eq!(fish("tresor kv get secret/te"), ["secret/team/", "secret/teapot"]);
}

#[test]
fn completion_is_installed_where_there_are_shells_and_taken_out_again() {
    let home = tempfile::tempdir().unwrap();
    let cli = Cli { home: home.path(), environment: Vec::new() };
    assert_eq!(cli.run(&["-autocomplete-install"]).code, 1, "there is no shell");
    let [bash, zsh] = [".bashrc", ".zshrc"].map(|name| home.path().join(name));
    std::fs::write(&bash, "alias ll='ls -l'\n").unwrap();
    std::fs::write(&zsh, "").unwrap();
    cli.succeed(&["-autocomplete-install"]);
    let text = std::fs::read_to_string(&bash).unwrap();
    assert!(text.starts_with("alias ll='ls -l'\nsource <(tresor completion bash)"), "{text}");
    assert!(std::fs::read_to_string(&zsh).unwrap().contains("completion zsh"));
    cli.succeed(&["-autocomplete-uninstall"]);
    assert_eq!(std::fs::read_to_string(&bash).unwrap(), "alias ll='ls -l'\n");
    // A shell that was set up for the original asks by variables.
    let asked =
        cli.run_with(binary(), &["tresor", "sta", "tresor"], &[("COMP_LINE", "tresor sta"), ("COMP_POINT", "10")], "");
    assert_eq!((asked.code, asked.output.as_str()), (0, "status\n"));
}
