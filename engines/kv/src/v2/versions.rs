//! `delete`, `undelete` and `destroy`: what becomes of single versions.

use std::time::Duration;

use tresor_engine::{Cx, Happened, Nothing};
use tresor_model::{Fault, Timestamp};
use tresor_wire::input::Input;

use super::Kv2;
use super::records::{Config, Contents, Metadata, Version};

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

/// Says more of what happened to versions of a path with these numbers.
type Words = fn(Happened, &str, String) -> Happened;

/// Changes every named version that is there, of a path whose versions live as long as it says; naming others is fine.
fn change(
    cx: &mut Cx<'_>,
    input: &Versions,
    refusal: &'static str,
    (kind, told): (&'static str, Words),
    mut change: impl FnMut(&mut Version, Timestamp, Option<Duration>),
) -> Result<Vec<(u64, Version)>, Fault> {
    let named = input.versions.as_ref().filter(|versions| !versions.is_empty());
    let named = named.ok_or_else(|| Fault::invalid(refusal))?;
    let Some(mut metadata) = Metadata::load_to_change(&mut cx.view, &input.path)? else { return Ok(Vec::new()) };
    let life = metadata.delete_version_after;
    let mut changed = Vec::new();
    for number in named {
        if let Some(version) = metadata.versions.get_mut(number) {
            change(version, cx.now, life);
            changed.push((*number, *version));
        }
    }
    metadata.store(&mut cx.view, &input.path)?;
    cx.view.tell(|| {
        let asked = kind.rsplit_once('/').map_or(kind, |(_, asked)| asked);
        let numbers: Vec<String> = named.iter().map(u64::to_string).collect();
        told(metadata.happened(kind, asked, &input.path), &input.path, format!("[{}]", numbers.join(",")))
    });
    Ok(changed)
}

pub(super) async fn delete(_kv: &Kv2, mut cx: Cx<'_>, input: Versions) -> Result<Nothing, Fault> {
    let told = |happened: Happened, _: &str, numbers| happened.with("deleted_versions", numbers);
    change(&mut cx, &input, NO_NUMBER, ("kv-v2/delete", told), |version, now, _| {
        if version.is_readable(now) {
            version.deleted = Some(now);
            version.is_deleted = true;
        }
    })?;
    Ok(Nothing)
}

pub(super) async fn undelete(_kv: &Kv2, mut cx: Cx<'_>, input: Versions) -> Result<Nothing, Fault> {
    let told = |happened: Happened, path: &str, numbers| {
        happened.read_at(format!("data/{path}")).with("undeleted_versions", numbers)
    };
    let config = Config::load(&mut cx.view)?;
    change(&mut cx, &input, NO_NUMBER, ("kv-v2/undelete", told), |version, now, of_path| {
        if !version.destroyed {
            // What is there again lives as long as what is written now.
            version.deleted = config.life(of_path).map(|life| now.plus(life));
            version.is_deleted = false;
        }
    })?;
    Ok(Nothing)
}

pub(super) async fn destroy(_kv: &Kv2, mut cx: Cx<'_>, input: Versions) -> Result<Nothing, Fault> {
    let told = |happened: Happened, _: &str, numbers| happened.with("destroyed_versions", numbers);
    let refusal = "no version number provided";
    let destroyed = change(&mut cx, &input, refusal, ("kv-v2/destroy", told), |version, _, _| {
        version.destroyed = true;
    })?;
    for (number, version) in destroyed {
        Contents::remove(&mut cx.view, &input.path, number, &version)?;
    }
    Ok(Nothing)
}
