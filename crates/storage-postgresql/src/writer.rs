//! The one connection that is written over: it holds the lock, and its statements are fenced.
//!
//! Each batch is one statement that does nothing unless the store is ours, this connection is the last that claimed it, and
//! the batch is the next. When the connection breaks while a batch is under way, the next one claims the store anew: from then
//! on the statement of before does nothing any more, so what the claim reads is what became of the batch. Deliberately
//! absent: the readers, and memory of what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::{Row, Statement};
use tresor_storage::{Batch, RawKey, Stored, Version};

use crate::aftermath;
use crate::history::{Moment, Old};
use crate::lane::Lane;
use crate::link::Link;
use crate::readers::read_version;
use crate::settings::{LOCK_MAX, LOOK_MAX, RETRY, SETTLE_MAX, Settings, WRITE_MAX};
use crate::table::FORMAT;
use crate::trouble::Trouble;

/// What became of a batch, or of another change.
pub(crate) enum Done {
    /// It is there, and this is what it overwrote.
    There(Old),
    /// It is not there, and will not be.
    Not(Trouble),
    /// Nobody knows before the server is reached again.
    Unknown(String),
}

/// A change of what is stored.
#[derive(Clone)]
pub(crate) enum Change {
    /// A batch.
    Batch(Arc<Batch>),
    /// Another generation, at a version, after that one.
    Switch(Moment, Version),
}

impl Change {
    /// What the store is once it is made.
    pub(crate) fn after(&self, before: Moment) -> Moment {
        match self {
            Self::Batch(batch) => Moment { version: batch.version, ..before },
            Self::Switch(after, _) => *after,
        }
    }

    /// The version that it follows.
    pub(crate) fn follows(&self) -> Version {
        match self {
            Self::Batch(batch) => Version(batch.version.0.wrapping_sub(1)),
            Self::Switch(_, before) => *before,
        }
    }

    /// Whether it changes what a key of the generation before holds.
    pub(crate) fn touches(&self, key: &RawKey) -> bool {
        matches!(self, Self::Batch(batch) if batch.writes.contains_key(key))
    }

    /// What it overwrites, when the answer was lost.
    pub(crate) fn lost(&self) -> Old {
        match self {
            Self::Batch(batch) => Old::Lost(batch.writes.keys().cloned().collect()),
            Self::Switch(..) => Old::Lost(std::collections::BTreeSet::new()),
        }
    }
}

/// What the one row says.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    epoch: i64,
    pub(crate) now: Moment,
}

impl Claim {
    pub(crate) fn read(row: &Row) -> Result<Self, Trouble> {
        let damaged = |error: tokio_postgres::Error| Trouble::Damaged(error.to_string());
        let format: i32 = row.try_get(0).map_err(damaged)?;
        if format != FORMAT {
            return Err(Trouble::Damaged(format!("it has format {format}, and this release knows {FORMAT}")));
        }
        let version = read_version(row.try_get(3).map_err(damaged)?)?;
        let now = Moment { generation: row.try_get(2).map_err(damaged)?, version };
        Ok(Self { epoch: row.try_get(1).map_err(damaged)?, now })
    }
}

/// The writer.
pub(crate) struct Writer {
    owner: i64,
    session: Mutex<Option<Session>>,
}

/// A connection that has claimed the store.
struct Session {
    link: Link,
    epoch: i64,
    writing: Statement,
    switching: Statement,
    looking: Statement,
    clearing: Statement,
    /// Whether it has the lock that keeps a second server from starting.
    is_locked: bool,
}

impl Session {
    async fn prepared(link: Link, settings: &Settings, claim: Claim, is_locked: bool) -> Result<Self, Trouble> {
        let table = &settings.table;
        Ok(Self {
            epoch: claim.epoch,
            writing: link.prepare(&table.writing()).await?,
            switching: link.prepare(&table.switching()).await?,
            looking: link.prepare(&table.looking()).await?,
            clearing: link.prepare(&table.clearing()).await?,
            link,
            is_locked,
        })
    }

    /// Makes a change; what it overwrote, or nothing where the fence did not let it.
    async fn make(&self, owner: i64, change: &Change) -> Result<Option<Old>, Trouble> {
        match change {
            Change::Batch(batch) => self.write(owner, batch).await,
            Change::Switch(after, before) => {
                let (before, version) = (number(*before)?, number(after.version)?);
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                    [&owner, &self.epoch, &before, &version, &after.generation];
                let changed = self.link.change(&self.switching, &values).await?;
                Ok((changed == 1).then(|| change.lost()))
            }
        }
    }

