//! `sys/locked-users`: names that were locked after wrong passwords, and how they are when a mount is tuned.
//!
//! Deliberately absent: counting and locking (`tresor_core::lockout`).

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_core::lockout::{KINDS, Rules};
use tresor_engine::{Cx, Data, Nothing};
use tresor_model::ids::MountId;
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::input::{Form, Input, Seconds};
use tresor_wire::output::Output;

use super::Sys;

/// Of which mount.
#[derive(Input)]
pub(super) struct Which {
    /// The accessor of an auth method.
    #[input(query)]
    mount_accessor: Option<String>,
}

/// A name.
#[derive(Input)]
pub(super) struct Name {
    /// The accessor of its auth method.
    #[input(path)]
    mount_accessor: String,
    /// The name as the method knows it.
    #[input(path)]
    alias_identifier: String,
}

/// The names that are locked.
#[derive(Output)]
pub(super) struct Locked {
    /// By namespace, and there by mount.
    by_namespace: Vec<Body>,
    /// How many there are.
    total: u64,
}

pub(super) async fn list(sys: &Sys, cx: Cx<'_>, input: Which) -> Result<Data<Locked>, Fault> {
    let wanted = input.mount_accessor.filter(|accessor| !accessor.is_empty());
    let locked: BTreeMap<MountId, Vec<String>> = sys.handles.lockouts.locked(cx.now);
    let (mut mounts, mut total) = (Vec::new(), 0_u64);
    let space = sys.space(&cx)?;
    for mount in space.mounts.table().iter() {
        let accessor = mount.record.accessor.as_str();
        let names = locked.get(&mount.record.id).filter(|_| wanted.as_deref().is_none_or(|wanted| wanted == accessor));
        if let Some(names) = names {
            let counts = u64::try_from(names.len()).unwrap_or(u64::MAX);
            total = total.saturating_add(counts);
            mounts.push(Body::from(map! {
                "mount_accessor" => accessor,
                "counts" => counts,
                "alias_identifiers" => names.clone(),
            }));
        }
    }
    let root = map! {
        "namespace_id" => space.id.as_str(),
        "namespace_path" => space.path.as_str(),
        "counts" => total,
        "mount_accessors" => Body::List(mounts),
    };
    Ok(Data(Locked { by_namespace: vec![Body::from(root)], total }))
}

/// Unlocking what is not locked is fine.
pub(super) async fn unlock(sys: &Sys, cx: Cx<'_>, input: Name) -> Result<Nothing, Fault> {
    let table = sys.space(&cx)?.mounts.table();
    if let Some(mount) = table.with_accessor(&input.mount_accessor) {
        sys.handles.lockouts.unlock(&mount.record.id, &input.alias_identifier);
    }
    Ok(Nothing)
}

/// The rules of a mount with what was sent; what is not sent stays.
pub(super) fn rules(kind: &str, known: Option<Rules>, sent: &Map) -> Result<Rules, Fault> {
    if !KINDS.contains(&kind) {
        return Err(Fault::invalid(format!("tuning of user lockout configuration for auth type {kind:?} not allowed")));
    }
    let mut rules = known.unwrap_or_default();
    for (name, value) in sent.iter() {
        let wrong = |what: &str| Fault::invalid(format!("unable to parse user lockout {what}"));
        let seconds = |what: &str| -> Result<Duration, Fault> {
            Seconds::read(value).map(|seconds| seconds.0).map_err(|_| wrong(what))
        };
        match name {
            "lockout_threshold" => rules.threshold = u64::read(value).map_err(|_| wrong("threshold"))?,
            "lockout_duration" => rules.duration = seconds("duration")?,
            "lockout_counter_reset_duration" | "lockout_counter_reset" => {
                rules.counter_reset = seconds("counter reset duration")?;
            }
            "lockout_disable" | "disable_lockout" => {
                rules.is_disabled = bool::read(value).map_err(|_| wrong("disable"))?;
            }
            _ => {}
        }
    }
    let standard = Rules::default();
    if rules.threshold == 0 {
        rules.threshold = standard.threshold;
    }
    for (given, standard) in
        [(&mut rules.duration, standard.duration), (&mut rules.counter_reset, standard.counter_reset)]
    {
        if given.is_zero() {
            *given = standard;
        }
    }
    Ok(rules)
}
