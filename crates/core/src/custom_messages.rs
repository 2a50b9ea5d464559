//! Messages that an operator has for people, before or after they log in: one record each, in the namespace that they are of.
//!
//! Read when somebody asks, so nothing follows them. Invariant: a namespace has at most [`MESSAGES_MAX`], each of at most
//! [`BYTES_MAX`], because strangers may ask for those that are shown before a login. Deliberately absent: what a page makes of them.

use std::collections::BTreeMap;

use tresor_barrier::{StorageKey, Txn};
use tresor_crypto::token_text;
use tresor_engine::view::fault;
use tresor_env::Entropy;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Map, Timestamp};
use tresor_record::Record;

use crate::cached::every_record;
use crate::keys;

/// How many a namespace has at most.
pub const MESSAGES_MAX: usize = 100;
/// How much one comes to at most, as it is stored.
pub const BYTES_MAX: usize = 8192;

/// One message.
#[derive(Record)]
#[record(kind = "custom-message", version = 1)]
pub struct CustomMessage {
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Whether it is in everybody's way until it is put aside (`modal`), or stands above the page (`banner`).
    pub is_modal: bool,
    /// Whether it is shown to those who are logged in, instead of everybody who comes to do so.
    pub is_authenticated: bool,
    /// Where it leads: an address by its title, or nothing.
    pub link: BTreeMap<String, String>,
    /// What a page wants to know besides.
    pub options: Map,
    /// From when it is shown.
    pub start: Timestamp,
    /// Until when; without one, for good.
    pub end: Option<Timestamp>,
}

impl CustomMessage {
    /// Whether it is shown at a time.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.start <= now && self.end.is_none_or(|end| now < end)
    }
}

fn key(namespace: &NamespaceId, id: &str) -> Result<StorageKey, Fault> {
    keys::custom_messages(namespace).and_then(|at| at.key(id)).map_err(fault)
}

/// All of a namespace, by their ids.
///
/// # Errors
/// When the store fails.
pub fn all(txn: &mut Txn, namespace: &NamespaceId) -> Result<BTreeMap<String, CustomMessage>, Fault> {
    every_record(txn, &keys::custom_messages(namespace).map_err(Fault::internal)?)
}

/// One of them.
///
/// # Errors
/// When the store fails.
pub fn read(txn: &mut Txn, namespace: &NamespaceId, id: &str) -> Result<Option<CustomMessage>, Fault> {
    let bytes = txn.read(&key(namespace, id)?).map_err(fault)?;
    bytes.map(|bytes| CustomMessage::decode(&bytes)).transpose().map_err(Fault::internal)
}

/// Adds one, and says its id.
///
/// # Errors
/// A refusal when there are too many, or it is too long.
pub fn add(
    txn: &mut Txn,
    namespace: &NamespaceId,
    message: &CustomMessage,
    entropy: &dyn Entropy,
) -> Result<String, Fault> {
    let prefix = keys::custom_messages(namespace).map_err(Fault::internal)?;
    if txn.list(&prefix, None, MESSAGES_MAX).map_err(Fault::internal)?.len() >= MESSAGES_MAX {
        return Err(Fault::invalid(format!(
            "there are {MESSAGES_MAX} custom messages, which is as many as there can be"
        )));
    }
    let id = token_text::random_uuid(entropy);
    write(txn, namespace, &id, message)?;
    Ok(id)
}

/// Puts one in the place of another.
///
/// # Errors
/// A refusal when it is too long.
pub fn write(txn: &mut Txn, namespace: &NamespaceId, id: &str, message: &CustomMessage) -> Result<(), Fault> {
    let bytes = message.encode();
    if bytes.len() > BYTES_MAX {
        return Err(Fault::invalid(format!(
            "a custom message has at most {BYTES_MAX} bytes, with its link and options"
        )));
    }
    txn.write(&key(namespace, id)?, &bytes).map_err(fault)
}

/// Removes one; removing nothing is fine.
///
/// # Errors
/// When the store fails.
pub fn delete(txn: &mut Txn, namespace: &NamespaceId, id: &str) -> Result<(), Fault> {
    txn.delete(&key(namespace, id)?).map_err(fault)
}
