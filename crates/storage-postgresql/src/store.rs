//! The store: what a node knows of it in memory, and the way of each call to the server and back.
//!
//! Deliberately absent: statements, and who has the connections.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tresor_env::Doors;
use tresor_storage::machine::{Export, Install};
use tresor_storage::{Batch, Condition, RawKey, Snapshot, Store, StoreError, Stored, Version, Watcher, Watchers, Word};

use crate::export::Exporting;
use crate::history::{History, Moment, Was};
use crate::install::Restoring;
use crate::keeper;
use crate::lane::{Lane, blocking};
use crate::link::Link;
use crate::lock::{self, Lock, Part};
use crate::pin::Pin;
use crate::readers::{Found, Readers, Sought};
use crate::rounds::Rounds;
use crate::settings::{READ_MAX, SETTLE_MAX, Settings, TRUSTED_FOR, VOUCHED_FOR, WRITE_MAX};
use crate::trouble::Trouble;
use crate::writer::{Change, Done, Writer};

/// A store in a table of PostgreSQL.
pub struct PostgresStore(Arc<Inner>);

/// What is shared with snapshots, exports and who looks after it.
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) settings: Arc<Settings>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) writer: Arc<Writer>,
    readers: Arc<Readers>,
    known: Mutex<Known>,
    /// Told when a change that was under way is there, or is not.
    settled: Condvar,
    pub(crate) watchers: Watchers,
    syncs: AtomicU64,
    /// When the server last said that the store is ours, by the monotonic clock, in milliseconds.
    heard: AtomicU64,
    /// Another process has it: nothing is read or written any more.
    is_taken: AtomicBool,
    /// Whether there may be values of generations that count no more, or never did.
    pub(crate) has_remains: AtomicBool,
    /// The generation that a state on its way in is brought to.
    pub(crate) restoring: Mutex<Option<i64>>,
    /// Which of several processes writes, where they share the store.
    pub(crate) lock: Option<Arc<Lock>>,
    /// What a process that stands by reads from.
    pub(crate) pin: Mutex<Option<Arc<Pin>>>,
    /// Questions whose the store is, of a process that has it to itself.
    rounds: Rounds,
}

/// What is known of what is stored.
pub(crate) struct Known {
    pub(crate) history: History,
    /// A change is under way: what the server shows may be of after it.
    is_changing: bool,
    /// A change of which nobody knows what became.
    pub(crate) in_doubt: Option<Change>,
}

/// What a look at a server found, which changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The release of the server, as it tells it.
    pub server: String,
    /// Whether the tables are there.
    pub has_tables: bool,
    /// Whether a server has the store open.
    pub is_open: bool,
    /// Whether a commit waits for the disk: the value of `synchronous_commit`.
    pub synchronous_commit: String,
    /// How long a question and its answer take.
    pub round_trip: Duration,
}

