//! A production server in a directory of its own: configured, started as often as a test likes, unsealed.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Http, Server};

/// A directory with a configuration and, once started, data.
pub(crate) struct Production {
    pub(crate) directory: TempDir,
}

/// What initialising gave out.
pub(crate) struct Keys {
    pub(crate) hex: Vec<String>,
    pub(crate) base64: Vec<String>,
    pub(crate) root: String,
}

impl Production {
    /// The usual configuration: a file store, plain HTTP on a free port.
    pub(crate) fn new() -> Self {
        Self::with_listener("")
    }

    /// The same as a node of a cluster, in which it is alone.
    pub(crate) fn raft() -> Self {
        Self::with("raft", "")
    }

    /// The usual one with more settings of the listener.
    pub(crate) fn with_listener(listener: &str) -> Self {
        Self::with("file", listener)
    }

    fn with(storage: &str, listener: &str) -> Self {
        let production = Self { directory: tempfile::tempdir().unwrap() };
        production.configure(&format!(
            "storage \"{storage}\" {{\n  path = \"{}\"\n}}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:0\"\n  \
             tls_disable = true\n  {listener}\n}}\ndisable_mlock = true\n",
            production.data().display()
        ));
        production
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    /// Adds to the configuration.
    pub(crate) fn configure_more(&self, text: &str) {
        let before = std::fs::read_to_string(self.config()).unwrap();
        self.configure(&format!("{before}{text}\n"));
    }

    pub(crate) fn home(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home().join("server.hcl")
    }

    /// Starts the server.
    pub(crate) fn start(&self) -> Server {
        self.start_with(&[])
    }

    /// Starts the server with variables.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Server {
        self.start_by(&[], environment)
    }

    /// Starts the server by another program, which becomes it.
    pub(crate) fn start_by(&self, by: &[&str], environment: &[(&str, &str)]) -> Server {
        Server::start_by(by, self.home(), &["-config", self.config().to_str().unwrap()], environment)
    }

    /// Starts a fresh server, initialises it with one share, and unseals it.
    pub(crate) fn start_ready(&self) -> (Server, Keys) {
        let server = self.start();
        let keys = Keys::initialize(&server.http(), 1, 1);
        keys.unseal(&server.http());
        (server, keys)
    }
}

impl Keys {
    /// Initialises a server.
    pub(crate) fn initialize(http: &Http, shares: u64, threshold: u64) -> Self {
        let body = json!({ "secret_shares": shares, "secret_threshold": threshold });
        let answer = http.post("sys/init", &body).expect(200);
        let texts = |name: &str| -> Vec<String> {
            let list = answer.at(name);
            list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        Self { hex: texts("/keys"), base64: texts("/keys_base64"), root: answer.text_at("/root_token") }
    }

    /// Enters shares until the server is unsealed.
    pub(crate) fn unseal(&self, http: &Http) {
        for share in &self.hex {
            let status = http.post("sys/unseal", &json!({ "key": share })).expect(200);
            if status.at("/sealed") == Value::Bool(false) {
                return;
            }
        }
        panic!("every share was entered and the server is still sealed");
    }
}
