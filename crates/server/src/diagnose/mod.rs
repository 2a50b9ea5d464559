//! `operator diagnose` and `operator validate-config`: what keeps a server from starting, or will one day, and what to do.
//!
//! Looks at what a server would use, as the user who asks: run it as the server's own. It changes nothing, opens no store, and
//! may be run beside a server: what that one holds (its port, the lock of its directory) is told and is no fault. Deliberately
//! absent: repair.

mod elsewhere;
mod members;
mod network;
mod report;
mod storage;
mod system;

use std::io::Write;
use std::path::PathBuf;

use crate::auditing;
use crate::config::{self, ServerConfig};
use crate::run::{environment, own_files};
pub(crate) use report::{Check, Outcome};

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// Configuration files and directories.
    pub config: Vec<PathBuf>,
    /// Parts that are left out: `system`, `listener`, `storage`, `seal` (or `autounseal`), `cluster`, `audit`,
    /// `telemetry`.
    pub skip: Vec<String>,
    /// Nothing but the configuration.
    pub only_config: bool,
    /// JSON instead of lines for people.
    pub json: bool,
    /// Whether outcomes have colours.
    pub colours: bool,
}

/// The parts that can be left out.
const PARTS: &[&str] = &["system", "listener", "storage", "seal", "cluster", "audit", "telemetry"];

/// Looks at everything and prints what was found; 0 when all is well, 1 when something fails, 2 when something is doubtful.
pub fn diagnose(wanted: &Diagnosis, output: &mut dyn Write) -> i32 {
    let found = look(wanted);
    let text = if wanted.json { found.to_json() } else { found.to_lines(wanted.colours) };
    // A reader that went away is its own affair.
    drop(writeln!(output, "{text}").and_then(|()| output.flush()));
    match found.worst() {
        Outcome::Ok | Outcome::Skipped => 0,
        Outcome::Warn => 2,
        Outcome::Fail => 1,
    }
}

fn look(wanted: &Diagnosis) -> Check {
    let loaded = config::load(&wanted.config, &environment);
    let loaded = loaded.map_err(|error| error.to_string()).and_then(|config| {
        auditing::check(&config, own_files(&config, &wanted.config))?;
        Ok(config)
    });
    let mut all = vec![configuration(&loaded)];
    if !wanted.only_config {
        all.extend(parts(wanted, loaded.as_ref().ok()));
    }
    Check::group(if wanted.only_config { "Validate Config" } else { "Diagnose" }, all)
}

fn configuration(loaded: &Result<ServerConfig, String>) -> Check {
    match loaded {
        Ok(loaded) => {
            let mut checks = vec![Check::ok("Syntax", "every file can be read, and nothing in it is refused")];
            checks.extend(loaded.warnings.iter().map(|warning| {
                Check::warn("Settings", warning, "remove the setting, or spell it as the documentation does")
            }));
            Check::group("Configuration", checks)
        }
        Err(error) => {
            let check = Check::fail("Syntax", error, "the server does not start before this is mended");
            Check::group("Configuration", vec![check])
        }
    }
}

fn parts(wanted: &Diagnosis, config: Option<&ServerConfig>) -> Vec<Check> {
    let is_left_out =
        |part: &str| wanted.skip.iter().any(|left| left == part || (part == "seal" && left == "autounseal"));
    let runs = config.is_some_and(|config| storage::is_in_use(&config.storage));
    let look = |part: &str| match (part, config) {
        ("system", config) => system::look(config),
        (_, None) => vec![Check::skipped("", "the configuration cannot be read")],
        ("listener", Some(config)) => network::look(config, runs),
        ("storage", Some(config)) => storage::look(config),
        ("seal", Some(config)) => vec![system::seal(config)],
        ("audit", Some(config)) => elsewhere::audit(config),
        ("telemetry", Some(config)) => elsewhere::telemetry(config),
        (_, Some(config)) => members::look(config, runs),
    };
    let titles = ["Operating System", "Listeners", "Storage", "Seal", "Cluster", "Audit", "Telemetry"];
    let checked = PARTS.iter().zip(titles).map(|(part, title)| match is_left_out(part) {
        true => Check::skipped(title, "left out by -skip"),
        false => Check::group(title, look(part)),
    });
    checked.collect()
}

#[cfg(test)]
mod tests;
