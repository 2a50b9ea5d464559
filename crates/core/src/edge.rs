//! What an operator says of requests before they are requests: which origins browsers may ask from, which headers are
//! recorded, and which the answers below `/ui` have.
//!
//! Stored, and followed by every node. Deliberately absent: HTTP (`tresor-http` asks [`Edge::origin`] and
//! [`Edge::page_headers`]), and a copy outside the barrier: a sealed node sends no headers of an operator's.

use std::collections::BTreeMap;

use tresor_barrier::{Changed, KeyPrefix, Txn};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Origin, Origins};
use tresor_record::Record;

use crate::cached::{Cached, every_record};
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

/// A header of the answers below `/ui`.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "page-header", version = 1)]
pub struct PageHeaderRecord {
    /// Its name as it is shown.
    pub name: String,
    /// Its values, of which there is at least one.
    pub values: Vec<String>,
}

impl CorsRecord {
    /// All headers that may be sent.
    #[must_use]
    pub fn headers(&self) -> Vec<String> {
        self.origins().all_headers()
    }

    fn origins(&self) -> Origins<'_> {
        Origins {
            allowed: &self.allowed_origins,
            headers: &self.allowed_headers,
            with_credentials: self.allow_credentials,
        }
    }
}

#[derive(PartialEq, Eq)]
struct Table {
    cors: Option<CorsRecord>,
    audited: BTreeMap<String, bool>,
    of_pages: BTreeMap<String, PageHeaderRecord>,
}

/// The owner of all three.
pub struct Edge {
    table: Cached<Table>,
}

impl Edge {
    /// Loads them.
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
        self.table.load().cors.as_ref().map_or(Origin::NotAsked, |cors| cors.origins().judge(origin))
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
        let prefix = keys::audited_headers(&NamespaceId::root()).map_err(Fault::internal)?;
        let key = prefix.key(&header_name(name)?).map_err(tresor_engine::view::fault)?;
        match record {
            Some(record) => txn.write(&key, &record.encode()),
            None => txn.delete(&key),
        }
        .map_err(Fault::internal)
    }

    /// The headers of answers below `/ui`, each value with its name.
    #[must_use]
    pub fn page_headers(&self) -> Vec<(String, String)> {
        let table = self.table.load();
        let every = |header: &PageHeaderRecord| {
            let name = header.name.clone();
            header.values.clone().into_iter().map(move |value| (name.clone(), value))
        };
        table.of_pages.values().flat_map(every).collect()
    }

    /// The same as a transaction sees them, by their names in lower case.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored_page_headers(&self, txn: &mut Txn) -> Result<BTreeMap<String, PageHeaderRecord>, Fault> {
        read_of_pages(txn)
    }

    /// Gives answers below `/ui` a header, or takes it from them.
    ///
    /// # Errors
    /// A refusal when it is no name or value of a header; a failure when the store fails.
    pub fn write_page_header(&self, txn: &mut Txn, name: &str, values: Option<Vec<String>>) -> Result<(), Fault> {
        let key = keys::page_headers(&NamespaceId::root()).map_err(Fault::internal)?;
        let key = key.key(&header_name(name)?).map_err(tresor_engine::view::fault)?;
        let Some(values) = values else { return txn.delete(&key).map_err(Fault::internal) };
        // As RFC 9110, section 5.5, lets a value be: visible, with blanks and tabs between.
        let is_value = |value: &String| value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        if !values.iter().all(is_value) {
            return Err(Fault::invalid("the values of a header are visible ASCII characters, blanks and tabs"));
        }
        let record = PageHeaderRecord { name: canonical(name), values };
        txn.write(&key, &record.encode()).map_err(Fault::internal)
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
    Ok(Table { cors: read_cors(txn)?, audited: read_audited(txn)?, of_pages: read_of_pages(txn)? })
}

/// A header's name in lower case.
fn header_name(name: &str) -> Result<String, Fault> {
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if name.is_empty() || !is_name {
        return Err(Fault::invalid("the header has no name that headers can have"));
    }
    Ok(name.to_ascii_lowercase())
}

/// A header's name as it is usually written: each word begins with a capital letter.
fn canonical(name: &str) -> String {
    let word = |word: &str| {
        let mut word = word.to_ascii_lowercase();
        word.get_mut(..1).iter_mut().for_each(|first| first.make_ascii_uppercase());
        word
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

fn read_cors(txn: &mut Txn) -> Result<Option<CorsRecord>, Fault> {
    let key = keys::cors(&NamespaceId::root()).map_err(Fault::internal)?;
    let stored = txn.read(&key).map_err(Fault::internal)?;
    stored.map(|bytes| CorsRecord::decode(&bytes)).transpose().map_err(Fault::internal)
}

fn read_audited(txn: &mut Txn) -> Result<BTreeMap<String, bool>, Fault> {
    let prefix = keys::audited_headers(&NamespaceId::root()).map_err(Fault::internal)?;
    let records: BTreeMap<String, AuditedRecord> = every_record(txn, &prefix)?;
    Ok(records.into_iter().map(|(name, record)| (name, record.hmac)).collect())
}

fn read_of_pages(txn: &mut Txn) -> Result<BTreeMap<String, PageHeaderRecord>, Fault> {
    every_record(txn, &keys::page_headers(&NamespaceId::root()).map_err(Fault::internal)?)
}
