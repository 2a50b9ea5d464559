//! `metadata`: what is known of a path beside its data.
//!
//! Deliberately absent: listing (`listing`).

use std::collections::BTreeMap;

use tresor_engine::{Cx, Data, Happened, Nothing, Warned};
use tresor_model::{Body, Fault, Map};
use tresor_wire::input::{Form, Input, Seconds};

use super::records::{Config, Metadata, is_name};
use super::shown::MetadataShown;
use super::{Kv2, at_root, custom};

/// A path.
#[derive(Input)]
pub(super) struct AtPath {
    /// Where the secret is.
    #[input(path)]
    path: String,
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
    /// Demand check-and-set of every change of this.
    metadata_cas_required: Option<bool>,
    /// How often this was written when the change was decided; 0 for what is not there.
    metadata_cas: Option<i64>,
    /// Delete versions after this time; 0 takes the mount's.
    delete_version_after: Option<Seconds>,
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

type Written = Warned<Nothing>;

pub(super) async fn read(
    _kv: &Kv2,
    mut cx: Cx<'_>,
    input: AtPath,
) -> Result<Warned<Option<Data<MetadataShown>>>, Fault> {
    let known = if is_name(&input.path) { Metadata::load(&mut cx.view, &input.path)? } else { None };
    Ok(Warned(known.map(|metadata| Data(metadata.show())), at_root(&input.path)))
}

impl Metadata {
    /// Checks a change of it against what the caller says it follows, and counts it.
    fn follow(&mut self, config: &Config, cas: Option<i64>, is_new: bool) -> Result<(), Fault> {
        let refusal = match cas.map(u64::try_from) {
            None if config.metadata_cas_required || self.metadata_cas_required => {
                "metadata check-and-set parameter required for this call"
            }
            Some(cas) if is_new && cas != Ok(0) => "metadata_cas must be 0 when creating new metadata",
            Some(cas) if cas != Ok(self.metadata_version) => {
                "metadata check-and-set parameter does not match the current version"
            }
            _ => {
                self.metadata_version += 1;
                return Ok(());
            }
        };
        Err(Fault::invalid(refusal))
    }

