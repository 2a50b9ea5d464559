//! What another server of this API answered, exchange by exchange, and what ours answers: `conformance/differential`.
//!
//! The facts were recorded once; this asks our binary alone. Deliberately absent: the other server, and any rule of what
//! is right: where the two differ, the file says what ours answers and why (`WHYS`). `UPDATE_GOLDEN=1` writes down what ours
//! answers now; a new difference gets the reason `?`, which no run takes.

mod exchange;
mod outcome;

use std::path::{Path, PathBuf};

use exchange::Session;

use crate::support::{Server, binary};

/// Why ours may differ; a row of `docs/security-bank.md`, such as `ACL-01`, is a reason too.
const WHYS: &[(&str, &str)] = &[
    ("vault", "the older API, which its clients know, has the path, the field or the status"),
    ("blame", "the client is to blame and is told so, where the other server fails or says nothing"),
    ("strict", "refused here on purpose"),
    ("lenient", "taken here on purpose, since clients send it"),
    ("more", "ours says more, or does more"),
    ("words", "other words, which no client looks for"),
    ("waits", "what it is about is not here yet, such as identities"),
];

/// One exchange of a file: where it stands, what is sent, what the other server answered, what ours does and why.
struct Exchange<'f> {
    line: usize,
    sent: &'f str,
    theirs: &'f str,
    ours: Option<(&'f str, &'f str)>,
}

/// What stands in a file.
enum Item<'f> {
    Text(&'f str),
    Start(&'f str),
    Keep(&'f str),
    Exchange(Exchange<'f>),
}

fn items(text: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            ">" => items.push(Item::Exchange(Exchange { line: number + 1, sent: rest, theirs: "", ours: None })),
            "<" | "~" => {
                let Some(Item::Exchange(exchange)) = items.last_mut() else { panic!("line {number}: no exchange") };
                if mark == "<" {
                    exchange.theirs = rest;
                } else {
                    exchange.ours = Some(rest.split_once(" | ").unwrap_or(("?", rest)));
                }
            }
            "start" => items.push(Item::Start(rest)),
            "keep" => items.push(Item::Keep(rest)),
            _ => items.push(Item::Text(line)),
        }
    }
    items
}

fn is_reason(why: &str) -> bool {
    let is_row = || {
        let (family, number) = why.split_once('-').unwrap_or_default();
        !family.is_empty() && family.bytes().all(|byte| byte.is_ascii_uppercase()) && number.parse::<u16>().is_ok()
    };
    WHYS.iter().any(|(known, _)| *known == why) || is_row()
}

/// A server in the state that a file begins with.
fn start(home: &Path, kind: &str) -> Server {
    let config = home.join("config.json");
    match kind {
        "dev" => Server::start(
            home,
            &["-dev", "-dev-root-token-id=root", "-dev-no-store-token", "-dev-listen-address=127.0.0.1:0"],
        ),
        "new" => {
            let text = r#"{"storage": {"inmem": {}}, "disable_mlock": true,
                "listener": {"tcp": {"address": "127.0.0.1:0", "tls_disable": true}}}"#;
            std::fs::write(&config, text).unwrap();
            Server::start(home, &["-config", config.to_str().unwrap()])
        }
        _ => panic!("`start dev` or `start new`"),
    }
}

/// Plays one file: what does not hold, and the file as it would have to be.
fn play(text: &str) -> (Vec<String>, String) {
    let home = tempfile::tempdir().unwrap();
    let items = items(text);
    let kind = items.iter().find_map(|item| if let Item::Start(kind) = item { Some(*kind) } else { None });
    let server = start(home.path(), kind.expect("a file says how its server starts"));
    let mut session = Session::new(server.http());
    let (mut problems, mut lines) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Text(line) => lines.push(line.to_owned()),
            Item::Start(kind) => lines.push(format!("start {kind}")),
            Item::Keep(what) => {
                session.keep(what);
                lines.push(format!("keep {what}"));
            }
            Item::Exchange(exchange) => {
                let got = session.send(exchange.sent);
                lines.extend([format!("> {}", exchange.sent), format!("< {}", exchange.theirs)]);
                let (why, expected) = exchange.ours.unwrap_or(("", exchange.theirs));
                if exchange.ours.is_some() && !is_reason(why) {
                    problems.push(format!("line {}: `{why}` is no reason", exchange.line));
                }
                if outcome::fits(exchange.theirs, &got) {
                    if exchange.ours.is_some() {
                        problems.push(format!("line {}: ours does not differ any more", exchange.line));
                    }
                } else {
                    if !outcome::fits(expected, &got) {
                        problems.push(format!(
                            "line {}: {}\n  wanted {expected}\n  got    {got}",
                            exchange.line, exchange.sent
                        ));
                    }
                    lines.push(format!("~ {} | {got}", if why.is_empty() { "?" } else { why }));
                }
            }
        }
    }
    lines.push(String::new());
    (problems, lines.join("\n"))
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/differential");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn pt_18_every_recorded_exchange_ends_as_recorded_or_differs_for_a_reason() {
    assert!(Path::new(binary()).exists());
    let files = files();
    let played: Vec<(Vec<String>, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .iter()
            .map(|file| {
                scope.spawn(move || {
                    let text = std::fs::read_to_string(file).unwrap();
                    let (problems, now) = play(&text);
                    if std::env::var_os("UPDATE_GOLDEN").is_some() && now != text {
                        std::fs::write(file, now).unwrap();
                    }
                    (problems, text.lines().filter(|line| line.starts_with("> ")).count())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let exchanges: usize = played.iter().map(|(_, count)| count).sum();
    assert!(exchanges > 900, "the corpus shrank to {exchanges}");
    let mut told = String::new();
    for (file, (problems, _)) in files.iter().zip(&played) {
        for problem in problems {
            told.push_str(&format!("{}: {problem}\n", file.file_name().unwrap().to_string_lossy()));
        }
    }
    assert!(told.is_empty(), "{told}");
}
