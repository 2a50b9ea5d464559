//! `secrets enable`, `disable`, `list`, `move`, `tune`.

use serde_json::Map;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::flags::{CONNECTION, DETAILED, FORMAT, Flag, repeated};
use crate::mounts;

const TABLE: &str = "sys/mounts";
const OWN: &[Flag] = &[
    repeated("allowed-managed-keys", "Managed key that the engine may use; may be given several times."),
    repeated("delegated-auth-accessors", "Accessor that the engine may log in through; may be given several times."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["secrets", "enable"],
        examples: &["secrets enable -path=team kv-v2"],
        arguments: "[options] TYPE",
        about: "Enable a secrets engine.",
        flags: &[CONNECTION, mounts::OPTIONS, mounts::ENABLE, OWN],
        action: Action::Run(enable),
    },
    Command {
        words: &["secrets", "disable"],
        examples: &["secrets disable team/", "secrets disable -wait team/"],
        arguments: "[options] PATH",
        about: "Disable a secrets engine; revokes its leases and deletes everything in it.",
        flags: &[CONNECTION, mounts::DISABLE],
        action: Action::Run(disable),
    },
    Command {
        words: &["secrets", "list"],
        examples: &["secrets list -detailed"],
        arguments: "[options]",
        about: "List the enabled secrets engines.",
        flags: &[CONNECTION, FORMAT, DETAILED],
        action: Action::Run(list),
    },
    Command {
        words: &["secrets", "move"],
        examples: &["secrets move team/ teams/a/"],
        arguments: "[options] FROM TO",
        about: "Move a secrets engine to another path; revokes its leases.",
        flags: &[CONNECTION],
        action: Action::Run(relocate),
    },
    Command {
        words: &["secrets", "tune"],
        examples: &["secrets tune -description='what the team needs' team/"],
        arguments: "[options] PATH",
        about: "Change the settings of a secrets engine.",
        flags: &[CONNECTION, mounts::OPTIONS, OWN],
        action: Action::Run(tune),
    },
];

fn enable(context: &mut Context<'_, '_>) -> Outcome {
    let (kind, path) = mounts::enable(context, TABLE).map_err(|failure| failure.during("enabling"))?;
    context.io.say(&format!("Success! Enabled the {kind} secrets engine at: {path}"));
    Ok(0)
}

fn disable(context: &mut Context<'_, '_>) -> Outcome {
    let path = mounts::disable(context, TABLE).map_err(|failure| failure.during("disabling secrets engine"))?;
    context.io.say(&format!("Success! Disabled the secrets engine (if it existed) at: {path}"));
    Ok(0)
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let mounts = mounts::load(context, TABLE).map_err(|failure| failure.during("listing secrets engines"))?;
    let heading: &[&str] = if context.is_detailed() {
        &[
            "Path",
            "Plugin",
            "Accessor",
            "Default TTL",
            "Max TTL",
            "Force No Cache",
            "Replication",
            "Seal Wrap",
            "External Entropy Access",
            "Options",
            "Description",
            "UUID",
            "Version",
            "Running Version",
            "Running SHA256",
            "Deprecation Status",
        ]
    } else {
        &["Path", "Type", "Accessor", "Description"]
    };
    mounts::print(context, &mounts, heading)
}

fn relocate(context: &mut Context<'_, '_>) -> Outcome {
    mounts::relocate(context, "", "secrets engine")
}

fn tune(context: &mut Context<'_, '_>) -> Outcome {
    let path = mounts::tune(context, TABLE, Map::new()).map_err(|failure| failure.during("tuning secrets engine"))?;
    context.io.say(&format!("Success! Tuned the secrets engine at: {path}"));
    Ok(0)
}
