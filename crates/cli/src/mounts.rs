//! What `secrets` and `auth` have in common: both are tables of mounts with the same options.

use std::cell::Cell;

use serde_json::{Map, Value, json};
use tresor_client::Method;

use crate::context::{Context, Outcome, mount_path, seconds_if_bare};
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::flags::{Flag, Parsed, boolean, repeated, switch, text};
use crate::output::{Document, cell};
use crate::table::table;
use crate::waiting::{counted, until_over};

/// Flags of enabling and of tuning, for both tables.
pub(crate) const OPTIONS: &[Flag] = &[
    text("description", "Description for people."),
    text("default-lease-ttl", "Default lifetime of leases, such as 1h; 0 or -1 for the server's."),
    text("max-lease-ttl", "Longest lifetime of leases; 0 or -1 for the server's."),
    text("listing-visibility", "unauth to show the mount before login, hidden otherwise."),
    repeated(
        "audit-non-hmac-request-keys",
        "Request field that audit records show in clear; may be given several times.",
    ),
    repeated(
        "audit-non-hmac-response-keys",
        "Response field that audit records show in clear; may be given several times.",
    ),
    repeated("passthrough-request-headers", "Request header that the engine sees; may be given several times."),
    repeated("allowed-response-headers", "Response header that the engine may set; may be given several times."),
    repeated("options", "Option of the engine as name=value; may be given several times."),
    text("plugin-version", "Version of the plugin."),
    text("identity-token-key", "Key of identity tokens; kept and shown."),
    text("trim-request-trailing-slashes", "true where a slash at the end of a path means nothing, but for listings."),
    text("version", "Version of the engine (kv: 1 or 2)."),
];

/// Flags of disabling, for both tables.
pub(crate) const DISABLE: &[Flag] =
    &[switch("wait", "Wait until its leases are revoked and its data is wiped, and say how far that is.")];

/// Flags of enabling alone, for both tables.
pub(crate) const ENABLE: &[Flag] = &[
    text("path", "Where to mount it; its type when not given."),
    text("plugin-name", "Name of the plugin, for the type `plugin`."),
    switch("local", "Not replicated to other clusters."),
    switch("seal-wrap", "Encrypt critical values with the seal as well."),
    switch("force-no-cache", "Always read from storage."),
    switch("external-entropy-access", "Use the external entropy source."),
];

const ENTRY: &[&str] = &[
    "uuid",
    "type",
    "description",
    "accessor",
    "config",
    "options",
    "local",
    "seal_wrap",
    "external_entropy_access",
    "plugin_version",
    "running_plugin_version",
    "running_sha256",
    "deprecation_status",
];

/// A flag of lifetimes in the API's spelling.
fn lifetime(text: &str) -> String {
    if text == "-1" || text == "system" { "system".to_owned() } else { seconds_if_bare(text) }
}

