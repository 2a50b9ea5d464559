//! `sys/mounts/PATH/tune` and `sys/auth/PATH/tune`: shows effective settings, changes only what is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_core::leases::secrets::Means;
use tresor_core::lockout;
use tresor_core::mounts::Behind;
use tresor_core::mounts::record::MountRecord;
use tresor_engine::{Class, Cx, HeaderUse, Mirrored, Nothing, Warned, Widened};
use tresor_model::{Fault, Map};
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::mounts::{AtPath, find};
use super::tuning::{self, Changes};
use super::{Sys, locked_users};

/// What to change; what is not sent stays.
#[derive(Input)]
pub(super) struct Tune {
    /// Where it is mounted.
    #[input(path)]
    path: String,
    /// What to change of how it is tuned.
    #[input(flatten)]
    changes: Changes,
    /// What it is for.
    description: Option<String>,
    /// Options such as `version`.
    options: Option<BTreeMap<String, String>>,
    /// When names are locked after wrong passwords.
    user_lockout_config: Option<Map>,
}

/// How a mount is tuned; what was never set is left out.
#[derive(Output)]
pub(super) struct TuneShown {
    /// What it is for.
    description: String,
    /// Default life of leases, in effect.
    default_lease_ttl: Duration,
    /// Longest life of leases, in effect.
    max_lease_ttl: Duration,
    /// Kept for clients.
    force_no_cache: bool,
    /// Options such as `version`.
    #[output(optional)]
    options: Option<BTreeMap<String, String>>,
    /// Whether it takes entropy from outside.
    #[output(optional)]
    external_entropy_access: Option<bool>,
    /// The version that was asked for.
    #[output(optional)]
    plugin_version: Option<String>,
    /// Everything else.
    #[output(flatten)]
    tuned: tuning::Shown,
    /// After how many wrong passwords a name is locked, where that was tuned.
    #[output(optional)]
    user_lockout_threshold: Option<u64>,
    /// For how long.
    #[output(optional)]
    user_lockout_duration: Option<Duration>,
    /// How long wrong passwords count.
    #[output(optional)]
    user_lockout_counter_reset_duration: Option<Duration>,
    /// Nobody is locked.
    #[output(optional)]
    user_lockout_disable: Option<bool>,
}