impl PostgresStore {
    /// Opens a store. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open, [`StoreError::Unreachable`] when the server is not reached
    /// or does not let us in, [`StoreError::Damaged`] when what lies there is no store of this release.
    pub fn open(doors: &Doors, settings: Settings) -> Result<Self, StoreError> {
        let name = format!("table {}", settings.table);
        let lane = Lane::start(doors).map_err(|source| StoreError::Io { name: name.clone(), source })?;
        let (lane, settings) = (Arc::new(lane), Arc::new(settings));
        let owner = drawn(doors);
        let (opening, with) = (Arc::clone(&lane), Arc::clone(&settings));
        let opened = lane.wait(async move { Writer::open(&opening, &with, owner).await });
        let opened = opened.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| trouble.of_store(&name))?;
        let Some((writer, now)) = opened else { return Err(StoreError::Locked { name }) };
        let readers = Arc::new(Readers::new(&settings));
        let (reading, within, with) = (Arc::clone(&readers), Arc::clone(&lane), Arc::clone(&settings));
        // A server that lets nobody else in is not found out when somebody reads.
        let read = lane.wait(async move { reading.open(&within, &with).await });
        read.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| trouble.of_store(&name))?;
        let known = Known { history: History::new(now), is_changing: false, in_doubt: None };
        let lock = settings.lock.is_some().then(|| Arc::new(Lock::new(owner)));
        let inner = Arc::new(Inner {
            lock: lock.clone(),
            pin: Mutex::default(),
            name,
            readers,
            settings,
            lane,
            writer: Arc::new(writer),
            known: Mutex::new(known),
            settled: Condvar::new(),
            watchers: Watchers::default(),
            syncs: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            is_taken: AtomicBool::new(false),
            has_remains: AtomicBool::new(true),
            restoring: Mutex::new(None),
            rounds: Rounds::default(),
        });
        inner.is_ours(inner.moment());
        inner.lane.begin(keeper::keep(Arc::downgrade(&inner)));
        if let Some(lock) = lock {
            inner.lane.begin(lock::keep(Arc::downgrade(&inner), Arc::clone(&lock)));
            // From then on it keeps out who wants the store alone.
            let (waiting, within) = (Arc::clone(&lock), Arc::clone(&inner.lane));
            inner.lane.wait(async move { waiting.looked(&within).await });
        }
        Ok(Self(inner))
    }

    /// Which of several processes writes, where they share the store.
    #[must_use]
    pub fn lock(&self) -> Option<&Arc<Lock>> {
        self.0.lock.as_ref()
    }

    /// Completes when the server has said, to a question of after the call, that this process is the one that writes: then it
    /// has everything that was ever acknowledged.
    ///
    /// # Errors
    /// [`StoreError::Elsewhere`] when it is not, [`StoreError::Unreachable`].
    pub async fn confirm(&self) -> Result<(), StoreError> {
        self.0.confirm().await
    }

    /// Brings a process that stands by to what is stored now; those who watch follow. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`].
    pub fn refresh(&self) -> Result<(), StoreError> {
        self.0.refresh()
    }

    /// Looks at a server as an opening would, and changes nothing there. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`].
    pub fn probe(doors: &Doors, settings: Settings) -> Result<Probed, StoreError> {
        let name = format!("table {}", settings.table);
        let lane = Lane::start(doors).map_err(|source| StoreError::Io { name: name.clone(), source })?;
        let (lane, settings) = (Arc::new(lane), Arc::new(settings));
        let within = Arc::clone(&lane);
        let probed = lane.wait(async move {
            let looked = within.within(READ_MAX, async {
                let link = Link::open(&within, &settings).await?;
                let begun = within.doors.clock.monotonic();
                let server = link.text("SHOW server_version").await?;
                Ok(Probed {
                    round_trip: within.doors.clock.monotonic().saturating_sub(begun),
                    server,
                    has_tables: link.text(&settings.table.are_there()).await? == "t",
                    is_open: link.text(&settings.table.is_locked()).await? == "true",
                    synchronous_commit: link.text("SHOW synchronous_commit").await?,
                })
            });
            looked.await.unwrap_or_else(|| Err(Trouble::late()))
        });
        probed.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| trouble.of_store(&name))
    }
}

/// A number that nobody else has drawn.
pub(crate) fn drawn(doors: &Doors) -> i64 {
    let mut bytes = [0; 8];
    doors.entropy.fill(&mut bytes);
    i64::from_le_bytes(bytes)
}

impl Inner {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, by the clock that never goes back.
    pub(crate) fn moment(&self) -> Duration {
        self.lane.doors.clock.monotonic()
    }

    /// The server has said, to a question of then, that the store is ours.
    pub(crate) fn is_ours(&self, asked_at: Duration) {
        let asked = u64::try_from(asked_at.as_millis()).unwrap_or(u64::MAX);
        self.heard.fetch_max(asked, Ordering::AcqRel);
    }

