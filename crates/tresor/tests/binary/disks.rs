//! Nodes of a cluster whose disk is full, or hangs: the others go on, and nothing that was acknowledged is lost.
//!
//! A full disk is a small file system in a mount namespace of its own; a disk that hangs is one whose syncs `strace` delays.
//! Where that is forbidden the tests say that they did not run.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use super::support::cluster::{Here, KEY, Places, Three};
use super::support::{Production, Server, not_run, try_run, under_load, until};

/// What a disk has, and what the server leaves free of it.
const DISK_MIB: u64 = 64;
const FREE_BYTES_MIN: u64 = 8 << 20;

/// Disks of a bounded size, each seen by one server only.
#[derive(Default)]
struct Disks(Mutex<Vec<Disk>>);

struct Disk {
    holder: Child,
    path: PathBuf,
}

impl Disk {
    fn make(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let mount = "mount -t tmpfs -o size=\"$0\"m tmpfs \"$1\" && echo made && exec cat";
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "sh", "-c", mount, &DISK_MIB.to_string()]).arg(path);
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Self { holder, path: path.to_owned() }
    }

    /// As the server sees it.
    fn ballast(&self) -> PathBuf {
        let inside = self.path.strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(inside).join("ballast")
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

impl Disks {
    fn where_allowed() -> Option<Self> {
        let allowed = try_run(&["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]);
        allowed.inspect_err(|why| not_run("a node of a cluster on a full disk", why)).ok().map(|_| Self::default())
    }

    fn of<T>(&self, at: usize, what: impl FnOnce(&Disk) -> T) -> T {
        what(&self.0.lock().unwrap()[at])
    }
}

impl Places for Disks {
    fn prepare(&self, _: usize, home: &Production) {
        let path = format!("path = \"{}\"", home.data().display());
        let configured = std::fs::read_to_string(home.config()).unwrap();
        home.configure(&configured.replace(&path, &format!("free_space_min = {FREE_BYTES_MIN}\n  {path}")));
        self.0.lock().unwrap().push(Disk::make(&home.data()));
    }

    fn start(&self, at: usize, home: &Production) -> Server {
        let space = self.of(at, |disk| format!("--mount=/proc/{}/ns/mnt", disk.holder.id()));
        home.start_by(&["nsenter", &space, "--"], &KEY)
    }
}

#[test]
fn a_leader_whose_disk_is_full_lets_another_lead_and_follows_when_there_is_room() {
    let Some(disks) = Disks::where_allowed() else { return };
    let three = Three::start(&disks);
    let leader = three.leader();
    let others = [1, 2].map(|step| three.http((leader + step) % 3));
    let mut whole = None;
    let seen = under_load(&others, |load| {
        load.more(50);
        disks.of(leader, Disk::fill);
        until("another to lead", || (three.leader() != leader).then_some(()));
        load.more(100);
        disks.of(leader, Disk::make_room);
        load.more(50);
        three.serves(leader);
        whole = Some(Instant::now());
        load.more(50);
    });
    seen.has_refused_nothing_since(whole.unwrap());
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
}

#[test]
fn nobody_feels_that_the_disk_of_a_standby_is_full() {
    let Some(disks) = Disks::where_allowed() else { return };
    let three = Three::start(&disks);
    let leader = three.leader();
    let (full, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let begun = Instant::now();
    let seen = under_load(&[three.http(leader), three.http(other)], |load| {
        load.more(50);
        disks.of(full, Disk::fill);
        load.more(300);
        let says_so = || three.http(full).get("sys/health").text.contains("too little free space").then_some(());
        until("it to say so", says_so);
        disks.of(full, Disk::make_room);
        load.more(50);
    });
    seen.has_refused_nothing_since(begun);
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
}

/// A server whose syncs hang, for as long as this lives.
struct Hung(Child);

impl Hung {
    fn hang(server: &Server) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]);
        strace.args(["-e", "inject=fdatasync,fsync:delay_enter=3600000000", "-p", &server.pid().to_string()]);
        let mut strace = strace.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 10];
        strace.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        Self(strace)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn nobody_feels_that_the_disk_of_a_standby_hangs() {
    let three = Three::start(&Here);
    let leader = three.leader();
    let (hung, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let begun = Instant::now();
    let seen = under_load(&[three.http(leader), three.http(other)], |load| {
        load.more(50);
        let disk = Hung::hang(three.server(hung));
        load.more(300);
        drop(disk);
        load.more(50);
    });
    seen.has_refused_nothing_since(begun);
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
}

#[test]
fn a_leader_whose_disk_hangs_lets_another_lead() {
    let three = Three::start(&Here);
    let leader = three.leader();
    let others = [1, 2].map(|step| (leader + step) % 3);
    let mut another_leads = None;
    let seen = under_load(&others.map(|at| three.http(at)), |load| {
        load.more(50);
        let disk = Hung::hang(three.server(leader));
        until("another to lead", || three.leader_seen_by(&others).filter(|now| *now != leader));
        another_leads = Some(Instant::now());
        load.more(100);
        // It can neither lead nor follow, and balancers are told.
        let health = || three.http(leader).get("sys/health?standbyok=true").status;
        until("it to say so", || (health() == 474).then_some(()));
        drop(disk);
        load.more(50);
    });
    seen.has_refused_nothing_since(another_leads.unwrap());
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
}
