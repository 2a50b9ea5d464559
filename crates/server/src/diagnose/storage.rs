//! The directory of a store: whose it is, what it lies on, how much room there is, and how long the disk takes to sync. Or the
//! server that keeps it.
//!
//! One small file is written beside the store, synced and removed. The lock is asked for and let go at once, and never made.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, statfs, statvfs};
use tresor_storage_file::{LOCK_NAME, LOG_DIRECTORY};

use super::Check;
use crate::cluster::RAFT_DIRECTORY;
use crate::config::{Directory, PostgresqlConfig, ServerConfig, Storage};
use crate::postgresql;
use crate::storage::refuse_other;

/// How often the disk is asked to sync.
const SYNCS: usize = 16;
/// From here on writes are slow: each batch waits for one.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// How many files are looked at.
const FILES_MAX: usize = 10_000;

pub(super) fn look(config: &ServerConfig) -> Vec<Check> {
    let mut checks = match &config.storage {
        Storage::Memory => {
            vec![Check::warn(
                "Memory",
                "everything is gone when the server ends",
                "storage \"raft\" or \"file\", for what is to stay",
            )]
        }
        Storage::File(directory) => of(directory, RAFT_DIRECTORY, ["file", "raft"]),
        Storage::Raft { directory, .. } => of(directory, LOG_DIRECTORY, ["raft", "file"]),
        Storage::Postgresql(config) => {
            let directory = config.directory.as_deref().map(|path| place("Directory of the Audit Log", path));
            database(config).into_iter().chain(directory).collect()
        }
    };
    if let Some(snapshots) = &config.snapshots {
        checks.push(place("Directory of Snapshots", &snapshots.directory));
    }
    if let Some(path) = &config.log_file.path {
        let is_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let directory = if is_directory { path.as_path() } else { path.parent().unwrap_or(path) };
        checks.push(place("Directory of the Log File", directory));
    }
    if let Some(parent) = config.pid_file.as_deref().and_then(Path::parent).filter(|it| !it.as_os_str().is_empty()) {
        checks.push(place("Directory of the Pid File", parent));
    }
    checks
}

/// A server of others that keeps the store; it is asked, and nothing is changed there.
fn database(config: &PostgresqlConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    if !postgresql::is_verified(config) {
        checks.push(Check::warn(
            "TLS",
            "nobody verifies that the server is the one that is meant",
            "sslmode=verify-full and sslrootcert in `connection_url`",
        ));
    }
    let probed = match postgresql::probe(config, &tresor_env_os::doors()) {
        Ok(probed) => probed,
        Err(error) => {
            let advice = "`connection_url`: host, port, user, password and database, and that the server lets this \
                          machine in (pg_hba.conf)";
            checks.push(Check::fail("Connection", error, advice));
            return checks;
        }
    };
    let text = format!("PostgreSQL {} answers in {:.1?}", probed.server, probed.round_trip);
    checks.push(match probed.round_trip > SYNC_SLOW {
        true => Check::warn("Connection", text, "a server nearby: every batch of writes waits for an answer"),
        false => Check::ok("Connection", text),
    });
    checks.push(match probed.synchronous_commit.as_str() {
        "off" => Check::fail(
            "Durability",
            "synchronous_commit is off: what is confirmed could be lost",
            "ALTER ROLE .. SET synchronous_commit = on",
        ),
        value => Check::ok("Durability", format!("synchronous_commit is {value}")),
    });
    checks.push(Check::ok(
        "Lock",
        match probed.is_open {
            true => "a server has it open: it runs",
            false => "no server has it open",
        },
    ));
    checks.push(match (probed.has_tables, config.makes_tables) {
        (true, _) => Check::ok("Tables", format!("{} is there", config.table)),
        (false, true) => Check::ok("Tables", format!("{} will be made", config.table)),
        (false, false) => Check::fail(
            "Tables",
            format!("{} is missing, and `skip_create_table` says that it is made by hand", config.table),
            "the statements of the documentation (docs/operate/storage-postgresql.md)",
        ),
    });
    checks
}

