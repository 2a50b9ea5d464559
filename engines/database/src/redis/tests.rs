//! What is asked of a Redis server, asked of a real one.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use tresor_env::outgoing::NoWayOut;
use tresor_env_os::{OsClock, OsNet};
use tresor_model::Map;
use tresor_services::Redis as Server;
use tresor_services::redis::{Clients, ROOT, ROOT_PASSWORD, Users};

use super::*;
use crate::Doors;
use crate::connection::Connection;
use crate::target::Target;
use crate::testing::{account, secret, statements};

struct Fixture {
    server: Server,
    doors: Doors,
}

impl Fixture {
    fn of(users: Users) -> Self {
        Self::at(Server::start(users).unwrap())
    }

    fn at(server: Server) -> Self {
        let outgoing = Arc::new(NoWayOut);
        let doors = Doors { net: Arc::new(OsNet), clock: Arc::new(OsClock::new()), outgoing, seed: [7; 32] };
        Self { server, doors }
    }

    fn connection(&self, passwords: &[&str], details: &[(&str, &str)]) -> Connection {
        let mut map = Map::new().with("username", ROOT);
        if details.iter().all(|(name, _)| *name != "connection_url") {
            map = map.with("host", "127.0.0.1").with("port", i64::from(self.server.port()));
        }
        for (name, value) in details {
            map.insert(*name, *value);
        }
        Connection {
            plugin_name: "redis-database-plugin".into(),
            details: map,
            passwords: passwords.iter().copied().map(secret).collect(),
            ..Connection::empty("re")
        }
    }

    /// What a configuration leads to.
    fn made(&self, passwords: &[&str], details: &[(&str, &str)]) -> Result<Target, String> {
        (settings::PLUGIN.target)(&self.connection(passwords, details), self.doors.clone())
    }

    fn target(&self, mode: &str) -> Target {
        self.made(&[ROOT_PASSWORD], &[("persistence_mode", mode)]).unwrap()
    }

    fn wrong(&self, passwords: &[&str], details: &[(&str, &str)]) -> String {
        self.made(passwords, details).err().unwrap()
    }

