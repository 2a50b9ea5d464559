//! Snapshots of a server on real files, by the command line: whole and private or not at all, in bounded memory, while
//! writers go on, and restored over a SIGKILL.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::json;

use crate::support::cluster::{Here, Three, insist};
use crate::support::{Cli, Production};

const SNAPSHOT: [&str; 4] = ["operator", "raft", "snapshot", "save"];

fn snapshot<'a>(verb: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&SNAPSHOT[..3], &[verb], rest].concat()
}

/// The most memory that a process had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_snapshot_is_saved_whole_and_private_or_not_at_all() {
    save_and_restore(&Production::new());
}

#[test]
fn a_node_that_is_alone_saves_and_restores() {
    save_and_restore(&Production::raft());
}

#[test]
fn a_cluster_saves_and_restores_through_any_of_its_nodes_and_keeps_it_when_all_are_killed() {
    let mut three = Three::start(&Here);
    let leader = three.leader();
    let standby = (leader + 1) % 3;
    let value = "x".repeat(300_000);
    for at in 0..40 {
        insist(&three.http(standby), "POST", &format!("kv/{at}"), &json!({ "v": value, "at": at }).to_string());
    }
    let file = three.homes[0].home().join("a.snap");
    let saved = file.to_str().unwrap().to_owned();
    three.cli(standby).succeed(&snapshot("save", &[&saved]));
    insist(&three.http(standby), "POST", "kv/0", &json!({ "at": "otherwise" }).to_string());
    // Its client is sent to the active node.
    three.cli(standby).succeed(&snapshot("restore", &[&saved]));
    let is_restored = |three: &Three<'_>, at: usize| {
        for number in [0, 39] {
            let answer = insist(&three.http(at), "GET", &format!("kv/{number}"), "");
            assert_eq!(answer.at("/data/at"), json!(number), "at {at}");
        }
    };
    (0..3).for_each(|at| is_restored(&three, at));
    for server in three.servers.iter_mut().flatten() {
        server.signal(Signal::KILL);
    }
    for at in 0..3 {
        three.servers[at].take().unwrap().wait();
        three.start_again(at);
    }
    (0..3).for_each(|at| three.serves(at));
    (0..3).for_each(|at| is_restored(&three, at));
    insist(&three.http(standby), "POST", "kv/0", &json!({ "at": "later" }).to_string());
}

fn save_and_restore(production: &Production) {
    let (mut server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let cli = Cli::new(production.home(), server.address, &keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv-v1" })).expect(204);
    let value = "x".repeat(500_000);
    for at in 0..160 {
        http.post(&format!("kv/{at}"), &json!({ "v": value, "at": at })).expect(204);
    }
    let file = production.home().join("a.snap");
    let saved = file.to_str().unwrap();
    // Writers go on meanwhile, and nobody's memory grows with what is stored.
    let peak = peak_kib(server.pid());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                http.post("kv/meanwhile", &json!({ "v": 1 })).expect(204);
            }
        });
        cli.succeed(&snapshot("save", &[saved]));
        is_over.store(true, Ordering::Relaxed);
    });
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(metadata.len() > 80_000_000);
    cli.succeed(&snapshot("inspect", &[saved]));
    let piped = production.home().join("piped.snap");
    let mut piping = cli.start(&snapshot("save", &["-"]));
    std::io::copy(&mut piping.stdout.take().unwrap(), &mut std::fs::File::create(&piped).unwrap()).unwrap();
    assert!(piping.wait().unwrap().success());
    cli.succeed(&snapshot("inspect", &[piped.to_str().unwrap()]));
    assert!(!production.home().join("-").exists());
    http.post("kv/0", &json!({ "v": "otherwise" })).expect(204);
    cli.succeed(&snapshot("restore", &[saved]));
    let more = peak_kib(server.pid()).saturating_sub(peak);
    assert!(more < 60_000, "saving and restoring took {more} KiB more");
    // Its keys are those of what was restored: it serves at once.
    assert_eq!(http.get("kv/0").expect(200).at("/data/at"), json!(0));
    // What was restored is durable: the process goes without a word.
    server.signal(Signal::KILL);
    server.wait();
    let server = production.start();
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    for at in 0..160 {
        assert_eq!(http.get(&format!("kv/{at}")).expect(200).at("/data/at"), json!(at));
    }
    http.post("kv/0", &json!({ "v": "later" })).expect(204);

    // A file that is damaged never leaves, and one that could not be saved is not there.
    let cli = Cli::new(production.home(), server.address, &keys.root);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    for verb in ["inspect", "restore"] {
        let refused = cli.run(&snapshot(verb, &[saved]));
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.errors.contains("a.snap is refused, at byte"), "{refused:?}");
    }
    let nobody = Cli::new(production.home(), server.address, "nobody");
    let other = production.home().join("b.snap");
    assert_eq!(nobody.run(&snapshot("save", &[other.to_str().unwrap()])).code, 2);
    let names: Vec<_> = std::fs::read_dir(production.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("b.snap")), "{names:?}");
    assert_eq!(http.get("kv/0").expect(200).text_at("/data/v"), "later");
}
