//! `namespace create`, `list`, `scan`, `lookup`, `patch`, `delete`, `lock`, `unlock`, `seal`, `unseal`, `seal-status`,
//! `delete-sealed`.
//!
//! Each is about a namespace below the one that `-namespace` names. Deliberately absent: changing the seal of one.

use serde_json::{Map, Value, json};
use tresor_client::Method;
use tresor_secret::SecretString;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::flags::{CONNECTION, FIELD, FORMAT, Flag, repeated, switch, text};
use crate::logical::{list_below, scan_below};
use crate::mounts::number;
use crate::operator::entered;
use crate::output::{Document, Format};
use crate::waiting::{counted, until_over};
use crate::{pgp_keys, status};

const PATH: &str = "sys/namespaces";
const METADATA: &[Flag] =
    &[repeated("custom-metadata", "Pair name=value to note about the namespace; may be given several times.")];
const SEAL: &[Flag] = &[
    text("key-shares", "Give the namespace a seal of its own, whose key is split into so many shares."),
    text("key-threshold", "How many shares open that seal."),
    text("seal", "File with the seal's configuration, in place of these two."),
    repeated("pgp-keys", "Public keys to encrypt the shares to."),
];
const UNSEAL: &[Flag] = &[switch("reset", "Forget the shares entered so far.")];
const DELETE: &[Flag] = &[switch("wait", "Wait until nothing of it is left, and say how far that is.")];
const FORCE: &[Flag] = &[switch("force", "Delete the namespaces below it, too.")];
const REMOVED: &[Flag] = &[repeated("remove-custom-metadata", "Name of a pair to remove; may be given several times.")];
const LISTING: &[Flag] = &[
    text("after", "List names after this one."),
    text("limit", "How many names to list at most."),
    switch("detailed", "With -format=json or yaml, print what is known of each namespace."),
];
const UNLOCK: &[Flag] = &[text("unlock-key", "The key that locking printed; who has sudo needs none.")];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["namespace", "create"],
        examples: &[
            "namespace create team-a",
            "namespace create -namespace=team-a -custom-metadata=owner=payments inner",
            "namespace create -key-shares=5 -key-threshold=3 team-b",
        ],
        arguments: "[options] NAME",
        about: "Make a namespace. One with a seal of its own comes sealed, and its shares are printed, once.",
        flags: &[CONNECTION, FORMAT, FIELD, METADATA, SEAL],
        action: Action::Run(create),
    },
    Command {
        words: &["namespace", "list"],
        examples: &["namespace list", "namespace list -detailed -format=json"],
        arguments: "[options]",
        about: "List the namespaces directly below.",
        flags: &[CONNECTION, FORMAT, LISTING],
        action: Action::Run(list),
    },
    Command {
        words: &["namespace", "scan"],
        examples: &["namespace scan"],
        arguments: "[options]",
        about: "List every namespace below, at any depth.",
        flags: &[CONNECTION, FORMAT, LISTING],
        action: Action::Run(scan),
    },
    Command {
        words: &["namespace", "lookup"],
        examples: &["namespace lookup team-a"],
        arguments: "[options] NAME",
        about: "Show what is known of a namespace.",
        flags: &[CONNECTION, FORMAT, FIELD],
        action: Action::Run(lookup),
    },
    Command {
        words: &["namespace", "patch"],
        examples: &["namespace patch -custom-metadata=owner=billing team-a"],
        arguments: "[options] NAME",
        about: "Change what is noted about a namespace.",
        flags: &[CONNECTION, FORMAT, FIELD, METADATA, REMOVED],
        action: Action::Run(patch),
    },
    Command {
        words: &["namespace", "delete"],
        examples: &["namespace delete -wait team-a"],
        arguments: "[options] NAME",
        about: "Delete a namespace and everything in it. Nobody reaches it any more; its leases are revoked in the background.",
        flags: &[CONNECTION, DELETE],
        action: Action::Run(delete),
    },
    Command {
        words: &["namespace", "lock"],
        examples: &["namespace lock team-a"],
        arguments: "[options] [PATH]",
        about: "Lock the API of a namespace and of those below it, and print the key that unlocks it.",
        flags: &[CONNECTION, FORMAT, FIELD],
        action: Action::Run(lock),
    },
    Command {
        words: &["namespace", "unlock"],
        examples: &["namespace unlock -unlock-key=KEY team-a"],
        arguments: "[options] [PATH]",
        about: "Unlock the API of a namespace.",
        flags: &[CONNECTION, UNLOCK],
        action: Action::Run(unlock),
    },
    Command {
        words: &["namespace", "seal"],
        examples: &["namespace seal team-b"],
        arguments: "[options] NAME",
        about: "Seal a namespace that has a seal of its own: its keys leave memory, and it answers nothing.",
        flags: &[CONNECTION],
        action: Action::Run(seal),
    },
    Command {
        words: &["namespace", "unseal"],
        examples: &["namespace unseal team-b", "namespace unseal -reset team-b"],
        arguments: "[options] NAME [SHARE]",
        about: "Enter one share of a namespace's own seal.",
        flags: &[CONNECTION, FORMAT, UNSEAL],
        action: Action::Run(unseal),
    },
    Command {
        words: &["namespace", "seal-status"],
        examples: &["namespace seal-status team-b"],
        arguments: "[options] NAME",
        about: "Show the state of a namespace's own seal.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(seal_status),
    },
    Command {
        words: &["namespace", "delete-sealed"],
        examples: &["namespace delete-sealed team-b", "namespace delete-sealed -force team-b"],
        arguments: "[options] NAME",
        about: "Delete a namespace that is sealed, without its keys. What engines handed out from there is not taken back.",
        flags: &[CONNECTION, FORCE],
        action: Action::Run(delete_sealed),
    },
];

