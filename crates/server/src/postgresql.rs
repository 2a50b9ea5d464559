//! The way from `storage "postgresql"` to a store: its URL, and the files of TLS that it names.
//!
//! Deliberately absent: the stanza (`config/postgresql.rs`), and everything behind the connection.

use std::sync::Arc;

use tresor_env::Doors;
use tresor_env::tasks::run_blocking;
use tresor_postgresql::{Names, Ssl, Tls, TlsFiles, Way};
use tresor_secret::SecretString;
use tresor_storage_postgresql::{PostgresStore, Probed, Settings};
use zeroize::Zeroizing;

use crate::config::PostgresqlConfig;

/// What the files are called in the URL.
const NAMES: Names = Names { authority: "sslrootcert", certificate: "sslcert", key: "sslkey" };

/// What a store is opened with.
fn settings(config: &PostgresqlConfig) -> Result<Settings, String> {
    let dsn = config.url.dsn()?;
    let TlsFiles { authority, certificate, key } = &dsn.files;
    let text = |name: &str, path: &Option<String>| -> Result<Option<Zeroizing<String>>, String> {
        let Some(path) = path else { return Ok(None) };
        let read = std::fs::read_to_string(path).map_err(|error| format!("{name} {path}: {error}"))?;
        Ok(Some(Zeroizing::new(read)))
    };
    let (authority, certificate) = (text(NAMES.authority, authority)?, text(NAMES.certificate, certificate)?);
    let key = text(NAMES.key, key)?.map(|key| SecretString::new(key.as_str().to_owned()));
    let of = |text: &Option<Zeroizing<String>>| text.as_ref().map(|text| text.as_str().to_owned());
    let tls = Tls::new(dsn.ssl, NAMES, of(&authority).as_deref(), of(&certificate).as_deref(), key.as_ref())?;
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(Settings {
        way: Way { dsn, tls },
        table: config.table.clone(),
        parallel_max: number(config.parallel_max),
        connections: number(config.connections),
        makes_tables: config.makes_tables,
        connect_retries: config.connect_retries,
        lock: config.lock.clone(),
    })
}

/// Opens the store.
pub(crate) async fn open(config: &PostgresqlConfig, doors: &Doors) -> Result<Arc<PostgresStore>, String> {
    let (settings, within) = (settings(config)?, doors.clone());
    let opened = run_blocking(&*doors.workers, move || PostgresStore::open(&within, settings)).await;
    let opened = opened.map_err(|panicked| panicked.to_string())?;
    opened.map(Arc::new).map_err(|error| format!("storage \"postgresql\": {error}"))
}

/// Looks at the server, and changes nothing.
pub(crate) fn probe(config: &PostgresqlConfig, doors: &Doors) -> Result<Probed, String> {
    PostgresStore::probe(doors, settings(config)?).map_err(|error| error.to_string())
}

/// Whether nobody on the way can pose as the server: its certificate is verified, or the way does not leave this machine.
pub(crate) fn is_verified(config: &PostgresqlConfig) -> bool {
    config.url.dsn().is_ok_and(|dsn| {
        let by_authority = dsn.files.authority.is_some() && dsn.ssl == Ssl::Required;
        dsn.is_local() || by_authority || matches!(dsn.ssl, Ssl::Full | Ssl::Authority)
    })
}
