//! What an operator says of requests before they are requests: which origins browsers may ask from, and which headers are
//! recorded.
//!
//! Stored, and followed by every node. Deliberately absent: HTTP (`tresor-http` asks [`Edge::origin`]), and headers of a UI
//! that there is not.

use std::collections::BTreeMap;

use tresor_barrier::{Changed, KeyPrefix, Txn};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Origin};
use tresor_record::Record;

use crate::cached::{Cached, every_name};
use crate::keys;

/// Which origins may ask; nothing stored is none.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "cors", version = 1)]
pub struct CorsRecord {
    /// The origins; `*` alone is every one.
    pub allowed_origins: Vec<String>,
    /// Headers that they may send beside those that the API itself has.
    pub allowed_headers: Vec<String>,
    /// Whether browsers may send along what they keep for this server.
    pub allow_credentials: bool,
}

/// A header that is recorded.
#[derive(Record, Clone, Copy, PartialEq, Eq)]
#[record(kind = "audited-header", version = 1)]
pub struct AuditedRecord {
    /// Whether devices show it hashed.
    pub hmac: bool,
}

/// The headers of the API itself.
const OWN_HEADERS: [&str; 10] = [
    "Content-Type",
    "Authorization",
    "X-Vault-Token",
    "X-Vault-MFA",
    "X-Vault-No-Request-Forwarding",
    "X-Vault-Wrap-Format",
    "X-Vault-Wrap-TTL",
    "X-Requested-With",
    "X-Vault-AWS-IAM-Server-ID",
    "X-Vault-Policy-Override",
];

impl CorsRecord {
    /// All headers that may be sent.
    #[must_use]
    pub fn headers(&self) -> Vec<String> {
        let own = OWN_HEADERS.iter().map(|header| (*header).to_owned());
        own.chain(self.allowed_headers.iter().cloned()).collect()
    }

    fn allows(&self, origin: &str) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed == origin)
    }
}

#[derive(PartialEq, Eq)]
struct Table {
    cors: Option<CorsRecord>,
    audited: BTreeMap<String, bool>,
}

/// The owner of both.
pub struct Edge {
    table: Cached<Table>,
}

impl Edge {
    /// Loads both.
    ///
    /// # Errors
    /// When the store fails or a record is damaged.
    pub fn load(txn: &mut Txn) -> Result<Self, Fault> {
        let table = read_table(txn)?;
        Ok(Self { table: Cached::new(keys::edge(&NamespaceId::root()).map_err(Fault::internal)?, txn, table) })
    }

    /// Whether a browser may ask from there.
    #[must_use]
    pub fn origin(&self, origin: &str) -> Origin {
        match &self.table.load().cors {
            None => Origin::NotAsked,
            Some(cors) if cors.allows(origin) => {
                Origin::Allowed { headers: cors.headers(), with_credentials: cors.allow_credentials }
            }
            Some(_) => Origin::Refused,
        }
    }

    /// Calls `use_them` with the headers that are recorded, and whether devices show them hashed, if there are any.
    pub(crate) fn audited<T>(&self, otherwise: T, use_them: impl FnOnce(T, &BTreeMap<String, bool>) -> T) -> T {
        let table = self.table.load();
        if table.audited.is_empty() { otherwise } else { use_them(otherwise, &table.audited) }
    }

    /// Which origins may ask, as a transaction sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn cors(&self, txn: &mut Txn) -> Result<Option<CorsRecord>, Fault> {
        read_cors(txn)
    }

    /// Says which origins may ask; none, when nothing is said.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_cors(&self, txn: &mut Txn, cors: Option<&CorsRecord>) -> Result<(), Fault> {
        let key = keys::cors(&NamespaceId::root()).map_err(Fault::internal)?;
        match cors {
            Some(cors) => txn.write(&key, &cors.encode()),
            None => txn.delete(&key),
        }
        .map_err(Fault::internal)
    }

    /// The headers that are recorded, as a transaction sees them, and whether devices show them hashed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn audited_headers(&self, txn: &mut Txn) -> Result<BTreeMap<String, bool>, Fault> {
        read_audited(txn)
    }

    /// Lets a header be recorded, or not any more.
    ///
    /// # Errors
    /// A refusal when it is no name of a header; a failure when the store fails.
    pub fn write_audited(&self, txn: &mut Txn, name: &str, record: Option<AuditedRecord>) -> Result<(), Fault> {
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if name.is_empty() || !is_name {
            return Err(Fault::invalid("the header has no name that headers can have"));
        }
        let prefix = keys::audited_headers(&NamespaceId::root()).map_err(Fault::internal)?;
        let key = prefix.key(&name.to_ascii_lowercase()).map_err(tresor_engine::view::fault)?;
        match record {
            Some(record) => txn.write(&key, &record.encode()),
            None => txn.delete(&key),
        }
        .map_err(Fault::internal)
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> KeyPrefix {
        self.table.prefix().clone()
    }

    pub(crate) fn reload_if_touched(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        self.table.reload_if_touched(changed, txn, read_table)
    }

    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        Ok(read_table(txn)? == *self.table.load())
    }
}

fn read_table(txn: &mut Txn) -> Result<Table, Fault> {
    Ok(Table { cors: read_cors(txn)?, audited: read_audited(txn)? })
}

fn read_cors(txn: &mut Txn) -> Result<Option<CorsRecord>, Fault> {
    let key = keys::cors(&NamespaceId::root()).map_err(Fault::internal)?;
    let stored = txn.read(&key).map_err(Fault::internal)?;
    stored.map(|bytes| CorsRecord::decode(&bytes)).transpose().map_err(Fault::internal)
}

fn read_audited(txn: &mut Txn) -> Result<BTreeMap<String, bool>, Fault> {
    let prefix = keys::audited_headers(&NamespaceId::root()).map_err(Fault::internal)?;
    let mut audited = BTreeMap::new();
    for name in every_name(txn, &prefix).map_err(Fault::internal)? {
        let key = prefix.key(&name).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { continue };
        audited.insert(name, AuditedRecord::decode(&bytes).map_err(Fault::internal)?.hmac);
    }
    Ok(audited)
}
