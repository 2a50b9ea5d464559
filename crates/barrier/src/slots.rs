//! Key slots: who opens the root key. Each slot wraps it independently, so any one of them opens, and none knows of the
//! others.
//!
//! There are three kinds. A *Shamir* slot, of which a store has one from its first day on: its wrapping key is split into
//! shares for people. A store that opens by itself may have been made without shares: then nobody has that key until some are
//! made (`rewrapped`), and the slot says that there are none. A *static* slot: its wrapping key lies with the machine under an id that never means another key,
//! so that a node opens by itself; one for each that the operator wants. A *service* slot: its wrapping key lies in the slot
//! itself, sealed by a service that keeps the key for that. The table lies outside the barrier
//! and is not secret; what kind a slot is, and of which key, is bound to what it wraps. Deliberately absent: the ring
//! that the root key opens, where static keys come from, and services.

use tresor_crypto::aead::AeadKey;
use tresor_crypto::shamir::Threshold;
use tresor_crypto::token_text::random_uuid;
use tresor_env::{Entropy, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::DataKey;
use tresor_secret::Wiped;

use crate::rekey::{RekeyError, SlotFacts};

/// The most slots of a store.
const SLOTS_MAX: usize = 16;

/// A key that opens without people, and the id under which it never changes: it lies with the machine, or in its slot,
/// sealed by a service.
pub struct StaticKey {
    kept: Kept,
    key: DataKey,
}

/// Where a key lies.
enum Kept {
    /// With the machine, under this id.
    Machine(String),
    /// In its slot.
    Slot(SealedKey),
}

/// A key as it lies in its slot, sealed by a service; nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// The slot that it lies in, and that it was sealed for.
    pub slot: String,
    /// The kind of the service.
    pub service: String,
    /// Which of its keys sealed it.
    pub key_id: String,
    /// In which version.
    pub version: String,
    /// What came out.
    pub sealed: Vec<u8>,
}

/// What a key that opens without people is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// `static`, or the kind of the service that keeps it.
    pub kind: String,
    /// Its id.
    pub id: String,
}

impl StaticKey {
    /// Names a key that lies with the machine.
    #[must_use]
    pub const fn new(id: String, key: DataKey) -> Self {
        Self { kept: Kept::Machine(id), key }
    }

    /// A new key that a service sealed, beside what came out.
    #[must_use]
    pub const fn of_service(sealed: SealedKey, key: DataKey) -> Self {
        Self { kept: Kept::Slot(sealed), key }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        match &self.kept {
            Kept::Machine(id) => id,
            Kept::Slot(sealed) => &sealed.key_id,
        }
    }

    /// As it lies in its slot, where a service sealed it.
    #[must_use]
    pub const fn sealed(&self) -> Option<&SealedKey> {
        match &self.kept {
            Kept::Machine(_) => None,
            Kept::Slot(sealed) => Some(sealed),
        }
    }

    fn slot_kind(&self) -> SlotKind {
        match &self.kept {
            Kept::Machine(id) => SlotKind::Static { key_id: id.clone() },
            Kept::Slot(SealedKey { service, key_id, version, sealed, .. }) => SlotKind::Service {
                service: service.clone(),
                key_id: key_id.clone(),
                version: version.clone(),
                sealed: sealed.clone(),
            },
        }
    }

    pub(crate) const fn key(&self) -> &DataKey {
        &self.key
    }

    /// Whether both are one key, whatever their ids say.
    #[must_use]
    pub fn is_key_of(&self, other: &Self) -> bool {
        self.key.is_same(&other.key)
    }
}

/// The keys of one time that open without people: the one to use, and the one before it while the change is going on.
pub struct StaticKeys {
    /// What the store is to be opened by from now on.
    pub current: StaticKey,
    /// What may have to open it once more.
    pub previous: Option<StaticKey>,
}

