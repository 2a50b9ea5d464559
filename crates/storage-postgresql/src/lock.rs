//! Which of several processes that share a store writes: a row with an end, by the clock of the database.
//!
//! Whoever may write takes the row when its end has passed, and the store with it in the same statement, so that whatever the one
//! before still sends does nothing. Whoever has it moves the end each second. So an end that is too early, a clock that jumps or
//! a process that stood still cost a change of who writes, and never a write. Deliberately absent: what processes say of
//! themselves, and any use of a process's own clock but for giving up what it could not keep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::{Row, Statement};
use tresor_env::{Clock, Signal};

use crate::history::Moment;
use crate::lane::Lane;
use crate::link::Link;
use crate::rounds::Rounds;
use crate::settings::RETRY;
use crate::store::Inner;
use crate::trouble::Trouble;
use crate::writer::{make_tables, milliseconds};

/// For how long the lock is somebody's after it was kept last.
pub(crate) const LIFE: Duration = Duration::from_secs(5);
/// How often whoever has it keeps it.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// How often everybody else looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// For how long a process is not there before it is taken for gone: one that connects anew keeps the lock.
const GONE_AFTER: Duration = Duration::from_secs(2);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// How long a process that goes away waits until it has given the lock back.
const PART_WITHIN: Duration = Duration::from_secs(2);

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// It stands by.
    #[default]
    Standby,
    /// It has the lock, and follows what others wrote.
    Coming {
        /// In which term.
        term: i64,
    },
    /// It writes.
    Active {
        /// In which term. Nobody else ever writes in it.
        term: i64,
    },
}

/// Another process, as it said it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// What it says of itself.
    pub contact: Vec<u8>,
    /// How long ago it was heard.
    pub heard_ago: Duration,
}

/// What was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What this process does.
    pub part: Part,
    /// Who has the lock now; nobody, when its end has passed or the server is not reached.
    pub holder: Option<i64>,
    /// Who was heard in the last minute.
    pub processes: BTreeMap<i64, Process>,
    /// How often was looked.
    pub looks: u64,
}

/// What this process is to do about it.
#[derive(Default)]
struct Wish {
    /// What it says of itself while it may write.
    announced: Option<Vec<u8>>,
    /// It lets others try first, until then.
    aside_until: Option<Duration>,
    is_leaving: bool,
}

#[derive(Default)]
struct State {
    part: Part,
    /// When the lock was kept last, by the monotonic clock: the moment of asking.
    kept_at: Duration,
    /// The same of the last look that was answered.
    looked_at: Duration,
    /// Others share the store by another lock.
    is_fenced: bool,
    /// Whoever has the lock and is not there, and since when that is seen.
    missed: Option<(i64, Duration)>,
}

/// The lock, as one process sees it.
pub struct Lock {
    me: i64,
    wish: Mutex<Wish>,
    state: Mutex<State>,
    seen: Signal<Seen>,
    woken: Notify,
    pub(crate) rounds: Rounds,
}

impl Lock {
    pub(crate) fn new(me: i64) -> Self {
        Self {
            me,
            wish: Mutex::default(),
            state: Mutex::default(),
            seen: Signal::default(),
            woken: Notify::new(),
            rounds: Rounds::default(),
        }
    }

    /// The number of this process, which no other has.
    #[must_use]
    pub const fn me(&self) -> i64 {
        self.me
    }

    /// What was seen last.
    #[must_use]
    pub const fn seen(&self) -> &Signal<Seen> {
        &self.seen
    }

    /// From now on this process may write, and says this of itself; or it may not, and gives back what it has.
    pub fn announce(&self, contact: Option<Vec<u8>>) {
        self.wish().announced = contact;
        self.wake();
    }

    /// Gives the lock back, and lets others try first until then, by the monotonic clock.
    pub fn step_aside(&self, until: Duration) {
        self.wish().aside_until = Some(until);
        self.wake();
    }

    /// Ends that.
    pub fn come_back(&self) {
        self.wish().aside_until = None;
        self.wake();
    }

