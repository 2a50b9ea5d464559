//! Key slots: who opens the root key. Each slot wraps it independently, so any one of them opens, and none knows of the
//! others.
//!
//! There are two kinds. A *Shamir* slot, of which a store has one from its first day on: its wrapping key is split into
//! shares for people. A *static* slot: its wrapping key lies with the machine under an id that never means another key,
//! so that a node opens by itself; at most one, and only while the operator wants it. The table lies outside the barrier
//! and is not secret; what kind a slot is, and of which key, is bound to what it wraps. Deliberately absent: the ring
//! that the root key opens, and where static keys come from.

use tresor_crypto::aead::AeadKey;
use tresor_crypto::shamir::Threshold;
use tresor_crypto::token_text::random_uuid;
use tresor_env::{Entropy, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

/// A key that lies with the machine, and the id under which it never changes.
pub struct StaticKey {
    id: String,
    key: DataKey,
}

impl StaticKey {
    /// Names a key.
    #[must_use]
    pub const fn new(id: String, key: DataKey) -> Self {
        Self { id, key }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether both are one key, whatever their ids say.
    #[must_use]
    pub fn is_key_of(&self, other: &Self) -> bool {
        self.key.is_same(&other.key)
    }
}

/// The static keys of one time: the one to use, and the one before it while the change is going on.
pub struct StaticKeys {
    /// What the store is to be opened by from now on.
    pub current: StaticKey,
    /// What may have to open it once more.
    pub previous: Option<StaticKey>,
}

/// Which static key is to open the store from now on.
pub enum StaticSlot<'k> {
    /// None: a slot of one is taken away.
    Unwanted,
    /// This one, and no other.
    Of(&'k StaticKey),
}

/// Why a static key opens no slot. The key's id is no secret, and is all that is told of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticKeyError {
    /// The store was never opened while the operator wanted this.
    #[error("the store has no key slot of a static key yet: it gets one when it is next unsealed by shares")]
    NoSlot,
    /// Another key opens.
    #[error("the store's key slot is of the static key `{stored}`, and `{current}` is configured")]
    UnknownId {
        /// The id of the key that opens.
        stored: String,
        /// The id of the key that was tried.
        current: String,
    },
    /// The id is right and the key is not.
    #[error("the static key `{id}` does not open its key slot: it is another key than the one that had this id before")]
    WrongKey {
        /// The id.
        id: String,
    },
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
}

#[derive(Part, Clone)]
struct Slot {
    id: String,
    kind: SlotKind,
    created: Timestamp,
    wrapped: Zeroizing<Vec<u8>>,
}

/// All slots of a store.
#[derive(Record)]
#[record(kind = "key-slots", version = 1)]
pub(crate) struct SlotTable {
    slots: Vec<Slot>,
}

impl Slot {
    fn wrap(kind: SlotKind, wrapping: &DataKey, root: &DataKey, now: Timestamp, entropy: &dyn Entropy) -> Self {
        let id = random_uuid(entropy);
        let sealed = AeadKey::new(wrapping).seal(0, &context(&id, &kind), root.expose(), entropy);
        Self { id, kind, created: now, wrapped: Zeroizing::new(sealed) }
    }

    /// The root key, when this is the key that wrapped it.
    fn open(&self, wrapping: &DataKey) -> Option<DataKey> {
        let opened = AeadKey::new(wrapping).open(&context(&self.id, &self.kind), &self.wrapped).ok()?;
        <[u8; 32]>::try_from(opened.as_slice()).ok().map(DataKey::new)
    }

    fn static_key_id(&self) -> Option<&str> {
        match &self.kind {
            SlotKind::Static { key_id } => Some(key_id),
            SlotKind::Shamir { .. } => None,
        }
    }
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
    }
}

impl SlotTable {
    /// The table of a store that is being initialised: shares open it and, where one is given, a static key.
    pub(crate) fn of(
        root: &DataKey,
        shared: &DataKey,
        threshold: Threshold,
        static_key: Option<&StaticKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        let kind = SlotKind::Shamir { shares: threshold.shares(), threshold: threshold.threshold() };
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
            SlotKind::Static { .. } => None,
        });
        shamir.unwrap_or((0, 0))
    }

    /// The id of the static key that opens.
    pub(crate) fn static_key_id(&self) -> Option<&str> {
        self.slots.iter().find_map(Slot::static_key_id)
    }

    /// The root key by what shares were put together to.
    pub(crate) fn open_by_shares(&self, combined: &DataKey) -> Option<DataKey> {
        self.slots.iter().filter(|slot| slot.static_key_id().is_none()).find_map(|slot| slot.open(combined))
    }

    /// The root key by a static key, the current one or the one before.
    ///
    /// # Errors
    /// [`StaticKeyError`].
    pub(crate) fn open_by_static(&self, keys: &StaticKeys) -> Result<DataKey, StaticKeyError> {
        let stored = self.static_key_id().ok_or(StaticKeyError::NoSlot)?;
        let mut wrong = None;
        for key in [Some(&keys.current), keys.previous.as_ref()].into_iter().flatten() {
            for slot in self.slots.iter().filter(|slot| slot.static_key_id() == Some(key.id())) {
                match slot.open(&key.key) {
                    Some(root) => return Ok(root),
                    None => wrong = Some(StaticKeyError::WrongKey { id: key.id.clone() }),
                }
            }
        }
        Err(wrong.unwrap_or_else(|| StaticKeyError::UnknownId {
            stored: stored.to_owned(),
            current: keys.current.id.clone(),
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
        let mut of_keys = self.slots.iter().filter(|slot| slot.static_key_id().is_some());
        let made = match wanted {
            StaticSlot::Unwanted => {
                of_keys.next()?;
                None
            }
            StaticSlot::Of(key) => {
                let opens = |slot: &Slot| {
                    slot.static_key_id() == Some(key.id())
                        && slot.open(&key.key).is_some_and(|opened| opened.is_same(root))
                };
                if of_keys.next().is_some_and(opens) && of_keys.next().is_none() {
                    return None;
                }
                Some(of_static(key, root, now, entropy))
            }
        };
        let kept = self.slots.iter().filter(|slot| slot.static_key_id().is_none()).cloned();
        Some(Self { slots: kept.chain(made).collect() })
    }
}

fn of_static(key: &StaticKey, root: &DataKey, now: Timestamp, entropy: &dyn Entropy) -> Slot {
    Slot::wrap(SlotKind::Static { key_id: key.id.clone() }, &key.key, root, now, entropy)
}
