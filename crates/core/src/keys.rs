//! Where the core's own records lie in the store: one function per kind of record.
//!
//! Every key starts with the namespace's id. What all namespaces share (what ends when, what is collected) lies in the root
//! namespace, under names that say whose they are (`namespaces::ids`). Engines' data lies below `logical/`, which only a
//! `View` reaches.

use tresor_barrier::{Area, BarrierError, KeyPrefix, PointKey, StorageKey};
use tresor_model::MountId;
use tresor_model::ids::{NamespaceId, RealmId};

use crate::namespaces::ids;
use crate::shareholders::Target;
use crate::tokens;

type Key = Result<StorageKey, BarrierError>;
type Point = Result<PointKey, BarrierError>;
type Prefix = Result<KeyPrefix, BarrierError>;

/// All mount records of a namespace.
pub(crate) fn mounts(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "mounts/")
}

/// One mount record.
pub(crate) fn mount(namespace: &NamespaceId, id: &MountId) -> Key {
    mounts(namespace)?.key(id.as_str())
}

/// What everybody writes who takes a path for a mount.
pub(crate) fn mount_turn(namespace: &NamespaceId) -> Key {
    StorageKey::new(namespace, Area::Core, "mount-turn")
}

/// The data of one mount, in one of its parts of the store.
pub(crate) fn mount_contents(namespace: &NamespaceId, id: &MountId, store: u64) -> Prefix {
    let below = if store == 0 { format!("{id}/") } else { format!("{id}.{store}/") };
    KeyPrefix::new(namespace, Area::Logical, &below)
}

/// Mounts that were removed and whose data is still being wiped, of every namespace.
pub(crate) fn wipes() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "wipes/")
}

/// One of them.
pub(crate) fn wipe(namespace: &NamespaceId, id: &MountId) -> Key {
    wipes()?.key(&ids::within(namespace, id.as_str().to_owned()))
}

/// The mount records of every namespace, for who follows them.
pub(crate) fn every_mount() -> Prefix {
    KeyPrefix::everywhere(Area::Core, "mounts/")
}

/// The ACL policies of every namespace, for who follows them.
pub(crate) fn every_policy() -> Prefix {
    KeyPrefix::everywhere(Area::Policies, "acl/")
}

/// All namespaces, each below its parent's id.
pub(crate) fn namespaces() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "namespaces/")
}

/// Mounts whose data is being taken over into another shape, of every namespace.
pub(crate) fn take_overs() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "take-overs/")
}

/// One of them.
pub(crate) fn take_over(namespace: &NamespaceId, id: &MountId) -> Key {
    take_overs()?.key(&ids::within(namespace, id.as_str().to_owned()))
}

/// Mounts that are on their way from one namespace to another, by the one that they leave.
pub(crate) fn moves() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "moves/")
}

/// One of them.
pub(crate) fn moving(from: &NamespaceId, id: &MountId) -> Key {
    moves()?.key(&ids::within(from, id.as_str().to_owned()))
}

/// Facts about the cluster: its name and id.
pub(crate) fn cluster() -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, "cluster")
}

/// That a server initialises itself and is not done.
pub(crate) fn self_initialization() -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, "self-initialization")
}

/// Which nodes of the cluster wait for a vote, and which were removed.
pub(crate) fn roster() -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, "roster")
}

/// What the operator decided about nodes that are dead, and about those that joined.
pub(crate) fn autopilot() -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, "autopilot")
}

/// When a new term of the key ring is made by itself.
pub(crate) fn rotation() -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, "rotation")
}

/// What is configured about counting clients.
pub(crate) fn counting() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "client-counting/")
}

/// Whether they are counted.
pub(crate) fn client_counting() -> Key {
    counting()?.key("config")
}

/// The months of which clients are stored.
pub(crate) fn clients() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "clients/")
}

/// The clients of a month.
pub(crate) fn clients_of(month: &str) -> Prefix {
    clients()?.below(&format!("{month}/"))
}

/// The months whose clients are to be forgotten.
pub(crate) fn discarded_clients() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "discarded-clients/")
}

/// Encrypted shares of the root namespace's seal, or of one's own, that are kept for their owners.
pub(crate) fn rekey_backup(namespace: &NamespaceId, target: Target) -> Key {
    let name = match target {
        Target::Root => "rekey-backup/root",
        Target::Recovery => "rekey-backup/recovery",
    };
    StorageKey::new(namespace, Area::Core, name)
}

