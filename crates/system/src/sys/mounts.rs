//! `sys/mounts`: secrets engines; and what secrets engines and auth methods share when they are listed and enabled.

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_core::lockout::{self, Rules};
use tresor_core::mounts::left::TakingOver;
use tresor_core::mounts::record::{MountRecord, StoredClass, Tuning};
use tresor_core::mounts::{Behind, Mount, NewMount, SERVER_MOUNTS, Table};
use tresor_engine::{Class, Cx, Mirrored, Nothing, View, Warned, Widened};
use tresor_model::{Body, Fault, Map, MountId, MountPath, map};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::tuning::{self, Changes};
use super::{Sys, locked_users};

impl Sys {
    /// Refuses a mount where a namespace is.
    fn may_mount_at(&self, cx: &mut Cx<'_>, path: &str) -> Result<(), Fault> {
        let space = self.space(cx)?;
        self.handles.spaces.must_be_free(cx.view.widen(Widened::assertion()), &space, path)
    }
}

/// A mount by its path.
#[derive(Input)]
pub(super) struct AtPath {
    /// Where it is mounted.
    #[input(path)]
    pub(super) path: String,
}

/// How to enable a secrets engine or auth method.
#[derive(Input)]
pub(super) struct Enable {
    /// Where to mount it.
    #[input(path)]
    path: String,
    /// What to mount.
    #[input(name = "type")]
    kind: Option<String>,
    /// An older name of the type.
    plugin_name: Option<String>,
    /// What it is for.
    #[input(default = "")]
    description: String,
    /// How to tune it.
    config: Option<Map>,
    /// Options such as `version`.
    options: Option<BTreeMap<String, String>>,
    /// Keep it within this cluster.
    #[input(default = "false")]
    local: bool,
    /// Wrap its data by the seal as well.
    #[input(default = "false")]
    seal_wrap: bool,
    /// Take entropy from outside.
    #[input(default = "false")]
    external_entropy_access: bool,
    /// The version of the plug-in.
    plugin_version: Option<String>,
}

/// What `config` may say beside how the mount is tuned.
#[derive(Input)]
struct Config {
    /// How the mount is tuned.
    #[input(flatten)]
    changes: Changes,
    /// Takes precedence over the type.
    plugin_name: Option<String>,
    /// When names are locked after wrong passwords.
    user_lockout_config: Option<Map>,
}

pub(super) async fn list(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Map>, Fault> {
    let table = sys.space(&cx)?.mounts.table();
    let Mirrored(mut shown) = listing(&table, Class::Secret, &BTreeMap::new());
    // Nobody knows where those were, or of which class: they are shown, and disabled, by their identity.
    for (id, reason) in table.unreadable() {
        let record = MountRecord::unknown(MountId::new(id.as_str()), cx.now);
        shown.insert(record.path.clone(), shown_of(&record, Some(reason.clone()), None).into_map());
    }
    Ok(Mirrored(shown))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: AtPath) -> Result<Mirrored<MountShown>, Fault> {
    let space = sys.space(&cx)?;
    let table = space.mounts.table();
    let mount = find_shown(&table, Class::Secret, &input.path)?;
    let upgrade = space.mounts.taking_over(cx.view.widen(Widened::assertion()), &mount.record)?;
    Ok(Mirrored(MountShown { upgrade: upgrade.map(upgrading), ..entry(mount, None) }))
}

/// How far data is on its way into another shape.
fn upgrading(upgrade: TakingOver) -> Map {
    map! {
        "records_taken" => upgrade.taken,
        "records_left" => upgrade.left,
        "records_left_out" => upgrade.left_out,
    }
}

pub(super) async fn enable(sys: &Sys, cx: Cx<'_>, input: Enable) -> Result<Warned<Nothing>, Fault> {
    enable_class(sys, cx, input, Class::Secret)
}

pub(super) async fn disable(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    disable_class(sys, cx, &input.path, Class::Secret)
}

/// Where a class is mounted in the one table.
pub(super) fn full_path(class: Class, path: &str) -> Result<String, Fault> {
    let path = MountPath::parse(path).map_err(|error| Fault::invalid(error.to_string()))?;
    Ok(if class == Class::Auth { format!("auth/{path}") } else { path.as_str().to_owned() })
}

fn belongs(mount: &Mount, class: Class) -> bool {
    (mount.record.class == StoredClass::Auth) == (class == Class::Auth)
}

/// The mount of this class at a path.
pub(super) fn find<'t>(table: &'t Table, class: Class, path: &str) -> Option<&'t Arc<Mount>> {
    table.at(&full_path(class, path).ok()?).filter(|mount| belongs(mount, class))
}

