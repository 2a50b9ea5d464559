//! A crash at every step of the disk, through the life of a server: initialising, unsealing, mounting, writing,
//! logging in, revoking, unmounting.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_env::doubles::SeededEntropy;
use tresor_sim::{StoreKind, World, password_hash};

const POLICY: &str = r#"path "kv/*" { capabilities = ["read"] }
path "auth/token/create" { capabilities = ["update"] }"#;

/// What the operator and the clients know.
#[derive(Clone, Default)]
struct Known {
    keys: Vec<String>,
    root: String,
    login: String,
    child: String,
}

/// What is done, in order; each is one request.
const DEEDS: [&str; 11] = [
    "enable audit",
    "mount kv",
    "write policy",
    "mount userpass",
    "write user",
    "login",
    "write secret",
    "make child",
    "overwrite secret",
    "revoke login",
    "unmount kv",
];

async fn do_deed(world: &World, known: &mut Known, deed: usize) -> bool {
    let root = known.root.clone();
    let (method, path, token, body) = match DEEDS[deed] {
        "enable audit" => {
            ("PUT", "sys/audit/file", root, json!({ "type": "file", "options": { "file_path": "/audit/file.log" } }))
        }
        "mount kv" => ("POST", "sys/mounts/kv", root, json!({ "type": "kv-v2" })),
        "write policy" => ("POST", "sys/policies/acl/reader", root, json!({ "policy": POLICY })),
        "mount userpass" => ("POST", "sys/auth/users", root, json!({ "type": "userpass" })),
        "write user" => (
            "POST",
            "auth/users/users/ann",
            root,
            json!({ "password_hash": password_hash("password").unwrap(), "token_policies": "reader" }),
        ),
        "login" => ("POST", "auth/users/login/ann", String::new(), json!({ "password": "password" })),
        "write secret" => ("POST", "kv/data/secret", root, json!({ "data": { "v": "first" } })),
        "make child" => ("POST", "auth/token/create", known.login.clone(), json!({ "policies": ["reader"] })),
        "overwrite secret" => ("POST", "kv/data/secret", root, json!({ "data": { "v": "second" } })),
        "revoke login" => ("POST", "auth/token/revoke", root, json!({ "token": known.login })),
        "unmount kv" => ("DELETE", "sys/mounts/kv", root, Value::Null),
        other => panic!("no such deed: {other}"),
    };
    let answer = world.call(method, path, &token, &body).await.unwrap();
    match DEEDS[deed] {
        "login" if answer.status == 200 => known.login = answer.text_at("/auth/client_token"),
        "make child" if answer.status == 200 => known.child = answer.text_at("/auth/client_token"),
        _ => {}
    }
    // A device whose file cannot be opened is refused to whoever named the file.
    let is_refused_device = DEEDS[deed] == "enable audit" && answer.status == 400;
    assert!(is_refused_device || matches!(answer.status, 200 | 204 | 500 | 503), "{}: {answer:?}", DEEDS[deed]);
    answer.status < 300
}

/// How far one got: whether initialising was answered, and how many deeds were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answered {
    init: bool,
    deeds: usize,
}

async fn live(world: &mut World, known: &mut Known) -> Answered {
    let mut answered = Answered::default();
    if world.start().is_err() {
        return answered;
    }
    let init = world.call("POST", "sys/init", "", &json!({ "secret_shares": 3, "secret_threshold": 2 })).await.unwrap();
    if init.status != 200 {
        assert!(matches!(init.status, 500 | 503), "{init:?}");
        return answered;
    }
    answered.init = true;
    known.keys = init.at("/keys").as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect();
    known.root = init.text_at("/root_token");
    if !unseal(world, &known.keys).await {
        return answered;
    }
    while answered.deeds < DEEDS.len() && do_deed(world, known, answered.deeds).await {
        answered.deeds += 1;
    }
    // The background work of all that is cut short as well.
    world.advance(Duration::from_secs(3)).await;
    answered
}

async fn unseal(world: &World, keys: &[String]) -> bool {
    for key in keys.iter().take(2) {
        let answer = world.call("POST", "sys/unseal", "", &json!({ "key": key })).await.unwrap();
        if answer.status != 200 {
            return false;
        }
    }
    world.call("GET", "sys/seal-status", "", &Value::Null).await.unwrap().at("/sealed") == &json!(false)
}

