//! `config/NAME`: connections to servers; and beginning anew with what is open.

use std::time::Duration;

use tresor_credential::Moment;
use tresor_credential::timing::Times;
use tresor_crypto::token_text::random_base62;
use tresor_engine::retries::RetriesShown;
use tresor_engine::{Cx, Data, Happened, Keys, Nothing, Warned};
use tresor_model::{Body, Fault, Map};
use tresor_secret::SecretString;
use tresor_wire::input::{CommaList, EmptyInput, Input, PathParameters, StringList};
use tresor_wire::output::Output;

use crate::connection::{Connection, PASSWORDS_MAX, copied, promote, remember};
use crate::plugins::Plugin;
use crate::settings::{self, Common};
use crate::{Database, Doors, checked_name, root};

/// How long an id is.
pub(crate) const ID_LENGTH: usize = 12;

/// Something by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The name.
    #[input(path)]
    pub(crate) name: String,
}

/// Every connection of a kind of server.
#[derive(Input)]
pub(crate) struct ByPlugin {
    /// The kind of server, as connections name it.
    #[input(path)]
    plugin_name: String,
}

/// A connection to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The name.
    #[input(path)]
    name: String,
    /// The kind of server, such as `postgresql-database-plugin`.
    plugin_name: Option<String>,
    /// The version of that; there is one.
    plugin_version: Option<String>,
    /// Whether the server is asked before the connection is kept.
    #[input(default = "true")]
    verify_connection: bool,
    /// The roles that may use it, as names or patterns with `*`.
    allowed_roles: Option<CommaList>,
    /// What gives the connection's own account another password.
    root_rotation_statements: Option<StringList>,
    /// What passwords are like; without one, the usual.
    password_policy: Option<String>,
    /// The password of the connection's own account. Never shown; not sent, it stays.
    #[input(secret)]
    password: Option<SecretString>,
    /// When that is rotated by itself.
    #[input(flatten)]
    times: Times,
    /// What else is never shown.
    #[input(flatten)]
    secrets: Secrets,
    /// What else the kind of server takes: `connection_url`, `username`, `max_open_connections` and so on.
    #[input(rest)]
    details: Map,
}

/// What is never shown, beside the password; not sent, it stays. Each kind of server takes some.
#[derive(Input)]
struct Secrets {
    /// The key of `tls_certificate`, in PEM.
    #[input(secret)]
    private_key: Option<SecretString>,
    /// What this server shows and the key of that, in PEM.
    #[input(secret)]
    tls_certificate_key: Option<SecretString>,
    /// The key of `tls_cert`, in PEM.
    #[input(secret)]
    tls_key: Option<SecretString>,
    /// The same with who vouches for the server, in PEM.
    #[input(secret)]
    pem_bundle: Option<SecretString>,
    /// The same as JSON, as issuers of certificates answer it.
    #[input(secret)]
    pem_json: Option<SecretString>,
}

impl Secrets {
    /// Those that were sent, by name.
    fn sent(self) -> impl Iterator<Item = (&'static str, SecretString)> {
        let every = [
            ("private_key", self.private_key),
            ("tls_certificate_key", self.tls_certificate_key),
            ("tls_key", self.tls_key),
            ("pem_bundle", self.pem_bundle),
            ("pem_json", self.pem_json),
        ];
        every.into_iter().filter_map(|(name, secret)| Some((name, secret.filter(|text| !text.is_empty())?)))
    }
}

/// What is shown of a connection: no secret.
#[derive(Output)]
pub(crate) struct Shown {
    /// The kind of server.
    plugin_name: String,
    /// The version of that.
    plugin_version: String,
    /// The roles that may use it.
    allowed_roles: Vec<String>,
    /// What else was sent.
    connection_details: Map,
    /// What gives the connection's own account another password.
    root_credentials_rotate_statements: Vec<String>,
    /// What passwords are like.
    password_policy: String,
    /// Whether static roles take over accounts as they are.
    skip_static_role_import_rotation: bool,
    /// How often the connection's own password is rotated.
    #[output(optional)]
    rotation_period: Option<Duration>,
    /// When it is.
    #[output(optional)]
    rotation_schedule: Option<String>,
    /// How long after that it may still begin.
    #[output(optional)]
    rotation_window: Option<Duration>,
    /// Whether it is not rotated by itself.
    disable_automated_rotation: bool,
    /// How that is tried again.
    #[output(flatten)]
    retries: RetriesShown,
}

