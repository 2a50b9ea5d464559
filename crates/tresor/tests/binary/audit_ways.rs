//! Audit records on their way to real collectors: rsyslog, a small HTTP server, files that the server puts aside itself; and
//! devices that the configuration declares.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::tls::Authority;
use crate::support::{Http, Keys, Production, Server, binary, command, not_run, until};

/// rsyslog with a socket of its own, which writes what it is told into a file, as it comes.
struct Rsyslog {
    directory: PathBuf,
    process: Child,
}

impl Rsyslog {
    fn start(home: &Path) -> Option<Self> {
        let directory = home.join("rsyslog");
        std::fs::create_dir_all(&directory).unwrap();
        let config = format!(
            "global(workDirectory=\"{0}\" maxMessageSize=\"256k\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imuxsock\" Socket=\"{0}/log\" RateLimit.Interval=\"0\")\n\
             template(name=\"all\" type=\"string\" string=\"%syslogfacility-text% %programname% %msg%\\n\")\n\
             action(type=\"omfile\" file=\"{0}/messages\" template=\"all\")\n",
            directory.display()
        );
        std::fs::write(directory.join("rsyslog.conf"), config).unwrap();
        let started = Command::new("rsyslogd")
            .args(["-n", "-f"])
            .arg(directory.join("rsyslog.conf"))
            .arg("-i")
            .arg(directory.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) => {
                not_run("audit records to rsyslog", &error.to_string());
                return None;
            }
        };
        let daemon = Self { directory, process };
        until("rsyslog's socket", || daemon.socket().exists().then_some(()));
        Some(daemon)
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap(), signal).unwrap();
    }

    fn end(mut self, signal: Signal) {
        self.send(signal);
        self.process.wait().unwrap();
        // What a daemon leaves behind that is killed.
        drop(std::fs::remove_file(self.socket()));
    }

    /// The records that it has written, in their order; each must be whole, but for one that it may be writing.
    fn records(directory: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(directory.join("rsyslog/messages")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().map(|line| {
            let line = line.strip_prefix("auth vault ").unwrap_or_else(|| panic!("another header: {line}"));
            serde_json::from_str(line.trim_start()).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        lines.collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The numbers of the writes whose answers are recorded.
fn answered(records: &[Value]) -> Vec<usize> {
    let of = |record: &Value| {
        let path = record["request"]["path"].as_str()?;
        (record["type"] == "response").then(|| path.strip_prefix("kv/")?.parse().ok()).flatten()
    };
    records.iter().filter_map(of).collect()
}

fn ready(production: &Production) -> (Server, Http, Keys) {
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    (server, http, keys)
}

/// Writes these, and how long half of them took at most: a busy machine makes some slow, a device that is waited for makes all.
fn write(http: &Http, numbers: std::ops::Range<usize>) -> Duration {
    let mut took: Vec<Duration> = numbers
        .map(|number| {
            let begun = Instant::now();
            http.post(&format!("kv/{number}"), &json!({ "password": "canary-that-nobody-may-see" })).expect(204);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn rsyslog_gets_every_record_whether_it_stands_still_ends_or_is_killed() {
    let production = Production::new();
    let home = production.home().to_owned();
    let Some(daemon) = Rsyslog::start(&home) else { return };
    let (server, http, keys) = ready(&production);
    let options = json!({ "address": daemon.socket(), "write_timeout": "1s" });
    http.post("sys/audit/syslog", &json!({ "type": "syslog", "options": options })).expect(204);
    write(&http, 0..100);
    until("the first records", || answered(&Rsyslog::records(&home)).contains(&99).then_some(()));
    // It stands still: requests go on as before, and nothing comes twice when it goes on.
    daemon.send(Signal::STOP);
    let took = write(&http, 100..700);
    assert!(took < Duration::from_millis(500), "{took:?}");
    let behind = http.get("sys/audit-status").expect(200).at("/data/devices")["syslog/"].clone();
    assert!(behind["lag_records"].as_u64() > Some(100), "{behind}");
    daemon.send(Signal::CONT);
    until("the records of then", || answered(&Rsyslog::records(&home)).contains(&699).then_some(()));
    assert_eq!(answered(&Rsyslog::records(&home)), (0..700).collect::<Vec<_>>(), "each once, in order");
    // It is killed with messages in its socket, is away for a while, and comes back.
    daemon.send(Signal::STOP);
    write(&http, 700..800);
    daemon.end(Signal::KILL);
    write(&http, 800..900);
    let daemon = Rsyslog::start(&home).unwrap();
    until("the records of its absence", || answered(&Rsyslog::records(&home)).contains(&899).then_some(()));
    // It ends in good order, and the server is started anew meanwhile.
    daemon.end(Signal::TERM);
    write(&http, 900..1000);
    drop(server);
    let daemon = Rsyslog::start(&home).unwrap();
    let server = production.start();
    keys.unseal(&server.http());
    until("all records", || answered(&Rsyslog::records(&home)).contains(&999).then_some(()));
    let records = Rsyslog::records(&home);
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    answered(&records).into_iter().for_each(|number| *times.entry(number).or_default() += 1);
    assert!(times.keys().copied().eq(0..1000), "none is lost");
    // Again comes only what was not known to be read, or not yet known to the disk to be: each end, of which there are two of
    // the daemon and one of the server, brings a record at most once more.
    assert!(times.values().all(|times| *times <= 4), "{times:?}");
    let text = std::fs::read_to_string(home.join("rsyslog/messages")).unwrap();
    assert!(!text.contains("canary"));
    drop(daemon);
}

/// What the HTTP server does with what it is sent.
#[derive(Clone, Copy)]
enum Mood {
    Takes = 0,
    Refuses = 1,
    Hangs = 2,
}

/// A server that takes bodies of POSTs, one connection at a time in a thread each.
struct Collector {
    address: std::net::SocketAddr,
    mood: Arc<AtomicU64>,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start() -> Self {
        Self::start_behind(|stream| stream)
    }

    /// One that first makes something else of each connection.
    fn start_behind<S: Read + Write>(door: impl Fn(TcpStream) -> S + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), mood: Arc::default(), taken: Arc::default() };
        let (mood, taken) = (Arc::clone(&collector.mood), Arc::clone(&collector.taken));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mood, taken, door) = (Arc::clone(&mood), Arc::clone(&taken), door.clone());
                std::thread::spawn(move || serve(door(stream), &mood, &taken));
            }
        });
        collector
    }

    fn is_in(&self, mood: Mood) {
        self.mood.store(mood as u64, Ordering::SeqCst);
    }

    fn answered(&self) -> Vec<usize> {
        answered(&self.taken.lock().unwrap())
    }
}

fn serve(stream: impl Read + Write, mood: &AtomicU64, taken: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length, mut is_known) = (String::new(), 0, false);
        while !head.ends_with("\r\n\r\n") {
            let mut line = String::new();
            if !reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            is_known |= lower.trim() == "authorization: bearer of-the-collector";
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let status = match mood.load(Ordering::SeqCst) {
            0 if is_known && head.starts_with("POST /ingest ") => {
                taken.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                "204 No Content"
            }
            0 => "403 Forbidden",
            1 => "500 Internal Server Error",
            // Until whoever asked has gone.
            _ => {
                drop(reader.read(&mut [0]));
                return;
            }
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).and_then(|()| reader.get_mut().flush()).is_err() {
            return;
        }
    }
}

