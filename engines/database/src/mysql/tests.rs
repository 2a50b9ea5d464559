//! What is asked of a MySQL server, asked of a real MariaDB.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_env::outgoing::NoWayOut;
use tresor_env_os::{OsClock, OsNet};
use tresor_model::Map;
use tresor_services::MariaDb;
use tresor_services::mariadb::{ROOT, ROOT_PASSWORD};

use super::*;
use crate::Doors;
use crate::connection::Connection;
use crate::target::Target;
use crate::testing::{account, secret, statements};

struct Fixture {
    server: MariaDb,
    doors: Doors,
}

const CREATION: &str =
    "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT SELECT ON shop.* TO '{{name}}'@'%';";

impl Fixture {
    fn url(&self, more: &str) -> String {
        format!("{{{{username}}}}:{{{{password}}}}@tcp(127.0.0.1:{})/{more}", self.server.port())
    }

    /// What a configuration leads to.
    fn made(&self, url: &str, passwords: &[&str], details: &[(&str, &str)]) -> Result<Target, String> {
        let mut map = Map::new().with("connection_url", url).with("username", ROOT).with("max_open_connections", 2i64);
        let mut secrets = BTreeMap::new();
        for (name, value) in details {
            match *name {
                "tls_certificate_key" => drop(secrets.insert((*name).to_owned(), secret(value))),
                name => map = map.with(name, *value),
            }
        }
        let connection = Connection {
            plugin_name: "mysql-database-plugin".into(),
            details: map,
            secrets,
            passwords: passwords.iter().copied().map(secret).collect(),
            ..Connection::empty("my")
        };
        (settings::PLUGIN.target)(&connection, self.doors.clone())
    }

    fn target_of(&self, url: &str, passwords: &[&str], details: &[(&str, &str)]) -> Target {
        self.made(url, passwords, details).unwrap()
    }

    fn target(&self) -> Target {
        self.target_of(&self.url(""), &[ROOT_PASSWORD], &[])
    }

    fn count(&self, question: &str) -> String {
        self.server.sql(&format!("SELECT count(*) FROM {question}")).unwrap()
    }

    async fn an_account_is_made_and_taken_away(&self) {
        let target = self.target();
        target.verify().await.unwrap();
        self.server.sql("CREATE TABLE shop.shelf (book text)").unwrap();
        let (name, password) = ("v-a\"b'c `x\\", "pw-1'\\\"`");
        target.create(&account(name, password), &statements(&[CREATION]), &[]).await.unwrap();
        assert_eq!(self.server.sql_as(name, password, "SELECT count(*) FROM shop.shelf").unwrap(), "0");
        target.renew(name, "2101-02-03 04:05:06+0000", &[]).await.unwrap();
        target.log_in(name, &secret(password)).await.unwrap();
        assert!(matches!(target.log_in(name, &secret("other")).await, Err(Trouble::NoEntry(_))));
        target.set_password(name, None, &secret("pw-2\\'"), &[]).await.unwrap();
        target.log_in(name, &secret("pw-2\\'")).await.unwrap();
        let own = statements(&["SET PASSWORD FOR '{{username}}'@'%' = PASSWORD('{{password}}')"]);
        target.set_password(name, None, &secret("pw-3"), &own).await.unwrap();
        target.log_in(name, &secret("pw-3")).await.unwrap();
        target.revoke(name, &[]).await.unwrap();
        assert_eq!(self.count("mysql.user WHERE User LIKE 'v-%'"), "0");
        target.revoke(name, &[]).await.expect("gone already is taken away");
        let own = statements(&["REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{{name}}'@'%'; DROP USER '{{name}}'@'%'"]);
        target.revoke(name, &own).await.expect("by statements of its own, too");
        // Nobody gets a password who is not there.
        assert!(matches!(target.set_password(name, None, &secret("x"), &[]).await, Err(Trouble::Refused(_))));
    }

    async fn every_host_of_a_name_is_taken_away(&self) {
        let target = self.target();
        let creation = "CREATE USER '{{name}}'@'127.0.0.%' IDENTIFIED BY '{{password}}', \
                        '{{name}}'@'10.%' IDENTIFIED BY '{{password}}'";
        target.create(&account("v-hosts", "pw"), &statements(&[creation]), &[]).await.unwrap();
        target.set_password("v-hosts", None, &secret("pw-2"), &[]).await.unwrap();
        target.log_in("v-hosts", &secret("pw-2")).await.unwrap();
        target.revoke("v-hosts", &[]).await.unwrap();
        assert_eq!(self.count("mysql.user WHERE User = 'v-hosts'"), "0");
    }

