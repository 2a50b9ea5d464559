//! The connections that are read over: a few, opened when they are needed, which many ask over at once.
//!
//! A connection that broke is made anew by who comes next, and a read that it broke under is asked again for a while. Deliberately
//! absent: what a snapshot makes of an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio_postgres::Statement;
use tresor_storage::{RawKey, Stored, Version};

use crate::lane::Lane;
use crate::link::Link;
use crate::settings::{READ_MAX, RETRY, Settings};
use crate::trouble::Trouble;

/// How long a read waits for a server that went away, such as one that is started again.
const PATIENCE: Duration = Duration::from_secs(3);
/// After how long another connection is tried for where there was none to be had, while there are others.
const AGAIN: Duration = Duration::from_secs(10);

/// What is to be found of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// Its value.
    Value,
    /// Only which batch wrote it; the bytes are empty then.
    Version,
}

/// What was found, and of which store.
pub(crate) struct Found {
    pub(crate) owner: i64,
    pub(crate) version: Version,
    pub(crate) stored: Option<Stored>,
}

/// The connections.
pub(crate) struct Readers {
    slots: Vec<Mutex<Slot>>,
    next: AtomicUsize,
    /// Bounds what the server is asked at once.
    asking: Semaphore,
}

/// A place for a connection.
#[derive(Default)]
struct Slot {
    reader: Option<Arc<Reader>>,
    /// Since when there was none to be had, on the monotonic clock: the server may take no more.
    in_vain: Option<Duration>,
}

pub(crate) struct Reader {
    link: Link,
    finding: Statement,
    dating: Statement,
}

impl Reader {
    async fn open(lane: &Lane, settings: &Settings) -> Result<Self, Trouble> {
        Self::over(Link::open(lane, settings).await?, settings).await
    }

    /// Over a connection that there is.
    pub(crate) async fn over(link: Link, settings: &Settings) -> Result<Self, Trouble> {
        let finding = link.prepare(&settings.table.finding()).await?;
        let dating = link.prepare(&settings.table.dating()).await?;
        Ok(Self { link, finding, dating })
    }

    pub(crate) async fn find(&self, generation: i64, key: &RawKey, sought: Sought) -> Result<Found, Trouble> {
        let statement = match sought {
            Sought::Value => &self.finding,
            Sought::Version => &self.dating,
        };
        let rows = self.link.rows(statement, &[&key.as_bytes(), &generation]).await?;
        let row = rows.first().ok_or_else(|| Trouble::Damaged("its state is gone".to_owned()))?;
        let damaged = |error: tokio_postgres::Error| Trouble::Damaged(error.to_string());
        let written: Option<i64> = row.try_get(2).map_err(damaged)?;
        let stored = match written {
            Some(version) => {
                let bytes: Option<Vec<u8>> = row.try_get(3).map_err(damaged)?;
                Some(Stored { version: read_version(version)?, bytes: bytes.unwrap_or_default() })
            }
            None => None,
        };
        let version = read_version(row.try_get(1).map_err(damaged)?)?;
        Ok(Found { owner: row.try_get(0).map_err(damaged)?, version, stored })
    }
}

/// A version as the server has it.
pub(crate) fn read_version(number: i64) -> Result<Version, Trouble> {
    u64::try_from(number).map(Version).map_err(|_| Trouble::Damaged("a version is negative".to_owned()))
}

impl Readers {
    pub(crate) fn new(settings: &Settings) -> Self {
        let count = settings.connections.clamp(1, settings.parallel_max.max(1));
        Self {
            slots: (0..count).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            asking: Semaphore::new(settings.parallel_max.clamp(1, Semaphore::MAX_PERMITS)),
        }
    }

    /// Opens a first connection. In the lane.
    pub(crate) async fn open(&self, lane: &Lane, settings: &Settings) -> Result<(), Trouble> {
        let opened = lane.within(READ_MAX, self.reader(lane, settings)).await;
        opened.unwrap_or_else(|| Err(Trouble::late())).map(drop)
    }

    /// Looks for a key in a generation. In the lane.
    pub(crate) async fn find(
        &self,
        lane: &Lane,
        settings: &Settings,
        (generation, key): (i64, &RawKey),
        sought: Sought,
    ) -> Result<Found, Trouble> {
        let found = lane.within(READ_MAX, async {
            let _asking = self.asking.acquire().await.map_err(|_| Trouble::late())?;
            let until = lane.doors.clock.monotonic() + PATIENCE;
            loop {
                let found = match self.reader(lane, settings).await {
                    Ok(reader) => reader.find(generation, key, sought).await,
                    Err(trouble) => Err(trouble),
                };
                let is_passing = matches!(found, Err(Trouble::Broken(_) | Trouble::Unreachable(_)));
                if !is_passing || lane.doors.clock.monotonic() >= until || lane.is_hurried() {
                    return found;
                }
                lane.doors.clock.sleep(RETRY).await;
            }
        });
        match found.await {
            Some(found) => found,
            None => {
                // Whichever it was does not answer: the next ones are not to wait for it.
                self.drop_idle();
                Err(Trouble::late())
            }
        }
    }

    /// A connection that works as far as is known.
    async fn reader(&self, lane: &Lane, settings: &Settings) -> Result<Arc<Reader>, Trouble> {
        let mine = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let Some(slot) = self.slots.get(mine) else { return Err(Trouble::late()) };
        let mut held = slot.lock().await;
        if let Some(reader) = held.reader.as_ref().filter(|reader| !reader.link.is_closed()) {
            return Ok(Arc::clone(reader));
        }
        held.reader = None;
        let now = lane.doors.clock.monotonic();
        if held.in_vain.is_some_and(|since| now < since + AGAIN)
            && let Some(other) = self.another()
        {
            return Ok(other);
        }
        match Reader::open(lane, settings).await {
            Ok(reader) => {
                let reader = Arc::new(reader);
                *held = Slot { reader: Some(Arc::clone(&reader)), in_vain: None };
                Ok(reader)
            }
            // The server may take no more connections: those that there are will do.
            Err(trouble) => {
                held.in_vain = Some(now);
                self.another().ok_or(trouble)
            }
        }
    }

    /// One that works, of any slot.
    fn another(&self) -> Option<Arc<Reader>> {
        let open = self.slots.iter().filter_map(|slot| slot.try_lock().ok()?.reader.as_ref().map(Arc::clone));
        open.into_iter().find(|reader| !reader.link.is_closed())
    }

    fn drop_idle(&self) {
        for slot in &self.slots {
            if let Ok(mut held) = slot.try_lock() {
                *held = Slot::default();
            }
        }
    }
}
