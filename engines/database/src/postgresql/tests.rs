//! What is asked of a PostgreSQL server, asked of a real one.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use tresor_env::outgoing::NoWayOut;
use tresor_env_os::{OsClock, OsNet};
use tresor_services::Postgres;
use tresor_services::postgres::{ROOT, ROOT_PASSWORD};

use super::*;
use crate::testing::{account, secret, statements};

struct Fixture {
    server: Postgres,
    doors: Doors,
}

const CREATION: &str = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; \
                        GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{{name}}\";";

impl Fixture {
    fn url(&self, more: &str) -> String {
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?{more}", self.server.port())
    }

    fn target_of(&self, url: &str, passwords: &[&str], authority: Option<&str>, telling: Telling) -> PostgreSql {
        let passwords: Vec<SecretString> = passwords.iter().copied().map(secret).collect();
        let dsn = Dsn::parse(
            url,
            &Placed { username: ROOT, password: passwords.first(), is_raw: false, files: Files::Refused },
        )
        .unwrap();
        let tls = Tls::new(dsn.ssl, NAMES, authority, None, None).unwrap();
        let limits = Limits { open_max: 2, idle_max: 2, lifetime_max: Duration::ZERO };
        PostgreSql::new(self.doors.clone(), Way { dsn, tls }, passwords, telling, limits)
    }

    fn target(&self) -> PostgreSql {
        self.target_of(&self.url("sslmode=disable"), &[ROOT_PASSWORD], None, Telling::Plain)
    }

    fn count(&self, question: &str) -> String {
        self.server.sql(&format!("SELECT count(*) FROM {question}")).unwrap()
    }

    async fn an_account_is_made_renewed_and_taken_away(&self) {
        let target = self.target();
        target.verify().await.unwrap();
        self.server.sql("CREATE TABLE shelf (book text)").unwrap();
        let made = account("v-a\"b'c $x$", "pw-1'\\\"");
        target.create(&made, &statements(&[CREATION])).await.unwrap();
        let seen = self.server.sql_as(&made.username, "pw-1'\\\"", "SELECT count(*) FROM shelf").unwrap();
        assert_eq!(seen, "0");
        target.renew(&made.username, "2101-02-03 04:05:06+0000", &[]).await.unwrap();
        assert_eq!(self.count("pg_roles WHERE rolvaliduntil = '2101-02-03 04:05:06+00'"), "1");
        target.log_in(&made.username, &secret("pw-1'\\\"")).await.unwrap();
        assert!(matches!(target.log_in(&made.username, &secret("other")).await, Err(Trouble::NoEntry(_))));
        target.set_password(&made.username, None, &secret("pw-2"), &[]).await.unwrap();
        target.log_in(&made.username, &secret("pw-2")).await.unwrap();
        target.revoke(&made.username, &[]).await.unwrap();
        assert_eq!(self.count("pg_roles WHERE rolname LIKE 'v-%'"), "0");
        target.revoke(&made.username, &[]).await.expect("gone already is taken away");
        let own = statements(&["DROP ROLE \"{{name}}\""]);
        target.revoke(&made.username, &own).await.expect("by statements of its own, too");
    }

    /// How many transactions changed something until now; asking is one.
    fn changes(&self) -> u64 {
        self.server.sql("SELECT pg_current_xact_id()").unwrap().parse().unwrap()
    }

