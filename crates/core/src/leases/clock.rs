//! The latest time that any process of this server told, kept about once a minute.
//!
//! A wall clock that is set back while the server is down would lengthen every life: the next process tells no earlier
//! time than this mark. In a cluster the leader writes it every few seconds, and it is how the others have the leader's
//! time. Deliberately absent: any doubt about a clock that was set far ahead; its time has passed.

use std::time::Duration;

use tresor_barrier::{Changed, KeyPrefix, Txn};
use tresor_env::SteadyClock;
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;

use super::{Doing, Progress};
use crate::keys;
use crate::unsealed::Unsealed;

/// How far the mark may lag behind.
const LAG: Duration = Duration::from_secs(60);

/// The mark as it is stored.
#[derive(Record)]
#[record(kind = "clock", version = 1)]
struct ClockRecord {
    told: Timestamp,
}

fn read(txn: &mut Txn) -> Result<Option<Timestamp>, Fault> {
    let Some(bytes) = txn.read(&keys::clock().map_err(Fault::internal)?).map_err(Fault::internal)? else {
        return Ok(None);
    };
    Ok(Some(ClockRecord::decode(&bytes).map_err(Fault::internal)?.told))
}

/// Lets the clock go on from the mark.
///
/// # Errors
/// When the store fails or the mark is damaged.
pub(crate) fn resume(txn: &mut Txn, clock: &SteadyClock) -> Result<(), Fault> {
    let Some(told) = read(txn)? else { return Ok(()) };
    let behind = told.since(clock.now()).as_secs();
    if behind > 0 {
        tracing::warn!(seconds = behind, "the clock of this machine was set back; time goes on from where it was");
    }
    clock.not_before(told);
    Ok(())
}

/// From now on the node has the time of whoever leads; what the last one told is known from the start. Where nothing more is heard of
/// it, because there is no log, the node's own clock is nearer to it.
///
/// # Errors
/// When the store fails or the mark is damaged.
pub(crate) fn stand_by(unsealed: &Unsealed) -> Result<(), Fault> {
    if unsealed.clock.stand_by()
        && let Some(told) = read(&mut unsealed.begin()?)?
    {
        let own = unsealed.clock.now();
        unsealed.clock.hear(if unsealed.handles.cluster.has_log() { told } else { told.max(own) });
    }
    Ok(())
}

/// The time that the nodes of a cluster have in common.
pub(crate) struct CommonTime {
    clock: SteadyClock,
    mark: KeyPrefix,
    /// Whether each mark is heard when it is told. Where there is no log it is heard when somebody else begins to lead, and what
    /// this node bridged meanwhile is nearer to the time.
    is_heard_at_once: bool,
}

impl CommonTime {
    /// It is told by this clock.
    ///
    /// # Errors
    /// Never: the name of the mark is one.
    pub(crate) fn new(clock: SteadyClock, is_heard_at_once: bool) -> Result<Self, Fault> {
        Ok(Self { is_heard_at_once, clock, mark: keys::times().map_err(Fault::internal)? })
    }

    /// Below what the mark lies.
    pub(crate) fn wants(&self) -> KeyPrefix {
        self.mark.clone()
    }

    /// Takes the time from the mark when that may have changed; who leads has its own.
    ///
    /// # Errors
    /// When the store fails or the mark is damaged.
    pub(crate) fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        if changed.touches(&self.mark)
            && let Some(told) = read(txn)?
        {
            self.clock.hear(if self.is_heard_at_once { told } else { told.max(self.clock.now()) });
        }
        Ok(())
    }
}

/// Writes the mark, and gives back what it says.
///
/// # Errors
/// When the transaction takes no more.
pub(crate) fn tell(txn: &mut Txn, now: Timestamp) -> Result<Timestamp, Fault> {
    let key = keys::clock().map_err(Fault::internal)?;
    txn.write(&key, &ClockRecord { told: now }.encode()).map_err(Fault::internal)?;
    Ok(now)
}

/// Whether the mark says this time, or a later one.
///
/// # Errors
/// When the store fails or the mark is damaged.
pub(crate) fn has_told(txn: &mut Txn, told: Timestamp) -> Result<bool, Fault> {
    Ok(read(txn)?.is_some_and(|stored| stored >= told))
}

/// Moves the mark, when it lags.
pub(super) fn mark(unsealed: &Unsealed, txn: &mut Txn, _doing: &mut Doing) -> Result<Progress, Fault> {
    let now = unsealed.clock.now();
    if read(txn)?.is_some_and(|told| now.since(told) < LAG) {
        return Ok(Progress::Idle);
    }
    tell(txn, now)?;
    // There is nothing more to do: the next look is in a second.
    Ok(Progress::More)
}
