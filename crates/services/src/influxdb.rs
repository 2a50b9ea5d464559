//! InfluxDB 1.x, with users, in the clear or with TLS, on 127.0.0.1.

use std::net::TcpStream;
use std::path::Path;

use crate::certificates::Certificates;
use crate::process::{Home, Process, free_port};
use crate::talk;

/// Who may do everything.
pub const ROOT: &str = "root";
/// By which password.
pub const ROOT_PASSWORD: &str = "root-Canary-pw-4";

/// A server that runs until it is dropped.
pub struct InfluxDb {
    // Ended before its directory goes.
    process: Option<Process>,
    home: Home,
    port: u16,
    authority: String,
}

impl InfluxDb {
    /// Starts one that knows a first user and a database `app`.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start() -> Result<Self, String> {
        let home = Home::of("influxdb")?;
        let Certificates { authority, own, key, .. } = Certificates::of("localhost")?;
        home.write("own.pem", &own)?;
        home.write("key.pem", &key)?;
        let mut server = Self { process: None, home, port: free_port()?, authority };
        server.configure("")?;
        server.start_again()?;
        let first = format!("CREATE USER {ROOT} WITH PASSWORD '{ROOT_PASSWORD}' WITH ALL PRIVILEGES");
        talk::ask(server.port, "POST", &format!("/query?q={}", spelled(&first)), &[], "")
            .filter(|(status, _)| *status == 200)
            .ok_or_else(|| format!("no first user: {}", server.home.said()))?;
        server.query("CREATE DATABASE app")?;
        Ok(server)
    }

    /// Starts one that is asked by TLS alone. Its certificate is for `localhost`.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start_with_tls() -> Result<Self, String> {
        let mut server = Self::start()?;
        server.stop();
        let home = server.home.path().display();
        server.configure(&format!(
            "https-enabled = true\nhttps-certificate = \"{home}/own.pem\"\nhttps-private-key = \"{home}/key.pem\"\n"
        ))?;
        server.start_again()?;
        Ok(server)
    }

    fn configure(&self, more: &str) -> Result<(), String> {
        let (home, port, other) = (self.home.path().display(), self.port, free_port()?);
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{other}\"\n[meta]\ndir = \"{home}/meta\"\n\
             [data]\ndir = \"{home}/data\"\nwal-dir = \"{home}/wal\"\n[monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\nauth-enabled = true\nlog-enabled = false\n{more}"
        );
        self.home.write("influxdb.conf", &config).map(drop)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of who vouches for it, in PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Ends it, and keeps what it holds.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn start_again(&mut self) -> Result<(), String> {
        let mut command = self.home.command(Path::new("influxd"));
        command.arg("-config").arg(self.home.path().join("influxdb.conf")).stderr(self.home.log()?);
        command.env("HOME", self.home.path());
        let port = self.port;
        let process = Process::start(&mut command, "TERM", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        self.process = Some(process.map_err(|why| format!("influxd (Debian: influxdb): {why}: {}", self.home.said()))?);
        Ok(())
    }

    /// What it answers to a question of root's; not with TLS.
    ///
    /// # Errors
    /// What it refuses by.
    pub fn query(&self, text: &str) -> Result<String, String> {
        self.query_as(ROOT, ROOT_PASSWORD, text)
    }

    /// The same of somebody's.
    ///
    /// # Errors
    /// What it refuses by.
    pub fn query_as(&self, user: &str, password: &str, text: &str) -> Result<String, String> {
        let path = format!("/query?q={}", spelled(text));
        let answer = talk::ask(self.port, "POST", &path, &[talk::basic(user, password)], "");
        let (status, said) = answer.ok_or_else(|| format!("it does not answer: {}", self.home.said()))?;
        if status == 200 && !said.contains("\"error\"") { Ok(said) } else { Err(said) }
    }

    /// The names of all users, but the first one's.
    ///
    /// # Errors
    /// What it refuses by.
    pub fn users(&self) -> Result<Vec<String>, String> {
        let said = self.query("SHOW USERS")?;
        // Rows are `["name",false]`; the names of tests have no quotes.
        let names = said
            .split("[\"")
            .filter_map(|row| row.split_once("\","))
            .filter(|(_, behind)| behind.starts_with("true]") || behind.starts_with("false]"));
        Ok(names.map(|(name, _)| name.to_owned()).filter(|name| name != ROOT).collect())
    }
}

/// A text as a part of an address.
fn spelled(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_answers_and_is_gone_when_it_is_dropped() {
        let mut server = InfluxDb::start().unwrap();
        server.query("CREATE USER made WITH PASSWORD 'pw'").unwrap();
        assert_eq!(server.users().unwrap(), ["made"]);
        server.query_as("made", "pw", "SHOW DATABASES").unwrap();
        assert!(server.query_as("made", "x", "SHOW DATABASES").unwrap_err().contains("authorization failed"));
        server.stop();
        assert!(server.query("SHOW USERS").is_err());
        server.start_again().unwrap();
        assert_eq!(server.users().unwrap(), ["made"]);
        let (directory, port) = (server.home.path().to_owned(), server.port());
        drop(server);
        assert!(!directory.exists());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