fn trimmed(name: &str) -> &str {
    name.trim().trim_matches('/')
}

fn at(name: &str) -> String {
    format!("{PATH}/{}", trimmed(name))
}

/// Sends a change and prints the namespace as it is then.
fn change(context: &mut Context<'_, '_>, method: Method, name: &str, body: &Value, doing: &'static str) -> Outcome {
    let answer = context.change(method, &at(name), Some(body)).map_err(|failure| failure.during(doing))?;
    let answer = answer.ok_or_else(|| Failure::remote("The server answered without content"))?;
    context.print_envelope(&answer)
}

fn create(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let mut body = Map::from_iter([("custom_metadata".to_owned(), context.pairs("custom-metadata")?.into())]);
    let seal = wanted_seal(context)?;
    let keys = pgp_keys::read(context, "pgp-keys")?;
    if let Some(seal) = &seal {
        body.insert("seal".to_owned(), seal.as_str().into());
    }
    if !keys.is_empty() {
        body.insert("pgp_keys".to_owned(), keys.into());
    }
    let body = Value::Object(body);
    if seal.is_none() || context.format()? != Format::Table || context.flag("field").is_some() {
        return change(context, Method::Put, &name, &body, "creating namespace");
    }
    let answer = context
        .change(Method::Put, &at(&name), Some(&body))
        .map_err(|failure| failure.during("creating namespace"))?
        .ok_or_else(|| Failure::remote("The server answered without content"))?;
    let shares = answer.data_field("key_shares").and_then(Value::as_array).cloned().unwrap_or_default();
    for (number, share) in shares.iter().enumerate() {
        context.io.say(&format!("Unseal Key {}: {}", number + 1, share.as_str().unwrap_or_default()));
    }
    let threshold = answer.data_field("key_threshold").and_then(Value::as_u64).unwrap_or_default();
    context.print_warnings(&answer);
    context.io.say(&format!(
        "\nNamespace {}/ has a seal of its own, and is sealed: any {threshold} of these {} keys open it. They are kept\nnowhere: give them to whom they are for.",
        trimmed(&name),
        shares.len()
    ));
    Ok(0)
}