/// All mounts of a class, as clients want them: at top level and below `data`.
pub(super) fn listing(table: &Table, class: Class, lockouts: &BTreeMap<MountId, Rules>) -> Mirrored<Map> {
    let mounts: Map = table
        .iter()
        .filter(|mount| belongs(mount, class))
        .map(|mount| {
            let shown = entry(mount, lockouts.get(&mount.record.id));
            (mount.record.path_in_class().to_owned(), Body::from(shown.into_map()))
        })
        .collect();
    Mirrored(mounts)
}

/// The mount of this class at a path, or what is said when there is none.
pub(super) fn find_shown<'t>(table: &'t Table, class: Class, path: &str) -> Result<&'t Arc<Mount>, Fault> {
    let what = if class == Class::Auth { "auth engine" } else { "secret engine mount" };
    find(table, class, path).ok_or_else(|| Fault::invalid(format!("No {what} at {}/", path.trim_matches('/'))))
}

/// What is shown of a mount.
#[derive(Output)]
pub(super) struct MountShown {
    /// What it is.
    #[output(name = "type")]
    kind: String,
    /// What it is for.
    description: String,
    /// Its handle.
    accessor: String,
    /// Its identity.
    uuid: String,
    /// How it was tuned; 0 takes the server's.
    config: Map,
    /// Options such as `version`.
    options: Option<BTreeMap<String, String>>,
    /// Kept within this cluster.
    local: bool,
    /// Kept for clients.
    seal_wrap: bool,
    /// Kept for clients.
    external_entropy_access: bool,
    /// The version that was asked for; empty when nobody did.
    plugin_version: String,
    /// The version that runs.
    running_plugin_version: String,
    /// Empty: every engine is built in.
    running_sha256: &'static str,
    /// Whether it will go away.
    deprecation_status: &'static str,
    /// Why it could not be loaded; what is in order says nothing.
    #[output(optional)]
    quarantined: Option<String>,
    /// Where it is; where the question was not about a path, it is left out.
    #[output(optional)]
    path: Option<String>,
    /// How far its data is on its way into another shape, while it is: `records_taken`, `records_left` (10000 is that or
    /// more), and `records_left_out`, which are damaged. Listings leave it out.
    #[output(optional)]
    upgrade: Option<Map>,
}

/// One entry of a listing.
pub(super) fn entry(mount: &Mount, lockout: Option<&Rules>) -> MountShown {
    let quarantined = match &mount.engine {
        Behind::Quarantined(reason) => Some(reason.clone()),
        Behind::Engine(_) | Behind::Moving | Behind::Server => None,
    };
    shown_of(&mount.record, quarantined, lockout)
}

fn shown_of(record: &MountRecord, quarantined: Option<String>, lockout: Option<&Rules>) -> MountShown {
    let tuning = &record.tuning;
    let mut config = tuning::Shown::of(record).into_map();
    config.insert("default_lease_ttl", tuning.default_lease_ttl.as_secs());
    config.insert("max_lease_ttl", tuning.max_lease_ttl.as_secs());
    config.insert("force_no_cache", tuning.force_no_cache);
    if let Some(rules) = lockout {
        config.insert("user_lockout_config", tuning::lockout(rules));
    }
    MountShown {
        kind: record.kind.clone(),
        description: record.description.clone(),
        accessor: record.accessor.as_str().to_owned(),
        uuid: record.id.as_str().to_owned(),
        config,
        options: options(record),
        local: record.local,
        seal_wrap: record.seal_wrap,
        external_entropy_access: record.external_entropy_access,
        plugin_version: tuning.plugin_version.clone(),
        running_plugin_version: tuning::version(),
        running_sha256: "",
        deprecation_status: "supported",
        quarantined,
        path: None,
        upgrade: None,
    }
}

