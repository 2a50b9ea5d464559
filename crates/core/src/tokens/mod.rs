//! The token store: minting, looking up, renewing, revoking.
//!
//! A token is found by a keyed hash of its text, so the store holds nothing that can be used (DR-05), in one record
//! that no directory lists and that names its ancestors. Revoking is removing that record and leaving one mark, if
//! there is anything below: every descendant is refused from then on ([`lineage`]); what is left is collected
//! afterwards by `leases`. Deliberately absent: any cache of tokens: the transaction is
//! the truth.

mod accessors;
mod auth;
pub mod batch;
pub(crate) mod counts;
mod lease_ids;
pub mod lineage;
mod marks;
mod names;
pub mod record;
pub mod roles;
mod standing;
pub mod terms;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tresor_barrier::{Barrier, BarrierError, Changed, KeyPrefix, Txn};
use tresor_crypto::hash::HmacKey;
use tresor_crypto::token_text;
use tresor_env::Entropy;
use tresor_model::ids::{Accessor, MountId, NamespaceId};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::Record;
use tresor_secret::{SecretString, TokenSecret};

use crate::keys;
use crate::leases::{index, tree};
use crate::namespaces::{Spaces, ids};
use crate::observations;
use crate::quotas::Quotas;
pub use auth::auth_block;
use batch::BatchKey;
pub(crate) use lease_ids::hash_in;
pub use lineage::DEPTH_MAX;
use lineage::Verdict;
use marks::KnownMarks;
pub use names::fresh as fresh_name;
pub(crate) use names::{hash_of, moment_in_hash, moment_in_name, ordered};
use record::{MarkRecord, StoredFate, TokenRecord, Uses};
use terms::Life;
use window::Window;

/// What a service token begins with.
const SERVICE: &str = "hvs.";
/// Characters of the random part of a token: 28 of base62 are 166 bits.
const TOKEN_CHARACTERS: usize = 28;
/// Any number will do.
pub(crate) const UNBOUNDED: tresor_barrier::Bounds = i64::MIN..=i64::MAX;

/// The label of what is alive in the tallies of tokens and leases.
pub(crate) const LIVE: &str = "live";

/// The token store of an unsealed node.
pub struct Tokens {
    hash_key: HmacKey,
    batch_key: BatchKey,
    spaces: Arc<Spaces>,
    quotas: Arc<Quotas>,
    marks: KnownMarks,
    window: Window,
}

/// What a new token is to be.
pub struct NewToken {
    /// The text, when the creator may choose it; else it is made up.
    pub id: Option<TokenSecret>,
    /// The namespace.
    pub namespace: NamespaceId,
    /// Its parent; `None` makes an orphan.
    pub parent: Option<FoundToken>,
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
    /// What its auth method asks again with when it is renewed.
    pub kept: Option<SecretString>,
}

/// A token that was found: its record and the hash it lies under.
#[derive(Clone)]
pub struct FoundToken {
    /// The keyed hash.
    pub hash: String,
    /// The record; its ancestors are those that still are.
    pub record: Arc<TokenRecord>,
    /// Uses left; `None` means no limit.
    pub uses_left: Option<u64>,
}

impl FoundToken {
    /// Uses left for the wire, where zero means no limit.
    #[must_use]
    pub fn uses_on_wire(&self) -> u64 {
        self.uses_left.unwrap_or(0)
    }

    /// Whether its last use was taken: it is refused from then on, removed or not.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.uses_left == Some(0)
    }
}

fn hash_key(barrier: &Barrier) -> HmacKey {
    keyed_hash(barrier, "token-id")
}

/// What hashes something of this server's, so that nobody else's hash is the same.
pub(crate) fn keyed_hash(barrier: &Barrier, of_what: &str) -> HmacKey {
    HmacKey::new(barrier.derive_subkey(of_what).expose())
}

