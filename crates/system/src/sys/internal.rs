//! `sys/internal/ui/mounts`: what the CLI and UIs ask before they know a mount's type.
//!
//! Filtered by the caller's policies; without a token only mounts that say `listing_visibility=unauth` are shown, and
//! a path that the caller cannot reach looks the same whether it exists or not (LST-03).

use tresor_core::mounts::Mount;
use tresor_core::mounts::record::StoredClass;
use tresor_core::namespaces::Permissions;
use tresor_engine::{Cx, Data};
use tresor_model::{Fault, Map, map};
use tresor_policy::ResultantRule;
use tresor_wire::input::EmptyInput;
use tresor_wire::output::{Output, Shown};

use super::Sys;
use super::mounts::{AtPath, MountShown, entry, options};

/// The mounts that the caller may see, by path.
#[derive(Output)]
pub(super) struct Visible {
    /// Secrets engines.
    secret: Map,
    /// Auth methods.
    auth: Map,
}

/// What the caller may do, as a UI decides what to show.
#[derive(Output)]
pub(super) struct ResultantAcl {
    /// Whether it is everything.
    root: bool,
    /// By path.
    #[output(optional)]
    exact_paths: Option<Map>,
    /// By the beginning of a path, or by a pattern with `+`.
    #[output(optional)]
    glob_paths: Option<Map>,
}

pub(super) async fn resultant_acl(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<ResultantAcl>, Fault> {
    let space = sys.space(&cx)?;
    let permissions = sys.permissions(&cx, &space);
    let set = permissions.set();
    if set.is_root() {
        return Ok(Data(ResultantAcl { root: true, exact_paths: None, glob_paths: None }));
    }
    let (mut exact, mut globs) = (Map::new(), Map::new());
    for rule in set.patterns() {
        // What the rules of a token from above are about in this namespace.
        let Some(pattern) = permissions.within(rule.pattern) else { continue };
        let shown = rule_shown(&rule);
        match pattern.strip_suffix('*') {
            Some(beginning) => globs.insert(beginning, shown),
            None if pattern.split('/').any(|segment| segment == "+") => globs.insert(pattern, shown),
            None => exact.insert(pattern, shown),
        };
    }
    Ok(Data(ResultantAcl { root: false, exact_paths: Some(exact), glob_paths: Some(globs) }))
}

/// A rule, with what it says of parameters and of wrapping only where it says something.
fn rule_shown(rule: &ResultantRule<'_>) -> Map {
    let words: Vec<String> = rule.capabilities.iter().map(|one| one.name().to_owned()).collect();
    let mut shown = map! { "capabilities" => words };
    let seconds = |ttl: u64| i64::try_from(ttl).unwrap_or(i64::MAX);
    for (name, ttl) in [("min_wrapping_ttl", rule.min_wrapping_ttl), ("max_wrapping_ttl", rule.max_wrapping_ttl)] {
        if ttl > 0 {
            shown.insert(name, seconds(ttl));
        }
    }
    for (name, parameters) in [("allowed_parameters", rule.allowed), ("denied_parameters", rule.denied)] {
        if !parameters.is_empty() {
            let values: Map = parameters.iter().map(|(name, values)| (name.clone(), values.clone().into())).collect();
            shown.insert(name, values);
        }
    }
    if !rule.required.is_empty() {
        shown.insert("required_parameters", rule.required.iter().cloned().collect::<Vec<String>>());
    }
    shown
}

pub(super) async fn mounts(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Visible>, Fault> {
    // Who shows a token that is none is told so, instead of what everybody may see.
    if cx.caller.held.is_refused() {
        return Err(Fault::denied());
    }
    let (mut secret, mut auth) = (Map::new(), Map::new());
    let space = sys.space(&cx)?;
    let permissions = sys.permissions(&cx, &space);
    let known = cx.caller.token_key.is_some();
    for mount in space.mounts.table().iter() {
        if !is_visible(mount, known, &permissions) {
            continue;
        }
        let shown = if known {
            entry(mount, None).into_map()
        } else {
            map! {
                "type" => mount.record.kind.as_str(),
                "description" => mount.record.description.as_str(),
                "options" => options(&mount.record).into_body(),
            }
        };
        let name = mount.record.path_in_class().to_owned();
        if mount.record.class == StoredClass::Auth {
            auth.insert(name, shown)
        } else {
            secret.insert(name, shown)
        };
    }
    Ok(Data(Visible { secret, auth }))
}

/// Whether a caller may see a mount: with a token by its policies, without one when the mount says so.
pub(super) fn is_visible(mount: &Mount, is_known: bool, permissions: &Permissions) -> bool {
    let is_public = mount.record.tuning.listing_visibility == "unauth";
    is_public || is_known && permissions.reaches_below(&mount.record.path)
}

pub(super) async fn mount_of(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Data<MountShown>, Fault> {
    let space = sys.space(&cx)?;
    let table = space.mounts.table();
    let permissions = sys.permissions(&cx, &space);
    let path = input.path.trim_start_matches('/');
    let found = table.find(path).map(|(mount, _)| mount);
    let reachable = found.filter(|mount| may_see(mount, path, &permissions));
    let mount = reachable.ok_or_else(Fault::denied)?;
    Ok(Data(entry(mount, None).at(mount)))
}

fn may_see(mount: &Mount, path: &str, permissions: &Permissions) -> bool {
    permissions.reaches_below(&mount.record.path) || permissions.reaches_below(path)
}