    async fn write(&self, owner: i64, batch: &Batch) -> Result<Option<Old>, Trouble> {
        let version = number(batch.version)?;
        let (mut keys, mut values, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in &batch.writes {
            match value {
                Some(value) => {
                    keys.push(key.as_bytes());
                    values.push(value.as_slice());
                }
                None => gone.push(key.as_bytes()),
            }
        }
        let rows = self.link.rows(&self.writing, &[&owner, &self.epoch, &version, &keys, &values, &gone]).await?;
        let damaged = |error: tokio_postgres::Error| Trouble::Damaged(error.to_string());
        let passed: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(damaged)?;
        if passed == 0 {
            return Ok(None);
        }
        let mut there = BTreeMap::new();
        for row in &rows {
            let Some(key) = row.try_get::<_, Option<&[u8]>>(1).map_err(damaged)? else { continue };
            let key = RawKey::new(key).ok_or_else(|| Trouble::Damaged("a key is too long or empty".to_owned()))?;
            let version = read_version(row.try_get(2).map_err(damaged)?)?;
            there.insert(key, Stored { version, bytes: row.try_get(3).map_err(damaged)? });
        }
        Ok(Some(Old::of(batch.writes.keys(), there)))
    }
}

pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Makes tables that are missing, where they are not made by hand.
pub(crate) async fn make_tables(link: &Link, settings: &Settings) -> Result<(), Trouble> {
    // Whoever made them may have given us no right to make any.
    let are_there = link.text(&settings.table.are_there()).await? == "t";
    let shared = match settings.lock_table() {
        Some(shared) if link.text(&shared.is_there()).await? != "t" => Some(shared),
        _ => None,
    };
    if are_there && shared.is_none() {
        return Ok(());
    }
    if !settings.makes_tables {
        let missing = "its tables are missing, and `skip_create_table` says that they are made by hand";
        return Err(Trouble::Refused(missing.to_owned()));
    }
    if !are_there {
        link.run(&settings.table.making()).await?;
    }
    match shared {
        Some(shared) => link.run(&shared.making()).await,
        None => Ok(()),
    }
}

fn number(version: Version) -> Result<i64, Trouble> {
    i64::try_from(version.0).map_err(|_| Trouble::Refused("there are no more versions".to_owned()))
}

impl Writer {
    /// Takes the store, which nobody else may have open. In the lane.
    pub(crate) async fn open(lane: &Lane, settings: &Settings, owner: i64) -> Result<Option<(Self, Moment)>, Trouble> {
        let (mut tries, mut pause) = (0, Duration::from_millis(15));
        let link = loop {
            match Link::open(lane, settings).await {
                Ok(link) => break link,
                Err(Trouble::Unreachable(why)) if settings.connect_retries.is_none_or(|most| tries < most) => {
                    tries += 1;
                    tracing::warn!(%why, "the server of the store is not reached; tried again");
                    lane.doors.clock.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(trouble) => return Err(trouble),
            }
        };
        let Some(opened) = lane.within(WRITE_MAX, Self::take(lane, settings, owner, link)).await else {
            return Err(Trouble::late());
        };
        opened
    }

    /// Makes tables that are missing, and the first state; and takes the store, unless several processes share it.
    async fn take(lane: &Lane, settings: &Settings, owner: i64, link: Link) -> Result<Option<(Self, Moment)>, Trouble> {
        let table = &settings.table;
        check_durability(&link).await?;
        make_tables(&link, settings).await?;
        let is_ours = match settings.lock_table() {
            None => lock(lane, &link, settings).await?,
            // Just to say at the start that somebody has the store alone; who looks after the lock keeps it.
            Some(shared) => link.text(&shared.sharing()).await? == "t",
        };
        if !is_ours {
            return Ok(None);
        }
        link.run(&table.beginning()).await?;
        let claim = if let Some(shared) = settings.lock_table() {
            link.run(&shared.beginning()).await?;
            if link.text(&shared.others()).await? != "false" {
                return Err(Trouble::Fenced);
            }
            link.rows(&link.prepare(&table.looking()).await?, &[]).await?
        } else {
            link.rows(&link.prepare(&table.taking()).await?, &[&owner]).await?
        };
        let gone =
            || Trouble::Damaged("there are values, and the row that says how far the store is is gone".to_owned());
        let claim = Claim::read(claim.first().ok_or_else(gone)?)?;
        if claim.now.version > Version(1) && link.text(&table.has_values()).await? != "t" {
            // Of a store that was ever initialised, something is there. The first batch may have been an empty one, before
            // what is elsewhere was to be taken over.
            return Err(Trouble::Damaged(format!(
                "it was written to {} times, and all values are gone",
                claim.now.version.0
            )));
        }
        let session = match settings.lock {
            Some(_) => None,
            None => Some(Session::prepared(link, settings, claim, true).await?),
        };
        Ok(Some((Self { owner, session: Mutex::new(session) }, claim.now)))
    }

    /// Takes the lock of a store that several processes share, if nobody has it, and the store with it: its term, and how far
    /// the store is. Nothing that another process sent before changes it any more. Whoever is taken for gone does not have it, if
    /// it is not there. In the lane.
    pub(crate) async fn take_over(
        &self,
        lane: &Lane,
        settings: &Settings,
        life: Duration,
        gone: Option<i64>,
    ) -> Result<Option<(i64, Moment)>, Trouble> {
        let Some(shared) = settings.lock_table() else { return Ok(None) };
        let mut held = self.session.lock().await;
        *held = None;
        let taken = lane.within(WRITE_MAX, async {
            let link = Link::open(lane, settings).await?;
            let taking = link.prepare(&shared.taking()).await?;
            let rows = link.rows(&taking, &[&self.owner, &milliseconds(life), &gone]).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let claim = Claim::read(row)?;
            let term: i64 = row.try_get(4).map_err(|error| Trouble::Damaged(error.to_string()))?;
            Ok(Some((Session::prepared(link, settings, claim, true).await?, term, claim.now)))
        });
        let taken = taken.await.unwrap_or_else(|| Err(Trouble::late()))?;
        Ok(taken.map(|(session, term, now)| {
            *held = Some(session);
            (term, now)
        }))
    }

    /// Makes a change that follows `before`. In the lane.
    pub(crate) async fn make(&self, lane: &Lane, settings: &Settings, before: Moment, change: &Change) -> Done {
        let mut held = self.session.lock().await;
        let clock = &lane.doors.clock;
        let mut until = clock.monotonic() + SETTLE_MAX;
        // It was sent, and nobody has said yet what became of it.
        let mut in_doubt: Option<String> = None;
        loop {
            let why = match self.session(lane, settings, &mut held).await {
                Ok((session, claimed)) => {
                    if in_doubt.is_some() && claimed == Some(change.after(before)) {
                        return Done::There(change.lost());
                    }
                    let made = lane.within(WRITE_MAX, session.make(self.owner, change)).await;
                    match made.unwrap_or_else(|| Err(Trouble::late())) {
                        Ok(Some(old)) => return Done::There(old),
                        Ok(None) => return Done::Not(self.fenced(lane, settings, &mut held).await),
                        Err(Trouble::Broken(why)) => {
                            *held = None;
                            until = until.max(clock.monotonic() + SETTLE_MAX / 2);
                            in_doubt = Some(why.clone());
                            why
                        }
                        Err(other) => return Done::Not(other),
                    }
                }
                Err(Trouble::Broken(why) | Trouble::Unreachable(why)) => why,
                Err(trouble) => {
                    let Some(why) = in_doubt else { return Done::Not(trouble) };
                    return match change {
                        Change::Batch(batch) if trouble == Trouble::Taken => {
                            match aftermath::is_there(lane, settings, before.generation, batch).await {
                                Some(true) => Done::There(change.lost()),
                                Some(false) => Done::Not(trouble),
                                None => Done::Unknown(why),
                            }
                        }
                        _ => Done::Unknown(why),
                    };
                }
            };
            if clock.monotonic() >= until || lane.is_hurried() {
                return in_doubt.map_or_else(|| Done::Not(Trouble::Unreachable(why)), Done::Unknown);
            }
            clock.sleep(RETRY).await;
        }
    }

    /// Why the fence did not let a change of ours.
    async fn fenced(&self, lane: &Lane, settings: &Settings, held: &mut Option<Session>) -> Trouble {
        *held = None;
        match self.session(lane, settings, held).await {
            // It was another's meanwhile, and is ours again.
            Ok(_) if settings.lock.is_some() => Trouble::Taken,
            // It is ours, and somewhere else than we know.
            Ok(_) => Trouble::Damaged("its version is not the one that was written last".to_owned()),
            Err(trouble) => trouble,
        }
    }

    /// The connection, and, if it was made anew, what the store is now: nothing that was sent before changes it any more.
    async fn session<'h>(
        &self,
        lane: &Lane,
        settings: &Settings,
        held: &'h mut Option<Session>,
    ) -> Result<(&'h Session, Option<Moment>), Trouble> {
        let mut claimed = None;
        if held.as_ref().is_none_or(|session| session.link.is_closed()) {
            *held = None;
            let claim =
                lane.within(WRITE_MAX, self.claim(lane, settings)).await.unwrap_or_else(|| Err(Trouble::late()));
            let (session, now) = claim?;
            *held = Some(session);
            claimed = Some(now);
        }
        // There is one by now.
        held.as_ref().map(|session| (session, claimed)).ok_or_else(Trouble::late)
    }