/// A directory that must be there, or be made, and be written to.
fn place(name: &str, path: &Path) -> Check {
    match existing(path).map(|ancestor| (may_write(&ancestor), ancestor)) {
        Some((Ok(()), ancestor)) if std::path::absolute(path).is_ok_and(|whole| whole == ancestor) => {
            Check::ok(name, format!("{} takes files", path.display()))
        }
        Some((Ok(()), ancestor)) => {
            Check::ok(name, format!("{} will be made in {}", path.display(), ancestor.display()))
        }
        Some((Err(error), ancestor)) => Check::fail(
            name,
            format!("{}: nothing can be written to it: {error}", ancestor.display()),
            "make it, and give it to the server's user (chown)",
        ),
        None => Check::fail(name, format!("{} leads nowhere", path.display()), "an absolute path"),
    }
}

/// The nearest of a path and those above it that is there.
pub(super) fn existing(path: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(path).ok()?;
    whole.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_path_buf)
}

pub(super) fn may_write(directory: &Path) -> io::Result<()> {
    if !directory.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    Ok(rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}

fn of(directory: &Directory, other_log: &str, kinds: [&str; 2]) -> Vec<Check> {
    let path = &directory.path;
    let mut checks = vec![place("Directory", path)];
    let Some(ancestor) = existing(path) else { return checks };
    checks.push(space(&ancestor, directory.free_space_min));
    checks.extend(medium(&ancestor));
    let Ok(about) = fs::metadata(path) else { return checks };
    checks.push(kind(path, other_log, kinds));
    checks.push(mode(path, &about));
    checks.push(files(path));
    checks.push(lock(path));
    checks.push(syncs(path));
    checks
}

fn kind(path: &Path, other_log: &str, kinds: [&str; 2]) -> Check {
    match refuse_other(&tresor_env_os::doors(), path, other_log, kinds) {
        Ok(()) => Check::ok("Kind", format!("nothing else than storage \"{}\" has written to it", kinds[0])),
        Err(error) => Check::fail("Kind", error, "see there"),
    }
}

fn mode(path: &Path, about: &Metadata) -> Check {
    let mode = about.permissions().mode() & 0o7777;
    let shown = format!("{} has the mode {mode:04o}", path.display());
    match mode & 0o077 {
        0 => Check::ok("Mode", shown),
        _ => Check::warn(
            "Mode",
            format!("{shown}: what is stored is sealed, but others can see or change it"),
            "chmod 0700",
        ),
    }
}

/// Files that this user cannot use: what another user, often root, left behind.
fn files(path: &Path) -> Check {
    let mut wrong = Vec::new();
    let mut left = vec![path.to_path_buf()];
    let mut seen = 0;
    while let (Some(directory), true) = (left.pop(), seen < FILES_MAX) {
        let Ok(entries) = fs::read_dir(&directory) else {
            wrong.push(directory);
            continue;
        };
        for entry in entries.flatten() {
            seen += 1;
            let needed = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                Ok(kind) if kind.is_file() && rustix::fs::access(entry.path(), needed).is_err() => {
                    wrong.push(entry.path())
                }
                _ => {}
            }
        }
    }
    match wrong.first() {
        None => Check::ok("Files", format!("{seen} can be read and written")),
        Some(first) => {
            let owner = fs::metadata(first).map_or(String::new(), |about| format!(", which user {} owns", about.uid()));
            let text = format!("{} cannot be used by this user, such as {}{owner}", wrong.len(), first.display());
            Check::fail(
                "Files",
                text,
                "chown -R to the server's user; a server that was started as root leaves such files",
            )
        }
    }
}