#[test]
fn a_collector_over_http_that_refuses_or_hangs_gets_every_record_in_the_end() {
    let production = Production::new();
    let collector = Collector::start();
    // Its secret is in a variable: a declared device may say so.
    production.configure_more(&format!(
        "audit \"http\" \"collector\" {{\n  options {{\n    uri = \"http://{}/ingest\"\n    write_timeout = \"2s\"\n    \
         headers = \"{{\\\"Authorization\\\": [\\\"env://COLLECTOR\\\"]}}\"\n  }}\n}}\n",
        collector.address
    ));
    let server = production.start_with(&[("COLLECTOR", "Bearer of-the-collector")]);
    let keys = Keys::initialize(&server.http(), 1, 1);
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    let status = || http.get("sys/audit-status").expect(200).at("/data/devices")["collector/"].clone();
    let error = || status()["last_error"].as_str().unwrap().to_owned();
    write(&http, 0..20);
    until("the first records", || collector.answered().contains(&19).then_some(()));
    assert_eq!(status()["declared"], true);
    for (mood, said, numbers) in [
        (Mood::Refuses, "the server answered 500", 20..40),
        (Mood::Hangs, "the server took too long to answer", 40..60),
    ] {
        collector.is_in(mood);
        let took = write(&http, numbers);
        assert!(took < Duration::from_secs(1), "{took:?}");
        until(said, || (error() == said).then_some(()));
        assert!(status()["lag_records"].as_u64() > Some(10));
    }
    collector.is_in(Mood::Takes);
    until("the last records", || collector.answered().contains(&59).then_some(()));
    assert_eq!(collector.answered(), (0..60).collect::<Vec<_>>(), "each once, in order");
    assert!(!serde_json::to_string(&*collector.taken.lock().unwrap()).unwrap().contains("canary"));
    http.send("DELETE", "sys/audit/collector", "").expect(400);
}

/// A collector over TLS that takes records of those alone whom this authority signed.
fn guarded(authority: &Authority, home: &Path) -> Collector {
    let (certificate, key) = authority.sign(home, "collector", "127.0.0.1");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.file).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = Arc::new(builder.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap());
    Collector::start_behind(move |stream| StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream))
}

