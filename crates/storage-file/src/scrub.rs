//! The scrub: every page of the index, and every value beside it, is compared with its checksum now and then, before
//! somebody needs it.
//!
//! A step looks at one group of pages, or as much of the values, about two a second at most and only when there is nothing
//! else to do; a pass over everything begins when the store was opened and each day after that. A page that is wrong and was
//! right before in this process is damage. One that nobody has met yet may be what a crash left where nothing refers to it;
//! reading every value in the order of keys comes across it if something does. Deliberately absent: mending, and what only
//! the engine knows of (its free pages), which it meets when it is opened or writes.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tresor_storage::{Damage, RawKey, Scrubbed, Snapshot, StoreError, Version};

use crate::index::{Index, WRONG_PAGE};
use crate::machine::Inner;
use crate::view::{IndexView, Reached};

/// How long after a step the next may be.
const STEP_EVERY: Duration = Duration::from_millis(500);
/// How long after a pass the next begins.
const PASS_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How much is read in a step.
const READ_BYTES: usize = 2 << 20;

/// How far the scrub has come.
#[derive(Default)]
pub(crate) struct Scrub {
    /// When the next step may be, in nanoseconds of the clock that never goes back.
    due: AtomicU64,
    pass: Mutex<Pass>,
}

#[derive(Default)]
struct Pass {
    /// The index that is looked through; another one begins from the start.
    index: Weak<Index>,
    next: Next,
    pages: u64,
    /// Pages that are wrong and perhaps not in use.
    suspects: BTreeSet<u64>,
    /// Those of them that nothing led to.
    unused: BTreeSet<u64>,
    told: Told,
}

/// What is told of the passes that ended.
#[derive(Default)]
struct Told {
    passes: u64,
    pages: u64,
    ended_at: Option<Duration>,
}

/// What the next step looks at.
enum Next {
    /// A group of pages.
    Group(u64),
    /// What comes after a key: everything is read.
    After(Option<Vec<u8>>),
}

impl Default for Next {
    fn default() -> Self {
        Self::Group(0)
    }
}

impl Pass {
    /// Takes the next step; tells whether the pass has ended.
    fn step(&mut self, view: &IndexView) -> Result<bool, StoreError> {
        if !std::ptr::eq(self.index.as_ptr(), Arc::as_ptr(&view.index)) {
            let told = std::mem::take(&mut self.told);
            *self = Self { index: Arc::downgrade(&view.index), told, ..Self::default() };
        }
        match &self.next {
            Next::Group(group) => {
                let group = *group;
                if let Some(compared) = view.index.compare(group)? {
                    self.pages += compared.pages;
                    let known = &self.unused;
                    self.suspects.extend(compared.suspects.into_iter().filter(|page| !known.contains(page)));
                    self.next = Next::Group(group + 1);
                    return Ok(false);
                }
                self.next = Next::After(None);
                Ok(self.suspects.is_empty() && view.files.is_empty())
            }
            Next::After(key) => match view.pass_over(key.as_deref(), READ_BYTES)? {
                Reached::Key(key) => {
                    self.next = Next::After(Some(key));
                    Ok(false)
                }
                Reached::End => {
                    self.unused.append(&mut self.suspects);
                    Ok(true)
                }
            },
        }
    }

    fn end(&mut self, now: Duration) {
        self.told = Told { passes: self.told.passes + 1, pages: std::mem::take(&mut self.pages), ended_at: Some(now) };
        self.suspects.clear();
        self.next = Next::default();
    }
}

impl Scrub {
    fn pass(&self) -> MutexGuard<'_, Pass> {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether the scrub would take a step now.
    pub(crate) fn is_scrub_due(&self) -> bool {
        self.doors.clock.monotonic().as_nanos() >= u128::from(self.tending.scrub.due.load(Ordering::Relaxed))
    }

    /// Takes a step of the scrub when it is time for one. For the upkeep, when nobody writes to the index.
    pub(crate) fn scrub(&self) {
        if !self.is_scrub_due() {
            return;
        }
        let now = self.doors.clock.monotonic();
        let view = self.view();
        let mut pass = self.tending.scrub.pass();
        let has_ended = match pass.step(&view.index) {
            Ok(has_ended) => has_ended || view.index.index.damaged_at().is_some(),
            Err(error) => {
                tracing::error!(%error, "the scrub of the index ended before its time");
                true
            }
        };
        if has_ended {
            pass.end(now);
        }
        let due = now + if has_ended { PASS_EVERY } else { STEP_EVERY };
        self.tending.scrub.due.store(u64::try_from(due.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Which values cannot be read that are stored still.
    pub(crate) fn unreadable(&self) -> Option<Damage> {
        self.shelf.damage(self.is_stored())
    }

    /// Whether there are any.
    pub(crate) fn is_impaired(&self) -> bool {
        self.shelf.is_damaged(self.is_stored())
    }

    /// Whether a batch's value of a key is stored still: whoever writes or deletes it mends that.
    fn is_stored(&self) -> impl Fn(&[u8], Version) -> bool {
        let seen = OnceCell::new();
        move |key, version| {
            let Some(key) = RawKey::new(key) else { return true };
            // Looked at only if there is one.
            let written = seen.get_or_init(|| self.seen()).written(&key);
            // What cannot be told is there still.
            written.map_or(true, |written| written == Some(version))
        }
    }

    /// What somebody came across that is not what was written, and how far the scrub is.
    pub(crate) fn scrubbed(&self) -> Scrubbed {
        let view = self.view();
        let (index, others) = (&view.index.index, 0);
        let page = index.damaged_at().map(|offset| {
            let (file, what) = (PathBuf::from(&index.name), WRONG_PAGE.to_owned());
            Damage { file, offset, what, others }
        });
        let damage = page.or_else(|| self.unreadable());
        let pass = self.tending.scrub.pass();
        let now = self.doors.clock.monotonic();
        Scrubbed {
            passes: pass.told.passes,
            pages: pass.told.pages,
            ended_ago: pass.told.ended_at.map(|ended_at| now.saturating_sub(ended_at)),
            damage,
        }
    }
}
