//! `status`, and the seal status that other commands end with. The exit code says it too: 0 unsealed, 2 sealed.

use serde_json::{Map, Value};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FIELD, FORMAT};
use crate::output::{Document, cell};
use crate::table::table;

pub(crate) const COMMANDS: &[Command] = &[Command {
    words: &["status"],
    examples: &["status", "status -format=json"],
    arguments: "[options]",
    about: "Show whether the server is initialised and sealed. Exit code: 0 unsealed, 2 sealed, 1 error.",
    flags: &[CONNECTION, FORMAT, FIELD],
    action: Action::Run(status),
}];

const ORDER: &[&str] = &[
    "type",
    "initialized",
    "sealed",
    "t",
    "n",
    "progress",
    "nonce",
    "version",
    "build_date",
    "migration",
    "cluster_name",
    "cluster_id",
    "recovery_seal",
    "recovery_seal_type",
    "automatic_unseal",
    "storage_type",
    "ha_enabled",
    "is_self",
    "active_time",
    "leader_address",
    "leader_cluster_address",
    "raft_committed_index",
    "raft_applied_index",
];

/// What `sys/leader` adds.
const OF_LEADER: &[&str] = &[
    "ha_enabled",
    "is_self",
    "active_time",
    "leader_address",
    "leader_cluster_address",
    "raft_committed_index",
    "raft_applied_index",
];

fn status(context: &mut Context<'_, '_>) -> Outcome {
    let failed = |failure: Failure| match failure.during("checking seal status") {
        Failure::Message { text, .. } => Failure::Message { code: 1, text },
        other => other,
    };
    let mut fields = seal_status(context).map_err(failed)?;
    add_leader(context, &mut fields);
    let sealed = is_sealed(&fields);
    if let Some(field) = context.flag("field").map(str::to_owned) {
        let value = fields.get(&field).cloned();
        context.print_value(value, &field)?;
    } else {
        print(context, fields)?;
    }
    Ok(if sealed { 2 } else { 0 })
}

/// Asks for the seal status.
pub(crate) fn seal_status(context: &mut Context<'_, '_>) -> Result<Map<String, Value>, Failure> {
    match context.send(Method::Get, "sys/seal-status", &[], None)? {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Err(Failure::remote("the seal status is not a JSON object")),
    }
}

/// Adds who leads, if the server says it: a sealed one does not.
pub(crate) fn add_leader(context: &mut Context<'_, '_>, fields: &mut Map<String, Value>) {
    if is_sealed(fields) {
        return;
    }
    if let Ok(Some(Value::Object(leader))) = context.send(Method::Get, "sys/leader", &[], None) {
        for &name in OF_LEADER {
            match leader.get(name) {
                None | Some(Value::Null | Value::Bool(false)) if name != "ha_enabled" => {}
                Some(Value::String(text)) if text.is_empty() || text.starts_with("0001-") => {}
                Some(value) => {
                    fields.insert(name.to_owned(), value.clone());
                }
                None => {}
            }
        }
    }
}

pub(crate) fn is_sealed(fields: &Map<String, Value>) -> bool {
    fields.get("sealed").and_then(Value::as_bool).unwrap_or(true)
}

/// Prints a seal status.
pub(crate) fn print(context: &mut Context<'_, '_>, fields: Map<String, Value>) -> Outcome {
    let document = Document::ordered(&Value::Object(fields.clone()), ORDER);
    context.print_document(document, || table(&["Key", "Value"], &rows(&fields)))
}

fn rows(fields: &Map<String, Value>) -> Vec<Vec<String>> {
    let text = |name: &str| fields.get(name).filter(|value| !value.is_null()).map(cell).unwrap_or_default();
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut rows = Vec::new();
    let mut row = |title: &str, value: String| rows.push(vec![title.to_owned(), value]);
    row("Seal Type", text("type"));
    if flag("recovery_seal") {
        row("Recovery Seal Type", text("recovery_seal_type"));
    }
    let prefix = if flag("recovery_seal") { "Recovery " } else { "" };
    row("Initialized", text("initialized"));
    row("Sealed", text("sealed"));
    row(&format!("Total {prefix}Shares"), text("n"));
    row("Threshold", text("t"));
    if is_sealed(fields) {
        row("Unseal Progress", format!("{}/{}", text("progress"), text("t")));
        row("Unseal Nonce", text("nonce"));
    }
    if fields.contains_key("automatic_unseal") {
        row("Automatic Unseal", text("automatic_unseal"));
    }
    if flag("migration") {
        row("Seal Migration in Progress", "true".to_owned());
    }
    // The seal of a namespace has none of these.
    for (title, name) in [("Version", "version"), ("Build Date", "build_date"), ("Storage Type", "storage_type")] {
        if fields.contains_key(name) {
            row(title, text(name));
        }
    }
    if !text("cluster_name").is_empty() && !text("cluster_id").is_empty() {
        row("Cluster Name", text("cluster_name"));
        row("Cluster ID", text("cluster_id"));
    }
    if fields.contains_key("ha_enabled") {
        row("HA Enabled", text("ha_enabled"));
    }
    if flag("ha_enabled") && !is_sealed(fields) {
        row("HA Cluster", text("leader_cluster_address"));
        row("HA Mode", if flag("is_self") { "active" } else { "standby" }.to_owned());
    }
    // What is not known is not shown.
    let mut known = |title: &str, name: &str| match fields.get(name) {
        Some(value) if !value.is_null() => rows.push(vec![title.to_owned(), cell(value)]),
        _ => {}
    };
    if flag("ha_enabled") && !is_sealed(fields) {
        if flag("is_self") {
            known("Active Since", "active_time");
        } else {
            known("Active Node Address", "leader_address");
        }
        known("Raft Committed Index", "raft_committed_index");
        known("Raft Applied Index", "raft_applied_index");
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    /// The rows from `HA Enabled` on.
    fn of_cluster(status: &Value) -> Vec<String> {
        let rows = rows(status.as_object().unwrap());
        rows.iter().skip_while(|row| row[0] != "HA Enabled").map(|row| format!("{}={}", row[0], row[1])).collect()
    }

    #[test]
    fn the_active_node_says_since_when_and_a_standby_who_it_is() {
        let mut status = json!({
            "sealed": false, "ha_enabled": true, "is_self": true, "active_time": "2026-01-01T00:00:00.5Z",
            "leader_address": "https://a:8200", "leader_cluster_address": "https://a:8201",
            "raft_committed_index": 9, "raft_applied_index": 8,
        });
        let indexes = ["Raft Committed Index=9", "Raft Applied Index=8"];
        let mode =
            |mode: &str| ["HA Enabled=true".into(), "HA Cluster=https://a:8201".into(), format!("HA Mode={mode}")];
        let active = [&mode("active")[..], &["Active Since=2026-01-01T00:00:00.5Z".into()]].concat();
        assert_eq!(of_cluster(&status), [&active[..], &indexes.map(str::to_owned)].concat());

        status["is_self"] = json!(false);
        let standby = [&mode("standby")[..], &["Active Node Address=https://a:8200".into()]].concat();
        assert_eq!(of_cluster(&status), [&standby[..], &indexes.map(str::to_owned)].concat());

        let leaderless = json!({ "sealed": false, "ha_enabled": true });
        assert_eq!(of_cluster(&leaderless), ["HA Enabled=true", "HA Cluster=", "HA Mode=standby"]);
        assert_eq!(of_cluster(&json!({ "sealed": false, "ha_enabled": false })), ["HA Enabled=false"]);
    }
}
