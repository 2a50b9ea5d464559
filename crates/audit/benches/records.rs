//! What a record costs: what a request waits for (encoding, sealing, one write), and what happens behind its back (opening,
//! redacting, handing over), on a real disk.
//!
//! `cargo bench -p tresor-audit --bench records -- --requests 100000`; without arguments it runs small, to see that it
//! runs. Deliberately absent: the rest of the pipeline, and any framework.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark prints, and ends when something fails"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tresor_audit::{
    Admission, AuditError, AuditSink, AuthFacts, Broker, Clear, DeviceConfig, DeviceSalt, Durability, GrantingPolicy,
    Head, Lines, MountFacts, Options, PolicyResults, RequestEntry, RequestFacts, ResponseEntry, ResponseFacts,
    SinkError, SinkKind, Undelivered,
};
use tresor_env::{BoxFuture, Doors, Timestamp};
use tresor_model::{Body, Connection, Map, Operation, Request, RequestId, Response, Shape, Verb, WhenBehind, map};
use tresor_secret::{DataKey, TokenSecret};

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--requests");
    let requests = arguments.nth(1).map_or(500, |number| number.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    println!("{requests} requests of two records each, one thread\n");
    println!("{:<34}{:>14}{:>14}{:>12}", "", "ns/request", "ns behind", "bytes/line");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases = [
        ("KV read, 1 KiB", kv_read(), Operation::Read, "false", Durability::Process(Duration::from_secs(1)), requests),
        (
            "list of 1,000 keys",
            list(),
            Operation::List,
            "false",
            Durability::Process(Duration::from_secs(1)),
            requests / 50,
        ),
        (
            "the same, elided",
            list(),
            Operation::List,
            "true",
            Durability::Process(Duration::from_secs(1)),
            requests / 50,
        ),
        ("KV read, each record synced", kv_read(), Operation::Read, "false", Durability::EachRecord, requests / 100),
    ];
    for (index, (name, answer, operation, elide, durability, requests)) in cases.into_iter().enumerate() {
        let path = directory.path().join(index.to_string());
        runtime.block_on(measure(name, &path, &answer, operation, elide, durability, requests.max(1)));
    }
}

async fn measure(
    name: &str,
    directory: &Path,
    answer: &Response,
    operation: Operation,
    elide: &str,
    durability: Durability,
    requests: u64,
) {
    let taken = Arc::new(AtomicU64::new(0));
    let mut options = Options { kinds: vec![Arc::new(Counting(Arc::clone(&taken)))], ..Options::default() };
    options.log.durability = durability;
    options.gather = Duration::from_millis(10);
    let device = DeviceConfig {
        path: "counting/".to_owned(),
        kind: "counting".to_owned(),
        description: String::new(),
        options: BTreeMap::from([("elide_list_responses".to_owned(), elide.to_owned())]),
        local: false,
        declared: false,
        salt: DeviceSalt::from_bytes([7; 32]),
    };
    let (doors, key) = (tresor_env_os::doors(), DataKey::new([9; 32]));
    let broker = Broker::open(doors, Some(directory.to_path_buf()), key, vec![device], options).await.unwrap();
    let request = request();
    let begun = Instant::now();
    for _ in 0..requests {
        record(&broker, &request, answer, operation).await;
    }
    let waited = begun.elapsed();
    assert!(broker.flush(Duration::from_secs(600)).await);
    let all = begun.elapsed();
    let per = |time: Duration| time.as_nanos() as f64 / requests as f64;
    let line = taken.load(Ordering::Relaxed) / (2 * requests);
    println!("{name:<34}{:>14.0}{:>14.0}{line:>12}", per(waited), per(all.saturating_sub(waited)));
    broker.close(Duration::from_secs(5)).await;
}

/// What the pipeline does for a read.
async fn record(broker: &Broker, request: &Request, answer: &Response, operation: Operation) {
    let policies = ["app".to_owned(), "default".to_owned()];
    let granting = GrantingPolicy {
        name: "app".into(),
        namespace_id: "root".into(),
        namespace_path: Clear::default(),
        kind: "acl".into(),
    };
    let auth = AuthFacts {
        client_token: request.token.as_ref().map(Into::into),
        accessor: Some("Qk2vYxV7nS0hJb3mLw9dTf1c".into()),
        display_name: "token".into(),
        policies: std::borrow::Cow::Borrowed(&policies),
        token_policies: std::borrow::Cow::Borrowed(&policies),
        policy_results: Some(PolicyResults { allowed: true, granting_policies: vec![granting] }),
        token_ttl: Duration::from_secs(3600),
        token_issue_time: Some(Timestamp::from_seconds(1_767_225_600)),
        ..AuthFacts::default()
    };
    let mut facts = RequestFacts::from_request(request, operation)
        .with_mount(MountFacts::new("secret/", "kv", "kv_0a1b2c3d", "secret"), &[]);
    facts.client_token_accessor = Some("Qk2vYxV7nS0hJb3mLw9dTf1c".into());
    let time = Timestamp::from_nanos(1_767_225_600_123_456_789);
    let (error, admission) = (Clear::default(), Admission::Ordinary);
    let head = Head::new(&auth, &facts);
    let request = Some(RequestEntry { time, head: &head, error: error.clone(), admission }.hold());
    let shown = ResponseFacts::from_response(answer, &[]);
    let encoded = broker.encode_response(|| ResponseEntry { time, head, request, response: &shown, error }.write());
    assert!(broker.record_response(encoded, ()).await.is_ok());
}

fn request() -> Request {
    Request {
        id: RequestId::new("7d1b0a58-2f6e-4cc5-8f5c-0e9f7a3b0001"),
        namespace: String::new(),
        path: tresor_model::Path::parse("secret/data/app/database").unwrap(),
        verb: Verb::Read,
        body: Map::new(),
        from_query: Vec::new(),
        token: Some(
            TokenSecret::parse("hvs.CAESIJ0a1b2c3d4e5f60718293a4b5c6d7e8f900112233445566778899aabbccd").unwrap(),
        ),
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

fn kv_read() -> Response {
    let metadata = map! {
        "created_time" => "2026-01-01T00:00:00.123456789Z", "custom_metadata" => Body::Null, "deletion_time" => "",
        "destroyed" => false, "version" => 1,
    };
    let data = map! { "data" => map! { "value" => "x".repeat(1024) }, "metadata" => metadata };
    Response { shape: Shape::Enveloped(data), ..Response::default() }
}

fn list() -> Response {
    let keys: Vec<String> = (0..1000).map(|number| format!("application-{number:04}")).collect();
    Response { shape: Shape::Enveloped(map! { "keys" => keys }), ..Response::default() }
}

/// Counts the bytes that it is handed.
struct Counting(Arc<AtomicU64>);

impl SinkKind for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn option_names(&self) -> &'static [&'static str] {
        &[]
    }

    fn check(&self, _: &DeviceConfig, _: &Options) -> Result<(), AuditError> {
        Ok(())
    }

    fn open(&self, _: &Doors, _: &DeviceConfig, _: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        Ok(Arc::new(Self(Arc::clone(&self.0))))
    }
}

impl AuditSink for Counting {
    fn deliver(&self, lines: Arc<Lines>) -> BoxFuture<'_, Result<(), Undelivered>> {
        self.0.fetch_add(lines.bytes().len() as u64, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn reopen(&self) {}
}
