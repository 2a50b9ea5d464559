//! `plugin`: the catalogue of what can be mounted, and engines that are made anew.
//!
//! Every engine is a part of the server, so registering is refused by it, with its reason. Deliberately absent: `plugin
//! init` and container runtimes, which are about programs that run beside the server.

use serde_json::{Map, Value};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::flags::{CONNECTION, FIELD, FORMAT, Flag, repeated, switch, text};
use crate::output::{Format, cell};
use crate::table::table;

const CATALOG: &str = "sys/plugins/catalog";
const RELOAD: &str = "sys/plugins/reload/backend";
const VERSION: &[Flag] = &[text("version", "Version of the plugin.")];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["plugin", "list"],
        examples: &["plugin list", "plugin list -detailed auth"],
        arguments: "[options] [TYPE]",
        about: "List what can be mounted, of a type (auth, database, secret) or of all.",
        flags: &[CONNECTION, FORMAT, &[switch("detailed", "Show the deprecation status, too.")]],
        action: Action::Run(list),
    },
    Command {
        words: &["plugin", "info"],
        examples: &["plugin info secret kv"],
        arguments: "[options] TYPE NAME",
        about: "Show what can be mounted by a name.",
        flags: &[CONNECTION, FORMAT, FIELD, VERSION],
        action: Action::Run(info),
    },
    Command {
        words: &["plugin", "register"],
        examples: &["plugin register -sha256=d3f0a8b1 secret my-plugin"],
        arguments: "[options] TYPE NAME",
        about: "Register an external plugin with a server that runs some; this one has every engine built in.",
        flags: &[
            CONNECTION,
            VERSION,
            &[
                text("sha256", "SHA-256 of the program, in hexadecimal."),
                text("command", "The program; the name when not given."),
                repeated("args", "Argument of the program; may be given several times."),
                repeated("env", "Variable of the program as name=value; may be given several times."),
                switch("oci", "The program comes from an image."),
            ],
        ],
        action: Action::Run(register),
    },
    Command {
        words: &["plugin", "deregister"],
        examples: &["plugin deregister secret my-plugin"],
        arguments: "[options] TYPE NAME",
        about: "Remove an external plugin from the catalogue, if it was registered.",
        flags: &[CONNECTION, VERSION],
        action: Action::Run(deregister),
    },
    Command {
        words: &["plugin", "reload"],
        examples: &["plugin reload -plugin=kv", "plugin reload -mounts=secret/"],
        arguments: "[options] -plugin=NAME | -mounts=PATH",
        about: "Make the engines of mounts anew, on every node: of all of a type, or at paths.",
        flags: &[
            CONNECTION,
            &[
                text("plugin", "The type of the mounts."),
                repeated("mounts", "Path of a mount; may be given several times."),
                text("scope", "`global` or nothing: every node makes them anew in any case."),
            ],
        ],
        action: Action::Run(reload),
    },
    Command {
        words: &["plugin", "reload-status"],
        examples: &["plugin reload-status d60a3e83-a598-4f3a-879d-0ddd95f11d4e"],
        arguments: "[options] RELOAD_ID",
        about: "Show how the engines are that were made anew.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(reload_status),
    },
];

fn answered(answer: Option<Envelope>) -> Result<Envelope, Failure> {
    answer.ok_or_else(|| Failure::remote("the server answered without content"))
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let kind = match context.flags.arguments.as_slice() {
        [] => None,
        [kind] => Some(checked(kind)?),
        more => {
            return Err(Failure::Usage(format!("too many arguments (expected 0 or 1, got {})", more.len())));
        }
    };
    let failed = |failure: Failure| failure.during("listing available plugins");
    let answer = answered(context.read(CATALOG, &[]).map_err(failed)?)?;
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    let all = answer.data_field("detailed").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_asked = |plugin: &&Value| kind.as_deref().is_none_or(|kind| plugin.get("type").is_some_and(|of| of == kind));
    let columns: &[(&str, &str)] = match (context.is_detailed(), kind.is_some()) {
        (true, _) => {
            &[("Name", "name"), ("Type", "type"), ("Version", "version"), ("Deprecation Status", "deprecation_status")]
        }
        (false, false) => &[("Name", "name"), ("Type", "type"), ("Version", "version")],
        (false, true) => &[("Name", "name"), ("Version", "version")],
    };
    let row = |plugin: &Value| {
        columns.iter().map(|(_, field)| plugin.get(field).map(cell).unwrap_or_default()).collect::<Vec<String>>()
    };
    let rows: Vec<Vec<String>> = all.iter().filter(is_asked).map(row).collect();
    let heading: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    context.say_table(&table(&heading, &rows));
    Ok(0)
}

/// A type of plug-ins as people write it.
fn checked(kind: &str) -> Result<String, Failure> {
    match kind.trim() {
        kind @ ("auth" | "database" | "secret") => Ok(kind.to_owned()),
        other => Err(Failure::Usage(format!("`{other}` is no type of plugins: auth, database or secret"))),
    }
}

/// Type and name; without a type, as old command lines go, what clients call `unknown`.
fn named(context: &Context<'_, '_>) -> Result<(Option<String>, String), Failure> {
    match context.flags.arguments.as_slice() {
        [name] => Ok((None, name.trim().to_owned())),
        [kind, name] => Ok((Some(checked(kind)?), name.trim().to_owned())),
        other => Err(Failure::Usage(format!("expected 1 or 2 arguments, got {}", other.len()))),
    }
}

