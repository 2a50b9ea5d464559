//! Pebble: an authority of certificates that speaks ACME (RFC 8555) and really asks at the names, with a DNS in which every name is this
//! machine.
//!
//! It forgets accounts and certificates when it ends, and has another key when it starts. Deliberately absent: proofs by the DNS.

use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::Certificates;
use crate::process::{Home, Process, free_port};

/// How one is to be.
pub struct Wanted {
    /// The port at which it asks for proofs by TLS.
    pub tls_port: u16,
    /// The port at which it asks for proofs by HTTP.
    pub http_port: u16,
    /// How many seconds certificates are good for.
    pub life: u64,
    /// The id and key, in base64 as addresses have it, of the account outside of ACME that its accounts belong to.
    pub external: Option<(String, String)>,
    /// Of a hundred messages, how many are refused for their nonce although it is right.
    pub nonces_refused: u8,
}

/// An authority, until it is dropped.
pub struct Pebble {
    // Ended before their directory goes.
    process: Option<Process>,
    dns: Option<Process>,
    home: Home,
    port: u16,
    dns_port: u16,
    management: u16,
    nonces_refused: u8,
}

impl Pebble {
    /// Makes one that does not run yet.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn prepare(wanted: &Wanted) -> Result<Self, String> {
        let (home, certificates) = (Home::of_ours()?, Certificates::of("127.0.0.1")?);
        let (port, management, dns_port) = (free_port()?, free_port()?, free_udp_port()?);
        home.write("ca.pem", &certificates.authority)?;
        home.write("own.pem", &certificates.own)?;
        home.write("own.key", &certificates.key)?;
        let at = home.path().display();
        let external = wanted.external.as_ref().map_or(String::new(), |(id, key)| {
            format!(r#", "externalAccountBindingRequired": true, "externalAccountMACKeys": {{ "{id}": "{key}" }}"#)
        });
        let text = format!(
            r#"{{ "pebble": {{ "listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{management}",
            "certificate": "{at}/own.pem", "privateKey": "{at}/own.key", "httpPort": {}, "tlsPort": {},
            "certificateValidityPeriod": {}, "domainBlocklist": ["refused.example.com"]{external} }} }}"#,
            wanted.http_port, wanted.tls_port, wanted.life
        );
        home.write("pebble.json", &text)?;
        let nonces_refused = wanted.nonces_refused;
        Ok(Self { process: None, dns: None, home, port, dns_port, management, nonces_refused })
    }

    /// Starts one.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start(wanted: &Wanted) -> Result<Self, String> {
        let mut pebble = Self::prepare(wanted)?;
        pebble.run()?;
        Ok(pebble)
    }

    /// Lets it run.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn run(&mut self) -> Result<(), String> {
        if self.dns.is_none() {
            let mut command = self.home.command(Path::new("pebble-challtestsrv"));
            let dns_port = self.dns_port;
            command.args([
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
            ]);
            command.arg("-dns01").arg(format!("127.0.0.1:{dns_port}")).arg("-management");
            command.arg(format!("127.0.0.1:{}", free_port()?));
            let started = Process::start(&mut command, "KILL", || TcpStream::connect(("127.0.0.1", dns_port)).is_ok());
            self.dns = Some(started.map_err(|why| format!("pebble-challtestsrv (Debian's `pebble`): {why}"))?);
        }
        let mut command = self.home.command(Path::new("pebble"));
        command.arg("-config").arg(self.home.path().join("pebble.json"));
        command.arg("-dnsserver").arg(format!("127.0.0.1:{}", self.dns_port));
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", self.nonces_refused.to_string());
        command.stdout(self.home.log()?);
        let port = self.port;
        let started = Process::start(&mut command, "KILL", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        self.process = Some(started.map_err(|why| format!("pebble: {why}: {}", self.home.said()))?);
        Ok(())
    }

    /// Ends it at once.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// The address of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The file with the authority that vouches for it as a server.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.home.path().join("ca.pem")
    }

    /// The certificate by which what it signed is verified, in PEM: another one after each start.
    ///
    /// # Errors
    /// What curl says.
    pub fn root(&self) -> Result<String, String> {
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        let output = Command::new("curl").args(["-sSf", "--cacert"]).arg(self.authority()).arg(url).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        String::from_utf8(output.stdout).map_err(|error| error.to_string())
    }

    /// How many lines of its log hold this.
    #[must_use]
    pub fn said(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(words)).count()
    }
}

fn free_udp_port() -> Result<u16, String> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    socket.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
