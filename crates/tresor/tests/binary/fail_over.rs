//! Accounts of a real PostgreSQL while the server that leads is killed in the middle of making them, renewing them, rotating
//! passwords and taking many back at once: what is there in the end is what living leases say.
//!
//! Deliberately absent: a server alone that is killed again and again, which is a program of its own (`accounts`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::{Value, json};
use tresor_services::Postgres;

use super::support::cluster::{Here, Three, insist};
use super::support::{Http, Load, clients, until};

const CLIENTS: usize = 4;
/// How many accounts end together.
const MANY: usize = 60;
/// How many requests a target is sent at once when leases end: so many may have been done at it and not been noted.
const AT_ONCE: usize = 16;

const CREATION: &str = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
/// Counts that it was asked for, which is not undone when the rest is refused; and takes its time.
const REVOCATION: &str = "SELECT nextval('asked'); SELECT pg_sleep(0.05); DROP ROLE \"{{name}}\"";

/// An account that a client was told of.
#[derive(Clone)]
struct Account {
    lease: String,
    name: String,
    password: String,
}

#[test]
fn whatever_the_leader_was_at_when_it_was_killed_accounts_are_those_of_living_leases() {
    let database = Postgres::start().unwrap();
    let mut world = World { three: Three::start(&Here), database };
    world.furnish();
    let accounts = world.creations_are_interrupted();
    world.renewals_are_interrupted(&accounts);
    world.rotations_are_interrupted();
    world.a_mass_expiry_is_interrupted();
    world.there_are(&accounts);
    for Account { name, password, .. } in &accounts {
        world.database.sql_as(name, password, "SELECT 1").unwrap();
    }
    // With the mount all of them go.
    insist(&world.any(), "DELETE", "sys/mounts/database", "");
    until("no account", || world.names().is_empty().then_some(()));
}

struct World {
    three: Three<'static>,
    database: Postgres,
}

impl World {
    fn any(&self) -> Http {
        self.three.http(0)
    }

    fn sql(&self, text: &str) -> String {
        self.database.sql(text).unwrap()
    }

    /// The accounts that were made and are there.
    fn names(&self) -> BTreeSet<String> {
        let said = self.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'");
        said.lines().map(str::to_owned).collect()
    }

    /// Waits until those are there and no others, and as many leases.
    fn there_are(&self, accounts: &[Account]) {
        let expected: BTreeSet<_> = accounts.iter().map(|account| account.name.clone()).collect();
        until("the accounts of living leases alone", || (self.names() == expected).then_some(()));
        let listed = insist(&self.any(), "LIST", "sys/leases/lookup/database/creds/long", "").at("/data/keys");
        let listed: BTreeSet<&str> = listed.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        let leases = accounts.iter().map(|account| account.lease.rsplit_once('/').unwrap().1);
        assert_eq!(listed, leases.collect());
    }

    fn furnish(&self) {
        self.sql("CREATE SEQUENCE asked");
        self.sql("CREATE ROLE keeper WITH SUPERUSER LOGIN PASSWORD 'keeper-1'");
        self.sql("CREATE ROLE stays WITH LOGIN");
        let http = self.any();
        let write = |path: &str, body: &Value| drop(insist(&http, "POST", path, &body.to_string()));
        write("sys/mounts/database", &json!({ "type": "database" }));
        let policy = "path \"database/creds/*\" { capabilities = [\"read\"] } \
                      path \"sys/leases/renew\" { capabilities = [\"update\"] }";
        write("sys/policies/acl/uses", &json!({ "policy": policy }));
        let url = format!("127.0.0.1:{}/postgres?sslmode=disable", self.database.port());
        let config = json!({
            "plugin_name": "postgresql-database-plugin",
            "connection_url": format!("postgresql://{{{{username}}}}:{{{{password}}}}@{url}"),
            "username": "keeper",
            "password": "keeper-1",
            "allowed_roles": "*",
        });
        write("database/config/own", &config);
        for (role, ttl) in [("long", "1h"), ("short", "12s")] {
            let config = json!({
                "db_name": "own",
                "creation_statements": CREATION,
                "revocation_statements": REVOCATION,
                "default_ttl": ttl,
                "max_ttl": "24h",
            });
            write(&format!("database/roles/{role}"), &config);
        }
        write(
            "database/static-roles/stays",
            &json!({ "db_name": "own", "username": "stays", "rotation_period": "24h" }),
        );
    }

    /// Kills who leads while clients are at work, and starts it again while others serve.
    fn kill_the_leader(three: &mut Three<'_>, load: &Load, between: usize) {
        load.more(between);
        let leader = three.leader();
        three.servers[leader].take().unwrap().kill();
        load.more(between);
        three.start_again(leader);
        three.serves(leader);
        load.more(between);
    }

    /// A token of somebody who uses accounts.
    fn token(nodes: &[Http]) -> String {
        let body = json!({ "policies": ["uses"] }).to_string();
        let made = until("a token", || {
            let answers = nodes.iter().filter_map(|node| node.try_send("POST", "auth/token/create", &body));
            answers.into_iter().find(|answer| answer.status == 200)
        });
        made.text_at("/auth/client_token")
    }

