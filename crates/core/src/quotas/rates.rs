//! Quotas on rates: how many requests a client may make, of the whole server, a namespace, a mount, or paths below it.
//!
//! The most specific quota that there is for a path counts, and no other; one that a namespace hands down is one for all
//! that is below together. The quotas are stored; what clients have used of
//! them is this node's own (`clients`), so a rate is that of one node. A quota on a role is asked when the login's body was
//! read, because that says the role. Deliberately absent: groups of clients, and the step that asks
//! ([`throttle`](crate::pipeline)).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tresor_barrier::{Changed, KeyPrefix, Txn};
use tresor_env::Entropy;
use tresor_model::Fault;
use tresor_model::ids::{MountId, NamespaceId};
use tresor_record::Record;

use super::clients::{Clients, Rate, Taken};
use super::{About, begins, named};
use crate::cached::{Cached, every_record};
use crate::keys;
use crate::namespaces::Space;

/// The paths that no rate limits until an operator says otherwise: what an operator needs while others flood the server.
pub const EXEMPT_PATHS: [&str; 7] = [
    "sys/generate-recovery-token/attempt",
    "sys/generate-recovery-token/update",
    "sys/generate-root/attempt",
    "sys/generate-root/update",
    "sys/health",
    "sys/seal-status",
    "sys/unseal",
];

/// Below here quotas are looked at and removed. They have a bound of their own, which no quota changes: or an operator whose
/// quota is too small could never remove it, and everybody could flood what is exempt.
const QUOTAS_THEMSELVES: &str = "sys/quotas/";
const OF_QUOTAS_THEMSELVES: Rate =
    Rate { id: 0, requests: 50, interval: Duration::from_secs(1), block: Duration::ZERO };

/// A quota as it was stored before it could be about a namespace or a role.
#[derive(Record)]
#[record(kind = "rate-limit-quota", version = 1)]
pub struct RateRecordV1 {
    name: String,
    path: String,
    mount: Option<MountId>,
    suffix: String,
    rate_millionths: u64,
    interval: Duration,
    block_interval: Duration,
    inheritable: bool,
}

impl From<RateRecordV1> for RateRecord {
    fn from(older: RateRecordV1) -> Self {
        Self {
            name: older.name,
            path: older.path,
            about: About::of_older(older.mount),
            suffix: older.suffix,
            role: String::new(),
            rate_millionths: older.rate_millionths,
            interval: older.interval,
            block_interval: older.block_interval,
            inheritable: older.inheritable,
        }
    }
}

/// A quota as it is stored.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "rate-limit-quota", version = 2, previous = RateRecordV1)]
pub struct RateRecord {
    /// Its name.
    pub name: String,
    /// Where what it is about was when it was written; empty for the root namespace.
    pub path: String,
    /// What it is about.
    pub about: About,
    /// What is left of the path below the mount, without a slash at its end; a star at its end stands for anything.
    pub suffix: String,
    /// The role whose logins it is about; empty for none.
    pub role: String,
    /// How many millionths of a request there may be in an interval.
    pub rate_millionths: u64,
    /// How long an interval is.
    pub interval: Duration,
    /// How long a client that made too many is shut out; zero: until the interval ends.
    pub block_interval: Duration,
    /// Whether child namespaces have it too.
    pub inheritable: bool,
}

/// What was true of all quotas on rates before paths of one namespace could be exempt.
#[derive(Record)]
#[record(kind = "rate-limit-config", version = 1)]
pub struct RateConfigV1 {
    exempt_paths: Vec<String>,
    audits_refusals: bool,
    shows_rest: bool,
}

impl From<RateConfigV1> for RateConfig {
    fn from(older: RateConfigV1) -> Self {
        let RateConfigV1 { exempt_paths, audits_refusals, shows_rest } = older;
        Self { exempt_paths, absolute_exempt_paths: Vec::new(), audits_refusals, shows_rest }
    }
}

/// What is true of all quotas on rates.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "rate-limit-config", version = 2, previous = RateConfigV1)]
pub struct RateConfig {
    /// Paths that no rate limits in any namespace, with all that begins like them.
    pub exempt_paths: Vec<String>,
    /// The same by their whole path, from the root namespace on.
    pub absolute_exempt_paths: Vec<String>,
    /// Whether requests that are refused leave an audit record.
    pub audits_refusals: bool,
    /// Whether answers say what is left.
    pub shows_rest: bool,
}

