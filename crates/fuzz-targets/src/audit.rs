//! FZ-13 for the audit log: entries, and a directory of segments that a crash or somebody else has changed.
//!
//! Whatever became of the segments, the log opens with records that were written, in their order, or is refused;
//! never with one that was not written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tresor_audit::{
    AuditError, AuditSink, AuthFacts, Broker, Clear, DeviceConfig, DeviceSalt, Head, Lines, Options, RequestEntry,
    RequestFacts, ResponseEntry, ResponseFacts, SinkError, SinkKind, Undelivered, fuzz,
};
use tresor_env::disk::Open;
use tresor_env::doubles::TestDoors;
use tresor_env::{BoxFuture, Disk, Doors};
use tresor_model::{Connection, Operation, Request, RequestId, Response, Timestamp, Verb, WhenBehind, map};
use tresor_secret::{DataKey, TokenSecret};

pub(crate) const WORDS: &[&str] = &[
    "\0",
    "\u{1}",
    "\u{2}",
    "\u{7f}",
    "TRSAUDL2",
    "abc",
    "\u{3}abc",
    "\0\0\0\0\0\0\0\0",
    "\u{5}\u{1}",
    "\u{6}\u{1}\u{1}a",
];

const DIRECTORY: &str = "data/audit";
/// Small, so that there are several.
const SEGMENT_BYTES: u64 = 500;
const RECORDS: usize = 12;

fn request(id: &str) -> Request {
    Request {
        id: RequestId::new(id),
        namespace: String::new(),
        path: tresor_model::Path::from_decoded("secret/data/app").expect("a path"),
        verb: Verb::Write,
        body: map! { "a" => vec!["b"], "n" => 3, "t" => true, "z" => tresor_model::Body::Null, "m" => map! { "x" => "y" } },
        from_query: Vec::new(),
        token: TokenSecret::parse("hvs.a-token").ok(),
        wrap_ttl: Some(Duration::new(1, 2)),
        inline: tresor_model::request::Inline::Not,
        headers: BTreeMap::new(),
        connection: Connection::plain(std::net::Ipv4Addr::LOCALHOST.into(), 50_000),
        upload: tresor_model::Upload::default(),
        takes_messages: false,
        when_behind: WhenBehind::Wait,
        errand: None,
        refusal: None,
    }
}

/// An entry's bytes, as they are and as changes of a good one: pairs of a place and what is put there.
pub fn audit_entry(bytes: &[u8]) {
    static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let request = request("r");
        let response = Response { warnings: vec!["w".to_owned()], ..Response::default() };
        let (facts, auth) = (RequestFacts::from_request(&request, Operation::Update), AuthFacts::default());
        let shown = ResponseFacts::from_response(&response, &[]);
        let (time, error) = (Timestamp::EPOCH, Clear::default());
        let (head, admission) = (Head::new(&auth, &facts), tresor_audit::Admission::Ordinary);
        let request = Some(RequestEntry { time, head: &head, error: error.clone(), admission }.hold());
        fuzz::encode(ResponseEntry { time, head, request, response: &shown, error })
    });
    entry(&SAMPLE);
    entry(bytes);
    let mut changed = SAMPLE.clone();
    for pair in bytes.chunks_exact(2) {
        if let [at, with] = pair {
            let at = usize::from(*at) % changed.len();
            changed.iter_mut().skip(at).take(1).for_each(|byte| *byte = *with);
            entry(&changed);
        }
    }
}

fn entry(bytes: &[u8]) {
    let Some(written) = fuzz::recode(bytes) else { return };
    let again = fuzz::recode(&written).expect("what is written can be read");
    assert!(again == written, "written, read and written, it is another one");
}

/// The files of a log of [`RECORDS`] records, in order of their names.
static LOG: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    runtime().block_on(async {
        let doors = TestDoors::new(3);
        let taking_nothing = Seen(Arc::default(), true);
        let broker = open(&doors.doors, &taking_nothing).await.unwrap_or_else(|error| panic!("{error}"));
        for at in 0..RECORDS {
            let request = request(&format!("id-{at}"));
            let (facts, auth) = (RequestFacts::from_request(&request, Operation::Update), AuthFacts::default());
            let admission = tresor_audit::Admission::Ordinary;
            let (time, error) = (Timestamp::EPOCH, Clear::default());
            let entry = RequestEntry { time, head: &Head::new(&auth, &facts), error, admission };
            broker.record_request(&entry).await.unwrap_or_else(|error| panic!("{error}"));
            // So that the next segment is made ready.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        let files = doors.disk.dump().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "log"));
        files.collect()
    })
});