#[test]
fn a_collector_is_verified_by_its_own_authority_and_shown_a_certificate_that_may_change() {
    let production = Production::new();
    let home = production.home().to_owned();
    let (authority, stranger) = (Authority::new(&home, "own"), Authority::new(&home, "other"));
    let collector = guarded(&authority, &home);
    let (certificate, key) = stranger.sign(&home, "client", "vault");
    let options = [
        ("uri", format!("https://{}/ingest", collector.address)),
        ("headers", r#"{\"Authorization\": [\"Bearer of-the-collector\"]}"#.to_owned()),
        ("ca_cert", format!("file://{}", authority.file.display())),
        ("client_cert", format!("file://{}", certificate.display())),
        ("client_key", format!("file://{}", key.display())),
    ];
    let options: String = options.iter().map(|(name, value)| format!("    {name} = \"{value}\"\n")).collect();
    production.configure_more(&format!("audit \"http\" \"collector\" {{\n  options {{\n{options}  }}\n}}\n"));
    let (server, http, _) = ready(&production);
    write(&http, 0..5);
    let error = || http.get("sys/audit-status").expect(200).text_at("/data/devices/collector~1/last_error");
    until("a refusal of the stranger", || (!error().is_empty()).then_some(()));
    assert_eq!(collector.answered(), [0; 0]);
    // The files say something else; nothing but a signal is needed.
    authority.sign(&home, "client", "vault");
    server.signal(Signal::HUP);
    until("the records", || collector.answered().contains(&4).then_some(()));
    assert_eq!(collector.answered(), [0, 1, 2, 3, 4]);
    let key = std::fs::read_to_string(key).unwrap();
    let text = std::fs::read_to_string(&authority.file).unwrap();
    let uri = format!("https://{}/ingest", collector.address);
    for (options, said) in [
        (json!({ "uri": uri, "client_cert": text, "client_key": key }), "`client_key` says where the key lies"),
        (json!({ "uri": uri, "client_cert": text }), "`client_cert` and `client_key` go together"),
        (json!({ "uri": uri, "ca_cert": "none" }), "is no PEM of that"),
        (json!({ "uri": uri, "ca_cert": "file:///etc/hosts" }), "only a device that the configuration declares"),
        (json!({ "uri": uri, "ca_cert": text }), "audit backend failed test message"),
    ] {
        let refused = http.post("sys/audit/other", &json!({ "type": "http", "options": options })).expect(400);
        assert!(refused.text.contains(said) && !refused.text.contains("PRIVATE"), "{said}: {}", refused.text);
    }
}

#[test]
fn declared_devices_follow_the_configuration_and_files_are_put_aside() {
    let production = Production::new();
    let base = std::fs::read_to_string(production.config()).unwrap();
    let file = production.home().join("audit.log");
    let stanza = format!(
        "audit \"file\" \"main\" {{\n  options {{\n    file_path = \"{}\"\n    rotate_bytes = 8192\n    rotate_keep = 2\n    \
         mode = \"0640\"\n  }}\n}}\n",
        file.display()
    );
    production.configure(&format!("{base}{stanza}"));
    let (server, http, _) = ready(&production);
    write(&http, 0..60);
    let files = || -> Vec<PathBuf> {
        let all = std::fs::read_dir(production.home()).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().contains("audit.log")).collect();
        all.sort();
        all
    };
    // One may get another name, or go, while it is looked at.
    let text = || files().iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect::<String>();
    until("the last record", || text().contains("kv/59\"").then_some(()));
    until("two files beside it", || (files().len() == 3).then_some(()));
    for (path, found) in files().into_iter().filter_map(|path| Some((path.clone(), std::fs::metadata(path).ok()?))) {
        assert_eq!(found.permissions().mode() & 0o777, 0o640, "{}", path.display());
    }
    // Without the stanza it goes, with the next SIGHUP; with another one, another comes.
    let other = format!("audit \"file\" \"other\" {{ options {{ file_path = \"{}.other\" }} }}\n", file.display());
    production.configure(&format!("{base}unsafe_allow_api_audit_creation = false\n{other}"));
    server.signal(Signal::HUP);
    until("the other device", || {
        let devices = http.get("sys/audit").expect(200).at("/data").clone();
        (devices.get("other/").is_some() && devices.get("main/").is_none()).then_some(())
    });
    // A mistake is said by its place, keeps what was there while the server runs, and lets none start.
    production.configure(&format!("{base}audit \"file\" \"other\" {{ options {{ file = \"x\" }} }}\n"));
    server.signal(Signal::HUP);
    until("the mistake", || server.log().contains("audit device `other/`: unknown option `file`").then_some(()));
    assert!(http.get("sys/audit").expect(200).at("/data").get("other/").is_some());
    drop(server);
    let finished = command(binary(), production.home())
        .args(["server", "-config", production.config().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(!finished.status.success());
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    assert!(said.contains("unknown option `file`"), "{said}");
}
