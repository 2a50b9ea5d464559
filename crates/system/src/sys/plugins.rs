//! `sys/plugins`: the catalogue of what can be mounted, and making engines anew.
//!
//! Every engine is built in, so the catalogue says so of each, nothing can be registered, and there is nothing to pin: an
//! engine has the version of the server. Reloading is a mark in the records of the mounts, so each node of a cluster makes
//! their engines anew when it has the mark. Deliberately absent: plug-ins that run outside the server.

use std::sync::Arc;

use tresor_core::Space;
use tresor_core::mounts::record::Reload;
use tresor_core::mounts::{Behind, Mount};
use tresor_crypto::token_text;
use tresor_engine::{Class, Cx, Data, Keys, Nothing, Warned, Widened};
use tresor_model::{Body, Fault, Map, Refusal, Timestamp, map};
use tresor_wire::input::{CommaList, EmptyInput, Input};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;
use super::tuning::{checked_version, version};

/// What nobody can do here.
const NOTHING_EXTERNAL: &str = "this server runs no external plugins: every engine is built in";

/// The types of plug-ins that clients know.
const TYPES: [&str; 3] = ["auth", "database", "secret"];

/// What there is.
#[derive(Output)]
pub(super) struct Catalog {
    /// The auth methods.
    auth: Vec<String>,
    /// The kinds of server of the database engine.
    database: Vec<String>,
    /// The secrets engines.
    secret: Vec<String>,
    /// All of them, with what is known of each.
    detailed: Vec<Body>,
}

/// A type of plug-ins.
#[derive(Input)]
pub(super) struct OfType {
    /// `auth`, `database` or `secret`.
    #[input(path, name = "type")]
    kind: String,
}

/// A plug-in.
#[derive(Input)]
pub(super) struct Named {
    /// `auth`, `database` or `secret`.
    #[input(path, name = "type")]
    kind: String,
    /// Its name.
    #[input(path)]
    name: String,
    /// Its version.
    #[input(query, default = "")]
    version: String,
}

/// A plug-in to register, or to pin; none can be.
#[derive(Input)]
pub(super) struct Register {
    /// `auth`, `database` or `secret`.
    #[input(path, name = "type")]
    #[expect(dead_code, reason = "it is refused whatever it says")]
    kind: String,
    /// Its name.
    #[input(path)]
    #[expect(dead_code, reason = "it is refused whatever it says")]
    name: String,
    /// Everything that is sent.
    #[input(rest)]
    #[expect(dead_code, reason = "it is refused whatever it says")]
    sent: Map,
}

/// A plug-in of an unknown type, as old clients ask.
#[derive(Input)]
pub(super) struct Untyped {
    /// Its name.
    #[input(path, name = "type")]
    name: String,
    /// Everything that is sent.
    #[input(rest)]
    #[expect(dead_code, reason = "it is refused whatever it says")]
    sent: Map,
}

/// What is known of a plug-in.
#[derive(Output)]
pub(super) struct Shown {
    /// Its name.
    name: String,
    /// How it is called: not at all.
    command: &'static str,
    /// With what: nothing.
    args: Vec<String>,
    /// The hash of its file: it has none.
    sha256: &'static str,
    /// Whether it is a part of the server.
    builtin: bool,
    /// Its version.
    version: String,
    /// Whether it will go away.
    deprecation_status: &'static str,
    /// Whether it comes from an image.
    oci: bool,
    /// Whether a configuration declares it.
    declarative: bool,
}

/// What to make anew.
#[derive(Input)]
pub(super) struct Which {
    /// The type of the mounts.
    #[input(default = "")]
    plugin: String,
    /// The paths of the mounts.
    mounts: Option<CommaList>,
    /// Kept for clients: every node makes them anew.
    #[input(default = "")]
    #[expect(dead_code, reason = "every node makes them anew, whatever the scope")]
    scope: String,
}

/// Engines that are made anew.
#[derive(Output)]
pub(super) struct Reloading {
    /// Names the order.
    reload_id: String,
}

/// An order to make engines anew.
#[derive(Input)]
pub(super) struct Order {
    /// What the order was answered with.
    #[input(query, default = "")]
    reload_id: String,
}

/// How the engines are that were made anew.
#[derive(Output)]
pub(super) struct Results {
    /// Names the order.
    reload_id: String,
    /// By mount: when it was ordered, and why it failed on this node.
    results: Map,
}

/// The pins.
#[derive(Output)]
pub(super) struct Pins {
    /// None.
    pinned_versions: Vec<Body>,
}

