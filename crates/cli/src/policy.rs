//! `policy read`, `write`, `delete`, `list`, `fmt`.

use std::io::Read;

use serde_json::{Map, Value, json};
use tresor_client::Method;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, seconds_if_bare};
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, switch, text};
use crate::key_values;
use crate::output::{Document, Format};
use crate::policy_format;

const WRITE: &[Flag] = &[
    text("cas", "Write only when this is the policy's version; -1 when it must not exist yet."),
    switch("cas-required", "From now on, writing the policy needs -cas."),
    text("expiration", "Time in RFC 3339 from when on the policy grants nothing."),
    text("ttl", "The same, counted from now, such as 24h."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["policy", "read"],
        examples: &["policy read app"],
        arguments: "[options] NAME",
        about: "Print a policy as it was written.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(read),
    },
    Command {
        words: &["policy", "write"],
        examples: &["policy write app app.hcl"],
        arguments: "[options] NAME FILE",
        about: "Create or replace a policy from a file, or from standard input when the file is -.",
        flags: &[CONNECTION, WRITE],
        action: Action::Run(write),
    },
    Command {
        words: &["policy", "delete"],
        examples: &["policy delete app"],
        arguments: "[options] NAME",
        about: "Delete a policy.",
        flags: &[CONNECTION],
        action: Action::Run(delete),
    },
    Command {
        words: &["policy", "list"],
        examples: &["policy list"],
        arguments: "[options]",
        about: "List the policies.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(list),
    },
    Command {
        words: &["policy", "fmt"],
        examples: &["policy fmt app.hcl"],
        arguments: "FILE",
        about: "Lay out a policy file uniformly, in place.",
        flags: &[],
        action: Action::Run(format),
    },
];

/// Names are case-insensitive and kept in lower case.
fn name_of(text: &str) -> String {
    text.trim().to_lowercase()
}

fn read(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let name = name_of(&name);
    let answer = context
        .read(&format!("sys/policies/acl/{name}"), &[])
        .map_err(|failure| failure.during(format!("reading policy named {name}")))?;
    let text = answer.as_ref().and_then(|answer| answer.data_field("policy")).and_then(Value::as_str);
    // That of `root` has no text: nothing to print is nothing found.
    let text = text.filter(|text| !text.is_empty());
    let Some(text) = text else { return Err(Failure::remote(format!("No policy named: {name}"))) };
    let document = Document::Value(json!({ "policy": text }));
    if context.format()? == Format::Table {
        // The file comes back as it went in.
        context.io.say_text(text);
        return Ok(0);
    }
    context.print_document(document, String::new)
}

fn write(context: &mut Context<'_, '_>) -> Outcome {
    let [name, file] = context.arguments()?;
    let name = name_of(&name);
    let text = if file == "-" {
        let mut text = String::new();
        context
            .io
            .input
            .read_to_string(&mut text)
            .map_err(|error| Failure::local(format!("Error reading standard input: {error}")))?;
        text
    } else {
        key_values::read_file(&file).map_err(|error| Failure::local(format!("Error {error}")))?
    };
    if text.trim().is_empty() {
        return Err(Failure::local("Error: the policy is empty"));
    }
    let mut body = Map::from_iter([("policy".to_owned(), Value::String(text))]);
    if let Some(cas) = context.flag("cas") {
        let cas: i64 = cas.parse().map_err(|_| Failure::Usage(format!("invalid value `{cas}` for flag `-cas`")))?;
        body.insert("cas".to_owned(), cas.into());
    }
    if let Some(required) = context.flags.switch_if_given("cas-required") {
        body.insert("cas_required".to_owned(), required.into());
    }
    if let Some(end) = context.flag("expiration") {
        body.insert("expiration".to_owned(), end.into());
    }
    if let Some(ttl) = context.flag("ttl") {
        body.insert("ttl".to_owned(), seconds_if_bare(ttl).into());
    }
    context
        .change(Method::Put, &format!("sys/policies/acl/{name}"), Some(&Value::Object(body)))
        .map_err(|failure| failure.during("uploading policy"))?;
    context.io.say(&format!("Success! Uploaded policy: {name}"));
    Ok(0)
}

fn delete(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let name = name_of(&name);
    context
        .change(Method::Delete, &format!("sys/policies/acl/{name}"), None)
        .map_err(|failure| failure.during(format!("deleting {name}")))?;
    context.io.say(&format!("Success! Deleted policy: {name}"));
    Ok(0)
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let answer = context
        .send(Method::List, "sys/policies/acl", &[], None)
        .map_err(|failure| failure.during("listing policies"))?
        .map(crate::envelope::Envelope::new);
    let keys = answer.and_then(|answer| answer.keys()).unwrap_or_default();
    let document = Document::Value(keys.iter().cloned().collect());
    context.print_document(document, || keys.join("\n"))
}

fn format(context: &mut Context<'_, '_>) -> Outcome {
    let [file] = context.arguments()?;
    let text = key_values::read_file(&file).map_err(|error| Failure::local(format!("Error {error}")))?;
    let uniform =
        policy_format::format(&text).map_err(|error| Failure::local(format!("Error in `{file}`: {error}")))?;
    if uniform != text {
        std::fs::write(&file, uniform).map_err(|error| Failure::local(format!("Error writing `{file}`: {error}")))?;
    }
    context.io.say(&format!("Success! Formatted policy: {file}"));
    Ok(0)
}