fn split_lists(lists: &[String]) -> Value {
    lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

/// The tunable settings that were given; `description` and `options` apart.
pub(crate) fn settings(flags: &Parsed) -> Map<String, Value> {
    let mut settings = Map::new();
    for (flag, field) in [("default-lease-ttl", "default_lease_ttl"), ("max-lease-ttl", "max_lease_ttl")] {
        if let Some(value) = flags.text(flag) {
            settings.insert(field.to_owned(), lifetime(value).into());
        }
    }
    for (flag, field) in [
        ("listing-visibility", "listing_visibility"),
        ("token-type", "token_type"),
        ("plugin-version", "plugin_version"),
        ("identity-token-key", "identity_token_key"),
        ("trim-request-trailing-slashes", "trim_request_trailing_slashes"),
    ] {
        if let Some(value) = flags.text(flag) {
            settings.insert(field.to_owned(), value.into());
        }
    }
    for field in [
        "audit-non-hmac-request-keys",
        "audit-non-hmac-response-keys",
        "passthrough-request-headers",
        "allowed-response-headers",
        "allowed-managed-keys",
        "delegated-auth-accessors",
    ] {
        let lists = flags.texts(field);
        if !lists.is_empty() {
            settings.insert(field.replace('-', "_"), split_lists(lists));
        }
    }
    settings
}

/// The options of the engine that were given.
pub(crate) fn options(context: &Context<'_, '_>) -> Result<Map<String, Value>, Failure> {
    let mut options = context.pairs("options")?;
    if let Some(version) = context.flag("version") {
        options.insert("version".to_owned(), version.into());
    }
    Ok(options)
}

/// Enables an engine or method of a type. `table` is `sys/mounts` or `sys/auth`; gives type and path.
pub(crate) fn enable(context: &mut Context<'_, '_>, table: &str) -> Result<(String, String), Failure> {
    let [kind] = context.arguments()?;
    let kind = kind.trim().to_owned();
    let plugin = context.flag("plugin-name").map(str::to_owned);
    let name = if kind == "plugin" { plugin.clone().unwrap_or_else(|| kind.clone()) } else { kind.clone() };
    if kind == "plugin" && plugin.is_none() {
        return Err(Failure::Usage("the type `plugin` needs -plugin-name".to_owned()));
    }
    let path = mount_path(context.flag("path").unwrap_or(&name));
    let mut config = settings(&context.flags);
    if context.flags.switch("force-no-cache") {
        config.insert("force_no_cache".to_owned(), true.into());
    }
    let mut body = Map::from_iter([
        ("type".to_owned(), Value::from(name.clone())),
        ("description".to_owned(), context.flag("description").unwrap_or_default().into()),
        ("config".to_owned(), Value::Object(config)),
    ]);
    for (flag, field) in
        [("local", "local"), ("seal-wrap", "seal_wrap"), ("external-entropy-access", "external_entropy_access")]
    {
        body.insert(field.to_owned(), context.flags.switch(flag).into());
    }
    let options = options(context)?;
    if !options.is_empty() {
        body.insert("options".to_owned(), Value::Object(options));
    }
    context.change(Method::Post, &format!("{table}/{}", path.trim_end_matches('/')), Some(&Value::Object(body)))?;
    Ok((name, path))
}

/// Disables what is mounted at the argument, and waits until it is gone where that was asked for; gives its path.
pub(crate) fn disable(context: &mut Context<'_, '_>, table: &str) -> Result<String, Failure> {
    let [path] = context.arguments()?;
    let path = mount_path(&path);
    let at = format!("{table}/{}", path.trim_end_matches('/'));
    let id = if context.flags.switch("wait") { identity(context, &at)? } else { None };
    context.change(Method::Delete, &at, None)?;
    if let Some(id) = id {
        await_gone(context, &id)?;
    }
    Ok(path)
}

/// The identity of a mount; `None` when there is none.
fn identity(context: &mut Context<'_, '_>, at: &str) -> Result<Option<String>, Failure> {
    match context.read(at, &[]) {
        Ok(answer) => {
            let id = answer.as_ref().and_then(|answer| answer.data_field("uuid")).and_then(Value::as_str);
            Ok(id.map(str::to_owned))
        }
        // So the server says that nothing is mounted there.
        Err(failure) if failure.status() == Some(400) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Waits until a disabled mount is gone, and says how far that is whenever it changed.
fn await_gone(context: &mut Context<'_, '_>, id: &str) -> Result<(), Failure> {
    until_over(context, &format!("sys/unmount/status/{id}"), |answer| {
        let number = |name: &str| answer.data_field(name).and_then(Value::as_u64).unwrap_or(0);
        match answer.data_field("state").and_then(Value::as_str).unwrap_or_default() {
            "waiting-for-operator" => Err(Failure::remote(format!(
                "{} leases could not be revoked, and the data that may be needed for that is kept. `sys/leases` says why; \
                 writing to sys/unmount/force/{id} forgets them",
                number("leases_irrevocable")
            ))),
            "wiping" => Ok(Some(format!(
                "Wiping its data: {} records so far, {} left",
                number("records_wiped"),
                counted(number("records_left"))
            ))),
            _ => Ok(Some(format!(
                "Revoking its leases: {} so far, {} left",
                number("leases_ended"),
                number("leases_pending")
            ))),
        }
    })
}

/// Changes the settings of a mount; gives its path.
pub(crate) fn tune(context: &mut Context<'_, '_>, table: &str, more: Map<String, Value>) -> Result<String, Failure> {
    let [path] = context.arguments()?;
    let path = mount_path(&path);
    let mut body = settings(&context.flags);
    body.extend(more);
    if let Some(description) = context.flags.text("description") {
        body.insert("description".to_owned(), description.into());
    }
    let options = options(context)?;
    if !options.is_empty() {
        body.insert("options".to_owned(), Value::Object(options));
    }
    context.change(
        Method::Post,
        &format!("{table}/{}/tune", path.trim_end_matches('/')),
        Some(&Value::Object(body)),
    )?;
    Ok(path)
}

/// Moves a mount and waits until the move is over. `prefix` is `auth/` or empty; `what` names the mounts.
pub(crate) fn relocate(context: &mut Context<'_, '_>, prefix: &str, what: &str) -> Outcome {
    let [from, to] = context.arguments()?;
    let full = |path: &str| match mount_path(path) {
        // Paths may begin with those of namespaces.
        path if path.starts_with(prefix) || path.contains(&format!("/{prefix}")) => path,
        path => format!("{prefix}{path}"),
    };
    let (from, to) = (full(&from), full(&to));
    let failed = |failure: Failure| failure.during(format!("moving {what} {from} to {to}"));
    let answer =
        context.change(Method::Post, "sys/remount", Some(&json!({ "from": from, "to": to }))).map_err(failed)?;
    let id = answer.as_ref().and_then(|answer| answer.data_field("migration_id")).and_then(Value::as_str);
    let Some(id) = id.map(str::to_owned) else {
        context.io.say(&format!("Success! Finished moving {what} {from} to {to}"));
        return Ok(0);
    };
    context.io.say(&format!("Started moving {what} {from} to {to}, with migration ID {id}"));
    let is_moved = Cell::new(false);
    until_over(context, &format!("sys/remount/status/{id}"), |answer| {
        let status = answer.data_field("migration_info").and_then(|info| info.get("status")?.as_str());
        is_moved.set(status == Some("success"));
        // That it is being moved was said.
        Ok((status == Some("in-progress")).then(String::new))
    })
    .map_err(failed)?;
    if is_moved.get() {
        context.io.say(&format!("Success! Finished moving {what} {from} to {to}, with migration ID {id}"));
        return Ok(0);
    }
    Err(Failure::remote(format!("Failure! Error encountered moving {what} {from} to {to}, with migration ID {id}")))
}

/// The mounts of a table by path.
pub(crate) fn load(context: &mut Context<'_, '_>, table: &str) -> Result<Map<String, Value>, Failure> {
    let answer = context.send(Method::Get, table, &[], None)?;
    let answer = answer.ok_or_else(|| Failure::remote("The server answered without content"))?;
    match Envelope::new(answer).data() {
        Some(Value::Object(mounts)) => Ok(mounts.clone()),
        _ => Err(Failure::remote("The server answered without mounts")),
    }
}

/// Prints mounts with the columns of `heading`.
pub(crate) fn print(context: &mut Context<'_, '_>, mounts: &Map<String, Value>, heading: &[&str]) -> Outcome {
    print_by(context, mounts, heading, column_of)
}

/// The same, where columns say something else: of a path and what is there, by the column's title.
pub(crate) fn print_by(
    context: &mut Context<'_, '_>,
    mounts: &Map<String, Value>,
    heading: &[&str],
    column_of: fn(&str, &Value, &str) -> String,
) -> Outcome {
    let entries = mounts.iter().map(|(path, mount)| (path.clone(), Document::ordered(mount, ENTRY))).collect();
    let rows: Vec<Vec<String>> = mounts
        .iter()
        .map(|(path, mount)| heading.iter().map(|column| column_of(path, mount, column)).collect())
        .collect();
    context.print_document(Document::Object(entries), || table(heading, &rows))
}

pub(crate) fn column_of(path: &str, mount: &Value, column: &str) -> String {
    let text = |field: &str| mount.get(field).filter(|value| !value.is_null()).map(cell).unwrap_or_default();
    let config = |field: &str| mount.get("config").and_then(|config| config.get(field)).cloned().unwrap_or(Value::Null);
    let lifetime = |field: &str| match config(field) {
        Value::Null => "system".to_owned(),
        value if value.as_u64() == Some(0) => "system".to_owned(),
        value => cell(&value),
    };
    match column {
        "Path" => path.to_owned(),
        "Default TTL" => lifetime("default_lease_ttl"),
        "Max TTL" => lifetime("max_lease_ttl"),
        "Token Type" => config("token_type").as_str().unwrap_or_default().to_owned(),
        "Force No Cache" => cell(&Value::Bool(config("force_no_cache").as_bool().unwrap_or(false))),
        "Replication" => {
            if mount.get("local").and_then(Value::as_bool) == Some(true) { "local" } else { "replicated" }.to_owned()
        }
        "Options" => match mount.get("options") {
            None | Some(Value::Null) => "map[]".to_owned(),
            Some(options) => cell(options),
        },
        "Plugin" | "Type" => text("type"),
        "Version" => text("plugin_version"),
        "Running Version" => text("running_plugin_version"),
        "Running SHA256" => text("running_sha256"),
        other => text(&other.to_lowercase().replace(' ', "_")),
    }
}

/// A number from a flag.
pub(crate) fn number(flags: &Parsed, name: &str) -> Result<Option<u64>, Failure> {
    match flags.text(name) {
        None => Ok(None),
        Some(text) => {
            text.parse().map(Some).map_err(|_| Failure::Usage(format!("invalid value `{text}` for flag `-{name}`")))
        }
    }
}

/// A truth value from a flag that takes one.
pub(crate) fn truth(flags: &Parsed, name: &str) -> Result<Option<bool>, Failure> {
    match flags.text(name) {
        None => Ok(None),
        Some(text) => {
            boolean(text).map(Some).ok_or_else(|| Failure::Usage(format!("invalid value `{text}` for flag `-{name}`")))
        }
    }
}