/// The class of plug-ins behind a type; none for `database`.
fn class(kind: &str) -> Result<Option<Class>, Fault> {
    match kind {
        "auth" => Ok(Some(Class::Auth)),
        "secret" => Ok(Some(Class::Secret)),
        "database" => Ok(None),
        _ => Err(Fault::invalid(format!("{kind:?} is not a supported plugin type: it is one of {}", TYPES.join(", ")))),
    }
}

/// The names of the plug-ins of a type, in order.
fn of_kind(sys: &Sys, kind: &str) -> Result<Vec<String>, Fault> {
    Ok(class(kind)?.map_or_else(|| databases(sys), |class| names(sys, class)))
}

/// The kinds of server of the database engine, in order.
fn databases(sys: &Sys) -> Vec<String> {
    sys.databases.iter().map(|name| (*name).to_owned()).collect()
}

/// The names of a class, in order.
fn names(sys: &Sys, class: Class) -> Vec<String> {
    let mounts = &sys.handles.spaces.root().mounts;
    let mut names: Vec<String> =
        mounts.kinds().filter(|(_, of)| *of == class).map(|(name, _)| name.to_owned()).collect();
    names.sort_unstable();
    names
}

pub(super) async fn catalog(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Catalog>, Fault> {
    let (auth, database, secret) = (names(sys, Class::Auth), databases(sys), names(sys, Class::Secret));
    let entry = |kind: &str, name: &String| {
        Body::from(map! {
            "type" => kind,
            "name" => name.as_str(),
            "version" => version(),
            "builtin" => true,
            "deprecation_status" => "supported",
        })
    };
    let of_types = [("auth", &auth), ("database", &database), ("secret", &secret)];
    let detailed = of_types.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| entry(kind, name)));
    Ok(Data(Catalog { detailed: detailed.collect(), auth, database, secret }))
}

pub(super) async fn of_type(sys: &Sys, _cx: Cx<'_>, input: OfType) -> Result<Keys, Fault> {
    Ok(Keys(of_kind(sys, &input.kind)?))
}

pub(super) async fn read(sys: &Sys, _cx: Cx<'_>, input: Named) -> Result<Option<Data<Shown>>, Fault> {
    let is_known =
        of_kind(sys, &input.kind)?.contains(&input.name) && checked_version(&input.name, &input.version).is_ok();
    Ok(is_known.then(|| {
        Data(Shown {
            name: input.name,
            command: "",
            args: Vec::new(),
            sha256: "",
            builtin: true,
            version: version(),
            deprecation_status: "supported",
            oci: false,
            declarative: false,
        })
    }))
}

pub(super) async fn register(_sys: &Sys, _cx: Cx<'_>, _input: Register) -> Result<Nothing, Fault> {
    Err(Fault::invalid(NOTHING_EXTERNAL))
}

/// What is not registered is gone already; what is built in stays.
pub(super) async fn deregister(_sys: &Sys, _cx: Cx<'_>, input: Named) -> Result<Nothing, Fault> {
    class(&input.kind)?;
    if input.version.contains("+builtin") {
        return Err(Fault::invalid(format!("version {:?} cannot be deleted", input.version)));
    }
    Ok(Nothing)
}

pub(super) async fn read_untyped(_sys: &Sys, _cx: Cx<'_>, input: Untyped) -> Result<Warned<Nothing>, Fault> {
    if TYPES.contains(&input.name.as_str()) {
        return Err(Refusal::Unsupported.into());
    }
    let text = format!("Deprecated API endpoint, cannot read plugin information from catalog for {:?}", input.name);
    Ok(Warned(Nothing, vec![text]))
}

pub(super) async fn register_untyped(_sys: &Sys, _cx: Cx<'_>, _input: Untyped) -> Result<Nothing, Fault> {
    Err(Fault::invalid(NOTHING_EXTERNAL))
}

pub(super) async fn deregister_untyped(_sys: &Sys, _cx: Cx<'_>, input: Untyped) -> Result<Warned<Nothing>, Fault> {
    let text = format!("Deprecated API endpoint, cannot deregister plugin from catalog for {:?}", input.name);
    Ok(Warned(Nothing, vec![text]))
}