fn path_of(kind: Option<&str>, name: &str) -> String {
    kind.map_or_else(|| format!("{CATALOG}/{name}"), |kind| format!("{CATALOG}/{kind}/{name}"))
}

fn info(context: &mut Context<'_, '_>) -> Outcome {
    let (kind, name) = named(context)?;
    let version = context.flag("version").map(str::to_owned);
    let query: Vec<(&str, &str)> = version.as_deref().map(|version| ("version", version)).into_iter().collect();
    let failed = |failure: Failure| failure.during(format!("reading plugin named {name}"));
    match context.read(&path_of(kind.as_deref(), &name), &query).map_err(failed)? {
        Some(answer) => context.print_envelope(&answer),
        None => Err(Failure::remote(format!("No value found for plugin {name:?}"))),
    }
}

fn register(context: &mut Context<'_, '_>) -> Outcome {
    let (kind, name) = named(context)?;
    let sha256 = context.flag("sha256").map(str::to_owned);
    let sha256 = sha256.ok_or_else(|| Failure::Usage("every plugin needs its -sha256".to_owned()))?;
    let mut body = Map::from_iter([
        ("sha256".to_owned(), Value::from(sha256)),
        ("command".to_owned(), Value::from(context.flag("command").unwrap_or(&name))),
        ("args".to_owned(), context.flags.texts("args").iter().cloned().collect()),
        ("env".to_owned(), context.flags.texts("env").iter().cloned().collect()),
    ]);
    if context.flags.switch("oci") {
        body.insert("oci".to_owned(), true.into());
    }
    if let Some(version) = context.flag("version") {
        body.insert("version".to_owned(), version.into());
    }
    let failed = |failure: Failure| failure.during(format!("registering plugin {name}"));
    let path = path_of(kind.as_deref(), &name);
    context.change(Method::Post, &path, Some(&Value::Object(body))).map_err(failed)?;
    context.io.say(&format!("Success! Registered plugin: {name}"));
    Ok(0)
}

fn deregister(context: &mut Context<'_, '_>) -> Outcome {
    let (kind, name) = named(context)?;
    let version = context.flag("version").map(str::to_owned);
    let query: Vec<(&str, &str)> = version.as_deref().map(|version| ("version", version)).into_iter().collect();
    let failed = |failure: Failure| failure.during(format!("deregistering plugin named {name}"));
    context.send(Method::Delete, &path_of(kind.as_deref(), &name), &query, None).map_err(failed)?;
    context.io.say(&format!("Success! Deregistered plugin (if it was registered): {name}"));
    Ok(0)
}

fn reload(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let plugin = context.flag("plugin").map(str::to_owned);
    let mounts: Vec<String> =
        context.flags.texts("mounts").iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
    let (field, value, what) = match (plugin, mounts.is_empty()) {
        (Some(plugin), true) => ("plugin", Value::from(plugin.clone()), format!("plugin: {plugin}")),
        (None, false) => ("mounts", mounts.iter().cloned().collect(), format!("mounts: [{}]", mounts.join(" "))),
        (None, true) => return Err(Failure::Usage("-plugin or -mounts is needed".to_owned())),
        (Some(_), false) => return Err(Failure::Usage("either -plugin or -mounts, not both".to_owned())),
    };
    let mut body = Map::from_iter([(field.to_owned(), value)]);
    match context.flag("scope") {
        None => {}
        Some("global") => drop(body.insert("scope".to_owned(), "global".into())),
        Some(scope) => return Err(Failure::Usage(format!("`{scope}` is no scope: `global` or nothing"))),
    }
    let failed = |failure: Failure| failure.during("reloading plugin/mounts");
    let answer = context.change(Method::Post, RELOAD, Some(&Value::Object(body))).map_err(failed)?;
    let id = answer.as_ref().and_then(|answer| answer.data_field("reload_id")).and_then(Value::as_str);
    match id.map(str::to_owned) {
        Some(id) => context.io.say(&format!("Success! Reloading {what}, reload_id: {id}")),
        None => context.io.say(&format!("Success! Reloaded {what}")),
    }
    Ok(0)
}

fn reload_status(context: &mut Context<'_, '_>) -> Outcome {
    let [id] = context.arguments()?;
    let failed = |failure: Failure| failure.during("retrieving plugin reload status");
    let answer = context.read(&format!("{RELOAD}/status"), &[("reload_id", id.trim())]).map_err(failed)?;
    let answer = answer.ok_or_else(|| Failure::remote(format!("No reload named {id:?}")))?;
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    let results = answer.data_field("results").and_then(Value::as_object).cloned().unwrap_or_default();
    let text = |result: &Value, field: &str| result.get(field).map(cell).unwrap_or_default();
    let row = |(mount, result): (&String, &Value)| {
        let error = text(result, "error");
        let is_sound = result.get("error").and_then(Value::as_str).is_none_or(str::is_empty);
        vec![text(result, "timestamp"), mount.clone(), is_sound.to_string(), error]
    };
    let rows: Vec<Vec<String>> = results.iter().map(row).collect();
    context.say_table(&table(&["Time", "Participant", "Success", "Message"], &rows));
    Ok(0)
}
