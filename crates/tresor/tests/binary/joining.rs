//! Three servers that become one cluster: by themselves with a static key, or with shares that are entered once; the one
//! that leads is killed, and nothing that was acknowledged is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::json;

use super::support::cluster::{KEY, STATIC, all_vote, insist, is_open, members, node};
use super::support::{Cli, Http, Keys, Server, until};
use super::tls::Authority;

#[test]
fn three_servers_find_together_and_lose_nothing_when_the_leader_is_killed() {
    let homes = [node(1, &[], STATIC)];
    let first = homes[0].start_with(&KEY);
    let made = first.http().post("sys/init", &json!({ "recovery_shares": 1, "recovery_threshold": 1 })).expect(200);
    let root = made.text_at("/root_token");
    // The third asks the second, which asks the first.
    let second_home = node(2, &[&first], STATIC);
    let second = second_home.start_with(&KEY);
    let third_home = node(3, &[&second], STATIC);
    let third = third_home.start_with(&KEY);
    let [one, two, three] = [&first, &second, &third].map(|server| server.http().with_token(&root));
    until("three voters", || (members(&one)? == all_vote()).then_some(()));
    until("the others to open", || (is_open(&two) && is_open(&three)).then_some(()));
    insist(&one, "POST", "sys/mounts/kv", &json!({ "type": "kv-v1" }).to_string());
    // Every node takes a write, and every other one shows it at once.
    two.post("kv/by-two", &json!({ "x": "2" })).expect(204);
    assert_eq!(three.get("kv/by-two").expect(200).text_at("/data/x"), "2");
    assert_eq!(one.get("kv/by-two").expect(200).text_at("/data/x"), "2");
    // Somebody writes through the two that stay while the one that leads is killed.
    let is_over = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let through = if number % 2 == 0 { &two } else { &three };
                let body = json!({ "x": number.to_string() }).to_string();
                let answer = through.try_send("POST", &format!("kv/{number}"), &body);
                if answer.is_some_and(|answer| answer.status == 204) {
                    acknowledged.push(number);
                }
            }
            acknowledged
        });
        let counted = |at_least: usize| {
            until("writes", || {
                let listed = two.try_send("LIST", "kv/", "")?;
                (listed.at("/data/keys").as_array()?.len() >= at_least).then_some(())
            });
        };
        counted(20);
        first.kill();
        let led = until("another leader", || {
            let leader = two.try_send("GET", "sys/leader", "")?.at("/leader_address");
            leader.as_str().filter(|leader| !leader.is_empty() && *leader != format!("http://{}", one.address))?;
            two.try_send("POST", "kv/after", &json!({ "x": "after" }).to_string()).filter(|done| done.status == 204)
        });
        drop(led);
        let so_far = insist(&two, "GET", "kv?list=true", "").at("/data/keys").as_array().unwrap().len();
        counted(so_far + 20);
        is_over.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    for number in &acknowledged {
        let read = insist(&three, "GET", &format!("kv/{number}"), "");
        assert_eq!(read.text_at("/data/x"), number.to_string());
    }
    // What was killed comes back by itself, at another address.
    let again = homes[0].start_with(&KEY);
    let back = again.http().with_token(&root);
    until("the first to open", || is_open(&back).then_some(()));
    assert_eq!(insist(&back, "GET", "kv/after", "").text_at("/data/x"), "after");
    until("three voters", || (members(&back)? == all_vote()).then_some(()));
}

#[test]
fn shares_are_entered_once_on_a_server_that_joins() {
    let first_home = node(1, &[], "");
    let first = first_home.start();
    let keys = Keys::initialize(&first.http(), 3, 2);
    keys.unseal(&first.http());
    let one = first.http().with_token(&keys.root);
    insist(&one, "POST", "sys/mounts/kv", &json!({ "type": "kv-v1" }).to_string());
    one.post("kv/a", &json!({ "x": "kept" })).expect(204);
    // By an operator's word, and never to vote.
    let second_home = node(2, &[], "");
    let mut second = second_home.start();
    let cli = Cli::new(second_home.home(), second.address, "");
    let joined = cli.succeed(&["operator", "raft", "join", "-non-voter", &format!("http://{}", first.address)]);
    assert!(joined.contains("Joined") && joined.contains("true"), "{joined}");
    // By its configuration.
    let third_home = node(3, &[&first], "");
    let third = third_home.start();
    let [two, three] = [&second, &third].map(|server| server.http().with_token(&keys.root));
    let waits = |http: &Http| http.try_send("GET", "sys/seal-status", "").filter(|status| status.at("/t") == json!(2));
    for (http, name) in [(&two, "node-2"), (&three, "node-3")] {
        let status = until(name, || waits(http));
        assert_eq!((status.at("/initialized"), status.at("/sealed")), (json!(true), json!(true)));
        let half = http.post("sys/unseal", &json!({ "key": keys.hex[0] })).expect(200);
        assert_eq!(half.at("/progress"), json!(1));
        assert!(members(&one).unwrap().iter().all(|(member, _)| member != name));
        http.post("sys/unseal", &json!({ "key": keys.hex[1] })).expect(200);
        until("it to open", || is_open(http).then_some(()));
        assert_eq!(insist(http, "GET", "kv/a", "").text_at("/data/x"), "kept");
    }
    let expected: Vec<(String, bool)> =
        [("node-1", true), ("node-2", false), ("node-3", true)].map(|(name, vote)| (name.to_owned(), vote)).into();
    until("the third to vote", || (members(&one)? == expected).then_some(()));
    // Started again, a member needs its shares to open, and nobody to be let in.
    second.signal(Signal::TERM);
    second.wait();
    let second = second_home.start();
    let two = second.http().with_token(&keys.root);
    until("it to know that it is a member", || {
        (two.get("sys/seal-status").at("/initialized") == json!(true)).then_some(())
    });
    keys.unseal(&two);
    assert_eq!(insist(&two, "GET", "kv/a", "").text_at("/data/x"), "kept");
    // One that was removed stays outside, and says so, until its directory is empty.
    let cli = Cli::new(first_home.home(), first.address, &keys.root);
    cli.succeed(&["operator", "raft", "remove-peer", "node-2"]);
    until("it to be gone", || (members(&one)?.len() == 2).then_some(()));
    until("it to know", || (two.get("sys/health").status == 530).then_some(()));
    assert_eq!(two.get("sys/seal-status").at("/removed_from_cluster"), json!(true));
    second.kill();
    let second = second_home.start();
    let two = second.http().with_token(&keys.root);
    until("it to know again", || (two.get("sys/health").status == 530).then_some(()));
    assert!(members(&one).unwrap().iter().all(|(member, _)| member != "node-2"));
    second.kill();
    // Where that is asked for, the process ends when it knows.
    let config = format!("-config={}", second_home.config().display());
    let mut second = Server::start(second_home.home(), &[&config, "-exit-on-core-shutdown"]);
    assert_eq!(second.wait().code(), Some(1));
    second.has_logged("serves no more by itself");
    std::fs::remove_dir_all(second_home.data()).unwrap();
    let second = second_home.start();
    let two = second.http().with_token(&keys.root);
    let cli = Cli::new(second_home.home(), second.address, "");
    cli.succeed(&["operator", "raft", "join", &format!("http://{}", third.address)]);
    keys.unseal(&two);
    until("it to be back", || (members(&one)? == all_vote()).then_some(()));
    assert_eq!(insist(&two, "GET", "kv/a", "").text_at("/data/x"), "kept");
}

