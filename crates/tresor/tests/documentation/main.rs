//! Every command in the documents does what its page says: each page's `console` blocks are run by bash against this
//! binary and a fresh server, and what is printed is compared with what the page shows.
//!
//! How to write a page: a line `$ command`, then what it prints; `...` stands for anything (ids, times). A command
//! must end with exit code 0, unless the next one is `echo $?`. Pages are listed below with the server they start
//! with; one without a command says why. Deliberately absent: any way to leave a single command out, except the
//! cargo commands of [`NOT_RUN`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod beside;
mod page;
mod python;
mod session;

use std::path::{Path, PathBuf};

use beside::Beside;
use page::Step;
use session::Session;

/// What a page starts with.
#[derive(Clone, Copy)]
enum Start {
    /// A dev server, the session logged in as root.
    DevServer,
    /// The same, and a server of others.
    Beside(fn() -> Beside),
    /// Nothing: the page starts its server itself, in the background.
    Nothing,
    /// The same, and a server of others.
    NothingBeside(fn() -> Beside),
    /// The page has no commands, for this reason.
    NoCommands(&'static str),
}

/// Commands that are shown and not run, for what they would do: build the whole project within its own test.
const NOT_RUN: &[&str] = &["cargo "];

macro_rules! pages {
    ($($name:ident: $path:literal, $start:expr;)*) => {
        const PAGES: &[(&str, Start)] = &[$(($path, $start)),*];
        $(
            #[test]
            fn $name() {
                check($path, $start);
            }
        )*
    };
}

pages! {
    architecture: "ARCHITECTURE.md", Start::NoCommands("it explains");
    contributing: "CONTRIBUTING.md", Start::NoCommands("its commands are cargo's");
    readme: "README.md", Start::DevServer;
    index: "docs/README.md", Start::NoCommands("it is an index");
    command_line: "docs/command-line.md", Start::DevServer;
    auth_approle: "docs/auth/approle.md", Start::DevServer;
    auth_github: "docs/auth/github.md", Start::DevServer;
    auth_token: "docs/auth/token.md", Start::DevServer;
    auth_userpass: "docs/auth/userpass.md", Start::DevServer;
    engine_aws: "docs/engines/aws.md", Start::Beside(beside::aws);
    engine_cubbyhole: "docs/engines/cubbyhole.md", Start::DevServer;
    engine_database: "docs/engines/database.md", Start::Beside(beside::postgres);
    engine_database_influxdb: "docs/engines/database-influxdb.md", Start::Beside(beside::influxdb);
    engine_database_mysql: "docs/engines/database-mysql.md", Start::Beside(beside::mariadb);
    engine_database_redis: "docs/engines/database-redis.md", Start::Beside(beside::redis);
    engine_kv_1: "docs/engines/kv-v1.md", Start::DevServer;
    engine_kv_2: "docs/engines/kv-v2.md", Start::DevServer;
    engine_ldap: "docs/engines/ldap.md", Start::Beside(beside::ldap);
    engine_rabbitmq: "docs/engines/rabbitmq.md", Start::Beside(beside::rabbitmq);
    acme: "docs/operate/acme.md", Start::NothingBeside(beside::pebble);
    audit: "docs/operate/audit.md", Start::DevServer;
    backup: "docs/operate/backup.md", Start::Nothing;
    cluster: "docs/operate/cluster.md", Start::Nothing;
    cluster_care: "docs/operate/cluster-care.md", Start::Nothing;
    configuration: "docs/operate/configuration.md", Start::Nothing;
    dev_server: "docs/operate/dev-server.md", Start::Nothing;
    events: "docs/operate/events.md", Start::DevServer;
    leases: "docs/operate/leases.md", Start::DevServer;
    load_balancer: "docs/operate/load-balancer.md", Start::DevServer;
    import: "docs/operate/import.md", Start::Beside(beside::aws);
    migrate: "docs/operate/migrate.md", Start::Nothing;
    module_seal: "docs/operate/module-seal.md", Start::Nothing;
    kept_keys: "docs/operate/kept-keys.md", Start::Nothing;
    mounts: "docs/operate/mounts.md", Start::DevServer;
    namespaces: "docs/operate/namespaces.md", Start::DevServer;
    shown_by_pages: "docs/operate/pages.md", Start::DevServer;
    policies: "docs/operate/policies.md", Start::DevServer;
    production_server: "docs/operate/production-server.md", Start::Nothing;
    quotas: "docs/operate/quotas.md", Start::DevServer;
    seal: "docs/operate/seal.md", Start::Nothing;
    secret_zero: "docs/operate/secret-zero.md", Start::DevServer;
    service_seal: "docs/operate/service-seal.md", Start::NothingBeside(beside::transit);
    static_seal: "docs/operate/static-seal.md", Start::Nothing;
    storage_postgresql: "docs/operate/storage-postgresql.md", Start::NothingBeside(beside::postgres);
    tls: "docs/operate/tls.md", Start::Nothing;
    tokens: "docs/operate/tokens.md", Start::DevServer;
    troubleshooting: "docs/operate/troubleshooting.md", Start::Nothing;
    operate_workflows: "docs/operate/workflows.md", Start::DevServer;
    usage: "docs/operate/usage.md", Start::DevServer;
    wrapping: "docs/operate/wrapping.md", Start::DevServer;
    watch: "docs/operate/watch.md", Start::DevServer;
    parity: "docs/parity.md", Start::NoCommands("it points to tests");
    performance: "docs/performance.md", Start::NoCommands("its commands take minutes and tools of profiling");
    security: "docs/security.md", Start::NoCommands("it points to code and tests");
    security_bank: "docs/security-bank.md", Start::NoCommands("it points to tests");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a page.
fn check(path: &str, start: Start) {
    let text = std::fs::read_to_string(root().join(path)).expect("the page is there");
    let steps = page::steps(&text);
    let to_run: Vec<&Step> =
        steps.iter().filter(|step| !NOT_RUN.iter().any(|shown| step.command.starts_with(shown))).collect();
    if let Start::NoCommands(reason) = start {
        assert!(!reason.is_empty() && to_run.is_empty(), "{path} has commands: give it a server");
        return;
    }
    assert!(!to_run.is_empty(), "{path} has no command to run: say why in the list");
    let beside = match start {
        Start::Beside(start) | Start::NothingBeside(start) => Some(start()),
        _ => None,
    };
    let needs_python = to_run.iter().any(|step| step.command.contains("python3"));
    let own = beside.as_ref().and_then(|beside| beside.python.as_deref());
    let python = own.or_else(|| needs_python.then(python::python));
    let mut session = Session::start(Path::new(env!("CARGO_BIN_EXE_tresor")), python);
    if let Some(beside) = &beside {
        session.stand_in(&beside.stand_ins);
    }
    if matches!(start, Start::DevServer | Start::Beside(_)) {
        session.start_dev_server();
    }
    for (at, step) in to_run.iter().enumerate() {
        let ran = session.run(&step.command);
        let mut printed: Vec<&str> = ran.lines.iter().map(String::as_str).collect();
        while printed.last().is_some_and(|line| line.trim().is_empty()) {
            printed.pop();
        }
        let code_is_shown = to_run.get(at + 1).is_some_and(|next| next.command == "echo $?");
        assert!(
            page::matches(&step.expected, &printed) && (ran.code == 0 || code_is_shown),
            "{path}:{}: `{}` ended with {} and printed\n{}\n\nThe page says\n{}\n{}",
            step.line,
            step.command,
            ran.code,
            ran.lines.join("\n"),
            step.expected.join("\n"),
            session.logs(),
        );
    }
}

#[test]
fn ci_runs_what_the_readme_names() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect("the file is there");
    assert!(read("README.md").contains("\n$ cargo run --release -- server -dev\n"));
    assert!(read("README.md").contains("\n$ cargo xtask test\n"));
    assert!(read(".ci/run").trim_end().ends_with("exec cargo xtask test"));
    // Of all binaries in the workspace, `cargo run` starts this one.
    assert!(read("crates/tresor/Cargo.toml").contains("\ndefault-run = \"tresor\"\n"));
}

#[test]
fn every_page_is_run() {
    let mut found = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    collect(&root().join("docs"), "docs", &mut found);
    found.sort();
    let mut listed: Vec<String> = PAGES.iter().map(|(path, _)| (*path).to_owned()).collect();
    listed.sort();
    assert_eq!(found, listed, "a page is missing from the list of this test, or gone");
}

fn collect(folder: &Path, name: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let entry = entry.expect("the folder is readable");
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            // Measurements are results, not instructions.
            if name != "docs/evidence" {
                collect(&entry.path(), &name, found);
            }
        } else if name.ends_with(".md") {
            found.push(name);
        }
    }
}