    async fn an_account_is_made_and_taken_away(&self) {
        let target = self.target("");
        target.verify().await.unwrap();
        let rules = statements(&[r#"["~app:*", "+get", "+set"]"#]);
        let password = "pw-1 '\"\r\n+OK";
        target.create(&account("V_A'B\"C", password), &rules, &[]).await.unwrap();
        target.log_in("V_A'B\"C", &secret(password)).await.unwrap();
        assert!(matches!(target.log_in("V_A'B\"C", &secret("other")).await, Err(Trouble::NoEntry(_))));
        target.renew("V_A'B\"C", "2101-02-03 04:05:06+0000", &[]).await.unwrap();
        target.set_password("V_A'B\"C", None, &secret("pw-2"), &[]).await.unwrap();
        let as_it = |parts: &[&str]| self.server.command_as("V_A'B\"C", "pw-2", parts);
        assert_eq!(as_it(&["SET", "app:1", "x"]).unwrap(), "OK");
        assert!(as_it(&["SET", "other", "x"]).unwrap_err().contains("NOPERM"));
        assert!(as_it(&["DEL", "app:1"]).unwrap_err().contains("NOPERM"));
        target.revoke("V_A'B\"C", &[]).await.unwrap();
        assert!(self.server.users().unwrap().is_empty());
        target.revoke("V_A'B\"C", &[]).await.expect("gone already is taken away");
        assert!(matches!(target.set_password("V_A'B\"C", None, &secret("x"), &[]).await, Err(Trouble::Refused(_))));
        // Without statements it reads everything, and writes nothing.
        target.create(&account("V_USUAL", "pw"), &[], &[]).await.unwrap();
        assert_eq!(self.server.command_as("V_USUAL", "pw", &["GET", "other"]).unwrap(), "");
        assert!(self.server.command_as("V_USUAL", "pw", &["SET", "other", "x"]).unwrap_err().contains("NOPERM"));
        target.revoke("V_USUAL", &[]).await.unwrap();
    }

    async fn dyn_03_a_name_or_rule_is_never_more_than_one(&self) {
        let target = self.target("");
        for name in ["a b", "a\r\nACL SETUSER evil on nopass ~* +@all", "a\nuser evil on nopass", ""] {
            let made = target.create(&account(name, "pw"), &[], &[]).await;
            assert!(matches!(made, Err(Trouble::Senseless(_))), "{name:?} {made:?}");
            let set = target.set_password(name, None, &secret("pw"), &[]).await;
            assert!(matches!(set, Err(Trouble::Senseless(_))), "{name:?} {set:?}");
        }
        for rule in [r#"["+@nothing"]"#, "+get ~a b", r#"["~a b"]"#] {
            let made = target.create(&account("V_RULES", "pw-canary-1"), &statements(&[rule]), &[]).await;
            let Err(Trouble::Refused(why)) = made else { panic!("{rule} {made:?}") };
            assert!(!why.contains("canary"), "{why}");
        }
        assert!(self.server.users().unwrap().is_empty());
        // One that is there is not taken over, and so never taken away.
        for name in [ROOT, "default"] {
            let made = target.create(&account(name, "pw"), &[], &[]).await;
            assert!(matches!(made, Err(Trouble::Refused(_))), "{made:?}");
        }
        target.verify().await.unwrap();
    }

    async fn the_first_password_that_lets_us_in_counts(&self) {
        self.made(&["not-any-more", ROOT_PASSWORD], &[]).unwrap().verify().await.unwrap();
        let refused = self.made(&["canary-wrong-1", "canary-wrong-2"], &[]).unwrap().verify().await;
        let Err(Trouble::NoEntry(why)) = refused else { panic!("it was let in: {refused:?}") };
        assert!(why.contains("WRONGPASS") && !why.contains("canary"), "{why}");
        // Who may not look at users is of no use.
        self.server.command(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read"]).unwrap();
        let reader = self.made(&["pw"], &[("username", "reader")]).unwrap().verify().await;
        assert!(matches!(reader, Err(Trouble::Forbidden(_))), "{reader:?}");
        self.server.command(&["ACL", "DELUSER", "reader"]).unwrap();
        let url = format!("redis://{ROOT}:{ROOT_PASSWORD}@127.0.0.1:{}/0", self.server.port());
        self.made(&[], &[("connection_url", &url), ("username", "")]).unwrap().verify().await.unwrap();
        let url = format!("valkey://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}", self.server.port());
        self.made(&[ROOT_PASSWORD], &[("connection_url", &url)]).unwrap().verify().await.unwrap();
        let nobody = tresor_services::free_port().unwrap().to_string();
        let away = self.made(&[ROOT_PASSWORD], &[("port", &nobody)]).unwrap().verify().await;
        assert!(matches!(away, Err(Trouble::Unreachable(_))), "{away:?}");
    }

    fn what_makes_no_sense_is_refused(&self) {
        for (details, expected) in [
            (&[("host", "")][..], "host cannot be empty"),
            (&[("port", "0")], "port cannot be empty"),
            (&[("username", "")], "username cannot be empty"),
            (&[("tls", "true")], "ca_cert cannot be empty"),
            (&[("tls", "true"), ("ca_cert", "x")], "ca_cert holds no certificate in PEM"),
            (&[("persistence_mode", "AOF")], "persistence_mode is NONE, ACLFILE or CONFIG"),
            (&[("connection_url", "redis://h"), ("host", "h")], "connection_url stands in the place of host and port"),
        ] {
            assert_eq!(self.wrong(&[ROOT_PASSWORD], details), expected);
        }
        assert_eq!(self.wrong(&[], &[]), "password cannot be empty");
        // What goes is warned of, where somebody might listen or pose.
        for (details, warned) in [
            (&[][..], ""),
            (&[("host", "cache.example")], "passwords go to this server in the clear: send tls=true"),
            (&[("host", "cache.example"), ("tls", "true"), ("ca_cert", "x")], ""),
            (
                &[("tls", "true"), ("insecure_tls", "true")],
                "TLS does not verify the server: send ca_cert, without insecure_tls",
            ),
            (&[("smile", "true")], "Endpoint ignored these unrecognized parameters: [smile]"),
            (
                &[("connection_url", "redis://u:pw@localhost")],
                "Password found in connection_url, use a templated url to enable root rotation and prevent read access \
                 to password information.",
            ),
        ] {
            assert_eq!((settings::PLUGIN.warnings)(&self.connection(&[], details)).concat(), warned, "{details:?}");
        }
    }

    async fn a_connection_that_the_server_closed_is_made_anew(&self) {
        let target = self.target("");
        target.verify().await.unwrap();
        let closed = self.server.command(&["CLIENT", "KILL", "USER", ROOT, "SKIPME", "yes"]).unwrap();
        assert_eq!(closed, "1");
        target.verify().await.unwrap();
        target.verify().await.unwrap();
        assert_eq!(self.server.command(&["CLIENT", "KILL", "USER", ROOT, "SKIPME", "yes"]).unwrap(), "1");
        // Another password counts, and is known.
        let other = self.made(&[ROOT_PASSWORD, "pw-2"], &[]).unwrap();
        other.verify().await.unwrap();
        other.set_password(ROOT, None, &secret("pw-2"), &[]).await.unwrap();
        other.verify().await.unwrap();
        other.log_in(ROOT, &secret("pw-2")).await.unwrap();
        other.set_password(ROOT, None, &secret(ROOT_PASSWORD), &[]).await.unwrap();
    }

    async fn tls_01_the_server_is_verified_as_far_as_is_asked(&self) {
        let (authority, port) = (self.server.authority(), self.server.tls_port().to_string());
        let of = |details: &[(&str, &str)]| {
            let mut every = vec![("port", port.as_str())];
            every.extend(details);
            self.made(&[ROOT_PASSWORD], &every).unwrap()
        };
        of(&[("host", "localhost"), ("tls", "true"), ("ca_cert", authority)]).verify().await.unwrap();
        of(&[("tls", "true"), ("insecure_tls", "true")]).verify().await.unwrap();
        let url = format!("rediss://localhost:{port}");
        let by_url = self.made(&[ROOT_PASSWORD], &[("connection_url", &url), ("ca_cert", authority)]).unwrap();
        by_url.verify().await.unwrap();
        // Another name, another authority, and no TLS at all.
        let other = tresor_services::Postgres::an_authority().unwrap();
        for details in [
            &[("host", "127.0.0.1"), ("tls", "true"), ("ca_cert", authority)][..],
            &[("host", "localhost"), ("tls", "true"), ("ca_cert", &other)],
            &[("host", "localhost")],
        ] {
            let refused = of(details).verify().await;
            assert!(matches!(refused, Err(Trouble::Unreachable(_))), "{refused:?}");
        }
    }

    /// A server that asks for certificates is shown ours.
    async fn it_shows_a_certificate_where_one_is_asked_for(&self) {
        let (port, client) = (self.server.tls_port().to_string(), self.server.client().unwrap());
        let of = |more: &[(&str, &str)], key: Option<&str>| {
            let mut every = vec![("host", "localhost"), ("port", port.as_str()), ("tls", "true")];
            every.push(("ca_cert", self.server.authority()));
            every.extend(more);
            let mut connection = self.connection(&[ROOT_PASSWORD], &every);
            connection.secrets.extend(key.map(|key| ("tls_key".to_owned(), secret(key))));
            (settings::PLUGIN.target)(&connection, self.doors.clone())
        };
        let shows = ("tls_cert", client.certificate.as_str());
        let target = of(&[shows], Some(&client.key)).unwrap();
        target.verify().await.unwrap();
        target.create(&account("V_TLS", "pw"), &[], &[]).await.unwrap();
        target.log_in("V_TLS", &secret("pw")).await.unwrap();
        target.revoke("V_TLS", &[]).await.unwrap();
        let refused = of(&[], None).unwrap().verify().await;
        assert!(matches!(refused, Err(Trouble::Unreachable(_))), "{refused:?}");
        // A certificate of somebody whom it does not know.
        let other = Server::start_for(Path::new("redis-server"), Users::InAclFile, Clients::Certified).unwrap();
        let other = other.client().unwrap();
        let refused = of(&[("tls_cert", &other.certificate)], Some(&other.key)).unwrap().verify().await;
        assert!(matches!(refused, Err(Trouble::Unreachable(_))), "{refused:?}");
        let wrong = |more: &[(&str, &str)], key: Option<&str>| of(more, key).err().unwrap();
        assert_eq!(wrong(&[shows], None), "tls_cert and tls_key go together");
        assert_eq!(wrong(&[], Some(&client.key)), "tls_cert and tls_key go together");
        assert_eq!(wrong(&[("tls_cert", "x")], Some(&client.key)), "tls_cert holds no certificate in PEM");
        assert_eq!(wrong(&[shows], Some("canary")), "tls_key holds no private key in PEM");
    }

    /// What is made, changed and taken away is that after the server has started again.
    async fn what_is_made_outlives_the_server(&mut self, mode: &str) {
        let target = self.target(mode);
        target.verify().await.unwrap();
        target.create(&account("V_KEPT", "pw"), &statements(&[r#"["~app:*", "+get"]"#]), &[]).await.unwrap();
        target.create(&account("V_GONE", "pw"), &[], &[]).await.unwrap();
        target.set_password("V_KEPT", None, &secret("pw-2"), &[]).await.unwrap();
        target.revoke("V_GONE", &[]).await.unwrap();
        self.server.stop();
        assert!(matches!(target.revoke("V_KEPT", &[]).await, Err(Trouble::Unreachable(_))));
        self.server.start_again().unwrap();
        assert_eq!(self.server.users().unwrap(), ["V_KEPT"]);
        target.log_in("V_KEPT", &secret("pw-2")).await.unwrap();
        target.revoke("V_KEPT", &[]).await.unwrap();
        // Only hashes are written down.
        assert!(!self.server.written().unwrap().contains("pw-2"));
        self.server.stop();
        self.server.start_again().unwrap();
        assert!(self.server.users().unwrap().is_empty());
        // Quotes would keep the server from starting.
        let quoted = target.create(&account("V_A\"B", "pw"), &[], &[]).await;
        assert!(matches!(quoted, Err(Trouble::Senseless(_))), "{quoted:?}");
    }

    /// A server that cannot write down where it is told to says so, and keeps nothing.
    async fn what_cannot_be_written_down_is_not_done(&self, mode: &str) {
        let target = self.target(mode);
        let verified = target.verify().await;
        assert!(matches!(verified, Err(Trouble::Refused(_))), "{verified:?}");
        let made = target.create(&account("V_LOST", "pw"), &[], &[]).await;
        assert!(matches!(made, Err(Trouble::Refused(_))), "{made:?}");
        assert!(self.server.users().unwrap().is_empty());
        let gone = target.revoke("V_LOST", &[]).await;
        assert!(matches!(gone, Err(Trouble::Partly(_))), "{gone:?}");
    }
}

/// One server for all of it, with a file of users.
#[tokio::test]
async fn what_is_asked_of_a_real_server() {
    let mut fixture = Fixture::of(Users::InAclFile);
    fixture.an_account_is_made_and_taken_away().await;
    fixture.dyn_03_a_name_or_rule_is_never_more_than_one().await;
    fixture.the_first_password_that_lets_us_in_counts().await;
    fixture.what_makes_no_sense_is_refused();
    fixture.a_connection_that_the_server_closed_is_made_anew().await;
    fixture.tls_01_the_server_is_verified_as_far_as_is_asked().await;
    fixture.what_is_made_outlives_the_server("ACLFILE").await;
    // Its configuration would not hold users.
    fixture.what_is_made_outlives_the_server("CONFIG").await;
}

/// One whose users are in its configuration.
#[tokio::test]
async fn what_is_made_in_the_configuration_outlives_the_server() {
    let mut fixture = Fixture::of(Users::InConfig);
    fixture.what_is_made_outlives_the_server("config").await;
    fixture.what_cannot_be_written_down_is_not_done("ACLFILE").await;
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_is_shown_ours() {
    let fixture =
        Fixture::at(Server::start_for(Path::new("redis-server"), Users::InAclFile, Clients::Certified).unwrap());
    fixture.it_shows_a_certificate_where_one_is_asked_for().await;
}
