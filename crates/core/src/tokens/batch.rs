//! Batch tokens: all that a token says lies sealed in its own text, and nothing of it is stored.
//!
//! So making any number writes nothing, and checking an orphan reads nothing; one with a parent lives while that lives, which is
//! read. The key is derived from the one that never rotates, and another again from the first part of the text, so that no number
//! of tokens wears it out. Invariant: a batch token has no accessor, by which it is told from any other. Deliberately absent: what
//! hangs on a stored record. It is not renewed or revoked, counts no uses, and has no children or cubbyhole; leases of what is
//! handed out to it end with it by their own time, and with its parent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use tresor_barrier::{Barrier, Txn};
use tresor_crypto::aead::AeadKey;
use tresor_crypto::hash::HmacKey;
use tresor_env::Entropy;
use tresor_model::ids::{Accessor, MountId, NamespaceId};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;
use tresor_secret::{DataKey, TokenSecret};

use super::record::{TokenRecord, Uses};
use super::{FoundToken, NewToken, Tokens};
use crate::leases::index;
use crate::namespaces::ids;

/// What the text of a batch token begins with.
const PREFIX: &str = "hvb.";
/// Bytes that the key of one token is derived from.
const SALT_BYTES: usize = 16;
/// What each is bound to.
const CONTEXT: &[u8] = b"batch-token";

/// What a batch token says.
#[derive(Record)]
#[record(kind = "batch-token", version = 1)]
struct BatchRecord {
    namespace: NamespaceId,
    parent: Option<String>,
    policies: Vec<String>,
    metadata: BTreeMap<String, String>,
    display_name: String,
    path: String,
    mount: MountId,
    created: Timestamp,
    ttl: Duration,
    bound_cidrs: Vec<String>,
}

/// The key of all batch tokens of a store.
pub(super) struct BatchKey(HmacKey);

impl BatchKey {
    pub(super) fn new(barrier: &Barrier) -> Self {
        Self(HmacKey::new(barrier.derive_subkey("batch-token").expose()))
    }

    fn of(&self, salt: &[u8]) -> AeadKey {
        AeadKey::new(&DataKey::new(self.0.sign(salt)))
    }

    fn seal(&self, record: &BatchRecord, entropy: &dyn Entropy) -> Result<TokenSecret, Fault> {
        let mut bytes = vec![0; SALT_BYTES];
        entropy.fill(&mut bytes);
        let sealed = self.of(&bytes).seal(0, CONTEXT, &record.encode(), entropy);
        bytes.extend_from_slice(&sealed);
        let text = ids::within(&record.namespace, format!("{PREFIX}{}", BASE64.encode(&bytes)));
        TokenSecret::parse(&text).map_err(|_| Fault::invalid("a batch token cannot say so much"))
    }

    fn open(&self, token: &TokenSecret) -> Option<BatchRecord> {
        let text = token.expose().strip_prefix(PREFIX)?;
        let bytes = BASE64.decode(ids::bare(text)).ok()?;
        let (salt, sealed) = bytes.split_at_checked(SALT_BYTES)?;
        let record = BatchRecord::decode(&self.of(salt).open(CONTEXT, sealed).ok()?).ok()?;
        // One text for each.
        (record.namespace == ids::home(text)).then_some(record)
    }
}

/// Whether a text is that of a batch token, good or not.
#[must_use]
pub fn is_batch(token: &TokenSecret) -> bool {
    token.expose().starts_with(PREFIX)
}

impl Tokens {
    /// Makes a batch token. What no batch token has is left out of `new`.
    ///
    /// # Errors
    /// A refusal when it would be longer than a token can be.
    pub fn mint_batch(
        &self,
        new: NewToken,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(TokenSecret, FoundToken), Fault> {
        let mut policies = new.policies;
        policies.sort_unstable();
        policies.dedup();
        let record = BatchRecord {
            namespace: new.namespace,
            parent: new.parent.as_ref().map(|parent| parent.hash.clone()),
            policies,
            metadata: new.metadata,
            display_name: new.display_name,
            path: new.path,
            mount: new.mount,
            created: now,
            ttl: new.ttl.unwrap_or_default(),
            bound_cidrs: new.bound_cidrs,
        };
        let token = self.batch_key.seal(&record, entropy)?;
        let hash = self.hash(&token, &record.namespace);
        let found = FoundToken { hash, record: Arc::new(known(record, new.parent)), uses_left: None };
        Ok((token, found))
    }

    /// The live batch token with this text.
    pub(super) fn find_batch(
        &self,
        txn: &mut Txn,
        homes: &[NamespaceId],
        token: &TokenSecret,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        let Some(record) = self.batch_key.open(token).filter(|record| homes.contains(&record.namespace)) else {
            return Ok(None);
        };
        let is_over = index::rounded(record.created.plus(record.ttl)) <= now;
        if is_over || !self.spaces.has_mount(&record.namespace, &record.mount) {
            return Ok(None);
        }
        let parent = match &record.parent {
            None => None,
            Some(hash) => match self.find_hash(txn, hash, now)? {
                Some(parent) => Some(parent),
                None => return Ok(None),
            },
        };
        let hash = self.hash(token, &record.namespace);
        Ok(Some(FoundToken { hash, record: Arc::new(known(record, parent)), uses_left: None }))
    }

    /// Whether the token that a lease hangs on is alive. Nothing but its time ends the lease of a batch token without a parent.
    pub(crate) fn keeps_leases(&self, txn: &mut Txn, owner: &str, now: Timestamp) -> Result<bool, Fault> {
        Ok(owner.is_empty() || self.find_hash(txn, owner, now)?.is_some())
    }
}

impl FoundToken {
    /// Whether it is a batch token.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.record.accessor.as_str().is_empty()
    }

    /// The stored token that its leases hang on; empty for a batch token without a parent.
    pub(crate) fn lease_owner(&self) -> &str {
        if self.is_batch() { self.record.ancestors.first().map_or("", String::as_str) } else { &self.hash }
    }

    /// The stored tokens that what hangs on it counts for, nearest first.
    pub(crate) fn line(&self) -> Vec<String> {
        let own = (!self.is_batch()).then(|| self.hash.clone());
        own.into_iter().chain(self.record.ancestors.iter().cloned()).collect()
    }
}

/// A batch token in the form of every token.
fn known(batch: BatchRecord, parent: Option<FoundToken>) -> TokenRecord {
    let origin = parent.as_ref().map(|parent| parent.record.origin.as_ref().unwrap_or(&parent.record.mount).clone());
    TokenRecord {
        accessor: Accessor::new(""),
        namespace: batch.namespace,
        ancestors: parent.map(|parent| parent.line()).unwrap_or_default(),
        origin,
        policies: batch.policies,
        metadata: batch.metadata,
        display_name: batch.display_name,
        path: batch.path,
        mount: batch.mount,
        created: batch.created,
        renewed: None,
        expires: Some(index::rounded(batch.created.plus(batch.ttl))),
        granted: batch.ttl,
        creation_ttl: batch.ttl,
        renewal_ttl: Duration::ZERO,
        max_ttl: Duration::ZERO,
        explicit_max_ttl: Duration::ZERO,
        period: Duration::ZERO,
        uses: Uses::Unlimited,
        renewable: false,
        bound_cidrs: batch.bound_cidrs,
        counted: Vec::new(),
        kept: None,
    }
}