/// Which deeds are to be seen; `None` where it cannot be told.
async fn seen(world: &World, known: &Known) -> Vec<(&'static str, bool)> {
    let read = async |path: &str, token: &str| world.call("GET", path, token, &Value::Null).await.unwrap();
    let root = &known.root;
    let mounts = read("sys/mounts", root).await;
    let auth = read("sys/auth", root).await;
    let audit = read("sys/audit", root).await;
    let mut seen = vec![
        ("enable audit", audit.at("/data").get("file/").is_some()),
        ("write policy", read("sys/policies/acl/reader", root).await.status == 200),
        ("mount userpass", auth.at("/data").get("users/").is_some()),
        ("write user", read("auth/users/users/ann", root).await.status == 200),
    ];
    let secret = read("kv/data/secret", root).await;
    let is_mounted = mounts.at("/data").get("kv/").is_some();
    if is_mounted {
        seen.push(("mount kv", true));
        seen.push(("write secret", secret.status == 200));
        seen.push(("overwrite secret", secret.at("/data/data/v") == &json!("second")));
    } else {
        assert_eq!(secret.status, 404, "{secret:?}");
    }
    let lookup = async |token: &str| {
        let answer = world.call("POST", "auth/token/lookup", root, &json!({ "token": token })).await.unwrap();
        assert!(matches!(answer.status, 200 | 403), "{answer:?}");
        answer.status == 200
    };
    if !known.login.is_empty() {
        let is_alive = lookup(&known.login).await;
        seen.push(("revoke login", !is_alive));
        if !known.child.is_empty() {
            assert_eq!(lookup(&known.child).await, is_alive, "a child lives as long as its parent");
        }
    }
    seen
}

fn check_seen(step: u64, answered: Answered, seen: &[(&'static str, bool)]) {
    for (name, is_seen) in seen {
        let deed = DEEDS.iter().position(|deed| deed == name).unwrap();
        if deed < answered.deeds {
            assert!(is_seen, "step {step}: {name} was answered and is lost");
        }
        if deed > answered.deeds {
            assert!(!is_seen, "step {step}: {name} was never asked for");
        }
    }
    if answered.deeds == DEEDS.len() {
        assert!(!seen.iter().any(|(name, _)| *name == "mount kv"), "step {step}: unmounting was answered and is lost");
    }
}

/// How a server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    NothingKept,
    Torn(u64),
}

async fn end(world: &mut World, how: End) {
    world.doors.disk.fail_from_step(None);
    match how {
        End::Killed => world.kill().await,
        End::NothingKept => world.lose_power(|_| 0).await,
        End::Torn(seed) => {
            let choices = SeededEntropy::new(seed);
            let keep = |length: usize| match choices.next() % 3 {
                0 => 0,
                1 => length,
                _ => usize::try_from(choices.next()).unwrap_or(0) % (length + 1),
            };
            world.lose_power(keep).await;
        }
    }
}

/// Runs until the disk fails at `step`, ends the server, and looks at what a new one finds.
async fn crash_at(step: u64, how: End, whole: &Known) -> Answered {
    let mut world = World::new(7, StoreKind::File);
    world.doors.disk.fail_from_step(Some(step));
    let mut known = Known::default();
    let answered = live(&mut world, &mut known).await;
    end(&mut world, how).await;
    world.start().unwrap_or_else(|problem| panic!("step {step} {how:?}: {problem}"));
    let status = world.call("GET", "sys/seal-status", "", &Value::Null).await.unwrap();
    if status.at("/initialized") != &json!(true) {
        assert!(!answered.init, "step {step} {how:?}: initialising was answered and is lost");
        world.kill().await;
        let again = live(&mut world, &mut known).await;
        assert_eq!(again, Answered { init: true, deeds: DEEDS.len() }, "step {step} {how:?}");
        return answered;
    }
    // The same seed gives the same shares, so that what was not answered can be opened as well.
    if !answered.init {
        known = Known { keys: whole.keys.clone(), root: whole.root.clone(), ..Known::default() };
    }
    assert!(unseal(&world, &known.keys).await, "step {step} {how:?}: a server that was initialised cannot be unsealed");
    let found = seen(&world, &known).await;
    check_seen(step, answered, &found);
    world.advance(Duration::from_secs(3)).await;
    check_seen(step, answered, &seen(&world, &known).await);
    assert_eq!(world.node().unwrap().stale_caches().unwrap(), Vec::<&str>::new(), "step {step} {how:?}");
    let answer = world.call("POST", "cubbyhole/after", &known.root, &json!({ "v": "1" })).await.unwrap();
    assert_eq!(answer.status, 204, "step {step} {how:?}: {answer:?}");
    answered
}

async fn whole_life() -> (Known, u64) {
    let mut world = World::new(7, StoreKind::File);
    let mut known = Known::default();
    let answered = live(&mut world, &mut known).await;
    assert_eq!(answered, Answered { init: true, deeds: DEEDS.len() });
    (known, world.doors.disk.steps())
}

#[tokio::test]
async fn a_crash_at_every_storage_step_loses_nothing_answered_and_leaves_nothing_stuck() {
    let (whole, steps) = whole_life().await;
    assert!(steps > 100, "the life of a server has only {steps} steps");
    for step in 1..=steps {
        let how = match step % 4 {
            0 => End::Killed,
            1 => End::NothingKept,
            _ => End::Torn(step),
        };
        crash_at(step, how, &whole).await;
    }
}

#[tokio::test]
async fn initialising_cut_short_at_any_step_leaves_a_store_that_is_initialised_or_can_be() {
    let (whole, _) = whole_life().await;
    let mut step = 1;
    loop {
        let mut was_cut = false;
        for how in [End::Killed, End::NothingKept, End::Torn(step), End::Torn(step + 1_000_000)] {
            was_cut = crash_at(step, how, &whole).await == Answered::default();
        }
        if !was_cut {
            break;
        }
        step += 1;
    }
    assert!(step > 20, "initialising has only {step} steps");
}
