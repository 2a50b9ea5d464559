//! What is asked of every kind of database server through the `database` engine, whatever that server is: accounts under
//! leases, rotations, and what becomes of them when the role, the connection, this server or the other one is gone in the
//! middle.
//!
//! Deliberately absent: statements in a server's own language; those come with its [`Server`].

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::cluster::Alone;
use tresor_env::doubles::TestDoors;
use tresor_harness::{Answer, Harness, ROOT, assembly};
use tresor_services::Authority;

/// A kind of server, and what is said to it.
pub(crate) trait Server {
    /// What configurations call it.
    const PLUGIN: &'static str;
    /// The password of its `root`.
    const ROOT_PASSWORD: &'static str;
    /// What makes an account.
    const CREATION: &'static str;
    /// What makes one that is let in by a certificate alone.
    const CERTIFIED: &'static str;
    /// What takes one away.
    const REVOCATION: &'static str;
    /// What sets a password.
    const ROTATION: &'static str;
    /// What takes very long; all that was asked for before it is done by then.
    const SLEEP: &'static str;
    /// What is refused.
    const NONSENSE: &'static str = "SELECT nothing";
    /// What breaks the connection; all that was asked for before it is done by then.
    const BREAK: &'static str;

    fn start() -> Self;
    /// Where it is, with placeholders.
    fn url(&self) -> String;
    /// How many accounts there are that were made.
    fn accounts(&self) -> usize;
    fn lets_in(&self, user: &str, password: &str) -> bool;
    /// Makes somebody who may do everything.
    fn add(&self, user: &str, password: &str);
    fn remove(&self, user: &str);
    /// Takes away every account that was made.
    fn remove_accounts(&self);
    /// What it keeps of somebody's password: another text, another password.
    fn kept_of(&self, user: &str) -> String;
    /// How many connections somebody has.
    fn sessions(&self, user: &str) -> usize;
    /// How many sleep.
    fn asleep(&self) -> usize;
    /// Ends those.
    fn wake(&self);
    /// From now on certificates of this authority are believed.
    fn believe(&self, authority: &str);
    fn lets_in_by(&self, user: &str, certificate: &str, key: &str) -> bool;
    /// Makes it stand still.
    fn freeze(&self);
    /// Lets it go on.
    fn thaw(&self);
}

/// A node whose network is the machine's, and a database server that it has a connection to.
pub(crate) struct Both<S> {
    pub(crate) harness: Harness,
    pub(crate) server: S,
}

