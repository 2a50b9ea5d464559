//! FZ-13: stored records. Any bytes are a record or an error; a record that was read is written the same way for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tresor_core::leases::record::LeaseRecord;
use tresor_core::mounts::record::{MountRecord, WipeRecord};
use tresor_core::tokens::record::{MarkRecord, TokenRecord};
use tresor_model::{Accessor, Body, LeaseId, Map, MountAccessor, MountId, NamespaceId, RequestId, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::{SecretBytes, SecretString};

pub(crate) const WORDS: &[&str] = &[
    "\0",
    "\u{1}",
    "\u{2}",
    "\u{5}",
    "\u{6}",
    "\u{7f}",
    "abc",
    "\u{3}abc",
    "\u{1}a",
    "\0\0\0\0\0\0\0\0",
    "\u{4}\u{1}x",
];

/// Every part that a record can have.
#[derive(Record)]
#[record(kind = "everything", version = 2, previous = Former)]
struct Everything {
    byte: u8,
    small: u16,
    numbers: Vec<u64>,
    texts: BTreeMap<String, Option<Box<str>>>,
    set: BTreeSet<String>,
    secrets: Vec<Secrets>,
    time: Timestamp,
    length: Duration,
    names: Names,
    body: Body,
    map: Map,
    flag: bool,
}

#[derive(Record)]
#[record(kind = "everything", version = 1)]
struct Former {
    byte: u8,
}

impl From<Former> for Everything {
    fn from(former: Former) -> Self {
        Self {
            byte: former.byte,
            small: 0,
            numbers: Vec::new(),
            texts: BTreeMap::new(),
            set: BTreeSet::new(),
            secrets: Vec::new(),
            time: Timestamp::EPOCH,
            length: Duration::ZERO,
            names: Names::default(),
            body: Body::Null,
            map: Map::new(),
            flag: false,
        }
    }
}

#[derive(Part)]
enum Secrets {
    #[part(tag = 1)]
    None,
    #[part(tag = 2)]
    Text(SecretString),
    #[part(tag = 3)]
    Both { text: SecretString, bytes: SecretBytes },
}

#[derive(Part, Default)]
struct Names {
    accessor: Option<Accessor>,
    lease: Option<LeaseId>,
    mount: Option<MountId>,
    mount_accessor: Option<MountAccessor>,
    namespace: Option<NamespaceId>,
    request: Option<RequestId>,
}

/// The first byte says which record, the rest is what is stored.
pub fn record(bytes: &[u8]) {
    let Some((which, stored)) = bytes.split_first() else { return };
    match which % 6 {
        0 => check::<Everything>(stored),
        1 => check::<TokenRecord>(stored),
        2 => check::<MountRecord>(stored),
        3 => check::<WipeRecord>(stored),
        4 => check::<LeaseRecord>(stored),
        _ => check::<MarkRecord>(stored),
    }
}

fn check<R: Record>(stored: &[u8]) {
    let Ok(read) = R::decode(stored) else { return };
    let written = read.encode();
    let again = R::decode(&written).unwrap_or_else(|error| panic!("{error} in what was written"));
    assert!(*again.encode() == *written, "written, read and written, it is another one");
    // A cut record is never taken for a whole one.
    for end in 0..written.len().min(64) {
        assert!(R::decode(written.get(..end).unwrap_or_default()).is_err(), "cut at {end}");
    }
}