    /// Another process has opened it.
    pub(crate) fn is_lost(&self) {
        if let Some(lock) = &self.lock {
            // Who looks after the lock finds out whether it is so.
            return lock.wake();
        }
        if !self.is_taken.swap(true, Ordering::AcqRel) {
            tracing::error!("{}", Trouble::Taken.of_store(&self.name));
        }
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Acquire)
    }

    /// What trouble means to whoever asked, when nothing was done.
    pub(crate) fn told(&self, trouble: Trouble) -> StoreError {
        if trouble == Trouble::Taken {
            self.is_lost();
            if self.lock.is_some() {
                return StoreError::Elsewhere { name: self.name.clone() };
            }
        }
        trouble.of_store(&self.name)
    }

    /// Whether this process writes, as far as it knows.
    pub(crate) fn writes(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| matches!(lock.part(), Part::Active { .. }))
    }

    /// Whether it stands by while another one writes.
    pub(crate) fn stands_by(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.part() == Part::Standby)
    }

    /// How long the server has said nothing.
    fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Acquire));
        self.moment().saturating_sub(heard)
    }

    /// Asks whose the store is; one question serves all that wait for one that begins after they came. Where there is no answer,
    /// what is in memory is trusted as long as ever.
    async fn vouch(&self) {
        if let Ok(false) = self.rounds.ask(|| self.is_the_writer()).await {
            self.is_lost();
        }
    }

    /// Refuses what is in memory when it may be out of date: another process may have opened the store.
    fn trusted(&self) -> Result<(), StoreError> {
        if self.is_taken() {
            return Err(Trouble::Taken.of_store(&self.name));
        }
        let silent = self.silent_for();
        if silent > TRUSTED_FOR {
            let why = format!("the server has not answered for {} seconds", silent.as_secs());
            return Err(Trouble::Unreachable(why).of_store(&self.name));
        }
        Ok(())
    }

    /// How far the store is.
    pub(crate) fn at(&self) -> Moment {
        self.known().history.now()
    }

    pub(crate) fn now(self: &Arc<Self>) -> Box<dyn Snapshot> {
        Box::new(At { moment: self.known().history.begin(), store: Arc::clone(self) })
    }

    /// Makes a change, of which those who watch have been told.
    pub(crate) fn make(&self, change: Change) -> Result<(), StoreError> {
        let before = {
            let mut known = self.known();
            if known.in_doubt.is_some() {
                let why = "what became of the change before is not known yet".to_owned();
                return Err(Trouble::Unreachable(why).of_store(&self.name));
            }
            let (now, follows) = (known.history.now(), change.follows());
            if follows != now.version {
                return Err(StoreError::VersionGap { batch: follows.next().0, store: now.version.0 });
            }
            known.is_changing = true;
            now
        };
        let asked_at = self.moment();
        let done = self.sent(before, &change);
        let mut known = self.known();
        known.is_changing = false;
        let told = match done {
            Done::There(old) => {
                known.take(&change, old);
                self.syncs.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Done::Not(trouble) => Err(trouble),
            Done::Unknown(why) => {
                known.in_doubt = Some(change);
                drop(known);
                self.settled.notify_all();
                let source = io::Error::new(io::ErrorKind::ConnectionAborted, why);
                return Err(StoreError::Uncertain { name: self.name.clone(), source });
            }
        };
        drop(known);
        self.settled.notify_all();
        match told {
            Ok(()) => {
                self.is_ours(asked_at);
                Ok(())
            }
            Err(trouble) => Err(self.told(trouble)),
        }
    }

    fn sent(&self, before: Moment, change: &Change) -> Done {
        let (lane, settings, writer) = (Arc::clone(&self.lane), Arc::clone(&self.settings), Arc::clone(&self.writer));
        let sent = change.clone();
        let done = self.lane.wait(async move { writer.make(&lane, &settings, before, &sent).await });
        done.unwrap_or_else(|| Done::Unknown("the thread of its connections failed".to_owned()))
    }

    /// What was in doubt, when the server says that the store is at `now`: the change when it is there.
    pub(crate) fn cleared_up(&self, now: Moment) -> Option<Change> {
        let mut known = self.known();
        let change = known.in_doubt.clone()?;
        if change.after(known.history.now()) == now {
            return Some(change);
        }
        known.in_doubt = None;
        tracing::warn!(store = %self.name, "a change of which nobody knew whether it was made was not");
        None
    }

    /// Takes a change that was in doubt and is there, and tells those who watch.
    pub(crate) fn follow(self: &Arc<Self>, change: Change) {
        tracing::warn!(store = %self.name, "a change of which nobody knew whether it was made was");
        let take = |change: Change| {
            let mut known = self.known();
            // It may have been told before.
            if known.in_doubt.take().is_some() {
                known.take(&change, change.lost());
            }
        };
        match change {
            Change::Batch(batch) => {
                self.watchers.around(Arc::clone(&batch), || self.now(), |batch| take(Change::Batch(batch)));
            }
            Change::Switch(..) => self.watchers.around_state(|| self.now(), || take(change)),
        }
    }

    /// The generations that are in use, or are to be.
    pub(crate) fn generations(&self) -> Vec<i64> {
        let coming = *self.restoring.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        let doubtful = known.in_doubt.as_ref().map(|change| change.after(known.history.now()).generation);
        known.history.generations().into_iter().chain(coming).chain(doubtful).collect()
    }

    /// What a key held at a moment, from what it holds now, at `shown`.
    fn then(
        &self,
        moment: Moment,
        key: &RawKey,
        shown: Version,
        found: Option<Stored>,
    ) -> Result<Option<Stored>, StoreError> {
        if found.as_ref().is_some_and(|stored| stored.version <= moment.version) || shown == moment.version {
            return Ok(found);
        }
        // The server may show a change whose answer is on its way.
        let known = blocking(|| {
            let is_behind = |known: &mut Known| known.is_changing && known.history.now().version < shown;
            let bound = WRITE_MAX + SETTLE_MAX;
            self.settled.wait_timeout_while(self.known(), bound, is_behind).unwrap_or_else(PoisonError::into_inner).0
        });
        let was = match &known.in_doubt {
            Some(change) if change.touches(key) => Was::Lost,
            _ => known.history.at(moment, key),
        };
        // Others have written what this process knows nothing of.
        let now = known.history.now();
        let is_further = known.in_doubt.as_ref().map_or(now, |change| change.after(now)).version < shown;
        drop(known);
        match was {
            Was::AsNow if is_further => Err(self.overwritten()),
            Was::AsNow => Ok(found),
            Was::Then(stored) => Ok(stored),
            Was::Lost => Err(self.overwritten()),
        }
    }

    fn overwritten(&self) -> StoreError {
        let why = "a value was overwritten, and what it was before is gone: ask again".to_owned();
        Trouble::Unreachable(why).of_store(&self.name)
    }

    /// Asks the server for a key.
    pub(crate) fn asked(
        &self,
        generation: i64,
        key: &RawKey,
        sought: Sought,
    ) -> impl Future<Output = Result<Found, Trouble>> + Send + use<> {
        let (lane, settings, readers) = (Arc::clone(&self.lane), Arc::clone(&self.settings), Arc::clone(&self.readers));
        let key = key.clone();
        async move { readers.find(&lane, &settings, (generation, &key), sought).await }
    }

    fn find(&self, moment: Moment, key: &RawKey, sought: Sought) -> Result<Option<Stored>, StoreError> {
        if let Some(found) = self.pinned(moment, key, sought) {
            return Ok(found);
        }
        self.trusted()?;
        let asked_at = self.moment();
        let found = self.lane.wait(self.asked(moment.generation, key, sought));
        let found = found.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| self.told(trouble))?;
        if found.owner != self.writer.owner() && !self.stands_by() {
            return Err(self.told(Trouble::Taken));
        }
        self.is_ours(asked_at);
        self.then(moment, key, found.version, found.stored)
    }
}

