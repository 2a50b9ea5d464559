//! `delete`, `undelete` and `destroy`: what becomes of single versions.

use tresor_engine::{Cx, Nothing};
use tresor_model::{Fault, Timestamp};
use tresor_wire::input::Input;

use super::Kv2;
use super::records::{Contents, Metadata, Version};

/// Versions of a path.
#[derive(Input)]
pub(super) struct Versions {
    /// Where the secret is.
    #[input(path)]
    path: String,
    /// Which versions.
    versions: Option<Vec<u64>>,
}

/// What clients are told that name no version.
const NO_NUMBER: &str = "No version number provided";

/// Changes every named version that is there; naming others is fine.
fn change(
    cx: &mut Cx<'_>,
    input: &Versions,
    refusal: &'static str,
    mut change: impl FnMut(&mut Version, Timestamp),
) -> Result<Vec<(u64, Version)>, Fault> {
    let named = input.versions.as_ref().filter(|versions| !versions.is_empty());
    let named = named.ok_or_else(|| Fault::invalid(refusal))?;
    let Some(mut metadata) = Metadata::load_to_change(&mut cx.view, &input.path)? else { return Ok(Vec::new()) };
    let mut changed = Vec::new();
    for number in named {
        if let Some(version) = metadata.versions.get_mut(number) {
            change(version, cx.now);
            changed.push((*number, *version));
        }
    }
    metadata.store(&mut cx.view, &input.path)?;
    Ok(changed)
}

pub(super) async fn delete(_kv: &Kv2, mut cx: Cx<'_>, input: Versions) -> Result<Nothing, Fault> {
    change(&mut cx, &input, NO_NUMBER, |version, now| {
        if version.is_readable(now) {
            version.deleted = Some(now);
            version.is_deleted = true;
        }
    })?;
    Ok(Nothing)
}

pub(super) async fn undelete(_kv: &Kv2, mut cx: Cx<'_>, input: Versions) -> Result<Nothing, Fault> {
    change(&mut cx, &input, NO_NUMBER, |version, _| {
        if !version.destroyed {
            version.deleted = None;
            version.is_deleted = false;
        }
    })?;
    Ok(Nothing)
}

pub(super) async fn destroy(_kv: &Kv2, mut cx: Cx<'_>, input: Versions) -> Result<Nothing, Fault> {
    let destroyed = change(&mut cx, &input, "no version number provided", |version, _| version.destroyed = true)?;
    for (number, version) in destroyed {
        Contents::remove(&mut cx.view, &input.path, number, &version)?;
    }
    Ok(Nothing)
}