/// Changes of the files of a log, four bytes each: what is done, to which file, where, with what.
pub fn audit_log(bytes: &[u8]) {
    let mut files = LOG.clone();
    assert!(files.len() > 2, "{} segments are not several", files.len());
    for change in bytes.chunks_exact(4).take(64) {
        if let [what, which, at, with] = change {
            let which = usize::from(*which) % files.len().max(1);
            let Some((_, file)) = files.get_mut(which) else { break };
            let at = usize::from(*at) * file.len().max(1) / 256;
            match what % 5 {
                0 => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= (*with).max(1)),
                1 => file.truncate(at),
                2 => file.extend(std::iter::repeat_n(*with, at)),
                3 => file.iter_mut().skip(at).for_each(|byte| *byte = 0),
                _ => drop(files.remove(which)),
            }
        }
    }
    let is_whole = files == *LOG;
    let (opened, ids) = runtime().block_on(reopen(&files));
    assert!(opened || !is_whole, "an unchanged log is refused");
    let expected: Vec<String> = (0..RECORDS).map(|at| format!("id-{at}")).collect();
    assert!(!is_whole || ids == expected, "an unchanged log shows {ids:?}");
    let mut rest = expected.iter();
    assert!(ids.iter().all(|id| rest.any(|known| known == id)), "not what was written, or out of order: {ids:?}");
}

/// Whether the log opens, and which records its device is shown.
async fn reopen(files: &[(PathBuf, Vec<u8>)]) -> (bool, Vec<String>) {
    let doors = TestDoors::new(4);
    doors.disk.create_directory(Path::new(DIRECTORY)).expect("memory takes it");
    for (path, bytes) in files {
        let file = doors.disk.open(path, Open::New).expect("memory takes it");
        file.write_all_at(0, bytes).expect("memory takes it");
        file.sync().expect("memory takes it");
    }
    let seen = Seen::default();
    let Ok(broker) = open(&doors.doors, &seen).await else { return (false, Vec::new()) };
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    drop(broker);
    let lines = seen.0.lock().expect("nobody panicked").clone();
    let ids = lines.iter().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a record is JSON");
        line.pointer("/request/id").and_then(serde_json::Value::as_str).expect("a record has an id").to_owned()
    });
    (true, ids.collect())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime in one thread")
}

async fn open(doors: &Doors, seen: &Seen) -> Result<Broker, AuditError> {
    let mut options = Options { kinds: vec![Arc::new(seen.clone())], ..Options::default() };
    options.log.segment_bytes_max = SEGMENT_BYTES;
    let device = DeviceConfig {
        path: "seen/".to_owned(),
        kind: "seen".to_owned(),
        description: String::new(),
        options: BTreeMap::new(),
        local: false,
        declared: false,
        salt: DeviceSalt::from_bytes([7; 32]),
    };
    let key = DataKey::new([42; 32]);
    Broker::open(doors.clone(), Some(DIRECTORY.into()), key, vec![device], options).await
}

/// A device that remembers what it was shown, or takes nothing, so that the log keeps every record.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>, bool);

impl SinkKind for Seen {
    fn name(&self) -> &'static str {
        "seen"
    }

    fn option_names(&self) -> &'static [&'static str] {
        &[]
    }

    fn check(&self, _: &DeviceConfig, _: &Options) -> Result<(), AuditError> {
        Ok(())
    }

    fn open(&self, _: &Doors, _: &DeviceConfig, _: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        Ok(Arc::new(self.clone()))
    }
}

impl AuditSink for Seen {
    fn deliver(&self, records: Arc<Lines>) -> BoxFuture<'_, Result<(), Undelivered>> {
        Box::pin(async move {
            if self.1 {
                return Err(SinkError("not now".into()).into());
            }
            for record in records.iter() {
                let lines = String::from_utf8(record.to_vec()).expect("a record is text");
                self.0.lock().expect("nobody panicked").extend(lines.split_inclusive('\n').map(str::to_owned));
            }
            Ok(())
        })
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn reopen(&self) {}
}
