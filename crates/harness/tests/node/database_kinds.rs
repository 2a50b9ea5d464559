//! The `database` engine against real servers that are no SQL: the same promises, server after server.
//!
//! What is asked of one kind alone stands with that kind (`engines/database/src`).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_canary::Canaries;
use tresor_core::cluster::Alone;
use tresor_env::doubles::TestDoors;
use tresor_harness::{Answer, Captured, Harness, ROOT, assembly};
use tresor_server::Https;
use tresor_services::redis::{self, Users};
use tresor_services::{Between, InfluxDb, Postgres, Redis, influxdb};

use crate::databases::until;

/// A server of one kind.
trait Server {
    /// As which kind it is configured.
    fn plugin(&self) -> &'static str;
    /// Who may do everything there.
    fn root(&self) -> (&'static str, &'static str);
    fn port(&self) -> u16;
    /// What else a connection to it says.
    fn details(&self) -> Value;
    /// What accounts may do.
    fn creation(&self) -> &'static str;
    /// How the names of accounts begin that are made by a role `app` for root.
    fn prefix(&self) -> &'static str;
    /// A word of the question that makes an account, and of that which sets a password.
    fn words(&self) -> (&'static str, &'static str);
    /// Names that would be more than one.
    fn bad_names(&self) -> &'static [&'static str];
    fn names(&self) -> Vec<String>;
    fn lets_in(&self, name: &str, password: &str) -> bool;
    /// Makes somebody who may do everything.
    fn make(&self, name: &str, password: &str);
    fn remove(&self, name: &str);
    fn stop(&mut self);
    fn start_again(&mut self);
}

/// Redis, or Valkey.
struct RedisOf(Redis, &'static str);

impl Server for RedisOf {
    fn plugin(&self) -> &'static str {
        self.1
    }

    fn root(&self) -> (&'static str, &'static str) {
        (redis::ROOT, redis::ROOT_PASSWORD)
    }

    fn port(&self) -> u16 {
        self.0.port()
    }

    fn details(&self) -> Value {
        json!({ "persistence_mode": "ACLFILE" })
    }

    fn creation(&self) -> &'static str {
        r#"["~app:*", "+@read"]"#
    }

    fn prefix(&self) -> &'static str {
        "V_ROOT_APP_"
    }

    fn words(&self) -> (&'static str, &'static str) {
        ("SETUSER", "resetpass")
    }

    fn bad_names(&self) -> &'static [&'static str] {
        &["a b", "a\r\nACL SETUSER evil on nopass ~* +@all", "a\nuser evil on nopass", "it's", "a\"b"]
    }

    fn names(&self) -> Vec<String> {
        self.0.users().unwrap()
    }

    fn lets_in(&self, name: &str, password: &str) -> bool {
        // Whoever is let in may be forbidden to ask that.
        match self.0.command_as(name, password, &["GET", "app:1"]) {
            Ok(_) => true,
            Err(why) => !why.contains("WRONGPASS"),
        }
    }

    fn make(&self, name: &str, password: &str) {
        let word = format!(">{password}");
        self.0.command(&["ACL", "SETUSER", name, "on", &word, "~*", "&*", "+@all"]).unwrap();
    }

    fn remove(&self, name: &str) {
        self.0.command(&["ACL", "DELUSER", name]).unwrap();
    }

    fn stop(&mut self) {
        self.0.stop();
    }

    fn start_again(&mut self) {
        self.0.start_again().unwrap();
    }
}

impl Server for InfluxDb {
    fn plugin(&self) -> &'static str {
        "influxdb-database-plugin"
    }

    fn root(&self) -> (&'static str, &'static str) {
        (influxdb::ROOT, influxdb::ROOT_PASSWORD)
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn details(&self) -> Value {
        json!({ "connect_timeout": "30s" })
    }

    fn creation(&self) -> &'static str {
        "CREATE USER \"{{username}}\" WITH PASSWORD '{{password}}'; GRANT READ ON app TO \"{{username}}\""
    }

    fn prefix(&self) -> &'static str {
        "v_root_app_"
    }

    fn words(&self) -> (&'static str, &'static str) {
        ("CREATE%20USER", "SET%20PASSWORD")
    }

    fn bad_names(&self) -> &'static [&'static str] {
        &["a:b", "a\nb"]
    }

    fn names(&self) -> Vec<String> {
        self.users().unwrap()
    }

    fn lets_in(&self, name: &str, password: &str) -> bool {
        self.query_as(name, password, "SHOW DATABASES").is_ok()
    }

    fn make(&self, name: &str, password: &str) {
        self.query(&format!("CREATE USER {name} WITH PASSWORD '{password}' WITH ALL PRIVILEGES")).unwrap();
    }

    fn remove(&self, name: &str) {
        self.query(&format!("DROP USER {name}")).unwrap();
    }

    fn stop(&mut self) {
        self.stop();
    }

    fn start_again(&mut self) {
        self.start_again().unwrap();
    }
}

