//! A secrets engine that exists for tests: it hands out credentials under leases, and fails as it is told to.
//!
//! What it handed out is a record below `made/`; taking it back removes that, and counts how often it did. How it fails
//! is written to `config`, so a test injects a failure as an operator would. In no release binary.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tresor_engine::answer::{Headed, Secret};
use tresor_engine::{
    Class, Cx, Data, Descriptor, Engine, EngineFactory, HeaderUse, Instance, Keys, LeaseClaim, Leased, MountFacts,
    Mounted, Nothing, Routes,
};
use tresor_model::{Fault, Map, map};
use tresor_record::Record;
use tresor_secret::SecretBytes;
use tresor_wire::input::{EmptyInput, Input, Seconds};

/// How it is made.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "leasing", class: Class::Secret, make, reshapes: EngineFactory::keeps_its_shape };

/// How often an engine was made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// The engine.
pub struct Leasing {
    number: u64,
}

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(Instance::mount(Leasing { number: MADE.fetch_add(1, Ordering::Relaxed) }))
}

#[derive(Record, Default)]
#[record(kind = "leasing-config", version = 1)]
struct Config {
    /// Empty, `refuse`, `fail`, `panic` or `hang`.
    failure: String,
}

/// How to fail.
#[derive(Input)]
struct WriteConfig {
    /// Empty, `refuse`, `fail`, `panic` or `hang`.
    #[input(default = "")]
    failure: String,
}

/// Of what is asked.
#[derive(Input)]
struct Named {
    /// Its name, in lower case.
    #[input(path)]
    name: String,
}

/// What to hand out.
#[derive(Input)]
struct Ask {
    /// The role.
    #[input(path)]
    role: String,
    /// Its life.
    #[input(query)]
    ttl: Option<Seconds>,
    /// Its longest life.
    #[input(query)]
    max_ttl: Option<Seconds>,
    /// Whether it can be renewed.
    #[input(default = "true", query)]
    renewable: bool,
}

impl Engine for Leasing {
    const HEADERS: HeaderUse = HeaderUse { reads: true, sets: true };

    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "leasing", class: Class::Secret, summary: "Hands out what is taken back." }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config", "How it fails.")
            .write(configure)
            .at("creds/{role...}", "Hands something out.")
            .generate(hand_out)
            .at("headers/{name}", "Which values a header of this name has, and three headers for the answer.")
            .read(headers)
            .at("instance", "Which engine this is: none has the number of another.")
            .read(instance)
            .at("made", "What is handed out.")
            .list(made)
            .at("revoked", "What was taken back, and how often.")
            .read(revoked)
            .at("sums", "Whether something is handed out, how much was taken back, and how much of it more than once.")
            .read(sums)
            .done()
    }

    async fn renew<'a>(&'a self, mut cx: Cx<'a>, _lease: Leased<'a>, _ttl: Option<Duration>) -> Result<(), Fault> {
        fail(&mut cx).await
    }

    async fn revoke<'a>(&'a self, mut cx: Cx<'a>, lease: Leased<'a>) -> Result<(), Fault> {
        let number = String::from_utf8(lease.recipe.expose().clone()).map_err(Fault::internal)?;
        // Written before it fails: what a failed attempt wrote must not stay.
        let times = cx.view.read(&format!("revoked/{number}"))?.map_or(0, |times| times.len());
        cx.view.write(&format!("revoked/{number}"), &vec![0; times + 1])?;
        cx.view.delete(&format!("made/{number}"))?;
        fail(&mut cx).await
    }
}

async fn fail(cx: &mut Cx<'_>) -> Result<(), Fault> {
    let config = cx.view.read("config")?.map(|bytes| Config::decode(&bytes)).transpose();
    match config.map_err(Fault::internal)?.unwrap_or_default().failure.as_str() {
        "refuse" => Err(Fault::invalid("no such user")),
        "fail" => Err(Fault::internal("the target is down")),
        "panic" => panic!("the engine panics, as it was told to"),
        "hang" => std::future::pending().await,
        _ => Ok(()),
    }
}

async fn headers(_engine: &Leasing, cx: Cx<'_>, input: Named) -> Result<Headed<Data<Map>>, Fault> {
    let values = cx.headers.values(&input.name).to_vec();
    let set = [("x-first", "1"), ("x-second", "2"), ("content-length", "1"), ("x-request-id", "mine")];
    let set = set.map(|(name, value)| (name, value.to_owned()));
    Ok(Headed(Data(map! { "values" => values }), set.to_vec()))
}

async fn instance(engine: &Leasing, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Map>, Fault> {
    Ok(Data(map! { "number" => engine.number }))
}

async fn configure(_engine: &Leasing, mut cx: Cx<'_>, input: WriteConfig) -> Result<Nothing, Fault> {
    cx.view.write("config", &Config { failure: input.failure }.encode())?;
    Ok(Nothing)
}

async fn hand_out(_engine: &Leasing, mut cx: Cx<'_>, input: Ask) -> Result<Secret<Map>, Fault> {
    let mut bytes = [0_u8; 8];
    cx.entropy.fill(&mut bytes);
    // Names that grow with time meet in the last block of their directory, as any engine's should.
    let number = format!("{:016x}{:016x}", cx.now.nanos(), u64::from_be_bytes(bytes));
    cx.view.write(&format!("made/{number}"), &[])?;
    let claim = LeaseClaim {
        kind: "user",
        recipe: SecretBytes::new(number.clone().into_bytes()),
        ttl: input.ttl.map(|ttl| ttl.0).unwrap_or_default(),
        max_ttl: input.max_ttl.map(|ttl| ttl.0).unwrap_or_default(),
        renewable: input.renewable,
    };
    Ok(Secret(map! { "user" => number, "role" => input.role }, claim))
}

async fn made(_engine: &Leasing, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names("made/", None, None)?))
}

async fn sums(_engine: &Leasing, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Map>, Fault> {
    let is_any_left = !cx.view.names("made/", None, Some(1))?.is_empty();
    let (mut revoked, mut twice) = (0_u64, 0_u64);
    for number in cx.view.names("revoked/", None, None)? {
        let times = cx.view.read(&format!("revoked/{number}"))?.map_or(0, |times| times.len());
        revoked += 1;
        twice += u64::from(times > 1);
    }
    Ok(Data(map! { "any_left" => is_any_left, "revoked" => revoked, "twice" => twice }))
}

async fn revoked(_engine: &Leasing, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Map>, Fault> {
    let mut times = Map::new();
    for number in cx.view.names("revoked/", None, None)? {
        let count = cx.view.read(&format!("revoked/{number}"))?.map_or(0, |times| times.len());
        times = times.with(number, u64::try_from(count).unwrap_or(0));
    }
    Ok(Data(times))
}