/// Which static key is to open the store from now on.
pub enum StaticSlot<'k> {
    /// Whichever do now.
    AsIs,
    /// None: a slot of one is taken away.
    Unwanted,
    /// This one, and no other.
    Of(&'k StaticKey),
    /// This one, beside those that are there: other nodes may open by them.
    Beside(&'k StaticKey),
}

/// Why no slot opens without people. The key's id is no secret, and is all that is told of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticKeyError {
    /// The store was never opened while the operator wanted this.
    #[error("the store has no key slot that opens without shares yet: it gets one when it is next unsealed by them")]
    NoSlot,
    /// Another key opens.
    #[error("the store's key slot is of the key `{stored}`, and `{current}` is configured")]
    UnknownId {
        /// The id of the key that opens.
        stored: String,
        /// The id of the key that was tried.
        current: String,
    },
    /// The id is right and the key is not.
    #[error("the key `{id}` does not open its key slot: it is another key than the one that had this id before")]
    WrongKey {
        /// The id.
        id: String,
    },
}

/// A key that lies in a slot of a store, and that slot.
pub struct StoredKey {
    sealed: SealedKey,
    slot: Slot,
}

impl StoredKey {
    /// What a service is to open.
    #[must_use]
    pub const fn sealed(&self) -> &SealedKey {
        &self.sealed
    }

    /// The key that a service opened it to, if that is the one that opens the slot. What somebody put in its place opens
    /// nothing, and no slot is ever made of it.
    #[must_use]
    pub fn opened_to(&self, key: DataKey) -> Option<StaticKey> {
        self.slot.open(&key)?;
        Some(StaticKey::of_service(self.sealed.clone(), key))
    }
}

/// What wraps the root key.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
enum SlotKind {
    /// A key that is split into shares.
    #[part(tag = 1)]
    Shamir { shares: u8, threshold: u8 },
    /// A key that lies with the machine.
    #[part(tag = 2)]
    Static { key_id: String },
    /// A key that lies here, sealed by a service.
    #[part(tag = 3)]
    Service { service: String, key_id: String, version: String, sealed: Vec<u8> },
}

#[derive(Part, Clone)]
struct Slot {
    id: String,
    kind: SlotKind,
    created: Timestamp,
    /// The root key, wrapped.
    wrapped: Wiped<Vec<u8>>,
    /// The wrapping key, sealed by the root key: so that another root key can be wrapped for the slot by whoever has this
    /// one. A slot that an older release made has none until the store is next opened by it.
    wrapping: Option<Wiped<Vec<u8>>>,
}

/// All slots of a store.
#[derive(Record)]
#[record(kind = "key-slots", version = 2, previous = FormerTable)]
pub(crate) struct SlotTable {
    slots: Vec<Slot>,
}

#[derive(Part)]
struct FormerSlot {
    id: String,
    kind: SlotKind,
    created: Timestamp,
    wrapped: Wiped<Vec<u8>>,
}

#[derive(Record)]
#[record(kind = "key-slots", version = 1)]
struct FormerTable {
    slots: Vec<FormerSlot>,
}

impl From<FormerTable> for SlotTable {
    fn from(former: FormerTable) -> Self {
        let of = |FormerSlot { id, kind, created, wrapped }| Slot { id, kind, created, wrapped, wrapping: None };
        Self { slots: former.slots.into_iter().map(of).collect() }
    }
}

impl Slot {
    fn wrap(kind: SlotKind, wrapping: &DataKey, root: &DataKey, now: Timestamp, entropy: &dyn Entropy) -> Self {
        Self::wrap_as(random_uuid(entropy), kind, wrapping, root, now, entropy)
    }

    fn wrap_as(
        id: String,
        kind: SlotKind,
        wrapping: &DataKey,
        root: &DataKey,
        created: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        let sealed = AeadKey::new(wrapping).seal(0, &context(&id, &kind), root.expose(), entropy);
        let kept = AeadKey::new(root).seal(0, &context_of_kept(&id, &kind), wrapping.expose(), entropy);
        Self { id, kind, created, wrapped: Wiped::new(sealed), wrapping: Some(Wiped::new(kept)) }
    }