impl MountShown {
    /// The same, with its path, and the lives of leases that are in effect.
    pub(super) fn at(mut self, mount: &Mount) -> Self {
        self.config.insert("default_lease_ttl", mount.facts.default_lease_ttl.as_secs());
        self.config.insert("max_lease_ttl", mount.facts.max_lease_ttl.as_secs());
        Self { path: Some(mount.record.path.clone()), ..self }
    }
}

/// The options; the server's own mounts have none.
pub(super) fn options(record: &MountRecord) -> Option<BTreeMap<String, String>> {
    let is_own = SERVER_MOUNTS.iter().any(|own| own.path == record.path);
    (!is_own || !record.options.is_empty()).then(|| record.options.clone())
}

pub(super) fn enable_class(sys: &Sys, mut cx: Cx<'_>, input: Enable, class: Class) -> Result<Warned<Nothing>, Fault> {
    let path = MountPath::parse(&input.path).map_err(|error| Fault::invalid(error.to_string()))?;
    let (config, unrecognized) = decode_config(input.config.unwrap_or_default())?;
    let kind = [input.kind, input.plugin_name, config.plugin_name]
        .into_iter()
        .flatten()
        .find(|kind| !kind.is_empty() && kind != "plugin");
    let kind = kind.ok_or_else(|| Fault::invalid("backend type must be specified as a string"))?;
    let mut tuning = Tuning::default();
    let lets_through = config.changes.lets_through();
    config.changes.apply(&kind, class, &mut tuning)?;
    if let Some(version) = input.plugin_version {
        tuning.plugin_version = tuning::checked_version(&kind, &version)?;
    }
    let lockout = config.user_lockout_config.map(|sent| locked_users::rules(&kind, None, &sent)).transpose()?;
    let new = NewMount {
        class,
        kind,
        path,
        description: input.description,
        options: input.options.unwrap_or_default(),
        tuning,
        local: input.local,
        seal_wrap: input.seal_wrap,
        external_entropy_access: input.external_entropy_access,
    };
    let now = cx.now;
    let entropy = cx.entropy;
    if class != Class::Auth {
        sys.may_mount_at(&mut cx, new.path.as_str())?;
    }
    let (record, engine) = sys.space(&cx)?.mounts.enable(cx.view.widen(Widened::assertion()), new, now, entropy)?;
    if let Some(rules) = lockout {
        lockout::tune(cx.view.widen(Widened::assertion()), &record.id, rules)?;
    }
    let facts = sys.space(&cx)?.mounts.facts(&record);
    let contents = sys.space(&cx)?.mounts.contents(&record)?;
    let mut own = Cx { view: View::new(cx.view.widen(Widened::assertion()), contents), mount: &facts, ..cx };
    engine.prepare(&mut own)?;
    let mut warnings = lets_through.without_effect(&record.kind, engine.header_use());
    if !unrecognized.is_empty() {
        warnings.push(format!("config ignored these unrecognized parameters: [{}]", unrecognized.join(" ")));
    }
    Ok(Warned(Nothing, warnings))
}

pub(super) fn disable_class(sys: &Sys, mut cx: Cx<'_>, path: &str, class: Class) -> Result<Nothing, Fault> {
    let table = sys.space(&cx)?.mounts.table();
    // Disabling what is not there is fine: somebody was faster. What belongs to the server is refused, there or not.
    sys.space(&cx)?.mounts.refuse_reserved(&full_path(class, path)?)?;
    let now = cx.now;
    let Some(mount) = find(&table, class, path) else {
        let id = path.trim_matches('/');
        if class != Class::Auth && table.unreadable().contains_key(id) {
            let mounts = &sys.space(&cx)?.mounts;
            mounts.disable_unreadable(cx.view.widen(Widened::assertion()), &MountId::new(id), now)?;
        }
        return Ok(Nothing);
    };
    sys.space(&cx)?.mounts.disable(cx.view.widen(Widened::assertion()), mount, now)?;
    Ok(Nothing)
}

fn decode_config(config: Map) -> Result<(Config, Vec<String>), Fault> {
    let fields = tresor_wire::input::Fields { path: BTreeMap::new(), body: config, from_query: Vec::new() };
    Config::decode(fields).map_err(|error| Fault::invalid(error.to_string()))
}
