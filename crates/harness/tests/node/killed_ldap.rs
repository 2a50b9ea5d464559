//! `ldap` on a server that is killed after every word that it says to a real OpenLDAP server and before it hears the answer:
//! accounts that are made and taken back.
//!
//! Deliberately absent: accounts of a library and rotations (`ldap.rs`), and a kill while an account is lent or a lease renewed: nobody else is told of
//! these, so each is one transaction.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};
use tresor_services::slapd::{MANAGER, MANAGER_PASSWORD};
use tresor_services::{Between, Slapd};

use crate::databases::until;
use crate::ldap::{CREATION, DELETION, logging_in, node, people};

/// A node, a directory, and the wire between them.
struct Both {
    harness: Harness,
    server: Slapd,
    between: Between,
}

impl Both {
    async fn start() -> Self {
        let server = Slapd::start().unwrap();
        let port = server.url().rsplit_once(':').unwrap().1.parse().unwrap();
        let (between, harness) = (Between::to(port).unwrap(), node().await);
        harness.prepare("POST", "sys/mounts/ldap", json!({ "type": "ldap" })).await;
        let config = json!({
            "binddn": MANAGER, "bindpass": MANAGER_PASSWORD, "userdn": "ou=people,dc=example,dc=com",
            "url": format!("ldap://127.0.0.1:{}", between.port()),
        });
        harness.prepare("POST", "ldap/config", config).await;
        Self { harness, server, between }
    }

    /// Does something until this word went to the directory and that is there which comes of it, kills the server then, and opens
    /// another one on the same store.
    async fn killed_after(
        &mut self,
        word: &str,
        does: impl AsyncFnOnce(&Harness),
        comes_of_it: impl AsyncFn(&Slapd) -> bool,
    ) {
        self.between.hold_after(word);
        {
            let mut doing = std::pin::pin!(does(&self.harness));
            while !self.between.is_holding() {
                tokio::select! {
                    () = &mut doing => panic!("{word:?}: it came to its end"),
                    () = tokio::time::sleep(Duration::from_millis(2)) => {}
                }
            }
        }
        let mut looks = 0;
        while !comes_of_it(&self.server).await {
            looks += 1;
            assert!(looks < 5000, "{word:?}: nothing comes of it");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.harness.kill();
        self.between.mend();
        // A server that serves within the second in which something was begun cannot tell it from what it begins itself, and
        // leaves it to its deadline.
        self.harness.advance(Duration::from_secs(2)).await;
        self.harness.unseal().await;
    }

    async fn leases(&self) -> Value {
        self.harness.read("sys/leases/count?type=live", ROOT).await.expect_status(200).at("/data/lease_count").clone()
    }

    /// Whether nothing is to be taken back any more, so that what is said to the directory next is for something else.
    async fn is_quiet(&self) -> bool {
        let tree = self.harness.read("sys/leases/tree", ROOT).await.expect_status(200);
        !tree.at("/data/mounts").to_string().contains("\"revoking\"")
    }
}

/// How a server is told to take something back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Order,
    Time,
}

impl End {
    async fn comes(self, harness: &Harness, lease: &str) {
        match self {
            Self::Order => {
                let body = json!({ "lease_id": lease, "sync": true });
                drop(harness.write("sys/leases/revoke", ROOT, body).await);
            }
            Self::Time => {
                harness.advance(Duration::from_secs(3601)).await;
                // It is done in the background, with a real directory.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[tokio::test]
async fn accounts_of_a_directory_are_what_leases_say_at_whatever_word_the_server_is_killed() {
    let mut both = Both::start().await;
    let role = json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION, "default_ttl": "1h", "max_ttl": "1h" });
    both.harness.prepare("POST", "ldap/role/dev", role).await;
    let before = people(&both.server).await;
    // It logged in; the entry is there; it is in its group, too, and nobody was told.
    for (word, made) in [(logging_in(MANAGER), 0), ("userPassword".to_owned(), 1), ("member".to_owned(), 1)] {
        let asks = async |harness: &Harness| drop(harness.read("ldap/creds/dev", ROOT).await);
        both.killed_after(&word, asks, async |server| people(server).await == before + made).await;
        // As soon as it serves; and again when the deadline of whoever made it is over, and once more a while after that.
        until!(both.harness, people(&both.server).await == before);
        both.harness.advance(Duration::from_secs(100)).await;
        until!(both.harness, both.leases().await == 0);
        both.harness.advance(Duration::from_secs(301)).await;
        until!(both.harness, both.is_quiet().await);
        assert_eq!(people(&both.server).await, before, "{word:?}: an account without a lease");
        drop(both.harness.list("sys/leases/lookup/ldap/creds/dev", ROOT).await.expect_status(404));
    }
    // It logged in; the account is out of its group; it is gone, and so is its lease.
    for end in [End::Order, End::Time] {
        for at in 0..3 {
            let made = both.harness.read("ldap/creds/dev", ROOT).await.expect_status(200);
            let (user, lease) = (made.text_at("/data/username"), made.text_at("/lease_id"));
            let name = format!("cn={user},ou=people,dc=example,dc=com");
            // Nothing but a deletion is a name and nothing else: its kind, how long it is in four bytes, and it.
            let deletes = format!("J\u{fffd}\0\0\0{}{name}", char::from(u8::try_from(name.len()).unwrap()));
            assert!(name.len() < 128, "{name}");
            let (word, left) = match at {
                0 => (logging_in(MANAGER), 1),
                1 => ("member".to_owned(), 1),
                _ => (deletes, 0),
            };
            let ends = async |harness: &Harness| end.comes(harness, &lease).await;
            both.killed_after(&word, ends, async |server| people(server).await == before + left).await;
            until!(both.harness, people(&both.server).await == before);
            let shown =
                async || both.harness.write("sys/leases/lookup", ROOT, json!({ "lease_id": lease })).await.status;
            until!(both.harness, shown().await == 400);
            until!(both.harness, both.is_quiet().await);
            assert_eq!(both.leases().await, 0, "{end:?} {word:?}: a lease without an account");
        }
    }
    assert_eq!(both.harness.read("sys/leases/count?type=irrevocable", ROOT).await.at("/data/lease_count"), 0);
}