    /// Gives the lock back for good; completes when it is, or when nobody knows.
    pub async fn leave(&self, clock: &dyn Clock) {
        self.wish().is_leaving = true;
        self.wake();
        let is_given_back = self.seen.wait_for(|seen| (seen.part == Part::Standby).then_some(()));
        within(clock, is_given_back).await;
    }

    /// The same, and is not heard any more.
    pub async fn part_for_good(&self, clock: &dyn Clock) {
        self.wish().is_leaving = true;
        let looks = self.seen.read(|seen| seen.looks);
        self.announce(None);
        // The look that was under way does not count.
        within(clock, self.seen.wait_for(|seen| (seen.looks > looks + 1).then_some(()))).await;
    }

    /// Completes after the first look, or when that takes long.
    pub(crate) async fn looked(&self, lane: &Lane) {
        let looked = self.seen.wait_for(|seen| (seen.looks > 0).then_some(()));
        lane.within(LOOK_MAX, looked).await;
    }

    /// Looks now.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn part(&self) -> Part {
        self.state().part
    }

    /// Whether others share the store by another lock, as the last look found.
    pub(crate) fn is_fenced(&self) -> bool {
        self.state().is_fenced
    }

    /// It has followed everything, and writes, if it has the lock in that term still.
    pub(crate) fn begin(&self, term: i64) {
        let mut state = self.state();
        if state.part == (Part::Coming { term }) {
            state.part = Part::Active { term };
        }
    }

    /// It has the lock of a store that nobody has initialised: there is nothing to follow.
    pub(crate) fn found(&self, term: i64, at: Duration) {
        *self.state() = State { part: Part::Active { term }, kept_at: at, looked_at: at, ..State::default() };
    }

    /// What it may say of itself and do at a moment.
    fn wanted(&self, now: Duration) -> Wanted {
        let mut wish = self.wish();
        if wish.aside_until.is_some_and(|until| until <= now) {
            wish.aside_until = None;
        }
        let announced = wish.announced.clone();
        Wanted { may_write: announced.is_some() && wish.aside_until.is_none() && !wish.is_leaving, announced }
    }

    /// Whoever had the lock and was not there at a look, and at those before it for long enough.
    fn gone(&self, found: &Found, asked_at: Duration) -> Option<i64> {
        let mut state = self.state();
        let missing = Some(found.holder).filter(|holder| !found.is_there && *holder != 0);
        let since = state.missed.filter(|(who, _)| Some(*who) == missing).map_or(asked_at, |(_, since)| since);
        state.missed = missing.map(|who| (who, since));
        missing.filter(|_| asked_at.saturating_sub(since) >= GONE_AFTER)
    }

    /// It does not write any more, if it does in this term.
    fn end(&self, term: i64) {
        let mut state = self.state();
        if term_of(state.part) == Some(term) {
            state.part = Part::Standby;
        }
    }

    fn publish(&self, holder: Option<i64>, processes: Option<BTreeMap<i64, Process>>) {
        let part = self.part();
        self.seen.update(|seen| {
            seen.part = part;
            seen.holder = holder;
            seen.looks += 1;
            if let Some(processes) = processes {
                seen.processes = processes;
            }
        });
    }
}

async fn within(clock: &dyn Clock, done: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = done => {}
        () = clock.sleep(PART_WITHIN) => {}
    }
}

const fn term_of(part: Part) -> Option<i64> {
    match part {
        Part::Standby => None,
        Part::Coming { term } | Part::Active { term } => Some(term),
    }
}

struct Wanted {
    announced: Option<Vec<u8>>,
    may_write: bool,
}

/// The connection that it is seen over.
struct Watch {
    link: Link,
    announcing: Statement,
    parting: Statement,
    giving_back: Statement,
    forgetting: Statement,
}

/// What a look found.
struct Found {
    holder: i64,
    term: i64,
    is_over: bool,
    is_kept: bool,
    /// Whether a session of whoever has it is there.
    is_there: bool,
    processes: BTreeMap<i64, Process>,
}

