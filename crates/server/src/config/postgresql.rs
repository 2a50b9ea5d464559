//! `storage "postgresql"`: where the server of the store is, and how it is used.
//!
//! Deliberately absent: reading the files of TLS that its URL names, which is done when the store is opened; and a lock on another
//! server than the data's, since whoever takes the one must have the other at once.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use tresor_hcl::{Block, Value};
use tresor_postgresql::{Dsn, Files, Placed};
use tresor_secret::SecretString;
use tresor_storage_postgresql::Table;

use super::load::{Source, set};
use super::{ConfigError, Storage};

/// The table of who names none.
const TABLE: &str = "tresor_store";
/// The table of the lock of who names none.
const LOCK_TABLE: &str = "tresor_ha_locks";
/// How many connections are kept for reading where nothing is said: the server answers many questions over each.
const CONNECTIONS: u32 = 4;
/// How many questions are asked at once where nothing is said.
const PARALLEL: u32 = 128;

/// A store in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresqlConfig {
    /// The way there.
    pub url: ConnectionUrl,
    /// The table.
    pub table: Table,
    /// How many connections are kept for reading.
    pub connections: u32,
    /// How many questions are asked at once.
    pub parallel_max: u32,
    /// Whether tables that are missing are made.
    pub makes_tables: bool,
    /// How often an opening tries again; without a number, until the server is there.
    pub connect_retries: Option<u32>,
    /// Where the local audit log is kept; in memory when absent.
    pub directory: Option<PathBuf>,
    /// The table of the lock, where several servers share the store.
    pub lock: Option<Table>,
}

/// A connection URL, which may hold a password; or none yet.
#[derive(Clone)]
pub struct ConnectionUrl(Option<Arc<SecretString>>);

impl ConnectionUrl {
    fn new(text: String) -> Self {
        Self((!text.is_empty()).then(|| Arc::new(SecretString::new(text))))
    }