pub(super) async fn read_mount(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Mirrored<TuneShown>, Fault> {
    let (class, path) = of_either_class(&input.path);
    read(sys, cx, path, class)
}

pub(super) async fn read_auth(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Mirrored<TuneShown>, Fault> {
    read(sys, cx, &input.path, Class::Auth)
}

pub(super) async fn write_mount(sys: &Sys, cx: Cx<'_>, input: Tune) -> Result<Warned<Nothing>, Fault> {
    let (class, path) = of_either_class(&input.path);
    let path = path.to_owned();
    write(sys, cx, Tune { path, ..input }, class)
}

pub(super) async fn write_auth(sys: &Sys, cx: Cx<'_>, input: Tune) -> Result<Warned<Nothing>, Fault> {
    write(sys, cx, input, Class::Auth)
}

/// `sys/mounts/auth/NAME/tune` tunes auth methods too: it is what the command line asks, and needs no `sudo`.
fn of_either_class(path: &str) -> (Class, &str) {
    let path = path.trim_start_matches('/');
    path.strip_prefix("auth/").map_or((Class::Secret, path), |name| (Class::Auth, name))
}

fn nothing_at(path: &str) -> Fault {
    Fault::invalid(format!("no mount at path {:?}", path.trim_matches('/')))
}

fn read(sys: &Sys, mut cx: Cx<'_>, path: &str, class: Class) -> Result<Mirrored<TuneShown>, Fault> {
    let table = sys.space(&cx)?.mounts.table();
    let txn = cx.view.widen(Widened::assertion());
    let mount = find(&table, class, path).ok_or_else(|| nothing_at(path))?;
    let lockout = lockout::tuned(txn, &mount.record.id)?;
    let (record, tuning) = (&mount.record, &mount.record.tuning);
    Ok(Mirrored(TuneShown {
        description: mount.record.description.clone(),
        default_lease_ttl: mount.facts.default_lease_ttl,
        max_lease_ttl: mount.facts.max_lease_ttl,
        force_no_cache: tuning.force_no_cache,
        options: (!record.options.is_empty()).then(|| record.options.clone()),
        external_entropy_access: record.external_entropy_access.then_some(true),
        plugin_version: (!tuning.plugin_version.is_empty()).then(|| tuning.plugin_version.clone()),
        tuned: tuning::Shown::of(record),
        user_lockout_threshold: lockout.map(|rules| rules.threshold),
        user_lockout_duration: lockout.map(|rules| rules.duration),
        user_lockout_counter_reset_duration: lockout.map(|rules| rules.counter_reset),
        user_lockout_disable: lockout.map(|rules| rules.is_disabled),
    }))
}

fn write(sys: &Sys, mut cx: Cx<'_>, input: Tune, class: Class) -> Result<Warned<Nothing>, Fault> {
    let space = sys.space(&cx)?;
    let mounts = &space.mounts;
    let (now, entropy, workers, ways) = (cx.now, cx.entropy, cx.workers, cx.ways());
    let txn = cx.view.widen(Widened::assertion());
    let table = mounts.table();
    let mount = find(&table, class, &input.path).ok_or_else(|| nothing_at(&input.path))?;
    let mut record = mounts.standing(txn, mount)?;
    let uses = match &mount.engine {
        Behind::Engine(engine) => engine.header_use(),
        Behind::Server | Behind::Moving | Behind::Quarantined(_) => HeaderUse::default(),
    };
    let mut warnings = input.changes.lets_through().without_effect(&record.kind, uses);
    refuse_of_the_server(&record.path, &input)?;
    if let Some(sent) = &input.user_lockout_config {
        let known = lockout::tuned(txn, &record.id)?;
        lockout::tune(txn, &record.id, locked_users::rules(&record.kind, known, sent)?)?;
    }
    let before = record.clone();
    change(&mut record, input, class)?;
    let facts = mounts.facts(&record);
    if facts.default_lease_ttl > facts.max_lease_ttl {
        return Err(Fault::invalid("backend tune default lease TTL greater than the effective max lease TTL"));
    }
    let reshapes = mounts.reshapes(&before, &record)?;
    // What cannot be loaded as it is may stay so: it may be described, and mended in steps.
    if !matches!(mount.engine, Behind::Quarantined(_)) {
        mounts.check(&record)?;
    }
    if reshapes {
        warnings.push(upgrading(&before, &record));
        mounts.take_over(Means { txn, now, entropy, workers, ways }, &before, record)?;
    } else {
        mounts.write(txn, &record)?;
    }
    Ok(Warned(Nothing, warnings))
}

/// What is told when a mount is to have another version.
fn upgrading(before: &MountRecord, after: &MountRecord) -> String {
    let version = |record: &MountRecord| record.options.get("version").cloned().unwrap_or_else(|| "1".to_owned());
    format!(
        "Upgrading mount from version {} to version {}. This mount will be unavailable for a brief period and will resume \
         service shortly.",
        version(before),
        version(after)
    )
}

/// Of the mounts that belong to the server as a whole, only what audit devices show can be tuned.
fn refuse_of_the_server(path: &str, input: &Tune) -> Result<(), Fault> {
    if !["sys/", "cubbyhole/"].contains(&path) {
        return Ok(());
    }
    let others = [
        ("description", input.description.is_some()),
        ("options", input.options.is_some()),
        ("user_lockout_config", input.user_lockout_config.is_some()),
    ];
    let other = others.into_iter().find_map(|(name, is_sent)| is_sent.then_some(name));
    match other.or_else(|| input.changes.beyond_audit()) {
        Some(name) => Err(Fault::invalid(format!("cannot tune parameter {name} of {path}"))),
        None => Ok(()),
    }
}

fn change(record: &mut MountRecord, input: Tune, class: Class) -> Result<(), Fault> {
    input.changes.apply(&record.kind, class, &mut record.tuning)?;
    if let Some(description) = input.description {
        record.description = description;
    }
    if let Some(options) = input.options {
        tuning::options(&mut record.options, options);
    }
    Ok(())
}