    async fn claim(&self, lane: &Lane, settings: &Settings) -> Result<(Session, Moment), Trouble> {
        let link = Link::open(lane, settings).await?;
        // The session of before may not be gone yet, and has the lock then; the fence is what counts.
        let is_locked = settings.lock.is_some() || link.text(&settings.table.locking()).await? == "t";
        let going_on = link.prepare(&settings.table.going_on()).await?;
        let rows = link.rows(&going_on, &[&self.owner]).await?;
        let claim = Claim::read(rows.first().ok_or(Trouble::Taken)?)?;
        tracing::info!("connected to the store's server again");
        Ok((Session::prepared(link, settings, claim, is_locked).await?, claim.now))
    }

    /// Looks whether the store is still ours; how far it is. In the lane.
    pub(crate) async fn look(&self, lane: &Lane, settings: &Settings) -> Result<Moment, Trouble> {
        // Whoever writes will find out.
        let mut held = self.session.lock().await;
        let looked = lane.within(LOOK_MAX, async {
            let (session, _) = self.session(lane, settings, &mut held).await?;
            let rows = session.link.rows(&session.looking, &[]).await?;
            let row = rows.first().ok_or_else(|| Trouble::Damaged("its state is gone".to_owned()))?;
            let owner: i64 = row.try_get(4).map_err(|error| Trouble::Damaged(error.to_string()))?;
            if owner != self.owner {
                return Err(Trouble::Taken);
            }
            let now = Claim::read(row)?.now;
            let has_lock = session.is_locked || session.link.text(&settings.table.locking()).await? == "t";
            Ok((now, has_lock))
        });
        match looked.await {
            Some(Ok((now, has_lock))) => {
                if let Some(session) = held.as_mut() {
                    session.is_locked = has_lock;
                }
                Ok(now)
            }
            Some(Err(trouble)) => {
                *held = None;
                Err(trouble)
            }
            None => {
                *held = None;
                Err(Trouble::late())
            }
        }
    }

