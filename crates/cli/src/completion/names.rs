//! Names that the server knows: paths, mounts, policies, peers. Asked with the token and address of the line, within a second,
//! once; where there is no token, no answer or no right to it, nothing is offered. Names that a shell would take apart are
//! left out: whoever may write a secret must not write what others type.

use std::time::Duration;

use serde_json::Value;
use tresor_client::Method;

use super::Offered;
use crate::commands::Command;
use crate::context::{Context, trim_path};
use crate::contexts::{self, Place};
use crate::environment::Environment;
use crate::flags::{Parsed, parse};
use crate::io::Io;

/// How long a shell waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The line, as far as it is whole.
pub(super) struct Asked<'a> {
    pub(super) environment: &'a Environment,
    pub(super) command: &'a Command,
    pub(super) rest: &'a [String],
}

/// What may stand as an argument of the command.
pub(super) fn arguments(asked: &Asked<'_>, current: &str) -> Vec<String> {
    let parsed = parsed(asked);
    let is_first = parsed.arguments.is_empty();
    let fixed =
        |words: &[&str]| if is_first { words.iter().map(|&word| word.to_owned()).collect() } else { Vec::new() };
    match asked.command.words {
        ["kv", "enable-versioning"] => mounts(asked, "sys/mounts"),
        ["kv", ..] if is_first => of_kv(asked, &parsed, current),
        ["read" | "write" | "patch" | "delete" | "list" | "scan" | "path-help"] if is_first => paths(asked, current),
        ["token", "capabilities"] => paths(asked, current),
        ["policy", "why"] if is_first => {
            fixed(&["create", "read", "update", "delete", "list", "patch", "scan", "write"])
        }
        ["policy", "why"] => paths(asked, current),
        ["secrets", "enable"] => fixed(&["aws", "database", "kv", "kv-v2", "ldap", "rabbitmq"]),
        ["secrets", "disable" | "tune" | "move"] if is_first => mounts(asked, "sys/mounts"),
        ["auth", "enable"] => fixed(&["approle", "github", "userpass"]),
        ["auth", "disable" | "tune" | "move" | "help"] if is_first => mounts(asked, "sys/auth"),
        ["audit", "enable"] => fixed(&["file", "http", "socket", "syslog"]),
        ["audit", "disable"] if is_first => mounts(asked, "sys/audit"),
        ["policy", "read" | "write" | "delete"] if is_first => listed(asked, "sys/policies/acl"),
        ["namespace", ..] if is_first => listed(asked, "sys/namespaces"),
        ["lease", ..] if is_first => below(asked, "sys/leases/lookup", current),
        ["operator", "raft", "remove-peer" | "promote" | "demote"] if is_first => peers(asked),
        ["context", "use" | "remove"] if is_first => contexts(asked.environment),
        _ => Vec::new(),
    }
}

fn parsed(asked: &Asked<'_>) -> Parsed {
    parse(asked.rest, asked.command.flags).unwrap_or_default()
}

/// The names of contexts.
pub(super) fn contexts(environment: &Environment) -> Vec<String> {
    let kept = Place::of(environment).and_then(|place| place.load().ok());
    kept.map(|kept| kept.by_name.into_keys().collect()).unwrap_or_default()
}

/// Asks the server something; nothing without a token, and nothing when it does not answer well.
fn ask(asked: &Asked<'_>, requests: impl FnOnce(&mut Context<'_, '_>) -> Offered) -> Vec<String> {
    let bound = PATIENCE.as_millis();
    let environment =
        asked.environment.with("VAULT_CLIENT_TIMEOUT", &format!("{bound}ms")).with("VAULT_MAX_RETRIES", "0");
    let mut io = Io::of_nobody();
    let mut context = Context::new(&mut io, &environment, parsed(asked));
    context.unwrapped();
    let chosen = contexts::in_use(&environment, &context.flags);
    let Ok(in_use) = chosen else { return Vec::new() };
    context.in_use = in_use;
    if !matches!(context.usual_token(), Ok(Some(_))) {
        return Vec::new();
    }
    let mut offered = requests(&mut context).unwrap_or_default();
    offered.retain(|name| is_safe(name));
    offered
}

/// Whether a name stands for itself on the line of every shell.
fn is_safe(name: &str) -> bool {
    name.chars().all(|letter| letter.is_alphanumeric() || "/._:@%+,-".contains(letter)) && !name.starts_with('-')
}

fn data(context: &mut Context<'_, '_>, method: Method, path: &str) -> Result<Value, crate::failure::Failure> {
    let bytes = context.send_always(method, path, &[], None)?;
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(answer.get("data").cloned().unwrap_or_default())
}

