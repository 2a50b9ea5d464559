//! `sys/internal/specs/openapi`: the API as a document, from the declarations that requests are routed by.
//!
//! Whoever asks sees the mounts that they may see, as in `sys/internal/ui/mounts`, and beside `sys/` what answers everybody. Deliberately absent: how a route is
//! described (`tresor_core::openapi`).

use std::collections::BTreeMap;

use tresor_core::mounts::Mount;
use tresor_core::openapi;
use tresor_engine::Cx;
use tresor_engine::answer::Raw;
use tresor_model::{Body, Fault, Map};
use tresor_wire::input::Input;
use tresor_wire::json::encode_map;

use super::Sys;
use super::internal::is_visible;
use crate::always::ROUTES;

/// How many mounts are described at most, one by one.
const MOUNTS_MAX: usize = 500;

/// How the document is to be.
#[derive(Input)]
pub(super) struct Wanted {
    /// Mounts of one kind are described once, with the mount's path as a parameter.
    #[input(query, default = "false")]
    generic_mount_paths: bool,
    /// Part of the reference's names for operations; there are none here.
    #[input(query)]
    context: Option<String>,
}

pub(super) async fn document(sys: &Sys, cx: Cx<'_>, input: Wanted) -> Result<Raw, Fault> {
    let _ = input.context;
    let space = sys.space(&cx)?;
    let permissions = sys.permissions(&cx, &space);
    let is_known = cx.caller.token_key.is_some();
    let table = space.mounts.table();
    let mut paths: BTreeMap<String, Map> = BTreeMap::new();
    let visible = table.iter().filter(|mount| is_visible(mount, is_known, &permissions));
    for mount in visible.take(MOUNTS_MAX) {
        let Some(engine) = space.mounts.engine(mount) else { continue };
        let at = if input.generic_mount_paths { generic(mount) } else { mount.record.path.clone() };
        for route in engine.every_route() {
            paths.entry(openapi::path(route, &at)).or_insert_with(|| openapi::described(route, &at));
        }
    }
    let sees_own = |mount: &Mount| mount.record.path == "sys/" && is_visible(mount, is_known, &permissions);
    if space.is_root() && table.iter().any(|mount| sees_own(mount)) {
        for route in ROUTES {
            let there: Vec<_> = ROUTES.iter().filter(|other| other.path == route.path).collect();
            paths.entry(format!("/{}", route.path)).or_insert_with(|| openapi::described_always(&there));
        }
    }
    let paths: Map = paths.into_iter().map(|(path, described)| (path, Body::from(described))).collect();
    let document = openapi::document(paths);
    let mut bytes = Vec::new();
    encode_map(&document, &mut bytes);
    Ok(Raw { content_type: "application/json", bytes })
}

/// The path of a mount whose place clients are to fill in; the server's own stay where they are.
fn generic(mount: &Mount) -> String {
    let record = &mount.record;
    let own = ["sys/", "cubbyhole/", "auth/token/"];
    match record.path.strip_suffix(record.path_in_class()) {
        Some(class) if !own.contains(&record.path.as_str()) => format!("{class}{{{}_mount_path}}/", record.kind),
        _ => record.path.clone(),
    }
}
