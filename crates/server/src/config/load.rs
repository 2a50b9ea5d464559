//! Files to a [`ServerConfig`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tresor_audit::{Durability, LogOptions};
use tresor_core::Quorum;
use tresor_core::lockout::Rules;
use tresor_hcl::{AccessError, Object, Position, Value};

use super::audit::read_audit;
use super::initialize::read_initialize;
use super::listener::{Listener, read_listener};
use super::lockout::read_lockout;
use super::log_file::read_log_file;
use super::modules::read_kms_library;
use super::observations::read_observations;
use super::postgresql::{LockConfig, read_ha_storage};
use super::registration::read_registration;
use super::seal::{SEAL_TYPE, augment, of_environment, read_entropy, read_seal};
use super::snapshots::read_snapshots;
use super::storage::read_storage;
use super::telemetry::read_telemetry;
use super::{ConfigError, JoinConfig, LogFileConfig, LogFormat, ServerConfig, Storage, TelemetryConfig};

/// Keys of the reference that this release does not act on, and that are harmless to ignore.
const IGNORED: [&str; 15] = [
    "cache_size",
    "disable_cache",
    "disable_printable_check",
    "plugin_directory",
    "plugin_file_uid",
    "plugin_file_permissions",
    "plugin_tmpdir",
    "detect_deadlocks",
    "imprecise_lease_role_tracking",
    "disable_sealwrap",
    "disable_indexing",
    "disable_performance_standby",
    "disable_sentinel_trace",
    "cluster_cipher_suites",
    "license_path",
];

/// One file while it is read.
pub(super) struct Source<'w> {
    pub(super) file: PathBuf,
    pub(super) warnings: &'w mut Vec<String>,
}

impl Source<'_> {
    pub(super) fn error(&self, position: Position, text: impl Into<String>) -> ConfigError {
        ConfigError { file: self.file.clone(), position: Some(position), text: text.into() }
    }

    pub(super) fn wrong(&self, error: &AccessError) -> ConfigError {
        let text = error.to_string();
        let text = text.split_once(": ").map_or(text.as_str(), |(_, text)| text).to_owned();
        self.error(error.position, text)
    }

    pub(super) fn text(&self, key: &str, value: &Value) -> Result<String, ConfigError> {
        value.as_string(key).map_err(|error| self.wrong(&error))
    }

    /// A text that may have templates of this machine's addresses.
    pub(super) fn address(&self, key: &str, value: &Value) -> Result<String, ConfigError> {
        let text = self.text(key, value)?;
        super::template::expanded(&text).map_err(|error| self.error(value.position, format!("`{key}`: {error}")))
    }

    pub(super) fn flag(&self, key: &str, value: &Value) -> Result<bool, ConfigError> {
        value.as_bool(key).map_err(|error| self.wrong(&error))
    }

    pub(super) fn duration(&self, key: &str, value: &Value) -> Result<Duration, ConfigError> {
        tresor_wire::duration::parse_go(&self.text(key, value)?)
            .ok_or_else(|| self.error(value.position, format!("`{key}` must be a duration such as \"768h\"")))
    }

    pub(super) fn unknown(&mut self, key: &str, position: Position) {
        self.warnings.push(format!("{}:{}: unknown key `{key}` is ignored", self.file.display(), position.line));
    }

    pub(super) fn ignored(&mut self, key: &str, position: Position) {
        self.warnings.push(format!("{}:{}: `{key}` has no effect in this release", self.file.display(), position.line));
    }
}

/// Loads files and directories (their `.hcl` and `.json` files in order of name), later ones winning, and last what
/// the environment holds.
///
/// # Errors
/// [`ConfigError`].
pub fn load(paths: &[PathBuf], environment: &dyn Fn(&str) -> Option<String>) -> Result<ServerConfig, ConfigError> {
    load_behind(Vec::new(), paths, environment)
}

