//! What operators look at: the machine, the log's levels, the configuration, and how many tokens there are.
//!
//! Everything here is about the node that is asked. Deliberately absent: profiles of the process (`sys/pprof` of the reference
//! speaks of a runtime that this server does not have), and counting requests, which the reference gave up.

use tresor_core::mounts::record::StoredClass;
use tresor_core::process::LogChangeError;
use tresor_core::releases;
use tresor_engine::answer::Lines;
use tresor_engine::{Cx, Data, Nothing, Widened};
use tresor_model::{Body, Fault, Map, Refusal, map};
use tresor_wire::API_LEVEL;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;
use crate::always::BUILD_DATE;

/// A part of the server that logs.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path, default = "")]
    name: String,
}

/// A level for it.
#[derive(Input)]
pub(super) struct SetLevel {
    /// The part; without one, all of them.
    #[input(path, default = "")]
    name: String,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    #[input(default = "")]
    level: String,
}

/// Which lines of the log.
#[derive(Input)]
pub(super) struct Watch {
    /// The least severe.
    #[input(query, default = "info")]
    log_level: String,
    /// `standard` or `json`.
    #[input(query, default = "standard")]
    log_format: String,
}

/// The releases that have led.
#[derive(Output)]
pub(super) struct Versions {
    /// Their names, the first one first.
    keys: Vec<String>,
    /// Since when each was there, and which was before.
    key_info: Map,
}

/// What is counted.
#[derive(Output)]
pub(super) struct Counters {
    /// The numbers.
    counters: Map,
}

/// By what a mount is to be found.
#[derive(Input)]
pub(super) struct ByTag {
    /// `root`, `uuid`, `accessor` or `storage`.
    #[input(path)]
    tag: String,
}

/// What a UI asks before anything else.
#[derive(Output)]
pub(super) struct Version {
    /// The level of the API.
    version: &'static str,
}

/// A request as it comes to its handler.
#[derive(Output)]
pub(super) struct RequestShown {
    /// What was sent with it.
    data: Map,
    /// Who asks, from where, and where it leads.
    req: Map,
    /// Nobody is known as an entity.
    entity: Option<Map>,
    /// Nor as a member of groups.
    groups: Vec<String>,
    /// The level of the API.
    vault_version: &'static str,
}

