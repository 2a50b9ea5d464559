//! `policy why`, `lint` and `test`: why something is denied, what a policy hardly means, and whether it does what its author
//! wants.
//!
//! The first asks the server, which decides; the others need none, unless policies or mounts of one are asked for. Nothing is
//! decided here: both use the functions that the server decides with.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tresor_client::Method;
use tresor_policy::{Cases, Finding, Policy, Severity, lint as look_through};

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome, seconds_if_bare};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::flags::{CONNECTION, FORMAT, Flag, repeated, switch, text};
use crate::key_values;
use crate::output::Document;

const WHY: &[Flag] = &[
    switch("accessor", "The first argument is an accessor, not a token."),
    repeated("parameter", "Parameter name=value that would be sent; may be given several times."),
    text("event-type", "The type of the event, such as kv-v2/data-write, where OPERATION is subscribe."),
];
const LINT: &[Flag] = &[
    repeated("kv2", "Path of a mount that holds KV version 2, such as secret/; may be given several times."),
    switch("server", "The arguments are names of policies on the server, whose mounts are asked for too."),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["policy", "why"],
        examples: &[
            "policy why read secret/data/app",
            "policy why -event-type=kv-v2/data-write subscribe secret/data/app",
        ],
        arguments: "[options] [TOKEN] OPERATION PATH",
        about: "Say why a token may do something or may not, by which rule, and what would grant it, as in \
                `policy why read secret/data/app`. Without TOKEN it is about the current one; `-` reads the token from \
                standard input, so that it appears in no list of processes. Exit code 0 whichever it is: scripts read \
                `allowed` of -format=json.",
        flags: &[CONNECTION, FORMAT, WHY],
        action: Action::Run(why),
    },
    Command {
        words: &["policy", "lint"],
        examples: &["policy lint -kv2=secret/ app.hcl"],
        arguments: "[options] FILE...",
        about: "Name what policies say that is hardly meant: rules that others shadow, paths of KV version 2 without \
                data/, wildcards that match nothing. Exit code 1 when there is anything. No server is needed.",
        flags: &[CONNECTION, FORMAT, LINT],
        action: Action::Run(lint),
    },
    Command {
        words: &["policy", "test"],
        examples: &["policy test cases.hcl"],
        arguments: "[options] FILE",
        about: "Try the cases in a file: policies, paths, and what can and cannot be done. Exit code 1 when one does not \
                hold. Policies are files beside it; names without an ending are read from the server.",
        flags: &[CONNECTION, FORMAT],
        action: Action::Run(test),
    },
];

fn why(context: &mut Context<'_, '_>) -> Outcome {
    let (subject, operation, path) = match context.flags.arguments.as_slice() {
        [operation, path] => (None, operation.clone(), path.clone()),
        [subject, operation, path] => (Some(subject.clone()), operation.clone(), path.clone()),
        other => {
            return Err(Failure::Usage(format!("expected [TOKEN] OPERATION PATH, got {} arguments", other.len())));
        }
    };
    let mut body = Map::new();
    body.insert("operation".to_owned(), operation.into());
    body.insert("path".to_owned(), path.trim().trim_start_matches('/').into());
    let parameters = context.pairs("parameter")?;
    if !parameters.is_empty() {
        body.insert("parameters".to_owned(), Value::Object(parameters));
    }
    if let Some(ttl) = context.setting("wrap-ttl", "VAULT_WRAP_TTL") {
        body.insert("wrap_ttl".to_owned(), seconds_if_bare(ttl).into());
    }
    if let Some(kind) = context.flag("event-type") {
        body.insert("event_type".to_owned(), kind.into());
    }
    let endpoint = match subject {
        None if context.flags.switch("accessor") => return Err(Failure::Usage("the accessor is missing".to_owned())),
        None => "sys/explain-self",
        Some(accessor) if context.flags.switch("accessor") => {
            body.insert("accessor".to_owned(), accessor.into());
            "sys/explain-accessor"
        }
        Some(token) => {
            let token = if token == "-" { standard_input(context)?.trim().to_owned() } else { token };
            body.insert("token".to_owned(), token.into());
            "sys/explain"
        }
    };
    // The answer is what is asked for here: it is not wrapped.
    context.wrap_nothing();
    let answer = context
        .send(Method::Post, endpoint, &[], Some(&Value::Object(body)))
        .map_err(|failure| match failure.status() {
            Some(403) if endpoint == "sys/explain-self" => Failure::remote(
                "The token is not valid: it does not exist, has ended, or may not be used from this address",
            ),
            _ => failure.during("asking why"),
        })?
        .map(Envelope::new)
        .ok_or_else(|| Failure::remote("The server answered without content"))?;
    let data = answer.data().cloned().unwrap_or_default();
    let text = explained(&data);
    context.print_document(Document::Value(data), || text)
}

