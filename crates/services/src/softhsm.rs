//! SoftHSM: a hardware security module in software, by its PKCS#11 library, with a token of its own in a directory of its own.
//!
//! It is no process but a library, which finds that directory by a variable of whoever loads it. A test that loads it
//! itself therefore runs in a process of its own. Deliberately absent: setting that variable for this process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Home;

/// The PIN of users of every token.
pub const PIN: &str = "canary-pin-1234";
/// The variable by which the library finds its tokens.
pub const VARIABLE: &str = "SOFTHSM2_CONF";
/// Where Debian has the library.
const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Says to a test that it runs in a process of its own, and where.
const INHERITED: &str = "TRESOR_TEST_SOFTHSM";

/// A token, until it is dropped.
pub struct SoftHsm {
    directory: PathBuf,
    /// Of who made it.
    _home: Option<Home>,
}

impl SoftHsm {
    /// Makes one with this label.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start(label: &str) -> Result<Self, String> {
        if !Path::new(LIBRARY).exists() {
            return Err(format!("{LIBRARY} is not there; install it by: apt-get install --yes softhsm2 opensc"));
        }
        let home = Home::of_ours()?;
        let tokens = home.directory("tokens")?;
        let text =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        home.write("softhsm2.conf", &text)?;
        let hsm = Self { directory: home.path().to_owned(), _home: Some(home) };
        hsm.add(label)?;
        Ok(hsm)
    }

    /// Runs one test of this program in a process that finds the tokens, and gives it those; one of them, with this label, is made
    /// before.
    ///
    /// # Panics
    /// When the test fails.
    #[expect(clippy::panic, reason = "a test that fails")]
    pub fn within(test: &str, label: &str, work: impl FnOnce(&Self)) {
        if let Some(directory) = std::env::var_os(INHERITED) {
            return work(&Self { directory: directory.into(), _home: None });
        }
        let run = || {
            let hsm = Self::start(label)?;
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(program);
            command.args([test, "--exact", "--nocapture"]).env(VARIABLE, hsm.variable()).env(INHERITED, &hsm.directory);
            said(&mut command)
        };
        match run() {
            Ok(said) if said.contains("1 passed") => {}
            Ok(said) => panic!("there is no test `{test}`: {said}"),
            Err(failed) => panic!("{failed}"),
        }
    }

    /// Makes another token.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn add(&self, label: &str) -> Result<(), String> {
        let arguments = ["--init-token", "--free", "--label", label, "--so-pin", "so-pin-1234", "--pin", PIN];
        self.run(Path::new("softhsm2-util"), &arguments).map(drop)
    }

    /// Makes a key by another program, of a type such as `AES:32` or `rsa:2048`.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn make(&self, token: &str, kind: &str, label: &str, id: &str) -> Result<(), String> {
        let how = if kind.starts_with("rsa") { "--keypairgen" } else { "--keygen" };
        let at = ["--module", LIBRARY, "--token-label", token, "--login", "--pin", PIN];
        let key = [how, "--key-type", kind, "--label", label, "--id", id];
        self.run(Path::new("pkcs11-tool"), &[at, key].concat()).map(drop)
    }

    /// What is in a token, as another program lists it.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn objects(&self, token: &str) -> Result<String, String> {
        let at = ["--module", LIBRARY, "--token-label", token, "--login", "--pin", PIN, "--list-objects"];
        self.run(Path::new("pkcs11-tool"), &at)
    }

    /// The slots, by the label of the token that is in them.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn slot(&self, token: &str) -> Result<u64, String> {
        let shown = self.run(Path::new("softhsm2-util"), &["--show-slots"])?;
        let mut slot = None;
        for line in shown.lines().map(str::trim) {
            if let Some(number) = line.strip_prefix("Slot ").and_then(|number| number.parse().ok()) {
                slot = Some(number);
            } else if line.strip_prefix("Label:").is_some_and(|label| label.trim() == token) {
                return slot.ok_or_else(|| shown.clone());
            }
        }
        Err(shown)
    }

    /// Takes the tokens out, or puts them in again.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn remove(&self, is_removed: bool) -> Result<(), String> {
        let (there, away) = (self.directory.join("tokens"), self.directory.join("away"));
        let (from, to) = if is_removed { (there, away) } else { (away, there) };
        std::fs::rename(from, to).map_err(|error| error.to_string())
    }

    /// The library.
    #[must_use]
    pub fn library(&self) -> &'static str {
        LIBRARY
    }

    /// What the variable is to be for whoever loads the library.
    #[must_use]
    pub fn variable(&self) -> PathBuf {
        self.directory.join("softhsm2.conf")
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<String, String> {
        said(Command::new(program).args(arguments).env(VARIABLE, self.variable()).stdin(Stdio::null()))
    }
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said.into_owned()) } else { Err(format!("{command:?}: {said}{failed}")) }
}