/// The configuration of the seal that is asked for.
fn wanted_seal(context: &Context<'_, '_>) -> Result<Option<String>, Failure> {
    let split = (number(&context.flags, "key-shares")?, number(&context.flags, "key-threshold")?);
    match (context.flag("seal"), split) {
        (None, (None, None)) => Ok(None),
        (None, (Some(shares), Some(threshold))) => {
            Ok(Some(format!("seal \"shamir\" {{ shares = {shares} threshold = {threshold} }}")))
        }
        (Some(file), (None, None)) => std::fs::read_to_string(file)
            .map(Some)
            .map_err(|error| Failure::local(format!("Error reading seal configuration: {error}"))),
        (Some(_), _) => Err(Failure::Usage("-seal does not go with -key-shares and -key-threshold".to_owned())),
        (None, _) => Err(Failure::Usage("-key-shares and -key-threshold go together".to_owned())),
    }
}

fn seal(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let path = format!("{}/seal", at(&name));
    context.change(Method::Put, &path, None).map_err(|failure| failure.during("sealing namespace"))?;
    context.io.say(&format!("Success! Namespace {:?} is sealed.", trimmed(&name)));
    Ok(0)
}

fn unseal(context: &mut Context<'_, '_>) -> Outcome {
    let (name, given) = match context.flags.arguments.as_slice() {
        [name] => (name.clone(), None),
        [name, share] => (name.clone(), Some(SecretString::new(share.clone()))),
        [] => return Err(Failure::Usage("Not enough arguments (expected at least 1, got 0)".to_owned())),
        _ => return Err(Failure::Usage("Too many arguments (expected at most 2)".to_owned())),
    };
    let is_reset = context.flags.switch("reset");
    let body = if is_reset { json!({ "reset": true }) } else { json!({ "key": entered(context, given)? }) };
    let path = format!("{}/unseal", at(&name));
    let doing = if is_reset { "resetting unseal of namespace" } else { "unsealing namespace" };
    let answer = context.change(Method::Put, &path, Some(&body)).map_err(|failure| failure.during(doing))?;
    show(context, answer)
}

fn seal_status(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let path = format!("{}/seal-status", at(&name));
    let answer = context.read(&path, &[]).map_err(|failure| failure.during("reading seal status"))?;
    show(context, answer)
}

/// Prints how a seal stands.
fn show(context: &mut Context<'_, '_>, answer: Option<Envelope>) -> Outcome {
    let answer = answer.ok_or_else(|| Failure::remote("The server answered without content"))?;
    let fields = ["type", "initialized", "sealed", "t", "n", "progress", "nonce"];
    let known = |name: &str| Some((name.to_owned(), answer.data_field(name)?.clone()));
    status::print(context, fields.into_iter().filter_map(known).collect())
}

fn patch(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let mut pairs = context.pairs("custom-metadata")?;
    pairs.extend(context.flags.texts("remove-custom-metadata").iter().map(|name| (name.clone(), Value::Null)));
    if pairs.is_empty() {
        let text = "Must supply at least one of -custom-metadata or -remove-custom-metadata";
        return Err(Failure::Usage(text.to_owned()));
    }
    change(context, Method::Patch, &name, &json!({ "custom_metadata": pairs }), "modifying namespace")
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    if wants_details(context)? {
        return details(context, Method::List);
    }
    list_below(context, PATH, "listing namespaces")
}

fn scan(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    if wants_details(context)? {
        return details(context, Method::Scan);
    }
    scan_below(context, PATH, "scanning namespaces")
}

/// A table shows names only.
fn wants_details(context: &Context<'_, '_>) -> Result<bool, Failure> {
    Ok(context.is_detailed() && context.format()? != Format::Table)
}

fn details(context: &mut Context<'_, '_>, method: Method) -> Outcome {
    let page: Vec<(&str, String)> =
        ["after", "limit"].into_iter().filter_map(|name| Some((name, context.flag(name)?.to_owned()))).collect();
    let page: Vec<(&str, &str)> = page.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = match context.send(method, PATH, &page, None) {
        Ok(answer) => answer,
        Err(failure) if failure.status() == Some(404) => None,
        Err(failure) => return Err(failure.during("listing namespaces")),
    };
    let info = answer.as_ref().and_then(|answer| answer.pointer("/data/key_info")).cloned();
    let is_empty = info.is_none();
    let code = context.print_document(Document::Value(info.unwrap_or_else(|| json!({}))), String::new)?;
    if is_empty { Err(Failure::Exit(2)) } else { Ok(code) }
}

