//! `kv delete`, `undelete`, `destroy`, `rollback`, `enable-versioning`: the history of a secret.

use serde_json::{Value, json};
use tresor_client::Method;

use super::data::print_written;
use super::target::{Engine, Target};
use crate::context::{Context, Outcome, mount_path};
use crate::failure::Failure;
use crate::logical::{nothing_at, print_change};
use crate::mounts::number;
use crate::waiting::{counted, until_over};

/// The versions that the flag names.
fn versions(context: &Context<'_, '_>) -> Result<Vec<u64>, Failure> {
    let lists = context.flags.texts("versions");
    lists
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| Failure::Usage(format!("invalid value `{text}` for flag `-versions`"))))
        .collect()
}

pub(super) fn delete(context: &mut Context<'_, '_>) -> Outcome {
    let [path] = context.arguments()?;
    let versions = versions(context)?;
    let target = Target::find(context, &path)?;
    let full = target.api_path("data");
    let failed = |failure: Failure| failure.during(format!("deleting {full}"));
    let answer = if target.engine == Engine::Versioned && !versions.is_empty() {
        let path = target.api_path("delete");
        context.change(Method::Put, &path, Some(&json!({ "versions": versions }))).map_err(failed)?
    } else {
        context.change(Method::Delete, &full, None).map_err(failed)?
    };
    print_change(context, answer, &format!("Success! Data deleted (if it existed) at: {full}"))
}

pub(super) fn undelete(context: &mut Context<'_, '_>) -> Outcome {
    change(context, "undelete", "Undelete")
}

pub(super) fn destroy(context: &mut Context<'_, '_>) -> Outcome {
    change(context, "destroy", "Destroy")
}

/// Does something to named versions.
fn change(context: &mut Context<'_, '_>, endpoint: &str, wanted: &str) -> Outcome {
    let [path] = context.arguments()?;
    let versions = versions(context)?;
    if versions.is_empty() {
        return Err(Failure::Usage("no versions provided, use the \"-versions\" flag to specify them".to_owned()));
    }
    let target = Target::find_versioned(context, &path, wanted)?;
    let full = target.api_path(endpoint);
    let answer = context
        .change(Method::Put, &full, Some(&json!({ "versions": versions })))
        .map_err(|failure| failure.during(format!("writing data to {full}")))?;
    print_change(context, answer, &format!("Success! Data written to: {full}"))
}

pub(super) fn rollback(context: &mut Context<'_, '_>) -> Outcome {
    let [path] = context.arguments()?;
    let version = number(&context.flags, "version")?
        .filter(|version| *version > 0)
        .ok_or_else(|| Failure::Usage("missing flag -version: the version to write again".to_owned()))?;
    let target = Target::find_versioned(context, &path, "Rollback")?;
    let full = target.api_path("data");
    let failed = |failure: Failure| failure.during(format!("doing pre-read at {full}"));
    let current = context.read(&full, &[]).map_err(failed)?.ok_or_else(|| nothing_at(&full, None))?;
    let newest = current.data_field("metadata").and_then(|metadata| metadata.get("version")).and_then(Value::as_u64);
    let newest = newest
        .ok_or_else(|| Failure::remote(format!("No metadata found at {full}; rollback only works on existing data")))?;
    let number = version.to_string();
    let old = context.read(&full, &[("version", &number)]).map_err(failed)?;
    let data = old.as_ref().and_then(|old| old.data_field("data")).filter(|data| !data.is_null()).cloned();
    let data = data.ok_or_else(|| {
        Failure::remote(format!(
            "No data found at {full} in version {version}; a deleted version cannot be written again"
        ))
    })?;
    let answer = context
        .change(Method::Put, &full, Some(&json!({ "data": data, "options": { "cas": newest } })))
        .map_err(|failure| failure.during(format!("writing data to {full}")))?;
    print_written(context, answer, &full)
}

pub(super) fn enable(context: &mut Context<'_, '_>) -> Outcome {
    let [path] = context.arguments()?;
    let path = mount_path(&path);
    let body = json!({ "options": { "version": "2" } });
    context
        .change(Method::Post, &format!("sys/mounts/{}/tune", path.trim_end_matches('/')), Some(&body))
        .map_err(|failure| failure.during(format!("tuning secrets engine {path}")))?;
    context.io.say(&format!("Success! Tuned the secrets engine at: {path}"));
    if context.flags.switch("wait") {
        until_over(context, &format!("sys/mounts/{}", path.trim_end_matches('/')), |answer| {
            let Some(upgrade) = answer.data_field("upgrade") else { return Ok(None) };
            let number = |name: &str| upgrade.get(name).and_then(Value::as_u64).unwrap_or(0);
            let (taken, left) = (number("records_taken"), counted(number("records_left")));
            Ok(Some(format!("Taking secrets over: {taken} so far, {left} left")))
        })?;
    }
    Ok(0)
}
