//! `operator seal-slots`: what opens the root key beside each other.
//!
//! A key is read from a file, from standard input (`-`), or from an argument, which other processes can see. Deliberately absent:
//! shares, which `rekey` changes.

use serde_json::{Value, json};
use tresor_client::Method;
use tresor_secret::SecretString;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, text};
use crate::output::{Format, cell};
use crate::rekey::flat;
use crate::table::table;

const PATH: &str = "sys/seal-slots";
const KEY: &[Flag] = &[text("key-id", "The id of the static key. It never means another key.")];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["operator", "seal-slots", "list"],
        examples: &["operator seal-slots list"],
        arguments: "[options]",
        about: "Show what opens the store: the slot of shares, and those of static keys.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(list),
    },
    Command {
        words: &["operator", "seal-slots", "add"],
        examples: &["operator seal-slots add -key-id=spare @spare.key"],
        arguments: "[options] -key-id=ID KEY",
        about: "Let a static key open the store as well: 32 bytes in hexadecimal or base64, @FILE, or - for standard input.",
        flags: &[CONNECTION, FORMAT, KEY],
        action: Action::Run(add),
    },
    Command {
        words: &["operator", "seal-slots", "remove"],
        examples: &["operator seal-slots remove SLOT"],
        arguments: "[options] SLOT",
        about: "Let a static key open the store no more, by the id of its slot.",
        flags: &[CONNECTION],
        action: Action::Run(remove),
    },
    Command {
        words: &["operator", "seal-slots", "test"],
        examples: &["operator seal-slots test -key-id=spare @spare.key"],
        arguments: "[options] -key-id=ID KEY",
        about: "Say whether a static key opens the store. Exit code: 0 it does, 2 it does not.",
        flags: &[CONNECTION, FORMAT, KEY],
        action: Action::Run(test),
    },
];

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let answer = context.read(PATH, &[]).map_err(|failure| failure.during("reading key slots"))?;
    let answer = answer.ok_or_else(|| Failure::remote("the server answered without content"))?;
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    let slots = answer.data_field("slots").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let row = |slot: &Value| {
        ["id", "type", "key_id", "created"]
            .map(|name| slot.get(name).filter(|value| !value.is_null()).map(cell).unwrap_or_default())
    };
    let rows: Vec<Vec<String>> = slots.iter().map(|slot| row(slot).to_vec()).collect();
    context.say_table(&table(&["Slot", "Type", "Key ID", "Created"], &rows));
    Ok(0)
}

fn add(context: &mut Context<'_, '_>) -> Outcome {
    let opened = send(context, PATH, "adding a key slot")?;
    if context.format()? == Format::Table {
        context.io.say(&format!("Success! The key opens the store, by slot {}", slots(&opened)));
        return Ok(0);
    }
    context.print_document(crate::output::Document::Value(opened), String::new)
}

fn remove(context: &mut Context<'_, '_>) -> Outcome {
    let [slot] = context.arguments()?;
    let failed = |failure: Failure| failure.during("removing a key slot");
    context.change(Method::Delete, &format!("{PATH}/{slot}"), None).map_err(failed)?;
    context.io.say("Success! Removed the key slot");
    Ok(0)
}

fn test(context: &mut Context<'_, '_>) -> Outcome {
    let opened = send(context, &format!("{PATH}/test"), "testing a static key")?;
    let opens = opened.get("opens") == Some(&Value::Bool(true));
    let text = if opens {
        format!("The key opens the store, by slot {}", slots(&opened))
    } else {
        "The key opens nothing".to_owned()
    };
    context.print_document(crate::output::Document::Value(opened), || text)?;
    Ok(if opens { 0 } else { 2 })
}

fn slots(opened: &Value) -> String {
    opened.get("slots").map(cell).unwrap_or_default()
}

fn send(context: &mut Context<'_, '_>, path: &str, doing: &'static str) -> Result<Value, Failure> {
    let [key] = context.arguments()?;
    let id = context.flag("key-id").map(str::to_owned);
    let id = id.ok_or_else(|| Failure::Usage("-key-id is needed".to_owned()))?;
    let key = match key.strip_prefix('@') {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            SecretString::new(text.map_err(|error| Failure::local(format!("Error reading {file}: {error}")))?)
        }
        None if key == "-" => crate::operator::from_input(context)?,
        None => SecretString::new(key),
    };
    let body = json!({ "key_id": id, "key": key.expose().trim() });
    Ok(flat(context.send(Method::Post, path, &[], Some(&body)).map_err(|failure| failure.during(doing))?))
}
