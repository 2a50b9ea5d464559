//! What the tests of audit share: a request, a device that collects lines and fails or hangs when told to.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tresor_audit::{
    Admission, AuditError, AuditSink, Audited, AuthFacts, Broker, Clear, DeviceConfig, DeviceSalt, FileSinkKind, Head,
    Lines, MountFacts, Options, RequestEntry, RequestFacts, ResponseEntry, ResponseFacts, SinkError, SinkKind,
    Undelivered,
};
use tresor_env::doubles::TestDoors;
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Connection, Map, Operation, Path, Request, RequestId, Response, Timestamp, Verb, WhenBehind, map};
use tresor_secret::{DataKey, TokenSecret};

/// The directory of the local log.
pub const DIRECTORY: &str = "data/audit";

/// A bound that a clock that nobody moves never reaches.
pub const BOUND: Duration = Duration::from_secs(60);

pub fn request(id: &str, body: Map) -> Request {
    Request {
        id: RequestId::new(id),
        namespace: String::new(),
        path: Path::parse("secret/data/app").unwrap(),
        verb: Verb::Write,
        body,
        from_query: Vec::new(),
        token: Some(TokenSecret::parse("hvs.canary-token").unwrap()),
        wrap_ttl: None,
        inline: tresor_model::request::Inline::Not,
        headers: BTreeMap::new(),
        connection: Connection::plain(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000),
        upload: tresor_model::Upload::default(),
        takes_messages: false,
        when_behind: WhenBehind::Wait,
        errand: None,
        refusal: None,
    }
}

#[derive(Default)]
pub struct Collected {
    pub lines: Vec<String>,
    pub deliveries: usize,
    pub syncs: usize,
    pub fails: bool,
    pub hangs: bool,
}

/// A device in memory, by the option `name`; what it took stays when the broker is gone.
#[derive(Clone, Default)]
pub struct MemoryKind(pub Arc<Mutex<BTreeMap<String, Arc<Mutex<Collected>>>>>);

impl MemoryKind {
    pub fn device(&self, name: &str) -> Arc<Mutex<Collected>> {
        Arc::clone(self.0.lock().unwrap().entry(name.to_owned()).or_default())
    }

    pub fn lines(&self, name: &str) -> Vec<String> {
        self.device(name).lock().unwrap().lines.clone()
    }
}

impl SinkKind for MemoryKind {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn option_names(&self) -> &'static [&'static str] {
        &["name"]
    }

    fn check(&self, _: &DeviceConfig, _: &Options) -> Result<(), AuditError> {
        Ok(())
    }

    fn open(&self, _: &Doors, config: &DeviceConfig, _: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        Ok(Arc::new(MemorySink(self.device(config.option("name").unwrap_or("only")))))
    }
}

struct MemorySink(Arc<Mutex<Collected>>);

impl AuditSink for MemorySink {
    fn deliver(&self, records: Arc<Lines>) -> BoxFuture<'_, Result<(), Undelivered>> {
        Box::pin(async move {
            let hangs = self.0.lock().unwrap().hangs;
            if hangs {
                std::future::pending::<()>().await;
            }
            let mut collected = self.0.lock().unwrap();
            collected.deliveries += 1;
            if collected.fails {
                return Err(SinkError("injected sink failure".into()).into());
            }
            for record in records.iter() {
                let lines = String::from_utf8(record.to_vec()).unwrap();
                collected.lines.extend(lines.split_inclusive('\n').map(str::to_owned));
            }
            Ok(())
        })
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            self.0.lock().unwrap().syncs += 1;
            Ok(())
        })
    }

    fn reopen(&self) {}
}

pub fn options(kind: &MemoryKind) -> Options {
    Options { kinds: vec![Arc::new(FileSinkKind::default()), Arc::new(kind.clone())], ..Options::default() }
}

/// A device of the kind above; its salt follows from its name.
pub fn device(name: &str) -> DeviceConfig {
    let mut salt = [7; 32];
    salt.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    DeviceConfig {
        path: format!("{name}/"),
        kind: "memory".to_owned(),
        description: String::new(),
        options: BTreeMap::from([("name".to_owned(), name.to_owned())]),
        local: false,
        declared: false,
        salt: DeviceSalt::from_bytes(salt),
    }
}

