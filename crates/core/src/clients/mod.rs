//! Who uses the server: each client once a month (SYS-16).
//!
//! There are no identities, so a client is what the reference makes of tokens without one: a namespace and a set of policies.
//! A request that was allowed counts the token that it came with; a mark on the compiled policies says that it was counted, so
//! nearly always that is two comparisons, and no request writes or waits for it. Who is new waits in memory until the node that
//! leads writes it down, every few seconds and many at once; a node that stands by tells the leader whom it has served, until
//! that says it is stored. So what is lost with a process is who came first in its last seconds, and who comes again is counted
//! then. Root tokens and those that open a wrapped answer are nobody's clients. Deliberately absent: entities, and names of
//! anybody: what is kept of a client is a hash.

pub mod config;
pub mod report;
mod reporting;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tresor_barrier::{Changed, KeyPrefix, Lane, Txn};
use tresor_engine::is_damage;
use tresor_env::{Tasks, Timestamp};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_record::Part;
use tresor_wire::month::Month;

use self::config::CountingConfig;
pub(crate) use self::reporting::{keep_up, take_report};
use crate::gate::Gate;
use crate::keys;
use crate::namespaces::{Permissions, Spaces};
use crate::tokens::FoundToken;
use crate::unsealed::{CommitFault, Unsealed};

/// How many clients of a month are told apart; whoever comes later is counted nowhere, and reports say so.
pub const CLIENTS_MAX: usize = 50_000;
/// How many are written down, or told, at once.
const AT_ONCE: usize = 1000;
/// How often the node that leads writes down who is new.
const LOOK: Duration = Duration::from_secs(10);
/// What is on nothing that was counted: nothing is.
const OFF: u64 = 0;

/// What tells clients apart in memory: the front of a hash.
type Short = [u8; 16];

/// A client, as it was counted in a month.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The reference's id of a client without an identity: SHA-256 of its policies and its namespace.
    pub id: Vec<u8>,
    /// The namespace of its token.
    pub namespace: NamespaceId,
    /// The accessor of the mount that made the token which was counted.
    pub accessor: String,
    /// When that token was made.
    pub created: Timestamp,
    /// When it was used first in the month.
    pub first: Timestamp,
}

impl Client {
    fn short(&self) -> Short {
        short(&self.id)
    }
}

fn short(id: &[u8]) -> Short {
    let mut short = Short::default();
    for (to, from) in short.iter_mut().zip(id) {
        *to = *from;
    }
    short
}

/// The id of whom tokens of a namespace with these policies belong to, which are sorted.
fn id_of(namespace: &NamespaceId, policies: &[String]) -> [u8; 32] {
    let text = [policies.join("\x7f").as_str(), "\0", namespace.as_str()].concat();
    tresor_crypto::hash::sha256(
        text.strip_prefix(if policies.is_empty() { "\0" } else { "" }).unwrap_or(&text).as_bytes(),
    )
}

/// What compiled policies bear once a token with them was counted: in which month, since when.
#[derive(Default)]
pub struct Mark(AtomicU64);

/// The owner of who was counted.
pub struct Clients {
    /// What marks look like that are of now.
    mark: AtomicU64,
    /// Until when, in nanoseconds.
    ends: AtomicI64,
    table: Mutex<Table>,
    /// Where what is configured lies.
    wanted: KeyPrefix,
}

#[derive(Default)]
struct Table {
    /// Since which switching on clients are counted.
    counting: Option<u64>,
    /// The month that goes on.
    month: Option<Month>,
    /// Who was counted, in this month and the one before, as far as this node knows.
    known: BTreeMap<Month, BTreeSet<Short>>,
    /// Who is not known to be stored.
    waiting: BTreeMap<(Month, Short), Client>,
    /// The last month in which there were too many.
    overfull: Option<Month>,
    /// Whether `known` has everything that is stored: on the node that leads.
    is_loaded: bool,
}

