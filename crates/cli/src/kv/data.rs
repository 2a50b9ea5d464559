//! `kv get`, `put`, `patch`, `list`: the secret itself.

use serde_json::{Map, Value, json};
use tresor_client::Method;

use super::target::{Engine, Target, section};
use crate::context::{Context, Outcome};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::logical::{list_below, nothing_at, print_change, scan_below};
use crate::mounts::number;
use crate::output::{Format, banner};

pub(super) fn get(context: &mut Context<'_, '_>) -> Outcome {
    let [path] = context.arguments()?;
    let version = number(&context.flags, "version")?.filter(|version| *version > 0).map(|version| version.to_string());
    let target = Target::find(context, &path)?;
    let full = target.api_path("data");
    let query: Vec<(&str, &str)> = match (&version, target.engine) {
        (Some(version), Engine::Versioned) => vec![("version", version.as_str())],
        _ => Vec::new(),
    };
    let answer = match context.send(Method::Get, &full, &query, None) {
        Ok(Some(answer)) => Envelope::new(answer),
        Ok(None) => return Err(nothing_at(&full, None)),
        Err(failure) if failure.status() == Some(404) => return Err(nothing_at(&full, Some(&failure))),
        Err(failure) => return Err(failure.during(format!("reading {full}"))),
    };
    if answer.is_wrapped() {
        return context.print_envelope(&answer);
    }
    let data = match target.engine {
        Engine::Plain => answer.data().cloned(),
        Engine::Versioned => answer.data_field("data").filter(|data| !data.is_null()).cloned(),
    };
    if let Some(field) = context.flag("field").map(str::to_owned) {
        let Some(data) = data else { return Err(Failure::remote(format!("No data found at {full}"))) };
        // `data` is the whole secret, unless the secret itself has a key of that name.
        let value = data.get(&field).or((field == "data").then_some(&data)).cloned();
        return context.print_value(value, &field);
    }
    if context.format()? != Format::Table {
        return context.print_envelope(&answer);
    }
    context.print_warnings(&answer);
    if target.engine == Engine::Versioned {
        say_path(context, "Secret Path", &full);
        if let Some(metadata) = answer.data_field("metadata").and_then(Value::as_object) {
            let text = section("Metadata", &shown(metadata));
            context.io.say(&format!("{text}\n"));
        }
    }
    if let Some(data) = data.as_ref().and_then(Value::as_object) {
        context.io.say(&section("Data", data));
    }
    Ok(0)
}

/// A path below its heading.
pub(super) fn say_path(context: &mut Context<'_, '_>, title: &str, path: &str) {
    context.io.say(&format!("{}\n{path}\n", banner(title, path.len())));
}

