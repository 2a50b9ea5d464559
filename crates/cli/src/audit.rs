//! `audit enable`, `disable`, `list`.

use serde_json::{Map, Value};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, mount_path};
use crate::failure::Failure;
use crate::flags::{CONNECTION, DETAILED, FORMAT, Flag, switch, text};
use crate::key_values;
use crate::mounts;
use crate::output::{Format, cell};

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
    if devices.is_empty() && matches!(context.format()?, Format::Table | Format::Raw) {
        return Err(Failure::remote("No audit devices are enabled."));
    }
    let heading: &[&str] = if context.is_detailed() {
        &["Path", "Type", "Description", "Replication", "Options"]
    } else {
        &["Path", "Type", "Description"]
    };
    mounts::print_by(context, &devices, heading, column_of)
}

/// What a column says of a device: its options as they are given.
fn column_of(path: &str, device: &Value, column: &str) -> String {
    match (column, device.get("options").and_then(Value::as_object)) {
        ("Options", Some(options)) => {
            options.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(" ")
        }
        ("Options", None) => String::new(),
        _ => mounts::column_of(path, device, column),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_shown_as_they_are_given() {
        let device = json!({ "type": "file", "options": { "file_path": "stdout", "mode": "0600" } });
        assert_eq!(column_of("file/", &device, "Options"), "file_path=stdout mode=0600");
        assert_eq!(column_of("file/", &json!({}), "Options"), "");
        assert_eq!(column_of("file/", &device, "Type"), "file");
    }
}