/// The keyed hash that a token of this namespace lies under.
fn hash_with(key: &HmacKey, token: &TokenSecret, home: &NamespaceId) -> String {
    let text = token.expose();
    let mut hash = tresor_crypto::hash::to_hex(&key.sign(text.as_bytes()));
    // A token of our making says when it was made; any other lies wherever its hash wants it.
    let bare = if home.is_root() { text } else { ids::bare(text) };
    let is_ours = bare.len() == SERVICE.len() + names::MOMENT_CHARACTERS + TOKEN_CHARACTERS;
    let moment = text.strip_prefix(SERVICE).and_then(|rest| rest.get(..names::MOMENT_CHARACTERS));
    if let Some(moment) = moment.filter(|moment| is_ours && moment.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        hash.insert_str(0, moment);
    }
    hash.truncate(names::HASH_CHARACTERS);
    ids::within(home, hash)
}

/// Which of these namespaces a token would belong to, by its text.
fn home_among<'h>(homes: &'h [NamespaceId], token: &TokenSecret) -> Option<&'h NamespaceId> {
    let root = homes.iter().find(|home| home.is_root());
    match token.expose().rsplit_once('.') {
        Some((_, end)) => homes.iter().find(|home| home.as_str() == end && !home.is_root()).or(root),
        None => root,
    }
}