    /// Whether nobody said where the server is.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it leads to the same database as another one.
    fn is_like(&self, other: &Self) -> bool {
        let place = |url: &Self| {
            let config = url.dsn().ok()?.config;
            let ports = config.get_ports().to_vec();
            Some((config.get_hosts().to_vec(), ports, config.get_dbname().map(str::to_owned)))
        };
        place(self) == place(other)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Text that names keys, never values.
    pub(crate) fn dsn(&self) -> Result<Dsn, String> {
        let placed = Placed { username: "", password: None, is_raw: true, files: Files::OfTls };
        let url = self.0.as_ref().ok_or("nobody said where the server is")?;
        Dsn::parse(url.expose(), &placed)
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionUrl")
    }
}

impl PartialEq for ConnectionUrl {
    /// Whether they are copies of one: texts are not compared.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for ConnectionUrl {}

impl PostgresqlConfig {
    /// Takes what the environment says, and checks the whole.
    pub(super) fn finish(&mut self, url: Option<String>) -> Result<(), String> {
        if let Some(url) = url {
            self.url = ConnectionUrl::new(url);
        }
        if self.url.is_empty() {
            return Err("storage `postgresql` needs a `connection_url` (or VAULT_PG_CONNECTION_URL)".to_owned());
        }
        self.url.dsn().map(drop).map_err(|error| format!("`connection_url` of storage `postgresql`: {error}"))
    }
}

pub(super) fn read_postgresql(source: &mut Source<'_>, block: &Block<'_>) -> Result<PostgresqlConfig, ConfigError> {
    let default = |error| source.error(block.position, format!("{error}"));
    let mut config = PostgresqlConfig {
        url: ConnectionUrl::new(String::new()),
        table: Table::parse(TABLE).map_err(default)?,
        connections: CONNECTIONS,
        parallel_max: PARALLEL,
        makes_tables: true,
        connect_retries: Some(1),
        directory: None,
        lock: None,
    };
    let (mut is_shared, mut lock) = (false, Table::parse(LOCK_TABLE).map_err(default)?);
    for item in &block.object.items {
        let (Some(key), value) = (item.keys.first(), &item.value) else { continue };
        match key.name.as_str() {
            "connection_url" => config.url = ConnectionUrl::new(source.text("connection_url", value)?),
            "table" => {
                let name = set(Some(source.text("table", value)?)).unwrap_or_else(|| TABLE.to_owned());
                let table = Table::parse(&name).map_err(|error| error.to_string());
                config.table = table.map_err(|error| source.error(value.position, format!("`table`: {error}")))?;
            }
            "max_idle_connections" => config.connections = number(source, "max_idle_connections", value)?.max(1),
            "max_parallel" => config.parallel_max = number(source, "max_parallel", value)?.max(1),
            "skip_create_table" => config.makes_tables = !source.flag("skip_create_table", value)?,
            "max_connect_retries" => {
                // None of them means all of them.
                let retries = NonZeroU32::new(number(source, "max_connect_retries", value)?);
                config.connect_retries = retries.map(NonZeroU32::get);
            }
            "ha_enabled" => is_shared = source.flag("ha_enabled", value)?,
            "ha_table" => lock = read_lock_table(source, value)?,
            "path" => config.directory = set(Some(source.text("path", value)?)).map(PathBuf::from),
            unknown => source.unknown(unknown, key.position),
        }
    }
    if is_shared {
        config.lock = Some(lock);
    }
    Ok(config)
}

fn read_lock_table(source: &Source<'_>, value: &Value) -> Result<Table, ConfigError> {
    let name = set(Some(source.text("ha_table", value)?)).unwrap_or_else(|| LOCK_TABLE.to_owned());
    let table = Table::parse(&name).map_err(|error| error.to_string());
    table.map_err(|error| source.error(value.position, format!("`ha_table`: {error}")))
}

/// Where `ha_storage` says that the lock lies.
#[derive(Clone)]
pub(super) struct LockConfig {
    url: ConnectionUrl,
    table: Table,
}

/// Reads an `ha_storage` stanza.
pub(super) fn read_ha_storage(source: &mut Source<'_>, block: &Block<'_>) -> Result<LockConfig, ConfigError> {
    let reason = "the lock and the data have to change in one statement, so `ha_storage` is \"postgresql\" beside \
                  storage \"postgresql\"; storage \"raft\" needs none";
    match block.labels.as_slice() {
        ["postgresql"] => {}
        [other] => {
            return Err(source.error(block.position, format!("ha_storage `{other}` is not available: {reason}")));
        }
        _ => return Err(source.error(block.position, "`ha_storage` takes one type")),
    }
    let default = |error| source.error(block.position, format!("{error}"));
    let (mut url, mut table) = (ConnectionUrl::new(String::new()), Table::parse(LOCK_TABLE).map_err(default)?);
    for item in &block.object.items {
        let (Some(key), value) = (item.keys.first(), &item.value) else { continue };
        match key.name.as_str() {
            "connection_url" => url = ConnectionUrl::new(source.text("connection_url", value)?),
            "ha_table" => table = read_lock_table(source, value)?,
            "ha_enabled" => {
                if !source.flag("ha_enabled", value)? {
                    let text = "`ha_enabled` is false in `ha_storage`, which is there for nothing else";
                    return Err(source.error(key.position, text));
                }
            }
            // Of the same server, which `storage` says.
            "table" | "max_idle_connections" | "max_parallel" | "skip_create_table" | "max_connect_retries" => {}
            unknown => source.unknown(unknown, key.position),
        }
    }
    Ok(LockConfig { url, table })
}

impl LockConfig {
    /// Lets a storage be shared by this lock.
    ///
    /// # Errors
    /// When it is not of the same server.
    pub(super) fn share(self, storage: &mut Storage) -> Result<(), String> {
        match storage {
            Storage::Postgresql(config) if self.url.is_empty() || self.url.is_like(&config.url) => {
                config.lock = Some(self.table);
                Ok(())
            }
            Storage::Postgresql(_) => {
                Err("`ha_storage` \"postgresql\" names another `connection_url` than `storage`: the \
                                           lock and the data have to change in one statement"
                    .to_owned())
            }
            other => Err(format!(
                "`ha_storage` \"postgresql\" beside storage \"{}\" is not available: what writes there asks no lock of \
                 another server, so two could write at once",
                other.kind()
            )),
        }
    }
}

fn number(source: &Source<'_>, key: &str, value: &Value) -> Result<u32, ConfigError> {
    let number = source.text(key, value)?.parse().ok();
    number.ok_or_else(|| source.error(value.position, format!("`{key}` must be a number")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use crate::config::{Storage, parse};

    use super::*;

    fn read(stanza: &str, url: Option<&str>) -> Result<PostgresqlConfig, String> {
        let text = format!("storage \"postgresql\" {{\n{stanza}\n}}\nlistener \"tcp\" {{ tls_disable = true }}\n");
        let environment = |name: &str| url.filter(|_| name == "VAULT_PG_CONNECTION_URL").map(str::to_owned);
        let config = parse(&[(PathBuf::from("a.hcl"), text)], &environment).map_err(|error| error.to_string())?;
        assert_eq!(config.storage.kind(), "postgresql");
        match config.storage {
            Storage::Postgresql(config) => Ok(config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_is_as_documented_and_the_url_is_shown_to_nobody() {
        let url = "connection_url = \"postgres://root:canary@db.example/store?sslmode=require\"";
        let config = read(url, None).unwrap();
        assert_eq!(
            (config.table.to_string().as_str(), config.connections, config.parallel_max),
            ("tresor_store", 4, 128)
        );
        assert_eq!((config.makes_tables, config.connect_retries, config.directory.clone()), (true, Some(1), None));
        assert!(!format!("{config:?}").contains("canary"));
        let more = "\ntable = \"own.secrets\"\nmax_idle_connections = 2\nmax_parallel = \"9\"\nskip_create_table = \"true\"\n\
                    max_connect_retries = 0\nha_enabled = \"false\"\npath = \"/srv\"";
        let config = read(&format!("{url}{more}"), None).unwrap();
        assert_eq!((config.table.to_string().as_str(), config.connections, config.parallel_max), ("own.secrets", 2, 9));
        assert_eq!((config.makes_tables, config.connect_retries), (false, None));
        assert_eq!((config.directory, config.lock), (Some("/srv".into()), None));
    }

    #[test]
    fn several_servers_share_it_where_that_is_said_in_either_stanza() {
        let url = "connection_url = \"postgres://root:canary@h/x\"";
        let lock = |stanza: &str| read(stanza, None).unwrap().lock.map(|table| table.to_string());
        assert_eq!(lock(&format!("{url}\nha_enabled = \"true\"")).as_deref(), Some("tresor_ha_locks"));
        assert_eq!(lock(&format!("{url}\nha_enabled = true\nha_table = \"own.locks\"")).as_deref(), Some("own.locks"));
        assert_eq!(lock(&format!("{url}\nha_table = \"own.locks\"")), None);
        let beside = |stanza: &str| lock(&format!("{url}\n}}\nha_storage \"postgresql\" {{\n{stanza}"));
        assert_eq!(beside("").as_deref(), Some("tresor_ha_locks"));
        assert_eq!(beside(&format!("{url}\nha_table = \"l\"\nha_enabled = \"true\"")).as_deref(), Some("l"));
    }

    #[test]
    fn the_environment_says_where_the_server_is() {
        let config = read("connection_url = \"postgres://a@one/x\"", Some("postgres://b@two/x")).unwrap();
        assert_eq!(config.url.dsn().unwrap().user(), "b");
        assert!(read("", None).unwrap_err().contains("needs a `connection_url`"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let url = "connection_url = \"postgres://root:canary@h/x\"";
        for (stanza, text) in [
            (format!("{url}\nha_table = \"a b\""), "`ha_table`: a table is named by"),
            (
                format!("{url}\n}}\nha_storage \"postgresql\" {{\nconnection_url = \"postgres://i/x\""),
                "in one statement",
            ),
            (format!("{url}\n}}\nha_storage \"consul\" {{"), "ha_storage `consul` is not available"),
            (format!("{url}\n}}\nha_storage \"postgresql\" {{\nha_enabled = false"), "there for nothing else"),
            (format!("{url}\nha_enabled = true\n}}\ndisable_clustering = true\ntelemetry {{"), "`disable_clustering`"),
            (format!("{url}\ntable = \"a; drop\""), "`table`: a table is named by"),
            (format!("{url}\nmax_parallel = \"many\""), "`max_parallel` must be a number"),
            ("connection_url = \"canary\"".to_owned(), "neither a URL"),
            ("connection_url = \"postgres://root:canary@h/?sslmode=perhaps\"".to_owned(), "sslmode is one of"),
        ] {
            let error = read(&stanza, None).unwrap_err();
            assert!(error.contains(text) && !error.contains("canary"), "{error}");
        }
    }
}
