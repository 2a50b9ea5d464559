//! The barrier: everything that the store sees is sealed, names included.
//!
//! A record lies under a keyed hash of its name, sealed with that hash as context, so it can be neither read, nor
//! moved, nor recognised. The names of a directory lie in ordered blocks, sealed like any value ([`tree`]), which
//! only the committer changes; so two requests that create beside each other do not conflict, a page is listed in
//! order, and memory holds no more than a bounded cache of what was read lately ([`cache`]). What is never listed lies
//! under a [`PointKey`] and costs no block; what is counted by many at once lies in a tally ([`tally`]), which the
//! committer adds up. A [`Txn`] is a value; committing it checks that what it read still stands. What others keep in
//! memory follows each batch before anybody can read it ([`feed`]). A sealed node has the store and none of the keys.
//! Deliberately absent: what records mean, and who may see them.

mod barrier;
mod cache;
mod committer;
mod erasing;
mod feed;
pub mod key;
mod keys;
mod lanes;
mod names;
mod note;
mod offer;
mod realm_keys;
mod realms;
mod rekey;
pub mod seal;
pub mod shares;
mod slots;
mod tally;
mod tree;
mod txn;

pub use barrier::{Barrier, BarrierError, CommitError, Committed};
pub use cache::Plaintext;
pub use feed::{Changed, FollowError, Follower};
pub use key::{Area, KeyError, KeyPrefix, PointKey, RecordName, StorageKey};
pub use keys::SealingTerm;
pub use lanes::Lane;
pub use offer::{JoinKey, Offer};
pub use realm_keys::NextSeal;
pub use realms::{RealmRoot, RealmSeal};
pub use rekey::{NewShares, RekeyError, SlotFacts};
pub use seal::{InitError, Initialization, Opened, SealFacts, SealedStore, SlotChange, UnsealError, is_slots};
pub use shares::{Progress, ShareCollector, ShareError, UnsealKey};
pub use slots::{KeyName, SealedKey, StaticKey, StaticKeyError, StaticKeys, StaticSlot, StoredKey};
pub use tally::{Bounds, Counts};
pub use txn::Txn;