/// What was begun anew.
#[derive(Output)]
pub(crate) struct Reloaded {
    /// The connections.
    connections: Vec<String>,
    /// How many.
    count: u64,
}

pub(crate) fn exists(_engine: &Database, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    let name = parameters.get("name").map_or("", String::as_str);
    cx.view.contains(&format!("config/{}", checked_name(name)?))
}

pub(crate) async fn list(_engine: &Database, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names("config/", None, None)?))
}

pub(crate) async fn read(_engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let found = Connection::load(&mut cx.view, checked_name(&input.name)?)?;
    let Some(connection) = found else { return Ok(None) };
    let skips_import = Common::of(&connection.details).map_err(Fault::internal)?.skips_import();
    let mut details = connection.details;
    details.remove(settings::SKIP_IMPORT);
    if let Some(url) = details.text("connection_url").map(settings::redacted) {
        details.insert("connection_url", url);
    }
    Ok(Some(Data(Shown {
        plugin_name: connection.plugin_name,
        plugin_version: connection.plugin_version,
        allowed_roles: connection.allowed_roles,
        connection_details: details,
        root_credentials_rotate_statements: connection.root_rotation_statements,
        password_policy: connection.password_policy,
        skip_static_role_import_rotation: skips_import,
        rotation_period: connection.timing.shown_period().filter(|period| !period.is_zero()),
        rotation_schedule: connection.timing.shown_schedule(),
        rotation_window: connection.timing.shown_window(),
        disable_automated_rotation: connection.is_rotation_disabled,
        retries: cx.view.retries(&root::wake_name(&connection.name))?.into(),
    })))
}