/// The same behind texts that say what is so where no file says otherwise.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn load_behind(
    first: Vec<(PathBuf, String)>,
    paths: &[PathBuf],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<ServerConfig, ConfigError> {
    let read = |file: PathBuf| match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(error) => Err(ConfigError { file, position: None, text: format!("cannot be read: {error}") }),
    };
    let local = environment(LOCAL_CONFIG).filter(|text| !text.trim().is_empty());
    let files = files(paths, local.is_some())?;
    let mut texts = first;
    texts.extend(files.into_iter().map(read).collect::<Result<Vec<_>, _>>()?);
    texts.extend(local.map(|text| (PathBuf::from(LOCAL_CONFIG), text)));
    parse(&texts, environment)
}

/// Reads the texts of files, later ones winning; without a look at any disk.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(
    files: &[(PathBuf, String)],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<ServerConfig, ConfigError> {
    let mut config = ServerConfig {
        storage: Storage::Memory,
        listeners: Vec::new(),
        join: JoinConfig::default(),
        seal: None,
        kms_libraries: BTreeMap::new(),
        initialize: tresor_profile::Profile::new(tresor_profile::Kind::Initialize),
        lockout: BTreeMap::new(),
        observations: None,
        snapshots: None,
        telemetry: TelemetryConfig::default(),
        registration: None,
        api_address: None,
        cluster_address: None,
        disable_clustering: false,
        disable_request_forwarding: false,
        open_to_shareholders: Vec::new(),
        cluster_name: String::new(),
        irrevocable_kept: None,
        default_lease_ttl: Duration::from_secs(768 * 3600),
        max_lease_ttl: Duration::from_secs(768 * 3600),
        administrative_namespace: String::new(),
        request_time_max: None,
        log_requests_level: None,
        log_level: "info".to_owned(),
        log_format: LogFormat::Standard,
        log_file: LogFileConfig::default(),
        disable_mlock: false,
        ui: false,
        pid_file: None,
        audit_log: LogOptions::default(),
        allow_audit_log_prefixing: false,
        audit_devices: Vec::new(),
        audit_by_api: true,
        public_workflows: false,
        raw_storage: false,
        introspection: false,
        shows_hostname: false,
        shows_node_id: false,
        warnings: Vec::new(),
    };
    let mut found = Found::default();
    for (file, text) in files {
        read_text(&mut config, &mut found, (file, text), environment)?;
    }
    if let Some(text) = of_environment(environment).filter(|_| config.seal.is_none()) {
        read_text(&mut config, &mut found, (&PathBuf::from(SEAL_TYPE), &text), environment)?;
    }
    override_from(&mut config, environment)?;
    let missing = |what: &str| ConfigError {
        file: files.first().map(|(file, _)| file.clone()).unwrap_or_default(),
        position: None,
        text: what.to_owned(),
    };
    config.storage = found.storage.ok_or_else(|| missing("a `storage` stanza is required"))?;
    if matches!(config.storage, Storage::Raft { .. }) {
        match set(environment(NON_VOTER)).as_deref() {
            None => {}
            Some("1" | "true") => config.join.non_voter = true,
            Some("0" | "false") => config.join.non_voter = false,
            Some(_) => return Err(missing("VAULT_RAFT_RETRY_JOIN_AS_NON_VOTER is `true` or `false`")),
        }
    }
    if let Some(lock) = found.lock {
        lock.share(&mut config.storage).map_err(|text| missing(&text))?;
    }
    if config.disable_clustering && matches!(&config.storage, Storage::Postgresql(shared) if shared.lock.is_some()) {
        return Err(missing(
            "`disable_clustering` leaves servers that share a storage (`ha_enabled`) no way to each other",
        ));
    }
    let (url, path) = (environment("VAULT_PG_CONNECTION_URL"), environment("VAULT_RAFT_PATH"));
    complete(&mut config.storage, url, path, environment("VAULT_RAFT_NODE_ID")).map_err(|text| missing(&text))?;
    if matches!(&config.storage, Storage::Postgresql(postgresql) if postgresql.directory.is_none()) {
        let text =
            "storage `postgresql` has no `path`: the local audit log is kept in memory, and is gone with the process";
        config.warnings.push(text.to_owned());
    }
    if config.listeners.is_empty() {
        return Err(missing("at least one `listener` stanza is required"));
    }
    if let (Some(path), Some(snapshots)) = (config.storage.path(), &config.snapshots)
        && *path == snapshots.directory
    {
        return Err(missing("`snapshots` needs a directory of its own, not that of the storage"));
    }
    if config.default_lease_ttl > config.max_lease_ttl {
        let text = "`default_lease_ttl` cannot be greater than `max_lease_ttl`";
        return Err(match found.lease_place {
            Some((file, position)) => ConfigError { file, position: Some(position), text: text.to_owned() },
            None => missing(text),
        });
    }
    if let Some((file, position)) = found.entropy_place {
        augment(config.seal.as_mut()).map_err(|text| ConfigError { file, position: Some(position), text })?;
    }
    Ok(config)
}

