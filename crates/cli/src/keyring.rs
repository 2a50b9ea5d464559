//! `operator rotate` and `key-status`: the terms of the key ring. Deliberately absent: shares (`rekey`).

use serde_json::json;
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT};
use crate::output::{Format, cell};
use crate::table::table;

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["operator", "rotate"],
        examples: &["operator rotate"],
        arguments: "[options]",
        about: "Let a new term of the key ring seal from now on; what older ones sealed still opens.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(rotate),
    },
    Command {
        words: &["operator", "key-status"],
        examples: &["operator key-status"],
        arguments: "[options]",
        about: "Show the term of the key ring that seals, and how much it has sealed.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(key_status),
    },
];

fn rotate(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let failed = |failure: Failure| failure.during("rotating key");
    context.change(Method::Post, "sys/rotate", Some(&json!({}))).map_err(failed)?;
    if context.format()? == Format::Table {
        context.io.say("Success! Rotated key\n");
    }
    show(context)
}

fn key_status(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    show(context)
}

fn show(context: &mut Context<'_, '_>) -> Outcome {
    let answer = context.read("sys/key-status", &[]).map_err(|failure| failure.during("reading key status"))?;
    let answer = answer.ok_or_else(|| Failure::remote("the server answered without content"))?;
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    let shown = |name: &str| answer.data_field(name).map(cell).unwrap_or_default();
    let rows = [("Key Term", "term"), ("Install Time", "install_time"), ("Encryption Count", "encryptions")];
    let rows: Vec<_> = rows.iter().map(|(title, name)| vec![(*title).to_owned(), shown(name)]).collect();
    context.say_table(&table(&["Key", "Value"], &rows));
    Ok(0)
}
