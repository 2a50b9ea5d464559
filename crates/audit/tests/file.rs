//! The `file` device: what it writes, what it survives, and where it refuses to write (PLG-01).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::*;
use tresor_audit::{AuditError, Broker, Options};
use tresor_env::disk::{Disk, DiskFile, Open};
use tresor_env::doubles::TestDoors;

async fn with_file(doors: &TestDoors, options: &[(&str, &str)]) -> Broker {
    let broker = open(doors, Vec::new(), permissive()).await.unwrap();
    let prepared = broker.prepare(file_device(options)).await.unwrap();
    broker.enable(prepared).unwrap();
    broker
}

fn permissive() -> Options {
    Options { prefix_allowed: true, ..Options::default() }
}

fn contents(doors: &TestDoors, path: &str) -> String {
    String::from_utf8(doors.disk.dump()[Path::new(path)].clone()).unwrap()
}

#[tokio::test]
async fn the_file_exists_as_soon_as_the_device_is_checked() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), Options::default()).await.unwrap();
    drop(broker.prepare(file_device(&[("file_path", "/var/log/audit.log")])).await.unwrap());
    assert_eq!(contents(&doors, "/var/log/audit.log"), "");
    assert!(!broker.is_enabled());
}

#[tokio::test]
async fn lines_are_appended_with_their_prefix_to_what_is_there() {
    let doors = TestDoors::new(1);
    let path = Path::new("logs/audit.log");
    doors.disk.open(path, Open::New).unwrap().write_all_at(0, b"theirs\n").unwrap();
    let broker = with_file(&doors, &[("file_path", "./logs/audit.log"), ("prefix", "@cee: "), ("mode", "0600")]).await;
    record(&broker, "a").await.unwrap();
    record(&broker, "b").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let text = contents(&doors, "logs/audit.log");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "theirs");
    assert!(lines[1].starts_with(r#"@cee: {"time":"#) && text.ends_with("}\n"));
}

#[tokio::test]
async fn a_rotated_or_truncated_file_is_noticed_without_a_signal() {
    let doors = TestDoors::new(1);
    let broker = with_file(&doors, &[("file_path", "audit.log")]).await;
    record(&broker, "a").await.unwrap();
    assert!(broker.flush(BOUND).await);
    doors.disk.rename(Path::new("audit.log"), Path::new("audit.log.1")).unwrap();
    record(&broker, "b").await.unwrap();
    assert!(broker.flush(BOUND).await);
    broker.reopen();
    doors.disk.open(Path::new("audit.log"), Open::Existing).unwrap().set_length(0).unwrap();
    record(&broker, "c").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert!(contents(&doors, "audit.log.1").contains(r#""id":"a""#));
    let now = contents(&doors, "audit.log");
    assert!(now.starts_with('{') && now.contains(r#""id":"c""#) && !now.contains(r#""id":"b""#));
}

#[tokio::test]
async fn lines_stay_whole_after_a_torn_one() {
    let doors = TestDoors::new(1);
    doors.disk.open(Path::new("audit.log"), Open::New).unwrap().write_all_at(0, b"{\"torn").unwrap();
    let broker = with_file(&doors, &[("file_path", "audit.log")]).await;
    record(&broker, "a").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let text = contents(&doors, "audit.log");
    assert!(text.starts_with("{\"torn\n{\"time\":"), "{text}");
}

/// A full disk under the device's file: nothing is lost, requests go on, and the lines come once there is room.
#[tokio::test]
async fn a_file_that_cannot_be_written_catches_up_later() {
    let doors = TestDoors::new(1);
    let broker =
        Broker::open(doors.doors.clone(), None, key(), vec![file_device(&[("file_path", "audit.log")])], permissive())
            .await
            .unwrap();
    doors.disk.fail_from_step(Some(0));
    for id in ["a", "b"] {
        record(&broker, id).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.standing().devices[0].last_error.as_deref(), Some("injected disk failure"));
    doors.disk.fail_from_step(None);
    doors.clock.advance(Duration::from_secs(60));
    assert!(broker.flush(BOUND).await);
    let lines: Vec<String> = contents(&doors, "audit.log").lines().map(str::to_owned).collect();
    assert_eq!(ids(&lines), ["a", "b"]);
}

#[tokio::test]
async fn standard_output_and_nowhere_are_files_too() {
    let doors = TestDoors::new(1);
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let options = Options {
        standard_output: Some(Arc::new(move |lines: &[u8]| {
            heard.lock().unwrap().extend_from_slice(lines);
            Ok(())
        })),
        ..Options::default()
    };
    let broker = open(&doors, Vec::new(), options).await.unwrap();
    for (path, file) in [("out/", "stdout"), ("gone/", "discard")] {
        let mut config = file_device(&[("file_path", file)]);
        config.path = path.to_owned();
        config.salt = tresor_audit::DeviceSalt::generate(&*doors.doors.entropy);
        broker.enable(broker.prepare(config).await.unwrap()).unwrap();
    }
    record(&broker, "a").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(String::from_utf8(said.lock().unwrap().clone()).unwrap().lines().count(), 1);
    assert!(!doors.disk.dump().contains_key(Path::new("stdout")));
}

/// PLG-01: no device writes where a program or the server's own files could be, with what bytes or mode ever.
#[tokio::test]
async fn plg_01_dangerous_places_modes_and_prefixes_are_refused() {
    let doors = TestDoors::new(1);
    let options = Options {
        protected_directories: vec![PathBuf::from("/srv/tresor/data"), PathBuf::from("./plugins")],
        prefix_allowed: true,
        ..Options::default()
    };
    let broker = open(&doors, Vec::new(), options).await.unwrap();
    let ok = ("file_path", "/var/log/audit.log");
    let refused: &[&[(&str, &str)]] = &[
        &[],
        &[("file_path", "")],
        &[("file_path", "/srv/tresor/data/x")],
        &[("file_path", "/srv//tresor/./data/x")],
        &[("file_path", "plugins/x")],
        &[("file_path", "./plugins/deep/x")],
        &[("file_path", "/var/log/../../srv/tresor/data/x")],
        &[("file_path", "../x")],
        &[("file_path", "/proc/self/mem")],
        &[("file_path", "/dev/sda")],
        &[("file_path", "/sys/x")],
        &[("file_path", "/")],
        &[("file_path", "/var/log/")],
        &[("file_path", ".")],
        &[("file_path", "a\nb")],
        &[("file_path", "a\0b")],
        &[("file_path", "stdout")],
        &[ok, ("mode", "0700")],
        &[ok, ("mode", "0611")],
        &[ok, ("mode", "4600")],
        &[ok, ("mode", "0642")],
        &[ok, ("mode", "rw")],
        &[ok, ("mode", "99999999999")],
        &[ok, ("prefix", "#!/bin/sh\n")],
        &[ok, ("prefix", "#!/bin/sh")],
        &[ok, ("prefix", "a\u{7}")],
        &[ok, ("prefix", "a\u{2028}")],
        &[ok, ("format", "xml")],
        &[ok, ("format", "xml")],
        &[ok, ("hmac_accessor", "maybe")],
        &[ok, ("log_rwa", "true")],
    ];
    for options in refused {
        match broker.prepare(file_device(options)).await {
            Err(AuditError::InvalidOption(text)) => {
                // Texts are for the caller and tell nothing of the file system (PLG-03).
                assert!(!text.contains("/srv") && !text.contains("canary"), "{text}");
            }
            Err(other) => panic!("{options:?}: {other}"),
            Ok(_) => panic!("{options:?} was accepted"),
        }
    }
    // The log's mark is there from the start.
    let left: Vec<_> = doors.disk.dump().into_keys().filter(|path| !path.ends_with("keys")).collect();
    assert!(left.is_empty(), "a refused device left a file: {left:?}");
    let mut unknown = file_device(&[ok]);
    unknown.kind = "carrier-pigeon".to_owned();
    assert!(matches!(broker.prepare(unknown).await, Err(AuditError::InvalidOption(_))));
    // A prefix needs the operator's leave.
    let strict = open(&doors, Vec::new(), Options::default()).await.unwrap();
    assert!(strict.prepare(file_device(&[ok, ("prefix", "a")])).await.is_err());
    assert!(strict.prepare(file_device(&[ok, ("mode", "0000"), ("skip_test", "true")])).await.is_ok());
}

/// A disk with one link: a directory that leads to another.
struct Linked {
    disk: Arc<dyn Disk>,
    link: PathBuf,
    target: Mutex<PathBuf>,
}

impl Disk for Linked {
    fn open(&self, path: &Path, open: Open) -> std::io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path, open)
    }

    fn names(&self, directory: &Path) -> std::io::Result<Vec<String>> {
        self.disk.names(directory)
    }

    fn create_directory(&self, directory: &Path) -> std::io::Result<()> {
        self.disk.create_directory(directory)
    }

    fn resolve(&self, path: &Path) -> std::io::Result<PathBuf> {
        Ok(match path.strip_prefix(&self.link) {
            Ok(below) => self.target.lock().unwrap().join(below),
            Err(_) => path.to_path_buf(),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> std::io::Result<()> {
        self.disk.sync_directory(directory)
    }

    fn check_writable(&self, directory: &Path) -> std::io::Result<()> {
        self.disk.check_writable(directory)
    }

    fn free_bytes(&self, directory: &Path) -> std::io::Result<u64> {
        self.disk.free_bytes(directory)
    }
}

#[tokio::test]
async fn plg_01_a_link_is_no_way_to_a_protected_place_now_or_later() {
    let mut doors = TestDoors::new(1);
    let disk = Arc::new(Linked {
        disk: Arc::clone(&doors.doors.disk),
        link: "/var/log/tresor".into(),
        target: Mutex::new("/srv/tresor/data".into()),
    });
    doors.doors.disk = Arc::clone(&disk) as Arc<dyn Disk>;
    let protected_directories = vec![PathBuf::from("/srv/tresor/data"), PathBuf::from("/etc/tresor.hcl")];
    let broker = open(&doors, Vec::new(), Options { protected_directories, ..Options::default() }).await.unwrap();
    let linked = file_device(&[("file_path", "/var/log/tresor/tresor.db")]);
    for refused in [linked, file_device(&[("file_path", "/etc/tresor.hcl")])] {
        assert!(matches!(broker.prepare(refused).await, Err(AuditError::InvalidOption(_))));
    }
    *disk.target.lock().unwrap() = "/data/log".into();
    let accepted = broker.prepare(file_device(&[("file_path", "/var/log/tresor/tresor.db")])).await.unwrap();
    broker.enable(accepted).unwrap();
    record(&broker, "a").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(contents(&doors, "/data/log/tresor.db").lines().count(), 1);

    // The link is turned after the device was enabled.
    *disk.target.lock().unwrap() = "/srv/tresor/data".into();
    record(&broker, "b").await.unwrap();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert!(!doors.disk.dump().contains_key(Path::new("/srv/tresor/data/tresor.db")));
    *disk.target.lock().unwrap() = "/data/log".into();
    doors.clock.advance(Duration::from_secs(60));
    assert!(broker.flush(BOUND).await);
    assert_eq!(contents(&doors, "/data/log/tresor.db").lines().count(), 2, "nothing is lost meanwhile");
}

#[tokio::test]
async fn the_directory_of_a_file_is_made_for_the_server_alone_and_not_in_a_protected_place() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let mut doors = TestDoors::new(1);
    doors.doors.disk = Arc::new(tresor_env_os::OsDisk);
    let own = root.join("own");
    std::fs::create_dir(&own).unwrap();
    symlink(&own, root.join("link")).unwrap();
    let protected_directories = vec![own.clone()];
    let options = Options { protected_directories, ..Options::default() };
    let broker = Broker::open(doors.doors.clone(), None, key(), Vec::new(), options).await.unwrap();
    let prepare = async |path: &Path| broker.prepare(file_device(&[("file_path", path.to_str().unwrap())])).await;
    drop(prepare(&root.join("logs/of/audit.log")).await.unwrap());
    assert!(root.join("logs/of/audit.log").is_file());
    for made in ["logs", "logs/of"] {
        assert_eq!(std::fs::metadata(root.join(made)).unwrap().permissions().mode() & 0o777, 0o700, "{made}");
    }
    // A link is no way to make a directory where devices may not write.
    assert!(prepare(&root.join("link/deep/audit.log")).await.is_err());
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 0);
    // What cannot be made is told in words, with the path.
    let below_a_file = root.join("logs/of/audit.log/deeper.log");
    let told = prepare(&below_a_file).await.err().unwrap().to_string();
    assert!(told.contains(below_a_file.to_str().unwrap()) && !told.contains("entity"), "{told}");
}
