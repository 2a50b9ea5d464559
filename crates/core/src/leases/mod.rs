//! What ends, and what is collected afterwards.
//!
//! The time-ordered index lies in the store ([`index`]): memory holds nothing per lease. A background task takes tokens
//! that are due, in order and in small transactions, and collects what revoked tokens and removed mounts left behind
//! ([`collect`]); another asks engines to take back what they handed out ([`revoke`]). Each step is idempotent, so a
//! crash anywhere is mended by doing it again. While requests are running they work for a fifth of the time.
//! Invariant: nothing here decides whether a token is valid; an expired or orphaned one is refused by its record,
//! whether or not this task has come by. Deliberately absent: one timer per lease.

pub(crate) mod clock;
mod collect;
pub(crate) mod index;
pub mod jobs;
pub mod record;
mod revoke;
pub mod secrets;
mod summary;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_barrier::{BarrierError, Plaintext, Txn};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_record::Record;

use crate::gate::Gate;
use crate::keys;
use crate::tokens;
use crate::tokens::record::TokenRecord;
use crate::unsealed::{CommitFault, Unsealed};

/// How many things one transaction of the background task touches at most, and while requests run: what comes while it
/// is committed waits for it, so it must be short.
const STEP_MAX: usize = 128;
const STEP_MAX_BESIDE_REQUESTS: usize = 16;
/// The longest pause between two looks at the index.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// While requests run, a step is followed by a pause of so many times its own length.
const PAUSE_PER_STEP: u32 = 4;

/// The background tasks, each until the node is sealed or gone.
pub(crate) fn start(node: &std::sync::Arc<Unsealed>, tasks: &tresor_env::Tasks) {
    let (weak, gate) = (std::sync::Arc::downgrade(node), node.gate.clone());
    tasks.spawn(run(weak.clone(), gate.clone(), |unsealed| Box::pin(step(unsealed))));
    tasks.spawn(run(weak, gate, |unsealed| Box::pin(revoke::due(unsealed))));
}

/// How much one step does now.
fn step_max(unsealed: &Unsealed) -> usize {
    if unsealed.gate.is_anybody_inside() { STEP_MAX_BESIDE_REQUESTS } else { STEP_MAX }
}

/// What a background task does each time.
type Step = for<'u> fn(&'u Unsealed) -> tresor_env::BoxFuture<'u, Result<Progress, Fault>>;

/// A background task. It holds the node only while it works.
async fn run(node: Weak<Unsealed>, gate: Gate, step: Step) {
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        let begun = unsealed.doors.clock.monotonic();
        let progress = step(&unsealed).await;
        if let Err(fault) = &progress {
            tracing::warn!(%fault, cause = ?fault, "expiry and collection will try again");
        }
        let took = unsealed.doors.clock.monotonic().saturating_sub(begun);
        let pause = match progress {
            Ok(Progress::More) if gate.is_anybody_inside() => took.saturating_mul(PAUSE_PER_STEP).min(PAUSE_MAX),
            Ok(Progress::More) => Duration::ZERO,
            Ok(Progress::Idle) | Err(_) => PAUSE_MAX,
        };
        let pause = (!pause.is_zero()).then(|| unsealed.clock.sleep(pause));
        drop(unsealed);
        let Some(pause) = pause else {
            tresor_env::tasks::breathe().await;
            continue;
        };
        tokio::select! {
            biased;
            () = pause => {}
            () = gate.closed() => return,
        }
    }
}

/// Whether there may be more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something was done.
    More,
    /// Nothing was due.
    Idle,
}