fn standard_input(context: &mut Context<'_, '_>) -> Result<String, Failure> {
    let mut text = String::new();
    let read = context.io.input.read_to_string(&mut text);
    read.map(|_| text).map_err(|error| Failure::local(format!("Error reading standard input: {error}")))
}

/// An explanation for people.
fn explained(data: &Value) -> String {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let words = |value: &Value| {
        let words: Vec<String> =
            list(value, "capabilities").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        words.join(", ")
    };
    let verdict = if data.get("allowed").and_then(Value::as_bool) == Some(true) { "Allowed" } else { "Denied" };
    let mut lines = vec![format!("{verdict}: {}.", text(data, "explanation"))];
    let attached: BTreeMap<String, (String, String)> = list(data, "policies")
        .iter()
        .map(|policy| (text(policy, "name"), (text(policy, "attached"), text(policy, "state"))))
        .collect();
    let rule = data.get("rule").cloned().unwrap_or_default();
    for source in list(&rule, "policies") {
        let name = text(&source, "name");
        let how = attached.get(&name).map(|(how, _)| format!(", attached {how}")).unwrap_or_default();
        let (line, column) =
            (source.get("line").cloned().unwrap_or_default(), source.get("column").cloned().unwrap_or_default());
        lines.push(format!("  policy `{name}`, line {line}, column {column}: [{}]{how}", words(&source)));
    }
    for (name, (how, state)) in attached.iter().filter(|(_, (_, state))| state != "in force") {
        lines.push(format!("  policy `{name}`, attached {how}, is {state}"));
    }
    if rule.get("path").is_none() && !attached.is_empty() {
        let names: Vec<&str> = attached.keys().map(String::as_str).collect();
        lines.push(format!("  the token's policies: {}", names.join(", ")));
    }
    for shadowed in list(data, "shadowed") {
        lines.push(format!("  less specific, so not asked: `{}` [{}]", text(&shadowed, "path"), words(&shadowed)));
    }
    for hint in list(data, "hints").iter().filter_map(Value::as_str) {
        lines.push(format!("Hint: {hint}."));
    }
    let would_grant = text(data, "would_grant");
    if !would_grant.is_empty() {
        lines.push(format!("\nThis would grant it, in any of the token's policies:\n\n{}", would_grant.trim_end()));
    }
    lines.join("\n")
}

fn lint(context: &mut Context<'_, '_>) -> Outcome {
    let (_, _) = context.first_argument()?;
    let of_server = context.flags.switch("server");
    let mut kv2: Vec<String> =
        context.flags.texts("kv2").iter().map(|mount| crate::context::mount_path(mount)).collect();
    if of_server {
        kv2.extend(kv2_mounts(context)?);
    }
    let mut found: Vec<(String, Finding)> = Vec::new();
    for name in context.flags.arguments.clone() {
        let text = if of_server { policy_of_server(context, &name)? } else { file(context, &name)? };
        found.extend(look_through(&text, &kv2).into_iter().map(|finding| (name.clone(), finding)));
    }
    let is_clean = found.iter().all(|(_, finding)| finding.severity == Severity::Note);
    let line = |(name, finding): &(String, Finding)| {
        let (position, severity) = (finding.position, finding.severity.name());
        format!("{name}:{}:{}: {severity}: {} ({})", position.line, position.column, finding.text, finding.kind)
    };
    let objects = found.iter().map(|(name, finding)| {
        json!({
            "file": name, "line": finding.position.line, "column": finding.position.column,
            "severity": finding.severity.name(), "kind": finding.kind, "text": finding.text,
        })
    });
    let document = Document::Value(objects.collect());
    let lines: Vec<String> = found.iter().map(line).collect();
    context.print_document(document, || {
        if lines.is_empty() { "Nothing was found.".to_owned() } else { lines.join("\n") }
    })?;
    Ok(i32::from(!is_clean))
}

