//! What ends, and what is collected afterwards.
//!
//! The time-ordered index lies in the store ([`index`]): memory holds nothing per lease. A background task takes tokens
//! that are due, in order and in small transactions, and collects what revoked tokens and removed mounts left behind
//! ([`collect`]); another asks engines to take back what they handed out ([`revoke`]). Each step is idempotent, so a
//! crash anywhere is mended by doing it again. While requests are running they work in small steps, which are committed
//! together with what requests commit: what is over is refused anyway, so collecting it may take minutes.
//! Invariant: nothing here decides whether a token is valid; an expired or orphaned one is refused by its record,
//! whether or not this task has come by. Deliberately absent: one timer per lease.

pub mod abandoned;
pub(crate) mod at_once;
pub(crate) mod awaited;
pub(crate) mod clock;
mod collect;
mod counting;
mod crew;
mod hurry;
pub mod index;
pub(crate) mod intents;
mod interrupted;
pub mod jobs;
pub(crate) mod leaving;
mod names;
mod outage;
pub(crate) mod parked;
pub mod record;
pub(crate) mod renewing;
pub mod retried;
mod revoke;
pub mod secrets;
pub mod targets;
pub mod tree;
mod unsettled;
pub mod waiting;
pub(crate) mod wakes;

pub(crate) use collect::every_below;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_barrier::{BarrierError, Lane, Plaintext, Txn};
use tresor_model::{Body, Fault, Operation, map};
use tresor_record::Record;

use crate::deeds;
use crate::gate::Gate;
use crate::keys;
use crate::mounts::{moving, taking_over};
use crate::namespaces::erasure;
use crate::tokens;
use crate::tokens::record::TokenRecord;
use crate::unsealed::{CommitFault, Unsealed};

/// How much a background task does at a time, and how long it rests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How many things one transaction touches at most: what comes while it is committed waits for it.
    step_max: usize,
    /// A step is followed by a pause of so many times its own length.
    rest: u32,
    /// How its transactions are committed.
    lane: Lane,
}

/// When nobody asks for anything.
const CALM: Pace = Pace { step_max: 128, rest: 0, lane: Lane::Requests };
/// While so few requests come that few of them meet a step: whoever waits for a mount that is taken over or wiped asks once in a
/// while whether it is done.
const BESIDE_FEW: Pace = Pace { step_max: 64, rest: 1, lane: Lane::Requests };
/// How many requests in a second are few.
const FEW: u64 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// While requests run.
const BESIDE_REQUESTS: Pace = Pace { step_max: 8, rest: 2, lane: Lane::Background };
/// The longest pause between two looks at the index.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pause after a step that failed, and after how many in a row it doubles: a store that fails often is asked again soon,
/// because a step needs several of its calls to succeed; one that is dead is left alone after a few seconds.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(2);
const FAILURES_TO_DOUBLE: u32 = 8;
/// So long after the last request it is calm: requests come with gaps, and a long step in a gap is met by the next one.
const CALM_AFTER: Duration = Duration::from_secs(1);

/// The background tasks, each until the node is sealed or gone.
pub(crate) fn start(node: &std::sync::Arc<Unsealed>, tasks: &tresor_env::Tasks) {
    let (weak, gate) = (std::sync::Arc::downgrade(node), node.gate.clone());
    tasks.spawn(run(weak.clone(), gate.clone()));
    tasks.spawn(revoke::run(weak.clone(), gate.clone()));
    tasks.spawn(wakes::run(weak.clone(), gate.clone()));
    tasks.spawn(interrupted::run(weak.clone(), gate.clone()));
    tasks.spawn(erasure::run(weak, gate));
}

/// Tells whether requests run, from the numbers of those that came.
struct Traffic {
    entered: u64,
    /// When the last one was seen, and the one before that.
    since: Option<Duration>,
    before: Option<Duration>,
    /// Since when those that come are counted, how many had come by then, and how many came in the second before.
    counted: (Duration, u64),
    lately: u64,
}

impl Traffic {
    const fn new() -> Self {
        Self { entered: 0, since: None, before: None, counted: (Duration::ZERO, 0), lately: 0 }
    }

    /// How many came in a second of late: in the last whole one, or in the one that runs.
    fn in_a_second(&mut self, entered: u64, now: Duration) -> u64 {
        let (since, before) = self.counted;
        let came = entered.saturating_sub(before);
        if now.saturating_sub(since) >= SECOND {
            (self.counted, self.lately) = ((now, entered), came);
        }
        came.max(self.lately)
    }

    fn pace(&mut self, gate: &Gate, now: Duration) -> Pace {
        let (is_anybody_inside, entered) = gate.traffic();
        if entered > self.entered {
            (self.before, self.since) = (self.since, Some(now));
        } else if entered < self.entered {
            // Who was seen only waits for this.
            self.since = self.before;
        }
        if is_anybody_inside {
            self.since = Some(now);
        }
        self.entered = entered;
        let in_a_second = self.in_a_second(entered, now);
        let is_calm = self.since.is_none_or(|since| now.saturating_sub(since) >= CALM_AFTER);
        match in_a_second {
            _ if is_calm => CALM,
            0..=FEW => BESIDE_FEW,
            _ => BESIDE_REQUESTS,
        }
    }
}

