//! The token store: minting, looking up, renewing, revoking.
//!
//! A token is found by a keyed hash of its text, so the store holds nothing that can be used (DR-05). Revoking is
//! removing one record: every descendant is refused from then on, because a token lives only while all its ancestors
//! do; what it leaves behind (children, cubbyhole) is collected afterwards by `leases`. Deliberately absent: batch
//! tokens and roles (a later issue), and any cache: the transaction is the truth.

pub mod record;
pub mod terms;

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_barrier::{Barrier, Txn};
use tresor_crypto::hash::HmacKey;
use tresor_crypto::token_text;
use tresor_env::Entropy;
use tresor_model::ids::{Accessor, MountId, NamespaceId};
use tresor_model::{Auth, Fault, Refusal, Timestamp};
use tresor_record::Record;
use tresor_secret::TokenSecret;

use crate::{keys, leases};
use record::{AccessorRecord, DoomedToken, TokenRecord, Uses};

/// Characters of the random part of a token: 28 of base62 are 166 bits.
const TOKEN_CHARACTERS: usize = 28;
/// Characters of an accessor.
const ACCESSOR_CHARACTERS: usize = 24;
/// The longest chain of parents that is followed; a longer one could not have been made.
pub const DEPTH_MAX: usize = 64;

/// The token store of an unsealed node.
pub struct Tokens {
    hash_key: HmacKey,
}

/// What a new token is to be.
pub struct NewToken {
    /// The text, when the creator may choose it; else it is made up.
    pub id: Option<TokenSecret>,
    /// The namespace.
    pub namespace: NamespaceId,
    /// The keyed hash of its parent.
    pub parent: Option<String>,
    /// Attached policies; sorted and cleaned of doubles here.
    pub policies: Vec<String>,
    /// What is known of the holder.
    pub metadata: BTreeMap<String, String>,
    /// Shown in audit records.
    pub display_name: String,
    /// The path that makes it.
    pub path: String,
    /// The mount that makes it.
    pub mount: MountId,
    /// Its life; `None` only for root tokens.
    pub ttl: Option<Duration>,
    /// What a renewal without a wish asks for.
    pub renewal_ttl: Duration,
    /// Longest life as its role or user said.
    pub max_ttl: Duration,
    /// Longest life whatever the mount says.
    pub explicit_max_ttl: Duration,
    /// The period.
    pub period: Duration,
    /// How often it may be used; zero means no limit.
    pub num_uses: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Addresses that it may be used from.
    pub bound_cidrs: Vec<String>,
}

/// A token that was found: its record and the hash it lies under.
#[derive(Clone)]
pub struct FoundToken {
    /// The keyed hash.
    pub hash: String,
    /// The record.
    pub record: TokenRecord,
}

impl Tokens {
    /// The token store behind a barrier.
    #[must_use]
    pub fn new(barrier: &Barrier) -> Self {
        Self { hash_key: HmacKey::new(barrier.derive_subkey("token-id").expose()) }
    }

    /// The name under which a token is stored.
    #[must_use]
    pub fn hash(&self, token: &TokenSecret) -> String {
        let digest = self.hash_key.sign(token.expose().as_bytes());
        tresor_crypto::hash::to_hex(&digest)
    }