fn space(path: &Path, free_min: u64) -> Check {
    const NAME: &str = "Free Space";
    const ADVICE: &str = "make room, or a larger disk: a server that has none takes no writes";
    let Ok(about) = statvfs(path) else { return Check::warn(NAME, "it is not told", "look at it by `df`") };
    let (free, all) = (about.f_bavail.saturating_mul(about.f_frsize), about.f_blocks.saturating_mul(about.f_frsize));
    let text =
        format!("{} of {} MiB, of which {} MiB are never used (free_space_min)", free >> 20, all >> 20, free_min >> 20);
    if free < free_min {
        Check::fail(NAME, text, ADVICE)
    } else if free < free_min.saturating_mul(4) || free < all / 20 {
        Check::warn(NAME, text, ADVICE)
    } else {
        Check::ok(NAME, text)
    }
}

/// What it lies on, where that is known to be no place for it.
fn medium(path: &Path) -> Option<Check> {
    const NAME: &str = "File System";
    const KINDS: [(i64, &str, &str); 4] = [
        (0x0102_1994, "memory (tmpfs): everything is gone after a restart of the machine", "a directory on a disk"),
        (0x6969, "NFS: locks and syncs are not what a store needs", "a disk of this machine; nodes keep copies"),
        (0xFF53_4D42, "SMB: locks and syncs are not what a store needs", "a disk of this machine; nodes keep copies"),
        (0x794c_7630, "the layer of a container: everything is gone with it", "a volume"),
    ];
    #[allow(clippy::useless_conversion, reason = "its width differs between machines")]
    let kind = i64::from(statfs(path).ok()?.f_type) & 0xFFFF_FFFF;
    let (_, what, advice) = KINDS.into_iter().find(|(known, _, _)| *known == kind)?;
    Some(Check::warn(NAME, format!("{} is on {what}", path.display()), advice))
}

/// Whether a server has the store open.
pub(super) fn is_in_use(storage: &Storage) -> bool {
    match storage {
        Storage::Memory => false,
        Storage::File(directory) | Storage::Raft { directory, .. } => is_open(&directory.path),
        Storage::Postgresql(config) => {
            postgresql::probe(config, &tresor_env_os::doors()).is_ok_and(|probed| probed.is_open)
        }
    }
}

fn is_open(path: &Path) -> bool {
    matches!(take_lock(path), Some(Err(error)) if error == rustix::io::Errno::WOULDBLOCK)
}

/// Takes the lock and lets it go; nothing where there is none.
fn take_lock(path: &Path) -> Option<rustix::io::Result<()>> {
    let file = File::open(path.join(LOCK_NAME)).ok()?;
    Some(flock(&file, FlockOperation::NonBlockingLockExclusive))
}

fn lock(path: &Path) -> Check {
    const NAME: &str = "Lock";
    match take_lock(path) {
        None => Check::ok(NAME, "no server has used the directory yet"),
        Some(Ok(())) => Check::ok(NAME, "no server has it open"),
        Some(Err(error)) if error == rustix::io::Errno::WOULDBLOCK => Check::ok(NAME, "a server has it open: it runs"),
        Some(Err(error)) => Check::fail(NAME, format!("it cannot be taken: {error}"), "a file system with locks"),
    }
}

/// How long the disk takes, measured on a file of its own.
fn syncs(path: &Path) -> Check {
    const NAME: &str = "Disk";
    let file = path.join(format!(".diagnose-{}.tmp", std::process::id()));
    let measured = measure(&file);
    drop(fs::remove_file(&file));
    match measured {
        Err(error) => {
            Check::fail(NAME, format!("a file cannot be written and synced: {error}"), "see the system's log (`dmesg`)")
        }
        Ok((median, worst)) => {
            let text = format!("a sync takes {median:.1?}, at worst {worst:.1?} ({SYNCS} of 4 KiB)");
            match median > SYNC_SLOW {
                true => {
                    Check::warn(NAME, text, "a faster disk: every batch of writes waits for one sync, on each node")
                }
                false => Check::ok(NAME, text),
            }
        }
    }
}

fn measure(path: &Path) -> io::Result<(Duration, Duration)> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    Ok((at(SYNCS / 2), at(SYNCS - 1)))
}
