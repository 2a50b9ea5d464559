//! Checkers that cargo does not bring: pinned, installed once from crates.io below the target folder, never onto the
//! machine. They are built without optimisation: two minutes instead of ten, and they run for a second.

use std::path::PathBuf;
use std::process::Command;

use crate::steps::succeed;
use crate::workspace::{Workspace, cargo};

/// A checker.
pub struct Tool {
    /// Its package.
    pub package: &'static str,
    /// Its program.
    pub program: &'static str,
    /// The only version that we use.
    pub version: &'static str,
}

/// Licences, sources, banned and duplicate crates: `deny.toml`.
pub const DENY: Tool = Tool { package: "cargo-deny", program: "cargo-deny", version: "0.20.2" };
/// Spelling: `_typos.toml`.
pub const TYPOS: Tool = Tool { package: "typos-cli", program: "typos", version: "1.52.0" };
/// The fuzzer's driver.
pub const FUZZ: Tool = Tool { package: "cargo-fuzz", program: "cargo-fuzz", version: "0.13.2" };

impl Tool {
    /// The program, installed when it is not there in this version.
    ///
    /// # Errors
    /// Text when it cannot be built.
    pub fn command(&self, workspace: &Workspace) -> Result<Command, String> {
        let tools = workspace.target.join("tools");
        let program = tools.join("bin").join(self.program);
        if !self.is_installed(&program) {
            println!("installing {} {} below the target folder", self.package, self.version);
            let build = workspace.target.join("tools-build");
            succeed(
                cargo()
                    .args(["install", "--quiet", "--locked", "--debug", "--force", self.package, "--version"])
                    .arg(self.version)
                    .arg("--root")
                    .arg(&tools)
                    .arg("--target-dir")
                    .arg(&build),
            )?;
            // Two gigabytes that nobody asks for again.
            std::fs::remove_dir_all(&build).map_err(|error| format!("cannot remove {}: {error}", build.display()))?;
        }
        let mut command = Command::new(program);
        command.current_dir(&workspace.root);
        Ok(command)
    }

    fn is_installed(&self, program: &PathBuf) -> bool {
        let Ok(output) = Command::new(program).arg("--version").output() else { return false };
        String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == self.version)
    }
}