    /// The same slot, for another root key.
    fn rewrap(&self, root: &DataKey, new: &DataKey, entropy: &dyn Entropy) -> Option<Self> {
        let wrapping = self.kept(root)?;
        Some(Self::wrap_as(self.id.clone(), self.kind.clone(), &wrapping, new, self.created, entropy))
    }

    /// The root key, when this is the key that wrapped it.
    fn open(&self, wrapping: &DataKey) -> Option<DataKey> {
        let root = opened(wrapping, &context(&self.id, &self.kind), &self.wrapped)?;
        let is_whole = self.wrapping.is_none() || self.kept(&root).is_some_and(|kept| kept.is_same(wrapping));
        is_whole.then_some(root)
    }

    /// The wrapping key, when this is the root key that seals it.
    fn kept(&self, root: &DataKey) -> Option<DataKey> {
        opened(root, &context_of_kept(&self.id, &self.kind), self.wrapping.as_ref()?)
    }

    /// Whether this key opens it, to this root key.
    fn opens(&self, wrapping: &DataKey, root: &DataKey) -> bool {
        self.open(wrapping).is_some_and(|opened| opened.is_same(root))
    }

    /// The id of the key that opens it without people.
    fn key_id(&self) -> Option<&str> {
        match &self.kind {
            SlotKind::Static { key_id } | SlotKind::Service { key_id, .. } => Some(key_id),
            SlotKind::Shamir { .. } => None,
        }
    }

    /// Whether it is a slot of the key of this name, be it of another time.
    fn is_of(&self, key: &StaticKey) -> bool {
        match (&self.kind, &key.kept) {
            (SlotKind::Static { key_id }, Kept::Machine(id)) => key_id == id,
            (SlotKind::Service { service, key_id, .. }, Kept::Slot(sealed)) => {
                (service, key_id) == (&sealed.service, &sealed.key_id)
            }
            _ => false,
        }
    }

    /// What opens it, in a word.
    fn word(&self) -> &str {
        match &self.kind {
            SlotKind::Shamir { .. } => "shamir",
            SlotKind::Static { .. } => "static",
            SlotKind::Service { service, .. } => service,
        }
    }

    fn sealed_key(&self) -> Option<SealedKey> {
        let SlotKind::Service { service, key_id, version, sealed } = &self.kind else { return None };
        let (service, key_id, version) = (service.clone(), key_id.clone(), version.clone());
        Some(SealedKey { slot: self.id.clone(), service, key_id, version, sealed: sealed.clone() })
    }
}

/// The key that was sealed by another one in this context.
fn opened(by: &DataKey, context: &[u8], sealed: &[u8]) -> Option<DataKey> {
    let opened = AeadKey::new(by).open(context, sealed).ok()?;
    <[u8; 32]>::try_from(opened.as_slice()).ok().map(DataKey::new)
}

/// What a slot's wrapping is bound to.
fn context(slot_id: &str, kind: &SlotKind) -> Vec<u8> {
    match kind {
        SlotKind::Shamir { shares, threshold } => {
            [b"slot:shamir:".as_slice(), &[*shares, *threshold], slot_id.as_bytes()].concat()
        }
        SlotKind::Static { key_id } => {
            let length = (key_id.len() as u64).to_be_bytes();
            [b"slot:static:".as_slice(), &length, key_id.as_bytes(), slot_id.as_bytes()].concat()
        }
        SlotKind::Service { service, key_id, version, sealed } => {
            let mut context = b"slot:service:".to_vec();
            for part in [service.as_bytes(), key_id.as_bytes(), version.as_bytes(), sealed] {
                context.extend((part.len() as u64).to_be_bytes());
                context.extend(part);
            }
            context.extend(slot_id.as_bytes());
            context
        }
    }
}

/// What the wrapping key of a slot is bound to.
fn context_of_kept(slot_id: &str, kind: &SlotKind) -> Vec<u8> {
    [b"kept:".as_slice(), &context(slot_id, kind)].concat()
}

