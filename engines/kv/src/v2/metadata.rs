//! `metadata`: what is known of a path, and the listing of paths.

use std::collections::BTreeMap;

use tresor_engine::{Cx, Data, Keys, Nothing};
use tresor_model::{Body, Fault, Map};
use tresor_wire::input::{Form, Input, Limit, SignedSeconds};

use super::Kv2;
use super::config::life;
use super::records::{Metadata, is_name};
use super::shown::MetadataShown;

/// Bounds of custom metadata.
const CUSTOM_COUNT_MAX: usize = 64;
const CUSTOM_KEY_BYTES_MAX: usize = 128;
const CUSTOM_VALUE_BYTES_MAX: usize = 512;

/// A path.
#[derive(Input)]
pub(super) struct AtPath {
    /// Where the secret is.
    #[input(path)]
    path: String,
}

/// A page of a directory.
#[derive(Input)]
pub(super) struct Page {
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

/// What to change; what is not sent stays.
#[derive(Input)]
pub(super) struct Change {
    /// Where the secret is.
    #[input(path)]
    path: String,
    /// How many versions to keep; 0 takes the mount's.
    max_versions: Option<u64>,
    /// Demand check-and-set of every write.
    cas_required: Option<bool>,
    /// Delete versions after this time; negative or 0 never does.
    delete_version_after: Option<SignedSeconds>,
    /// Anything people want to know.
    custom_metadata: Option<BTreeMap<String, String>>,
}

/// What to change as a merge patch: a `null` goes back to the default.
#[derive(Input)]
pub(super) struct Patch {
    /// Where the secret is.
    #[input(path)]
    path: String,
    /// The patch.
    #[input(rest)]
    changes: Map,
}

pub(super) async fn read(_kv: &Kv2, mut cx: Cx<'_>, input: AtPath) -> Result<Option<Data<MetadataShown>>, Fault> {
    if !is_name(&input.path) {
        return Ok(None);
    }
    Ok(Metadata::load(&mut cx.view, &input.path)?.map(|metadata| Data(metadata.show())))
}

pub(super) async fn list(_kv: &Kv2, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    let directory = format!("metadata/{}", input.path);
    Ok(Keys(cx.view.names(&directory, input.after.as_deref(), input.limit.0)?))
}

fn checked_custom(custom: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Fault> {
    let too_large = custom.len() > CUSTOM_COUNT_MAX
        || custom.iter().any(|(name, value)| {
            name.is_empty()
                || name.len() > CUSTOM_KEY_BYTES_MAX
                || value.is_empty()
                || value.len() > CUSTOM_VALUE_BYTES_MAX
        });
    if too_large {
        return Err(Fault::invalid(
            "custom_metadata validation failed: at most 64 entries, keys of 1 to 128 and values of 1 to 512 bytes",
        ));
    }
    Ok(custom)
}

pub(super) async fn write(_kv: &Kv2, mut cx: Cx<'_>, input: Change) -> Result<Nothing, Fault> {
    let known = Metadata::load_to_change(&mut cx.view, &input.path)?;
    let mut metadata = known.unwrap_or_else(|| Metadata::fresh(cx.now));
    metadata.max_versions = input.max_versions.unwrap_or(metadata.max_versions);
    metadata.cas_required = input.cas_required.unwrap_or(metadata.cas_required);
    if let Some(sent) = input.delete_version_after {
        metadata.delete_version_after = Some(life(sent)).filter(|life| !life.is_zero());
    }
    if let Some(custom) = input.custom_metadata {
        metadata.custom_metadata = checked_custom(custom)?;
    }
    metadata.updated = cx.now;
    metadata.store(&mut cx.view, &input.path)?;
    Ok(Nothing)
}

pub(super) async fn patch(_kv: &Kv2, mut cx: Cx<'_>, input: Patch) -> Result<Option<Nothing>, Fault> {
    if !is_name(&input.path) {
        return Ok(None);
    }
    let Some(mut metadata) = Metadata::load_to_change(&mut cx.view, &input.path)? else { return Ok(None) };
    let wrong = |name: &str, reason: &str| Fault::invalid(format!("field `{name}` {reason}"));
    for (name, change) in input.changes {
        let is_null = change == Body::Null;
        match name.as_str() {
            "max_versions" if is_null => metadata.max_versions = 0,
            "max_versions" => metadata.max_versions = u64::read(&change).map_err(|reason| wrong(&name, reason))?,
            "cas_required" if is_null => metadata.cas_required = false,
            "cas_required" => metadata.cas_required = bool::read(&change).map_err(|reason| wrong(&name, reason))?,
            "delete_version_after" if is_null => metadata.delete_version_after = None,
            "delete_version_after" => {
                let sent = SignedSeconds::read(&change).map_err(|reason| wrong(&name, reason))?;
                metadata.delete_version_after = Some(life(sent)).filter(|life| !life.is_zero());
            }
            "custom_metadata" if is_null => metadata.custom_metadata.clear(),
            "custom_metadata" => patch_custom(&mut metadata, &change)?,
            _ => {}
        }
    }
    metadata.updated = cx.now;
    metadata.store(&mut cx.view, &input.path)?;
    Ok(Some(Nothing))
}

fn patch_custom(metadata: &mut Metadata, change: &Body) -> Result<(), Fault> {
    let changes = change.as_map().ok_or_else(|| Fault::invalid("field `custom_metadata` must be a map"))?;
    let mut custom = metadata.custom_metadata.clone();
    for (name, value) in changes.iter() {
        if *value == Body::Null {
            custom.remove(name);
        } else {
            let text = String::read(value).map_err(|_| Fault::invalid("values of `custom_metadata` are strings"))?;
            custom.insert(name.to_owned(), text);
        }
    }
    metadata.custom_metadata = checked_custom(custom)?;
    Ok(())
}

pub(super) async fn delete(_kv: &Kv2, mut cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    if let Some(metadata) = Metadata::load(&mut cx.view, &input.path)? {
        metadata.remove(&mut cx.view, &input.path)?;
    }
    Ok(Nothing)
}
