//! `operator raft autopilot`: what the leader does by itself about nodes, and what it makes of each.
//!
//! Deliberately absent: any judgement; what is shown is what the server says.

use serde_json::{Map, Value};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, switch, text};
use crate::output::{Format, cell};
use crate::table::table;

const CONFIGURATION: &str = "sys/storage/raft/autopilot/configuration";
const STATE: &str = "sys/storage/raft/autopilot/state";

const SET_CONFIG: &[Flag] = &[
    switch("cleanup-dead-servers", "Remove nodes that are dead."),
    text("last-contact-threshold", "How long a node may be unheard and still be healthy."),
    text("dead-server-last-contact-threshold", "How long a node may be unheard and still not be dead."),
    text("max-trailing-logs", "How many entries a node may lack and still be healthy."),
    text("min-quorum", "How many voters a removal leaves at least."),
    text("server-stabilization-time", "How long a node that joined must have been healthy before it votes."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["operator", "raft", "autopilot", "get-config"],
        examples: &["operator raft autopilot get-config"],
        arguments: "[options]",
        about: "Show what the leader does about nodes that joined, or are dead.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(get_config),
    },
    Command {
        words: &["operator", "raft", "autopilot", "set-config"],
        examples: &["operator raft autopilot set-config -cleanup-dead-servers -min-quorum=3"],
        arguments: "[options]",
        about: "Change what the leader does about nodes that joined, or are dead.",
        flags: &[CONNECTION, SET_CONFIG],
        action: Action::Run(set_config),
    },
    Command {
        words: &["operator", "raft", "autopilot", "state"],
        examples: &["operator raft autopilot state"],
        arguments: "[options]",
        about: "Show what the leader makes of each node.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(state),
    },
];

fn get_config(context: &mut Context<'_, '_>) -> Outcome {
    const ROWS: &[(&str, &str)] = &[
        ("Cleanup Dead Servers", "cleanup_dead_servers"),
        ("Last Contact Threshold", "last_contact_threshold"),
        ("Dead Server Last Contact Threshold", "dead_server_last_contact_threshold"),
        ("Server Stabilization Time", "server_stabilization_time"),
        ("Min Quorum", "min_quorum"),
        ("Max Trailing Logs", "max_trailing_logs"),
    ];
    let [] = context.arguments()?;
    let failed = |failure: Failure| failure.during("reading the autopilot configuration");
    let answer = context.read(CONFIGURATION, &[]).map_err(failed)?;
    let answer = answer.ok_or_else(|| Failure::remote("No autopilot configuration found"))?;
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    let shown = |name: &str| answer.data_field(name).map(cell).unwrap_or_default();
    let rows: Vec<_> = ROWS.iter().map(|(title, name)| vec![(*title).to_owned(), shown(name)]).collect();
    context.say_table(&table(&["Key", "Value"], &rows));
    Ok(0)
}

fn set_config(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let mut body = Map::new();
    if let Some(given) = context.flags.switch_if_given("cleanup-dead-servers") {
        body.insert("cleanup_dead_servers".to_owned(), given.into());
    }
    for flag in SET_CONFIG.iter().map(|flag| flag.name).filter(|name| *name != "cleanup-dead-servers") {
        if let Some(given) = context.flag(flag) {
            body.insert(flag.replace('-', "_"), given.into());
        }
    }
    context
        .change(Method::Post, CONFIGURATION, Some(&Value::Object(body)))
        .map_err(|failure| failure.during("writing the autopilot configuration"))?;
    context.io.say("Success! Updated the autopilot configuration.");
    Ok(0)
}

fn state(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let answer = context.read(STATE, &[]).map_err(|failure| failure.during("checking autopilot state"))?;
    let answer = answer.ok_or_else(|| Failure::remote("No autopilot state found"))?;
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    let shown = |name: &str| answer.data_field(name).map(cell).unwrap_or_default();
    let mut text = String::new();
    let mut line = |depth: usize, name: &str, value: &str| {
        let name = if value.is_empty() { name.to_owned() } else { format!("{name:<width$}", width = 33 - depth * 3) };
        text.push_str(&format!("{}{name}{value}\n", "   ".repeat(depth)));
    };
    line(0, "Healthy:", &shown("healthy"));
    line(0, "Failure Tolerance:", &shown("failure_tolerance"));
    line(0, "Leader:", &shown("leader"));
    for (title, name) in [("Voters:", "voters"), ("Non Voters:", "non_voters")] {
        let names = answer.data_field(name).and_then(Value::as_array);
        let names = names.map(Vec::as_slice).unwrap_or_default();
        if !names.is_empty() {
            line(0, title, "");
        }
        names.iter().for_each(|name| line(1, &cell(name), ""));
    }
    line(0, "Servers:", "");
    for (name, server) in answer.data_field("servers").and_then(Value::as_object).into_iter().flatten() {
        line(1, name, "");
        for (title, field) in [
            ("Name:", "name"),
            ("Address:", "address"),
            ("Status:", "status"),
            ("Node Status:", "node_status"),
            ("Healthy:", "healthy"),
            ("Last Contact:", "last_contact"),
            ("Last Term:", "last_term"),
            ("Last Index:", "last_index"),
            ("Version:", "version"),
            ("Node Type:", "node_type"),
        ] {
            line(2, title, &server.get(field).map(cell).unwrap_or_default());
        }
    }
    context.io.say(text.trim_end());
    Ok(0)
}