    /// Makes a token within a transaction.
    ///
    /// # Errors
    /// A refusal when the chosen id is taken or the parents go too deep; a failure when the store fails.
    pub fn mint(
        &self,
        txn: &mut Txn,
        new: NewToken,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(TokenSecret, FoundToken), Fault> {
        let token = match new.id {
            Some(id) => id,
            None => fresh_token(entropy)?,
        };
        let hash = self.hash(&token);
        if read_record(txn, &new.namespace, &hash)?.is_some() {
            return Err(Fault::invalid("cannot create a token with a duplicate ID"));
        }
        // What a revoked token left behind hangs on its hash: a new one there would bring its children back to life and
        // inherit its cubbyhole.
        let doomed = keys::doomed(&new.namespace).and_then(|at| at.key(&hash)).map_err(fault)?;
        if txn.contains(&doomed).map_err(fault)? {
            return Err(Refusal::Unavailable("a token with this ID is being revoked, try again".into()).into());
        }
        if let Some(parent) = &new.parent {
            self.check_depth(txn, &new.namespace, parent)?;
        }
        let mut policies = new.policies;
        policies.sort_unstable();
        policies.dedup();
        let record = TokenRecord {
            accessor: Accessor::new(token_text::random_base62(ACCESSOR_CHARACTERS, entropy).as_str()),
            namespace: new.namespace,
            parent: new.parent,
            policies,
            metadata: new.metadata,
            display_name: new.display_name,
            path: new.path,
            mount: new.mount,
            created: now,
            renewed: None,
            expires: new.ttl.map(|ttl| now.plus(ttl)),
            creation_ttl: new.ttl.unwrap_or_default(),
            renewal_ttl: new.renewal_ttl,
            max_ttl: new.max_ttl,
            explicit_max_ttl: new.explicit_max_ttl,
            period: new.period,
            uses: Uses::from_wire(new.num_uses),
            renewable: new.renewable && new.ttl.is_some(),
            bound_cidrs: new.bound_cidrs,
        };
        let found = FoundToken { hash, record };
        write_record(txn, &found)?;
        let accessor = keys::accessors(&found.record.namespace)
            .and_then(|at| at.key(found.record.accessor.as_str()))
            .map_err(fault)?;
        txn.write(&accessor, &AccessorRecord { hash: found.hash.clone() }.encode()).map_err(fault)?;
        if let Some(parent) = &found.record.parent {
            let edge =
                keys::children(&found.record.namespace, parent).and_then(|at| at.key(&found.hash)).map_err(fault)?;
            txn.write(&edge, &[]).map_err(fault)?;
        }
        if let Some(end) = found.record.expires {
            leases::index(txn, &found.record.namespace, end, &found.hash)?;
        }
        Ok((token, found))
    }

    /// Looks a token up by its text; `None` unless it and all its ancestors are alive.
    ///
    /// # Errors
    /// A failure when the store fails or a record is damaged.
    pub fn find(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        token: &TokenSecret,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        self.find_hash(txn, namespace, &self.hash(token), now)
    }

    /// Looks a token up by its keyed hash; `None` unless it and all its ancestors are alive.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn find_hash(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        hash: &str,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        let Some(record) = read_alive(txn, namespace, hash, now)? else { return Ok(None) };
        let mut ancestor = record.parent.clone();
        for _ in 0..=DEPTH_MAX {
            let Some(parent) = ancestor else {
                return Ok(Some(FoundToken { hash: hash.to_owned(), record }));
            };
            match read_alive(txn, namespace, &parent, now)? {
                Some(parent) => ancestor = parent.parent,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Looks a token up by its accessor, within its own namespace.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn find_accessor(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        accessor: &str,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        // An accessor that cannot be a storage name names nothing.
        let Ok(key) = keys::accessors(namespace).and_then(|at| at.key(accessor)) else { return Ok(None) };
        let Some(bytes) = txn.read(&key).map_err(fault)? else { return Ok(None) };
        let hash = AccessorRecord::decode(&bytes).map_err(Fault::internal)?.hash;
        self.find_hash(txn, namespace, &hash, now)
    }

    /// Stores a changed record; `expires` may have moved from `old_end`.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn update(&self, txn: &mut Txn, found: &FoundToken, old_end: Option<Timestamp>) -> Result<(), Fault> {
        write_record(txn, found)?;
        let record = &found.record;
        if old_end != record.expires {
            if let Some(end) = old_end {
                leases::unindex(txn, &record.namespace, end, &found.hash)?;
            }
            if let Some(end) = record.expires {
                leases::index(txn, &record.namespace, end, &found.hash)?;
            }
        }
        Ok(())
    }

    /// Revokes a token: it and all its descendants are refused from this transaction's commit on.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn revoke(&self, txn: &mut Txn, found: &FoundToken, now: Timestamp) -> Result<(), Fault> {
        let record = &found.record;
        let namespace = &record.namespace;
        txn.delete(&keys::token(namespace, &found.hash).map_err(fault)?).map_err(fault)?;
        let accessor = keys::accessors(namespace).and_then(|at| at.key(record.accessor.as_str())).map_err(fault)?;
        txn.delete(&accessor).map_err(fault)?;
        if let Some(parent) = &record.parent {
            let edge = keys::children(namespace, parent).and_then(|at| at.key(&found.hash)).map_err(fault)?;
            txn.delete(&edge).map_err(fault)?;
        }
        if let Some(end) = record.expires {
            leases::unindex(txn, namespace, end, &found.hash)?;
        }
        let doomed = keys::doomed(namespace).and_then(|at| at.key(&found.hash)).map_err(fault)?;
        txn.write(&doomed, &DoomedToken { since: now }.encode()).map_err(fault)
    }

    /// Revokes a token and makes its children orphans.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn revoke_orphaning(&self, txn: &mut Txn, found: &FoundToken, now: Timestamp) -> Result<(), Fault> {
        let namespace = &found.record.namespace;
        let edges = keys::children(namespace, &found.hash).map_err(fault)?;
        for child in crate::cached::every_name(txn, &edges).map_err(fault)? {
            if let Some(mut record) = read_record(txn, namespace, &child)? {
                record.parent = None;
                write_record(txn, &FoundToken { hash: child.clone(), record })?;
            }
            txn.delete(&edges.key(&child).map_err(Fault::internal)?).map_err(fault)?;
        }
        self.revoke(txn, found, now)
    }

