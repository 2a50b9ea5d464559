//! The `database` engine against a real MariaDB server: what is true of every kind of server is true of this one.
//!
//! Deliberately absent: what MySQL alone can do and cannot, which is asked of it within the engine.

#![allow(clippy::unwrap_used, clippy::panic)]

use tresor_services::MariaDb;
use tresor_services::mariadb::ROOT_PASSWORD;

use super::databases::{Both, Server};

const SLEEPING: &str = "info LIKE '%SLEEP(600)%' AND id <> CONNECTION_ID()";

impl Server for MariaDb {
    const PLUGIN: &'static str = "mysql-database-plugin";
    const ROOT_PASSWORD: &'static str = ROOT_PASSWORD;
    const CREATION: &'static str =
        "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT SELECT ON shop.* TO '{{name}}'@'%'";
    const REVOCATION: &'static str = "DROP USER '{{name}}'@'%'";
    const ROTATION: &'static str = "ALTER USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'";
    const CERTIFIED: &'static str = "CREATE USER '{{name}}'@'%' REQUIRE SUBJECT '/CN={{name}}'";
    const SLEEP: &'static str = "SELECT SLEEP(600)";
    const BREAK: &'static str = "KILL CONNECTION_ID()";

    fn start() -> Self {
        Self::start().unwrap()
    }

    fn url(&self) -> String {
        format!("{{{{username}}}}:{{{{password}}}}@tcp(127.0.0.1:{})/", self.port())
    }

    fn accounts(&self) -> usize {
        self.sql("SELECT count(*) FROM mysql.global_priv WHERE User LIKE 'v-%'").unwrap().parse().unwrap()
    }

    fn lets_in(&self, user: &str, password: &str) -> bool {
        self.sql_as(user, password, "SELECT 1").is_ok()
    }

    fn add(&self, user: &str, password: &str) {
        let user = user.replace('\'', "''");
        let statements = format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO '{user}'@'%' WITH GRANT OPTION"
        );
        self.sql(&statements).unwrap();
    }

    fn remove(&self, user: &str) {
        self.sql(&format!("DROP USER '{}'@'%'", user.replace('\'', "''"))).unwrap();
    }

    fn remove_accounts(&self) {
        for name in self.sql("SELECT User FROM mysql.global_priv WHERE User LIKE 'v-%'").unwrap().lines() {
            self.remove(name);
        }
    }

    fn kept_of(&self, user: &str) -> String {
        self.sql(&format!("SELECT Priv FROM mysql.global_priv WHERE User = '{user}'")).unwrap()
    }

    fn sessions(&self, user: &str) -> usize {
        let asked = format!("SELECT count(*) FROM information_schema.processlist WHERE user = '{user}'");
        self.sql(&asked).unwrap().parse().unwrap()
    }

    fn asleep(&self) -> usize {
        let asked = format!("SELECT count(*) FROM information_schema.processlist WHERE {SLEEPING}");
        self.sql(&asked).unwrap().parse().unwrap()
    }

    fn wake(&self) {
        let asked = format!("SELECT id FROM information_schema.processlist WHERE {SLEEPING}");
        for id in self.sql(&asked).unwrap().lines() {
            // It may have ended meanwhile.
            drop(self.sql(&format!("KILL {id}")));
        }
    }

    fn believe(&self, authority: &str) {
        Self::believe(self, authority).unwrap();
    }

    fn lets_in_by(&self, user: &str, certificate: &str, key: &str) -> bool {
        self.sql_by(user, certificate, key, "SELECT 1").is_ok()
    }

    fn freeze(&self) {
        Self::freeze(self);
    }

    fn thaw(&self) {
        Self::thaw(self);
    }
}

/// One server for all of it; what one part leaves behind the next one counts with.
#[tokio::test]
async fn accounts_and_passwords_at_a_real_mysql() {
    Both::<MariaDb>::start().await.is_as_any().await;
}