/// A node whose ways out are the machine's, a server, and the wire that leads there.
struct Both<S> {
    harness: Harness,
    server: S,
    wire: Between,
    /// What nobody may see.
    secrets: Vec<String>,
}

impl<S: Server> Both<S> {
    async fn start(server: S) -> Self {
        let (mut doors, real) = (TestDoors::new(1), tresor_env_os::doors());
        // The server goes by its own clock.
        doors.clock.advance(real.clock.wall().since(doors.doors.clock.wall()));
        doors.doors.net = real.net;
        doors.doors.outgoing = Arc::new(Https::default());
        let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
        harness.initialize().await;
        harness.enable_audit().await;
        let wire = Between::to(server.port()).unwrap();
        let secrets = vec![server.root().1.to_owned()];
        let both = Self { harness, server, wire, secrets };
        both.harness.prepare("POST", "sys/mounts/database", json!({ "type": "database" })).await;
        both.begin().await;
        both
    }

    fn config(&self, user: &str, password: &str) -> Value {
        let mut config = json!({
            "plugin_name": self.server.plugin(), "host": "127.0.0.1", "port": self.wire.port(), "allowed_roles": "*",
            "username": user, "password": password,
        });
        for (name, value) in self.server.details().as_object().unwrap() {
            config[name] = value.clone();
        }
        config
    }

    /// A connection `db` and a role `app`.
    async fn begin(&self) {
        let (user, password) = self.server.root();
        let written = self.harness.prepare("POST", "database/config/db", self.config(user, password)).await;
        drop(written.expect_status(204));
        let role = json!({
            "db_name": "db", "creation_statements": self.server.creation(), "default_ttl": "1h", "max_ttl": "24h",
        });
        drop(self.harness.prepare("POST", "database/roles/app", role).await.expect_status(204));
    }

    async fn creds(&mut self) -> Answer {
        let made = self.harness.read("database/creds/app", ROOT).await.expect_status(200);
        self.secrets.push(made.text_at("/data/password"));
        made
    }