/// The background task for everything that asks nobody. It holds the node only while it works.
async fn run(node: Weak<Unsealed>, gate: Gate) {
    let (mut traffic, mut failed) = (Traffic::new(), 0_u32);
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        let begun = unsealed.doors.clock.monotonic();
        let hurry = Arc::clone(unsealed.handles.leases.hurry());
        let wanted = hurry.wanted();
        let pace = traffic.pace(&gate, begun);
        let progress = step(&unsealed, pace).await;
        if matches!(progress, Ok(Progress::More)) && gate.is_waited_in() {
            // Engines may have to be asked now, and perhaps it was the last that somebody waits for.
            hurry.want();
            hurry.end();
        }
        failed = if progress.is_err() { failed.saturating_add(1) } else { 0 };
        match &progress {
            Ok(_) => outage::went_well(&unsealed),
            Err(fault) => outage::tell(&unsealed, fault, "expiry and collection will try again"),
        }
        let took = unsealed.doors.clock.monotonic().saturating_sub(begun);
        let pause = match progress {
            Ok(Progress::More) => took.saturating_mul(pace.rest).min(PAUSE_MAX),
            Ok(Progress::Idle) => PAUSE_MAX,
            Err(_) => pause_after(failed),
        };
        let is_idle = matches!(progress, Ok(Progress::Idle));
        let pause = (!pause.is_zero()).then(|| unsealed.clock.sleep(pause));
        drop(unsealed);
        let Some(pause) = pause else {
            tresor_env::tasks::breathe().await;
            continue;
        };
        tokio::select! {
            biased;
            () = pause => {}
            () = hurry.wanted_after(wanted), if is_idle => {}
            () = gate.closed() => return,
        }
    }
}

