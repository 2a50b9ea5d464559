//! `sys/mounts`: secrets engines; and what secrets engines and auth methods share when they are listed and enabled.

use std::collections::BTreeMap;

use tresor_core::mounts::record::{MountRecord, StoredClass, Tuning};
use tresor_core::mounts::{Mount, NewMount, SERVER_MOUNTS, Table};
use tresor_engine::{Class, Cx, Mirrored, Nothing, View, Warned, Widened};
use tresor_model::{Body, Fault, Map, MountPath, Refusal, map};
use tresor_wire::input::{CommaList, EmptyInput, Input, Seconds};
use tresor_wire::output::Output;

use super::Sys;

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

/// The part of `config` that a mount can be enabled with.
#[derive(Input)]
struct Config {
    default_lease_ttl: Option<Seconds>,
    max_lease_ttl: Option<Seconds>,
    #[input(default = "false")]
    force_no_cache: bool,
    audit_non_hmac_request_keys: Option<CommaList>,
    audit_non_hmac_response_keys: Option<CommaList>,
    #[input(default = "")]
    listing_visibility: String,
    passthrough_request_headers: Option<CommaList>,
    allowed_response_headers: Option<CommaList>,
    #[input(default = "")]
    token_type: String,
    /// Takes precedence over the type.
    plugin_name: Option<String>,
    plugin_version: Option<String>,
}

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Map>, Fault> {
    Ok(listing(&sys.handles.mounts.stored_table(cx.view.widen(Widened::assertion()))?, Class::Secret))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: AtPath) -> Result<Mirrored<MountShown>, Fault> {
    show(&sys.handles.mounts.stored_table(cx.view.widen(Widened::assertion()))?, Class::Secret, &input.path)
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
pub(super) fn find<'t>(table: &'t Table, class: Class, path: &str) -> Option<&'t std::sync::Arc<Mount>> {
    table.at(&full_path(class, path).ok()?).filter(|mount| belongs(mount, class))
}

/// All mounts of a class, as clients want them: at top level and below `data`.
pub(super) fn listing(table: &Table, class: Class) -> Mirrored<Map> {
    let mounts: Map = table
        .iter()
        .filter(|mount| belongs(mount, class))
        .map(|mount| (mount.record.path_in_class().to_owned(), Body::from(entry(&mount.record).into_map())))
        .collect();
    Mirrored(mounts)
}

pub(super) fn show(table: &Table, class: Class, path: &str) -> Result<Mirrored<MountShown>, Fault> {
    let what = if class == Class::Auth { "auth engine" } else { "secret engine mount" };
    let mount = find(table, class, path);
    let mount = mount.ok_or_else(|| Fault::invalid(format!("No {what} at {}/", path.trim_matches('/'))))?;
    Ok(Mirrored(entry(&mount.record)))
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
    /// Empty: nobody chose a version.
    plugin_version: &'static str,
    /// The version that runs.
    running_plugin_version: String,
    /// Empty: every engine is built in.
    running_sha256: &'static str,
    /// Whether it will go away.
    deprecation_status: &'static str,
    /// Where it is; where the question was not about a path, it is left out.
    #[output(optional)]
    path: Option<String>,
}

/// One entry of a listing.
pub(super) fn entry(record: &MountRecord) -> MountShown {
    let tuning = &record.tuning;
    let mut config = map! {
        "default_lease_ttl" => tuning.default_lease_ttl.as_secs(),
        "max_lease_ttl" => tuning.max_lease_ttl.as_secs(),
        "force_no_cache" => tuning.force_no_cache,
    };
    for (name, values) in [
        ("audit_non_hmac_request_keys", &tuning.audit_non_hmac_request_keys),
        ("audit_non_hmac_response_keys", &tuning.audit_non_hmac_response_keys),
        ("passthrough_request_headers", &tuning.passthrough_request_headers),
        ("allowed_response_headers", &tuning.allowed_response_headers),
    ] {
        if !values.is_empty() {
            config.insert(name, values.clone());
        }
    }
    if !tuning.listing_visibility.is_empty() {
        config.insert("listing_visibility", tuning.listing_visibility.as_str());
    }
    if record.class == StoredClass::Auth {
        config.insert("token_type", shown_token_type(tuning));
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
        plugin_version: "",
        running_plugin_version: format!("v{}+builtin.tresor", env!("CARGO_PKG_VERSION")),
        running_sha256: "",
        deprecation_status: "supported",
        path: None,
    }
}