/// Takes what the environment says of a storage, and refuses one that lacks what it needs.
pub(super) fn complete(
    storage: &mut Storage,
    url: Option<String>,
    path: Option<String>,
    name: Option<String>,
) -> Result<(), String> {
    match storage {
        Storage::Raft { directory, node_id } => {
            *node_id = set(name).or(node_id.take());
            directory.path = set(path).map_or(std::mem::take(&mut directory.path), PathBuf::from);
            if directory.path.as_os_str().is_empty() {
                return Err("storage `raft` needs a `path`".to_owned());
            }
            Ok(())
        }
        Storage::Postgresql(postgresql) => postgresql.finish(set(url)),
        Storage::Memory | Storage::File(_) => Ok(()),
    }
}

/// A text that says something.
pub(super) fn set(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The variable that says that a node which joins is never to vote.
const NON_VOTER: &str = "VAULT_RAFT_RETRY_JOIN_AS_NON_VOTER";

/// The variable that containers give a configuration in; it is read last, as a file would be.
const LOCAL_CONFIG: &str = "VAULT_LOCAL_CONFIG";

/// What is judged only when every file was read.
#[derive(Default)]
struct Found {
    storage: Option<Storage>,
    /// The lock of those that share it.
    lock: Option<LockConfig>,
    /// Where the last of the two lifetimes of leases stands.
    lease_place: Option<(PathBuf, Position)>,
    /// Where `entropy` stands.
    entropy_place: Option<(PathBuf, Position)>,
}

fn read_text(
    config: &mut ServerConfig,
    found: &mut Found,
    (file, text): (&Path, &str),
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let document = tresor_hcl::parse(text).map_err(|error| ConfigError {
        file: file.to_path_buf(),
        position: Some(error.position),
        text: error.problem.to_string(),
    })?;
    read_file(config, found, (file, &document), environment)
}

fn files(paths: &[PathBuf], may_be_none: bool) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    for path in paths {
        let error = |error: std::io::Error| ConfigError {
            file: path.clone(),
            position: None,
            text: format!("cannot be read: {error}"),
        };
        if std::fs::metadata(path).map_err(error)?.is_dir() {
            let entries = std::fs::read_dir(path).map_err(error)?;
            let mut inside: Vec<PathBuf> =
                entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_config(file)).collect();
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() && !may_be_none {
        let text = match paths {
            [] => "must specify at least one config path using -config, or -dev",
            _ => "no configuration files found",
        };
        return Err(ConfigError {
            file: paths.first().cloned().unwrap_or_default(),
            position: None,
            text: text.to_owned(),
        });
    }
    Ok(files)
}

fn is_config(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "hcl" || extension == "json")
}