/// The pause after so many failures in a row.
fn pause_after(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures / FAILURES_TO_DOUBLE).unwrap_or(u32::MAX);
    PAUSE_AFTER_FAILURE.saturating_mul(doubled).min(PAUSE_MAX)
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
pub(crate) async fn step(unsealed: &Unsealed, pace: Pace) -> Result<Progress, Fault> {
    let mut progress = Progress::Idle;
    let mut failed = tend(unsealed).await.err();
    let opened = unsealed.handles.spaces.finish_opening(unsealed.clock.now(), &*unsealed.doors.entropy).await;
    failed = failed.or(opened.err());
    let every: [(&'static str, Work); 8] = [
        ("sys/tokens/expired", expire),
        ("sys/tokens/collected", collect::marks),
        ("", collect::wipe),
        ("", take_over),
        ("sys/tokens/collected", leaving::step),
        ("sys/tokens/expired", jobs::step),
        ("", counting::step),
        ("", clock::mark),
    ];
    for (reason, work) in every {
        match piece(unsealed, pace, reason, work).await {
            Ok(Progress::Idle) => {}
            Ok(Progress::More) => progress = Progress::More,
            // One kind of work that fails keeps no other from being done.
            Err(fault) => failed = Some(fault),
        }
    }
    after(progress, failed)
}

/// Looks after what is in memory, on every node: what was committed and could not be followed, and which tokens end next.
///
/// # Errors
/// When the store fails.
pub(crate) async fn tend(unsealed: &Unsealed) -> Result<(), Fault> {
    if let Err(fault) = unsealed.catch_up().await {
        // What cannot be loaded keeps nothing else from ending.
        outage::tell(unsealed, &fault, "caches could not follow a commit and will try again");
    }
    unsealed.handles.tokens.look_ahead(|| unsealed.begin(), unsealed.clock.now()).await
}

/// What to do next after some work that was done and some that failed: what goes forward goes on, and only when nothing
/// does is it left alone for a while.
fn after(progress: Progress, failed: Option<Fault>) -> Result<Progress, Fault> {
    match failed {
        Some(fault) if progress == Progress::More => {
            tracing::warn!(%fault, cause = ?fault, "some of what is over was not collected and will be tried again");
            Ok(progress)
        }
        Some(fault) => Err(fault),
        None => Ok(progress),
    }
}

/// One kind of work: it touches as many things as it may, and counts the tokens that it revokes.
type Work = fn(&Unsealed, &mut Txn, &mut Doing) -> Result<Progress, Fault>;

/// What one transaction of the background task may do, and did.
struct Doing {
    /// How many things it may touch.
    step_max: usize,
    /// How many tokens it revoked.
    revoked: u64,
    /// Leases that it forgot without their being revoked.
    abandoned: Vec<String>,
}

impl Doing {
    const fn new(step_max: usize) -> Self {
        Self { step_max, revoked: 0, abandoned: Vec::new() }
    }

    /// Records what was done, once it is committed.
    async fn tell(self, unsealed: &Unsealed, reason: &'static str) {
        if self.revoked > 0 {
            deeds::record(unsealed, reason, Operation::Delete, map! { "tokens" => self.revoked }).await;
        }
        if !self.abandoned.is_empty() {
            let leases: Vec<Body> = self.abandoned.into_iter().map(Body::from).collect();
            deeds::record(unsealed, "sys/leases/abandoned", Operation::Delete, map! { "leases" => leases }).await;
        }
    }
}

/// Somebody else was faster: it is looked at again.
fn stands(outcome: Result<(), CommitFault>) -> Result<(), Fault> {
    match outcome {
        Ok(()) | Err(CommitFault::Conflict) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

async fn piece(unsealed: &Unsealed, pace: Pace, reason: &'static str, work: Work) -> Result<Progress, Fault> {
    let mut txn = unsealed.begin()?;
    let mut doing = Doing::new(pace.step_max);
    if work(unsealed, &mut txn, &mut doing)? == Progress::Idle {
        return Ok(Progress::Idle);
    }
    match unsealed.commit_in(pace.lane, txn).await {
        Ok(()) => {
            doing.tell(unsealed, reason).await;
            Ok(Progress::More)
        }
        // Somebody else (a renewal, a revocation) was faster: look again.
        Err(CommitFault::Conflict) => Ok(Progress::More),
        Err(other) => Err(other.into()),
    }
}

/// Takes data of mounts over into another shape, or into another namespace.
fn take_over(unsealed: &Unsealed, txn: &mut Txn, doing: &mut Doing) -> Result<Progress, Fault> {
    let did_something =
        taking_over::step(unsealed, txn, doing.step_max)? || moving::step(unsealed, txn, doing.step_max)?;
    Ok(if did_something { Progress::More } else { Progress::Idle })
}

/// Revokes tokens whose time is over.
fn expire(unsealed: &Unsealed, txn: &mut Txn, doing: &mut Doing) -> Result<Progress, Fault> {
    let now = unsealed.clock.now();
    let ends = keys::token_ends().map_err(Fault::internal)?;
    let Some(bucket) = index::first_due(txn, &ends, now)? else { return Ok(Progress::Idle) };
    let aside = keys::set_aside().map_err(Fault::internal)?;
    let Some(names) = index::page(txn, &bucket, &aside, doing.step_max, now)? else {
        // What the bucket led to may lie in any namespace.
        for space in unsealed.handles.spaces.every() {
            let entropy = &*unsealed.doors.entropy;
            unsealed.handles.leases.order(txn, &space, record::JobWork::TidyTokens, "", now, entropy)?;
        }
        return Ok(Progress::More);
    };
    let (names, _) = parked::park(&unsealed.handles.spaces, txn, &bucket, names)?;
    for name in names {
        let hash = tokens::hash_of(&name).unwrap_or(&name);
        match read_token(txn, hash)? {
            Readable::Yes(record) if record.is_expired(now) => {
                let found = unsealed.handles.tokens.as_stored(hash, Arc::from(record));
                unsealed.handles.tokens.revoke(txn, &found, now)?;
                doing.revoked += 1;
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

fn read_token(txn: &mut Txn, hash: &str) -> Result<Readable<TokenRecord>, Fault> {
    let key = keys::token(hash).map_err(Fault::internal)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gap_between_requests_is_no_calm() {
        let (gate, mut traffic) = (Gate::default(), Traffic::new());
        let mut is_calm = |millis| traffic.pace(&gate, Duration::from_millis(millis)).rest == CALM.rest;
        assert!(is_calm(0), "nobody came yet");
        drop(gate.enter().unwrap());
        assert!(!is_calm(10) && !is_calm(1_000) && is_calm(1_010));
        let inside = gate.enter().unwrap();
        assert!(!is_calm(60_000) && !is_calm(120_000), "a request that takes long is a request");
        drop(inside);
        assert!(!is_calm(120_500) && is_calm(121_000));
        // Who waits for the background is none, even where it was seen before it began to wait.
        let waits = gate.enter().unwrap();
        assert!(!is_calm(200_000));
        let rests = gate.rest();
        assert!(is_calm(200_001));
        drop(gate.enter().unwrap());
        assert!(!is_calm(200_002) && is_calm(201_002));
        drop((rests, waits));
    }

    #[test]
    fn who_asks_once_in_a_while_keeps_nothing_from_being_done() {
        let (gate, mut traffic) = (Gate::default(), Traffic::new());
        let mut step = |requests: u64, millis| {
            (0..requests).for_each(|_| drop(gate.enter().unwrap()));
            traffic.pace(&gate, Duration::from_millis(millis)).step_max
        };
        for second in 1..10 {
            assert_eq!(step(2, second * 1_000), BESIDE_FEW.step_max);
        }
        assert_eq!(step(30, 10_100), BESIDE_REQUESTS.step_max, "at once");
        assert_eq!(step(1, 10_900), BESIDE_REQUESTS.step_max);
        assert_eq!(step(1, 11_000), BESIDE_REQUESTS.step_max, "within a second of that");
        assert_eq!(step(1, 11_200), BESIDE_FEW.step_max);
    }
}