fn keys(data: &Value) -> Vec<String> {
    let keys = data.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The names that a list answers.
pub(super) fn listed(asked: &Asked<'_>, path: &str) -> Vec<String> {
    ask(asked, |context| Ok(keys(&data(context, Method::List, path)?)))
}

/// The paths of a table of mounts.
pub(super) fn mounts(asked: &Asked<'_>, table: &str) -> Vec<String> {
    ask(asked, |context| {
        let mounts = data(context, Method::Get, table)?;
        Ok(mounts.as_object().map(|mounts| mounts.keys().cloned().collect()).unwrap_or_default())
    })
}

fn peers(asked: &Asked<'_>) -> Vec<String> {
    ask(asked, |context| {
        let configuration = data(context, Method::Get, "sys/storage/raft/configuration")?;
        let servers = configuration.pointer("/config/servers").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(servers.iter().filter_map(|server| Some(server.get("node_id")?.as_str()?.to_owned())).collect())
    })
}

/// The part of a path that is whole, with its slash, and what is typed behind it.
fn directory(typed: &str) -> &str {
    typed.rfind('/').and_then(|at| typed.get(..=at)).unwrap_or_default()
}

/// What is listed in the directory of what is typed, below a path of the API.
fn below(asked: &Asked<'_>, root: &str, typed: &str) -> Vec<String> {
    let directory = directory(typed);
    let listed = listed(asked, trim_path(&format!("{root}/{directory}")).as_str());
    listed.into_iter().map(|name| format!("{directory}{name}")).collect()
}

/// The mounts that the caller sees: path, and whether there are versions.
fn visible(context: &mut Context<'_, '_>, kind: &str) -> Result<Vec<(String, bool)>, crate::failure::Failure> {
    let mounts = data(context, Method::Get, "sys/internal/ui/mounts")?;
    let found = mounts.get(kind).and_then(Value::as_object).cloned().unwrap_or_default();
    let has_versions = |mount: &Value| mount.pointer("/options/version").and_then(Value::as_str) == Some("2");
    Ok(found.into_iter().map(|(path, mount)| (path, has_versions(&mount))).collect())
}

/// Secrets, by the paths that `kv` takes.
fn of_kv(asked: &Asked<'_>, parsed: &Parsed, typed: &str) -> Vec<String> {
    let given = parsed.text("mount").map(|mount| format!("{}/", trim_path(mount)));
    ask(asked, |context| {
        let mounts = visible(context, "secret")?;
        let whole = format!("{}{typed}", given.clone().unwrap_or_default());
        let Some((mount, has_versions)) = mounts.iter().find(|(mount, _)| whole.starts_with(mount.as_str())) else {
            return Ok(mounts.into_iter().map(|(mount, _)| mount).collect());
        };
        let inside = whole.strip_prefix(mount.as_str()).unwrap_or_default();
        let (directory, metadata) = (directory(inside), if *has_versions { "metadata/" } else { "" });
        let listed = keys(&data(context, Method::List, trim_path(&format!("{mount}{metadata}{directory}")).as_str())?);
        let before = if given.is_some() { "" } else { mount.as_str() };
        Ok(listed.into_iter().map(|name| format!("{before}{directory}{name}")).collect())
    })
}

/// Paths of the API: mounts first, then what is listed in them.
fn paths(asked: &Asked<'_>, typed: &str) -> Vec<String> {
    ask(asked, |context| {
        let mut mounts = visible(context, "secret")?;
        mounts.extend(visible(context, "auth")?.into_iter().map(|(path, _)| (format!("auth/{path}"), false)));
        let directory = directory(typed);
        let Some((mount, has_versions)) = mounts.iter().find(|(mount, _)| directory.starts_with(mount.as_str())) else {
            return Ok(mounts.into_iter().map(|(mount, _)| mount).collect());
        };
        let inside = directory.strip_prefix(mount.as_str()).unwrap_or_default();
        if *has_versions && inside.is_empty() {
            let parts = ["config", "data/", "delete/", "destroy/", "metadata/", "subkeys/", "undelete/"];
            return Ok(parts.iter().map(|part| format!("{mount}{part}")).collect());
        }
        // Whatever is done to a secret with versions, its names are those of the metadata.
        let listing = match (has_versions, inside.split_once('/')) {
            (true, Some((_, rest))) => format!("{mount}metadata/{rest}"),
            _ => directory.to_owned(),
        };
        let listed = keys(&data(context, Method::List, trim_path(&listing).as_str())?);
        Ok(listed.into_iter().map(|name| format!("{directory}{name}")).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_take_apart_is_not_offered() {
        for (name, expected) in [
            ("secret/a_b.c:d@e%f+g,h-i", true),
            ("gr\u{fc}n", true),
            ("a b", false),
            ("a;reboot", false),
            ("$(reboot)", false),
            ("`reboot`", false),
            ("a\\b", false),
            ("~root", false),
            ("a*", false),
            ("-force", false),
            ("a\u{1b}[2J", false),
            ("a\nb", false),
        ] {
            assert_eq!(is_safe(name), expected, "{name}");
        }
    }
}
