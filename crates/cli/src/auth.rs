//! `auth enable`, `disable`, `list`, `move`, `tune`, `help`.

use serde_json::{Map, Value};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, mount_path, seconds_if_bare};
use crate::failure::Failure;
use crate::flags::{CONNECTION, DETAILED, FORMAT, Flag, text};
use crate::mounts;

const TABLE: &str = "sys/auth";
const OWN: &[Flag] = &[text("token-type", "Type of its tokens: service, batch, default-service or default-batch.")];
const LOCKOUT: &[Flag] = &[
    text("user-lockout-threshold", "Failed logins that lock a user."),
    text("user-lockout-duration", "How long a user stays locked."),
    text("user-lockout-counter-reset-duration", "After how long without a failure counting starts again."),
    text("user-lockout-disable", "true: never lock users."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["auth", "enable"],
        examples: &["auth enable userpass", "auth enable -path=deploy approle"],
        arguments: "[options] TYPE",
        about: "Enable an authentication method.",
        flags: &[CONNECTION, mounts::OPTIONS, mounts::ENABLE, OWN],
        action: Action::Run(enable),
    },
    Command {
        words: &["auth", "disable"],
        examples: &["auth disable userpass/", "auth disable -wait userpass/"],
        arguments: "[options] PATH",
        about: "Disable an authentication method; revokes every token it gave.",
        flags: &[CONNECTION, mounts::DISABLE],
        action: Action::Run(disable),
    },
    Command {
        words: &["auth", "list"],
        examples: &["auth list"],
        arguments: "[options]",
        about: "List the enabled authentication methods.",
        flags: &[CONNECTION, FORMAT, DETAILED],
        action: Action::Run(list),
    },
    Command {
        words: &["auth", "move"],
        examples: &["auth move approle/ deploy/"],
        arguments: "[options] FROM TO",
        about: "Move an authentication method to another path; revokes every token it gave.",
        flags: &[CONNECTION],
        action: Action::Run(relocate),
    },
    Command {
        words: &["auth", "tune"],
        examples: &["auth tune -default-lease-ttl=1h userpass/"],
        arguments: "[options] PATH",
        about: "Change the settings of an authentication method.",
        flags: &[CONNECTION, mounts::OPTIONS, OWN, LOCKOUT],
        action: Action::Run(tune),
    },
    Command {
        words: &["auth", "help"],
        examples: &["auth help userpass"],
        arguments: "[options] TYPE | PATH",
        about: "Print the server's help about an authentication method.",
        flags: &[CONNECTION],
        action: Action::Run(help),
    },
];

fn enable(context: &mut Context<'_, '_>) -> Outcome {
    let (kind, path) = mounts::enable(context, TABLE).map_err(|failure| failure.during("enabling auth method"))?;
    context.io.say(&format!("Success! Enabled {kind} auth method at: {path}"));
    Ok(0)
}

fn disable(context: &mut Context<'_, '_>) -> Outcome {
    let path = mounts::disable(context, TABLE).map_err(|failure| failure.during("disabling auth method"))?;
    context.io.say(&format!("Success! Disabled the auth method (if it existed) at: {path}"));
    Ok(0)
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let mounts = mounts::load(context, TABLE).map_err(|failure| failure.during("listing enabled authentications"))?;
    let heading: &[&str] = if context.is_detailed() {
        &[
            "Path",
            "Plugin",
            "Accessor",
            "Default TTL",
            "Max TTL",
            "Token Type",
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
        &["Path", "Type", "Accessor", "Description", "Version"]
    };
    mounts::print(context, &mounts, heading)
}

fn relocate(context: &mut Context<'_, '_>) -> Outcome {
    mounts::relocate(context, "auth/", "auth method")
}

fn tune(context: &mut Context<'_, '_>) -> Outcome {
    let mut lockout = Map::new();
    if let Some(threshold) = mounts::number(&context.flags, "user-lockout-threshold")? {
        lockout.insert("lockout_threshold".to_owned(), threshold.to_string().into());
    }
    for (flag, field) in [
        ("user-lockout-duration", "lockout_duration"),
        ("user-lockout-counter-reset-duration", "lockout_counter_reset_duration"),
    ] {
        if let Some(value) = context.flag(flag) {
            lockout.insert(field.to_owned(), seconds_if_bare(value).into());
        }
    }
    if let Some(disable) = mounts::truth(&context.flags, "user-lockout-disable")? {
        lockout.insert("lockout_disable".to_owned(), disable.into());
    }
    let mut more = Map::new();
    if !lockout.is_empty() {
        more.insert("user_lockout_config".to_owned(), Value::Object(lockout));
    }
    let path = mounts::tune(context, TABLE, more).map_err(|failure| failure.during("tuning auth method"))?;
    context.io.say(&format!("Success! Tuned the auth method at: {path}"));
    Ok(0)
}

fn help(context: &mut Context<'_, '_>) -> Outcome {
    let [subject] = context.arguments()?;
    let mut path = mount_path(&subject);
    if let Ok(enabled) = mounts::load(context, TABLE) {
        // A type stands for the mount of that type when nothing is mounted under its name.
        if !enabled.contains_key(&path)
            && let Some((found, _)) =
                enabled.iter().find(|(_, mount)| mount.get("type").and_then(Value::as_str) == Some(subject.trim()))
        {
            path.clone_from(found);
        }
    }
    let answer = context
        .send(Method::Get, &format!("auth/{path}"), &[("help", "1")], None)
        .map_err(|failure| failure.during("retrieving help"))?;
    let text = answer
        .as_ref()
        .and_then(|help| help.get("help").or_else(|| help.get("data")?.get("help")))
        .and_then(Value::as_str);
    match text {
        Some(text) => {
            context.io.say(text.trim_end());
            Ok(0)
        }
        None => Err(Failure::remote(format!("No help found for {subject}"))),
    }
}
