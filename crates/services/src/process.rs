//! What starting any server takes: a directory, a user, a port, waiting until it answers, and its end.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to answer, on a machine that does other things too.
const START_MAX: Duration = Duration::from_secs(180);
/// How long it may take to end by itself.
const END_MAX: Duration = Duration::from_secs(10);

/// A port of this machine that nobody listened on a moment ago.
///
/// # Errors
/// What the operating system says.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// A directory for a server that refuses to run as root, and as whom it runs there.
pub(crate) struct Home {
    directory: TempDir,
    /// User and group; `None`: as we run.
    user: Option<(u32, u32)>,
}

impl Home {
    /// Makes it. `user` is who the server's package made for it; without one it is nobody.
    pub(crate) fn of(user: &str) -> Result<Self, String> {
        let user = is_root().then(|| ids(user).or_else(|| ids("nobody"))).flatten();
        let home = Self { user, ..Self::of_ours()? };
        home.give(home.path())?;
        Ok(home)
    }

    /// The same for a server that runs as we do.
    pub(crate) fn of_ours() -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("tresor-").tempdir().map_err(|error| error.to_string())?;
        Ok(Self { directory, user: None })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A program that runs here, as that user, without settings of ours.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// A file that only that user reads.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.path().join(name);
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).map_err(|error| error.to_string())?;
        self.give(&path)?;
        Ok(path)
    }

    /// A directory of that user.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.path().join(name);
        std::fs::create_dir(&path).map_err(|error| error.to_string())?;
        self.give(&path)?;
        Ok(path)
    }

    /// What the server says goes there.
    pub(crate) fn log(&self) -> Result<File, String> {
        File::create(self.path().join("log")).map_err(|error| error.to_string())
    }

    /// The end of what it said.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
        text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn give(&self, path: &Path) -> Result<(), String> {
        let Some((user, group)) = self.user else { return Ok(()) };
        chown(path, Some(user), Some(group)).map_err(|error| error.to_string())
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout.trim_ascii() == b"0")
}

/// User and group of a name.
fn ids(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A server that runs.
pub(crate) struct Process {
    child: Child,
    /// The signal by which it ends at once and orderly.
    end: &'static str,
}

impl Process {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(
        command: &mut Command,
        end: &'static str,
        mut answers: impl FnMut() -> bool,
    ) -> Result<Self, String> {
        // With all that it starts itself it is a group.
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let mut process = Self { child, end };
        let begin = Instant::now();
        while !answers() {
            if let Ok(Some(status)) = process.child.try_wait() {
                return Err(format!("it ended: {status}"));
            }
            if begin.elapsed() > START_MAX {
                return Err("it does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(process)
    }

    /// Ends it and what it started at once, whatever it does, as the kernel does when there is no memory left.
    pub(crate) fn kill(&mut self) {
        // Also those that it put into groups of their own.
        let ids: Vec<String> =
            std::iter::once(self.child.id()).chain(children_of(self.child.id())).map(|id| id.to_string()).collect();
        drop(Command::new("kill").arg("-KILL").args(ids).stderr(Stdio::null()).status());
        drop(self.child.wait());
    }

    /// Sends its group a signal, such as `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        drop(Command::new("kill").arg(format!("-{name}")).arg("--").arg(group).stderr(Stdio::null()).status());
    }

    /// Sends it and what it started a signal, also what it put into groups of their own.
    pub(crate) fn signal_all(&self, name: &str) {
        self.signal(name);
        let ids: Vec<String> = children_of(self.child.id()).iter().map(ToString::to_string).collect();
        if !ids.is_empty() {
            drop(Command::new("kill").arg(format!("-{name}")).args(ids).stderr(Stdio::null()).status());
        }
    }
}

/// The processes that one has started and that run.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: its state, and who started it.
        let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
        behind.split_whitespace().nth(1).is_some_and(|id| id == parent.to_string())
    };
    ids.filter(is_child).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_all("CONT");
        self.signal(self.end);
        let begin = Instant::now();
        while begin.elapsed() < END_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