impl SlotTable {
    /// The table of a store that is being initialised: shares open it, where there are some, and a static key, where one is
    /// given.
    pub(crate) fn of(
        root: &DataKey,
        shared: &DataKey,
        threshold: Option<Threshold>,
        static_key: Option<&StaticKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        let (shares, threshold) = threshold.map_or((0, 0), |split| (split.shares(), split.threshold()));
        let kind = SlotKind::Shamir { shares, threshold };
        let mut table = Self { slots: vec![Slot::wrap(kind, shared, root, now, entropy)] };
        if let Some(key) = static_key {
            table.slots.push(of_static(key, root, now, entropy));
        }
        table
    }

    /// How many shares there are, and how many open.
    pub(crate) fn shares_and_threshold(&self) -> (u8, u8) {
        let shamir = self.slots.iter().find_map(|slot| match slot.kind {
            SlotKind::Shamir { shares, threshold } => Some((shares, threshold)),
            SlotKind::Static { .. } | SlotKind::Service { .. } => None,
        });
        shamir.unwrap_or((0, 0))
    }

    /// The keys that open without people.
    pub(crate) fn without_people(&self) -> Vec<KeyName> {
        let name = |slot: &Slot| Some(KeyName { kind: slot.word().to_owned(), id: slot.key_id()?.to_owned() });
        self.slots.iter().filter_map(name).collect()
    }

    /// The keys that lie in the slots, sealed by services.
    pub(crate) fn stored_keys(&self) -> Vec<StoredKey> {
        let of = |slot: &Slot| Some(StoredKey { sealed: slot.sealed_key()?, slot: slot.clone() });
        self.slots.iter().filter_map(of).collect()
    }

    /// The root key by what shares were put together to.
    pub(crate) fn open_by_shares(&self, combined: &DataKey) -> Option<DataKey> {
        self.slots.iter().filter(|slot| slot.key_id().is_none()).find_map(|slot| slot.open(combined))
    }

    /// The root key by a key that needs no people, the current one or the one before.
    ///
    /// # Errors
    /// [`StaticKeyError`].
    pub(crate) fn open_by_static(&self, keys: &StaticKeys) -> Result<DataKey, StaticKeyError> {
        let stored = self.slots.iter().find_map(Slot::key_id).ok_or(StaticKeyError::NoSlot)?;
        let mut wrong = None;
        for key in [Some(&keys.current), keys.previous.as_ref()].into_iter().flatten() {
            for slot in self.slots.iter().filter(|slot| slot.is_of(key)) {
                match slot.open(&key.key) {
                    Some(root) => return Ok(root),
                    None => wrong = Some(StaticKeyError::WrongKey { id: key.id().to_owned() }),
                }
            }
        }
        Err(wrong.unwrap_or_else(|| StaticKeyError::UnknownId {
            stored: stored.to_owned(),
            current: keys.current.id().to_owned(),
        }))
    }

    /// The table as it is to be, when it is not so already. Slots of shares stay as they are.
    pub(crate) fn with_static(
        &self,
        root: &DataKey,
        wanted: &StaticSlot<'_>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Option<Self> {
        let opens = |slot: &Slot, key: &StaticKey| slot.is_of(key) && slot.opens(&key.key, root);
        let (key, leaves_others) = match wanted {
            StaticSlot::AsIs => return None,
            StaticSlot::Unwanted => (None, false),
            StaticSlot::Of(key) => (Some(*key), false),
            // Of one id there is one slot, and one more than there may be takes the place of the oldest.
            StaticSlot::Beside(key) => (Some(*key), true),
        };
        let own = key.and_then(|key| self.slots.iter().find(|slot| opens(slot, key)).cloned());
        let is_others = |slot: &Slot| leaves_others && !key.is_some_and(|key| slot.is_of(key));
        let is_own = |slot: &Slot| own.as_ref().is_some_and(|own| own.id == slot.id);
        let made = key.filter(|_| own.is_none()).map(|key| of_static(key, root, now, entropy));
        let is_kept = |slot: &&Slot| slot.key_id().is_none() || is_own(slot) || is_others(slot);
        let mut slots: Vec<Slot> = self.slots.iter().filter(is_kept).cloned().chain(made).collect();
        if slots.len() > SLOTS_MAX
            && let Some(oldest) = slots.iter().position(|slot| slot.key_id().is_some())
        {
            slots.remove(oldest);
        }
        let is_as_it_was = slots.iter().map(|slot| &slot.id).eq(self.slots.iter().map(|slot| &slot.id));
        (!is_as_it_was).then_some(Self { slots })
    }