/// Lets what was begun come to its end: until this holds.
macro_rules! until {
    ($harness:expr, $holds:expr) => {{
        let mut holds = false;
        for turn in 0..1_000 {
            // What is due is looked for once a second.
            if turn % 20 == 1 {
                $harness.advance(std::time::Duration::from_secs(1)).await;
            }
            $harness.settle().await;
            if $holds {
                holds = true;
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(holds, "it does not come to that: {}", stringify!($holds));
    }};
}
pub(crate) use until;

const HOUR: Duration = Duration::from_secs(3600);

impl<S: Server> Both<S> {
    pub(crate) async fn start() -> Self {
        let (mut doors, real) = (TestDoors::new(1), tresor_env_os::doors());
        // The server goes by its own clock.
        doors.clock.advance(real.clock.wall().since(doors.doors.clock.wall()));
        doors.doors.net = real.net;
        let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
        harness.initialize().await;
        let both = Self { harness, server: S::start() };
        both.harness.prepare("POST", "sys/mounts/database", json!({ "type": "database" })).await;
        both.begin().await;
        both
    }

    pub(crate) fn config(&self, user: &str, password: &str) -> Value {
        json!({
            "plugin_name": S::PLUGIN, "connection_url": self.server.url(), "allowed_roles": "*",
            "username": user, "password": password, "max_open_connections": 2,
        })
    }

    /// Does something that answers nothing.
    pub(crate) async fn post(&self, path: &str, body: Value) {
        drop(self.harness.prepare("POST", &format!("database/{path}"), body).await.expect_status(204));
    }

    /// A connection `db` and a role `app`.
    pub(crate) async fn begin(&self) {
        self.post("config/db", self.config("root", S::ROOT_PASSWORD)).await;
        self.role("app", json!({})).await;
    }

    async fn role(&self, name: &str, more: Value) {
        let mut role =
            json!({ "db_name": "db", "creation_statements": S::CREATION, "default_ttl": "1h", "max_ttl": "24h" });
        role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post(&format!("roles/{name}"), role).await;
    }

    pub(crate) async fn creds(&self) -> Answer {
        self.made("app").await
    }

    async fn made(&self, role: &str) -> Answer {
        self.harness.read(&format!("database/creds/{role}"), ROOT).await.expect_status(200)
    }

    pub(crate) async fn revoke(&self, lease: &str) {
        self.harness.prepare("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    }

    /// Lets time pass at once, and what is due then come to its end, as far as it comes soon.
    async fn pass(&self, time: Duration) {
        self.harness.advance(time).await;
        for _ in 0..20 {
            self.harness.settle().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// After how long somebody who asks for an account is told that there is none.
    async fn refused_after(&self) -> Duration {
        let began = self.harness.doors.doors.clock.wall();
        let answer = self.harness.read("database/creds/app", ROOT).await;
        assert!(answer.status >= 400, "{answer:?}");
        self.harness.doors.doors.clock.wall().since(began)
    }

    fn until_midnight(&self) -> Duration {
        let today = self.harness.doors.doors.clock.wall().seconds().rem_euclid(86_400);
        Duration::from_secs(u64::try_from(86_400 - today).unwrap())
    }

    /// Waits until the server sleeps over a request, kills the node, and opens it again.
    async fn cut_short(&mut self, method: &str, path: &str, body: Value) {
        {
            let mut asked = std::pin::pin!(self.harness.call(method, path, ROOT, body));
            while self.server.asleep() == 0 {
                tokio::select! {
                    answer = &mut asked => panic!("it was answered: {answer:?}"),
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        }
        self.harness.kill();
        self.server.wake();
        self.harness.unseal().await;
    }

    /// What is true of every kind of server; what one part leaves behind the next one counts with.
    pub(crate) async fn is_as_any(&mut self) {
        // While it still goes by the server's clock.
        an_account_is_let_in_by_a_certificate_that_names_it(self).await;
        an_account_ends_with_its_lease(self).await;
        whatever_becomes_of_role_and_connection_accounts_are_taken_back(self).await;
        a_connection_that_lost_its_name_goes_with_its_last_lease_however_that_ends(self).await;
        a_static_role_is_rotated(self).await;
        dyn_08_the_root_password_is_rotated(self).await;
        the_root_password_is_rotated_when_its_time_comes(self).await;
        a_password_that_nobody_knows_the_fate_of_is_found_out(self).await;
        a_server_that_is_away_for_a_while_keeps_nothing(self).await;
        a_crash_at_any_step_leaves_what_leases_say(self).await;
    }
}

async fn an_account_ends_with_its_lease<S: Server>(both: &Both<S>) {
    let made = both.creds().await;
    let (user, password) = (made.text_at("/data/username"), made.text_at("/data/password"));
    assert!(user.starts_with("v-root-app-"), "{user}");
    assert_eq!((made.at("/lease_duration"), made.at("/renewable")), (&json!(3600), &json!(true)));
    assert!(both.server.lets_in(&user, &password));
    both.harness.advance(HOUR / 2).await;
    let lease = made.text_at("/lease_id");
    both.harness.prepare("PUT", "sys/leases/renew", json!({ "lease_id": lease, "increment": 3600 })).await;
    both.harness.advance(HOUR / 2 + HOUR / 4).await;
    assert!(both.server.lets_in(&user, &password));
    both.revoke(&lease).await;
    until!(both.harness, both.server.accounts() == 0);
    assert!(!both.server.lets_in(&user, &password));
    // One that nobody takes back ends by itself.
    both.creds().await;
    assert_eq!(both.server.accounts(), 1);
    both.harness.advance(Duration::from_secs(3700)).await;
    until!(both.harness, both.server.accounts() == 0);
}

async fn an_account_is_let_in_by_a_certificate_that_names_it<S: Server>(both: &Both<S>) {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    both.server.believe(&authority.certificate);
    let config = json!({ "ca_cert": authority.certificate, "ca_private_key": authority.key, "key_type": "ec" });
    let role = json!({
        "creation_statements": S::CERTIFIED, "credential_type": "client_certificate", "credential_config": config,
    });
    both.role("certified", role).await;
    // Who signs is shown, and never with what.
    let shown = both.harness.read("database/roles/certified", ROOT).await;
    let config = json!({ "ca_cert": authority.certificate, "key_type": "ec" });
    assert_eq!(shown.at("/data/credential_config"), &config);
    let certified = async || {
        let made = both.made("certified").await;
        assert_eq!((made.at("/data/password"), made.at("/renewable")), (&Value::Null, &json!(false)), "{made:?}");
        let text = |field: &str| made.text_at(&format!("/data/{field}"));
        (text("username"), text("client_certificate"), text("private_key"), made.text_at("/lease_id"))
    };
    let (user, certificate, key, lease) = certified().await;
    until!(both.harness, both.server.lets_in_by(&user, &certificate, &key));
    // As another one it is let in by nothing, and neither is anybody without it.
    let (other_user, ..) = certified().await;
    assert!(!both.server.lets_in_by(&other_user, &certificate, &key));
    assert!(!both.server.lets_in(&user, ""));
    both.revoke(&lease).await;
    until!(both.harness, !both.server.lets_in_by(&user, &certificate, &key));
    // What is not sent stays, so does what it is signed with; and the certificate may say what an account is called.
    let config = json!({
        "ca_cert": authority.certificate, "key_type": "rsa", "key_bits": 2048, "signature_bits": 384,
        "common_name_template": "v-own-{{ random 8 }}",
    });
    both.role("certified", json!({ "creation_statements": S::CERTIFIED, "credential_config": config })).await;
    let (user, certificate, key, _) = certified().await;
    assert!(user.starts_with("v-own-") && both.server.lets_in_by(&user, &certificate, &key), "{user}");
    for (wrong, expected) in [
        (json!({ "credential_config": { "ca_cert": other.certificate } }), "is not believed by ca_cert"),
        (json!({ "credential_config": {} }), "missing ca_cert"),
        (json!({ "credential_config": { "ca_cert": "x", "other": 1 } }), "unknown key `other`"),
        (json!({ "credential_type": "rsa_private_key" }), "unsupported credential_type: \"rsa_private_key\""),
    ] {
        let refused = both.harness.write("database/roles/certified", ROOT, wrong).await.expect_status(400);
        assert!(refused.text_at("/errors/0").contains(expected), "{refused:?}");
    }
    both.post("roles/certified", json!({ "creation_statements": S::CREATION })).await;
    let refused = both.harness.read("database/creds/certified", ROOT).await.expect_status(400);
    assert!(refused.text_at("/errors/0").contains("put in a password"), "{refused:?}");
    drop(both.harness.delete("database/roles/certified", ROOT).await.expect_status(204));
    both.harness.prepare("PUT", "sys/leases/revoke-prefix/database", Value::Null).await;
    until!(both.harness, both.server.accounts() == 0);
}

async fn whatever_becomes_of_role_and_connection_accounts_are_taken_back<S: Server>(both: &Both<S>) {
    // Made by somebody who is gone by then: who counts now for the same server renews it and takes it away.
    both.server.add("gone", "gone-pw");
    both.post("config/db", both.config("gone", "gone-pw")).await;
    let orphan = both.creds().await.text_at("/lease_id");
    both.begin().await;
    both.server.remove("gone");
    both.harness.prepare("PUT", "sys/leases/renew", json!({ "lease_id": orphan, "increment": 3600 })).await;
    assert_eq!(both.server.accounts(), 1);
    both.revoke(&orphan).await;
    until!(both.harness, both.server.accounts() == 0);
    // Made by a connection that is then written anew for another user, and one that is deleted.
    let first = both.creds().await.text_at("/lease_id");
    both.server.add("second", "second-pw");
    both.post("config/db", both.config("second", "second-pw")).await;
    let second = both.creds().await.text_at("/lease_id");
    drop(both.harness.delete("database/roles/app", ROOT).await.expect_status(204));
    drop(both.harness.delete("database/config/db", ROOT).await.expect_status(204));
    assert_eq!(both.server.accounts(), 2);
    for lease in [first, second] {
        both.revoke(&lease).await;
    }
    until!(both.harness, both.server.accounts() == 0);
    both.server.remove("second");
    both.begin().await;
}

async fn a_connection_that_lost_its_name_goes_with_its_last_lease_however_that_ends<S: Server>(both: &Both<S>) {
    both.server.add("former", "former-pw");
    both.post("config/db", both.config("former", "former-pw")).await;
    both.role("stuck", json!({ "revocation_statements": S::NONSENSE })).await;
    let ends = both.creds().await.text_at("/lease_id");
    let stays = both.made("stuck").await.text_at("/lease_id");
    both.begin().await;
    both.revoke(&ends).await;
    until!(both.harness, both.server.accounts() == 1);
    // Nobody can take this one away; each of both is asked.
    let refused = json!({ "lease_id": stays, "sync": true });
    assert!(both.harness.write("sys/leases/revoke", ROOT, refused).await.status >= 400);
    assert_ne!(both.server.sessions("former"), 0, "there is an account that it has to take away");
    both.harness.prepare("PUT", &format!("sys/leases/revoke-force/{stays}"), Value::Null).await;
    until!(both.harness, both.server.sessions("former") == 0);
    // The account is the operator's to take away.
    assert_eq!(both.server.accounts(), 1);
    both.server.remove("former");
    both.server.remove_accounts();
    drop(both.harness.delete("database/roles/stuck", ROOT).await.expect_status(204));
}

async fn a_static_role_is_rotated<S: Server>(both: &Both<S>) {
    both.server.add("sta'tic", "first");
    let role = json!({ "db_name": "db", "username": "sta'tic", "rotation_period": "1h" });
    both.post("static-roles/st", role).await;
    let read = async || both.harness.read("database/static-creds/st", ROOT).await.expect_status(200);
    let shown = read().await;
    let first = shown.text_at("/data/password");
    assert_eq!((shown.at("/data/username"), shown.at("/data/ttl")), (&json!("sta'tic"), &json!(3600)));
    assert!(both.server.lets_in("sta'tic", &first) && !both.server.lets_in("sta'tic", "first"));
    both.post("rotate-role/st", Value::Null).await;
    let second = read().await.text_at("/data/password");
    assert!(both.server.lets_in("sta'tic", &second) && first != second);
    // Its time comes.
    both.harness.advance(Duration::from_secs(3601)).await;
    until!(both.harness, read().await.text_at("/data/password") != second);
    let third = read().await.text_at("/data/password");
    assert!(both.server.lets_in("sta'tic", &third));
    // By a schedule, whose window passes while nobody is there; the next one does not.
    both.post("static-roles/st", json!({ "rotation_schedule": "0 0 * * *", "rotation_window": "1h" })).await;
    both.pass(both.until_midnight() + 2 * HOUR).await;
    assert_eq!(read().await.text_at("/data/password"), third);
    both.harness.advance(22 * HOUR).await;
    until!(both.harness, read().await.text_at("/data/password") != third);
    drop(both.harness.delete("database/static-roles/st", ROOT).await.expect_status(204));
    both.server.remove("sta'tic");
}

async fn dyn_08_the_root_password_is_rotated<S: Server>(both: &Both<S>) {
    both.server.add("manager", "manager-pw");
    both.post("config/db", both.config("manager", "manager-pw")).await;
    let before = both.creds().await.text_at("/lease_id");
    both.post("rotate-root/db", Value::Null).await;
    assert!(!both.server.lets_in("manager", "manager-pw"));
    let after = both.creds().await.text_at("/lease_id");
    for lease in [before, after] {
        both.revoke(&lease).await;
    }
    until!(both.harness, both.server.accounts() == 0);
    // One that cannot be set leaves everything as it was.
    both.post("config/db", json!({ "root_rotation_statements": S::NONSENSE })).await;
    drop(both.harness.write("database/rotate-root/db", ROOT, Value::Null).await.expect_status(400));
    both.post("config/db", json!({ "root_rotation_statements": [] })).await;
}

async fn the_root_password_is_rotated_when_its_time_comes<S: Server>(both: &mut Both<S>) {
    both.server.add("timed", "timed-pw");
    let mut config = both.config("timed", "timed-pw");
    config["rotation_period"] = json!("24h");
    both.post("config/db", config).await;
    let shown = both.harness.read("database/config/db", ROOT).await;
    assert_eq!(shown.at("/data/rotation_period"), &json!(86_400));
    assert_eq!(shown.at("/data/disable_automated_rotation"), &json!(false));
    for (wrong, expected) in [
        (json!({ "rotation_period": 9 }), "rotation_period must be 10 seconds or more"),
        (json!({ "rotation_period": 60, "rotation_schedule": "0 0 * * *" }), "mutually exclusive"),
        (json!({ "rotation_window": "1h" }), "cannot use rotation_window without rotation_schedule"),
        (json!({ "rotation_schedule": "now and then" }), "could not parse rotation_schedule"),
        (json!({ "username": "" }), "no username in configuration"),
    ] {
        let refused = both.harness.write("database/config/db", ROOT, wrong).await.expect_status(400);
        assert!(refused.text_at("/errors/0").contains(expected), "{refused:?}");
    }
    both.pass(23 * HOUR).await;
    assert!(both.server.lets_in("timed", "timed-pw"));
    both.harness.advance(HOUR).await;
    until!(both.harness, !both.server.lets_in("timed", "timed-pw"));
    let lease = both.creds().await.text_at("/lease_id");
    both.revoke(&lease).await;
    // And again a day after that, also on another process; one that the server refuses is tried again soon.
    both.post("config/db", json!({ "root_rotation_statements": S::NONSENSE })).await;
    let second = both.server.kept_of("timed");
    both.harness.kill();
    both.harness.unseal().await;
    both.pass(25 * HOUR).await;
    assert_eq!(both.server.kept_of("timed"), second);
    both.post("config/db", json!({ "root_rotation_statements": [] })).await;
    both.harness.advance(Duration::from_secs(100)).await;
    until!(both.harness, both.server.kept_of("timed") != second);
    // A crash in the middle: the password that was set is found out, and the day begins.
    let slow = format!("{}; {}", S::ROTATION, S::SLEEP);
    both.post("config/db", json!({ "root_rotation_statements": slow })).await;
    let third = both.server.kept_of("timed");
    both.harness.advance(24 * HOUR).await;
    until!(both.harness, both.server.asleep() > 0);
    both.harness.kill();
    both.server.wake();
    both.harness.unseal().await;
    let fourth = both.server.kept_of("timed");
    assert_ne!(fourth, third);
    let lease = both.creds().await.text_at("/lease_id");
    both.revoke(&lease).await;
    both.post("config/db", json!({ "root_rotation_statements": [] })).await;
    both.pass(Duration::from_secs(100)).await;
    both.pass(23 * HOUR).await;
    assert_eq!(both.server.kept_of("timed"), fourth);
    both.harness.advance(HOUR).await;
    until!(both.harness, both.server.kept_of("timed") != fourth);
    // Not by itself any more, until somebody says so; and by a schedule whose window has passed, not before the next day.
    both.post("config/db", json!({ "disable_automated_rotation": true })).await;
    let fifth = both.server.kept_of("timed");
    both.pass(48 * HOUR).await;
    assert_eq!(both.server.kept_of("timed"), fifth);
    let daily = json!({
        "disable_automated_rotation": false, "rotation_schedule": "0 0 * * *", "rotation_window": "1h",
    });
    both.post("config/db", daily).await;
    both.pass(both.until_midnight() + 2 * HOUR).await;
    assert_eq!(both.server.kept_of("timed"), fifth);
    both.harness.advance(22 * HOUR).await;
    until!(both.harness, both.server.kept_of("timed") != fifth);
    both.post("config/db", json!({ "rotation_schedule": "" })).await;
    both.begin().await;
    both.server.remove("timed");
}

async fn a_password_that_nobody_knows_the_fate_of_is_found_out<S: Server>(both: &mut Both<S>) {
    both.server.add("broken", "broken-pw");
    both.post("config/db", both.config("broken", "broken-pw")).await;
    // It is set, and the connection breaks before that is known.
    let breaks = format!("{}; {}", S::ROTATION, S::BREAK);
    both.post("config/db", json!({ "root_rotation_statements": breaks })).await;
    let doubt = both.harness.write("database/rotate-root/db", ROOT, Value::Null).await;
    assert!(doubt.status >= 400 && !both.server.lets_in("broken", "broken-pw"), "{doubt:?}");
    // Whoever connects tries both, another process, too.
    both.harness.kill();
    both.harness.unseal().await;
    let lease = both.creds().await.text_at("/lease_id");
    both.revoke(&lease).await;
    until!(both.harness, both.server.accounts() == 0);
    both.harness.advance(Duration::from_secs(120)).await;
    both.post("config/db", json!({ "root_rotation_statements": [] })).await;
    both.post("rotate-root/db", Value::Null).await;
    let lease = both.creds().await.text_at("/lease_id");
    both.revoke(&lease).await;
    both.begin().await;
    both.server.remove("broken");
}

async fn a_server_that_is_away_for_a_while_keeps_nothing<S: Server>(both: &Both<S>) {
    let lease = both.creds().await.text_at("/lease_id");
    both.server.freeze();
    // Over a connection that was just in use, whoever asks for an account is told that nobody knows; it may have been made.
    let (waited, ()) = tokio::join!(both.refused_after(), async {
        both.pass(Duration::from_secs(10)).await;
        both.harness.prepare("PUT", "sys/leases/revoke", json!({ "lease_id": lease })).await;
        for _ in 0..9 {
            both.pass(Duration::from_secs(10)).await;
        }
    });
    assert!(waited <= Duration::from_secs(40), "{waited:?}");
    both.server.thaw();
    // What was asked for in vain may come true late, and is taken back once more.
    for _ in 0..40 {
        both.pass(Duration::from_secs(10)).await;
    }
    until!(both.harness, both.server.accounts() == 0);
    // One that waited is asked whether it is still there, and then nothing was done.
    let lease = both.creds().await.text_at("/lease_id");
    both.pass(Duration::from_secs(5)).await;
    both.server.freeze();
    let (waited, ()) = tokio::join!(both.refused_after(), async {
        for _ in 0..10 {
            both.pass(Duration::from_secs(4)).await;
        }
    });
    assert!(waited <= Duration::from_secs(20), "{waited:?}");
    both.server.thaw();
    both.revoke(&lease).await;
    until!(both.harness, both.server.accounts() == 0);
    let lease = both.creds().await.text_at("/lease_id");
    both.revoke(&lease).await;
    until!(both.harness, both.server.accounts() == 0);
}

async fn a_crash_at_any_step_leaves_what_leases_say<S: Server>(both: &mut Both<S>) {
    let slowly = |statements: &str| format!("{statements}; {}", S::SLEEP);
    // The account is there, and the node was not told yet.
    both.role("slow", json!({ "creation_statements": slowly(S::CREATION) })).await;
    both.cut_short("GET", "database/creds/slow", Value::Null).await;
    assert_eq!(both.server.accounts(), 1);
    both.harness.advance(Duration::from_secs(100)).await;
    until!(both.harness, both.server.accounts() == 0);
    // It is renewed, and stays.
    both.role("slow", json!({ "renew_statements": S::SLEEP })).await;
    let made = both.made("slow").await;
    let lease = made.text_at("/lease_id");
    let renewal = json!({ "lease_id": lease, "increment": "5h" });
    both.cut_short("PUT", "sys/leases/renew", renewal).await;
    assert!(both.server.lets_in(&made.text_at("/data/username"), &made.text_at("/data/password")));
    both.harness.prepare("PUT", "sys/leases/lookup", json!({ "lease_id": lease })).await;
    both.revoke(&lease).await;
    until!(both.harness, both.server.accounts() == 0);
    // It is gone, and its lease when whoever was not answered asks again.
    let role = json!({ "renew_statements": [], "revocation_statements": slowly(S::REVOCATION) });
    both.role("slow", role).await;
    let lease = both.made("slow").await.text_at("/lease_id");
    both.cut_short("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    drop(both.harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": lease, "sync": true })).await);
    drop(both.harness.write("sys/leases/lookup", ROOT, json!({ "lease_id": lease })).await.expect_status(400));
    assert_eq!(both.server.accounts(), 0);
    drop(both.harness.delete("database/roles/slow", ROOT).await.expect_status(204));
    // A password is set that nobody was shown; what is shown in the end is it.
    both.server.add("static", "first");
    let role = json!({ "db_name": "db", "username": "static", "rotation_period": "24h" });
    both.post("static-roles/st", role).await;
    both.post("static-roles/st", json!({ "rotation_statements": slowly(S::ROTATION) })).await;
    both.cut_short("POST", "database/rotate-role/st", Value::Null).await;
    both.post("static-roles/st", json!({ "rotation_statements": [] })).await;
    both.harness.advance(Duration::from_secs(100)).await;
    let shown = async || both.harness.read("database/static-creds/st", ROOT).await.text_at("/data/password");
    until!(both.harness, both.server.lets_in("static", &shown().await));
    drop(both.harness.delete("database/static-roles/st", ROOT).await.expect_status(204));
    both.server.remove("static");
}