impl Found {
    fn read(rows: &[Row]) -> Result<Self, Trouble> {
        let damaged = |error: tokio_postgres::Error| Trouble::Damaged(error.to_string());
        let mut found = None;
        let mut processes = BTreeMap::new();
        for row in rows {
            let (id, milliseconds): (i64, i64) = (row.try_get(0).map_err(damaged)?, row.try_get(4).map_err(damaged)?);
            if id == 0 {
                let kept: i64 = row.try_get(5).map_err(damaged)?;
                found = Some(Self {
                    holder: row.try_get(1).map_err(damaged)?,
                    term: row.try_get(2).map_err(damaged)?,
                    is_over: milliseconds < 0,
                    is_kept: kept > 0,
                    is_there: row.try_get(6).map_err(damaged)?,
                    processes: BTreeMap::new(),
                });
            } else {
                let heard_ago = Duration::from_millis(u64::try_from(milliseconds.saturating_neg()).unwrap_or(0));
                processes.insert(id, Process { contact: row.try_get(3).map_err(damaged)?, heard_ago });
            }
        }
        let found = found.ok_or_else(|| Trouble::Damaged("the row of the lock is gone".to_owned()))?;
        Ok(Self { processes, ..found })
    }
}

/// Looks after the lock as long as the store is open, and holds the store only while it works.
pub(crate) async fn keep(store: Weak<Inner>, lock: Arc<Lock>) {
    let (mut watch, mut was_there) = (None, true);
    loop {
        let Some(open) = store.upgrade() else { return };
        let pause = match look(&open, &lock, &mut watch).await {
            Ok(()) => {
                was_there = true;
                if lock.part() == Part::Standby { LOOK_EVERY } else { KEEP_EVERY }
            }
            Err(trouble) => {
                watch = None;
                let is_fenced = trouble == Trouble::Fenced;
                let was_fenced = std::mem::replace(&mut lock.state().is_fenced, is_fenced);
                if is_fenced && !was_fenced {
                    tracing::error!("{}: what this server would write is fenced off", trouble.of_store(&open.name));
                } else if was_there {
                    tracing::warn!(store = %open.name, ?trouble, "the lock of the store is not reached; tried again");
                }
                was_there = false;
                unreached(&open, &lock);
                RETRY
            }
        };
        open.unpin_old();
        let pause = open.lane.doors.clock.sleep(pause);
        drop(open);
        tokio::select! {
            () = pause => {}
            () = lock.woken.notified() => {}
        }
    }
}

/// The server does not answer: whoever could not keep the lock for its life does not take it for its own, and who could not look
/// for so long does not know who has it.
fn unreached(store: &Inner, lock: &Lock) {
    let (part, kept_at, looked_at) = {
        let state = lock.state();
        (state.part, state.kept_at, state.looked_at)
    };
    let is_over = |since: Duration| store.moment().saturating_sub(since) > LIFE;
    match term_of(part) {
        Some(term) if is_over(kept_at) => {
            lock.end(term);
            lock.publish(None, None);
        }
        Some(_) => lock.publish(Some(lock.me), None),
        None if is_over(looked_at) => lock.publish(None, None),
        None => {}
    }
}

async fn look(store: &Arc<Inner>, lock: &Arc<Lock>, watch: &mut Option<Watch>) -> Result<(), Trouble> {
    let lane = &store.lane;
    let asked_at = store.moment();
    let wanted = lock.wanted(asked_at);
    let part = lock.part();
    if let (Some(term), false) = (term_of(part), wanted.may_write) {
        // From here on nothing more is sent; what was sent before is done, or comes to nothing.
        lock.end(term);
        let given = lane.within(LOOK_MAX, give_back(store, lock, watch, term)).await;
        given.unwrap_or_else(|| Err(Trouble::late()))?;
        tracing::info!(store = %store.name, term, "the lock of the store is given back");
    }
    let found = lane.within(LOOK_MAX, seen(store, lock, watch, &wanted)).await;
    let found = found.unwrap_or_else(|| Err(Trouble::late()))?;
    if lock.part() == Part::Standby {
        // Whoever writes hears it with what it reads and writes.
        store.is_ours(asked_at);
    }
    (lock.state().looked_at, lock.state().is_fenced) = (asked_at, false);
    match term_of(lock.part()) {
        Some(_) if found.is_kept => lock.state().kept_at = asked_at,
        // One that was taken while it was looked is found by the next look.
        Some(term) if term <= found.term => {
            lock.end(term);
            tracing::warn!(store = %store.name, term, "the lock of the store was lost");
        }
        _ => {}
    }
    let gone = lock.gone(&found, asked_at);
    let is_free = found.is_over || found.holder == lock.me || gone.is_some();
    if lock.part() == Part::Standby && wanted.may_write && is_free {
        // Where it takes longer it may be ours nevertheless, which the next look finds.
        let taken = lane.within(LIFE, store.writer.take_over(lane, &store.settings, LIFE, gone)).await;
        if let Some((term, now)) = taken.unwrap_or_else(|| Err(Trouble::late()))? {
            *lock.state() =
                State { part: Part::Coming { term }, kept_at: asked_at, looked_at: asked_at, ..State::default() };
            come(store, lock, term, now);
            lock.publish(Some(lock.me), Some(found.processes));
            return Ok(());
        }
    }
    let holder = match term_of(lock.part()) {
        Some(_) => Some(lock.me),
        None => Some(found.holder).filter(|holder| !found.is_over && *holder != 0 && *holder != lock.me),
    };
    lock.publish(holder, Some(found.processes));
    Ok(())
}

