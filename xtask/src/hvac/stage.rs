//! Where the suite runs: pinned packages in a Python environment of their own, a fresh copy of the suite with new
//! certificates, and our release binary on the path under the name `vault`. All of it below the target folder.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::Build;
use super::report::Report;
use crate::steps::succeed_silently;
use crate::workspace::Workspace;

/// Test classes that run side by side: most of their time is waiting for a server's start.
pub(super) const WORKERS: usize = 4;
/// A run that takes longer hangs.
const RUN_SECONDS_MAX: u64 = 15 * 60;
/// Variables of the caller that would change what the suite or the client does.
const FOREIGN_VARIABLES: &[&str] = &[
    "PYTEST_ADDOPTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
];

/// The prepared place.
pub(super) struct Stage {
    place: PathBuf,
    suite: PathBuf,
    python: PathBuf,
    conformance: PathBuf,
}

impl Stage {
    /// Prepares everything.
    pub(super) fn prepare(workspace: &Workspace, build: Build) -> Result<Self, String> {
        let place = workspace.target.join("conformance");
        create_folder(&place.join("home"))?;
        let conformance = workspace.root.join("conformance");
        let python = prepare_python(&place, &conformance)?;
        let suite = unpack_suite(&place, &conformance, &python)?;
        renew_certificates(&suite)?;
        place_binary(workspace, build, &place)?;
        Ok(Self { place, suite, python, conformance })
    }

    /// Runs some tests, or all when none is named; `workers` 0 runs them one after another in one process.
    pub(super) fn run(&self, tests: &[String], workers: usize) -> Result<Report, String> {
        let outcomes = self.place.join("outcomes.jsonl");
        let log = self.place.join("pytest.log");
        std::fs::write(&outcomes, "").map_err(|error| format!("{}: {error}", outcomes.display()))?;
        let output = std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(&self.python);
        command.args(["-m", "pytest", "-p", "outcomes", "-p", "no:cacheprovider", "--quiet", "--tb=short", "-n"]);
        command.arg(workers.to_string());
        if tests.is_empty() {
            command.arg("tests/integration_tests");
        }
        let search_path = std::env::var("PATH").unwrap_or_default();
        command
            .args(tests)
            .current_dir(&self.suite)
            .env("PATH", format!("{}:{search_path}", self.place.join("bin").display()))
            .env("HOME", self.place.join("home"))
            .env("PYTHONPATH", &self.conformance)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("OUTCOMES_FILE", &outcomes)
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VAULT_")) {
            command.env_remove(name);
        }
        for name in FOREIGN_VARIABLES {
            command.env_remove(name);
        }
        println!("pytest runs {}; its log: {}", describe(tests), log.display());
        let ended = run_bounded(&mut command, Duration::from_secs(RUN_SECONDS_MAX))?;
        let report = Report::read(&std::fs::read_to_string(&outcomes).map_err(|error| error.to_string())?)?;
        // 0: all passed; 1: some failed. Anything else is pytest itself.
        match ended.code() {
            Some(0 | 1) => Ok(report),
            _ => Err(format!("pytest ended with {ended}\n{}", tail(&log))),
        }
    }
}

fn describe(tests: &[String]) -> String {
    match tests {
        [] => "everything".to_owned(),
        [one] => one.clone(),
        many => format!("{} tests", many.len()),
    }
}

/// The Python environment, made anew when the pinned packages change.
fn prepare_python(place: &Path, conformance: &Path) -> Result<PathBuf, String> {
    let environment = place.join("python");
    let python = environment.join("bin/python");
    let pinned = conformance.join("requirements.txt");
    let wanted = std::fs::read_to_string(&pinned).map_err(|error| format!("{}: {error}", pinned.display()))?;
    let stamp = place.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && python.exists() {
        return Ok(python);
    }
    println!("preparing Python packages");
    succeed_silently(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    succeed_silently(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "-r",
            ])
            .arg(&pinned),
    )?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

/// The suite's source distribution, downloaded once, checked against its pinned hash and unpacked for every run.
fn unpack_suite(place: &Path, conformance: &Path, python: &Path) -> Result<PathBuf, String> {
    let pinned = conformance.join("hvac-source.txt");
    let unpack = |download: &Path| {
        let mut command = Command::new(python);
        command.arg(conformance.join("unpack.py")).arg(&pinned).arg(download).arg(place.join("suite"));
        succeed_silently(command.env("PYTHONDONTWRITEBYTECODE", "1"))
    };
    let download = place.join("download");
    create_folder(&download)?;
    let unpacked = unpack(&download).or_else(|_| {
        println!("downloading hvac's source distribution");
        succeed_silently(
            Command::new(python)
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--no-binary", "hvac", "--require-hashes", "-r"])
                .arg(&pinned)
                .arg("-d")
                .arg(&download),
        )?;
        unpack(&download)
    })?;
    Ok(PathBuf::from(unpacked.trim()))
}

/// The suite's own script makes its certificates anew; the shipped client certificate has expired.
fn renew_certificates(suite: &Path) -> Result<(), String> {
    succeed_silently(Command::new("bash").arg("tests/scripts/generate_test_cert.sh").current_dir(suite))?;
    for certificate in ["client-cert.pem", "server-cert.pem"] {
        let file = suite.join("tests/config_files").join(certificate);
        succeed_silently(Command::new("openssl").args(["x509", "-noout", "-checkend", "86400", "-in"]).arg(&file))?;
    }
    Ok(())
}

/// The binary as `vault`, seen to answer as one.
fn place_binary(workspace: &Workspace, build: Build, place: &Path) -> Result<(), String> {
    let folder = place.join("bin");
    create_folder(&folder)?;
    let binary = workspace.target.join(build.folder()).join("tresor");
    let vault = folder.join("vault");
    if vault.symlink_metadata().is_ok() {
        std::fs::remove_file(&vault).map_err(|error| format!("{}: {error}", vault.display()))?;
    }
    std::os::unix::fs::symlink(&binary, &vault).map_err(|error| format!("{}: {error}", vault.display()))?;
    let version = succeed_silently(Command::new(&vault).arg("-version"))?;
    let word = version.split_whitespace().nth(1).unwrap_or_default().trim_start_matches('v');
    if word.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3 {
        println!("the binary calls itself {}", version.trim());
        return Ok(());
    }
    Err(format!("the second word of `vault -version` must be x.y.z, and it printed `{}`", version.trim()))
}

/// Runs a program in a process group of its own, which is ended as a whole when the time is over.
fn run_bounded(command: &mut Command, limit: Duration) -> Result<std::process::ExitStatus, String> {
    let mut child = command.spawn().map_err(|error| format!("cannot start pytest: {error}"))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        if started.elapsed() > limit {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
            let _ = child.wait();
            return Err(format!("the suite did not end within {} s", limit.as_secs()));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn create_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.split_at(lines.len().saturating_sub(40)).1.join("\n")
}