/// The token is not in it, in no form: whoever reads an answer over somebody's shoulder is not to have it.
pub(super) async fn request(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<RequestShown>, Fault> {
    if !sys.handles.settings.shows_requests {
        let text = "the Vault configuration must set \"introspection_endpoint\" to true to enable this endpoint";
        return Err(Fault::invalid(text));
    }
    let (caller, mount) = (&cx.caller, cx.mount);
    let req = map! {
        "client_token_accessor" => caller.accessor.map_or("", |accessor| accessor.as_str()),
        "connection" => map! { "remote_addr" => caller.address.to_string() },
        "display_name" => caller.display_name,
        "headers" => Map::new(),
        "mount_accessor" => mount.accessor.as_str(),
        "mount_point" => mount.path.as_str(),
        "mount_type" => mount.kind.as_str(),
        "operation" => cx.operation.name(),
        "path" => "internal/inspect/request",
        "policies" => caller.policies.to_vec(),
        "unauthenticated" => false,
    };
    let (data, vault_version) = (Map::new(), API_LEVEL);
    Ok(Data(RequestShown { data, req, entity: None, groups: Vec::new(), vault_version }))
}

pub(super) async fn host(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Map>, Fault> {
    Ok(Data(sys.handles.settings.process.host().with("timestamp", rfc3339(cx.now))))
}

pub(super) async fn configuration(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Map>, Fault> {
    Ok(Data(sys.handles.settings.process.configuration()))
}

pub(super) async fn levels(sys: &Sys, _cx: Cx<'_>, input: ByName) -> Result<Data<Map>, Fault> {
    let levels = sys.handles.settings.process.log_levels().into_iter();
    let asked = levels.filter(|(name, _)| input.name.is_empty() || *name == input.name);
    Ok(Data(asked.map(|(name, level)| (name, Body::from(level))).collect()))
}

pub(super) async fn set_level(sys: &Sys, _cx: Cx<'_>, input: SetLevel) -> Result<Nothing, Fault> {
    if input.level.is_empty() {
        return Err(Fault::invalid("level is required"));
    }
    change(sys, &input.name, Some(&input.level))
}

pub(super) async fn reset_level(sys: &Sys, _cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    change(sys, &input.name, None)
}

fn change(sys: &Sys, name: &str, level: Option<&str>) -> Result<Nothing, Fault> {
    let logger = Some(name).filter(|name| !name.is_empty());
    match sys.handles.settings.process.set_log_level(logger, level) {
        Ok(()) => Ok(Nothing),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: LogChangeError) -> Fault {
    let text = error.to_string().into();
    match error {
        LogChangeError::NoSuchLevel | LogChangeError::NoSuchFormat | LogChangeError::NoSuchLogger => {
            Refusal::Invalid(text)
        }
        LogChangeError::NotWatched => Refusal::Absent(text),
        LogChangeError::TooMany => Refusal::Throttled(text),
    }
    .into()
}

pub(super) async fn monitor(sys: &Sys, _cx: Cx<'_>, input: Watch) -> Result<Lines, Fault> {
    sys.handles.settings.process.watch_log(&input.log_level, &input.log_format).map(Lines).map_err(refused)
}

pub(super) async fn versions(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Versions>, Fault> {
    let own = sys.handles.settings.release;
    let all = releases::all(cx.view.widen(Widened::assertion()))?;
    let before = std::iter::once(None).chain(all.iter().map(|(name, _)| Some(name.as_str())));
    let shown = all.iter().zip(before).map(|((name, installed), before)| {
        let facts = map! {
            "previous_version" => before, "timestamp_installed" => rfc3339(*installed), "build_date" => if name == own { BUILD_DATE } else { "" },
        };
        (name.clone(), Body::from(facts))
    });
    Ok(Data(Versions { key_info: shown.collect(), keys: all.iter().map(|(name, _)| name.clone()).collect() }))
}

pub(super) async fn tokens(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Counters>, Fault> {
    let space = sys.space(&cx)?;
    let live = sys.handles.tokens.live(cx.view.widen(Widened::assertion()), &space.id)?;
    let table = space.mounts.table();
    let of_tokens = table.iter().filter(|mount| mount.record.class == StoredClass::Auth);
    let total: u64 = of_tokens.filter_map(|mount| live.get(&mount.record.id)).sum();
    Ok(Data(Counters { counters: map! { "service_tokens" => map! { "total" => total } } }))
}

/// There are no entities, so there are none.
pub(super) async fn entities(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Counters>, Fault> {
    Ok(Data(Counters { counters: map! { "entities" => map! { "total" => 0_u64 } } }))
}

pub(super) async fn requests(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    Err(Refusal::Absent("The functionality has been removed on this path".into()).into())
}

pub(super) async fn router(sys: &Sys, _cx: Cx<'_>, input: ByTag) -> Result<Data<Map>, Fault> {
    if !["root", "uuid", "accessor", "storage"].contains(&input.tag.as_str()) {
        return Err(Fault::invalid("the tag must be one of root, uuid, accessor, storage"));
    }
    let table = sys.handles.spaces.root().mounts.table();
    let entries = table.iter().map(|mount| {
        let record = &mount.record;
        Body::from(map! {
            "accessor" => record.accessor.as_str(),
            "mount_namespace" => "",
            "mount_path" => record.path_in_class(),
            "mount_type" => record.kind.as_str(),
            "storage_prefix" => format!("logical/{}/", record.id),
            "tainted" => false,
            "uuid" => record.id.as_str(),
        })
    });
    Ok(Data(Map::new().with(input.tag, entries.collect::<Vec<Body>>())))
}

pub(super) async fn version(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Version>, Fault> {
    Ok(Data(Version { version: API_LEVEL }))
}