pub(crate) async fn write(engine: &Database, mut cx: Cx<'_>, input: Write) -> Result<Warned<Nothing>, Fault> {
    let name = checked_name(&input.name)?;
    let known = Connection::load(&mut cx.view, name)?;
    let (before, was_there) = match known {
        Some(known) => (known, true),
        None => (Connection::empty(name), false),
    };
    let mut details = before.details.duplicate();
    for (key, value) in input.details.iter().filter(|(_, value)| **value != Body::Null) {
        details.insert(key, value.duplicate());
    }
    cx.view.retry_anew(&root::wake_name(name), input.times.rotation_policy.as_deref())?;
    let mut coming = Connection {
        plugin_name: input.plugin_name.unwrap_or_else(|| before.plugin_name.clone()),
        plugin_version: input.plugin_version.unwrap_or_else(|| before.plugin_version.clone()),
        allowed_roles: input.allowed_roles.map_or_else(|| before.allowed_roles.clone(), |list| list.0),
        root_rotation_statements: input
            .root_rotation_statements
            .map_or_else(|| before.root_rotation_statements.clone(), |list| list.0),
        password_policy: input.password_policy.unwrap_or_else(|| before.password_policy.clone()),
        secrets: before.secrets.iter().map(|(name, secret)| (name.clone(), copied(secret))).collect(),
        passwords: before.passwords.iter().map(copied).collect(),
        revision: before.revision + 1,
        timing: before.timing.clone(),
        is_rotation_disabled: before.is_rotation_disabled,
        counts_since: before.counts_since,
        details,
        ..Connection::empty(name)
    };
    if coming.plugin_name.is_empty() {
        return Err(Fault::invalid("empty plugin name"));
    }
    let refused = |why: String| Fault::invalid(format!("error creating database object: {why}"));
    let plugin = Plugin::named(&coming.plugin_name).map_err(refused)?;
    let mut ignored = Vec::new();
    for (name, secret) in input.secrets.sent() {
        if plugin.secrets.contains(&name) {
            coming.secrets.insert(name.to_owned(), secret);
        } else {
            ignored.push(name.to_owned());
        }
    }
    let reaches_same = was_there
        && coming.plugin_name == before.plugin_name
        && plugin.reaches.iter().all(|key| coming.details.get(key) == before.details.get(key));
    coming.id = if reaches_same { before.id.clone() } else { random_base62(ID_LENGTH, cx.entropy).to_string() };
    let sent = input.password.filter(|password| !password.is_empty());
    if sent.is_none() {
        coming.is_in_doubt = before.is_in_doubt;
    } else {
        // What is verified is the password that was sent; and it is as old as that.
        coming.passwords.clear();
        coming.counts_since = Some(cx.now);
    }
    let changed = coming.timing.change_or_disable(&mut coming.is_rotation_disabled, input.times, root::PERIOD_MIN);
    if changed.map_err(|error| Fault::invalid(error.to_string()))? {
        coming.counts_since = Some(cx.now);
    }
    if let Some(password) = &sent {
        promote(&mut coming.passwords, password);
    }
    if coming.rotation()?.is_some() {
        root::account_of(&coming)?;
    }
    let target = (plugin.target)(&coming, Doors::of(&cx)).map_err(refused)?;
    if target.is_self_managed() {
        if sent.is_some() {
            return Err(refused("a self_managed connection has no password".into()));
        }
        coming.passwords.clear();
    }
    let common = Common::of(&coming.details).map_err(refused)?;
    common.try_out(plugin, Moment { now: cx.now, entropy: cx.entropy }).map_err(refused)?;
    // There is nobody as whom it could be asked.
    if input.verify_connection && !target.is_self_managed() {
        let verified = target.verify().await;
        verified.map_err(|trouble| refused(format!("error verifying connection: {trouble}")))?;
    }
    if reaches_same && !target.is_self_managed() {
        for former in before.passwords.iter().take(PASSWORDS_MAX - 1) {
            remember(&mut coming.passwords, former);
        }
    }
    if was_there && !reaches_same {
        before.retire(&mut cx.view)?;
    }
    engine.targets.close(&before.id);
    coming.store(&mut cx.view)?;
    root::plan_next(&mut cx.view, &coming, cx.now)?;
    cx.view.tell(|| Happened::named("database/config-write", "config", name));
    let warnings = (plugin.warnings)(&coming).into_iter().chain(settings::unrecognized(&ignored));
    // Not refused: Terraform sends a password that did not change with no write, because it may have been rotated, and then
    // nobody can send it.
    let is_passed_on = was_there && sent.is_none() && !coming.passwords.is_empty() && !before.is_at_server_of(&coming);
    let warnings =
        warnings.chain(is_passed_on.then(|| "the stored password is sent to another server from now on".into()));
    Ok(Warned(Nothing, warnings.collect()))
}

pub(crate) async fn delete(engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let name = checked_name(&input.name)?;
    if let Some(connection) = Connection::load(&mut cx.view, name)? {
        connection.retire(&mut cx.view)?;
        cx.view.delete(&format!("config/{name}"))?;
        cx.view.no_wake(&root::wake_name(name))?;
        cx.view.retry_by(&root::wake_name(name), "")?;
        engine.targets.close(&connection.id);
        cx.view.tell(|| Happened::named("database/config-delete", "config", name));
    }
    Ok(Nothing)
}

pub(crate) async fn reset(engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let connection = Connection::named(&mut cx.view, checked_name(&input.name)?)?;
    engine.targets.close(&connection.id);
    cx.view.tell(|| Happened::named("database/reset", "reset", &input.name).without_change());
    Ok(Nothing)
}

pub(crate) async fn reload(engine: &Database, mut cx: Cx<'_>, input: ByPlugin) -> Result<Data<Reloaded>, Fault> {
    Plugin::named(&input.plugin_name).map_err(Fault::invalid)?;
    let mut connections = Vec::new();
    for name in cx.view.names("config/", None, None)? {
        let found = Connection::load(&mut cx.view, &name)?;
        if let Some(connection) = found.filter(|connection| connection.plugin_name == input.plugin_name) {
            engine.targets.close(&connection.id);
            connections.push(name);
        }
    }
    cx.view.tell(|| {
        let reloaded = Happened::new("database/reload", format!("reload/{}", input.plugin_name)).without_change();
        reloaded.with("plugin_name", &input.plugin_name)
    });
    let count = u64::try_from(connections.len()).unwrap_or(u64::MAX);
    Ok(Data(Reloaded { connections, count }))
}
