//! PyKMIP: a server of keys that speaks KMIP over TLS, with keys for AES that its own client makes.
//!
//! It knows clients by their certificates, and speaks no newer TLS than 1.2. Deliberately absent: encryption by RSA keys, which it
//! does not have.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::Certificates;
use crate::process::{Home, Process, free_port};

/// The one cipher suite that it takes.
pub const SUITE: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";

/// A server, until it is dropped.
pub struct PyKmip {
    // Ended before its directory goes.
    process: Option<Process>,
    home: Home,
    python: PathBuf,
    port: u16,
}

impl PyKmip {
    /// Starts one by the interpreter of an environment that has it. Its certificate is for `localhost`.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start(python: &Path) -> Result<Self, String> {
        let (home, port, certificates) = (Home::of_ours()?, free_port()?, Certificates::of("localhost")?);
        for (name, text) in [
            ("ca.pem", &certificates.authority),
            ("own.pem", &certificates.own),
            ("own.key", &certificates.key),
            ("client.pem", &certificates.client.certificate),
            ("client.key", &certificates.client.key),
        ] {
            home.write(name, text)?;
        }
        home.directory("policy")?;
        let at = home.path().display().to_string();
        let text = format!(
            "[server]\nhostname=127.0.0.1\nport={port}\ncertificate_path={at}/own.pem\nkey_path={at}/own.key\nca_path={at}/ca.pem\n\
             auth_suite=TLS1.2\npolicy_path={at}/policy\nenable_tls_client_auth=True\ntls_cipher_suites={SUITE}\n\
             logging_level=INFO\ndatabase_path={at}/keys\n"
        );
        home.write("server.conf", &text)?;
        let mut server = Self { process: None, home, python: python.to_owned(), port };
        server.start_again()?;
        Ok(server)
    }

    /// Ends it at once.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, with the keys that it had.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn start_again(&mut self) -> Result<(), String> {
        let mut command = self.home.command(&self.python.with_file_name("pykmip-server"));
        command.arg("-f").arg(self.file("server.conf")).arg("-l").arg(self.file("server.log")).stderr(self.home.log()?);
        let port = self.port;
        let started =
            Process::start(&mut command, "KILL", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        self.process = Some(started.map_err(|why| format!("pykmip-server: {why}: {}", self.home.said()))?);
        Ok(())
    }

    /// Where it is: a host and a port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// One of its files: `ca.pem`, and `client.pem` and `client.key`, which it lets in.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Makes a key, which may be used from now on; its id.
    ///
    /// # Errors
    /// What its client says.
    pub fn make(&self) -> Result<String, String> {
        let made = "made = client.create(enums.CryptographicAlgorithm.AES, 256, cryptographic_usage_mask=[\n    \
                    enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT])\n";
        self.run(&format!("{made}client.activate(made)\nprint(made)\n"))
    }

    /// Takes a key out of use.
    ///
    /// # Errors
    /// What its client says.
    pub fn revoke(&self, key: &str) -> Result<(), String> {
        self.run(&format!("client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, '{key}')\n")).map(drop)
    }

    fn run(&self, lines: &str) -> Result<String, String> {
        let at = self.home.path().display();
        let program = format!(
            "from kmip import enums\nfrom kmip.pie.client import ProxyKmipClient\nclient = ProxyKmipClient(\n    \
             hostname='localhost', port={}, cert='{at}/client.pem', key='{at}/client.key', ca='{at}/ca.pem',\n    \
             ssl_version='PROTOCOL_TLSv1_2', config_file='/dev/null')\nclient.open()\n{lines}",
            self.port
        );
        let output = Command::new(&self.python).args(["-c", &program]).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(said) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}
