//! `audit enable`, `disable`, `list`.

use serde_json::{Map, Value};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, mount_path};
use crate::failure::Failure;
use crate::flags::{CONNECTION, DETAILED, FORMAT, Flag, switch, text};
use crate::key_values;
use crate::mounts;
use crate::output::{Document, Format, render};

const TABLE: &str = "sys/audit";
const ENABLE: &[Flag] = &[
    text("description", "Description for people."),
    text("path", "Name of the device; its type when not given."),
    switch("local", "Not replicated to other clusters."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["audit", "enable"],
        examples: &["audit enable file file_path=/var/log/tresor/audit.log"],
        arguments: "[options] TYPE [KEY=VALUE...]",
        about: "Enable an audit device, such as: file file_path=/var/log/audit.log.",
        flags: &[CONNECTION, ENABLE],
        action: Action::Run(enable),
    },
    Command {
        words: &["audit", "disable"],
        examples: &["audit disable file/"],
        arguments: "[options] PATH",
        about: "Disable an audit device.",
        flags: &[CONNECTION],
        action: Action::Run(disable),
    },
    Command {
        words: &["audit", "list"],
        examples: &["audit list -detailed"],
        arguments: "[options]",
        about: "List the enabled audit devices.",
        flags: &[CONNECTION, FORMAT, DETAILED],
        action: Action::Run(list),
    },
];

fn enable(context: &mut Context<'_, '_>) -> Outcome {
    let (kind, pairs) = context.first_argument()?;
    let options = key_values::parse_texts(&pairs, &mut *context.io.input)
        .map_err(|error| Failure::local(format!("Failed to parse K=V data: {error}")))?;
    let path = mount_path(context.flag("path").unwrap_or(&kind));
    let body = Value::Object(Map::from_iter([
        ("type".to_owned(), Value::from(kind.clone())),
        ("description".to_owned(), context.flag("description").unwrap_or_default().into()),
        ("options".to_owned(), Value::Object(options)),
        ("local".to_owned(), context.flags.switch("local").into()),
    ]));
    context
        .change(Method::Put, &format!("{TABLE}/{}", path.trim_end_matches('/')), Some(&body))
        .map_err(|failure| failure.during("enabling audit device"))?;
    context.io.say(&format!("Success! Enabled the {kind} audit device at: {path}"));
    Ok(0)
}

fn disable(context: &mut Context<'_, '_>) -> Outcome {
    let path = mounts::disable(context, TABLE).map_err(|failure| failure.during("disabling audit device"))?;
    context.io.say(&format!("Success! Disabled audit device (if it was enabled) at: {path}"));
    Ok(0)
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let devices = mounts::load(context, TABLE).map_err(|failure| failure.during("listing audits"))?;
    if devices.is_empty() {
        return match render(Document::Object(Vec::new()), context.format()?) {
            Some(text) if context.format()? != Format::Table => {
                context.io.say(&text);
                Err(Failure::Exit(2))
            }
            _ => Err(Failure::remote("No audit devices are enabled.")),
        };
    }
    let heading: &[&str] = if context.is_detailed() {
        &["Path", "Type", "Description", "Replication", "Options"]
    } else {
        &["Path", "Type", "Description"]
    };
    mounts::print(context, &devices, heading)
}