/// Does one small piece of each kind of work that is due, so that none waits for another to be done.
///
/// # Errors
/// When the store fails; the piece is done again later.
pub(crate) async fn step(unsealed: &Unsealed) -> Result<Progress, Fault> {
    if let Err(fault) = unsealed.catch_up().await {
        // What cannot be loaded keeps nothing else from ending.
        tracing::warn!(cause = ?fault, "caches could not follow a commit and will try again");
    }
    let namespace = NamespaceId::root();
    let mut progress = Progress::Idle;
    let mut failed = None;
    if let Err(fault) = unsealed.handles.tokens.look_ahead(|| unsealed.begin(), unsealed.clock.now()) {
        failed = Some(fault);
    }
    let every: [(&'static str, Work); 5] = [
        ("sys/tokens/expired", expire),
        ("sys/tokens/collected", collect::marks),
        ("", collect::wipe),
        ("sys/tokens/expired", jobs::step),
        ("", clock::mark),
    ];
    for (reason, work) in every {
        match piece(unsealed, &namespace, reason, work).await {
            Ok(Progress::Idle) => {}
            Ok(Progress::More) => progress = Progress::More,
            // One kind of work that fails keeps no other from being done.
            Err(fault) => failed = Some(fault),
        }
    }
    failed.map_or(Ok(progress), Err)
}

/// One kind of work: it counts the tokens that it revokes.
type Work = fn(&Unsealed, &mut Txn, &NamespaceId, &mut u64) -> Result<Progress, Fault>;

async fn piece(
    unsealed: &Unsealed,
    namespace: &NamespaceId,
    reason: &'static str,
    work: Work,
) -> Result<Progress, Fault> {
    let mut txn = unsealed.begin()?;
    let mut revoked = 0;
    if work(unsealed, &mut txn, namespace, &mut revoked)? == Progress::Idle {
        return Ok(Progress::Idle);
    }
    match unsealed.commit(txn).await {
        Ok(()) => {
            if revoked > 0 {
                summary::record(unsealed, reason, revoked).await;
            }
            Ok(Progress::More)
        }
        // Somebody else (a renewal, a revocation) was faster: look again.
        Err(CommitFault::Conflict) => Ok(Progress::More),
        Err(other) => Err(other.into()),
    }
}

/// Revokes tokens whose time is over.
fn expire(unsealed: &Unsealed, txn: &mut Txn, namespace: &NamespaceId, revoked: &mut u64) -> Result<Progress, Fault> {
    let now = unsealed.clock.now();
    let ends = keys::token_ends(namespace).map_err(Fault::internal)?;
    let Some(bucket) = index::first_due(txn, &ends, now)? else { return Ok(Progress::Idle) };
    let aside = keys::set_aside(namespace).map_err(Fault::internal)?;
    let Some(names) = index::page(txn, &bucket, &aside, step_max(unsealed), now)? else {
        unsealed.handles.leases.order(txn, record::JobWork::TidyTokens, "", now, &*unsealed.doors.entropy)?;
        return Ok(Progress::More);
    };
    for name in names {
        let hash = tokens::hash_of(&name).unwrap_or(&name);
        match read_token(txn, namespace, hash)? {
            Readable::Yes(record) if record.is_expired(now) => {
                let found = unsealed.handles.tokens.as_stored(hash, Arc::from(record));
                unsealed.handles.tokens.revoke(txn, &found, now)?;
                *revoked += 1;
            }
            // Renewed or gone since: the entry is a leftover.
            Readable::Yes(_) | Readable::Gone => {}
            Readable::No(reason) => {
                index::set_aside(txn, &aside, &name, reason, now)?;
            }
        }
        txn.leave(&bucket.key(&name).map_err(Fault::internal)?);
    }
    Ok(Progress::More)
}

/// A record that somebody looked for in the index.
enum Readable<T> {
    Yes(Box<T>),
    Gone,
    /// It is there and cannot be read, for this reason.
    No(String),
}

fn read_token(txn: &mut Txn, namespace: &NamespaceId, hash: &str) -> Result<Readable<TokenRecord>, Fault> {
    let key = keys::token(namespace, hash).map_err(Fault::internal)?;
    readable(txn.read(&key))
}

/// Tells a damaged record, which will not mend, from a store that fails and may.
fn readable<T: Record>(read: Result<Option<Plaintext>, BarrierError>) -> Result<Readable<T>, Fault> {
    match read {
        Ok(None) => Ok(Readable::Gone),
        Ok(Some(bytes)) => Ok(match T::decode(&bytes) {
            Ok(record) => Readable::Yes(Box::new(record)),
            Err(error) => Readable::No(error.to_string()),
        }),
        Err(error) if error.is_damage() => Ok(Readable::No(error.to_string())),
        Err(error) => Err(Fault::internal(error)),
    }
}