pub(super) async fn pins(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Pins>, Fault> {
    Ok(Data(Pins { pinned_versions: Vec::new() }))
}

/// None is pinned.
pub(super) async fn read_pin(_sys: &Sys, _cx: Cx<'_>, input: Named) -> Result<Option<Data<Map>>, Fault> {
    class(&input.kind).map(|_| None)
}

pub(super) async fn pin(_sys: &Sys, _cx: Cx<'_>, _input: Register) -> Result<Nothing, Fault> {
    Err(Fault::invalid(format!("nothing can be pinned: {NOTHING_EXTERNAL}, in the version of the server")))
}

pub(super) async fn unpin(_sys: &Sys, _cx: Cx<'_>, input: Named) -> Result<Nothing, Fault> {
    class(&input.kind).map(|_| Nothing)
}

pub(super) async fn reload(sys: &Sys, cx: Cx<'_>, input: Which) -> Result<Data<Reloading>, Fault> {
    let (space, paths) = (sys.space(&cx)?, input.mounts.map(|list| list.0).unwrap_or_default());
    match (input.plugin.as_str(), paths.as_slice()) {
        ("", []) => Err(Fault::invalid("plugin or mounts must be provided")),
        ("", paths) => order(sys, cx, &at(&space, paths)?),
        (name, []) => order(sys, cx, &of_name(&space, None, name)?),
        _ => Err(Fault::invalid("plugin and mounts cannot be set at the same time")),
    }
}

pub(super) async fn reload_named(sys: &Sys, cx: Cx<'_>, input: Named) -> Result<Data<Reloading>, Fault> {
    let class = match input.kind.as_str() {
        "unknown" => None,
        // Of the type `database` there is none.
        kind => Some(class(kind)?.ok_or_else(|| unknown(&input.name))?),
    };
    let space = sys.space(&cx)?;
    order(sys, cx, &of_name(&space, class, &input.name)?)
}

fn unknown(name: &str) -> Fault {
    Fault::invalid(format!("plugin not found in the catalog: {name:?}"))
}

/// The mounts at these paths, with or without `sys/` and a slash at the end.
fn at(space: &Space, paths: &[String]) -> Result<Vec<Arc<Mount>>, Fault> {
    let table = space.mounts.table();
    let one = |path: &String| {
        let path = path.trim_matches('/');
        let path = path.strip_prefix("sys/").filter(|rest| rest.starts_with("auth/")).unwrap_or(path);
        let path = format!("{path}/");
        table.at(&path).cloned().ok_or_else(|| Fault::invalid(format!("cannot fetch mount entry on {path:?}")))
    };
    paths.iter().map(one).collect()
}

/// The mounts of this name.
fn of_name(space: &Space, class: Option<Class>, name: &str) -> Result<Vec<Arc<Mount>>, Fault> {
    let mounts = &space.mounts;
    let is_asked = |of: Class| class.is_none_or(|class| class == of);
    if !mounts.kinds().any(|(kind, of)| kind == name && is_asked(of)) {
        return Err(unknown(name));
    }
    let table = mounts.table();
    let of_class = |mount: &Mount| class.is_none_or(|class| mount.record.class == class.into());
    Ok(table.iter().filter(|mount| mount.record.kind == name && of_class(mount)).cloned().collect())
}

/// Marks mounts to be made anew.
fn order(sys: &Sys, mut cx: Cx<'_>, found: &[Arc<Mount>]) -> Result<Data<Reloading>, Fault> {
    let reload = Reload { id: token_text::random_uuid(cx.entropy), ordered: cx.now };
    let space = sys.space(&cx)?;
    for mount in found {
        space.mounts.reload(cx.view.widen(Widened::assertion()), mount, reload.clone())?;
    }
    Ok(Data(Reloading { reload_id: reload.id }))
}

/// What is in order says nothing; a mount that was made anew again since is not shown any more.
pub(super) async fn status(sys: &Sys, cx: Cx<'_>, input: Order) -> Result<Option<Data<Results>>, Fault> {
    if input.reload_id.is_empty() {
        return Err(Fault::invalid("reload_id must be provided"));
    }
    let table = sys.space(&cx)?.mounts.table();
    let mut results = Map::new();
    for mount in table.iter() {
        let Some(reload) = mount.record.reloaded.as_ref().filter(|reload| reload.id == input.reload_id) else {
            continue;
        };
        results.insert(mount.record.path.as_str(), result(mount, reload.ordered));
    }
    Ok((!results.is_empty()).then(|| Data(Results { reload_id: input.reload_id, results })))
}

fn result(mount: &Mount, ordered: Timestamp) -> Map {
    let error = match &mount.engine {
        Behind::Quarantined(reason) => reason.as_str(),
        Behind::Engine(_) | Behind::Moving | Behind::Server => "",
    };
    map! { "timestamp" => rfc3339(ordered), "error" => error }
}
