//! MariaDB, with TLS and passwords, on 127.0.0.1.

use std::path::Path;
use std::process::Command;

use crate::certificates::Certificates;
use crate::process::{Home, Process, free_port};

/// Who may do everything, from anywhere.
pub const ROOT: &str = "root";
/// By which password.
pub const ROOT_PASSWORD: &str = "root-Canary-pw-2";

/// A server that runs until it is dropped.
pub struct MariaDb {
    // Ended before its directory goes.
    process: Process,
    home: Home,
    port: u16,
    authority: String,
}

impl MariaDb {
    /// Starts one. Its certificate is for `localhost`. What is lost with the power was made for a test: it syncs nothing.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start() -> Result<Self, String> {
        let home = Home::of("mysql")?;
        let data = home.path().join("data");
        let made = home
            .command(Path::new("/usr/bin/mariadb-install-db"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()))
            .stderr(home.log()?)
            .status();
        match made {
            Ok(status) if status.success() => {}
            Ok(_) => return Err(format!("mariadb-install-db failed: {}", home.said())),
            Err(error) => return Err(format!("mariadb-install-db (Debian: mariadb-server): {error}")),
        }
        let certificates = Certificates::of("localhost")?;
        // Who comes with it has no password, or no name.
        let begin = format!(
            "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';\nFLUSH PRIVILEGES;\n\
             CREATE USER '{ROOT}'@'%' IDENTIFIED BY '{ROOT_PASSWORD}';\n\
             GRANT ALL ON *.* TO '{ROOT}'@'%' WITH GRANT OPTION;\nCREATE DATABASE shop;\n"
        );
        let files = [
            ("init-file", home.write("begin.sql", &begin)?),
            ("ssl-ca", home.write("ca.pem", &certificates.authority)?),
            ("ssl-cert", home.write("own.pem", &certificates.own)?),
            ("ssl-key", home.write("key.pem", &certificates.key)?),
            ("datadir", data),
            ("socket", home.path().join("socket")),
        ];
        let port = free_port()?;
        let mut command = home.command(Path::new("/usr/sbin/mariadbd"));
        command.arg("--no-defaults").stderr(home.log()?);
        command.args(["--bind-address=127.0.0.1", &format!("--port={port}"), "--skip-name-resolve"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"]);
        for (option, path) in files {
            command.arg(format!("--{option}={}", path.display()));
        }
        let answers = || {
            let asked = client(port, ROOT, ROOT_PASSWORD).args(["--execute", "USE shop"]).output();
            asked.is_ok_and(|said| said.status.success())
        };
        let process = Process::start(&mut command, "TERM", answers);
        let process = process.map_err(|why| format!("mariadbd: {why}: {}", home.said()))?;
        Ok(Self { process, home, port, authority: certificates.authority })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> String {
        self.home.path().join("socket").display().to_string()
    }

    /// The certificate of who vouches for it, in PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Runs SQL as root, in the client that comes with it; gives what it prints, a row a line.
    ///
    /// # Errors
    /// What the client says.
    pub fn sql(&self, text: &str) -> Result<String, String> {
        self.sql_as(ROOT, ROOT_PASSWORD, text)
    }

    /// The same as somebody.
    ///
    /// # Errors
    /// What the client says.
    pub fn sql_as(&self, user: &str, password: &str, text: &str) -> Result<String, String> {
        said(client(self.port, user, password).args(["--execute", text]))
    }

    /// From now on certificates of this authority are believed, too.
    ///
    /// # Errors
    /// What the client says.
    pub fn believe(&self, authority: &str) -> Result<(), String> {
        self.home.write("ca.pem", &format!("{}{authority}", self.authority))?;
        self.sql("FLUSH SSL").map(drop)
    }

    /// Runs SQL as somebody who shows a certificate.
    ///
    /// # Errors
    /// What the client says.
    pub fn sql_by(&self, user: &str, certificate: &str, key: &str, text: &str) -> Result<String, String> {
        let (certificate, key) = (self.home.write("client.crt", certificate)?, self.home.write("client.key", key)?);
        let options = [format!("--ssl-cert={}", certificate.display()), format!("--ssl-key={}", key.display())];
        said(client(self.port, user, "").args(options).args(["--ssl", "--execute", text]))
    }

    /// Makes it stand still, as a machine that hangs; dropping it works all the same.
    pub fn freeze(&self) {
        self.process.signal_all("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal_all("CONT");
    }
}

fn client(port: u16, user: &str, password: &str) -> Command {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--batch", "--skip-column-names"]);
    command.arg(format!("--port={port}")).arg(format!("--user={user}")).env("MYSQL_PWD", password);
    command
}

fn said(command: &mut Command) -> Result<String, String> {
    let said = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_answers_and_is_gone_when_it_is_dropped() {
        let server = MariaDb::start().unwrap();
        assert_eq!(server.sql("SELECT 40 + 2").unwrap(), "42");
        assert!(server.sql_as("nobody", "x", "SELECT 1").unwrap_err().contains("Access denied"));
        let (directory, port) = (server.home.path().to_owned(), server.port());
        drop(server);
        assert!(!directory.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