    async fn revoke(&self, lease: &str) {
        self.harness.prepare("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    }

    fn accounts(&self) -> usize {
        self.server.names().iter().filter(|name| name.starts_with(self.server.prefix())).count()
    }

    async fn static_password(&mut self) -> String {
        let shown = self.harness.read("database/static-creds/st", ROOT).await.expect_status(200);
        let password = shown.text_at("/data/password");
        self.secrets.push(password.clone());
        password
    }

    async fn an_account_lives_as_long_as_its_lease(&mut self) {
        let made = self.creds().await;
        let (user, password) = (made.text_at("/data/username"), made.text_at("/data/password"));
        assert!(user.starts_with(self.server.prefix()), "{user}");
        assert_eq!((made.at("/lease_duration"), made.at("/renewable")), (&json!(3600), &json!(true)));
        assert!(self.server.lets_in(&user, &password) && !self.server.lets_in(&user, "other"));
        let lease = made.text_at("/lease_id");
        self.harness.advance(Duration::from_secs(1800)).await;
        let renewal = json!({ "lease_id": lease, "increment": 3600 });
        let renewed = self.harness.prepare("PUT", "sys/leases/renew", renewal).await;
        assert_eq!(renewed.at("/lease_duration"), &json!(3600));
        self.harness.advance(Duration::from_secs(2000)).await;
        assert!(self.server.lets_in(&user, &password));
        self.revoke(&lease).await;
        until!(self.harness, self.accounts() == 0);
        assert!(!self.server.lets_in(&user, &password));
        // One that nobody takes back ends by itself.
        self.creds().await;
        assert_eq!(self.accounts(), 1);
        self.harness.advance(Duration::from_secs(3700)).await;
        until!(self.harness, self.accounts() == 0);
        // A role without statements makes what is usual there.
        let role = json!({ "db_name": "db", "default_ttl": "1h" });
        self.harness.prepare("POST", "database/roles/usual", role).await;
        let usual = self.harness.read("database/creds/usual", ROOT).await.expect_status(200);
        self.secrets.push(usual.text_at("/data/password"));
        assert!(self.server.lets_in(&usual.text_at("/data/username"), &usual.text_at("/data/password")));
        self.revoke(&usual.text_at("/lease_id")).await;
        until!(self.harness, self.server.names().is_empty());
    }

    async fn what_is_configured_is_shown_without_secrets(&self) {
        let shown = self.harness.read("database/config/db", ROOT).await.expect_status(200);
        let mut details = json!({ "host": "127.0.0.1", "port": self.wire.port(), "username": self.server.root().0 });
        for (name, value) in self.server.details().as_object().unwrap() {
            details[name] = value.clone();
        }
        assert_eq!(shown.at("/data/connection_details"), &details);
        // What is not sent stays: above all, the password.
        let more = json!({ "allowed_roles": ["app", "usual", "st*"], "smile": true });
        let written = self.harness.prepare("POST", "database/config/db", more).await;
        assert_eq!(written.at("/warnings"), &json!(["Endpoint ignored these unrecognized parameters: [smile]"]));
        let wrong = json!({ "password": "canary-wrong-password" });
        let refused = self.harness.write("database/config/db", ROOT, wrong).await.expect_status(400);
        let text = refused.text_at("/errors/0");
        assert!(text.starts_with("error creating database object: error verifying connection"), "{text}");
        // DYN-04
        assert!(!text.contains("canary"), "{text}");
        let again = format!("database/reload/{}", self.server.plugin());
        let again = self.harness.prepare("POST", &again, Value::Null).await;
        assert_eq!(again.at("/data"), &json!({ "connections": ["db"], "count": 1 }));
    }

    async fn a_server_that_is_away_is_waited_for(&mut self) {
        let lease = self.creds().await.text_at("/lease_id");
        self.server.stop();
        let refused = self.harness.read("database/creds/app", ROOT).await;
        assert!(refused.status >= 400, "{refused:?}");
        // It is taken back, sooner or later.
        self.harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": lease })).await;
        self.harness.advance(Duration::from_secs(60)).await;
        self.harness.settle().await;
        self.server.start_again();
        until!(self.harness, self.accounts() == 0);
        let lease = self.creds().await.text_at("/lease_id");
        self.revoke(&lease).await;
    }

    async fn whatever_becomes_of_role_and_connection_accounts_are_taken_back(&mut self) {
        // Made by somebody who is gone by then: who counts now for the same server takes it away.
        self.server.make("gone", "gone-canary-pw");
        self.secrets.push("gone-canary-pw".to_owned());
        self.harness.prepare("POST", "database/config/db", self.config("gone", "gone-canary-pw")).await;
        let orphan = self.creds().await.text_at("/lease_id");
        let (user, password) = self.server.root();
        self.harness.prepare("POST", "database/config/db", self.config(user, password)).await;
        self.server.remove("gone");
        self.revoke(&orphan).await;
        until!(self.harness, self.accounts() == 0);
        let first = self.creds().await.text_at("/lease_id");
        self.server.make("second", "second-canary-pw");
        self.secrets.push("second-canary-pw".to_owned());
        self.harness.prepare("POST", "database/config/db", self.config("second", "second-canary-pw")).await;
        let second = self.creds().await.text_at("/lease_id");
        drop(self.harness.delete("database/roles/app", ROOT).await.expect_status(204));
        drop(self.harness.delete("database/config/db", ROOT).await.expect_status(204));
        assert_eq!(self.accounts(), 2);
        for lease in [first, second] {
            self.revoke(&lease).await;
        }
        until!(self.harness, self.accounts() == 0);
        self.begin().await;
    }

    async fn a_static_role_is_rotated(&mut self) {
        self.server.make("sta_tic", "first-canary-pw");
        let role = json!({ "db_name": "db", "username": "sta_tic", "rotation_period": "1h" });
        drop(self.harness.prepare("POST", "database/static-roles/st", role).await.expect_status(204));
        let first = self.static_password().await;
        assert!(self.server.lets_in("sta_tic", &first) && !self.server.lets_in("sta_tic", "first-canary-pw"));
        drop(self.harness.prepare("POST", "database/rotate-role/st", Value::Null).await.expect_status(204));
        let second = self.static_password().await;
        assert!(self.server.lets_in("sta_tic", &second) && first != second);
        // Its time comes.
        self.harness.advance(Duration::from_secs(3601)).await;
        until!(self.harness, self.static_password().await != second);
        let third = self.static_password().await;
        assert!(self.server.lets_in("sta_tic", &third));
        // Set, and nobody hears of it: the same password is set again.
        self.wire.cut_after(self.server.words().1);
        let doubt = self.harness.write("database/rotate-role/st", ROOT, Value::Null).await;
        assert!(doubt.status >= 400, "{doubt:?}");
        assert!(!self.server.lets_in("sta_tic", &third));
        self.wire.mend();
        self.harness.advance(Duration::from_secs(100)).await;
        until!(self.harness, self.static_password().await != third);
        let fourth = self.static_password().await;
        assert!(self.server.lets_in("sta_tic", &fourth));
        drop(self.harness.delete("database/static-roles/st", ROOT).await.expect_status(204));
        // DYN-03
        let before = self.server.names();
        for name in self.server.bad_names().iter().chain(&["nobody_at_all"]) {
            let role = json!({ "db_name": "db", "username": name, "rotation_period": "1h" });
            let refused = self.harness.write("database/static-roles/st", ROOT, role).await;
            assert_eq!(refused.status, 400, "{name:?} {refused:?}");
            drop(self.harness.read("database/static-roles/st", ROOT).await.expect_status(404));
            let template = json!({ "username_template": name });
            self.harness.prepare("POST", "database/config/db", template).await;
            if *name != "nobody_at_all" {
                let refused = self.harness.read("database/creds/app", ROOT).await;
                assert_eq!(refused.status, 400, "{name:?} {refused:?}");
            }
        }
        assert_eq!(self.server.names(), before);
        // One that is there is not taken over, and so not taken away.
        self.harness.prepare("POST", "database/config/db", json!({ "username_template": "sta_tic" })).await;
        let refused = self.harness.read("database/creds/app", ROOT).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(self.server.lets_in("sta_tic", &fourth));
        self.harness.prepare("POST", "database/config/db", json!({ "username_template": "" })).await;
    }

    async fn the_root_password_is_rotated_when_its_time_has_come(&mut self) {
        let known = "keeper-canary-pw";
        self.server.make("keeper", known);
        self.secrets.push(known.to_owned());
        let mut config = self.config("keeper", known);
        config["rotation_period"] = json!("1h");
        drop(self.harness.prepare("POST", "database/config/db", config).await.expect_status(204));
        self.harness.advance(Duration::from_secs(3500)).await;
        self.harness.settle().await;
        assert!(self.server.lets_in("keeper", known));
        self.harness.advance(Duration::from_secs(101)).await;
        until!(self.harness, !self.server.lets_in("keeper", known));
        let lease = self.creds().await.text_at("/lease_id");
        self.revoke(&lease).await;
        until!(self.harness, self.accounts() == 0);
        let never = json!({ "rotation_period": 0 });
        drop(self.harness.prepare("POST", "database/config/db", never).await.expect_status(204));
    }

    async fn dyn_08_the_root_password_is_rotated(&mut self) {
        self.server.make("manager", "manager-canary-pw");
        self.secrets.push("manager-canary-pw".to_owned());
        self.harness.prepare("POST", "database/config/db", self.config("manager", "manager-canary-pw")).await;
        let before = self.creds().await.text_at("/lease_id");
        drop(self.harness.prepare("POST", "database/rotate-root/db", Value::Null).await.expect_status(204));
        assert!(!self.server.lets_in("manager", "manager-canary-pw"));
        let after = self.creds().await.text_at("/lease_id");
        for lease in [before, after] {
            self.revoke(&lease).await;
        }
        until!(self.harness, self.accounts() == 0);
    }

    async fn a_password_that_nobody_knows_the_fate_of_is_found_out(&mut self) {
        // It is set, and the connection breaks before that is known; then this server ends.
        self.wire.cut_after(self.server.words().1);
        let doubt = self.harness.write("database/rotate-root/db", ROOT, Value::Null).await;
        assert!(doubt.status >= 400, "{doubt:?}");
        self.harness.kill();
        self.wire.mend();
        self.harness.unseal().await;
        let lease = self.creds().await.text_at("/lease_id");
        self.revoke(&lease).await;
        until!(self.harness, self.accounts() == 0);
        self.harness.advance(Duration::from_secs(120)).await;
        self.harness.settle().await;
        drop(self.harness.prepare("POST", "database/rotate-root/db", Value::Null).await.expect_status(204));
        let lease = self.creds().await.text_at("/lease_id");
        self.revoke(&lease).await;
        until!(self.harness, self.accounts() == 0);
    }

    async fn a_crash_in_the_middle_leaves_no_account(&mut self) {
        // The account is there, and the server was not told yet.
        self.wire.hold_after(self.server.words().0);
        {
            let mut asked = std::pin::pin!(self.harness.read("database/creds/app", ROOT));
            while self.accounts() != 1 {
                tokio::select! {
                    answer = &mut asked => panic!("it was answered: {answer:?}"),
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        }
        self.harness.kill();
        self.wire.mend();
        self.harness.unseal().await;
        self.harness.advance(Duration::from_secs(100)).await;
        until!(self.harness, self.accounts() == 0);
    }

    /// What was made in all of this is seen by nobody whom it does not concern.
    async fn no_password_is_seen(&self, log: &Captured) {
        let mut canaries = Canaries::new();
        for secret in &self.secrets {
            canaries.watch("a password", secret.as_bytes());
        }
        canaries.watch("a password", b"canary-wrong-password");
        let audit = self.harness.audit_text().await;
        assert!(audit.contains("database/creds/app"));
        canaries.assert_absent("the audit file", audit.as_bytes());
        canaries.assert_absent("the log", &log.bytes());
        for (key, value) in self.harness.store.dump() {
            canaries.assert_absent("a key of the store", key.as_bytes());
            canaries.assert_absent("a value of the store", &value);
        }
    }
}

/// What one part leaves behind the next one counts with.
async fn all_of_it(server: impl Server) {
    let log = Captured::start();
    let mut both = Both::start(server).await;
    both.an_account_lives_as_long_as_its_lease().await;
    both.what_is_configured_is_shown_without_secrets().await;
    both.a_server_that_is_away_is_waited_for().await;
    both.whatever_becomes_of_role_and_connection_accounts_are_taken_back().await;
    both.a_static_role_is_rotated().await;
    both.the_root_password_is_rotated_when_its_time_has_come().await;
    both.dyn_08_the_root_password_is_rotated().await;
    both.a_password_that_nobody_knows_the_fate_of_is_found_out().await;
    both.a_crash_in_the_middle_leaves_no_account().await;
    both.no_password_is_seen(&log).await;
}

#[tokio::test]
async fn accounts_and_passwords_at_a_real_redis() {
    all_of_it(RedisOf(Redis::start(Users::InAclFile).unwrap(), "redis-database-plugin")).await;
}

#[tokio::test]
async fn accounts_and_passwords_at_a_real_valkey() {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/valkey-requirements.txt");
    let program = redis::valkey(Path::new(env!("CARGO_TARGET_TMPDIR")), &pinned).unwrap();
    let server = Redis::start_program(&program, Users::InAclFile).unwrap();
    all_of_it(RedisOf(server, "valkey-database-plugin")).await;
}

#[tokio::test]
async fn accounts_and_passwords_at_a_real_influxdb() {
    all_of_it(InfluxDb::start().unwrap()).await;
}

#[tokio::test]
async fn tls_01_a_real_influxdb_is_verified_as_far_as_is_asked() {
    let (server, other) = (InfluxDb::start_with_tls().unwrap(), Postgres::an_authority().unwrap());
    let mut doors = TestDoors::new(1);
    doors.doors.outgoing = Arc::new(Https::default());
    let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
    harness.initialize().await;
    harness.prepare("POST", "sys/mounts/database", json!({ "type": "database" })).await;
    let json = |authority: &str| json!({ "data": { "issuing_ca": authority } }).to_string();
    for (number, (host, trust, status)) in [
        ("localhost", json!({ "pem_bundle": server.authority() }), 204),
        ("localhost", json!({ "pem_json": json(server.authority()) }), 204),
        ("127.0.0.1", json!({ "insecure_tls": true }), 200),
        ("127.0.0.1", json!({ "insecure_tls": true, "pem_bundle": other }), 200),
        ("127.0.0.1", json!({ "pem_bundle": server.authority() }), 400),
        ("localhost", json!({ "pem_bundle": other }), 400),
        ("localhost", json!({ "tls": true }), 400),
        ("localhost", json!({ "tls": false }), 400),
    ]
    .into_iter()
    .enumerate()
    {
        let mut config = json!({
            "plugin_name": "influxdb-database-plugin", "host": host, "port": server.port(), "connect_timeout": "30s",
            "username": influxdb::ROOT, "password": influxdb::ROOT_PASSWORD,
        });
        for (name, value) in trust.as_object().unwrap() {
            config[name] = value.clone();
        }
        let name = format!("database/config/tls{number}");
        let written = harness.write(&name, ROOT, config).await;
        assert_eq!(written.status, status, "{trust} {written:?}");
        if status < 300 {
            // What may hold a key is not shown.
            let shown = harness.read(&name, ROOT).await;
            assert!(!shown.at("/data/connection_details").to_string().contains("CERTIFICATE"), "{shown:?}");
        }
    }
}