/// Makes the first token of a store that is being initialised.
///
/// # Errors
/// As [`Tokens::mint`].
pub fn mint_first(
    barrier: &Barrier,
    txn: &mut Txn,
    new: NewToken,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<TokenSecret, Fault> {
    Ok(mint(&hash_key(barrier), txn, new, Vec::new(), now, entropy)?.0)
}

impl Tokens {
    /// The token store behind a barrier.
    ///
    /// # Errors
    /// When the marks cannot be read.
    pub fn load(barrier: &Barrier, txn: &mut Txn, spaces: Arc<Spaces>, quotas: Arc<Quotas>) -> Result<Self, Fault> {
        let marks = KnownMarks::load(txn, keys::marks().map_err(fault)?)?;
        let window = Window::new(keys::token_ends().map_err(fault)?);
        Ok(Self { hash_key: hash_key(barrier), batch_key: BatchKey::new(barrier), spaces, quotas, marks, window })
    }

    /// The name under which a token of a namespace is stored.
    #[must_use]
    pub fn hash(&self, token: &TokenSecret, home: &NamespaceId) -> String {
        hash_with(&self.hash_key, token, home)
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
        // Whoever may make a root token must get in when everything is used up.
        let mut counted = Vec::new();
        if new.ttl.is_some() {
            let facets = self.facets(&new.namespace, &new.mount, &new.path, Some(&new.metadata));
            self.bound(txn, &new.namespace, &new.mount, facets.as_ref())?;
            counted = self.counting(&new.mount, facets.as_ref());
        }
        let (token, found) = mint(&self.hash_key, txn, new, counted, now, entropy)?;
        self.count_token(txn, &found.record, 1)?;
        observations::of_token(txn, &self.spaces, "token/create", &found.record);
        Ok((token, found))
    }

    /// Looks a token of one of these namespaces up by its text; `None` unless it and all its ancestors are alive. A token of
    /// any other namespace is none.
    ///
    /// # Errors
    /// A failure when the store fails or a record is damaged.
    pub fn find(
        &self,
        txn: &mut Txn,
        homes: &[NamespaceId],
        token: &TokenSecret,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        if batch::is_batch(token) {
            return self.find_batch(txn, homes, token, now);
        }
        match home_among(homes, token) {
            Some(home) => self.find_hash(txn, &self.hash(token, home), now),
            None => Ok(None),
        }
    }

    /// A token as it is stored, whether or not it is alive: one that is revoked must not come back when a later process
    /// tells an earlier time than the one at which it had ended.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn find_stored(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        token: &TokenSecret,
    ) -> Result<Option<FoundToken>, Fault> {
        let Some(home) = home_among(std::slice::from_ref(namespace), token) else { return Ok(None) };
        let hash = self.hash(token, home);
        Ok(read_record(txn, &hash)?.map(|record| self.as_stored(&hash, record)))
    }

    /// Looks a token up by its keyed hash; `None` unless it and all its ancestors are alive. In the ordinary case this
    /// reads one record, however deep the token lies.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn find_hash(&self, txn: &mut Txn, hash: &str, now: Timestamp) -> Result<Option<FoundToken>, Fault> {
        let Some(mut record) = read_record(txn, hash)? else { return Ok(None) };
        if record.is_expired(now) || !self.spaces.has_mount(&record.namespace, &record.mount) {
            return Ok(None);
        }
        if !record.ancestors.is_empty() {
            let Verdict::Stands(live) = self.marks.ask(|marks| marks.decide(&record.ancestors)) else {
                return Ok(None);
            };
            if live < record.ancestors.len() {
                Arc::make_mut(&mut record).keep_ancestors(live);
            }
            if record.origin.as_ref().is_some_and(|origin| !self.spaces.has_mount(&record.origin_home(), origin)) {
                return Ok(None);
            }
            if !self.window.vouches(&record.ancestors, now) && !ancestors_live(txn, &record, now)? {
                return Ok(None);
            }
        }
        let uses_left = match record.uses {
            Uses::Unlimited => None,
            Uses::Counted => {
                let tally = txn.tally(&keys::uses(hash).map_err(fault)?).map_err(fault)?;
                Some(tally.get("").copied().and_then(|left| u64::try_from(left).ok()).unwrap_or(0))
            }
        };
        Ok(Some(FoundToken { hash: hash.to_owned(), record, uses_left }))
    }

    /// Makes a transaction that writes rely on what lets this token live: when an ancestor is revoked or a mount removed
    /// meanwhile, it conflicts. What was seen already ended is a refusal.
    ///
    /// # Errors
    /// A refusal, or a failure when the store fails.
    pub(crate) fn rely_on(&self, txn: &mut Txn, found: &FoundToken) -> Result<(), Fault> {
        let record = &found.record;
        let marks = keys::marks().map_err(fault)?;
        for ancestor in &record.ancestors {
            if txn.contains(&marks.key(ancestor).map_err(fault)?).map_err(fault)? {
                return Err(Fault::denied());
            }
        }
        let own = Some((record.namespace.clone(), &record.mount));
        let origin = record.origin.as_ref().map(|origin| (record.origin_home(), origin));
        for (home, mount) in [own, origin].into_iter().flatten() {
            let mount = keys::mount(&home, mount).map_err(fault)?;
            if !txn.contains(&mount).map_err(fault)? {
                return Err(Fault::denied());
            }
        }
        Ok(())
    }

    /// Gives a token a new end. One that will do as it is is not written: whoever renews often costs nothing.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn renew(&self, txn: &mut Txn, found: &mut FoundToken, life: &Life, now: Timestamp) -> Result<(), Fault> {
        let old_end = found.record.expires;
        let moved = index::moved(old_end, now, life.ttl, life.latest);
        let record = Arc::make_mut(&mut found.record);
        record.granted = life.ttl;
        let Some(end) = moved else { return Ok(()) };
        record.expires = Some(end);
        record.renewed = Some(now);
        write_record(txn, found)?;
        let record = &found.record;
        observations::of_token(txn, &self.spaces, "token/renew", record);
        let ends = keys::token_ends().map_err(fault)?;
        let name = ordered(record.accessor.as_str(), &found.hash);
        if let Some(old) = old_end {
            index::leave(txn, &ends, old, &name)?;
        }
        index::enter(txn, &ends, end, &name)
    }

    /// Counts one use of a token whose uses are counted; the commit refuses it when none is left.
    ///
    /// # Errors
    /// Never in practice.
    pub(crate) fn count_use(&self, txn: &mut Txn, found: &FoundToken) -> Result<(), Fault> {
        let uses = keys::uses(&found.hash).map_err(fault)?;
        txn.count(&uses, "", -1, &(0..=i64::MAX));
        if found.record.is_wrapping() {
            // Somebody else may be opening what it wraps, by its record: one of the two stands.
            write_record(txn, found)?;
        }
        Ok(())
    }

    /// Revokes a token: it and all its descendants are refused from this transaction's commit on.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn revoke(&self, txn: &mut Txn, found: &FoundToken, now: Timestamp) -> Result<(), Fault> {
        self.end(txn, found, StoredFate::Doomed, now)
    }

    /// Revokes a token and makes its children orphans: one mark cuts the edge, whatever is below.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn revoke_orphaning(&self, txn: &mut Txn, found: &FoundToken, now: Timestamp) -> Result<(), Fault> {
        self.end(txn, found, StoredFate::Cut, now)
    }

    fn end(&self, txn: &mut Txn, found: &FoundToken, fate: StoredFate, now: Timestamp) -> Result<(), Fault> {
        self.remove(txn, found)?;
        let below = keys::below(&found.hash).map_err(fault)?;
        if !self.has_anything_below(txn, &found.hash)? {
            txn.forget_tally(&below);
            return Ok(());
        }
        let ancestors = found.record.ancestors.clone();
        if fate == StoredFate::Cut {
            // What is below counts for nobody above any more.
            for ancestor in &ancestors {
                txn.take_off(&below, &keys::below(ancestor).map_err(fault)?);
            }
            txn.forget_tally(&below);
        }
        let mark = keys::marks().and_then(|at| at.key(&found.hash)).map_err(fault)?;
        let created = found.record.created;
        let record = MarkRecord { fate, created, since: now, ancestors, walked: Vec::new() };
        txn.write(&mark, &record.encode()).map_err(fault)
    }

    /// Removes a token's own records, and counts it out.
    pub(crate) fn remove(&self, txn: &mut Txn, found: &FoundToken) -> Result<(), Fault> {
        let record = &found.record;
        let namespace = &record.namespace;
        txn.delete(&keys::token(&found.hash).map_err(fault)?).map_err(fault)?;
        let handle = names::handle(record.accessor.as_str(), &found.hash);
        txn.leave(&keys::accessors(namespace).and_then(|at| at.key(&handle)).map_err(fault)?);
        let name = ordered(record.accessor.as_str(), &found.hash);
        if let Some(parent) = record.ancestors.first() {
            let edge = keys::children(parent).and_then(|at| at.key(&name)).map_err(fault)?;
            txn.leave(&edge);
        }
        if let Some(end) = record.expires {
            index::leave(txn, &keys::token_ends().map_err(fault)?, end, &name)?;
        }
        if let Some(id) = lease_ids::lease_id(record, &found.hash) {
            txn.leave(&lease_ids::key(namespace, &id)?);
            tree::count(txn, namespace, &id, -1)?;
        }
        if record.uses == Uses::Counted {
            txn.forget_tally(&keys::uses(&found.hash).map_err(fault)?);
        }
        observations::of_token(txn, &self.spaces, "token/end", record);
        self.count_token(txn, record, -1)
    }

    /// Whether a token has children, a cubbyhole or leases.
    fn has_anything_below(&self, txn: &mut Txn, hash: &str) -> Result<bool, Fault> {
        let children = keys::children(hash).map_err(fault)?;
        let mut places = vec![children, keys::leases_of(hash).map_err(fault)?];
        places.extend(self.cubbyhole(hash)?);
        for place in places {
            match txn.list(&place, None, 1) {
                Ok(names) if names.is_empty() => {}
                Ok(_) => return Ok(true),
                // What cannot be read may be there, and must be refused.
                Err(error) if error.is_damage() => return Ok(true),
                Err(error) => return Err(fault(error)),
            }
        }
        Ok(false)
    }

    /// Where the token's cubbyhole lies.
    pub(crate) fn cubbyhole(&self, hash: &str) -> Result<Option<KeyPrefix>, Fault> {
        let home = ids::home(hash);
        let table = self.spaces.with_id(&home).map(|space| space.mounts.table());
        let Some(mount) = table.as_ref().and_then(|table| table.at("cubbyhole/")) else { return Ok(None) };
        let own = keys::mount_contents(&home, &mount.record.id, mount.record.store)
            .and_then(|at| at.below(&format!("{hash}/")));
        own.map(Some).map_err(fault)
    }

    /// How many of these ancestors lie below every cut.
    pub(crate) fn within_cuts(&self, ancestors: &[String]) -> usize {
        self.marks.ask(|marks| marks.within_cuts(ancestors))
    }

    /// The tokens that a lease of this one counts for: itself and its ancestors, whether or not it is alive.
    pub(crate) fn line_of(&self, txn: &mut Txn, hash: &str) -> Result<Vec<String>, Fault> {
        if hash.is_empty() {
            return Ok(Vec::new());
        }
        let mut line = vec![hash.to_owned()];
        match read_record(txn, hash)? {
            Some(record) => line.extend(record.ancestors.iter().cloned()),
            None => {
                let mark = keys::marks().and_then(|at| at.key(hash)).map_err(fault)?;
                if let Some(bytes) = txn.read(&mark).map_err(fault)? {
                    line.extend(MarkRecord::decode(&bytes).map_err(Fault::internal)?.ancestors);
                }
            }
        }
        let within = self.within_cuts(&line);
        line.truncate(within);
        Ok(line)
    }

    /// Whether a mark was made below this token.
    pub(crate) fn any_mark_below(&self, hash: &str) -> bool {
        self.marks.ask(|marks| marks.any_below(hash))
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> [KeyPrefix; 2] {
        [self.marks.prefix().clone(), self.window.prefix().clone()]
    }

    /// Follows a batch in what memory holds.
    pub(crate) fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        self.marks.follow(changed, txn)?;
        self.window.follow(changed, txn.read_version());
        Ok(())
    }

    /// Loads the ends of the next seconds.
    pub(crate) async fn look_ahead(&self, begin: impl Fn() -> Result<Txn, Fault>, now: Timestamp) -> Result<(), Fault> {
        self.window.load(begin, now).await
    }

    /// The namespaces of revoked tokens of which something is left to be collected.
    pub(crate) fn marked_in(&self) -> BTreeSet<NamespaceId> {
        self.marks.ask(|marks| marks.hashes().map(ids::home).collect())
    }

    /// Whether memory has what is stored.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        self.marks.agrees(txn)
    }
}