    async fn a_creation_that_fails_leaves_nothing_and_shows_no_password(&self) {
        let target = self.target();
        let made = account("v-half", "pw-canary-4711");
        // In one text and in two; statements about users commit by themselves.
        let failing = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no {{password}}'";
        let in_one = format!("{CREATION} {failing}");
        for broken in [statements(&[&in_one]), statements(&[CREATION, failing])] {
            let Err(Trouble::Refused(why)) = target.create(&made, &broken, &[]).await else { panic!("not refused") };
            assert!(why.contains("no [password]") && !why.contains("canary"), "{why}");
            assert_eq!(self.count("mysql.user WHERE User = 'v-half'"), "0");
        }
        // By statements of its own; and where those fail, a part may have stayed.
        let broken = statements(&[CREATION, failing]);
        let rollback = statements(&["DROP USER '{{name}}'@'%'", "CREATE TABLE shop.rolled_back (a int)"]);
        let rolled_back = target.create(&made, &broken, &rollback).await;
        assert!(matches!(rolled_back, Err(Trouble::Refused(_))), "{rolled_back:?}");
        self.server.sql("DROP TABLE shop.rolled_back").unwrap();
        let wrong = target.create(&made, &broken, &statements(&["DROP TABLE shop.not_there"])).await;
        assert!(matches!(wrong, Err(Trouble::Partly(_))), "{wrong:?}");
        assert_eq!(self.count("mysql.user WHERE User = 'v-half'"), "1");
        target.revoke("v-half", &[]).await.unwrap();
        // What the first statement refuses was not begun.
        let first = target.create(&made, &statements(&["DROP TABLE shop.not_there", CREATION]), &[]).await;
        assert!(matches!(first, Err(Trouble::Refused(_))), "{first:?}");
        // The connection goes on, and what is no statement about users is of the same transaction.
        self.server.sql("CREATE TABLE shop.note (who text)").unwrap();
        let noted = statements(&["INSERT INTO shop.note VALUES ('{{name}}')", failing]);
        assert!(target.create(&made, &noted, &[]).await.is_err());
        assert_eq!(self.count("shop.note"), "0");
    }

    async fn the_servers_mode_does_not_unquote(&self) {
        self.server.sql("SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'").unwrap();
        let name = r"v-\' OR ''='";
        let target = self.target();
        target.create(&account(name, r"pw\'"), &statements(&[CREATION]), &[]).await.unwrap();
        target.log_in(name, &secret(r"pw\'")).await.unwrap();
        target.revoke(name, &[]).await.unwrap();
        self.server.sql("SET GLOBAL sql_mode = DEFAULT").unwrap();
        assert_eq!(self.count("mysql.user WHERE User LIKE 'v-%'"), "0");
    }

    async fn who_may_not_look_at_users_drops_the_one_from_anywhere(&self) {
        self.server.sql("CREATE USER 'maker'@'%' IDENTIFIED BY 'pw'; GRANT CREATE USER ON *.* TO 'maker'@'%'").unwrap();
        let url = self.url("").replace("{{username}}", "maker");
        let target = self.target_of(&url, &["pw"], &[]);
        let creation = statements(&["CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'"]);
        target.create(&account("v-made", "pw"), &creation, &[]).await.unwrap();
        target.set_password("v-made", None, &secret("pw-2"), &[]).await.unwrap();
        target.log_in("v-made", &secret("pw-2")).await.unwrap();
        target.revoke("v-made", &[]).await.unwrap();
        assert_eq!(self.count("mysql.user WHERE User = 'v-made'"), "0");
        // Whether it is gone it cannot say.
        assert!(matches!(target.revoke("v-made", &[]).await, Err(Trouble::Refused(_))));
        self.server.sql("DROP USER 'maker'@'%'").unwrap();
    }

    async fn the_first_password_that_lets_us_in_counts(&self) {
        self.target_of(&self.url(""), &["not-any-more", ROOT_PASSWORD], &[]).verify().await.unwrap();
        let target = self.target_of(&self.url(""), &["canary-wrong-1", "canary-wrong-2"], &[]);
        let Err(Trouble::NoEntry(why)) = target.verify().await else { panic!("it was let in") };
        assert!(why.contains("Access denied") && !why.contains("canary"), "{why}");
        let elsewhere = self.target_of(&self.url("not_there"), &[ROOT_PASSWORD], &[]).verify().await;
        assert!(matches!(elsewhere, Err(Trouble::Forbidden(_))), "{elsewhere:?}");
        // One that stands in the URL.
        let url = self.url("").replace("{{password}}", ROOT_PASSWORD);
        self.target_of(&url, &[], &[]).verify().await.unwrap();
    }

    async fn a_connection_that_the_server_closed_is_made_anew(&self) {
        let target = self.target();
        target.verify().await.unwrap();
        let others = "information_schema.processlist WHERE user = 'root' AND id <> connection_id()";
        assert_eq!(self.count(others), "1");
        let id = self.server.sql(&format!("SELECT id FROM {others}")).unwrap();
        self.server.sql(&format!("KILL {id}")).unwrap();
        target.verify().await.unwrap();
        target.verify().await.unwrap();
        assert_eq!(self.count(others), "1", "one connection is used again");
    }