impl Default for RateConfig {
    fn default() -> Self {
        let exempt_paths = EXEMPT_PATHS.iter().map(|path| (*path).to_owned()).collect();
        Self { exempt_paths, absolute_exempt_paths: Vec::new(), audits_refusals: false, shows_rest: false }
    }
}

impl RateConfig {
    /// Whether no rate limits this path of a namespace: the entry that says most of it decides, one with `!` against it.
    fn exempts(&self, namespace: &str, path: &str) -> bool {
        let whole = [namespace, path].concat();
        let relative = self.exempt_paths.iter().map(|entry| (entry, path, namespace.len()));
        let absolute = self.absolute_exempt_paths.iter().map(|entry| (entry, whole.as_str(), 0));
        let matching = relative.chain(absolute).filter_map(|(entry, path, before)| {
            let (entry, is_exempt) = entry.strip_prefix('!').map_or((entry.as_str(), true), |entry| (entry, false));
            let entry = entry.strip_suffix('*').unwrap_or(entry);
            path.starts_with(entry).then_some((before + entry.len(), is_exempt))
        });
        matching.max_by_key(|(length, _)| *length).is_some_and(|(_, is_exempt)| is_exempt)
    }
}

/// The quotas of one mount, by what is left of the path.
type Below = BTreeMap<String, Rate>;

/// Where a request leads.
pub(crate) struct Asked<'a> {
    /// The namespace that it goes to.
    pub(crate) space: &'a Space,
    /// Its path there.
    pub(crate) path: &'a str,
    /// The mount, and what is left of the path below it.
    pub(crate) below: Option<(&'a MountId, &'a str)>,
    /// The role that it logs in with.
    pub(crate) role: Option<&'a str>,
}

#[derive(PartialEq, Eq)]
struct Table {
    stored: BTreeMap<String, RateRecord>,
    config: RateConfig,
    by_mount: BTreeMap<MountId, Below>,
    by_role: BTreeMap<MountId, BTreeMap<String, Rate>>,
    by_namespace: BTreeMap<NamespaceId, OfNamespace>,
}

/// The quota of a namespace.
#[derive(PartialEq, Eq)]
struct OfNamespace {
    rate: Rate,
    inheritable: bool,
}

/// The owner of the quotas on rates.
pub struct Rates {
    table: Cached<Table>,
    clients: Clients,
}

/// What a quota says of a request.
pub(crate) struct Limited {
    pub(crate) taken: Taken,
    /// How many requests there may be in an interval.
    pub(crate) requests: u64,
    /// The quota's name, when it refuses.
    pub(crate) refused_by: Option<String>,
    pub(crate) is_recorded: bool,
    pub(crate) is_shown: bool,
}

impl Rates {
    /// Loads the table.
    ///
    /// # Errors
    /// When the store fails or a record is damaged.
    pub fn load(txn: &mut Txn, entropy: &dyn Entropy) -> Result<Self, Fault> {
        let table = read_table(txn)?;
        let prefix = keys::rates(&NamespaceId::root()).map_err(Fault::internal)?;
        Ok(Self { table: Cached::new(prefix, txn, table), clients: Clients::new(entropy) })
    }