fn read_file(
    config: &mut ServerConfig,
    found: &mut Found,
    (file, document): (&Path, &Object),
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let mut warnings = std::mem::take(&mut config.warnings);
    let mut source = Source { file: file.to_path_buf(), warnings: &mut warnings };
    let mut listeners: Vec<Listener> = Vec::new();
    for block in document.labelled_blocks("listener").map_err(|error| source.wrong(&error))? {
        listeners.push(read_listener(&mut source, &block)?);
    }
    let mut own_storage = None;
    for key in ["storage", "backend"] {
        for block in document.labelled_blocks(key).map_err(|error| source.wrong(&error))? {
            if own_storage.is_some() {
                return Err(source.error(block.position, "only one `storage` stanza is allowed"));
            }
            let (storage, join) = read_storage(&mut source, &block)?;
            own_storage = Some(storage);
            config.join = join;
        }
    }
    if own_storage.is_some() {
        found.storage = own_storage;
    }
    for block in document.labelled_blocks("ha_storage").map_err(|error| source.wrong(&error))? {
        found.lock = Some(read_ha_storage(&mut source, &block)?);
    }
    for block in document.labelled_blocks("entropy").map_err(|error| source.wrong(&error))? {
        let position = read_entropy(&mut source, &block)?;
        if found.entropy_place.replace((file.to_path_buf(), position)).is_some() {
            return Err(source.error(position, "only one `entropy` stanza is allowed"));
        }
    }
    let mut own_seal = None;
    for block in document.labelled_blocks("seal").map_err(|error| source.wrong(&error))? {
        if let Some(seal) = read_seal(&mut source, &block, environment)?
            && own_seal.replace(seal).is_some()
        {
            return Err(source.error(block.position, "only one `seal` stanza is allowed that is not disabled"));
        }
    }
    if own_seal.is_some() {
        config.seal = own_seal;
    }
    for block in document.labelled_blocks("kms_library").map_err(|error| source.wrong(&error))? {
        read_kms_library(&mut source, &block, &mut config.kms_libraries)?;
    }
    for block in document.labelled_blocks("user_lockout").map_err(|error| source.wrong(&error))? {
        read_lockout(&mut source, &block, &mut config.lockout)?;
    }
    for block in document.labelled_blocks("audit").map_err(|error| source.wrong(&error))? {
        read_audit(&mut source, &block, &mut config.audit_devices)?;
    }
    for block in document.labelled_blocks("initialize").map_err(|error| source.wrong(&error))? {
        read_initialize(&mut source, &block, &mut config.initialize)?;
    }
    for block in document.labelled_blocks("service_registration").map_err(|error| source.wrong(&error))? {
        config.registration = read_registration(&mut source, &block, environment)?;
    }
    for stanza in document.items_named("snapshots") {
        config.snapshots = Some(read_snapshots(&mut source, stanza)?);
    }
    for stanza in document.items_named("observations") {
        config.observations = Some(read_observations(&mut source, stanza)?);
    }
    for stanza in document.items_named("telemetry") {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        config.telemetry = read_telemetry(&mut source, stanza, &host)?;
    }
    for item in &document.items {
        let Some(key) = item.keys.first() else { continue };
        let value = &item.value;
        match key.name.as_str() {
            "audit"
            | "initialize"
            | "listener"
            | "storage"
            | "backend"
            | "ha_storage"
            | "seal"
            | "entropy"
            | "kms_library"
            | "snapshots"
            | "observations"
            | "telemetry"
            | "user_lockout"
            | "service_registration" => {}
            "api_addr" => config.api_address = Some(source.address("api_addr", value)?),
            "cluster_addr" => config.cluster_address = Some(source.address("cluster_addr", value)?),
            "disable_clustering" => config.disable_clustering = source.flag("disable_clustering", value)?,
            "disable_request_forwarding" => {
                config.disable_request_forwarding = source.flag("disable_request_forwarding", value)?;
            }
            "enable_unauthenticated_access" => {
                let names = value.as_string_list("enable_unauthenticated_access");
                for name in names.map_err(|error| source.wrong(&error))? {
                    config.open_to_shareholders.push(quorum(&name).ok_or_else(|| {
                        let text = "`enable_unauthenticated_access` lists `rekey` and `generate-root`";
                        source.error(value.position, text)
                    })?);
                }
            }
            "cluster_name" => config.cluster_name = source.text("cluster_name", value)?,
            "log_level" => {
                let level = source.text("log_level", value)?;
                config.log_level = checked_level(&level).ok_or_else(|| {
                    source.error(value.position, "`log_level` is one of trace, debug, info, warn, error")
                })?;
            }
            "log_requests_level" => {
                config.log_requests_level = match source.text("log_requests_level", value)?.as_str() {
                    "" | "off" => None,
                    level => Some(checked_level(level).ok_or_else(|| {
                        let text = "`log_requests_level` is one of trace, debug, info, warn, error, off";
                        source.error(value.position, text)
                    })?),
                };
            }
            "default_max_request_duration" => {
                let bound = source.duration("default_max_request_duration", value)?;
                config.request_time_max = Some(bound).filter(|bound| !bound.is_zero());
            }
            key if read_log_file(&source, key, value, &mut config.log_file)? => {}
            "log_format" => {
                let format = source.text("log_format", value)?;
                config.log_format = checked_format(&format)
                    .ok_or_else(|| source.error(value.position, "`log_format` is `standard` or `json`"))?;
            }
            "default_lease_ttl" => {
                config.default_lease_ttl = source.duration("default_lease_ttl", value)?;
                found.lease_place = Some((file.to_path_buf(), value.position));
            }
            "remove_irrevocable_lease_after" => config.irrevocable_kept = read_irrevocable_kept(&source, value)?,
            "max_lease_ttl" => {
                config.max_lease_ttl = source.duration("max_lease_ttl", value)?;
                found.lease_place = Some((file.to_path_buf(), value.position));
            }
            "administrative_namespace_path" => {
                let path = source.text("administrative_namespace_path", value)?;
                let path = path.trim_matches('/');
                config.administrative_namespace = if path.is_empty() { String::new() } else { format!("{path}/") };
            }
            "experiments" => {
                let named = value.as_string_list("experiments").map_err(|error| source.wrong(&error))?;
                if let Some(named) = named.first() {
                    return Err(source.error(value.position, no_experiment(named)));
                }
            }
            "disable_mlock" => config.disable_mlock = source.flag("disable_mlock", value)?,
            "ui" => config.ui = source.flag("ui", value)?,
            "pid_file" => {
                config.pid_file =
                    Some(source.text("pid_file", value)?).filter(|path| !path.is_empty()).map(PathBuf::from)
            }
            "audit_log_sync" => config.audit_log.durability = read_audit_log_sync(&source, value)?,
            "audit_log_backlog_max" => config.audit_log.backlog_bytes_max = read_audit_backlog(&source, value)?,
            // Off by default in one of the two servers that we stand in for: clients of the other would be locked out.
            "unsafe_allow_api_audit_creation" => {
                config.audit_by_api = source.flag("unsafe_allow_api_audit_creation", value)?;
            }
            "allow_audit_log_prefixing" => {
                config.allow_audit_log_prefixing = source.flag("allow_audit_log_prefixing", value)?;
            }
            "introspection_endpoint" => config.introspection = source.flag("introspection_endpoint", value)?,
            "allow_unauthenticated_workflows" => {
                config.public_workflows = source.flag("allow_unauthenticated_workflows", value)?;
            }
            "raw_storage_endpoint" => config.raw_storage = source.flag("raw_storage_endpoint", value)?,
            "enable_response_header_hostname" => {
                config.shows_hostname = source.flag("enable_response_header_hostname", value)?
            }
            "enable_response_header_raft_node_id" => {
                config.shows_node_id = source.flag("enable_response_header_raft_node_id", value)?;
            }
            ignored if IGNORED.contains(&ignored) => source.ignored(ignored, key.position),
            unknown => source.unknown(unknown, key.position),
        }
    }
    config.listeners.append(&mut listeners);
    config.warnings = warnings;
    Ok(())
}

