//! `data`: reading, writing, patching and deleting the newest version (reading: any version).

use tresor_engine::{Cx, Data, Found, Nothing, Warned};
use tresor_model::{Body, Fault, Map};
use tresor_wire::input::{Form, Input};
use tresor_wire::output::Output;

use super::merge::merge;
use super::records::{Config, Contents, Metadata, is_name};
use super::shown::VersionShown;
use super::{Kv2, at_root};

/// A version of a path.
#[derive(Input)]
pub(super) struct Read {
    /// Where the secret is.
    #[input(path)]
    path: String,
    /// Which version; 0 is the newest.
    #[input(query, default = "0")]
    version: u64,
}

/// A version of a path, down to a depth.
#[derive(Input)]
pub(super) struct Subkeys {
    /// Where the secret is.
    #[input(path)]
    path: String,
    /// Which version; 0 is the newest.
    #[input(query, default = "0")]
    version: u64,
    /// How deep; 0 is all the way.
    #[input(query, default = "0")]
    depth: u64,
}

/// A version to write.
#[derive(Input)]
pub(super) struct Write {
    /// Where the secret is.
    #[input(path)]
    path: String,
    /// The secret.
    data: Option<Map>,
    /// `cas`: the version that this write follows.
    options: Option<Map>,
    /// Kept for clients that send it at the top.
    #[input(query, default = "0")]
    #[expect(dead_code, reason = "recognised, so that it gives no warning; a write makes its own version")]
    version: u64,
}

/// A path.
#[derive(Input)]
pub(super) struct AtPath {
    /// Where the secret is.
    #[input(path)]
    path: String,
}

/// A version of a secret.
#[derive(Output)]
pub(super) struct Secret {
    /// The secret; `null` when the version is gone.
    #[output(secret)]
    data: Option<Map>,
    /// What is known of the version.
    metadata: Map,
}

/// The structure of a version.
#[derive(Output)]
pub(super) struct Structure {
    /// The names; `null` when the version is gone.
    subkeys: Option<Map>,
    /// What is known of the version.
    metadata: Map,
}

fn find(cx: &mut Cx<'_>, path: &str, version: u64) -> Result<Found<Secret>, Fault> {
    if !is_name(path) {
        return Ok(Found::Nothing);
    }
    let Some(metadata) = Metadata::load(&mut cx.view, path)? else { return Ok(Found::Nothing) };
    let number = if version == 0 { metadata.current_version } else { version };
    let (Some(version), Some(shown)) = (metadata.versions.get(&number), metadata.show_version(number)) else {
        return Ok(Found::Nothing);
    };
    let shown = shown.into_map();
    if !version.is_readable(cx.now) {
        return Ok(Found::Gone(Secret { data: None, metadata: shown }));
    }
    Ok(Found::There(Secret { data: Some(Contents::load(&mut cx.view, path, number, version)?), metadata: shown }))
}

pub(super) async fn read(_kv: &Kv2, mut cx: Cx<'_>, input: Read) -> Result<Warned<Found<Secret>>, Fault> {
    Ok(Warned(find(&mut cx, &input.path, input.version)?, at_root(&input.path)))
}

pub(super) async fn subkeys(_kv: &Kv2, mut cx: Cx<'_>, input: Subkeys) -> Result<Found<Structure>, Fault> {
    let structure = |secret: Secret| Structure {
        subkeys: secret.data.map(|data| without_values(&data, input.depth)),
        metadata: secret.metadata,
    };
    Ok(match find(&mut cx, &input.path, input.version)? {
        Found::Nothing => Found::Nothing,
        Found::Gone(secret) => Found::Gone(structure(secret)),
        Found::There(secret) => Found::There(structure(secret)),
    })
}

/// Names without values, down to a depth (0 is all the way).
fn without_values(data: &Map, depth: u64) -> Map {
    let inner = |body: &Body| match body {
        Body::Map(map) if depth != 1 && !map.is_empty() => Body::from(without_values(map, depth.saturating_sub(1))),
        _ => Body::Null,
    };
    data.iter().map(|(name, body)| (name.to_owned(), inner(body))).collect()
}