    async fn the_connection_that_breaks_in_the_middle_leaves_a_doubt(&self) {
        let target = self.target();
        let ends_itself = statements(&["KILL CONNECTION_ID()"]);
        let broken = target.create(&account("v-broken", "pw"), &ends_itself, &[]).await;
        assert!(matches!(broken, Err(Trouble::Broken(_))), "{broken:?}");
        target.verify().await.unwrap();
    }

    async fn tls_01_the_server_is_verified_as_far_as_is_asked(&self) {
        let authority = self.server.authority();
        let is_enciphered = "CREATE TABLE shop.seen AS SELECT VARIABLE_VALUE AS cipher FROM \
                             information_schema.session_status WHERE VARIABLE_NAME = 'Ssl_cipher'";
        for (host, more, details, has_tls) in [
            ("localhost", "", &[("tls_ca", authority)][..], true),
            ("127.0.0.1", "", &[("tls_ca", authority), ("tls_server_name", "localhost")], true),
            ("127.0.0.1", "", &[("tls_ca", authority), ("tls_skip_verify", "true")], true),
            ("localhost", "?tls=true", &[("tls_ca", authority)], true),
            ("127.0.0.1", "?tls=skip-verify", &[], true),
            ("127.0.0.1", "?tls=preferred", &[], true),
            ("127.0.0.1", "?tls=false", &[], false),
        ] {
            let url = self.url(more).replace("127.0.0.1", host);
            let target = self.target_of(&url, &[ROOT_PASSWORD], details);
            let noted = target.create(&account("v-none", "pw"), &statements(&[is_enciphered]), &[]).await;
            noted.unwrap_or_else(|why| panic!("{host} {more}: {why}"));
            let found = self.count("shop.seen WHERE cipher LIKE 'TLS_%'") == "1";
            assert_eq!(found, has_tls, "{host} {more}");
            self.server.sql("DROP TABLE shop.seen").unwrap();
        }
        // Another name, and another authority.
        let other = tresor_services::Postgres::an_authority().unwrap();
        for (host, authority) in [("127.0.0.1", authority), ("localhost", &other)] {
            let url = self.url("").replace("127.0.0.1", host);
            let refused = self.target_of(&url, &[ROOT_PASSWORD], &[("tls_ca", authority)]).verify().await;
            assert!(matches!(refused, Err(Trouble::Unreachable(_))), "{host} {refused:?}");
        }
        let wrong = |details: &[(&str, &str)], url: &str| self.made(&self.url(url), &[ROOT_PASSWORD], details).err();
        assert_eq!(wrong(&[], "?tls=true").as_deref(), Some("TLS that verifies the server needs tls_ca"));
        assert_eq!(wrong(&[("tls_ca", "x")], "").as_deref(), Some("tls_ca holds no certificate in PEM"));
        assert_eq!(
            wrong(&[("tls_ca", authority), ("tls_certificate_key", authority)], "").as_deref(),
            Some("tls_certificate_key holds no private key in PEM")
        );
    }

    async fn of_several_hosts_the_first_that_answers_is_asked(&self) {
        let nobody = tresor_services::free_port().unwrap();
        let port = self.server.port();
        let of =
            |place: &str| self.target_of(&format!("{{{{username}}}}:{{{{password}}}}@{place}/"), &[ROOT_PASSWORD], &[]);
        of(&format!("tcp(127.0.0.1:{nobody},127.0.0.1:{port})")).verify().await.unwrap();
        of(&format!("unix({})", self.server.socket())).verify().await.unwrap();
        let none = of(&format!("tcp(127.0.0.1:{nobody})")).verify().await;
        assert!(matches!(none, Err(Trouble::Unreachable(_))), "{none:?}");
        // One that takes no writes is not the one.
        self.server.sql("SET GLOBAL read_only = 1").unwrap();
        let reader = of(&format!("tcp(127.0.0.1:{port},127.0.0.1:{port})")).verify().await;
        self.server.sql("SET GLOBAL read_only = 0").unwrap();
        assert_eq!(reader, Err(Trouble::Unreachable("the server takes no writes".into())));
    }
}

/// One server for all of it.
#[tokio::test]
async fn what_is_asked_of_a_real_server() {
    let doors =
        Doors { net: Arc::new(OsNet), clock: Arc::new(OsClock::new()), outgoing: Arc::new(NoWayOut), seed: [7; 32] };
    let fixture = Fixture { server: MariaDb::start().unwrap(), doors };
    fixture.an_account_is_made_and_taken_away().await;
    fixture.every_host_of_a_name_is_taken_away().await;
    fixture.a_creation_that_fails_leaves_nothing_and_shows_no_password().await;
    fixture.the_servers_mode_does_not_unquote().await;
    fixture.who_may_not_look_at_users_drops_the_one_from_anywhere().await;
    fixture.the_first_password_that_lets_us_in_counts().await;
    fixture.a_connection_that_the_server_closed_is_made_anew().await;
    fixture.the_connection_that_breaks_in_the_middle_leaves_a_doubt().await;
    fixture.tls_01_the_server_is_verified_as_far_as_is_asked().await;
    fixture.of_several_hosts_the_first_that_answers_is_asked().await;
}