/// The shortest time that irrevocable leases are kept: somebody is to have seen them.
const IRREVOCABLE_KEPT_MIN: Duration = Duration::from_secs(48 * 3600);

fn read_irrevocable_kept(source: &Source<'_>, value: &Value) -> Result<Option<Duration>, ConfigError> {
    let kept = source.duration("remove_irrevocable_lease_after", value)?;
    if kept.is_zero() {
        return Ok(None);
    }
    if kept < IRREVOCABLE_KEPT_MIN {
        let text = "`remove_irrevocable_lease_after` is at least 48h, or 0 for never";
        return Err(source.error(value.position, text));
    }
    Ok(Some(kept))
}

/// What is said of an experiment that somebody names.
pub(crate) fn no_experiment(named: &str) -> String {
    format!("`{named}` is no experiment of this release: there are none")
}

/// When records of the local audit log are synced: `always` (each request waits for a sync that it shares with all
/// that wait), or in the background, at most so long after they were written.
fn read_audit_log_sync(source: &Source<'_>, value: &Value) -> Result<Durability, ConfigError> {
    if source.text("audit_log_sync", value)? == "always" {
        return Ok(Durability::EachRecord);
    }
    let pause = source.duration("audit_log_sync", value)?;
    if (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&pause) {
        return Ok(Durability::Process(pause));
    }
    Err(source.error(value.position, "`audit_log_sync` is `always`, or a duration from 10ms to 60s"))
}

