//! `sys/events/subscribe/TYPE`: what happens, told as it does over a WebSocket.
//!
//! Deliberately absent: who may be told of what, which is decided for each event (`tresor_core::events`).

use tresor_audit::Filter;
use tresor_core::events::{Form, PROPERTIES, Wanted};
use tresor_engine::answer::Told;
use tresor_engine::{Cx, Widened};
use tresor_model::Fault;
use tresor_wire::input::{CommaList, Input};

use super::Sys;

/// The longest type, or name of a namespace, that is looked for, in bytes.
const PATTERN_BYTES_MAX: usize = 512;
/// How many namespaces may be named.
const NAMESPACES_MAX: usize = 100;

/// What to be told of.
#[derive(Input)]
pub(super) struct Subscribe {
    /// The type of events, such as `kv-v2/data-write`; `*` in it stands for anything.
    #[input(path)]
    event_type: String,
    /// Whether events come as JSON; otherwise as protobuf.
    #[input(query, default = "false")]
    json: bool,
    /// Only events of which this expression holds, such as `operation == "data-write"`.
    #[input(query)]
    filter: Option<String>,
    /// Namespaces below this one whose events are told too; `*` in one stands for anything.
    #[input(query)]
    namespaces: Option<CommaList>,
}

pub(super) async fn subscribe(sys: &Sys, cx: Cx<'_>, input: Subscribe) -> Result<Told, Fault> {
    let kinds = input.event_type.trim().to_owned();
    if kinds.is_empty() {
        return Err(Fault::invalid("did not specify eventType to subscribe to"));
    }
    let namespaces = input.namespaces.map_or_else(Vec::new, |list| list.0);
    let is_long = |pattern: &String| pattern.len() > PATTERN_BYTES_MAX;
    if is_long(&kinds) || namespaces.iter().any(is_long) || namespaces.len() > NAMESPACES_MAX {
        return Err(Fault::invalid(format!(
            "types and namespaces have at most {PATTERN_BYTES_MAX} bytes, and there are at most {NAMESPACES_MAX} namespaces"
        )));
    }
    let filter = input.filter.filter(|text| !text.trim().is_empty());
    let filter = filter.map(|text| Filter::parse(&text, PROPERTIES)).transpose();
    let filter = filter.map_err(|problem| Fault::invalid(format!("invalid filter: {problem}")))?;
    let form = if input.json { Form::Json } else { Form::Protobuf };
    let token = cx.caller.held.token(Widened::assertion()).ok_or_else(Fault::denied)?;
    let wanted = Wanted { kinds, form, filter, namespaces };
    Ok(Told(sys.handles.events.subscribe(wanted, &cx.mount.namespace, token)?))
}
