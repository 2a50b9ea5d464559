//! What becomes of tokens, leases and mounts, told to a ledger together with the events of engines (SYS-30).
//!
//! It goes the way of events (`events`): along with the transaction, and out when that is committed, so the ledger has what
//! happened and nothing else. Whoever subscribes to events is told nothing of it. A line names tokens by their accessors and
//! leases by a keyed hash; no value is in it. Deliberately absent: how lines are kept, and waiting for that.

use tresor_barrier::Txn;
use tresor_crypto::hash::{HmacKey, to_hex};
use tresor_model::ids::{MountId, NamespaceId};
use tresor_model::{Audience, Event, EventMount, Map, Timestamp, map};
use tresor_record::Record;
use tresor_wire::json::encode_map;
use tresor_wire::time::rfc3339;

use crate::events::Told;
use crate::keys;
use crate::leases::record::LeaseRecord;
use crate::mounts::record::{MountRecord, StoredMount, WipeRecord};
use crate::namespaces::Spaces;
use crate::tokens::record::TokenRecord;

/// Under this name a lease is known while it is not spelled.
const LEASE_ID: &str = "lease_id";

/// Takes lines. It never waits.
pub trait Ledger: Send + Sync {
    /// Whether it takes things of this type.
    fn wants(&self, kind: &str) -> bool;
    /// Takes a line, which ends with a line break, or counts it as dropped.
    fn take(&self, line: Vec<u8>);
}

fn event(kind: &'static str, path: &str, mount: EventMount, metadata: Vec<(&'static str, String)>) -> Event {
    Event { kind, path: path.to_owned(), mount, metadata, audience: Audience::Ledger }
}

/// The mount as it is told; also one that is being wiped. Of one that is gone altogether only its class is known.
fn mount_of(txn: &mut Txn, spaces: &Spaces, namespace: &NamespaceId, id: &MountId, path: &str) -> EventMount {
    let live = spaces.with_id(namespace).and_then(|space| {
        let table = space.mounts.table();
        table.with_id(id).map(|mount| told_mount(namespace, &mount.record))
    });
    live.or_else(|| being_wiped(txn, namespace, id)).unwrap_or_else(|| {
        let unknown = MountRecord::unknown(id.clone(), Timestamp::from_seconds(0));
        EventMount { class: class_of(path), ..told_mount(namespace, &unknown) }
    })
}

/// What ends with a mount is read along with the record of its removal; where that cannot be read, whatever ends fails by itself.
fn being_wiped(txn: &mut Txn, namespace: &NamespaceId, id: &MountId) -> Option<EventMount> {
    let bytes = txn.read(&keys::wipe(namespace, id).ok()?).ok()??;
    let StoredMount(record) = WipeRecord::decode(&bytes).ok()?.mount;
    Some(told_mount(namespace, &record))
}

fn class_of(path: &str) -> &'static str {
    if path.starts_with("auth/") { "auth" } else { "secret" }
}

fn told_mount(namespace: &NamespaceId, record: &MountRecord) -> EventMount {
    EventMount {
        namespace: namespace.clone(),
        class: class_of(&record.path),
        accessor: record.accessor.clone(),
        path: record.path.clone(),
        plugin: record.kind.clone(),
        version: record.options.get("version").cloned(),
    }
}

/// Tells what became of a token.
pub(crate) fn of_token(txn: &mut Txn, spaces: &Spaces, kind: &'static str, record: &TokenRecord) {
    if !txn.has_listeners() {
        return;
    }
    let mount = mount_of(txn, spaces, &record.namespace, &record.mount, &record.path);
    let mut metadata = vec![
        ("accessor", record.accessor.as_str().to_owned()),
        ("policies", record.policies.join(",")),
        ("orphan", record.ancestors.is_empty().to_string()),
        ("renewable", record.renewable.to_string()),
        ("ttl", record.granted.as_secs().to_string()),
    ];
    metadata.extend(record.expires.map(|end| ("expire_time", rfc3339(end))));
    txn.tell(event(kind, &record.path, mount, metadata));
}

/// Tells what became of a lease.
pub(crate) fn of_lease(txn: &mut Txn, spaces: &Spaces, kind: &'static str, record: &LeaseRecord) {
    if !txn.has_listeners() {
        return;
    }
    let mount = mount_of(txn, spaces, &record.home(), &record.mount, record.path());
    let metadata = vec![
        (LEASE_ID, record.id.as_str().to_owned()),
        ("renewable", record.renewable.to_string()),
        ("ttl", record.granted.as_secs().to_string()),
        ("issue_time", rfc3339(record.issued)),
        ("expire_time", rfc3339(record.expires)),
    ];
    txn.tell(event(kind, record.path(), mount, metadata));
}

/// Tells what became of a mount.
pub(crate) fn of_mount(txn: &mut Txn, namespace: &NamespaceId, kind: &'static str, record: &MountRecord) {
    if txn.has_listeners() {
        txn.tell(event(kind, &record.path, told_mount(namespace, record), Vec::new()));
    }
}

/// A line about something that happened, in the namespace of this path.
pub(crate) fn line(told: &Told, namespace: &str, key: &HmacKey) -> Vec<u8> {
    let (event, mount) = (&told.event, &told.event.mount);
    let shown = |name: &str, value: &str| match name {
        LEASE_ID => format!("hmac-sha256:{}", to_hex(&key.sign(value.as_bytes()))),
        _ => value.to_owned(),
    };
    let data: Map =
        event.metadata.iter().map(|(name, value)| ((*name).to_owned(), shown(name, value).into())).collect();
    let document = map! {
        "id" => told.id.as_str(),
        "time" => rfc3339(told.at),
        "type" => event.kind,
        "namespace" => namespace,
        "path" => event.path.as_str(),
        "mount" => map! {
            "class" => mount.class,
            "accessor" => mount.accessor.as_str(),
            "path" => mount.path.as_str(),
            "type" => mount.plugin.as_str(),
        },
        "data" => data,
    };
    let mut bytes = Vec::new();
    encode_map(&document, &mut bytes);
    bytes.push(b'\n');
    bytes
}
