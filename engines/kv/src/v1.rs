//! Version 1: a path holds one object; writing replaces it.

use std::time::Duration;

use tresor_engine::{Class, Cx, Descriptor, Engine, Reply, Routes};
use tresor_model::{Body, Fault, LeaseTerms, Map};
use tresor_record::Record;
use tresor_wire::input::{Fields, Form, Input, Seconds};

pub(crate) struct Kv1;

/// What is stored at a path.
#[derive(Record)]
#[record(kind = "kv1-entry", version = 1)]
struct Entry {
    data: Map,
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
    #[input(query)]
    limit: Option<i64>,
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

impl Engine for Kv1 {
    fn descriptor() -> &'static Descriptor {
        &Descriptor {
            kind: "kv",
            class: Class::Secret,
            summary: "Passes secrets through to the encrypted store and back.",
        }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("{path...}", "Reads, lists, writes or deletes a secret.")
            .read(read)
            .list(list)
            .write(write)
            .delete(delete)
            .exists(|_, mut cx: Cx<'_>, fields: Fields| {
                let path = fields.path.get("path").map_or("", String::as_str);
                Ok(!path.is_empty() && !path.ends_with('/') && cx.view.read(path)?.is_some())
            })
            .done()
    }
}

async fn read(_kv: &Kv1, mut cx: Cx<'_>, input: AtPath) -> Result<Reply, Fault> {
    if input.path.is_empty() || input.path.ends_with('/') {
        return Ok(Reply::absent());
    }
    let Some(bytes) = cx.view.read(&input.path)? else { return Ok(Reply::absent()) };
    let data = Entry::decode(&bytes).map_err(Fault::internal)?.data;
    let own = ["ttl", "lease"].into_iter().find_map(|name| data.get(name)).and_then(ttl);
    let duration = own.unwrap_or(cx.mount.default_lease_ttl);
    Ok(Reply { advice: Some(LeaseTerms { id: None, duration, renewable: false }), ..Reply::data(data) })
}

/// The duration that a secret itself advises.
fn ttl(body: &Body) -> Option<Duration> {
    Seconds::read(body).ok().map(|seconds| seconds.0).filter(|ttl| !ttl.is_zero())
}

async fn list(_kv: &Kv1, mut cx: Cx<'_>, input: Page) -> Result<Reply, Fault> {
    let limit = input.limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    Ok(Reply::keys(cx.view.names(&input.path, input.after.as_deref(), limit)?))
}

async fn write(_kv: &Kv1, mut cx: Cx<'_>, input: Write) -> Result<Reply, Fault> {
    if input.data.is_empty() {
        return Err(Fault::invalid("missing data fields"));
    }
    cx.view.write(&input.path, &Entry { data: input.data }.encode())?;
    Ok(Reply::nothing())
}

async fn delete(_kv: &Kv1, mut cx: Cx<'_>, input: AtPath) -> Result<Reply, Fault> {
    cx.view.delete(&input.path)?;
    Ok(Reply::nothing())
}