    /// The quotas as a transaction sees them, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored(&self, txn: &mut Txn) -> Result<BTreeMap<String, RateRecord>, Fault> {
        read_quotas(txn)
    }

    /// Stores a quota; there is one per namespace, or mount and rest of a path.
    ///
    /// # Errors
    /// A refusal when another one is about the same; a failure when the store fails.
    pub fn write(&self, txn: &mut Txn, quota: &RateRecord) -> Result<(), Fault> {
        let known = read_quotas(txn)?;
        let same = |other: &&RateRecord| {
            (&other.about, &other.suffix, &other.role) == (&quota.about, &quota.suffix, &quota.role)
        };
        super::refuse_twin(known.values().filter(same).map(|other| other.name.as_str()), &quota.name)?;
        let key = named(&keys::rates_by_name(&NamespaceId::root()).map_err(Fault::internal)?, &quota.name)?;
        txn.write(&key, &quota.encode()).map_err(Fault::internal)
    }

    /// Removes a quota; removing nothing is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub fn delete(&self, txn: &mut Txn, name: &str) -> Result<(), Fault> {
        let key = named(&keys::rates_by_name(&NamespaceId::root()).map_err(Fault::internal)?, name)?;
        txn.delete(&key).map_err(Fault::internal)
    }

    /// What is true of all of them, as a transaction sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn config(&self, txn: &mut Txn) -> Result<RateConfig, Fault> {
        read_config(txn)
    }

    /// Stores what is true of all of them.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_config(&self, txn: &mut Txn, config: &RateConfig) -> Result<(), Fault> {
        let key = keys::rate_config(&NamespaceId::root()).map_err(Fault::internal)?;
        txn.write(&key, &config.encode()).map_err(Fault::internal)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.load().stored.is_empty()
    }

    /// Whether there are any on roles of a mount.
    pub(crate) fn are_on_roles_of(&self, mount: &MountId) -> bool {
        self.table.load().by_role.contains_key(mount)
    }

    /// Counts a request against the quota that is about it, if there is one; `now` is a moment of the monotonic clock.
    pub(crate) fn take(&self, asked: &Asked<'_>, address: IpAddr, now: Duration) -> Option<Limited> {
        let table = self.table.load();
        let path = asked.path;
        if table.config.exempts(&asked.space.path, path) {
            return None;
        }
        if path.starts_with(QUOTAS_THEMSELVES) {
            return Some(Limited {
                taken: self.clients.take(&OF_QUOTAS_THEMSELVES, address, now),
                requests: OF_QUOTAS_THEMSELVES.requests,
                refused_by: None,
                is_recorded: table.config.audits_refusals,
                is_shown: table.config.shows_rest,
            });
        }
        let of_role = asked.below.and_then(|(mount, _)| table.by_role.get(mount)?.get(asked.role?));
        let of_mount = || asked.below.and_then(|(mount, rest)| most_specific(table.by_mount.get(mount)?, rest));
        let rate = of_role.or_else(of_mount).or_else(|| of_namespace(&table.by_namespace, &asked.space.line))?;
        let taken = self.clients.take(rate, address, now);
        let is_this = |quota: &&RateRecord| quota.rate().id == rate.id;
        let refused_by = || table.stored.values().find(is_this).map(|quota| quota.name.clone());
        Some(Limited {
            taken,
            refused_by: if taken.is_allowed { None } else { refused_by() },
            requests: rate.requests,
            is_recorded: table.config.audits_refusals,
            is_shown: table.config.shows_rest,
        })
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> KeyPrefix {
        self.table.prefix().clone()
    }

    pub(crate) fn reload_if_touched(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        self.table.reload_if_touched(changed, txn, read_table)
    }

    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        Ok(read_table(txn)? == *self.table.load())
    }
}

/// The rate of the last of these namespaces, else that of the nearest one above that hands it down.
fn of_namespace<'t>(known: &'t BTreeMap<NamespaceId, OfNamespace>, line: &[NamespaceId]) -> Option<&'t Rate> {
    let mut up = line.iter().rev().map(|id| known.get(id));
    let found = up.next().flatten().or_else(|| up.flatten().find(|quota| quota.inheritable));
    found.map(|quota| &quota.rate)
}

/// The rate for what is left of a path: its own, else that of the longest beginning of it, else the mount's.
fn most_specific<'b>(below: &'b Below, rest: &str) -> Option<&'b Rate> {
    let rest = rest.trim_end_matches('/');
    let longest = || below.iter().filter(|(suffix, _)| begins(suffix, rest)).max_by_key(|(suffix, _)| suffix.len());
    below.get(rest).or_else(|| longest().map(|(_, rate)| rate)).or_else(|| below.get(""))
}