/// The least backlog: what one segment and the window of a socket take.
const AUDIT_BACKLOG_MIN: u64 = 64 << 20;

fn read_audit_backlog(source: &Source<'_>, value: &Value) -> Result<u64, ConfigError> {
    let text = source.text("audit_log_backlog_max", value)?;
    let bytes = text.parse().ok().filter(|bytes| *bytes >= AUDIT_BACKLOG_MIN);
    bytes.ok_or_else(|| {
        source.error(
            value.position,
            format!("`audit_log_backlog_max` is a number of bytes, at least {AUDIT_BACKLOG_MIN}"),
        )
    })
}

/// The word for the log, when it is a level.
pub(crate) fn checked_level(level: &str) -> Option<String> {
    let level = level.to_ascii_lowercase();
    let level = match level.as_str() {
        "notice" => "info",
        "warning" => "warn",
        "err" => "error",
        other => other,
    };
    ["trace", "debug", "info", "warn", "error"].contains(&level).then(|| level.to_owned())
}

pub(crate) fn checked_format(format: &str) -> Option<LogFormat> {
    match format.to_ascii_lowercase().as_str() {
        "" | "standard" => Some(LogFormat::Standard),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn override_from(config: &mut ServerConfig, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
    let wrong =
        |name: &str, text: &str| ConfigError { file: PathBuf::from(name), position: None, text: text.to_owned() };
    // Older names count where the newer one is not set.
    let api = ["VAULT_API_ADDR", "VAULT_REDIRECT_ADDR", "VAULT_ADVERTISE_ADDR"];
    let api = api.into_iter().find(|name| environment(name).is_some()).unwrap_or("VAULT_API_ADDR");
    for (name, address) in [(api, &mut config.api_address), ("VAULT_CLUSTER_ADDR", &mut config.cluster_address)] {
        if let Some(text) = environment(name) {
            *address = Some(super::template::expanded(&text).map_err(|error| wrong(name, &error))?);
        }
    }
    if let Some(level) = environment("VAULT_LOG_LEVEL") {
        config.log_level = checked_level(&level)
            .ok_or_else(|| wrong("VAULT_LOG_LEVEL", "is one of trace, debug, info, warn, error"))?;
    }
    if let Some(format) = environment("VAULT_LOG_FORMAT") {
        config.log_format =
            checked_format(&format).ok_or_else(|| wrong("VAULT_LOG_FORMAT", "is `standard` or `json`"))?;
    }
    let mut is_never_locked = false;
    for (name, flag) in [
        ("VAULT_DISABLE_USER_LOCKOUT", &mut is_never_locked),
        ("VAULT_UI", &mut config.ui),
        ("VAULT_DISABLE_MLOCK", &mut config.disable_mlock),
    ] {
        match environment(name).as_deref() {
            None | Some("") => {}
            Some("1" | "true") => *flag = true,
            Some("0" | "false") => *flag = false,
            Some(_) => return Err(wrong(name, "is `true` or `false`")),
        }
    }
    if is_never_locked {
        let rules = Rules { is_disabled: true, ..Rules::default() };
        config.lockout = BTreeMap::from([("all".to_owned(), rules)]);
    }
    Ok(())
}

/// What those who hold shares may do, by the name that it has in configurations.
fn quorum(name: &str) -> Option<Quorum> {
    match name {
        "rekey" => Some(Quorum::Rekey),
        "generate-root" => Some(Quorum::GenerateRoot),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Directory;

    fn audit_log(more: &str) -> Result<LogOptions, String> {
        let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\n{more}\n");
        let parsed = parse(&[(PathBuf::from("server.hcl"), text)], &|_| None);
        parsed.map(|config| config.audit_log).map_err(|error| error.to_string())
    }

    #[test]
    fn a_node_of_a_cluster_is_named_by_its_stanza_or_by_the_environment() {
        let parse = |stanza: &str, environment: &[(&str, &str)]| {
            let text = format!("storage \"raft\" {{\n{stanza}\n}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\n");
            let known = |name: &str| {
                let found = environment.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            parse(&[(PathBuf::from("server.hcl"), text)], &known).map(|config| config.storage)
        };
        let raft = |path: &str, node_id: Option<&str>| Storage::Raft {
            directory: Directory {
                path: path.into(),
                free_space_min: tresor_storage_file::Limits::default().reserve_bytes,
            },
            node_id: node_id.map(str::to_owned),
        };
        let named = "path = \"/a\"\nnode_id = \"one\"\nperformance_multiplier = 1";
        assert_eq!(parse(named, &[]).unwrap(), raft("/a", Some("one")));
        assert_eq!(parse("path = \"/a\"", &[]).unwrap(), raft("/a", None));
        let variables = [("VAULT_RAFT_NODE_ID", "two"), ("VAULT_RAFT_PATH", "/b")];
        assert_eq!(parse(named, &variables).unwrap(), raft("/b", Some("two")));
        assert_eq!(parse("", &variables).unwrap(), raft("/b", Some("two")));
        assert!(parse("", &[]).unwrap_err().to_string().contains("`path`"));
        let long = format!("path = \"/a\"\nnode_id = \"{}\"", "n".repeat(257));
        assert!(parse(&long, &[]).unwrap_err().to_string().contains("server.hcl:3:"));
    }

    #[test]
    fn an_address_has_older_names_in_the_environment() {
        let text = "storage \"inmem\" {}\nlistener \"tcp\" {\n  tls_disable = true\n}\napi_addr = \"https://file\"\n";
        let told = |environment: &[(&str, &str)]| {
            let known = |name: &str| {
                let found = environment.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            parse(&[(PathBuf::from("server.hcl"), text.to_owned())], &known).unwrap().api_address.unwrap()
        };
        let (older, old) = (("VAULT_ADVERTISE_ADDR", "https://older"), ("VAULT_REDIRECT_ADDR", "https://old"));
        assert_eq!(told(&[]), "https://file");
        assert_eq!(told(&[older]), "https://older");
        assert_eq!(told(&[older, old]), "https://old");
        assert_eq!(told(&[older, old, ("VAULT_API_ADDR", "https://new")]), "https://new");
    }

    #[test]
    fn the_audit_log_is_synced_as_the_operator_says() {
        let durability = |more: &str| audit_log(more).unwrap().durability;
        assert_eq!(durability(""), Durability::Process(Duration::from_secs(1)));
        assert_eq!(durability("audit_log_sync = \"always\""), Durability::EachRecord);
        assert_eq!(durability("audit_log_sync = \"200ms\""), Durability::Process(Duration::from_millis(200)));
        for wrong in ["never", "5ms", "61s", "0"] {
            let refused = audit_log(&format!("audit_log_sync = \"{wrong}\"")).unwrap_err();
            assert!(refused.starts_with("server.hcl:5:"), "{refused}");
        }
        assert_eq!(audit_log("audit_log_backlog_max = 134217728").unwrap().backlog_bytes_max, 128 << 20);
        for wrong in ["1", "\"1GiB\"", "-1"] {
            assert!(audit_log(&format!("audit_log_backlog_max = {wrong}")).is_err(), "{wrong}");
        }
    }
}