/// Metadata as people see it: what is empty is `n/a`, which the table does by itself.
pub(super) fn shown(metadata: &Map<String, Value>) -> Map<String, Value> {
    metadata.iter().filter(|(name, _)| name.as_str() != "versions").map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// Prints the answer to a write: the new version's metadata below its path.
pub(super) fn print_written(context: &mut Context<'_, '_>, answer: Option<Envelope>, full: &str) -> Outcome {
    let plain = format!("Success! Data written to: {full}");
    let Some(answer) = answer else { return print_change(context, None, &plain) };
    let is_for_people = context.format()? == Format::Table && context.flag("field").is_none();
    match answer.data().and_then(Value::as_object) {
        Some(metadata) if is_for_people && !answer.is_wrapped() => {
            context.print_warnings(&answer);
            say_path(context, "Secret Path", full);
            context.io.say(&section("Metadata", metadata));
            Ok(0)
        }
        _ => context.print_envelope(&answer),
    }
}

/// The `options` of a write.
fn options(context: &Context<'_, '_>) -> Result<Map<String, Value>, Failure> {
    let mut options = Map::new();
    if let Some(text) = context.flag("cas") {
        let cas: i64 = text.parse().map_err(|_| Failure::Usage(format!("invalid value `{text}` for flag `-cas`")))?;
        // -1 is how scripts say `not given`.
        if cas >= 0 {
            options.insert("cas".to_owned(), cas.into());
        }
    }
    Ok(options)
}

pub(super) fn put(context: &mut Context<'_, '_>) -> Outcome {
    let (path, pairs) = context.first_argument()?;
    if pairs.is_empty() {
        return Err(Failure::Usage("must supply data".to_owned()));
    }
    let options = options(context)?;
    let data = context.fields(&pairs)?;
    let target = Target::find(context, &path)?;
    let full = target.api_path("data");
    let body = match target.engine {
        Engine::Plain => Value::Object(data),
        Engine::Versioned => json!({ "data": data, "options": options }),
    };
    let answer = context
        .change(Method::Put, &full, Some(&body))
        .map_err(|failure| failure.during(format!("writing data to {full}")))?;
    print_written(context, answer, &full)
}

pub(super) fn list(context: &mut Context<'_, '_>) -> Outcome {
    let full = directory(context)?;
    list_below(context, &full, &format!("listing {full}"))
}

pub(super) fn scan(context: &mut Context<'_, '_>) -> Outcome {
    let full = directory(context)?;
    scan_below(context, &full, &format!("scanning {full}"))
}

/// The directory that the arguments name; with `-mount` it may be the whole mount.
fn directory(context: &mut Context<'_, '_>) -> Result<String, Failure> {
    let path = match context.flags.arguments.as_slice() {
        [] if context.flag("mount").is_some() => String::new(),
        _ => {
            let [path] = context.arguments()?;
            path
        }
    };
    Ok(Target::find(context, &path)?.api_path("metadata"))
}

pub(super) fn patch(context: &mut Context<'_, '_>) -> Outcome {
    let (path, pairs) = context.first_argument()?;
    let removed = context.flags.texts("remove-data").to_vec();
    if pairs.is_empty() && removed.is_empty() {
        return Err(Failure::Usage("must supply data or -remove-data".to_owned()));
    }
    let method = context.flag("method").unwrap_or_default().to_owned();
    if !matches!(method.as_str(), "" | "patch" | "rw") {
        return Err(Failure::Usage(format!("invalid value `{method}` for flag `-method`: patch or rw expected")));
    }
    let mut options = options(context)?;
    if options.get("cas").and_then(Value::as_i64) == Some(0) {
        options.clear();
    }
    let mut data = context.fields(&pairs)?;
    data.extend(removed.into_iter().map(|key| (key, Value::Null)));
    let target = Target::find(context, &path)?;
    let full = target.api_path("data");
    if target.engine == Engine::Plain {
        return Err(Failure::remote("KV engine mount must be version 2 for patch support"));
    }
    if method != "rw" {
        let body = json!({ "data": data, "options": options });
        match context.change(Method::Patch, &full, Some(&body)) {
            Ok(answer) => return print_written(context, answer, &full),
            Err(failure) if failure.status() == Some(404) => return Err(nothing_at(&full, Some(&failure))),
            // Not every policy knows `patch`, and not every server: reading and writing does the same.
            Err(failure) if method.is_empty() && matches!(failure.status(), Some(403 | 405)) => {}
            Err(failure) => return Err(failure.during(format!("writing data to {full}"))),
        }
    }
    read_then_write(context, &full, data, options)
}

/// Merges on this side; the version that was read guards the write.
fn read_then_write(
    context: &mut Context<'_, '_>,
    full: &str,
    change: Map<String, Value>,
    mut options: Map<String, Value>,
) -> Outcome {
    let failed = |failure: Failure| failure.during(format!("doing pre-read at {full}"));
    let current = context.read(full, &[]).map_err(failed)?.ok_or_else(|| nothing_at(full, None))?;
    let data = current.data_field("data").and_then(Value::as_object);
    let Some(mut data) = data.cloned() else { return Err(nothing_at(full, None)) };
    let version = current.data_field("metadata").and_then(|metadata| metadata.get("version")).cloned();
    if let Some(version) = version {
        options.entry("cas").or_insert(version);
    }
    for (key, value) in change {
        if value.is_null() {
            data.remove(&key);
        } else {
            data.insert(key, value);
        }
    }
    let answer = context
        .change(Method::Put, full, Some(&json!({ "data": data, "options": options })))
        .map_err(|failure| failure.during(format!("writing data to {full}")))?;
    print_written(context, answer, full)
}
