//! The verbs of the API as commands: `read`, `write`, `patch`, `delete`, `list`, `unwrap`, `path-help`, `print token`.

use std::io::Write;

use serde_json::{Map, Value};
use tresor_client::Method;
use tresor_secret::TokenSecret;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, trim_path};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::flags::{CONNECTION, DETAILED, FIELD, FORMAT, Flag, switch, text};
use crate::output::{Document, Format, cell, render};
use crate::table::table;

const FORCE: &[Flag] = &[switch("force", "Send the request even without data."), switch("f", "Short for -force.")];

/// Which part of a listing.
pub(crate) const PAGE: &[Flag] =
    &[text("after", "List names after this one."), text("limit", "List at most so many names.")];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["read"],
        examples: &["read secret/data/app", "read -field=ttl sys/leases/lookup/ID"],
        arguments: "[options] PATH [PARAMETER=VALUE...]",
        about: "Read what is at a path. Pairs become query parameters.",
        flags: &[CONNECTION, FORMAT, FIELD],
        action: Action::Run(read),
    },
    Command {
        words: &["write"],
        examples: &["write auth/userpass/users/ada password=- policies=app", "write kv/app @app.json"],
        arguments: "[options] PATH [KEY=VALUE...]",
        about: "Write fields to a path. Values can be key=@file or key=- (standard input), documents @file.json or -.",
        flags: &[CONNECTION, FORMAT, FIELD, FORCE],
        action: Action::Run(write),
    },
    Command {
        words: &["patch"],
        examples: &["patch sys/policies/acl/app comment='reads its own secrets'"],
        arguments: "[options] PATH [KEY=VALUE...]",
        about: "Change some fields of what is at a path.",
        flags: &[CONNECTION, FORMAT, FIELD, FORCE],
        action: Action::Run(patch),
    },
    Command {
        words: &["delete"],
        examples: &["delete kv/app"],
        arguments: "[options] PATH [PARAMETER=VALUE...]",
        about: "Delete what is at a path. Pairs become query parameters.",
        flags: &[CONNECTION, FORMAT, FIELD],
        action: Action::Run(delete),
    },
    Command {
        words: &["list"],
        examples: &["list secret/metadata", "list -limit=100 -after=app secret/metadata"],
        arguments: "[options] PATH",
        about: "List the names below a path.",
        flags: &[CONNECTION, FORMAT, DETAILED, PAGE],
        action: Action::Run(list),
    },
    Command {
        words: &["scan"],
        examples: &["scan secret/metadata"],
        arguments: "[options] PATH",
        about: "List every name below a path, at any depth.",
        flags: &[CONNECTION, FORMAT, DETAILED, PAGE],
        action: Action::Run(scan),
    },
    Command {
        words: &["unwrap"],
        examples: &["unwrap hvs.CAESI", "unwrap -field=password hvs.CAESI"],
        arguments: "[options] [TOKEN]",
        about: "Fetch the answer behind a wrapping token; without an argument the current token is it.",
        flags: &[CONNECTION, FORMAT, FIELD],
        action: Action::Run(unwrap),
    },
    Command {
        words: &["path-help"],
        examples: &["path-help sys/mounts"],
        arguments: "[options] PATH",
        about: "Print the server's help about a path.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(path_help),
    },
    Command {
        words: &["print", "token"],
        examples: &["print token"],
        arguments: "",
        about: "Print the current token.",
        flags: &[CONNECTION],
        action: Action::Run(print_token),
    },
];

/// Pairs as query parameters: lists repeat their name.
fn query(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut parameters = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Array(entries) => parameters.extend(entries.iter().map(|entry| (name.clone(), text(entry)))),
            other => parameters.push((name.clone(), text(other))),
        }
    }
    parameters
}