/// Checks a write against the version that it says it follows.
fn check_and_set(options: Option<&Map>, required: bool, current: u64) -> Result<(), Fault> {
    match options.and_then(|options| options.get("cas")).filter(|cas| **cas != Body::Null) {
        Some(cas) => {
            let cas = i64::read(cas).map_err(|_| Fault::invalid("error parsing check-and-set parameter"))?;
            if u64::try_from(cas) == Ok(current) {
                return Ok(());
            }
            Err(Fault::invalid("check-and-set parameter did not match the current version"))
        }
        None if required => Err(Fault::invalid("check-and-set parameter required for this call")),
        None => Ok(()),
    }
}

fn written(metadata: &Metadata) -> Result<VersionShown, Fault> {
    let shown = metadata.show_version(metadata.current_version);
    shown.ok_or_else(|| Fault::internal("a version that was written is not there"))
}

/// Tells of a version that was added.
fn tell_of_new(cx: &mut Cx<'_>, metadata: &Metadata, kind: &'static str, path: &str) {
    cx.view.tell(|| metadata.happened(kind, "data", path).read_at(format!("data/{path}")));
}

pub(super) async fn write(_kv: &Kv2, mut cx: Cx<'_>, input: Write) -> Result<Data<VersionShown>, Fault> {
    let data = input.data.ok_or_else(|| Fault::invalid("no data provided"))?;
    let config = Config::load(&mut cx.view)?;
    let known = Metadata::load_to_change(&mut cx.view, &input.path)?;
    let mut metadata = known.unwrap_or_else(|| Metadata::fresh(cx.now));
    let required = config.cas_required || metadata.cas_required;
    check_and_set(input.options.as_ref(), required, metadata.current_version)?;
    let now = cx.now;
    metadata.add_version(&mut cx.view, &input.path, &config, data, now)?;
    tell_of_new(&mut cx, &metadata, "kv-v2/data-write", &input.path);
    written(&metadata).map(Data)
}

pub(super) async fn patch(_kv: &Kv2, mut cx: Cx<'_>, input: Write) -> Result<Found<VersionShown>, Fault> {
    let change = input.data.ok_or_else(|| Fault::invalid("no data provided"))?;
    let known = if is_name(&input.path) { Metadata::load_to_change(&mut cx.view, &input.path)? } else { None };
    let Some(mut metadata) = known else { return Ok(Found::Nothing) };
    let config = Config::load(&mut cx.view)?;
    let current = metadata.current_version;
    check_and_set(input.options.as_ref(), config.cas_required || metadata.cas_required, current)?;
    let (Some(version), Some(shown)) = (metadata.versions.get(&current), metadata.show_version(current)) else {
        return Ok(Found::Nothing);
    };
    if !version.is_readable(cx.now) {
        return Ok(Found::Gone(shown));
    }
    let mut data = Contents::load(&mut cx.view, &input.path, current, version)?;
    merge(&mut data, change);
    let now = cx.now;
    metadata.add_version(&mut cx.view, &input.path, &config, data, now)?;
    tell_of_new(&mut cx, &metadata, "kv-v2/data-patch", &input.path);
    written(&metadata).map(Found::There)
}

pub(super) async fn delete(_kv: &Kv2, mut cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    let Some(mut metadata) = Metadata::load_to_change(&mut cx.view, &input.path)? else { return Ok(Nothing) };
    let (now, current) = (cx.now, metadata.current_version);
    if let Some(version) = metadata.versions.get_mut(&current).filter(|version| version.is_readable(now)) {
        version.deleted = Some(now);
        version.is_deleted = true;
        metadata.store(&mut cx.view, &input.path)?;
        cx.view.tell(|| metadata.happened("kv-v2/data-delete", "data", &input.path));
    }
    Ok(Nothing)
}
