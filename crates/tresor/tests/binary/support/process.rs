//! Server processes that end with their test, and calls of the command line.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use super::{Http, until};

/// The program under test.
pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_tresor")
}

/// A command without the environment of whoever runs the tests.
pub(crate) fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("TMPDIR", home).current_dir(home);
    command
}

/// What a process wrote so far.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    fn collect(mut from: impl Read + Send + 'static) -> Self {
        let text = Self::default();
        let shared = text.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                shared.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..length]);
            }
        });
        text
    }

    /// Its whole lines: half a line may say anything.
    fn get(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

/// A server that serves; killed on drop.
pub(crate) struct Server {
    child: Child,
    output: Text,
    log: Text,
    /// Where its first listener is.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `server` with arguments and waits until it says that it serves.
    pub(crate) fn start(home: &Path, arguments: &[&str]) -> Self {
        Self::start_by(&[], home, arguments, &[])
    }

    /// The same, by another program that becomes it, and with variables.
    pub(crate) fn start_by(by: &[&str], home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let program = [by, &[binary(), "server"]].concat();
        let mut child = command(program[0], home)
            .args(&program[1..])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = Text::collect(child.stdout.take().unwrap());
        let log = Text::collect(child.stderr.take().unwrap());
        let mut server = Self { child, output, log, address: ([127, 0, 0, 1], 0).into() };
        let is_dev = arguments.iter().any(|argument| argument.starts_with("-dev") || argument.starts_with("--dev"));
        let last_line = if is_dev { "should NOT be used" } else { "server started!" };
        until("the server", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}{}", server.output(), server.log());
            }
            server.output().contains(last_line).then_some(())
        });
        let output = server.output();
        let (_, rest) = output.split_once("(addr: \"").expect("the block names the listener");
        server.address = rest.split_once('"').unwrap().0.parse().unwrap();
        server
    }

    /// A client of its first listener.
    pub(crate) fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// What it wrote to standard output.
    pub(crate) fn output(&self) -> String {
        self.output.get()
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        self.log.get()
    }

    /// Waits until it has logged a text: its log is read beside what it prints, and may come later.
    pub(crate) fn has_logged(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }

    /// What stands after a label in its output.
    pub(crate) fn said(&self, label: &str) -> String {
        let output = self.output();
        let line = output.lines().find_map(|line| line.trim_start().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no `{label}` in\n{output}")).trim().to_owned()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the server's end", || self.child.try_wait().unwrap())
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// The command line.
pub(crate) struct Cli<'a> {
    /// Home and working directory.
    pub(crate) home: &'a Path,
    /// Which server, and who calls: `VAULT_ADDR` and the like.
    pub(crate) environment: Vec<(String, String)>,
}

impl<'a> Cli<'a> {
    /// Calls for a server.
    pub(crate) fn new(home: &'a Path, address: SocketAddr, token: &str) -> Self {
        let mut cli = Self { home, environment: vec![("VAULT_ADDR".to_owned(), format!("http://{address}"))] };
        if !token.is_empty() {
            cli.set("VAULT_TOKEN", token);
        }
        cli
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// One call.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(binary(), arguments, &[], "")
    }

    /// One call of a program, with more variables and something on standard input.
    pub(crate) fn run_with(
        &self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: &str,
    ) -> Finished {
        let mut child = command(program, self.home)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Finished {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A call that goes on: what it prints is read while it does.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        command(binary(), self.home)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts")
    }

    /// One call that must succeed; its output.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let finished = self.run(arguments);
        assert_eq!(finished.code, 0, "{arguments:?}: {finished:?}");
        finished.output
    }
}