    /// Keeps the wrapping keys of the slots that this key opens and that have none yet; whether there was one.
    pub(crate) fn complete(&mut self, wrapping: &DataKey, root: &DataKey, entropy: &dyn Entropy) -> bool {
        let mut is_changed = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.wrapping.is_none() && slot.opens(wrapping, root)) {
            *slot = Slot::wrap_as(slot.id.clone(), slot.kind.clone(), wrapping, root, slot.created, entropy);
            is_changed = true;
        }
        is_changed
    }

    /// The same slots for another root key, with other shares where some are given. Nothing when a slot keeps no wrapping key.
    pub(crate) fn rewrapped(
        &self,
        root: &DataKey,
        new: &DataKey,
        shared: Option<(&DataKey, Threshold)>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Option<Self> {
        let rewrap = |slot: &Slot| match (&slot.kind, shared) {
            (SlotKind::Shamir { .. }, Some((wrapping, threshold))) => {
                let kind = SlotKind::Shamir { shares: threshold.shares(), threshold: threshold.threshold() };
                Some(Slot::wrap(kind, wrapping, new, now, entropy))
            }
            _ => slot.rewrap(root, new, entropy),
        };
        Some(Self { slots: self.slots.iter().map(rewrap).collect::<Option<_>>()? })
    }

    /// What is known of each.
    pub(crate) fn facts(&self) -> Vec<SlotFacts> {
        let of = |slot: &Slot| SlotFacts {
            id: slot.id.clone(),
            kind: slot.word().to_owned(),
            key_id: slot.key_id().map(str::to_owned),
            created: slot.created,
        };
        self.slots.iter().map(of).collect()
    }

    /// The table with a slot of this key; nothing when it has one.
    ///
    /// # Errors
    /// [`RekeyError`].
    pub(crate) fn with_key(
        &self,
        root: &DataKey,
        key: &StaticKey,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Option<Self>, RekeyError> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.is_of(key)) {
            return if slot.opens(&key.key, root) { Ok(None) } else { Err(RekeyError::OtherKey) };
        }
        if self.slots.len() >= SLOTS_MAX {
            return Err(RekeyError::TooMany);
        }
        let made = of_static(key, root, now, entropy);
        Ok(Some(Self { slots: self.slots.iter().cloned().chain([made]).collect() }))
    }

    /// The table without a slot.
    ///
    /// # Errors
    /// [`RekeyError`].
    pub(crate) fn without(&self, id: &str) -> Result<Self, RekeyError> {
        let slot = self.slots.iter().find(|slot| slot.id == id).ok_or(RekeyError::NoSlot)?;
        if slot.key_id().is_none() {
            return Err(RekeyError::LastSlot);
        }
        let others = self.slots.iter().filter(|slot| slot.id != id && slot.key_id().is_some()).count();
        if others == 0 && self.shares_and_threshold().0 == 0 {
            return Err(RekeyError::NothingElse);
        }
        Ok(Self { slots: self.slots.iter().filter(|slot| slot.id != id).cloned().collect() })
    }

    /// The slots that a static key opens.
    pub(crate) fn opened_by(&self, key: &StaticKey, root: &DataKey) -> Vec<String> {
        let opens = |slot: &&Slot| slot.is_of(key) && slot.opens(&key.key, root);
        self.slots.iter().filter(opens).map(|slot| slot.id.clone()).collect()
    }
}

fn of_static(key: &StaticKey, root: &DataKey, now: Timestamp, entropy: &dyn Entropy) -> Slot {
    // A key that lies in a slot was sealed for that one.
    let id = key.sealed().map_or_else(|| random_uuid(entropy), |sealed| sealed.slot.clone());
    Slot::wrap_as(id, key.slot_kind(), &key.key, root, now, entropy)
}