impl Known {
    fn take(&mut self, change: &Change, old: crate::history::Old) {
        match change {
            Change::Batch(batch) => self.history.advance(batch.version, old),
            Change::Switch(after, _) => self.history.switch(*after),
        }
    }
}

/// The store as it was at a moment.
struct At {
    store: Arc<Inner>,
    moment: Moment,
}

impl Snapshot for At {
    fn version(&self) -> Version {
        self.moment.version
    }

    fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        self.store.find(self.moment, key, Sought::Value)
    }

    fn written(&self, key: &RawKey) -> Result<Option<Version>, StoreError> {
        Ok(self.store.find(self.moment, key, Sought::Version)?.map(|stored| stored.version))
    }
}

impl Drop for At {
    fn drop(&mut self) {
        self.store.known().history.end(self.moment);
    }
}

impl Store for PostgresStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        if self.0.stands_by() && !self.0.watchers.is_anybody_there() {
            // Nothing in memory follows from what is shown.
            self.0.refresh()?;
        }
        self.0.trusted()?;
        Ok(self.0.now())
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        if self.0.is_taken() {
            return Err(self.0.told(Trouble::Taken));
        }
        if !self.0.writes() && !self.0.founds(&batch)? {
            return Err(StoreError::Elsewhere { name: self.0.name.clone() });
        }
        let take = |batch: Arc<Batch>| self.0.make(Change::Batch(batch));
        self.0.watchers.around(Arc::new(batch), || self.0.now(), take)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.0.watchers.add(watcher);
    }

    fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::Relaxed)
    }

    fn condition(&self) -> Condition {
        if self.0.lock.as_ref().is_some_and(|lock| lock.is_fenced()) {
            return Condition::Fenced;
        }
        match self.0.trusted() {
            Ok(()) => Condition::Writable,
            Err(StoreError::Taken { .. }) => Condition::Taken,
            Err(_) => Condition::Unreachable,
        }
    }

    fn vouched(&self) -> Option<Word> {
        let is_known = self.0.lock.is_some() || self.0.is_taken() || self.0.silent_for() <= VOUCHED_FOR;
        let store = (!is_known).then(|| Arc::clone(&self.0))?;
        Some(Box::pin(async move { store.vouch().await }))
    }

    fn trusted(&self) -> Result<(), StoreError> {
        self.0.trusted()
    }

    fn hurry(&self) {
        self.0.lane.hurry();
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        Exporting::begin(&self.0)
    }

    fn restore(&self) -> Result<Box<dyn Install>, StoreError> {
        Ok(Box::new(Restoring::begin(&self.0)?))
    }
}
