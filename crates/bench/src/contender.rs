//! A server process of the benchmark: its folder, its certificate, its configuration, pinned to its core from its first
//! instruction, killed when it is dropped.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::bare;
use crate::connection::{Connection, Endpoint};
use crate::machine::{self, Usage};
use crate::options::{Options, Storage};

/// How long a server may take to answer for the first time.
const START_BOUND: Duration = Duration::from_secs(30);

/// What is started.
pub(crate) enum Program<'p> {
    /// A server that speaks the Vault API, by its binary, and what it keeps its data in.
    Server(&'p Path, Storage),
    /// The yardstick: HTTP and TLS alone.
    Bare,
}

/// A running server.
pub(crate) struct Contender {
    /// How it is called in the report.
    pub(crate) name: String,
    /// Where it is reached.
    pub(crate) endpoint: Endpoint,
    address: String,
    command: Command,
    child: Child,
    folder: TempDir,
}

impl Contender {
    /// Starts a server in a folder of its own and waits until it answers.
    pub(crate) async fn start(program: Program<'_>, options: &Options) -> Result<Self, String> {
        Self::start_as("bench", program, options).await
    }

    /// The same as a node of this name.
    pub(crate) async fn start_as(node: &str, program: Program<'_>, options: &Options) -> Result<Self, String> {
        let folder = tempfile::tempdir_in(&options.directory).map_err(|error| error.to_string())?;
        let (address, cluster) = (free_address()?, free_address()?);
        let certificate = write_certificate(folder.path())?;
        std::fs::create_dir(folder.path().join("data")).map_err(|error| error.to_string())?;
        let log = |name: &str| File::create(folder.path().join(name)).map_err(|error| error.to_string());
        let (name, mut command) = match program {
            Program::Server(binary, storage) => {
                let config = folder.path().join("server.hcl");
                write(&config, &configuration(folder.path(), node, storage, &address, &cluster))?;
                let mut command = Command::new(binary);
                command.arg("server").arg(format!("-config={}", config.display()));
                let name = binary.file_name().unwrap_or_default().to_string_lossy();
                (if storage == Storage::File { format!("{name}-file") } else { name.into_owned() }, command)
            }
            Program::Bare => {
                let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
                command.args([bare::COMMAND, &address, "cert.pem", "key.pem"]);
                (bare::COMMAND.to_owned(), command)
            }
        };
        command.env_clear().env("HOME", folder.path()).current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log("output")?).stderr(log("log")?);
        let child = spawn(&mut command, options).map_err(|error| format!("{name}: {error}"))?;
        let endpoint = Endpoint::new(address.parse().map_err(|_| "a strange address".to_owned())?, certificate)?;
        let mut contender = Self { name, endpoint, address, command, child, folder };
        contender.wait_for_answer().await?;
        Ok(contender)
    }

    /// Sends its process a signal, and waits for its end.
    pub(crate) async fn end_by(&mut self, signal: Signal) -> Result<(), String> {
        kill_process(self.process()?, signal).map_err(|error| error.to_string())?;
        // It may serve on for seconds, and so does the load meanwhile.
        while self.child.try_wait().map_err(|error| error.to_string())?.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts it again where it was.
    pub(crate) async fn start_again(&mut self, options: &Options) -> Result<(), String> {
        self.child = spawn(&mut self.command, options).map_err(|error| format!("{}: {error}", self.name))?;
        self.wait_for_answer().await
    }

    /// Where its API is, for other nodes, and the certificate that they know it by.
    pub(crate) fn for_other_nodes(&self) -> Result<(String, String), String> {
        let certificate = std::fs::read_to_string(self.folder.path().join("cert.pem"));
        Ok((format!("https://{}", self.address), certificate.map_err(|error| error.to_string())?))
    }

    fn process(&self) -> Result<Pid, String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| "a strange process id".to_owned())
    }

    async fn wait_for_answer(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            if let Ok(mut connection) = self.endpoint.connect().await
                && connection.call("GET", "sys/seal-status", "", None).await.is_ok()
            {
                return Ok(());
            }
            let is_over = self.child.try_wait().map_err(|error| error.to_string())?.is_some();
            if is_over || started.elapsed() > START_BOUND {
                let said = |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
                return Err(format!("{} does not answer:\n{}{}", self.name, said("output"), said("log")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        self.endpoint.connect().await
    }

    /// What it used and holds.
    pub(crate) fn usage(&self) -> Result<Usage, String> {
        Usage::of(self.child.id())
    }

    /// Its process, for whoever wants to watch it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How large its stored data is.
    pub(crate) fn disk_mib(&self) -> f64 {
        machine::disk_mib(&self.folder.path().join("data"))
    }

    /// The audit device's file.
    pub(crate) fn audit_file(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    /// Lets the server begin a new audit file, so that the disk does not fill up between the loads.
    pub(crate) fn rotate_audit_file(&self) -> Result<(), String> {
        match std::fs::remove_file(self.audit_file()) {
            // A load that nobody records wrote none.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("the audit file: {error}"));
            }
            _ => {}
        }
        kill_process(self.process()?, Signal::HUP).map_err(|error| error.to_string())
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child runs where its parent may: pinning ourselves first leaves no moment in which it runs elsewhere.
fn spawn(command: &mut Command, options: &Options) -> Result<Child, String> {
    machine::pin_this_thread(options.server_core)?;
    let child = command.spawn().map_err(|error| error.to_string())?;
    machine::pin_this_thread(options.load_core)?;
    Ok(child)
}

/// A free port of this machine, as an address.
fn free_address() -> Result<String, String> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.to_string()).map_err(|error| error.to_string())
}

/// What every Vault-compatible server understands: one node on durable storage.
fn configuration(folder: &Path, node: &str, storage: Storage, address: &str, cluster: &str) -> String {
    let (folder, kind) = (folder.display(), storage.word());
    let node = if storage == Storage::Raft { format!("  node_id = \"{node}\"\n") } else { String::new() };
    format!(
        "storage \"{kind}\" {{\n  path = \"{folder}/data\"\n{node}}}\n\
         listener \"tcp\" {{\n  address = \"{address}\"\n  cluster_address = \"{cluster}\"\n  \
         tls_cert_file = \"{folder}/cert.pem\"\n  tls_key_file = \"{folder}/key.pem\"\n}}\n\
         api_addr = \"https://{address}\"\ncluster_addr = \"https://{cluster}\"\n\
         disable_mlock = true\nlog_level = \"warn\"\nunsafe_allow_api_audit_creation = true\n"
    )
}

/// A fresh certificate, in files; gives back what a client trusts.
fn write_certificate(folder: &Path) -> Result<rustls_pki_types::CertificateDer<'static>, String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.map_err(|error| error.to_string())?;
    write(&folder.join("cert.pem"), &made.cert.pem())?;
    write(&folder.join("key.pem"), &made.signing_key.serialize_pem())?;
    Ok(made.cert.der().clone())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