impl MountShown {
    /// The same, with its path.
    pub(super) fn at(self, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }
}

/// The kind of tokens of an auth method, as shown.
pub(super) const fn shown_token_type(tuning: &Tuning) -> &str {
    if tuning.token_type.is_empty() { "default-service" } else { tuning.token_type.as_str() }
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
    let asked_version = input.plugin_version.or(config.plugin_version).filter(|version| !version.is_empty());
    if asked_version.is_some() {
        return Err(Fault::invalid("plug-in versions cannot be chosen: every engine is built in"));
    }
    let mut warnings =
        without_effect(config.passthrough_request_headers.as_ref(), config.allowed_response_headers.as_ref());
    let list = |list: Option<CommaList>| list.map(|list| list.0).unwrap_or_default();
    let ttl = |ttl: Option<Seconds>| ttl.map(|ttl| ttl.0).unwrap_or_default();
    let new = NewMount {
        class,
        kind,
        path,
        description: input.description,
        options: input.options.unwrap_or_default(),
        tuning: Tuning {
            default_lease_ttl: ttl(config.default_lease_ttl),
            max_lease_ttl: ttl(config.max_lease_ttl),
            force_no_cache: config.force_no_cache,
            audit_non_hmac_request_keys: list(config.audit_non_hmac_request_keys),
            audit_non_hmac_response_keys: list(config.audit_non_hmac_response_keys),
            listing_visibility: checked_visibility(config.listing_visibility)?,
            passthrough_request_headers: list(config.passthrough_request_headers),
            allowed_response_headers: list(config.allowed_response_headers),
            token_type: checked_token_type(config.token_type, class)?,
        },
        local: input.local,
        seal_wrap: input.seal_wrap,
        external_entropy_access: input.external_entropy_access,
    };
    let now = cx.now;
    let entropy = cx.entropy;
    let (record, engine) = sys.handles.mounts.enable(cx.view.widen(Widened::assertion()), new, now, entropy)?;
    let facts = sys.handles.mounts.facts(&record);
    let contents = tresor_core::mounts::contents(&facts)?;
    let mut own = Cx { view: View::new(cx.view.widen(Widened::assertion()), contents), mount: &facts, ..cx };
    engine.prepare(&mut own)?;
    if !unrecognized.is_empty() {
        warnings.push(format!("config ignored these unrecognized parameters: [{}]", unrecognized.join(" ")));
    }
    Ok(Warned(Nothing, warnings))
}

/// What is told of settings that are kept for clients and do nothing yet.
pub(super) fn without_effect(request: Option<&CommaList>, response: Option<&CommaList>) -> Vec<String> {
    [("passthrough_request_headers", request), ("allowed_response_headers", response)]
        .into_iter()
        .filter(|(_, list)| list.is_some_and(|list| !list.0.is_empty()))
        .map(|(name, _)| format!("`{name}` is kept and has no effect yet: no engine here reads or sets headers"))
        .collect()
}

pub(super) fn disable_class(sys: &Sys, mut cx: Cx<'_>, path: &str, class: Class) -> Result<Nothing, Fault> {
    let table = sys.handles.mounts.stored_table(cx.view.widen(Widened::assertion()))?;
    // Disabling what is not there is fine: somebody was faster.
    let Some(mount) = find(&table, class, path) else { return Ok(Nothing) };
    let now = cx.now;
    sys.handles.mounts.disable(cx.view.widen(Widened::assertion()), mount, now)?;
    Ok(Nothing)
}

fn decode_config(config: Map) -> Result<(Config, Vec<String>), Fault> {
    let fields = tresor_wire::input::Fields { path: BTreeMap::new(), body: config, from_query: Vec::new() };
    Config::decode(fields).map_err(|error| Fault::invalid(error.to_string()))
}

pub(super) fn checked_visibility(text: String) -> Result<String, Fault> {
    match text.as_str() {
        "" | "unauth" => Ok(text),
        "hidden" => Ok(String::new()),
        _ => Err(Fault::invalid("`listing_visibility` is `unauth`, `hidden` or empty")),
    }
}

pub(super) fn checked_token_type(text: String, class: Class) -> Result<String, Fault> {
    match (class, text.as_str()) {
        (_, "") | (Class::Auth, "default-service" | "service" | "default-batch" | "batch") => Ok(text),
        (Class::Auth, _) => Err(Fault::invalid("invalid value for `token_type`")),
        _ => Err(Fault::Refusal(Refusal::Invalid("`token_type` can only be set on auth methods".into()))),
    }
}