    /// What was acknowledged and stays.
    fn creations_are_interrupted(&mut self) -> Vec<Account> {
        let nodes = [0, 1, 2].map(|at| self.three.http(at));
        // Whose creation nobody knows the end of.
        let doubtful = Mutex::new(Vec::new());
        let work = |client: usize, load: &Load| {
            let mut accounts: BTreeMap<String, Vec<Account>> = BTreeMap::new();
            let mut token = Self::token(&nodes);
            for number in client.. {
                if load.is_over() {
                    break;
                }
                match nodes[number % 3].with_token(&token).try_send("GET", "database/creds/long", "") {
                    Some(answer) if answer.status < 500 => {
                        accounts.entry(token.clone()).or_default().push(account(&answer.expect(200).json()));
                        load.did_one();
                    }
                    _ => {
                        doubtful.lock().unwrap().push(token);
                        token = Self::token(&nodes);
                    }
                }
            }
            accounts
        };
        let three = &mut self.three;
        let made = clients(CLIENTS, work, |load| Self::kill_the_leader(three, load, 20));
        let mut made: BTreeMap<String, Vec<Account>> = made.into_iter().flatten().collect();
        let there = self.names();
        for Account { name, .. } in made.values().flatten() {
            assert!(there.contains(name), "{name} was acknowledged and is not there");
        }
        let known: usize = made.values().map(Vec::len).sum();
        let doubtful = doubtful.into_inner().unwrap();
        assert!(there.len() <= known + doubtful.len(), "{} accounts, {known} known", there.len());
        // With a token goes what it has, and what it may have: nobody has to wait for a deadline.
        for token in doubtful {
            insist(&self.any(), "POST", "auth/token/revoke", &json!({ "token": token }).to_string());
            made.remove(&token);
        }
        let accounts: Vec<Account> = made.into_values().flatten().collect();
        assert!(!accounts.is_empty());
        self.there_are(&accounts);
        accounts
    }

    fn renewals_are_interrupted(&mut self, accounts: &[Account]) {
        let nodes = [0, 1, 2].map(|at| self.three.http(at));
        let work = |client: usize, load: &Load| {
            for number in client.. {
                if load.is_over() {
                    break;
                }
                let lease = &accounts[number % accounts.len()].lease;
                let body = json!({ "lease_id": lease, "increment": 3600 * (2 + number % 7) }).to_string();
                let answer = nodes[number % 3].try_send("PUT", "sys/leases/renew", &body);
                if let Some(answer) = answer.filter(|answer| answer.status < 500) {
                    answer.expect(200);
                    load.did_one();
                }
            }
        };
        let three = &mut self.three;
        clients(CLIENTS, work, |load| Self::kill_the_leader(three, load, 20));
        // Nobody is let in for less long than their lease lasts.
        for Account { lease, name, .. } in accounts {
            let found = insist(&self.any(), "POST", "sys/leases/lookup", &json!({ "lease_id": lease }).to_string());
            let end = found.text_at("/data/expire_time");
            let is_long_enough =
                self.sql(&format!("SELECT rolvaliduntil >= '{end}' FROM pg_roles WHERE rolname = '{name}'"));
            assert_eq!(is_long_enough, "t", "{name} until {end}");
        }
    }

    fn rotations_are_interrupted(&mut self) {
        let nodes = [0, 1, 2].map(|at| self.three.http(at));
        let work = |client: usize, load: &Load| {
            let path = if client == 0 { "database/rotate-role/stays" } else { "database/rotate-root/own" };
            for number in client.. {
                if load.is_over() {
                    break;
                }
                let answer = nodes[number % 3].try_send("POST", path, "");
                if answer.is_some_and(|answer| answer.status == 204) {
                    load.did_one();
                }
            }
        };
        let three = &mut self.three;
        clients(2, work, |load| Self::kill_the_leader(three, load, 6));
        // Whichever password the connection is let in by, it is known.
        let made = insist(&self.any(), "GET", "database/creds/long", "").json();
        insist(&self.any(), "PUT", "sys/leases/revoke", &json!({ "lease_id": account(&made).lease }).to_string());
        assert!(self.database.sql_as("keeper", "keeper-1", "SELECT 1").is_err());
        // What was begun is done to its end by whoever comes next.
        for path in ["database/rotate-root/own", "database/rotate-role/stays"] {
            insist(&self.any(), "POST", path, "");
        }
        let shown = insist(&self.any(), "GET", "database/static-creds/stays", "");
        self.database.sql_as("stays", &shown.text_at("/data/password"), "SELECT 1").unwrap();
    }

    fn a_mass_expiry_is_interrupted(&mut self) {
        let others = until("what was revoked to go", || {
            let listed = insist(&self.any(), "LIST", "sys/leases/lookup/database/creds/long", "").at("/data/keys");
            let names = self.names();
            (names.len() == listed.as_array()?.len()).then_some(names)
        });
        let before: usize = self.sql("SELECT last_value FROM asked").parse().unwrap();
        for _ in 0..MANY {
            insist(&self.any(), "GET", "database/creds/short", "");
        }
        let left = |world: &Self| world.names().difference(&others).count();
        until("the first to end", || (left(self) < MANY).then_some(()));
        let leader = self.three.leader();
        self.three.servers[leader].take().unwrap().kill();
        assert!(left(self) > 0, "none was left when the leader was killed");
        until("all to end", || (left(self) == 0).then_some(()));
        self.three.start_again(leader);
        self.three.serves(leader);
        let asked = self.sql("SELECT last_value FROM asked").parse::<usize>().unwrap() - before;
        assert!((MANY..=MANY + AT_ONCE).contains(&asked), "{MANY} were taken back by {asked} requests");
    }
}

fn account(made: &Value) -> Account {
    let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    Account { lease: text("/lease_id"), name: text("/data/username"), password: text("/data/password") }
}