impl Clients {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts whom a request was allowed for.
    #[inline]
    pub(crate) fn count(&self, spaces: &Spaces, permissions: &Permissions, token: &FoundToken, now: Timestamp) {
        let seen = permissions.mark().0.load(Ordering::Relaxed);
        if seen != self.mark.load(Ordering::Relaxed) || now.nanos() >= self.ends.load(Ordering::Relaxed) {
            self.look_at(spaces, permissions.mark(), token, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_at(&self, spaces: &Spaces, mark: &Mark, token: &FoundToken, now: Timestamp) {
        let record = &token.record;
        let mount = spaces.with_id(&record.namespace).map(|space| space.mounts.table());
        let mount = mount.as_ref().and_then(|table| table.with_id(&record.mount));
        let client = (!record.is_root() && !record.is_wrapping()).then(|| Client {
            id: id_of(&record.namespace, &record.policies).to_vec(),
            namespace: record.namespace.clone(),
            accessor: mount.map_or_else(String::new, |mount| mount.record.accessor.as_str().to_owned()),
            created: record.created,
            first: now,
        });
        let mut table = self.table();
        if table.counting.is_some() {
            let month = Month::of(now);
            match table.month.map(|current| current.cmp(&month)) {
                // The last moments of a month that is over elsewhere: the next request counts.
                Some(std::cmp::Ordering::Greater) => return,
                Some(std::cmp::Ordering::Equal) => {}
                Some(std::cmp::Ordering::Less) | None => self.turn(&mut table, month),
            }
            if let Some(client) = client {
                table.note(month, client);
            }
        }
        mark.0.store(self.mark.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A month begins.
    fn turn(&self, table: &mut Table, month: Month) {
        let Some(since) = table.counting else { return };
        table.month = Some(month);
        let before = month.before(1);
        table.known.retain(|known, _| *known >= before);
        self.ends.store(month.ends().nanos(), Ordering::Relaxed);
        self.mark.store(since.wrapping_add(1) << 32 | u64::from(month.number()), Ordering::Relaxed);
    }

    /// Counts, or does not, from now on: as it is configured.
    fn obey(&self, config: &CountingConfig) {
        let counting = config.counting();
        let mut table = self.table();
        if table.counting == counting {
            return;
        }
        *table = Table { counting, ..Table::default() };
        // Nothing bears the mark of no month, so the first request says which month it is.
        let (mark, ends) = counting.map_or((OFF, i64::MAX), |since| (since.wrapping_add(1) << 32, i64::MIN));
        self.ends.store(ends, Ordering::Relaxed);
        self.mark.store(mark, Ordering::Relaxed);
    }

    /// Begins with what is configured.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn begin(txn: &mut Txn) -> Result<Self, Fault> {
        let wanted = keys::counting().map_err(Fault::internal)?;
        let (mark, ends, table) = (AtomicU64::new(OFF), AtomicI64::new(i64::MAX), Mutex::default());
        let clients = Self { mark, ends, table, wanted };
        clients.obey(&readable(txn)?);
        Ok(clients)
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> KeyPrefix {
        self.wanted.clone()
    }

    pub(crate) fn reload_if_touched(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        if changed.touches(&self.wanted) {
            self.obey(&readable(txn)?);
        }
        Ok(())
    }

    /// Whether clients are counted as is configured.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let configured = readable(txn)?.counting();
        Ok(self.table().counting == configured)
    }

    /// From now on this node leads, and does not know yet what is stored.
    fn lead(&self) {
        self.table().is_loaded = false;
    }
}

/// What is configured. What cannot be read is told, and keeps no node from serving: then nobody is counted.
fn readable(txn: &mut Txn) -> Result<CountingConfig, Fault> {
    CountingConfig::stored(txn).or_else(|fault| {
        if !is_damage(&fault) {
            return Err(fault);
        }
        let reason = fault.for_operators();
        tracing::error!(reason, "what is configured about counting clients cannot be read: nobody is counted");
        Ok(CountingConfig::default())
    })
}

impl Table {
    /// Notes a client, unless it is known, or there is no room.
    fn note(&mut self, month: Month, client: Client) {
        let known = self.known.entry(month).or_default();
        if known.contains(&client.short()) {
            return;
        }
        if known.len() >= CLIENTS_MAX {
            if self.overfull != Some(month) {
                tracing::warn!(%month, most = CLIENTS_MAX, "more clients than are told apart: the others are not counted");
            }
            self.overfull = Some(month);
            return;
        }
        known.insert(client.short());
        self.waiting.insert((month, client.short()), client);
    }
}

/// Starts what only the leader does.
pub(crate) fn start(unsealed: &Arc<Unsealed>, tasks: &Tasks) {
    unsealed.handles.clients.lead();
    tasks.spawn(run(Arc::downgrade(unsealed), unsealed.gate.clone()));
}

/// Writes down who is new, and forgets months that are to be forgotten. It holds the node only while it works.
async fn run(node: Weak<Unsealed>, gate: Gate) {
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        match look(&unsealed).await {
            Ok(()) | Err(Fault::Refusal(_)) => {}
            Err(fault) => {
                tracing::warn!(cause = fault.for_operators(), "clients could not be written down; tried again");
            }
        }
        let waiting = unsealed.clock.sleep(LOOK);
        drop(unsealed);
        tokio::select! {
            biased;
            () = waiting => {}
            () = gate.closed() => return,
        }
    }
}

async fn look(unsealed: &Unsealed) -> Result<(), Fault> {
    let clients = &unsealed.handles.clients;
    let now = unsealed.clock.now();
    clients.load(&mut unsealed.begin()?, now)?;
    loop {
        let mut txn = unsealed.begin()?;
        let Some(written) = clients.write_down(&mut txn)? else { break };
        match unsealed.commit_in(Lane::Background, txn).await {
            Ok(()) => clients.are_stored(&written),
            Err(CommitFault::Conflict) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
    loop {
        let mut txn = unsealed.begin()?;
        if !stored::forget_some(&mut txn, now)? {
            return Ok(());
        }
        match unsealed.commit_in(Lane::Background, txn).await {
            Ok(()) => {}
            Err(CommitFault::Conflict) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_client_without_identity_has_the_id_that_the_reference_gives_it() {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let id =
            |namespace: &str, policies: &str| STANDARD.encode(id_of(&NamespaceId::new(namespace), &names(policies)));
        // `printf 'a\x7fb\0root' | openssl dgst -sha256 -binary | base64`, and so on.
        assert_eq!(id("root", "a b"), "gdsWATYqGA50ULY8N9s4QB8BfX/LQdqQs1Gr6prCIIg=");
        assert_eq!(id("root", "default"), "g0A6QFkmfBoCzvwgAWlrwXxqmnxezsz9P+RmbKWtbTM=");
        assert_eq!(id("aB3xYz", ""), "8ieXQp+c0HlzQB/G0mCxrl0q6XMQnwSCEUEzRRplFjA=");
    }
}
