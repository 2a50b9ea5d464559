//! Version 1: a path holds one object; writing replaces it. A mount may say that what is read is leased.

use std::time::Duration;

use tresor_engine::answer::{Advised, Secret};
use tresor_engine::route::RouteBuilder;
use tresor_engine::{
    Class, Cx, Data, Descriptor, Engine, Happened, Holding, Keys, LeaseClaim, Nothing, Routes, Warned, scan,
};
use tresor_model::{Body, Fault, LeaseTerms, Map};
use tresor_record::Record;
use tresor_secret::SecretBytes;
use tresor_wire::duration::print_go;
use tresor_wire::input::{Form, Input, Limit, PathParameters, Seconds};

pub(crate) struct Kv1;

/// The same, of a mount where what is read is leased, as a reminder to read it again: nothing has to be taken back.
pub(crate) struct Leased;

/// What is stored at a path.
#[derive(Record)]
#[record(kind = "kv1-entry", version = 1)]
pub(crate) struct Entry {
    pub(crate) data: Map,
}

/// A path.
#[derive(Input)]
struct AtPath {
    /// Where the secret is.
    #[input(path)]
    path: String,
}

/// A page of a directory.
#[derive(Input)]
struct Page {
    /// The directory.
    #[input(path)]
    path: String,
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// A secret to write.
#[derive(Input)]
struct Write {
    /// Where the secret is.
    #[input(path)]
    path: String,
    /// Everything that is sent.
    #[input(rest)]
    data: Map,
}

const DESCRIPTOR: Descriptor =
    Descriptor { kind: "kv", class: Class::Secret, summary: "Passes secrets through to the encrypted store and back." };

impl Engine for Kv1 {
    fn descriptor() -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn routes() -> Routes<Self> {
        with_the_rest(Routes::new().at(PATTERN, ABOUT).read(read))
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[Holding::new("secrets", "")];
        HELD
    }

    async fn revoke<'a>(&'a self, _cx: Cx<'a>, _lease: tresor_engine::Leased<'a>) -> Result<(), Fault> {
        // Of a time when the mount leased what was read.
        Ok(())
    }
}

impl Engine for Leased {
    fn descriptor() -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn routes() -> Routes<Self> {
        with_the_rest(Routes::new().at(PATTERN, ABOUT).generate(read_leased))
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[Holding::new("secrets", "")];
        HELD
    }

    async fn revoke<'a>(&'a self, _cx: Cx<'a>, _lease: tresor_engine::Leased<'a>) -> Result<(), Fault> {
        Ok(())
    }
}

const PATTERN: &str = "{path...}";
const ABOUT: &str = "Reads, lists, scans, writes or deletes a secret.";

/// What is done to secrets but reading, whether or not they are leased.
fn with_the_rest<E: Engine>(route: RouteBuilder<E>) -> Routes<E> {
    route
        .list(list)
        .scan(every)
        .write(write)
        .delete(delete)
        .exists(|_, mut cx: Cx<'_>, parameters: &PathParameters| {
            let path = parameters.get("path").map_or("", String::as_str);
            Ok(is_name(path) && cx.view.contains(path)?)
        })
        .done()
}

/// Whether a path can hold a secret.
fn is_name(path: &str) -> bool {
    !path.is_empty() && !path.ends_with('/')
}

/// A secret, how long it may be used, and perhaps a hint.
struct Found {
    data: Map,
    ttl: Duration,
    warnings: Vec<String>,
}

fn find(cx: &mut Cx<'_>, path: &str) -> Result<Option<Found>, Fault> {
    if !is_name(path) {
        return Ok(None);
    }
    let Some(bytes) = cx.view.read(path)? else { return Ok(None) };
    let data = Entry::decode(&bytes).map_err(Fault::internal)?.data;
    let own = ["ttl", "lease"].into_iter().find_map(|name| data.get(name)).and_then(ttl);
    let (wish, longest) = (own.unwrap_or(cx.mount.default_lease_ttl), cx.mount.max_lease_ttl);
    let warnings = if wish > longest { vec![capped(wish, longest)] } else { Vec::new() };
    Ok(Some(Found { data, ttl: wish.min(longest), warnings }))
}

async fn read(_kv: &Kv1, mut cx: Cx<'_>, input: AtPath) -> Result<Option<Warned<Advised<Data<Map>>>>, Fault> {
    Ok(find(&mut cx, &input.path)?.map(|Found { data, ttl, warnings }| {
        let terms = LeaseTerms { id: None, duration: ttl, renewable: false };
        Warned(Advised(Data(data), terms), warnings)
    }))
}

async fn read_leased(_kv: &Leased, mut cx: Cx<'_>, input: AtPath) -> Result<Option<Warned<Secret<Map>>>, Fault> {
    Ok(find(&mut cx, &input.path)?.map(|Found { data, ttl, warnings }| {
        let recipe = SecretBytes::new(Vec::new());
        let claim = LeaseClaim { kind: "kv", recipe, ttl, max_ttl: Duration::ZERO, renewable: true };
        Warned(Secret(data, claim), warnings)
    }))
}

/// The hint that a secret advises more than its mount allows.
fn capped(wish: Duration, longest: Duration) -> String {
    let (wish, longest) = (print_go(wish), print_go(longest));
    format!("TTL of {wish:?} exceeded the effective max_ttl of {longest:?}; TTL value is capped accordingly")
}

/// The duration that a secret itself advises.
fn ttl(body: &Body) -> Option<Duration> {
    Seconds::read(body).ok().map(|seconds| seconds.0).filter(|ttl| !ttl.is_zero())
}

async fn list<E: Engine>(_kv: &E, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names(&input.path, input.after.as_deref(), input.limit.0)?))
}

async fn every<E: Engine>(_kv: &E, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(scan::names_below(&mut cx.view, &input.path, input.after.as_deref(), input.limit.0).await?))
}

async fn write<E: Engine>(_kv: &E, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    if input.data.is_empty() {
        return Err(Fault::invalid("missing data fields"));
    }
    if !is_name(&input.path) {
        return Err(Fault::invalid("cannot write to a path that is empty or ends in a slash"));
    }
    cx.view.write(&input.path, &Entry { data: input.data }.encode())?;
    cx.view.tell(|| Happened::new("kv-v1/write", input.path.as_str()).read_at(input.path.as_str()));
    Ok(Nothing)
}

async fn delete<E: Engine>(_kv: &E, mut cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    // What cannot be there is gone already.
    if is_name(&input.path) {
        if !cx.view.contains(&input.path)? {
            return Ok(Nothing);
        }
        cx.view.delete(&input.path)?;
        cx.view.tell(|| Happened::new("kv-v1/delete", input.path.as_str()));
    }
    Ok(Nothing)
}