pub fn device_with(name: &str, options: &[(&str, &str)]) -> DeviceConfig {
    let mut device = device(name);
    device.options.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    device
}

pub fn file_device(options: &[(&str, &str)]) -> DeviceConfig {
    DeviceConfig {
        path: "file/".to_owned(),
        kind: "file".to_owned(),
        description: String::new(),
        options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        local: false,
        declared: false,
        salt: DeviceSalt::from_bytes([3; 32]),
    }
}

pub fn key() -> DataKey {
    DataKey::new([42; 32])
}

pub async fn open(doors: &TestDoors, devices: Vec<DeviceConfig>, options: Options) -> Result<Broker, AuditError> {
    Broker::open(doors.doors.clone(), Some(PathBuf::from(DIRECTORY)), key(), devices, options).await
}

pub const fn now() -> Timestamp {
    Timestamp::from_seconds(1_767_225_600)
}

pub async fn record(broker: &Broker, id: &str) -> Result<(), AuditError> {
    record_body(broker, id, map! { "password" => "canary-password" }).await
}

pub async fn record_body(broker: &Broker, id: &str, body: Map) -> Result<(), AuditError> {
    record_with(broker, id, body, Admission::Ordinary).await
}

pub async fn record_with(broker: &Broker, id: &str, body: Map, admission: Admission) -> Result<(), AuditError> {
    let request = request(id, body);
    let facts = RequestFacts::from_request(&request, Operation::Update);
    let auth = AuthFacts::default();
    let head = &Head::new(&auth, &facts);
    let entry = RequestEntry { time: now(), head, error: Clear::default(), admission };
    broker.record_request(&entry).await
}

/// Records a request to a mount of this type.
pub async fn record_to(broker: &Broker, id: &str, mount_type: &str) -> Result<(), AuditError> {
    let request = request(id, map! { "password" => "canary-password" });
    let facts = RequestFacts::from_request(&request, Operation::Update);
    let facts = facts.with_mount(MountFacts::new("secret/", mount_type, "accessor", "secret"), &[]);
    let head = &Head::new(&AuthFacts::default(), &facts);
    let entry = RequestEntry { time: now(), head, error: Clear::default(), admission: Admission::Ordinary };
    broker.record_request(&entry).await
}

/// Records a request that has no effect, and its answer.
pub async fn record_both(broker: &Broker, id: &str) -> Result<Audited<Response>, AuditError> {
    let request = request(id, Map::new());
    let facts = RequestFacts::from_request(&request, Operation::Read);
    let head = Head::new(&AuthFacts::default(), &facts);
    let (error, admission) = (Clear::default(), Admission::Ordinary);
    let held = RequestEntry { time: now(), head: &head, error: error.clone(), admission }.hold();
    let response = &ResponseFacts::default();
    let entry = ResponseEntry { time: now(), head, request: Some(held), response, error };
    let encoded = broker.encode_response(|| entry.write());
    broker.record_response(encoded, Response::default()).await.map_err(|unrecorded| unrecorded.error)
}

pub async fn record_answer(broker: &Broker, id: &str, response: Response) -> Result<Audited<Response>, AuditError> {
    let request = request(id, Map::new());
    let encoded = {
        let facts = RequestFacts::from_request(&request, Operation::Read);
        let auth = AuthFacts::default();
        let shown = ResponseFacts::from_response(&response, &[]);
        broker.encode_response(|| {
            ResponseEntry {
                time: now(),
                head: Head::new(&auth, &facts),
                request: None,
                response: &shown,
                error: Clear::default(),
            }
            .write()
        })
    };
    broker.record_response(encoded, response).await.map_err(|unrecorded| unrecorded.error)
}

/// The ids of the requests in lines, in their order.
pub fn ids(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
            parsed["request"]["id"].as_str().unwrap().to_owned()
        })
        .collect()
}
