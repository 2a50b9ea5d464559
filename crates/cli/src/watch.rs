//! `monitor` and `version-history`: a server's log as it is made, and which releases it had.
//!
//! Deliberately absent: lines of before the command was started.

use serde_json::Value;
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::flags::{CONNECTION, FORMAT, Flag, text};
use crate::output::Document;
use crate::table::table;

const MONITOR: &[Flag] = &[
    text("log-level", "The least severe lines: `trace`, `debug`, `info` (the default), `warn` or `error`."),
    text("log-format", "How lines look: `standard` (the default) or `json`."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["monitor"],
        examples: &["monitor -log-level=debug"],
        arguments: "[options]",
        about: "Show what a server logs, as it does, until it or this command is stopped.",
        flags: &[CONNECTION, MONITOR],
        action: Action::Run(monitor),
    },
    Command {
        words: &["version-history"],
        examples: &["version-history"],
        arguments: "[options]",
        about: "Show which releases have led the cluster, and since when.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(version_history),
    },
];

fn monitor(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let level = context.flags.text("log-level").unwrap_or("info").to_owned();
    let format = context.flags.text("log-format").unwrap_or("standard").to_owned();
    let query = [("log_level", level.as_str()), ("log_format", format.as_str())];
    let mut out = std::io::stdout();
    let mut take = |bytes: &[u8]| {
        use std::io::Write as _;
        // Whoever reads it may be gone.
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| error.to_string())
    };
    context.download("sys/monitor", &query, &mut take).map_err(|failure| failure.during("monitoring"))?;
    Ok(0)
}

fn version_history(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let answer = context.send(Method::List, "sys/version-history", &[], None);
    let answer = answer.map_err(|failure| failure.during("listing the releases"))?.unwrap_or_default();
    let data = answer.get("data").cloned().unwrap_or_default();
    let of = |name: &str, field: &str| {
        let value = data.get("key_info").and_then(|info| info.get(name)?.get(field)?.as_str());
        value.unwrap_or_default().to_owned()
    };
    let names = data.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        vec![name.to_owned(), of(name, "timestamp_installed"), of(name, "build_date")]
    };
    let rows: Vec<Vec<String>> = names.iter().map(row).collect();
    context
        .print_document(Document::Value(data.clone()), || table(&["Version", "Installation Time", "Build Date"], &rows))
}