/// How many values each term of the key ring has sealed, or of a namespace's own: a tally.
pub(crate) fn encryptions(namespace: &NamespaceId) -> Point {
    PointKey::new(namespace, Area::Core, "encryptions")
}

/// What is known of the time.
pub(crate) fn times() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "time/")
}

/// The latest time that was told, about a minute old at most.
pub(crate) fn clock() -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, "time/told")
}

/// All ACL policies of a namespace.
pub(crate) fn policies(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Policies, "acl/")
}

/// All password policies of a namespace.
pub(crate) fn password_policies(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Policies, "password/")
}

/// All workflows of a namespace.
pub(crate) fn workflows(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "workflows/")
}

/// All rotation policies of a namespace.
pub(crate) fn rotation_policies(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Policies, "rotation/")
}

/// All who keep keys, as a namespace has them written down.
pub(crate) fn keepers(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "keepers/named/")
}

/// All keys that one of them keeps.
pub(crate) fn kept_keys(namespace: &NamespaceId, keeper: &str) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, &format!("keepers/keys/{keeper}/"))
}

/// How far things of a mount have come that rotate by one.
pub(crate) fn retries(mount: &str) -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, &format!("retries/{mount}/"))
}

/// All lease-count quotas.
pub(crate) fn quotas(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "quotas/lease-count/")
}

/// All that is about quotas on rates.
pub(crate) fn rates(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "quotas/rate/")
}

/// The quotas on rates.
pub(crate) fn rates_by_name(namespace: &NamespaceId) -> Prefix {
    rates(namespace)?.below("named/")
}

/// What is true of all quotas on rates.
pub(crate) fn rate_config(namespace: &NamespaceId) -> Key {
    rates(namespace)?.key("config")
}

/// What is said of requests before they are requests.
pub(crate) fn edge(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "edge/")
}

/// From where browsers may ask.
pub(crate) fn cors(namespace: &NamespaceId) -> Key {
    edge(namespace)?.key("cors")
}

/// The headers that are recorded.
pub(crate) fn audited_headers(namespace: &NamespaceId) -> Prefix {
    edge(namespace)?.below("audited/")
}

/// The headers of answers below `/ui`.
pub(crate) fn page_headers(namespace: &NamespaceId) -> Prefix {
    edge(namespace)?.below("pages/")
}

/// The messages that a namespace has for people.
pub(crate) fn custom_messages(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "custom-messages/")
}

/// What pages offer to log in by, by name.
pub(crate) fn login_forms() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Core, "login-forms/named/")
}

/// Which of them is about a namespace.
pub(crate) fn login_form_of(namespace: &NamespaceId) -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, &format!("login-forms/of/{}", namespace.as_str()))
}

/// The releases that have led.
pub(crate) fn releases(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "releases/")
}

/// All audit devices.
pub(crate) fn audit_devices() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Audit, "devices/")
}

/// A token by its keyed hash. Nobody lists tokens, so it lies in no directory; it lies beside what was made with it.
pub(crate) fn token(hash: &str) -> Point {
    let point = PointKey::new(&ids::home(hash), Area::Tokens, &format!("id/{hash}"))?;
    Ok(point.beside(tokens::moment_in_hash(hash)))
}

/// When names are locked, where that was tuned on a mount.
pub(crate) fn lockouts(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "lockout/")
}

/// When names are locked on a mount, where that was tuned.
pub(crate) fn lockout(namespace: &NamespaceId, mount: &MountId) -> Key {
    lockouts(namespace)?.key(mount.as_str())
}

/// All token roles of a namespace.
pub(crate) fn token_roles(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Tokens, "role/")
}

/// How many uses a token has left: a tally.
pub(crate) fn uses(hash: &str) -> Point {
    PointKey::new(&ids::home(hash), Area::Tokens, &format!("uses/{hash}"))
}

/// How many tokens and leases of each mount there are below a token: a tally.
pub(crate) fn below(hash: &str) -> Point {
    PointKey::new(&ids::home(hash), Area::Tokens, &format!("below/{hash}"))
}