impl RateRecord {
    /// What it comes to: of less than one request in an interval, one in a longer one.
    fn rate(&self) -> Rate {
        const WHOLE: u64 = 1_000_000;
        let (requests, interval) = if self.rate_millionths < WHOLE {
            let nanos = self.interval.as_nanos() * u128::from(WHOLE) / u128::from(self.rate_millionths.max(1));
            (1, Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
        } else {
            ((self.rate_millionths + WHOLE / 2) / WHOLE, self.interval)
        };
        // FNV-1a: a quota that is written as it was keeps what clients have used of it.
        let id = self
            .encode()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Rate { id, requests, interval, block: self.block_interval }
    }
}

fn read_quotas(txn: &mut Txn) -> Result<BTreeMap<String, RateRecord>, Fault> {
    every_record(txn, &keys::rates_by_name(&NamespaceId::root()).map_err(Fault::internal)?)
}

fn read_config(txn: &mut Txn) -> Result<RateConfig, Fault> {
    let key = keys::rate_config(&NamespaceId::root()).map_err(Fault::internal)?;
    let stored = txn.read(&key).map_err(Fault::internal)?;
    stored.map_or_else(|| Ok(RateConfig::default()), |bytes| RateConfig::decode(&bytes).map_err(Fault::internal))
}

fn read_table(txn: &mut Txn) -> Result<Table, Fault> {
    let (stored, config) = (read_quotas(txn)?, read_config(txn)?);
    let (mut by_mount, mut by_namespace) = (BTreeMap::<MountId, Below>::new(), BTreeMap::new());
    let mut by_role = BTreeMap::<MountId, BTreeMap<String, Rate>>::new();
    for quota in stored.values() {
        let (rate, inheritable) = (quota.rate(), quota.inheritable);
        match &quota.about {
            About::Mount(mount) if !quota.role.is_empty() => {
                by_role.entry(mount.clone()).or_default().insert(quota.role.clone(), rate);
            }
            About::Mount(mount) => drop(by_mount.entry(mount.clone()).or_default().insert(quota.suffix.clone(), rate)),
            About::Namespace(id) => drop(by_namespace.insert(id.clone(), OfNamespace { rate, inheritable })),
        }
    }
    Ok(Table { stored, config, by_mount, by_role, by_namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(suffixes: &[&str]) -> Below {
        let rate = |requests| Rate { id: 0, requests, interval: Duration::from_secs(1), block: Duration::ZERO };
        suffixes.iter().zip(1..).map(|(suffix, requests)| ((*suffix).to_owned(), rate(requests))).collect()
    }

    #[test]
    fn the_most_specific_quota_counts() {
        let below = below(&["", "a/b", "a/*", "a/b*", "*"]);
        let of = |rest: &str| most_specific(&below, rest).map(|rate| rate.requests);
        assert_eq!(of("a/b"), Some(2));
        assert_eq!(of("a/b/"), Some(2));
        assert_eq!(of("a/bc"), Some(4));
        assert_eq!(of("a/c"), Some(3));
        assert_eq!(of("x"), Some(5));
    }

    #[test]
    fn the_longest_entry_decides_what_is_exempt() {
        let config = RateConfig {
            exempt_paths: ["sys/", "!sys/mounts", "kv/a*"].map(str::to_owned).to_vec(),
            absolute_exempt_paths: ["team/kv/", "!team/kv/a", "team/sys/mounts/x"].map(str::to_owned).to_vec(),
            ..RateConfig::default()
        };
        for (namespace, path, is_exempt) in [
            ("", "sys/health", true),
            ("", "kv/abc", true),
            ("", "sys/mounts/x", false),
            ("", "kv/b", false),
            ("", "s", false),
            ("team/", "sys/health", true),
            ("team/", "sys/mounts/y", false),
            ("team/", "sys/mounts/x", true),
            ("team/", "kv/b", true),
            ("team/", "kv/abc", false),
            ("other/", "kv/b", false),
        ] {
            assert_eq!(config.exempts(namespace, path), is_exempt, "{namespace}{path}");
        }
        let default = RateConfig::default();
        assert!(default.exempts("", "sys/unseal") && !default.exempts("", "sys/seal"));
    }

    #[test]
    fn a_rate_below_one_is_one_request_in_a_longer_interval() {
        let quota = |rate_millionths| RateRecord {
            name: String::new(),
            path: String::new(),
            about: About::Namespace(NamespaceId::root()),
            suffix: String::new(),
            role: String::new(),
            rate_millionths,
            interval: Duration::from_secs(2),
            block_interval: Duration::ZERO,
            inheritable: true,
        };
        let of = |millionths| (quota(millionths).rate().requests, quota(millionths).rate().interval);
        assert_eq!(of(250_000), (1, Duration::from_secs(8)));
        assert_eq!(of(2_500_000), (3, Duration::from_secs(2)));
        assert_eq!(of(7_000_000), (7, Duration::from_secs(2)));
    }
}