/// Those who watch follow where blocking is allowed; the lock is kept meanwhile.
fn come(store: &Arc<Inner>, lock: &Arc<Lock>, term: i64, now: Moment) {
    let (coming, lock) = (Arc::clone(store), Coming { lock: Arc::clone(lock), term });
    store.lane.doors.workers.tidy_up(Box::new(move || coming.come_to_write(&lock.lock, term, now)));
}

/// Whoever fails on the way leaves the lock to others.
struct Coming {
    lock: Arc<Lock>,
    term: i64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        if self.lock.part() == (Part::Coming { term: self.term }) {
            self.lock.end(self.term);
        }
    }
}

async fn give_back(store: &Inner, lock: &Lock, watch: &mut Option<Watch>, term: i64) -> Result<(), Trouble> {
    let watch = connected(store, lock, watch).await?;
    watch.link.change(&watch.giving_back, &[&lock.me, &term]).await.map(drop)
}

async fn seen(store: &Inner, lock: &Lock, watch: &mut Option<Watch>, wanted: &Wanted) -> Result<Found, Trouble> {
    let term = term_of(lock.part());
    let watch = connected(store, lock, watch).await?;
    let rows = match &wanted.announced {
        Some(contact) => {
            let (term, life) = (term.unwrap_or(-1), milliseconds(LIFE));
            watch.link.rows(&watch.announcing, &[&lock.me, contact, &term, &life]).await?
        }
        None => watch.link.rows(&watch.parting, &[&lock.me]).await?,
    };
    let found = Found::read(&rows)?;
    if found.is_kept {
        watch.link.change(&watch.forgetting, &[]).await?;
    }
    Ok(found)
}

async fn connected<'w>(store: &Inner, lock: &Lock, watch: &'w mut Option<Watch>) -> Result<&'w Watch, Trouble> {
    if watch.as_ref().is_none_or(|watch| watch.link.is_closed()) {
        *watch = None;
        let (lane, settings) = (&store.lane, &store.settings);
        let table = settings.lock_table().ok_or_else(Trouble::late)?;
        let link = Link::open(lane, settings).await?;
        if link.text(&table.sharing()).await? != "t" {
            return Err(Trouble::Unreachable("another server has the store to itself".to_owned()));
        }
        // Somebody may have emptied or dropped it: nobody leads until it is there again.
        make_tables(&link, settings).await?;
        link.run(&table.beginning()).await?;
        // Of two that come at once, the second sees the first.
        link.run(&format!("BEGIN; {}", table.marking(lock.me))).await?;
        if link.text(&table.others()).await? != "false" {
            return Err(Trouble::Fenced);
        }
        link.run("COMMIT").await?;
        *watch = Some(Watch {
            announcing: link.prepare(&table.announcing()).await?,
            parting: link.prepare(&table.parting()).await?,
            giving_back: link.prepare(&table.giving_back()).await?,
            forgetting: link.prepare(&table.forgetting()).await?,
            link,
        });
    }
    watch.as_ref().ok_or_else(Trouble::late)
}