/// How many tokens and leases there are in all namespaces: a tally.
pub(crate) fn live() -> Point {
    PointKey::new(&NamespaceId::root(), Area::Leases, "live")
}

/// How many tokens and leases there are in a namespace that is not the root, and how many below it: a tally.
pub(crate) fn live_in(namespace: &NamespaceId) -> Point {
    PointKey::new(namespace, Area::Leases, "live")
}

/// How many tokens and leases there are in a realm, but for realms inside it: a tally outside of it, for who has no key.
pub(crate) fn live_of_realm(realm: &RealmId) -> Point {
    PointKey::new(&NamespaceId::root(), Area::Leases, &format!("live-realm/{realm}"))
}

/// How many tokens and leases a quota on a role or a path counts: a tally.
pub(crate) fn counted_for(quota: &str) -> Point {
    PointKey::new(&NamespaceId::root(), Area::Leases, &format!("counted/{quota}"))
}

/// Quotas on a role or a path for which what there was before is still being counted.
pub(crate) fn countings() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "counting/")
}

/// How many tokens and leases of a mount there are: a tally.
pub(crate) fn live_of(namespace: &NamespaceId, mount: &MountId) -> Point {
    PointKey::new(namespace, Area::Leases, &format!("live/{mount}"))
}

/// All token accessors of a namespace: bare names, each an accessor with its token's hash.
pub(crate) fn accessors(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Tokens, "accessor/")
}

/// The children of a token, in order of time: bare names.
pub(crate) fn children(parent: &str) -> Prefix {
    KeyPrefix::new(&ids::home(parent), Area::Tokens, &format!("child/{parent}/"))
}

/// Tokens of every namespace that were revoked and of which something is left to be collected.
pub(crate) fn marks() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Tokens, "mark/")
}

/// All indices of what ends or is due by time.
pub(crate) fn ends() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "ends/")
}

/// What was due in a sealed realm, by where it stood below [`ends`].
pub(crate) fn parked(realm: &RealmId) -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, &format!("parked/{realm}/"))
}

/// Buckets of the time-ordered index of tokens of every namespace that end, earliest first; in them, bare names.
pub(crate) fn token_ends() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "ends/token/")
}

/// Buckets of the time-ordered index of leases of every namespace whose revocation is due, earliest first; in them, bare
/// names.
pub(crate) fn lease_ends() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "ends/lease/")
}

/// Leases whose time has come, by whom they are taken back from: a directory each (`leases/targets.rs`); in them, bare names.
pub(crate) fn queues() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "queue/")
}

/// Leases that were forgotten without being revoked, as was ordered.
pub(crate) fn abandoned(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Leases, "abandoned/")
}

/// Buckets of the time-ordered index of when engines are called, earliest first; in them, bare names.
pub(crate) fn wake_ends() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "ends/wake/")
}

/// What mounts set times for, by mount.
pub(crate) fn every_wake() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "wake/")
}

/// What a mount, named as in indices of all namespaces, set times for.
pub(crate) fn wakes(mount: &str) -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, &format!("wake/{mount}/"))
}

/// A lease by its number, beside what was made with it.
pub(crate) fn lease(number: &str) -> Point {
    let point = PointKey::new(&ids::home(number), Area::Leases, &format!("number/{number}"))?;
    Ok(point.beside(tokens::moment_in_name(number)))
}

/// The ids of all leases: bare names.
pub(crate) fn leases(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Leases, "id/")
}

/// The paths that handed out what is in use: listed tallies.
pub(crate) fn lease_paths(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Leases, "path/")
}

/// The numbers of a token's leases: bare names.
pub(crate) fn leases_of(token: &str) -> Prefix {
    KeyPrefix::new(&ids::home(token), Area::Tokens, &format!("lease/{token}/"))
}

/// The numbers of leases that could not be revoked: bare names.
pub(crate) fn irrevocable(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Leases, "irrevocable/")
}

/// Leases that could not be revoked yet, and are tried again.
pub(crate) fn retried(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Leases, "retried/")
}

/// Work over many leases or tokens of a namespace that an operator asked for.
pub(crate) fn jobs() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "job/")
}

/// What could not be read when its time came, in any namespace: entries of the index, with what is wrong.
pub(crate) fn set_aside() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Leases, "aside/")
}
