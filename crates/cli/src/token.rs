//! `token create`, `lookup`, `renew`, `revoke`, `capabilities`.

use serde_json::{Map, Value, json};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, seconds_if_bare};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::flags::{CONNECTION, FIELD, FORMAT, Flag, repeated, switch, text};
use crate::output::Document;

const CREATE: &[Flag] = &[
    text("id", "The token's own text; needs sudo."),
    text("display-name", "Name that appears in audit records."),
    text("ttl", "Lifetime until the next renewal, such as 1h."),
    text("explicit-max-ttl", "Lifetime that no renewal can exceed."),
    text("period", "Makes a periodic token: each renewal gives it this long."),
    switch("renewable", "Whether the token can be renewed; true when not given."),
    switch("orphan", "Create a token without a parent."),
    switch("no-default-policy", "Leave out the policy `default`."),
    text("use-limit", "How often the token can be used."),
    text("role", "Create the token as this role says."),
    text("type", "service or batch."),
    text("entity-alias", "Entity alias of the token; needs a role."),
    repeated("metadata", "Pair name=value to keep with the token; may be given several times."),
    repeated("policy", "Policy of the token; may be given several times."),
];
const ACCESSOR: &[Flag] = &[switch("accessor", "The argument is an accessor, not a token.")];
const RENEW: &[Flag] = &[text("increment", "Lifetime to ask for, such as 1h."), text("i", "Short for -increment.")];
const REVOKE: &[Flag] = &[
    switch("self", "Revoke the current token."),
    text("mode", "orphan: keep the children; path: revoke every token made below this path."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["token", "create"],
        examples: &["token create -policy=app -ttl=1h", "token create -role=ci -orphan"],
        arguments: "[options]",
        about: "Create a token, by default a child of the current one.",
        flags: &[CONNECTION, FORMAT, FIELD, CREATE],
        action: Action::Run(create),
    },
    Command {
        words: &["token", "lookup"],
        examples: &["token lookup", "token lookup -accessor ACCESSOR"],
        arguments: "[options] [TOKEN | ACCESSOR]",
        about: "Show what is known about a token; without an argument about the current one.",
        flags: &[CONNECTION, FORMAT, FIELD, ACCESSOR],
        action: Action::Run(lookup),
    },
    Command {
        words: &["token", "renew"],
        examples: &["token renew", "token renew -increment=24h -accessor ACCESSOR"],
        arguments: "[options] [TOKEN | ACCESSOR]",
        about: "Renew a token; without an argument the current one.",
        flags: &[CONNECTION, FORMAT, FIELD, ACCESSOR, RENEW],
        action: Action::Run(renew),
    },
    Command {
        words: &["token", "revoke"],
        examples: &["token revoke -accessor ACCESSOR", "token revoke -self"],
        arguments: "[options] [TOKEN | ACCESSOR]",
        about: "Revoke a token and its children.",
        flags: &[CONNECTION, ACCESSOR, REVOKE],
        action: Action::Run(revoke),
    },
    Command {
        words: &["token", "capabilities"],
        examples: &["token capabilities secret/data/app"],
        arguments: "[options] [TOKEN | ACCESSOR] PATH",
        about: "List what a token may do on a path; without a token what the current one may.",
        flags: &[CONNECTION, FORMAT, ACCESSOR],
        action: Action::Run(capabilities),
    },
];

fn create(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let mut body = Map::new();
    for (flag, field) in
        [("id", "id"), ("display-name", "display_name"), ("type", "type"), ("entity-alias", "entity_alias")]
    {
        if let Some(value) = context.flag(flag) {
            body.insert(field.to_owned(), value.into());
        }
    }
    for (flag, field) in [("ttl", "ttl"), ("explicit-max-ttl", "explicit_max_ttl"), ("period", "period")] {
        if let Some(value) = context.flag(flag) {
            body.insert(field.to_owned(), seconds_if_bare(value).into());
        }
    }
    if let Some(limit) = context.flag("use-limit") {
        let limit: u64 =
            limit.parse().map_err(|_| Failure::Usage(format!("invalid value `{limit}` for flag `-use-limit`")))?;
        body.insert("num_uses".to_owned(), limit.into());
    }
    body.insert("renewable".to_owned(), context.flags.switch_if_given("renewable").unwrap_or(true).into());
    for (flag, field) in [("orphan", "no_parent"), ("no-default-policy", "no_default_policy")] {
        if context.flags.switch(flag) {
            body.insert(field.to_owned(), true.into());
        }
    }
    let metadata = context.pairs("metadata")?;
    if !metadata.is_empty() {
        body.insert("meta".to_owned(), Value::Object(metadata));
    }
    let policies = context.flags.texts("policy");
    if !policies.is_empty() {
        body.insert("policies".to_owned(), policies.iter().flat_map(|list| list.split(',')).map(str::trim).collect());
    }
    let path = match context.flag("role") {
        Some(role) => format!("auth/token/create/{role}"),
        None => "auth/token/create".to_owned(),
    };
    let answer = context
        .change(Method::Post, &path, Some(&Value::Object(body)))
        .map_err(|failure| failure.during("creating token"))?;
    print(context, answer)
}

