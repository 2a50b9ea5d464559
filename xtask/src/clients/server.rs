//! A development server for one suite, and commands to it. Ended on drop.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::steps::succeed_silently;

/// The root token.
pub(super) const ROOT: &str = "test12345";
/// A server that is not there by then does not come.
const START_SECONDS_MAX: u64 = 60;

/// A server that serves.
pub(super) struct Server {
    child: Child,
    binary: PathBuf,
    home: PathBuf,
    /// Where it is, as a URL.
    pub(super) url: String,
    /// What it printed when it started.
    said: String,
}

impl Server {
    /// Starts one with its home in an empty folder below `place`; with TLS, its certificates are there too.
    pub(super) fn start(binary: &Path, place: &Path, tls: bool) -> Result<Self, String> {
        let home = place.join("home");
        if home.exists() {
            std::fs::remove_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        }
        std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        let log = home.join("server.log");
        let output = std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(binary);
        command.args(["server", "-dev", "-dev-no-store-token", "-dev-listen-address=127.0.0.1:0"]);
        command.arg(format!("-dev-root-token-id={ROOT}"));
        if tls {
            command.arg("-dev-tls").arg(format!("-dev-tls-cert-dir={}", home.display()));
        }
        let child = command
            .env_clear()
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut server = Self { child, binary: binary.to_owned(), home, url: String::new(), said: String::new() };
        let end = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            server.said = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some((_, rest)) = server.said.split_once("(addr: \"")
                && let Some((address, rest)) = rest.split_once('"')
                && rest.contains("Root Token: ")
            {
                server.url = format!("{}://{address}", if tls { "https" } else { "http" });
                return Ok(server);
            }
            let has_ended = server.child.try_wait().map_err(|error| error.to_string())?.is_some();
            if has_ended || Instant::now() > end {
                return Err(format!("the server does not start:\n{}", server.said));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its only unseal key.
    pub(super) fn unseal_key(&self) -> String {
        let line = self.said.lines().find_map(|line| line.trim_start().strip_prefix("Unseal Key: "));
        line.unwrap_or_default().trim().to_owned()
    }

    /// One of the files of its certificates.
    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Runs our command line as root; what it printed.
    pub(super) fn command(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env_clear().env("HOME", &self.home);
        command.env("VAULT_ADDR", &self.url).env("VAULT_TOKEN", ROOT);
        if self.url.starts_with("https:") {
            command.env("VAULT_CACERT", self.certificate("vault-ca.pem"));
        }
        succeed_silently(&mut command).map(|printed| printed.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
