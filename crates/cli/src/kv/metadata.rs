//! `kv metadata get`, `put`, `patch`, `delete`: what is known of a secret beside its values.

use serde_json::{Map, Value};
use tresor_client::Method;

use super::data::{say_path, shown};
use super::target::{Target, section};
use crate::context::{Context, Outcome, seconds_if_bare};
use crate::failure::Failure;
use crate::logical::{nothing_at, print_change};
use crate::mounts::number;
use crate::output::Format;

fn find(context: &mut Context<'_, '_>) -> Result<String, Failure> {
    let [path] = context.arguments()?;
    Ok(Target::find_versioned(context, &path, "Metadata")?.api_path("metadata"))
}

pub(super) fn get(context: &mut Context<'_, '_>) -> Outcome {
    let full = find(context)?;
    let answer = context
        .read(&full, &[])
        .map_err(|failure| failure.during(format!("reading {full}")))?
        .ok_or_else(|| nothing_at(&full, None))?;
    let metadata = answer.data().and_then(Value::as_object);
    let (Some(metadata), Format::Table, None, false) =
        (metadata, context.format()?, context.flag("field"), answer.is_wrapped())
    else {
        return context.print_envelope(&answer);
    };
    context.print_warnings(&answer);
    say_path(context, "Metadata Path", &full);
    let mut text = section("Metadata", &shown(metadata));
    let mut versions: Vec<(u64, &Map<String, Value>)> = metadata
        .get("versions")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(number, version)| Some((number.parse().ok()?, version.as_object()?)))
        .collect();
    versions.sort_by_key(|(number, _)| *number);
    for (number, version) in versions {
        text.push_str(&format!("\n\n{}", section(&format!("Version {number}"), version)));
    }
    context.io.say(&text);
    Ok(0)
}

/// What the flags say about a secret.
fn settings(context: &Context<'_, '_>) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    if let Some(versions) = number(&context.flags, "max-versions")? {
        body.insert("max_versions".to_owned(), versions.into());
    }
    if let Some(required) = context.flags.switch_if_given("cas-required") {
        body.insert("cas_required".to_owned(), required.into());
    }
    if let Some(life) = context.flag("delete-version-after") {
        body.insert("delete_version_after".to_owned(), seconds_if_bare(life).into());
    }
    let mut pairs = context.pairs("custom-metadata")?;
    pairs.extend(context.flags.texts("remove-custom-metadata").iter().map(|name| (name.clone(), Value::Null)));
    if !pairs.is_empty() {
        body.insert("custom_metadata".to_owned(), Value::Object(pairs));
    }
    Ok(body)
}

fn change(context: &mut Context<'_, '_>, method: Method) -> Outcome {
    let body = Value::Object(settings(context)?);
    let full = find(context)?;
    let answer = match context.change(method, &full, Some(&body)) {
        Ok(answer) => answer,
        Err(failure) if failure.status() == Some(404) => return Err(nothing_at(&full, Some(&failure))),
        Err(failure) => return Err(failure.during(format!("writing data to {full}"))),
    };
    print_change(context, answer, &format!("Success! Data written to: {full}"))
}

pub(super) fn put(context: &mut Context<'_, '_>) -> Outcome {
    change(context, Method::Put)
}

pub(super) fn patch(context: &mut Context<'_, '_>) -> Outcome {
    change(context, Method::Patch)
}

pub(super) fn delete(context: &mut Context<'_, '_>) -> Outcome {
    let full = find(context)?;
    let answer =
        context.change(Method::Delete, &full, None).map_err(|failure| failure.during(format!("deleting {full}")))?;
    print_change(context, answer, &format!("Success! Data deleted (if it existed) at: {full}"))
}
