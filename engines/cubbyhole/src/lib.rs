//! `cubbyhole`: a store that belongs to one token and is gone with it.
//!
//! Everything lies below the caller's own key, which no request can name, so there is no path to another token's
//! data. Deliberately absent: leases, versions, and any listing over tokens.

use tresor_engine::{Class, Cx, Data, Descriptor, Engine, Keys, Nothing, Routes, scan};
use tresor_model::{Fault, Map};
use tresor_record::Record;
use tresor_wire::input::{Input, Limit, PathParameters};

/// The engine.
pub struct Cubbyhole;

/// What is stored at a path.
#[derive(Record)]
#[record(kind = "cubbyhole-entry", version = 1)]
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

/// Which names below a path.
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

impl Engine for Cubbyhole {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "cubbyhole", class: Class::System, summary: "Keeps secrets for the caller's token alone." }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("{path...}", "Reads, lists, scans, writes or deletes a secret of the caller's token.")
            .read(read)
            .list(list)
            .scan(every)
            .write(write)
            .delete(delete)
            .exists(|_, mut cx: Cx<'_>, parameters: &PathParameters| {
                let path = parameters.get("path").map_or("", String::as_str);
                Ok(is_name(path) && {
                    let name = own(&cx, path)?;
                    cx.view.contains(&name)?
                })
            })
            .done()
    }
}

fn is_name(path: &str) -> bool {
    !path.is_empty() && !path.ends_with('/')
}

/// A path below the caller's own key.
fn own(cx: &Cx<'_>, path: &str) -> Result<String, Fault> {
    let refused = || Fault::invalid("cubbyhole operations are only supported by 'service' type tokens");
    let key = cx.caller.token_key.ok_or_else(refused)?;
    // It goes with the token, which is collected where it belongs.
    if cx.caller.home.is_some_and(|home| *home != cx.mount.namespace) {
        return Err(Fault::invalid("a token has its cubbyhole in its own namespace"));
    }
    Ok(format!("{key}/{path}"))
}

async fn read(_engine: &Cubbyhole, mut cx: Cx<'_>, input: AtPath) -> Result<Option<Data<Map>>, Fault> {
    if !is_name(&input.path) {
        return Ok(None);
    }
    let name = own(&cx, &input.path)?;
    let Some(bytes) = cx.view.read(&name)? else { return Ok(None) };
    Ok(Some(Data(Entry::decode(&bytes).map_err(Fault::internal)?.data)))
}

async fn list(_engine: &Cubbyhole, mut cx: Cx<'_>, input: AtPath) -> Result<Keys, Fault> {
    let directory = own(&cx, &input.path)?;
    Ok(Keys(cx.view.names(&directory, None, None)?))
}

async fn every(_engine: &Cubbyhole, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    let directory = own(&cx, &input.path)?;
    Ok(Keys(scan::names_below(&mut cx.view, &directory, input.after.as_deref(), input.limit.0).await?))
}

async fn write(_engine: &Cubbyhole, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    if input.data.is_empty() {
        return Err(Fault::invalid("missing data fields"));
    }
    if !is_name(&input.path) {
        return Err(Fault::invalid("missing path"));
    }
    let name = own(&cx, &input.path)?;
    cx.view.write(&name, &Entry { data: input.data }.encode())?;
    Ok(Nothing)
}

async fn delete(_engine: &Cubbyhole, mut cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    if !is_name(&input.path) {
        return Err(Fault::invalid("missing path"));
    }
    let name = own(&cx, &input.path)?;
    cx.view.delete(&name)?;
    Ok(Nothing)
}