#[test]
fn a_server_joins_over_tls_by_the_certificates_and_the_name_that_it_is_told() {
    let first_home = node(1, &[], STATIC);
    let home = first_home.home();
    let authority = Authority::new(home, "own");
    let (certificate, key) = authority.sign(home, "leader", "leader.test");
    let (client, client_key) = authority.sign(home, "client", "client.test");
    let [authority, certificate, key, client, client_key] =
        [&authority.file, &certificate, &key, &client, &client_key].map(|path| path.to_str().unwrap());
    let configured = std::fs::read_to_string(first_home.config()).unwrap();
    let tls = format!(
        "tls_cert_file = \"{certificate}\"\n  tls_key_file = \"{key}\"\n  tls_client_ca_file = \"{authority}\"\n  \
         tls_require_and_verify_client_cert = true"
    );
    first_home.configure(&configured.replace("tls_disable = true", &tls));
    let first = first_home.start_with(&KEY);
    let leader = format!("https://{}", first.address);
    let mut cli = Cli { home, environment: Vec::new() };
    for (name, value) in [
        ("VAULT_ADDR", leader.as_str()),
        ("VAULT_CACERT", authority),
        ("VAULT_CLIENT_CERT", client),
        ("VAULT_CLIENT_KEY", client_key),
        ("VAULT_TLS_SERVER_NAME", "leader.test"),
    ] {
        cli.set(name, value);
    }
    cli.succeed(&["operator", "init", "-recovery-shares=1", "-recovery-threshold=1"]);
    // By its configuration, with files.
    let second_home = node(2, &[], STATIC);
    let joins = |servername: &str| {
        format!(
            "storage \"raft\" {{\n  retry_join {{\n  leader_api_addr = \"{leader}\"\n  leader_ca_cert_file = \
             \"{authority}\"\n  leader_client_cert_file = \"{client}\"\n  leader_client_key_file = \
             \"{client_key}\"\n  leader_tls_servername = \"{servername}\"\n  }}\n"
        )
    };
    let configured = std::fs::read_to_string(second_home.config()).unwrap();
    second_home.configure(&configured.replacen("storage \"raft\" {\n", &joins("leader.test"), 1));
    let second = second_home.start_with(&KEY);
    until("the second to open", || is_open(&second.http()).then_some(()));
    // By an operator's word, with what is in the files; and not by less.
    let third_home = node(3, &[], STATIC);
    let third = third_home.start_with(&KEY);
    let mut cli = Cli::new(third_home.home(), third.address, "");
    cli.set("VAULT_MAX_RETRIES", "0");
    let at = |path: &str| format!("@{path}");
    let all = [
        format!("-leader-ca-cert={}", at(authority)),
        format!("-leader-client-cert={}", at(client)),
        format!("-leader-client-key={}", at(client_key)),
        "-leader-tls-servername=leader.test".to_owned(),
    ];
    for missing in 0..all.len() {
        // A certificate and its key go together.
        let is_kept = |at: &usize| *at != missing && !(matches!(missing, 1 | 2) && matches!(at, 1 | 2));
        let kept: Vec<&str> = (0..all.len()).filter(is_kept).map(|at| all[at].as_str()).collect();
        let refused = cli.run(&[&["operator", "raft", "join"], kept.as_slice(), &[leader.as_str()]].concat());
        assert!(refused.code != 0 && refused.errors.contains("failed to join raft cluster"), "{missing}: {refused:?}");
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    cli.succeed(&[&["operator", "raft", "join"], all.as_slice(), &[leader.as_str()]].concat());
    until("the third to open", || is_open(&third.http()).then_some(()));
}