    fn set_life(&mut self, sent: Seconds) {
        self.delete_version_after = Some(sent.0).filter(|life| !life.is_zero());
    }
}

/// Hints about switches that the mount decides.
fn ignored(config: &Config, cas_required: Option<bool>, metadata_cas_required: Option<bool>) -> Vec<String> {
    [
        ("cas_required", config.cas_required, cas_required),
        ("metadata_cas_required", config.metadata_cas_required, metadata_cas_required),
    ]
    .into_iter()
    .filter(|(_, mandated, sent)| *mandated && *sent == Some(false))
    .map(|(name, ..)| {
        format!("\"{name}\" set to false, but is mandated by backend config. This value will be ignored.")
    })
    .collect()
}

fn at(path: &str) -> String {
    format!("metadata/{path}")
}

/// Tells that what is known of a path was written.
fn tell_of_change(cx: &mut Cx<'_>, kind: &'static str, path: &str) {
    cx.view.tell(|| Happened::new(kind, at(path)).read_at(at(path)));
}

/// Nothing, with a hint, for who changes what has no name.
pub(super) async fn write(_kv: &Kv2, mut cx: Cx<'_>, input: Change) -> Result<Warned<Option<Nothing>>, Fault> {
    if input.path.is_empty() {
        return Ok(Warned(None, at_root(&input.path)));
    }
    let says_nothing = input.max_versions.is_none()
        && input.cas_required.is_none()
        && input.metadata_cas_required.is_none()
        && input.delete_version_after.is_none()
        && input.custom_metadata.is_none();
    if says_nothing {
        return Ok(Warned(Some(Nothing), Vec::new()));
    }
    let config = Config::load(&mut cx.view)?;
    let known = Metadata::load_to_change(&mut cx.view, &input.path)?;
    let is_new = known.is_none();
    let mut metadata = known.unwrap_or_else(|| Metadata::fresh(cx.now));
    metadata.follow(&config, input.metadata_cas, is_new)?;
    let warnings = ignored(&config, input.cas_required, input.metadata_cas_required);
    metadata.max_versions = input.max_versions.unwrap_or(metadata.max_versions);
    metadata.cas_required = input.cas_required.unwrap_or(metadata.cas_required);
    metadata.metadata_cas_required = input.metadata_cas_required.unwrap_or(metadata.metadata_cas_required);
    if let Some(sent) = input.delete_version_after {
        metadata.set_life(sent);
    }
    if let Some(sent) = input.custom_metadata {
        metadata.custom_metadata = custom::checked(sent)?;
    }
    metadata.updated = cx.now;
    metadata.store(&mut cx.view, &input.path)?;
    tell_of_change(&mut cx, "kv-v2/metadata-write", &input.path);
    Ok(Warned(Some(Nothing), warnings))
}

/// A field of a patch: `None` when it is not named, `Some(None)` when it is `null`.
fn named<T: Form>(changes: &Map, name: &str) -> Result<Option<Option<T>>, Fault> {
    match changes.get(name) {
        None => Ok(None),
        Some(Body::Null) => Ok(Some(None)),
        Some(sent) => {
            let read = T::read(sent).map_err(|reason| Fault::invalid(format!("field `{name}` {reason}")))?;
            Ok(Some(Some(read)))
        }
    }
}

pub(super) async fn patch(_kv: &Kv2, mut cx: Cx<'_>, input: Patch) -> Result<Option<Written>, Fault> {
    if !is_name(&input.path) {
        return Ok(None);
    }
    let Some(mut metadata) = Metadata::load_to_change(&mut cx.view, &input.path)? else { return Ok(None) };
    let config = Config::load(&mut cx.view)?;
    let changes = input.changes;
    let max_versions = named::<u64>(&changes, "max_versions")?;
    let cas_required = named::<bool>(&changes, "cas_required")?;
    let metadata_cas_required = named::<bool>(&changes, "metadata_cas_required")?;
    let life = named::<Seconds>(&changes, "delete_version_after")?;
    let custom = changes.get("custom_metadata");
    if max_versions.is_none()
        && cas_required.is_none()
        && metadata_cas_required.is_none()
        && life.is_none()
        && custom.is_none()
    {
        return Ok(Some(Warned(Nothing, Vec::new())));
    }
    metadata.follow(&config, named::<i64>(&changes, "metadata_cas")?.flatten(), false)?;
    let warnings = ignored(&config, cas_required.flatten(), metadata_cas_required.flatten());
    if let Some(sent) = max_versions {
        metadata.max_versions = sent.unwrap_or_default();
    }
    if let Some(sent) = cas_required {
        metadata.cas_required = sent.unwrap_or_default();
    }
    if let Some(sent) = metadata_cas_required {
        metadata.metadata_cas_required = sent.unwrap_or_default();
    }
    if let Some(sent) = life {
        metadata.set_life(sent.unwrap_or_default());
    }
    match custom {
        None => {}
        Some(Body::Null) => metadata.custom_metadata.clear(),
        Some(change) => metadata.custom_metadata = custom::patched(&metadata.custom_metadata, change)?,
    }
    metadata.updated = cx.now;
    metadata.store(&mut cx.view, &input.path)?;
    tell_of_change(&mut cx, "kv-v2/metadata-patch", &input.path);
    Ok(Some(Warned(Nothing, warnings)))
}

pub(super) async fn delete(_kv: &Kv2, mut cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    if let Some(metadata) = Metadata::load(&mut cx.view, &input.path)? {
        metadata.remove(&mut cx.view, &input.path)?;
        cx.view.tell(|| Happened::new("kv-v2/metadata-delete", at(&input.path)));
    }
    Ok(Nothing)
}