    /// The accessors of all live tokens, in order.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn accessors(&self, txn: &mut Txn, now: Timestamp) -> Result<Vec<String>, Fault> {
        let namespace = NamespaceId::root();
        let prefix = keys::accessors(&namespace).map_err(fault)?;
        let mut alive = Vec::new();
        for accessor in crate::cached::every_name(txn, &prefix).map_err(fault)? {
            if self.find_accessor(txn, &namespace, &accessor, now)?.is_some() {
                alive.push(accessor);
            }
        }
        Ok(alive)
    }

    fn check_depth(&self, txn: &mut Txn, namespace: &NamespaceId, parent: &str) -> Result<(), Fault> {
        let mut ancestor = Some(parent.to_owned());
        for _ in 0..DEPTH_MAX {
            let Some(hash) = ancestor else { return Ok(()) };
            ancestor = read_record(txn, namespace, &hash)?.and_then(|record| record.parent);
        }
        Err(Fault::invalid("token has too many ancestors; create an orphan"))
    }
}

/// A random service token.
///
/// # Errors
/// Never in practice: the generated text is a valid token.
pub fn fresh_token(entropy: &dyn Entropy) -> Result<TokenSecret, Fault> {
    let random = token_text::random_base62(TOKEN_CHARACTERS, entropy);
    TokenSecret::parse(&format!("hvs.{}", random.as_str())).map_err(Fault::internal)
}

/// The `auth` block of an answer about a token.
#[must_use]
pub fn auth_block(token: Option<TokenSecret>, record: &TokenRecord, now: Timestamp) -> Auth {
    Auth {
        client_token: token,
        accessor: record.accessor.clone(),
        policies: record.policies.clone(),
        token_policies: record.policies.clone(),
        identity_policies: Vec::new(),
        metadata: (!record.metadata.is_empty()).then(|| record.metadata.clone()),
        lease_duration: record.remaining(now).unwrap_or_default(),
        renewable: record.renewable,
        entity_id: String::new(),
        token_type: record.token_type(),
        orphan: record.parent.is_none(),
        num_uses: record.uses.on_wire(),
    }
}

/// The record of a token whose time is not over and whose mount is there; its ancestors are another question. The mount
/// is looked at within the transaction, so that its removal conflicts with what its tokens do meanwhile.
fn read_alive(
    txn: &mut Txn,
    namespace: &NamespaceId,
    hash: &str,
    now: Timestamp,
) -> Result<Option<TokenRecord>, Fault> {
    let Some(record) = read_record(txn, namespace, hash)? else { return Ok(None) };
    let mount = keys::mount(namespace, &record.mount).map_err(fault)?;
    Ok((!record.is_expired(now) && txn.contains(&mount).map_err(fault)?).then_some(record))
}

pub(crate) fn read_record(txn: &mut Txn, namespace: &NamespaceId, hash: &str) -> Result<Option<TokenRecord>, Fault> {
    let key = keys::token(namespace, hash).map_err(fault)?;
    let Some(bytes) = txn.read(&key).map_err(fault)? else { return Ok(None) };
    TokenRecord::decode(&bytes).map(Some).map_err(Fault::internal)
}

fn write_record(txn: &mut Txn, found: &FoundToken) -> Result<(), Fault> {
    let key = keys::token(&found.record.namespace, &found.hash).map_err(fault)?;
    txn.write(&key, &found.record.encode()).map_err(fault)
}

fn fault(error: tresor_barrier::BarrierError) -> Fault {
    Fault::internal(error)
}