fn mint(
    hash_key: &HmacKey,
    txn: &mut Txn,
    new: NewToken,
    counted: Vec<String>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(TokenSecret, FoundToken), Fault> {
    // An id that is drawn is nobody's; one that was chosen may be taken.
    let (token, is_chosen) = match new.id {
        Some(id) => (id, true),
        None => (fresh_token(&new.namespace, now, entropy)?, false),
    };
    let hash = hash_with(hash_key, &token, &new.namespace);
    if is_chosen {
        must_be_free(txn, &hash)?;
    }
    let (ancestors, origin) = line(new.parent)?;
    let mut policies = new.policies;
    policies.sort_unstable();
    policies.dedup();
    let uses_left = (new.num_uses > 0).then_some(new.num_uses);
    let record = TokenRecord {
        accessor: Accessor::new(ids::within(&new.namespace, names::fresh(now, entropy))),
        namespace: new.namespace,
        ancestors,
        origin,
        policies,
        metadata: new.metadata,
        display_name: new.display_name,
        path: new.path,
        mount: new.mount,
        created: now,
        renewed: None,
        expires: new.ttl.map(|ttl| index::rounded(now.plus(ttl))),
        granted: new.ttl.unwrap_or_default(),
        creation_ttl: new.ttl.unwrap_or_default(),
        renewal_ttl: new.renewal_ttl,
        max_ttl: new.max_ttl,
        explicit_max_ttl: new.explicit_max_ttl,
        period: new.period,
        uses: if uses_left.is_some() { Uses::Counted } else { Uses::Unlimited },
        renewable: new.renewable && new.ttl.is_some(),
        bound_cidrs: new.bound_cidrs,
        counted,
        kept: new.kept.map(Arc::new),
    };
    let found = FoundToken { hash, record: Arc::new(record), uses_left };
    store_new(txn, &found)?;
    Ok((token, found))
}

/// The ancestors of a child, and the mount that made the farthest.
fn line(parent: Option<FoundToken>) -> Result<(Vec<String>, Option<MountId>), Fault> {
    let Some(parent) = parent else { return Ok((Vec::new(), None)) };
    let mut ancestors = vec![parent.hash];
    ancestors.extend(parent.record.ancestors.iter().cloned());
    if ancestors.len() > DEPTH_MAX {
        return Err(Fault::invalid("token has too many ancestors; create an orphan"));
    }
    Ok((ancestors, Some(parent.record.origin.as_ref().unwrap_or(&parent.record.mount).clone())))
}

/// Stores a new token and everything that leads to it.
fn store_new(txn: &mut Txn, found: &FoundToken) -> Result<(), Fault> {
    let record = &found.record;
    let namespace = &record.namespace;
    write_record(txn, found)?;
    let handle = names::handle(record.accessor.as_str(), &found.hash);
    txn.enter(&keys::accessors(namespace).and_then(|at| at.key(&handle)).map_err(fault)?);
    let name = ordered(record.accessor.as_str(), &found.hash);
    if let Some(parent) = record.ancestors.first() {
        let edge = keys::children(parent).and_then(|at| at.key(&name)).map_err(fault)?;
        txn.enter(&edge);
    }
    if let Some(end) = record.expires {
        index::enter(txn, &keys::token_ends().map_err(fault)?, end, &name)?;
    }
    if let Some(id) = lease_ids::lease_id(record, &found.hash) {
        txn.enter(&lease_ids::key(namespace, &id)?);
        tree::count(txn, namespace, &id, 1)?;
    }
    if let Some(uses) = found.uses_left {
        let uses = i64::try_from(uses).unwrap_or(i64::MAX);
        txn.count(&keys::uses(&found.hash).map_err(fault)?, "", uses, &UNBOUNDED);
    }
    Ok(())
}

/// Refuses a chosen id that is a token's, or was one's of which not everything is collected yet.
fn must_be_free(txn: &mut Txn, hash: &str) -> Result<(), Fault> {
    if txn.contains(&keys::token(hash).map_err(fault)?).map_err(fault)? {
        return Err(Fault::invalid("cannot create a token with a duplicate ID"));
    }
    // What a revoked token left behind hangs on its hash: a new one there would bring its children back to life and
    // inherit its cubbyhole.
    let mark = keys::marks().and_then(|at| at.key(hash)).map_err(fault)?;
    if txn.contains(&mark).map_err(fault)? {
        return Err(Refusal::Unavailable("a token with this ID is being revoked, try again".into()).into());
    }
    Ok(())
}

/// Whether the ancestors of a token, which no mark refuses, have not ended by themselves.
fn ancestors_live(txn: &mut Txn, record: &TokenRecord, now: Timestamp) -> Result<bool, Fault> {
    for ancestor in &record.ancestors {
        match read_record(txn, ancestor)? {
            Some(record) if !record.is_expired(now) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// A service token: the moment that it is made in, which its accessor tells too, and the rest at random.
///
/// # Errors
/// Never in practice: the generated text is a valid token.
fn fresh_token(home: &NamespaceId, now: Timestamp, entropy: &dyn Entropy) -> Result<TokenSecret, Fault> {
    let random = token_text::random_base62(TOKEN_CHARACTERS, entropy);
    let (moment, end) = (names::moment(now), ids::within(home, String::new()));
    TokenSecret::parse(&format!("{SERVICE}{moment}{}{end}", random.as_str())).map_err(Fault::internal)
}

pub(crate) fn read_record(txn: &mut Txn, hash: &str) -> Result<Option<Arc<TokenRecord>>, Fault> {
    let key = keys::token(hash).map_err(fault)?;
    let Some(stored) = txn.read(&key).map_err(fault)? else { return Ok(None) };
    stored.record().map(Some).map_err(Fault::internal)
}

pub(crate) fn write_record(txn: &mut Txn, found: &FoundToken) -> Result<(), Fault> {
    let key = keys::token(&found.hash).map_err(fault)?;
    txn.write(&key, &found.record.encode()).map_err(fault)
}

fn fault(error: BarrierError) -> Fault {
    tresor_engine::view::fault(error)
}