fn print(context: &mut Context<'_, '_>, answer: Option<Envelope>) -> Outcome {
    match answer {
        Some(answer) => context.print_envelope(&answer),
        None => Err(Failure::remote("The server answered without content")),
    }
}

/// The one optional argument.
fn subject(context: &Context<'_, '_>) -> Result<Option<String>, Failure> {
    match context.flags.arguments.as_slice() {
        [] if context.flags.switch("accessor") => Err(Failure::Usage("the accessor is missing".to_owned())),
        [] => Ok(None),
        [subject] => Ok(Some(subject.trim().to_owned())),
        _ => Err(Failure::Usage("too many arguments (expected at most 1)".to_owned())),
    }
}

fn lookup(context: &mut Context<'_, '_>) -> Outcome {
    let answer = match subject(context)? {
        None => context.send(Method::Get, "auth/token/lookup-self", &[], None),
        Some(accessor) if context.flags.switch("accessor") => {
            context.send(Method::Post, "auth/token/lookup-accessor", &[], Some(&json!({ "accessor": accessor })))
        }
        Some(token) => context.send(Method::Post, "auth/token/lookup", &[], Some(&json!({ "token": token }))),
    };
    let answer = answer.map_err(|failure| failure.during("looking up token"))?;
    print(context, answer.map(Envelope::new))
}

fn renew(context: &mut Context<'_, '_>) -> Outcome {
    let mut body = Map::new();
    if let Some(increment) = context.flag("increment").or_else(|| context.flag("i")) {
        body.insert("increment".to_owned(), seconds_if_bare(increment).into());
    }
    let path = match subject(context)? {
        None => "auth/token/renew-self",
        Some(accessor) if context.flags.switch("accessor") => {
            body.insert("accessor".to_owned(), accessor.into());
            "auth/token/renew-accessor"
        }
        Some(token) => {
            body.insert("token".to_owned(), token.into());
            "auth/token/renew"
        }
    };
    let answer = context
        .change(Method::Put, path, Some(&Value::Object(body)))
        .map_err(|failure| failure.during("renewing token"))?;
    print(context, answer)
}

fn revoke(context: &mut Context<'_, '_>) -> Outcome {
    let mode = context.flag("mode").unwrap_or_default().to_owned();
    let own = context.flags.switch("self");
    let accessor = context.flags.switch("accessor");
    let (path, body) = match (subject(context)?, mode.as_str(), own, accessor) {
        (None, "", true, false) => ("auth/token/revoke-self".to_owned(), None),
        (Some(_), _, true, _) => return Err(Failure::Usage("-self excludes an argument".to_owned())),
        (None, ..) => return Err(Failure::Usage("a token is needed, or -self".to_owned())),
        (Some(token), "", false, false) => ("auth/token/revoke".to_owned(), Some(json!({ "token": token }))),
        (Some(accessor), "", false, true) => {
            ("auth/token/revoke-accessor".to_owned(), Some(json!({ "accessor": accessor })))
        }
        (Some(token), "orphan", false, false) => {
            ("auth/token/revoke-orphan".to_owned(), Some(json!({ "token": token })))
        }
        (Some(prefix), "path", false, false) => {
            (format!("sys/leases/revoke-prefix/{}", prefix.trim_matches('/')), None)
        }
        (_, "orphan" | "path", ..) => return Err(Failure::Usage("-accessor excludes this mode".to_owned())),
        (_, mode, ..) => return Err(Failure::Usage(format!("invalid mode `{mode}`: orphan or path expected"))),
    };
    context.change(Method::Put, &path, body.as_ref()).map_err(|failure| failure.during("revoking token"))?;
    context.io.say("Success! Revoked token (if it existed)");
    Ok(0)
}

fn capabilities(context: &mut Context<'_, '_>) -> Outcome {
    let accessor = context.flags.switch("accessor");
    let (endpoint, path, body) = match context.flags.arguments.as_slice() {
        [path] if !accessor => ("sys/capabilities-self", path, json!({ "paths": [path] })),
        [subject, path] if accessor => {
            ("sys/capabilities-accessor", path, json!({ "accessor": subject, "paths": [path] }))
        }
        [subject, path] => ("sys/capabilities", path, json!({ "token": subject, "paths": [path] })),
        _ => return Err(Failure::Usage("a path is needed, or a token and a path".to_owned())),
    };
    let path = path.clone();
    let answer = context
        .change(Method::Post, endpoint, Some(&body))
        .map_err(|failure| failure.during("listing capabilities"))?
        .ok_or_else(|| Failure::remote("No capabilities found"))?;
    let list = answer.data_field(&path).or_else(|| answer.data_field("capabilities")).and_then(Value::as_array);
    let Some(list) = list else { return Err(Failure::remote("No capabilities found")) };
    let mut names: Vec<String> = list.iter().map(crate::output::cell).collect();
    names.sort_unstable();
    let document = Document::Value(names.iter().cloned().collect());
    context.print_document(document, || names.join(", "))
}