fn borrowed(parameters: &[(String, String)]) -> Vec<(&str, &str)> {
    parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The complaint about nothing at a path, with the server's reason if it gave one.
pub(crate) fn nothing_at(path: &str, failure: Option<&Failure>) -> Failure {
    let mut text = format!("No value found at {path}");
    if let Some(Failure::Request(tresor_client::ClientError::Server { errors, warnings, .. })) = failure {
        for reason in errors.iter().chain(warnings) {
            text.push_str(&format!("\n\n* {reason}"));
        }
    }
    Failure::remote(text)
}

fn read(context: &mut Context<'_, '_>) -> Outcome {
    let (path, pairs) = context.first_argument()?;
    let path = trim_path(&path);
    let parameters = query(&context.fields(&pairs)?);
    let answer = match context.send_raw(Method::Get, &path, &borrowed(&parameters), None) {
        Ok(answer) => answer,
        Err(failure) if failure.status() == Some(404) => return Err(nothing_at(&path, Some(&failure))),
        Err(failure) => return Err(failure.during(format!("reading {path}"))),
    };
    if context.format()? == Format::Raw && context.flag("field").is_none() {
        let _ = context.io.output.write_all(&answer).and_then(|()| context.io.output.flush());
        return Ok(0);
    }
    if answer.is_empty() {
        return Err(nothing_at(&path, None));
    }
    let answer = serde_json::from_slice(&answer)
        .map_err(|_| Failure::remote(format!("Error reading {path}: the answer is not JSON; see -format=raw")))?;
    context.print_envelope(&Envelope::new(answer))
}

fn write(context: &mut Context<'_, '_>) -> Outcome {
    change(context, Method::Put)
}

fn patch(context: &mut Context<'_, '_>) -> Outcome {
    change(context, Method::Patch)
}

fn change(context: &mut Context<'_, '_>, method: Method) -> Outcome {
    let (path, pairs) = context.first_argument()?;
    let path = trim_path(&path);
    let force = context.flags.switch("force") || context.flags.switch("f");
    if pairs.is_empty() && !force {
        return Err(Failure::Usage("must supply data or use -force".to_owned()));
    }
    let body = Value::Object(context.fields(&pairs)?);
    if path == "sys/wrapping/wrap" {
        context.wrapped_for("5m");
    }
    let answer = context
        .change(method, &path, Some(&body))
        .map_err(|failure| failure.during(format!("writing data to {path}")))?;
    print_change(context, answer, &format!("Success! Data written to: {path}"))
}

/// Prints what a change answered, or else that it succeeded: also where a field was asked for, since it is done.
pub(crate) fn print_change(context: &mut Context<'_, '_>, answer: Option<Envelope>, success: &str) -> Outcome {
    match answer {
        Some(answer) => context.print_envelope(&answer),
        None => {
            if context.format()? == Format::Table {
                context.io.say(success);
            }
            Ok(0)
        }
    }
}

fn delete(context: &mut Context<'_, '_>) -> Outcome {
    let (path, pairs) = context.first_argument()?;
    let path = trim_path(&path);
    let parameters = query(&context.fields(&pairs)?);
    let answer = context
        .send(Method::Delete, &path, &borrowed(&parameters), None)
        .map_err(|failure| failure.during(format!("deleting {path}")))?
        .map(Envelope::new);
    print_change(context, answer, &format!("Success! Data deleted (if it existed) at: {path}"))
}

fn list(context: &mut Context<'_, '_>) -> Outcome {
    let [path] = context.arguments()?;
    let path = trim_path(&path);
    list_below(context, &path, &format!("listing {path}"))
}

fn scan(context: &mut Context<'_, '_>) -> Outcome {
    let [path] = context.arguments()?;
    let path = trim_path(&path);
    scan_below(context, &path, &format!("scanning {path}"))
}

/// Lists the names below a path.
pub(crate) fn list_below(context: &mut Context<'_, '_>, path: &str, action: &str) -> Outcome {
    names_below(context, Method::List, path, action)
}

/// Lists the names below a path, at any depth.
pub(crate) fn scan_below(context: &mut Context<'_, '_>, path: &str, action: &str) -> Outcome {
    names_below(context, Method::Scan, path, action)
}

fn names_below(context: &mut Context<'_, '_>, method: Method, path: &str, action: &str) -> Outcome {
    let format = context.format()?;
    let nothing = |context: &mut Context<'_, '_>, failure: Option<&Failure>| {
        if let Some(text) = render(Document::Object(Vec::new()), format) {
            context.io.say(&text);
            return Err(Failure::Exit(2));
        }
        Err(nothing_at(path, failure))
    };
    let page: Vec<(&str, String)> =
        ["after", "limit"].into_iter().filter_map(|name| Some((name, context.flag(name)?.to_owned()))).collect();
    let page: Vec<(&str, &str)> = page.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = match context.send(method, path, &page, None) {
        Ok(answer) => answer.map(Envelope::new),
        Err(failure) if failure.status() == Some(404) => return nothing(context, Some(&failure)),
        Err(failure) => return Err(failure.during(action)),
    };
    let Some(answer) = answer else { return nothing(context, None) };
    if answer.is_wrapped() {
        return context.print_envelope(&answer);
    }
    let Some(keys) = answer.keys() else { return nothing(context, None) };
    if context.is_detailed() {
        return print_detailed(context, &answer, &keys);
    }
    context.print_warnings(&answer);
    let document = Document::List(keys.iter().map(|key| Value::String(key.clone()).into()).collect());
    context.print_document(document, || table(&["Keys"], &keys.into_iter().map(|key| vec![key]).collect::<Vec<_>>()))
}

/// Names with what is told of each (`key_info`); for programs, the whole answer.
fn print_detailed(context: &mut Context<'_, '_>, answer: &Envelope, keys: &[String]) -> Outcome {
    let infos = answer.data_field("key_info").and_then(Value::as_object).cloned().unwrap_or_default();
    let fields = infos.values().filter_map(Value::as_object).flat_map(Map::keys).cloned();
    let fields: Vec<String> = fields.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let heading: Vec<&str> = std::iter::once("Keys").chain(fields.iter().map(String::as_str)).collect();
    let row = |key: &String| {
        let shown = |field: &String| infos.get(key).and_then(|info| info.get(field)).map(cell).unwrap_or_default();
        std::iter::once(key.clone()).chain(fields.iter().map(shown)).collect::<Vec<_>>()
    };
    context.print_document(answer.document(), || table(&heading, &keys.iter().map(row).collect::<Vec<_>>()))
}

fn unwrap(context: &mut Context<'_, '_>) -> Outcome {
    let mut body = None;
    match context.flags.arguments.as_slice() {
        [] => {}
        [token] => {
            let token = TokenSecret::parse(token.trim())
                .map_err(|error| Failure::local(format!("Error unwrapping: {error}")))?;
            if context.usual_token()?.is_some() {
                body = Some(Value::Object(Map::from_iter([(
                    "token".to_owned(),
                    Value::String(token.expose().to_owned()),
                )])));
            } else {
                context.use_token(Some(token));
            }
        }
        _ => return Err(Failure::Usage("too many arguments (expected at most 1)".to_owned())),
    }
    context.unwrapped();
    let answer = context
        .change(Method::Put, "sys/wrapping/unwrap", body.as_ref())
        .map_err(|failure| failure.during("unwrapping"))?;
    match answer {
        Some(answer) => context.print_envelope(&answer),
        None => Err(Failure::remote("Could not find wrapped response")),
    }
}

fn path_help(context: &mut Context<'_, '_>) -> Outcome {
    let [path] = context.arguments()?;
    let path = trim_path(&path);
    let answer = context
        .send(Method::Get, &path, &[("help", "1")], None)
        .map_err(|failure| failure.during("retrieving help"))?
        .ok_or_else(|| Failure::remote(format!("No help found at {path}")))?;
    // A server may wrap the help in the usual envelope.
    let help = answer.get("data").filter(|data| data.get("help").is_some()).unwrap_or(&answer).clone();
    let text = help.get("help").and_then(Value::as_str).unwrap_or_default().trim_end().to_owned();
    context.print_document(Document::ordered(&help, &["help", "see_also", "openapi"]), || text)
}

fn print_token(context: &mut Context<'_, '_>) -> Outcome {
    if let Some(token) = context.usual_token()? {
        context.io.say(token.expose());
    }
    Ok(0)
}