    /// Deletes some of what no generation in use has; whether there may be more. In the lane.
    ///
    /// Generations are drawn, so one that was found, and is in use by nobody after that, is never used again.
    pub(crate) async fn clear(
        &self,
        lane: &Lane,
        settings: &Settings,
        used: impl Fn() -> Vec<i64>,
    ) -> Result<bool, Trouble> {
        let held = self.session.lock().await;
        let Some(session) = held.as_ref() else { return Ok(true) };
        let cleared = async {
            let straying = session.link.prepare(&settings.table.straying()).await?;
            let rows = session.link.rows(&straying, &[&used()]).await?;
            let Some(row) = rows.first() else { return Ok(used().len() > 1) };
            let stray: i64 = row.try_get(0).map_err(|error| Trouble::Damaged(error.to_string()))?;
            if !used().contains(&stray) {
                session.link.change(&session.clearing, &[&self.owner, &stray]).await?;
            }
            Ok(true)
        };
        lane.within(WRITE_MAX, cleared).await.unwrap_or_else(|| Err(Trouble::late()))
    }

    /// Whose the store is while it is ours.
    pub(crate) const fn owner(&self) -> i64 {
        self.owner
    }
}

/// Takes the lock, from a process that is gone perhaps, which the server may not know yet; whether it was free.
async fn lock(lane: &Lane, link: &Link, settings: &Settings) -> Result<bool, Trouble> {
    let begun = lane.doors.clock.monotonic();
    loop {
        if link.text(&settings.table.locking()).await? == "t" {
            return Ok(true);
        }
        if lane.doors.clock.monotonic().saturating_sub(begun) >= LOCK_MAX {
            return Ok(false);
        }
        lane.doors.clock.sleep(RETRY).await;
    }
}

/// Sees to it that a batch that is confirmed is on the server's disk, as far as this side can.
async fn check_durability(link: &Link) -> Result<(), Trouble> {
    if link.text("SHOW synchronous_commit").await? == "off" {
        return Err(Trouble::Refused(
            "synchronous_commit is off for this user: what was confirmed could be lost; set it to `on`".to_owned(),
        ));
    }
    for setting in ["fsync", "full_page_writes"] {
        if link.text(&format!("SHOW {setting}")).await? == "off" {
            tracing::warn!("the store's server has {setting}=off: what was confirmed may be lost with the power");
        }
    }
    Ok(())
}