    async fn taking_a_role_away_is_one_transaction(&self) {
        let target = self.target();
        let plain = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}'";
        // With rights, what is refused at first is undone, and may have begun one, too.
        for (creation, most) in [(plain, 1), (CREATION, 2)] {
            target.create(&account("v-one", "pw"), &statements(&[creation])).await.unwrap();
            let before = self.changes();
            target.revoke("v-one", &[]).await.unwrap();
            let made = self.changes() - before - 1;
            assert!((1..=most).contains(&made), "{creation}: {made}");
            assert_eq!(self.count("pg_roles WHERE rolname = 'v-one'"), "0");
        }
    }

    async fn dyn_01_names_of_schemas_do_nothing(&self) {
        let target = self.target();
        self.server.sql("CREATE ROLE bystander").unwrap();
        self.server.sql("CREATE SCHEMA \"x\"\"; DROP ROLE bystander; --\"").unwrap();
        self.server.sql("CREATE TABLE \"x\"\"; DROP ROLE bystander; --\".t (a int)").unwrap();
        let made = account("v-dyn-01", "pw");
        let grants = "GRANT ALL ON ALL TABLES IN SCHEMA \"x\"\"; DROP ROLE bystander; --\" TO \"{{name}}\"";
        target.create(&made, &statements(&[CREATION, grants])).await.unwrap();
        target.revoke(&made.username, &statements(&["", " ;"])).await.unwrap();
        assert_eq!(self.count("pg_roles WHERE rolname IN ('v-dyn-01', 'bystander')"), "1");
        assert_eq!(self.count("pg_roles WHERE rolname = 'bystander'"), "1");
    }

    async fn a_creation_that_fails_leaves_nothing_and_shows_no_password(&self) {
        let target = self.target();
        let made = account("v-half", "pw-canary-4711");
        let broken = statements(&[CREATION, "SELECT '{{password}}'::int"]);
        let Err(Trouble::Refused(why)) = target.create(&made, &broken).await else { panic!("it was not refused") };
        assert!(why.contains("invalid input syntax") && why.contains("[password]"), "{why}");
        assert!(!why.contains("canary"), "{why}");
        assert_eq!(self.count("pg_roles WHERE rolname = 'v-half'"), "0");
        // Nor does one whose end the server refuses.
        self.server
            .sql("CREATE TABLE a (n int PRIMARY KEY, m int REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
            .unwrap();
        let late = statements(&[CREATION, "INSERT INTO a VALUES (1, 2)"]);
        let refused = target.create(&made, &late).await;
        assert!(matches!(&refused, Err(Trouble::Refused(why)) if why.contains("foreign key")), "{refused:?}");
        // Nor one whose texts are read one by one.
        let body = "DO $$ BEGIN EXECUTE format('CREATE ROLE %I', '{{name}}'); END $$";
        let refused = target.create(&made, &statements(&[body, "SELECT 1/0"])).await;
        assert!(matches!(&refused, Err(Trouble::Refused(why)) if why.contains("division")), "{refused:?}");
        assert_eq!(self.count("pg_roles WHERE rolname = 'v-half'"), "0");
        // The connection goes on.
        target
            .create(&made, &statements(&["DO $$ BEGIN EXECUTE format('CREATE ROLE %I', '{{name}}'); END $$;"]))
            .await
            .unwrap();
        target.revoke("v-half", &[]).await.unwrap();
    }

    async fn passwords_can_be_told_as_what_is_stored_of_them(&self) {
        let target = self.target_of(&self.url("sslmode=disable"), &[ROOT_PASSWORD], None, Telling::Scram);
        let made = account("v-scram", "pw-scram");
        let noted = "CREATE TABLE told AS SELECT '{{password}}'::text AS p";
        target.create(&made, &statements(&[CREATION, noted])).await.unwrap();
        assert_eq!(self.count("told WHERE p LIKE 'SCRAM-SHA-256$4096:%'"), "1");
        target.log_in("v-scram", &secret("pw-scram")).await.unwrap();
        // Letters that are prepared before they are hashed, as clients do: half-width, a no-break space, a soft hyphen.
        target.set_password("v-scram", None, &secret("\u{ff76}\u{a0}\u{ad}x"), &[]).await.unwrap();
        target.log_in("v-scram", &secret("\u{ff76}\u{a0}\u{ad}x")).await.unwrap();
        assert!(target.log_in("v-scram", &secret("pw-scram")).await.is_err());
        target.revoke("v-scram", &[]).await.unwrap();
        self.server.sql("DROP TABLE told").unwrap();
    }

    async fn the_first_password_that_lets_us_in_counts(&self) {
        let url = self.url("sslmode=disable");
        let target = self.target_of(&url, &["not-any-more", ROOT_PASSWORD], None, Telling::Plain);
        target.verify().await.unwrap();
        let target = self.target_of(&url, &["canary-wrong-1", "canary-wrong-2"], None, Telling::Plain);
        let Err(Trouble::NoEntry(why)) = target.verify().await else { panic!("it was let in") };
        assert!(why.contains("password authentication failed") && !why.contains("canary"), "{why}");
    }

    async fn a_connection_that_the_server_closed_is_made_anew(&self) {
        let target = self.target();
        target.verify().await.unwrap();
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        assert_ne!(self.server.sql(end).unwrap(), "0");
        target.verify().await.unwrap();
        target.verify().await.unwrap();
        assert_ne!(self.server.sql(end).unwrap(), "0");
        target.create(&account("v-anew", "pw"), &statements(&[CREATION])).await.unwrap();
        assert_ne!(self.server.sql(end).unwrap(), "0");
        target.revoke("v-anew", &[]).await.unwrap();
        let own = "pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        assert_eq!(self.count(own), "1", "one connection is used again");
    }

    async fn the_connection_that_breaks_in_the_middle_leaves_a_doubt(&self) {
        let target = self.target();
        let ends_itself = statements(&["SELECT pg_terminate_backend(pg_backend_pid())"]);
        let broken = target.create(&account("v-broken", "pw"), &ends_itself).await;
        assert!(matches!(broken, Err(Trouble::Broken(_))), "{broken:?}");
        target.verify().await.unwrap();
    }

    async fn tls_01_the_server_is_verified_as_far_as_is_asked(&self) {
        let authority = self.server.authority();
        let of = |host: &str, mode: &str, authority: Option<&str>| {
            let url = self.url(&format!("sslmode={mode}")).replace("127.0.0.1", host);
            self.target_of(&url, &[ROOT_PASSWORD], authority, Telling::Plain)
        };
        for (host, mode, authority) in [
            ("localhost", "verify-full", Some(authority)),
            ("127.0.0.1", "verify-ca", Some(authority)),
            ("127.0.0.1", "require", Some(authority)),
            ("127.0.0.1", "require", None),
            ("127.0.0.1", "prefer", None),
        ] {
            let target = of(host, mode, authority);
            target.verify().await.unwrap_or_else(|why| panic!("{host} {mode}: {why}"));
            let mut session = target.access.own_session().await.unwrap();
            let is_enciphered = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            assert_eq!(session.column(is_enciphered).await.unwrap(), ["t"], "{host} {mode}");
        }
        // Another name, and another authority.
        assert!(matches!(of("127.0.0.1", "verify-full", Some(authority)).verify().await, Err(Trouble::Unreachable(_))));
        let other = Postgres::an_authority().unwrap();
        for mode in ["verify-full", "verify-ca", "require"] {
            assert!(
                matches!(of("localhost", mode, Some(&other)).verify().await, Err(Trouble::Unreachable(_))),
                "{mode}"
            );
        }
        assert!(Tls::new(Ssl::Full, NAMES, None, None, None).is_err());
        // One whose time is over, as soon as the server shows it; whoever does not verify it sees no difference.
        let authority = self.server.show_expired().unwrap();
        for mode in ["verify-full", "verify-ca", "require"] {
            let is_over = async || match of("localhost", mode, Some(&authority)).verify().await {
                Err(Trouble::Unreachable(why)) => why.contains("certificate expired"),
                other => panic!("{mode}: {other:?}"),
            };
            let mut tries = 0;
            while !is_over().await {
                tries += 1;
                assert!(tries < 1_000, "{mode}: it is refused for another reason");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        of("localhost", "require", None).verify().await.unwrap();
    }

    async fn of_several_hosts_the_first_that_answers_is_asked(&self) {
        let nobody = tresor_services::free_port().unwrap();
        let port = self.server.port();
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{nobody},127.0.0.1:{port}/postgres?sslmode=disable"
        );
        self.target_of(&url, &[ROOT_PASSWORD], None, Telling::Plain).verify().await.unwrap();
        let pairs = format!(
            "host={} port={port} user={{{{username}}}} password='{{{{password}}}}' dbname=postgres sslmode=disable",
            self.server.socket_directory().display()
        );
        self.target_of(&pairs, &[ROOT_PASSWORD], None, Telling::Plain).verify().await.unwrap();
        let url = format!("postgresql://{{{{username}}}}@127.0.0.1:{nobody}/postgres?sslmode=disable");
        let none = self.target_of(&url, &[ROOT_PASSWORD], None, Telling::Plain).verify().await;
        assert!(matches!(none, Err(Trouble::Unreachable(_))), "{none:?}");
    }
}

/// One server for all of it.
#[tokio::test]
async fn what_is_asked_of_a_real_server() {
    let doors =
        Doors { net: Arc::new(OsNet), clock: Arc::new(OsClock::new()), outgoing: Arc::new(NoWayOut), seed: [7; 32] };
    let fixture = Fixture { server: Postgres::start().unwrap(), doors };
    fixture.an_account_is_made_renewed_and_taken_away().await;
    fixture.dyn_01_names_of_schemas_do_nothing().await;
    fixture.taking_a_role_away_is_one_transaction().await;
    fixture.a_creation_that_fails_leaves_nothing_and_shows_no_password().await;
    fixture.passwords_can_be_told_as_what_is_stored_of_them().await;
    fixture.the_first_password_that_lets_us_in_counts().await;
    fixture.a_connection_that_the_server_closed_is_made_anew().await;
    fixture.the_connection_that_breaks_in_the_middle_leaves_a_doubt().await;
    fixture.tls_01_the_server_is_verified_as_far_as_is_asked().await;
    fixture.of_several_hosts_the_first_that_answers_is_asked().await;
}