fn file(context: &mut Context<'_, '_>, name: &str) -> Result<String, Failure> {
    if name == "-" {
        return standard_input(context);
    }
    key_values::read_file(name).map_err(|error| Failure::local(format!("Error {error}")))
}

fn policy_of_server(context: &mut Context<'_, '_>, name: &str) -> Result<String, Failure> {
    let name = name.trim().to_lowercase();
    let answer = context
        .read(&format!("sys/policies/acl/{name}"), &[])
        .map_err(|failure| failure.during(format!("reading policy named {name}")))?;
    let text = answer.as_ref().and_then(|answer| answer.data_field("policy")).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| Failure::remote(format!("No policy named: {name}")))
}

/// The mounts of KV version 2 that the caller can see.
fn kv2_mounts(context: &mut Context<'_, '_>) -> Result<Vec<String>, Failure> {
    let answer =
        context.read("sys/internal/ui/mounts", &[]).map_err(|failure| failure.during("asking for the mounts"))?;
    let mounts = answer.as_ref().and_then(|answer| answer.data_field("secret")).and_then(Value::as_object).cloned();
    let is_kv2 = |mount: &Value| mount.pointer("/options/version").and_then(Value::as_str) == Some("2");
    Ok(mounts.unwrap_or_default().into_iter().filter(|(_, mount)| is_kv2(mount)).map(|(path, _)| path).collect())
}

fn test(context: &mut Context<'_, '_>) -> Outcome {
    let [name] = context.arguments()?;
    let text = file(context, &name)?;
    let wrong = |error: String| Failure::local(format!("Error in `{name}`: {error}"));
    let cases = Cases::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let mut policies = BTreeMap::new();
    for written in &cases.files {
        let path = Path::new(written);
        let (called, text) = match (path.file_stem().and_then(|stem| stem.to_str()), path.extension()) {
            (Some(stem), Some(_)) => {
                let beside = Path::new(&name).parent().unwrap_or(Path::new("")).join(path);
                (stem.to_lowercase(), file(context, &beside.to_string_lossy())?)
            }
            _ => (written.trim().to_lowercase(), policy_of_server(context, written)?),
        };
        let policy =
            Policy::parse(&called, &text).map_err(|error| Failure::local(format!("Error in `{written}`: {error}")))?;
        policies.insert(called, Arc::new(policy));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = tresor_policy::Timestamp::from_seconds(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let (mut lines, mut results, mut broken_count) = (Vec::new(), Vec::new(), 0);
    for case in &cases.cases {
        let broken = case.run(&policies, now).map_err(|unknown| {
            wrong(format!("{}: case \"{}\": there is no policy `{unknown}`", case.position, case.name))
        })?;
        let holds = broken.is_empty();
        broken_count += usize::from(!holds);
        lines.push(format!("{}  {}", if holds { "ok    " } else { "FAILED" }, case.name));
        let mut whys = Vec::new();
        for one in broken {
            let wanted = if one.expected { "should be possible" } else { "should not be possible" };
            lines.push(format!("        `{}` {wanted}: {}", one.operation.name(), one.why));
            whys.push(json!({ "operation": one.operation.name(), "expected": one.expected, "why": one.why }));
        }
        results.push(json!({ "case": case.name, "line": case.position.line, "ok": holds, "broken": whys }));
    }
    lines.push(format!("\n{} cases, {broken_count} failed", cases.cases.len()));
    context.print_document(Document::Value(results.into_iter().collect()), || lines.join("\n"))?;
    Ok(i32::from(broken_count > 0))
}
