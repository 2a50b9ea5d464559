//! PostgreSQL, with TLS and passwords, on 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::certificates::Certificates;
use crate::process::{Home, Process, free_port};

/// Who may do everything.
pub const ROOT: &str = "root";
/// By which password.
pub const ROOT_PASSWORD: &str = "root-Canary-pw-1";

/// A server that runs until it is dropped.
pub struct Postgres {
    // Ended before its directory goes.
    process: Process,
    home: Home,
    port: u16,
    authority: String,
    programs: PathBuf,
    /// What it is started with.
    settings: Vec<String>,
}

impl Postgres {
    /// Starts one. Its certificate is for `localhost`. What is lost with the power was made for a test: it syncs nothing.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start() -> Result<Self, String> {
        Self::start_with("fsync=off")
    }

    /// Starts one that loses nothing with the power.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start_durable() -> Result<Self, String> {
        Self::start_with("fsync=on")
    }

    fn start_with(fsync: &str) -> Result<Self, String> {
        let programs = programs()?;
        let home = Home::of("postgres")?;
        let password = home.write("pw", ROOT_PASSWORD)?;
        let data = home.path().join("data");
        let made = home
            .command(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--username", ROOT, "--pgdata"])
            .arg(&data)
            .arg(format!("--pwfile={}", password.display()))
            .stderr(home.log()?)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            return Err(format!("initdb failed: {}", home.said()));
        }
        let certificates = Certificates::of("localhost")?;
        home.write("server.crt", &certificates.own)?;
        home.write("server.key", &certificates.key)?;
        let port = free_port()?;
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", home.path().display()),
            fsync.to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", home.path().join("server.crt").display()),
            format!("ssl_key_file={}", home.path().join("server.key").display()),
        ];
        let settings = Vec::from(settings);
        let process = run(&home, &programs, &settings, port)?;
        Ok(Self { process, home, port, authority: certificates.authority, programs, settings })
    }

    /// Kills every process of it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after it was killed, and waits until it has recovered.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.process = run(&self.home, &self.programs, &self.settings, self.port)?;
        Ok(())
    }

    /// Where its data lies.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its socket.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        self.home.path()
    }

    /// The certificate of who vouches for it, in PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The certificate of an authority that vouches for nobody here, in PEM.
    ///
    /// # Errors
    /// When none can be made.
    pub fn an_authority() -> Result<String, String> {
        Certificates::of("localhost").map(|certificates| certificates.authority)
    }

    /// From now on, as soon as it has read it, shows a certificate whose time is over, of another authority: that.
    ///
    /// # Errors
    /// What `psql` says, or that none can be made.
    pub fn show_expired(&self) -> Result<String, String> {
        let Certificates { authority, own, key, .. } = Certificates::expired("localhost")?;
        self.home.write("server.crt", &own)?;
        self.home.write("server.key", &key)?;
        self.sql("SELECT pg_reload_conf()")?;
        Ok(authority)
    }

    /// Runs SQL as root, in `psql`; gives what it prints, a row a line.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn sql(&self, text: &str) -> Result<String, String> {
        self.sql_as(ROOT, ROOT_PASSWORD, text)
    }

    /// The same as somebody.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn sql_as(&self, user: &str, password: &str, text: &str) -> Result<String, String> {
        let way = format!("host=127.0.0.1 port={} dbname=postgres", self.port);
        let mut command = Command::new(self.programs.join("psql"));
        said(command.args(["--username", user, "--command", text, "--dbname", &way]).env("PGPASSWORD", password))
    }

    /// From now on those who are in the role `certified` are let in by certificates of this authority alone.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn believe(&self, authority: &str) -> Result<(), String> {
        let file = self.home.write("clients.crt", authority)?;
        let rules = self.home.path().join("data/pg_hba.conf");
        let before = std::fs::read_to_string(&rules).map_err(|error| error.to_string())?;
        let rule = "hostssl all +certified 127.0.0.1/32 cert";
        std::fs::write(&rules, format!("{rule}\n{before}")).map_err(|error| error.to_string())?;
        self.sql("CREATE ROLE certified NOLOGIN")?;
        self.sql(&format!("ALTER SYSTEM SET ssl_ca_file = '{}'", file.display()))?;
        self.sql("SELECT pg_reload_conf()").map(drop)
    }

    /// Runs SQL as somebody who shows a certificate.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn sql_by(&self, user: &str, certificate: &str, key: &str, text: &str) -> Result<String, String> {
        let (certificate, key) = (self.home.write("client.crt", certificate)?, self.home.write("client.key", key)?);
        let way = format!(
            "host=127.0.0.1 port={} dbname=postgres sslmode=require sslcert={} sslkey={}",
            self.port,
            certificate.display(),
            key.display()
        );
        // As whoever owns the key.
        let mut command = self.home.command(&self.programs.join("psql"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        said(command.args(["--no-password", "--username", user, "--command", text, "--dbname", &way]))
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

fn run(home: &Home, programs: &Path, settings: &[String], port: u16) -> Result<Process, String> {
    let mut command = home.command(&programs.join("postgres"));
    command.arg("-D").arg(home.path().join("data")).stderr(home.log()?);
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    let is_ready = programs.join("pg_isready");
    let process = Process::start(&mut command, "QUIT", || {
        let mut ask = Command::new(&is_ready);
        ask.args(["--quiet", "--host=127.0.0.1", &format!("--port={port}")]);
        ask.status().is_ok_and(|status| status.success())
    });
    process.map_err(|why| format!("postgres: {why}: {}", home.said()))
}

fn said(psql: &mut Command) -> Result<String, String> {
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
    let said = psql.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
}

/// Where its programs are: on the path, or where Debian puts those of a version.
fn programs() -> Result<PathBuf, String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    places.sort_unstable();
    places.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    let has_all =
        |place: &PathBuf| ["initdb", "postgres", "pg_isready", "psql"].iter().all(|name| place.join(name).exists());
    places.into_iter().find(has_all).ok_or_else(|| "PostgreSQL is not installed (Debian: postgresql)".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_answers_and_is_gone_when_it_is_dropped() {
        let server = Postgres::start().unwrap();
        assert_eq!(server.sql("SELECT 40 + 2").unwrap(), "42");
        assert!(server.sql_as("nobody", "x", "SELECT 1").unwrap_err().contains("password authentication failed"));
        let (directory, port) = (server.home.path().to_owned(), server.port());
        drop(server);
        assert!(!directory.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
