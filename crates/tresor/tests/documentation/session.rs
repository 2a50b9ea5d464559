//! One bash per page, as a reader would have one terminal: what a command exports is there for the next.
//!
//! The session runs in a process group of its own, which is ended with it, servers included. Pages say
//! `127.0.0.1:8200`, and `:8201` for the cluster port; the session puts free ports in their places, and takes them back out
//! of what is printed, so that pages can run beside each other and beside a server of the developer.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The address that pages use.
const ADDRESS: &str = "127.0.0.1:8200";
/// The longest that one command may take.
const COMMAND_SECONDS_MAX: u64 = 60;
/// How many printed lines may wait to be looked at.
const LINES_WAITING_MAX: usize = 4096;
/// Ends the output of a command; the exit code follows.
const MARK: &str = "--- end of command: ";

/// What a command did.
pub(crate) struct Ran {
    /// Lines of both outputs, in order.
    pub(crate) lines: Vec<String>,
    /// The exit code.
    pub(crate) code: i32,
}

/// A running bash.
pub(crate) struct Session {
    bash: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    port: u16,
    place: TempDir,
    /// Texts of pages, and what stands for them here.
    stand_ins: Vec<(String, String)>,
}

impl Session {
    /// Starts bash in a folder of its own, which is its home as well, with the binary on its path and, where a page
    /// calls it by the path that cargo gives it, there too.
    pub(crate) fn start(binary: &Path, python: Option<&Path>) -> Self {
        let place = TempDir::new().expect("a temporary folder");
        let programs = place.path().join("programs");
        std::fs::create_dir(&programs).expect("a folder for the binary");
        symlink(binary, programs.join("tresor")).expect("a link to the binary");
        let built = place.path().join("home/target/release");
        std::fs::create_dir_all(&built).expect("a folder for the binary");
        symlink(binary, built.join("tresor")).expect("a link to the binary");
        let mut search: Vec<PathBuf> = vec![programs];
        search.extend(python.and_then(Path::parent).map(Path::to_path_buf));
        search.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));

        let home = place.path().join("home");
        let mut command = Command::new("bash");
        command
            .args(["--norc", "--noprofile"])
            .current_dir(&home)
            .env("HOME", &home)
            .env("PATH", std::env::join_paths(search).expect("a search path"))
            .env("LC_ALL", "C.UTF-8")
            // Memory can be locked only where the machine allows it; what pages show must not depend on that.
            .env("VAULT_DISABLE_MLOCK", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        for (name, _) in std::env::vars() {
            let foreign = name.to_ascii_lowercase().ends_with("_proxy") || name == "VAULT_TOKEN" || name == "BASH_ENV";
            if foreign || (name.starts_with("VAULT_") && name != "VAULT_DISABLE_MLOCK") {
                command.env_remove(name);
            }
        }
        let mut bash = command.spawn().expect("bash starts");
        let mut input = bash.stdin.take().expect("bash has an input");
        let output = bash.stdout.take().expect("bash has an output");
        writeln!(input, "exec 2>&1").expect("bash takes commands");
        let (sender, lines) = sync_channel(LINES_WAITING_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let port = free_port();
        let stand_ins = [0, 1].map(|more| (format!(":{}", 8200 + more), format!(":{}", port + more))).to_vec();
        Self { bash, input, lines, port, place, stand_ins }
    }

    /// Puts other texts in the place of what pages say, and takes them back out of what is printed.
    pub(crate) fn stand_in(&mut self, stand_ins: &[(String, String)]) {
        self.stand_ins.extend_from_slice(stand_ins);
    }

    /// Starts a dev server that the whole page talks to, and tells the session of it as the server asks for.
    pub(crate) fn start_dev_server(&mut self) {
        let log = self.place.path().join("server.log");
        let started = self.run(&format!("tresor server -dev >'{}' 2>&1 &", log.display()));
        assert_eq!(started.code, 0, "{:?}", started.lines);
        let told = self.run(&format!("export VAULT_ADDR=http://{ADDRESS}"));
        assert_eq!(told.code, 0, "{:?}", told.lines);
    }

    /// Runs a command. After one that leaves something in the background, waits until the server listens.
    pub(crate) fn run(&mut self, command: &str) -> Ran {
        let own = self.own_address();
        let mut given = command.to_owned();
        for (shown, own) in &self.stand_ins {
            given = given.replace(shown, own);
        }
        // Braces keep the command in this shell; the subshell hands its exit code on to a following `echo $?`.
        let dev = format!("VAULT_DEV_LISTEN_ADDRESS={own}");
        let script = format!(
            "export {dev}\n{RESTORE}\n{{ {given}\n}} </dev/null\n__code=$?\nprintf '\\n{MARK}%s\\n' \"$__code\"\n"
        );
        self.input.write_all(script.as_bytes()).expect("bash takes commands");
        self.input.flush().expect("bash takes commands");
        let mut ran = self.read_until_mark(command);
        if command.trim_end().ends_with('&') && ran.code == 0 {
            self.wait_until_listening(command);
        }
        for (shown, own) in &self.stand_ins {
            ran.lines.iter_mut().for_each(|line| *line = line.replace(own, shown));
        }
        ran
    }

    fn own_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn read_until_mark(&self, command: &str) -> Ran {
        let end = Instant::now() + Duration::from_secs(COMMAND_SECONDS_MAX);
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix(MARK) {
                    Some(code) => {
                        // The newline before the mark ends a last line that had none, or is an empty line.
                        if lines.last().is_some_and(String::is_empty) {
                            lines.pop();
                        }
                        return Ran { lines, code: code.trim().parse().expect("an exit code") };
                    }
                    None => lines.push(line),
                },
                Err(RecvTimeoutError::Timeout) => panic!("`{command}` does not end; it printed {lines:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("`{command}` ended the shell; it printed {lines:#?}"),
            }
        }
    }

    fn wait_until_listening(&self, command: &str) {
        let end = Instant::now() + Duration::from_secs(COMMAND_SECONDS_MAX);
        let address = self.own_address().parse().expect("an address");
        while !answers(&address) {
            assert!(Instant::now() < end, "`{command}` does not answer; {}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        // A dev server keeps its token for the command line once it listens.
        let token = self.place.path().join("home/.vault-token");
        while command.contains("server -dev") && !token.exists() {
            assert!(Instant::now() < end, "`{command}` keeps no token; {}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What servers of this session have logged, for a failure's report.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        let folders = [self.place.path().to_path_buf(), self.place.path().join("home")];
        for folder in folders {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log")
                    && let Ok(log) = File::open(entry.path())
                {
                    text.push_str(&format!("\n--- {}\n", entry.path().display()));
                    for line in BufReader::new(log).lines().map_while(Result::ok) {
                        text.push_str(&line);
                        text.push('\n');
                    }
                }
            }
        }
        text
    }
}

/// Whether a server says anything, with TLS or without; a port that is bound may be served only later.
fn answers(address: &SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(address, Duration::from_secs(1)) else { return false };
    let is_asked = stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream
            .write_all(b"GET /v1/sys/seal-status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .is_ok();
    is_asked && stream.read(&mut [0; 64]).is_ok()
}

/// Makes `$?` what the last command left.
const RESTORE: &str = "(exit \"${__code:-0}\")";

impl Drop for Session {
    fn drop(&mut self) {
        let group = format!("-{}", self.bash.id());
        let ended = Command::new("kill").args(["-KILL", "--", &group]).status();
        drop(ended);
        drop(self.bash.wait());
    }
}

/// The first of two ports that nobody listens on, below those that the system gives to outgoing connections; each call
/// others. With four digits, as pages have them, since they stand in columns.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 6000).unwrap_or(0) & !1;
    for _ in 0..10_000 {
        let port = 3_000 + (start + NEXT.fetch_add(2, Ordering::Relaxed)) % 6_900;
        if [port, port + 1].into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
    panic!("no free port");
}