fn lookup(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let answer = context.read(&at(&name), &[]).map_err(|failure| failure.during("looking up namespace"))?;
    match answer {
        Some(answer) => context.print_envelope(&answer),
        None => Err(Failure::remote(format!("No namespace at {}", trimmed(&name)))),
    }
}

fn delete(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let answer =
        context.change(Method::Delete, &at(&name), None).map_err(|failure| failure.during("deleting namespace"))?;
    if let Some(answer) = &answer {
        context.print_warnings(answer);
    }
    context.io.say(&format!("Success! Namespace deletion scheduled: {}/", trimmed(&name)));
    if context.flags.switch("wait") {
        await_gone(context, &at(&name))?;
        context.io.say(&format!("Success! Nothing is left of {}/", trimmed(&name)));
    }
    Ok(0)
}

/// Waits until a deleted namespace is gone, and says how far that is whenever it changed.
fn await_gone(context: &mut Context<'_, '_>, at: &str) -> Result<(), Failure> {
    until_over(context, at, |answer| {
        // Somebody may have made another one by that name meanwhile.
        let Some(deletion) = answer.data_field("deletion") else { return Ok(None) };
        let number = |name: &str| deletion.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(Some(format!(
            "Left: {} tokens and leases, {} mounts, {} records",
            number("tokens_and_leases_left"),
            number("mounts_left"),
            counted(number("records_left"))
        )))
    })
}

fn delete_sealed(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let path = format!("{}/delete-sealed", at(&name));
    let force: &[(&str, &str)] = if context.flags.switch("force") { &[("force", "true")] } else { &[] };
    let answer = context
        .send(Method::Delete, &path, force, None)
        .map_err(|failure| failure.during("deleting sealed namespace"))?
        .map(Envelope::new);
    if let Some(answer) = &answer {
        context.print_warnings(answer);
    }
    context.io.say(&format!("Success! Namespace deletion scheduled: {}/", trimmed(&name)));
    Ok(0)
}

/// The path of the namespace that is to be locked or unlocked; none means the one of the request.
fn locking(context: &Context<'_, '_>, verb: &str) -> Result<String, Failure> {
    match context.flags.arguments.as_slice() {
        [] => Ok(format!("{PATH}/api-lock/{verb}")),
        [path] => Ok(format!("{PATH}/api-lock/{verb}/{}", trimmed(path)).trim_end_matches('/').to_owned()),
        _ => Err(Failure::Usage("Too many arguments (expected at most 1)".to_owned())),
    }
}

fn lock(context: &mut Context<'_, '_>) -> Outcome {
    let path = locking(context, "lock")?;
    let answer = context
        .change(Method::Put, &path, None)
        .map_err(|failure| failure.during("locking namespace"))?
        .ok_or_else(|| Failure::remote("The server answered without content"))?;
    if context.format()? != Format::Table || context.flag("field").is_some() {
        return context.print_envelope(&answer);
    }
    let key = answer.data_field("unlock_key").and_then(Value::as_str).unwrap_or_default().to_owned();
    context.io.say(&format!("Unlock Key: {key}"));
    Ok(0)
}

fn unlock(context: &mut Context<'_, '_>) -> Outcome {
    let path = locking(context, "unlock")?;
    let key = context.flag("unlock-key").map(|key| ("unlock_key".to_owned(), Value::from(key)));
    let body = Value::Object(key.into_iter().collect::<Map<_, _>>());
    let answer =
        context.change(Method::Put, &path, Some(&body)).map_err(|failure| failure.during("unlocking namespace"))?;
    if let Some(answer) = &answer {
        context.print_warnings(answer);
    }
    context.io.say("Success! Unlocked the namespace");
    Ok(0)
}
